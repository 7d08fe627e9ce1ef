//! A conversation no longer fits the context: which messages leave it, who decides, and that nothing is lost.

use crate::support::pty::*;
use crate::support::{Done, Home, Run, tiny};

/// About 46 tokens with the template's; an answer of 8 tokens follows.
const LINE: &str = "Tell me about the weather in the village, the old mill and the long road to it.";

fn lines(from: usize, to: usize) -> String {
    (from..=to).map(|n| format!("{n}. {LINE}\n")).collect()
}

const SMALL: [&str; 8] = ["--temp", "0", "-c", "256", "-n", "8", "--stats=off", "--keep"];

fn run(home: &Home, args: &[&str]) -> Run {
    home.run(&[&SMALL, args].concat()).model(&tiny("llama-bpe"))
}

fn chat(home: &Home, args: &[&str], typed: &str) -> Done {
    run(home, &[&["--repl-stdin"], args].concat()).stdin(typed).done().code(0)
}

fn left(done: &Done) -> usize {
    done.stderr.matches(" tokens  dropped  ").count()
}

fn kept(home: &Home) -> Vec<serde_json::Value> {
    let listed = home.run(&["history", "list", "--json"]).done().code(0).json();
    listed["conversations"].as_array().unwrap().clone()
}

#[test]
fn rolling_keeps_the_end_in_view_and_loses_nothing() {
    let home = Home::new();
    let typed = lines(1, 8) + "/context\n/show prompt\n";
    let done = chat(&home, &["--overflow", "roll", "--system-prompt", "Be kind."], &typed);
    assert_eq!(
        done.stderr.matches("from the context; they are still in the history\n").count(),
        2,
        "{done:#?}"
    );
    assert!(left(&done) >= 8, "{done:#?}");
    let prompt = done.stderr.split("still in the history").last().unwrap();
    assert!(
        prompt.contains("Be kind.") && prompt.contains("8. Tell me") && !prompt.contains(" 1. Tell me"),
        "{prompt}"
    );
    assert_eq!(kept(&home)[0]["messages"], 16);
    // Resumed, the model sees the same messages as before; with a larger context it sees all.
    assert_eq!(left(&chat(&home, &["--continue"], "/context\n")), left(&done));
    let roomy = home.run(&["--repl-stdin", "--continue", "-c", "1024"]).model(&tiny("llama-bpe"));
    assert_eq!(left(&roomy.stdin("/context\n").done().code(0)), 0);
    // Back at the point before any message left.
    let failed = "/undo\n".repeat(5) + "/context\n";
    assert_eq!(left(&chat(&home, &["--continue"], &failed)), 0);
}

#[test]
fn attached_files_stay() {
    let home = Home::new();
    let file = home.write("recipe.txt", "Flour, water, salt and patience.");
    let typed = format!("/file {}\n{}/context\n/show prompt\n", file.display(), lines(1, 8));
    let done = chat(&home, &["--overflow", "roll"], &typed);
    let prompt = done.stderr.split("still in the history").last().unwrap();
    assert!(prompt.contains("salt and patience") && !prompt.contains("1. Tell me"), "{done:#?}");
}

#[test]
fn no_more_is_read_again_than_what_follows_what_left() {
    let home = Home::new();
    let file = home.write("long.txt", "Flour, water, salt and patience. ".repeat(3));
    let attach = format!("/file {}\n", file.display());
    let before = chat(&home, &["--overflow", "roll"], &(attach.clone() + &lines(1, 3)));
    assert!(!before.stderr.contains("still in the history"), "{before:#?}");
    let done = chat(&home, &["--overflow", "roll"], &(attach + &lines(1, 4) + "/stats\n"));
    assert!(done.stderr.contains("still in the history"), "{done:#?}");
    // `attached …: 264 bytes, 88 tokens, …` and `prompt  190 tokens, 100 of them cached`
    let number = |line: &str, before: &str| -> usize {
        let line = done.stderr.lines().find(|l| l.starts_with(line)).unwrap_or_else(|| panic!("{done:#?}"));
        line.split(before).next().unwrap().rsplit(' ').next().unwrap().parse().unwrap()
    };
    let (file, cached) = (number("attached", " tokens"), number("prompt", " of them"));
    assert!(cached >= file, "{cached} of {file} tokens were cached: {done:#?}");
}

#[test]
fn what_leaves_is_summarised_and_the_summary_kept() {
    let home = Home::new();
    let done =
        chat(&home, &["--overflow", "compact", "-c", "512"], &(lines(1, 9) + "/context\n/show prompt\n"));
    let summary = done
        .stderr
        .lines()
        .find_map(|line| line.strip_prefix("summary: ").map(String::from))
        .unwrap_or_else(|| panic!("{done:#?}"));
    assert!(!summary.trim().is_empty());
    let done = done
        .says("summary of the dropped messages: ")
        .says("Summary of the conversation before this message:");
    let again = chat(&home, &["--continue", "-c", "512"], "/context\n")
        .says(&format!("summary of the dropped messages: {summary}"));
    assert_eq!(left(&again), left(&done));
    assert_eq!(kept(&home)[0]["messages"], 18);
}

#[test]
fn the_user_is_warned_and_asked_once() {
    let home = Home::new();
    let typed = lines(1, 5) + "what?\nROLL\n" + &lines(6, 9);
    let done =
        chat(&home, &[], &typed).says("fireside asks what to drop").says("'what?' is not one of the choices");
    assert_eq!(done.stderr.matches("no longer fits the context: ").count(), 1, "{done:#?}");
    assert_eq!(
        done.stderr.matches("from the context; they are still in the history").count(),
        2,
        "{done:#?}"
    );
    assert_eq!(kept(&home)[0]["messages"], 18);
}

/// The warning says what will happen, and when.
#[test]
fn the_warning_says_what_happens_next() {
    for (overflow, then) in [
        ("roll", "the oldest messages are dropped"),
        ("compact", "the oldest messages are summarised and dropped"),
        ("stop", "there is no answer; /clear starts a new conversation"),
    ] {
        let done = chat(&Home::new(), &["--overflow", overflow], &lines(1, 5));
        let warning = done.stderr.lines().find(|line| line.starts_with("the context is ")).unwrap();
        assert!(warning.ends_with(&format!("left: when a message does not fit, {then}")), "{warning}");
    }
    let full = chat(&Home::new(), &[], &(lines(1, 3) + &format!("4. {LINE} a\n")));
    full.says("the context is full: with the next message, fireside asks what to drop");
}

#[test]
fn a_new_conversation_may_begin_with_the_message() {
    let home = Home::new();
    chat(&home, &[], &(lines(1, 5) + "new\n" + &lines(6, 6)));
    let counts: Vec<_> = kept(&home).iter().map(|one| one["messages"].clone()).collect();
    assert_eq!(counts, [4, 9], "the message is also where it was said first");
}

#[test]
fn stopping_says_how_much_there_is() {
    let home = Home::new();
    let done = chat(&home, &["--overflow", "stop"], &lines(1, 5));
    let done = done
        .says("the prompt is too long: ")
        .says("and the context holds 256")
        .says("there is no answer; /clear starts a new conversation");
    done.hint("--overflow roll");
    assert_eq!(kept(&home)[0]["messages"], 9, "what was said is kept, answered or not");
    // A one-shot run does not ask.
    let one = || run(&home, &["--continue", "-p", LINE]);
    one().done().failed(3, "the prompt is too long").hint("--overflow roll");
    let object = run(&home, &["--continue", "-p", LINE, "--json"]).done().code(3).json();
    assert_eq!(object["stop_reason"], "error");
    run(&home, &["--continue", "-p", LINE, "--overflow", "roll"])
        .done()
        .code(0)
        .says("from the context; they are still in the history");
    run(&home, &["-p", &LINE.repeat(12), "--overflow", "roll"]).done().failed(3, "the prompt is too long");
}

#[test]
fn a_decision_that_is_not_taken_leaves_everything_as_it_is() {
    let home = Home::new();
    let model = tiny("llama-bpe");
    let mut words: Vec<&str> = SMALL.to_vec();
    words.extend(["-m", model.to_str().unwrap()]);
    let mut terminal = home.terminal(&words);
    terminal.at_prompt();
    for line in lines(1, 4).lines() {
        terminal.line(line).at_prompt();
    }
    terminal.line(&format!("5. {LINE}")).sees("roll, compact or new?");
    terminal.keys(CTRL_C).at(&format!("> 5. {LINE}"));
    terminal.wiped().keys("\r").sees("roll, compact or new? [roll] ").keys(UP).keys("x").sees("[roll] x");
    terminal.keys(ESC).at(&format!("> 5. {LINE}"));
    terminal.wiped().keys("\r").sees("roll, compact or new?").line("comp").sees("could not be summarised");
    terminal.at_prompt().keys(CTRL_D).ends();
    drop(terminal);
    assert_eq!(kept(&home)[0]["messages"], 10);
}
