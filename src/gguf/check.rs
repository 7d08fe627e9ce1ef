//! A header → `Ok`, or the reason why llama.cpp would abort on the model.
//!
//! llama.cpp checks much by assertions, and a failed assertion ends the whole program. The cheap checks, and
//! common user errors (an adapter, a projector, one part of three), are made here first. A model is refused
//! only if llama.cpp certainly fails: rules that hold for some architectures name them, and errors that
//! llama.cpp itself reports are mostly left to it. Shapes and types of tensors are not compared with the
//! metadata. Next: `heads.rs`, `split.rs` and `tokenizer.rs`, which do the same for attention, for models in
//! several files, and for the vocabulary.

use super::{Header, Refusal, Value, architectures as arch, heads, refusal::broken, split, tokenizer};
use crate::units::count;

/// `LLAMA_MAX_LAYERS` and `LLAMA_MAX_EXPERTS` of llama.cpp.
const MOST_BLOCKS: u64 = 512;
const MOST_EXPERTS: u64 = 1024;

const ROPE_SCALINGS: [&str; 4] = ["none", "linear", "yarn", "longrope"];

/// Refuses a model that llama.cpp would abort on, or that cannot hold a conversation.
///
/// # Errors
/// The first [`Refusal`] found: `NotChat`, `Architecture`, `Split` or `Inconsistent`.
pub fn check(header: &Header) -> Result<(), Refusal> {
    split::check(header)?; // only the first part has the metadata
    purpose(header)?;
    sizes(header)?;
    per_layer(header)?;
    heads::check(header)?;
    experts(header)?;
    tokenizer::check(header)
}

fn purpose(header: &Header) -> Result<(), Refusal> {
    let other = |what: &str| Err(Refusal::NotChat(what.to_owned()));
    match header.str("general.type") {
        Some("adapter") => return other("an adapter (LoRA) for another model"),
        Some("mmproj") => return other("a vision or audio projector (mmproj)"),
        Some("imatrix") => return other("an importance matrix for quantising"),
        _ => {}
    }
    let Some(name) = header.architecture() else {
        return broken("it does not name its architecture (general.architecture)");
    };
    if let Some(what) = arch::other_purpose(name) {
        return other(what);
    }
    if !arch::is_runnable(name) {
        return Err(Refusal::Architecture(name.to_owned()));
    }
    if header.tensors.is_empty() && header.uint("split.count").unwrap_or(1) <= 1 {
        return other("a vocabulary without weights");
    }
    Ok(())
}

fn sizes(header: &Header) -> Result<(), Refusal> {
    for key in ["context_length", "embedding_length", "block_count"] {
        if matches!(header.arch_uint(key), None | Some(0)) {
            return broken(format!("{key} is missing or 0"));
        }
    }
    let blocks = header.arch_uint("block_count").unwrap_or(0);
    if blocks > MOST_BLOCKS {
        return broken(format!("block_count is {blocks}, llama.cpp allows {MOST_BLOCKS}"));
    }
    let ahead = header.arch_uint("nextn_predict_layers").unwrap_or(0);
    if ahead > blocks {
        return broken(format!("nextn_predict_layers ({ahead}) exceeds block_count ({blocks})"));
    }
    match header.arch_str("rope.scaling.type") {
        Some(kind) if !ROPE_SCALINGS.contains(&kind) => {
            broken(format!("rope.scaling.type '{kind}' is unknown"))
        }
        _ => Ok(()),
    }
}

/// Arrays with a number per layer must have exactly as many elements as there are layers.
fn per_layer(header: &Header) -> Result<(), Refusal> {
    let blocks = header.arch_uint("block_count").unwrap_or(0);
    let arch = header.architecture().unwrap_or_default();
    for key in ["feed_forward_length", "attention.head_count", "attention.head_count_kv", "expert_used_count"]
    {
        if let Some(Value::Array(array)) = header.get(&format!("{arch}.{key}"))
            && array.len() as u64 != blocks
        {
            return broken(format!(
                "{key} has {} for {}",
                count(array.len(), "entry"),
                count(blocks, "layer")
            ));
        }
    }
    Ok(())
}

fn experts(header: &Header) -> Result<(), Refusal> {
    let number = |key| header.arch_uint(key).unwrap_or(0);
    let (count, groups, groups_used) =
        (number("expert_count"), number("expert_group_count"), number("expert_group_used_count"));
    // Hunyuan's dense models have an expert count of 1, which llama.cpp accepts.
    if count <= 1 && matches!(header.architecture(), Some("hunyuan-dense" | "hunyuan_vl")) {
        return Ok(());
    }
    let used = header.arch_uints("expert_used_count").and_then(|used| used.into_iter().max()).unwrap_or(0);
    if count > MOST_EXPERTS {
        return broken(format!("expert_count is {count}, llama.cpp allows {MOST_EXPERTS}"));
    }
    if used > count || (count > 0 && used == 0) {
        return broken(format!("expert_used_count is {used} of {count}"));
    }
    let grouped_badly = groups > 1 && (count % groups != 0 || groups_used == 0 || groups_used >= groups);
    if groups > 0 && (groups >= count || grouped_badly) {
        return broken(format!(
            "{count} experts do not make {groups} groups of which {groups_used} are used"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{
        super::{parse, sample::Sample},
        *,
    };

    fn header(sample: &Sample) -> Header {
        let bytes = sample.bytes();
        parse::parse(&bytes[..], bytes.len() as u64).expect("well-formed")
    }

    fn refusal(sample: &Sample) -> String {
        check(&header(sample)).expect_err("the sample must be refused").to_string()
    }

    fn shape(arch: &str) -> Sample {
        Sample::default()
            .text("general.architecture", arch)
            .u32(&format!("{arch}.context_length"), 128)
            .u32(&format!("{arch}.embedding_length"), 8)
            .u32(&format!("{arch}.block_count"), 2)
            .tensor("token_embd.weight", &[8, 2])
    }

    fn attention(arch: &str) -> Sample {
        shape(arch).u32(&format!("{arch}.attention.head_count"), 2)
    }

    fn vocabulary(sample: Sample) -> Sample {
        sample.text("tokenizer.ggml.model", "llama").texts("tokenizer.ggml.tokens", &["a", "b"])
    }

    fn with(extra: impl FnOnce(Sample) -> Sample) -> Sample {
        extra(vocabulary(attention("llama")))
    }

    #[test]
    fn good_models_pass() {
        check(&header(&with(|s| s))).expect("llama");
        check(&header(&vocabulary(shape("mamba")))).expect("recurrent models have no heads");
        let hybrid = shape("granitehybrid").i32s("granitehybrid.attention.head_count", &[0, 2]);
        check(&header(&vocabulary(hybrid))).expect("heads per layer");
        let latent = attention("deepseek2")
            .u32("deepseek2.attention.key_length", 6)
            .u32("deepseek2.attention.value_length", 4);
        check(&header(&vocabulary(latent))).expect("latent attention");
        let partial = attention("phi2").u32("phi2.rope.dimension_count", 2);
        check(&header(&vocabulary(partial))).expect("partial rotation");
        let experts = |s: Sample| s.u32("llama.expert_count", 8).u32("llama.expert_used_count", 2);
        check(&header(&with(experts))).expect("experts");
        let ids = |s: Sample| s.u32("tokenizer.ggml.bos_token_id", 99);
        check(&header(&with(ids))).expect("llama.cpp replaces special tokens out of range");
    }

    #[test]
    fn other_kinds_of_files() {
        assert!(refusal(&Sample::default().text("general.type", "adapter")).contains("an adapter"));
        assert!(refusal(&Sample::default().text("general.type", "imatrix")).contains("importance"));
        assert!(refusal(&shape("clip")).contains("projector"));
        assert!(refusal(&shape("bert")).contains("an embedding model, not a chat model"));
        assert!(refusal(&shape("gptj")).contains("gptj"));
        assert!(refusal(&shape("future-9")).contains("does not know the architecture 'future-9'"));
        assert!(refusal(&Sample::default()).contains("architecture"));
        assert!(
            refusal(&Sample::default().text("general.architecture", "llama")).contains("without weights")
        );
    }

    #[test]
    fn sizes_that_abort() {
        let bare = |arch: &str| Sample::default().text("general.architecture", arch).tensor("t", &[1]);
        assert!(refusal(&bare("llama")).contains("context_length"));
        assert!(refusal(&shape("qwen3")).contains("head_count"));
        let blocks = |n| {
            bare("mpt").u32("mpt.context_length", 1).u32("mpt.embedding_length", 1).u32("mpt.block_count", n)
        };
        assert!(refusal(&blocks(0)).contains("block_count"));
        assert!(refusal(&blocks(513)).contains("allows 512"));
        assert!(refusal(&with(|s| s.u32("llama.nextn_predict_layers", 3))).contains("nextn"));
        assert!(refusal(&with(|s| s.text("llama.rope.scaling.type", "su"))).contains("'su'"));
    }

    #[test]
    fn heads_that_abort() {
        assert!(refusal(&with(|s| s.u32("llama.attention.key_length", 8))).contains("must be equal"));
        assert!(refusal(&with(|s| s.u32("llama.rope.dimension_count", 2))).contains("rope.dimension_count"));
        let phi2 = vocabulary(attention("phi2"));
        assert!(refusal(&phi2.clone().u32("phi2.rope.dimension_count", 5)).contains("exceeds"));
        assert!(refusal(&phi2.clone().u32("phi2.rope.dimension_count", 3)).contains("even"));
        assert!(refusal(&phi2.u32("phi2.rope.dimension_count", 0)).contains("even"));
        let windowed =
            |s: Sample| s.u32("llama.attention.key_length", 8).u32("llama.attention.key_length_swa", 4);
        check(&header(&with(windowed))).expect("the first layer's lengths are unknown");
        assert!(refusal(&with(|s| s.u32("llama.attention.head_count_kv", 3))).contains("multiple"));
    }

    #[test]
    fn experts_that_abort() {
        let moe =
            |count, used| with(|s| s.u32("llama.expert_count", count).u32("llama.expert_used_count", used));
        assert!(refusal(&moe(2000, 1)).contains("allows 1024"));
        assert!(refusal(&moe(8, 9)).contains("9 of 8"));
        assert!(refusal(&moe(8, 0)).contains("0 of 8"));
        assert!(refusal(&moe(8, 2).u32("llama.expert_group_count", 3)).contains("3 groups"));
        assert!(refusal(&with(|s| s.u32("llama.expert_used_count", 1))).contains("1 of 0"));
    }

    #[test]
    fn arrays_with_a_number_per_layer() {
        let with_heads = |heads: &[i32]| vocabulary(shape("deci").i32s("deci.attention.head_count", heads));
        check(&header(&with_heads(&[2, 0]))).expect("two layers");
        assert!(refusal(&with_heads(&[2])).contains("1 entry for 2 layers"));
        assert!(refusal(&with_heads(&[2, 2, 2])).contains("3 entries for 2 layers"));
    }
}
