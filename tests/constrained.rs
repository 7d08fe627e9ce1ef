//! Answers that must match a schema, a grammar or a regular expression.

use std::io::Write as _;
use std::time::{Duration, Instant};

use fireside::chat::Constraint;
use fireside::engine::constraint::{Follower, check, matches};
use serde_json::{Value, json};

use crate::support::mutate::Random;
use crate::support::parrot::{CHATML, Kind, Parrot};
use crate::support::{Done, Home, Run, default_model, tiny, transcripts};

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
fn a_schema_can_come_through_a_pipe() {
    let home = Home::new();
    let schema = r#"{"enum": ["one", 2]}"#;
    let is_right = |done: Done| assert!(["\"one\"\n", "2\n"].contains(&&*done.stdout), "{done:#?}");
    for args in [["-jf", "-"], ["-j", "-"], ["-jf", "/dev/stdin"]] {
        is_right(run(&home, "llama-spm", &args).stdin(schema).done().code(0));
    }
    let grammar = run(&home, "llama-spm", &["--grammar-file", "-"]).stdin("root ::= [a-b]{3}").done().code(0);
    assert!(
        grammar.stdout.len() == 4 && grammar.stdout.trim().chars().all(|c| "ab".contains(c)),
        "{grammar:#?}"
    );
    let pipe = home.path("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let writer = std::thread::spawn({
        let pipe = pipe.clone();
        move || std::fs::write(pipe, schema).unwrap()
    });
    is_right(run(&home, "llama-spm", &["-jf", pipe.to_str().unwrap()]).done().code(0));
    writer.join().unwrap();
}

#[test]
fn stdin_is_read_once() {
    let home = Home::new();
    let refused = |args: &[&str], part: &str| {
        home.run(args).model(&tiny("llama-spm")).stdin("{}").done().failed(2, part).hint("stdin is read once")
    };
    refused(&["-p", "Hi", "-jf", "-", "-f", "-"], "--json-schema-file - and --file - exclude each other");
    refused(&["-p", "{stdin}", "-j", "-"], "--json-schema - and {stdin} in the prompt exclude each other");
    refused(
        &["-p", "Hi", "-jf", "/dev/stdin", "--no-stdin"],
        "--json-schema-file /dev/stdin and --no-stdin exclude",
    );
    refused(&["-p", "Hi", "-jf", "-", "--save-role", "a"], "--json-schema-file - and --save-role exclude");
    let alone = home.run(&["-jf", "-"]).model(&tiny("llama-spm")).stdin("{}").done();
    alone.failed(2, "there is no prompt");
    let wrong = home.run(&["-p", "Hi", "-jf", "-"]).model(&tiny("llama-spm")).stdin("Sum it up").done();
    wrong.failed(2, "the schema is not JSON: line 1, column 1: ");
    // Nobody else may take it: a config file names files.
    home.write(".config/fireside/config.toml", "json-schema-file = \"-\"\n");
    home.run(&["-p", "Hi"]).model(&tiny("llama-spm")).stdin("{}").done().failed(2, "json-schema-file");
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

#[test]
fn what_was_given_is_shown_under_its_name() {
    let home = Home::new();
    let typed = "/set schema\n/set json-schema\n/set regex\n/set regex a\n/set schema\n/set json-schema\n/set regex none\n\
                 /set json-schema\n";
    let done = home.scripted("none\n", &["--repl-stdin", "--schema", "a int"]).stdin(typed).done().code(0);
    let is_shown = |line: &&str| line.split("  ").nth(1).is_some() && !line.starts_with(' ');
    let lines: Vec<&str> = done.stderr.lines().filter(is_shown).collect();
    let names: Vec<&str> = lines.iter().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(
        names,
        ["schema", "json-schema", "regex", "schema", "json-schema", "json-schema"],
        "{done:#?}"
    );
    let schema = r#"{"type":"object","properties":{"a":{"type":"integer"}},"required":["a"],"additionalProperties":false}"#;
    assert!(lines[0].contains(schema) && lines[0].ends_with(" flag"), "{lines:#?}");
    assert!(lines[1].contains(schema) && lines[1].ends_with(" flag (as schema)"), "{lines:#?}");
    for line in &lines[2..] {
        assert!(line.contains(" not set "), "{lines:#?}");
    }
    let config = home.run(&["config", "--schema", "a int"]).done().code(0).stdout;
    let line = |name: &str| config.lines().find(|line| line.split(' ').next() == Some(name)).unwrap();
    assert!(
        line("json-schema").contains(schema) && line("json-schema").ends_with("# flag (as schema)"),
        "{config}"
    );
    assert!(line("schema").contains(schema) && line("schema").ends_with("# flag"), "{config}");
}

/// Every kind of sampling, and everything else beside a constraint.
const BESIDE: [&[&str]; 24] = [
    &["--temp", "0"],
    &["--temp", "5"],
    &["--top-k", "1"],
    &["--top-p", "0.01"],
    &["--min-p", "1"],
    &["--typical", "0.1"],
    &["--top-n-sigma", "0.5"],
    &["--xtc-probability", "1", "--xtc-threshold", "0"],
    &["--dry-multiplier", "9", "--dry-allowed-length", "0", "--dry-sequence-breaker", "none"],
    &["--repeat-penalty", "9", "--repeat-last-n", "-1"],
    &["--presence-penalty", "2", "--frequency-penalty", "2"],
    &["--mirostat", "1"],
    &["--mirostat", "2", "--mirostat-ent", "0.1"],
    &["--samplers", "temperature"],
    &["--samplers", "xtc;min_p;top_k;penalties", "--xtc-probability", "0.5"],
    &["--logit-bias", "5+99"],
    &["--stop", "never", "--stop", "ever"],
    &["--no-speculative"],
    &["--chat-template", "chatml"],
    &["--system-prompt", "Answer in verse."],
    &["--role", "clerk"],
    &["--raw"],
    &["--no-prompt-cache", "--ctx-size", "512"],
    &["--think", "off", "--file-header", "always"],
];

#[test]
fn every_setting_leaves_the_answer_its_form() {
    let home = Home::new();
    let role = "---\ntemp: 1.5\n---\nYou are a clerk.\n\n### INPUT:\nHi\n### OUTPUT:\nSure!\n";
    home.write(".config/fireside/roles/clerk.md", role);
    let forms = [
        ("--regex", r"-?[0-9]{1,6}(\.[a-f]{2,4})? (yes|no)( [a-z]{0,9}){0,3}"),
        ("--schema", "a int, b one|two, c bool"),
    ];
    for (number, beside) in BESIDE.iter().enumerate() {
        let (option, form) = forms[number % 2];
        let seed = number.to_string();
        for model in ["llama-bpe", "llama-spm"] {
            let args =
                [&["-p", "Hi", "--temp", "2", "-s", &seed, option, form, "--json", "-n", "200"], *beside]
                    .concat();
            let done = home.run(&args).model(&tiny(model)).done();
            let object = done.json();
            let text = object["text"].as_str().unwrap();
            let form = match option {
                "--regex" => Constraint::Regex(form.into()),
                _ => Constraint::JsonSchema(json!({
                    "properties": { "a": { "type": "integer" }, "b": { "enum": ["one", "two"] }, "c": { "type": "boolean" } },
                    "required": ["a", "b", "c"], "additionalProperties": false, "type": "object",
                }).to_string()),
            };
            // Random weights may write digits until the limit.
            let ended = object["stop_reason"] == "end";
            assert_eq!(done.code, Some(if ended { 0 } else { 4 }), "{beside:?}: {done:#?}");
            assert_eq!(matches(&form, text), ended, "{beside:?}: {done:#?}");
            assert!(ended || begins(&form, text), "{beside:?}: {done:#?}");
        }
    }
}

/// Whether a text can become one that matches.
fn begins(constraint: &Constraint, text: &str) -> bool {
    Follower::loosely(constraint).unwrap().push(text)
}

#[test]
fn drafts_change_no_answer_with_a_form() {
    let home = Home::new();
    let text = "[\"one two three\", \"one two three\", \"one two three\", \"one two three\"]";
    let schema =
        r#"{"items": {"enum": ["one two three", "four"]}, "minItems": 5, "maxItems": 9, "type": "array"}"#;
    for model in ["llama-bpe", "gemma3"] {
        let answer = |more: &[&str]| {
            let args =
                [&["-p", text, "-j", schema, "--temp", "0", "--json", "-n", "200", "--think", "off"], more]
                    .concat();
            home.run(&args).model(&tiny(model)).done().code(0).json()
        };
        let (with, without) = (answer(&[]), answer(&["--no-speculative"]));
        assert_eq!(with["text"], without["text"]);
        let drafted = |object: &Value| object["tokens"]["drafted"].as_u64().unwrap();
        // gemma3 does not repeat itself.
        assert!((drafted(&with) > 5 || model == "gemma3") && drafted(&without) == 0, "{with}");
    }
}

#[test]
fn a_model_that_wants_to_end_writes_on() {
    let home = Home::new();
    let path = Parrot::saying(&[]).template(CHATML).write(&home, "silent");
    home.run(&["-p", "Hi", "--temp", "0", "--regex", "abc"]).model(&path).done().code(0).stdout("abc\n");
    let schema = r#"{"type": "array", "items": {"const": 1}, "minItems": 2}"#;
    let done = home.run(&["-p", "Hi", "--temp", "0", "-j", schema, "-n", "50"]).model(&path).done();
    assert!(done.code == Some(4) || done.stdout.trim_end().ends_with(']'), "{done:#?}");
}

#[test]
fn a_beginning_that_cannot_match_is_refused_with_what_can() {
    let home = Home::new();
    let lines = "/begin Sure\nHi\n/begin {\"a\":\n/retry\n/begin {\"b\nHi\n";
    let args = ["--repl-stdin", "--schema", "a int", "--think", "off", "-n", "40"];
    let done = home.run(&args).model(&tiny("llama-bpe")).stdin(lines).done();
    done.says("the answer so far does not match the schema, so it cannot be continued: it begins with '{'\n")
        .says("cannot be continued: after '{\"' comes 'a'\n")
        .says("hint: /begin changes its beginning");
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
    assert_eq!(transcripts::check("docs/scripting.md", "## Structured output", &model, 0.0), 3);
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

const REGEXES: [&str; 4] = [
    r"([A-Z][a-z]{1,20}( [a-z]+){0,9}[.!?] ?){1,5}",
    r"(?i)^(?:[01]?\d|2[0-3]):[0-5]\d(?::[0-5]\d(?:\.\d{1,6})?)?$",
    r"[\p{L}\d_-]+(\.[^\s@&&[^x]]{2,})*@(?P<host>\w+[.]){1,4}[a-z]{2,}",
    r"((a|ab|b{3,}){2,8}c?)*(x{5}|[^\x00-\u{ff}]{0,65536})",
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

/// How many damaged schemas, grammars and expressions there are.
pub(crate) const MUTANTS: usize = 2500;

/// Schemas and grammars in turn, then expressions, each damaged in some places: always the same.
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
        let (random, round) = (&mut self.random, self.round);
        self.round += 1;
        let sources = [&SCHEMAS[..], &GRAMMARS, &REGEXES][if round < 2000 { round % 2 } else { 2 }];
        let mut text = random.pick(sources).to_string();
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
                    let end = (0..=part.len().min(60)).rev().find(|end| part.is_char_boundary(*end));
                    text.insert_str(*random.pick(&places), &part[..end.unwrap_or(0)]);
                }
                _ => {
                    let digits = text.bytes().position(|byte| byte.is_ascii_digit());
                    let at = digits.filter(|_| random.below(2) == 0).unwrap_or(from);
                    let numbers = ["0", "9", "65536", "1000000000", "7.5", "-"];
                    text.insert_str(at, numbers[random.below(numbers.len())]);
                }
            }
        }
        Some(match (round < 2000, round % 2) {
            (true, 0) => Constraint::JsonSchema(text),
            (true, _) => Constraint::Grammar(text),
            (false, _) => Constraint::Regex(text),
        })
    }
}

#[test]
fn damaged_schemas_grammars_and_expressions_are_taken_or_refused() {
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
    assert!((100..2400).contains(&taken), "{taken} were taken");
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
    let counted = json!({ "pattern": "^((ab?){1,1000}){1,1000}$" });
    let named = json!({ "patternProperties": { "^(a?){9999}$": {} } });
    let twice = |i: usize| {
        let next = json!({ "$ref": format!("#/$defs/{}", i + 1) });
        (i.to_string(), json!({ "allOf": [next, next, { "minimum": i }] }))
    };
    let mut both: serde_json::Map<String, Value> = (0..40).map(twice).collect();
    both.insert("40".into(), json!({ "type": ["integer", "string"] }));
    let doubled = json!({ "$ref": "#/$defs/0", "$defs": both });
    let all = json!({ "allOf": (0..20_000).map(|i| json!({ "maxLength": 30_000 - i })).collect::<Vec<_>>() });
    let branches: Vec<Value> =
        (0..3000).map(|i| json!({ "properties": { "x": { "minimum": i } }, "required": ["x"] })).collect();
    let overlapping = json!({ "type": "object", "oneOf": branches });
    let schemas = [
        deep,
        chain(5000),
        patterns.to_string(),
        wide.to_string(),
        counted.to_string(),
        named.to_string(),
        all.to_string(),
        overlapping.to_string(),
    ];
    for schema in schemas {
        let began = &schema[..60.min(schema.len())];
        let refused = check(&Constraint::JsonSchema(schema.clone()));
        assert!(refused.is_err(), "{began}");
    }
    check(&Constraint::JsonSchema(chain(1500))).unwrap();
    check(&Constraint::JsonSchema(doubled.to_string())).unwrap();
    for (names, more) in [(300, true), (800, true), (2000, false)] {
        let all: serde_json::Map<String, Value> =
            (0..names).map(|i| (format!("option_{i}"), json!({ "type": "integer" }))).collect();
        let schema = json!({ "type": "object", "properties": all, "additionalProperties": more });
        let taken = check(&Constraint::JsonSchema(schema.to_string()));
        assert!(taken.is_ok() || names > 300, "{names}: {taken:?}");
    }
    let values: Vec<String> = (0..20_000).map(|i| format!("value number {i}")).collect();
    let constants = Constraint::JsonSchema(json!({ "enum": values }).to_string());
    check(&constants).unwrap();
    assert!(matches(&constants, "\"value number 19999\"") && !matches(&constants, "\"value number 20000\""));
    let doubling: String = (0..40).map(|i| format!("r{i} ::= r{} r{}\n", i + 1, i + 1)).collect();
    let chain: String = (0..50_000).map(|i| format!("r{i} ::= r{}\n", i + 1)).collect();
    let short: String = (0..4000).map(|i| format!("r{i} ::= r{}\n", i + 1)).collect();
    check(&Constraint::Grammar(format!("root ::= r0\n{short}r4000 ::= \"a\"\n"))).unwrap();
    let grammars = [
        format!("root ::= r0\n{doubling}r40 ::= \"a\"\n"),
        format!("root ::= r0\n{chain}r50000 ::= \"a\"\n"),
        format!("root ::= {}\"a\"{}", "(".repeat(5000), ")".repeat(5000)),
        format!("root ::= \"a\"{}", "*".repeat(100_000)),
        "root ::= ((\"a\"{1,1000}){1,1000})".into(),
        "root ::= \"x\" part \"y\" | \"(\" root \")\"\npart ::= (\"a\" \"a\"? ){1,99999}".into(),
    ];
    for grammar in grammars {
        let began = grammar[..40.min(grammar.len())].to_string();
        assert!(check(&Constraint::Grammar(grammar)).is_err(), "{began}");
    }
    let refused = check(&Constraint::Regex("(a{1,1000}){1,1000}".into())).unwrap_err().to_string();
    assert!(refused.contains("its counts multiply each other"), "{refused}");
}

#[test]
fn a_rule_may_begin_with_itself_in_every_way() {
    for (grammar, right, wrong) in [
        ("root ::= root \"a\" | \"a\"", "aaa", "b"),
        ("root ::= x \"b\" | \"a\"\nx ::= root \"c\"", "acbcb", "acb c"),
        ("root ::= empty root \"a\" | \"a\"\nempty ::= \"\" | \" \"", "  aaa", "ab"),
        ("root ::= (root | \"\") \"(\" root? \")\" | \"x\"", "x(x)()", "x("),
    ] {
        let constraint = Constraint::Grammar(grammar.into());
        check(&constraint).unwrap();
        assert!(matches(&constraint, right) && !matches(&constraint, wrong), "{grammar}");
    }
    for endless in ["root ::= root", "root ::= a\na ::= b\nb ::= a", "root ::= \"a\" root", "root ::= []"] {
        let why = check(&Constraint::Grammar(endless.into())).unwrap_err().to_string();
        assert!(why.contains("matches no text"), "{endless}: {why}");
    }
}
