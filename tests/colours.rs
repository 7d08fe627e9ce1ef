//! Colours: the prompt stands out, notices are dim, failures red; no colour where it is not wanted.

use crate::support::Home;
use crate::support::pty::*;

/// The place on the screen where a text begins.
fn place(screen: &vt100::Screen, text: &str) -> (u16, u16) {
    let rows: Vec<String> = screen.rows(0, 100).collect();
    let row = rows.iter().position(|row| row.contains(text)).unwrap_or_else(|| panic!("no {text}: {rows:?}"));
    (row as u16, rows[row].find(text).unwrap() as u16)
}

/// The style of a text: bold, dim, red.
fn drawn(screen: &vt100::Screen, text: &str) -> (bool, bool, bool) {
    let (row, column) = place(screen, text);
    let cell = screen.cell(row, column).unwrap();
    (cell.bold(), cell.dim(), cell.fgcolor() == vt100::Color::Idx(1))
}

const USUAL: (bool, bool, bool) = (false, false, false);
const BOLD: (bool, bool, bool) = (true, false, false);
const DIM: (bool, bool, bool) = (false, true, false);
const RED: (bool, bool, bool) = (false, false, true);

fn coloured(environment: Vec<(&'static str, String)>, more: &[&str], wanted: [(bool, bool, bool); 5]) {
    let home = Home::new();
    let script = home.script("answers", "Mountains.\n");
    let args = [&script.each_ref().map(String::as_str)[..], more].concat();
    let mut terminal = home.terminal_as(&Setup { environment, ..Setup::default() }, &args);
    terminal
        .at_prompt()
        .line("Say it")
        .sees("Mountains.")
        .at_prompt()
        .line("/frobnicate")
        .sees("hint: ")
        .at_prompt();
    terminal.wait("the colours", |screen| {
        let texts =
            ["> Say it", "Say it", "Mountains.", "/help lists the commands, Ctrl-D", "fireside: there is no"];
        let found = texts.map(|text| drawn(screen, text));
        assert_eq!(found, wanted, "{more:?}");
        drawn(screen, "hint: ") == wanted[3]
    });
    assert_eq!(terminal.keys(CTRL_D).ends(), 0);
}

#[test]
fn the_prompt_stands_out_notices_are_dim_and_failures_red() {
    coloured(vec![], &[], [BOLD, USUAL, USUAL, DIM, RED]);
    coloured(vec![("NO_COLOR", "1".into())], &["--color", "always"], [BOLD, USUAL, USUAL, DIM, RED]);
}

#[test]
fn no_colour_where_none_is_wanted() {
    coloured(vec![("NO_COLOR", "1".into())], &[], [USUAL; 5]);
    coloured(vec![("TERM", "dumb".into())], &[], [USUAL; 5]);
    coloured(vec![], &["--plain"], [USUAL; 5]);
    coloured(vec![], &["--color", "never"], [USUAL; 5]);
}

#[test]
fn colours_can_be_changed_in_a_chat() {
    let home = Home::new();
    let mut terminal = home.terminal(&home.script("answers", "Mountains.\n"));
    terminal.at_prompt().line("/set color never").sees("color is never").at_prompt();
    terminal.line("Say it").sees("Mountains.").at_prompt();
    terminal.wait("no colour", |screen| drawn(screen, "> Say it") == USUAL);
    assert_eq!(terminal.keys(CTRL_D).ends(), 0);
}
