//! What is chosen by measurement, kept per model and machine, and recorded with answers: the batch size, from
//! the first long prefill, and the attention, before the first load.

use serde_json::Value;

use crate::support::{Home, cannot_run, default_model, tiny};

const STATE: &str = ".local/state/fireside/models.json";

/// What is said of the model with an answer to a prompt of so many words.
fn model(home: &Home, words: usize, args: &[&str]) -> Value {
    let prompt = "word ".repeat(words);
    let args: Vec<&str> = ["--raw", "--json", "-n", "1", "-p", &prompt].iter().chain(args).copied().collect();
    home.run(&args).model(&tiny("llama-bpe")).done().code(0).json()["model"].take()
}

fn used(home: &Home, words: usize, args: &[&str]) -> u64 {
    model(home, words, args)["batch_size"].as_u64().unwrap()
}

fn state(home: &Home) -> Value {
    serde_json::from_str(&std::fs::read_to_string(home.path(STATE)).unwrap()).unwrap()
}

/// What is kept of the only model.
fn kept(state: &mut Value) -> &mut Value {
    state["files"].as_object_mut().unwrap().values_mut().next().unwrap()
}

fn chosen(state: &mut Value) -> &mut Value {
    &mut kept(state)["batch_size"]
}

/// Writes down whether flash attention is the better way.
fn flash_is(home: &Home, better: bool) {
    let mut other = state(home);
    kept(&mut other)["flash_is_better"][1] = better.into();
    home.write(STATE, other.to_string());
}

#[test]
fn the_first_long_prefill_decides() {
    let home = Home::new();
    assert_eq!(used(&home, 20, &[]), 512);
    assert_eq!(*chosen(&mut state(&home)), Value::Null, "a short prompt fills no batch");
    assert_eq!(used(&home, 600, &[]), 512);
    let size = chosen(&mut state(&home))[1].as_u64().unwrap(); // 512, unless the machine is busy
    assert!(size.is_power_of_two() && (64..=512).contains(&size), "{size}");
    let mut other = state(&home);
    chosen(&mut other)[1] = 64.into();
    home.write(STATE, other.to_string());
    assert_eq!(used(&home, 600, &[]), 64);
    let larger = chosen(&mut state(&home))[1].as_u64().unwrap();
    assert!(
        larger > 64,
        "{larger}: this model is fast enough for more than 64 tokens, however busy the machine"
    );
    chosen(&mut other)[1] = 1024.into();
    home.write(STATE, other.to_string());
    assert_eq!(used(&home, 1200, &[]), 1024);
    assert_eq!(chosen(&mut state(&home))[1], 1024, "it never shrinks");
    assert_eq!(used(&home, 20, &["--batch-size", "256"]), 256);
    assert_eq!(used(&home, 20, &["--threads", "2"]), 512, "other threads, another speed");
}

#[test]
fn what_was_learnt_with_another_part_on_the_gpu_does_not_count() {
    let Some(path) = default_model() else { return cannot_run("the default model is not here") };
    let home = Home::new();
    // With a pretended GPU of so many MiB, which plans use.
    let used = |mib: &str, words: usize| {
        let prompt = "word ".repeat(words);
        let args = ["--raw", "--json", "--flash-attn", "on", "-n", "1", "-p", &prompt];
        let run = home.run(&args).model(&path);
        let done = run.env("FIRESIDE_TEST_GPUS", mib).done().code(0).json();
        done["model"]["batch_size"].as_u64().unwrap()
    };
    let choose_64 = || {
        let mut other = state(&home);
        chosen(&mut other)[1] = 64.into();
        home.write(STATE, other.to_string());
    };
    assert_eq!(used("4000", 600), 512);
    choose_64();
    assert_eq!(used("4000", 20), 64, "as before");
    assert_eq!(used("200", 600), 512, "another program has taken its memory");
    let under = chosen(&mut state(&home)).take();
    assert!(under[0].as_str().unwrap().contains("on GPUs part"), "{under}");
    assert_eq!(under[1], 512, "weights are copied: no batch is smaller, however busy the machine");
    choose_64();
    assert_eq!(used("1", 20), 512, "it has taken all of it");
}

#[test]
fn sizes_are_powers_of_two() {
    let home = Home::new();
    for wrong in ["100", "32", "8192", "many"] {
        let done = home.run(&["--batch-size", wrong, "-p", "Hi"]).model(&tiny("llama-bpe")).done();
        done.failed(2, "must be a power of two from 64 to 4096, or auto");
    }
}

#[test]
fn a_replay_takes_the_batch_size_of_its_time() {
    let home = Home::new();
    let model = tiny("llama-bpe");
    home.run(&["--keep", "-p", &"word ".repeat(600), "-n", "4", "--temp", "0"]).model(&model).done().code(0);
    let mut other = state(&home);
    chosen(&mut other)[1] = 64.into();
    home.write(STATE, other.to_string());
    let conversations = home.run(&["history", "list", "--json"]).done().code(0).json();
    let id = conversations["conversations"][0]["id"].as_str().unwrap();
    let replayed = home.run(&["history", "replay", id, "--json"]).done().code(0).json();
    let answer = &replayed["answers"][0];
    assert_eq!((&answer["settings"]["batch-size"], &answer["identical"]), (&"512".into(), &true.into()));
}

#[test]
fn attention_is_measured_at_the_first_use() {
    let home = Home::new();
    let used = |args: &[&str]| model(&home, 20, args)["flash_attn"].as_str().unwrap().to_string();
    assert_eq!(used(&["--flash-attn", "on"]), "on");
    assert_eq!(kept(&mut state(&home))["flash_is_better"], Value::Null, "the user has chosen");
    assert_eq!(used(&["--seed", "1"]), "auto");
    assert_eq!(kept(&mut state(&home))["flash_is_better"], Value::Null, "no measurement decides on it");
    let first = used(&[]);
    let better = kept(&mut state(&home))["flash_is_better"][1].as_bool().unwrap();
    assert_eq!(first, if better { "auto" } else { "off" });
    flash_is(&home, false);
    assert_eq!(used(&[]), "off");
    assert_eq!(kept(&mut state(&home))["flash_is_better"][1], false, "it is measured once");
    let before = state(&home);
    assert_eq!(used(&["--incognito"]), "off", "what is known counts");
    used(&["--incognito", "--threads", "2"]);
    assert_eq!(state(&home), before, "but nothing is kept");
    assert_eq!(used(&["--flash-attn", "on"]), "on");
    used(&["--threads", "2"]);
    assert!(kept(&mut state(&home))["flash_is_better"][0].as_str().unwrap().contains("threads: 2"));
}

#[test]
fn a_replay_computes_attention_as_then() {
    let home = Home::new();
    let model = tiny("llama-bpe");
    let ask =
        || home.run(&["--keep", "-p", "word word", "-n", "4", "--temp", "0"]).model(&model).done().code(0);
    ask();
    flash_is(&home, true);
    ask();
    flash_is(&home, false);
    ask();
    let conversations = home.run(&["history", "list", "--json"]).done().code(0).json();
    let mut used = Vec::new();
    let mut attention = |number: usize| {
        let id = conversations["conversations"][number]["id"].as_str().unwrap();
        let replayed = home.run(&["history", "replay", id, "--json", "-v"]).done().code(0);
        let line = replayed.stderr.lines().find(|line| line.starts_with("llama_context: flash_attn "));
        used.push(line.unwrap().rsplit(' ').next().unwrap().to_string());
        let mut replayed = replayed.json();
        let mut answer = replayed["answers"][0].take();
        assert_eq!(answer["identical"], true);
        answer["settings"]["flash-attn"].take()
    };
    assert_eq!((attention(0), attention(1)), ("off".into(), "auto".into()));
    assert_eq!(used, ["disabled", "auto"], "whatever was measured since");
}
