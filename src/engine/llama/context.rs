//! A llama.cpp context, owned: it evaluates batches and holds the KV cache.
//!
//! Made from loaded weights and freed with its owner. Every number that C++ would end the process over is checked by the caller:
//! token ids, positions, how many rows a batch has and how many of them ask for logits. `Option`s and `bool`s are llama.cpp's
//! answers; log.rs has its reasons.

use std::ffi::c_void;
use std::marker::PhantomData;
use std::ops::ControlFlow;
use std::ptr::{NonNull, null_mut};
use std::sync::atomic::{AtomicPtr, Ordering};

use anyhow::{Result, bail};
use llama_cpp_sys_2 as sys;

use super::devices::backend;
use super::log::{contained, forget_errors, reason};
use super::weights::Weights;
use crate::chat::Settings;
use crate::chat::settings::{Auto, CacheType};
use crate::engine::draft;
use crate::engine::model::{Cancel, Row};

/// What a context needs to know.
#[derive(Debug, Clone)]
pub struct ContextOptions {
    /// Most tokens of context, for each sequence.
    pub limit: usize,
    /// Sequences that memory holds side by side, at least one.
    pub sequences: usize,
    /// Most rows of one batch: a power of two.
    pub chunk: usize,
    /// Most rows of one batch that get logits. llama.cpp reserves room for so many: 4 bytes a token of the vocabulary each.
    pub outputs: usize,
    pub threads: u32,
    pub threads_batch: u32,
    pub flash_attn: Auto,
    pub cache_type_k: CacheType,
    pub cache_type_v: CacheType,
}

impl ContextOptions {
    /// For one sequence that is answered with drafts, of up to `limit` tokens, read in batches of `chunk`.
    pub fn new(settings: &Settings, limit: usize, chunk: usize, threads: u32) -> ContextOptions {
        ContextOptions {
            limit,
            sequences: 1,
            chunk,
            outputs: draft::MOST + 1,
            threads,
            threads_batch: settings.threads_batch.unwrap_or(threads),
            flash_attn: settings.flash_attn,
            cache_type_k: settings.cache_type_k,
            cache_type_v: settings.cache_type_v,
        }
    }
}

/// A context on weights, which outlive it.
pub(super) struct Context<'w> {
    raw: NonNull<sys::llama_context>,
    /// What `cancelled` looks at: a `Cancel` while a batch is evaluated, null otherwise. llama.cpp holds its address.
    cancel: Box<AtomicPtr<c_void>>,
    /// Tokens of the vocabulary: the length of a row of logits.
    vocabulary: usize,
    weights: PhantomData<&'w Weights>,
}

// SAFETY: a context is bound to no thread. It is not `Sync`, for llama.cpp changes it even where it only reads.
unsafe impl Send for Context<'_> {}

/// llama.cpp asks this between the operations of a batch, on whichever of its threads: whether to end it.
extern "C" fn cancelled(data: *mut c_void) -> bool {
    // SAFETY: `data` is the address of `Context::cancel`, which lives longer than what asks.
    let cancel = unsafe { &*data.cast::<AtomicPtr<c_void>>() }.load(Ordering::Acquire);
    // SAFETY: what it points to lives until the batch has ended, and may be called by several threads.
    !cancel.is_null() && unsafe { (*cancel.cast::<Cancel>())() }
}

impl<'w> Context<'w> {
    /// A context with room for `capacity` tokens in each sequence. The error is llama.cpp's own reason.
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
        params.n_batch = options.chunk as u32;
        params.n_ubatch = options.chunk as u32;
        params.n_seq_max = options.sequences as u32;
        params.n_outputs_max = options.outputs.max(options.sequences) as u32;
        params.n_threads = options.threads as i32;
        params.n_threads_batch = options.threads_batch as i32;
        params.flash_attn_type = match options.flash_attn {
            Auto::Auto => sys::LLAMA_FLASH_ATTN_TYPE_AUTO,
            Auto::On => sys::LLAMA_FLASH_ATTN_TYPE_ENABLED,
            Auto::Off => sys::LLAMA_FLASH_ATTN_TYPE_DISABLED,
        };
        params.type_k = cache_type(options.cache_type_k);
        params.type_v = cache_type(options.cache_type_v);
        params.swa_full = true; // a window-sized cache cannot be cut exactly
        params.no_perf = true;
        params.abort_callback = Some(cancelled);
        params.abort_callback_data = (&raw const *cancel).cast_mut().cast();
        forget_errors();
        let model = weights.pointer();
        // SAFETY: the model lives as long as `'w`, and the callback's data as long as the context.
        let raw = contained(|| unsafe { sys::llama_init_from_model(model, params) });
        let Some(raw) = NonNull::new(raw) else {
            bail!(reason().unwrap_or_else(|| "llama.cpp does not say why".into()));
        };
        // SAFETY: the model is loaded, and its vocabulary is a part of it.
        let vocabulary = unsafe { sys::llama_vocab_n_tokens(sys::llama_model_get_vocab(model)) };
        Ok(Context { raw, cancel, vocabulary: vocabulary as usize, weights: PhantomData })
    }

    /// Evaluates a batch, and breaks it off when told to by `cancel`. The processor and Metal listen to that in the middle of a
    /// batch; CUDA, Vulkan and servers reached by RPC do not. Unless it returns `Continue`, some of the batch may be in memory.
    pub(super) fn decode(&mut self, batch: &[Row], cancel: Cancel) -> Result<ControlFlow<()>> {
        let mut tokens: Vec<i32> = batch.iter().map(|row| row.token).collect();
        let mut positions: Vec<i32> = batch.iter().map(|row| row.position as i32).collect();
        let mut sequences: Vec<i32> = batch.iter().map(|row| row.sequence as i32).collect();
        let mut sequence_of: Vec<*mut i32> = sequences.iter_mut().map(std::ptr::from_mut).collect();
        let mut sequences_of_each = vec![1; batch.len()];
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
        forget_errors();
        self.cancel.store((&raw const cancel).cast_mut().cast(), Ordering::Release);
        // SAFETY: the arrays have a number for each row and live until it returns; it copies what it needs longer.
        let status = contained(|| unsafe { sys::llama_decode(self.raw.as_ptr(), raw) });
        self.cancel.store(null_mut(), Ordering::Release);
        match status {
            0 => Ok(ControlFlow::Continue(())),
            ABORTED => Ok(ControlFlow::Break(())),
            1 => bail!("there is no room in its memory"),
            _ => bail!(reason().unwrap_or_else(|| format!("error {status}"))),
        }
    }

    /// A row of logits of the last batch, counted from the last that it asked for: -1. `None` where there is none.
    pub(super) fn logits(&self, row: i32) -> Option<&[f32]> {
        // SAFETY: looks whether there is such a row.
        let logits = contained(|| unsafe { sys::llama_get_logits_ith(self.raw.as_ptr(), row) });
        // SAFETY: a row has one number a token, and stays where it is until the context is changed.
        NonNull::new(logits)
            .map(|logits| unsafe { std::slice::from_raw_parts(logits.as_ptr(), self.vocabulary) })
    }

    fn memory(&self) -> sys::llama_memory_t {
        // SAFETY: only reads a field.
        unsafe { sys::llama_get_memory(self.raw.as_ptr()) }
    }

    /// Forgets all sequences.
    pub(super) fn clear(&mut self) {
        // SAFETY: the memory is this context's; null, of a model without one, is seen.
        contained(|| unsafe { sys::llama_memory_clear(self.memory(), true) });
    }

    /// Forgets a sequence from a position on. `false`: its memory can be forgotten only as a whole.
    pub(super) fn remove(&mut self, sequence: usize, from: usize) -> bool {
        // SAFETY: as in `clear`; -1 stands for the end.
        contained(|| unsafe { sys::llama_memory_seq_rm(self.memory(), sequence as i32, from as i32, -1) })
    }

    /// The first position of a sequence that is in memory.
    pub(super) fn first(&self, sequence: usize) -> Option<usize> {
        // SAFETY: as in `clear`; -1 stands for none.
        let first = contained(|| unsafe { sys::llama_memory_seq_pos_min(self.memory(), sequence as i32) });
        usize::try_from(first).ok()
    }

    /// The last position of a sequence that is in memory.
    pub(super) fn last(&self, sequence: usize) -> Option<usize> {
        // SAFETY: as in `clear`; -1 stands for none.
        let last = contained(|| unsafe { sys::llama_memory_seq_pos_max(self.memory(), sequence as i32) });
        usize::try_from(last).ok()
    }

    /// Bytes that `save` adds for a sequence now.
    pub(super) fn state_bytes(&self, sequence: usize) -> usize {
        let (raw, sequence) = (self.raw.as_ptr(), sequence as i32);
        // SAFETY: only counts.
        contained(|| unsafe { sys::llama_state_seq_get_size_ext(raw, sequence, WHOLE) })
    }

    /// Adds a sequence's memory to `state`, which has room for it reserved. Returns how many bytes it was; 0: it did not fit.
    pub(super) fn save(&self, sequence: usize, state: &mut Vec<u8>) -> usize {
        let raw = self.raw.as_ptr();
        let (before, room) = (state.len(), state.spare_capacity_mut());
        let (to, length) = (room.as_mut_ptr().cast::<u8>(), room.len());
        // SAFETY: so many bytes lie from `to` on; it writes no more.
        let written = contained(|| unsafe {
            sys::llama_state_seq_get_data_ext(raw, to, length, sequence as i32, WHOLE)
        });
        // SAFETY: so many bytes have been written there.
        unsafe { state.set_len(before + written) };
        written
    }

    /// Puts saved memory in the place of a sequence's. `false`: it was not taken, and some of it may be there. The caller
    /// guarantees that llama.cpp itself wrote these bytes, for weights and a context like these.
    pub(super) fn restore(&mut self, sequence: usize, state: &[u8]) -> bool {
        let (raw, from, length) = (self.raw.as_ptr(), state.as_ptr(), state.len());
        forget_errors();
        // SAFETY: it reads no further than the slice.
        let read = contained(|| unsafe {
            sys::llama_state_seq_set_data_ext(raw, from, length, sequence as i32, WHOLE)
        });
        read > 0
    }
}

impl Drop for Context<'_> {
    fn drop(&mut self) {
        // SAFETY: it was made by llama.cpp, and nobody else has it.
        contained(|| unsafe { sys::llama_free(self.raw.as_ptr()) });
    }
}

/// What `llama_decode` returns when `cancelled` has ended a batch.
const ABORTED: i32 = 2;

/// All of a sequence's state is saved and restored.
const WHOLE: sys::llama_state_seq_flags = 0;

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
