//! Nothing acts on the terminal, whatever a model, a file's metadata, a name, a path, llama.cpp or the
//! terminal itself says.

use std::path::PathBuf;

use crate::history::{chat, history, id};
use crate::support::pty::*;
use crate::support::{Done, GGUF_STRING, Home, program, tiny, with_metadata};

/// Text that retitles the window, recolours, queries the terminal, reverses the writing direction, hides, and
/// leaves a sequence unfinished.
const EVIL: &str = "a\x1b]0;title\x07b\x1b[6nc\u{9b}31md\u{90}e\u{61c}f\u{2028}g\u{2029}h\u{e0041}\u{e007f}i\u{202e}j\rk\x7fl\x1b]8;;m";

/// Whether a character may act on a terminal.
fn acts(c: char) -> bool {
    let written = ['\u{61c}', '\u{200e}', '\u{200f}', '\u{2028}', '\u{2029}'].contains(&c);
    let turns = ('\u{202a}'..='\u{202e}').contains(&c) || ('\u{2066}'..='\u{2069}').contains(&c);
    let tags = ('\u{e0000}'..='\u{e007f}').contains(&c);
    (c.is_control() && c != '\n' && c != '\t') || written || turns || tags
}

#[track_caller]
fn harmless(done: Done) -> Done {
    let all = done.stdout.clone() + &done.stderr;
    if let Some(c) = all.chars().find(|c| acts(*c)) {
        panic!("{:?} came out raw; {done:#?}", c);
    }
    done
}

/// A model whose metadata is full of such text, in the models folder under such a name.
fn evil_model(home: &Home) -> PathBuf {
    let bytes = std::fs::read(tiny("llama-bpe")).unwrap();
    let value = [&(EVIL.len() as u64).to_le_bytes(), EVIL.as_bytes()].concat();
    let bytes = with_metadata(&bytes, "general.description", GGUF_STRING, &value);
    home.write(&format!(".local/share/fireside/models/{}.gguf", EVIL.replace('/', "")), bytes)
}

#[test]
fn names_and_metadata_come_out_as_visible_signs_wherever_they_go() {
    let home = Home::new();
    let model = evil_model(&home);
    chat(&home, "one\n", &[], "Hi\n").code(0);
    let model = model.to_str().unwrap();
    let (none, option) = (format!("no{EVIL}"), format!("--{EVIL}"));
    for args in [
        &["list"][..],
        &["list", "--all"],
        &["show", model],
        &["show", model, "--metadata"],
        &["config", "-m", model],
        &["check", model],
        &["doctor"],
        &["-m", model, "-v", "-p", "Hi", "-n", "0", "--no-stdin"],
        &["-m", &none, "-p", "Hi", "--no-stdin"],
        &["show", EVIL],
        &["--title", "x", "history", "show", EVIL],
        &[&option],
        &["--resume", EVIL, "-p", "Hi", "--no-stdin"],
        &["-m", model, "-p", "Hi", "--no-stdin", "-f", EVIL],
    ] {
        let done = harmless(home.run(args).done());
        let all = done.stdout.clone() + &done.stderr;
        let shown = ["\u{241b}", "\\u001b", "<U+009B>"].iter().any(|sign| all.contains(sign));
        assert!(args[0] == "doctor" || shown, "{args:?}: {done:#?}");
    }
}

#[test]
fn what_was_said_comes_out_of_lists_and_searches_as_visible_signs() {
    let home = Home::new();
    chat(&home, &format!("{EVIL}\n"), &["--title", EVIL], "sky\n").code(0);
    let id = id(&home, 0);
    for args in
        [&["list"][..], &["search", "sky"], &["show", &id], &["search", "sky", "--json"], &["list", "--json"]]
    {
        harmless(history(&home, args).done().code(0));
    }
    chat(&home, "x\n", &["--continue"], "/history\n/context\n/show prompt\n/resume zz\u{9b}z\n").code(0);
}

#[test]
fn json_says_the_same_and_does_nothing() {
    let home = Home::new();
    let model = evil_model(&home);
    let done = harmless(home.run(&["show", "--json", "--metadata", model.to_str().unwrap()]).done().code(0));
    assert_eq!(done.json()["metadata"]["general.description"], EVIL);
    let answer = EVIL.replace(['\n', '\r'], "");
    let done = harmless(home.scripted(&format!("{answer}\n"), &["-p", "a", "--json"]).done().code(0));
    assert_eq!(done.json()["text"], answer);
}

#[test]
fn an_answer_and_an_export_go_through_a_pipe_unchanged() {
    let home = Home::new();
    let answer = EVIL.replace(['\n', '\r'], "");
    home.scripted(&format!("{answer}\n"), &["-p", "a"]).done().code(0).stdout(&format!("{answer}\n"));
    chat(&home, &format!("{answer}\n"), &[], "sky\n").code(0);
    let exported = history(&home, &["export", &id(&home, 0)]).done().code(0).stdout;
    assert!(exported.contains(&answer), "{exported:?}");
}

#[test]
fn an_answer_on_a_terminal_is_made_of_visible_signs() {
    let home = Home::new();
    let answer = EVIL.replace(['\n', '\r'], "");
    let mut terminal = home.terminal(&home.script("answers", &format!("{answer}\nTwo.\n")));
    terminal.at_prompt().line("Hi").sees("a\u{241b}]0;title\u{2407}b\u{241b}[6nc<U+009B>31md<U+0090>e<U+061C>f<U+2028>g<U+2029>h<U+E0041><U+E007F>i");
    terminal.at_prompt().line("Ho").sees("Two.").at_prompt();
}

/// The terminal's replies to another program's queries: cursor position, features, colours.
const REPLIES: &[&str] = &[
    "\x1b[24;80R",
    "\x1b[9;1R",
    "\x1b[100;5R",
    "\x1b[5;100R",
    "\x1b[120;100R",
    "\x1b[?24;80;1R",
    "\x1b[?62;22c",
    "\x1b[>0;276;0c",
    "\x1b[0n",
    "\x1b[?2004;1$y",
    "\x1b[8;50;100t",
    "\x1b]11;rgb:0000/0000/0000\x1b\\",
    "\x1b]11;rgb:ffff/ffff/ffff\x07",
    "\x1bP>|XTerm(388)\x1b\\",
    "\x1bP1$r0m\x1b\\",
    "\x1b[I",
    "\x1b[O",
];

#[test]
fn what_a_terminal_answers_is_not_typed_text() {
    let home = Home::new();
    let slow = (1..=8).map(|n| format!("\\pw{n} ")).collect::<String>();
    let mut terminal = home.terminal(&home.script("answers", &format!("{slow}\n")));
    terminal.at_prompt();
    for reply in REPLIES {
        terminal.keys("ab").at("> ab").keys(reply).keys("cd");
        terminal.at("> abcd").keys(CTRL_U).at_prompt();
    }
    terminal
        .line("Hi")
        .sees("w2")
        .keys("while ")
        .keys(REPLIES[1])
        .keys("it")
        .keys(REPLIES[6])
        .keys(" writes");
    terminal.sees("w8").at("> while it writes").keys(CTRL_U).at_prompt();
    for reply in REPLIES {
        terminal.keys(reply);
    }
    terminal.keys("x").at("> x").keys("\x7f").at_prompt();
    assert_eq!(terminal.keys(CTRL_D).ends(), 0);
}

#[test]
fn keys_that_look_like_answers_are_keys() {
    let home = Home::new();
    let mut terminal = home.terminal(&home.script("answers", "One.\n"));
    let ends = |screen: &vt100::Screen, line: &str| screen.contents().trim_end().ends_with(line);
    terminal.at_prompt().keys("a b\x1b[1;5Dx").wait("Ctrl-Left", |screen| ends(screen, "> a xb"));
    terminal.keys("\x1b[1;5Cy"); // Ctrl-Right
    terminal.wait("keys to do what they do", |screen| ends(screen, "> a xby"));
    terminal.keys(CTRL_U).keys("\x1b[29~").keys("5; 7R and 62;22c").at("> 5; 7R and 62;22c"); // a key without meaning here
}

#[test]
fn what_a_terminal_answers_is_not_typed_text_in_a_question_or_before_the_start_either() {
    let home = Home::new();
    let words: Vec<String> =
        [program().to_string()].into_iter().chain(home.script("answers", "One.\n")).collect();
    let mut terminal = home.shell_command(&Setup::default(), "read start; exec \"$@\"", &words);
    terminal.keys("go\r").keys(REPLIES[1]).keys("qui").keys(REPLIES[6]).keys("ck\r").sees("One.").at_prompt();
    terminal.line("/show prompt").sees("[user] quick\n").at_prompt();
    drop(terminal);
    let setup = Setup { environment: vec![("TERM", "dumb".into())], ..Setup::default() };
    let mut terminal = home.terminal_as(&setup, &home.script("answers", "One.\n"));
    terminal.at_prompt().keys("du").keys(REPLIES[1]).line("mb").sees("One.").at_prompt();
    terminal.wiped().line("/show prompt").sees("[user] dumb\n").at_prompt();
}

#[test]
fn a_line_with_control_characters_is_shown_as_visible_signs_while_it_is_typed() {
    let home = Home::new();
    let editor = home.write("editor.sh", "printf 'a\\033]0;evil\\007b\\302\\23331mc' > \"$1\"");
    let setup =
        Setup { environment: vec![("EDITOR", format!("sh '{}'", editor.display()))], ..Setup::default() };
    let mut terminal = home.terminal_as(&setup, &home.script("answers", "One.\n"));
    terminal
        .at_prompt()
        .keys(CTRL_X_CTRL_E)
        .sees("> a\u{241b}]0;evil\u{2407}b<U+009B>31mc")
        .keys(ENTER)
        .sees("One.");
    terminal.at_prompt().wiped().keys(UP).sees("> a\u{241b}]0;evil").keys(CTRL_U).at_prompt();
    let bytes = String::from_utf8_lossy(&terminal.bytes()).into_owned();
    assert!(!bytes.contains("\x1b]0;evil") && !bytes.contains('\u{9b}'), "{bytes:?}");
    terminal.line("/show prompt").sees("[user] a\u{241b}]0;evil");
}

#[test]
fn plain_has_no_colour_anywhere() {
    let home = Home::new();
    chat(&home, "sky\n", &[], "sky\n").code(0);
    let coloured = |terminal: &mut Terminal| {
        let bytes = String::from_utf8_lossy(&terminal.bytes()).into_owned();
        bytes.split("\x1b[").skip(1).any(|rest| {
            let end = rest.find(|c: char| !c.is_ascii_digit() && c != ';').unwrap_or(0);
            rest[end..].starts_with('m')
        })
    };
    home.write(".config/fireside/config.toml", "color = \"always\"");
    for (args, seen) in [
        (&["--plain", "history", "search", "sky"][..], "user: sky"),
        (&["--plain", "--nosuch"], "--nosuch"),
        (&["--plain", "-m", "nosuch", "-p", "a"], "nosuch"),
        (&["--plain", "--help"], "variable for the chat template"),
        (&["--help", "--plain"], "variable for the chat template"),
    ] {
        let mut terminal = home.terminal(args);
        terminal.wait(seen, |screen| screen.contents().contains(seen));
        terminal.ends();
        assert!(!coloured(&mut terminal), "{args:?}: {:?}", String::from_utf8_lossy(&terminal.bytes()));
    }
    let script = home.script("answers", "One.\n!broken\n");
    let mut terminal = home.terminal(&[&script[0], &script[1], "--plain"]);
    terminal.at_prompt().line("Hi").sees("One.").at_prompt().line("Ho").sees("broken");
    terminal
        .sees("(not sent: Ho)")
        .at_prompt()
        .line("/set color always")
        .at_prompt()
        .line("/nosuch")
        .sees("nosuch")
        .at_prompt();
    assert!(!coloured(&mut terminal), "{:?}", String::from_utf8_lossy(&terminal.bytes()));
    drop(terminal);
    std::fs::create_dir_all(home.path(".config/fireside")).unwrap();
    home.write(".config/fireside/config.toml", "nosuch = 1\n");
    let mut terminal = home.terminal(&["--plain"]);
    terminal.sees("nosuch").ends();
    assert!(!coloured(&mut terminal), "{:?}", String::from_utf8_lossy(&terminal.bytes()));
}
