//! Why nothing was found or fetched: the environment, this machine, the hub or a web server is the cause.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::choose::Candidate;
use crate::error::reason;
use crate::units::{count, duration, size};

/// How many of a repository's models a message names.
const MOST_NAMED: usize = 12;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    // The environment.
    #[error("HF_ENDPOINT must be an http or https address, not '{0}'")]
    Endpoint(String),
    #[error("the token (HF_TOKEN, or the file of HF_TOKEN_PATH) contains a character that no token has")]
    Token,
    /// By the reference that was to be asked for.
    #[error("{0} could not be asked for: fireside is offline")]
    Offline(String),
    #[error("there is no home folder to keep models in")]
    NoHome,

    // This machine.
    #[error("could not {what}: {why}")]
    Disk { what: String, why: String },
    /// In bytes: what is missing of the model, and the room for it.
    #[error(
        "not enough room in {}: {} are still to come and {} are free",
        folder.display(),
        size(*missing),
        size(*free)
    )]
    NoRoom { folder: PathBuf, missing: u64, free: u64 },
    #[error("{} is there already, and is another file", .0.display())]
    Exists(PathBuf),
    #[error("another program holds {name}, and fetched nothing for {}", duration(waited.as_secs_f64()))]
    Locked { name: String, lock: PathBuf, waited: Duration },

    // The hub: what it refuses, and what a repository lacks.
    #[error("{repository} is for those only who have accepted its conditions")]
    Gated { repository: String, has_token: bool },
    #[error("there is no repository {repository} on the hub, or it is private")]
    NoRepository { repository: String, has_token: bool },
    #[error("{repository} has no revision '{revision}'")]
    NoRevision { repository: String, revision: String },
    /// The hub does not say which of them it lacks.
    #[error("there is no repository {repository} on the hub, or no revision '{revision}' of it")]
    NoRepositoryOrRevision { repository: String, revision: String },
    #[error("{repository} has no file {file}")]
    NoFile { repository: String, file: String },
    #[error("the hub's list of {0} names no commit")]
    NoCommit(String),
    #[error("{repository} holds no GGUF model")]
    NoModel { repository: String },
    /// Never empty.
    #[error("{repository} holds several models: {}", listed(models))]
    Several { repository: String, models: Vec<Candidate> },
    /// No model or file is called `wanted`; perhaps `close` was meant.
    #[error("{repository} has no '{wanted}'")]
    NoSuchModel { repository: String, wanted: String, close: Option<String>, models: Vec<Candidate> },
    #[error("the hub refused {repository}: it answered {status}")]
    HubRefused { repository: String, status: u16 },
    #[error("{repository} lacks some of the files that {name} is split into")]
    Incomplete { repository: String, name: String },

    // A web server.
    #[error("{host} does not let everyone fetch that ({status})")]
    Forbidden { host: String, status: u16 },
    #[error("{host} has no such file ({status})")]
    NotFound { host: String, status: u16 },
    #[error("{host} refused: it answered {status}")]
    Refused { host: String, status: u16 },
    #[error("{0} does not end in the name of a file")]
    NoName(String),
    #[error("{host} does not say how large {name} is")]
    NoSize { host: String, name: String },

    // Either of them.
    /// The host's answer is of no use, and asking again would not help.
    #[error("{host} {why}")]
    Unusable { host: String, why: String },
    /// `begun`: some bytes came, and the next try goes on behind them.
    #[error("could not fetch from {host}: {why}")]
    Unreachable { host: String, why: String, begun: bool },
    #[error("{name} has {}, but the hub lists {listed}", count(*size, "byte"))]
    OtherSize { name: String, size: u64, listed: u64 },
    #[error("{name} keeps changing: {why}")]
    Changing { name: String, why: String },
    #[error("{0} is not what the hub says: its SHA-256 is wrong, however often it is fetched")]
    Checksum(String),

    /// Whoever watches wanted no more.
    #[error("interrupted")]
    Interrupted,
    #[error("fetching ended unexpectedly")]
    Died,
}

impl Error {
    /// Could not do `what` on this machine's disk.
    pub(super) fn disk(what: impl Into<String>, error: &io::Error) -> Error {
        Error::Disk { what: what.into(), why: reason(error) }
    }

    pub(super) fn disk_at(what: &str, path: &Path, error: &io::Error) -> Error {
        Error::disk(format!("{what} {}", path.display()), error)
    }
}

/// Models with their sizes, in one line: a dozen of them, and how many more there are.
pub fn listed(models: &[Candidate]) -> String {
    let named = models.iter().take(MOST_NAMED).map(|model| format!("{} ({})", model.name, size(model.size)));
    let named = named.collect::<Vec<_>>().join(", ");
    match models.len().saturating_sub(MOST_NAMED) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}
