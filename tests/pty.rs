//! The chat in a real pseudo-terminal: stopping, suspending, typing ahead, and the terminal restored at the
//! end.

use rexpect::process::Signal;

use crate::support::pty::*;
use crate::support::{Home, default_model, program, tiny};

/// An answer of many words, 50 ms each.
fn slow() -> String {
    (1..=600).map(|n| format!("\\pw{n} ")).collect::<String>() + "\n"
}

fn scripted(home: &Home, answers: &str) -> Terminal {
    let mut terminal = home.terminal(&home.script("answers", answers));
    terminal.at_prompt();
    terminal
}

fn with_default_model(home: &Home, more: &[&str]) -> Option<Terminal> {
    let model = default_model()?;
    let args = ["-m", model.to_str().unwrap(), "--temp", "0", "-t", "1"]; // busy machines: no more threads
    Some(home.terminal(&[&args, more].concat()))
}

#[test]
fn one_can_type_before_the_model_is_loaded() {
    let home = Home::new();
    let Some(mut terminal) = with_default_model(&home, &["-n", "8"]) else {
        return;
    };
    terminal.keys("Hello").sees("is a demonstration").at("> Hello"); // typed before the prompt appeared
    terminal.keys(ENTER).sees("8 tokens, ").sees("context ").at_prompt();
    assert_eq!(terminal.keys(CTRL_D).ends(), 0);
}

/// Work started while a line is typed must not delay the end of the line.
#[test]
fn a_renderer_that_starts_while_one_types_is_nothing_to_the_line() {
    let home = Home::new();
    let Some(mut terminal) = with_default_model(&home, &["-n", "8"]) else {
        return;
    };
    terminal.at_prompt().starts("--render").line("Hello").sees("8 tokens, ").at_prompt();
    assert_eq!(terminal.keys(CTRL_D).ends(), 0);
}

#[test]
fn ctrl_c_while_the_model_is_loading_keeps_the_message() {
    let home = Home::new();
    let Some(mut terminal) = with_default_model(&home, &["-n", "8"]) else {
        return;
    };
    terminal.at_prompt().entered("Hello").keys(CTRL_C);
    terminal.sees("stopped").wait("the prompt, with the message if no word of the answer came", |screen| {
        let last = screen.contents().lines().last().unwrap_or_default().to_string();
        last.trim_end() == ">" || last == "> Hello"
    });
    terminal.keys(CTRL_U).line("/clear").sees("a new conversation").at_prompt();
    terminal.line("Hello").sees("8 tokens, ").at_prompt();
}

#[test]
fn ctrl_c_stops_an_answer_and_more_goes_on() {
    let home = Home::new();
    let mut terminal = scripted(&home, &(slow() + "and so on.\n"));
    terminal.line("Count").sees("w3 ").keys(CTRL_C).sees("stopped; /more continues").at_prompt();
    terminal.line("/show prompt").sees("[user] Count\n").at_prompt();
    terminal.wiped().line("/more").sees("and so on.").at_prompt();
    terminal.wiped().line("Hi").sees("w1 ").keys(CTRL_C).sees("stopped").at_prompt();
    terminal.wiped().line("/show prompt").sees("[assistant] w1 w2 w3 ").sees("and so on.\n[user] Hi\n");
    assert_eq!(terminal.at_prompt().keys(CTRL_D).ends(), 0);
}

#[test]
fn escape_stops_an_answer_and_keys_that_begin_like_it_do_not() {
    let home = Home::new();
    let mut terminal = scripted(&home, &(slow() + &slow() + &slow()));
    terminal.line("Count").sees("w2 ").keys("ac").keys(LEFT).keys("b\x1b[F\x1bOP");
    terminal.keys("\x1b[200~ pasted\x1b[201~\x1bb1\x1b[F").sees("w9 ").keys(ESC);
    terminal.sees("stopped; /more continues").at("> abc 1pasted").keys(CTRL_U).at_prompt();
    terminal.wiped().line("Again").sees("w2 ").keys("\x1b[27u").sees("stopped; /more continues").at_prompt();
    terminal.wiped().keys("More\r\x1b[27u").sees("stopped before the answer began").at("> More");
    terminal.keys("?").at("> More?").keys(CTRL_U).at_prompt();
    assert_eq!(terminal.keys(CTRL_D).ends(), 0);
}

#[test]
fn ctrl_backslash_loses_nothing() {
    let home = Home::new();
    let mut terminal = scripted(&home, &slow());
    terminal.keys("Co").keys("\x1c").keys("unt").at("> Count").keys(ENTER);
    terminal.sees("w2 ").keys("\x1c").sees("w4 ").keys(CTRL_C).sees("stopped").at_prompt();
    assert_eq!(terminal.keys(CTRL_D).ends(), 0);
}

/// Ctrl-C has its place among the keys, however fast they come.
#[test]
fn what_is_typed_after_ctrl_c_is_sent_and_what_was_typed_before_is_not() {
    let home = Home::new();
    let mut terminal = scripted(&home, &format!("{0}Two.\n{0}Four.\n{0}Six.\n", slow()));
    let stopped = "stopped; /more continues";
    terminal.line("Count").sees("w2 ").keys("\x03second\r").sees(stopped).sees("> second\nTwo.").at_prompt();
    terminal.wiped().line("Again").sees("w2 ").keys("third\r\x03").sees(stopped).at("> third");
    terminal.keys(ENTER).sees("Four.").at_prompt();
    terminal
        .wiped()
        .line("Again")
        .sees("w2 ")
        .keys("fifth\r\x03line\r")
        .sees(stopped)
        .sees("Six.")
        .at_prompt();
    terminal.wiped().line("/show prompt").sees("[user] fifth\nline\n").at_prompt();
    assert_eq!(terminal.keys(CTRL_D).ends(), 0);
}

#[test]
fn ctrl_c_twice_stops_an_answer_and_not_the_chat() {
    let home = Home::new();
    let mut terminal = scripted(&home, &(slow() + "Two.\n"));
    terminal.line("Count").sees("w2 ").keys("\x03\x03").sees("stopped; /more continues").at_prompt();
    terminal.line("Still there?").sees("Two.").at_prompt();
    assert!(!terminal.screen().contains("press Ctrl-C again"), "{}", terminal.screen());
    assert_eq!(terminal.keys("\x03\x03").ends(), 0);
}

#[test]
fn an_interrupt_from_outside_stops_an_answer_too() {
    let home = Home::new();
    let mut terminal = scripted(&home, &slow());
    terminal.line("Count").sees("w2 ").keys("half").sees("> half").signal(Signal::SIGINT);
    terminal.sees("stopped; /more continues").at("> half").keys(CTRL_U).at_prompt();
    assert_eq!(terminal.keys(CTRL_D).ends(), 0);
}

#[test]
fn ctrl_c_before_the_first_word_puts_the_message_back() {
    let home = Home::new();
    let silence = "\\p".repeat(600) + "late\nat once\n";
    let mut terminal = scripted(&home, &silence);
    terminal.entered("A question").keys(CTRL_C);
    terminal.sees("stopped before the answer began").at("> A question");
    terminal.keys(ENTER).sees("at once").at_prompt();
    terminal.line("/show prompt").sees("[user] A question\n>");
}

#[test]
fn another_key_for_the_interrupt_signal_stops_an_answer() {
    let home = Home::new();
    let words: Vec<String> =
        [program().to_string()].into_iter().chain(home.script("answers", &slow())).collect();
    let mut terminal = home.shell_command(&Setup::default(), "stty intr ^K; exec \"$@\"", &words);
    terminal.at_prompt().line("Count").sees("w2 ").keys("half\x0b").sees("stopped; /more continues");
    terminal.at("> half").keys(CTRL_U).at_prompt();
    assert_eq!(terminal.keys(CTRL_D).ends(), 0);
}

/// The next message is not glued to the one that was stopped.
#[test]
fn a_message_that_was_stopped_gives_way_to_the_next_line() {
    let home = Home::new();
    let mut terminal = scripted(&home, &("\\p".repeat(600) + "late\nat once\n"));
    terminal.entered("A question").keys("\x03Another\r").sees("stopped before the answer began");
    terminal.sees("Up recalls the message\n> Another\nat once").at_prompt();
    terminal.wiped().line("/show prompt").sees("/show prompt\n[user] Another\n>").at_prompt();
    terminal.keys(UP).keys(UP).at("> Another").keys(UP).at("> A question");
}

#[test]
fn ctrl_c_while_a_long_prompt_is_read_puts_the_message_back() {
    let home = Home::new();
    home.write("long.txt", "The quick brown fox jumps over the lazy dog. ".repeat(700));
    let Some(mut terminal) = with_default_model(&home, &["-n", "8"]) else {
        return;
    };
    terminal.at_prompt().line("/file long.txt").sees("to your next message").at_prompt();
    terminal.line("Summarise.").at("Send it? [y/N] ").line("y").sees("prefill ").sees(" s left").keys(CTRL_C);
    terminal.sees("stopped before the answer began").at("> Summarise.");
    assert!(!terminal.screen().contains("prefill "), "the bar is gone");
    terminal.keys(CTRL_U).line("/file").sees(" tokens  long.txt").at_prompt();
    terminal.line("/file none").sees("no files are attached").at_prompt();
    terminal.line("Hello").sees("8 tokens, ").at_prompt();
}

#[test]
fn what_is_typed_while_it_writes_is_kept_for_the_next_line() {
    let home = Home::new();
    let answer = (1..=30).map(|n| format!("\\pw{n} ")).collect::<String>();
    let mut terminal = scripted(&home, &format!("{answer}\nTwo.\n{}", slow()));
    terminal.line("Count").sees("w2 ").keys("second").keys(ENTER).keys("thi");
    terminal.sees("w30").sees("> second\nTwo.\n").at("> thi");
    assert!(!terminal.screen().contains("w2 second"), "shown amid the answer");
    terminal.keys("rd").keys(ENTER).sees("> third\nw1 ").keys("fourth");
    terminal.keys(CTRL_C).sees("stopped").at("> fourth"); // Ctrl-C stops the answer and loses nothing
}

#[test]
fn the_window_may_change_while_it_writes() {
    let home = Home::new();
    let answer = (1..=30).map(|n| format!("\\pw{n} ")).collect::<String>();
    let mut terminal = scripted(&home, &format!("{answer}\nTwo.\n"));
    terminal.line("Count").sees("w2 ").resize(20).sees("w30").at_prompt();
    let long = "a message longer than the narrow window";
    terminal.wiped().keys(long).sees_wrapped(&format!("> {long}")).keys(ENTER).sees("Two.").at_prompt();
}

#[test]
fn what_the_model_writes_cannot_touch_the_terminal() {
    let home = Home::new();
    let mut terminal = scripted(&home, "a\x1b[2Jb \x1b]0;title\x07c \u{9b}31md\re \u{202e}f\n");
    terminal.sees("/help lists").line("Hi");
    terminal.sees("a␛[2Jb ␛]0;title␇c <U+009B>31md␍e <U+202E>f").sees("/help lists");
    terminal.at_prompt();
    terminal.line("/show prompt").at_prompt();
    terminal.wiped().line("Hm").sees("a␛").at_prompt().line("/show prompt").sees("[assistant] a␛[2Jb");
}

/// A shell with job control, in which `$FIRESIDE` is the program.
fn shell(home: &Home, shell: &str, answers: &str) -> Terminal {
    let command = [crate::support::program().to_string()].into_iter().chain(home.script("answers", answers));
    let setup = Setup {
        environment: vec![("FIRESIDE", command.collect::<Vec<_>>().join(" ")), ("PS1", "shell: ".into())],
        ..Setup::default()
    };
    let mut terminal = home.shell_command(&setup, &format!("exec {shell}"), &[]);
    terminal.at("shell: ").line("$FIRESIDE").at_prompt();
    terminal
}

#[test]
fn ctrl_z_at_the_prompt_and_back() {
    for kind in ["sh -i", "bash --norc --noediting -i"] {
        let home = Home::new();
        let mut terminal = shell(&home, kind, "One.\n");
        terminal.keys("half a li").at("> half a li").keys(CTRL_Z).at("shell: ");
        assert!(terminal.is_as_found(), "{kind}: the shell's terminal");
        terminal.line("echo $((40 + 2))").sees("echo $((40 + 2))\n42\n").at("shell: ");
        terminal.line("fg").at("> half a li").keys("ne").at("> half a line");
        terminal.keys(ENTER).sees("> half a line\nOne.").at_prompt();
        terminal.keys(CTRL_D).at("shell: ");
        assert!(terminal.is_as_found(), "{kind}: the terminal at the end");
    }
}

#[test]
fn ctrl_z_while_it_writes_and_back() {
    for kind in ["sh -i", "bash --norc --noediting -i"] {
        let home = Home::new();
        let answer = (1..=30).map(|n| format!("\\pw{n} ")).collect::<String>();
        let mut terminal = shell(&home, kind, &format!("{answer}\nTwo.\n"));
        terminal.line("Count").sees("w3 ").keys(CTRL_Z).at("shell: ");
        assert!(terminal.is_as_found(), "{kind}: the shell's terminal");
        terminal.line("echo $((40 + 2))").sees("echo $((40 + 2))\n42\n").at("shell: ");
        terminal.line("fg").keys("ahead").sees("w30").at("> ahead");
        terminal.keys(ENTER).sees("> ahead\nTwo.").at_prompt();
        terminal.keys(CTRL_D).at("shell: ");
        assert!(terminal.is_as_found(), "{kind}: the terminal at the end");
    }
}

#[test]
fn ctrl_z_where_no_shell_could_continue_does_nothing() {
    let home = Home::new();
    let mut terminal = scripted(&home, "One.\n");
    terminal.keys("Hi").at("> Hi").keys(CTRL_Z).sees("> Hi\n> Hi").keys(ENTER).sees("One.").at_prompt();
    assert_eq!(terminal.keys(CTRL_D).ends(), 0);
}

#[test]
fn a_signal_ends_it_with_the_terminal_as_it_was() {
    for signal in [Signal::SIGTERM, Signal::SIGHUP] {
        let home = Home::new();
        let mut terminal = scripted(&home, &slow());
        assert!(!terminal.is_as_found(), "the editor has its own modes");
        assert_eq!(terminal.signal(signal).ends(), 128 + signal as i32);
        drop(terminal);
        let mut terminal = scripted(&home, &slow());
        terminal.line("Count").sees("w2 ").signal(signal);
        assert_eq!(terminal.ends(), 128 + signal as i32);
        let pasting = terminal.bytes().windows(8).rev().find_map(|w| match w {
            b"\x1b[?2004h" => Some(true),
            b"\x1b[?2004l" => Some(false),
            _ => None,
        });
        assert_eq!(pasting, Some(false), "pasted text is still marked");
    }
}

#[test]
fn a_failed_start_leaves_the_terminal_alone() {
    let home = Home::new();
    let mut terminal = home.terminal(&["-m", "nowhere.gguf"]);
    assert_eq!(terminal.ends(), 1);
    assert!(terminal.screen().starts_with("fireside: "), "{}", terminal.screen());
}

#[test]
fn a_piped_document_is_answered_and_then_talked_about() {
    let home = Home::new();
    let [option, script] = home.script("answers", "One.\nTwo.\n");
    let words = [crate::support::program().to_string(), option, script];
    let line = "printf 'a document\\n' | \"$@\" -i -p 'What is this?'; echo left with $?";
    let mut terminal = home.shell_command(&Setup::default(), line, &words);
    terminal.sees("One.\n").at_prompt().line("And now?").sees("> And now?\nTwo.").at_prompt();
    terminal
        .wiped()
        .line("/show prompt")
        .sees("[user] a document\n\nWhat is this?\n[assistant] One.\n[user] And now?\n");
    terminal.at_prompt().keys(CTRL_D).sees("left with 0");
    assert_eq!(terminal.ends(), 0);
}

#[test]
fn ctrl_c_stops_the_first_answer_of_an_interactive_run_too() {
    let home = Home::new();
    let mut args = home.script("answers", &slow()).to_vec();
    args.extend(["-i", "-p", "Count"].map(String::from));
    let mut terminal = home.terminal(&args);
    terminal.sees("w2 ").keys(CTRL_C).sees("stopped; /more continues").at_prompt();
    assert_eq!(terminal.keys(CTRL_D).ends(), 0);
}

#[test]
fn twenty_turns() {
    let home = Home::new();
    let Some(model) = default_model() else {
        return;
    };
    let model = model.to_str().unwrap();
    let editor = home.write("editor.sh", "sed -i 's/turn/round/' \"$1\"");
    let setup =
        Setup { environment: vec![("EDITOR", format!("sh '{}'", editor.display()))], ..Setup::default() };
    let mut terminal = home.terminal_as(&setup, &["-m", model, "--temp", "0", "-t", "1", "-n", "6"]);
    let turn = |terminal: &mut Terminal, line: &str| {
        terminal.at_prompt().wiped().line(line).sees(" tokens, ").at_prompt();
    };
    for n in 1..=6 {
        turn(&mut terminal, &format!("This is turn {n}."));
    }
    terminal.wiped().line("/undo").sees("removed: This is turn 6.").at_prompt();
    turn(&mut terminal, "/retry");
    turn(&mut terminal, "/edit");
    terminal.wiped().line("/show prompt").sees("turn 4.").sees("This is round 5.").at_prompt();
    terminal.line("/set predict 5000").sees("predict is 5000").at_prompt();
    terminal.wiped().line("Write a very long story about a fox.");
    terminal.wait("some words of the story", |screen| {
        screen.contents().lines().nth(1).is_some_and(|line| line.len() > 20)
    });
    terminal.keys(CTRL_C).sees("stopped; /more continues").at_prompt();
    terminal.line("/set predict 6").sees("predict is 6").at_prompt();
    turn(&mut terminal, "/more");
    for n in 10..=13 {
        turn(&mut terminal, &format!("This is turn {n}."));
    }
    let swap = |terminal: &mut Terminal, path: &str| {
        terminal.at_prompt().wiped().line(&format!("/model {path}")).sees("switched to ").at_prompt();
    };
    swap(&mut terminal, tiny("llama-bpe").to_str().unwrap());
    for n in 14..=16 {
        turn(&mut terminal, &format!("This is turn {n}."));
    }
    swap(&mut terminal, model);
    for n in 17..=20 {
        turn(&mut terminal, &format!("This is turn {n}."));
    }
    let before = terminal.bytes().len();
    terminal.wiped().line("/show prompt").sees("turn 20.").at_prompt();
    let prompt = String::from_utf8_lossy(&terminal.bytes()[before..]).into_owned(); // longer than the screen
    for kept in ["turn 4.", "This is round 5.", "about a fox.", "turn 13.", "turn 16."] {
        assert!(prompt.contains(kept), "{kept} is gone:\n{prompt}");
    }
    assert!(!prompt.contains("turn 6."), "taken back:\n{prompt}");
    assert_eq!(terminal.keys(CTRL_D).ends(), 0);
}

#[test]
fn a_line_typed_before_the_program_was_there_is_sent() {
    let home = Home::new();
    let words: Vec<String> =
        [program().to_string()].into_iter().chain(home.script("answers", "One.\n")).collect();
    let mut terminal = home.shell_command(&Setup::default(), "read start; exec \"$@\"", &words);
    terminal.keys("go\rquick\r").sees("One.").at_prompt();
    terminal.line("/show prompt").sees("[user] quick");
}

#[test]
fn reading_that_takes_long_shows_how_far_it_is() {
    let home = Home::new();
    home.write("long.txt", "word ".repeat(60_000));
    let model = tiny("llama-bpe");
    let args = ["-m", model.to_str().unwrap(), "-t", "1", "-c", "200000", "-f", "long.txt"];
    let mut terminal = home.terminal(&args);
    terminal.sees("prefill ").sees(" s left").keys(CTRL_C);
    assert_eq!(terminal.ends(), 130);
}
