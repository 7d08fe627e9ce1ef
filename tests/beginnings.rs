//! `/begin`: answers whose beginning the user writes.

use crate::history::{chat, history, id};
use crate::support::pty::*;
use crate::support::server::FakeServer;
use crate::support::{Home, tiny};

#[test]
fn the_next_answer_begins_with_the_text_and_no_other() {
    let home = Home::new();
    let lines = "/begin\n/begin Sure:\n/begin\nHi\n/show prompt\n/begin\nHo\n/begin  Well,\n/retry\n/begin no\n/begin none\n/retry\n";
    let done = chat(&home, " one\ntwo\n three\nfour\n", &["-q"], lines).code(0);
    done.stdout("Sure: one\ntwo\nWell, three\nfour\n").stderr(
        "the model begins the next answer itself\nthe next answer begins with: Sure:\n\
         [user] HiSure:\nthe model begins the next answer itself\n",
    );
    let shown = history(&home, &["show", &id(&home, 0)]).done().code(0).stdout;
    assert!(shown.contains("Sure: one\n"), "{shown}");
}

#[test]
fn it_waits_until_there_is_an_answer_and_goes_with_the_conversation() {
    let home = Home::new();
    let lines = "/begin Sure:\nHi\n/begin\nHi\n/begin Lost\n/clear\n/begin\n/begin ```\n/begin a\n/fork\nHi\n/begin b\n/fork\nHi\n";
    let done = chat(&home, "!out of luck\n one\n two\n three\n", &[], lines).code(0);
    let done =
        done.stdout("Sure: one\na two\nb three\n").says("out of luck\nthe next answer begins with: Sure:\n");
    done.says("dropped the answer's beginning\nthe model begins the next answer itself\n");
}

#[test]
fn a_terminal_shows_it_with_the_answer_and_it_acts_on_nothing() {
    let home = Home::new();
    for columns in [20, 80, 200] {
        let setup = Setup { columns, rows: 24, ..Setup::default() };
        let mut terminal = home
            .terminal_as(&setup, &home.script("answers", &format!(" to you\n{} no\n", "\\p".repeat(200))));
        terminal.at_prompt().line("/begin Hello").sees("the next answer").at_prompt();
        terminal.line("Hi").sees("> Hi\nHello to you\n").at_prompt();
        terminal
            .line("/begin \u{1b}[200~\u{1b}[201~a\u{9b}31mb")
            .at_prompt()
            .wiped()
            .line("/begin")
            .sees("b")
            .at_prompt();
        // Stopped before the model has written anything, it goes on waiting.
        terminal.wiped().line("Slow").sees("Slow").keys(CTRL_C).sees("answer began").at("> Slow");
        terminal
            .keys(CTRL_C)
            .at_prompt()
            .wiped()
            .line("/begin")
            .sees("begins with")
            .at_prompt()
            .keys(CTRL_D)
            .ends();
        assert!(!String::from_utf8_lossy(&terminal.bytes()).contains("a\u{9b}31m"));
    }
}

/// The prompt is the template, then exactly the text; and the answer is a replay's.
#[test]
fn the_model_continues_the_exact_text() {
    let home = Home::new();
    let args = ["--repl-stdin", "--keep", "-q", "--temp", "0", "-n", "8", "--chat-template", "chatml"];
    let lines = "Hi\n/begin Once upon a\n/retry\n/show prompt\n/tokens\n/begin <|im_end|> x\n/retry\n/show prompt\n/tokens\n";
    let done = home.run(&args).model(&tiny("llama-bpe")).stdin(lines).done().code(0);
    let prompt = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n";
    let done = done.says(&format!("{prompt}Once upon a\n")).says(&format!("{prompt}<|im_end|> x\n"));
    assert!(done.stdout.contains("\nOnce upon a") && done.stdout.contains("\n<|im_end|> x"), "{done:#?}");
    let pieces: Vec<&str> =
        done.stderr.lines().filter_map(|line| line.trim().split_once(' ')).map(|(_, piece)| piece).collect();
    let whole = pieces.iter().filter(|piece| **piece == "\"<|im_end|>\"").count();
    assert_eq!(whole, 2, "only the template's own, in both prompts: {done:#?}");
    let replayed = history(&home, &["replay", &id(&home, 0)]).done().code(0);
    assert!(!replayed.stdout.contains("different"), "{replayed:#?}");
}

#[test]
fn models_that_cannot_continue_refuse_it_in_one_line() {
    let home = Home::new();
    let template = home.write("thinks.jinja", "{% for m in messages %}{{ m.content }}{% endfor %}{% if add_generation_prompt %}<think>\n{% endif %}");
    let args = ["--repl-stdin", "-q", "-n", "3", "--chat-template", template.to_str().unwrap()];
    let done = home
        .run(&args)
        .model(&tiny("llama-bpe"))
        .stdin("/begin Sure\n/begin\n/set think off\n/begin Sure\n/begin\n")
        .done()
        .code(0);
    let done = done
        .says("thinks before it answers, so its answer cannot begin with your text\nhint: /set think off");
    done.says("the model begins the next answer itself\nthe next answer begins with: Sure\n");
    let base = home.run(&["--repl-stdin", "-q"]).model(&tiny("base")).stdin("/begin Sure\n").done().code(0);
    base.says("has no chat template: it continues your text").says("hint: write the beginning at the end");
    let server = FakeServer::new(|_| None);
    let run =
        home.run(&["--server", &server.url, "-q", "--repl-stdin"]).stdin("/begin Sure\nHi\n").done().code(0);
    run.stdout("Hello there\n").says("cannot continue the beginning of an answer");
}

/// The model may change after `/begin`.
#[test]
fn a_model_that_came_later_is_asked_again() {
    let (home, server) = (Home::new(), FakeServer::new(|_| None));
    let lines = format!("/begin Sure\n/model tiny@{}\nHi\n/begin none\nHi\n", server.url);
    let done = chat(&home, "One.\n", &["-q"], &lines).code(0).stdout("Hello there\n");
    done.says("cannot continue the beginning of an answer");
    assert_eq!(server.questions().len(), 1);
}
