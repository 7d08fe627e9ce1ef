//! Errors of backends.

use std::fmt;
use std::path::PathBuf;

use super::remote::Fault;
use crate::engine;

/// `Display`: one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerFault {
    /// The server's name, or its URL.
    pub server: String,
    pub fault: Fault,
}

impl fmt::Display for ServerFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fault.at(&self.server, f)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Engine(engine::Error),
    /// A server gives no answer, or no whole one.
    #[error("{0}")]
    Server(Box<ServerFault>),
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
    /// The model of this name tells nothing of the probabilities of given texts.
    #[error("{0} tells no probabilities of given texts: only models on this machine do")]
    NoProbabilities(String),
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

    /// Whether the beginning of an answer came before it.
    pub fn is_broken_off(&self) -> bool {
        matches!(self, Error::Server(fault) if fault.fault.is_broken_off())
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
