//! Settings that describe the answer: schemas, grammars and regular expressions, as text or from files → one
//! [`Constraint`].
//!
//! All of them set the same field, so that the last one counts. A value is what it says, not where it was
//! found: a file is read when it is named, and an answer can be repeated without it. The short form of a schema
//! is that of `llm` (Simon Willison's): <https://llm.datasette.io/en/stable/schemas.html>.

use std::fs::File;
use std::io::{self, IsTerminal};
use std::path::Path;

use serde_json::{Map, Value, json};

use super::setting::{Access, is_json};
use crate::chat::message::without_mark;
use crate::chat::{Constraint, Settings};
use crate::files::{self, expanded, is_pipe, read_stream, read_text, reason};

/// Most bytes of a schema or a grammar.
const MOST: u64 = 1 << 20;
/// Removes the constraint.
const NONE: &str = "none";

/// The settings of which one answer can have only one.
pub const CONSTRAINTS: [&str; 7] =
    ["json-schema", "json-schema-file", "schema", "schema-multi", "grammar", "grammar-file", "regex"];
/// Those whose value can be a file.
const FILES: [&str; 3] = ["json-schema", "json-schema-file", "grammar-file"];

pub(super) const JSON_SCHEMA: Access = Access {
    set: |s, v| set(s, v, Constraint::JsonSchema),
    get: |s| match &s.constraint {
        Some(Constraint::JsonSchema(text)) => text.clone(),
        _ => String::new(),
    },
};
pub(super) const GRAMMAR: Access = Access {
    set: |s, v| set(s, v, Constraint::Grammar),
    get: |s| match &s.constraint {
        Some(Constraint::Grammar(text)) => text.clone(),
        _ => String::new(),
    },
};
pub(super) const REGEX: Access = Access {
    set: |s, v| set(s, v, Constraint::Regex),
    get: |s| match &s.constraint {
        Some(Constraint::Regex(text)) => text.clone(),
        _ => String::new(),
    },
};

/// The setting that shows what this one sets: itself, or the one that [`Access::unshown`] is another name of.
pub(super) fn shown_as(name: &str) -> &str {
    match name {
        "json-schema-file" | "schema" | "schema-multi" => "json-schema",
        "grammar-file" => "grammar",
        _ => name,
    }
}

impl Access {
    /// The same under another name: only the first one shows the value.
    pub(super) const fn unshown(self) -> Access {
        Access { get: |_| String::new(), ..self }
    }
}

fn set(settings: &mut Settings, value: &str, kind: fn(String) -> Constraint) -> Result<(), String> {
    if value.trim().is_empty() {
        return Err("must not be empty".into());
    }
    if value.len() as u64 > MOST {
        return Err(format!("must not be longer than {} MiB", MOST >> 20));
    }
    settings.constraint = (value != NONE).then(|| kind(value.to_string()));
    Ok(())
}

/// JSON, or the text of a file.
pub(super) fn json_or_file(value: &str) -> Result<String, String> {
    if is_json(value) { Ok(value.into()) } else { read(value, "JSON or a file") }
}

/// The text of a file.
pub(super) fn file(value: &str) -> Result<String, String> {
    read(value, "a file")
}

fn read(value: &str, what: &str) -> Result<String, String> {
    if [NONE, ""].contains(&value) {
        return Ok(value.into());
    }
    let text = read_text(&expanded(Path::new(value)), MOST).map(without_mark);
    text.map_err(|error| format!("must be {what} that can be read ({})", reason(&error)))
}

/// Whether a value of a setting stands for stdin.
pub fn is_stdin(name: &str, value: &str) -> bool {
    FILES.contains(&name) && files::is_stdin(Path::new(value))
}

/// The text of stdin, or of another pipe, if a value on the command line names one.
pub(super) fn piped(name: &str, value: &str) -> Option<Result<String, String>> {
    let path = expanded(Path::new(value));
    let text = match () {
        () if is_stdin(name, value) && io::stdin().is_terminal() => {
            Err(io::Error::other("stdin is a terminal"))
        }
        () if is_stdin(name, value) => read_stream(io::stdin(), MOST),
        () if FILES.contains(&name) && !is_json(value) && is_pipe(&path) => {
            File::open(&path).and_then(|pipe| read_stream(pipe, MOST))
        }
        () => return None,
    };
    let text = text.map(without_mark);
    Some(text.map_err(|error| format!("must be a file or a pipe that can be read ({})", reason(&error))))
}

/// The short form of a schema, one object → a JSON schema. JSON is taken as it is.
pub(super) fn fields(value: &str) -> Result<String, String> {
    if value.trim_start().starts_with('{') || [NONE, ""].contains(&value.trim()) {
        return Ok(value.into());
    }
    Ok(object(value)?.to_string())
}

/// The same for a list of such objects, which stands in an object, as `items`.
pub(super) fn list_of_fields(value: &str) -> Result<String, String> {
    let one = match value.trim() {
        NONE | "" => return Ok(value.into()),
        json if json.starts_with('{') => serde_json::from_str(json)
            .map_err(|error| format!("must be JSON or a list of fields ({error})"))?,
        _ => object(value)?,
    };
    let list = json!({ "type": "array", "items": one });
    let all = json!({
        "type": "object",
        "properties": { "items": list },
        "required": ["items"],
        "additionalProperties": false,
    });
    Ok(all.to_string())
}

/// `name, age int, mood happy|sad: how they feel`: one field a line, or several on one line with commas between.
fn object(text: &str) -> Result<Value, String> {
    let between = if text.trim().contains('\n') { '\n' } else { ',' };
    let mut properties = Map::new();
    for field in text.split(between).map(str::trim).filter(|field| !field.is_empty()) {
        let (named, description) = field.split_once(':').unwrap_or((field, ""));
        let (name, kind) = named.trim().split_once(char::is_whitespace).unwrap_or((named.trim(), "str"));
        if name.is_empty() {
            return Err("must have a name for each field, as in 'name, age int'".into());
        }
        if name.contains('|') {
            return Err("must have a name before choices, as in 'mood happy|sad'".into());
        }
        let mut schema = kind_of(kind.trim())?;
        if !description.trim().is_empty() {
            schema["description"] = description.trim().into();
        }
        if properties.insert(name.into(), schema).is_some() {
            return Err(format!("must have each field once, but '{name}' comes twice"));
        }
    }
    let required: Vec<&String> = properties.keys().collect();
    if required.is_empty() {
        return Err("must have a field, as in 'name, age int'".into());
    }
    let required = json!(required);
    Ok(json!({
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    }))
}

fn kind_of(kind: &str) -> Result<Value, String> {
    let name = match kind {
        "int" | "integer" => "integer",
        "float" | "number" => "number",
        "bool" | "boolean" => "boolean",
        "str" | "string" => "string",
        choices if choices.contains('|') => {
            let choices: Vec<&str> = choices.split('|').map(str::trim).collect();
            if choices.contains(&"") {
                return Err(format!("must have a text on both sides of each | in '{kind}'"));
            }
            return Ok(json!({ "type": "string", "enum": choices }));
        }
        _ => return Err(format!("must have types among int, float, bool, str and a|b|c; '{kind}' is none")),
    };
    Ok(json!({ "type": name }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_short_form_is_that_of_llm() {
        let schema = |text: &str| serde_json::from_str::<Value>(&fields(text).unwrap()).unwrap();
        let expected = json!({
            "type": "object",
            "properties": {
                "name": { "type": "string" },
                "age": { "type": "integer" },
                "bio": { "type": "string", "description": "a description: short" },
                "mood": { "type": "string", "enum": ["happy", "sad"] },
            },
            "required": ["name", "age", "bio", "mood"],
            "additionalProperties": false,
        });
        assert_eq!(schema("name, age int, bio: a description: short, mood happy|sad"), expected);
        let lines = schema("name: first, last\nheight float\n\nlives bool");
        assert_eq!(lines["properties"]["name"]["description"], "first, last");
        assert_eq!(lines["required"], json!(["name", "height", "lives"]));
        let list: Value = serde_json::from_str(&list_of_fields("name").unwrap()).unwrap();
        assert_eq!(list["properties"]["items"]["items"], schema("name"));
    }

    #[test]
    fn a_wrong_short_form_is_explained() {
        let wrong = |text: &str| fields(text).unwrap_err();
        assert!(wrong("age number of years").contains("'number of years' is none"));
        assert!(wrong("a, a int").contains("'a' comes twice"));
        assert!(wrong(", ,").contains("must have a field"));
        assert!(wrong("a, : b").contains("a name for each field"));
        assert!(wrong("mood happy|").contains("both sides"));
        assert!(wrong("happy|sad").contains("a name before choices"));
    }
}
