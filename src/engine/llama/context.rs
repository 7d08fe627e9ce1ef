//! An owned llama.cpp context: evaluates batches and holds the KV cache.
//!
//! It is created from loaded weights and freed with its owner. The caller checks every number over which C++
//! would end the process: token ids, positions, the rows of a batch and how many of them request logits.
//! `Option`s and `bool`s are llama.cpp's return values; log.rs has its reasons.

use std::ffi::c_void;
use std::marker::PhantomData;
use std::ops::ControlFlow;
use std::ptr::{NonNull, null_mut};
use std::sync::atomic::{AtomicPtr, Ordering};

use anyhow::{Result, bail};
use llama_cpp_sys_2 as sys;

use super::devices::backend;
use super::log::{contained, forget_errors, reason};
use super::room::Room;
use super::weights::Weights;
use crate::chat::Settings;
use crate::chat::settings::{Auto, CacheType};
use crate::engine::draft;
use crate::engine::model::{Cancel, Row};

/// The parameters of a context.
#[derive(Debug, Clone)]
pub struct ContextOptions {
    /// The maximum context length of each sequence, in tokens.
    pub limit: usize,
    /// The number of sequences held in memory side by side, at least one.
    pub sequences: usize,
    /// The number of branches that can grow out of them. With any, all share one memory.
    pub branches: usize,
    /// The maximum number of rows in a batch: a power of two.
    pub batch_size: usize,
    /// The maximum number of rows in a batch with logits. llama.cpp reserves 4 bytes per row and vocabulary
    /// token.
    pub outputs: usize,
    pub threads: u32,
    pub threads_batch: u32,
    pub flash_attn: Auto,
    pub cache_type_k: CacheType,
    pub cache_type_v: CacheType,
    /// Whether each layer's part of the KV cache is where the layer is, otherwise all in main memory.
    pub kv_offload: bool,
    /// What a context takes of memory, and how to ask what is free; `None`: nobody is asked.
    pub room: Option<Room>,
    /// Whether each batch copies weights from main memory to a GPU.
    pub copies_weights: bool,
}

impl ContextOptions {
    /// Rows with logits for one sequence with speculative decoding; and where GPUs have all layers.
    pub const OUTPUTS: usize = draft::MOST_ON_CPU + 1;
    pub const OUTPUTS_ON_GPU: usize = draft::MOST + 1;

    /// For one sequence with speculative decoding, up to `limit` tokens, evaluated in batches of `batch_size`.
    pub fn new(settings: &Settings, limit: usize, batch_size: usize, threads: u32) -> ContextOptions {
        ContextOptions {
            limit,
            sequences: 1,
            branches: 0,
            batch_size,
            outputs: ContextOptions::OUTPUTS,
            threads,
            threads_batch: settings.threads_batch.unwrap_or(threads),
            flash_attn: settings.flash_attn,
            cache_type_k: settings.cache_type_k,
            cache_type_v: settings.cache_type_v,
            kv_offload: !settings.no_kv_offload,
            room: None,
            copies_weights: false,
        }
    }
}

/// A context; its weights outlive it.
pub(super) struct Context<'w> {
    raw: NonNull<sys::llama_context>,
    /// Read by `cancelled`: points to a `Cancel` during a batch, null otherwise. llama.cpp holds the address
    /// of this field.
    cancel: Box<AtomicPtr<c_void>>,
    /// The number of vocabulary tokens, which is the length of a row of logits.
    vocabulary: usize,
    decode_threads: u32,
    prefill_threads: u32,
    /// What llama.cpp takes now for a batch of several tokens.
    batch_threads: u32,
    weights: PhantomData<&'w Weights>,
}

// SAFETY: a context is not tied to a thread. It is not `Sync`: llama.cpp modifies it even on reads.
unsafe impl Send for Context<'_> {}

/// llama.cpp calls this between the operations of a batch, on any of its threads. `true` aborts the batch.
extern "C" fn cancelled(data: *mut c_void) -> bool {
    // SAFETY: `data` is the address of `Context::cancel`, which outlives every caller.
    let cancel = unsafe { &*data.cast::<AtomicPtr<c_void>>() }.load(Ordering::Acquire);
    // SAFETY: the closure lives until the batch ends and may be called from several threads.
    !cancel.is_null() && unsafe { (*cancel.cast::<Cancel>())() }
}

impl<'w> Context<'w> {
    /// Creates a context with room for `capacity` tokens in each sequence. The error is llama.cpp's own
    /// reason.
    pub(super) fn open(
        weights: &'w Weights,
        options: &ContextOptions,
        capacity: usize,
    ) -> Result<Context<'w>> {
        backend();
        let cancel = Box::new(AtomicPtr::new(null_mut()));
        // SAFETY: returns a plain value.
        let mut params = unsafe { sys::llama_context_default_params() };
        params.n_ctx = (capacity * options.sequences) as u32;
        params.n_batch = options.batch_size as u32;
        params.n_ubatch = options.batch_size as u32;
        let sequences = options.sequences + options.branches;
        params.n_seq_max = sequences as u32;
        params.kv_unified = options.branches > 0; // otherwise each would have a share of it
        params.n_outputs_max = options.outputs.max(sequences) as u32;
        params.n_threads = options.threads as i32;
        params.n_threads_batch = options.threads_batch as i32;
        params.flash_attn_type = match options.flash_attn {
            Auto::Auto => sys::LLAMA_FLASH_ATTN_TYPE_AUTO,
            Auto::On => sys::LLAMA_FLASH_ATTN_TYPE_ENABLED,
            Auto::Off => sys::LLAMA_FLASH_ATTN_TYPE_DISABLED,
        };
        params.type_k = cache_type(options.cache_type_k);
        params.type_v = cache_type(options.cache_type_v);
        params.offload_kqv = options.kv_offload;
        params.swa_full = true; // a window-sized cache cannot be truncated exactly
        params.no_perf = true;
        params.abort_callback = Some(cancelled);
        params.abort_callback_data = (&raw const *cancel).cast_mut().cast();
        forget_errors();
        let model = weights.pointer();
        // SAFETY: the model lives for `'w`, and the callback data as long as the context.
        let raw = contained(|| unsafe { sys::llama_init_from_model(model, params) });
        let Some(raw) = NonNull::new(raw) else {
            bail!(reason().unwrap_or_else(|| "llama.cpp does not say why".into()));
        };
        // SAFETY: the model is loaded, and its vocabulary is part of it.
        let vocabulary = unsafe { sys::llama_vocab_n_tokens(sys::llama_model_get_vocab(model)) };
        Ok(Context {
            raw,
            cancel,
            vocabulary: vocabulary as usize,
            decode_threads: options.threads,
            prefill_threads: options.threads_batch,
            batch_threads: options.threads_batch,
            weights: PhantomData,
        })
    }

    /// Evaluates a batch; `cancel` aborts it. The CPU and Metal check in mid-batch; CUDA, Vulkan and RPC
    /// servers do not. Unless this returns `Continue`, part of the batch may be in memory.
    pub(super) fn decode(&mut self, batch: &[Row], cancel: Cancel) -> Result<ControlFlow<()>> {
        let mut tokens: Vec<i32> = batch.iter().map(|row| row.token).collect();
        let mut positions: Vec<i32> = batch.iter().map(|row| row.position as i32).collect();
        let all = batch.iter().map(|row| row.sequences().end).max().unwrap_or(0);
        let mut sequences: Vec<i32> = (0..all as i32).collect();
        let first = sequences.as_mut_ptr();
        let mut sequence_of: Vec<*mut i32> =
            batch.iter().map(|row| first.wrapping_add(row.sequence)).collect();
        let mut sequences_of_each: Vec<i32> = batch.iter().map(|row| 1 + row.also as i32).collect();
        let mut logits: Vec<i8> = batch.iter().map(|row| i8::from(row.logits)).collect();
        let raw = sys::llama_batch {
            n_tokens: batch.len() as i32,
            token: tokens.as_mut_ptr(),
            embd: null_mut(),
            pos: positions.as_mut_ptr(),
            n_seq_id: sequences_of_each.as_mut_ptr(),
            seq_id: sequence_of.as_mut_ptr(),
            logits: logits.as_mut_ptr(),
        };
        let threads = if batch.len() > FEW { self.prefill_threads } else { self.decode_threads };
        if std::mem::replace(&mut self.batch_threads, threads) != threads {
            // SAFETY: only sets two numbers.
            unsafe {
                sys::llama_set_n_threads(self.raw.as_ptr(), self.decode_threads as i32, threads as i32);
            }
        }
        forget_errors();
        self.cancel.store((&raw const cancel).cast_mut().cast(), Ordering::Release);
        // SAFETY: each array has an entry per row, and `sequences` one per sequence of any; they live until the
        // call returns, and llama.cpp copies what it needs longer.
        let status = contained(|| unsafe { sys::llama_decode(self.raw.as_ptr(), raw) });
        self.cancel.store(null_mut(), Ordering::Release);
        match status {
            0 => Ok(ControlFlow::Continue(())),
            ABORTED => Ok(ControlFlow::Break(())),
            1 => bail!("there is no room in its memory"),
            _ => bail!(reason().unwrap_or_else(|| format!("error {status}"))),
        }
    }

    /// Waits until all devices have computed what they were given.
    pub(super) fn synchronize(&self) {
        // SAFETY: the context is alive.
        contained(|| unsafe { sys::llama_synchronize(self.raw.as_ptr()) });
    }

    /// A row of logits from the last batch, counted backwards from -1, the last one requested. `None` if
    /// there is no such row.
    pub(super) fn logits(&self, row: i32) -> Option<&[f32]> {
        // SAFETY: llama.cpp checks the row number.
        let logits = contained(|| unsafe { sys::llama_get_logits_ith(self.raw.as_ptr(), row) });
        // SAFETY: a row holds one float per vocabulary token and stays in place until the context changes.
        NonNull::new(logits)
            .map(|logits| unsafe { std::slice::from_raw_parts(logits.as_ptr(), self.vocabulary) })
    }

    fn memory(&self) -> sys::llama_memory_t {
        // SAFETY: only reads a field.
        unsafe { sys::llama_get_memory(self.raw.as_ptr()) }
    }

    /// Clears all sequences.
    pub(super) fn clear(&mut self) {
        // SAFETY: the memory belongs to this context; a model without memory gives null, which llama.cpp
        // handles.
        contained(|| unsafe { sys::llama_memory_clear(self.memory(), true) });
    }

    /// Removes the tokens of a sequence from a position on. `false`: its memory can only be cleared as a
    /// whole.
    pub(super) fn remove(&mut self, sequence: usize, from: usize) -> bool {
        // SAFETY: as in `clear`; -1 means the end.
        contained(|| unsafe { sys::llama_memory_seq_rm(self.memory(), sequence as i32, from as i32, -1) })
    }

    /// Lets an empty sequence begin with the tokens of another one, where they are.
    pub(super) fn share(&mut self, from: usize, with: usize) {
        // SAFETY: as in `clear`; -1 means from the beginning and to the end.
        contained(|| unsafe {
            sys::llama_memory_seq_cp(self.memory(), from as i32, with as i32, -1, -1);
        });
    }

    /// The first position of a sequence in memory.
    pub(super) fn first(&self, sequence: usize) -> Option<usize> {
        // SAFETY: as in `clear`; -1 means none.
        let first = contained(|| unsafe { sys::llama_memory_seq_pos_min(self.memory(), sequence as i32) });
        usize::try_from(first).ok()
    }

    /// The last position of a sequence in memory.
    pub(super) fn last(&self, sequence: usize) -> Option<usize> {
        // SAFETY: as in `clear`; -1 means none.
        let last = contained(|| unsafe { sys::llama_memory_seq_pos_max(self.memory(), sequence as i32) });
        usize::try_from(last).ok()
    }

    /// The number of bytes that `save` would append for a sequence now.
    pub(super) fn state_bytes(&self, sequence: usize, extent: Extent) -> usize {
        let (raw, sequence) = (self.raw.as_ptr(), sequence as i32);
        // SAFETY: only counts.
        contained(|| unsafe { sys::llama_state_seq_get_size_ext(raw, sequence, extent.flags()) })
    }

    /// Appends a sequence's state to `state`, which must have capacity reserved. Returns its length in bytes;
    /// 0: it did not fit.
    pub(super) fn save(&self, sequence: usize, extent: Extent, state: &mut Vec<u8>) -> usize {
        let raw = self.raw.as_ptr();
        let (before, room) = (state.len(), state.spare_capacity_mut());
        let (to, length) = (room.as_mut_ptr().cast::<u8>(), room.len());
        // SAFETY: `length` bytes are available from `to` on; llama.cpp writes no more.
        let written = contained(|| unsafe {
            sys::llama_state_seq_get_data_ext(raw, to, length, sequence as i32, extent.flags())
        });
        // SAFETY: exactly these bytes have been written.
        unsafe { state.set_len(before + written) };
        written
    }

    /// Replaces a sequence's memory, or what cannot be truncated of it, with a saved state. `false`: rejected,
    /// possibly after part of it was loaded. The caller guarantees that llama.cpp itself wrote these bytes, for
    /// the same weights and context parameters.
    pub(super) fn restore(&mut self, sequence: usize, extent: Extent, state: &[u8]) -> bool {
        let (raw, from, length) = (self.raw.as_ptr(), state.as_ptr(), state.len());
        forget_errors();
        // SAFETY: llama.cpp reads no further than the slice.
        let read = contained(|| unsafe {
            sys::llama_state_seq_set_data_ext(raw, from, length, sequence as i32, extent.flags())
        });
        read > 0
    }
}

impl Drop for Context<'_> {
    fn drop(&mut self) {
        // SAFETY: llama.cpp created it, and nothing else owns it.
        contained(|| unsafe { sys::llama_free(self.raw.as_ptr()) });
    }
}

/// The most tokens of a batch that takes the threads of decoding: few tokens wait for memory, as one does.
const FEW: usize = 32;

/// The return value of `llama_decode` when `cancelled` has aborted a batch.
const ABORTED: i32 = 2;

/// How much of a sequence's state to save or restore.
#[derive(Clone, Copy)]
pub(super) enum Extent {
    Whole,
    /// Only what cannot be truncated: recurrence.
    Recurrence,
}

impl Extent {
    /// llama.h: LLAMA_STATE_SEQ_FLAGS_NONE and LLAMA_STATE_SEQ_FLAGS_PARTIAL_ONLY, which the binding lacks.
    fn flags(self) -> sys::llama_state_seq_flags {
        match self {
            Extent::Whole => 0,
            Extent::Recurrence => 1,
        }
    }
}

fn cache_type(kind: CacheType) -> sys::ggml_type {
    match kind {
        CacheType::F32 => sys::GGML_TYPE_F32,
        CacheType::F16 => sys::GGML_TYPE_F16,
        CacheType::BF16 => sys::GGML_TYPE_BF16,
        CacheType::Q8_0 => sys::GGML_TYPE_Q8_0,
        CacheType::Q5_1 => sys::GGML_TYPE_Q5_1,
        CacheType::Q5_0 => sys::GGML_TYPE_Q5_0,
        CacheType::Q4_1 => sys::GGML_TYPE_Q4_1,
        CacheType::Q4_0 => sys::GGML_TYPE_Q4_0,
        CacheType::Iq4Nl => sys::GGML_TYPE_IQ4_NL,
    }
}
