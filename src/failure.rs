//! Typed errors of the rooms below → a [`Failure`]: one line, an exit code, and a hint where there is a remedy.
//!
//! The errors know no option, no command and no exit code; which of them helps a person is said here, a file a room.

mod convert;
mod gguf;
mod history;
mod hub;
mod input;
mod models;

use std::fmt::Display;

pub use self::gguf::{FETCH_AGAIN, joined, remedy};
use crate::error::Failure;

/// The command line, a setting or the environment is wrong.
fn usage(error: &impl Display) -> Failure {
    Failure::usage(error.to_string())
}

/// The error's own line, with what can be done about it.
fn worded(error: &impl Display, hint: Option<String>) -> Failure {
    Failure { hint, ..Failure::new(error.to_string()) }
}
