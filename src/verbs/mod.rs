//! The uses that are not about talking, one file a verb; and telling a prompt from a mistyped verb.

mod bench;
pub mod catalogue;
mod check;
mod config;
mod doctor;
mod convert;
mod history;
pub mod list;
pub mod pull;
mod replay;
mod rm;
mod sheet;
mod show;

use std::io;
use std::path::Path;

use serde_json::{Value, json};

use crate::cli::{self, History, Verb};
use crate::completions;
use crate::config::Config;
use crate::error::{Exit, Failure, reason};
use crate::files::{Existing, expanded, would_replace};
use crate::nearest::nearest;
use crate::session::Opener;
use crate::ui::{Screen, terminal};
use crate::{input, kept};

/// Verbs that are planned; they are named so that nobody takes them for prompts.
const PLANNED: &[&str] = &["worker", "man"];

/// What every verb works with.
pub struct Means<'a> {
    pub config: &'a Config,
    pub screen: &'a mut Screen,
    /// One JSON object is wanted on stdout, whatever happens.
    pub json: bool,
    /// Opens models.
    open: Opener,
    /// Something was printed there already.
    printed: bool,
}

impl Means<'_> {
    pub fn new<'a>(config: &'a Config, screen: &'a mut Screen, json: bool, open: Opener) -> Means<'a> {
        Means { config, screen, json, open, printed: false }
    }

    fn print(&mut self, text: &str) -> Result<Exit, Failure> {
        self.printed = true;
        print(self.screen, text)
    }

    fn print_json(&mut self, object: &Value) -> Result<Exit, Failure> {
        self.print_json_text(&object.to_string())
    }

    fn print_json_text(&mut self, text: &str) -> Result<Exit, Failure> {
        self.printed = true;
        printed(self.screen.json(text))
    }

    /// What other programs read, unless that is JSON.
    fn print_as_it_is(&mut self, text: &str) -> Result<Exit, Failure> {
        self.printed = true;
        print_as_it_is(self.screen, text)
    }
}

/// The same of a text that other programs read.
pub fn print_as_it_is(screen: &mut Screen, text: &str) -> Result<Exit, Failure> {
    printed(screen.output_as_it_is(text))
}

/// Text that was asked for, on stdout. A reader that closed the pipe is no failure.
pub fn print(screen: &mut Screen, text: &str) -> Result<Exit, Failure> {
    printed(screen.output(text))
}

/// What printing came to.
pub fn printed(output: io::Result<()>) -> Result<Exit, Failure> {
    match output {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::new(format!("could not write to stdout: {}", reason(&e))))
        }
        _ => Ok(Exit::Answered),
    }
}

/// Rows of cells as columns, each as wide as its widest cell.
fn table<const N: usize>(rows: &[[String; N]]) -> Vec<String> {
    // A name may hold anything, but not begin a new line.
    let rows: Vec<[String; N]> =
        rows.iter().map(|row| row.clone().map(|cell| cell.replace(['\n', '\r', '\t'], "\u{2424}"))).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..N).map(width).collect();
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_string()
    };
    rows.iter().map(line).collect()
}

/// Whether a file that the user named may be replaced, if it is there: asks, and refuses where there is nobody to ask.
fn may_replace(path: &Path, force: bool, means: &mut Means) -> Result<Existing, Failure> {
    if force {
        return Ok(Existing::Replace);
    }
    if !would_replace(path) {
        return Ok(Existing::Keep);
    }
    if !input::can_ask() {
        return Err(kept::exists(path).hint("--force replaces it"));
    }
    let question = format!("{} exists already. Replace it?", path.display());
    match input::confirm(means.screen, &question)? {
        true => Ok(Existing::Replace),
        false => Err(Failure::new("nothing was written")),
    }
}

/// A path for JSON, which holds only text.
fn lossy(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// Does what a verb says.
pub fn run(verb: Verb, means: &mut Means) -> Result<Exit, Failure> {
    let done = carry_out(verb, means);
    if let Err(failure) = &done
        && means.json
        && !means.printed
    {
        let error = json!({ "message": failure.message, "hint": failure.hint });
        let _ = means.screen.json(&json!({ "error": error }).to_string()); // the failure is the more important one
    }
    done
}

fn carry_out(verb: Verb, means: &mut Means) -> Result<Exit, Failure> {
    use History::{Export, List, Search, Show};
    let tells = match &verb {
        Verb::Pull { what } => what.is_none(),
        Verb::History { what } => matches!(what, List { .. } | Search { .. } | Show { .. } | Export { .. }),
        verb => matches!(verb, Verb::List { .. } | Verb::Show { .. } | Verb::Config | Verb::Doctor),
    };
    if tells {
        terminal::end_on_interrupt(); // nothing can be lost
    }
    match verb {
        Verb::Pull { what: None } => catalogue::run(means),
        Verb::Pull { what: Some(what) } => pull::run(&what, means),
        Verb::List { all } => list::run(all, means),
        Verb::Show { model, tensors, template, metadata } => {
            show::run(model.as_deref(), &show::Parts { tensors, template, metadata }, means)
        }
        Verb::Rm { model, yes } => rm::run(&model, yes, means),
        Verb::Check { file } => check::run(means, &file),
        Verb::Convert { folder, out, kind, force } => {
            convert::run(&expanded(&folder), &expanded(&out), kind.as_deref(), force, means)
        }
        Verb::History { what } => history::run(what, means),
        Verb::Bench { model } => bench::run(model.as_deref(), means),
        Verb::Config => config::run(means),
        Verb::Doctor => doctor::run(means),
        Verb::Completions { shell } => means.print(completions::script(&shell)?.trim_end()),
    }
}

/// The prompt among the words on the command line. A single word is none: it may be a mistyped verb.
pub fn prompt(words: &[String], verb: Option<&Verb>) -> Result<Option<String>, Failure> {
    let Some(first) = words.first() else {
        return Ok(None);
    };
    if words.len() == 1 && verb.is_none() && first.contains(char::is_whitespace) {
        return Ok(Some(first.clone()));
    }
    if PLANNED.contains(&first.as_str()) {
        return Err(Failure::usage(format!("'{first}' is not there yet"))
            .hint(format!("as a prompt it would be: fireside -p {first}")));
    }
    if words.len() > 1 || verb.is_some() {
        let more = if verb.is_some() { " …" } else { "" };
        return Err(Failure::usage("a prompt must be one word to the shell")
            .hint(format!("put all of it in quotes: fireside \"{}{more}\"", words.join(" "))));
    }
    if first.is_empty() {
        return Err(Failure::usage("the prompt is empty"));
    }
    let failure = Failure::usage(format!("there is no verb '{first}'"));
    let as_prompt = format!("to ask that: fireside -p \"{first}\"");
    let verbs = cli::verbs();
    Err(match nearest(first, verbs.iter().map(String::as_str).chain(PLANNED.iter().copied())) {
        Some(verb) => failure.hint(format!("did you mean {verb}? {as_prompt}")),
        None => failure.hint(as_prompt),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Result<Option<String>, Failure> {
        prompt(&words.iter().map(|w| w.to_string()).collect::<Vec<_>>(), None)
    }

    #[test]
    fn white_space_makes_a_prompt() {
        assert_eq!(words(&["Why is the sky blue?"]).unwrap().as_deref(), Some("Why is the sky blue?"));
        assert_eq!(words(&[]).unwrap(), None);
    }

    #[test]
    fn one_word_is_a_verb_or_a_hint() {
        assert!(words(&["confg"]).unwrap_err().hint.unwrap().starts_with("did you mean config?"));
        assert_eq!(words(&["banana"]).unwrap_err().hint.unwrap(), "to ask that: fireside -p \"banana\"");
        assert!(words(&["why", "is"]).unwrap_err().hint.unwrap().contains("\"why is\""));
        assert!(words(&["worker", "x"]).unwrap_err().message.contains("not there yet"));
    }
}
