//! `--plain` and TERM=dumb: whole lines in order, for screen readers and logs. Colours in pipes, and the
//! terminal's background.

use crate::support::pty::*;
use crate::support::{Home, tiny};

const ANSWERS: &str = "<think>The user wants mountains, which takes some thought.</think>Mountains and valleys, \\pvery \
                       \\pslowly, with extraordinarily long incomprehensibilities in it.\n!broken\n**Bold** and `code`\\n\\n| a | b |\\n|---|---|\\n| 1 | 2 |\n";

/// Fails if the output has an escape sequence, a backspace, or a carriage return that does not end a line.
#[track_caller]
fn only_lines(terminal: &Terminal, what: &str) {
    let bytes = terminal.bytes();
    let text = String::from_utf8_lossy(&bytes).replace("\r\n", "\n");
    let place = text.find(['\x1b', '\u{9b}', '\x08', '\r', '\x07']);
    assert_eq!(place.map(|at| &text[at.saturating_sub(40)..]), None, "{what}");
}

#[test]
fn plain_output_is_lines_only() {
    for columns in [20, 80, 200] {
        for (flags, term) in [(&["--plain", "--show-thinking"][..], "xterm"), (&[], "dumb")] {
            let home = Home::new();
            home.write("notes.txt", "Some notes about mountains.");
            let script = home.script("answers", ANSWERS);
            let args = [&script.each_ref().map(String::as_str)[..], flags].concat();
            let setup = Setup { columns, environment: vec![("TERM", term.into())], ..Setup::default() };
            let mut terminal = home.terminal_as(&setup, &args);
            terminal.at_prompt().wiped().line("Tell me").sees("it.\n").sees("\n> ").at_prompt();
            let lines =
                ["/help", "/set", "/file notes.txt", "/context", "/history", "/stats", "/nosuch", "/tokens"];
            for line in lines {
                terminal
                    .wiped()
                    .line(line)
                    .wait(line, |screen| screen.contents().trim_end().ends_with("\n>"));
            }
            terminal.wiped().line("Ho").sees("broken").at_prompt();
            terminal.wiped().line("Hi").sees("**Bold** and `code`\n\n| a | b |").at_prompt();
            terminal.wiped().line("/resume").sees("Number or id: ").line("1").at_prompt();
            terminal.wiped().line("/undo").at_prompt().wiped().line("/export --force notes.md").at_prompt();
            assert_eq!(terminal.keys(CTRL_D).ends(), 0);
            only_lines(&terminal, &format!("{flags:?} {term} {columns}"));
        }
    }
}

#[test]
fn plain_runs_and_subcommands_are_lines_only() {
    let home = Home::new();
    let script = home.script("answers", ANSWERS);
    let model = tiny("llama-bpe");
    let model = model.to_str().unwrap();
    let ask = [script[0].as_str(), script[1].as_str(), "-p", "Say it", "--show-thinking"];
    for args in [
        &ask[..],
        &["-m", model, "-p", "word ", "-n", "4", "--raw"],
        &["list", "--all"],
        &["show", model],
        &["check", model],
        &["pull"],
        &["config"],
        &["doctor"],
        &["history", "list"],
        &["history", "search", "mountains"],
        &["help", "keys"],
        &["--help"],
        &["nosuch", "--nosuch"],
    ] {
        for plain in [true, false] {
            let more: &[&str] = if plain { &["--plain"] } else { &[] };
            let term = if plain { "xterm" } else { "dumb" };
            let setup = Setup { environment: vec![("TERM", term.into())], ..Setup::default() };
            let mut terminal = home.terminal_as(&setup, &[args, more].concat());
            terminal.ends();
            only_lines(&terminal, &format!("{args:?} {term}"));
        }
    }
}

#[test]
fn colours_reach_a_pipe_only_if_forced() {
    let home = Home::new();
    let run = |variables: &[(&str, &str)], args: &[&str]| {
        let args = [args, &["--stats"]].concat();
        let run = home.scripted("**Mountains**\n", &args);
        variables.iter().fold(run, |run, (name, value)| run.env(name, value)).done()
    };
    for (variables, args, coloured) in [
        (&[][..], &[][..], false),
        (&[("CLICOLOR_FORCE", "1")], &[], true),
        (&[("CLICOLOR_FORCE", "1"), ("TERM", "dumb")], &[], true), // TERM is not about a pipe
        (&[("CLICOLOR_FORCE", "0")], &[], false),
        (&[("CLICOLOR_FORCE", "")], &[], false),
        (&[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")], &[], false),
        (&[("CLICOLOR_FORCE", "1")], &["--color", "never"], false),
        (&[("CLICOLOR_FORCE", "1")], &["--plain"], false),
    ] {
        let done = run(variables, &[&["-p", "Say it"], args].concat()).stdout("**Mountains**\n");
        assert_eq!(done.stderr.contains("\x1b[2m"), coloured, "{variables:?} {args:?}: {:?}", done.stderr);
        let help = run(variables, &["--help"]);
        assert!(!help.stdout.contains('\x1b'), "{variables:?}");
    }
}

#[test]
fn the_reply_about_the_background_is_not_typed_text() {
    let home = Home::new();
    let script = home.script("answers", "Mountains.\n");
    let mut terminal = home.terminal(&script);
    let asked = |terminal: &Terminal| String::from_utf8_lossy(&terminal.bytes()).contains("\x1b]11;?");
    terminal.at_prompt().keys("He").keys("\x1b]11;rgb:fdfd/f6f6/e3e3\x1b\\").keys("llo").at("> Hello");
    assert!(asked(&terminal));
    assert_eq!(terminal.keys(CTRL_U).at_prompt().keys(CTRL_D).ends(), 0);
    drop(terminal);
    for (args, term) in
        [(&["-p", "Say it"][..], "xterm"), (&["--plain"], "xterm"), (&[], "dumb"), (&[], "linux")]
    {
        let setup = Setup { environment: vec![("TERM", term.into())], ..Setup::default() };
        let mut terminal =
            home.terminal_as(&setup, &[&script.each_ref().map(String::as_str)[..], args].concat());
        if !args.contains(&"-p") {
            terminal.at_prompt().keys(CTRL_D);
        }
        terminal.ends();
        assert!(!asked(&terminal), "{args:?} {term}");
    }
}
