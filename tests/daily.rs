//! Bugs from daily use that fit no other file: commands that lost something, said too little, or mistook a
//! word for another.

use std::os::unix::fs::PermissionsExt;

use crate::history::{chat, history, id};
use crate::support::{Done, Home, tiny};

const ANSWERS: &str = "One.\nTwo.\nThree.\nFour.\nFive.\n";

fn said(home: &Home, lines: &str) -> Done {
    home.scripted(ANSWERS, &["--repl-stdin"]).stdin(lines).done().code(0)
}

/// A run whose editor runs this command on the file "$1".
fn with_editor(home: &Home, command: &str, lines: &str) -> Done {
    let path = home.write("editor.sh", command);
    let run = home.scripted(ANSWERS, &["--repl-stdin"]).env("EDITOR", format!("sh '{}'", path.display()));
    run.stdin(lines).done().code(0)
}

#[test]
fn undo_brings_back_what_an_edit_left_behind() {
    let home = Home::new();
    let change = "printf changed > \"$1\"";
    let done = with_editor(
        &home,
        change,
        "a\nb\nc\n/edit 1\n/show prompt\n/undo\n/show prompt\n/redo\n/show prompt\n",
    );
    let done = done.says("removed 4 later messages from the conversation; /undo restores them");
    let all = "[user] a\n[assistant] One.\n[user] b\n[assistant] Two.\n[user] c\n";
    assert_eq!(done.stderr.matches(all).count(), 1, "{done:#?}");
    assert_eq!(done.stderr.matches("[user] changed\n").count(), 2, "{done:#?}");
    // After the last message there is nothing to remove.
    assert!(!with_editor(&home, change, "a\n/edit\n").stderr.contains("later message"));
}

#[test]
fn an_editor_that_leaves_nothing_changes_nothing() {
    let done = with_editor(&Home::new(), ": > \"$1\"", "a\n/edit\n/show prompt\n");
    done.says("nothing changed").says("[user] a\n").stdout("One.\n");
}

#[test]
fn files_of_a_message_that_is_taken_back_are_attached_again() {
    let home = Home::new();
    home.write("a.txt", "text");
    let done = said(&home, "/file a.txt\nask\n/undo\n/file\n/redo\n/file\n/undo\n/clear\n");
    let done = done.says("removed: ask (reattached a.txt)").says("  1       1 token   a.txt\n");
    done.says("no files are attached").says("started a new conversation; detached a.txt");
}

#[test]
fn a_resumed_message_shows_its_files() {
    let home = Home::new();
    home.write("a.txt", "text");
    chat(&home, "One.\n", &[], "/file a.txt\nask\n").code(0);
    chat(&home, "x\n", &["--continue"], "").code(0).says("> [a.txt] ask");
}

#[test]
fn exports_want_a_name_and_something_to_write() {
    let home = Home::new();
    said(&home, "/export x.md\n").says("the conversation is empty");
    let done = said(&home, "a\n/export --force\n/export x.md --force\n");
    done.says("/export needs a file name").says("to x.md as Markdown");
    assert!(!home.path("--force").exists());
}

#[test]
fn a_fork_keeps_its_figures_and_one_mark() {
    let done = said(&Home::new(), "a\n/title T\n/fork\n/stats\n/fork\n/title\n");
    done.says("answer ").says("\nT (fork)\n");
}

#[test]
fn paths_in_single_quotes_are_paths_and_two_are_two() {
    let home = Home::new();
    home.write("d/a b.txt", "text");
    home.write("d/c.txt", "text");
    said(&home, "/file 'd/a b.txt'\n").says("attached d/a b.txt to");
    said(&home, "/file d/c.txt d/c.txt\n").says("no such file").says("attach one file at a time");
}

#[test]
fn a_slash_alone_and_help_on_nothing_say_what_there_is() {
    let done = said(&Home::new(), "/\n/help bogus\n");
    assert!(!done.stderr.contains("/??"), "{done:#?}");
    assert_eq!(
        done.stderr.matches("put a space before it").count(),
        1,
        "only of what may be a message; {done:#?}"
    );
    done.says("/help lists the commands");
}

#[test]
fn ranges_name_what_else_is_taken() {
    let home = Home::new();
    home.run(&["--seed", "-2", "-p", "x"]).done().failed(2, "or -1");
    home.run(&["--gpu-layers", "x", "-p", "x"]).done().failed(2, "auto");
    home.run(&["--threads", "x", "-p", "x"]).done().failed(2, "auto");
    home.run(&["-m", "", "-p", "x"]).done().failed(2, "--model must not be empty\n".trim());
    let done = home.run(&["-m", "", "-p", "x"]).done();
    assert!(!done.stderr.contains("not ''"), "{done:#?}");
    home.scripted("x\n", &["-p", "x"]).env("FIRESIDE_STATS", "1").done().code(0);
    assert!(home.run(&["help", "overflow"]).done().code(0).stdout.contains("ask"));
}

#[test]
fn words_of_other_programs_for_a_chat_point_to_ours() {
    let home = Home::new();
    home.write(".local/share/fireside/models/tiny.gguf", std::fs::read(tiny("llama-bpe")).unwrap());
    home.run(&["run", "tiny"]).done().failed(2, "fireside has no subcommand 'run'").hint("fireside -m tiny");
    home.run(&["hf:a/b"]).done().failed(2, "is a model").hint("-m hf:a/b");
    // Several words whose first is one letter from a subcommand are a prompt without quotes.
    home.run(&["how", "are", "you"])
        .done()
        .failed(2, "a prompt of several words needs quotes")
        .hint("\"how are you\"");
}

#[test]
fn help_finds_what_people_call_things() {
    let home = Home::new();
    let finds = |topic: &str, part: &str| {
        let done = home.run(&["help", topic]).done().code(0);
        assert!(done.stdout.contains(part), "{topic}: {done:#?}");
    };
    finds("FIRESIDE_TEMP", "--temp");
    finds("undo", "undo the last exchange");
    finds("/undo", "undo the last exchange");
    finds("json", "--json");
    home.run(&["help", "env"]).done().failed(2, "no help on 'env'").hint("environment");
    home.run(&["help", "exit-code"]).done().failed(2, "no help").hint("exit-codes");
    home.run(&["config", "temp"]).done().failed(2, "temp").hint("fireside help temp");
}

#[test]
fn a_conversion_keeps_the_mode_and_the_link_that_are_there() {
    let home = Home::new();
    let checkpoint = crate::support::repository().join("tests/families/gpt-neo");
    let out = home.write("out.gguf", "old");
    std::fs::set_permissions(&out, std::fs::Permissions::from_mode(0o640)).unwrap();
    std::os::unix::fs::symlink(&out, home.path("link.gguf")).unwrap();
    let convert = |to: &str| home.run(&["convert", "--force", checkpoint.to_str().unwrap(), to]).done();
    convert("out.gguf").code(0);
    assert_eq!(out.metadata().unwrap().permissions().mode() & 0o777, 0o640);
    convert("link.gguf").code(0);
    assert!(home.path("link.gguf").symlink_metadata().unwrap().is_symlink(), "the link was replaced");
    convert("out.bin").failed(2, ".gguf");
}

#[test]
fn an_environment_folder_may_begin_with_a_tilde() {
    let home = Home::new();
    home.write("mf/tiny.gguf", std::fs::read(tiny("llama-bpe")).unwrap());
    let done = home.run(&["list"]).env("FIRESIDE_MODELS", "~/mf").done().code(0);
    assert!(done.stdout.contains("tiny"), "{done:#?}");
}

#[test]
fn offline_offers_nothing_to_fetch() {
    let home = Home::new();
    home.run(&["--offline", "-p", "x"]).done().failed(1, "no model is set").hint("-m FILE.gguf");
    let done = home.run(&["--offline", "-p", "x"]).done();
    assert!(!done.stderr.contains("fireside pull"), "{done:#?}");
    let mut terminal = home.terminal(&["--offline", "-p", "x"]);
    assert_eq!(terminal.ends(), 1, "there is nothing to choose from");
}

#[test]
fn remedies_for_a_long_prompt_are_those_that_help_most() {
    let home = Home::new();
    home.write("short.txt", "a");
    home.write("long.txt", "word ".repeat(9000));
    let words = "word ".repeat(200);
    let model = tiny("llama-bpe");
    let run = |args: &[&str]| home.run(args).model(&model).done().code(3);
    let done = run(&["-c", "100", "-f", "short.txt", "-p", &words]).hint("shorten the prompt");
    assert!(!done.stderr.contains("part of the file"), "{done:#?}");
    // The context is as long as in training: a larger one is no remedy.
    let done = run(&["-c", "4096", "-f", "long.txt", "-p", "x"]).hint("part of the file");
    assert!(!done.stderr.contains("--ctx-size"), "{done:#?}");
}

#[test]
fn exports_for_reading_have_the_id() {
    let home = Home::new();
    chat(&home, "one\n", &[], "Hello\n").code(0);
    let id = id(&home, 0);
    for format in ["md", "txt"] {
        let text = history(&home, &["export", &id, "--format", format]).done().code(0).stdout;
        assert!(text.contains(&id), "{text}");
    }
    history(&home, &["rm", &id]).stdin("").done().failed(2, "rm asks for confirmation");
    home.scripted("x\n", &["--incognito", "-p", "x"]).done().code(0).says("incognito: nothing is saved");
    home.run(&["--resume", "-p", "x"]).stdin("q").done().failed(2, "--resume needs").hint("most recent");
}
