//! What a model thinks before it answers: told apart, counted, shown where that is wanted, kept, and bounded.

use crate::support::pty::*;
use crate::support::{Done, Home, Run, tiny};

const SCRIPT: &str = "<think>Let me see.\\n\\nTwo and two. </think>\\n\\nIt is four.\n";

/// ChatML whose answers begin with thinking, as those of DeepSeek-R1 do.
const OPENED: &str = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content.split('</think>')[-1] }}<|im_end|>\n{% endfor %}\
                      {% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}";

fn opened(home: &Home, args: &[&str]) -> Run {
    let template = home.write("opened.jinja", OPENED);
    let args = [&["--temp", "0", "--chat-template", template.to_str().unwrap()], args].concat();
    home.run(&args).model(&tiny("llama-bpe"))
}

fn chat(home: &Home, script: &str, args: &[&str], typed: &str) -> Done {
    home.scripted(script, &[&["--repl-stdin", "--keep"], args].concat()).stdin(typed).done().code(0)
}

#[test]
fn a_pipe_gets_the_answer_only() {
    let home = Home::new();
    home.scripted(SCRIPT, &["-p", "2+2?"]).done().code(0).stdout("It is four.\n").stderr("");
    let shown =
        home.scripted(SCRIPT, &["-p", "2+2?", "--show-thinking"]).done().code(0).stdout("It is four.\n");
    shown.stderr("Let me see.\n\nTwo and two.\n");
    let object = home.scripted(SCRIPT, &["-p", "2+2?", "--json"]).done().code(0).json();
    assert_eq!(object["text"], "It is four.\n".trim_end());
    assert_eq!(object["thinking"], "Let me see.\n\nTwo and two.");
    home.scripted(SCRIPT, &["-p", "2+2?", "--stop", "Two"]).done().code(0).stdout("It is four.\n");
}

#[test]
fn a_chat_keeps_it_apart_and_shows_it_when_asked() {
    let home = Home::new();
    let done = chat(&home, SCRIPT, &[], "2+2?\n/thinking\n/show prompt\n").stdout("It is four.\n");
    let done = done.says("Let me see.\n\nTwo and two.\n").says("of thinking)");
    assert_eq!(done.stderr.matches("Let me see").count(), 1, "{done:#?}");
    let again = chat(&home, "Fine.\n", &["--continue"], "/thinking\nGood?\n/thinking\n");
    again.says("Let me see.").says("the model did not think before its last answer");
    let listed = home.run(&["history", "list", "--json"]).done().json();
    let id = listed["conversations"][0]["id"].as_str().unwrap().to_string();
    let markdown = home.run(&["history", "export", &id]).done().code(0).stdout;
    assert!(
        markdown.contains("<summary>Thinking</summary>") && markdown.contains("> Two and two."),
        "{markdown}"
    );
}

#[test]
fn a_terminal_shows_one_line_that_counts() {
    let home = Home::new();
    let slow = "<think>one \\p\\ptwo \\p\\pthree\\p\\p \\p\\p</think>Done.\n";
    let mut terminal = home.terminal(&home.script("answers", slow));
    terminal.at_prompt().line("Go").sees("thinking… 1 tokens").sees("thinking… 2 tokens");
    terminal.sees("Done.").at_prompt();
    let screen = terminal.screen();
    assert!(
        screen.contains("thought: ") && !screen.contains("thinking…") && !screen.contains("two"),
        "{screen}"
    );
    terminal.line("/set show-thinking on").at_prompt().line("Again").sees("one two three").at_prompt();
    terminal.keys(CTRL_D).ends();
}

#[test]
fn thinking_alone_is_no_answer_and_the_remedies_help() {
    let home = Home::new();
    let done = opened(&home, &["-p", "Hi", "-n", "12"]).done().code(0).stdout("\n");
    done.says("there is no answer: 12 tokens went into thinking").says("--think-budget");
    let object = opened(&home, &["-p", "Hi", "-n", "12", "--json"]).done().code(0).json();
    assert_eq!((object["text"].as_str(), object["stop_reason"].as_str()), (Some(""), Some("length")));
    assert!(!object["thinking"].as_str().unwrap().is_empty());
    for limit in [["--think-budget", "3"], ["--think-budget", "0"], ["--think", "off"]] {
        let object = opened(&home, &["-p", "Hi", "-n", "24", "--json"])
            .arg(limit[0])
            .arg(limit[1])
            .done()
            .code(0)
            .json();
        assert!(!object["text"].as_str().unwrap().trim().is_empty(), "{limit:?}: {object}");
        assert_eq!(object["thinking"].is_null(), limit != ["--think-budget", "3"], "{limit:?}: {object}");
    }
}

#[test]
fn it_is_switched_as_the_template_allows() {
    let home = Home::new();
    let prompt = |args: &[&str]| {
        let args = [&["-p", "Hi", "--dry-run"], args].concat();
        home.run(&args).model(&tiny("llama-bpe")).done().code(0).stdout
    };
    assert!(!prompt(&[]).contains("think"), "the template's own way");
    assert!(prompt(&["--think", "off"]).ends_with("assistant\n<think>\n\n</think>\n\n"));
    assert!(!prompt(&["--think", "on"]).contains("think"));
    let opened =
        |args: &[&str]| opened(&home, &[&["-p", "Hi", "--dry-run"], args].concat()).done().code(0).stdout;
    assert!(opened(&[]).ends_with("<think>\n"));
    assert!(opened(&["--think", "off"]).ends_with("<think>\n\n</think>\n\n"));
    let plain = home.run(&["-p", "Hi", "-n", "2", "--think", "on"]).model(&tiny("llama-spm"));
    plain.done().code(0).says("this model's template knows no thinking");
    home.run(&["-p", "Hi", "--think", "maybe"]).done().failed(2, "--think must be one of");
    home.run(&["-p", "Hi", "--think-budget", "-7"]).done().failed(2, "--think-budget must be a number");
}

#[test]
fn a_cut_thought_is_gone_on_with() {
    let home = Home::new();
    let done =
        opened(&home, &["--repl-stdin", "--keep", "-n", "8"]).stdin("Hi\n/more\n/thinking\n").done().code(0);
    done.says("cut short");
    let listed = home.run(&["history", "list", "--json"]).done().json();
    assert_eq!(listed["conversations"][0]["messages"], 3, "both answers are kept");
    let whole = opened(&home, &["-p", "Hi", "-n", "16", "--json"]).done().code(0).json();
    let id = listed["conversations"][0]["id"].as_str().unwrap().to_string();
    let kept = home.run(&["history", "export", &id]).done().code(0).stdout;
    let first_words: String = whole["thinking"].as_str().unwrap().chars().take(12).collect();
    assert!(kept.contains(first_words.lines().next().unwrap()), "{first_words:?} is not in {kept}");
}
