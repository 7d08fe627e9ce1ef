//! Typed errors of the rooms below → a [`Failure`]: one line, an exit code, and a hint where there is a remedy.
//!
//! The errors know no option, no command and no exit code; which of them helps a person is said here, a file a room.

mod backend;
mod convert;
mod engine;
mod gguf;
mod history;
mod hub;
mod input;
mod models;
mod session;
mod settings;

use std::fmt::Display;

pub use self::gguf::{FETCH_AGAIN, joined, remedy};
pub use self::session::why;
use crate::error::{Exit, Failure};
use crate::ui;

impl Failure {
    /// Writes it to stderr where there is no screen; returns the exit code.
    pub fn print(&self) -> Exit {
        ui::last_line(&format!("fireside: {self}"));
        self.hint.iter().for_each(|hint| ui::last_line(&format!("hint: {hint}")));
        self.exit
    }
}

/// The command line, a setting or the environment is wrong.
fn usage(error: &impl Display) -> Failure {
    Failure::usage(error.to_string())
}

/// The error's own line, with what can be done about it.
fn worded(error: &impl Display, hint: Option<String>) -> Failure {
    Failure { hint, ..Failure::new(error.to_string()) }
}
