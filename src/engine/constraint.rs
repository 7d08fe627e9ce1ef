//! 6 — a constraint on the answer → which tokens may come next.
//!
//! ```text
//! JSON schema, grammar, regular expression ─► llguidance's grammar ─► matcher ─► allowed tokens
//! ```
//!
//! `schema.rs`, `gbnf.rs` and `regex.rs` check what the user wrote and translate it; `matcher.rs` follows an answer
//! token by token. What cannot be enforced is refused with its place, before a model is asked. Next: sampler.rs.

mod ecma;
mod error;
mod expr;
mod facts;
mod finite;
mod formats;
mod gbnf;
mod lark;
mod matcher;
mod one_of;
mod regex;
mod patience;
mod schema;
mod values;
mod words;

use std::time::{Duration, Instant};

use llguidance::api::{GrammarWithLexer, TopLevelGrammar};
use llguidance::toktrie::ApproximateTokEnv;
use llguidance::{Matcher as Parser, ParserFactory};
use serde_json::{Value, json};

pub use self::error::Error;
use self::error::within;
pub use self::matcher::{Allowed, Matcher, Tokens};
use self::patience::in_time;
use self::schema::Checked;
use self::words::of_llguidance;
use crate::chat::Constraint;

/// Space between the tokens of JSON: at most one, so that the answer is one line.
const SPACE: &str = " ";
/// The letters after a backslash in JSON strings: without `u`, every text has one spelling.
const ESCAPES: &str = r#"nrbtf\""#;
/// Most characters that a message shows.
const MOST_SHOWN: usize = 10;
/// How many bytes are written to try a constraint.
const TRIED: usize = 64;
/// How long the place of an error is searched for.
const SEARCHING: Duration = Duration::from_millis(300);

/// Checks a constraint without a model. Returns notices for the user, one line each.
pub fn check(constraint: &Constraint) -> Result<Vec<String>, Error> {
    in_time(constraint, |constraint| {
        let (mut parser, notices) = made(constraint, &bytes(), options())?;
        tried(&mut parser).map_err(|error| refused(constraint, &error.to_string()))?;
        Ok(notices)
    })
}

/// Writes the beginning of an answer, to see whether the masks can be computed.
fn tried(parser: &mut Parser) -> anyhow::Result<()> {
    for _ in 0..TRIED {
        let mask = parser.compute_mask_or_eos()?;
        // Space may come nearly everywhere in JSON, and leads nowhere.
        let Some(byte) = (b'!'..=u8::MAX).find(|byte| mask.is_allowed((*byte).into())) else { break };
        parser.consume_token(byte.into())?;
    }
    Ok(())
}

/// Whether a text is a whole answer, which nothing need follow.
pub fn matches(constraint: &Constraint, text: &str) -> bool {
    Follower::of(constraint).is_ok_and(|mut follower| follower.push(text) && follower.is_whole())
}

/// The same for text that another program wrote.
pub fn matches_loosely(constraint: &Constraint, text: &str) -> bool {
    Follower::loosely(constraint).is_ok_and(|mut follower| follower.push(text) && follower.is_whole())
}

/// Follows text byte by byte, without a model.
pub struct Follower {
    parser: Parser,
    /// White space may follow the end.
    loosely: bool,
}

impl Follower {
    fn of(constraint: &Constraint) -> Result<Follower, Error> {
        let parser = in_time(constraint, |constraint| made(constraint, &bytes(), options()))?.0;
        Ok(Follower { parser, loosely: false })
    }

    /// Takes JSON with any white space and all escapes.
    pub fn loosely(constraint: &Constraint) -> Result<Follower, Error> {
        let options = json!({ "json_allow_general_unicode_escapes": true });
        let parser = in_time(constraint, |constraint| made(constraint, &bytes(), options))?.0;
        Ok(Follower { parser, loosely: matches!(constraint, Constraint::JsonSchema(_)) })
    }

    /// Whether the text goes on so.
    pub fn push(&mut self, text: &str) -> bool {
        let taken = self.take(text);
        let rest = text.as_bytes()[taken..].trim_ascii();
        rest.is_empty() && (taken == text.len() || (self.loosely && self.is_whole()))
    }

    /// How many bytes of the text match.
    fn take(&mut self, text: &str) -> usize {
        let tokens: Vec<u32> = text.bytes().map(u32::from).collect();
        self.parser.try_consume_tokens(&tokens).unwrap_or(0)
    }

    /// Says which characters might come next.
    fn next(&mut self) -> String {
        let mask = self.parser.compute_mask();
        let is_allowed = |byte: u8| mask.as_ref().is_ok_and(|mask| mask.is_allowed(byte.into()));
        let all: Vec<char> = (b' '..=b'~').filter(|byte| is_allowed(*byte)).map(char::from).collect();
        let some: Vec<String> = all.iter().take(MOST_SHOWN).map(|c| format!("'{c}'")).collect();
        let more = if all.len() > MOST_SHOWN || (0x80..=u8::MAX).any(is_allowed) { ", …" } else { "" };
        if all.is_empty() && more.is_empty() { "nothing".into() } else { some.join(", ") + more }
    }

    /// Why an answer cannot begin with this text.
    fn refused(mut self, kind: &'static str, begun: &str) -> Error {
        let taken = self.take(begun);
        let before = String::from_utf8_lossy(&begun.as_bytes()[..taken]);
        let before: String = before.chars().skip(before.chars().count().saturating_sub(MOST_SHOWN)).collect();
        let next = match taken {
            0 => format!("it begins with {}", self.next()),
            _ => format!("after '{before}' comes {}", self.next()),
        };
        Error::Begun { kind, next }
    }

    /// Whether nothing need follow.
    pub fn is_whole(&mut self) -> bool {
        !self.parser.is_error() && (self.parser.is_stopped() || self.parser.is_accepting().unwrap_or(false))
    }
}

/// The parser of a constraint, and notices for the user. `options`: how JSON is written.
fn made(
    constraint: &Constraint,
    factory: &ParserFactory,
    options: Value,
) -> Result<(Parser, Vec<String>), Error> {
    let (grammar, notices) = match constraint {
        Constraint::JsonSchema(text) => {
            let Checked { schema, notices, .. } = schema::checked(text)?;
            (of_schema(schema, options), notices)
        }
        Constraint::Grammar(text) => {
            let lark = lark::lark(&gbnf::parse(text)?);
            let complex = |why| Error::Complex { kind: constraint.kind(), why };
            (TopLevelGrammar::from_lark(lark.map_err(complex)?), Vec::new())
        }
        Constraint::Regex(text) => {
            regex::check(text).map_err(Error::Regex)?;
            (TopLevelGrammar::from_regex(unanchored(text)), Vec::new())
        }
    };
    let parser = parser(factory, &grammar).map_err(|why| located(constraint, why))?;
    Ok((parser, notices))
}

/// How we write JSON.
fn options() -> Value {
    json!({ "whitespace_pattern": SPACE, "json_allowed_escapes": ESCAPES })
}

fn of_schema(mut schema: Value, options: Value) -> TopLevelGrammar {
    ecma::translate(&mut schema);
    one_of::replace(&mut schema);
    schema["x-guidance"] = options;
    TopLevelGrammar::from_grammar(GrammarWithLexer::from_json_schema(schema))
}

/// A vocabulary of the 256 bytes.
fn bytes() -> ParserFactory {
    factory(&ApproximateTokEnv::single_byte_env())
}

fn factory(tokens: &llguidance::toktrie::TokEnv) -> ParserFactory {
    let mut factory = ParserFactory::new_simple(tokens).expect("its own slices are sound");
    let limits = factory.quiet().limits_mut();
    limits.verbose_errors = false;
    // An object with 2000 optional properties has four items for each.
    (limits.max_items_in_row, limits.step_max_items) = (12_000, 300_000);
    limits.step_lexer_fuel = 2_000_000;
    factory
}

fn parser(factory: &ParserFactory, grammar: &TopLevelGrammar) -> Result<Parser, String> {
    let parser = factory.create_parser(grammar.clone());
    parser.map(|parser| Parser::new(Ok(parser))).map_err(|error| of_llguidance(&error.to_string()))
}

/// A regular expression for the whole answer, whose ends need no anchors.
fn unanchored(regex: &str) -> &str {
    if regex.contains('|') {
        return regex; // each anchor belongs to one alternative
    }
    let regex = regex.strip_prefix('^').unwrap_or(regex);
    let escapes = regex.len() - regex.trim_end_matches('$').trim_end_matches('\\').len();
    if escapes == 1 { regex.strip_suffix('$').unwrap_or(regex) } else { regex }
}

/// llguidance's refusal of a whole constraint in our words.
fn refused(constraint: &Constraint, why: &str) -> Error {
    let why = of_llguidance(why);
    match constraint {
        Constraint::JsonSchema(_) => Error::Schema { place: String::new(), why },
        Constraint::Grammar(_) => Error::Grammar { line: 1, column: 1, why },
        Constraint::Regex(_) => Error::Regex(why),
    }
}

/// The same with its place: the innermost schema that llguidance refuses by itself.
fn located(constraint: &Constraint, why: String) -> Error {
    let Constraint::JsonSchema(text) = constraint else { return refused(constraint, &why) };
    let Ok(Checked { schema, places, .. }) = schema::checked(text) else { return refused(constraint, &why) };
    let bytes = bytes();
    let definitions = schema.get("$defs").cloned();
    let started = Instant::now();
    let refusal = |mut schema: Value| {
        if started.elapsed() > SEARCHING || !schema.is_object() {
            return None;
        }
        definitions.iter().for_each(|all| schema["$defs"] = all.clone());
        parser(&bytes, &of_schema(schema, options())).err()
    };
    let (mut inner, mut place, mut why) = (schema.clone(), String::new(), why);
    inner.as_object_mut().map(|map| map.remove("$defs"));
    let mut seen = Vec::new();
    'deeper: loop {
        for (step, child) in children(&inner, &schema, &places, &place) {
            if !seen.contains(&step)
                && let Some(reason) = refusal(child.clone())
            {
                seen.push(step.clone());
                (inner, place, why) = (child.clone(), step, reason);
                continue 'deeper;
            }
        }
        return Error::Schema { place, why };
    }
}

/// The schemas directly inside one, each with its place in the user's schema.
fn children<'v>(
    schema: &'v Value,
    root: &'v Value,
    places: &[String],
    place: &str,
) -> Vec<(String, &'v Value)> {
    let mut found = Vec::new();
    for (key, value) in schema.as_object().into_iter().flatten() {
        let here = within(place, key);
        match (key.as_str(), value) {
            ("properties" | "patternProperties", Value::Object(map)) => {
                found.extend(map.iter().map(|(name, value)| (within(&here, name), value)));
            }
            ("prefixItems" | "anyOf" | "oneOf" | "allOf", Value::Array(list)) => {
                found
                    .extend(list.iter().enumerate().map(|(i, value)| (within(&here, &i.to_string()), value)));
            }
            ("items" | "additionalProperties", value) => found.push((here, value)),
            ("$ref", Value::String(to)) => {
                let number = to.rsplit('/').next().and_then(|number| number.parse::<usize>().ok());
                let target =
                    number.and_then(|number| Some((places.get(number)?.clone(), root.pointer(&to[1..])?)));
                found.extend(target);
            }
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(schema: &Value) -> Constraint {
        Constraint::JsonSchema(schema.to_string())
    }

    fn gbnf(text: &str) -> Constraint {
        Constraint::Grammar(text.into())
    }

    /// Which of the texts match.
    #[track_caller]
    fn matching(constraint: &Constraint, yes: &[&str], no: &[&str]) {
        check(constraint).unwrap();
        yes.iter()
            .for_each(|text| assert!(matches(constraint, text), "{text:?} should match {constraint:?}"));
        no.iter()
            .for_each(|text| assert!(!matches(constraint, text), "{text:?} should not match {constraint:?}"));
    }

    fn why(constraint: &Constraint) -> String {
        check(constraint).unwrap_err().to_string()
    }

    #[test]
    fn json_is_one_line_in_the_order_of_the_schema() {
        let schema = json!({
            "type": "object",
            "properties": { "a": { "type": "integer" }, "b": { "type": "string", "maxLength": 2 } },
            "required": ["a"],
            "additionalProperties": false,
        });
        let yes = [r#"{"a":1}"#, r#"{ "a" : 1, "b": "\n\"" }"#, "{\"a\": -2, \"b\": \"\u{e9}\u{1F600}\"}"];
        let no = [
            r#"{"b":"", "a":1}"#,
            "{\n\"a\":1}",
            r#"{"a":1,"c":1}"#,
            r#"{"a":1.5}"#,
            "{",
            "",
            r#"{"a":1,"b":"abc"}"#,
        ];
        matching(&json(&schema), &yes, &no);
        let closed = json!({ "properties": { "a": false } });
        matching(&json(&closed), &[r#"{"b":1}"#, "3"], &[r#"{"a":1}"#, r#"{"b":"\u0061"}"#]);
    }

    #[test]
    fn one_of_several_is_written() {
        let kind = |kind: &str| json!({ "properties": { "kind": { "const": kind } }, "required": ["kind"] });
        let base = json!({ "type": "object", "properties": { "kind": { "type": "string" }, "n": { "type": "integer" } } });
        let refs = json!([{ "$ref": "#/$defs/a" }, { "$ref": "#/$defs/b" }]);
        let both = |one: &str| json!({ "allOf": [{ "$ref": "#/$defs/base" }, kind(one)] });
        let pets = json!({ "oneOf": refs, "$defs": { "base": base, "a": both("cat"), "b": both("dog") } });
        let no = [r#"{"kind":"cow"}"#, r#"{"n":1}"#, r#"{"kind":"cat","n":"1"}"#, "1"];
        matching(&json(&pets), &[r#"{"kind":"cat","n":1}"#, r#"{"kind":"dog"}"#], &no);
        let either = json!({
            "properties": { "id": { "type": "integer" }, "mail": { "type": "string" } },
            "additionalProperties": false, "oneOf": [{ "required": ["id"] }, { "required": ["mail"] }],
        });
        let no = [r#"{"id":1,"mail":""}"#, "{}", "1"];
        matching(&json(&either), &[r#"{"id":1}"#, r#"{"mail":""}"#], &no);
    }

    #[test]
    fn patterns_are_those_of_ecma_script() {
        let pattern = |pattern: &str| json(&json!({ "type": "string", "pattern": pattern }));
        matching(&pattern("^[^[\\]]+$"), &["\"a(b\""], &["\"a[b\"", "\"]\""]);
        matching(&pattern("^[a&&b]$"), &["\"&\"", "\"a\""], &["\"c\""]);
        matching(&pattern("^.$"), &["\"a\""], &["\"\\r\"", "\"\u{2028}\""]);
        let names = json!({ "patternProperties": { "^[.[]$": { "type": "integer" } }, "additionalProperties": false });
        matching(&json(&names), &[r#"{"[":1}"#, r#"{".":1}"#], &[r#"{"a":1}"#, r#"{"[":"1"}"#]);
    }

    #[test]
    fn a_regular_expression_matches_as_a_whole() {
        let regex = |text: &str| Constraint::Regex(text.into());
        matching(&regex("[a-z]+[0-9]/?"), &["ab1", "a1/"], &["ab", "1", "ab12"]);
        matching(&regex(r"^a{2}$"), &["aa"], &["a"]);
        matching(&regex(r"^[$]\$"), &["$$"], &["$"]);
        assert!(why(&regex("(a")).starts_with("the regular expression cannot be used: "));
        assert!(why(&regex("a(?=b)")).contains("look-around"));
        assert!(why(&regex("[a&&b]")).ends_with("it matches no text"));
        for inner in [r"\ba", "a$b", "(?m)^a$"] {
            assert!(why(&regex(inner)).contains("anchors and word boundaries"), "{inner}");
        }
    }

    #[test]
    fn grammars_without_recursion_are_exact() {
        let moves = r#"
            root ::= move{1,3} "!"?
            move ::= [a-h] [1-8] ("x" [a-h])? | "O-O" "-O"?"#;
        matching(&gbnf(moves.trim()), &["e4", "O-OO-O-O", "a1xba1!"], &["", "e9", "e4e4e4e4", "O-"]);
        matching(&gbnf(r#"root ::= [a-z]+ "a""#), &["aa", "baa"], &["a", "ab"]);
        matching(&gbnf(r"root ::= [^\n\u00e9]* ."), &["a\n", "\u{1F600}", "\u{e9}"], &["", "\u{e9}a\u{e9}"]);
        matching(&gbnf(r#"root ::= ("a" | )"#), &["", "a"], &["b"]);
    }

    #[test]
    fn grammars_with_recursion_are_parsed() {
        let sums = r#"
            root ::= sum
            sum ::= sum "+" value | value
            value ::= [0-9]+ | "(" sum ")""#;
        matching(&gbnf(sums.trim()), &["1", "12+(3+4)+5", "((1))"], &["", "1+", "(1", "1)"]);
        // Where a piece might go on, it is cut.
        let cut = r#"root ::= "(" root? ")" | [a-z]+ "a" root?"#;
        matching(&gbnf(cut), &["ba", "(aa)", "baba"], &["b", "(a)"]);
        let lists = r#"
            root ::= list
            list ::= "[" (item ("," item)*)? "]"
            item ::= list | [^,\[\]]{0,5}"#;
        matching(&gbnf(lists.trim()), &["[]", "[a,[b,],]", "[[]]"], &["[", "[abcdef]", "[]]"]);
    }

    #[test]
    fn what_cannot_be_enforced_is_refused_with_its_place() {
        let place = |schema: Value| why(&json(&schema)).replace("the schema cannot be used: ", "");
        assert!(
            place(json!({ "properties": { "a/b": { "not": {} } } })).starts_with("/properties/a~1b/not: ")
        );
        let short = json!({ "type": "string", "minLength": 5, "maxLength": 2 });
        let items = json!({ "$ref": "#/$defs/x" });
        let schema = json!({ "type": "array", "minItems": 1, "items": items, "$defs": { "x": short } });
        assert!(place(schema).starts_with("/$defs/x: "));
        let both =
            json!({ "anyOf": [{ "type": "null" }, { "oneOf": [{ "minimum": 1 }, { "maximum": 3 }] }] });
        assert!(place(both).starts_with("/anyOf/1: oneOf: a value might match two"));
        assert!(place(json!({ "$ref": "#" })).starts_with("at its root: it contains itself"));
        let inside = json!({ "type": "array", "minItems": 1, "items": { "$ref": "#/$defs/a" } });
        let endless = json!({ "$ref": "#/$defs/a", "$defs": { "a": inside } });
        assert!(place(endless).starts_with("/$defs/a: it contains itself"));
        assert!(place(json!({ "$ref": "other.json" })).contains("'other.json' is not in this schema"));
        assert!(place(json!({ "enum": [1e300] })).starts_with("/enum/0: numbers beyond"));
        assert!(place(json!({ "const": "a\u{0}" })).contains("U+0000"));
        assert!(place(json!(false)).contains("allows nothing"));
        assert!(place(json!({ "type": "text" })).starts_with("/type: \"text\" is not a type"));
        assert!(why(&Constraint::JsonSchema("{".into())).starts_with("the schema is not JSON: "));
    }

    #[test]
    fn what_has_no_effect_is_told_once() {
        let schema = json!({
            "title": "T", "description": "D", "$comment": "", "default": 1, "examples": [], "deprecated": true,
            "$schema": "https://json-schema.org/draft/2020-12/schema", "format": "phone", "x-order": 1,
            "properties": { "a": { "x-order": 2, "format": "date" } },
        });
        let told = [
            "the schema has unknown keywords, which have no effect: x-order",
            "the schema has unknown formats, which have no effect: phone",
        ];
        assert_eq!(check(&json(&schema)).unwrap(), told);
    }
}
