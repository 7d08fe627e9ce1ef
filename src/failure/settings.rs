//! Errors of settings → failures.

use super::{Failure, usage, worded};
use crate::settings::Error;

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        match error {
            Error::Unknown(_) => worded(&error, None),
            Error::Wrong(_) => usage(&error),
        }
    }
}
