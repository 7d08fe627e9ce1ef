//! Schemas, grammars, expressions and choices that cannot be used, given to the real program: one line, exit code 2, and
//! no model is asked.

use std::time::Duration;

use fireside::chat::Constraint;
use fireside::engine::constraint::check;
use fireside::engine::model::Model;
use fireside::engine::token::Token;
use serde_json::{Value, json};

use crate::constrained::{MUTANTS, Mutants};
use crate::support::engine::{FLOAT_NOISE, Subject};
use crate::support::{Home, tiny};

/// Whoever takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// Asks with these arguments, and expects a refusal that says `part`.
#[track_caller]
fn refused(home: &Home, args: &[&str], part: &str) {
    let ended = home.scripted("no\n", &[&["-p", "Hi"], args].concat()).measured(PATIENCE);
    let short: Vec<String> = args.iter().map(|arg| arg.chars().take(100).collect()).collect();
    assert_eq!((ended.signal, ended.done.code), (None, Some(2)), "{short:?}: {ended:#?}");
    let done = ended.done.failed(2, part);
    let lines: Vec<&str> = done.stderr.lines().collect();
    assert!(lines.len() == 1 || (lines.len() == 2 && lines[1].starts_with("hint: ")), "{done:#?}");
    assert!(lines[0].chars().count() < 600, "{done:#?}");
}

#[test]
fn schemas_that_cannot_be_used_are_refused() {
    let home = Home::new();
    let file = |name: &str, text: String| home.write(name, text).to_str().unwrap().to_string();
    let nested = (0..5000).fold(json!({}).to_string(), |inner, _| format!("{{\"items\":{inner}}}"));
    let combined: Vec<Value> = (0..30).map(|n| json!({ "minimum": n })).collect();
    let files = [
        ("long", format!("{{\"enum\": [\"{}\"]}}", "x".repeat(10 << 20)), "longer than 1 MiB"),
        ("nested", nested, "schema"),
        ("list", format!("{}1{}", "[".repeat(5000), "]".repeat(5000)), "schema"),
        ("doubling", json!({ "allOf": vec![json!({ "anyOf": combined }); 12] }).to_string(), "schema"),
        ("cut", "{\"type\": \"str".into(), "schema"),
        ("empty", " \n".into(), "must not be empty"),
    ];
    for (name, text, part) in files {
        refused(&home, &["-jf", &file(name, text)], part);
    }
    let written = [
        (r##"{"$ref": "#"}"##, "contains itself"),
        (r##"{"$ref": "#/$defs/a", "$defs": {"a": {"allOf": [{"$ref": "#/$defs/a"}]}}}"##, "contains itself"),
        (r##"{"$ref": "#/$defs/a"}"##, "#/$defs/a"),
        (r#"{"type": "string", "minLength": 5, "maxLength": 2}"#, "schema"),
        (r#"{"allOf": [{"type": "string"}, {"type": "null"}]}"#, "schema"),
        (r#"{"enum": []}"#, "/enum"),
        (r#"{"not": {}}"#, "/not"),
        (r#"{"pattern": "("}"#, "schema"),
        (r#"{"type": "#, "JSON"),
    ];
    for (schema, part) in written {
        refused(&home, &["-j", schema], part);
    }
    refused(&home, &["--schema", "age years"], "years");
    refused(&home, &["--schema", ","], "field");
    refused(&home, &["-jf", "none.json"], "none.json");
    home.write("binary.json", [0xff, 0xfe, 0x00]);
    refused(&home, &["-jf", "binary.json"], "binary.json");
}

#[test]
fn grammars_and_expressions_that_cannot_be_used_are_refused() {
    let home = Home::new();
    let doubling: String = (0..40).map(|n| format!("r{n} ::= r{} r{}\n", n + 1, n + 1)).collect();
    let grammars = [
        ("root ::= root \"a\"".to_string(), "'root' matches no text"),
        ("root ::= a\na ::= b \"x\"\nb ::= a".into(), "matches no text"),
        ("root ::= root | root root".into(), "matches no text"),
        ("root ::= []".into(), "matches no text"),
        (format!("root ::= r0\n{doubling}r40 ::= \"a\"\n"), "grammar"),
        (format!("root ::= {}\"a\"{}", "(".repeat(5000), ")".repeat(5000)), "grammar"),
        ("root ::= \"a".into(), "line 1"),
        ("a ::= \"a\"".into(), "root"),
        (" ".into(), "must not be empty"),
    ];
    for (grammar, part) in grammars {
        home.write("bad.gbnf", grammar);
        refused(&home, &["--grammar-file", "bad.gbnf"], part);
    }
    for (regex, part) in
        [("(a", "regular expression"), ("[a&&b]", "regular expression"), ("", "must not be empty")]
    {
        refused(&home, &["--regex", regex], part);
    }
    for choices in ["", "yes,,no", "yes,yes"] {
        refused(&home, &["--choices", choices], "--choices");
    }
}

/// Whether these are refused or taken, nothing grows without end, while a model writes neither.
#[test]
fn what_explodes_elsewhere_ends_here() {
    let home = Home::new();
    let nested = "((a{0,1000}){0,1000}){0,1000}b";
    let schema = json!({ "type": "string", "pattern": nested }).to_string();
    let grammar = "root ::= (((\"a\"{0,1000}){0,1000}){0,1000}){0,1000} \"b\"";
    for args in [
        ["--regex", nested],
        ["--regex", "(a{1,99999}){99999}"],
        ["--regex", "(.*a){20}.{200}b"],
        ["--regex", "(a|b|ab|ba)*(a|ab)*c(.{9}a.{99}|b)*"],
        ["--json-schema", &schema],
        ["--grammar", grammar],
    ] {
        let run = home.run(&["-p", "Hi", "--think", "off", "-n", "20"]).model(&tiny("llama-bpe"));
        let ended = args.iter().fold(run, |run, arg| run.arg(arg)).measured(PATIENCE);
        assert!(matches!(ended.done.code, Some(0 | 2 | 4)), "{args:?}: {ended:#?}");
    }
}

#[test]
fn the_program_takes_or_refuses_what_is_damaged() {
    let home = Home::new();
    let (mut taken, mut slowest) = (0, Duration::ZERO);
    for constraint in Mutants::default().take(MUTANTS).step_by(39) {
        let (option, value) = match &constraint {
            Constraint::JsonSchema(text) => ("--json-schema-file=", home.write("damaged", text)),
            Constraint::Grammar(text) => ("--grammar-file=", home.write("damaged", text)),
            // Arguments end at the first zero.
            Constraint::Regex(text) if text.is_empty() || text.contains('\0') => continue,
            Constraint::Regex(text) => ("--regex=", text.into()),
        };
        let run = home.scripted("yes\n", &["-p", "Hi"]);
        let ended = run.arg(format!("{option}{}", value.display())).measured(PATIENCE);
        assert_eq!(ended.signal, None, "{constraint:?}: {ended:#?}");
        slowest = slowest.max(ended.took);
        match check(&constraint) {
            Ok(_) => _ = ended.done.code(4).stdout("yes\n").says("does not match"),
            Err(_) => _ = ended.done.failed(2, ""),
        }
        taken += usize::from(check(&constraint).is_ok());
    }
    assert!(taken > 5, "{taken} were taken");
    let _ = std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("the slowest took {slowest:?}\n"));
}

/// A logit bias cannot end an answer before it matches.
#[test]
fn an_end_token_cannot_come_while_the_grammar_is_open() {
    let home = Home::new();
    for name in ["llama-bpe", "llama-spm", "gemma3", "qwen35"] {
        let subject = Subject::load(&tiny(name), FLOAT_NOISE);
        let model = subject.model();
        let ends = (0..model.vocabulary().len as Token).filter(|token| model.ends(*token));
        let args = ["-p", "Hi", "--regex", "[a-z]{40}", "--think", "off"];
        let run = home.run(&args).model(&tiny(name));
        let run = ends.fold(run, |run, end| run.arg("--logit-bias").arg(format!("{end}+999")));
        let done = run.done().code(0);
        let text = done.stdout.trim_end_matches('\n');
        assert!(text.len() == 40 && text.bytes().all(|byte| byte.is_ascii_lowercase()), "{name}: {done:#?}");
    }
}
