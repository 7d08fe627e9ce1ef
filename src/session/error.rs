//! Errors of a session.

use crate::{backend, models, settings};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Backend(backend::Error),
    /// The prompt does not fit the context. `droppable`: it would fit without the oldest messages, which the
    /// settings do not allow to drop.
    #[error("{error}")]
    TooLong { error: backend::Error, droppable: bool },
    #[error(transparent)]
    Model(#[from] models::Error),
    #[error(transparent)]
    Settings(#[from] settings::Error),
    /// The setting of this name is only read at start.
    #[error("{0} can only be given when fireside starts")]
    AtStart(&'static str),
    /// The backend of this name gives no access to prompts and token counts.
    #[error("{0} does not show its prompts and counts no tokens ahead")]
    Hidden(String),
    #[error("there is no answer yet")]
    NoAnswer,
    #[error("there is nothing to answer again")]
    NothingToAnswer,
    #[error("there is no answer to continue")]
    NothingToContinue,
    #[error("the answer was not cut off: the model ended it")]
    NotCut,
    #[error("there is no answer to compare with")]
    NothingToCompare,
    /// The model of this name cannot continue the beginning of an answer: its server offers no way.
    #[error("the server of {0} cannot continue the beginning of an answer")]
    CannotContinue(String),
    /// The same, because it has no chat template.
    #[error("{0} has no chat template: it continues your text instead of answering")]
    ContinuesText(String),
    /// The same, because it thinks first.
    #[error("{0} thinks before it answers, so its answer cannot begin with your text")]
    Thinks(String),
    /// No summary of the dropped messages, with the reason.
    #[error("{0}")]
    NoSummary(&'static str),
    /// An answer that cannot be replayed, with the reason.
    #[error("{0}")]
    NotReplayable(&'static str),
    /// The file at `path`, the model of an answer, cannot be opened.
    #[error("it was given by {model}, which cannot be used: {error}")]
    NoModel { model: String, path: String, error: Box<Error> },
    /// The opened model is not the one that gave the answer; says what differs.
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

impl Error {
    /// The address of a worker that was lost.
    pub fn lost_worker(&self) -> Option<&str> {
        match self {
            Error::Backend(error) => error.lost_worker(),
            _ => None,
        }
    }

    /// Whether a model cannot be opened because there is too little memory now.
    pub(super) fn lacks_memory(&self) -> bool {
        match self {
            Error::Model(error) => error.lacks_memory(),
            Error::Backend(error) => matches!(error, backend::Error::NoMemory { .. }),
            _ => false,
        }
    }
}
