//! Why a file was not imported, or not completely.

use std::io;
use std::path::Path;

use crate::files::reason;

/// Files and members of zips go by names that the user knows. `taken`: number of conversations imported
/// before the error.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("could not read {name}: {why}")]
    Unreadable { name: String, why: String },
    #[error("could not read {name}: {why}; {}", before(*taken))]
    BrokenOff { name: String, why: String, taken: usize },
    /// The zip, or a member of it, cannot be unpacked.
    #[error("could not read {name}: {why}")]
    Zip { name: String, why: String },
    /// No file in the zip or folder is named like a file with conversations.
    #[error("{name} holds no conversations")]
    NoFile { name: String, zip: bool },
    #[error("{0} is UTF-16, JSON is UTF-8")]
    Utf16(String),
    #[error("{0} is neither JSON nor a zip")]
    NotConversations(String),
    #[error("{name} is damaged at {place}: {why}; {}", before(*taken))]
    Damaged { name: String, place: String, why: String, taken: usize },
    #[error("{0} holds a conversation that is longer than 256 MiB")]
    TooLong(String),
    #[error("{name} holds no conversations: {why}")]
    Empty { name: String, why: String },
    /// The watcher stopped the import.
    #[error("interrupted")]
    Interrupted,
}

pub(super) fn unreadable(path: &Path, error: &io::Error) -> Error {
    Error::Unreadable { name: path.display().to_string(), why: reason(error) }
}

fn before(taken: usize) -> String {
    match taken {
        0 => "nothing was imported".to_string(),
        1 => "1 conversation before that was imported".to_string(),
        more => format!("{more} conversations before that were imported"),
    }
}
