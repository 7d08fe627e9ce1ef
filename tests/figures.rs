//! Numbers as people read them: counts, sizes, durations, speeds.

use crate::history::{chat, id};
use crate::screen::with_models;
use crate::support::pty::*;
use crate::support::{Home, default_model, tiny};

#[test]
fn one_is_one_and_nothing_takes_no_time() {
    let home = Home::new();
    let file = home.write("one.json", r#"[{"role": "user", "content": "Only a question"}]"#);
    let done = home.run(&["history", "import", file.to_str().unwrap()]).done().code(0);
    done.stdout("imported 1 conversation, 0 already there, 0 skipped\n");
    let listed = home.run(&["history", "list"]).done().code(0).stdout;
    assert!(listed.contains(" 1 message ") && !listed.contains("messages"), "{listed}");
    home.run(&["doctor"]).done().code(0).stdout_has("1 with 1 message,");
    let done = chat(&home, "one\n", &["--resume", &id(&home, 0)], "/context\n/file one.json\n").code(0);
    let done = done.says("(1 message)").says("3 of 1000 tokens (0 %), 1 message, 0 tokens in the KV cache");
    done.says("less than 1 s to prefill");
}

#[test]
fn one_token_has_no_speed() {
    let home = Home::new();
    let one = chat(&home, "Yes\n", &[], "Is it?\n/stats\n").code(0).says("1 token, ");
    let speeds: Vec<&str> = one.stderr.lines().filter(|line| line.contains("tokens/s")).collect();
    assert!(speeds.iter().all(|line| line.starts_with("prefill ")), "{speeds:?}");
    chat(&home, "Yes it is\n", &[], "Is it?\n").code(0).says("3 tokens, ").says(" tokens/s");
    let speed = |answer: &str| {
        let object = home.scripted(answer, &["--json", "-p", "Is it?"]).done().code(0).json();
        object["speed"]["generation"].clone()
    };
    assert!(speed("Yes\n").is_null() && speed("Yes it is\n").is_number());
}

#[test]
fn a_file_has_one_size() {
    let home = with_models();
    let model = home.path(".local/share/fireside/models/llama-bpe-a-little-longer-Q4_K_M.gguf");
    let bytes = std::fs::metadata(&model).unwrap().len();
    let size = fireside::units::size(bytes);
    for args in [&["list"][..], &["show", model.to_str().unwrap()], &["check", model.to_str().unwrap()]] {
        home.run(args).done().code(0).stdout_has(&size);
    }
    home.run(&["--repl-stdin", "--incognito"]).model(&model).done().code(0).says(&size);
    let said = format!("Remove llama-bpe-a-little-longer-Q4_K_M ({})? That frees {size}.", model.display());
    let mut terminal = home.terminal_as(
        &Setup { columns: 300, ..Setup::default() },
        &["rm", "llama-bpe-a-little-longer-Q4_K_M"],
    );
    terminal.sees(&said).line("n").ends();
}

#[test]
fn check_says_what_it_found_in_the_weights() {
    let home = Home::new();
    let done = home.run(&["check", tiny("llama-bpe").to_str().unwrap()]).done().code(0);
    done.stdout_has("no NaN or infinity");
}

#[test]
fn a_benchmark_shows_its_steps_and_claims_no_more_than_the_memory_gives() {
    let home = Home::new();
    let model = tiny("llama-bpe");
    let mut terminal = home.terminal(&["bench", model.to_str().unwrap()]);
    assert_eq!(terminal.ends(), 0);
    let bytes = String::from_utf8_lossy(&terminal.bytes()).into_owned();
    for step in ["1 of 3: depth 32", "2 of 3: depth 512", "3 of 3: depth 2048"] {
        assert!(bytes.contains(step), "{step}: {bytes}");
    }
    assert!(terminal.screen().contains("fits in cache"), "{}", terminal.screen());
    drop(terminal);
    let Some(model) = default_model() else { return };
    let told = home.run(&["bench", model.to_str().unwrap(), "-c", "200", "--json"]).done().code(0).json();
    let share = &told["runs"][0]["bandwidth_share"];
    assert!(share.is_null() || (0.0..=1.0).contains(&share.as_f64().unwrap()), "{told}");
}
