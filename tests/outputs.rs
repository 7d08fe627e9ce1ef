//! The shapes of one answer's output, from the default model.

use serde_json::{Value, json};

use crate::support::{Done, Home, default_model};

/// The default model's answer at temperature 0; `None` if the model is not there.
fn ask(home: &Home, args: &[&str]) -> Option<Done> {
    let fixed = ["--temp", "0", "--seed", "1", "--no-prompt-cache", "--no-speculative"];
    Some(home.run(&[args, &fixed].concat()).model(&default_model()?).done())
}

fn bytes(tokens: &[&Value]) -> Vec<u8> {
    let bytes = tokens.iter().flat_map(|token| token["bytes"].as_array().unwrap());
    bytes.map(|byte| byte.as_u64().unwrap() as u8).collect()
}

#[test]
fn a_stream_tells_each_token_before_its_text() {
    let home = Home::new();
    // A story is longer on any processor.
    let args = ["-p", "Tell me a long story about the sea.", "-n", "12", "--json-stream", "--logprobs", "2"];
    let Some(done) = ask(&home, &args) else { return };
    let done = done.code(0);
    let events: Vec<Value> = done.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let (mut told, mut text) = (Vec::new(), String::new());
    for event in &events[1..events.len() - 2] {
        match event["event"].as_str().unwrap() {
            "token" => told.push(event),
            "text" => text.push_str(event["text"].as_str().unwrap()),
            other => panic!("{other} in the middle: {done:#?}"),
        }
        let bytes = bytes(&told);
        assert!(String::from_utf8_lossy(&bytes).starts_with(&text), "text comes after its tokens: {done:#?}");
    }
    let [start, .., stats, end] = &events[..] else { panic!("{done:#?}") };
    assert_eq!([&start["event"], &stats["event"], &end["event"]], ["start", "stats", "end"]);
    assert_eq!((&end["text"], end["stop_reason"].as_str()), (&json!(text), Some("length")));
    assert_eq!((told.len(), &stats["tokens"]["generated"]), (12, &json!(12)));
    for token in told {
        let others = token["others"].as_array().unwrap();
        let logprob = |token: &Value| token["logprob"].as_f64().unwrap();
        // At temperature 0 nothing is likelier than what was chosen.
        assert!(others.len() == 2 && logprob(&others[0]) <= logprob(token), "{token}");
        assert!(logprob(&others[1]) <= logprob(&others[0]) && logprob(token) <= 0.0, "{token}");
        assert_eq!(token["after_samplers"], json!({ "logprob": 0.0, "others": [] }), "{token}");
    }
}

#[test]
fn code_is_the_block_that_the_whole_answer_has() {
    let home = Home::new();
    let question = ["-p", "Write hello world in Python, in a code block.", "-n", "100"];
    let Some(whole) = ask(&home, &question) else { return };
    let whole = whole.code(0).stdout;
    let (_, rest) = whole.split_once("```python\n").expect("the model writes a block");
    let (block, _) = rest.split_once("```").expect("the block ends");
    let code = ask(&home, &[&question[..], &["--code=python"]].concat()).unwrap();
    code.code(0).stdout(block);
    let none = ask(&home, &[&question[..], &["--code=rust"]].concat()).unwrap().code(5).stdout("");
    none.says("the answer has no rust code block").says(block);
}

#[test]
fn a_file_gets_what_stdout_would() {
    let home = Home::new();
    let question = ["-p", "Name a fruit.", "-n", "12"];
    let Some(whole) = ask(&home, &question) else { return };
    let done = ask(&home, &[&question[..], &["--output", "a.txt"]].concat()).unwrap();
    done.code(0).stdout("");
    assert_eq!(std::fs::read_to_string(home.path("a.txt")).unwrap(), whole.code(0).stdout);
    ask(&home, &[&question[..], &["--output", "a.txt"]].concat()).unwrap().failed(1, "a.txt already exists");
}

#[test]
fn several_objects_come_as_a_list() {
    let home = Home::new();
    let fields = "name, age int, mood happy|sad: how they feel";
    // At temperature 0 there is dog after dog.
    let args = ["-p", "Invent a dog.", "--schema-multi", fields, "--temp", "0.7", "--seed", "1"];
    let Some(model) = default_model() else { return };
    let done = home.run(&args).model(&model).done().code(0);
    let object: Value = serde_json::from_str(&done.stdout).unwrap();
    assert_eq!(object.as_object().unwrap().keys().collect::<Vec<_>>(), ["items"]);
    let dogs = object["items"].as_array().unwrap();
    assert!(!dogs.is_empty(), "{object}");
    for dog in dogs {
        assert_eq!(dog.as_object().unwrap().keys().collect::<Vec<_>>(), ["name", "age", "mood"]);
        assert!(dog["name"].is_string() && dog["age"].is_i64(), "{dog}");
        assert!(["happy", "sad"].contains(&dog["mood"].as_str().unwrap()), "{dog}");
    }
}
