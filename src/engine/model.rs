//! 2 — the trait of a language model, independent of llama.cpp; llama.rs implements it. Next: cache.rs.

use std::ops::{ControlFlow, Range};

use anyhow::Result;

use super::token::{Token, Vocabulary};
use crate::chat::settings::Sampling;

/// Returns whether to cancel. Called often, from any thread.
pub type Cancel<'a> = &'a (dyn Fn() -> bool + Sync);

/// A token to evaluate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// The sequence that it extends, counted from 0.
    pub sequence: usize,
    /// How many sequences after that one it extends too: branches that share it.
    pub also: usize,
    /// The number of tokens of each of them before it.
    pub position: usize,
    pub token: Token,
    /// Whether to compute the logits after it.
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
    /// Rows for consecutive tokens of a sequence, starting at `position`.
    pub fn run(sequence: usize, position: usize, tokens: &[Token], logits: Logits) -> Vec<Row> {
        let wanted = |i| match logits {
            Logits::None => false,
            Logits::Last => i + 1 == tokens.len(),
            Logits::All => true,
        };
        let row = |(i, token): (usize, &Token)| Row {
            sequence,
            also: 0,
            position: position + i,
            token: *token,
            logits: wanted(i),
        };
        tokens.iter().enumerate().map(row).collect()
    }

    /// All sequences that it extends.
    pub fn sequences(&self) -> Range<usize> {
        self.sequence..self.sequence + 1 + self.also
    }
}

/// How a sequence returns to an earlier state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemoryKind {
    /// It is truncated.
    Attention,
    /// Attention is truncated, recurrence needs a checkpoint: so it returns to a checkpoint while memory still
    /// holds the tokens before it.
    Hybrid,
    /// It needs a checkpoint, which is all of its memory.
    Recurrent,
}

/// The interface that the engine requires of a language model. Its memory holds one or more independent
/// sequences of tokens; each can be appended to and truncated. A `sequence` argument is below
/// [`Model::sequences`]. Beyond them, branches may grow out of a sequence: they share its tokens in memory, and
/// perhaps some of their own.
pub trait Model {
    /// Tokenises text and adds nothing. `special`: also recognises control tokens in it.
    fn tokenize(&self, text: &str, special: bool) -> Vec<Token>;
    /// The bytes of a token; none for a control token unless `special`.
    fn piece(&self, token: Token, special: bool) -> Vec<u8>;
    /// Whether this token ends the model's answer.
    fn ends(&self, token: Token) -> bool;
    fn vocabulary(&self) -> &Vocabulary;
    /// A new sampler for one answer.
    fn sampler(&self, sampling: &Sampling, seed: u32) -> Result<Box<dyn Sampler>>;

    /// The number of sequences held in memory side by side.
    fn sequences(&self) -> usize;
    /// The maximum number of branches; 0: memory of this kind has none.
    fn branches(&self) -> usize;
    /// The maximum number of rows with logits in a [`Model::decode`].
    fn rows(&self) -> usize;
    /// Provides for batches with `rows` rows with logits and for `branches`, as far as there is memory and the
    /// batch size allows it. A sequence that could not be preserved is empty afterwards.
    fn widen(&mut self, rows: usize, branches: usize) -> Result<()>;
    /// Lets `count` branches, numbered from [`Model::sequences`] on, begin with the tokens of `sequence`; all
    /// earlier ones are forgotten. Only rows of [`Model::decode`] can extend them.
    fn branch(&mut self, sequence: usize, count: usize);
    /// The number of tokens of a sequence in memory.
    fn len(&self, sequence: usize) -> usize;
    /// The current capacity of each sequence, in tokens.
    fn capacity(&self) -> usize;
    /// The maximum capacity of each sequence, in tokens.
    fn limit(&self) -> usize;
    /// The maximum number of rows in a [`Model::decode`].
    fn batch_size(&self) -> usize;
    /// About how many equal parts of a batch it can be cancelled between; 1: not in the middle of a batch.
    fn interruptible_parts(&self) -> usize;
    /// Whether a GPU evaluates some of it: its first batch also loads kernels, and small batches take as long as
    /// larger ones.
    fn on_gpu(&self) -> bool {
        false
    }
    /// Whether a batch first copies weights from main memory to a GPU: then it takes about as long whatever its size.
    fn copies_weights(&self) -> bool {
        false
    }
    /// The number of bytes that [`Model::save`] would return now.
    fn state_bytes(&self, sequence: usize) -> usize;
    /// The state of a sequence as bytes, which only an identical model can restore, into any sequence.
    fn save(&self, sequence: usize) -> Result<Vec<u8>>;
    /// Replaces a sequence's memory with a saved state of `len` tokens. The bytes must be exactly those that
    /// were saved: only their structure is checked. On failure the sequence is empty.
    fn restore(&mut self, sequence: usize, state: &[u8], len: usize) -> Result<()>;
    /// Whether restored memory can be truncated; otherwise a saved state is usable only as a whole.
    fn restores_parts(&self) -> bool;
    fn memory_kind(&self) -> MemoryKind;
    /// The part of a sequence's state that cannot be truncated, as bytes for [`Model::go_back`].
    fn checkpoint(&self, sequence: usize) -> Result<Vec<u8>>;
    /// Returns to a checkpoint made after `len` tokens. Unless the memory is recurrent, these must be its first
    /// tokens now. The bytes must be exactly those of the checkpoint. On failure the sequence is empty.
    fn go_back(&mut self, sequence: usize, checkpoint: &[u8], len: usize) -> Result<()>;
    /// Grows each sequence's capacity to `capacity` tokens. A sequence that could not be preserved is empty
    /// afterwards; on failure, capacity and sequences stay as they are where that is possible.
    fn grow(&mut self, capacity: usize) -> Result<()>;
    /// Whether the fastest memory has room for such a capacity, and main memory for the copies that growing makes;
    /// beyond it, growing uses slower memory, copies nothing, or fails.
    fn has_room(&self, _capacity: usize) -> bool {
        true
    }
    /// What the user should know of the growth so far, one line each, told once.
    fn notices(&mut self) -> Vec<String> {
        Vec::new()
    }
    /// Whether a sequence can be truncated to its present length later, whatever is appended until then.
    fn can_return(&self, sequence: usize) -> bool;
    /// Truncates a sequence to `len` tokens and returns how many remain: fewer if its memory cannot be
    /// truncated.
    fn truncate(&mut self, sequence: usize, len: usize) -> usize;
    /// Evaluates a batch: rows of one or several sequences in any order, those of each sequence consecutive
    /// in position and starting right after its tokens in memory. Branches may share their beginning, never what
    /// follows after they parted. `Break`: it was cancelled. Then, and on
    /// failure, each of its sequences is unchanged, or empty if it cannot return to that; so a batch with
    /// such a sequence cannot be cancelled once it has started, where returning would cost too much.
    fn decode(&mut self, batch: &[Row], cancel: Cancel) -> Result<ControlFlow<()>>;
    /// The logits of a row of the last evaluated batch: one number per vocabulary token. Counts only the rows
    /// that requested logits, from 0.
    fn logits(&self, row: usize) -> &[f32];

    /// Appends tokens to a sequence; cannot be cancelled.
    fn append(&mut self, sequence: usize, tokens: &[Token], logits: Logits) -> Result<()> {
        self.decode(&Row::run(sequence, self.len(sequence), tokens, logits), &|| false).map(|_whole| ())
    }
}

/// Chooses the tokens of one answer.
pub trait Sampler {
    /// Shows the end of the prompt to the penalties.
    fn see(&mut self, prompt: &[Token]);
    /// Records a token chosen elsewhere as if it had been chosen here.
    fn take(&mut self, token: Token) -> Token;
    /// Chooses and records the next token. `logits`: one number per vocabulary token.
    fn pick(&mut self, logits: &[f32]) -> Result<Token>;
    /// The same as if the vocabulary had only these tokens, which ascend.
    fn pick_among(&mut self, logits: &[f32], allowed: &[Token]) -> Result<Token>;
    /// The tokens among which the last pick was drawn, with their logits after the whole chain.
    fn left(&self) -> Vec<(Token, f32)>;
}
