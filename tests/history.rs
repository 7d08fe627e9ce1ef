//! Saved conversations: resumed, listed, searched, exported, imported, removed; and failures to do so.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use crate::support::pty::*;
use crate::support::{Done, Home, Run, tiny};

pub(crate) const DATABASE: &str = ".local/share/fireside/conversations.db";

pub(crate) fn chat(home: &Home, answers: &str, args: &[&str], lines: &str) -> Done {
    let args: Vec<&str> = ["--repl-stdin", "--keep"].iter().chain(args).copied().collect();
    home.scripted(answers, &args).stdin(lines).done()
}

pub(crate) fn history(home: &Home, args: &[&str]) -> Run {
    let args: Vec<&str> = ["history"].iter().chain(args).copied().collect();
    home.run(&args)
}

pub(crate) fn listed(home: &Home) -> Vec<serde_json::Value> {
    let object = history(home, &["list", "--json"]).done().code(0).json();
    object["conversations"].as_array().unwrap().clone()
}

pub(crate) fn id(home: &Home, number: usize) -> String {
    listed(home)[number]["id"].as_str().unwrap().to_string()
}

#[test]
fn a_chat_is_kept_and_taken_up_again() {
    let home = Home::new();
    chat(&home, "one\ntwo\n", &[], "Hello there\nAnd more\n").code(0).stdout("one\ntwo\n");
    assert_eq!((listed(&home).len(), listed(&home)[0]["title"].clone()), (1, "Hello there".into()));
    let done = chat(&home, "three\n", &["--continue"], "And now?\n/show prompt\n").code(0);
    done.says("Hello there (4 messages)").says("> And more\ntwo\n").says("[user] Hello there");
    assert_eq!(listed(&home)[0]["messages"], 6);
    let done = chat(&home, "four\n", &["--resume", &id(&home, 0)[..5]], "Once more\n").code(0);
    done.says("(6 messages)");
    assert_eq!((listed(&home).len(), listed(&home)[0]["messages"].clone()), (1, 8.into()));
    let shown = history(&home, &["show", &id(&home, 0)]).done().code(0).stdout;
    for text in ["Hello there", "one", "And more", "two", "And now?", "three", "Once more", "four"] {
        assert!(shown.contains(text), "no {text:?} in {shown}");
    }
}

#[test]
fn branches_are_kept_and_the_head_is_where_it_was() {
    let home = Home::new();
    chat(&home, "one\ntwo\nthree\n", &[], "Hi\n/retry\n/undo\nHo\n").code(0);
    let object = history(&home, &["export", &id(&home, 0), "--format", "json"]).done().code(0).json();
    let contents: Vec<&str> =
        object["messages"].as_array().unwrap().iter().map(|m| m["content"].as_str().unwrap()).collect();
    assert_eq!(contents, ["Ho", "three"]);
    assert_eq!(listed(&home)[0]["messages"], 5, "two answers to Hi, Hi itself, Ho and its answer");
}

#[test]
fn what_is_kept_and_what_is_not() {
    let home = Home::new();
    home.scripted("one\n", &["-p", "a"]).done().code(0);
    home.scripted("one\n", &["-p", "a"]).stdin("piped").done().code(0);
    home.scripted("one\n", &["--repl-stdin"]).stdin("Hi\n").done().code(0);
    let incognito = home.scripted("one\n", &["--repl-stdin", "--incognito"]).env("FIRESIDE_KEEP", "on");
    incognito.stdin("Hi\n").done().code(0);
    assert!(!home.path(DATABASE).exists());
    history(&home, &["list"]).done().code(0).stdout("").says("no matching conversations");
    history(&home, &["search", "Hi"]).done().failed(1, "no conversations are saved yet");
    home.scripted("one\n", &["-p", "a", "--keep"]).stdin("piped").done().code(0);
    assert_eq!(listed(&home).len(), 1);
    home.run(&["--continue"]).done().failed(2, "there is no prompt");
    chat(&home, "x\n", &["--continue"], "").code(0).says(": piped a (2 messages)");
}

#[test]
fn a_terminal_keeps_by_itself_and_says_so_once() {
    let home = Home::new();
    let script = home.script("answers", "one\n");
    let mut terminal = home.terminal(&script);
    terminal.sees_wrapped("conversations are saved in").at_prompt().line("Hello").sees("one").at_prompt();
    terminal.keys(CTRL_D).ends();
    drop(terminal);
    assert_eq!(listed(&home)[0]["title"], "Hello");
    let mut terminal = home.terminal(&[&script[0], &script[1], "--continue"]);
    terminal.sees(": Hello").sees("> Hello").at_prompt();
    assert!(!terminal.screen().contains("conversations are saved"));
    terminal.keys(CTRL_D).ends();
    drop(terminal);
    let mut terminal = home.terminal(&[&script[0], &script[1], "--resume"]);
    terminal.sees("Which conversation?").sees("> Hello").sees("2 messages, ").keys(ENTER);
    terminal.sees(": Hello").at_prompt().keys(CTRL_D).ends();
}

#[test]
fn search_finds_words_in_all_messages() {
    let home = Home::new();
    chat(&home, "Because of scattering.\n", &["--title", "Colours"], "Why is the sky blue?\n").code(0);
    chat(&home, "Nobody knows.\n", &[], "Why is grass green?\n").code(0);
    let found = history(&home, &["search", "sky", "blue"]).done().code(0).stdout;
    assert!(found.contains("Colours") && found.contains("user: Why is the sky blue?"), "{found}");
    let object = history(&home, &["search", "scat", "--json"]).done().code(0).json();
    assert_eq!(object["hits"][0]["role"], "assistant");
    history(&home, &["search", "yellow"]).done().code(0).stdout("").says("no message contains");
    assert_eq!(history(&home, &["list", "--since", "1h"]).done().code(0).stdout.lines().count(), 2);
    history(&home, &["list", "--since", "soon"]).done().failed(2, "--since takes");
    history(&home, &["list", "--model", "nosuch"]).done().code(0).stdout("");
}

#[test]
fn out_and_in_again_gives_the_same_and_twice_adds_nothing() {
    let home = Home::new();
    chat(&home, "one\ntwo\n", &[], "Hi\n/retry\n").code(0);
    let file = home.path("talk.json");
    history(&home, &["export", &id(&home, 0), file.to_str().unwrap()]).done().code(0).says("wrote ");
    let other = Home::new();
    let import = || history(&other, &["import", file.to_str().unwrap()]).done().code(0).stdout;
    assert!(import().starts_with("imported 1 conversation"));
    assert!(import().starts_with("imported 0 conversations, 1 already there"));
    assert_eq!(listed(&other)[0]["messages"], 3);
    history(&other, &["import", "/no/such.json"]).done().failed(1, "no such file");
    history(&home, &["--json"])
        .done()
        .failed(2, "history needs one of: list, search, show, export, import, replay, rm");
    history(&home, &["export", "zzzz"]).done().failed(1, "there is no conversation 'zzzz'");
}

#[test]
fn what_is_removed_is_gone_from_the_files() {
    let home = Home::new();
    chat(&home, "xyzzyplugh\n", &[], "Hi\n").code(0);
    let id = id(&home, 0);
    history(&home, &["rm", &id]).done().failed(2, "rm asks for confirmation");
    history(&home, &["rm", &id[..6], "--yes"]).done().code(0).stdout(&format!("removed {}: Hi\n", &id[..8]));
    assert!(listed(&home).is_empty());
    for entry in std::fs::read_dir(home.path(".local/share/fireside")).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        assert!(!bytes.windows(10).any(|w| w == b"xyzzyplugh"), "the text is still there");
    }
}

#[test]
fn commands_of_the_chat() {
    let home = Home::new();
    chat(&home, "one\n", &[], "First\n").code(0);
    let first = id(&home, 0);
    let file: PathBuf = home.path("out.md");
    let lines = format!(
        "Second\n/title A better name\n/history\n/history second\n/export {}\n/fork\nThird\n/resume {}\n/resume zzz\n/title\n",
        file.display(),
        &first[..6]
    );
    let done = chat(&home, "two\nthree\n", &[], &lines).code(0);
    let done = done.says("renamed to: A better name").says("A better name").says("user: Second");
    let done = done.says("wrote ").says("continuing in a new conversation").says(": First (2 messages)");
    done.says("there is no conversation 'zzz'");
    assert!(std::fs::read_to_string(file).unwrap().contains("Second"));
    let mut counts: Vec<i64> = listed(&home).iter().map(|c| c["messages"].as_i64().unwrap()).collect();
    counts.sort();
    assert_eq!(counts, [2, 2, 4], "First; Second; its fork with Third");
}

#[test]
fn a_store_that_cannot_be_used_stops_no_chat() {
    let home = Home::new();
    home.write(".local/share/fireside/conversations.db/inside", "a folder in its place");
    let done = chat(&home, "one\ntwo\n", &[], "Hi\nHo\n").code(0).stdout("one\ntwo\n");
    assert_eq!(done.stderr.matches("this conversation is not being saved").count(), 1, "{done:#?}");
    done.says("could not save this conversation");
}

#[test]
fn a_damaged_store_is_moved_aside() {
    let home = Home::new();
    chat(&home, "one\n", &[], "Hi\n").code(0);
    let file = home.path(DATABASE);
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[..100].fill(7);
    std::fs::write(&file, bytes).unwrap();
    std::fs::remove_file(home.path(&format!("{DATABASE}-wal"))).unwrap(); // else repaired from there
    chat(&home, "one\n", &[], "Again\n").code(0).says("were damaged: recovered 0 messages");
    assert_eq!(listed(&home)[0]["title"], "Again");
    assert!(home.path(&format!("{DATABASE}.damaged-1")).exists());
    chat(&home, "one\n", &[], "Once more\n").code(0);
    history(&home, &["rm", &id(&home, 0), "--yes"])
        .done()
        .code(0)
        .says("conversations.db.damaged-1, an earlier damaged database");
    let mode = std::fs::metadata(&file).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
}

#[test]
fn a_shell_completes_ids_models_values_and_subcommands() {
    let home = Home::new();
    chat(&home, "one\n", &[], "Why is the sky blue?\n").code(0);
    home.write(".local/share/fireside/models/tiny.gguf", std::fs::read(tiny("llama-bpe")).unwrap());
    let id = &id(&home, 0)[..8];
    // As bash's function does: the words, the last of which is completed.
    let offered = |words: &[&str]| {
        let words = [&["--", "fireside"], words].concat();
        let run = home.run(&words).env("FIRESIDE_COMPLETE", "bash");
        let run = run.env("_CLAP_COMPLETE_INDEX", (words.len() - 2).to_string()).env("_CLAP_IFS", "\n");
        run.env("_CLAP_COMPLETE_COMP_TYPE", "9").env("_CLAP_COMPLETE_SPACE", "true").done().code(0).stdout
    };
    assert_eq!(
        offered(&["--resume", ""]).lines().next(),
        Some(id),
        "before the options that may follow as well"
    );
    assert_eq!(offered(&["--resume", &id[..3]]).trim(), id);
    assert_eq!(offered(&["history", "rm", &id[..1]]).trim(), id);
    assert_eq!(offered(&["--overflow", "r"]).trim(), "roll");
    assert_eq!(offered(&["--chat-template", "zep"]).trim(), "zephyr");
    assert!(offered(&["-m", "ti"]).contains("tiny"), "{}", offered(&["-m", "ti"]));
    assert_eq!(offered(&["hist"]).trim(), "history");
    assert!(offered(&["--incog"]).contains("--incognito"));
    for shell in ["bash", "zsh", "fish"] {
        let script = home.run(&["completions", shell]).done().code(0).stdout;
        assert!(script.contains("FIRESIDE_COMPLETE") && !script.contains("/release/"), "{script}");
    }
    home.run(&["completions", "dos"]).done().failed(2, "cannot complete for the shell 'dos'").hint("bash");
}

#[test]
fn a_conversation_is_chosen_from_a_list_in_the_chat() {
    let home = Home::new();
    chat(&home, "one\n", &[], "First\n").code(0);
    chat(&home, "two\n", &[], "Second\n").code(0);
    let done = chat(&home, "three\n", &[], "/resume\n9th\n2\nThird\n").code(0);
    done.says("there is no conversation '9th'").says(": First (2 messages)");
    assert_eq!(
        (listed(&home)[0]["title"].as_str(), listed(&home)[0]["messages"].as_u64()),
        (Some("First"), Some(4))
    );
    chat(&home, "x\n", &[], "/resume\n\n").code(0); // an empty line changes nothing
    let script = home.script("answers", "four\n");
    let mut terminal = home.terminal(&script);
    terminal.at_prompt().line("/resume").sees("> First").sees("  Second").sees("  two").keys(DOWN);
    terminal.keys(ENTER).sees(": Second").at_prompt().line("Fourth").sees("four").at_prompt();
    terminal.keys(CTRL_D).ends();
    drop(terminal);
    assert_eq!(listed(&home)[0]["title"], "Second");
}

/// The number of kills, or the seed of their moments, from `FIRESIDE_KILLS` or `FIRESIDE_KILL_SEED`.
fn number_from(variable: &str, usual: u64) -> u64 {
    std::env::var(variable).ok().and_then(|number| number.parse().ok()).unwrap_or(usual)
}

/// Typing, retrying, editing and titling when the program is killed: every message whose answer had begun is
/// saved.
#[test]
#[allow(clippy::print_stdout)] // the count is a result
fn killed_at_two_hundred_random_instants_no_message_is_lost() {
    let (kills, seed) = (number_from("FIRESIDE_KILLS", 200), number_from("FIRESIDE_KILL_SEED", 7));
    let each = |worker: u64| {
        let home = Home::new();
        let mut state = seed.wrapping_add(worker * 7919);
        let mut random = move |below: u64| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) % below
        };
        let mut expected: Vec<String> = Vec::new();
        for kill in 0..kills / 4 {
            let said: Vec<String> = (0..6).map(|turn| format!("question-{worker}-{kill}-{turn}")).collect();
            let typed: String = said
                .iter()
                .map(|text| format!("{text}\n/title {text}\n/retry\n/undo\n{text} again\n/fork\n"))
                .collect();
            let script = (0..6).map(|n| format!("answer{n} \\pgoes on\n")).collect::<String>();
            let mut running = home.scripted(&script, &["--repl-stdin", "--keep"]).stdin(typed).start();
            std::thread::sleep(std::time::Duration::from_micros(random(400_000)));
            let shown = running.killed();
            // The n-th answer belongs to the n-th request: sent, retried, sent again.
            let begun = shown.matches("answer").count();
            let asked = said.iter().flat_map(|text| [text.clone(), text.clone(), format!("{text} again")]);
            expected.extend(asked.take(begun));
        }
        let listed = listed(&home);
        let ids = listed.iter().map(|one| one["id"].as_str().unwrap().to_string());
        let all: String = ids
            .map(|id| history(&home, &["export", &id, "--format", "json"]).done().code(0).stdout)
            .collect();
        for text in &expected {
            assert!(all.contains(&format!("\"{text}\"")), "seed {seed}, worker {worker}: {text:?} is lost");
        }
        expected.len()
    };
    let found: usize = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..4).map(|worker| scope.spawn(move || each(worker))).collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).sum()
    });
    assert!(found as u64 > kills / 4, "they were killed too early to tell");
}

#[test]
fn killed_at_any_instant_no_message_is_lost() {
    let home = Home::new();
    let answer = format!("{}end\n", "\\pword ".repeat(100));
    for pause in [0, 40, 80, 120, 200, 300, 400, 1400] {
        let mut running =
            home.scripted(&answer, &["--repl-stdin", "--keep"]).stdin(format!("Question {pause}\n")).start();
        running.stdout.wait_for("word"); // the first word appears once the question is on the disk
        std::thread::sleep(std::time::Duration::from_millis(pause));
        running.kill();
        let shown = history(&home, &["show", &id(&home, 0)]).done().code(0).stdout;
        assert!(shown.contains(&format!("Question {pause}")), "{shown}");
        assert!(pause < 1200 || shown.contains("word word"), "older than a second, so it is kept: {shown}");
    }
    assert_eq!(listed(&home).len(), 8);
}

#[test]
fn words_that_came_before_a_stall_are_on_the_disk_within_a_second() {
    let home = Home::new();
    let answer = format!("one \\ptwo \\pthree \\pfour {}end\n", "\\p".repeat(200));
    let mut running = home.scripted(&answer, &["--repl-stdin", "--keep"]).stdin("Count\n").start();
    running.stdout.wait_for("four ");
    std::thread::sleep(std::time::Duration::from_millis(1100));
    running.killed();
    let shown = history(&home, &["show", &id(&home, 0)]).done().code(0).stdout;
    assert!(shown.contains("one two three four"), "{shown}");
}

#[test]
fn doctor_tells_what_is_kept_and_what_is_wrong() {
    let home = Home::new();
    home.run(&["doctor"]).done().code(0).stderr("");
    chat(&home, "one\n", &[], "Hi\n").code(0);
    let object = home.run(&["doctor", "--json"]).done().code(0).json();
    assert_eq!(object["sound"], true);
    let found = |what: &str| object["findings"][what]["found"].as_str().unwrap().to_string();
    assert!(found("conversations").starts_with("1 with 2 messages"), "{object}");
    assert!(found("prompt cache").contains("in 0 files"), "{object}");
    let file = home.path(DATABASE);
    let _ = std::fs::remove_file(home.path(&format!("{DATABASE}-wal"))); // may be in the file already
    std::fs::write(&file, "no database at all, but long enough to be taken for one ".repeat(40)).unwrap();
    let done = home.run(&["doctor"]).done().code(1);
    assert!(done.stdout.contains("problem: the database is damaged"), "{done:#?}");
}

#[test]
fn a_conversation_goes_on_with_its_own_model() {
    let home = Home::new();
    let (one, other) = (home.write("one.gguf", std::fs::read(tiny("llama-bpe")).unwrap()), tiny("llama-spm"));
    let run = |model: Option<&std::path::Path>, args: &[&str], typed: &str| {
        let args = [&["--repl-stdin", "--keep", "-n", "2"], args].concat();
        let run = home.run(&args);
        model.map_or_else(|| home.run(&args), |model| run.model(model)).stdin(typed).done().code(0)
    };
    run(Some(&one), &[], "First\n");
    let first = id(&home, 0);
    run(Some(&other), &[], "Second\n");
    run(None, &["--resume", &first[..6]], "/show model\n").says("one.gguf");
    run(Some(&other), &["--resume", &first[..6]], "/show model\n").says("llama-spm.gguf");
    let second = listed(&home).into_iter().find(|one| one["title"] == "Second").unwrap();
    let second = second["id"].as_str().unwrap();
    let typed = format!("/resume {}\n/resume {}\n/show model\n", &second[..6], &first[..6]);
    run(None, &["--continue"], &typed)
        .says("using one, the model of this conversation")
        .says("file         ")
        .says("one.gguf");
    std::fs::remove_file(&one).unwrap();
    run(None, &["--resume", &first[..6]], "").says("which is no longer here");
    run(None, &["--resume", &second[..6]], &format!("/resume {}\n", &first[..6]))
        .says("continuing with llama-spm");
}

#[test]
fn what_models_have_read_goes_with_a_conversation() {
    let home = Home::new();
    chat(&home, "one\n", &[], "Hi\n").code(0);
    let cached = home.write(".cache/fireside/prompts/one.state", "what a model has read");
    history(&home, &["rm", &id(&home, 0)[..6], "--yes"]).done().code(0);
    assert!(!cached.exists());
}

#[test]
fn a_search_shows_the_latest_and_says_that_there_are_more() {
    let home = Home::new();
    chat(&home, "fine\n", &[], "sky one\nsky two\nsky three\n").code(0);
    let done = history(&home, &["search", "sky", "--limit", "2"]).done().code(0).says("more than 2");
    assert!(done.stdout.contains("sky three") && !done.stdout.contains("user: sky one"), "{done:#?}");
    let object = history(&home, &["search", "sky", "--limit", "0", "--json"]).done().code(0).json();
    assert_eq!((object["hits"].as_array().unwrap().len(), object["more"].as_bool()), (3, Some(false)));
}
