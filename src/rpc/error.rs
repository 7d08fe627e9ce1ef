//! Why a worker cannot be used, or no longer.

use std::path::PathBuf;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("no worker at {address}: {why}")]
    Unreachable { address: String, why: String },
    #[error("what listens at {0} is not a fireside worker")]
    NotAWorker(String),
    /// Of fireside's handshake or of llama.cpp's protocol.
    #[error("the worker at {address} is another version: it speaks {theirs}, and this fireside {ours}")]
    Version { address: String, theirs: String, ours: String },
    #[error("the worker at {0} does not accept this token")]
    WrongToken(String),
    /// Whoever answered does not know the token itself.
    #[error("what listens at {0} cannot prove that it is your worker: it does not know the token")]
    NotOurs(String),
    #[error("the worker at {0} is busy: it serves another fireside")]
    Busy(String),
    #[error("the worker at {0} has accepted the connection but cannot serve: see its own output")]
    OutOfOrder(String),
    #[error("the worker at {address} did not answer within {seconds} s")]
    Silent { address: String, seconds: u64 },
    /// It served this process before.
    #[error("the worker at {address} is lost: {why}")]
    Lost { address: String, why: String },
    #[error("there is no token for the worker at {0}")]
    NoToken(String),
    #[error("could not use the token in {}: {why}", path.display())]
    BadToken { path: PathBuf, why: String },
}
