//! Help: short and complete, for subcommands and topics, all of it from the tables that the program itself
//! uses.

use clap::CommandFactory;
use fireside::cli::{self, Args};
use fireside::failure::Exit;
use fireside::repl::commands::{COMMANDS, KEYS};
use fireside::settings::SETTINGS;

use crate::support::Home;

const TOPICS: [&str; 6] = ["keys", "commands", "settings", "environment", "files", "exit-codes"];

fn help(words: &[&str]) -> String {
    Home::new().run(&[&["help"], words].concat()).done().code(0).stderr("").stdout
}

#[test]
fn help_alone_lists_subcommands_and_topics() {
    let text = help(&[]);
    let line = |name: &str| text.lines().find(|line| line.split_whitespace().next() == Some(name));
    for subcommand in Args::command().get_subcommands() {
        let shown =
            line(subcommand.get_name()).unwrap_or_else(|| panic!("{} in {text}", subcommand.get_name()));
        assert!(shown.ends_with(&subcommand.get_about().unwrap().to_string()), "{shown}");
    }
    for topic in TOPICS {
        assert!(line(topic).is_some(), "{topic} in {text}");
    }
}

#[test]
fn help_on_a_subcommand_is_what_the_subcommand_says_of_itself() {
    let home = Home::new();
    for words in [&["pull"][..], &["history"], &["history", "search"], &["ls"]] {
        let own = home.run(&[words, &["--help"]].concat()).done().code(0).stdout;
        assert_eq!(help(words), own, "{words:?}");
    }
}

#[test]
fn a_subcommand_offers_a_server_only_if_it_asks_one() {
    for subcommand in Args::command().get_subcommands().map(|command| command.get_name().to_string()) {
        let asks = ["list", "show"].contains(&subcommand.as_str());
        assert_eq!(help(&[&subcommand]).contains("--server "), asks, "{subcommand}");
    }
    assert!(!help(&["history", "list"]).contains("--server "));
    assert!(help(&["roles"]).contains("role to show; without one, list them"));
}

#[test]
fn topics_are_made_of_the_tables() {
    let keys = help(&["keys"]);
    for (line, (key, does)) in keys.lines().zip(KEYS) {
        let (key, does) = (key.replace('`', ""), does.replace('`', ""));
        assert!(line.starts_with(&format!("{key}  ")) && line.ends_with(&format!("  {does}")), "{line}");
    }
    assert_eq!(keys.lines().count(), KEYS.len(), "{keys}");
    let in_chat =
        |line: &str| Home::new().scripted("x\n", &["--repl-stdin", "-q"]).stdin(line).done().code(0).stderr;
    assert_eq!(in_chat("/help keys\n"), keys);
    let commands = in_chat("/help\n");
    assert!(commands.starts_with(&help(&["commands"])), "{commands}");
    assert!(COMMANDS.iter().all(|command| commands.contains(command.help)));
    let settings = help(&["settings"]);
    for row in SETTINGS {
        let line = settings.lines().find(|line| line.split_whitespace().next() == Some(row.name));
        assert!(line.is_some_and(|line| line.ends_with(row.help)), "{} in {settings}", row.name);
    }
    let codes = help(&["exit-codes"]);
    let first_words: Vec<&str> = codes.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(first_words, ["0", "1", "2", "3", "4", "5", "10", "130"], "{codes}");
    assert!(codes.contains(&format!(" 10  and up to {}: ", 9 + Exit::CHOICES)), "{codes}");
    let home = Home::new();
    let files = home.run(&["help", "files"]).done().code(0).stdout;
    for file in [".config/fireside/config.toml", ".local/share/fireside/models", ".cache/huggingface/hub"] {
        assert!(files.contains(home.path(file).to_str().unwrap()), "{file} in {files}");
    }
    let variables = help(&["environment"]);
    for variable in ["FIRESIDE_MODELS", "HF_TOKEN", "HTTPS_PROXY", "NO_COLOR", "EDITOR", "XDG_CONFIG_HOME"] {
        assert!(variables.contains(variable), "{variable} in {variables}");
    }
}

#[test]
fn help_on_a_setting_tells_every_way_to_give_it() {
    let text = help(&["temp"]);
    for way in ["--temp T", "--temperature", "FIRESIDE_TEMP", "/set temp", "0.8", "most likely token"] {
        assert!(text.contains(way), "{way} in {text}");
    }
    assert!(!help(&["no-prompt-cache"]).contains("/set"), "it can only be set at the start");
}

#[test]
fn an_unknown_topic_gets_the_nearest() {
    let home = Home::new();
    home.run(&["help", "kyes"]).done().failed(2, "there is no help on 'kyes'").hint("did you mean keys?");
    home.run(&["help", "tepm"]).done().failed(2, "'tepm'").hint("did you mean temp?");
    home.run(&["help", "zzzzzzzz"]).done().failed(2, "'zzzzzzzz'").hint("fireside help lists");
    home.run(&["help", "history", "serch"]).done().failed(2, "'history serch'");
}

#[test]
fn short_help_fits_a_screen_and_the_long_one_has_everything() {
    let home = Home::new();
    let short = home.run(&["-h"]).done().code(0).stderr("").stdout;
    assert!(short.lines().count() <= 24, "{short}");
    assert!(short.lines().all(|line| line.chars().count() <= 80), "{short}");
    let named = |subcommand: &str| short.split_whitespace().any(|word| word == subcommand);
    assert!(Args::command().get_subcommands().all(|subcommand| named(subcommand.get_name())), "{short}");
    for part in ["-m, --model", "-p, --prompt", "--continue", "fireside --help"] {
        assert!(short.contains(part), "{part} in {short}");
    }
    let long = home.run(&["--help"]).done().code(0).stdout;
    for arg in Args::command().get_arguments().filter(|arg| !arg.is_hide_set() && !arg.is_positional()) {
        assert!(long.contains(&format!("--{}", arg.get_long().unwrap())), "{arg}");
    }
    assert_eq!(home.run(&["Why?", "-h"]).done().code(0).stdout, short);
}

/// The words that a shell makes of a line, as far as the examples need it.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (number, part) in line.split('"').enumerate() {
        match number % 2 {
            1 => words.push(part.to_string()),
            _ => words.extend(part.split_whitespace().map(String::from)),
        }
    }
    words
}

#[test]
fn the_examples_of_the_help_are_command_lines() {
    let long = Home::new().run(&["--help"]).done().code(0).stdout;
    let examples = long.split("Examples:").nth(1).unwrap().lines().filter(|line| line.contains("fireside"));
    let examples: Vec<&str> = examples.collect();
    assert!((5..=8).contains(&examples.len()), "{examples:?}");
    for line in examples {
        let ours = line.split(" | ").find(|part| part.trim().starts_with("fireside")).unwrap().trim();
        let ours = ours.split("  ").next().unwrap(); // its description follows
        let parsed = cli::parse(words(ours).into_iter().map(Into::into));
        assert!(parsed.is_ok(), "{ours}: {parsed:?}");
    }
}

#[test]
fn a_subcommand_of_subcommands_alone_shows_them() {
    let done = Home::new().run(&["history"]).done().code(0).stderr("");
    let history = Args::command().find_subcommand("history").unwrap().clone();
    for subcommand in history.get_subcommands() {
        let line =
            done.stdout.lines().find(|line| line.split_whitespace().next() == Some(subcommand.get_name()));
        assert!(line.is_some(), "{} in {done:#?}", subcommand.get_name());
    }
}

#[test]
fn a_subcommand_used_wrongly_points_to_its_own_help() {
    let home = Home::new();
    home.run(&["rm"]).done().failed(2, "<MODEL> is missing").hint("fireside rm --help");
    home.run(&["list", "--al"]).done().failed(2, "'--al'").hint("did you mean --all?");
    let done = home.run(&["history", "serch", "x"]).done().failed(2, "history has no 'serch'");
    done.hint("did you mean search?");
    home.run(&["history", "zzzzzz"])
        .done()
        .failed(2, "history has no 'zzzzzz'")
        .hint("fireside history --help");
}

#[test]
fn every_key_that_does_something_of_its_own_is_named() {
    let told = Home::new().run(&["help", "keys"]).done().code(0).stdout;
    let keys =
        ["Esc", "Ctrl-C", "Ctrl-D", "Ctrl-J", "Ctrl-G", "Ctrl-L", "Ctrl-R", "Ctrl-W", "Ctrl-Z", "Tab", "Up"];
    let more = [
        "Enter",
        "Alt-Enter",
        "Shift-Enter",
        "Alt-Backspace",
        "Ctrl-X Ctrl-E",
        "Right",
        "End",
        "@PATH",
        "!COMMAND",
    ];
    for key in keys.iter().chain(&more) {
        assert!(told.contains(key), "{key} is missing:\n{told}");
    }
    let chat = Home::new().scripted("x\n", &["--repl-stdin", "-q"]).stdin("/help\n").done().code(0).stderr;
    let tail: Vec<&str> = chat.lines().skip(COMMANDS.len()).filter(|line| !line.is_empty()).collect();
    assert!(tail.len() == 1 && tail[0].ends_with("; /help keys lists all keys"), "{tail:?}");
}
