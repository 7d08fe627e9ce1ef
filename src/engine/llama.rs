//! llama.cpp behind the trait [`Model`]: weights, context, KV cache.
//!
//! Only this module and sampler.rs use the binding. It guards against what the binding does not check: ids
//! are checked before they reach C++, the log is kept for error messages, and positions never exceed the
//! model's limit.

mod attention;
mod bandwidth;
mod computer;
mod context;
mod devices;
mod facts;
mod fallback;
#[cfg(test)]
pub(crate) mod ggml;
mod growth;
mod lent;
mod log;
mod pages;
mod placement;
mod plugins;
mod prefill_threads;
mod refusal;
mod repack;
mod room;
mod weights;
mod workers;

use std::ops::ControlFlow;

use anyhow::{Context as _, Result, bail};
use llama_cpp_2::token::LlamaToken;

pub use self::attention::{AttentionShape, flash_is_better};
pub use self::bandwidth::{MemorySpeed, memory_speed};
pub use self::context::ContextOptions;
use self::context::{Context, Extent};
pub use self::devices::{BINDING, BUILD, Device, DeviceKind, devices, gpus, system_info};
pub use self::log::{Hooks, contained, install, not_locked, prepare};
pub use self::placement::{Placement, buffer_types};
pub use self::plugins::{plugin_folder, plugins};
pub use self::prefill_threads::fastest_prefill;
pub use self::refusal::lacks_memory;
pub use self::repack::multiply_repacked;
pub use self::room::{GpuPart, Part, Room};
pub use self::weights::{LoadOptions, Parts, SpecialIds, Weights};
pub use self::workers::{Lending, lendable, select_workers, serve};
use super::model::{Cancel, MemoryKind, Model, Row, Sampler};
use super::sampler::Chain;
use super::token::{Token, Vocabulary};
use crate::chat::settings::Sampling;

/// How many bytes of weights a row of a batch must read for each byte of recurrent state that is copied before it.
/// Rows of a batch share the reading, ten or so; a copy is read and written, to fresh pages; it may take a tenth of
/// the batch's time.
const COPY_COST: u64 = 300;

/// Token sequences evaluated on loaded weights.
pub struct Llama<'w> {
    weights: &'w Weights,
    options: ContextOptions,
    /// Created on first use, with the capacity needed then.
    context: Option<Context<'w>>,
    capacity: usize,
    /// The number of tokens in memory of each sequence, and of each branch after them.
    lens: Vec<usize>,
    /// The number of rows of the last batch that have logits.
    rows: usize,
    /// What the user should know, one line each.
    notices: Vec<String>,
}

impl<'w> Llama<'w> {
    pub fn new(weights: &'w Weights, options: ContextOptions) -> Llama<'w> {
        let lens = vec![0; options.sequences + options.branches];
        Llama { weights, options, context: None, capacity: 0, lens, rows: 0, notices: Vec::new() }
    }

    /// Clears a sequence.
    fn clear(&mut self, sequence: usize) {
        self.lens[sequence] = 0;
        if let Some(context) = &mut self.context {
            if self.lens.iter().all(|len| *len == 0) {
                context.clear();
            } else {
                context.remove(sequence, 0);
            }
        }
    }

    /// Whether the memory of a sequence suffices to continue after its first `len` tokens. Restored
    /// sliding-window memory only covers the end of the saved sequence.
    fn has_whole(&self, sequence: usize, len: usize) -> bool {
        let oldest = |context: &Context| context.first(sequence).unwrap_or(0);
        let needed = len.saturating_sub(self.weights.window.unwrap_or(len));
        self.context.as_ref().is_some_and(|context| oldest(context) <= needed)
    }

    fn saved_bytes(&self, sequence: usize, extent: Extent) -> usize {
        let context = self.context.as_ref().filter(|_| self.lens[sequence] > 0);
        context.map_or(0, |context| 1 + context.state_bytes(sequence, extent))
    }

    fn saved(&self, sequence: usize, extent: Extent) -> Result<Vec<u8>> {
        let size = self.saved_bytes(sequence, extent);
        let context = self.context.as_ref().filter(|_| size > 1).context("there is nothing in memory")?;
        let mut state = Vec::new();
        state.try_reserve_exact(size).context("there is no room for a copy of the model's memory")?;
        state.push(u8::from(self.weights.far(self.capacity)));
        let saved = context.save(sequence, extent, &mut state);
        self.weights.check_workers()?;
        if saved != size - 1 {
            bail!("llama.cpp could not copy its memory");
        }
        Ok(state)
    }

    /// Takes over a saved state, after which the sequence has `len` tokens; on failure it is empty.
    fn take(&mut self, sequence: usize, extent: Extent, state: &[u8], len: usize) -> Result<()> {
        let context = self.context.as_mut().context("nothing was made room for")?;
        let (far, state) = state.split_first().context("there is nothing saved")?;
        if *far != u8::from(self.weights.far(self.capacity)) {
            bail!("positions are encoded otherwise in a context of this size");
        }
        if len == 0 || len > self.capacity {
            bail!("{len} saved tokens do not fit a context of {}", self.capacity);
        }
        let taken = context.restore(sequence, extent, state)
            && (matches!(extent, Extent::Whole) || context.remove(sequence, len));
        if !taken || context.last(sequence) != Some(len - 1) {
            let why = log::reason().unwrap_or_default();
            self.clear(sequence);
            bail!("llama.cpp did not take the saved memory: {why}");
        }
        self.lens[sequence] = len;
        Ok(())
    }

    /// Copies of what a batch changes and truncation does not undo, of each sequence that has tokens. `None`: a
    /// GPU evaluates the batch, which it finishes anyway, or the copies cannot be made or would take long
    /// compared with the batch.
    fn copies_for(&self, batch: &[Row]) -> Option<Vec<Option<Vec<u8>>>> {
        if self.memory_kind() == MemoryKind::Attention || self.weights.on_gpu || batch.len() < 2 {
            return None;
        }
        let sequences = || (0..self.options.sequences).filter(|sequence| self.lens[*sequence] > 0);
        let bytes: usize = sequences().map(|sequence| self.saved_bytes(sequence, Extent::Recurrence)).sum();
        let read = self.weights.model.size().saturating_mul(batch.len() as u64);
        if (bytes as u64).saturating_mul(COPY_COST) > read {
            return None;
        }
        let mut copies = vec![None; self.options.sequences];
        for sequence in sequences() {
            copies[sequence] = Some(self.checkpoint(sequence).ok()?);
        }
        Some(copies)
    }

    /// Turns whatever would make C++ end the process into an error. Returns the length of each sequence after
    /// the batch.
    fn checked(&self, batch: &[Row]) -> Result<Vec<usize>> {
        let most = self.options.batch_size.min(self.capacity * self.options.sequences);
        if batch.is_empty() || batch.len() > most {
            bail!("a batch has {} tokens, and may have 1 to {most}", batch.len());
        }
        let outputs = batch.iter().filter(|row| row.logits).count();
        if outputs > self.options.outputs {
            bail!("{outputs} tokens are to get logits, and {} may", self.options.outputs);
        }
        let mut lens = self.lens.clone();
        for row in batch {
            if row.token < 0 || row.token as usize >= self.weights.vocabulary().len {
                bail!("token {} is not in the vocabulary", row.token);
            }
            for len in lens.get_mut(row.sequences()).context("there is no such sequence")? {
                if row.position != *len || *len >= self.capacity {
                    bail!(
                        "a token cannot have the position {} after {len} of {}",
                        row.position,
                        self.capacity
                    );
                }
                *len += 1;
            }
        }
        Ok(lens)
    }

    /// The tokens of a text from which unsupported characters have been removed.
    fn tokens(&self, text: &str, special: bool) -> Vec<Token> {
        let vocab = self.weights.vocab();
        let plain = |text: &str| -> Vec<Token> {
            contained(|| vocab.tokenize(text.as_bytes(), false, special)).into_iter().map(|t| t.0).collect()
        };
        match Some(text).filter(|text| text.len() > fallback::LONG).and_then(|_| self.weights.letters()) {
            Some(letters) => {
                let ends =
                    self.weights.vocabulary().markers.iter().filter_map(|m| m.text.chars().next_back());
                letters.tokens(text, &ends.collect::<Vec<_>>(), &plain)
            }
            None => plain(text),
        }
    }
}

impl Model for Llama<'_> {
    fn tokenize(&self, text: &str, special: bool) -> Vec<Token> {
        // The parts around a removed character are tokenised separately: joined, they might spell a marker.
        let left_out = |c| self.weights.alphabet().is_some_and(|alphabet| !alphabet.has(c));
        let tokens = |part: &str| self.tokens(part, special);
        text.split(left_out).filter(|part| !part.is_empty()).flat_map(tokens).collect()
    }

    fn piece(&self, token: Token, special: bool) -> Vec<u8> {
        if token < 0 || token as usize >= self.weights.vocabulary().len {
            return Vec::new(); // C++ would end the process
        }
        contained(|| self.weights.vocab().token_to_piece(LlamaToken(token), special, None))
    }

    fn ends(&self, token: Token) -> bool {
        self.weights.vocab().is_eog(LlamaToken(token))
    }

    fn vocabulary(&self) -> &Vocabulary {
        self.weights.vocabulary()
    }

    fn sampler(&self, sampling: &Sampling, seed: u32) -> Result<Box<dyn Sampler>> {
        Ok(Box::new(Chain::for_model(self.weights.words(), sampling, seed, self.options.limit)?))
    }

    fn sequences(&self) -> usize {
        self.options.sequences
    }

    fn branches(&self) -> usize {
        self.options.branches
    }

    fn rows(&self) -> usize {
        self.options.outputs
    }

    fn widen(&mut self, rows: usize, branches: usize) -> Result<()> {
        self.widen_to(rows, branches)
    }

    fn branch(&mut self, sequence: usize, count: usize) {
        let first = self.options.sequences;
        assert!(count <= self.options.branches, "there are {} branches", self.options.branches);
        for branch in (first..self.lens.len()).filter(|branch| self.lens[*branch] > 0) {
            self.context.iter_mut().for_each(|context| _ = context.remove(branch, 0));
        }
        self.lens.truncate(first);
        self.lens.resize(first + count, self.lens[sequence]);
        self.lens.resize(first + self.options.branches, 0);
        for branch in first..first + count {
            self.context.iter_mut().for_each(|context| context.share(sequence, branch));
        }
    }

    fn len(&self, sequence: usize) -> usize {
        self.lens[sequence]
    }

    fn capacity(&self) -> usize {
        self.capacity
    }

    fn limit(&self) -> usize {
        self.options.limit
    }

    fn batch_size(&self) -> usize {
        self.options.batch_size
    }

    /// The CPU listens to `Cancel` between operations, of which a layer has some large ones.
    fn interruptible_parts(&self) -> usize {
        if self.weights.on_gpu { 1 } else { 2 * self.weights.model.n_layer().max(1) as usize }
    }

    fn on_gpu(&self) -> bool {
        self.weights.on_gpu
    }

    fn copies_weights(&self) -> bool {
        self.options.copies_weights
    }

    fn state_bytes(&self, sequence: usize) -> usize {
        self.saved_bytes(sequence, Extent::Whole)
    }

    fn save(&self, sequence: usize) -> Result<Vec<u8>> {
        self.saved(sequence, Extent::Whole)
    }

    fn restore(&mut self, sequence: usize, state: &[u8], len: usize) -> Result<()> {
        self.clear(sequence);
        self.take(sequence, Extent::Whole, state, len)
    }

    /// Recurrent memory is a single state after all tokens; of a sliding window, llama.cpp saves only what
    /// the last token sees.
    fn restores_parts(&self) -> bool {
        self.memory_kind() == MemoryKind::Attention && self.weights.window.is_none()
    }

    fn memory_kind(&self) -> MemoryKind {
        let model = &self.weights.model;
        match () {
            () if model.is_recurrent() => MemoryKind::Recurrent,
            () if model.is_hybrid() => MemoryKind::Hybrid,
            () => MemoryKind::Attention,
        }
    }

    fn checkpoint(&self, sequence: usize) -> Result<Vec<u8>> {
        self.saved(sequence, Extent::Recurrence)
    }

    fn go_back(&mut self, sequence: usize, checkpoint: &[u8], len: usize) -> Result<()> {
        if self.memory_kind() == MemoryKind::Recurrent {
            return self.restore(sequence, checkpoint, len);
        }
        if len > self.lens[sequence] {
            self.clear(sequence);
            bail!("the tokens before the checkpoint are no longer in memory");
        }
        let done = self.take(sequence, Extent::Recurrence, checkpoint, len);
        if done.is_err() {
            self.clear(sequence);
        }
        done
    }

    fn grow(&mut self, capacity: usize) -> Result<()> {
        if capacity <= self.capacity { Ok(()) } else { self.grow_to(capacity) }
    }

    fn has_room(&self, capacity: usize) -> bool {
        self.finds_room(capacity)
    }

    fn notices(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notices)
    }

    fn can_return(&self, sequence: usize) -> bool {
        self.memory_kind() == MemoryKind::Attention && self.has_whole(sequence, self.lens[sequence])
    }

    fn truncate(&mut self, sequence: usize, len: usize) -> usize {
        if len >= self.lens[sequence] {
            return self.lens[sequence];
        }
        let whole = len > 0 && self.has_whole(sequence, len);
        if whole && self.context.as_mut().is_some_and(|context| context.remove(sequence, len)) {
            self.lens[sequence] = len;
        } else {
            self.clear(sequence);
        }
        self.lens[sequence]
    }

    fn decode(&mut self, batch: &[Row], cancel: Cancel) -> Result<ControlFlow<()>> {
        let lens = self.checked(batch)?;
        // If memory cannot be truncated, cancelling in mid-batch would lose everything evaluated so far.
        let stays =
            batch.iter().all(|row| row.position > self.lens[row.sequence] || self.can_return(row.sequence));
        let mut copies = if stays { None } else { self.copies_for(batch) };
        let heeds = stays || copies.is_some();
        let context = self.context.as_mut().context("nothing was made room for")?;
        let done = context.decode(batch, if heeds { cancel } else { &|| false });
        if self.weights.uses_workers() {
            context.synchronize();
            self.weights.check_workers()?;
        }
        let before = std::mem::replace(&mut self.lens, lens);
        if let Ok(ControlFlow::Continue(())) = done {
            self.rows = batch.iter().filter(|row| row.logits).count();
        } else {
            self.rows = 0;
            // Part of the batch may be in memory.
            for (sequence, len) in before.into_iter().enumerate() {
                match copies.as_mut().and_then(|copies| copies.get_mut(sequence)?.take()) {
                    Some(copy) => _ = self.go_back(sequence, &copy, len), // if that fails, it is empty
                    None => _ = self.truncate(sequence, len),
                }
            }
        }
        done.context("llama.cpp could not evaluate the tokens")
    }

    fn logits(&self, row: usize) -> &[f32] {
        assert!(row < self.rows, "there are {} rows of logits", self.rows);
        let context = self.context.as_ref().expect("decode made a context");
        context.logits(row as i32 - self.rows as i32).expect("so many were asked for")
    }
}
