//! `oneOf` → `anyOf`, where no value can match two of its schemas. llguidance sees that itself in few cases only.
//!
//! What is known of the values of two schemas must contradict itself: their types, their constants, their ranges,
//! or a property that one of them requires. Unclear cases count as overlapping and stay `oneOf`, which llguidance
//! refuses.

use std::cell::Cell;

use serde_json::{Map, Value, json};

/// Most references and properties that are followed inside each other.
const DEEPEST: usize = 8;
/// Most schemas that are looked at, each as often as it is.
const MOST: usize = 100_000;

/// Replaces `oneOf` in a schema (in the form of schema.rs) with `$defs`, wherever it says the same as `anyOf`.
pub(super) fn replace(schema: &mut Value) {
    let definitions = schema.get("$defs").cloned().unwrap_or_default();
    inside(schema, &Judge { definitions: &definitions, left: Cell::new(MOST) });
}

fn inside(schema: &mut Value, judge: &Judge) {
    let Value::Object(map) = schema else { return };
    if let Some(Value::Array(mut options)) = map.shift_remove("oneOf") {
        let exclusive = judge.excludes_all(map, &options) || exactly_one_property(&mut options);
        match map.get_mut("allOf") {
            _ if !exclusive => _ = map.insert("oneOf".into(), options.into()),
            Some(Value::Array(all)) => all.push(json!({ "anyOf": options })),
            _ => _ = map.insert("allOf".into(), json!([{ "anyOf": options }])),
        }
    }
    for (key, value) in map {
        match (key.as_str(), value) {
            ("properties" | "patternProperties" | "$defs", Value::Object(all)) => {
                all.values_mut().for_each(|one| inside(one, judge));
            }
            ("prefixItems" | "allOf" | "anyOf" | "oneOf", Value::Array(all)) => {
                all.iter_mut().for_each(|one| inside(one, judge));
            }
            ("items" | "additionalProperties", one) => inside(one, judge),
            _ => {}
        }
    }
}

/// Schemas that demand one property each, and nothing else: exactly one of these properties may be there.
fn exactly_one_property(options: &mut [Value]) -> bool {
    let name = |option: &Value| {
        let map = option.as_object()?;
        let is_plain =
            map.iter().all(|(key, value)| key == "required" || (key == "type" && value == "object"));
        match map.get("required")?.as_array()?.as_slice() {
            [Value::String(name)] if is_plain => Some(name.clone()),
            _ => None,
        }
    };
    let Some(names) = options.iter().map(name).collect::<Option<Vec<String>>>() else { return false };
    for (option, name) in options.iter_mut().zip(&names) {
        let others = names.iter().filter(|other| *other != name).map(|other| (other.clone(), json!(false)));
        let others: Map<String, Value> = others.collect();
        if others.len() + 1 < names.len() {
            return false; // a name comes twice
        }
        *option = json!({ "type": "object", "required": [name], "properties": others });
    }
    true
}

/// Types as bits. A number is whole or not.
const NULL: u8 = 1;
const BOOLEAN: u8 = 2;
const WHOLE: u8 = 4;
const FRACTION: u8 = 8;
const STRING: u8 = 16;
const ARRAY: u8 = 32;
const OBJECT: u8 = 64;

fn type_bits(name: &str) -> u8 {
    match name {
        "null" => NULL,
        "boolean" => BOOLEAN,
        "integer" => WHOLE,
        "number" => WHOLE | FRACTION,
        "string" => STRING,
        "array" => ARRAY,
        _ => OBJECT,
    }
}

fn type_of(value: &Value) -> u8 {
    match value {
        Value::Null => NULL,
        Value::Bool(_) => BOOLEAN,
        Value::Number(number) if number.as_f64().is_some_and(|number| number.fract() == 0.0) => WHOLE,
        Value::Number(_) => FRACTION,
        Value::String(_) => STRING,
        Value::Array(_) => ARRAY,
        Value::Object(_) => OBJECT,
    }
}

/// Whether two values are the same in JSON schema, where 1 is 1.0.
fn same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => one.as_f64() == other.as_f64(),
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| same(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            let is_there = |(name, value)| other.get(name).is_some_and(|other| same(value, other));
            one.len() == other.len() && one.iter().all(is_there)
        }
        _ => one == other,
    }
}

/// A range of numbers; each end, and whether it is outside.
#[derive(Debug, Clone, Copy)]
struct Range {
    least: (f64, bool),
    most: (f64, bool),
}

impl Range {
    const ALL: Range = Range { least: (f64::NEG_INFINITY, false), most: (f64::INFINITY, false) };

    /// Narrowed by two keywords of a schema.
    fn within(&mut self, map: &Map<String, Value>, least: &str, most: &str) {
        let number = |key: &str| map.get(key).and_then(Value::as_f64);
        self.at_least(number(least), false);
        self.at_most(number(most), false);
    }

    fn at_least(&mut self, least: Option<f64>, outside: bool) {
        if let Some(least) = least
            && (least > self.least.0 || (least == self.least.0 && outside))
        {
            self.least = (least, outside);
        }
    }

    fn at_most(&mut self, most: Option<f64>, outside: bool) {
        if let Some(most) = most
            && (most < self.most.0 || (most == self.most.0 && outside))
        {
            self.most = (most, outside);
        }
    }

    fn meets(&self, other: &Range) -> bool {
        let before = |most: (f64, bool), least: (f64, bool)| {
            most.0 < least.0 || (most.0 == least.0 && (most.1 || least.1))
        };
        !before(self.most, other.least) && !before(other.most, self.least)
    }

    fn has(&self, number: f64) -> bool {
        self.meets(&Range { least: (number, false), most: (number, false) })
    }
}

/// What is known of the values that match some schemas at once. There may be fewer, never more.
struct Known<'s> {
    types: u8,
    /// All there are, if they are listed.
    values: Option<Vec<&'s Value>>,
    numbers: Range,
    lengths: Range,
    items: Range,
    required: Vec<&'s str>,
    /// Schemas that say something about properties.
    objects: Vec<&'s Map<String, Value>>,
    /// Lists of schemas of which at least one matches.
    unions: Vec<&'s Vec<Value>>,
}

struct Judge<'s> {
    definitions: &'s Value,
    /// How many more schemas may be looked at.
    left: Cell<usize>,
}

impl<'s> Judge<'s> {
    /// Whether each two of the options exclude each other in a schema with these other keywords.
    fn excludes_all(&self, others: &Map<String, Value>, options: &[Value]) -> bool {
        let others = Value::Object(others.clone());
        let options: Vec<Known> = options.iter().map(|option| self.known(&[&others, option], 0)).collect();
        let excludes = |(at, one)| options[at + 1..].iter().all(|other| self.exclude(one, other, 0));
        options.iter().enumerate().all(excludes)
    }

    fn known<'v>(&self, schemas: &[&'v Value], depth: usize) -> Known<'v>
    where
        's: 'v,
    {
        let mut known = Known {
            types: u8::MAX,
            values: None,
            numbers: Range::ALL,
            lengths: Range::ALL,
            items: Range::ALL,
            required: Vec::new(),
            objects: Vec::new(),
            unions: Vec::new(),
        };
        schemas.iter().for_each(|schema| self.learn(&mut known, schema, depth));
        if let Some(values) = &known.values {
            known.types &= values.iter().map(|value| type_of(value)).fold(0, |all, one| all | one);
        }
        known
    }

    fn learn<'v>(&self, known: &mut Known<'v>, schema: &'v Value, depth: usize)
    where
        's: 'v,
    {
        if depth == DEEPEST || self.left.get() == 0 {
            return;
        }
        self.left.update(|left| left - 1);
        if *schema == Value::Bool(false) {
            known.types = 0;
        }
        let Value::Object(map) = schema else { return };
        match map.get("type") {
            Some(Value::String(name)) => known.types &= type_bits(name),
            Some(Value::Array(names)) => {
                let bits = names.iter().filter_map(Value::as_str).map(type_bits);
                known.types &= bits.fold(0, |all, one| all | one);
            }
            _ => {}
        }
        let listed = map.get("enum").and_then(Value::as_array).map(|values| values.iter().collect());
        for values in map.get("const").map(|value| vec![value]).into_iter().chain(listed) {
            match &mut known.values {
                Some(before) => before.retain(|one| values.iter().any(|other| same(one, other))),
                none => *none = Some(values),
            }
        }
        known.numbers.within(map, "minimum", "maximum");
        let outside = |key: &str, inside: &str| match map.get(key)? {
            Value::Bool(true) => map.get(inside)?.as_f64(), // draft 4
            value => value.as_f64(),
        };
        known.numbers.at_least(outside("exclusiveMinimum", "minimum"), true);
        known.numbers.at_most(outside("exclusiveMaximum", "maximum"), true);
        known.lengths.within(map, "minLength", "maxLength");
        known.items.within(map, "minItems", "maxItems");
        let required = map.get("required").and_then(Value::as_array);
        known.required.extend(required.into_iter().flatten().filter_map(Value::as_str));
        if map.contains_key("properties") || map.contains_key("additionalProperties") {
            known.objects.push(map);
        }
        let list = |key: &str| map.get(key).and_then(Value::as_array);
        known.unions.extend(list("anyOf").into_iter().chain(list("oneOf")));
        let referred = map.get("$ref").and_then(Value::as_str).and_then(|to| to.rsplit('/').next());
        let referred = referred.and_then(|number| self.definitions.get(number));
        referred.into_iter().chain(list("allOf").into_iter().flatten()).for_each(|one| {
            self.learn(known, one, depth + 1);
        });
    }

    /// Whether no value matches both.
    fn exclude(&self, one: &Known, other: &Known, depth: usize) -> bool {
        let both = one.types & other.types;
        if both == 0 || self.rejects_all(one, other, depth) || self.rejects_all(other, one, depth) {
            return true;
        }
        if self.splits(one, other, depth) || self.splits(other, one, depth) {
            return true;
        }
        let apart = |bits: u8, contradicts: &dyn Fn() -> bool| both & bits == 0 || contradicts();
        both & (NULL | BOOLEAN) == 0
            && apart(WHOLE | FRACTION, &|| !one.numbers.meets(&other.numbers))
            && apart(STRING, &|| !one.lengths.meets(&other.lengths))
            && apart(ARRAY, &|| !one.items.meets(&other.items))
            && apart(OBJECT, &|| self.property_excludes(one, other, depth))
    }

    /// Whether `one` lists its values, none of which matches `other`.
    fn rejects_all(&self, one: &Known, other: &Known, depth: usize) -> bool {
        let values = one.values.as_ref();
        values.is_some_and(|values| values.iter().all(|value| self.rejects(other, value, depth)))
    }

    /// Whether `one` is one of several schemas, each of which excludes `other`.
    fn splits(&self, one: &Known, other: &Known, depth: usize) -> bool {
        depth < DEEPEST
            && one.unions.iter().any(|options| {
                let excludes = |option| self.exclude(&self.known(&[option], depth + 1), other, depth + 1);
                options.iter().all(excludes)
            })
    }

    /// Whether there is a property that any common value must have, and that none can have.
    fn property_excludes(&self, one: &Known, other: &Known, depth: usize) -> bool {
        let others = other.required.iter().filter(|name| !one.required.contains(name));
        depth < DEEPEST
            && one.required.iter().chain(others).any(|name| {
                let [one, other] = [one, other].map(|known| self.known(&known.property(name), depth + 1));
                self.exclude(&one, &other, depth + 1)
            })
    }

    /// Whether a value certainly does not match.
    fn rejects(&self, known: &Known, value: &Value, depth: usize) -> bool {
        let number = |range: &Range, number: Option<f64>| number.is_some_and(|number| !range.has(number));
        let length = value.as_str().map(|text| text.chars().count() as f64);
        let items = value.as_array().map(|items| items.len() as f64);
        let lacks = |map: &Map<String, Value>| known.required.iter().any(|name| !map.contains_key(*name));
        let wrong = |(name, value): (&String, &Value)| {
            depth < DEEPEST && self.rejects(&self.known(&known.property(name), depth + 1), value, depth + 1)
        };
        known.types & type_of(value) == 0
            || known.values.as_ref().is_some_and(|values| !values.iter().any(|one| same(one, value)))
            || number(&known.numbers, value.as_f64())
            || number(&known.lengths, length)
            || number(&known.items, items)
            || value.as_object().is_some_and(|map| lacks(map) || map.iter().any(wrong))
    }
}

impl<'s> Known<'s> {
    /// Schemas that a property must match, if it is there.
    fn property(&self, name: &str) -> Vec<&'s Value> {
        let of = |map: &&'s Map<String, Value>| match map.get("properties").and_then(|all| all.get(name)) {
            Some(schema) => Some(schema),
            None if map.contains_key("patternProperties") => None, // it may be one of these
            None => map.get("additionalProperties"),
        };
        self.objects.iter().filter_map(of).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exclusive(schema: &Value) -> bool {
        let mut replaced = schema.clone();
        replace(&mut replaced);
        !replaced.to_string().contains("oneOf")
    }

    #[test]
    fn what_excludes_each_other_is_seen() {
        let kind = |kind: Value| json!({ "properties": { "kind": kind }, "required": ["kind"] });
        let closed = |name: &str| {
            let all = json!({ name: {} });
            json!({ "properties": all, "required": [name], "additionalProperties": false })
        };
        let refs = json!([{ "$ref": "#/$defs/0" }, { "$ref": "#/$defs/1" }]);
        let objects = |schema: Value| json!({ "type": "object", "allOf": [schema] });
        let defs = json!({ "0": objects(kind(json!({ "const": "a" }))), "1": objects(kind(json!({ "enum": ["b", "c"] }))) });
        let within = json!({ "type": "object", "properties": { "kind": { "enum": ["a", "b"] } }, "required": ["kind"] });
        for schema in [
            json!({ "oneOf": [{ "type": "string" }, { "type": ["number", "null"] }, { "const": true }] }),
            json!({ "oneOf": [{ "const": 1 }, { "const": 2.5 }, { "enum": ["a", [1]] }, { "const": [2] }] }),
            json!({ "type": "integer", "oneOf": [{ "maximum": 3 }, { "minimum": 4, "maximum": 9 }, { "exclusiveMinimum": 9 }] }),
            json!({ "type": "string", "oneOf": [{ "maxLength": 0 }, { "minLength": 1 }] }),
            json!({ "type": "array", "oneOf": [{ "maxItems": 2 }, { "minItems": 3 }] }),
            json!({ "type": "object", "oneOf": [kind(json!({ "const": "a" })), kind(json!({ "const": "b" }))] }),
            json!({ "type": "object", "oneOf": [closed("a"), closed("b")] }),
            json!({ "oneOf": refs, "$defs": defs }),
            json!({ "properties": { "const": { "items": { "oneOf": refs } } }, "$defs": defs }),
            json!({ "allOf": [within], "oneOf": [
                { "properties": { "kind": { "const": "a" } } }, { "properties": { "kind": { "const": "b" } } }
            ] }),
            json!({ "oneOf": [{ "anyOf": [{ "const": 1 }, { "type": "null" }] }, { "type": "string" }] }),
            json!({ "oneOf": [{ "required": ["a"] }, { "required": ["b"] }] }),
        ] {
            assert!(exclusive(&schema), "{schema}");
        }
    }

    #[test]
    fn what_may_overlap_stays() {
        let kind = |kind: Value| json!({ "properties": { "kind": kind }, "required": ["kind"] });
        let itself =
            json!({ "type": "object", "properties": { "a": { "$ref": "#/$defs/0" } }, "required": ["a"] });
        for schema in [
            json!({ "oneOf": [{ "type": "number" }, { "type": "integer" }] }),
            json!({ "oneOf": [{ "const": 1 }, { "const": 1.0 }] }),
            json!({ "oneOf": [{ "enum": [[1, { "a": 2 }]] }, { "const": [1.0, { "a": 2.0 }] }] }),
            json!({ "type": "number", "oneOf": [{ "maximum": 3 }, { "minimum": 3 }] }),
            json!({ "oneOf": [{ "maximum": 3 }, { "minimum": 4 }] }), // texts match both
            json!({ "type": "string", "oneOf": [{ "pattern": "a" }, { "pattern": "b" }] }),
            json!({ "oneOf": [kind(json!({ "const": "a" })), kind(json!({ "const": "b" }))] }),
            json!({ "type": "object", "oneOf": [
                { "properties": { "kind": { "const": "a" } } }, { "properties": { "kind": { "const": "b" } } }
            ] }),
            json!({ "type": "object", "oneOf": [kind(json!({ "type": "string" })), kind(json!({ "const": "b" }))] }),
            json!({ "oneOf": [{ "$ref": "#/$defs/0" }, { "$ref": "#/$defs/0" }], "$defs": { "0": itself } }),
            json!({ "oneOf": [{ "required": ["a", "b"] }, { "required": ["c"] }] }),
            json!({ "oneOf": [{ "required": ["a"] }, { "required": ["a"] }] }),
        ] {
            assert!(!exclusive(&schema), "{schema}");
        }
    }
}
