//! A model for tests: bytes are tokens, its memory is a list, and its answers are scripted. No llama.cpp.

use std::ops::ControlFlow;

use anyhow::Result;

use super::model::{Cancel, MemoryKind, Model, Row, Sampler};
use super::sampler::Chain;
use super::token::{Token, Vocabulary};
use crate::chat::settings::Sampling;

const END: Token = 256;

pub(super) struct Toy {
    pub(super) vocabulary: Vocabulary,
    pub(super) limit: usize,
    /// The capacity for which there is memory.
    pub(super) room: usize,
    pub(super) batch_size: usize,
    pub keeps_when_grown: bool,
    pub on_gpu: bool,
    pub copies_weights: bool,
    /// The sizes of the decoded batches.
    pub batches: Vec<usize>,
    kind: MemoryKind,
    capacity: usize,
    /// Branches are behind the others.
    sequences: Vec<ToySequence>,
    branches: usize,
    rows: usize,
    /// Whether its logits depend on all tokens in memory, not on a script.
    pub dreams: bool,
    /// One row for each token that got logits.
    logits: Vec<Vec<f32>>,
}

#[derive(Default, Clone)]
struct ToySequence {
    memory: Vec<Token>,
    says: Vec<Token>,
    said: usize,
    /// The length of the memory before drafts were evaluated: what was said after rejected drafts counts as
    /// unsaid.
    drafted_from: Option<usize>,
}

impl ToySequence {
    fn saying(text: &str) -> ToySequence {
        let says = text.bytes().map(|byte| if byte == 0 { END } else { Token::from(byte) }).collect();
        ToySequence { says, ..ToySequence::default() }
    }

    /// The next scripted token.
    fn say(&mut self) -> Token {
        self.said += 1;
        self.says.get(self.said - 1).copied().unwrap_or(END)
    }
}

impl Toy {
    pub(super) fn new(limit: usize) -> Toy {
        Toy {
            vocabulary: Vocabulary { len: 257, ..Vocabulary::default() },
            limit,
            room: usize::MAX,
            batch_size: 16,
            keeps_when_grown: true,
            on_gpu: false,
            copies_weights: false,
            batches: Vec::new(),
            kind: MemoryKind::Attention,
            capacity: 0,
            sequences: vec![ToySequence::default()],
            branches: 0,
            rows: 16,
            dreams: false,
            logits: Vec::new(),
        }
    }

    /// A model that answers every prompt with `text`; a NUL in it ends one answer, and the next follows.
    pub(super) fn saying(text: &str) -> Toy {
        Toy::saying_each(&[text])
    }

    /// The same with one sequence for each text.
    pub(super) fn saying_each(texts: &[&str]) -> Toy {
        Toy { sequences: texts.iter().map(|text| ToySequence::saying(text)).collect(), ..Toy::new(8192) }
    }

    /// Memory like a recurrent model's: it can only be cleared as a whole.
    pub(super) fn uncuttable(self) -> Toy {
        Toy { kind: MemoryKind::Recurrent, ..self }
    }

    pub(super) fn hybrid(self) -> Toy {
        Toy { kind: MemoryKind::Hybrid, ..self }
    }

    fn cuttable(&self) -> bool {
        self.kind == MemoryKind::Attention
    }

    pub(super) fn memory(&self, sequence: usize) -> &[Token] {
        &self.sequences[sequence].memory
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

    fn sequences(&self) -> usize {
        self.sequences.len() - self.branches
    }

    fn branches(&self) -> usize {
        self.branches
    }

    fn rows(&self) -> usize {
        self.rows
    }

    fn widen(&mut self, rows: usize, branches: usize) -> Result<()> {
        self.rows = rows.min(self.batch_size).max(self.rows);
        if self.cuttable() && branches > self.branches {
            self.sequences.resize(self.sequences() + branches, ToySequence::default());
            self.branches = branches;
        }
        Ok(())
    }

    fn branch(&mut self, sequence: usize, count: usize) {
        let (first, memory) = (self.sequences(), self.memory(sequence).to_vec());
        for (number, branch) in self.sequences[first..].iter_mut().enumerate() {
            let memory = if number < count { memory.clone() } else { Vec::new() };
            *branch = ToySequence { memory, ..ToySequence::default() };
        }
    }

    fn len(&self, sequence: usize) -> usize {
        self.memory(sequence).len()
    }

    fn capacity(&self) -> usize {
        self.capacity
    }

    fn limit(&self) -> usize {
        self.limit
    }

    fn batch_size(&self) -> usize {
        self.batch_size
    }

    fn interruptible_parts(&self) -> usize {
        1
    }

    fn on_gpu(&self) -> bool {
        self.on_gpu
    }

    fn copies_weights(&self) -> bool {
        self.copies_weights
    }

    fn state_bytes(&self, sequence: usize) -> usize {
        self.len(sequence) * 4
    }

    fn save(&self, sequence: usize) -> Result<Vec<u8>> {
        Ok(self.memory(sequence).iter().flat_map(|token| token.to_le_bytes()).collect())
    }

    fn restore(&mut self, sequence: usize, state: &[u8], len: usize) -> Result<()> {
        let memory = &mut self.sequences[sequence].memory;
        memory.clear();
        anyhow::ensure!(state.len() == len * 4 && len <= self.capacity, "the state does not fit");
        let token = |bytes: &[u8]| Token::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        memory.extend(state.chunks(4).map(token));
        Ok(())
    }

    fn restores_parts(&self) -> bool {
        self.cuttable()
    }

    fn memory_kind(&self) -> MemoryKind {
        self.kind
    }

    /// Of a hybrid, only a sum of the tokens.
    fn checkpoint(&self, sequence: usize) -> Result<Vec<u8>> {
        match self.kind {
            MemoryKind::Hybrid => Ok(sum_of(self.memory(sequence))),
            _ => self.save(sequence),
        }
    }

    fn go_back(&mut self, sequence: usize, checkpoint: &[u8], len: usize) -> Result<()> {
        if self.kind == MemoryKind::Recurrent {
            return self.restore(sequence, checkpoint, len);
        }
        let memory = &mut self.sequences[sequence].memory;
        assert!(len <= memory.len(), "the tokens before the checkpoint are not in memory");
        memory.truncate(len);
        assert_eq!(sum_of(memory), checkpoint, "the checkpoint belongs to other tokens");
        Ok(())
    }

    fn grow(&mut self, capacity: usize) -> Result<()> {
        anyhow::ensure!(capacity <= self.room, "there is no memory");
        self.capacity = capacity;
        if !self.keeps_when_grown {
            self.sequences.iter_mut().for_each(|sequence| sequence.memory.clear());
        }
        Ok(())
    }

    fn can_return(&self, _sequence: usize) -> bool {
        self.cuttable()
    }

    fn truncate(&mut self, sequence: usize, len: usize) -> usize {
        let cuttable = self.cuttable();
        let ToySequence { memory, said, drafted_from, .. } = &mut self.sequences[sequence];
        if drafted_from.take().is_some_and(|from| len >= from) {
            *said -= memory.len() - len;
        }
        if len < memory.len() {
            memory.truncate(if cuttable { len } else { 0 });
        }
        memory.len()
    }

    /// Checks for cancellation before each row.
    fn decode(&mut self, batch: &[Row], cancel: Cancel) -> Result<ControlFlow<()>> {
        assert!(batch.len() <= self.batch_size(), "a batch is larger than the batch size");
        if self.cuttable() && batch.iter().any(|_| cancel()) {
            return Ok(ControlFlow::Break(()));
        }
        self.batches.push(batch.len());
        self.logits.clear();
        self.sequences.iter_mut().for_each(|sequence| sequence.drafted_from = None);
        assert!(batch.iter().filter(|row| row.logits).count() <= self.rows, "too many rows with logits");
        for row in batch {
            assert!(row.position < self.capacity, "a row exceeds the capacity");
            for number in row.sequences() {
                let sequence = &mut self.sequences[number];
                assert_eq!(row.position, sequence.memory.len(), "a row does not follow the tokens in memory");
                sequence.memory.push(row.token);
            }
            if row.logits {
                let sequence = &mut self.sequences[row.sequence];
                if self.dreams {
                    self.logits.push(dreamt(&sequence.memory));
                    continue;
                }
                sequence.drafted_from.get_or_insert(row.position);
                self.logits.push(logits_of(sequence.say()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn logits(&self, row: usize) -> &[f32] {
        &self.logits[row]
    }
}

/// Depends on every token and its place.
fn sum_of(memory: &[Token]) -> Vec<u8> {
    memory
        .iter()
        .fold(0u64, |sum, token| sum.wrapping_mul(31).wrapping_add(*token as u64))
        .to_le_bytes()
        .into()
}

/// Logits that are others after any other memory.
pub(super) fn dreamt(memory: &[Token]) -> Vec<f32> {
    let seed = u64::from_le_bytes(sum_of(memory).try_into().expect("it has eight bytes"));
    let noise = |token: u64| (seed ^ token).wrapping_mul(6364136223846793005) >> 40;
    (0..257).map(|token| noise(token) as f32 / (1 << 22) as f32).collect()
}

/// Logits with `best` as the highest.
fn logits_of(best: Token) -> Vec<f32> {
    let mut logits = vec![0.0; 257];
    logits[best as usize] = 10.0;
    logits
}
