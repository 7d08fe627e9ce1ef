//! The user's input → messages: edited on a terminal, or read line by line from a pipe or a simple terminal.
//!
//! A message may have several lines: pasted, joined with Ctrl-J, continued with a trailing `\`, or between
//! `"""` marks. It is returned whole, without the marks. Only typed marks count: pasted and recalled text is
//! sent unchanged.

mod assistant;
mod blocks;
mod external;
mod feed;
mod full;
mod keys;
mod menu;
mod paths;
mod plain;

use std::io::BufReader;
use std::path::PathBuf;

pub(super) use self::external::{in_external_editor, is_external_set, no_editor};
use self::feed::Feed;
use self::full::Full;
use self::plain::Plain;
use super::candidate::Candidate;
use super::typed::{inert, plain};
use crate::chat::Settings;
use crate::failure::Failure;
use crate::input::is_yes;
use crate::ui::answer::{self, Reply};
use crate::ui::{is_plain, terminal};

/// What the user did at the prompt.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Input {
    /// A line with marks (typed.rs).
    Text(String),
    /// Ctrl-C, with the text typed before it.
    Interrupted(String),
    /// Ctrl-D, or the end of the input.
    End,
}

/// The line up to the cursor → where completion starts, and its candidates; `None`: complete file names.
pub(super) type Complete = Box<dyn Fn(&str) -> Option<(usize, Vec<Candidate>)>>;

pub(super) struct Editor(Mode);

enum Mode {
    Full(Box<Full>),
    Plain(Plain),
}

impl Editor {
    /// An editor on the terminal; a plain one with `--plain` and if TERM is `dumb`.
    pub(super) fn on_terminal(history: Option<PathBuf>, complete: Complete) -> Result<Editor, Failure> {
        let feed = if is_plain() { None } else { Feed::new() };
        match (feed, terminal::device()) {
            (Some(feed), _) => {
                Full::new(feed, history, complete).map(|full| Editor(Mode::Full(Box::new(full))))
            }
            (None, Some(device)) => Ok(Editor(Mode::Plain(Plain::on_terminal(device)))),
            (None, None) => Err(Failure::usage("cannot chat without a terminal")),
        }
    }

    /// Lines from stdin, for tests.
    pub(super) fn on_stdin() -> Editor {
        Editor(Mode::Plain(Plain {
            input: Box::new(BufReader::new(std::io::stdin())),
            device: None,
            prompt: false,
        }))
    }

    /// Whether the user can answer a question.
    pub(super) fn asks(&self) -> bool {
        match &self.0 {
            Mode::Full(_) => true,
            Mode::Plain(plain) => plain.prompt,
        }
    }

    /// Adopts changed settings. `style`: that of prompts, as SGR parameters.
    pub(super) fn adopt(&mut self, settings: &Settings, style: &'static str) {
        if let Mode::Full(full) = &mut self.0 {
            full.adopt(settings, style);
        }
    }

    /// Whether the user can edit text that is put into the line.
    pub(super) fn edits(&self) -> bool {
        matches!(self.0, Mode::Full(_))
    }

    /// The next line; it starts as `initial`, a line with marks.
    pub(super) fn read(&mut self, prompt: &str, initial: &str) -> Result<Input, Failure> {
        match &mut self.0 {
            Mode::Full(full) => full.read(prompt, initial, false),
            Mode::Plain(plain) => plain.read(prompt, initial),
        }
    }

    /// Lets the user edit `text`, where nothing counts as typed. `None`: cancelled with Esc, or the input ended.
    pub(super) fn change(&mut self, prompt: &str, text: &str) -> Result<Option<String>, Failure> {
        let line = match &mut self.0 {
            Mode::Full(full) => full.read(prompt, &inert(text), true)?,
            Mode::Plain(plain) => plain.read(prompt, text)?,
        };
        Ok(match line {
            Input::Text(line) => Some(plain(&line).into_owned()),
            Input::Interrupted(_) | Input::End => None,
        })
    }

    /// Asks for confirmation; anything but yes means no.
    pub(super) fn confirms(&mut self, question: &str) -> Result<bool, Failure> {
        Ok(self.ask(&format!("{question} [y/N] "))?.is_some_and(|answer| is_yes(&answer)))
    }

    /// The answer to a question; `None`: no answer. Not part of the chat or its input history.
    pub(super) fn ask(&mut self, question: &str) -> Result<Option<String>, Failure> {
        Ok(match &mut self.0 {
            Mode::Full(_) => match answer::ask(question) {
                Some(Reply::Line(line)) => Some(line),
                _ => None,
            },
            Mode::Plain(lines) => match lines.read(question, "")? {
                Input::Text(line) => Some(plain(&line).into_owned()),
                Input::Interrupted(_) | Input::End => None,
            },
        })
    }
}
