//! llama.cpp's reason for not making a context → an error: memory ran out, or settings do not suit the model.

use anyhow::anyhow;

use super::context::ContextOptions;
use crate::chat::Settings;
use crate::engine::error::Error;
use crate::settings::SETTINGS;

/// The error for a context of `capacity` tokens that llama.cpp did not make for this `reason`. It names the
/// requested settings if the reason concerns them.
pub(super) fn refused(options: &ContextOptions, capacity: usize, reason: &str) -> anyhow::Error {
    let why = reason.rsplit_once("llama_init_from_model: ").map_or(reason, |(_, why)| why);
    let about_settings = ["flash", "cache type"].iter().any(|word| why.to_lowercase().contains(word));
    if lacks_memory(why) {
        return Error::NoRoom { capacity, why: why.into() }.into();
    }
    let given = unusual(options);
    if !about_settings || given.is_empty() {
        return anyhow!("no context of {capacity} tokens: {why}");
    }
    Error::Settings { given, why: why.into() }.into()
}

/// Whether an error says that memory ran out.
pub(super) fn is_memory(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(Error::NoRoom { .. }))
}

/// Whether llama.cpp's reason is a lack of memory.
pub fn lacks_memory(why: &str) -> bool {
    let why = why.to_lowercase();
    ["allocate", "out of memory", "outofdevicememory", "cudamalloc"].iter().any(|word| why.contains(word))
}

/// The KV cache settings that differ from the defaults, as (name, value).
fn unusual(options: &ContextOptions) -> Vec<(&'static str, String)> {
    let usual = Settings::default();
    let ours = Settings {
        flash_attn: options.flash_attn,
        cache_type_k: options.cache_type_k,
        cache_type_v: options.cache_type_v,
        ..usual.clone()
    };
    let rows = SETTINGS.iter().filter(|row| (row.get)(&ours) != (row.get)(&usual));
    let mut given: Vec<_> = rows.map(|row| (row.name, (row.get)(&ours))).collect();
    given.sort();
    given
}

#[cfg(test)]
mod tests {
    use super::lacks_memory;

    #[test]
    fn a_lack_of_memory_is_told_from_other_reasons() {
        for why in [
            "unable to allocate CUDA0 buffer",
            "failed to allocate buffer for kv cache",
            "failed to allocate compute pp buffers",
            "ggml_backend_cuda_buffer_type_alloc_buffer: allocating 3072.00 MiB on device 0: cudaMalloc failed: out of memory",
            "ggml_vulkan: vk::Device::allocateMemory: ErrorOutOfDeviceMemory",
        ] {
            assert!(lacks_memory(why), "{why}");
        }
        for why in ["tensor 'x' data is not within the file bounds", "quantized V cache was requested"] {
            assert!(!lacks_memory(why), "{why}");
        }
    }
}
