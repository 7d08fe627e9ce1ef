//! clap's errors, and options that contradict each other → one line and a hint.

use std::path::Path;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, Command, CommandFactory};

use super::Args;
use crate::chat::settings::renamed;
use crate::failure::Failure;
use crate::files::is_stdin;
use crate::settings::{Setting, setting};

/// clap's error as one line and a hint.
pub(super) fn usage_failure(error: &clap::Error) -> Failure {
    if let Some(failure) = renamed_option(error) {
        return failure;
    }
    let text = error.render().to_string();
    let first = text.lines().next().unwrap_or_default();
    let message = first.strip_prefix("error: ").unwrap_or(first).trim_end_matches(':');
    let usage = text.split("Usage: ").nth(1).unwrap_or("fireside").split_whitespace();
    let subcommands: Vec<&str> = usage.take_while(|word| word.starts_with(char::is_alphanumeric)).collect();
    let message = match (error.kind(), error.get(ContextKind::InvalidSubcommand)) {
        (ErrorKind::MissingRequiredArgument, _) => {
            let missing = text.lines().nth(1).unwrap_or_default().trim();
            format!("{missing} is missing")
        }
        (ErrorKind::MissingSubcommand, _) => {
            let command = Args::command();
            let inner = command.find_subcommand("history").into_iter().flat_map(Command::get_subcommands);
            let names: Vec<&str> = inner.map(Command::get_name).collect();
            format!("history needs one of: {}", names.join(", "))
        }
        (_, Some(ContextValue::String(typed))) => format!("{} has no '{typed}'", subcommands[1..].join(" ")),
        _ => message.to_string(),
    };
    let mut close = [ContextKind::SuggestedArg, ContextKind::SuggestedSubcommand].into_iter();
    let close = close.find_map(|kind| match error.get(kind)? {
        ContextValue::String(close) => Some(close),
        ContextValue::Strings(several) => several.first(),
        _ => None,
    });
    let prompt = error.kind() == ErrorKind::UnknownArgument && subcommands.len() <= 1;
    Failure::usage(message).hint(match close {
        Some(close) if prompt => {
            format!("did you mean {close}? A prompt that begins with - goes after -p or --")
        }
        Some(close) => format!("did you mean {close}?"),
        None if prompt => OPTIONS_AND_PROMPTS.into(),
        None if let Some(row) = setting_named(error) => {
            format!("fireside help {} explains that setting", row.name)
        }
        None if subcommands.len() > 1 => format!("{} --help lists its arguments", subcommands.join(" ")),
        None => "fireside --help lists the options".into(),
    })
}

/// An option that was renamed.
fn renamed_option(error: &clap::Error) -> Option<Failure> {
    let ContextValue::String(word) = error.get(ContextKind::InvalidArg)? else { return None };
    let new = renamed(word.strip_prefix("--")?)?;
    Some(Failure::usage(format!("{word} is now --{new}")))
}

/// The setting whose name was typed without `--`.
fn setting_named(error: &clap::Error) -> Option<&'static Setting> {
    match error.get(ContextKind::InvalidArg)? {
        ContextValue::String(word) => setting(word),
        _ => None,
    }
}

/// Whether an option takes a value that must be there.
pub(super) fn needs_value(arg: &Arg) -> bool {
    arg.get_action().takes_values() && arg.get_num_args().is_none_or(|number| number.min_values() > 0)
}

pub(super) const OPTIONS_AND_PROMPTS: &str =
    "fireside --help lists the options; a prompt that begins with - goes after -p or --";

impl Args {
    /// Refuses options that contradict each other. settings/resolve.rs does this for two settings.
    pub(super) fn refuse_contradictions(&self) -> Result<(), Failure> {
        let given = |name| self.settings.0.iter().any(|(given, _)| *given == name);
        let is = |name, wanted| self.sets(name, wanted);
        let pairs = [
            ("plain", self.plain, "color", is("color", "always")),
            ("quiet", self.quiet, "stats", is("stats", "on")),
            ("think", is("think", "on"), "think-budget", is("think-budget", "0")),
            ("quiet", self.quiet, "verbose", self.verbose),
            ("raw", self.raw, "system-prompt", given("system-prompt")),
            ("raw", self.raw, "system-prompt-file", given("system-prompt-file")),
            ("raw", self.raw, "chat-template", given("chat-template")),
            ("interactive", self.interactive, "dry-run", self.dry_run),
            ("no-stdin", self.no_stdin, "file -", self.file.iter().any(|file| file == Path::new("-"))),
            ("raw", self.raw, "role", self.role.is_some()),
            ("role", self.role.is_some(), "save-role", self.save_role.is_some()),
        ];
        self.refuse_a_second_use_of_stdin()?;
        match pairs.iter().find(|(_, one, _, other)| *one && *other) {
            Some((one, _, other, _)) => {
                Err(Failure::usage(format!("--{one} and --{other} exclude each other")))
            }
            None => self.output.refuse_contradictions(self),
        }
    }

    /// stdin can be read only once.
    fn refuse_a_second_use_of_stdin(&self) -> Result<(), Failure> {
        let Some(option) = self.file_on_stdin() else { return Ok(()) };
        let mut texts = self.prompt.iter().chain(&self.words).chain(&self.rest);
        let others = [
            ("--no-stdin", self.no_stdin),
            ("--file -", self.file.iter().any(|file| is_stdin(file))),
            ("{stdin} in the prompt", texts.any(|text| text.contains("{stdin}"))),
            ("--save-role", self.save_role.is_some()),
        ];
        match others.iter().find(|(_, given)| *given) {
            Some((other, _)) => Err(Failure::usage(format!("{option} and {other} exclude each other"))
                .hint("stdin is read once: name a file instead of it")),
            None => Ok(()),
        }
    }
}
