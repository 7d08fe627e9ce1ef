//! Why a session does not do what was asked of it.

use crate::{backend, models, settings};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Backend(backend::Error),
    /// The prompt does not fit the context. `droppable`: it would without the oldest messages, and nobody said that they may be
    /// dropped.
    #[error("{error}")]
    TooLong { error: backend::Error, droppable: bool },
    #[error(transparent)]
    Model(#[from] models::Error),
    #[error(transparent)]
    Settings(#[from] settings::Error),
    /// The setting of this name is read once.
    #[error("{0} can only be given when fireside starts")]
    AtStart(&'static str),
    /// The backend of this name keeps its prompts to itself.
    #[error("{0} does not show its prompts and counts no tokens ahead")]
    Hidden(String),
    #[error("there is nothing to answer again")]
    NothingToAnswer,
    #[error("there is no answer to continue")]
    NothingToContinue,
    #[error("the answer was not cut off: the model ended it")]
    NotCut,
    /// The messages that are dropped are not summarised: says why.
    #[error("{0}")]
    NoSummary(&'static str),
    /// An answer cannot be replayed: says why.
    #[error("{0}")]
    NotReplayable(&'static str),
    /// The model of an answer, from the file at `path`, cannot be opened.
    #[error("it was given by {model}, which cannot be used: {error}")]
    NoModel { model: String, path: String, error: Box<Error> },
    /// What is opened is not what gave an answer: says what is different.
    #[error("{0}")]
    OtherModel(String),
    #[error("interrupted")]
    Interrupted,
}

impl From<backend::Error> for Error {
    fn from(error: backend::Error) -> Error {
        match error {
            backend::Error::Interrupted => Error::Interrupted,
            error => Error::Backend(error),
        }
    }
}
