//! Errors: no model, an unusable model, or settings that do not suit it.

use std::io;
use std::path::PathBuf;

use crate::backend;
use crate::files::reason;
use crate::gguf::Refusal;
use crate::input;
use crate::models::catalogue::Smaller;
use crate::models::names::NotHere;
use crate::rpc;
use crate::units::{count, size};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    NotHere(#[from] NotHere),
    /// No model is set, and none is here. `folder`: the models folder.
    #[error("no model is set, and none was found")]
    NoModels { folder: Option<PathBuf>, offline: bool },
    /// No model is set; this is the only one.
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

    // Contexts are in tokens, memory in bytes.
    /// The model has learned positions, so it cannot exceed them; `reason`: why the file limits its context.
    #[error("a context of {wanted} tokens exceeds what this model supports")]
    ContextTooLong { wanted: usize, trained: usize, reason: Option<String> },
    #[error("not enough memory: the model needs {} and {} are free", size(*needed), size(*free))]
    NoMemory { needed: u64, free: u64, remedies: Remedies },
    /// So many layers do not fit on a GPU.
    #[error(
        "not enough memory on {gpu}: {} there need {}, and {} are free",
        count(*layers, "layer"),
        size(*needed),
        size(*free)
    )]
    NoGpuMemory { layers: u32, gpu: String, needed: u64, free: u64, remedies: Remedies },
    /// `fits`: the largest context that fits.
    #[error(
        "not enough memory: {wanted} tokens of context need {} besides the model's {}, and {} are free",
        size(*context),
        size(*model),
        size(*free)
    )]
    NoMemoryForContext { wanted: usize, fits: usize, context: u64, model: u64, free: u64 },

    /// `known`: the GPUs that are there.
    #[error("there is no device '{name}'")]
    NoDevice { name: String, known: Vec<String> },
    #[error("there is no GPU number {main}: {} used, counted from 0", are(*count))]
    NoMainGpu { main: usize, count: usize },
    /// `known`: the buffer types of this machine.
    #[error("there is no buffer type '{name}'")]
    NoBuffer { name: String, known: Vec<String> },
    #[error("'{regex}' is not a regular expression: {why}")]
    Override { regex: String, why: String },

    /// The names of the model's templates.
    #[error("the model has several named chat templates and no default")]
    SeveralTemplates(Vec<String>),
    /// Not the name of one of the model's `own` templates or of a built-in one, and not a readable file.
    #[error("the chat template: {source}")]
    NoTemplate { own: Vec<String>, source: input::Error },

    /// Workers are reached over the network.
    #[error("offline: no worker is used")]
    Offline,
    #[error(transparent)]
    Worker(#[from] rpc::Error),
    /// llama.cpp rejected the model in a probe.
    #[error(transparent)]
    Backend(#[from] backend::Error),
}

/// What helps a model that does not fit.
#[derive(Debug, Default)]
pub struct Remedies {
    /// A smaller model that would fit.
    pub smaller: Option<Smaller>,
    /// A smaller context in tokens, with which it would fit.
    pub context: Option<usize>,
    /// Whether it has experts, which need not all be in memory.
    pub mixture: bool,
}

impl Error {
    /// Whether there is too little memory now.
    pub fn lacks_memory(&self) -> bool {
        matches!(self, Error::NoMemory { .. } | Error::NoMemoryForContext { .. } | Error::NoGpuMemory { .. })
    }
}

fn are(count: usize) -> String {
    if count == 1 { "one is".into() } else { format!("{count} are") }
}
