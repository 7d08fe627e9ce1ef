//! llama.cpp behind [`Model`]: weights, the context on them, and what is held in its memory.
//!
//! Only this room (with sampler.rs) names the binding. It hides what the binding allows to go wrong: ids are checked before
//! they reach C++, the log is kept for error messages, and positions never pass what the model can take.

mod devices;
mod facts;
mod fallback;
#[cfg(test)]
pub(crate) mod ggml;
mod log;
mod weights;

use std::num::NonZeroU32;

use anyhow::{Context as _, Result, anyhow, bail};
use llama_cpp_2::context::LlamaContext;
use llama_cpp_2::context::params::{KvCacheType, LlamaContextParams};
use llama_cpp_2::context::session::LlamaStateSeqFlags;
use llama_cpp_2::llama_batch::LlamaBatch;
use llama_cpp_2::token::LlamaToken;

use self::devices::backend;
pub use self::devices::{BINDING, BUILD, Device, devices, system_info};
use self::fallback::LONG;
pub use self::log::{Hooks, contained, install, not_locked};
use self::log::{forget_errors, reason};
pub use self::weights::{LoadOptions, Parts, SpecialIds, Weights};
use super::model::{Logits, Model, Sampler};
use super::sampler::Chain;
use super::token::{Token, Vocabulary};
use crate::chat::Settings;
use crate::chat::settings::{Auto, CacheType, Sampling};
use crate::error::Failure;
use crate::settings::SETTINGS;

/// What a context needs to know.
#[derive(Debug, Clone)]
pub struct ContextOptions {
    /// Most tokens of context.
    pub limit: usize,
    /// Tokens of one batch: a power of two.
    pub chunk: usize,
    pub threads: u32,
    pub threads_batch: u32,
    pub flash_attn: Auto,
    pub cache_type_k: CacheType,
    pub cache_type_v: CacheType,
}

/// One sequence of tokens being evaluated on loaded weights.
pub struct Llama<'w> {
    weights: &'w Weights,
    options: ContextOptions,
    /// Made when first needed, with the size then needed.
    context: Option<LlamaContext<'w>>,
    batch: LlamaBatch<'static>,
    capacity: usize,
    len: usize,
    /// How many tokens of the last decode have logits.
    rows: usize,
}

impl<'w> Llama<'w> {
    pub fn new(weights: &'w Weights, options: ContextOptions) -> Llama<'w> {
        let batch = LlamaBatch::new(options.chunk, 1);
        Llama { weights, options, context: None, batch, capacity: 0, len: 0, rows: 0 }
    }

    fn open(&self, capacity: usize) -> Result<LlamaContext<'w>> {
        let options = &self.options;
        let chunk = options.chunk as u32;
        let flash = match options.flash_attn {
            Auto::Auto => llama_cpp_sys_2::LLAMA_FLASH_ATTN_TYPE_AUTO,
            Auto::On => llama_cpp_sys_2::LLAMA_FLASH_ATTN_TYPE_ENABLED,
            Auto::Off => llama_cpp_sys_2::LLAMA_FLASH_ATTN_TYPE_DISABLED,
        };
        let params = LlamaContextParams::default()
            .with_n_ctx(NonZeroU32::new(capacity as u32))
            .with_n_batch(chunk)
            .with_n_ubatch(chunk)
            .with_n_seq_max(1)
            .with_n_threads(options.threads as i32)
            .with_n_threads_batch(options.threads_batch as i32)
            .with_flash_attention_policy(flash)
            .with_type_k(cache_type(options.cache_type_k))
            .with_type_v(cache_type(options.cache_type_v))
            .with_swa_full(true) // a window-sized cache cannot be cut exactly
            .with_no_perf(true);
        forget_errors();
        let context = contained(|| self.weights.model.new_context(backend(), params));
        context.map_err(|e| self.refused(capacity, &reason().unwrap_or_else(|| e.to_string())))
    }

    /// The tokens of a text in which nothing is left out.
    fn tokens(&self, text: &str, special: bool) -> Vec<Token> {
        let vocab = self.weights.vocab();
        let plain = |text: &str| -> Vec<Token> {
            contained(|| vocab.tokenize(text.as_bytes(), false, special)).into_iter().map(|t| t.0).collect()
        };
        match Some(text).filter(|text| text.len() > LONG).and_then(|_| self.weights.letters()) {
            Some(letters) => {
                let ends =
                    self.weights.vocabulary().markers.iter().filter_map(|m| m.text.chars().next_back());
                letters.tokens(text, &ends.collect::<Vec<_>>(), &plain)
            }
            None => plain(text),
        }
    }

    /// Why there is no context: what was asked for, where llama.cpp's reason is about that.
    fn refused(&self, capacity: usize, reason: &str) -> anyhow::Error {
        let why = reason.rsplit_once("llama_init_from_model: ").map_or(reason, |(_, why)| why);
        let about_settings = ["flash", "cache type"].iter().any(|word| why.to_lowercase().contains(word));
        let given = self.options.unusual();
        if !about_settings || given.is_empty() {
            return anyhow!("no context of {capacity} tokens: {why}");
        }
        let given = given.join(" and ");
        Failure::usage(format!("this model does not go with {given}: {why}"))
            .hint("leave one of them out, or all: what is not set suits every model")
            .into()
    }
}

impl ContextOptions {
    /// How the KV cache was asked to be, where that is not as usual.
    fn unusual(&self) -> Vec<String> {
        let usual = Settings::default();
        let ours = Settings {
            flash_attn: self.flash_attn,
            cache_type_k: self.cache_type_k,
            cache_type_v: self.cache_type_v,
            ..usual.clone()
        };
        let rows = SETTINGS.iter().filter(|row| (row.get)(&ours) != (row.get)(&usual));
        let mut given: Vec<String> = rows.map(|row| format!("--{} {}", row.name, (row.get)(&ours))).collect();
        given.sort();
        given
    }
}

impl Model for Llama<'_> {
    fn tokenize(&self, text: &str, special: bool) -> Vec<Token> {
        // What stands on both sides of a character that is left out stays apart: together it might spell a marker.
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

    fn len(&self) -> usize {
        self.len
    }

    fn capacity(&self) -> usize {
        self.capacity
    }

    fn limit(&self) -> usize {
        self.options.limit
    }

    fn chunk(&self) -> usize {
        self.options.chunk
    }

    fn state_bytes(&self) -> usize {
        let size = |context: &LlamaContext| context.state_seq_get_size_ext(0, LlamaStateSeqFlags::empty());
        self.context.as_ref().filter(|_| self.len > 0).map_or(0, |context| 1 + contained(|| size(context)))
    }

    fn save(&self) -> Result<Vec<u8>> {
        let size = self.state_bytes();
        let context = self.context.as_ref().filter(|_| size > 1).context("there is nothing in memory")?;
        let mut state = Vec::new();
        state.try_reserve_exact(size).context("there is no room for a copy of the model's memory")?;
        state.push(u8::from(self.weights.far(self.capacity)));
        let rest = state.spare_capacity_mut().as_mut_ptr().cast::<u8>();
        let flags = LlamaStateSeqFlags::empty();
        // SAFETY: `size - 1` bytes from `rest` on were reserved, as many as llama.cpp has just said that it will write.
        let written = contained(|| unsafe { context.state_seq_get_data_ext(rest, 0, flags) });
        if written != size - 1 {
            bail!("llama.cpp could not copy its memory");
        }
        // SAFETY: so many bytes were reserved and have been written.
        unsafe { state.set_len(size) };
        Ok(state)
    }

    fn restore(&mut self, state: &[u8], len: usize) -> Result<()> {
        let context = self.context.as_mut().context("nothing was made room for")?;
        context.clear_kv_cache();
        self.len = 0;
        let (far, state) = state.split_first().context("there is nothing saved")?;
        if *far != u8::from(self.weights.far(self.capacity)) {
            bail!("positions are encoded otherwise in a context of this size");
        }
        if len == 0 || len > self.capacity {
            bail!("{len} saved tokens do not fit a context of {}", self.capacity);
        }
        forget_errors();
        let flags = LlamaStateSeqFlags::empty();
        // SAFETY: the caller guarantees that llama.cpp itself wrote these bytes, for weights and a context like these; of lengths
        // it reads no further than the slice.
        let done = contained(|| unsafe { context.state_seq_set_data_ext(state, 0, flags) });
        if !done || context.kv_cache_seq_pos_max(0) != len as i32 - 1 {
            context.clear_kv_cache();
            bail!("llama.cpp did not take the saved memory: {}", reason().unwrap_or_default());
        }
        self.len = len;
        Ok(())
    }

    /// Recurrent memory is one state after all tokens, and of a sliding window llama.cpp saves only what the last token sees.
    fn restores_parts(&self) -> bool {
        let model = &self.weights.model;
        !model.is_recurrent() && !model.is_hybrid() && self.weights.window.is_none()
    }

    fn grow(&mut self, capacity: usize) -> Result<usize> {
        if capacity <= self.capacity {
            return Ok(self.len);
        }
        // The old context goes before the new one comes, so that both are never in memory together.
        let state = self.save().ok().filter(|_| self.len > 0);
        self.context = None;
        let kept = std::mem::take(&mut self.len);
        self.capacity = 0;
        self.context = Some(self.open(capacity)?);
        self.capacity = capacity;
        if let Some(state) = state {
            let _ = self.restore(&state, kept); // what could not be kept is read again
        }
        Ok(self.len)
    }

    fn can_return(&self) -> bool {
        let model = &self.weights.model;
        let whole = |context| whole(context, self.weights.window, self.len);
        !model.is_recurrent() && !model.is_hybrid() && self.context.as_ref().is_some_and(whole)
    }

    fn truncate(&mut self, len: usize) -> usize {
        let Some(context) = self.context.as_mut().filter(|_| len < self.len) else {
            return self.len;
        };
        let whole = whole(context, self.weights.window, len);
        let mut cut = || context.clear_kv_cache_seq(Some(0), Some(len as u32), None);
        if len > 0 && whole && matches!(cut(), Ok(true)) {
            self.len = len;
        } else {
            context.clear_kv_cache();
            self.len = 0;
        }
        self.len
    }

    fn decode(&mut self, tokens: &[Token], logits: Logits) -> Result<()> {
        let context = self.context.as_mut().context("nothing was made room for")?;
        let last = tokens.len().saturating_sub(1);
        self.batch.clear();
        for (i, token) in tokens.iter().enumerate() {
            if *token < 0 || *token as usize >= self.weights.vocabulary().len {
                bail!("token {token} is not in the vocabulary");
            }
            let wanted = logits == Logits::All || logits == Logits::Last && i == last;
            self.batch.add(LlamaToken(*token), (self.len + i) as i32, &[0], wanted)?;
        }
        match contained(|| context.decode(&mut self.batch)) {
            Ok(()) => {
                self.len += tokens.len();
                self.rows = match logits {
                    Logits::None => 0,
                    Logits::Last => 1,
                    Logits::All => tokens.len(),
                };
            }
            Err(error) => {
                let len = self.len;
                self.len += tokens.len(); // some of the batch may be in memory: cut it off
                self.truncate(len);
                return Err(error).context("llama.cpp could not evaluate the tokens");
            }
        }
        Ok(())
    }

    fn logits(&self, row: usize) -> &[f32] {
        assert!(row < self.rows, "there are {} rows of logits", self.rows);
        let context = self.context.as_ref().expect("decode made a context");
        context.get_logits_ith(row as i32 - self.rows as i32) // rows counted from the last one, which is -1
    }
}

/// Whether memory has all that a model with such a window needs to go on after `len` tokens: restored memory has only what was
/// needed after its last one.
fn whole(context: &LlamaContext, window: Option<usize>, len: usize) -> bool {
    let oldest = context.kv_cache_seq_pos_min(0).max(0) as usize;
    oldest <= len.saturating_sub(window.unwrap_or(len))
}

fn cache_type(kind: CacheType) -> KvCacheType {
    match kind {
        CacheType::F32 => KvCacheType::F32,
        CacheType::F16 => KvCacheType::F16,
        CacheType::BF16 => KvCacheType::BF16,
        CacheType::Q8_0 => KvCacheType::Q8_0,
        CacheType::Q5_1 => KvCacheType::Q5_1,
        CacheType::Q5_0 => KvCacheType::Q5_0,
        CacheType::Q4_1 => KvCacheType::Q4_1,
        CacheType::Q4_0 => KvCacheType::Q4_0,
        CacheType::Iq4Nl => KvCacheType::IQ4_NL,
    }
}
