//! A model without weights: a vocabulary, and logits that its last tokens choose among some random ones.

use std::ops::ControlFlow;

use fireside::chat::settings::Sampling;
use fireside::engine::llama::Llama;
use fireside::engine::model::{Cancel, MemoryKind, Model, Row, Sampler};
use fireside::engine::token::{Token, Vocabulary};

use super::engine::Chance;

const LIMIT: usize = 4096;
/// How many different logits there are.
const ROWS: usize = 8;

pub struct Guesser<'w> {
    words: Llama<'w>,
    memory: Vec<Token>,
    rows: Vec<Vec<f32>>,
    /// Those of the last batch.
    last: Vec<usize>,
}

impl<'w> Guesser<'w> {
    /// `words` need not have weights.
    pub fn new(words: Llama<'w>) -> Guesser<'w> {
        let (len, mut chance) = (words.vocabulary().len, Chance(1));
        let row = |_| (0..len).map(|_| chance.below(1600) as f32 / 100.0 - 8.0).collect();
        Guesser { words, memory: Vec::new(), rows: (0..ROWS).map(row).collect(), last: Vec::new() }
    }
}

impl Model for Guesser<'_> {
    fn tokenize(&self, text: &str, special: bool) -> Vec<Token> {
        self.words.tokenize(text, special)
    }

    fn piece(&self, token: Token, special: bool) -> Vec<u8> {
        self.words.piece(token, special)
    }

    fn ends(&self, token: Token) -> bool {
        self.words.ends(token)
    }

    fn vocabulary(&self) -> &Vocabulary {
        self.words.vocabulary()
    }

    fn sampler(&self, sampling: &Sampling, seed: u32) -> anyhow::Result<Box<dyn Sampler>> {
        self.words.sampler(sampling, seed)
    }

    fn sequences(&self) -> usize {
        1
    }

    fn branches(&self) -> usize {
        0
    }

    fn rows(&self) -> usize {
        512
    }

    fn widen(&mut self, _: usize, _: usize) -> anyhow::Result<()> {
        Ok(())
    }

    fn branch(&mut self, _: usize, _: usize) {
        unreachable!("it has none")
    }

    fn len(&self, _: usize) -> usize {
        self.memory.len()
    }

    fn capacity(&self) -> usize {
        LIMIT
    }

    fn limit(&self) -> usize {
        LIMIT
    }

    fn batch_size(&self) -> usize {
        512
    }

    fn interruptible_parts(&self) -> usize {
        1
    }

    fn state_bytes(&self, _: usize) -> usize {
        0
    }

    fn save(&self, _: usize) -> anyhow::Result<Vec<u8>> {
        anyhow::bail!("it has no state")
    }

    fn restore(&mut self, _: usize, _: &[u8], _: usize) -> anyhow::Result<()> {
        anyhow::bail!("it has no state")
    }

    fn restores_parts(&self) -> bool {
        false
    }

    fn memory_kind(&self) -> MemoryKind {
        MemoryKind::Attention
    }

    fn checkpoint(&self, _: usize) -> anyhow::Result<Vec<u8>> {
        anyhow::bail!("it has no state")
    }

    fn go_back(&mut self, _: usize, _: &[u8], _: usize) -> anyhow::Result<()> {
        anyhow::bail!("it has no state")
    }

    fn grow(&mut self, _: usize) -> anyhow::Result<()> {
        Ok(())
    }

    fn can_return(&self, _: usize) -> bool {
        true
    }

    fn truncate(&mut self, _: usize, len: usize) -> usize {
        self.memory.truncate(len);
        self.memory.len()
    }

    fn decode(&mut self, batch: &[Row], _: Cancel) -> anyhow::Result<ControlFlow<()>> {
        self.last.clear();
        for row in batch {
            assert_eq!(row.position, self.memory.len());
            self.memory.push(row.token);
            if row.logits {
                let seen = self.memory.iter().rev().take(3).fold(0, |all, token| all * 31 + *token as usize);
                self.last.push(seen % ROWS);
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn logits(&self, row: usize) -> &[f32] {
        &self.rows[self.last[row]]
    }
}
