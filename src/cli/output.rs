//! The arguments that shape the output of one answer, and what does not go with them.

use std::path::PathBuf;

use super::Args;
use crate::failure::{Exit, Failure};

/// The shape of one answer's output, and where it goes.
#[derive(Debug, Default, clap::Args)]
#[command(next_help_heading = "Output")]
pub struct Output {
    /// print one JSON object a line, from the first token on: start, thinking, text, stats, end
    #[arg(long)]
    pub json_stream: bool,
    /// print only the first fenced code block, or the first of this language, and stop after it
    #[arg(long, value_name = "LANG", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    pub code: Option<String>,
    /// answer with the likeliest of these texts, separated by commas, or one each time
    #[arg(long, value_name = "TEXTS", allow_hyphen_values = true)]
    pub choices: Vec<String>,
    /// with --choices: exit with 10 for the first choice, 11 for the second, and so on
    #[arg(long)]
    pub exit_choice: bool,
    /// with --json or --json-stream: the log-probability of each token and of the N likeliest others, 0 to 20
    #[arg(long, value_name = "N", allow_hyphen_values = true, value_parser = clap::value_parser!(u8).range(0..=20))]
    pub logprobs: Option<u8>,
    /// write the answer to a file, whole or not at all; stdout stays empty
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// with --output or --save-role: replace an existing file
    #[arg(long)]
    pub force: bool,
}

impl Output {
    /// The first of these options that was given.
    pub fn given(&self) -> Option<&'static str> {
        let given = [
            ("--json-stream", self.json_stream),
            ("--code", self.code.is_some()),
            ("--choices", !self.choices.is_empty()),
            ("--exit-choice", self.exit_choice),
            ("--logprobs", self.logprobs.is_some()),
            ("--output", self.output.is_some()),
            ("--force", self.force),
        ];
        given.into_iter().find(|(_, given)| *given).map(|(option, _)| option)
    }

    /// Refuses what contradicts these options.
    pub(super) fn refuse_contradictions(&self, args: &Args) -> Result<(), Failure> {
        let Some(given) = self.given() else { return Ok(()) };
        let exclude = [
            (given, true, "--interactive", args.interactive),
            (given, true, "--dry-run", args.dry_run),
            ("--json-stream", self.json_stream, "--json", args.json),
            ("--code", self.code.is_some(), "--json", args.json),
            ("--code", self.code.is_some(), "--json-stream", self.json_stream),
            ("--code", self.code.is_some(), "--choices", !self.choices.is_empty()),
            ("--choices", !self.choices.is_empty(), "--logprobs", self.logprobs.is_some()),
            ("--choices", !self.choices.is_empty(), "--think on", args.sets("think", "on")),
        ];
        if let (false, Some(name)) = (self.choices.is_empty(), args.constraint()) {
            return Err(Failure::usage(format!("--choices and --{name} exclude each other")));
        }
        let requires = [
            (
                "--force",
                self.force,
                "--output or --save-role",
                self.output.is_some() || args.save_role.is_some(),
            ),
            ("--exit-choice", self.exit_choice, "--choices", !self.choices.is_empty()),
            ("--logprobs", self.logprobs.is_some(), "--json or --json-stream", args.prints_json()),
        ];
        if let Some((one, _, other, _)) = exclude.iter().find(|(_, one, _, other)| *one && *other) {
            return Err(Failure::usage(format!("{one} and {other} exclude each other")));
        }
        match requires.iter().find(|(_, given, _, needed)| *given && !*needed) {
            Some((one, _, needed, _)) => Err(Failure::usage(format!("{one} requires {needed}"))),
            None => self.choices().map(|_texts| ()),
        }
    }

    /// The choices: one value is a list, several are one choice each.
    pub fn choices(&self) -> Result<Vec<String>, Failure> {
        let texts: Vec<String> = match &self.choices[..] {
            [list] => list.split(',').map(|text| text.trim().to_string()).collect(),
            each => each.to_vec(),
        };
        let twice = texts.iter().enumerate().find(|(place, text)| texts[..*place].contains(text));
        let why = match (texts.iter().any(String::is_empty), twice, texts.len()) {
            (true, ..) => "one of the choices is empty".to_string(),
            (_, Some((_, text)), _) => format!("'{text}' is there twice"),
            (.., number) if number > Exit::CHOICES => {
                format!("{number} choices, and at most {} are possible", Exit::CHOICES)
            }
            _ => return Ok(texts),
        };
        Err(Failure::usage(format!("--choices: {why}"))
            .hint("as in --choices yes,no, or --choices yes --choices no"))
    }
}
