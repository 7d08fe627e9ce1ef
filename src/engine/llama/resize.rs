//! Another context in place of the old one: a larger one, or one for more branches and rows of logits.
//!
//! llama.cpp's contexts cannot change: what they hold is saved, and restored in the new one.

use anyhow::Result;

use super::Llama;
use super::context::{Context, ContextOptions, GpuMemory};
use super::devices::devices;
use super::refusal::{is_memory, refused};
use crate::engine::model::{MemoryKind, Model};

/// The share of a GPU's free memory that a growing context leaves, and the most of it in bytes.
const RESERVED_SHARE: u64 = 8;
const MOST_RESERVED: u64 = 256 << 20;

/// The architecture whose memory is one for each sequence even where the others share one: branches would take
/// as much as whole contexts.
const NO_BRANCHES: &str = "deepseek4";

/// What the sequences of a context hold: their states, and their lengths in tokens.
type Held = (Vec<Option<Vec<u8>>>, Vec<usize>);

impl Llama<'_> {
    fn held(&self) -> Held {
        let states = (0..self.options.sequences).map(|sequence| self.save(sequence).ok());
        (states.collect(), self.lens.clone())
    }

    /// Creates a context in place of the old one, with whatever of the sequences can be kept. Whether that
    /// succeeds or not, memory never holds both.
    fn replace(&mut self, capacity: usize, (states, lens): &Held) -> Result<()> {
        self.context = None;
        self.capacity = 0;
        self.lens = vec![0; self.options.sequences + self.options.branches];
        let opened = Context::open(self.weights, &self.options, capacity);
        self.weights.check_workers()?;
        self.context = Some(opened.map_err(|error| refused(&self.options, capacity, &error.to_string()))?);
        self.capacity = capacity;
        for (sequence, (state, len)) in states.iter().zip(lens).enumerate() {
            if let Some(state) = state {
                let _ = self.restore(sequence, state, *len); // if it fails, the sequence is evaluated again
            }
        }
        Ok(())
    }

    /// For [`Model::grow`].
    pub(super) fn grow_to(&mut self, capacity: usize) -> Result<()> {
        if capacity <= self.capacity {
            return Ok(());
        }
        let (held, before) = (self.held(), self.capacity);
        if self.options.kv_offload && !self.has_room(capacity) {
            self.leave_gpu(capacity);
        }
        let mut grown = self.replace(capacity, &held);
        if grown.as_ref().is_err_and(is_memory) && self.options.kv_offload && self.weights.on_gpu {
            self.leave_gpu(capacity); // another program took the memory
            grown = self.replace(capacity, &held);
        }
        if grown.is_err() && before > 0 {
            let _ = self.replace(before, &held); // what is in memory stays usable
        }
        grown
    }

    /// For [`Model::widen`].
    pub(super) fn widen_to(&mut self, rows: usize, branches: usize) -> Result<()> {
        let before = self.options.clone();
        let branches = if self.can_branch() { branches } else { 0 };
        self.options = ContextOptions {
            outputs: rows.min(before.batch_size).max(before.outputs),
            branches: branches.max(before.branches),
            ..before.clone()
        };
        if (self.options.outputs, self.options.branches) == (before.outputs, before.branches) {
            return Ok(());
        }
        if self.context.is_none() {
            self.lens.resize(self.options.sequences + self.options.branches, 0);
            return Ok(());
        }
        let (held, capacity) = (self.held(), self.capacity);
        if self.replace(capacity, &held).is_err() {
            self.options = before;
            self.replace(capacity, &held)?;
        }
        Ok(())
    }

    /// Whether several sequences can share tokens in memory.
    fn can_branch(&self) -> bool {
        let architecture = self.weights.model.meta_val_str("general.architecture");
        self.memory_kind() == MemoryKind::Attention && architecture.is_ok_and(|name| name != NO_BRANCHES)
    }

    /// Keeps the KV cache in main memory from now on.
    fn leave_gpu(&mut self, capacity: usize) {
        self.options.kv_offload = false;
        self.notices.push(format!(
            "the GPU has no room for a context of {capacity} tokens: the KV cache is in main memory now, which is \
             slower; cache-type-k and cache-type-v q8_0 would halve it"
        ));
    }

    /// For [`Model::has_room`]: asks the devices for the memory that a larger context takes in addition.
    pub(super) fn has_room_for(&self, capacity: usize) -> bool {
        let held = |part: &GpuMemory| if self.context.is_some() { part.bytes(self.capacity) } else { 0 };
        let more = |part: &GpuMemory| part.bytes(capacity).saturating_sub(held(part));
        let devices = if self.options.on_gpus.is_empty() { Vec::new() } else { devices() };
        let fits = |part: &GpuMemory| {
            let free = devices.iter().find(|device| device.name == part.gpu).map(|device| device.free);
            free.is_none_or(|free| more(part) <= free - (free / RESERVED_SHARE).min(MOST_RESERVED))
        };
        !self.options.kv_offload || self.options.on_gpus.iter().all(fits)
    }
}
