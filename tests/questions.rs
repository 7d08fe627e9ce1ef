//! Questions on a terminal: Esc means no, and an answer is not a line of the chat.

use crate::history::{chat, history, id};
use crate::support::pty::*;
use crate::support::{Home, program};

const ASKED: &str = "notes.md already exists. Replace it? [y/N] ";

/// A chat with a message, and a file that an export would replace.
fn about_to_export(home: &Home) -> Terminal {
    home.write("notes.md", "precious");
    let mut terminal = home.terminal(&home.script("answers", "One.\nTwo.\n"));
    terminal.at_prompt().line("Hello").sees("One.").at_prompt();
    terminal.wiped().line("/export notes.md").at(ASKED);
    terminal
}

fn notes(home: &Home) -> String {
    std::fs::read_to_string(home.path("notes.md")).unwrap()
}

/// A shell that runs the program, then another command.
fn shell(home: &Home, args: &[&str], then: &str) -> Terminal {
    let words: Vec<String> = [program()].iter().chain(args).map(|word| word.to_string()).collect();
    home.shell_command(&Setup::default(), &format!("\"$@\"; echo ended with $?; {then}"), &words)
}

#[test]
fn escape_is_a_no_in_a_chat() {
    let home = Home::new();
    let mut terminal = about_to_export(&home);
    for no in [ESC, CSI_ESC, CTRL_C, CTRL_D] {
        terminal.keys(no).sees("nothing changed").at_prompt();
        terminal.wiped().line("/export notes.md").at(ASKED);
    }
    assert_eq!(notes(&home), "precious");
    terminal.line("y").sees("to notes.md").at_prompt();
    assert!(notes(&home).contains("Hello"));
    assert_eq!(terminal.keys(CTRL_D).ends(), 0);
}

#[test]
fn an_answer_is_no_line_of_the_chat() {
    let home = Home::new();
    let mut terminal = about_to_export(&home);
    terminal.keys(UP).keys(TAB).keys(CTRL_R).keys("y").at(&format!("{ASKED}y"));
    terminal.keys(ENTER).sees("to notes.md").at_prompt();
    terminal.keys(UP).at("> /export notes.md");
    terminal.keys(CTRL_U).at_prompt();
    assert_eq!(terminal.keys(CTRL_D).ends(), 0);
    let kept = std::fs::read_to_string(home.path(".local/state/fireside/lines")).unwrap();
    assert!(!kept.lines().any(|line| line.trim() == "y"), "{kept}");
}

#[test]
fn an_answer_can_be_changed() {
    let home = Home::new();
    let mut terminal = about_to_export(&home);
    terminal.keys("no").at(&format!("{ASKED}no")).keys("\x7f\x7f\x7f").at(ASKED);
    terminal.keys("日本").at(&format!("{ASKED}日本")).keys(CTRL_U).at(ASKED);
    terminal.keys("oh \x1b[200~no\rno\x1b[201~").at(&format!("{ASKED}oh no no"));
    terminal.keys("\x17").at(&format!("{ASKED}oh no ")).keys(CTRL_U).keys("yes").at(&format!("{ASKED}yes"));
    terminal.keys(ENTER).sees("to notes.md").at_prompt();
}

#[test]
fn an_answer_that_needs_more_rows_can_be_taken_back() {
    let home = Home::new();
    history_of_one(&home);
    home.write("notes.md", "precious");
    let setup = Setup { columns: 24, ..Setup::default() };
    let mut terminal = home.terminal_as(&setup, &["history", "export", &id(&home, 0), "notes.md"]);
    terminal.sees("[y/N] ").keys(&"x".repeat(60)).sees(&"x".repeat(24)).keys(CTRL_U);
    terminal.wait("the question alone", |screen| {
        let (row, column) = screen.cursor_position();
        !screen.contents().contains('x') || screen.contents_between(row, 0, row, column).ends_with("[y/N] ")
    });
    terminal.keys("y").sees("[y/N] y").keys(ENTER);
    assert_eq!(terminal.ends(), 0);
}

fn history_of_one(home: &Home) {
    chat(home, "one\n", &[], "Hello\n").code(0);
}

#[test]
fn escape_is_a_no_outside_a_chat() {
    let home = Home::new();
    history_of_one(&home);
    home.write("notes.md", "precious");
    let id = id(&home, 0);
    for (keys, code) in [(ESC, 0), (CSI_ESC, 0), ("y\x7f\r", 0), (CTRL_D, 0), (CTRL_C, 130)] {
        let mut terminal = home.terminal(&["history", "rm", &id]);
        terminal.sees("for good? [y/N] ").keys(keys);
        assert_eq!(terminal.ends(), code, "{keys:?}");
        assert!(!terminal.screen().contains("^["), "{}", terminal.screen());
        drop(terminal);
        let mut terminal = home.terminal(&["history", "export", &id, "notes.md"]);
        terminal.sees("Replace it? [y/N] ").keys(keys);
        assert_eq!(terminal.ends(), if code == 0 { 1 } else { code }, "{keys:?}");
    }
    assert_eq!(notes(&home), "precious");
    history(&home, &["list"]).done().code(0).stdout_has("Hello");
    let mut terminal = home.terminal(&["history", "rm", &id]);
    terminal.sees("for good? [y/N] ").line("yes").sees("removed");
    assert_eq!(terminal.ends(), 0);
}

#[test]
fn what_is_typed_behind_an_answer_is_for_the_shell() {
    let home = Home::new();
    history_of_one(&home);
    let mut terminal = shell(&home, &["history", "rm", &id(&home, 0)], "read line; echo \"got $line\"");
    terminal.sees("for good? [y/N] ").keys("n\rnext\r").sees("ended with 0").sees("got next");
}

#[test]
fn escape_leaves_a_list_of_numbers() {
    let home = Home::new();
    history_of_one(&home);
    let [option, script] = home.script("answers", "One.\n");
    let mut terminal = home.terminal(&[&option, &script, "--plain", "--resume"]);
    terminal.sees("Number or id: ").keys("7").keys(ESC);
    assert_eq!(terminal.ends(), 130);
}
