//! Input errors → failures with remedies.

use super::{Exit, Failure, worded};
use crate::input::Error;

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        match error {
            Error::Interrupted => Failure::interrupted(),
            Error::TooLong { .. } => worded(&error, None).exit(Exit::TooLong),
            Error::NotText { .. } => worded(&error, None)
                .hint("iconv converts text from other encodings; binary files cannot be attached"),
            Error::NoText { .. } => worded(&error, None).hint(
                "hidden files, and those that .gitignore lists, count only when you name them one by one",
            ),
            Error::NoMatch { .. } => worded(&error, None).hint(
                "* and ? match within a name, ** across folders; hidden files, and those that .gitignore lists, never \
                 match: name them one by one",
            ),
            Error::BadGlob { .. } => worded(&error, None)
                .hint("* and ? match within a name, ** across folders; [ and { need their ends"),
            Error::Unreadable { .. } => worded(&error, None),
        }
    }
}
