//! `/tree`, `/compare` and `/begin`: the branches of a conversation, in the chat and on its terminal.

use std::ops::ControlFlow;

use fireside::chat::{Event, Message, Role};
use fireside::session::{Session, SessionOptions};
use fireside::settings::Config;
use serde_json::{Value, json};

use crate::history::{chat, history, id};
use crate::support::pty::*;
use crate::support::server::FakeServer;
use crate::support::{GGUF_F32, Home, memory, tiny};

/// Imports a conversation: messages with the places of their parents, and the place of the head.
fn imported(home: &Home, messages: &[(Option<usize>, &str, &str)], head: usize) {
    let id = |n: usize| format!("{n:016x}");
    let entries = messages.iter().enumerate().map(|(n, (parent, role, text))| {
        let mut entry = json!({
            "id": id(n),
            "parent": parent.map(id),
            "role": role,
            "parts": [{ "type": "text", "text": text }],
            "created": null,
        });
        if let Some((model, text)) = text.split_once(": ").filter(|_| *role == "assistant") {
            entry["parts"][0]["text"] = json!(text);
            entry["answer"] = json!({ "stop": "end", "model": model });
        }
        entry
    });
    let tree = json!({ "entries": entries.collect::<Vec<_>>(), "head": id(head) });
    let whole = json!({
        "fireside": 2, "id": "00112233445566ff", "title": "Sky", "created": 1, "changed": 2,
        "messages": [], "tree": tree,
    });
    let file = home.write("tree.json", whole.to_string());
    history(home, &["import", file.to_str().unwrap()]).done().code(0);
}

const SKY: &[(Option<usize>, &str, &str)] = &[
    (None, "user", "Why is the sky blue?"),
    (Some(0), "assistant", "tiny: Because light is scattered by the molecules of the air."),
    (Some(0), "assistant", "large: Rayleigh scattering."),
    (Some(2), "user", "And at night?"),
    (Some(3), "assistant", "large: It is dark then."),
    (Some(3), "assistant", "large: There is no light to scatter, so that the sky is black at night."),
    (Some(1), "user", "Thanks\nfor \u{1b}[31mthat"),
];

fn opened(home: &Home, columns: u16, rows: u16) -> Terminal {
    let [option, script] = home.script("answers", "One.\nTwo.\n");
    let setup = Setup { columns, rows, ..Setup::default() };
    let mut terminal = home.terminal_as(&setup, &[&option, &script, "--resume", "0011"]);
    terminal.at_prompt();
    terminal
}

/// The rows of the list, once it is as wide as the window and complete.
fn grid(terminal: &mut Terminal, columns: u16) -> Vec<String> {
    let rows = |screen: &vt100::Screen| -> Vec<String> {
        screen.rows(0, columns).map(|row| row.trim_end().to_string()).collect()
    };
    terminal.wait("the whole list", |screen| {
        let (rows, (height, wide)) = (rows(screen), screen.size());
        let widest = rows.iter().map(|row| row.chars().count()).max().unwrap_or(0);
        let counted = rows[usize::from(height.get()) - 1].contains(" of ");
        wide.get() == columns
            && screen.alternate_screen()
            && counted
            && (columns < 70 || widest == usize::from(columns))
    });
    terminal.rows(columns)
}

#[test]
fn the_tree_is_a_graph_at_any_width() {
    let home = Home::new();
    imported(&home, SKY, 6);
    let mut terminal = opened(&home, 20, 13);
    terminal.line("/tree");
    let narrow = [
        "Which message? @ is",
        "where you are, in 7",
        "messages on 3",
        "  * u: Why is the…",
        "  |-* a: Rayleigh…",
        "  | * u: And at…",
        "  | |-* a: It is…",
        "  | * a: There is…",
        "  * a: Because…",
        "> @ u: Thanks for…",
        "",
        "",
        "7 of 7",
    ];
    assert_eq!(grid(&mut terminal, 20), narrow);
    let usual = [
        "Which message? @ is where you are, in 7 messages on 3 branches.",
        "  1 * user: Why is the sky blue?",
        "  3 |-* assistant: Rayleigh scattering.                                    large",
        "  4 | * user: And at night?",
        "  5 | |-* assistant: It is dark then.                                      large",
        "  6 | * assistant: There is no light to scatter, so that the sky is…       large",
        "  2 * assistant: Because light is scattered by the molecules of the air.    tiny",
        "> 7 @ user: Thanks for \u{241b}[31mthat",
        "",
        "",
        "",
        "",
        "7 of 7; Enter selects, Esc cancels, arrows move, typing filters",
    ];
    terminal.resize_to(80, 13);
    assert_eq!(grid(&mut terminal, 80), usual);
    terminal.resize_to(200, 13);
    let wide = grid(&mut terminal, 200);
    let row = |at: usize, left: &str, right: &str| {
        let gap = 200 - left.chars().count();
        assert_eq!(wide[at], format!("{left}{right:>gap$}"));
    };
    row(5, "  6 | * assistant: There is no light to scatter, so that the sky is black at night.", "large");
    row(6, "  2 * assistant: Because light is scattered by the molecules of the air.", "tiny");
    terminal.keys(ESC).at_prompt();
    assert!(!String::from_utf8_lossy(&terminal.bytes()).contains("\x1b[31mthat"));
}

/// The selected row.
#[track_caller]
fn chosen(terminal: &mut Terminal, text: &str) {
    terminal.wait(&format!("{text:?} to be chosen"), |screen| {
        screen.contents().lines().any(|line| line.starts_with("> ") && line.contains(text))
    });
}

#[test]
fn arrows_and_typing_go_to_a_branch_and_redo_returns() {
    let home = Home::new();
    imported(&home, SKY, 6);
    let mut terminal = opened(&home, 80, 24);
    terminal.line("/tree").sees("7 of 7");
    chosen(&mut terminal, "7 @ user");
    terminal.keys(UP).keys(UP);
    chosen(&mut terminal, "6 | * assistant: There is no light");
    terminal.keys(ENTER).sees("now at message 6 of 7; /redo returns");
    terminal
        .sees("> And at night?\nThere is no light to scatter, so that the sky is black at night.")
        .at_prompt();
    terminal
        .wiped()
        .line("/show prompt")
        .sees("[user] Why is the sky blue?\n[assistant] Rayleigh")
        .at_prompt();
    terminal.wiped().line("/redo").sees("restored: Thanks for").at_prompt();
    terminal.wiped().line("/tree").keys("dark then").sees("1 of 7");
    chosen(&mut terminal, "5 | |-* assistant: It is dark");
    terminal.keys(ENTER).sees("now at message 5 of 7").at_prompt();
    terminal.wiped().line("/undo").sees("removed: And at night?").at_prompt();
    terminal.wiped().line("/retry").sees("One.").at_prompt();
    terminal.wiped().line("/tree").sees("8 of 8");
    chosen(&mut terminal, "8 @ assistant: One.");
    let screen = terminal.screen();
    assert!(screen.contains("script, just now\n"), "models and ages: {screen}");
    terminal.keys(ESC).at_prompt().keys(CTRL_D).ends();
}

#[test]
fn long_runs_open_and_their_messages_can_be_found() {
    let home = Home::new();
    let texts: Vec<String> = (0..100).map(|n| format!("Message {n}.")).collect();
    let roles = ["user", "assistant"].into_iter().cycle();
    let run = texts.iter().zip(roles).enumerate();
    let run: Vec<_> = run.map(|(n, (text, role))| (n.checked_sub(1), role, text.as_str())).collect();
    imported(&home, &run, 99);
    let mut terminal = opened(&home, 80, 24);
    terminal
        .line("/tree")
        .sees("8 of 8")
        .sees("  3 * user: Message 2.\n      : 93 messages\n   97 * user: Message 96.");
    terminal.keys("\x1b[5~").keys(DOWN).keys(DOWN).keys(DOWN);
    chosen(&mut terminal, ": 93 messages");
    terminal.keys("MESSAGE 55").sees("1 of 100");
    chosen(&mut terminal, " 56 * assistant: Message 55.");
    terminal.keys(CTRL_U).sees("8 of 8");
    chosen(&mut terminal, ": 93 messages");
    terminal.keys(ENTER).sees("100 of 100");
    chosen(&mut terminal, "4 * assistant: Message 3.");
    terminal
        .keys("55.")
        .keys(ENTER)
        .sees("now at message 56 of 100")
        .sees("> Message 54.\nMessage 55.")
        .at_prompt();
    terminal.keys(CTRL_D).ends();
}

#[test]
fn where_nothing_may_move_the_tree_is_a_numbered_list() {
    let home = Home::new();
    imported(&home, SKY, 6);
    let lines = "/tree\n9\n5\n/tree\n\n/tree 2\n/tree 7\n/tree 1\n/tree two\n";
    let done = chat(&home, "One.\n", &["--resume", "0011", "-q"], lines).code(0);
    let listed = "1 * user: Why is the sky blue?\n3 |-* assistant: Rayleigh scattering.  large\n\
                  4 | * user: And at night?\n5 | |-* assistant: It is dark then.  large\n";
    let done =
        done.says(listed).says("/tree takes the number of a message, 1 to 7, not '9'\n> And at night?\n");
    let done =
        done.says("5 @ assistant: It is dark then.  large\n").says("> Why is the sky blue?\nBecause light");
    done.says("not 'two'");
    for (columns, row) in [(20, "5 |-* a: It is…\n"), (80, "5 |-* assistant: It is dark then.")] {
        let [option, script] = home.script("answers", "One.\n");
        let setup = Setup { columns, rows: 24, ..Setup::default() };
        let mut terminal = home.terminal_as(&setup, &[&option, &script, "--plain", "--resume", "0011"]);
        terminal
            .at_prompt()
            .wiped()
            .line("/tree")
            .sees(row)
            .sees("Number, or")
            .line("3")
            .sees("Rayleigh")
            .at_prompt();
        assert!(!terminal.bytes().windows(8).any(|window| window == b"\x1b[?1049h"));
        terminal.keys(CTRL_D).ends();
    }
}

#[test]
fn edit_undo_and_redo_work_on_the_branch_one_went_to() {
    let home = Home::new();
    imported(&home, SKY, 6);
    let editor = home.write("editor.sh", "sed -i s/night/noon/ \"$1\"");
    let lines = "/tree 5\n/edit\n/show prompt\n/undo\n/show prompt\n/redo\n/tree\n";
    let run = home.scripted("It is bright.\n", &["--repl-stdin", "-q", "--resume", "0011"]).stdin(lines);
    let done = run.env("EDITOR", format!("sh '{}'", editor.display())).done().code(0);
    let done = done.stdout("It is bright.\n");
    let prompt = "[user] Why is the sky blue?\n[assistant] Rayleigh scattering.\n[user] And at";
    let done = done.says(&format!("> And at noon?\n{prompt} noon?\n{prompt} night?\n1 * user: Why is"));
    done.says("9 @ assistant: It is bright.  script, just now\n");
}

#[test]
fn an_empty_conversation_has_no_tree() {
    chat(&Home::new(), "One.\n", &[], "/tree\n/tree 1\n").says("fireside: the conversation is empty\n");
}

/// After `kill -9` the part of an answer that was saved is a branch like any other.
#[test]
fn what_a_crash_left_is_a_branch() {
    let home = Home::new();
    let slow = (1..=600).map(|n| format!("\\p\\pw{n} ")).collect::<String>();
    let mut terminal = home.terminal(&home.script("answers", &format!("Whole.\n{slow}\n")));
    terminal.at_prompt().line("Count").sees("Whole.").at_prompt().line("/retry").sees("w20 ");
    terminal.signal(rexpect::process::Signal::SIGKILL);
    drop(terminal);
    let mut terminal = home.terminal(
        &home.script("more", "More.\n").into_iter().chain(["--continue".into()]).collect::<Vec<_>>(),
    );
    terminal
        .at_prompt()
        .wiped()
        .line("/tree")
        .sees("3 of 3")
        .sees("2 |-* assistant: Whole.")
        .sees("3 @ assistant: w1 w2 ");
    terminal
        .keys(UP)
        .keys(ENTER)
        .sees("> Count\nWhole.")
        .at_prompt()
        .line("/redo")
        .sees("restored: Count")
        .at_prompt();
    terminal.line("/tree").sees("3 @ assistant: w1 w2 ").keys(ESC).at_prompt().keys(CTRL_D).ends();
}

#[test]
fn ten_thousand_messages_on_two_hundred_branches_are_usable() {
    let home = Home::new();
    let texts: Vec<String> = (0..10_000).map(|n| format!("Message {n} of many.")).collect();
    let message = |n: usize| {
        // Every fiftieth message begins a branch, half way back to the first one.
        let parent = n.checked_sub(1).map(|before| if n.is_multiple_of(50) { n / 2 } else { before });
        (parent, if n.is_multiple_of(2) { "user" } else { "assistant" }, texts[n].as_str())
    };
    let messages: Vec<_> = (0..10_000).map(message).collect();
    imported(&home, &messages, 9_999);
    let mut terminal = opened(&home, 80, 24);
    terminal.line("/tree").sees("10000 messages on 200 branches");
    chosen(&mut terminal, "10000 @ ");
    terminal.keys("4321").sees("1 of 10000").keys(ENTER).sees("now at message 4322 of 10000").at_prompt();
    terminal.keys(CTRL_D).ends();
}

const OTHER: &str = "name: other\nA second opinion.\nA third one.\n";

#[test]
fn a_second_model_answers_beside_the_first() {
    let home = Home::new();
    let other = home.write("other", OTHER);
    let compare = format!("/compare script:{}", other.display());
    let lines = format!("Hi\n{compare}\n/show prompt\n/tree 3\n/tree 2\nOn\n");
    let done =
        home.scripted("One.\nTwo.\n", &["--repl-stdin", "--keep", "--seed", "5"]).stdin(lines).done().code(0);
    let done = done
        .stdout("One.\nA second opinion.\nTwo.\n")
        .says("other:\nscript: 1 token, context 2 of 1000\nother: 3 tokens");
    let done =
        done.says("the conversation goes on with script; /tree 3 goes to the other answer\n[user] Hi\n");
    done.says("> Hi\nA second opinion.\n").says("> Hi\nOne.\n");
    let record = history(&home, &["export", &id(&home, 0), "--format", "json"]).done().code(0).json();
    let answers: Vec<&Value> = record["tree"]["entries"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|entry| entry["role"] == "assistant")
        .collect();
    let facts = |answer: &Value| {
        (answer["answer"]["model"].clone(), answer["answer"]["seed"].clone(), answer["parent"].clone())
    };
    let question = record["tree"]["entries"][0]["id"].clone();
    assert_eq!(facts(answers[0]), ("script".into(), 5.into(), question.clone()));
    assert_eq!(facts(answers[1]), ("other".into(), 5.into(), question));
    assert_eq!(record["model"], "script");
}

#[test]
fn a_comparison_that_fails_or_is_refused_changes_nothing() {
    let home = Home::new();
    let failing = home.write("failing", "name: other\n!out of luck\n");
    let lines = format!(
        "/compare script:{0}\nHi\n/compare\n/compare nowhere\n/compare script:{0}\n/tree\n\n/more\nOn\n/show prompt\n",
        failing.display()
    );
    let done = chat(&home, "One.\nTwo.\n", &["-q"], &lines).code(0).stdout("One.\nTwo.\n");
    let done = done.says("there is no answer to compare with").says("/compare needs the name of a model");
    let done = done.says("could not read the script nowhere").says("other:\nfireside: out of luck\n");
    done.says("1 * user: Hi")
        .says("the answer was not cut off")
        .says("[user] Hi\n[assistant] One.\n[user] On\n");
}

#[test]
fn a_second_answer_that_is_stopped_is_kept_as_far_as_it_came() {
    let home = Home::new();
    let slow = (1..=600).map(|n| format!("\\p\\pw{n} ")).collect::<String>();
    let other = home.write("other", format!("name: other\n{slow}\n"));
    let mut terminal = home.terminal(&home.script("answers", "One.\nTwo.\n"));
    terminal.at_prompt().line("Hi").sees("One.").at_prompt();
    terminal.line(&format!("/compare script:{}", other.display())).sees("other:\nw1 w2 ").keys(CTRL_C);
    terminal.sees("stopped\nscript: 1 token").sees("the conversation goes on with script").at_prompt();
    terminal.wiped().line("/tree 3").sees("> Hi\nw1 w2 ").at_prompt().line("/more").sees("Two.").at_prompt();
    terminal.keys(CTRL_D).ends();
}

#[test]
fn real_models_are_compared_with_their_own_recommendations() {
    let home = Home::new();
    let plain = std::fs::read(tiny("gemma3")).unwrap();
    let advised =
        crate::support::with_metadata(&plain, "general.sampling.temp", GGUF_F32, &0.25f32.to_le_bytes());
    let other = home.write("advised.gguf", advised);
    let first = tiny("llama-bpe");
    let lines = format!(
        "Hi\n/compare {0}\n/set temp\n/compare {1}\n/compare {0}\n/retry\n",
        other.display(),
        first.display()
    );
    let run = home
        .run(&["--repl-stdin", "--keep", "--top-k", "7", "-n", "3"])
        .model(&first)
        .stdin(lines)
        .done()
        .code(0);
    run.says("is the model of this chat already").says("temp                   0.8");
    let record = history(&home, &["export", &id(&home, 0), "--format", "json"]).done().code(0).json();
    let answers =
        record["tree"]["entries"].as_array().unwrap().iter().filter(|entry| entry["role"] == "assistant");
    let setting = |answer: &Value, wanted: &str| {
        let settings = answer["answer"]["settings"].as_array().unwrap();
        settings.iter().find(|pair| pair[0] == wanted).map(|pair| pair[1].as_str().unwrap().to_string())
    };
    let both: Vec<_> = answers.map(|answer| (setting(answer, "temp"), setting(answer, "top-k"))).collect();
    let (own, advised) = ((both[0].0.clone(), Some("7".into())), (Some("0.25".into()), Some("7".into())));
    assert_eq!(both, [own.clone(), advised.clone(), advised, own]);
    let (id, model) = (id(&home, 0), first.to_str().unwrap().to_string());
    assert!(history(&home, &["show", &id]).done().code(0).stdout.contains("Hi"), "{model}");
}

#[test]
fn a_conversation_is_compared_at_a_server_only_after_a_yes() {
    let (home, server) = (Home::new(), FakeServer::new(|_| None));
    home.write(".config/fireside/config.toml", format!("[servers.work]\nurl = \"{}\"\n", server.url));
    let mut terminal = home.terminal(&home.script("answers", "One.\nTwo.\n"));
    terminal.at_prompt().line("a secret").sees("One.").at_prompt();
    terminal
        .line("/compare tiny@work")
        .sees("Send all of it there? [y/N]")
        .line("n")
        .sees("nothing was sent")
        .at_prompt();
    assert!(server.asked().is_empty());
    terminal.line("/compare tiny@work").sees("[y/N] ").line("y").sees("Hello there").at_prompt();
    assert!(server.questions()[0].body.contains("a secret"));
    terminal.wiped().line("On").sees("Two.").at_prompt();
    assert_eq!(server.questions().len(), 1, "the chat goes on here");
    terminal.keys(CTRL_D).ends();
}

#[test]
fn where_only_one_model_fits_the_first_is_closed_and_opened_again() {
    let mut session =
        Session::new(memory::open(&Config::default(), "first").unwrap(), SessionOptions::default());
    let mut notices = Vec::new();
    let mut watch = |event: Option<&Event>| {
        if let Some(Event::Notice(line)) = event {
            notices.push(line.clone());
        }
        ControlFlow::Continue(())
    };
    session.say(Message::new(Role::User, "Hi"), &mut watch).unwrap();
    let error = session.open_second("huge", memory::open, &mut watch).err().expect("it never fits");
    assert!(error.to_string().contains("not enough memory"), "{error}");
    session.say(Message::new(Role::User, "On"), &mut watch).expect("the first model is back");
    let head = session.conversation().head();
    let mut second = session.open_second("second", memory::open, &mut watch).unwrap();
    session.answer_with(&mut second, &mut watch).unwrap();
    assert!(session.close_second(second, memory::open).unwrap(), "the first model was closed");
    assert_eq!((session.conversation().head(), session.conversation().entries().len()), (head, 5));
    session.retry(&mut watch).expect("the first model is back");
    assert_eq!(notices, ["closing script: memory does not hold both models"; 2]);
}
