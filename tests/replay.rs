//! `fireside history replay`: generates stored answers again, with the same settings and without caches.

use std::path::Path;

use serde_json::Value;

use crate::support::mutate::{Document, Random};
use crate::support::{Done, Home, cannot_run, default_model, tiny};

const SET: &[&str] = &["--temp", "0", "--top-k", "20", "--stop", "zz", "--stop", "a, b", "-n", "24"];

fn chat(home: &Home, model: &Path, args: &[&str], lines: &str) {
    let args: Vec<&str> = ["--repl-stdin", "--keep"].iter().chain(args).copied().collect();
    home.run(&args).model(model).stdin(lines).done().code(0);
}

fn id(home: &Home) -> String {
    let object = home.run(&["history", "list", "--json"]).done().code(0).json();
    object["conversations"][0]["id"].as_str().unwrap().to_string()
}

fn replay(home: &Home, args: &[&str]) -> Done {
    let id = id(home);
    let args: Vec<&str> = ["history", "replay", &id[..6]].iter().chain(args).copied().collect();
    home.run(&args).done()
}

fn identical(done: Done, answers: usize) -> Value {
    let object = done.code(0).json();
    let all = object["answers"].as_array().unwrap().clone();
    assert_eq!(all.len(), answers);
    assert!(all.iter().all(|answer| answer["identical"] == true && answer["error"].is_null()), "{object}");
    object
}

#[test]
fn answers_are_given_again_as_they_were() {
    let home = Home::new();
    let talk = "One\n/set top-k 10\n/system Be brief.\nTwo\n/retry\n/more\nThree\n";
    chat(&home, &tiny("llama-bpe"), SET, talk);
    let object = identical(replay(&home, &["--json"]), 3);
    let settings = &object["answers"][0]["settings"];
    assert_eq!((&settings["top-k"], &settings["stop"][1]), (&"20".into(), &"a, b".into()));
    assert_eq!(object["answers"][1]["settings"]["top-k"], "10");
    let done = replay(&home, &["2"]).code(0);
    assert!(done.stdout.starts_with("answer 2 is identical\n"), "{}", done.stdout);
    assert_eq!(done.stdout.matches("identical").count(), 1);
    replay(&home, &["4"]).failed(2, "has no answer 4").hint("it has 3 answers");
}

#[test]
fn what_the_model_no_longer_saw_is_left_out_again() {
    let home = Home::new();
    let line = "Tell me about the weather in the village, the old mill and the long road to it.\n";
    chat(
        &home,
        &tiny("llama-bpe"),
        &["-c", "256", "--temp", "0", "--overflow", "roll", "-n", "12"],
        &line.repeat(6),
    );
    identical(replay(&home, &["--json", "--temp", "1"]), 6); // the current settings do not matter
}

/// A single question is evaluated in one go, as by replay, so rounding cannot change a token.
#[test]
fn the_seed_is_known_where_nobody_gave_one() {
    let home = Home::new();
    let args = ["-p", "One", "--keep", "--temp", "1.5", "--top-k", "20", "-n", "24"];
    home.run(&args).model(&tiny("llama-bpe")).done().code(0);
    identical(replay(&home, &["--json"]), 1);
}

#[test]
fn every_kind_of_memory_gives_the_same_again() {
    for name in ["llama-spm", "gemma3", "mamba", "base"] {
        let home = Home::new();
        chat(&home, &tiny(name), &["--temp", "0", "-n", "24"], "One\nTwo\n");
        identical(replay(&home, &["--json"]), 2);
    }
}

/// A conversation stored by a build with other names for some settings.
#[test]
fn settings_under_former_names_replay_and_export_under_the_present_ones() {
    let home = Home::new();
    chat(&home, &tiny("llama-bpe"), &["--temp", "0", "-n", "24", "--no-speculative"], "One\n");
    let (file, exported) = (home.path("talk.json"), home.path("again.json"));
    home.run(&["history", "export", &id(&home), file.to_str().unwrap()]).done().code(0);
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.contains("\"no-speculative\""), "{text}");
    let former = text.replace("\"no-speculative\"", "\"no-guess\"").replace(&id(&home), "00112233445566aa");
    std::fs::write(&file, former).unwrap();
    home.run(&["history", "import", file.to_str().unwrap()]).done().code(0);
    identical(home.run(&["history", "replay", "00112233445566aa", "--json"]).done(), 1);
    home.run(&["history", "export", "00112233445566aa", exported.to_str().unwrap()]).done().code(0);
    let exported = std::fs::read_to_string(&exported).unwrap();
    assert!(exported.contains("\"no-speculative\"") && !exported.contains("no-guess"), "{exported}");
}

#[test]
fn a_difference_is_shown_where_it_begins() {
    let home = Home::new();
    chat(&home, &tiny("llama-bpe"), &["--temp", "0", "-n", "24"], "One\n");
    let file = home.path("talk.json");
    home.run(&["history", "export", &id(&home), file.to_str().unwrap()]).done().code(0);
    let mut object: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    let answer = &mut object["tree"]["entries"][1]["parts"][0];
    let text = answer["text"].as_str().unwrap().to_string();
    let byte = text.char_indices().nth(3).unwrap().0;
    answer["text"] = format!("{}\u{1F525}", &text[..byte]).into();
    std::fs::write(&file, object.to_string().replace(&id(&home), "00112233445566aa")).unwrap();
    home.run(&["history", "import", file.to_str().unwrap()]).done().code(0);
    let done = home.run(&["history", "replay", "00112233445566aa", "--json"]).done().code(1).json();
    let difference = &done["answers"][0]["difference"];
    assert_eq!((&difference["byte"], &difference["character"]), (&byte.into(), &3.into()), "{done}");
    let done = home.run(&["history", "replay", "00112233445566aa"]).done().code(1).stdout;
    assert!(done.starts_with("answer 1 differs at character 3 (byte "), "{done}");
    assert!(done.contains("  then: ") && done.contains("\u{1F525}") && done.contains("  now:  "), "{done}");
}

#[test]
fn what_cannot_be_given_again_says_why() {
    let home = Home::new();
    let model = home.write("models/mine.gguf", std::fs::read(tiny("llama-bpe")).unwrap());
    chat(&home, &model, &["-n", "24"], "One\n");
    let moved = home.path("elsewhere.gguf");
    std::fs::rename(&model, &moved).unwrap();
    let done = replay(&home, &[]).code(1);
    assert!(done.stdout.contains("cannot replay answer 1: it was given by"), "{}", done.stdout);
    assert!(done.stdout.contains("-m says where it is now"), "{}", done.stdout);
    replay(&home, &["-m", moved.to_str().unwrap()]).code(0);
    std::fs::copy(tiny("gemma3"), &model).unwrap();
    let done = replay(&home, &[]).code(1).stdout;
    assert!(done.contains("is another model now"), "{done}");
    let talk =
        home.write("talk.json", r#"[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]"#);
    home.run(&["history", "import", talk.to_str().unwrap()]).done().code(0);
    let done = replay(&home, &["--json"]).code(1).json();
    assert!(done["answers"][0]["identical"].is_null(), "{done}");
}

/// A part of a model in several files is edited, only in its weights, and its modification time set back.
#[test]
fn a_model_that_was_written_to_since_is_not_taken_for_the_one_that_answered() {
    let home = Home::new();
    let mut document = Document::read(&std::fs::read(tiny("llama-bpe")).unwrap());
    let (first, mut second) = document.split_in_two(&mut Random::new(1));
    let model = home.write("m-00001-of-00002.gguf", &first);
    let part = home.write("m-00002-of-00002.gguf", &second);
    let args = ["-p", "Hi", "--json", "-n", "1", "--temp", "0"];
    let fingerprint = || {
        home.run(&args).model(&model).done().code(0).json()["model"]["fingerprint"].as_str().map(String::from)
    };
    let before = fingerprint();
    chat(&home, &model, &["--temp", "0", "-n", "24"], "One\n");
    identical(replay(&home, &["--json"]), 1);
    let modified = std::fs::metadata(&part).unwrap().modified().unwrap();
    let end = second.len();
    second[end - 64..].iter_mut().step_by(4).for_each(|byte| *byte ^= 1); // the lowest bits of some weights
    std::fs::write(&part, &second).unwrap();
    let change = std::fs::OpenOptions::new().write(true).open(&part).unwrap();
    change.set_modified(modified).unwrap();
    let done = replay(&home, &[]).code(1).stdout;
    assert!(done.contains("cannot replay answer 1: "), "{done}");
    assert!(done.contains("has changed since") || done.contains("is another model now"), "{done}");
    assert_ne!(fingerprint(), before, "every part counts");
}

/// A file elsewhere may differ: it is used if the user names it, with a notice.
#[test]
fn a_copy_gives_answers_again_if_it_is_named() {
    let home = Home::new();
    let model = home.write("models/mine.gguf", std::fs::read(tiny("llama-bpe")).unwrap());
    chat(&home, &model, &["--temp", "0", "-n", "24"], "One\n");
    let copy = home.path("copy.gguf");
    std::fs::copy(&model, &copy).unwrap();
    let object = identical(replay(&home, &["--json", "-m", copy.to_str().unwrap()]), 1);
    assert_eq!(object["answers"][0]["same_file"], false, "{object}");
    assert_eq!(identical(replay(&home, &["--json"]), 1)["answers"][0]["same_file"], true);
    let done = replay(&home, &["-m", copy.to_str().unwrap()]).code(0).stdout;
    assert!(done.contains("the model file is not the original"), "{done}");
    std::fs::remove_file(&model).unwrap();
    std::fs::copy(&copy, &model).unwrap();
    let done = replay(&home, &[]).code(1).stdout;
    assert!(done.contains("has changed since") && done.contains("hint: -m"), "{done}");
}

#[test]
fn the_default_model_answers_the_same_again() {
    let Some(model) = default_model() else {
        return cannot_run("the default model is not here");
    };
    let home = Home::new();
    home.run(&["-p", "Name a colour.", "--keep", "--temp", "0.8", "-n", "24"]).model(&model).done().code(0);
    identical(replay(&home, &["--json"]), 1);
}
