//! Typed errors of the parts below → a [`Failure`] for the user: a line, an optional hint and an exit code.
//!
//! The errors know no option, no command and no exit code. The files here, each for one part, add them.

mod backend;
mod constraint;
mod convert;
mod engine;
mod gguf;
mod history;
mod hub;
mod input;
mod models;
mod rpc;
mod session;
mod settings;

use std::fmt::{self, Display};

pub use self::gguf::{FETCH_AGAIN, joined, remedy};
pub use self::session::why;
use crate::ui::{self, Screen};

/// The program's exit codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Answered; also if the user's own limit ended the answer.
    Answered,
    /// Something failed.
    Failed,
    /// Wrong command line or setting, or no prompt.
    Usage,
    /// The prompt does not fit the context.
    TooLong,
    /// The answer was cut off: context full, default length limit, endless repetition, nothing but thinking, a schema
    /// that it does not match.
    Cut,
    /// The answer has no such code block.
    NoCode,
    /// The likeliest choice is the one at this place, counted from 0.
    Choice(u8),
    /// Ctrl-C.
    Interrupted,
}

impl Exit {
    /// The most choices that have an exit code.
    pub const CHOICES: usize = 100;

    /// The process's exit code.
    pub fn code(self) -> i32 {
        match self {
            Exit::Answered => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::TooLong => 3,
            Exit::Cut => 4,
            Exit::NoCode => 5,
            Exit::Choice(place) => 10 + i32::from(place),
            Exit::Interrupted => 130,
        }
    }

    /// All exit codes with their meanings.
    pub const ALL: [(Exit, &str); 8] = [
        (Exit::Answered, "answered; also if your own -n ended the answer"),
        (Exit::Failed, "failed; also if doctor, check or history replay found a problem"),
        (Exit::Usage, "wrong command line or setting, or no prompt"),
        (Exit::TooLong, "the prompt does not fit the context"),
        (
            Exit::Cut,
            "the answer was cut off: context full, fireside's default limit, endless repetition, nothing but thinking, or a \
             schema or grammar that it does not match",
        ),
        (Exit::NoCode, "the answer has no code block, or none of the wanted language (--code)"),
        (Exit::Choice(0), "and up to 109: the likeliest choice, counted from 0 (--exit-choice)"),
        (Exit::Interrupted, "interrupted (Ctrl-C)"),
    ];
}

/// A failure: line, hint, exit code.
#[derive(Debug, Clone, PartialEq)]
pub struct Failure {
    pub exit: Exit,
    pub message: String,
    pub hint: Option<String>,
}

impl Failure {
    pub fn new(message: impl Into<String>) -> Failure {
        Failure { exit: Exit::Failed, message: message.into(), hint: None }
    }

    /// The command line or a setting is wrong.
    pub fn usage(message: impl Into<String>) -> Failure {
        Failure { exit: Exit::Usage, ..Failure::new(message) }
    }

    /// The user stopped it.
    pub fn interrupted() -> Failure {
        Failure { exit: Exit::Interrupted, ..Failure::new("interrupted") }
    }

    pub fn exit(mut self, exit: Exit) -> Failure {
        self.exit = exit;
        self
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Failure {
        self.hint = Some(hint.into());
        self
    }

    /// Writes it to stderr without a screen; returns the exit code.
    pub fn print(&self) -> Exit {
        ui::last_line(&format!("fireside: {self}"));
        self.hint.iter().for_each(|hint| ui::last_line(&format!("hint: {hint}")));
        self.exit
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// The command line, a setting or the environment is wrong.
fn usage(error: &impl Display) -> Failure {
    Failure::usage(error.to_string())
}

/// The error's own line with a hint.
fn worded(error: &impl Display, hint: Option<String>) -> Failure {
    Failure { hint, ..Failure::new(error.to_string()) }
}

impl Screen {
    /// `fireside: …` and, if there is a hint, `hint: …`.
    pub fn failure(&mut self, failure: &Failure) {
        self.show_failure(&failure.message, failure.hint.as_deref());
    }
}
