//! Errors: no model, an unusable model, or settings that do not suit it.

use std::io;
use std::path::PathBuf;

use crate::backend;
use crate::files::reason;
use crate::gguf::Refusal;
use crate::input;
use crate::models::names::NotHere;
use crate::units::size;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    NotHere(#[from] NotHere),
    /// None was named and none is here. `folder`: where one would be found.
    #[error("no model is set, and none was found")]
    NoModels { folder: Option<PathBuf>, offline: bool },
    /// None was named, and there is this one.
    #[error("no model is set")]
    OneUnnamed(String),
    #[error("there are several models, and none is set")]
    SeveralUnnamed(Vec<String>),

    #[error("could not use the model {}: {refusal}", path.display())]
    Refused { path: PathBuf, refusal: Refusal },
    #[error("could not use the model {}: llama.cpp accepts only UTF-8 names", .0.display())]
    NotUtf8(PathBuf),
    #[error("could not read {}: {}", path.display(), reason(source))]
    Unreadable { path: PathBuf, source: io::Error },

    // Tokens of context, bytes of memory.
    /// The model has learnt positions and no more; `reason`: why it takes fewer than that.
    #[error("a context of {wanted} tokens exceeds what this model supports")]
    ContextTooLong { wanted: usize, trained: usize, reason: Option<String> },
    #[error("not enough memory: the model needs {} and {} are free", size(*needed), size(*free))]
    NoMemory { needed: u64, free: u64 },
    /// `fits`: the context for which there is room.
    #[error(
        "not enough memory: {wanted} tokens of context need {} besides the model's {}, and {} are free",
        size(*context),
        size(*model),
        size(*free)
    )]
    NoMemoryForContext { wanted: usize, fits: usize, context: u64, model: u64, free: u64 },

    /// By the names of the model's templates.
    #[error("the model has several named chat templates and no default")]
    SeveralTemplates(Vec<String>),
    /// Neither one of the model's `own` templates nor a built-in one, and no file that can be read.
    #[error("the chat template: {source}")]
    NoTemplate { own: Vec<String>, source: input::Error },

    /// The model was tried out, and llama.cpp did not take it.
    #[error(transparent)]
    Backend(#[from] backend::Error),
}
