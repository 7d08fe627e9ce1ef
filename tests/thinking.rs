//! A model's thinking before an answer: told apart from it, counted, shown if wanted, saved, and limited.

use crate::support::parrot::{CHATML, Kind, Parrot};
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
    terminal.at_prompt().line("Go").sees("thinking… 1 token").sees("thinking… 2 tokens");
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
    let done = opened(&home, &["-p", "Hi", "-n", "12"]).done().code(4).stdout("\n");
    done.says("no answer: 12 tokens went into thinking").says("--think-budget");
    let object = opened(&home, &["-p", "Hi", "-n", "12", "--json"]).done().code(4).json();
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
    plain.done().code(0).says("this model's chat template has no thinking mode");
    home.run(&["-p", "Hi", "--think", "maybe"]).done().failed(2, "--think must be one of");
    home.run(&["-p", "Hi", "--think-budget", "-7"]).done().failed(2, "--think-budget must be a whole number");
}

#[test]
fn a_cut_thought_is_gone_on_with() {
    let home = Home::new();
    let done =
        opened(&home, &["--repl-stdin", "--keep", "-n", "8"]).stdin("Hi\n/more\n/thinking\n").done().code(0);
    done.says("cut off");
    let listed = home.run(&["history", "list", "--json"]).done().json();
    assert_eq!(listed["conversations"][0]["messages"], 3, "both answers are kept");
    let whole = opened(&home, &["-p", "Hi", "-n", "16", "--json"]).done().code(4).json();
    let id = listed["conversations"][0]["id"].as_str().unwrap().to_string();
    let kept = home.run(&["history", "export", &id]).done().code(0).stdout;
    let first_words: String = whole["thinking"].as_str().unwrap().chars().take(12).collect();
    assert!(kept.contains(first_words.lines().next().unwrap()), "{first_words:?} is not in {kept}");
}

/// The thinking and the answer from `--json`; the exit code must be 0 if there is an answer, otherwise 4.
fn thought_and_said(model: Parrot, args: &[&str]) -> [String; 2] {
    let home = Home::new();
    let path = model.write(&home, "parrot");
    let args = [&["-p", "Hi", "--temp", "0", "--json"], args].concat();
    let done = home.run(&args).model(&path).done();
    let object: serde_json::Value = serde_json::from_str(&done.stdout).unwrap();
    let [thought, said] =
        ["thinking", "text"].map(|key| object[key].as_str().unwrap_or_default().to_string());
    assert_eq!(done.code, Some(if said.is_empty() && !thought.is_empty() { 4 } else { 0 }), "{done:#?}");
    [thought, said]
}

/// ChatML whose generation prompt opens the thinking; nothing in it names the end tag.
fn opening(tag: &str) -> String {
    CHATML.replace("assistant\n", &format!("assistant\n{tag}\n"))
}

#[test]
fn thinking_that_only_the_generation_prompt_opens_is_told_apart() {
    for (open, close) in [
        ("<think>", "</think>"),
        ("[THINK]", "[/THINK]"),
        ("<reasoning>", "</reasoning>"),
        ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ] {
        let (first, second) = close.split_at(4);
        let ordinary = Parrot::saying(&["Hm, ", "so. ", first, second, "\n\nYes."]).template(&opening(open));
        assert_eq!(thought_and_said(ordinary, &[]), ["Hm, so.", "Yes."], "{open}");
        let one = || Parrot::saying(&["Hm, ", "so.", close, "\n\nYes."]).template(&opening(open));
        for kind in [Kind::Control, Kind::UserDefined] {
            let model = one().marker(open, kind).marker(close, kind);
            assert_eq!(thought_and_said(model, &[]), ["Hm, so.", "Yes."], "{open}");
        }
        let home = Home::new();
        let path = one().write(&home, "parrot");
        let shown = home.run(&["-p", "Hi", "--dry-run", "--think", "off"]).model(&path).done().code(0);
        assert!(shown.stdout.contains(&format!("{open}\n\n{close}\n")), "{shown:#?}");
    }
    let header = CHATML.replace("assistant\n", "assistant\n<answer>\n");
    assert_eq!(
        thought_and_said(Parrot::saying(&["Yes.", "</answer>"]).template(&header), &[]),
        ["", "Yes.</answer>"]
    );
}

#[test]
fn thinking_in_tags_that_only_the_vocabulary_has_is_told_apart() {
    for (open, close) in
        [("<think>", "</think>"), ("<|START_THINKING|>", "<|END_THINKING|>"), ("<reason>", "</reason>")]
    {
        for kind in [Kind::Control, Kind::UserDefined] {
            let says = |pieces: &[&str]| Parrot::saying(pieces).marker(open, kind).marker(close, kind);
            let model = says(&[open, "\nHm.\n", close, "\n\nYes."]);
            assert_eq!(thought_and_said(model, &[]), ["Hm.", "Yes."], "{open}");
            assert_eq!(thought_and_said(says(&["Yes ", "and no."]), &[]), ["", "Yes and no."], "{open}");
        }
    }
}

#[test]
fn thinking_in_tags_of_the_users_is_told_apart() {
    let says = |pieces: &[&str]| Parrot::saying(pieces);
    let pieces = ["<ponder", "ing>\n", "Hm.", "\n</ponder", "ing>\n\n", "Yes."];
    let whole = pieces.concat();
    assert_eq!(thought_and_said(says(&pieces), &[]), ["", &whole]);
    let option = ["--think-tags", "<pondering> </pondering>"];
    assert_eq!(thought_and_said(says(&pieces), &option), ["Hm.", "Yes."]);
    for wrong in ["<pondering>", "a b c", " "] {
        Home::new().run(&["-p", "Hi", "--think-tags", wrong]).done().failed(2, "--think-tags must be");
    }
}

#[test]
fn a_tag_in_ordinary_tokens_does_not_end_thinking_where_the_vocabulary_has_it_as_one() {
    for kind in [Kind::Control, Kind::UserDefined] {
        let says = |pieces: &[&str]| Parrot::saying(pieces).marker("<think>", kind).marker("</think>", kind);
        let quoted = ["<think>", "I end with ", "</thi", "nk>", ", so.", "</think>", "\n\nYes."];
        assert_eq!(thought_and_said(says(&quoted), &[]), ["I end with </think>, so.", "Yes."]);
        let by_hand = ["<thi", "nk>", "Hm.", "</thi", "nk>\n", "Yes."];
        assert_eq!(thought_and_said(says(&by_hand), &[]), ["Hm.", "Yes."], "opened so, ended so");
    }
}

#[test]
fn thoughts_without_an_answer_are_no_answer() {
    let home = Home::new();
    let says = Parrot::saying(&["<think>", "Hm."])
        .marker("<think>", Kind::Control)
        .marker("</think>", Kind::Control);
    let path = says.write(&home, "parrot");
    let done = home.run(&["-p", "Hi", "--temp", "0"]).model(&path).done().code(4).stdout("\n");
    done.says("no answer: 1 token went into thinking");
    home.scripted("<think>Only that.</think>\n", &["-p", "Hi"])
        .done()
        .code(4)
        .stdout("\n")
        .says("no answer: ");
    home.scripted("<think>Only that.</think> Yes.\n", &["-p", "Hi"]).done().code(0).stdout("Yes.\n");
}

/// The turns of GPT-OSS.
const CHANNELS: &str = "{% for m in messages %}<|start|>{{ m.role }}{% if m.role == 'assistant' %}<|channel|>final{% endif %}\
                        <|message|>{{ m.content }}<|end|>{% endfor %}{% if add_generation_prompt %}<|start|>assistant{% endif %}";

#[test]
fn a_channel_without_a_message_loses_nothing() {
    let says = |pieces: &[&str]| {
        let markers = ["<|start|>", "<|channel|>", "<|message|>", "<|end|>", "<|return|>"];
        let parrot = Parrot::saying(pieces).template(CHANNELS).after("t");
        markers.iter().fold(parrot, |parrot, marker| parrot.marker(marker, Kind::UserDefined))
    };
    assert_eq!(thought_and_said(says(&["<|channel|>", "??", " The answer."]), &[]), ["", "?? The answer."]);
    assert_eq!(thought_and_said(says(&["<|channel|>", "analysis", " Hm."]), &[]), ["Hm.", ""]);
    assert_eq!(thought_and_said(says(&["<|channel|>", "final", " Yes."]), &[]), ["", "Yes."]);
    let long: Vec<String> = (0..200).map(|n| format!(" {n}")).collect();
    let pieces: Vec<&str> =
        ["<|channel|>", "??"].into_iter().chain(long.iter().map(String::as_str)).collect();
    assert_eq!(thought_and_said(says(&pieces), &[]), ["", &format!("??{}", long.concat())]);
}

/// Turns whose messages, also the thinking, all begin and end with the same tokens.
const PARTS: &str = "{% for m in messages %}{% if m.reasoning %}<|begin|>{{ m.role }}<|think|>{{ m.reasoning }}<|over|>{% endif %}\
                     <|begin|>{{ m.role }}<|content|>{{ m.content }}<|over|>{% endfor %}{% if add_generation_prompt %}<|begin|>assistant{% endif %}";

#[test]
fn a_token_may_end_thinking_and_the_answer() {
    let markers = ["<|begin|>", "<|think|>", "<|content|>", "<|over|>"];
    for kind in [Kind::Control, Kind::UserDefined] {
        // It writes <|over|> once, since the next token depends on this one alone.
        let thinks = Parrot::saying(&[
            "<|think|>",
            "Hm.",
            "<|over|>",
            "<|begin|>",
            "assistant",
            "<|content|>",
            "Yes.",
        ]);
        let answers = Parrot::saying(&["<|content|>", "Yes.", "<|over|>", " No."]);
        for (model, expected) in [(thinks, ["Hm.", "Yes."]), (answers, ["", "Yes."])] {
            let model = model.template(PARTS).after("t");
            let model = markers.iter().fold(model, |model, marker| model.marker(marker, kind));
            assert_eq!(thought_and_said(model, &[]), expected);
        }
    }
}
