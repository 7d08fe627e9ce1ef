//! Why there is no engine, or no answer from it.

/// `Clone`: everyone who waits for a model that cannot be used is told why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The chat template gives no text: says why.
    #[error("{0}")]
    Template(String),
    /// Without a single token there are no logits to begin with.
    #[error("the chat template makes nothing of what was said: the model would be given no text at all")]
    EmptyPrompt,
    /// In tokens.
    #[error("the prompt is too long: {prompt} tokens, and the context holds {limit} with the answer")]
    TooLong { prompt: usize, limit: usize },
    /// `vocabulary`: how many tokens there are.
    #[error("the biased token {token} is not in the vocabulary of {vocabulary}")]
    Bias { token: i32, vocabulary: i32 },
    /// llama.cpp makes no context with these settings: their names and values, of which at least one does not suit the model.
    #[error("this model does not go with {}: {why}", listed(given))]
    Settings { given: Vec<(&'static str, String)>, why: String },
    /// llama.cpp failed, or refused what it was given.
    #[error("{0}")]
    Llama(String),
    #[error("interrupted")]
    Interrupted,
}

impl From<anyhow::Error> for Error {
    /// An error of this kind inside stays what it is; of any other, one line tells the whole chain.
    fn from(error: anyhow::Error) -> Error {
        error.downcast().unwrap_or_else(|error| Error::Llama(format!("{error:#}").replace('\n', " ")))
    }
}

fn listed(given: &[(&str, String)]) -> String {
    given.iter().map(|(name, value)| format!("{name} {value}")).collect::<Vec<_>>().join(" and ")
}
