//! Why an engine cannot be created or cannot answer.

use super::constraint;
use crate::rpc;

/// `Clone`: everyone waiting for an unusable model receives the error.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Rendering the chat template failed, with the reason.
    #[error("{0}")]
    Template(String),
    /// Without a token there are no logits to start from.
    #[error("the chat template renders these messages to nothing: the model would get an empty prompt")]
    EmptyPrompt,
    /// Both in tokens.
    #[error("the prompt is too long: {prompt} tokens, and the context holds {limit} with the answer")]
    TooLong { prompt: usize, limit: usize },
    /// `vocabulary`: its number of tokens.
    #[error("the biased token {token} is not in the vocabulary of {vocabulary}")]
    Bias { token: i32, vocabulary: i32 },
    /// llama.cpp cannot create a context with these settings (name and value), at least one of which does not
    /// suit the model.
    #[error("this model does not go with {}: {why}", listed(given))]
    Settings { given: Vec<(&'static str, String)>, why: String },
    /// Memory ran out; `capacity` in tokens.
    #[error("not enough memory for a context of {capacity} tokens: {why}")]
    NoRoom { capacity: usize, why: String },
    /// llama.cpp failed or rejected its input.
    #[error("{0}")]
    Llama(String),
    /// A worker that has a part of the model is lost.
    #[error(transparent)]
    Worker(#[from] rpc::Error),
    /// The answer's constraint cannot be used, or not with this model.
    #[error(transparent)]
    Constraint(#[from] constraint::Error),
    #[error("interrupted")]
    Interrupted,
}

impl Error {
    /// The address of a worker that was lost.
    pub fn lost_worker(&self) -> Option<&str> {
        match self {
            Error::Worker(rpc::Error::Lost { address, .. }) => Some(address),
            _ => None,
        }
    }
}

impl From<anyhow::Error> for Error {
    /// Keeps an engine error inside `anyhow`; any other becomes one line with the whole chain of causes.
    fn from(error: anyhow::Error) -> Error {
        let error = match error.downcast::<constraint::Error>() {
            Ok(error) => return Error::Constraint(error),
            Err(error) => error,
        };
        error.downcast().unwrap_or_else(|error| Error::Llama(format!("{error:#}").replace('\n', " ")))
    }
}

fn listed(given: &[(&str, String)]) -> String {
    given.iter().map(|(name, value)| format!("{name} {value}")).collect::<Vec<_>>().join(" and ")
}
