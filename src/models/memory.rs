//! A header and the settings → the memory that a model needs, and the context that fits into this machine's
//! memory.

use super::Error;
use super::catalogue::smaller;
use super::error::Remedies;
use crate::chat::settings::{CacheType, CtxSize, Settings};
use crate::engine::llama::{Device, DeviceKind};
use crate::gguf::{self, Header};

/// Context of a model whose header states no trained context, in tokens.
const DEFAULT_CONTEXT: usize = 2048;
/// Smallest context that makes sense, in tokens.
pub(super) const SMALLEST_CONTEXT: usize = 256;
/// Context that is enough for a conversation, in tokens.
const USEFUL_CONTEXT: usize = 4096;
/// Compute buffers, besides weights and KV cache: bytes, and a fraction of the weights.
const COMPUTE_BYTES: u64 = 64 << 20;
const COMPUTE_SHARE: f64 = 0.02;

/// A model's memory needs, in bytes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Needs {
    pub weights: u64,
    /// Bytes of KV cache per token of context.
    pub per_token: f64,
}

impl Needs {
    /// The weights, and a KV cache with elements of these types.
    pub fn of(header: &Header, keys: CacheType, values: CacheType) -> Needs {
        let per_token = gguf::memory::kv_bytes_per_token(header, bits(keys), bits(values));
        Needs { weights: weights_bytes(header), per_token }
    }

    /// All but the KV cache: the weights, copies of some of them, and compute buffers.
    pub fn fixed(self) -> u64 {
        let copies = (self.weights as f64 * COMPUTE_SHARE) as u64;
        let computing = COMPUTE_BYTES + cpu_batch_size(self.weights) as u64 * 16 * 1024;
        self.weights.saturating_add(copies).saturating_add(computing)
    }

    pub fn kv(self, context: usize) -> u64 {
        (self.per_token * context as f64) as u64
    }

    pub fn with_context(self, context: usize) -> u64 {
        self.fixed().saturating_add(self.kv(context))
    }

    /// Tokens of context that fit into `available` bytes.
    fn tokens_in(self, available: u64) -> usize {
        let room = available.saturating_sub(self.fixed()) as f64;
        if self.per_token > 0.0 { (room / self.per_token) as usize } else { usize::MAX }
    }
}

/// Whether a model can run in the memory of this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemoryFit {
    Yes,
    /// With this many tokens of context: too few for a conversation.
    Short(usize),
    /// It needs this many bytes.
    No(u64),
}

/// Whether a model with a trained context of `trained` tokens fits into `available` bytes.
pub fn fit(needs: Needs, trained: Option<u32>, available: u64) -> MemoryFit {
    let wanted = trained.map_or(USEFUL_CONTEXT, |n| USEFUL_CONTEXT.min(n as usize));
    let smallest = needs.with_context(SMALLEST_CONTEXT.min(wanted));
    match needs.with_context(wanted) {
        enough if enough <= available => MemoryFit::Yes,
        _ if smallest <= available => MemoryFit::Short(needs.tokens_in(available)),
        _ => MemoryFit::No(smallest),
    }
}

/// Bytes of the weights, in all parts of a split model.
pub fn weights_bytes(header: &Header) -> u64 {
    match &gguf::parts(header)[..] {
        [] | [_] => gguf::memory::weights_bytes(header),
        parts => parts.iter().filter_map(|part| std::fs::metadata(part).ok()).map(|part| part.len()).sum(),
    }
}

/// The batch size until the speed of a model with so many bytes of weights is known, on these GPUs or on the CPU
/// alone: never a measurement, so that a seed gives the same answer. A CPU is as fast with small batches, and
/// evaluates large ones of a large model for seconds; an integrated GPU may, too, and does not listen meanwhile.
pub(super) fn first_batch_size(weights: u64, gpus: &[Device]) -> u32 {
    match gpus {
        [] => cpu_batch_size(weights),
        _ if gpus.iter().any(|gpu| gpu.kind == DeviceKind::Integrated) => 128,
        _ => 512,
    }
}

fn cpu_batch_size(weights: u64) -> u32 {
    match weights >> 20 {
        0..1_000 => 512,
        1_000..4_000 => 256,
        4_000..16_000 => 128,
        _ => 64,
    }
}

/// The context that the settings ask for, in tokens, whether it fits or not. An error if the model cannot.
pub(super) fn wanted_context(header: &Header, settings: &Settings) -> Result<usize, Error> {
    let trained = trained(header);
    let wanted = match settings.ctx_size {
        CtxSize::Auto | CtxSize::Trained => trained,
        CtxSize::Tokens(n) => n as usize,
    };
    if wanted > trained && gguf::memory::learned_positions(header) {
        let reason = gguf::memory::context_reason(header).map(String::from);
        return Err(Error::ContextTooLong { wanted, trained, reason });
    }
    Ok(wanted)
}

fn trained(header: &Header) -> usize {
    gguf::memory::trained_context(header).map_or(DEFAULT_CONTEXT, |n| n as usize)
}

/// The maximum context in tokens on the CPU alone: the requested or the trained size, if it fits into memory.
/// An error with the figures if it does not. `computing`: bytes of compute buffers that each of its tokens takes.
pub(super) fn context_limit(header: &Header, settings: &Settings, computing: f64) -> Result<usize, Error> {
    let available = gguf::memory::available_memory().filter(|_| settings.fit);
    let Some(available) = available else {
        return wanted_context(header, settings);
    };
    let mut needs = Needs::of(header, settings.cache_type_k, settings.cache_type_v);
    needs.per_token += computing;
    let fits = (available >= needs.fixed()).then(|| needs.tokens_in(available));
    limited(header, settings, fits, |tokens| needs.with_context(tokens), available)
}

/// The maximum context in tokens if `fits` tokens fit, or not even the model. `needed`: the bytes that the
/// model takes with so many tokens; `free`: all that there are.
pub(super) fn limited(
    header: &Header,
    settings: &Settings,
    fits: Option<usize>,
    needed: impl Fn(usize) -> u64,
    free: u64,
) -> Result<usize, Error> {
    let wanted = wanted_context(header, settings)?;
    let smallest = SMALLEST_CONTEXT.min(wanted);
    let Some(fits) = fits.filter(|fits| *fits >= smallest) else {
        return Err(Error::NoMemory {
            needed: needed(SMALLEST_CONTEXT),
            free,
            remedies: Remedies {
                smaller: smaller(header.str("general.name"), weights_bytes(header), free),
                context: None,
                mixture: header.arch_uint("expert_count").is_some_and(|experts| experts > 0),
            },
        });
    };
    match settings.ctx_size {
        CtxSize::Auto => Ok(wanted.min(fits)),
        _ if wanted > fits => Err(Error::NoMemoryForContext {
            wanted,
            fits: fits.min(trained(header)),
            context: needed(wanted).saturating_sub(needed(0)),
            model: needed(0),
            free,
        }),
        _ => Ok(wanted),
    }
}

/// Bits per element, including its share of the block's scales.
pub(super) fn bits(kind: CacheType) -> f64 {
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

    #[test]
    fn the_first_batches_are_small_where_they_may_be_slow() {
        let gpu = |kind| {
            let (name, description) = (String::new(), String::new());
            Device { name, description, kind, free: 0, total: 0, hardware: None }
        };
        assert_eq!((first_batch_size(1 << 20, &[]), first_batch_size(8 << 30, &[])), (512, 128));
        for (kind, size) in [(DeviceKind::Gpu, 512), (DeviceKind::Lent, 512), (DeviceKind::Integrated, 128)] {
            assert_eq!(first_batch_size(8 << 30, &[gpu(kind)]), size, "{kind:?}");
        }
    }
}
