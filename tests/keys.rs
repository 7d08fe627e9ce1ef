//! The prompt in a real pseudo-terminal: how keys change the line being typed.

use std::os::unix::fs::PermissionsExt;

use crate::support::Home;
use crate::support::pty::*;

/// A chat whose answers are One, Two, Three and so on.
const ANSWERS: &str = "One.\nTwo.\nThree.\nFour.\nFive.\n";

fn chat(home: &Home) -> Terminal {
    chat_as(home, &Setup::default())
}

fn chat_as(home: &Home, setup: &Setup) -> Terminal {
    let mut terminal = home.terminal_as(setup, &home.script("answers", ANSWERS));
    terminal.at_prompt();
    terminal
}

/// Checks the prompt that the model got, as `/show prompt` prints it.
#[track_caller]
fn model_saw(terminal: &mut Terminal, text: &str) {
    terminal.at_prompt().wiped().line("/show prompt").sees(text);
}

#[test]
fn a_line_is_answered_with_a_line_of_stats_after_it() {
    let home = Home::new();
    let mut terminal = chat(&home);
    terminal.sees("/help lists the commands, Ctrl-D leaves");
    terminal.line("Hi").sees("> Hi\nOne.\n1 token, ").sees("context 2 of 1000\n> ").at_prompt();
    terminal.line("/set stats off").sees("stats is off\n> ").at_prompt();
    terminal.line("Ho").sees("> Ho\nTwo.\n>").at_prompt();
    assert_eq!(terminal.keys(CTRL_D).ends(), 0);
}

#[test]
fn ctrl_c_clears_the_line_and_up_brings_it_back() {
    let home = Home::new();
    let mut terminal = chat(&home);
    terminal.keys("not quite").at("> not quite");
    terminal.keys(CTRL_C).at_prompt().sees("> not quite\n>");
    terminal.keys(UP).at("> not quite");
    terminal.line(" right").sees("> not quite right\nOne.");
    model_saw(&mut terminal, "[user] not quite right\n");
}

#[test]
fn ctrl_c_twice_at_an_empty_line_leaves() {
    let home = Home::new();
    let mut terminal = chat(&home);
    terminal.keys(CTRL_C).sees("press Ctrl-C again or Ctrl-D to leave").at_prompt();
    terminal.line("Hi").sees("One.").at_prompt();
    terminal.wiped().keys(CTRL_C).sees("press Ctrl-C again").at_prompt(); // the answer came between: this is the first
    assert_eq!(terminal.keys(CTRL_C).ends(), 0);
}

#[test]
fn ctrl_d_leaves_only_at_an_empty_line() {
    let home = Home::new();
    let mut terminal = chat(&home);
    terminal.keys("ab").at("> ab").keys("\x1b[D").keys(CTRL_D); // deletes the character under the cursor
    terminal.wait("> a", |screen| screen.contents().trim_end().ends_with("> a"));
    terminal.keys("\x7f").at_prompt();
    assert_eq!(terminal.keys(CTRL_D).ends(), 0);
}

#[test]
fn typed_lines_are_there_in_the_next_session_and_private() {
    let home = Home::new();
    let mut terminal = chat(&home);
    terminal.line("first").sees("One.").at_prompt();
    terminal.keys("one").keys(CTRL_J).keys("two").at("two").keys(ENTER).sees("Two.").at_prompt();
    terminal.keys("given up").at("> given up").keys(CTRL_C).at_prompt();
    assert_eq!(terminal.keys(CTRL_D).ends(), 0);
    drop(terminal);

    let file = home.path(".local/state/fireside/lines");
    let mode = std::fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let mut terminal = chat(&home);
    terminal.keys(UP).at("> given up");
    terminal.keys(UP).sees("> one\ntwo").keys(ENTER).sees("One.");
    model_saw(&mut terminal, "[user] one\ntwo\n");
    terminal.at_prompt().wiped();
    terminal.keys(CTRL_R).keys("fir").sees("first").keys(ENTER).sees("Two.");
    model_saw(&mut terminal, "[user] first\n");
    assert_eq!(terminal.at_prompt().keys(CTRL_D).ends(), 0);
}

#[test]
fn a_history_that_cannot_be_kept_is_a_warning() {
    let home = Home::new();
    home.write(".local/state", "a file where a folder should be");
    let mut terminal = chat(&home);
    terminal.line("Hi").sees("fireside: could not save typed lines: ").sees("One.").at_prompt();
    terminal.wiped().line("Ho").sees("Two.").at_prompt();
    assert!(!terminal.screen().contains("could not save"), "said twice");
    terminal.keys(UP).at("> Ho"); // kept in memory
}

#[test]
fn tab_completes_commands_settings_values_and_paths() {
    let home = Home::new();
    home.write("some notes.txt", "a b c\n");
    home.write("folder/deeper.txt", "d e\n");
    let mut terminal = chat(&home);
    terminal.keys("/und").keys(TAB).at("> /undo ").keys(CTRL_U);
    terminal.keys("/set rep").keys(TAB).at("> /set repeat-").keys(CTRL_U);
    terminal.keys("/set flash-attn of").keys(TAB).at("> /set flash-attn off ").keys(CTRL_U);
    terminal.keys("/show pro").keys(TAB).at("> /show prompt ").keys(CTRL_U);
    terminal.keys("/file fol").keys(TAB).at("> /file folder/").keys(TAB).at("> /file folder/deeper.txt");
    terminal.keys(CTRL_U).keys("/file som").keys(TAB).at("> /file some\\ notes.txt");
    terminal.keys(ENTER).sees("attached some notes.txt to your next message: 5 bytes, 3 tokens").at_prompt();
    terminal.keys("plain wor").keys(TAB).keys("ds").at("> plain words").keys(CTRL_U);
    terminal.keys("/s").keys(TAB).keys(TAB).sees("/s\nsave").sees("set").sees("stats").sees("system");
}

#[test]
fn more_than_fits_is_offered_without_a_question() {
    let home = Home::new();
    (1..=150).for_each(|n| _ = home.write(&format!("many/file{n:03}.txt"), ""));
    home.write("many/fiz", "x y\n");
    let mut terminal = chat_as(&home, &Setup { rows: 10, columns: 60, ..Setup::default() });
    terminal.keys("/file many/").keys(TAB).at("> /file many/fi").keys(TAB).keys(TAB);
    terminal
        .sees("file001.txt")
        .sees("… and 1")
        .at("> /file many/fi")
        .keys(CSI_ESC)
        .keys("z")
        .at("> /file many/fiz");
    terminal.keys(ENTER).sees("attached many/fiz").at_prompt();
}

#[test]
fn a_pasted_block_is_one_message() {
    let home = Home::new();
    let mut terminal = chat(&home);
    terminal.keys("\x1b[200~first line\r\r  /exit\rlast \x1b[31mline\r\x1b[201~");
    terminal.sees("> first line\n\n  /exit\nlast ");
    terminal.keys(ENTER).sees("One.");
    model_saw(&mut terminal, "[user] first line\n\n  /exit\nlast line\n");
}

#[test]
fn ctrl_j_backslash_and_quotes_go_on_in_the_next_line() {
    let home = Home::new();
    let mut terminal = chat(&home);
    terminal.keys("one").keys(CTRL_J).keys("two").keys(ENTER).sees("One.");
    model_saw(&mut terminal, "[user] one\ntwo\n");
    terminal.at_prompt().wiped().line("/clear").at_prompt();
    terminal.line("one\\").line("two").sees("Two.");
    model_saw(&mut terminal, "[user] one\ntwo\n");
    terminal.at_prompt().wiped().line("/clear").at_prompt();
    terminal.line("\"\"\"one").line("/exit").line("two\"\"\"").sees("Three.");
    model_saw(&mut terminal, "[user] one\n/exit\ntwo\n");
}

#[test]
fn ctrl_x_ctrl_e_opens_the_editor_with_the_line() {
    let home = Home::new();
    let script = home.write("editor.sh", "sed -i 's/red/blue/; $a more' \"$1\"; stty -a > modes");
    let setup =
        Setup { environment: vec![("EDITOR", format!("sh '{}'", script.display()))], ..Setup::default() };
    let mut terminal = chat_as(&home, &setup);
    terminal.keys("a red car").at("> a red car").keys(CTRL_X_CTRL_E);
    terminal.sees("> a blue car\nmore").keys(ENTER).sees("One.");
    model_saw(&mut terminal, "[user] a blue car\nmore\n");
    let modes = std::fs::read_to_string(home.path("modes")).unwrap();
    for mode in [" icanon", " echo ", " icrnl"] {
        assert!(modes.contains(mode), "the editor got another terminal: {modes}");
    }
    terminal.at_prompt().wiped().line("/edit").sees("Two."); // adds a line every time
    model_saw(&mut terminal, "[user] a blue car\nmore\nmore\n");
}

#[test]
fn without_an_editor_the_line_stays() {
    let home = Home::new();
    let mut terminal = chat(&home);
    terminal.keys("kept").at("> kept").keys(CTRL_X_CTRL_E);
    terminal.sees("fireside: no editor is set\nhint: set EDITOR").at("> kept");
}

#[test]
fn twenty_columns_are_enough() {
    let home = Home::new();
    let setup = Setup { columns: 20, ..Setup::default() };
    let mut terminal = chat_as(&home, &setup);
    let long = "a message that is much longer than the window is wide";
    terminal.keys(long).sees_wrapped(&format!("> {long}")).keys(ENTER).sees("One.").at_prompt();
    terminal.line("/help").sees("Ctrl-R").at_prompt();
    terminal.wiped().line("/show prompt").sees_wrapped(&format!("[user] {long}")).at_prompt();
}

#[test]
fn the_window_may_change_while_one_types() {
    let home = Home::new();
    let mut terminal = chat(&home);
    let begun = "a message begun in a wide window";
    terminal.keys(begun).at(&format!("> {begun}"));
    terminal.resize(20).keys(" and ended in a narrow one");
    terminal.sees("rrow one").keys(ENTER).sees("One.").at_prompt();
    terminal.resize(100);
    model_saw(&mut terminal, &format!("[user] {begun} and ended in a narrow one\n"));
}

/// A terminal that reflows long lines when its window changes.
struct Tmux(std::path::PathBuf);

impl Tmux {
    fn run(&self, words: &[&str]) -> String {
        let mut tmux = std::process::Command::new("tmux");
        let output = tmux.arg("-S").arg(&self.0).args(["-f", "/dev/null"]).args(words).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Waits until the screen is as wanted.
    #[track_caller]
    fn wait(&self, what: &str, wanted: impl Fn(&str) -> bool) {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
        loop {
            let screen = self.run(&["capture-pane", "-p"]);
            if wanted(&screen) {
                return;
            }
            assert!(std::time::Instant::now() < deadline, "waited for {what}; the screen:\n{screen}");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}

impl Drop for Tmux {
    fn drop(&mut self) {
        self.run(&["kill-server"]);
    }
}

/// A chat in a window of 100 columns; `None` without tmux.
fn in_tmux(home: &Home, answers: &str) -> Option<Tmux> {
    if std::process::Command::new("tmux").arg("-V").output().is_err() {
        crate::support::cannot_run("tmux is not there");
        return None;
    }
    let tmux = Tmux(home.path("tmux"));
    let [option, script] = home.script("answers", answers);
    let line =
        format!("env HOME='{}' '{}' {option} '{script}'", home.path("").display(), crate::support::program());
    tmux.run(&["new-session", "-d", "-x", "100", "-y", "30", &line]);
    tmux.wait("the prompt", |screen| screen.contains("Ctrl-D leaves") && screen.trim_end().ends_with('>'));
    Some(tmux)
}

#[test]
fn a_window_that_is_narrowed_during_an_answer_takes_nothing_of_it() {
    let home = Home::new();
    let pause = "\\p".repeat(30);
    let Some(tmux) = in_tmux(&home, &format!("It begins.\\n{pause}Row two.\\nRow three.\\nRow four.\n"))
    else {
        return;
    };
    let long =
        "a question that takes one row of a wide window and three rows of a narrow one, as it is so long";
    tmux.run(&["send-keys", "-l", long]);
    tmux.run(&["send-keys", "Enter"]);
    tmux.wait("the answer", |screen| screen.contains("It begins."));
    tmux.run(&["resize-window", "-x", "35", "-y", "30"]);
    tmux.wait("the next prompt", |screen| screen.trim_end().ends_with("\n>"));
    let screen = tmux.run(&["capture-pane", "-p"]);
    for row in ["It begins.", "Row two.", "Row three.", "Row four.", "tokens", "context"] {
        assert!(screen.rsplit("long").next().unwrap().contains(row), "{row} is gone:\n{screen}");
    }
}

#[test]
fn a_narrower_window_leaves_no_row_of_the_line_behind() {
    let home = Home::new();
    let Some(tmux) = in_tmux(&home, ANSWERS) else { return };
    let begun = "a message begun in a wide window that is long enough to be broken more than once";
    tmux.run(&["send-keys", "-l", begun]);
    tmux.wait("the line", |screen| screen.contains(begun));
    for columns in ["60", "35", "20"] {
        tmux.run(&["resize-window", "-x", columns, "-y", "30"]);
        tmux.wait(&format!("one line in {columns} columns"), |screen| {
            let rows: Vec<&str> = screen.lines().collect();
            let prompt = rows.iter().position(|row| row.starts_with("> ")).unwrap_or(0);
            let typed: String = rows[prompt..].concat().split_whitespace().collect();
            typed == format!(">{begun}").split_whitespace().collect::<String>()
        });
    }
    tmux.run(&["resize-window", "-x", "100", "-y", "30"]);
    tmux.run(&["send-keys", "Enter"]);
    tmux.wait("the answer", |screen| screen.contains("One.") && screen.contains("Ctrl-D leaves"));
}

#[test]
fn a_dumb_terminal_gets_plain_lines() {
    let home = Home::new();
    let setup = Setup { environment: vec![("TERM", "dumb".into())], ..Setup::default() };
    let mut terminal = chat_as(&home, &setup);
    terminal.line("Hi").sees("> Hi\nOne.\n1 token, ").at_prompt();
    terminal.line("one\\").at("… ").line("two").sees("Two.").at_prompt();
    terminal.keys(CTRL_C).sees("press Ctrl-C again").at_prompt();
    terminal.line("/show prompt").sees("[user] one\ntwo\n").at_prompt();
    assert!(!terminal.bytes().contains(&0x1b), "an escape sequence on a dumb terminal");
    assert_eq!(terminal.keys(CTRL_D).ends(), 0);
}

/// The bytes that a terminal sends when this text is pasted.
fn pasted(text: &str) -> String {
    format!("\x1b[200~{}\x1b[201~", text.replace('\n', "\r"))
}

#[test]
fn pasted_text_is_sent_as_it_was_pasted() {
    let texts = [
        "cc -O2 \\\n  -o x x.c",                        // a shell's line
        "a & b \\\\\nc & d \\\\",                       // LaTeX
        "#define A(x) \\\n  do { x; } \\\n  while (0)", // C
        "C:\\dir\\",                                    // Windows
        "\"\"\"A docstring.\"\"\"\ndef f():\n    pass", // Python
        "\"\"\"one",
        "\"\"\"all of it\"\"\"",
        "/exit\n/clear\nboth",
    ];
    let home = Home::new();
    let mut terminal = chat_as(&home, &Setup::default());
    for text in texts {
        terminal.wiped().keys(&pasted(text));
        terminal.keys(ENTER).sees("1 token, ");
        model_saw(&mut terminal, &format!("[user] {text}\n"));
        terminal.at_prompt().wiped().keys(UP).keys(UP).keys(ENTER).sees("1 token, "); // as it is in the history
        model_saw(&mut terminal, &format!("[user] {text}\n[assistant]"));
        model_saw(&mut terminal, &format!(".\n[user] {text}\n"));
        terminal.at_prompt().wiped().line("/clear").at_prompt();
    }
    terminal.wiped().keys("\x1b[200~a\tb\r\nc\nd\re\x1b[201~").keys(ENTER).sees("1 token, ");
    terminal.at_prompt().wiped().line("/export out.json").sees("out.json").at_prompt();
    let told = std::fs::read_to_string(home.path("out.json")).unwrap();
    assert!(told.contains("\"a\\tb\\nc\\nd\\ne\""), "{told}");
}

#[test]
fn marks_count_where_they_were_typed() {
    let home = Home::new();
    let mut terminal = chat(&home);
    terminal.line("run\\").keys(&pasted("cc \\\n  x.c")).keys(ENTER).sees("One.");
    model_saw(&mut terminal, "[user] run\ncc \\\n  x.c\n");
    terminal.at_prompt().wiped().line("/clear").at_prompt();
    terminal.wiped().keys(&pasted("one \\")).keys("\\").keys(ENTER).keys("two").keys(ENTER).sees("Two.");
    model_saw(&mut terminal, "[user] one \\\ntwo\n");
    terminal.at_prompt().wiped().line("/clear").at_prompt();
    terminal.wiped().keys("\"\"\"").keys(&pasted("x = \"\"\"a\"\"\"")).keys(ENTER).keys("b \\").keys(ENTER);
    terminal.line("\"\"\"").sees("Three.");
    model_saw(&mut terminal, "[user] x = \"\"\"a\"\"\"\nb \\\n");
}

/// Text pasted during an answer is also one message, not one per line.
#[test]
fn what_is_pasted_while_it_writes_is_one_message() {
    let home = Home::new();
    let answer = (1..=30).map(|n| format!("\\pw{n} ")).collect::<String>();
    let mut terminal = home.terminal(&home.script("answers", &format!("{answer}\nTwo.\nThree.\n")));
    terminal.at_prompt().line("Count").sees("w2 ");
    let marked = terminal.bytes().windows(8).rev().find_map(|w| match w {
        b"\x1b[?2004h" => Some(true),
        b"\x1b[?2004l" => Some(false),
        _ => None,
    });
    assert_eq!(marked, Some(true), "a terminal does not say what was pasted");
    terminal.keys(&pasted("cc \\\n  x.c\n/exit")).keys(ENTER);
    terminal.sees("w30").sees("Two.");
    model_saw(&mut terminal, "[user] cc \\\n  x.c\n/exit\n");
}

#[test]
fn a_message_that_is_put_back_is_the_same() {
    let home = Home::new();
    let silence = "\\p".repeat(600) + "late\nat once\n";
    let mut terminal = home.terminal(&home.script("answers", &silence));
    terminal.at_prompt().keys(&pasted("cc \\\n  x.c")).keys(ENTER);
    std::thread::sleep(std::time::Duration::from_millis(300)); // it is being answered
    terminal.keys(CTRL_C).sees("stopped before the answer began").keys(ENTER).sees("at once");
    model_saw(&mut terminal, "[user] cc \\\n  x.c\n");
}

/// The line after `ab cd`, some keys and an `x` were typed; and those keys.
const KEYS: &[(&str, &[&str])] = &[
    // Function keys, Insert, the pages, Shift-Tab, keys with Super, locks, key releases, mouse and focus
    // events do nothing.
    (
        "ab cdx",
        &["\x1bOP", "\x1bOQ", "\x1bOR", "\x1bOS", "\x1b[11~", "\x1b[15~", "\x1b[24~", "\x1b[34~", "\x1b[[A"],
    ),
    (
        "ab cdx",
        &["\x1b[15;5~", "\x1b[24;2~", "\x1b[1;2P", "\x1b[1;5S", "\x1b[P", "\x1b[23^", "\x1b[23$", "\x1b[23@"],
    ),
    (
        "ab cdx",
        &["\x1b[2~", "\x1b[2;5~", "\x1b[5~", "\x1b[6~", "\x1b[5;5~", "\x1b[6;2~", "\x1b[Z", "\x1b[1;3A"],
    ),
    (
        "ab cdx",
        &[
            "\x1b[E",
            "\x1b[1;5E",
            "\x1bOE",
            "\x1b[G",
            "\x1b[1;2;3;4z",
            "\x1b[9999999999~",
            "\x1b[0u",
            "\x1b[u",
        ],
    ),
    (
        "ab cdx",
        &[
            "\x1b[97;9u",
            "\x1b[57358u",
            "\x1b[57441;2u",
            "\x1b[57376;5u",
            "\x1b[9;5u",
            "\x1b[9;2u",
            "\x1b[99;6u",
        ],
    ),
    (
        "ab cdx",
        &["\x1b[27;5;9~", "\x1b[27;6;99~", "\x1b[27;5;49~", "\x1b[49;5u", "\x1b[97;1:3u", "\x1b[13;1:3u"],
    ),
    (
        "ab cdx",
        &["\x1b[<0;33;14M", "\x1b[<0;33;14m", "\x1b[M !!", "\x1b[32;33;14M", "\x1b[I", "\x1b[O", "\x1b[?1u"],
    ),
    ("ab cdx", &[CSI_ESC, "\x1b[27;2u", "\x1b[27;1;27~", "\x16", "\x11", "\x1c", "\x1b[118;5u"]),
    // Keys with modifiers do what users expect.
    ("ab cxd", &[LEFT, "\x1bOD", "\x1b[1;2D", "\x1b[d", "\x1b[57417u", "\x02", "\x1b[98;5u"]),
    (
        "ab xcd",
        &["\x1b[1;5D", "\x1b[1;3D", "\x1b[1;9D", "\x1bOd", "\x1bO5D", "\x1b\x1b[D", "\x1bb", "\x1b[98;3u"],
    ),
    (
        "xab cd",
        &[
            "\x1b[H",
            "\x1bOH",
            "\x1b[1~",
            "\x1b[7~",
            "\x1b[1;2H",
            "\x1b[1;5H",
            "\x01",
            "\x1b[97;5u",
            "\x1b[7^",
        ],
    ),
    (
        "abx cd",
        &["\x1b[H\x1b[1;5C", "\x1b[H\x1b[1;3C", "\x1b[H\x1bOc", "\x1b[H\x1bf", "\x1b[H\x1b[27;3;102~"],
    ),
    ("ab cdx", &["\x1b[H\x1b[F", "\x1b[H\x1bOF", "\x1b[H\x1b[4~", "\x1b[H\x1b[1;2F", "\x1b[H\x1b[8$"]),
    ("ab cx", &["\x7f", "\x08", "\x1b[127u", "\x1b[127;2u", "\x1b[27;2;127~"]),
    (
        "ab x",
        &["\x17", "\x1b\x7f", "\x1b\x08", "\x1b[127;3u", "\x1b[127;5u", "\x1b[27;5;127~", "\x1b[119;5u"],
    ),
    ("x cd", &["\x1b[H\x1b[3;5~", "\x1b[H\x1b[3;3~", "\x1b[H\x1b[3^", "\x1b[H\x1bd", "\x1b[H\x1b[100;3u"]),
    ("xb cd", &["\x1b[H\x1b[3~", "\x1b[H\x1b[3;2~", "\x1b[H\x1b[3$", "\x1b[H\x04", "\x1b[H\x1b[100;5u"]),
    ("x", &["\x15", "\x1b[117;5u", "\x1b[27;5;117~", "\x1b[117:85:117;5u"]),
    // Typed characters count however they are encoded.
    ("ab cdex", &["e", "\x1b[101u", "\x1b[101;1u", "\x1b[101;129u", "\x1b[101;;101u", "\x1b[27;1;101~"]),
    ("ab cdEx", &["\x1b[101;2u", "\x1b[101:69;2u", "\x1b[27;2;69~"]),
    ("ab cd éx", &[" \u{e9}", "\x1b[32;2u\x1b[233u", "\x1b[27;2;32~\x1b[27;1;233~"]),
    ("ab cd5+x", &["\x1bOu\x1bOk", "\x1b[57404u\x1b[57413u"]),
];

#[test]
fn every_key_does_what_people_know_or_nothing() {
    let home = Home::new();
    let mut terminal = chat(&home);
    for (left, all) in KEYS {
        for keys in *all {
            terminal.keys("ab cd").at("> ab cd").keys(keys).keys("x");
            terminal.wait(&format!("{left:?} after {keys:?}"), |screen| {
                screen.contents().trim_end().lines().last() == Some(&format!("> {left}"))
            });
            terminal.keys("\x05").keys(CTRL_U).at_prompt();
        }
    }
}

#[test]
fn every_key_counts_once() {
    let home = Home::new();
    let mut terminal = chat(&home);
    for n in 0..20 {
        terminal.wiped().line(&format!("/set seed {n}")).sees(&format!("seed is {n}\n>")).at_prompt();
        assert_eq!(terminal.screen().lines().filter(|line| line.trim() == ">").count(), 1, "{n}");
    }
    terminal.wiped().keys("/set seed 21\r/set seed 22\r").sees("seed is 22\n>").at_prompt();
    assert_eq!(terminal.screen().lines().filter(|line| line.trim() == ">").count(), 1);
}

#[test]
fn enter_with_a_modifier_is_a_new_line() {
    let home = Home::new();
    let mut terminal = chat(&home);
    let new_lines = ["\x1b\r", "\x1b[13;2u", "\x1b[27;2;13~", "\x1b[13;3u", "\x1b[27;5;13~", "\x1b[106;5u"];
    for (number, new_line) in new_lines.iter().enumerate() {
        terminal.wiped().keys(&format!("{number}one{new_line}two")).at("two");
        let sent = ["\r", "\x1bOM", "\x1b[13u", "\x1b[57414u", "\x1b[109;5u", "\x1b[27;5;109~"][number];
        terminal.keys(sent).sees("1 token, ");
        model_saw(&mut terminal, &format!("[user] {number}one\ntwo\n"));
        terminal.at_prompt().wiped().line("/clear").sees("a new conversation").at_prompt();
        if number == 4 {
            break; // there are five answers
        }
    }
}

#[test]
fn other_forms_of_ctrl_c_and_ctrl_d_are_these_keys() {
    let home = Home::new();
    let mut terminal = chat(&home);
    for ctrl_c in ["\x1b[99;5u", "\x1b[27;5;99~", "\x1b[1089::99;5u"] {
        terminal.keys("given up").at("> given up").keys(ctrl_c).sees("> given up\n>").at_prompt();
    }
    assert_eq!(terminal.keys("\x1b[100;5u").ends(), 0);
}

/// The pause after a key that may begin others; it is not visible on the screen.
fn pause() {
    std::thread::sleep(std::time::Duration::from_millis(700));
}

#[test]
fn escape_cancels_and_leaves_the_next_key_alone() {
    let home = Home::new();
    let mut terminal = chat(&home);
    terminal.line("first").sees("One.").at_prompt();
    terminal.keys("a b").at("> a b").keys(ESC);
    pause();
    terminal.keys("b").at("> a bb");
    terminal.keys(CTRL_R).keys("fir").sees("search)`fir': first").keys(ESC);
    pause();
    terminal.at("> a bb").keys("d").at("> a bbd").keys(CTRL_U).at_prompt();
    terminal.keys("/s").keys(TAB).keys(CSI_ESC).keys("et ").at("> /set ");
    terminal
        .keys("repeat-")
        .keys(TAB)
        .keys(TAB)
        .sees("repeat-penalty")
        .keys(CSI_ESC)
        .keys("l")
        .at("> /set repeat-l");
}

#[test]
fn without_an_editor_the_line_edits_a_message() {
    let home = Home::new();
    let mut terminal = chat(&home);
    terminal.line("A red car").sees("One.").at_prompt().line("And why?").sees("Two.").at_prompt();
    terminal.wiped().line("/edit").at("> And why?").keys(CTRL_C).sees("nothing changed").at_prompt();
    model_saw(&mut terminal, "[user] A red car\n[assistant] One.\n[user] And why?\n");
    terminal.at_prompt().wiped().line("/edit").at("> And why?").keys(ENTER).sees("nothing changed");
    terminal
        .at_prompt()
        .wiped()
        .line("/edit 1")
        .at("> A red car")
        .keys("pet")
        .at("> A red carpet")
        .keys(ENTER);
    terminal.sees("> A red carpet\nThree.");
    model_saw(&mut terminal, "[user] A red carpet\n");
    assert!(!terminal.at_prompt().screen().contains("And why?"));
    let dumb = Setup { environment: vec![("TERM", "dumb".into())], ..Setup::default() };
    drop(terminal);
    let mut terminal = chat_as(&home, &dumb);
    terminal.line("Hi").sees("One.").at_prompt().line("/edit").sees("no editor is set").at_prompt();
}

#[test]
fn what_an_editor_made_of_a_message_is_shown() {
    let home = Home::new();
    let script = home.write("editor.sh", "sed -i 's/red/blue/; $a and more' \"$1\"");
    let setup =
        Setup { environment: vec![("EDITOR", format!("sh '{}'", script.display()))], ..Setup::default() };
    let mut terminal = chat_as(&home, &setup);
    terminal.line("A red car").sees("One.").at_prompt().line("/edit").sees("> A blue car\nand more\nTwo.");
}

#[test]
fn redo_brings_back_what_undo_took() {
    let home = Home::new();
    let mut terminal = chat(&home);
    terminal.line("/redo").sees("nothing to redo").at_prompt();
    terminal.line("A").sees("One.").at_prompt().line("B").sees("Two.").at_prompt().line("C").sees("Three.");
    terminal.at_prompt().wiped().line("/undo").sees("removed: C").at_prompt();
    terminal.line("/undo").sees("removed: B").at_prompt();
    terminal.wiped().line("/redo").sees("restored: B").at_prompt();
    model_saw(&mut terminal, "[user] A\n[assistant] One.\n[user] B\n");
    terminal.at_prompt().wiped().line("/redo").sees("restored: C").at_prompt();
    terminal.line("/redo").sees("nothing to redo").at_prompt();
    assert_eq!(terminal.keys(CTRL_D).ends(), 0);
    drop(terminal);
    let [option, script] = home.script("answers", "One.\nTwo.\n");
    let mut terminal = home.terminal(&[option, script, "--continue".into()]);
    terminal.sees("(6 messages)").at_prompt().line("/undo").sees("removed: C").at_prompt();
    terminal.line("D").sees("One.").at_prompt().line("/redo").sees("nothing to redo");
}
