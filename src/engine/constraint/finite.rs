//! Whether a schema that refers to itself has finite instances.

use std::collections::HashSet;

use serde_json::{Map, Value};

/// The first definition, or `None` for the root, whose instances would have to be infinite.
pub(super) fn endless(root: &Map<String, Value>, definitions: &Map<String, Value>) -> Option<Option<usize>> {
    let mut ending = HashSet::new();
    loop {
        let before = ending.len();
        for (name, definition) in definitions {
            if !ending.contains(name) && ends(definition, &ending) {
                ending.insert(name.clone());
            }
        }
        if ending.len() == before {
            break;
        }
    }
    if ends(&Value::Object(root.clone()), &ending) {
        return None;
    }
    Some((0..definitions.len()).find(|number| !ending.contains(&number.to_string())))
}

/// Whether a schema has a finite instance, if only the definitions in `ending` have. Other reasons to have none
/// do not count.
fn ends(schema: &Value, ending: &HashSet<String>) -> bool {
    let Value::Object(map) = schema else { return true };
    let all = |list: &Value| list.as_array().is_none_or(|list| list.iter().all(|one| ends(one, ending)));
    let any = |list: &Value| list.as_array().is_none_or(|list| list.iter().any(|one| ends(one, ending)));
    if map.contains_key("const") || map.contains_key("enum") {
        return true;
    }
    let reference = map.get("$ref").and_then(Value::as_str).and_then(|to| to.rsplit('/').next());
    if reference.is_some_and(|name| !ending.contains(name))
        || map.get("allOf").is_some_and(|list| !all(list))
        || ["anyOf", "oneOf"].iter().any(|key| map.get(*key).is_some_and(|list| !any(list)))
    {
        return false;
    }
    let may_be = |name: &str| match map.get("type") {
        Some(Value::String(one)) => one == name,
        Some(Value::Array(list)) => list.iter().any(|one| one == name),
        _ => true,
    };
    let least = |key: &str| map.get(key).and_then(Value::as_u64).unwrap_or(0) as usize;
    let object = || {
        let required = map.get("required").and_then(Value::as_array);
        let property = |name: &Value| map.get("properties")?.get(name.as_str()?);
        let rest = || map.get("additionalProperties");
        required.is_none_or(|names| {
            names.iter().all(|name| property(name).or_else(rest).is_none_or(|p| ends(p, ending)))
        })
    };
    let array = || {
        let first = map.get("prefixItems").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let needed = least("minItems");
        first.iter().take(needed).all(|item| ends(item, ending))
            && (needed <= first.len() || map.get("items").is_none_or(|item| ends(item, ending)))
    };
    ["null", "boolean", "integer", "number", "string"].iter().any(|name| may_be(name))
        || (may_be("object") && object())
        || (may_be("array") && array())
}
