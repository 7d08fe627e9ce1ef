//! A header and what was measured → how attention is computed: as llama.cpp does by itself, or without flash
//! attention where that is faster on this machine.

use crate::chat::settings::{Auto, CacheType, CtxSize, Settings};
use crate::engine::llama::AttentionShape;
use crate::gguf::Header;

/// The largest share of free memory that the scores may take which flash attention never stores, in a context of so
/// many tokens unless the user asks for one.
const SCORES_SHARE: u64 = 16;
const CONTEXT: usize = 32_768;

/// The most heads, and numbers in a head, of attention that is measured.
const MOST_HEADS: u32 = 256;
const MOST_LENGTH: u32 = 1024;

/// The attention that can be measured for a model: where the user leaves the choice.
pub(super) fn to_measure(header: &Header, settings: &Settings) -> Option<AttentionShape> {
    // What is measured has no quantised cache; and llama.cpp quantises values only with flash attention.
    let plain = [settings.cache_type_k, settings.cache_type_v]
        .iter()
        .all(|kind| matches!(kind, CacheType::F32 | CacheType::F16 | CacheType::BF16));
    shape(header).filter(|_| plain && settings.flash_attn == Auto::Auto)
}

/// Whether there is room for the scores of a batch at the end of a context of at most `limit` tokens, of `free`
/// bytes.
pub(super) fn scores_fit(
    shape: AttentionShape,
    settings: &Settings,
    (limit, batch_size): (usize, u32),
    free: u64,
) -> bool {
    let context = if settings.ctx_size == CtxSize::Auto { limit.min(CONTEXT) } else { limit };
    shape.score_bytes(context, batch_size as usize) <= free / SCORES_SHARE
}

/// `None` without attention, and for latent attention, which is computed in another way.
fn shape(header: &Header) -> Option<AttentionShape> {
    let number = |key: &str| header.arch_uint(key).and_then(|n| u32::try_from(n).ok()).filter(|n| *n > 0);
    let most = |key: &str| header.arch_uints(key)?.into_iter().max()?.try_into().ok().filter(|n| *n > 0);
    if ["attention.key_length_mla", "attention.kv_lora_rank"].iter().any(|key| number(key).is_some()) {
        return None;
    }
    let heads: u32 = most("attention.head_count")?;
    let kv_heads = most("attention.head_count_kv").unwrap_or(heads);
    let length = number("embedding_length").map(|width| width / heads).filter(|length| *length > 0);
    let key_length = number("attention.key_length").or(length)?;
    let value_length = number("attention.value_length").or(length)?;
    let layers = number("block_count")?;
    let shape = AttentionShape { heads, kv_heads, key_length, value_length, layers };
    // A file may claim anything.
    let usual = heads <= MOST_HEADS && key_length.max(value_length) <= MOST_LENGTH;
    Some(shape).filter(|shape| usual && heads.is_multiple_of(shape.kv_heads))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gguf;
    use crate::gguf::sample::Sample;

    fn header(numbers: &[(&str, u32)]) -> Header {
        let named = Sample::default().text("general.architecture", "llama");
        let sample = numbers.iter().fold(named, |sample, (key, n)| sample.u32(&format!("llama.{key}"), *n));
        let mut file = tempfile::NamedTempFile::new().unwrap();
        std::io::Write::write_all(&mut file, &sample.bytes()).unwrap();
        gguf::read(file.path()).unwrap()
    }

    #[test]
    fn the_shape_is_in_the_header() {
        let plain = [("block_count", 3), ("embedding_length", 64), ("attention.head_count", 4)];
        let of = |more: &[(&str, u32)]| shape(&header(&[&plain[..], more].concat()));
        let expected = AttentionShape { heads: 4, kv_heads: 4, key_length: 16, value_length: 16, layers: 3 };
        assert_eq!(of(&[]), Some(expected));
        let shared = of(&[("attention.head_count_kv", 2), ("attention.key_length", 32)]);
        assert_eq!(shared, Some(AttentionShape { kv_heads: 2, key_length: 32, ..expected }));
        assert_eq!(of(&[("attention.head_count_kv", 3)]), None);
        assert_eq!(of(&[("attention.kv_lora_rank", 8)]), None);
        assert_eq!(shape(&header(&[("block_count", 3)])), None);
    }

    #[test]
    fn it_is_measured_where_it_can_be_chosen() {
        let numbers = [("block_count", 3), ("embedding_length", 64), ("attention.head_count", 4)];
        let header = header(&numbers);
        let measured = |settings| to_measure(&header, &settings).is_some();
        assert!(measured(Settings::default()));
        assert!(!measured(Settings { flash_attn: Auto::On, ..Settings::default() }));
        assert!(!measured(Settings { cache_type_k: CacheType::Q8_0, ..Settings::default() }));
        assert!(!measured(Settings { cache_type_v: CacheType::Q8_0, ..Settings::default() }));
    }

    #[test]
    fn scores_of_a_long_context_have_to_fit_only_if_it_is_asked_for() {
        let shape = AttentionShape { heads: 32, kv_heads: 8, key_length: 64, value_length: 64, layers: 16 };
        let fit = |settings: &Settings, free| scores_fit(shape, settings, (131_072, 256), free);
        assert!(fit(&Settings::default(), 16 << 30), "1 GiB at 32,768 tokens");
        assert!(!fit(&Settings::default(), 15 << 30));
        let long = Settings { ctx_size: CtxSize::Trained, ..Settings::default() };
        assert!(!fit(&long, 63 << 30), "4 GiB at 131,072");
        assert!(fit(&long, 64 << 30));
    }
}
