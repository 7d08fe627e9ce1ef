//! 3 — the KV cache: which tokens are in memory, what is reused, what needs prefill, when the context grows.
//!
//! It mirrors the tokens in the model's memory. Every turn brings a complete prompt, of which only the tokens
//! after the longest common prefix are evaluated. Next: prompt_cache.rs.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::checkpoints::{Checkpoint, Checkpoints};
use super::model::{Cancel, Logits, MemoryKind, Model, Row};
use super::token::Token;

/// The smallest context in tokens; larger ones are multiples of `STEP`.
const FIRST_CAPACITY: usize = 512;
const STEP: usize = 256; // llama.cpp would round up to it
/// The room for the answer in a new context: at least this many tokens, and at least one per `ANSWER_SHARE`
/// of the prompt.
const ANSWER_ROOM: usize = 128;
const ANSWER_SHARE: usize = 4;

/// The tokens of one sequence in a model's memory, in order.
#[derive(Debug, Default)]
pub struct Cache {
    /// The number of the sequence in the model.
    sequence: usize,
    tokens: Vec<Token>,
    /// Earlier states of a model whose memory cannot be truncated.
    checkpoints: Checkpoints,
}

/// A memory as it was after some tokens.
#[derive(Debug, PartialEq, Eq)]
pub struct SavedMemory {
    pub tokens: Vec<Token>,
    /// For [`Model::restore`].
    pub state: Vec<u8>,
    /// The shortest first.
    pub checkpoints: Vec<Checkpoint>,
}

impl Cache {
    /// The cache of an empty sequence.
    pub fn of(sequence: usize) -> Cache {
        Cache { sequence, ..Cache::default() }
    }

    pub fn tokens(&self) -> &[Token] {
        &self.tokens
    }

    /// The number of the sequence in the model.
    pub fn sequence(&self) -> usize {
        self.sequence
    }

    /// Keeps the prefix shared with `prompt` and makes room for the rest; returns the number of tokens kept.
    pub fn reuse(&mut self, model: &mut impl Model, prompt: &[Token]) -> Result<usize> {
        self.cut(model, prompt);
        self.make_room(model, prompt.len(), with_answer(prompt.len()))?;
        Ok(self.tokens.len())
    }

    /// Whether the sequence can later be truncated to its present length.
    pub fn can_return(&self, model: &impl Model) -> bool {
        model.can_return(self.sequence)
    }

    /// Clears the sequence.
    pub fn clear(&mut self, model: &mut impl Model) {
        model.truncate(self.sequence, 0);
        self.tokens.clear();
    }

    /// Keeps what the memory has of `prompt`, but for its last token; returns the number of tokens kept.
    pub fn cut(&mut self, model: &mut impl Model, prompt: &[Token]) -> usize {
        self.keep(model, but_last(prompt))
    }

    /// Truncates to the prefix shared with `tokens`, or goes back to the longest checkpoint in it; returns the
    /// number of tokens kept.
    pub fn keep(&mut self, model: &mut impl Model, tokens: &[Token]) -> usize {
        let (kept, checkpoint) = self.keepable(model, tokens);
        let kept = match checkpoint {
            Some(Checkpoint { state, .. }) if model.go_back(self.sequence, state, kept).is_err() => 0,
            Some(_) => kept,
            None => model.truncate(self.sequence, kept),
        };
        self.tokens.clear();
        self.tokens.extend_from_slice(&tokens[..kept]);
        kept
    }

    /// The number of tokens that [`Cache::cut`] would keep.
    pub fn kept(&self, model: &impl Model, prompt: &[Token]) -> usize {
        self.keepable(model, but_last(prompt)).0
    }

    /// How many of these tokens can be kept, and the checkpoint to which the memory has to return for that.
    fn keepable(&self, model: &impl Model, tokens: &[Token]) -> (usize, Option<&Checkpoint>) {
        let same = self.tokens.iter().zip(tokens).take_while(|(a, b)| a == b).count();
        let reach = match model.memory_kind() {
            MemoryKind::Attention => return (same, None),
            MemoryKind::Hybrid => same,
            MemoryKind::Recurrent => tokens.len(),
        };
        let kept = if same == self.tokens.len() { same } else { 0 };
        match self.checkpoints.best(tokens, reach) {
            Some(best) if best.tokens.len() > kept => (best.tokens.len(), Some(best)),
            _ => (kept, None),
        }
    }

    /// Makes a checkpoint of the present state if the model's memory cannot be truncated.
    pub fn mark(&mut self, model: &impl Model) {
        let kind = model.memory_kind();
        if kind != MemoryKind::Attention
            && self.checkpoints.wants(&self.tokens)
            && let Ok(state) = model.checkpoint(self.sequence)
        {
            self.checkpoints.add(kind, Checkpoint { tokens: self.tokens.clone(), state });
        }
    }

    /// The checkpoints of what is in memory, the shortest first.
    pub fn checkpoints(&self) -> Vec<&Checkpoint> {
        self.checkpoints.within(&self.tokens)
    }

    /// Replaces the memory with a saved one, with room for `wanted` tokens. Returns how long that took the model;
    /// `None`: it rejected the state, and its memory is empty.
    pub fn restore(
        &mut self,
        model: &mut impl Model,
        saved: SavedMemory,
        wanted: usize,
    ) -> Result<Option<Duration>> {
        let SavedMemory { tokens, state, checkpoints } = saved;
        self.clear(model);
        self.make_room(model, tokens.len(), with_answer(wanted.max(tokens.len())))?;
        let started = Instant::now();
        let taken = model.restore(self.sequence, &state, tokens.len()).is_ok();
        if taken {
            self.tokens = tokens;
            for checkpoint in checkpoints {
                if self.checkpoints.wants(&checkpoint.tokens) {
                    self.checkpoints.add(model.memory_kind(), checkpoint);
                }
            }
        }
        Ok(taken.then(|| started.elapsed()))
    }

    /// Evaluates the rest of `prompt`, in chunks that end at absolute multiples of the model's chunk, so that
    /// equal prompts are split equally. Reports the number of tokens in memory to `progress` before and after
    /// each chunk. `Break`: it was cancelled. The last token gets logits.
    pub fn read(
        &mut self,
        model: &mut impl Model,
        prompt: &[Token],
        cancel: Cancel,
        progress: &mut dyn FnMut(usize),
    ) -> Result<ControlFlow<()>> {
        loop {
            let start = self.tokens.len();
            progress(start);
            if cancel() {
                return Ok(ControlFlow::Break(()));
            }
            if start >= prompt.len() {
                return Ok(ControlFlow::Continue(()));
            }
            let end = ((start / model.batch_size() + 1) * model.batch_size()).min(prompt.len());
            let logits = if end == prompt.len() { Logits::Last } else { Logits::None };
            if self.append(model, &prompt[start..end], logits, cancel)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
    }

    /// Makes room for `needed` tokens; what that loses is evaluated when it is needed.
    pub fn reserve(&mut self, model: &mut impl Model, needed: usize) -> Result<()> {
        self.make_room(model, needed, needed).map(|_left| ())
    }

    /// Provides for batches with so many rows with logits, and for branches; what that loses is evaluated when it
    /// is needed.
    pub fn widen(&mut self, model: &mut impl Model, rows: usize, branches: usize) -> Result<()> {
        let widened = model.widen(rows, branches);
        self.tokens.truncate(model.len(self.sequence));
        widened
    }

    /// Truncates to `len` tokens, or goes back to a checkpoint before that and evaluates the rest.
    pub fn return_to(&mut self, model: &mut impl Model, len: usize) -> Result<()> {
        if len < self.tokens.len() {
            let tokens = self.tokens[..len].to_vec();
            self.keep(model, &tokens);
            self.read(model, &tokens, &|| false, &mut |_| {}).map(|_whole| ())?;
        }
        Ok(())
    }

    /// Truncates to `len` tokens. If the model drops more than that, the difference is evaluated again.
    pub fn truncate_to(&mut self, model: &mut impl Model, len: usize) -> Result<()> {
        let kept = model.truncate(self.sequence, len);
        let lost = self.tokens[kept..len].to_vec();
        self.tokens.truncate(kept);
        let mut chunks = lost.chunks(model.batch_size());
        chunks.try_for_each(|chunk| self.append(model, chunk, Logits::None, &|| false).map(|_whole| ()))
    }

    fn append(
        &mut self,
        model: &mut impl Model,
        tokens: &[Token],
        logits: Logits,
        cancel: Cancel,
    ) -> Result<ControlFlow<()>> {
        let done = model.decode(&Row::run(self.sequence, self.tokens.len(), tokens, logits), cancel);
        match done {
            Ok(ControlFlow::Continue(())) => self.tokens.extend_from_slice(tokens),
            _ => self.tokens.truncate(model.len(self.sequence)),
        }
        done
    }

    /// Grows the model's memory to hold `needed` tokens; `wanted` if there is room, and at least double if it is
    /// not empty, because growing copies the contents. Returns the number of tokens still in memory.
    fn make_room(&mut self, model: &mut impl Model, needed: usize, wanted: usize) -> Result<usize> {
        if needed > model.capacity() {
            let twice = if self.tokens.is_empty() { 0 } else { 2 * model.capacity() };
            let [best, least] = [wanted.max(twice), needed].map(|tokens| capacity_for(tokens, model.limit()));
            let most = if model.has_room(best) { best } else { least };
            let grown = model.grow(most).or_else(|_| model.grow(least)); // memory may suffice for that
            self.tokens.truncate(model.len(self.sequence));
            grown?;
        }
        Ok(self.tokens.len())
    }
}

/// Evaluates tokens of several sequences as one batch and requests logits for all of them, in this order. The
/// caller has checked that they fit; if memory must grow, each part is a single token. `Break`: it was
/// cancelled, and none of them is in memory.
pub fn append(
    model: &mut impl Model,
    parts: &mut [(&mut Cache, &[Token])],
    cancel: Cancel,
) -> Result<ControlFlow<()>> {
    let needed = parts.iter().map(|(cache, _)| cache.tokens.len() + 1).max().unwrap_or(0);
    if needed > model.capacity() {
        let before: Vec<Vec<Token>> = parts.iter().map(|(cache, _)| cache.tokens.clone()).collect();
        for (cache, _) in &mut *parts {
            cache.make_room(model, needed, needed)?;
        }
        for ((cache, _), before) in parts.iter_mut().zip(&before) {
            cache.tokens.truncate(model.len(cache.sequence));
            if cache.tokens.len() < before.len() && cache.read(model, before, cancel, &mut |_| {})?.is_break()
            {
                return Ok(ControlFlow::Break(()));
            }
        }
    }
    let rows = |(cache, tokens): &(&mut Cache, &[Token])| {
        Row::run(cache.sequence, cache.tokens.len(), tokens, Logits::All)
    };
    let batch: Vec<Row> = parts.iter().flat_map(rows).collect();
    let done = model.decode(&batch, cancel);
    for (cache, tokens) in parts {
        match done {
            Ok(ControlFlow::Continue(())) => cache.tokens.extend_from_slice(tokens),
            _ => cache.tokens.truncate(model.len(cache.sequence)),
        }
    }
    done
}

/// The size of a context for `tokens`, at most `limit`.
pub fn capacity_for(tokens: usize, limit: usize) -> usize {
    tokens.next_multiple_of(STEP).max(FIRST_CAPACITY).min(limit)
}

/// The part of a prompt that need not be evaluated if it is in memory: the last token is, for its logits.
fn but_last(prompt: &[Token]) -> &[Token] {
    prompt.split_last().map_or(&[], |(_, before)| before)
}

/// The tokens of a prompt plus room for its answer.
fn with_answer(prompt: usize) -> usize {
    prompt + ANSWER_ROOM.max(prompt / ANSWER_SHARE)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::super::toy::Toy;
    use super::*;

    fn read(cache: &mut Cache, toy: &mut Toy, prompt: &[Token]) -> usize {
        let kept = cache.reuse(toy, prompt).unwrap();
        let flow = cache.read(toy, prompt, &|| false, &mut |_| {}).unwrap();
        assert!(flow.is_continue());
        assert_eq!(cache.tokens(), prompt);
        assert_eq!(toy.memory(cache.sequence), prompt);
        kept
    }

    #[test]
    fn only_what_follows_the_common_prefix_is_read() {
        let (mut cache, mut toy) = (Cache::default(), Toy::new(4096));
        assert_eq!(read(&mut cache, &mut toy, &[1, 2, 3, 4]), 0);
        assert_eq!(read(&mut cache, &mut toy, &[1, 2, 3, 4, 5]), 4);
        assert_eq!(read(&mut cache, &mut toy, &[1, 2, 9]), 2);
        assert_eq!(
            read(&mut cache, &mut toy, &[1, 2, 9]),
            2,
            "the last token is evaluated again for its logits"
        );
    }

    #[test]
    fn memory_that_cannot_be_cut_is_read_again() {
        let (mut cache, mut toy) = (Cache::default(), Toy::new(4096).uncuttable());
        read(&mut cache, &mut toy, &[1, 2, 3]);
        assert_eq!(read(&mut cache, &mut toy, &[1, 2, 3, 4]), 3, "an extension needs no truncation");
        assert_eq!(read(&mut cache, &mut toy, &[1, 2, 4]), 0);
    }

    #[test]
    fn memory_that_cannot_be_cut_goes_back_to_a_checkpoint() {
        let (mut cache, mut toy) = (Cache::default(), Toy::new(4096).uncuttable());
        let prompt: Vec<Token> = (0..200).collect();
        for length in [40, 90, 95, 150] {
            read(&mut cache, &mut toy, &prompt[..length]);
            cache.mark(&toy);
        }
        assert_eq!(cache.checkpoints().len(), 3, "two are too close together");
        let other = |at: usize| [&prompt[..at], &[7, 7, 7]].concat();
        assert_eq!(read(&mut cache, &mut toy, &other(160)), 150);
        assert_eq!(read(&mut cache, &mut toy, &other(100)), 90);
        assert_eq!(read(&mut cache, &mut toy, &other(90)), 90);
        assert_eq!(read(&mut cache, &mut toy, &other(30)), 0);
        assert_eq!(read(&mut cache, &mut toy, &prompt), 150, "whatever was in memory in between");
        let (mut cache, toy) = (Cache::default(), Toy::new(4096));
        cache.tokens = prompt;
        cache.mark(&toy);
        assert!(cache.checkpoints().is_empty(), "this memory can be truncated");
    }

    #[test]
    fn a_hybrid_goes_back_to_a_checkpoint_while_memory_holds_what_is_before_it() {
        let (mut cache, mut toy) = (Cache::default(), Toy::new(4096).hybrid());
        let prompt: Vec<Token> = (0..200).collect();
        for length in [40, 90, 150] {
            read(&mut cache, &mut toy, &prompt[..length]);
            cache.mark(&toy);
        }
        let other = |at: usize| [&prompt[..at], &[7, 7, 7]].concat();
        assert_eq!(cache.kept(&toy, &other(120)), 90);
        assert_eq!(read(&mut cache, &mut toy, &other(120)), 90);
        assert_eq!(read(&mut cache, &mut toy, &prompt), 90, "memory has lost what leads to the third");
        assert_eq!(read(&mut cache, &mut toy, &prompt), 150, "until it was read again");
        assert_eq!(read(&mut cache, &mut toy, &[&prompt[..], &[9]].concat()), 200, "without any checkpoint");
        assert_eq!(read(&mut cache, &mut toy, &other(30)), 0);
    }

    #[test]
    fn chunks_are_cut_at_absolute_positions() {
        let (mut cache, mut toy) = (Cache::default(), Toy::new(4096));
        let prompt: Vec<Token> = (0..40).collect();
        read(&mut cache, &mut toy, &prompt[..10]);
        toy.batches.clear();
        read(&mut cache, &mut toy, &prompt);
        assert_eq!(toy.batches, [6, 16, 8], "the toy's batch size is 16");
    }

    #[test]
    fn a_stop_between_chunks_leaves_cache_and_memory_equal() {
        let (mut cache, mut toy) = (Cache::default(), Toy::new(4096));
        let prompt: Vec<Token> = (0..64).collect();
        cache.reuse(&mut toy, &prompt).unwrap();
        let read = AtomicUsize::new(0);
        let stop_at_32 = || read.load(Ordering::Relaxed) >= 32;
        let mut progress = |done| read.store(done, Ordering::Relaxed);
        assert!(cache.read(&mut toy, &prompt, &stop_at_32, &mut progress).unwrap().is_break());
        assert_eq!(cache.tokens(), &prompt[..32]);
        assert_eq!(toy.memory(0), cache.tokens());
    }

    #[test]
    fn a_stop_within_a_chunk_leaves_cache_and_memory_equal() {
        let prompt: Vec<Token> = (0..64).collect();
        for (cuttable, left) in [(true, 16), (false, 32)] {
            let mut toy = if cuttable { Toy::new(4096) } else { Toy::new(4096).uncuttable() };
            let mut cache = Cache::default();
            cache.reuse(&mut toy, &prompt).unwrap();
            let asked = AtomicUsize::new(0);
            // Cancellation is checked once before each chunk; if memory can be truncated, also before each of
            // its 16 tokens.
            let most = if cuttable { 1 + 16 + 1 + 5 } else { 2 };
            let stop = || asked.fetch_add(1, Ordering::Relaxed) >= most;
            assert!(cache.read(&mut toy, &prompt, &stop, &mut |_| {}).unwrap().is_break());
            assert_eq!(cache.tokens(), &prompt[..left]);
            assert_eq!(toy.memory(0), cache.tokens());
            read(&mut cache, &mut toy, &prompt);
        }
    }

    #[test]
    fn sequences_side_by_side_do_not_touch_each_other() {
        let mut toy = Toy::saying_each(&["", ""]);
        let (mut one, mut other) = (Cache::of(0), Cache::of(1));
        read(&mut one, &mut toy, &[1, 2, 3]);
        read(&mut other, &mut toy, &[1, 2, 3, 4, 5]);
        assert_eq!(read(&mut one, &mut toy, &[1, 2, 9]), 2);
        let long: Vec<Token> = (0..600).map(|i| i % 200).collect();
        read(&mut one, &mut toy, &long);
        assert_eq!(toy.memory(1), other.tokens(), "memory has grown for the other sequence");
        other.clear(&mut toy);
        assert_eq!((toy.memory(0), toy.memory(1)), (&long[..], &[][..]));
    }

    #[test]
    fn growing_keeps_or_reads_again() {
        for keeps in [true, false] {
            let mut toy = Toy::new(2048);
            toy.keeps_when_grown = keeps;
            let mut cache = Cache::default();
            let prompt: Vec<Token> = (0..600).map(|i| i % 200).collect();
            read(&mut cache, &mut toy, &prompt[..500]);
            for token in &prompt[500..] {
                assert!(append(&mut toy, &mut [(&mut cache, &[*token])], &|| false).unwrap().is_continue());
            }
            assert_eq!(cache.tokens(), prompt);
            assert_eq!(toy.memory(0), prompt);
        }
    }

    #[test]
    fn drafts_are_forgotten_again() {
        for cuttable in [true, false] {
            let mut toy = if cuttable { Toy::new(4096) } else { Toy::new(4096).uncuttable() };
            let mut cache = Cache::default();
            read(&mut cache, &mut toy, &[1, 2, 3]);
            assert!(append(&mut toy, &mut [(&mut cache, &[4, 5, 6])], &|| false).unwrap().is_continue());
            assert_eq!(cache.tokens(), [1, 2, 3, 4, 5, 6]);
            cache.truncate_to(&mut toy, 4).unwrap();
            assert_eq!(cache.tokens(), [1, 2, 3, 4]);
            assert_eq!(toy.memory(0), cache.tokens());
        }
    }

    #[test]
    fn where_the_memory_wanted_is_not_there_what_is_needed_may_be() {
        let mut toy = Toy::new(8192);
        toy.room = 1536;
        let mut cache = Cache::default();
        let prompt: Vec<Token> = (0..1600).map(|i| i % 200).collect();
        assert_eq!(read(&mut cache, &mut toy, &prompt[..1000]), 0);
        assert_eq!(toy.capacity(), 1280, "with room for the answer");
        assert_eq!(read(&mut cache, &mut toy, &prompt[..1500]), 1000);
        assert_eq!(toy.capacity(), 1536, "neither double nor with room for the answer");
        assert!(cache.reuse(&mut toy, &prompt).is_err());
        assert_eq!(read(&mut cache, &mut toy, &prompt[..3]), 2, "it can be used as before");
    }

    #[test]
    fn a_context_holds_the_prompt_and_doubles_then_up_to_the_limit() {
        assert_eq!(capacity_for(10, 8192), 512);
        assert_eq!(capacity_for(513, 8192), 768);
        assert_eq!(capacity_for(1, 300), 300);
        assert_eq!(capacity_for(9000, 8192), 8192);
        let mut toy = Toy::saying("");
        let mut cache = Cache::default();
        let prompt: Vec<Token> = (0..4000).map(|i| i % 200).collect();
        for (tokens, capacity) in [(500, 768), (768, 768), (769, 1536), (4000, 5120)] {
            read(&mut cache, &mut toy, &prompt[..tokens]);
            assert_eq!(toy.capacity(), capacity, "{tokens} tokens");
        }
    }
}
