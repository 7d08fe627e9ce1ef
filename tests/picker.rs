//! Choosing from a list on a terminal: a conversation to resume, a model to start with.

use rexpect::process::Signal;

use crate::history::{chat, history};
use crate::support::Home;
use crate::support::pty::*;

/// Saves this many conversations; Talk 1 is the oldest, and only Talk 5 ends with a marmot.
fn kept(home: &Home, count: usize, title: impl Fn(usize) -> String) {
    let talks = (1..=count).map(|n| {
        let answer = if n == 5 { "A Marmot, in the END." } else { "Nothing of the kind." };
        let asked = format!("Question {n}");
        serde_json::json!({
            "title": title(n),
            "created": 1_700_000_000_000_u64 + 60_000 * n as u64,
            "messages": [{ "role": "user", "content": asked }, { "role": "assistant", "content": answer }],
        })
    });
    let lines: Vec<String> = talks.map(|talk| talk.to_string()).collect();
    let file = home.write("talks.jsonl", lines.join("\n"));
    history(home, &["import", file.to_str().unwrap()]).done().code(0);
}

fn talk(n: usize) -> String {
    format!("Talk {n}.")
}

fn opened(home: &Home, setup: &Setup) -> Terminal {
    let mut terminal = home.terminal_as(setup, &home.script("answers", "One.\nTwo.\n"));
    terminal.at_prompt();
    terminal
}

/// The selected row.
#[track_caller]
fn chosen(terminal: &mut Terminal, text: &str) {
    terminal.wait(&format!("{text:?} to be chosen"), |screen| {
        screen.contents().lines().any(|line| line.starts_with("> ") && line.contains(text))
    });
}

#[test]
fn every_conversation_can_be_reached_and_is_counted() {
    let home = Home::new();
    kept(&home, 45, talk);
    let mut terminal = opened(&home, &Setup { rows: 24, columns: 80, ..Setup::default() });
    terminal.line("/resume").sees("Which conversation?").sees("45 of 45");
    chosen(&mut terminal, "Talk 45.");
    for (keys, there) in [
        (DOWN, "Talk 44."),
        ("\x0e", "Talk 43."),
        (UP, "Talk 44."),
        ("\x10", "Talk 45."),
        (UP, "Talk 45."),
        ("\x1b[6~", "Talk 34."),
        ("\x1b[5~", "Talk 45."),
        ("\x1b[F", "Talk 1."),
        (DOWN, "Talk 1."),
        ("\x1b[H", "Talk 45."),
        ("\x1bOF", "Talk 1."),
    ] {
        terminal.keys(keys);
        chosen(&mut terminal, there);
    }
    terminal.keys(ENTER).sees(": Talk 1.").sees("> Question 1\nNothing").at_prompt();
    assert_eq!(terminal.keys(CTRL_D).ends(), 0);
}

#[test]
fn typing_filters_by_title_id_and_last_message() {
    let home = Home::new();
    kept(&home, 30, talk);
    let mut terminal = opened(&home, &Setup::default());
    terminal
        .line("/resume")
        .sees("30 of 30")
        .keys("TALK 7")
        .sees("Which conversation? TALK 7")
        .sees("3 of 30");
    chosen(&mut terminal, "Talk 27.");
    terminal.keys("\x7f").sees("30 of 30").keys("5. talk").sees("3 of 30");
    terminal.keys("\x15").sees("30 of 30").keys("end marmot").sees("1 of 30");
    chosen(&mut terminal, "Talk 5.");
    terminal.keys("x").sees("0 of 30").keys(ENTER).keys("\x17").sees("1 of 30").keys("\x1b[200~\r\x1b[201~");
    terminal.keys(ENTER).sees(": Talk 5.").at_prompt();
    let id = crate::history::id(&home, 3);
    terminal.wiped().line("/resume").sees("30 of 30").keys(&id[..8]).sees("1 of 30").keys(ENTER);
    terminal.sees(": Talk 27.").at_prompt();
}

#[test]
fn keys_typed_ahead_choose() {
    let home = Home::new();
    kept(&home, 30, talk);
    let slow = (1..=8).map(|n| format!("\\pw{n} ")).collect::<String>();
    let mut terminal = home.terminal(&home.script("answers", &format!("{slow}\nTwo.\n")));
    terminal.at_prompt().line("Hi").sees("w1").keys("/resume\rtalk 17\rand on\r");
    terminal.sees(": Talk 17.").sees("> and on\nTwo.").at_prompt();
}

#[test]
fn leaving_changes_nothing() {
    let home = Home::new();
    kept(&home, 3, talk);
    let mut terminal = opened(&home, &Setup::default());
    for leave in [ESC, CTRL_C, CSI_ESC, CTRL_D] {
        terminal.wiped().line("/resume").sees("3 of 3").keys(leave);
        terminal.wait("the chat", |screen| !screen.alternate_screen()).at_prompt();
    }
    terminal.line("Hi").sees("> Hi\nOne.").at_prompt().keys(CTRL_D).ends();
    drop(terminal);
    let [option, script] = home.script("answers", "One.\n");
    for leave in [ESC, CTRL_C] {
        let mut terminal = home.terminal(&[&option, &script, "--resume"]);
        assert_eq!(terminal.sees("4 of 4").keys(leave).ends(), 130);
        terminal.wait("the shell's screen", |screen| !screen.alternate_screen() && !screen.hide_cursor());
    }
    let mut terminal = home.terminal(&[&option, &script, "--resume"]);
    assert_eq!(terminal.sees("4 of 4").signal(Signal::SIGTERM).ends(), 143);
    terminal.wait("the shell's screen", |screen| !screen.alternate_screen() && !screen.hide_cursor());
}

/// Titles that are too long for the window, or wide, or would act on a terminal.
fn odd(n: usize) -> String {
    let long = "日本語の長い題名 👩‍💻❤️🇯🇵 é ".repeat(8);
    format!("Talk {n}. \u{1b}]0;evil\u{7}\u{1b}[2J\u{9b}31m\u{202e} {long}")
}

#[test]
fn it_fits_small_windows_and_follows_them() {
    let home = Home::new();
    kept(&home, 45, odd);
    let mut terminal = opened(&home, &Setup { rows: 24, columns: 80, ..Setup::default() });
    terminal.line("/resume").sees("45 of 45");
    for (columns, rows, last) in
        [(80, 24, "Talk 35."), (40, 10, "Talk 42."), (20, 5, "Talk 45."), (100, 30, "Talk 32.")]
    {
        terminal.resize_to(columns, rows).wait(&format!("{columns} x {rows}"), |screen| {
            let lines: Vec<String> = screen.rows(0, columns).collect();
            let whole = (0..rows).all(|row| !screen.row_wrapped(row));
            let counted = lines.last().is_some_and(|line| line.starts_with("45 of 45"));
            whole
                && counted
                && lines[0].starts_with("Which conversation?")
                && screen.contents().contains(last)
        });
        chosen(&mut terminal, if columns > 40 { "Talk 45. \u{241b}]0;" } else { "Talk 45." });
    }
    let bytes = String::from_utf8_lossy(&terminal.bytes()).into_owned();
    assert!(!bytes.contains("\x1b]0;") && !bytes.contains('\u{9b}') && !bytes.contains('\u{202e}'));
    terminal.keys(ESC).at_prompt();
}

#[test]
fn where_nothing_may_move_numbers_are_asked_for() {
    let home = Home::new();
    kept(&home, 25, talk);
    let [option, script] = home.script("answers", "One.\n");
    let dumb = Setup { environment: vec![("TERM", "dumb".into())], ..Setup::default() };
    for (setup, more) in [(&dumb, "--quiet"), (&Setup::default(), "--plain")] {
        let mut terminal = home.terminal_as(setup, &[&option, &script, more, "--resume"]);
        terminal.sees(" 20  ").sees("the latest 20 of 25").sees("Which conversation? Number or id: ");
        terminal.line("2").sees("> Question 24").at_prompt().keys(CTRL_D).ends();
        assert!(!terminal.bytes().windows(8).any(|window| window == b"\x1b[?1049h"));
    }
    chat(&home, "x\n", &[], "/resume\n2\n").code(0).says(": Talk");
}

/// In half a window, question, keys and words are still complete.
#[test]
fn half_a_window_has_whole_words() {
    let home = Home::new();
    let long = "gravitational waves incomprehensibly explained to mountaineers";
    kept(&home, 20, |n| format!("{}Talk {n} {long}", "x".repeat(n % 9)));
    let mut terminal = opened(&home, &Setup { rows: 24, columns: 40, ..Setup::default() });
    terminal.line("/resume").sees("20 of 20; Enter selects, Esc cancels");
    let screen = terminal.screen();
    for line in screen.lines().filter(|line| line.contains("Talk")) {
        let last = line.trim_end().trim_end_matches('…').rsplit(' ').next().unwrap();
        assert!(long.split(' ').any(|word| word == last), "{last:?}: {screen}");
    }
    terminal.resize_to(80, 24).sees("20 of 20; Enter selects, Esc cancels, arrows move, typing filters");
    terminal.keys(ESC).at_prompt();
}

#[test]
fn the_first_model_is_chosen_with_all_there_is_to_know() {
    let home = Home::new();
    let mut terminal =
        home.terminal_as(&Setup { rows: 24, columns: 80, ..Setup::default() }, &["--incognito"]);
    terminal.sees("Which one do you want to download?").sees("Esc cancels, arrows move, typing filters");
    let screen = terminal.screen();
    assert!(screen.contains(" MiB, Apache-2.0 (open source)") && screen.contains("(conditions)"), "{screen}");
    terminal.resize_to(40, 24).sees("Enter selects, Esc cancels").wait("the whole question", |screen| {
        let head: Vec<String> = screen.rows(0, 40).take(2).map(|row| row.trim().to_string()).collect();
        head.join(" ") == "There is no model on this machine yet. Which one do you want to download?"
    });
    let screen = terminal.screen();
    assert!(
        screen.contains("(conditions)") && screen.contains("> smollm2-135m  SmolLM2 135M Instruct…\n"),
        "{screen}"
    );
    assert_eq!(terminal.keys(ESC).ends(), 130);
}

#[test]
fn models_are_told_apart_by_the_ends_of_their_names() {
    let home = Home::new();
    for (name, kind) in [("llama-bpe", "Q4_K_M"), ("mamba", "Q8_0")] {
        let model = std::fs::read(crate::support::tiny(name)).unwrap();
        let name = format!("A-Model-Of-Somebody-With-A-Long-Name-7B-Instruct-{kind}");
        home.write(&format!(".local/share/fireside/models/{name}.gguf"), model);
    }
    let mut terminal =
        home.terminal_as(&Setup { rows: 24, columns: 40, ..Setup::default() }, &["--incognito"]);
    terminal.sees("Which model?").sees("2 of 2; Enter selects, Esc cancels");
    let screen = terminal.screen();
    assert!(screen.contains("> A-Model-Of-") && screen.contains("…"), "{screen}");
    assert!(screen.contains("Instruct-Q4_K_M\n") && screen.contains("Instruct-Q8_0\n"), "{screen}");
    assert!(screen.contains("KiB") && screen.contains("mamba"), "what there is to know is below: {screen}");
    assert_eq!(terminal.keys(ESC).ends(), 130);
}
