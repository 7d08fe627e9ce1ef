//! All saved conversations are treated alike, wherever they were held, when they are listed, resumed,
//! continued, exported or removed.

use serde_json::Value;

use crate::history::{DATABASE, chat, history, id, listed};
use crate::support::pty::*;
use crate::support::{Done, Home, program, tiny};

/// One question, saved as on a terminal.
fn asked(home: &Home, answer: &str, question: &str) -> Done {
    home.scripted(answer, &["--keep", "-p", question]).done().code(0)
}

/// The prompt that the model got.
fn given(home: &Home, args: &[&str]) -> String {
    let args: Vec<&str> = args.iter().chain(&["--dry-run"]).copied().collect();
    home.scripted("x\n", &args).done().code(0).stdout
}

#[test]
fn continue_takes_the_newest_of_any_kind_and_names_it() {
    let home = Home::new();
    chat(&home, "one\n", &[], "In a chat\n").code(0);
    asked(&home, "two\n", "Asked once");
    let done = home.scripted("three\n", &["--continue", "-p", "And on"]).done().code(0).stdout("three\n");
    let short = id(&home, 0)[..8].to_string();
    done.says(&format!("continuing {short}: Asked once (2 messages)\n"));
    assert_eq!((listed(&home).len(), listed(&home)[0]["messages"].clone()), (2, 4.into()));
    assert_eq!(given(&home, &["--continue", "-p", "x"]), {
        "[user] Asked once\n[assistant] two\n[user] And on\n[assistant] three\n[user] x\n"
    });
    home.scripted("four\n", &["-q", "--continue", "-p", "Quietly"]).done().code(0).stderr("");
    chat(&home, "five\n", &["--continue"], "")
        .code(0)
        .says(&format!("continuing {short}: Asked once (6 messages)"));
}

/// Lists state how many messages are shown, and how many others there are.
#[test]
fn what_is_counted_is_what_is_shown() {
    let home = Home::new();
    let listed = || history(&home, &["list"]).done().code(0).stdout;
    chat(&home, "one\ntwo\nthree\n", &[], "hello\n/retry\n/retry\n/undo\n").code(0);
    assert!(listed().contains(" 0 messages  hello"), "{}", listed());
    let done = chat(&home, "four\n", &["--continue"], "Again\n").code(0);
    done.says(": hello (0 messages, 4 on other branches)");
    assert!(listed().contains(" 2 messages  hello"), "{}", listed());
    let done = chat(&home, "five\n", &["--continue"], "/retry\n").code(0);
    done.says(": hello (2 messages, 4 on other branches)");
    let one = crate::history::listed(&home)[0].clone();
    assert_eq!((one["messages"].clone(), one["path"].clone()), (7.into(), 2.into()), "JSON has both");
    let mut terminal = home.terminal(&[&["history", "rm"][..], &[&id(&home, 0)]].concat());
    terminal.sees("'hello' (2 messages, 5 on other branches)").line("n").ends();
    drop(terminal);
    let [option, script] = home.script("answers", "x\n");
    let mut terminal = home.terminal(&[&option, &script, "--resume"]);
    terminal.sees("  2 messages, just now").keys(ESC).ends();
}

#[test]
fn piped_runs_that_go_on_with_a_conversation_are_kept() {
    let home = Home::new();
    asked(&home, "one\n", "First");
    let id = id(&home, 0);
    home.scripted("two\n", &["--resume", &id, "-p", "Second"]).stdin("piped").done().code(0);
    home.scripted("three\n", &["--continue"]).stdin("Third").done().code(0);
    home.scripted("no\n", &["--continue", "--incognito", "-p", "Not kept"]).done().code(0).says("continuing");
    assert_eq!((listed(&home).len(), listed(&home)[0]["messages"].clone()), (1, 6.into()));
    let text = history(&home, &["show", &id]).done().code(0).stdout;
    assert!(
        text.contains("piped\n\nSecond") && text.contains("Third") && !text.contains("Not kept"),
        "{text}"
    );
    home.scripted("x\n", &["--raw", "--continue", "-p", "x"]).done().failed(2, "--raw");
}

#[test]
fn json_has_the_id_with_which_to_go_on() {
    let home = Home::new();
    let object = |args: &[&str]| home.scripted("one\n", args).done().json();
    let kept = object(&["--keep", "--json", "-p", "First"])["conversation"].clone();
    assert_eq!(kept, Value::from(id(&home, 0)));
    let again = object(&["--resume", kept.as_str().unwrap(), "--json", "-p", "Second"]);
    assert_eq!((&again["conversation"], listed(&home)[0]["messages"].clone()), (&kept, 4.into()));
    assert_eq!(object(&["--json", "-p", "Not kept"])["conversation"], Value::Null);
    assert_eq!(
        object(&["--continue", "--incognito", "--json", "-p", "Not kept"])["conversation"],
        Value::Null
    );
    let failed = home.scripted("!no\n", &["--continue", "--json", "-p", "Third"]).done().code(1).json();
    assert_eq!(failed["conversation"], kept);
    // An unsaved conversation has no id.
    std::fs::remove_file(home.path(DATABASE)).unwrap();
    std::fs::create_dir(home.path(DATABASE)).unwrap();
    assert_eq!(object(&["--keep", "--json", "-p", "Lost"])["conversation"], Value::Null);
}

#[test]
fn what_was_taken_is_named() {
    let home = Home::new();
    asked(&home, "one\n", "First");
    let id = id(&home, 0);
    let (short, named) = (&id[..8], format!("{}: First", &id[..8]));
    let file = home.path("out.md");
    history(&home, &["export", short, file.to_str().unwrap()]).done().code(0).says(&named);
    history(&home, &["rm", short, "--yes"]).done().code(0).stdout(&format!("removed {named}\n"));
    home.run(&["--resume", short, "-p", "x"]).done().failed(1, "there is no conversation");
}

/// A chat on a terminal like any other, whatever it begins with.
#[test]
fn a_chat_after_an_answer_is_kept_though_its_beginning_was_piped_in() {
    let home = Home::new();
    let script = home.script("answers", "one\ntwo\n");
    let words = [&[program().to_string()][..], &script, &["-i", "-p", "Sum up"].map(String::from)].concat();
    let mut terminal = home.shell_command(&Setup::default(), "echo piped | \"$@\"", &words);
    terminal.sees("one").at_prompt().line("And on").sees("two").at_prompt().keys(CTRL_D).ends();
    drop(terminal);
    assert_eq!((listed(&home).len(), listed(&home)[0]["messages"].clone()), (1, 4.into()));
}

#[test]
fn without_any_conversation_that_is_said() {
    let home = Home::new();
    home.scripted("x\n", &["--continue", "-p", "x"]).done().failed(1, "no conversations are saved yet");
}

#[test]
fn what_an_ended_program_left_beside_is_seen_before_there_is_a_database() {
    let home = Home::new();
    asked(&home, "one\n", "First");
    let folder = home.path(".local/share/fireside");
    // As left by a killed program that could not write the database.
    let aside = home.path(&format!("{DATABASE}.aside-1-1"));
    let line = |text: String| text + "\n";
    let begin = line(r#"{"Begin":{"id":"0123456789abcdef","title":"Beside","system":null,"model":"m","interactive":true}}"#.into());
    let add = line(r#"{"Add":{"parent":null,"role":"user","text":"Said beside","created":1}}"#.into());
    std::fs::remove_file(home.path(DATABASE)).unwrap();
    for rest in ["-wal", "-shm"] {
        let _ = std::fs::remove_file(home.path(&format!("{DATABASE}{rest}")));
    }
    std::fs::write(&aside, begin + &add).unwrap();
    let listed = listed(&home);
    let names: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!((listed.len(), listed[0]["title"].clone()), (1, "Beside".into()), "{names:?}");
}

/// The notice that conversations are saved appears once, when the first is saved.
#[test]
fn privacy_is_said_with_the_first_question() {
    let home = Home::new();
    let script = home.script("answers", "one\n");
    let ask = |more: &[&str]| {
        let words: Vec<&str> =
            script.iter().map(String::as_str).chain(["-p", "Hello"]).chain(more.iter().copied()).collect();
        let mut terminal = home.terminal(&words);
        terminal.sees("one").ends();
        terminal.screen().replace('\n', " ")
    };
    let screen = ask(&["--incognito"]);
    assert!(screen.contains("incognito: nothing is saved"), "{screen}");
    assert!(!home.path(DATABASE).exists());
    let screen = ask(&[]);
    assert!(screen.contains("conversations are saved in") && screen.contains("--incognito"), "{screen}");
    let screen = ask(&[]);
    assert!(!screen.contains("saved"), "{screen}");
    // In a pipe nothing is saved, and there is no notice.
    Home::new().scripted("one\n", &["-p", "Hello"]).done().code(0).stderr("");
}

/// A quiet run prints no notice; the first other run does.
#[test]
fn privacy_is_said_after_quiet_runs_too() {
    let home = Home::new();
    let run = |more: &[&str]| {
        home.scripted("one\n", &[&["--keep", "-p", "Hello"], more].concat()).done().code(0).stderr
    };
    assert_eq!(run(&["-q"]), "");
    assert!(run(&[]).contains("conversations are saved in"));
    assert!(!run(&[]).contains("conversations are saved in"));
    std::fs::remove_file(home.path(DATABASE)).unwrap();
    assert!(run(&[]).contains("conversations are saved in"), "a new file is a new beginning");
}

#[test]
fn privacy_is_said_when_conversations_are_taken_in() {
    let home = Home::new();
    let file = home.write("one.json", r#"[{"role": "user", "content": "Only a question"}]"#);
    let import = || history(&home, &["import", file.to_str().unwrap()]).done().code(0).stderr;
    let said = import();
    assert!(said.contains("conversations are saved in") && said.contains("--incognito"), "{said}");
    assert!(!import().contains("conversations are saved in"));
}

/// Also cached prompts, if a run saves nothing else.
#[test]
fn a_cache_of_prompts_is_said_when_it_is_made() {
    let home = Home::new();
    let file = home.write("long.txt", "A small house by the road. ".repeat(200));
    let run = |more: &[&str]| {
        let args = [&["-f", file.to_str().unwrap(), "-p", "Hi", "-n", "4", "-t", "1"], more].concat();
        home.run(&args).model(&tiny("llama-bpe")).arg("-c").arg("8192").done().code(0)
    };
    assert!(!run(&["--incognito"]).stderr.contains("cache"));
    assert!(!home.path(".cache/fireside/prompts").exists());
    run(&[]).says("long prompts are cached in").says("--no-prompt-cache");
    assert!(!run(&[]).stderr.contains("cache"), "it is said once");
}

#[test]
fn a_chat_shows_that_it_is_incognito() {
    let home = Home::new();
    let script = home.script("answers", "one\n");
    let mut terminal = home.terminal(&[&script[0], &script[1], "--incognito"]);
    terminal.sees("incognito: nothing is saved").at("incognito> ").line("Hi").sees("one").at("incognito> ");
    terminal.keys(CTRL_D).ends();
}

#[test]
fn a_fork_and_a_title_are_in_the_export() {
    let home = Home::new();
    let file = |name: &str| home.path(name);
    let exported = |name: &str| -> Value {
        serde_json::from_slice(&std::fs::read(file(name)).unwrap()).unwrap_or_else(|e| panic!("{name}: {e}"))
    };
    let lines =
        "Hi\n/title My talk\n/export one.json\n/fork\n/export two.json\n/title Another\n/export three.json\n";
    chat(&home, "one\n", &[], lines).code(0);
    let [one, two, three] = ["one.json", "two.json", "three.json"].map(exported);
    assert_eq!([&one["title"], &two["title"], &three["title"]], ["My talk", "My talk (fork)", "Another"]);
    let ids: Vec<String> = listed(&home).iter().map(|one| one["id"].as_str().unwrap().to_string()).collect();
    assert_eq!([&one["id"], &two["id"], &three["id"]], [&ids[1], &ids[0], &ids[0]]);
    let done = chat(&home, "x\n", &["--resume", &ids[1]], "/export again.json\n").code(0);
    assert_eq!(
        (exported("again.json")["title"].clone(), exported("again.json")["id"].clone()),
        ("My talk".into(), ids[1].clone().into()),
        "{done:#?}"
    );
    // Also of an unsaved conversation: imported twice it is one conversation.
    let lines = "Hi\n/title Unkept\n/export four.json\n/export --force four.json\n";
    home.scripted("one\n", &["--repl-stdin", "--incognito"]).stdin(lines).done().code(0);
    assert_eq!(exported("four.json")["title"], "Unkept");
    for imported in [1, 0] {
        let done = history(&home, &["import", file("four.json").to_str().unwrap(), "--json"]).done().code(0);
        assert_eq!(done.json()["imported"], imported);
    }
}
