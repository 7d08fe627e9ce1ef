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

/// What terminals reply to a question about their background (xterm's OSC 11).
const WHITE: &str = "\x1b]11;rgb:ffff/ffff/ffff\x1b\\";
const BLACK: &str = "\x1b]11;rgb:0000/0000/0000\x07";
const CODE: &str = "```rust\\nlet a = \"text\";\\n```\n";

/// The colours of a keyword and of a string on the screen.
fn of_code(terminal: &mut Terminal) -> [vt100::Color; 2] {
    terminal.sees("let a = \"text\";\n```");
    let colour = |screen: &vt100::Screen, (row, column)| screen.cell(row, column).unwrap().fgcolor();
    terminal
        .screen_as(|screen| ["let a", "\"text"].map(|text| place(screen, text)).map(|at| colour(screen, at)))
}

/// The same in a chat on a terminal with this reply.
fn in_chat(environment: &[(&'static str, &str)], more: &[&str], reply: &str) -> [vt100::Color; 2] {
    let home = Home::new();
    let script = home.script("answers", CODE);
    let args = [&script.each_ref().map(String::as_str)[..], more].concat();
    let environment = environment.iter().map(|(name, value)| (*name, value.to_string())).collect();
    let mut terminal = home.terminal_as(&Setup { environment, ..Setup::default() }, &args);
    terminal.at_prompt().keys(reply).line("Say it");
    let colours = of_code(&mut terminal);
    assert_eq!(terminal.at_prompt().keys(CTRL_D).ends(), 0);
    colours
}

#[test]
fn code_has_colours_for_the_background() {
    let [light, dark] = ["light", "dark"].map(|theme| in_chat(&[], &["--theme", theme], ""));
    assert!(light[0] != light[1] && dark[0] != dark[1], "{light:?} {dark:?}");
    assert!(light[0] != dark[0] && light[1] != dark[1], "{light:?} {dark:?}");
    let uncoloured = [vt100::Color::Default; 2];
    assert!(light.iter().chain(&dark).all(|colour| *colour != uncoloured[0]), "{light:?} {dark:?}");
    let (of_light, of_dark) = (("COLORFGBG", "0;15"), ("COLORFGBG", "15;0"));
    for (environment, theme, reply, expected) in [
        (None, "auto", "", dark),
        (None, "auto", WHITE, light),
        (None, "auto", BLACK, dark),
        (Some(of_light), "auto", "", light),
        (Some(of_light), "auto", BLACK, dark),
        (Some(of_dark), "auto", WHITE, light),
        (Some(of_light), "dark", WHITE, dark),
        (Some(("NO_COLOR", "1")), "light", WHITE, uncoloured),
    ] {
        let environment: Vec<_> = environment.into_iter().collect();
        let found = in_chat(&environment, &["--theme", theme], reply);
        assert_eq!(found, expected, "{environment:?} {theme} {reply:?}");
    }
    // A single answer asks nothing: the reply might come when the shell reads again.
    for (environment, expected) in [(vec![], dark), (vec![("COLORFGBG", "0;15".to_string())], light)] {
        let home = Home::new();
        let args = [&home.script("answers", CODE)[..], &["-p".into(), "Say it".into()]].concat();
        let mut terminal = home.terminal_as(&Setup { environment, ..Setup::default() }, &args);
        assert_eq!(of_code(&mut terminal), expected);
        assert_eq!(terminal.ends(), 0);
        assert!(!String::from_utf8_lossy(&terminal.bytes()).contains("\x1b]11"), "it asks");
    }
}
