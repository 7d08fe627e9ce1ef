//! The text of a JSON schema → one that llguidance takes literally; or the place of what it cannot enforce.
//!
//! Schemas are read as draft 2020-12, with what older drafts wrote differently. References are resolved here, so
//! that they all are `#/$defs/N`; annotations are left out; keywords that apply other schemas come last. What
//! is not supported is an error and never ignored. Source: <https://json-schema.org/draft/2020-12>.

use std::collections::{BTreeSet, HashMap};

use serde_json::{Map, Value, json};

use super::error::{Error, within, wrong};
use super::finite::endless;
use super::formats::{Format, format};
use super::regex::check_ecma;
use super::values::{literal, names, number, plain_text, types, whole_number};
use super::words::of_json;

/// Keywords that say nothing about which values are valid.
const ANNOTATIONS: &[&str] = &[
    "$anchor",
    "$comment",
    "$defs",
    "$dynamicAnchor",
    "$id",
    "$schema",
    "$vocabulary",
    "contentEncoding",
    "contentMediaType",
    "contentSchema",
    "default",
    "definitions",
    "deprecated",
    "description",
    "examples",
    "id",
    "readOnly",
    "title",
    "writeOnly",
];
/// Keywords that llguidance cannot enforce.
const UNSUPPORTED: &[&str] = &[
    "$dynamicRef",
    "$recursiveAnchor",
    "$recursiveRef",
    "contains",
    "dependencies",
    "dependentRequired",
    "dependentSchemas",
    "else",
    "if",
    "maxContains",
    "minContains",
    "not",
    "propertyNames",
    "then",
    "unevaluatedItems",
    "unevaluatedProperties",
    "uniqueItems",
];
/// Keywords whose values hold no schemas.
const DATA: [&str; 4] = ["const", "default", "enum", "examples"];
/// Most schemas that references may point to: llguidance follows a chain of them recursively.
const MOST_REFERENCES: usize = 2000;
/// Most patterns of an object: llguidance compares each with each.
const MOST_PATTERNS: usize = 50;

/// A schema in the form described above, and notices for the user, one line each.
pub(super) struct Checked {
    pub(super) schema: Value,
    pub(super) notices: Vec<String>,
    /// The place of each definition in the user's schema.
    pub(super) places: Vec<String>,
}

pub(super) fn checked(text: &str) -> Result<Checked, Error> {
    let root: Value = serde_json::from_str(text).map_err(|error| Error::NotJson(of_json(&error)))?;
    let dialect = root.get("$schema").and_then(Value::as_str).unwrap_or_default();
    let old = ["draft-03", "draft-04", "draft-06", "draft-07"].iter().any(|draft| dialect.contains(draft));
    let mut reader = Reader { root: &root, old, ..Reader::empty(&root) };
    reader.find_names(&root, "");
    let mut schema = match reader.schema(&root, "")? {
        Value::Object(schema) => schema,
        Value::Bool(true) => Map::new(),
        _ => return Err(wrong("", "'false' allows nothing")),
    };
    let mut definitions = Map::new();
    while let Some(place) = reader.places.get(definitions.len()).cloned() {
        let target = root.pointer(&place).expect("it was found before");
        let definition = reader.schema(target, &place)?;
        definitions.insert(definitions.len().to_string(), definition);
    }
    if let Some(place) = endless(&schema, &definitions) {
        let place = place.map_or("", |number| &reader.places[number]);
        return Err(wrong(place, "it contains itself without an end"));
    }
    if !definitions.is_empty() {
        schema.insert("$defs".into(), definitions.into());
    }
    let notices = reader.notices();
    Ok(Checked { schema: schema.into(), notices, places: reader.places })
}

struct Reader<'s> {
    root: &'s Value,
    /// Draft 7 or older: keywords beside `$ref` count for nothing.
    old: bool,
    /// What references point to; a definition's name is its index here.
    places: Vec<String>,
    numbers: HashMap<String, usize>,
    /// Places with an `$id` of their own, and the `$id`.
    resources: Vec<(String, String)>,
    /// Places with an `$anchor`, and the anchor.
    anchors: Vec<(String, String)>,
    unknown: BTreeSet<String>,
    formats: BTreeSet<String>,
}

impl<'s> Reader<'s> {
    fn empty(root: &'s Value) -> Reader<'s> {
        Reader {
            root,
            old: false,
            places: Vec::new(),
            numbers: HashMap::new(),
            resources: Vec::new(),
            anchors: Vec::new(),
            unknown: BTreeSet::new(),
            formats: BTreeSet::new(),
        }
    }

    fn notices(&self) -> Vec<String> {
        let list = |names: &BTreeSet<String>| {
            let some: Vec<&str> = names.iter().take(8).map(String::as_str).collect();
            let more = if names.len() > 8 { " and others" } else { "" };
            some.join(", ") + more
        };
        let said = [(&self.unknown, "unknown keywords"), (&self.formats, "unknown formats")];
        let said = said.into_iter().filter(|(names, _)| !names.is_empty());
        said.map(|(names, what)| format!("the schema has {what}, which have no effect: {}", list(names)))
            .collect()
    }

    /// Collects the `$id`s and anchors.
    fn find_names(&mut self, value: &Value, at: &str) {
        match value {
            Value::Object(map) => {
                let text = |name: &str| map.get(name).and_then(Value::as_str);
                if let Some(id) = text("$id").filter(|id| !id.starts_with('#')) {
                    self.resources.push((at.into(), id.trim_end_matches('#').into()));
                }
                let old = text("$id").and_then(|id| id.strip_prefix('#'));
                for anchor in [text("$anchor"), text("$dynamicAnchor"), old].into_iter().flatten() {
                    self.anchors.push((at.into(), anchor.into()));
                }
                let inner = map.iter().filter(|(name, _)| !DATA.contains(&name.as_str()));
                inner.for_each(|(name, value)| self.find_names(value, &within(at, name)));
            }
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    self.find_names(item, &within(at, &index.to_string()));
                }
            }
            _ => {}
        }
    }

    /// The innermost place around `at` with an `$id`, or the root.
    fn resource(&self, at: &str) -> &str {
        let around =
            |place: &str| at.strip_prefix(place).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        let around = self.resources.iter().map(|(place, _)| place.as_str()).filter(|place| around(place));
        around.max_by_key(|place| place.len()).unwrap_or("")
    }

    fn schema(&mut self, value: &Value, at: &str) -> Result<Value, Error> {
        let map = match value {
            Value::Bool(_) => return Ok(value.clone()),
            Value::Object(map) => map,
            _ => return Err(wrong(at, "a schema is an object, true or false")),
        };
        let mut plain = Map::new();
        let mut applied = Map::new();
        let mut all = Vec::new();
        let alone = self.old && map.contains_key("$ref");
        for (key, value) in map.iter().filter(|(key, _)| !alone || *key == "$ref") {
            let here = within(at, key);
            match key.as_str() {
                "$ref" => _ = applied.insert(key.clone(), self.reference(value, &here)?),
                "allOf" => all.extend(self.list(value, &here)?),
                "anyOf" | "oneOf" => _ = applied.insert(key.clone(), self.list(value, &here)?.into()),
                "const" => _ = applied.insert(key.clone(), literal(value, &here)?.clone()),
                "enum" => {
                    let values = value.as_array().ok_or_else(|| wrong(&here, "it is not a list"))?;
                    let empty = wrong(&here, "an empty list allows nothing");
                    values.first().ok_or(empty)?;
                    values.iter().enumerate().try_for_each(|(index, value)| {
                        literal(value, &within(&here, &index.to_string())).map(|_| ())
                    })?;
                    applied.insert(key.clone(), value.clone());
                }
                "format" => match value.as_str().map(format) {
                    Some(Format::Pattern(pattern)) => all.push(json!({ "pattern": pattern })),
                    Some(Format::Known) => _ = plain.insert(key.clone(), value.clone()),
                    Some(Format::Unknown) => {
                        _ = self.formats.insert(value.as_str().unwrap_or_default().into())
                    }
                    None => return Err(wrong(&here, "it is not a text")),
                },
                "items" if value.is_array() => {
                    let rest = map.get("additionalItems");
                    let rest =
                        rest.map(|rest| self.schema(rest, &within(at, "additionalItems"))).transpose()?;
                    plain.insert("prefixItems".into(), self.list(value, &here)?.into());
                    plain.extend(rest.map(|rest| ("items".to_string(), rest)));
                }
                "additionalItems" => {}
                "items" | "additionalProperties" => _ = plain.insert(key.clone(), self.schema(value, &here)?),
                "prefixItems" => _ = plain.insert(key.clone(), self.list(value, &here)?.into()),
                "properties" | "patternProperties" => {
                    let map = value.as_object().ok_or_else(|| wrong(&here, "it is not an object"))?;
                    if key == "patternProperties" && map.len() > MOST_PATTERNS {
                        return Err(wrong(&here, format!("there are more than {MOST_PATTERNS} patterns")));
                    }
                    let mut schemas = Map::new();
                    for (name, value) in map {
                        let place = within(&here, name);
                        plain_text(name, &place)?;
                        if key == "patternProperties" {
                            check_ecma(name).map_err(|why| wrong(&place, why))?;
                        }
                        schemas.insert(name.clone(), self.schema(value, &place)?);
                    }
                    plain.insert(key.clone(), schemas.into());
                }
                "required" => _ = plain.insert(key.clone(), names(value, &here)?),
                "type" => _ = plain.insert(key.clone(), types(value, &here)?),
                "pattern" => {
                    let pattern = value.as_str().ok_or_else(|| wrong(&here, "it is not a text"))?;
                    check_ecma(pattern).map_err(|why| wrong(&here, why))?;
                    plain.insert(key.clone(), pattern.into());
                }
                "minItems" | "maxItems" | "minLength" | "maxLength" | "minProperties" | "maxProperties" => {
                    plain.insert(key.clone(), whole_number(value, &here)?.into());
                }
                "minimum" | "maximum" | "multipleOf" => {
                    let value = number(value, &here)?;
                    if key == "multipleOf" && value.as_f64().is_some_and(|value| value <= 0.0) {
                        return Err(wrong(&here, "it is not greater than 0"));
                    }
                    plain.insert(key.clone(), value.clone());
                }
                "exclusiveMinimum" | "exclusiveMaximum" if value.is_boolean() => {
                    plain.insert(key.clone(), value.clone()); // draft 4
                }
                "exclusiveMinimum" | "exclusiveMaximum" => {
                    plain.insert(key.clone(), number(value, &here)?.clone());
                }
                "uniqueItems" if *value == Value::Bool(false) => {}
                key if UNSUPPORTED.contains(&key) => {
                    return Err(wrong(
                        &here,
                        "this keyword is not supported: leave it out, and check the answer for it",
                    ));
                }
                key if ANNOTATIONS.contains(&key) => {}
                key => _ = self.unknown.insert(key.into()),
            }
        }
        names_that_differ(&plain, at)?;
        if !all.is_empty() {
            applied.insert("allOf".into(), all.into());
        }
        plain.extend(applied);
        Ok(plain.into())
    }

    fn list(&mut self, value: &Value, at: &str) -> Result<Vec<Value>, Error> {
        let list = value.as_array().filter(|list| !list.is_empty());
        let list = list.ok_or_else(|| wrong(at, "it is not a list of one or more schemas"))?;
        let each = list.iter().enumerate();
        each.map(|(index, value)| self.schema(value, &within(at, &index.to_string()))).collect()
    }

    fn reference(&mut self, value: &Value, at: &str) -> Result<Value, Error> {
        let reference = value.as_str().ok_or_else(|| wrong(at, "it is not a text"))?;
        let place = self.place(reference, at).filter(|place| self.root.pointer(place).is_some());
        let place = place.ok_or_else(|| wrong(at, format!("'{reference}' is not in this schema")))?;
        let next = self.places.len();
        let number = *self.numbers.entry(place.clone()).or_insert(next);
        if number == next {
            if next == MOST_REFERENCES {
                return Err(wrong(at, format!("there are more than {MOST_REFERENCES} definitions")));
            }
            self.places.push(place);
        }
        Ok(format!("#/$defs/{number}").into())
    }

    /// Where a reference points.
    fn place(&self, reference: &str, at: &str) -> Option<String> {
        let (uri, fragment) = reference.split_once('#').unwrap_or((reference, ""));
        let resource = match uri {
            "" => self.resource(at),
            _ => self.resources.iter().find(|(_, id)| id == uri).map(|(place, _)| place.as_str())?,
        };
        let fragment = unescaped(fragment)?;
        if fragment.is_empty() || fragment.starts_with('/') {
            return Some(format!("{resource}{fragment}"));
        }
        let here = |place: &str| self.resource(place) == resource;
        let anchor = self.anchors.iter().find(|(place, name)| *name == fragment && here(place));
        anchor.map(|(place, _)| place.clone())
    }
}

/// A fragment of a URI without its percent signs.
fn unescaped(fragment: &str) -> Option<String> {
    let mut parts = fragment.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        bytes.push(u8::from_str_radix(part.get(..2)?, 16).ok()?);
        bytes.extend(&part.as_bytes()[2..]);
    }
    String::from_utf8(bytes).ok()
}

/// Names may repeat in JSON text, and only names known beforehand are kept from it: so no more than one unknown
/// name can be demanded.
fn names_that_differ(schema: &Map<String, Value>, at: &str) -> Result<(), Error> {
    let least = schema.get("minProperties").and_then(Value::as_u64).unwrap_or(0);
    let required = schema.get("required").and_then(Value::as_array).map_or(0, Vec::len) as u64;
    let closed = schema.get("additionalProperties") == Some(&Value::Bool(false))
        && schema.get("patternProperties").is_none_or(|patterns| patterns == &json!({}));
    if least > required + 1 && !closed {
        let why = "more than one property beyond those in 'required' is not supported";
        return Err(wrong(&within(at, "minProperties"), why));
    }
    Ok(())
}
