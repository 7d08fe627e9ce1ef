//! Another context in place of the old one: a larger one, or one for more branches and rows of logits.
//!
//! llama.cpp's contexts cannot change: memory is asked, what they hold is copied, and restored in the new one, whose KV
//! cache is in main memory where the GPU has no room.

use anyhow::Result;

use super::Llama;
use super::context::{Context, ContextOptions};
use super::refusal::{is_memory, refused};
use super::room::Growth;
use crate::engine::model::{MemoryKind, Model};

/// The architecture whose memory is one for each sequence even where the others share one: branches would take
/// as much as whole contexts.
const NO_BRANCHES: &str = "deepseek4";

impl Llama<'_> {
    /// Asks the devices and main memory for what a larger context takes in addition.
    pub(super) fn finds_room(&self, capacity: usize) -> bool {
        let growth = self.growth(capacity);
        self.options.room.as_ref().is_none_or(|room| {
            let on_gpus = !self.options.kv_offload || room.on_gpus(growth);
            on_gpus && room.in_main(growth, room, self.copied()).is_ok()
        })
    }

    /// [`Model::grow`] to more than the present capacity.
    pub(super) fn grow_to(&mut self, capacity: usize) -> Result<()> {
        let (growth, before) = (self.growth(capacity), self.options.room.clone());
        if let Some(room) = &before {
            if self.options.kv_offload && !room.on_gpus(growth) {
                self.leave_gpu(capacity)?;
            } else {
                room.in_main(growth, room, 0)?;
            }
        }
        // Where there is no room for copies, the sequences are evaluated again.
        let rooms = self.options.room.as_ref().zip(before.as_ref());
        let copies = rooms.is_none_or(|(room, before)| room.in_main(growth, before, self.copied()).is_ok());
        let states = if copies { self.states() } else { Vec::new() };
        let (before, lens) = (self.capacity, self.lens.clone());
        let mut grown = self.replace(capacity, &states, &lens);
        if grown.as_ref().is_err_and(is_memory) && self.options.kv_offload && self.weights.on_gpu {
            // Another program took the memory.
            grown = self.leave_gpu(capacity).and_then(|()| self.replace(capacity, &states, &lens));
        }
        if grown.is_err() && before > 0 {
            let _ = self.replace(before, &states, &lens); // what is in memory stays usable
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
        // A row of logits is in the compute buffer and in the output's.
        let rows = self.options.outputs - before.outputs;
        let more = 2 * rows * self.weights.vocabulary().len * size_of::<f32>() + self.copied();
        let growth = self.growth(self.capacity);
        if before.room.as_ref().is_some_and(|room| room.in_main(growth, room, more).is_err()) {
            self.options = before;
            return Ok(());
        }
        let (states, lens, capacity) = (self.states(), self.lens.clone(), self.capacity);
        if self.replace(capacity, &states, &lens).is_err() {
            self.options = before;
            self.replace(capacity, &states, &lens)?;
        }
        Ok(())
    }

    /// Whether several sequences can share tokens in memory.
    fn can_branch(&self) -> bool {
        let architecture = self.weights.model.meta_val_str("general.architecture");
        self.memory_kind() == MemoryKind::Attention && architecture.is_ok_and(|name| name != NO_BRANCHES)
    }

    /// What each sequence holds, where it can be copied.
    fn states(&self) -> Vec<Option<Vec<u8>>> {
        (0..self.options.sequences).map(|sequence| self.save(sequence).ok()).collect()
    }

    /// Creates a context in place of the old one, with whatever of the sequences can be kept. Whether that
    /// succeeds or not, memory never holds both.
    fn replace(&mut self, capacity: usize, states: &[Option<Vec<u8>>], lens: &[usize]) -> Result<()> {
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

    fn growth(&self, capacity: usize) -> Growth {
        Growth { from: self.context.as_ref().map(|_| self.capacity), to: capacity }
    }

    /// Bytes of copies of all sequences.
    fn copied(&self) -> usize {
        (0..self.options.sequences).map(|sequence| self.state_bytes(sequence)).sum()
    }

    /// Keeps the KV cache in main memory from now on. An error if that has no room.
    fn leave_gpu(&mut self, capacity: usize) -> Result<()> {
        if let Some(room) = &self.options.room {
            let off = room.off_gpus();
            off.in_main(self.growth(capacity), room, 0)?;
            self.options.room = Some(off);
        }
        self.options.kv_offload = false;
        self.notices.push(format!(
            "the GPU has no room for a context of {capacity} tokens: the KV cache is in main memory now, which is \
             slower; cache-type-k and cache-type-v q8_0 would halve it"
        ));
        Ok(())
    }
}
