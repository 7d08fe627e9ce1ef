//! What happens when the program itself is hit: a signal, or its model file cut under it. One line, exit code 1, and the
//! terminal as it was found.

use rexpect::process::Signal;

use crate::support::{Home, tiny};

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
        assert_eq!(terminal.signal(signal).ends(), 1, "{signal}");
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
    assert_eq!(terminal.signal(Signal::SIGSEGV).ends(), 1);
    let screen = terminal.screen();
    assert!(one_failure_line(&screen), "{screen}");
    assert!(screen.lines().any(|line| line.starts_with("fireside: ")), "a line of its own: {screen}");
}

#[test]
fn a_model_file_that_is_cut_while_in_use_is_one_line() {
    let home = Home::new();
    let model = home.write("model.gguf", std::fs::read(tiny("llama-bpe")).unwrap());
    let mut run = home.run(&["--repl-stdin", "-n", "3", "--temp", "0"]).model(&model).stdin("Hi\n").start();
    run.stderr.wait_for("tokens, "); // the answer is whole
    std::fs::File::options().write(true).open(&model).unwrap().set_len(4096).unwrap();
    run.write(b"Again\n");
    let done = run.done().code(1).says("the model file was cut");
    assert_eq!(done.stderr.matches("fireside: the model file").count(), 1, "{done:#?}");
    assert!(!done.stderr.contains("panicked"), "{done:#?}");
}
