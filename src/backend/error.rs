//! Errors of backends.

use std::path::PathBuf;

use crate::engine;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Engine(engine::Error),
    #[error("could not load {}: {why}", path.display())]
    Load { path: PathBuf, why: String },
    /// The memory of a device or of the machine ran out while loading.
    #[error("not enough memory to load {}: {why}", path.display())]
    NoMemory { path: PathBuf, why: String },
    /// An unknown model file failed its probe.
    #[error("could not load {}: {why}", path.display())]
    Unsound { path: PathBuf, why: String },
    #[error("could not test {}: {why}", path.display())]
    NotTried { path: PathBuf, why: String },
    /// A probe failed because of a setting, not because of the file; worded by the probe's child process.
    #[error("{line}")]
    Setting { line: String, hint: Option<String> },
    /// The script cannot be read, or fails with this text instead of an answer.
    #[error("{0}")]
    Script(String),
    #[error("the engine has stopped: this is a bug in fireside")]
    Stopped,
    #[error("interrupted")]
    Interrupted,
}

impl Error {
    /// Whether the prompt does not fit the context.
    pub fn is_too_long(&self) -> bool {
        matches!(self, Error::Engine(engine::Error::TooLong { .. }))
    }

    /// The address of a worker that was lost.
    pub fn lost_worker(&self) -> Option<&str> {
        match self {
            Error::Engine(error) => error.lost_worker(),
            _ => None,
        }
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
