//! Backend errors → failures with remedies.

use super::{Failure, worded};
use crate::backend::Error;

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        match error {
            Error::Engine(error) => error.into(),
            Error::Interrupted => Failure::interrupted(),
            Error::Setting { line, hint } => Failure { hint, ..Failure::usage(line) },
            Error::Unsound { .. } => worded(&error, None).hint(
                "the file may be damaged, or made for another version of llama.cpp; try fetching it again",
            ),
            Error::NoMemory { .. } => worded(&error, None).hint(
                "close other programs, or use a smaller quantisation, a smaller --ctx-size, or fewer --gpu-layers; \
                 --cpu-moe keeps the experts of a mixture in main memory",
            ),
            Error::Load { .. } | Error::NotTried { .. } | Error::Script(_) | Error::Stopped => {
                worded(&error, None)
            }
        }
    }
}
