//! 2 — the trait of a language model, independent of llama.cpp; llama.rs implements it. Next: cache.rs.

use std::ops::ControlFlow;

use anyhow::Result;

use super::token::{Token, Vocabulary};
use crate::chat::settings::Sampling;

/// Says whether what is being done is not wanted any more. Asked often, by any thread.
pub type Cancel<'a> = &'a (dyn Fn() -> bool + Sync);

/// A token to be evaluated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// The sequence that it continues, from 0 on.
    pub sequence: usize,
    /// Tokens of that sequence before it.
    pub position: usize,
    pub token: Token,
    /// Whether there will be logits after it.
    pub logits: bool,
}

/// Which of several tokens get logits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Logits {
    None,
    Last,
    All,
}

impl Row {
    /// The rows of tokens that follow each other in a sequence, from `position` on.
    pub fn run(sequence: usize, position: usize, tokens: &[Token], logits: Logits) -> Vec<Row> {
        let wanted = |i| match logits {
            Logits::None => false,
            Logits::Last => i + 1 == tokens.len(),
            Logits::All => true,
        };
        let row = |(i, token): (usize, &Token)| Row {
            sequence,
            position: position + i,
            token: *token,
            logits: wanted(i),
        };
        tokens.iter().enumerate().map(row).collect()
    }
}

/// What the engine needs of a language model. Memory holds one or more sequences of tokens, apart from each other; each is
/// appended to and cut at its end. Whoever names a sequence names one below [`Model::sequences`].
pub trait Model {
    /// Text to ids, nothing added. `special`: control tokens written in the text become such.
    fn tokenize(&self, text: &str, special: bool) -> Vec<Token>;
    /// The bytes a token stands for; none for a control token unless `special`.
    fn piece(&self, token: Token, special: bool) -> Vec<u8>;
    /// Whether the model says with this token that its answer is over.
    fn ends(&self, token: Token) -> bool;
    fn vocabulary(&self) -> &Vocabulary;
    /// A fresh sampler for one answer.
    fn sampler(&self, sampling: &Sampling, seed: u32) -> Result<Box<dyn Sampler>>;

    /// Sequences that memory holds side by side.
    fn sequences(&self) -> usize;
    /// Tokens of a sequence in memory.
    fn len(&self, sequence: usize) -> usize;
    /// Tokens that each sequence has room for now.
    fn capacity(&self) -> usize;
    /// Tokens that each sequence may ever have room for.
    fn limit(&self) -> usize;
    /// Most rows of one [`Model::decode`].
    fn chunk(&self) -> usize;
    /// Bytes that [`Model::save`] would give now.
    fn state_bytes(&self, sequence: usize) -> usize;
    /// What is in memory of a sequence, as bytes that are of use only to a model like this one, there for any sequence.
    fn save(&self, sequence: usize) -> Result<Vec<u8>>;
    /// Puts saved memory of `len` tokens in the place of a sequence's. The bytes must be exactly those that were saved: of that
    /// only their shape is checked. On failure the sequence is empty.
    fn restore(&mut self, sequence: usize, state: &[u8], len: usize) -> Result<()>;
    /// Whether restored memory can be cut: otherwise it is of use only as a whole.
    fn restores_parts(&self) -> bool;
    /// Makes room for `capacity` tokens in each sequence. A sequence that could not be kept is empty then, on failure all are.
    fn grow(&mut self, capacity: usize) -> Result<()>;
    /// Whether a sequence can be cut again to what it is now, whatever more of it is evaluated before that.
    fn can_return(&self, sequence: usize) -> bool;
    /// Forgets all but the first `len` tokens of a sequence and returns how many were really kept: fewer where memory cannot be
    /// cut.
    fn truncate(&mut self, sequence: usize, len: usize) -> usize;
    /// Evaluates a batch: rows of one or several sequences in any mixture, those of each sequence in order and right after what
    /// it has in memory. `Break`: it was cancelled. Then, and on failure, each of its sequences is as it was, or empty where it
    /// cannot return to that; for that reason a batch with such a sequence is not cancelled once it has begun.
    fn decode(&mut self, batch: &[Row], cancel: Cancel) -> Result<ControlFlow<()>>;
    /// The logits after a row of the last batch, which was evaluated: one number a token of the vocabulary. Of the rows that
    /// were to get some, the first is 0.
    fn logits(&self, row: usize) -> &[f32];

    /// Evaluates tokens after those of a sequence, whatever comes between.
    fn append(&mut self, sequence: usize, tokens: &[Token], logits: Logits) -> Result<()> {
        self.decode(&Row::run(sequence, self.len(sequence), tokens, logits), &|| false).map(|_whole| ())
    }
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
