//! Files and commands in a typed line: `@path`, `!command`, what they cost, and what leaves this machine.

use crate::support::Home;
use crate::support::pty::*;

fn home() -> Home {
    let home = Home::new();
    home.write("notes.txt", "some notes\n");
    home.write("src/main.rs", "fn main() {}\n");
    home.write("my own.md", "# Mine\n");
    home.write("half.txt", "word ".repeat(600));
    home
}

fn chat(home: &Home) -> Terminal {
    chat_in(home, &[])
}

fn chat_in(home: &Home, environment: &[(&'static str, &str)]) -> Terminal {
    let environment = environment.iter().map(|(name, value)| (*name, value.to_string())).collect();
    let setup = Setup { environment, ..Setup::default() };
    let mut terminal = home.terminal_as(&setup, &home.script("answers", "One.\nTwo.\nThree.\n"));
    terminal.at_prompt();
    terminal
}

fn pasted(text: &str) -> String {
    format!("\x1b[200~{text}\x1b[201~")
}

/// Checks the prompt that the model got, as `/show prompt` prints it.
#[track_caller]
fn model_saw(terminal: &mut Terminal, text: &str) {
    terminal.at_prompt().wiped().line("/show prompt").sees(text).at_prompt();
}

#[test]
fn a_typed_mention_attaches_what_it_names() {
    let home = home();
    let mut terminal = chat(&home);
    terminal.line("Why (@notes.txt), @src and @\"my own.md\"?");
    terminal.sees(
        "attached notes.txt: 10 bytes\nattached src/main.rs (src): 12 bytes\nattached my own.md: 6 bytes\n",
    );
    terminal.sees(
        "your message has 23 tokens, less than 1 s to prefill; 977 of 1000 tokens left in the context\nOne.",
    );
    model_saw(
        &mut terminal,
        "[user] notes.txt:\n```\nsome notes\n```\n\nsrc/main.rs:\n```rust\nfn main() {}\n```\n\nmy own.md:\n```markdown\n# Mine\n```\n\nWhy (@notes.txt), @src and @\"my own.md\"?\n",
    );
    // What is attached already is not attached again.
    terminal.line("/file src").at_prompt().wiped().line("See @src/*.rs and @notes.txt and @notes.txt");
    terminal.sees("attached notes.txt: 10 bytes\nyour message has").at_prompt();
    // The files went with that message.
    terminal.line("/file").sees("no files are attached").at_prompt();
}

#[test]
fn what_is_pasted_or_names_nothing_stays_text() {
    let home = home();
    home.write("dataclass", "a file of that name");
    let mut terminal = chat(&home);
    terminal
        .keys(&pasted("@dataclass"))
        .at("> @dataclass")
        .line(" @nothing joe@notes.txt")
        .sees("> @dataclass @nothing joe@notes.txt\nOne.");
    model_saw(&mut terminal, "[user] @dataclass @nothing joe@notes.txt\n>");
    // Edits around it change nothing, and neither does recalling it.
    terminal
        .keys(&pasted("@dataclass"))
        .keys(" x")
        .at("> @dataclass x")
        .keys("\x01y\x04\x1b[F")
        .line("")
        .sees("> ydataclass x\nTwo.");
    terminal
        .at_prompt()
        .keys(UP)
        .keys(UP)
        .keys(UP)
        .at("> @dataclass @nothing joe@notes.txt")
        .keys(ENTER)
        .sees("Three.");
    terminal.at_prompt();
    assert!(!terminal.screen().contains("attached"), "{}", terminal.screen());
    drop(terminal);
    // In the next session, the history still knows.
    let mut terminal = chat(&home);
    terminal.keys(UP).at("> @dataclass @nothing joe@notes.txt").keys(ENTER).sees("One.").at_prompt();
    assert!(!terminal.screen().contains("attached"), "{}", terminal.screen());
    // A typed mention is one when it is recalled, too.
    terminal.line("see @notes.txt").sees("attached notes.txt").sees("Two.").at_prompt();
    terminal.wiped().keys(UP).at("> see @notes.txt").keys(ENTER).sees("attached notes.txt").sees("Three.");
}

#[test]
fn a_mention_is_completed() {
    let home = home();
    let mut terminal = chat(&home);
    terminal.keys("see @no").keys(TAB).at("> see @notes.txt");
    terminal.keys(CTRL_U).keys("(@sr").keys(TAB).sees("> (@src/").keys(TAB).at("> (@src/main.rs");
    terminal
        .keys(CTRL_U)
        .keys("@my")
        .keys(TAB)
        .at("> @my\\ own.md")
        .keys(ENTER)
        .sees("attached my own.md")
        .at_prompt();
    terminal.keys("@\"my").keys(TAB).at("> @\"my own.md\"").keys(CTRL_U);
    terminal.at_prompt().keys(&pasted("@no")).keys(TAB).keys("!").at("> @no!");
}

#[test]
fn a_mentioned_file_that_cannot_be_read_sends_nothing() {
    let home = home();
    home.write("bytes.bin", b"\xff");
    let mut terminal = chat(&home);
    terminal.line("see @bytes.bin").sees("bytes.bin is not UTF-8 text");
    terminal.sees("hint: to send it as plain text, put a backslash before the @").at("> see @bytes.bin");
    terminal.keys(CTRL_U).line("/file").sees("no files are attached").at_prompt();
    terminal.line("see \\@bytes.bin, \\@nothing").sees("One.");
    model_saw(&mut terminal, "[user] see @bytes.bin, \\@nothing\n");
    // Pasted backslashes are text, like all that is pasted.
    terminal.keys(&pasted("\\@bytes.bin")).line("").sees("Two.");
    model_saw(&mut terminal, "[user] \\@bytes.bin\n");
}

#[test]
fn a_file_is_attached_once_as_it_is_now() {
    let home = home();
    let mut terminal = chat(&home);
    terminal.line("/file notes.txt").sees("attached notes.txt to your next message").at_prompt();
    terminal.wiped().line("/file ./notes.txt").sees("/file ./notes.txt\n").at_prompt();
    terminal.sees("./notes.txt is attached already\n");
    home.write("notes.txt", "some newer notes\n");
    terminal
        .wiped()
        .line("/file notes.txt")
        .sees("notes.txt has changed since, and the new text")
        .at_prompt();
    terminal.wiped().line("/file").sees("  1       3 tokens  notes.txt\n").at_prompt();
    home.write("src/lib.rs", "fn lib() {}\n");
    home.write("src/other.rs", "fn other() {}\n");
    terminal.wiped().line("/file src/lib.rs").sees("attached src/lib.rs to your next message").at_prompt();
    terminal
        .wiped()
        .line("/file src")
        .sees("src/lib.rs (src) is attached already\nattached 2 files of src to");
    home.write("notes.txt", "the newest notes\n");
    terminal.at_prompt().line("Read @notes.txt").sees("notes.txt has changed since, and the new text");
    model_saw(&mut terminal, "notes.txt:\n```\nthe newest notes\n```\n\nsrc/lib.rs:");
    // The output of a command may come twice.
    terminal.wiped().line("!echo out").sees("attached $ echo out").at_prompt();
    terminal.wiped().line("!echo out").sees("attached $ echo out").at_prompt().wiped().line("/file");
    terminal.sees("  1       6 tokens  $ echo out\n  2       6 tokens  $ echo out").at_prompt();
}

#[test]
fn much_to_read_is_asked_about_and_comes_back_after_a_no() {
    let home = home();
    let mut terminal = chat(&home);
    let high =
        "your message has 605 tokens, less than 1 s to prefill; 395 of 1000 tokens left in the context\n";
    for no in [ESC, "n\r", "\r", CTRL_C] {
        terminal.wiped().line("Read @half.txt").sees(high).at("Send it? [y/N] ");
        terminal.keys(no).sees("nothing was sent").at("> Read @half.txt").keys(CTRL_U).at_prompt();
        terminal.wiped().line("/file").sees("no files are attached").at_prompt();
    }
    terminal.line("Read @half.txt").at("Send it? [y/N] ").line("y").sees("One.").at_prompt();
    // The same for a file that was attached before; it stays attached after a no.
    terminal.line("/clear").sees("started a new conversation").at_prompt();
    terminal.line("/file half.txt").sees("600 tokens").at_prompt().line("Read").at("Send it? [y/N] ");
    terminal.keys(ESC).at("> Read").keys(CTRL_U).line("/file").sees("600 tokens  half.txt").at_prompt();
    // Without files, nobody asks.
    terminal.line("/file none").at_prompt().line("Hello").sees("Two.").at_prompt();
}

#[test]
fn long_prefill_is_asked_about_at_any_width() {
    for columns in [20, 80, 200] {
        let home = home();
        home.write("long.txt", "word ".repeat(99));
        // 99 words of the file and 5 more.
        for (speed, long, seconds) in [(10, true, "10 s"), (11, false, "9 s")] {
            let script = home.script("answers", &format!("prefill: {speed}\nOne.\n"));
            let setup = Setup { columns, ..Setup::default() };
            let mut terminal = home.terminal_as(&setup, &script);
            terminal.at_prompt().line("Read @long.txt").sees(seconds);
            if long {
                terminal.at("Send it? [y/N] ").keys(ESC).sees("nothing was sent").at("> Read @long.txt");
                terminal.keys(ENTER).at("Send it? [y/N] ").line("y");
            }
            terminal.sees("One.").at_prompt();
            assert_eq!(terminal.screen().contains("Send it?"), long, "{}", terminal.screen());
        }
    }
}

#[test]
fn a_command_is_run_shown_and_attached() {
    let home = home();
    let mut terminal = chat(&home);
    terminal.line("!cat notes.txt; printf '\\033[31mred\\n' >&2; exit 3");
    terminal.sees("some notes\n␛[31mred\nexit code 3\nattached $ cat notes.txt");
    terminal.at_prompt().line("/file").sees("  1 ").at_prompt().line("Why?").sees("One.");
    model_saw(&mut terminal, "(exit code 3):\n```\nsome notes\n");
    terminal.wiped().line("!true").sees("exit code 0\nthere is no output to attach\n").at_prompt();
    terminal.wiped().line("!").sees("there is no command after !").at_prompt();
    // It has the terminal as its stdin.
    terminal
        .wiped()
        .line("!echo ready; read line; echo \"got $line\"")
        .sees("$line\"\nready")
        .keys("typed\r")
        .sees("got typed\nexit code 0")
        .at_prompt();
    terminal.line("/file none").at_prompt();
    terminal.wiped().keys(&pasted("!touch made")).line("").sees("> !touch made\nTwo.").at_prompt();
    terminal.line(" !touch made").sees("Three.").at_prompt();
    assert!(!home.path("made").exists(), "neither was typed as the first character");
}

#[test]
fn ctrl_c_stops_a_command_and_not_the_chat() {
    let home = home();
    // tail itself says that it has begun: between fork and exec, a shell such as dash loses the signal.
    home.write("begun", "it has begun\n");
    let mut terminal = chat(&home);
    terminal.line("!tail -f begun").sees("begun\nit has begun").keys(CTRL_C);
    terminal.sees("^C\nended by signal 2 (SIGINT)\n");
    terminal.sees("attached $ tail -f begun (ended by signal 2 (SIGINT))").at_prompt();
    terminal.line("/file none").at_prompt().line("Still there?").sees("One.").at_prompt();
    // One that ignores it is killed by the second.
    terminal
        .line("!trap '' INT; echo deaf; while :; do :; done")
        .sees("done\ndeaf")
        .keys(CTRL_C)
        .sees("Ctrl-C again kills it")
        .keys(CTRL_C);
    terminal.sees("ended by signal 9").at_prompt();
    // What runs in the background is not waited for.
    terminal.wiped().line("!echo now; sleep 1000 & echo $! > pid").sees("now\nexit code 0").at_prompt();
    let pid = std::fs::read_to_string(home.path("pid")).unwrap();
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(pid.trim().parse().unwrap()),
        nix::sys::signal::Signal::SIGKILL,
    )
    .unwrap();
}

#[test]
fn long_output_is_cut_and_says_so() {
    let home = home();
    let mut terminal = chat(&home);
    terminal.line("!yes é | head -c 300000; echo end >&2");
    terminal
        .sees("[the rest of the output is neither shown nor kept")
        .sees("the output is cut after 98 KiB")
        .at_prompt();
    terminal.sees("to your next message: 98 KiB, ");
}

#[test]
fn the_users_own_shell_runs_commands() {
    let home = home();
    let shell = home.write("shell", "#!/bin/sh\necho \"my shell: $1 $2\"\n");
    std::fs::set_permissions(&shell, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    chat_in(&home, &[("SHELL", shell.to_str().unwrap())])
        .line("!ls -l")
        .sees("my shell: -c ls -l\nexit code 0");
    chat_in(&home, &[("SHELL", "shell")]).line("!echo $0").sees("/bin/sh\nexit code 0");
}

#[test]
fn a_simple_terminal_marks_no_pastes_so_nothing_there_acts() {
    let home = home();
    let mut terminal = chat_in(&home, &[("TERM", "dumb")]);
    terminal.line("!touch made @notes.txt").sees("One.").at_prompt();
    assert!(!home.path("made").exists() && !terminal.screen().contains("attached"));
}
