//! The events of one answer → stdout, or a file, in the wanted shape.

use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::Manner;
use super::block::FirstBlock;
use super::forecast::Forecast;
use super::object::{self, Facts};
use crate::chat::{Choice, Event};
use crate::failure::{Exit, Failure};
use crate::files::{Existing, expanded, folder_of, reason, would_replace, write_named};
use crate::session::Session;
use crate::ui::Screen;

/// The shape of one answer's output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shape {
    /// The answer itself. `raw`: without a newline that it lacks.
    Text { raw: bool },
    /// One object.
    Json,
    /// An object a line.
    Events,
    /// The first code block of this language; empty: of any.
    Code(String),
}

impl Shape {
    pub(super) fn is_json(&self) -> bool {
        matches!(self, Shape::Json | Shape::Events)
    }
}

/// The file for an answer, which does not exist yet or may be replaced.
#[derive(Debug)]
pub struct NewFile {
    path: PathBuf,
    existing: Existing,
}

impl NewFile {
    /// Refuses a file that exists, unless `force`, and one whose folder does not.
    pub fn new(path: &Path, force: bool) -> Result<NewFile, Failure> {
        let path = expanded(path);
        if would_replace(&path) && !force {
            return Err(
                Failure::new(format!("{} already exists", path.display())).hint("--force replaces it")
            );
        }
        if path.is_dir() || !folder_of(&path).is_dir() {
            let why = if path.is_dir() { "it is a folder" } else { "its folder does not exist" };
            return Err(Failure::new(format!("could not write {}: {why}", path.display())));
        }
        Ok(NewFile { path, existing: if force { Existing::Replace } else { Existing::Keep } })
    }
}

/// Prints one answer.
pub(super) struct Printer<'a> {
    pub(super) screen: &'a mut Screen,
    pub(super) manner: &'a Manner,
    /// When the answer began, since the start of the process.
    pub(super) first_token: Option<Duration>,
    /// The result of printing so far.
    pub(super) output: io::Result<()>,
    facts: Facts,
    forecast: Forecast,
    /// What will be in the file.
    held: String,
    block: FirstBlock,
    pub(super) choices: Vec<Choice>,
    logprobs: Vec<Value>,
}

impl<'a> Printer<'a> {
    pub(super) fn new(screen: &'a mut Screen, manner: &'a Manner, session: &Session) -> Printer<'a> {
        let facts = Facts::of(session);
        let language = if let Shape::Code(language) = &manner.shape { language } else { "" };
        if matches!(manner.shape, Shape::Text { raw: false }) && manner.file.is_none() {
            screen.begin_answer("");
        }
        Printer {
            screen,
            manner,
            first_token: None,
            output: Ok(()),
            facts,
            forecast: Forecast::new(session.model().context_limit),
            held: String::new(),
            block: FirstBlock::of(language),
            choices: Vec::new(),
            logprobs: Vec::new(),
        }
    }

    /// Prints an event; `None`: only time has passed. `Break`: printing has failed.
    pub(super) fn watch(&mut self, event: Option<&Event>) -> ControlFlow<()> {
        self.screen.show_progress(event);
        let forecast = self.forecast.line(event, Instant::now());
        forecast.iter().for_each(|line| self.screen.note(line));
        if let Some(event) = event {
            self.take(event);
        }
        if self.output.is_err() || self.block.closed {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }

    fn take(&mut self, event: &Event) {
        if let Event::Text(_) = event {
            self.first_token.get_or_insert_with(|| self.manner.started.elapsed());
        }
        if let Event::Choices(choices) = event {
            self.choices.clone_from(choices);
        }
        match (&self.manner.shape, event) {
            (Shape::Text { .. }, Event::Text(text)) => self.put(text),
            (Shape::Code(_), Event::Text(text)) => {
                let more = self.block.push(text);
                self.put(&more);
            }
            (Shape::Json, Event::Token(token)) => self.logprobs.push(token.to_json()),
            (Shape::Events, event) => {
                object::event(event, &self.facts).iter().for_each(|line| self.line(line));
            }
            _ => {}
        }
    }

    fn put(&mut self, text: &str) {
        match self.manner.file {
            Some(_) => self.held.push_str(text),
            None if self.output.is_ok() => self.output = self.screen.answer(text),
            None => {}
        }
    }

    fn line(&mut self, object: &Value) {
        match self.manner.file {
            Some(_) => self.held += &format!("{object}\n"),
            None if self.output.is_ok() => self.output = self.screen.json(&object.to_string()),
            None => {}
        }
    }

    /// Whether the wanted code block is whole.
    pub(super) fn has_block(&self) -> bool {
        self.block.closed
    }

    /// Whether a code block is wanted, and the answer has none.
    pub(super) fn lacks_block(&mut self, answer: &str) -> bool {
        let wanted = matches!(self.manner.shape, Shape::Code(_));
        wanted && self.block.find(answer).is_none()
    }

    /// Prints the object of a whole answer.
    pub(super) fn object(&mut self, mut object: Value) {
        if self.manner.shape == Shape::Json && self.manner.tells {
            object["logprobs"] = std::mem::take(&mut self.logprobs).into();
        }
        if !self.choices.is_empty() {
            object["choices"] = self.choices.iter().map(object::choice).collect();
        }
        let lines = if self.manner.shape == Shape::Events { object::last(object) } else { vec![object] };
        lines.iter().for_each(|line| self.line(line));
    }

    /// Ends an answer that failed.
    pub(super) fn break_off(&mut self) {
        self.screen.end_raw_answer();
        self.show_held();
    }

    /// Prints the rest of a code block, or the whole answer where nobody else shows it.
    fn end_block(&mut self, exit: Exit) {
        let rest = self.block.finish();
        self.put(&rest);
        let nothing = self.block.shown == 0 && !self.block.text.trim().is_empty();
        if exit != Exit::Answered && nothing {
            self.screen.show_source(self.block.text.strip_suffix('\n').unwrap_or(&self.block.text));
        }
    }

    /// Ends the answer. A file is written if nothing is amiss with it; otherwise what would be in it is shown.
    pub(super) fn end(&mut self, exit: Exit) -> Result<io::Result<()>, Failure> {
        if let Shape::Code(_) = self.manner.shape {
            self.end_block(exit);
        }
        let output = std::mem::replace(&mut self.output, Ok(()));
        let Some(file) = &self.manner.file else {
            return Ok(output.and_then(|()| match self.manner.shape {
                Shape::Text { raw: false } => self.screen.end_answer(),
                Shape::Text { raw: true } => {
                    self.screen.end_raw_answer();
                    Ok(())
                }
                Shape::Code(_) => {
                    self.screen.end_raw_answer();
                    Ok(())
                }
                Shape::Json | Shape::Events => Ok(()),
            }));
        };
        if self.manner.shape == (Shape::Text { raw: false }) && !self.held.ends_with('\n') {
            self.held.push('\n');
        }
        self.screen.end_progress();
        if !matches!(exit, Exit::Answered | Exit::Choice(_)) {
            self.show_held();
            return Ok(Ok(()));
        }
        let written = write_named(&file.path, self.held.as_bytes(), file.existing);
        written.map(Ok).map_err(|error| {
            self.show_held();
            Failure::new(format!("could not write {}: {}", file.path.display(), reason(&error)))
        })
    }

    /// Shows what is not written to the file, so that nothing is lost.
    fn show_held(&mut self) {
        if let (Some(file), false) = (&self.manner.file, self.held.trim().is_empty()) {
            self.screen.show_source(self.held.strip_suffix('\n').unwrap_or(&self.held));
            self.screen.note(&format!("{} was not written: the answer is above", file.path.display()));
        }
    }
}

/// The failure of an answer without a wanted code block.
pub(super) fn no_block(language: &str) -> Failure {
    let which = if language.is_empty() { "code block".into() } else { format!("{language} code block") };
    Failure::new(format!("the answer has no {which}: it is above")).exit(Exit::NoCode)
}
