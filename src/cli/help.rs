//! The command line → what is said of it: `-h`, short enough for a screen, `--help`, and `fireside help SUBCOMMAND`.

use std::ffi::OsString;

use clap::{Arg, Command, CommandFactory};

use super::{Args, Instead};

/// What stands at the end of `--help`.
pub(super) const EXAMPLES: &str = "\
Examples:
  fireside                                                      open a chat
  fireside \"Why is the sky blue?\"                               one answer
  git diff --staged | fireside -p \"Write a commit message\" --temp 0
  fireside -f report.txt -p \"Sum it up in five lines\" > summary.txt
  fireside -p \"Name three planets\" --json | jq -r .text
  fireside --continue                                           continue the newest conversation
  fireside pull llama-3.2-3b                                    fetch a model
  fireside history search rust lifetime                         find what was said";

/// What is asked for most, by the names of the arguments, in few words.
const MOST_USED: &[(&str, &str)] = &[
    ("model", "the model: a name, a GGUF file or hf:OWNER/REPO"),
    ("prompt", "what to ask"),
    ("file", "a text file to give before the prompt"),
    ("interactive", "answer, then stay in the chat"),
    ("go_on", "continue the newest conversation"),
    ("system-prompt", "what the model is told about its task"),
    ("predict", "most tokens of one answer"),
    ("temp", "0: always the likeliest token; higher: more varied"),
    ("json", "one JSON object: the answer and all about it"),
    ("incognito", "keep nothing"),
];

/// The subcommands with what they do.
pub fn subcommands() -> Vec<(String, String)> {
    let about = |subcommand: &Command| subcommand.get_about().unwrap_or_default().to_string();
    Args::command()
        .get_subcommands()
        .map(|subcommand| (subcommand.get_name().to_string(), about(subcommand)))
        .collect()
}

/// What a subcommand says of itself with `--help`, or one of its own subcommands; `None`: there is none.
pub fn on(subcommands: &[String]) -> Option<Instead> {
    let command = Args::command();
    subcommands.iter().try_fold(&command, |command, subcommand| command.find_subcommand(subcommand))?;
    let words = ["fireside"].into_iter().chain(subcommands.iter().map(String::as_str)).chain(["--help"]);
    super::parse(words.map(OsString::from)).err()
}

/// What an option does that is no setting.
pub fn of_option(name: &str) -> Option<String> {
    let command = Args::command();
    let arg = command.get_arguments().find(|arg| arg.get_long() == Some(name) && !arg.is_hide_set())?;
    Some(format!("{}\n{}", spelled(arg).trim_start(), arg.get_help()?))
}

/// For one screen: the uses, the subcommands, the options that are asked for most.
pub(super) fn short() -> String {
    let command = Args::command();
    let names: Vec<&str> = command.get_subcommands().map(Command::get_name).collect();
    let (first, second) = names.split_at(names.len() / 2);
    let argument = |id: &str| command.get_arguments().find(|arg| arg.get_id() == id);
    let line = |(id, does): &(&str, &str)| Some(format!("  {:27} {does}\n", spelled(argument(id)?)));
    let options: String = MOST_USED.iter().filter_map(line).collect();
    format!(
        "\
fireside: run open models on your own machine, in your terminal

  fireside                              open a chat
  fireside \"Why is the sky blue?\"       print one answer
  cat notes | fireside -p \"Sum it up\"   give text to the model

Subcommands: {}
       {}

Options:
{options}
fireside --help lists all options, fireside help the subcommands and topics
",
        first.join(" "),
        second.join(" ")
    )
}

fn spelled(arg: &Arg) -> String {
    let short = arg.get_short().map_or("    ".to_string(), |short| format!("-{short}, "));
    let needs_one = arg.get_action().takes_values() && arg.get_num_args().is_none_or(|n| n.min_values() > 0);
    let value = arg.get_value_names().filter(|_| needs_one);
    let value =
        value.and_then(|names| names.first()?.split('|').next()).map_or(String::new(), |v| format!(" {v}"));
    format!("{short}--{}{value}", arg.get_long().unwrap_or_default())
}
