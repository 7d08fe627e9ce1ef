//! The shapes of one answer's output: code blocks, files, events, choices; and what contradicts them.

use serde_json::{Value, json};

use crate::support::server::{End, FakeServer, Reply, done, event, text};
use crate::support::{Done, Home, repository, tiny};

const CODE: &str = "Here:\\n```sh\\nls -l\\n```\\nThen:\\n~~~ py\\nprint()\\n~~~\\n";

fn coded(args: &[&str]) -> Done {
    Home::new().scripted(CODE, &[&["-p", "Hi"], args].concat()).done()
}

/// The lines of a stream; consecutive pieces of text may come together.
fn events(done: &Done) -> Vec<Value> {
    done.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The kinds of the events, consecutive ones once.
fn kinds(events: &[Value]) -> Vec<&str> {
    let mut kinds: Vec<&str> = events.iter().map(|event| event["event"].as_str().unwrap()).collect();
    kinds.dedup();
    kinds
}

/// The text of all events of a kind.
fn joined(events: &[Value], kind: &str) -> String {
    events
        .iter()
        .filter(|event| event["event"] == kind)
        .map(|event| event["text"].as_str().unwrap())
        .collect()
}

#[test]
fn code_is_the_first_block_and_nothing_else() {
    coded(&["--code"]).code(0).stdout("ls -l\n").stderr("");
    coded(&["--code=py"]).code(0).stdout("print()\n").stderr("");
    coded(&["--code=PY"]).code(0).stdout("print()\n");
}

#[test]
fn without_such_a_block_the_answer_is_on_stderr() {
    let none = coded(&["--code=rust", "-q"]).code(5).stdout("");
    assert!(none.stderr.starts_with("Here:\n```sh\nls -l\n"), "{none:#?}");
    none.says("fireside: the answer has no rust code block: it is above\n");
    let home = Home::new();
    let none = home.scripted("Just words.\n", &["-p", "Hi", "--code"]).done().failed(5, "no code block");
    none.says("Just words.\n");
}

#[test]
fn the_model_stops_after_the_block() {
    let script = format!("```\\nls\\n```\\n {}never\n", "\\p".repeat(2000)); // more than a minute and a half
    let stopped = Home::new().scripted(&script, &["-p", "Hi", "--code"]).done();
    stopped.code(0).stdout("ls\n").stderr("");
}

#[test]
fn a_block_that_is_cut_off_is_printed_and_the_exit_code_says_so() {
    // Token 220 is a space; no other token can be sampled.
    let home = Home::new();
    let cut = ["-p", "Hi", "-c", "64", "--temp", "0", "--logit-bias", "220+999"];
    home.run(&cut).arg("--code").model(&tiny("llama-bpe")).done().code(4).stdout("");
    home.scripted("```\\nls -l -a\n", &["-p", "Hi", "--code", "-n", "1"]).done().code(0).stdout("ls ");
}

#[test]
fn a_file_is_written_whole_and_stdout_stays_empty() {
    let home = Home::new();
    let ask = |more: &[&str]| home.scripted("One\\nanswer.\n", &[&["-p", "Hi"], more].concat()).done();
    ask(&["--output", "a.txt"]).code(0).stdout("").stderr("");
    let read = |name: &str| std::fs::read_to_string(home.path(name)).unwrap();
    assert_eq!(read("a.txt"), "One\nanswer.\n");
    ask(&["--output", "a.txt"]).failed(1, "a.txt already exists").hint("--force replaces it");
    ask(&["--output", "a.txt", "--force", "--json"]).code(0).stdout("");
    let object: Value = serde_json::from_str(&read("a.txt")).unwrap();
    assert_eq!(object["text"], "One\nanswer.");
    ask(&["--output", "~/b.txt", "--json-stream"]).code(0).stdout("");
    assert_eq!(read("b.txt").lines().count(), 4);
    ask(&["--output", "none/c.txt"]).failed(1, "could not write none/c.txt: its folder does not exist");
    ask(&["--output", "."]).failed(1, "could not write .: it is a folder");
    ask(&["--output", "-"]).code(0).stdout("One\nanswer.\n");
    assert_eq!(
        std::fs::read_dir(home.path(""))
            .unwrap()
            .filter(|entry| { entry.as_ref().unwrap().file_name().to_string_lossy().starts_with(".tmp") })
            .count(),
        0,
        "nothing temporary is left"
    );
}

#[test]
fn an_answer_that_is_not_whole_is_shown_and_not_written() {
    let home = Home::new();
    let full = ["-p", "Hi", "-c", "64", "--temp", "0", "--output", "a.txt"];
    let plain = home.run(&full[..6]).model(&tiny("llama-bpe")).done().code(4).stdout;
    let done = home.run(&full).model(&tiny("llama-bpe")).done().code(4).stdout("");
    let printed = done.stderr.split("a.txt was not written: the answer is above\n").next().unwrap();
    assert_eq!(printed, plain);
    done.says("cut off: the context is full");
    home.scripted("!the fire went out\n", &["-p", "Hi", "--output", "a.txt"])
        .done()
        .failed(1, "the fire went out");
    home.scripted("words\n", &["-p", "Hi", "--output", "a.txt", "--code"]).done().failed(5, "no code block");
    assert!(!home.path("a.txt").exists());
}

#[test]
fn a_stream_begins_at_once_and_ends_with_the_whole() {
    let home = Home::new();
    let script = "<think>Hm.</think>Two words\n";
    let ask = |shape: &str| home.scripted(script, &["-p", "Hi", shape, "--seed", "3"]).done().code(0);
    let stream = ask("--json-stream");
    let events = events(&stream);
    assert_eq!(kinds(&events), ["start", "thinking", "text", "stats", "end"], "{stream:#?}");
    assert_eq!((&events[0]["seed"], &events[0]["model"]["name"]), (&json!(3), &json!("script")));
    assert_eq!(events[0]["sampling"]["temp"], 0.8);
    let texts = ["thinking", "text"].map(|kind| joined(&events, kind));
    assert_eq!(texts, ["Hm.", "Two words"]);
    let [.., stats, end] = &events[..] else { unreachable!() };
    let mut end = end.as_object().unwrap().clone();
    assert_eq!(end.shift_remove("event").unwrap(), "end");
    let object = ask("--json").json();
    let keys = |object: &serde_json::Map<String, Value>| object.keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&end), keys(object.as_object().unwrap()));
    assert_eq!((&end["text"], &end["thinking"]), (&object["text"], &object["thinking"]));
    for part in ["tokens", "timings", "speed"] {
        assert_eq!(stats[part], end[part]);
    }
}

#[test]
fn a_stream_of_a_failure_ends_too() {
    let home = Home::new();
    let failed = home.scripted("!the fire went out\n", &["-p", "Hi", "--json-stream"]).done().code(1);
    let lines = events(&failed);
    assert_eq!(kinds(&lines), ["start", "error", "stats", "end"]);
    assert_eq!(lines[1]["message"], "the fire went out");
    assert_eq!(lines[3]["error"]["message"], "the fire went out");
    failed.says("fireside: the fire went out\n");
    let missing = home.run(&["-p", "Hi", "--json-stream", "-m", "nosuch"]).done().code(1);
    assert_eq!(kinds(&events(&missing)), ["error", "stats", "end"]);
}

#[test]
fn a_choice_is_an_answer() {
    let home = Home::new();
    let ask = |more: &[&str]| home.run(&[&["-p", "Is it?"], more].concat()).model(&tiny("llama-bpe")).done();
    let object = ask(&["--choices", "yes,no, unsure", "--json"]).code(0).json();
    let choices = object["choices"].as_array().unwrap();
    let texts: Vec<&str> = choices.iter().map(|choice| choice["text"].as_str().unwrap()).collect();
    assert_eq!(texts, ["yes", "no", "unsure"]);
    let of = |field: &str| choices.iter().map(|choice| choice[field].as_f64().unwrap()).collect::<Vec<f64>>();
    assert!((of("probability").iter().sum::<f64>() - 1.0).abs() < 1e-9, "{object}");
    let most = of("logprob").into_iter().fold(f64::NEG_INFINITY, f64::max);
    let best = of("logprob").iter().position(|logprob| *logprob == most).unwrap();
    assert_eq!((&object["stop_reason"], &object["text"]), (&json!("choice"), &json!(texts[best])));
    let said = format!("{}\n", texts[best]);
    ask(&["--choices", "yes,no,unsure"]).code(0).stdout(&said).stderr("");
    ask(&["--choices=yes", "--choices", "no", "--choices", "unsure", "--exit-choice"])
        .code(10 + best as i32)
        .stdout(&said);
    let sampled =
        ask(&["--choices", "yes,no,unsure", "--temp", "5", "--top-k", "0", "-n", "1", "--stop", "u"]);
    sampled.code(0).stdout(&said);
    let stream = ask(&["--choices", "yes,no,unsure", "--json-stream"]).code(0);
    let lines = events(&stream);
    assert_eq!(kinds(&lines), ["start", "text", "stats", "end"]);
    assert_eq!(lines[3]["choices"], object["choices"]);
    ask(&["--choices", "yes,no,unsure", "--output", "c.txt", "--exit-choice"])
        .code(10 + best as i32)
        .stdout("");
    assert_eq!(std::fs::read_to_string(home.path("c.txt")).unwrap(), said);
}

#[test]
fn a_choice_with_a_comma_is_given_by_itself() {
    let choices = ["--choices", "yes, it is", "--choices", "no", "--json"];
    let object = Home::new().run(&["-p", "Is it?"]);
    let object = choices.iter().fold(object, |run, arg| run.arg(arg)).model(&tiny("llama-bpe")).done().json();
    assert_eq!(object["choices"][0]["text"], "yes, it is");
}

#[test]
fn a_schema_in_the_config_file_plays_no_part_in_a_choice() {
    let home = Home::new();
    home.write(".config/fireside/config.toml", "schema = \"a int\"\n");
    let run = home.run(&["-p", "Is it?", "--choices", "yes,no", "-q"]).model(&tiny("llama-bpe"));
    let done = run.done().code(0).stderr("");
    assert!(["yes\n", "no\n"].contains(&done.stdout.as_str()), "{done:#?}");
}

#[test]
fn a_choice_cannot_be_replayed() {
    let home = Home::new();
    let args = ["-p", "Is it?", "--choices", "yes,no", "--keep", "-q"];
    home.run(&args).model(&tiny("llama-bpe")).done().code(0);
    let replay = home.run(&["history", "replay", &crate::history::id(&home, 0)]).done();
    assert!(
        replay.stdout.contains("chosen among given answers")
            || replay.stderr.contains("chosen among given answers"),
        "{replay:#?}"
    );
}

#[test]
fn what_makes_no_sense_is_refused() {
    let home = Home::new();
    let many = (0..101).map(|n| n.to_string()).collect::<Vec<_>>().join(",");
    let refused: [(&[&str], &str); 24] = [
        (&["--choices", "yes,,no"], "--choices: one of the choices is empty"),
        (&["--choices", ""], "--choices: one of the choices is empty"),
        (&["--choices", "a,b,a"], "--choices: 'a' is there twice"),
        (&["--choices", "a", "--choices", "a"], "--choices: 'a' is there twice"),
        (&["--choices", &many], "--choices: 101 choices, and at most 100 are possible"),
        (&["--choices", "a,b", "--think", "on"], "--choices and --think on exclude each other"),
        (&["--choices", "a,b", "--schema", "a"], "--choices and --schema exclude each other"),
        (&["--regex", "a", "--choices", "a,b"], "--choices and --regex exclude each other"),
        (&["--choices", "a,b", "--code"], "--code and --choices exclude each other"),
        (&["--choices", "a,b", "--json", "--logprobs", "1"], "--choices and --logprobs exclude each other"),
        (&["--exit-choice"], "--exit-choice requires --choices"),
        (&["--logprobs", "3"], "--logprobs requires --json or --json-stream"),
        (&["--logprobs", "21", "--json"], "21 is not in 0..=20"),
        (&["--logprobs", "x", "--json"], "invalid digit"),
        (&["--logprobs", "-1", "--json"], "-1 is not in 0..=20"),
        (&["--code", "--schema", "a"], "--code needs a code block in the answer, but a schema demands JSON"),
        (&["--json", "--json-stream"], "--json-stream and --json exclude each other"),
        (&["--json", "--code"], "--code and --json exclude each other"),
        (&["--json-stream", "--code"], "--code and --json-stream exclude each other"),
        (&["--force"], "--force requires --output"),
        (&["--output", "x", "-i"], "--output and --interactive exclude each other"),
        (&["--json-stream", "--dry-run"], "--json-stream and --dry-run exclude each other"),
        (&["--output", ""], "a value is required"),
        (&["list", "--output", "x"], "--output"),
    ];
    for (args, why) in refused {
        let done = home.scripted("no\n", &[&["-p", "Hi"], args].concat()).done();
        assert!(args[0] == "list" || done.stderr.contains(why), "{args:?}: {done:#?}");
        done.code(2).stdout("");
    }
    home.scripted("no\n", &["--output", "x", "list"])
        .done()
        .failed(2, "--output does not go with a subcommand");
}

#[test]
fn a_server_cannot_choose_and_must_tell_probabilities_if_asked() {
    let home = Home::new();
    let ask = |server: &FakeServer, args: &[&str]| {
        home.run(&[&["--server", &server.url, "-p", "Hi"], args].concat()).done()
    };
    let server = FakeServer::new(|_| None);
    ask(&server, &["--choices", "a,b"]).failed(2, "tells no probabilities of given texts");
    ask(&server, &["--logprobs", "1", "--json"])
        .code(1)
        .says("does not tell the probabilities of its tokens");
    assert!(server.questions().len() == 1, "choices are not even asked for");
    let body = server.questions()[0].json();
    assert_eq!((&body["logprobs"], &body["top_logprobs"]), (&json!(true), &json!(2)));
    let told =
        |token: &str, logprob: f64| json!({ "token": token, "logprob": logprob, "bytes": token.as_bytes() });
    let mut first = told("Hello", -0.5);
    first["top_logprobs"] = json!([told("Hello", -0.5), told("Hi", -1.5), told("Ho", -3.0)]);
    let chunk =
        json!({ "choices": [{ "delta": { "content": "Hello" }, "logprobs": { "content": [first] } }] });
    let server = FakeServer::answering(vec![Reply::stream(event(&chunk) + &done(3, 1)).then(End::Close)]);
    let object = ask(&server, &["--logprobs", "1", "--json"]).code(0).json();
    let expected = json!([{
        "token": null, "text": "Hello", "bytes": [72, 101, 108, 108, 111], "logprob": -0.5,
        "others": [{ "token": null, "text": "Hi", "bytes": [72, 105], "logprob": -1.5 }],
        "after_samplers": null,
    }]);
    assert_eq!(object["logprobs"], expected);
    let stops = Reply::stream(event(&chunk) + &text(" there") + &done(3, 2));
    let server = FakeServer::answering(vec![stops]);
    ask(&server, &["--logprobs", "1", "--json"]).code(1).says("does not tell the probabilities");
}

/// A transcript of docs/scripting.md, as it runs.
fn is_in_docs(command: &str, output: &str) {
    let page = std::fs::read_to_string(repository().join("docs/scripting.md")).unwrap();
    let transcript = format!("$ {command}\n{output}");
    assert!(page.contains(&transcript), "docs/scripting.md should have:\n{transcript}");
}

#[test]
fn the_transcripts_of_the_docs_are_what_happens() {
    let home = Home::new();
    let script = "Use ls:\\n\\n```sh\\nls -la\\n```\\n\\nIt lists all files.\n";
    let ask = |args: &[&str]| home.scripted(script, args).done();
    let code = ask(&["-p", "List all files", "--code=sh"]).code(0);
    is_in_docs("fireside -p \"List all files\" --code=sh", &code.stdout);
    let none = ask(&["-p", "List all files", "--code=py"]).code(5);
    is_in_docs("fireside -p \"List all files\" --code=py", &none.stderr);
    ask(&["-p", "List all files", "--output", "files.md"]).code(0).stdout("").stderr("");
    let exists = ask(&["-p", "List all files", "--output", "files.md"]).code(1);
    is_in_docs("fireside -p \"List all files\" --output files.md", &exists.stderr);
    let stream =
        home.scripted("<think>Easy.</think>It is 4.\n", &["-p", "2+2?", "--json-stream"]).done().code(0);
    let lines = events(&stream);
    let page = std::fs::read_to_string(repository().join("docs/scripting.md")).unwrap();
    let shown = page.split("$ fireside -p \"2+2?\" --json-stream\n").nth(1).expect("it has a stream");
    let shown: Vec<Value> = shown
        .split("```")
        .next()
        .unwrap()
        .lines()
        .map(|line| {
            serde_json::from_str(&line.replace("{…}", "null").replace(",…}", "}").replace("…", "0")).unwrap()
        })
        .collect();
    assert_eq!(kinds(&shown), kinds(&lines));
    for shown in &shown {
        let line = lines.iter().find(|line| line["event"] == shown["event"]).unwrap();
        let keys = |of: &Value| of.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        assert!(keys(line).starts_with(&keys(shown)), "{shown} {line}");
        let kind = shown["event"].as_str().unwrap();
        assert!(!["text", "thinking"].contains(&kind) || shown["text"] == joined(&lines, kind), "{shown}");
    }
}

#[test]
fn every_option_of_the_shape_is_known_to_what_refuses_it() {
    use clap::{Args as _, Command, FromArgMatches};
    let command = fireside::cli::Output::augment_args(Command::new("fireside"));
    let options: Vec<_> = command.get_arguments().map(|arg| (arg.get_long(), arg.get_action())).collect();
    let given = |args: &[&str]| {
        let matches = command.clone().try_get_matches_from([&["fireside"][..], args].concat()).unwrap();
        fireside::cli::Output::from_arg_matches(&matches).unwrap().given()
    };
    assert_eq!(given(&[]), None);
    assert!(options.len() > 5, "{options:?}");
    for (name, action) in &options {
        let option = format!("--{}", name.unwrap());
        let written = if action.takes_values() { format!("{option}=1") } else { option.clone() };
        assert_eq!(given(&[&written]), Some(option.as_str()), "Output::given knows every option");
    }
}
