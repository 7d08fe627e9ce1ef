//! stdin, files, stdout and Ctrl-C in a one-shot run.

use crate::support::{Home, tiny};

/// The content of the tiny chat model's prompt for these arguments, between its markers.
fn asked(home: &Home, args: &[&str], stdin: &str) -> String {
    let run = home.run(args).arg("--dry-run").stdin(stdin).model(&tiny("llama-bpe"));
    let prompt = run.done().code(0).stdout;
    let content = prompt.strip_prefix("<|im_start|>user\n").unwrap();
    content.strip_suffix("<|im_end|>\n<|im_start|>assistant\n").unwrap().to_string()
}

#[test]
fn files_come_first_then_stdin_then_the_prompt() {
    let home = Home::new();
    home.write("a.txt", "first\n");
    home.write("b.txt", "second\n\n");
    let args = ["--file-header", "never", "-f", "a.txt", "--file", "b.txt", "-p", "What?"];
    assert_eq!(asked(&home, &args, "third\n"), "first\n\nsecond\n\n\nthird\n\nWhat?");
}

#[test]
fn files_and_stdin_alone_are_questions_too() {
    let home = Home::new();
    home.write("a.txt", "only this");
    assert_eq!(asked(&home, &["-f", "a.txt"], ""), "only this");
    assert_eq!(asked(&home, &[], "Name a colour."), "Name a colour.");
}

#[test]
fn the_slot_takes_stdin_at_every_occurrence() {
    let home = Home::new();
    assert_eq!(asked(&home, &["-p", "Spell {stdin} and {stdin}."], "7\n"), "Spell 7 and 7.");
    assert_eq!(asked(&home, &["-p", "Spell {stdin}.", "--no-stdin"], "7"), "Spell {stdin}.");
    assert_eq!(asked(&home, &["-p", "Spell {stdin}."], "{stdin}"), "Spell {stdin}.", "put in once");
}

#[test]
fn exactly_one_newline_is_taken_from_the_end_of_stdin() {
    let home = Home::new();
    assert_eq!(asked(&home, &[], "a\n\n"), "a\n");
    assert_eq!(asked(&home, &[], "a\r\n"), "a");
    assert_eq!(asked(&home, &[], " a "), " a ");
    let raw = home.run(&["--raw", "--dry-run"]).stdin("Once upon\n").model(&tiny("llama-bpe")).done();
    raw.code(0).stdout("Once upon\n"); // this newline is the one after all output
    let tokens = |text: &str| {
        let run = home.run(&["--raw", "--json", "-n", "0"]).stdin(text).model(&tiny("llama-bpe"));
        run.done().code(0).json()["tokens"]["prompt"].clone()
    };
    assert_eq!(tokens("Once upon\n"), tokens("Once upon"));
    assert_ne!(tokens("Once upon\n\n"), tokens("Once upon"));
}

#[test]
fn zero_bytes_reach_the_model() {
    assert_eq!(asked(&Home::new(), &[], "a\0b"), "a\0b");
}

#[test]
fn empty_stdin_counts_as_absent() {
    let home = Home::new();
    for nothing in ["", "\n"] {
        let run = home.run(&[""; 0]).stdin(nothing).model(&tiny("llama-bpe"));
        run.done().failed(2, "there is no prompt");
    }
    home.scripted("yes\n", &["-p", "a"]).stdin("").done().code(0).stdout("yes\n").stderr("");
}

#[test]
fn closed_stdin_counts_as_absent() {
    use std::process::{Command, Stdio};
    let home = Home::new();
    let mut shell = Command::new("sh");
    shell.args(["-c", "exec \"$@\" <&-", "sh", crate::support::program(), "-p", "a", "-n", "0", "-m"]);
    let output =
        shell.arg(tiny("llama-bpe")).env_clear().envs(home.environment()).stdin(Stdio::piped()).output();
    crate::support::Done::from(output.unwrap()).code(0).stdout("\n").stderr("");
}

#[test]
fn stdin_that_is_not_utf8_is_refused_with_the_offset() {
    let home = Home::new();
    let done = home.run(&["-p", "a"]).stdin(b"abc\xffd".to_vec()).model(&tiny("llama-bpe")).done();
    done.failed(1, "stdin is not UTF-8 text: the first invalid byte is at offset 3").hint("iconv");
    let cut = home.run(&[""; 0]).stdin("né".as_bytes()[..2].to_vec()).model(&tiny("llama-bpe")).done();
    cut.failed(1, "offset 1");
    home.run(&["-p", "a", "-n", "0", "--no-stdin"])
        .stdin(b"\xff".to_vec())
        .model(&tiny("llama-bpe"))
        .done()
        .code(0);
}

#[test]
fn an_attached_file_that_cannot_be_read_is_one_line() {
    let home = Home::new();
    home.write("folder/.inside", "hidden");
    home.write("bytes.bin", b"ok\xfe");
    for (file, why) in [
        ("nosuch.txt", "could not read nosuch.txt: no such file"),
        ("folder", "there are no text files in folder"),
        ("bytes.bin", "bytes.bin is not UTF-8 text: the first invalid byte is at offset 2"),
    ] {
        home.run(&["-p", "a", "-f", file]).model(&tiny("llama-bpe")).done().failed(1, why);
    }
}

#[test]
fn sources_without_an_end_are_refused() {
    let home = Home::new();
    let done = home.run(&["-p", "a", "-f", "/dev/zero"]).model(&tiny("llama-bpe")).done();
    done.failed(3, "/dev/zero is longer than 64 MiB");
}

#[test]
fn stdin_that_does_not_end_is_mentioned_after_a_second() {
    let mut running = Home::new().scripted("yes\n", &["-p", "a"]).stdin("slow").start();
    running.stderr.wait_for("reading stdin to its end; --no-stdin ignores it\n");
    running.write(b"er");
    running.close_stdin();
    running.done().code(0).stdout("yes\n");
}

#[test]
fn quiet_does_not_mention_it() {
    let running = Home::new().scripted("yes\n", &["-p", "a", "-q", "--no-stdin"]).stdin("open").start();
    running.done().code(0).stdout("yes\n").stderr("");
}

#[test]
fn ctrl_c_while_stdin_is_read_ends_at_once() {
    let mut running = Home::new().scripted("yes\n", &["-p", "a"]).stdin("slow").start();
    running.stderr.wait_for("reading stdin");
    running.interrupt();
    running.done().code(130).stdout("");
}

#[test]
fn ctrl_c_while_a_named_pipe_is_read_ends_at_once() {
    let home = Home::new();
    assert!(std::process::Command::new("mkfifo").arg(home.path("waits")).status().unwrap().success());
    let mut running = home.scripted("yes\n", &["-p", "a", "-f", "waits", "-v"]).start();
    running.stderr.wait_for("llama.cpp: "); // it reads the file next, to which nobody writes
    running.interrupt();
    running.done().code(130).stdout("");
}

#[test]
fn the_answer_gets_a_newline_only_if_it_lacks_one() {
    let home = Home::new();
    home.scripted("yes\n", &["-p", "a"]).done().code(0).stdout("yes\n");
    home.scripted("yes\\n\n", &["-p", "a"]).done().code(0).stdout("yes\n");
    home.scripted("yes\n", &["-p", "a", "--raw"]).done().code(0).stdout("yes");
}

#[test]
fn control_characters_of_the_answer_go_through_a_pipe_unchanged() {
    let home = Home::new();
    let answer = "\x1b[31mred\x07 \u{202e}dér\t.\r!";
    let done = home.scripted(&format!("{answer}\n"), &["-p", "a", "--color", "always"]).done();
    done.code(0).stdout(&format!("{answer}\n"));
}

#[test]
fn stats_and_notices_go_to_stderr() {
    let done = Home::new().scripted("one two\n", &["-p", "a", "--stats"]).done().code(0);
    done.stdout("one two\n").says("2 tokens");
}

#[test]
fn quiet_silences_everything_but_failures() {
    let home = Home::new();
    let run = home.run(&["-p", "word", "-q", "--temp", "0"]).model(&tiny("base"));
    run.env("FIRESIDE_STATS", "on").done().code(4).stderr("");
    home.run(&["-q", "-p", "a", "-m", "nosuch"]).done().failed(1, "nosuch");
}

#[test]
fn a_reader_that_leaves_ends_the_run_quietly() {
    let script = format!("first\\nsecond {}\n", "\\pmore ".repeat(2000));
    for args in [&["-p", "a"][..], &["-p", "a", "--raw"], &["-p", "a", "--stats"]] {
        let mut running = Home::new().scripted(&script, args).start();
        running.stdout.wait_for("first\n");
        running.stdout.close();
        running.done().code(0).stderr("");
    }
}

#[test]
fn a_reader_that_never_was_ends_the_run_quietly() {
    let home = Home::new();
    for args in [&["-p", "a"][..], &["-p", "a", "--json"], &["config"]] {
        let mut running = home.scripted("yes\n", args).stdin("").start();
        running.stdout.close();
        running.close_stdin();
        running.done().code(0).stderr("");
    }
}

#[test]
fn a_full_disk_behind_stdout_is_one_line() {
    let home = Home::new();
    for args in [&["-p", "a"][..], &["-p", "a", "--raw"], &["-p", "a", "--json"], &["config"]] {
        let done = home.scripted("yes\n", args).done_into("/dev/full");
        assert_eq!(done.stderr.lines().count(), 1, "{done:#?}");
        done.failed(1, "no space left on device");
    }
}

#[test]
fn stdout_that_was_closed_before_the_start_is_one_line() {
    let home = Home::new();
    for args in [
        &["-p", "a"][..],
        &["-p", "a", "--raw"],
        &["-p", "a", "--json"],
        &["config"],
        &["--help"],
        &["--version"],
    ] {
        let done = home.scripted("yes\n", args).after("exec >&-").done();
        assert_eq!(done.stderr.lines().count(), 1, "{done:#?}");
        done.failed(1, "stdout is closed");
    }
    home.scripted("yes\n", &["--repl-stdin"])
        .stdin("Hi\n")
        .after("exec >&-")
        .done()
        .failed(1, "stdout is closed");
    // stdout to /dev/null is no failure, opened as by a shell or as by Python's DEVNULL.
    for line in ["exec >/dev/null", "exec 1<>/dev/null"] {
        home.scripted("yes\n", &["-p", "a"]).after(line).done().code(0).stderr("");
    }
    home.scripted("yes\n", &["-p", "a"]).after("exec 2>&-").done().code(0).stdout("yes\n");
}

#[test]
fn help_that_cannot_be_written_is_a_failure() {
    let home = Home::new();
    for args in [&["--help"][..], &["--version"], &["pull", "--help"], &["completions", "bash"]] {
        home.run(args).done_into("/dev/full").failed(1, "no space left on device");
        let mut running = home.run(args).stdin("").start();
        running.stdout.close();
        running.close_stdin();
        running.done().code(0).stderr("");
    }
}

#[test]
fn ctrl_c_keeps_what_was_written() {
    let script = format!("one two {}three\n", "\\p".repeat(2000));
    let mut running = Home::new().scripted(&script, &["-p", "a"]).start();
    running.stdout.wait_for("two ");
    running.interrupt();
    running.done().code(130).stdout("one two \n").stderr("stopped\n");
}

#[test]
fn ctrl_c_stops_a_model_that_writes() {
    let args = ["-p", "Hi", "-n", "-1", "-c", "60000", "--temp", "5", "--seed", "1"];
    let mut running = Home::new().run(&args).model(&tiny("mamba")).start();
    running.stdout.wait_for(" ");
    running.interrupt();
    let done = running.done().code(130);
    assert!(done.stdout.ends_with('\n'), "{done:#?}");
}

#[test]
fn ctrl_c_stops_the_reading_of_a_long_prompt() {
    let text = "word ".repeat(400_000);
    let mut running = Home::new().run(&["-c", "500000", "-v"]).stdin(text).model(&tiny("llama-bpe")).start();
    running.close_stdin();
    running.stderr.wait_for("llama_context: n_ctx "); // the memory for the prompt exists: prefill begins
    running.interrupt();
    running.done().code(130).stdout("");
}

/// Windows' Notepad and PowerShell write one before any text. It belongs to the encoding, not to the text.
#[test]
fn a_byte_order_mark_is_not_text() {
    let home = Home::new();
    home.write("a.txt", "\u{feff}first\n");
    let args = ["--file-header", "never", "-f", "a.txt", "-p", "\u{feff}What?"];
    assert_eq!(asked(&home, &args, "\u{feff}third\n"), "first\n\nthird\n\nWhat?");
    assert_eq!(asked(&home, &[], "\u{feff}only this"), "only this");
    assert_eq!(asked(&home, &["-p", "Spell {stdin}."], "\u{feff}7"), "Spell 7.");
    assert_eq!(asked(&home, &[], "in the \u{feff}middle"), "in the \u{feff}middle", "that is a character");
    let raw = home.run(&["--raw", "--dry-run"]).stdin("\u{feff}Once").model(&tiny("llama-bpe")).done();
    raw.code(0).stdout("Once\n");
    home.run(&["-p", "Hi"]).stdin("\u{feff}").model(&tiny("llama-bpe")).arg("--dry-run").done().code(0);

    let dry = |args: &[&str]| {
        let run = home.run(&[&["-p", "Hi", "--dry-run"], args].concat()).model(&tiny("llama-bpe"));
        run.done().code(0).stdout
    };
    home.write("system.txt", "\u{feff}Be brief.\n");
    let plain = dry(&["--system-prompt", "Be brief."]);
    assert_eq!(dry(&["--system-prompt-file", "system.txt"]), plain);
    assert_eq!(dry(&["--system-prompt", "\u{feff}Be brief."]), plain);
    home.write("t.jinja", "\u{feff}[{{ messages[0].content }}]");
    assert_eq!(dry(&["--chat-template", "t.jinja"]), "[Hi]\n");
    home.write(".config/fireside/config.toml", "\u{feff}system-prompt = \"Be brief.\"\n");
    assert_eq!(dry(&[]), plain);
    home.write(".config/fireside/config.toml", "system-prompt = \"\u{feff}Be brief.\"\n");
    assert_eq!(dry(&[]), plain);
}
