//! The command line → help texts: `-h`, which fits a screen, `--help`, and `fireside help SUBCOMMAND`.

use std::ffi::OsString;

use clap::{Arg, Command, CommandFactory};

use super::refusal::needs_value;
use super::{Args, Instead};

/// The examples at the end of `--help`.
pub(super) const EXAMPLES: &str = "\
Examples:
  fireside                                                      open a chat
  fireside \"Why is the sky blue?\"                               one answer
  git diff --staged | fireside -p \"Write a commit message\" --temp 0
  fireside -f report.txt -p \"Sum it up in five lines\" > summary.txt
  fireside -p \"Name three planets\" --json | jq -r .text
  fireside --continue                                           continue the last conversation
  fireside pull llama-3.2-3b                                    download a model
  fireside history search rust lifetime                         find messages";

/// The most used options, by argument id, each with a short help text.
const MOST_USED: &[(&str, &str)] = &[
    ("model", "the model: a name, a GGUF file or hf:OWNER/REPO"),
    ("prompt", "the prompt"),
    ("file", "a text file to put before the prompt"),
    ("interactive", "answer, then stay in the chat"),
    ("continue_latest", "continue the most recent conversation"),
    ("system-prompt", "instructions for the model"),
    ("predict", "maximum number of tokens to generate"),
    ("temp", "0: the most likely token; higher: more varied"),
    ("json", "print one JSON object with all details"),
    ("incognito", "save nothing"),
];

/// The subcommands and their help.
pub fn subcommands() -> Vec<(String, String)> {
    let about = |subcommand: &Command| subcommand.get_about().unwrap_or_default().to_string();
    Args::command()
        .get_subcommands()
        .map(|subcommand| (subcommand.get_name().to_string(), about(subcommand)))
        .collect()
}

/// The `--help` of a subcommand or of a nested one; `None`: there is no such subcommand.
pub fn on(subcommands: &[String]) -> Option<Instead> {
    let command = Args::command();
    subcommands.iter().try_fold(&command, |command, subcommand| command.find_subcommand(subcommand))?;
    let words = ["fireside"].into_iter().chain(subcommands.iter().map(String::as_str)).chain(["--help"]);
    super::parse(words.map(OsString::from)).err()
}

/// The help of an option that is not a setting.
pub fn of_option(name: &str) -> Option<String> {
    let command = Args::command();
    let arg = command.get_arguments().find(|arg| arg.get_long() == Some(name) && !arg.is_hide_set())?;
    Some(format!("{}\n{}", spelled(arg).trim_start(), arg.get_help()?))
}

/// Help that fits a screen: uses, subcommands, the most used options.
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
  cat notes | fireside -p \"Sum it up\"   put text before the prompt

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
    let value = arg.get_value_names().filter(|_| needs_value(arg));
    let value =
        value.and_then(|names| names.first()?.split('|').next()).map_or(String::new(), |v| format!(" {v}"));
    format!("{short}--{}{value}", arg.get_long().unwrap_or_default())
}
