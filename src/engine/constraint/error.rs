//! Why a constraint cannot be used.

/// One line each; `place` is a JSON pointer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("the schema is not JSON: {0}")]
    NotJson(String),
    #[error("the schema cannot be used: {}: {why}", if place.is_empty() { "at its root" } else { place })]
    Schema { place: String, why: String },
    #[error("the grammar cannot be used: line {line}, column {column}: {why}")]
    Grammar { line: usize, column: usize, why: String },
    #[error("the regular expression cannot be used: {0}")]
    Regex(String),
    /// `kind`: [`crate::chat::Constraint::kind`].
    #[error("the {kind} is too complex: {why}")]
    Complex { kind: &'static str, why: String },
    /// The vocabulary lacks the bytes that must follow.
    #[error("the model's vocabulary cannot write what the {kind} demands")]
    Unwritable { kind: &'static str },
    /// An answer to be continued does not match.
    #[error("the answer so far does not match the {kind}, so it cannot be continued: {next}")]
    Begun { kind: &'static str, next: String },
}

/// What is wrong with a schema, and where.
pub(super) fn wrong(place: &str, why: impl Into<String>) -> Error {
    Error::Schema { place: place.into(), why: why.into() }
}

/// A place with another step, as a JSON pointer (RFC 6901).
pub(super) fn within(place: &str, step: &str) -> String {
    format!("{place}/{}", step.replace('~', "~0").replace('/', "~1"))
}
