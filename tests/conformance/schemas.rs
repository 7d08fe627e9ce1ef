//! Constrained answers, by the JSON-Schema-Test-Suite: what it calls valid can be written, what it calls invalid
//! cannot, and what models with random weights write is valid for Python's jsonschema.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use fireside::chat::settings::Auto;
use fireside::chat::{Constraint, Request, StopReason};
use fireside::engine::Engine;
use fireside::engine::constraint::{check, matches};
use fireside::engine::model::Model;
use fireside::engine::token::Token;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{PAGE, Row, conclude, conclude_with_cut, reference, vocabularies, work};
use crate::families;
use crate::support::engine::{FLOAT_NOISE, Subject, answer, turn, user};
use crate::support::guesser::Guesser;
use crate::support::{repository, tiny};
use crate::tidy;

pub(super) const INSTANCES: &str = "schema instances";
pub(super) const GENERATIONS: &str = "schema generations";
pub(super) const VOCABULARIES: &str = "schema vocabularies";

/// Whole answers for each keyword.
const ANSWERS: usize = 100;
/// Answers with each of the other vocabularies.
const EACH: usize = 40;
/// Tokens of one.
const LONGEST: u32 = 60;
/// Most answers that are cut off, for each whole one.
const MOST_CUT: usize = 4;
/// Most spellings of one instance that are tried.
const MOST_SPELLINGS: usize = 150;
/// Vocabularies of every kind, and random weights.
pub(super) const MODELS: [&str; 4] = ["llama-bpe", "llama-spm", "gemma3", "mamba"];
/// The ends of strings, lists and objects, which random weights hardly ever find.
const ENDS: [&str; 4] = ["\"", "]", "}", ","];

/// The formats that fireside enforces.
const FORMATS: [&str; 10] =
    ["date", "date-time", "duration", "email", "hostname", "ipv4", "ipv6", "time", "uri", "uuid"];
/// Optional files of the suite whose expressions only ECMAScript reads as meant, not Python.
const EXPRESSIONS: [&str; 2] = ["ecmascript-regex", "non-bmp-regex"];

/// A schema of the suite.
#[derive(Deserialize)]
pub(super) struct Group {
    pub(super) description: String,
    pub(super) schema: Value,
    pub(super) tests: Vec<Instance>,
}

#[derive(Deserialize)]
pub(super) struct Instance {
    pub(super) description: String,
    pub(super) data: Value,
    pub(super) valid: bool,
}

/// The groups by keyword, with those of the optional files that count here; `None` without the suite.
pub(super) fn suite() -> Option<BTreeMap<String, Vec<Group>>> {
    let folder = reference("jsonschema/json/tests/draft2020-12")?;
    let read = |path: PathBuf| serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let files = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let files = files.filter(|path| path.extension().is_some_and(|end| end == "json"));
    let of_keywords = files.map(|path| (path.file_stem().unwrap().to_string_lossy().into_owned(), path));
    let optional = |name: &str| folder.join(format!("optional/{name}.json"));
    let of_formats = FORMATS.map(|name| (format!("format: {name}"), optional(&format!("format/{name}"))));
    let of_expressions = EXPRESSIONS.map(|name| (name.to_string(), optional(name)));
    let all = of_keywords.chain(of_formats).chain(of_expressions);
    Some(all.map(|(keyword, path)| (keyword, read(path))).collect())
}

pub(super) fn constraint(schema: &Value) -> Constraint {
    Constraint::JsonSchema(schema.to_string())
}

/// An instance in JSON, with the properties in every order.
pub(super) fn spellings(value: &Value) -> Vec<String> {
    let joined = |parts: Vec<Vec<String>>, open: &str, close: &str| {
        let mut all = vec![String::new()];
        for part in parts {
            let longer = all.iter().flat_map(|begun| {
                let comma = if begun.is_empty() { "" } else { ", " };
                part.iter().map(move |one| format!("{begun}{comma}{one}"))
            });
            all = longer.take(MOST_SPELLINGS).collect();
        }
        all.into_iter().map(|inner| format!("{open}{inner}{close}")).collect::<Vec<String>>()
    };
    match value {
        Value::Number(number) => vec![match number.as_f64() {
            Some(whole) if whole.fract() == 0.0 && whole.abs() < 1e16 => (whole as i64).to_string(),
            _ => number.to_string(),
        }],
        Value::Array(items) => joined(items.iter().map(spellings).collect(), "[", "]"),
        Value::Object(map) => {
            let part = |(name, value): &(&String, &Value)| -> Vec<String> {
                spellings(value).iter().map(|value| format!("{}: {value}", json!(name))).collect()
            };
            let orders = orders(&map.iter().collect::<Vec<_>>());
            let each = orders.iter().flat_map(|order| joined(order.iter().map(part).collect(), "{", "}"));
            each.take(MOST_SPELLINGS).collect()
        }
        other => vec![other.to_string()],
    }
}

fn orders<T: Copy>(items: &[T]) -> Vec<Vec<T>> {
    if items.len() < 2 || items.len() > 4 {
        return vec![items.to_vec()];
    }
    let mut all = Vec::new();
    for first in 0..items.len() {
        let mut rest = items.to_vec();
        let first = rest.remove(first);
        all.extend(orders(&rest).into_iter().map(|rest| [vec![first], rest].concat()));
    }
    all
}

/// Why an instance that is valid cannot be written, where that is meant: docs/scripting.md says so.
fn left_out(keyword: &str, instance: &Value) -> bool {
    let text = instance.to_string();
    let control = text.contains("\\u00") || text.contains('\u{7f}');
    let leap_second = ["format: time", "format: date-time"].contains(&keyword) && text.contains(":60");
    ["format", "vocabulary"].contains(&keyword) || control || leap_second
}

#[test]
fn what_is_valid_can_be_written_and_nothing_else() {
    let Some(suite) = suite() else { return };
    let (mut compared, mut differing) = (0, Vec::new());
    let mut table = String::from(
        "| keyword | schemas | refused | valid | written | invalid | not written |\n|---|---|---|---|---|---|---|\n",
    );
    for (keyword, groups) in &suite {
        let (mut refused, mut counts) = (0, [0; 4]);
        for group in groups {
            let constraint = constraint(&group.schema);
            if check(&constraint).is_err() {
                refused += 1;
                continue;
            }
            for instance in &group.tests {
                compared += 1;
                let written = spellings(&instance.data).iter().any(|text| matches(&constraint, text));
                counts[if instance.valid { 0 } else { 2 }] += 1;
                if written == instance.valid {
                    counts[if instance.valid { 1 } else { 3 }] += 1;
                } else if !(instance.valid && left_out(keyword, &instance.data)) {
                    let is = if instance.valid { "valid" } else { "invalid" };
                    let Instance { description, data, .. } = instance;
                    differing
                        .push(format!("{keyword}; {}; {description}: {data} is {is}", group.description));
                }
            }
        }
        let [valid, written, invalid, unwritten] = counts;
        let _ = writeln!(
            table,
            "| {keyword} | {} | {refused} | {valid} | {written} | {invalid} | {unwritten} |",
            groups.len()
        );
    }
    let found = differing.is_empty();
    conclude(Row {
        check: INSTANCES,
        reference: "JSON-Schema-Test-Suite",
        compared,
        differing,
        near_ties: None,
    });
    assert!(found);
    tidy::check_table(PAGE, "schemas", &table, |now, table| now == table, "make conformance");
}

/// Texts that models with random weights or logits write, to be validated.
#[derive(Default)]
struct Written {
    lines: Vec<Value>,
    cut: usize,
}

impl Written {
    /// Asks for an answer that matches a schema of this keyword; whether it is whole.
    fn ask<M: Model>(
        &mut self,
        engine: &mut Engine<M>,
        keyword: &str,
        schema: &Value,
        request: &Request,
    ) -> bool {
        let answer = answer(engine, request);
        let whole = answer.stop == StopReason::End;
        if whole {
            self.lines.push(json!({ "keyword": keyword, "schema": schema, "text": answer.text }));
        }
        self.cut += usize::from(!whole);
        whole
    }

    /// Validates all of it with Python's jsonschema.
    fn conclude(&self, check: &'static str, python: &Path, file: &str) {
        let differing = invalid(python, file, &self.lines);
        let (reference, compared) = ("jsonschema 4.26.0", self.lines.len());
        conclude_with_cut(Row { check, reference, compared, differing, near_ties: None }, Some(self.cut));
    }
}

/// What Python's jsonschema finds wrong with lines of `{"keyword", "schema", "text"}`, one line each.
pub(super) fn invalid(python: &Path, file: &str, lines: &[Value]) -> Vec<String> {
    let file = work().join(file);
    std::fs::write(&file, lines.iter().map(|line| format!("{line}\n")).collect::<String>()).unwrap();
    let checked = Command::new("python3")
        .arg(repository().join("tests/conformance/validate.py"))
        .arg(&file)
        .env("PYTHONPATH", python)
        .output()
        .unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    String::from_utf8(checked.stdout).unwrap().lines().map(String::from).collect()
}

/// A request for an answer that matches a schema, hot. `ends`: tokens that should come more often.
fn asked(schema: &Value, seed: usize, ends: &[(Token, f32)]) -> Request {
    let mut request = turn(&[user("Hi")], LONGEST);
    request.generation.constraint = Some(constraint(schema));
    request.generation.seed = seed as u32;
    request.generation.speculative = seed.is_multiple_of(2);
    request.generation.thinking.think = Auto::Off;
    request.generation.sampling.temp = 2.0;
    request.generation.sampling.logit_bias = ends.to_vec();
    request
}

/// The tokens that end texts, lists, objects and answers, with what is added to their logits.
fn ends(model: &impl Model) -> Vec<(Token, f32)> {
    let ends = (0..model.vocabulary().len as Token).filter(|token| model.ends(*token));
    let tokens = ENDS.iter().filter_map(|text| model.tokenize(text, false).last().copied());
    tokens.chain(ends).map(|token| (token, 8.0)).collect()
}

/// The schemas of each keyword that are taken, but for those that Python would read otherwise.
fn taken(suite: &BTreeMap<String, Vec<Group>>) -> BTreeMap<&str, Vec<&Value>> {
    let suite = suite.iter().filter(|(keyword, _)| !EXPRESSIONS.contains(&keyword.as_str()));
    let schemas = suite.map(|(keyword, groups)| {
        let schemas = groups.iter().map(|group| &group.schema);
        (keyword.as_str(), schemas.filter(|schema| check(&constraint(schema)).is_ok()).collect::<Vec<_>>())
    });
    schemas.filter(|(_, schemas)| !schemas.is_empty()).collect()
}

#[test]
fn what_random_models_write_is_valid() {
    let (Some(suite), Some(python)) = (suite(), reference("python")) else { return };
    let (taken, mut written) = (taken(&suite), Written::default());
    for (number, name) in MODELS.into_iter().enumerate() {
        let subject = Subject::load(&tiny(name), FLOAT_NOISE);
        let mut engine = subject.engine();
        let ends = ends(&subject.model());
        for (keyword, schemas) in &taken {
            let (mut whole, mut attempts) = (0, 0);
            while whole < ANSWERS / MODELS.len() && attempts < ANSWERS / MODELS.len() * MOST_CUT {
                let schema = schemas[attempts % schemas.len()];
                attempts += 1;
                let request = asked(schema, number * 1_000_000 + attempts, &ends);
                whole += usize::from(written.ask(&mut engine, keyword, schema, &request));
            }
        }
    }
    written.conclude(GENERATIONS, &python, "generations.jsonl");
}

#[test]
fn what_is_written_with_every_vocabulary_is_valid() {
    let (Some(suite), Some(python), Some(vocabularies)) =
        (suite(), reference("python"), vocabularies::files())
    else {
        return;
    };
    let taken: Vec<(&str, &Value)> = taken(&suite)
        .into_iter()
        .flat_map(|(keyword, schemas)| schemas.into_iter().map(move |schema| (keyword, schema)))
        .collect();
    let (mut written, mut number) = (Written::default(), 0);
    let mut some = |name: &str, model: Guesser| {
        let ends = ends(&model);
        let mut engine = Engine::new(model, None, &[]).unwrap();
        let before = written.lines.len();
        for _ in 0..EACH {
            let (keyword, schema) = taken[number % taken.len()];
            number += 1;
            let request = Request { raw: true, ..asked(schema, number, &ends) };
            written.ask(&mut engine, keyword, schema, &request);
        }
        assert!(written.lines.len() > before + EACH / 4, "{name}: {} whole", written.lines.len() - before);
    };
    for file in vocabularies {
        let subject = vocabularies::Subject::load(&file);
        some(&subject.name, Guesser::new(subject.model()));
    }
    for name in families::references().into_keys() {
        let file = repository().join(format!("tests/families/{name}.gguf"));
        if file.exists() {
            some(&name, Guesser::new(Subject::load(&file, FLOAT_NOISE).model()));
        }
    }
    written.conclude(VOCABULARIES, &python, "vocabularies.jsonl");
}

/// Schemas in the shape of tool catalogues: nested, with long texts and hundreds of properties.
#[test]
fn schemas_as_large_as_those_of_tools_are_taken() {
    let text = json!({ "type": "string", "description": "a path", "maxLength": 65_536 });
    let number = json!({ "type": ["integer", "null"], "minimum": 0, "maximum": 100_000 });
    let many: Map<String, Value> =
        (0..400).map(|i| (format!("option_{i}"), [&text, &number][i % 2].clone())).collect();
    let edit = json!({
        "type": "object",
        "properties": { "old": text, "new": text, "all": { "type": "boolean", "default": false } },
        "required": ["old", "new"],
        "additionalProperties": false,
    });
    let schema = json!({
        "type": "object",
        "properties": {
            "path": text,
            "edits": { "type": "array", "items": edit, "minItems": 1, "maxItems": 5000 },
            "options": { "type": "object", "properties": many, "additionalProperties": false },
        },
        "required": ["path", "edits"],
        "additionalProperties": false,
    });
    let constraint = constraint(&schema);
    check(&constraint).unwrap();
    let long = "x".repeat(65_536);
    let write = |path: &str| json!({ "path": path, "edits": [{ "old": "a", "new": "" }], "options": { "option_399": null } });
    assert!(matches(&constraint, &write(&long).to_string()));
    assert!(!matches(&constraint, &write(&format!("{long}x")).to_string()));
}

/// A text for each of llama.cpp's grammars, and one that differs at its end.
const TEXTS: [(&str, &str, &str); 8] = [
    ("arithmetic", "a=\n12", "(b+3*cd)/7 =\n a\n"),
    ("c", "int f(){", "int f(int a){x = -a*( g(1, 2)+b );return x;}"),
    ("chess", "1. e4 e5\n", "1. e4 e5\n2. Nf3 O-O-O+\n"),
    ("english", "Hello \u{e9}", "Hello, world!\nYes"),
    ("japanese", "hai", "\u{3042}\u{30a2} \u{4e00}"),
    ("json", "{\"a\": [1}", "{\"a\": [-1.5e3, true, {}], \"\\u00e9\\n\": \"\u{e9}\"}"),
    ("json_arr", "[\n1, 2]", "[\n[1, null],\n\"a\"]"),
    ("list", "- one\n-two\n", "- one\n- two\n"),
];

#[test]
fn the_grammars_of_llama_cpp_are_taken() {
    let Some(folder) = reference("llama.cpp/grammars") else { return };
    let files = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let grammars = files.filter(|path| path.extension().is_some_and(|end| end == "gbnf")).count();
    assert_eq!(grammars, TEXTS.len());
    for (name, wrong, right) in TEXTS {
        let text = std::fs::read_to_string(folder.join(format!("{name}.gbnf"))).unwrap();
        let grammar = Constraint::Grammar(text);
        check(&grammar).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(matches(&grammar, right), "{name}: {right:?} should match");
        assert!(!matches(&grammar, wrong), "{name}: {wrong:?} should not match");
    }
}
