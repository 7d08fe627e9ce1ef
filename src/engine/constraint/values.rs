//! Values of keywords in a JSON schema → the same, checked; or what is wrong with them, and where.

use serde_json::Value;

use super::error::{Error, within, wrong};

const TYPES: [&str; 7] = ["null", "boolean", "integer", "number", "string", "array", "object"];
/// The largest integer up to which a double holds every integer.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// A value that must come literally.
pub(super) fn literal<'v>(value: &'v Value, at: &str) -> Result<&'v Value, Error> {
    match value {
        Value::Number(_) => _ = number(value, at)?,
        Value::String(text) => plain_text(text, at)?,
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                literal(item, &within(at, &index.to_string()))?;
            }
        }
        Value::Object(map) => {
            for (name, value) in map {
                plain_text(name, &within(at, name))?;
                literal(value, &within(at, name))?;
            }
        }
        Value::Null | Value::Bool(_) => {}
    }
    Ok(value)
}

/// Refuses control characters, which answers never contain: they have several spellings in JSON.
pub(super) fn plain_text(text: &str, at: &str) -> Result<(), Error> {
    let control = |c: char| c.is_ascii_control() && !['\u{8}', '\t', '\n', '\u{c}', '\r'].contains(&c);
    match text.chars().find(|c| control(*c)) {
        Some(c) => Err(wrong(at, format!("the control character U+{:04X} is not supported", u32::from(c)))),
        None => Ok(()),
    }
}

/// A number that a double holds exactly, or to within its own precision.
pub(super) fn number<'v>(value: &'v Value, at: &str) -> Result<&'v Value, Error> {
    let double = value.as_f64().ok_or_else(|| wrong(at, "it is not a number"))?;
    if double.abs() > EXACT {
        return Err(wrong(at, "numbers beyond 2^53 are not supported"));
    }
    Ok(value)
}

pub(super) fn whole_number(value: &Value, at: &str) -> Result<u64, Error> {
    let double = value.as_f64().filter(|double| double.fract() == 0.0 && (0.0..=1e9).contains(double));
    double.map(|double| double as u64).ok_or_else(|| wrong(at, "it is not a whole number from 0 to 1e9"))
}

pub(super) fn names(value: &Value, at: &str) -> Result<Value, Error> {
    let list = value.as_array().ok_or_else(|| wrong(at, "it is not a list of names"))?;
    for (index, name) in list.iter().enumerate() {
        let here = within(at, &index.to_string());
        plain_text(name.as_str().ok_or_else(|| wrong(&here, "it is not a name"))?, &here)?;
    }
    Ok(value.clone())
}

pub(super) fn types(value: &Value, at: &str) -> Result<Value, Error> {
    let list = match value {
        Value::String(_) => vec![value],
        Value::Array(list) if !list.is_empty() => list.iter().collect(),
        _ => return Err(wrong(at, "it is neither a type nor a list of types")),
    };
    match list.iter().find(|name| !name.as_str().is_some_and(|name| TYPES.contains(&name))) {
        Some(other) => Err(wrong(at, format!("{other} is not a type; the types are {}", TYPES.join(", ")))),
        None => Ok(value.clone()),
    }
}
