//! History and import errors → failures with remedies.

use super::{Failure, worded};
use crate::history::{self, exchange};

const KINDS: &str = "it takes fireside's own JSON, OpenAI's messages as JSON, and ChatGPT's data export \
                     (zip, folder or conversations.json)";

impl From<history::Error> for Failure {
    fn from(error: history::Error) -> Failure {
        Failure::new(format!("could not use the stored conversations: {error}"))
    }
}

impl From<exchange::Error> for Failure {
    fn from(error: exchange::Error) -> Failure {
        use exchange::Error;
        let hint = match &error {
            Error::Interrupted => return Failure::interrupted(),
            Error::NotConversations(_) | Error::Empty { .. } | Error::Damaged { taken: 0, .. } => KINDS,
            Error::Damaged { .. } => "it may not have been copied or downloaded whole",
            Error::Zip { .. } => "unpack it, and import the folder",
            Error::NoFile { zip: true, .. } => "the zip of a ChatGPT export contains a conversations.json",
            Error::NoFile { zip: false, .. } => {
                "a folder must contain the conversations.json of a ChatGPT export"
            }
            Error::Unreadable { .. } | Error::BrokenOff { .. } | Error::Utf16(_) | Error::TooLong(_) => {
                return worded(&error, None);
            }
        };
        worded(&error, Some(hint.into()))
    }
}
