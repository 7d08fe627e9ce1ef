//! What an answer must match, as the user wrote it. engine/constraint enforces it.

/// A description of all answers that are allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Constraint {
    /// JSON text that a JSON schema describes; the schema as text.
    JsonSchema(String),
    /// Text that the rule `root` of a grammar in llama.cpp's notation (GBNF) describes.
    Grammar(String),
    /// Text that a regular expression matches from beginning to end.
    Regex(String),
}

impl Constraint {
    /// What it is, for messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Constraint::JsonSchema(_) => "schema",
            Constraint::Grammar(_) => "grammar",
            Constraint::Regex(_) => "regular expression",
        }
    }
}
