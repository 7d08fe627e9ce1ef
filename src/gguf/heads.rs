//! A header → `Ok`, or what is wrong with its attention: number and size of the heads, rotary dimensions.

use super::{Header, Refusal, architectures as arch, refusal::broken};

/// Refuses numbers that violate llama.cpp's assertions for the architecture.
pub(super) fn check(header: &Header) -> Result<(), Refusal> {
    let name = header.architecture().unwrap_or_default();
    // One number, or one per layer, where 0 marks a layer without attention.
    let per_layer = header.arch_uints("attention.head_count").unwrap_or_default();
    if per_layer.iter().all(|heads| *heads == 0) {
        return if arch::is_recurrent(name) {
            Ok(())
        } else {
            broken("attention.head_count is missing or 0")
        };
    }
    let Some(heads) = header.arch_uint("attention.head_count") else {
        return Ok(());
    };
    if let Some(shared) = header.arch_uint("attention.head_count_kv")
        && arch::has_equal_heads(name)
        && (shared == 0 || heads % shared != 0)
    {
        return broken(format!(
            "attention.head_count ({heads}) is not a multiple of head_count_kv ({shared})"
        ));
    }
    // Layers with a sliding window, maybe the first one, may have their own lengths.
    let windowed = ["attention.key_length_swa", "attention.value_length_swa", "rope.dimension_count_swa"];
    if windowed.iter().any(|key| header.arch_uint(key).is_some()) {
        return Ok(());
    }
    lengths(header, name, header.arch_uint("embedding_length").unwrap_or(0) / heads)
}

fn lengths(header: &Header, name: &str, default: u64) -> Result<(), Refusal> {
    let key = header.arch_uint("attention.key_length").unwrap_or(default);
    let value = header.arch_uint("attention.value_length").unwrap_or(default);
    if arch::has_equal_heads(name) && key != value {
        return broken(format!(
            "attention.key_length ({key}) and value_length ({value}) must be equal for {name}"
        ));
    }
    let rotated = header.arch_uint("rope.dimension_count").unwrap_or(key);
    if arch::rotates_all(name) && rotated != key {
        return broken(format!(
            "rope.dimension_count ({rotated}) must be the length of a head ({key}) for {name}"
        ));
    }
    if arch::rotates(name) && rotated > key {
        return broken(format!("rope.dimension_count ({rotated}) exceeds the length of a head ({key})"));
    }
    // Numbers are rotated in pairs; without any, llama.cpp loops forever.
    if arch::rotates(name) && (rotated == 0 || rotated % 2 == 1) {
        return broken(format!("rope.dimension_count is {rotated}, not a positive even number"));
    }
    Ok(())
}
