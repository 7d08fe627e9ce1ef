//! Roles: what they set, their variables and examples, `/role`, `--save-role`, and everything wrong with one.

use fireside::settings::roles::find;
use serde_json::Value;

use crate::support::mutate::Random;
use crate::support::pty::*;
use crate::support::{Done, Home, tiny};

const MODELS: &str = ".local/share/fireside/models";

const SUMMARISE: &str = "\
---
description: Sum up a text
temp: 0.1  # exact
stop: [\"###\", 'b']
vars:
  lang: English
  style:
---

You write $style summaries for $$5.

### INPUT:
A long text in $lang.

### OUTPUT:
A short one.
### PROMPT:
Sum up in ${lang}:

$input
";

fn role(home: &Home, name: &str, text: &str) {
    home.write(&format!(".config/fireside/roles/{name}.md"), text);
}

fn home_with(name: &str, text: &str) -> Home {
    let home = Home::new();
    role(&home, name, text);
    home
}

/// The prompt that a command line gives the model.
fn prompt(home: &Home, args: &[&str], stdin: &str) -> String {
    let args = [&["--dry-run", "-q"], args].concat();
    home.scripted("x\n", &args).stdin(stdin).done().code(0).stderr("").stdout
}

/// Chat lines in, with scripted answers.
fn chat(home: &Home, args: &[&str], lines: &str) -> Done {
    let args = [&["--repl-stdin"], args].concat();
    home.scripted("One.\nTwo.\nThree.\n", &args).stdin(lines).done().code(0)
}

const EXAMPLE: &str = "[user] A long text in English.\n[assistant] A short one.\n";

#[test]
fn a_task_puts_the_text_into_its_prompt() {
    let home = home_with("sum", SUMMARISE);
    let of = |args: &[&str], stdin: &str| {
        prompt(&home, &[&["--role", "sum", "--var", "style=brief"], args].concat(), stdin)
    };
    let system = "[system] You write brief summaries for $5.\n";
    assert_eq!(of(&[], "One\ntext\n"), format!("{system}{EXAMPLE}[user] Sum up in English:\n\nOne\ntext\n"));
    assert_eq!(of(&["-p", "typed"], ""), format!("{system}{EXAMPLE}[user] Sum up in English:\n\ntyped\n"));
    assert_eq!(of(&["-p", "b"], "a"), format!("{system}{EXAMPLE}[user] Sum up in English:\n\na\n\nb\n"));
    let french = of(&["--var", "lang=French"], "x");
    let example = EXAMPLE.replace("English", "French");
    assert_eq!(french, format!("{system}{example}[user] Sum up in French:\n\nx\n"));
    home.write("a.txt", "file");
    let file = of(&["-f", "a.txt", "-p", "b"], "");
    assert!(file.ends_with("[user] file\n\nSum up in English:\n\nb\n"), "{file}");
    let done = home.scripted("x\n", &["--role", "sum", "--var", "style=x"]).stdin("").done();
    done.failed(2, "the role sum needs a text").hint("--role sum < FILE");
}

#[test]
fn a_prompt_without_a_place_for_the_text_comes_after_it() {
    let home = home_with("joke", "### PROMPT:\nTell a joke about it.\n");
    assert_eq!(
        prompt(&home, &["--role", "joke", "-p", "cats"], ""),
        "[user] cats\n\nTell a joke about it.\n"
    );
    assert_eq!(prompt(&home, &["--role", "joke"], ""), "[user] Tell a joke about it.\n");
}

#[test]
fn a_role_without_front_matter_is_a_system_prompt() {
    let home = home_with("poet", "\u{feff}\nYou are a poet.\n\n### Rules\n--- \nRhyme.\n\n");
    let expected = "[system] You are a poet.\n\n### Rules\n--- \nRhyme.\n[user] Hi\n";
    assert_eq!(prompt(&home, &["--role", "poet", "-p", "Hi"], ""), expected);
    role(&home, "cold", "---\ntemp: 0\n---\n");
    assert_eq!(prompt(&home, &["--role", "cold", "-p", "Hi"], ""), "[user] Hi\n");
}

#[test]
fn its_settings_hold_and_flags_beat_them() {
    let home = home_with(
        "r",
        "---\ntemp: 0.1\ntop-k: 5\nstop:\n- \"two\"\n- three\nthink: on\ntemplate-arg:\n  a: 1\n---\n",
    );
    let run = |args: &[&str]| {
        let args = [&["--role", "r", "--json", "-p", "Hi"], args].concat();
        home.scripted("one two\n", &args).done().code(0).json()
    };
    let object = run(&["--temp", "0.7"]);
    let sampling = &object["sampling"];
    assert_eq!((&sampling["temp"], &sampling["top-k"]), (&0.7.into(), &5.into()));
    let all = home.run(&["config", "--role", "r", "--json"]).done().code(0).json();
    assert_eq!(all["role"], "r");
    let value = |name: &str| all["settings"][name]["value"].as_str().unwrap().to_string();
    assert_eq!(["stop", "think", "template-arg"].map(value), ["two, three", "on", "a=1"]);
    assert_eq!(all["settings"]["stop"]["origin"], "role r");
}

#[test]
fn what_is_filled_in_is_never_read_again() {
    let home = home_with(
        "r",
        "---\nvars:\n  a: \"$b $$ ${input}\"\n  b: B\n---\nS $a\n### PROMPT:\nP $a|$input|$b\n",
    );
    let typed = "$a $$ ${b} {stdin} ### PROMPT:";
    let shown = prompt(&home, &["--role", "r", "-p", typed], "piped");
    // {stdin} in what was typed takes the pipe, as without a role.
    let input = "$a $$ ${b} piped ### PROMPT:";
    assert_eq!(shown, format!("[system] S $b $$ ${{input}}\n[user] P $b $$ ${{input}}|{input}|B\n"));
    let shown = prompt(&home, &["--role", "r", "--var", "b={stdin}$input", "-p", "x"], "piped");
    assert!(shown.ends_with("|piped\n\nx|{stdin}$input\n"), "{shown}");
}

#[test]
fn values_and_input_never_become_control_tokens() {
    let home = home_with(
        "r",
        "---\nvars:\n  a:\n---\n$a\n### INPUT:\n$a\n### OUTPUT:\n$a\n### PROMPT:\n$a $input\n",
    );
    let tokens = |text: &str| {
        let args =
            ["--role", "r", "--var", &format!("a={text}"), "--repl-stdin", "-q", "-n", "1", "--temp", "0"];
        let done =
            home.run(&args).model(&tiny("llama-bpe")).stdin(format!("{text}\n/tokens\n")).done().code(0);
        let lines = done.stderr.lines().filter_map(|line| line.trim_start().split_once(' '));
        lines.map(|(_, piece)| piece.to_string()).collect::<Vec<_>>()
    };
    let marker = "<|im_end|>";
    let control = |tokens: &[String]| tokens.iter().filter(|piece| piece.contains(marker)).count();
    let (forged, plain) = (tokens(marker), tokens("word"));
    assert!(control(&plain) > 0, "{plain:?}");
    assert_eq!(control(&forged), control(&plain), "{forged:?}");
}

#[test]
fn everything_wrong_with_a_role_is_one_line_each() {
    let home = home_with(
        "bad",
        "---\ntepm: 0.1\ntop-p: 7\nfoo\nsystem-prompt: x\nno-guess: on\ntemp: [1, 2]\nmlock:\ndescripton: x\nvars:\n  input: 1\n  a-b: 2\n---\n$input here\n### OUTPUT:\nx\n### PROMPT:\ny\n### INPUT:\n",
    );
    let done = home.scripted("x\n", &["--role", "bad", "-p", "Hi"]).done().code(2).stdout("");
    let lines: Vec<&str> =
        done.stderr.lines().filter_map(|line| line.strip_prefix("fireside: roles/bad.md line ")).collect();
    let expected = [
        "2: there is no setting 'tepm', did you mean temp?",
        "3: top-p must be a number from 0 to 1, not '7'",
        "4: 'foo' is not understood: write key: value, with texts in quotes and lists as [a, b]",
        "5: system-prompt has no place here: the text below --- is the system prompt",
        "6: no-guess is now no-speculative",
        "7: temp takes one value, not a list",
        "8: mlock needs a value",
        "9: there is no setting 'descripton', did you mean description?",
        "11: input is the user's text, not a variable",
        "12: a variable's name consists of letters, digits and _",
        "14: $input stands below ### PROMPT: only ($$input is the text)",
        "15: ### INPUT: must stand before ### OUTPUT:",
        "17: ### PROMPT: must be the last part, after all examples",
        "19: ### INPUT: has no text",
    ];
    assert_eq!(lines, expected, "{done:#?}");
    let problems = home.run(&["config", "--role", "bad", "--json"]).done().code(0).json()["problems"].clone();
    assert_eq!(problems.as_array().unwrap().len(), expected.len());
    for (text, why) in [
        ("---\ntemp: 1\n", "line 1: the front matter lacks the line --- at its end"),
        ("x\n### INPUT:\na\n", "line 2: ### OUTPUT: must follow ### INPUT:"),
        ("---\nincognito: true\nkeep: true\n---\n", "incognito and keep exclude each other"),
        ("---\nvars: x\n---\n", "line 2: vars has a line for each variable"),
        ("---\nmlock: yes\n---\n", "line 2: mlock must be one of on off"),
    ] {
        role(&home, "bad", text);
        home.scripted("x\n", &["--role", "bad", "-p", "Hi"]).done().failed(2, why);
    }
    home.write(".config/fireside/roles/bytes.md", b"\xff");
    home.scripted("x\n", &["--role", "bytes", "-p", "Hi"]).done().failed(2, "it is not UTF-8 text");
}

#[test]
fn a_changed_role_is_read_or_refused_with_its_lines() {
    let home = Home::new();
    let folder = home.path(".config/fireside/roles");
    let mut random = Random::new(18);
    let pieces = [
        "---",
        "### INPUT:",
        "### OUTPUT:",
        "### PROMPT:",
        "$input",
        "${",
        "}",
        "$$",
        "$",
        "\"",
        "'",
        "[",
        "]",
        ",",
        "#",
        ":",
        "- ",
        "  ",
        "\t",
        "\n",
        "\\",
        "vars:",
        "stop:",
        "temp:",
        "ä",
        "\u{feff}",
        "\0",
        "null",
        "|",
    ];
    let (mut read, mut refused) = (0, 0);
    for _ in 0..2000 {
        let mut text: Vec<char> = SUMMARISE.chars().collect();
        for _ in 0..1 + random.below(4) {
            let (at, other) = (random.below(text.len()), random.below(text.len()));
            match random.below(3) {
                0 => _ = text.splice(at..(at + random.below(20)).min(text.len()), []),
                1 => text.swap(at, other),
                _ => _ = text.splice(at..at, random.pick(&pieces).chars()),
            }
        }
        role(&home, "r", &text.iter().collect::<String>());
        match find(&folder, "r") {
            Ok(role) => read += usize::from(!role.texts().concat().contains("### PROMPT:\n")),
            Err(wrong) => {
                refused += 1;
                assert!(wrong.iter().all(|line| line.starts_with("roles/r.md line ")), "{wrong:?}");
            }
        }
    }
    assert!(read > 200 && refused > 200, "{read} read, {refused} refused");
}

#[test]
fn a_missing_variable_or_role_is_named() {
    let home = home_with("sum", SUMMARISE);
    let run = |args: &[&str]| home.scripted("x\n", &[&["-p", "Hi"], args].concat()).done();
    run(&["--role", "sum"])
        .failed(2, "the role sum needs a value for style: --var style=VALUE, or in a chat");
    run(&["--role", "sum", "--var", "stile=x"]).failed(2, "no variable 'stile', did you mean style?");
    run(&["--role", "sum", "--var", "style"]).failed(2, "--var takes NAME=VALUE, not 'style'");
    run(&["--role", "smu"]).failed(2, "there is no role 'smu', did you mean sum?").hint("fireside roles");
    run(&["--var", "a=b"]).failed(2, "--role is missing");
    home.run(&["config", "--role", "smu", "--json"]).done().code(0).stdout_has("did you mean sum?");
    run(&["--role", "sum", "--raw"]).failed(2, "--raw and --role exclude each other");
    role(&home, "undeclared", "Speak $lnag.\n");
    run(&["--role", "undeclared"]).failed(2, "needs a value for lnag");
    assert_eq!(
        prompt(&home, &["--role", "undeclared", "--var", "lnag=", "-p", "x"], ""),
        "[system] Speak .\n[user] x\n"
    );
}

#[test]
fn the_roles_are_listed_and_shown() {
    let home = home_with("sum", SUMMARISE);
    role(&home, "bad", "---\ntepm: 1\n---\n");
    role(&home, "not a name", "x");
    let done = home.run(&["roles"]).done().code(0).stderr("");
    assert_eq!(done.stdout.lines().count(), 3, "{done:#?}");
    let done = done.stdout_has("Sum up a text").stdout_has("cannot be used: roles/bad.md line 2");
    done.stdout_has("cannot be used: 'not a name' is not the name of a role");
    let done = home.run(&["roles", "sum"]).done().code(0);
    let done = done.stdout_has("lang=English").stdout_has("style, which must be given");
    done.stdout_has("You write $style summaries for $5.").stdout_has("Sum up in $lang:\n\n$input\n");
    let object = home.run(&["roles", "--json"]).done().code(0).json();
    assert_eq!((&object["roles"][0]["name"], &object["roles"][2]["examples"]), (&"bad".into(), &1.into()));
    assert!(object["roles"][0]["problems"][0].as_str().unwrap().contains("'tepm'"), "{object}");
    home.run(&["roles", "no"]).done().failed(2, "there is no role 'no'");
}

#[test]
fn a_chat_takes_a_role_and_leaves_it() {
    let home = home_with("sum", SUMMARISE);
    role(&home, "poet", "---\ndescription: Rhymes\ntop-k: 3\n---\nYou are a poet.\n");
    let lines = "/role\n/role poet\n/role\nHi\n/role sum style=very brief lang=French\nHo\n/show prompt\n/set temp\n\
                 /role none\n/system\n/set temp\n/role none\n";
    let done = chat(&home, &["--system-prompt", "Mine."], lines).stdout("One.\nTwo.\n");
    let done = done.says("poet  Rhymes\nsum   Sum up a text\n").says("poet  Rhymes (in use)\n");
    let notes = [
        "in the role poet: its system prompt applies from the next message on; top-k 3",
        "in the role sum: its system prompt applies from the next message on; its 1 example begins the next \
         conversation (/clear); what you type goes into its prompt; temp 0.1, stop ###, b",
        "[system] You write very brief summaries for $5.\n[user] Hi\n[assistant] One.\n[user] Sum up in French:\n\nHo\n",
        "temp                   0.1                      role",
        "left the role sum; the system prompt is the one before it; the model is script",
        "Mine.\ntemp                   0.8                      default",
        "no role is in use",
    ];
    notes.iter().fold(done, |done, note| done.says(note));
}

#[test]
fn a_chat_that_begins_in_a_role_says_so() {
    let home = home_with("r", "---\ntemp: 0.1\n---\nBe $how.\n");
    let said =
        |args: &[&str]| chat(&home, &[&["--role", "r", "--var", "how=brief"], args].concat(), "/system\n");
    let done =
        said(&[]).says("in the role r: its system prompt applies from the next message on; temp 0.1\n");
    done.says("\nBe brief.\n");
    let done =
        said(&["--system-prompt", "Mine."]).says("in the role r: temp 0.1; system prompt as you set it\n");
    done.says("\nMine.\n");
}

#[test]
fn what_the_user_has_set_stays_and_what_counts_at_the_start_is_said() {
    let home = home_with("r", "---\ntemp: 0.1\ntop-k: 3\nmin-p: 0.5\nincognito: true\n---\n");
    let done =
        chat(&home, &["--top-k", "9"], "/set temp 0.6\n/role r\n/set temp\n/set top-k\n/set incognito\n");
    let line =
        "in the role r: min-p 0.5; temp, top-k as you set it; incognito only when fireside starts (--role r)";
    let done = done.says(line).says("temp                   0.6").says("top-k                  9");
    assert!(!done.stderr.contains("incognito> "), "{done:#?}");
    chat(&home, &[], "/role nn\n").failed(0, "there is no role 'nn'");
    chat(&home, &[], "/role r x\n").failed(0, "a role takes NAME=VALUE after its name, not 'x'");
}

#[test]
fn examples_begin_a_conversation_and_are_not_the_users_own() {
    let home = home_with("sum", &SUMMARISE.replace("  style:", "  style: brief"));
    let lines =
        "/context\n/undo\nHi\n/show prompt\n/undo\n/undo\nHo\n/context\n/title\n/clear\nHa\n/show prompt\n";
    let done = chat(&home, &["--role", "sum", "--keep"], lines).stdout("One.\nTwo.\nThree.\n");
    let first =
        format!("[system] You write brief summaries for $5.\n{EXAMPLE}[user] Sum up in English:\n\nHi\n");
    let done = done.says(&first).says(&first.replace("Hi", "Ha")).says("fireside: nothing to undo");
    assert_eq!(done.stderr.matches("fireside: nothing to undo").count(), 2, "{done:#?}");
    // The title comes from the first message that was typed, as without a role.
    let done = done.says("\nSum up in English: Hi\nstarted a new conversation");
    done.says("  1 user           5 tokens           Sum up in English: Ho");
    let object = home.run(&["history", "list", "--json"]).done().code(0).json();
    let titles: Vec<&str> = object["conversations"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["title"].as_str().unwrap())
        .collect();
    assert_eq!(titles, ["Sum up in English: Ha", "Sum up in English: Hi"]);
}

#[test]
fn a_failed_message_comes_back_as_it_was_typed() {
    let home = home_with("sum", "### PROMPT:\nSum up: $input\n");
    let script = home.script("script.txt", "!broken\nOne.\n");
    let mut terminal = home.terminal(&[&script[..], &["--role".into(), "sum".into()]].concat());
    terminal.at_prompt().line("my text").sees("broken").at("> my text");
    terminal.keys(ENTER).sees("One.").at_prompt();
    terminal.line("/show prompt").sees("[user] Sum up: my text").at_prompt();
    terminal
        .keys("/role ")
        .keys(TAB)
        .keys(TAB)
        .sees("none")
        .sees("sum")
        .keys("su")
        .keys(TAB)
        .at("> /role sum ");
}

#[test]
fn a_roles_model_is_loaded_and_the_one_before_stays_if_it_cannot_be() {
    let home = Home::new();
    for name in ["one", "two"] {
        home.write(&format!("{MODELS}/{name}.gguf"), std::fs::read(tiny("llama-bpe")).unwrap());
    }
    role(&home, "other", "---\nmodel: two\nctx-size: 64\n---\nBe two.\n");
    role(&home, "gone", "---\nmodel: nowhere\n---\nBe gone.\n");
    let done = home.run(&["--role", "other", "-p", "Hi", "-n", "1", "--json"]).done().code(0).json();
    assert!(done["model"]["path"].as_str().unwrap().ends_with("two.gguf"), "{done}");
    let lines = "/role other\n/show\n/role gone\n/show\n/system\n/role none\n/show\n/set ctx-size\n";
    let done = home.run(&["--repl-stdin", "-m", "one"]).stdin(lines).done().code(0);
    let done = done.says("in the role other: its system prompt applies from the next message on; ctx-size 64; model as you set it");
    assert!(!done.stderr.contains("nowhere"), "the command line decides about the model: {done:#?}");
    home.run(&["-m", "one", "-p", "Hi", "-n", "1"]).done().code(0); // the one used last
    let done = home.run(&["--repl-stdin"]).stdin(lines).done().code(0);
    let files: Vec<&str> = done.stderr.lines().filter(|line| line.starts_with("file ")).collect();
    assert!(files.iter().all(|line| line.ends_with("two.gguf")) && files.len() == 3, "{done:#?}");
    let done = done.says("; model two, ctx-size 64\n").says("up to 64 tokens").says("Be two.\n");
    done.says("there is no model 'nowhere'").says("ctx-size               auto");
}

#[test]
fn an_answer_in_a_role_matches_its_schema_on_a_terminal() {
    let home = home_with("mood", "---\nschema: \"mood happy|sad\"\n---\nYou have moods.\n");
    let model = tiny("llama-bpe").display().to_string();
    let matches = |screen: &str| {
        let object = screen.split_once('{').and_then(|(_, rest)| rest.split_once('}'));
        let object: Option<Value> = object.and_then(|(inside, _)| format!("{{{inside}}}").parse().ok());
        object.is_some_and(|object| ["happy", "sad"].map(Value::from).contains(&object["mood"]))
    };
    let mut terminal = home.terminal(&["-m", &model, "--role", "mood", "-p", "Hi", "--incognito"]);
    assert_eq!(terminal.ends(), 0);
    assert!(matches(&terminal.screen()), "{}", terminal.screen());
    drop(terminal);
    let mut terminal = home.terminal(&["-m", &model, "--stats=off"]);
    terminal.at_prompt().line("/role mood").sees("in the role mood: its system prompt").at_prompt();
    terminal.wiped().line("Hi").wait("an object", |screen| matches(&screen.contents())).at_prompt();
}

#[test]
fn an_answer_in_a_role_is_repeated_after_the_role_has_changed() {
    let home = home_with(
        "r",
        "---\ntemp: 0.9\ntop-k: 7\nstop: [zz]\n---\nBe $how.\n### INPUT:\na\n### OUTPUT:\nb\n### PROMPT:\nSay $input.\n",
    );
    let model = tiny("llama-bpe");
    home.run(&["--role", "r", "--var", "how=brief", "--keep", "-p", "it", "-n", "6"])
        .model(&model)
        .done()
        .code(0);
    role(&home, "r", "---\ntemp: 0\n---\nElse.\n");
    let list = home.run(&["history", "list", "--json"]).done().code(0).json();
    let id = list["conversations"][0]["id"].as_str().unwrap().to_string();
    let object = home.run(&["history", "replay", &id, "--json"]).done().code(0).json();
    let answers = object["answers"].as_array().unwrap();
    assert_eq!((answers.len(), &object["identical"]), (1, &Value::Bool(true)), "{object}");
    assert_eq!(answers[0]["settings"]["top-k"], "7");
    let export = home.run(&["history", "export", &id, "--format", "txt"]).done().code(0).stdout;
    assert!(export.contains("Say it."), "{export}");
}

#[test]
fn a_role_on_a_resumed_conversation_brings_its_system_prompt_and_no_examples() {
    let home = home_with("sum", &SUMMARISE.replace("  style:", "  style: brief"));
    chat(&home, &["--keep"], "Hi\n");
    let shown = prompt(&home, &["--continue", "--role", "sum", "-p", "Ho"], "");
    assert_eq!(
        shown,
        "[system] You write brief summaries for $5.\n[user] Hi\n[assistant] One.\n[user] Sum up in English:\n\nHo\n"
    );
}

#[test]
fn a_command_line_is_saved_as_a_role_and_comes_back() {
    let home = Home::new();
    let save = |args: &[&str]| home.scripted("x\n", &[&["--save-role", "new"], args].concat()).done();
    let system = "Cost: $5.\n# Be \"brief\" in $lang.";
    let args = [
        "--temp",
        "0.3",
        "--stop",
        "a, b",
        "--stop",
        "it's",
        "--mlock",
        "--system-prompt",
        system,
        "-p",
        "Sum up $x: {stdin}!",
    ];
    save(&args).code(0).stdout("").says("saved the role new in ");
    let shown = prompt(&home, &["--role", "new"], "piped");
    assert_eq!(shown, format!("[system] {system}\n[user] Sum up $x: piped!\n"));
    let all = home.run(&["config", "--role", "new", "--json"]).done().code(0).json()["settings"].clone();
    let value = |name: &str| all[name]["value"].as_str().unwrap().to_string();
    assert_eq!(["temp", "stop", "mlock"].map(value), ["0.3", "a, b, it's", "on"]);
    save(&["--temp", "1"]).failed(1, "new.md already exists").hint("--force replaces it");
    save(&["-p", "x", "--choices", "a,b"]).failed(2, "--choices cannot be saved in a role");
    home.run(&["--role", "new", "list"]).done().failed(2, "--role does not go with a subcommand");
    save(&["--temp", "1", "--force"]).code(0);
    assert_eq!(prompt(&home, &["--role", "new", "-p", "Hi"], ""), "[user] Hi\n");
    save(&[]).failed(2, "there is nothing to save");
    save(&["-p", "x", "--file", "y"]).failed(2, "--file cannot be saved in a role");
    save(&["-p", "x", "--role", "new"]).failed(2, "--role and --save-role exclude each other");
    let other =
        |name: &str, args: &[&str]| home.scripted("x\n", &[&["--save-role", name], args].concat()).done();
    other("a/b", &["--temp", "1"]).failed(2, "'a/b' cannot be the name of a role");
    other("none", &["--temp", "1"]).failed(2, "'none' cannot be the name of a role");
    other("odd", &["--system-prompt", "x\n### INPUT:\ny"]).failed(2, "this cannot be saved");
    // Without {stdin}, the text comes before the prompt, as it does without a role.
    other("plain", &["Sum it up"]).code(0);
    assert_eq!(prompt(&home, &["--role", "plain"], "piped"), "[user] piped\n\nSum it up\n");
    // Relative paths are those of the folder where the role was saved.
    home.write("template.jinja", "{{ messages }}");
    other("path", &["--chat-template", "template.jinja"]).code(0);
    let path = home.run(&["config", "--role", "path", "--json"]).done().code(0).json();
    assert_eq!(path["settings"]["chat-template"]["value"], home.path("template.jinja").to_str().unwrap());
}

#[test]
fn a_schema_is_saved_in_a_role_and_read_from_where_it_was() {
    let home = Home::new();
    home.write("s.json", "\u{feff}{\"type\":\n\"boolean\"}\n");
    let ways = [["-jf", "s.json"], ["-j", "s.json"], ["--schema", "a int"], ["--schema-multi", "a int"]];
    for (name, way) in ["a", "b", "c", "d"].into_iter().zip(ways) {
        home.scripted("x\n", &[&["--save-role", name][..], &way].concat()).done().code(0);
        let shown = home.run(&["roles", name, "--json"]).done().code(0).stdout;
        assert!(shown.contains(r#"\"boolean\""#) || shown.contains(r#"\"integer\""#), "{way:?}: {shown}");
        assert!(!shown.contains("s.json") && !shown.contains('\u{feff}'), "{shown}");
        let file = std::fs::read_to_string(home.path(&format!(".config/fireside/roles/{name}.md"))).unwrap();
        let anchored = home.path("s.json").display().to_string();
        assert!(file.contains(&anchored) == (way[1] == "s.json"), "{way:?}: {file}");
    }
}
