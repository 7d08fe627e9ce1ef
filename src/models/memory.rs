//! A header and the settings → the memory that a model takes, and how much context fits into what this machine has.

use super::Error;
use crate::chat::settings::{CacheType, CtxSize, Settings};
use crate::engine::llama;
use crate::gguf::{self, Header};

/// Context of a model that does not say what it was trained for, in tokens.
const DEFAULT_CONTEXT: usize = 2048;
/// Smallest context that is worth starting with.
const SMALLEST_CONTEXT: usize = 256;
/// A context in which one can hold a conversation.
const USEFUL_CONTEXT: usize = 4096;
/// What llama.cpp needs besides weights and KV cache, as bytes and as a share of the weights.
const COMPUTE_BYTES: u64 = 64 << 20;
const COMPUTE_SHARE: f64 = 0.02;

/// What a model takes of the memory, in bytes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Needs {
    pub weights: u64,
    /// For each token of context.
    pub per_token: f64,
}

impl Needs {
    /// Weights, and a KV cache with elements of these types.
    pub fn of(header: &Header, keys: CacheType, values: CacheType) -> Needs {
        let per_token = gguf::memory::kv_bytes_per_token(header, bits(keys), bits(values));
        Needs { weights: weights_bytes(header), per_token }
    }

    /// All but the KV cache: the weights, copies of some of them, and room to compute in.
    pub fn fixed(self) -> u64 {
        let copies = (self.weights as f64 * COMPUTE_SHARE) as u64;
        let computing = COMPUTE_BYTES + chunk(self.weights) as u64 * 16 * 1024;
        self.weights.saturating_add(copies).saturating_add(computing)
    }

    pub fn kv(self, context: usize) -> u64 {
        (self.per_token * context as f64) as u64
    }

    pub fn with_context(self, context: usize) -> u64 {
        self.fixed().saturating_add(self.kv(context))
    }

    /// Tokens of context that fit into so many bytes.
    fn tokens_in(self, available: u64) -> usize {
        let room = available.saturating_sub(self.fixed()) as f64;
        if self.per_token > 0.0 { (room / self.per_token) as usize } else { usize::MAX }
    }
}

/// Whether a model can be used on this machine as it is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemoryFit {
    Yes,
    /// With a context of so many tokens, which is less than a conversation wants.
    Short(usize),
    /// It would need so many bytes.
    No(u64),
}

/// Whether a model trained for `trained` tokens fits into so many bytes.
pub fn fit(needs: Needs, trained: Option<u32>, available: u64) -> MemoryFit {
    let wanted = trained.map_or(USEFUL_CONTEXT, |n| USEFUL_CONTEXT.min(n as usize));
    let smallest = needs.with_context(SMALLEST_CONTEXT.min(wanted));
    match needs.with_context(wanted) {
        enough if enough <= available => MemoryFit::Yes,
        _ if smallest <= available => MemoryFit::Short(needs.tokens_in(available)),
        _ => MemoryFit::No(smallest),
    }
}

/// Bytes of the weights, in all files of a model that is stored in several.
pub fn weights_bytes(header: &Header) -> u64 {
    match &gguf::parts(header)[..] {
        [] | [_] => gguf::memory::weights_bytes(header),
        parts => parts.iter().filter_map(|part| std::fs::metadata(part).ok()).map(|part| part.len()).sum(),
    }
}

/// Tokens evaluated at once, a power of two fixed per model: large models get small chunks, so that Ctrl-C is heard.
pub(super) fn chunk(weights: u64) -> usize {
    match weights >> 20 {
        0..1_000 => 512,
        1_000..4_000 => 256,
        4_000..16_000 => 128,
        _ => 64,
    }
}

/// Most tokens of context: what was asked for or what the model was trained for, if memory allows. Refuses what cannot
/// fit, with the figures.
pub(super) fn context_limit(header: &Header, settings: &Settings) -> Result<usize, Error> {
    let trained = gguf::memory::trained_context(header).map_or(DEFAULT_CONTEXT, |n| n as usize);
    let wanted = match settings.ctx_size {
        CtxSize::Auto | CtxSize::Trained => trained,
        CtxSize::Tokens(n) => n as usize,
    };
    if wanted > trained && gguf::memory::learned_positions(header) {
        let reason = gguf::memory::context_reason(header).map(String::from);
        return Err(Error::ContextTooLong { wanted, trained, reason });
    }
    let on_gpu = llama::devices().iter().any(|d| d.gpu) && settings.gpu_layers != Some(0);
    let available = gguf::memory::available_memory().filter(|_| !on_gpu); // memory of the GPU is llama.cpp's to judge
    let Some(available) = available else {
        return Ok(wanted);
    };
    let needs = Needs::of(header, settings.cache_type_k, settings.cache_type_v);
    let fits = needs.tokens_in(available);
    if available < needs.fixed() || fits < SMALLEST_CONTEXT.min(wanted) {
        return Err(Error::NoMemory { needed: needs.with_context(SMALLEST_CONTEXT), free: available });
    }
    match settings.ctx_size {
        CtxSize::Auto => Ok(wanted.min(fits)),
        _ if wanted > fits => Err(Error::NoMemoryForContext {
            wanted,
            fits: fits.min(trained),
            context: needs.kv(wanted),
            model: needs.fixed(),
            free: available,
        }),
        _ => Ok(wanted),
    }
}

/// Bits of one element, the scales of its block included.
fn bits(kind: CacheType) -> f64 {
    match kind {
        CacheType::F32 => 32.0,
        CacheType::F16 | CacheType::BF16 => 16.0,
        CacheType::Q8_0 => 8.5,
        CacheType::Q5_1 => 6.0,
        CacheType::Q5_0 => 5.5,
        CacheType::Q4_1 => 5.0,
        CacheType::Q4_0 | CacheType::Iq4Nl => 4.5,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_fits_short_or_not() {
        let needs = Needs { weights: 1 << 30, per_token: 100_000.0 };
        assert_eq!(fit(needs, Some(8192), 4 << 30), MemoryFit::Yes);
        assert_eq!(fit(needs, Some(8192), needs.with_context(1000) + 99_999), MemoryFit::Short(1000));
        assert_eq!(fit(needs, Some(8192), 1 << 30), MemoryFit::No(needs.with_context(256)));
        assert_eq!(fit(needs, Some(100), needs.with_context(100)), MemoryFit::Yes);
    }
}
