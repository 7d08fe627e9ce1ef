//! A cached prompt and the prompt of a request → how many tokens the first spares the second.

use crate::engine::token::Token;

/// What the model can do with a saved state.
#[derive(Debug, Clone, Copy)]
pub struct Uses {
    /// Truncate it.
    pub parts: bool,
    /// Hold this many tokens.
    pub limit: usize,
}

#[derive(Default)]
pub(super) struct CachedPrompt {
    pub tokens: Vec<Token>,
    /// The numbers of tokens after which it has a checkpoint.
    pub checkpoints: Vec<usize>,
    pub conversations: Vec<String>,
    pub bytes: u64,
    pub secs_per_token: f64,
}

impl CachedPrompt {
    /// The number of tokens of `prompt` that this spares; always leaves one to evaluate for its logits.
    pub(super) fn serves(&self, prompt: &[Token], uses: Uses) -> usize {
        let same = common(&self.tokens, prompt).min(prompt.len().saturating_sub(1));
        if self.tokens.len() <= uses.limit { self.usable(same, uses.parts) } else { 0 }
    }

    /// How many of its first `same` tokens it can restore. `parts`: its memory can be truncated.
    pub(super) fn usable(&self, same: usize, parts: bool) -> usize {
        if parts || same == self.tokens.len() {
            return same;
        }
        self.checkpoints.iter().copied().filter(|tokens| *tokens <= same).max().unwrap_or(0)
    }
}

pub(crate) fn common(a: &[Token], b: &[Token]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}
