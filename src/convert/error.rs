//! Errors of conversion. They do not name the folder, which the caller knows.

use std::io;

use super::Type;
use crate::files::reason;
use crate::units::count;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Something is missing, malformed, or beyond what llama.cpp can run.
    #[error("{0}")]
    Unsuitable(String),
    #[error("could not read {name}: {}", reason(source))]
    Read { name: String, source: io::Error },
    #[error("could not write the file: {}", reason(.0))]
    Write(#[source] io::Error),
    /// A safetensors file is shorter than its header announces.
    #[error("{name} ends too early: it has {size} of {}", count(*needed, "byte"))]
    CutShort { name: String, size: u64, needed: u64 },
    /// `elsewhere`: llama.cpp's own converter handles it.
    #[error("fireside does not convert the architecture '{name}'")]
    Architecture { name: String, elsewhere: bool },
    /// A pickle instead of safetensors, by its file name.
    #[error("its weights are a Python pickle ({0}), which can run anything when it is opened")]
    Pickle(String),
    #[error("'{tensor}' has the number {number}, too large for {}", kind.name())]
    TooLarge { tensor: String, number: f32, kind: Type },
    #[error("interrupted")]
    Interrupted,
}

pub(super) fn refuse(why: impl Into<String>) -> Error {
    Error::Unsuitable(why.into())
}
