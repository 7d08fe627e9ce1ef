//! `fireside history replay`: a stored answer given again, and where it differs if it does.

use crate::support::{Done, Home, default_model, tiny};

fn chat(home: &Home, model: &std::path::Path, args: &[&str], typed: &str) -> Done {
    let args = [&["--repl-stdin", "--keep", "-n", "12"], args].concat();
    home.run(&args).model(model).stdin(typed).done().code(0)
}

fn replay(home: &Home, args: &[&str]) -> Done {
    let listed = home.run(&["history", "list", "--json"]).done().json();
    let id = listed["conversations"][0]["id"].as_str().unwrap().to_string();
    home.run(&[&["history", "replay", &id[..8]], args].concat()).done()
}

#[test]
fn answers_are_given_again_at_their_settings() {
    let home = Home::new();
    let model = tiny("llama-bpe");
    let args = ["--temp", "0.9", "--top-k", "30", "--system-prompt", "Be kind.", "--stop", "zzz"];
    chat(&home, &model, &args, "Tell me about the weather\nAnd the road?\n/more\n");
    let done = replay(&home, &[]).code(0);
    assert_eq!(done.stdout.matches(" is identical").count(), 2, "{done:#?}");
    assert!(done.stdout.contains("temp 0.9") && done.stdout.contains("seed "), "{done:#?}");
    // Whatever is set now does not matter.
    let now = replay(&home, &["2", "--json", "--temp", "0"]).code(0).json();
    let settings = &now["answers"][0]["settings"];
    assert_eq!((now["identical"].as_bool(), settings["temp"].as_str()), (Some(true), Some("0.9")));
    replay(&home, &["9"]).failed(2, "has no answer 9");
}

#[test]
fn a_difference_is_shown_and_another_model_refused() {
    let home = Home::new();
    let model = home.write("model.gguf", std::fs::read(tiny("llama-bpe")).unwrap());
    chat(&home, &model, &["--temp", "0"], "Tell me about the weather\n");
    let store = rusqlite::Connection::open(home.path(".local/share/fireside/conversations.db")).unwrap();
    store.execute("update message set text = 'Rain' where role = 'assistant'", []).unwrap();
    drop(store);
    let done = replay(&home, &[]).code(1);
    assert!(done.stdout.contains("differs from character 0") && done.stdout.contains(" | Rain"), "{done:#?}");
    std::fs::write(&model, std::fs::read(tiny("llama-spm")).unwrap()).unwrap();
    let done = replay(&home, &[]).code(1);
    assert!(done.stdout.contains("is another model now"), "{done:#?}");
    std::fs::remove_file(&model).unwrap();
    let done = replay(&home, &[]).code(1);
    assert!(
        done.stdout.contains("which cannot be used") && done.stdout.contains("-m says where it is now"),
        "{done:#?}"
    );
}

#[test]
fn what_the_model_no_longer_saw_is_left_out_again() {
    let home = Home::new();
    let line = "Tell me about the weather in the village, the old mill and the long road to it.\n";
    let args = ["-c", "256", "--temp", "0", "--overflow", "roll"];
    chat(&home, &tiny("llama-bpe"), &args, &line.repeat(6));
    let done = replay(&home, &[]).code(0);
    assert_eq!(done.stdout.matches(" is identical").count(), 6, "{done:#?}");
}

#[test]
fn the_default_model_gives_its_answer_again() {
    let Some(model) = default_model() else { return };
    let home = Home::new();
    chat(&home, &model, &["--seed", "7"], "Name three primary colours.\n");
    let done = replay(&home, &[]).code(0);
    assert!(done.stdout.contains("answer 1 is identical"), "{done:#?}");
}
