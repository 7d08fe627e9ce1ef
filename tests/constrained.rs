//! Answers that must match a schema, a grammar or a regular expression.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use fireside::chat::Constraint;
use fireside::engine::constraint::check;
use serde_json::{Value, json};

use crate::support::mutate::Random;
use crate::support::parrot::{CHATML, Kind, Parrot};
use crate::support::{Done, Home, Run, default_model, program, repository, tiny};

/// A run of a tiny chat model with random weights, hot.
fn run(home: &Home, model: &str, args: &[&str]) -> Run {
    home.run(&[&["-p", "Hi", "--temp", "2", "--top-k", "0", "--think", "off"], args].concat())
        .model(&tiny(model))
}

fn object(done: &Done) -> Value {
    serde_json::from_str(&done.stdout).unwrap_or_else(|error| panic!("{error}: {done:#?}"))
}

const MODELS: [&str; 5] = ["llama-bpe", "llama-spm", "gemma3", "mamba", "qwen35"];

#[test]
fn random_models_write_what_is_demanded() {
    let schema = json!({
        "type": "object",
        "properties": { "name": { "type": "string", "maxLength": 20 }, "age": { "type": "integer", "maximum": 150 } },
        "required": ["name", "age"],
        "additionalProperties": false,
    });
    let home = Home::new();
    for (number, model) in MODELS.into_iter().enumerate() {
        let seed = number.to_string();
        let done = run(&home, model, &["-j", &schema.to_string(), "-n", "300", "-s", &seed]).done().code(0);
        let object = object(&done);
        assert!(
            object["name"].as_str().unwrap().chars().count() <= 20 && object["age"].is_number(),
            "{object}"
        );
        let done = run(&home, model, &["--regex", "(yes|no)!?", "-s", &seed]).done().code(0);
        assert!(["yes", "no", "yes!", "no!"].contains(&done.stdout.trim_end()), "{done:#?}");
        let grammar = "root ::= \"<\" ([a-c] | root)? \">\"";
        let done = run(&home, model, &["--grammar", grammar, "-n", "60", "-s", &seed]).done();
        let opened = done.stdout.matches('<').count();
        assert!(done.code == Some(4) || done.stdout.matches('>').count() == opened, "{done:#?}");
    }
}

#[test]
fn the_short_form_and_files_are_schemas() {
    let home = Home::new();
    let done = run(&home, "llama-bpe", &["--schema", "mood happy|sad, awake bool"]).done().code(0);
    let object = object(&done);
    assert!(["happy", "sad"].contains(&object["mood"].as_str().unwrap()) && object["awake"].is_boolean());
    let file = home.write("schema.json", r#"{"enum": ["one", 2]}"#);
    let file = file.to_str().unwrap();
    for args in [["-jf", file], ["-j", file]] {
        let done = run(&home, "llama-spm", &args).done().code(0);
        assert!(["\"one\"", "2"].contains(&done.stdout.trim_end()), "{done:#?}");
    }
    let grammar = home.write("list.gbnf", "root ::= (\"- \" [a-z]{1,3} \"\\n\"){2}\n");
    let done = run(&home, "llama-spm", &["--grammar-file", grammar.to_str().unwrap()]).done().code(0);
    assert!(done.stdout.lines().count() == 2 && done.stdout.starts_with("- "), "{done:#?}");
    run(&home, "llama-spm", &["-jf", "none.json"]).done().failed(2, "must be a file that can be read");
}

#[test]
fn half_an_answer_is_not_called_a_whole_one() {
    let home = Home::new();
    let long = r#"{"type": "string", "minLength": 500}"#;
    let args = ["-j", long, "-n", "10"];
    run(&home, "llama-bpe", &args)
        .done()
        .code(4)
        .says("the answer is incomplete: it does not match the schema");
    let done = run(&home, "llama-bpe", &[&args[..], &["--json"]].concat()).done().code(4).json();
    assert_eq!(done["stop_reason"], "length");
    let stopped = run(&home, "llama-bpe", &["--regex", "abcdef", "--stop", "de"]).done().code(4);
    stopped.stdout("abc\n");
    // A limit that comes right at the end cuts nothing.
    run(&home, "llama-bpe", &["--regex", "[a-z]{3,9}", "--stop", "zzzz", "-n", "20"]).done().code(0);
}

#[test]
fn what_cannot_be_enforced_is_refused_before_the_model_is_asked() {
    let home = Home::new();
    let refused = |args: &[&str], part: &str| {
        home.run(&[&["-p", "Hi"], args].concat()).model(&home.path("none.gguf")).done().failed(2, part)
    };
    refused(&["-j", r#"{"items": {"not": {}}}"#], "/items/not: this keyword is not supported")
        .hint("docs/scripting.md");
    refused(&["-j", r#"{"type": "#], "the schema is not JSON");
    refused(&["--schema", "age years"], "'years' is none");
    refused(&["--grammar", "root ::= a"], "line 1, column 10: there is no rule 'a'");
    refused(&["--grammar", "root ::= root \"a\" | root"], "'root' matches no text");
    refused(&["--regex", "(a"], "the regular expression cannot be used");
    refused(&["--regex", "a", "--schema", "b"], "--schema and --regex exclude each other");
    let long = home.write("long.json", " ".repeat(2 << 20));
    refused(&["-jf", long.to_str().unwrap()], "longer than 1 MiB");
}

#[test]
fn a_setting_beats_the_one_of_the_file() {
    let home = Home::new();
    home.write(".config/fireside/config.toml", "schema = \"a int\"\n");
    run(&home, "llama-bpe", &["--regex", "x{3}"]).done().code(0).stdout("xxx\n");
    let done = run(&home, "llama-bpe", &["--schema", "none", "-n", "3"]).done().code(0);
    assert!(!done.stdout.starts_with('{'), "{done:#?}");
}

#[test]
fn a_chat_sets_and_removes_it() {
    let home = Home::new();
    let typed = "/set regex [0-9]{4}\nHi\n/set regex none\n/set schema x: y z, b int\n/set grammar (\n/set stats off\n";
    let done = home.run(&["--repl-stdin", "--temp", "0"]).model(&tiny("llama-bpe")).stdin(typed).done();
    assert!(done.stdout.trim().len() == 4 && done.stdout.trim().parse::<u32>().is_ok(), "{done:#?}");
    done.says("regex is [0-9]{4}").says("line 1, column 1: the name of a rule is missing");
}

/// A model that thinks before it answers, in tags that are one token each.
fn thinker(home: &Home, pieces: &[&str]) -> std::path::PathBuf {
    let parrot = Parrot::saying(pieces).template(CHATML);
    parrot.marker("<think>", Kind::Control).marker("</think>", Kind::Control).write(home, "thinker")
}

#[test]
fn thinking_is_free_and_the_answer_is_not() {
    let home = Home::new();
    let path = thinker(&home, &["<think>", "Let", "</think>", "yes"]);
    let args = ["-p", "Hi", "--temp", "0", "--regex", "(no|yes)", "--json", "-n", "50"];
    let done = home.run(&args).model(&path).done();
    let object = done.json();
    assert_eq!((&object["text"], &object["thinking"]), (&json!("yes"), &json!("Let")), "{done:#?}");
}

/// The format of GPT-OSS, whose answers begin with a header.
const HARMONY: &str = "{# <|channel|> #}{% for m in messages %}<|start|>{{ m.role }}<|message|>{{ m.content }}<|end|>\
                       {% endfor %}{% if add_generation_prompt %}<|start|>assistant{% endif %}";

#[test]
fn headers_lead_to_the_thinking_and_then_to_the_answer() {
    let home = Home::new();
    let mut parrot = Parrot::saying(&["<|message|>", "hm", "<|end|>"]).template(HARMONY);
    for marker in ["<|start|>", "<|end|>", "<|message|>", "<|channel|>", "<|return|>", "<|call|>"] {
        parrot = parrot.marker(marker, Kind::Control);
    }
    let path = parrot.write(&home, "harmony");
    let args = ["-p", "Hi", "--temp", "0", "--regex", "(no|yes)", "--json", "-n", "80"];
    let object = home.run(&args).model(&path).done().code(0).json();
    assert_eq!(object["thinking"], "hm", "{object}");
    assert!(["no", "yes"].contains(&object["text"].as_str().unwrap()), "{object}");
}

#[test]
fn a_cut_answer_goes_on_where_it_ended() {
    let home = Home::new();
    let typed = "/set regex [a-z]{40}\n/set predict 9\n/set stats off\nHi\n/set predict 100\n/more\n";
    let args = ["--repl-stdin", "--temp", "2", "--think", "off"];
    let done = home.run(&args).model(&tiny("llama-bpe")).stdin(typed).done().code(0);
    let text: String = done.stdout.lines().collect();
    assert!(text.len() == 40 && text.bytes().all(|byte| byte.is_ascii_lowercase()), "{done:#?}");
    done.says("the answer is incomplete: it does not match the regular expression");
}

#[test]
fn the_transcripts_of_the_docs_are_true() {
    let Some(model) = default_model() else { return };
    let page = std::fs::read_to_string(repository().join("docs/scripting.md")).unwrap();
    let (_, rest) = page.split_once("## Structured output").unwrap();
    let (block, _) = rest.split_once("```console\n").unwrap().1.split_once("```").unwrap();
    let home = Home::new();
    std::os::unix::fs::symlink(program(), home.path("fireside")).unwrap();
    let path = format!("{}:{}", home.path("").display(), std::env::var("PATH").unwrap());
    let mut commands = 0;
    for part in block.split("$ ").filter(|part| !part.is_empty()) {
        let (command, expected) = part.split_once('\n').unwrap();
        let mut run = Command::new("sh");
        run.args(["-c", command]).envs(home.environment()).env("PATH", &path).env("FIRESIDE_MODEL", &model);
        let done = run.stdin(Stdio::null()).output().unwrap();
        assert_eq!(String::from_utf8(done.stdout).unwrap(), expected, "{command}");
        commands += 1;
    }
    assert_eq!(commands, 3);
}

/// Schemas and grammars that use everything, to be damaged.
const SCHEMAS: [&str; 5] = [
    r##"{"$ref": "#/$defs/node", "$defs": {"node": {"type": "object", "properties": {
        "value": {"type": ["integer", "null"], "minimum": -5, "exclusiveMaximum": 70, "multipleOf": 5},
        "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"const": null}]}
    }, "required": ["value"], "additionalProperties": false}}}"##,
    r##"{"type": "array", "prefixItems": [{"enum": [1, "a", true, [2], {"b": 0.5}]},
        {"type": "string", "minLength": 2, "maxLength": 30, "pattern": "^[a-z]+(-[0-9]{2})?$"}],
        "items": {"type": "number", "maximum": 1.5}, "minItems": 1, "maxItems": 40}"##,
    r##"{"oneOf": [
        {"type": "object", "properties": {"kind": {"const": "a"}, "x": {"type": "boolean"}}, "required": ["kind"]},
        {"type": "object", "properties": {"kind": {"const": "b"}, "y": {"format": "time"}}, "required": ["kind"]}
    ]}"##,
    r##"{"allOf": [{"patternProperties": {"^x-": {"type": "string"}, "^y[0-9]": {"type": "integer"}}},
        {"minProperties": 1, "maxProperties": 9, "required": ["x-a"]}], "title": "T", "default": {}}"##,
    r##"{"$schema": "http://json-schema.org/draft-07/schema#", "definitions": {"a": {"items": [{"type": "null"}, true],
        "additionalItems": false}}, "properties": {"list": {"$ref": "#/definitions/a"},
        "when": {"type": "string", "format": "date"}, "mail": {"format": "email"}}}"##,
];
const GRAMMARS: [&str; 3] = [
    r##"root ::= object
value ::= object | array | string | number | ("true" | "null") ws
object ::= "{" ws ( string ":" ws value ("," ws string ":" ws value)* )? "}" ws
array ::= "[" ws ( value ("," ws value)* )? "]" ws
string ::= "\"" ( [^"\\\x7F\x00-\x1F] | "\\" (["\\bfnrt] | "u" [0-9a-fA-F]{4}) )* "\"" ws
number ::= ("-"? ([0-9] | [1-9] [0-9]{0,15})) ("." [0-9]+)? ws
ws ::= | " " | "\n" [ \t]{0,20}
"##,
    r##"root ::= (expr "=" ws term "\n")+ # sums
expr ::= term ([-+*/] term)*
term ::= ident | num | "(" ws expr ")" ws
ident ::= [a-z] [a-z0-9_]* ws
num ::= [0-9]+ ws
ws ::= [ \t\n]*
"##,
    r##"root ::= "1. " move " " move "\n" ([1-9] [0-9]? ". " move "\n"){1,30}
move ::= (pawn | nonpawn | castle) [+#]?
nonpawn ::= [NBKQR] [a-h]? [1-8]? "x"? [a-h] [1-8]
pawn ::= ([a-h] "x")? [a-h] [1-8] ("=" [NBKQR])?
castle ::= "O-O" "-O"?
"##,
];

/// What is inserted.
const WORDS: [&str; 37] = [
    "{",
    "}",
    "[",
    "]",
    "\"",
    ",",
    ":",
    "1e9",
    "-1",
    "99999999999999999999",
    "null",
    "{}",
    "\"#\"",
    "\"$ref\":\"#\",",
    "\"not\":{},",
    "\"type\":\"object\",",
    "(",
    ")",
    "*",
    "+",
    "{0,99999}",
    "|",
    "root",
    "::=",
    "\\",
    "\\u0000",
    "^",
    "[^]",
    "\"a\"",
    "é",
    "\u{0}",
    "(?=a)",
    "minLength",
    "maxLength",
    "pattern",
    "items",
    "\n",
];

/// How many damaged schemas and grammars there are.
pub(crate) const MUTANTS: usize = 2000;

/// Schemas and grammars in turn, each damaged in some places: always the same.
pub(crate) struct Mutants {
    random: Random,
    round: usize,
}

impl Default for Mutants {
    fn default() -> Mutants {
        Mutants { random: Random::new(7), round: 0 }
    }
}

impl Iterator for Mutants {
    type Item = Constraint;

    fn next(&mut self) -> Option<Constraint> {
        let random = &mut self.random;
        let schema = self.round % 2 == 0;
        self.round += 1;
        let mut text = if schema { random.pick(&SCHEMAS) } else { random.pick(&GRAMMARS) }.to_string();
        for _ in 0..1 + random.below(4) {
            let places: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
            let (from, to) = (*random.pick(&places), *random.pick(&places));
            let (from, to) = (from.min(to), from.max(to));
            match random.below(4) {
                0 => text.insert_str(from, WORDS[random.below(WORDS.len())]),
                1 => text.replace_range(
                    from..to.min(places[places.partition_point(|at| *at < from)] + 9).max(from),
                    "",
                ),
                2 => {
                    let part = text[from..to].to_string();
                    text.insert_str(*random.pick(&places), &part[..part.floor_char_boundary(60)]);
                }
                _ => {
                    let digits = text.bytes().position(|byte| byte.is_ascii_digit());
                    let at = digits.filter(|_| random.below(2) == 0).unwrap_or(from);
                    let numbers = ["0", "9", "65536", "1000000000", "7.5", "-"];
                    text.insert_str(at, numbers[random.below(numbers.len())]);
                }
            }
        }
        Some(if schema { Constraint::JsonSchema(text) } else { Constraint::Grammar(text) })
    }
}

#[test]
fn damaged_schemas_and_grammars_are_taken_or_refused() {
    let (mut taken, mut slowest) = (0, (Duration::ZERO, String::new()));
    for constraint in Mutants::default().take(MUTANTS) {
        let started = Instant::now();
        let checked = check(&constraint);
        let took = started.elapsed();
        if let Err(error) = &checked {
            let line = error.to_string();
            assert!(
                !line.contains('\n') && !line.contains("panic") && line.len() < 600,
                "{line}: {constraint:?}"
            );
        }
        taken += usize::from(checked.is_ok());
        if took > slowest.0 {
            slowest = (took, format!("{constraint:?}: {checked:?}"));
        }
    }
    assert!((100..1900).contains(&taken), "{taken} were taken");
    let _ = writeln!(std::io::stderr(), "{taken} of {MUTANTS} were taken; the slowest took {slowest:?}");
}

#[test]
fn what_would_take_long_is_refused() {
    let deep = format!("{}1{}", "[".repeat(5000), "]".repeat(5000));
    let chain = |n: usize| {
        let one = |i: usize| {
            (
                i.to_string(),
                json!({ "anyOf": [{ "$ref": format!("#/$defs/{}", i + 1) }, { "type": "null" }] }),
            )
        };
        let mut all: serde_json::Map<String, Value> = (0..n).map(one).collect();
        all.insert(n.to_string(), json!(true));
        json!({ "$ref": "#/$defs/0", "$defs": all }).to_string()
    };
    let many: serde_json::Map<String, Value> =
        (0..3000).map(|i| (format!("^x{i}.*[a-z]{{3}}$"), json!({ "type": "integer" }))).collect();
    let both = json!({ "anyOf": (0..30).map(|i| json!({ "minimum": i })).collect::<Vec<_>>() });
    let wide = json!({ "allOf": vec![both; 12] });
    let patterns = json!({ "patternProperties": many });
    let schemas = [deep, chain(5000), patterns.to_string(), wide.to_string()];
    for schema in schemas {
        let began = &schema[..60.min(schema.len())];
        let refused = check(&Constraint::JsonSchema(schema.clone()));
        assert!(refused.is_err(), "{began}");
    }
    check(&Constraint::JsonSchema(chain(1500))).unwrap();
    let doubling: String = (0..40).map(|i| format!("r{i} ::= r{} r{}\n", i + 1, i + 1)).collect();
    let grammars = [
        format!("root ::= r0\n{doubling}r40 ::= \"a\"\n"),
        format!("root ::= {}\"a\"{}", "(".repeat(5000), ")".repeat(5000)),
    ];
    for grammar in grammars {
        let began = grammar[..40].to_string();
        assert!(check(&Constraint::Grammar(grammar)).is_err(), "{began}");
    }
}
