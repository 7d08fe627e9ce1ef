//! Why a look-up or a download failed: the environment, this machine, the hub or a web server is the cause.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::choose::ListingEntry;
use crate::files::reason;
use crate::units::{count, duration, size};

/// How many of a repository's models a message names.
const MOST_NAMED: usize = 12;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    // The environment.
    #[error("HF_ENDPOINT must be an http or https address, not '{0}'")]
    Endpoint(String),
    #[error("the token (from HF_TOKEN or the file HF_TOKEN_PATH) contains an invalid character")]
    Token,
    /// The reference that needed the network.
    #[error("could not fetch {0}: fireside is offline")]
    Offline(String),
    #[error("there is no home folder for models")]
    NoHome,

    // This machine.
    #[error("could not {what}: {why}")]
    Disk { what: String, why: String },
    /// In bytes: the missing part of the model, and the free space.
    #[error(
        "not enough room in {}: {} are still to come and {} are free",
        folder.display(),
        size(*missing),
        size(*free)
    )]
    NoRoom { folder: PathBuf, missing: u64, free: u64 },
    #[error("{} already exists and is a different file", .0.display())]
    Exists(PathBuf),
    #[error("another program has locked {name} and fetched nothing for {}", duration(waited.as_secs_f64()))]
    Locked { name: String, lock: PathBuf, waited: Duration },

    // The hub: refused requests and incomplete repositories.
    #[error("{repository} is gated: its conditions must be accepted first")]
    Gated { repository: String, has_token: bool },
    #[error("there is no repository {repository} on the hub, or it is private")]
    NoRepository { repository: String, has_token: bool },
    #[error("{repository} has no revision '{revision}'")]
    NoRevision { repository: String, revision: String },
    /// The hub does not say which of the two is missing.
    #[error("there is no repository {repository} on the hub, or no revision '{revision}' of it")]
    NoRepositoryOrRevision { repository: String, revision: String },
    #[error("{repository} has no file {file}")]
    NoFile { repository: String, file: String },
    #[error("the hub's listing of {0} names no commit")]
    NoCommit(String),
    #[error("{repository} contains no GGUF model")]
    NoModel { repository: String },
    /// Never empty.
    #[error("{repository} contains several models: {}", listed(models))]
    Several { repository: String, models: Vec<ListingEntry> },
    /// No model or file has the name `wanted`; `close` is the best suggestion.
    #[error("{repository} has no '{wanted}'")]
    NoSuchModel { repository: String, wanted: String, close: Option<String>, models: Vec<ListingEntry> },
    #[error("the hub refused access to {repository} ({status})")]
    HubRefused { repository: String, status: u16 },
    #[error("{repository} lacks some parts of {name}")]
    Incomplete { repository: String, name: String },

    // A web server.
    #[error("{host} does not allow this download without a token ({status})")]
    Forbidden { host: String, status: u16 },
    #[error("{host} has no such file ({status})")]
    NotFound { host: String, status: u16 },
    #[error("{host} refused the request ({status})")]
    Refused { host: String, status: u16 },
    #[error("{0} does not end in a file name")]
    NoName(String),
    #[error("{host} does not report the size of {name}")]
    NoSize { host: String, name: String },

    // The hub or a web server.
    /// The host's answer is unusable, and another try would not help.
    #[error("{host} {why}")]
    Unusable { host: String, why: String },
    /// `begun`: some bytes arrived, and the next run resumes there.
    #[error("could not fetch from {host}: {why}")]
    Unreachable { host: String, why: String, begun: bool },
    #[error("{name} has {}, but the hub lists {listed}", count(*size, "byte"))]
    OtherSize { name: String, size: u64, listed: u64 },
    #[error("{name} keeps changing: {why}")]
    Changing { name: String, why: String },
    #[error("{0} fails its SHA-256 check, even when fetched again")]
    Checksum(String),

    /// The watcher stopped the work.
    #[error("interrupted")]
    Interrupted,
    #[error("the download ended unexpectedly")]
    Died,
}

impl Error {
    /// `what` failed on this machine's disk.
    pub(super) fn disk(what: impl Into<String>, error: &io::Error) -> Error {
        Error::Disk { what: what.into(), why: reason(error) }
    }

    pub(super) fn disk_at(what: &str, path: &Path, error: &io::Error) -> Error {
        Error::disk(format!("{what} {}", path.display()), error)
    }
}

/// Models with their sizes, on one line: the first dozen, then the number of the others.
pub fn listed(models: &[ListingEntry]) -> String {
    let named = models.iter().take(MOST_NAMED).map(|model| format!("{} ({})", model.name, size(model.size)));
    let named = named.collect::<Vec<_>>().join(", ");
    match models.len().saturating_sub(MOST_NAMED) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}
