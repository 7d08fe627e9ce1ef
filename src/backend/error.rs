//! Why a backend does not answer.

use std::path::PathBuf;

use crate::engine;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Engine(engine::Error),
    #[error("could not load {}: {why}", path.display())]
    Load { path: PathBuf, why: String },
    /// An unknown file was tried out, and cannot be used.
    #[error("could not load {}: {why}", path.display())]
    Unsound { path: PathBuf, why: String },
    #[error("could not test {}: {why}", path.display())]
    NotTried { path: PathBuf, why: String },
    /// A trial ended because of a setting, not of the file; in the words of the process that tried it out.
    #[error("{line}")]
    Setting { line: String, hint: Option<String> },
    /// A script cannot be read, or has this instead of an answer.
    #[error("{0}")]
    Script(String),
    #[error("the engine has stopped: this is a bug in fireside")]
    Stopped,
    #[error("interrupted")]
    Interrupted,
}

impl Error {
    /// Whether a prompt does not fit the context.
    pub fn is_too_long(&self) -> bool {
        matches!(self, Error::Engine(engine::Error::TooLong { .. }))
    }
}

impl From<engine::Error> for Error {
    fn from(error: engine::Error) -> Error {
        match error {
            engine::Error::Interrupted => Error::Interrupted,
            error => Error::Engine(error),
        }
    }
}
