//! The prompt in a real pseudo-terminal: what keys do to the line being typed.

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

/// What the model was given, as `/show prompt` tells it.
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
    terminal.keys(CTRL_C).sees("Ctrl-C once more, or Ctrl-D, leaves").at_prompt();
    terminal.line("Hi").sees("One.").at_prompt();
    terminal.wiped().keys(CTRL_C).sees("Ctrl-C once more").at_prompt(); // the answer came between: this is the first
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
    terminal.line("Hi").sees("fireside: typed lines are not kept: ").sees("One.").at_prompt();
    terminal.wiped().line("Ho").sees("Two.").at_prompt();
    assert!(!terminal.screen().contains("not kept"), "said twice");
    terminal.keys(UP).at("> Ho"); // kept while it runs
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
    terminal.keys(ENTER).sees("attached some notes.txt: 5 bytes, 3 tokens").at_prompt();
    terminal.keys("plain wor").keys(TAB).keys("ds").at("> plain words").keys(CTRL_U);
    terminal.keys("/s").keys(TAB).keys(TAB).sees("/s\nset").sees("stats").sees("system");
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

/// A terminal that breaks long lines anew when its window changes.
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

#[test]
fn a_narrower_window_leaves_no_row_of_the_line_behind() {
    if std::process::Command::new("tmux").arg("-V").output().is_err() {
        return crate::support::cannot_run("tmux is not there");
    }
    let home = Home::new();
    let tmux = Tmux(home.path("tmux"));
    let [option, script] = home.script("answers", ANSWERS);
    let line =
        format!("env HOME='{}' '{}' {option} '{script}'", home.path("").display(), crate::support::program());
    tmux.run(&["new-session", "-d", "-x", "100", "-y", "30", &line]);
    tmux.wait("the prompt", |screen| screen.contains("Ctrl-D leaves") && screen.trim_end().ends_with('>'));
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
    terminal.keys(CTRL_C).sees("Ctrl-C once more").at_prompt();
    terminal.line("/show prompt").sees("[user] one\ntwo\n").at_prompt();
    assert!(!terminal.bytes().contains(&0x1b), "an escape sequence on a dumb terminal");
    assert_eq!(terminal.keys(CTRL_D).ends(), 0);
}

/// What a terminal sends when this text is pasted.
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

/// What is pasted while it writes is one message as well, not one for each of its lines.
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
