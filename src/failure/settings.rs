//! Why a setting does not take a value.

use super::{usage, worded};
use crate::error::Failure;
use crate::settings::Error;

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        match error {
            Error::Unknown(_) => worded(&error, None),
            Error::Wrong(_) => usage(&error),
        }
    }
}
