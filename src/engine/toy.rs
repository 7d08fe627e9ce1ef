//! A model for tests: bytes are tokens, memory is a list, and the answer is decided beforehand. No llama.cpp.

use anyhow::Result;

use super::model::{Logits, Model, Sampler};
use super::sampler::Chain;
use super::token::{Token, Vocabulary};
use crate::chat::settings::Sampling;

const END: Token = 256;

pub(super) struct Toy {
    pub(super) vocabulary: Vocabulary,
    pub(super) limit: usize,
    pub(super) chunk: usize,
    pub keeps_when_grown: bool,
    /// Sizes of the batches decoded.
    pub batches: Vec<usize>,
    cuttable: bool,
    memory: Vec<Token>,
    capacity: usize,
    says: Vec<Token>,
    /// A row for each token that got logits.
    logits: Vec<Vec<f32>>,
    said: usize,
    /// The length of memory before draft tokens were evaluated: what was said after those that are cut off was not said.
    draft_from: Option<usize>,
}

impl Toy {
    pub(super) fn new(limit: usize) -> Toy {
        Toy {
            vocabulary: Vocabulary { len: 257, ..Vocabulary::default() },
            limit,
            chunk: 16,
            keeps_when_grown: true,
            batches: Vec::new(),
            cuttable: true,
            memory: Vec::new(),
            capacity: 0,
            says: Vec::new(),
            logits: Vec::new(),
            said: 0,
            draft_from: None,
        }
    }

    /// A model that answers `text` to whatever it is asked; a NUL in it ends one answer, and the next follows.
    pub(super) fn saying(text: &str) -> Toy {
        let says = text.bytes().map(|byte| if byte == 0 { END } else { Token::from(byte) }).collect();
        Toy { says, ..Toy::new(8192) }
    }

    /// Memory like a recurrent model's: nothing of it can be forgotten but all.
    pub(super) fn uncuttable(mut self) -> Toy {
        self.cuttable = false;
        self
    }

    pub(super) fn memory(&self) -> &[Token] {
        &self.memory
    }
}

impl Model for Toy {
    fn tokenize(&self, text: &str, _special: bool) -> Vec<Token> {
        text.bytes().map(Token::from).collect()
    }

    fn piece(&self, token: Token, _special: bool) -> Vec<u8> {
        u8::try_from(token).map(|b| vec![b]).unwrap_or_default()
    }

    fn ends(&self, token: Token) -> bool {
        token == END
    }

    fn vocabulary(&self) -> &Vocabulary {
        &self.vocabulary
    }

    fn sampler(&self, sampling: &Sampling, seed: u32) -> Result<Box<dyn Sampler>> {
        Ok(Box::new(Chain::for_logits(sampling, seed, self.vocabulary.len)))
    }

    fn len(&self) -> usize {
        self.memory.len()
    }

    fn capacity(&self) -> usize {
        self.capacity
    }

    fn limit(&self) -> usize {
        self.limit
    }

    fn chunk(&self) -> usize {
        self.chunk
    }

    fn state_bytes(&self) -> usize {
        self.memory.len() * 4
    }

    fn save(&self) -> Result<Vec<u8>> {
        Ok(self.memory.iter().flat_map(|token| token.to_le_bytes()).collect())
    }

    fn restore(&mut self, state: &[u8], len: usize) -> Result<()> {
        self.memory.clear();
        anyhow::ensure!(state.len() == len * 4 && len <= self.capacity, "the state does not fit");
        let token = |bytes: &[u8]| Token::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        self.memory.extend(state.chunks(4).map(token));
        Ok(())
    }

    fn restores_parts(&self) -> bool {
        self.cuttable
    }

    fn grow(&mut self, capacity: usize) -> Result<usize> {
        self.capacity = capacity;
        if !self.keeps_when_grown {
            self.memory.clear();
        }
        Ok(self.memory.len())
    }

    fn can_return(&self) -> bool {
        self.cuttable
    }

    fn truncate(&mut self, len: usize) -> usize {
        if self.draft_from.take().is_some_and(|from| len >= from) {
            self.said -= self.memory.len() - len;
        }
        if len < self.memory.len() {
            self.memory.truncate(if self.cuttable { len } else { 0 });
        }
        self.memory.len()
    }

    fn decode(&mut self, tokens: &[Token], logits: Logits) -> Result<()> {
        assert!(tokens.len() <= self.chunk(), "a batch is larger than the chunk");
        assert!(self.memory.len() + tokens.len() <= self.capacity, "more than there is room for");
        self.draft_from = (logits == Logits::All).then_some(self.memory.len());
        self.memory.extend_from_slice(tokens);
        self.batches.push(tokens.len());
        let rows = match logits {
            Logits::None => 0,
            Logits::Last => 1,
            Logits::All => tokens.len(),
        };
        let next = self.said..self.said + rows;
        self.logits = next.map(|at| row(self.says.get(at).copied().unwrap_or(END))).collect();
        self.said += rows;
        Ok(())
    }

    fn logits(&self, row: usize) -> &[f32] {
        &self.logits[row]
    }
}

/// Logits of which one is the best.
fn row(best: Token) -> Vec<f32> {
    let mut logits = vec![0.0; 257];
    logits[best as usize] = 10.0;
    logits
}
