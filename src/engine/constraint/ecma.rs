//! The regular expressions in a JSON schema (ECMA-262, Unicode) → Rust's, where the same text means something else.
//!
//! `.`, `\s` and `\S` stand for other characters; `[]` and `[^]` are classes; and inside a class, Rust has
//! operators (`[`, `&&`, `--`, `~~`) that are plain characters in ECMA-262. llguidance itself takes `\d` and `\w`
//! as ASCII. What Rust does not know is an error there. Source: <https://tc39.es/ecma262/#sec-patterns>.

use std::iter::Peekable;
use std::str::Chars;

use serde_json::{Map, Value};

/// `WhiteSpace` and `LineTerminator`.
macro_rules! spaces {
    () => {
        r"\t\n\x0b\x0c\r \u{a0}\u{1680}\u{2000}-\u{200a}\u{2028}\u{2029}\u{202f}\u{205f}\u{3000}\u{feff}"
    };
}
const SPACE: &str = concat!("[", spaces!(), "]");
const NO_SPACE: &str = concat!("[^", spaces!(), "]");
/// Any character but a `LineTerminator`.
const DOT: &str = r"[^\n\r\u{2028}\u{2029}]";
const ANYTHING: &str = "(?s:.)";
const NOTHING: &str = r"[^\x00-\u{10ffff}]";

/// Translates all expressions of a checked schema.
pub(super) fn translate(schema: &mut Value) {
    let Some(schema) = schema.as_object_mut() else { return };
    if let Some(Value::Object(patterns)) = schema.get_mut("patternProperties") {
        let mut translated = Map::new();
        for (pattern, value) in std::mem::take(patterns) {
            let mut pattern = rust(&pattern);
            while translated.contains_key(&pattern) {
                pattern = format!("(?:{pattern})"); // llguidance compares them
            }
            translated.insert(pattern, value);
        }
        *patterns = translated;
    }
    for (key, value) in schema {
        match (key.as_str(), value) {
            ("pattern", Value::String(pattern)) => *pattern = rust(pattern),
            ("properties" | "patternProperties" | "$defs", Value::Object(map)) => {
                map.values_mut().for_each(translate);
            }
            ("prefixItems" | "anyOf" | "oneOf" | "allOf", Value::Array(list)) => {
                list.iter_mut().for_each(translate);
            }
            ("items" | "additionalProperties", value) => translate(value),
            _ => {}
        }
    }
}

pub(super) fn rust(pattern: &str) -> String {
    let mut translated = String::new();
    let mut rest = pattern.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\\' => translated.push_str(&escape(&mut rest)),
            '.' => translated.push_str(DOT),
            '[' => class(&mut rest, &mut translated),
            c => translated.push(c),
        }
    }
    translated
}

/// What follows a backslash.
fn escape(rest: &mut Peekable<Chars>) -> String {
    match rest.next() {
        Some('s') => SPACE.into(),
        Some('S') => NO_SPACE.into(),
        Some(c) => format!("\\{c}"),
        None => "\\".into(),
    }
}

/// What follows an opening bracket, with the closing one.
fn class(rest: &mut Peekable<Chars>, translated: &mut String) {
    let negated = rest.next_if_eq(&'^').is_some();
    if rest.next_if_eq(&']').is_some() {
        translated.push_str(if negated { ANYTHING } else { NOTHING });
        return;
    }
    translated.push_str(if negated { "[^" } else { "[" });
    // Whether a hyphen makes a range of what is before it, and whether one did.
    let (mut begins, mut ends) = (false, false);
    while let Some(c) = rest.next() {
        match c {
            ']' => return translated.push(']'),
            '-' if begins && rest.peek() != Some(&']') => {
                translated.push('-');
                (begins, ends) = (false, true);
                continue;
            }
            '\\' => {
                let is_set = rest.peek().is_some_and(|next| "dDsSwWpP".contains(*next));
                translated.push_str(&escape(rest));
                ends |= is_set;
            }
            '-' | '[' | '&' | '~' => translated.extend(['\\', c]),
            c => translated.push(c),
        }
        (begins, ends) = (!ends, false);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::chat::Constraint;
    use crate::engine::constraint::matches;

    #[track_caller]
    fn matching(pattern: &str, yes: &[&str], no: &[&str]) {
        let schema = json!({ "type": "string", "pattern": format!("^(?:{pattern})$") });
        let schema = Constraint::JsonSchema(schema.to_string());
        let is = |text: &&&str| matches(&schema, &json!(text).to_string());
        let wrong = yes.iter().filter(|text| !is(text)).chain(no.iter().filter(|text| is(text)));
        assert_eq!(wrong.collect::<Vec<_>>(), Vec::<&&str>::new(), "{pattern} is {}", rust(pattern));
    }

    #[test]
    fn classes_are_those_of_ecma_script() {
        matching(r"\s", &[" ", "\u{feff}", "\u{a0}", "\u{2028}", "\n"], &["\u{85}", "a", ""]);
        matching(r"\S", &["\u{85}", "a"], &["\u{feff}", "\u{3000}"]);
        matching(r"[\s\d]+", &["1 \u{feff}2"], &["\u{9e8}"]);
        matching(r"[^\S]", &["\u{feff}"], &["a"]);
        matching(r".\.", &["a.", "\u{85}."], &["\r.", "\u{2028}.", "aa"]);
        matching("[^]", &["\n", "é"], &["", "ab"]);
        matching("a|[]", &["a"], &["", "]"]);
    }

    #[test]
    fn what_are_operators_in_rust_are_characters() {
        matching("[a[b]", &["a", "[", "b"], &["]"]);
        matching("[a-z[0-9]]", &["m]", "[]", "5]"], &["m", "]]"]);
        matching("[a&&b]", &["&", "a", "b"], &["c"]);
        matching("[a~~b]", &["~"], &["c"]);
        matching("[--/]", &["-", ".", "/"], &["0", ","]);
        matching("[+--]", &["+", ",", "-"], &["."]);
        matching("[a--b]", &[], &["a"]); // from a to - is no range
        matching(r"[\w-.]", &["a", "-", "."], &[","]);
        matching(r"[a\-z]", &["-", "z"], &["b"]);
        matching(r"[-a]|[b-]|\[\]", &["-", "a", "b", "[]"], &["["]);
    }

    #[test]
    fn only_expressions_are_translated() {
        let mut schema = json!({
            "properties": { "pattern": { "pattern": "." }, "const": { "const": { "pattern": "." } } },
            "patternProperties": { ".": { "items": { "pattern": "." } }, DOT: true },
            "anyOf": [{ "pattern": "a" }, { "pattern": "." }],
            "enum": [{ "pattern": "." }],
        });
        translate(&mut schema);
        let expected = json!({
            "properties": { "pattern": { "pattern": DOT }, "const": { "const": { "pattern": "." } } },
            "patternProperties": { DOT: { "items": { "pattern": DOT } }, format!("(?:{DOT})"): true },
            "anyOf": [{ "pattern": "a" }, { "pattern": DOT }],
            "enum": [{ "pattern": "." }],
        });
        assert_eq!(schema, expected);
    }
}
