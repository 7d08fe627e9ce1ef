//! 2 — what the engine needs of a language model, whatever computes it; llama.rs is what does. Next: tokens.rs.

use anyhow::Result;

use super::token::{Token, Vocabulary};
use crate::chat::settings::Sampling;

/// Which of the decoded tokens get logits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Logits {
    None,
    Last,
    All,
}

/// What the engine needs of a language model. Memory is one sequence of tokens, appended to and cut at its end.
pub trait Model {
    /// Text to ids, nothing added. `special`: control tokens written in the text become such.
    fn tokenize(&self, text: &str, special: bool) -> Vec<Token>;
    /// The bytes a token stands for; none for a control token unless `special`.
    fn piece(&self, token: Token, special: bool) -> Vec<u8>;
    /// Whether the model says with this token that its answer is over.
    fn ends(&self, token: Token) -> bool;
    fn vocabulary(&self) -> &Vocabulary;
    /// A fresh sampler chain for one answer.
    fn sampler(&self, sampling: &Sampling, seed: u32) -> Result<Box<dyn Sampler>>;

    /// Tokens in memory.
    fn len(&self) -> usize;
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Tokens that memory has room for now.
    fn capacity(&self) -> usize;
    /// Tokens that memory may ever have room for.
    fn limit(&self) -> usize;
    /// Most tokens of one [`Model::decode`].
    fn chunk(&self) -> usize;
    /// Bytes that [`Model::save`] would give now.
    fn state_bytes(&self) -> usize;
    /// What is in memory, as bytes that are of use only to a model like this one.
    fn save(&self) -> Result<Vec<u8>>;
    /// Puts saved memory of `len` tokens in the place of what is there. The bytes must be exactly those that were saved: of
    /// that only their shape is checked. On failure memory is empty.
    fn restore(&mut self, state: &[u8], len: usize) -> Result<()>;
    /// Whether restored memory can be cut: otherwise it is of use only as a whole.
    fn restores_parts(&self) -> bool;
    /// Makes room for `capacity` tokens and returns how many of those in memory were kept.
    fn grow(&mut self, capacity: usize) -> Result<usize>;
    /// Whether what is in memory can be cut off again from here on, whatever more is evaluated before that.
    fn can_return(&self) -> bool;
    /// Forgets all but the first `len` tokens and returns how many were really kept: fewer where memory cannot be cut.
    fn truncate(&mut self, len: usize) -> usize;
    /// Evaluates tokens after those in memory; on failure memory is as it was or empty.
    fn decode(&mut self, tokens: &[Token], logits: Logits) -> Result<()>;
    /// The logits after one of the tokens of the last decode, of those that were to get some, the first being row 0; one number
    /// a token of the vocabulary.
    fn logits(&self, row: usize) -> &[f32];
}

/// Chooses the tokens of one answer.
pub trait Sampler {
    /// Lets the penalties see the end of the prompt.
    fn see(&mut self, prompt: &[Token]);
    /// A token that was not chosen here: it is remembered as if it had been.
    fn take(&mut self, token: Token) -> Token;
    /// The next token. `logits`: one number a token of the vocabulary. The choice is remembered.
    fn pick(&mut self, logits: &[f32]) -> Result<Token>;
}
