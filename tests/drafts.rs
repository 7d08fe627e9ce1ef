//! The line being typed: never lost, never sent unasked, and on the screen as it will be sent.

use crate::support::Home;
use crate::support::pty::*;

fn chat(home: &Home, answers: &str) -> Terminal {
    let mut terminal = home.terminal(&home.script("answers", answers));
    terminal.at_prompt();
    terminal
}

fn slow() -> String {
    (1..=600).map(|n| format!("\\pw{n} ")).collect::<String>() + "\n"
}

/// A stop also stops queued messages: they return to the line.
#[test]
fn what_is_queued_is_not_sent_after_a_stop() {
    let home = Home::new();
    let mut terminal = chat(&home, &(slow() + &slow() + &slow() + "Four.\n"));
    for stop in [CTRL_C, ESC, CSI_ESC] {
        terminal.wiped().line("Count").sees("w2 ").keys("second\rthird\r").sees("w6 ").keys(stop);
        terminal.sees("stopped; /more continues").sees("> second\nthird").at("third");
        terminal.keys(CTRL_C).at_prompt();
    }
    terminal.wiped().keys(UP).sees("> second\nthird").keys(ENTER).sees("Four.").at_prompt();
    terminal.wiped().line("/show prompt").sees("[user] second\nthird\n>").at_prompt();
    assert_eq!(terminal.keys(CTRL_D).ends(), 0);
}

/// Deleting the newline between two rows joins them on the screen.
#[test]
fn a_deleted_newline_is_gone_from_the_screen() {
    let home = Home::new();
    let mut terminal = chat(&home, "One.\n");
    for (keys, left) in [
        ("aa\x1b\r\x7fbb", "> aabb"),
        ("\x1b[200~aa\r\x1b[201~\x7fbb", "> aabb"),
        ("\x1b[200~aa\r\r\x1b[201~\x7f\x7fbb", "> aabb"),
        ("aa\x1b\rcc\x15\x7fbb", "> aabb"),
        ("\x1b[200~aa\tcc\x1b[201~\x17bb", "> aa\tbb"),
        ("\x1b[200~aa\t\x1b[201~\x7fbb", "> aabb"),
        ("aa\x1b\r\x15bb", "> aabb"),
    ] {
        terminal.wiped().keys("\x0c").at_prompt().keys(keys);
        terminal.wait(&format!("{left:?} alone"), |screen| {
            let shown = screen.contents();
            shown.trim_end() == left.replace("\t", "      ") || shown.trim_end() == left.replace("\t", "    ")
        });
        terminal.keys(CTRL_C);
    }
}

#[test]
fn a_search_that_is_given_up_leaves_the_draft() {
    let home = Home::new();
    let mut terminal = chat(&home, "One.\nTwo.\n");
    terminal.line("first").sees("One.").at_prompt();
    for search in ["\x12first", "\x12fir\x12\x12", "\x12no such line"] {
        terminal.keys("precious draft").at("> precious draft").keys(search).sees("search)`");
        terminal.keys(CTRL_C).at_prompt();
        terminal.keys(UP).at("> precious draft").keys(UP).at("> first").keys(DOWN).keys(CTRL_U).at_prompt();
    }
    terminal.keys("\x12first").sees("search)`first': first").keys(ENTER).sees("Two.").at_prompt();
    terminal.keys("given up").at("> given up").keys(CTRL_C).at_prompt().keys(UP).at("> given up");
}

#[test]
fn escape_leaves_the_change_of_a_message() {
    let home = Home::new();
    let mut terminal = chat(&home, "One.\nTwo.\n");
    terminal.line("A red car").sees("One.").at_prompt();
    for escape in [ESC, CSI_ESC] {
        terminal.wiped().line("/edit").at("> A red car").keys("pet").at("> A red carpet").keys(escape);
        terminal.sees("nothing changed").at_prompt();
    }
    terminal.wiped().line("/edit").at("> A red car").keys(CTRL_R).keys("/ed").sees("search)`/ed': /edit");
    terminal
        .keys(CSI_ESC)
        .at("> A red car")
        .keys("t")
        .at("> A red cart")
        .keys(ENTER)
        .sees("Two.")
        .at_prompt();
    terminal.keys("a b").at("> a b").keys(CSI_ESC).keys("c").at("> a bc").keys(CTRL_U).at_prompt();
    terminal.line("/show prompt").sees("[user] A red cart\n>").at_prompt();
    assert_eq!(terminal.keys(CTRL_D).ends(), 0);
}
