//! Errors of workers → failures with remedies.

use super::{Failure, worded};
use crate::rpc::Error;

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        let hint = match &error {
            Error::Unreachable { .. } | Error::Silent { .. } => {
                "is `fireside worker` running there, and does its port lead here (ssh -L)?"
            }
            Error::NotAWorker(_) => {
                "--rpc takes what `fireside worker` prints; llama.cpp's own rpc-server, which lets everybody in, is not supported"
            }
            Error::Version { .. } => "install the same version of fireside on both machines",
            Error::WrongToken(_) | Error::NotOurs(_) => {
                "copy the worker's token to this machine, and name the file with --rpc-token"
            }
            Error::NoToken(_) => {
                "`fireside worker` prints where its token is: copy that file to this machine, mode 0600, and name \
                 it with --rpc-token"
            }
            Error::Busy(_) => "it serves one fireside at a time: end the other one, or start a second worker",
            Error::OutOfOrder(_) => "restart the worker",
            Error::Lost { .. } => {
                "--rpc with the other workers, or --rpc none, goes on without it (in a chat: /set rpc none, then \
                 /retry)"
            }
            Error::BadToken { .. } => {
                "chmod 600 makes a file your own; a token is one line of random characters"
            }
        };
        worded(&error, Some(hint.into()))
    }
}
