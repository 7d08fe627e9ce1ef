//! A context that grows: memory is asked, the sequences are copied, and a larger context takes the place of the old one,
//! with its KV cache in main memory where the GPU has no room.

use anyhow::Result;

use super::Llama;
use super::context::Context;
use super::refusal::{is_memory, refused};
use super::room::Growth;
use crate::engine::model::Model;

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
        let save = |sequence| if copies { self.save(sequence).ok() } else { None };
        let states: Vec<Option<Vec<u8>>> = (0..self.options.sequences).map(save).collect();
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

    /// Creates a context in place of the old one, with whatever of the sequences can be kept. Whether that
    /// succeeds or not, memory never holds both.
    fn replace(&mut self, capacity: usize, states: &[Option<Vec<u8>>], lens: &[usize]) -> Result<()> {
        self.context = None;
        self.capacity = 0;
        self.lens = vec![0; self.options.sequences];
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
