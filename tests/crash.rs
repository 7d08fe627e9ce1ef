//! A signal hits the program, or its model file is truncated under it: one line, exit code 1, and the
//! terminal as before.

use std::time::{Duration, Instant};

use rexpect::process::Signal;

use crate::support::{GGUF_STRING, Home, default_model, tiny, with_metadata};

const SIGNALS: [Signal; 5] =
    [Signal::SIGSEGV, Signal::SIGABRT, Signal::SIGBUS, Signal::SIGILL, Signal::SIGFPE];

fn one_failure_line(text: &str) -> bool {
    text.matches("fireside: ").count() == 1 && !text.contains("panicked") && !text.contains("overflowed")
}

#[test]
fn a_signal_while_typing_leaves_the_terminal_as_it_was() {
    for signal in SIGNALS {
        let home = Home::new();
        let mut terminal = home.terminal(&home.script("answers", "one\n"));
        terminal.at_prompt().keys("half a li").at("> half a li").wiped();
        assert_eq!(terminal.signal(signal).sees("fireside: ").ends(), 1, "{signal}");
        let screen = terminal.screen();
        assert!(one_failure_line(&screen), "{signal}: {screen}");
    }
}

#[test]
fn a_signal_while_an_answer_is_written_leaves_the_terminal_as_it_was() {
    let home = Home::new();
    let slow = (1..=600).map(|n| format!("\\pw{n} ")).collect::<String>() + "\n";
    let mut terminal = home.terminal(&home.script("answers", &slow));
    terminal.at_prompt().line("Count").sees("w2 ").wiped();
    assert_eq!(terminal.signal(Signal::SIGSEGV).sees("killed by a signal").ends(), 1);
    let screen = terminal.screen();
    assert!(one_failure_line(&screen), "{screen}");
    assert!(screen.lines().any(|line| line.starts_with("fireside: ")), "a line of its own: {screen}");
}

#[test]
fn a_panic_is_one_line_and_leaves_the_terminal_as_it_was() {
    let home = Home::new();
    let mut terminal = home.terminal(&home.script("answers", "one two \\!three\n"));
    assert_eq!(terminal.at_prompt().line("Count").sees("hint: this is a bug").ends(), 1);
    let screen = terminal.screen().replace('\n', "");
    assert!(screen.contains("internal error") && screen.contains("as the script wants it"), "{screen}");
    home.scripted("\\!\n", &["-p", "Hi"]).done().failed(1, "internal error").hint("a bug");
}

#[test]
fn a_trial_that_is_killed_is_one_line() {
    // Its template keeps the child busy long enough for the test to find it.
    let home = Home::new();
    let template = "{% set ns = namespace(t='x') %}{% for i in range(60) %}{% set ns.t = ns.t + ns.t %}{% endfor %}{{ ns.t }}";
    let text = [&(template.len() as u64).to_le_bytes()[..], template.as_bytes()].concat();
    let base = std::fs::read(tiny("base")).unwrap();
    let bytes = with_metadata(&base, "tokenizer.chat_template", GGUF_STRING, &text);
    let run = home.run(&["-p", "Hi"]).model(&home.write("model.gguf", bytes)).start();
    run.kill_its_child();
    run.done().failed(1, "could not load").says("the system killed it, probably because memory ran out");
}

#[test]
fn a_model_file_that_is_cut_while_in_use_is_one_line() {
    let home = Home::new();
    let model = home.write("model.gguf", std::fs::read(tiny("llama-bpe")).unwrap());
    let mut run = home.run(&["--repl-stdin", "-n", "3", "--temp", "0"]).model(&model).stdin("Hi\n").start();
    run.stderr.wait_for("tokens, "); // the answer is complete
    std::fs::File::options().write(true).open(&model).unwrap().set_len(4096).unwrap();
    run.write(b"Again\n");
    let done = run.done().code(1).says("the model file was truncated");
    assert_eq!(done.stderr.matches("fireside: the model file").count(), 1, "{done:#?}");
    assert!(!done.stderr.contains("panicked"), "{done:#?}");
}

/// Even a conversation that kills the program can be opened, undone and exported.
#[test]
fn a_conversation_in_which_the_program_was_ended_opens_without_being_read() {
    let Some(model) = default_model() else { return };
    let home = Home::new();
    let chat = |args: &[&str]| {
        home.run(&[&["--repl-stdin", "--keep"], args].concat()).model(&model).stdin("").start()
    };
    let mut first = chat(&[]);
    first.write(format!("Read this: {}\n", "the road went on and on ".repeat(900)).as_bytes());
    let working = home.path(".local/state/fireside/working");
    let at_work = || std::fs::read_dir(&working).is_ok_and(|mut marks| marks.next().is_some());
    let started = Instant::now();
    while !at_work() {
        assert!(started.elapsed() < Duration::from_secs(60), "it never began to read");
        std::thread::sleep(Duration::from_millis(20));
    }
    std::thread::sleep(Duration::from_millis(1500)); // until the message is on the disk
    first.kill();

    let mut again = chat(&["--continue"]);
    again.stderr.wait_for("fireside was killed while it worked on this conversation");
    std::thread::sleep(Duration::from_secs(1));
    again.write(b"/context\n");
    again.stderr.wait_for(" tokens in the KV cache");
    again.write(b"/export out.md\n/undo\nSay hi.\n");
    again.close_stdin();
    let done = again.done().code(0);
    let (before, _) = done.stderr.split_once(" tokens in the KV cache").unwrap();
    let read: usize = before.rsplit(' ').next().unwrap().parse().unwrap();
    assert!(read < 100, "{read} tokens were read unasked");
    assert!(!done.stdout.is_empty() && home.path("out.md").exists(), "{done:?}");
    let third = home.run(&["--repl-stdin", "--continue"]).model(&model).stdin("/undo\n").done().code(0);
    assert!(!third.stderr.contains("was killed while"), "it went well since: {}", third.stderr);
}
