//! `--json`: one object for every outcome.

use serde_json::{Value, json};

use crate::support::{Home, tiny};

/// The object from a run with the tiny chat model, after a check of the exit code.
fn object(args: &[&str], code: i32) -> Value {
    let run = Home::new().run(args).arg("--json").model(&tiny("llama-bpe"));
    run.done().code(code).json()
}

fn keys(object: &Value) -> Vec<&str> {
    object.as_object().unwrap().keys().map(String::as_str).collect()
}

const KEYS: &[&str] = &[
    "text",
    "thinking",
    "stop_reason",
    "conversation",
    "tokens",
    "timings",
    "speed",
    "seed",
    "model",
    "sampling",
    "error",
];

#[test]
fn an_answer_has_every_field() {
    let object =
        object(&["-p", "Hi", "-n", "4", "--seed", "7", "--temp", "0.5", "--samplers", "top_k;temp"], 0);
    assert_eq!(keys(&object), KEYS);
    assert_eq!(object["stop_reason"], "length");
    assert_eq!(object["thinking"], Value::Null);
    assert_eq!(object["error"], Value::Null);
    assert_eq!(object["seed"], 7);
    assert_eq!((&object["tokens"]["cached"], &object["tokens"]["generated"]), (&json!(0), &json!(4)));
    assert_eq!(keys(&object["timings"]), ["load", "prompt", "first_token", "generation", "total"]);
    assert_eq!(object["model"]["name"], "llama-bpe");
    assert_eq!(object["model"]["fingerprint"].as_str().unwrap().len(), 32);
    assert_eq!(
        (&object["model"]["batch_size"], &object["model"]["flash_attn"]),
        (&json!(512), &json!("auto"))
    );
    assert!(object["model"]["device"].as_str().unwrap().ends_with("CPU, 1 thread"), "{object}");
    assert_eq!(object["sampling"]["temp"], 0.5);
    assert_eq!(object["sampling"]["samplers"], "top_k;temperature");
    let seconds = |name: &str| object["timings"][name].as_f64().unwrap();
    assert!(seconds("first_token") > 0.0 && seconds("first_token") <= seconds("total"), "{object}");
    assert!(object["speed"]["prompt"].as_f64().unwrap() > 0.0);
}

#[test]
fn the_text_is_what_the_plain_run_prints() {
    let args = ["-p", "Hi", "-n", "30", "--temp", "0"];
    let plain = Home::new().run(&args).model(&tiny("llama-bpe")).done().code(0);
    assert_eq!(object(&args, 0)["text"].as_str().unwrap(), plain.stdout.strip_suffix('\n').unwrap());
}

#[test]
fn the_prompt_counts_template_and_control_tokens() {
    let raw = object(&["--raw", "-p", "Hi", "-n", "0"], 0)["tokens"]["prompt"].as_u64().unwrap();
    let chat = object(&["-p", "Hi", "-n", "0"], 0)["tokens"]["prompt"].as_u64().unwrap();
    assert!(chat > raw + 3, "{chat} against {raw}");
}

#[test]
fn nothing_written_has_no_speed_and_no_first_token() {
    let object = object(&["-p", "Hi", "-n", "0"], 0);
    assert_eq!(object["speed"]["generation"], Value::Null);
    assert_eq!(object["timings"]["first_token"], Value::Null);
    assert_eq!(object["text"], "");
}

#[test]
fn a_prompt_too_long_is_an_object_with_the_reason() {
    let object = object(&["-p", &"word ".repeat(60), "-c", "32"], 3);
    assert_eq!(keys(&object), KEYS);
    assert_eq!(object["stop_reason"], "error");
    assert!(object["error"]["message"].as_str().unwrap().contains("and the context holds 32"), "{object}");
    assert!(object["error"]["hint"].is_string());
}

#[test]
fn a_full_context_is_a_stop_reason_and_no_error() {
    let object = object(&["-p", "Hi", "-c", "32", "--temp", "0"], 4);
    assert_eq!((&object["stop_reason"], &object["error"]), (&json!("context"), &Value::Null));
}

#[test]
fn a_stop_string_is_a_stop_reason() {
    // Token 220 is a space; no other token can be sampled.
    let object = object(&["-p", "Hi", "--temp", "0", "--logit-bias", "220+999", "--stop", "   "], 0);
    assert_eq!((&object["stop_reason"], &object["text"]), (&json!("stop"), &json!("")));
}

#[test]
fn a_missing_model_is_an_object_without_a_model() {
    let run = Home::new().run(&["-p", "Hi", "--json", "-m", "nosuch"]);
    let done = run.done().code(1).says("fireside: there is no model 'nosuch'");
    let object = done.json();
    assert_eq!(keys(&object), KEYS);
    assert_eq!((&object["model"], &object["stop_reason"]), (&Value::Null, &json!("error")));
    assert_eq!(object["error"]["message"], "there is no model 'nosuch'");
}

#[test]
fn a_model_that_cannot_be_loaded_is_an_object_that_names_it() {
    let run = Home::new().run(&["-p", "Hi", "--json"]).model(&tiny("aborts"));
    let object = run.done().code(1).json();
    assert_eq!(object["model"]["name"], "aborts");
    assert!(object["error"]["message"].as_str().unwrap().contains("llama.cpp"), "{object}");
}

#[test]
fn nothing_piped_in_is_an_object_and_wrong_usage() {
    let done = Home::new().run(&["--json"]).stdin("").model(&tiny("llama-bpe")).done().code(2);
    assert_eq!(done.json()["error"]["message"], "there is no prompt");
}

#[test]
fn stdin_that_is_no_text_is_an_object() {
    let done =
        Home::new().run(&["--json"]).stdin(b"ab\xff".to_vec()).model(&tiny("llama-bpe")).done().code(1);
    assert!(done.json()["error"]["message"].as_str().unwrap().contains("offset 2"));
}

#[test]
fn a_wrong_value_of_a_setting_is_an_object() {
    let home = Home::new();
    let done = home.run(&["--json", "-p", "a", "--temp", "x"]).done().code(2);
    let object = done.json();
    assert_eq!(keys(&object), KEYS);
    let message = object["error"]["message"].as_str().unwrap();
    assert!(message.starts_with("--temp ") && done.stderr.contains(message), "{done:#?}");
    let done = home.run(&["--json-stream", "-p", "a", "-jf", "none.json"]).done().code(2);
    assert!(done.stdout.lines().last().unwrap().starts_with(r#"{"event":"end""#), "{done:#?}");
    home.run(&["list", "--json", "--temp", "x"]).done().failed(2, "--temp");
}

#[test]
fn a_command_line_that_makes_no_sense_is_no_object() {
    let home = Home::new();
    home.run(&["--json", "-p", "a", "--tmep", "x"]).done().failed(2, "--tmep");
    home.run(&["--json", "-p", "a", "--dry-run"]).done().failed(2, "--dry-run");
}

#[test]
fn an_interrupted_answer_keeps_what_was_written() {
    let script = format!("one two {}three\n", "\\p".repeat(2000));
    let mut running = Home::new().scripted(&script, &["-p", "Hi", "--json", "-v"]).start();
    running.stderr.wait_for("llama.cpp:"); // signals are watched from before this line
    running.interrupt();
    let done = running.done().code(130);
    let object = done.json();
    assert_eq!(object["stop_reason"], "interrupted");
    assert!("one two ".starts_with(object["text"].as_str().unwrap()), "{object}");
}

#[test]
fn a_failure_of_the_backend_is_an_object() {
    let done = Home::new().scripted("!the fire went out\n", &["-p", "Hi", "--json"]).done().code(1);
    assert_eq!(done.json()["error"]["message"], "the fire went out");
    done.says("fireside: the fire went out");
}
