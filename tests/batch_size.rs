//! The batch size: chosen from the first long prefill, kept per model and machine, and recorded with answers.

use serde_json::Value;

use crate::support::{Home, tiny};

const STATE: &str = ".local/state/fireside/models.json";

/// The batch size of an answer to a prompt of so many words.
fn used(home: &Home, words: usize, args: &[&str]) -> u64 {
    let prompt = "word ".repeat(words);
    let args: Vec<&str> = ["--raw", "--json", "-n", "1", "-p", &prompt].iter().chain(args).copied().collect();
    let object = home.run(&args).model(&tiny("llama-bpe")).done().code(0).json();
    object["model"]["batch_size"].as_u64().unwrap()
}

fn state(home: &Home) -> Value {
    serde_json::from_str(&std::fs::read_to_string(home.path(STATE)).unwrap()).unwrap()
}

/// The size that is kept of the only model.
fn chosen(state: &mut Value) -> &mut Value {
    &mut state["files"].as_object_mut().unwrap().values_mut().next().unwrap()["batch_size"]
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
    chosen(&mut other)[1] = 128.into();
    home.write(STATE, other.to_string());
    assert_eq!(used(&home, 600, &[]), 128);
    assert_eq!(chosen(&mut state(&home))[1], 128, "it is chosen once");
    assert_eq!(used(&home, 20, &["--batch-size", "256"]), 256);
    assert_eq!(used(&home, 20, &["--threads", "2"]), 512, "other threads, another speed");
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
