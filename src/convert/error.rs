//! Why a checkpoint is not converted. Which folder is meant, whoever asked says.

use std::io;

use super::Type;
use crate::files::reason;
use crate::units::count;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Something is missing, malformed, or nothing that llama.cpp could run: says what.
    #[error("{0}")]
    Unsuitable(String),
    #[error("could not read {name}: {}", reason(source))]
    Read { name: String, source: io::Error },
    #[error("could not write the file: {}", reason(.0))]
    Write(#[source] io::Error),
    /// A safetensors file has fewer bytes than its header announces.
    #[error("{name} ends too early: it has {size} of {}", count(*needed, "byte"))]
    CutShort { name: String, size: u64, needed: u64 },
    /// `elsewhere`: llama.cpp's own converter knows it.
    #[error("fireside does not convert the architecture '{name}'")]
    Architecture { name: String, elsewhere: bool },
    /// Instead of safetensors, by the name of its file.
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
