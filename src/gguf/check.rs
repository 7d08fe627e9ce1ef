//! A header in, nothing out, or the reason why llama.cpp would not survive the model.
//!
//! llama.cpp checks much by assertions, and a failed assertion ends the whole program. The cheap ones among them, and the
//! mistakes that users make (an adapter, a projector, one part of three), are recognised here first. A model is refused only
//! where llama.cpp certainly fails: rules that hold for some architectures only name those architectures, and whatever
//! llama.cpp itself refuses without dying is mostly left to it. Shapes and types of tensors are not compared with the
//! numbers here. Next: `tokenizer.rs`, the same for the vocabulary.

use std::path::PathBuf;

use super::{Header, Refusal, tokenizer};

/// `LLAMA_MAX_LAYERS` and `LLAMA_MAX_EXPERTS` of llama.cpp.
const MOST_BLOCKS: u64 = 512;
const MOST_EXPERTS: u64 = 1024;

/// Architectures whose state does not grow with the text; they need no attention heads.
const RECURRENT: &str = "mamba mamba2 rwkv6 rwkv6qwen2 rwkv7 arwkv7";

/// What some architectures are for, where that is not chatting.
const OTHER_PURPOSES: [(&str, &str); 6] = [
    (
        "an embedding model",
        "bert modern-bert nomic-bert nomic-bert-moe neo-bert jina-bert-v2 jina-bert-v3 \
         eurobert gemma-embedding llama-embed t5encoder",
    ),
    ("a vision or audio projector (mmproj)", "clip"),
    ("a control vector", "controlvector"),
    ("a speech model", "wavtokenizer-dec pockettts"),
    ("a draft model for another model's guesses", "eagle3 dflash gemma4-assistant"),
    ("an encoder-decoder model (T5)", "t5"),
];

/// Architectures whose graph asserts that keys and values have the same length per head.
const EQUAL_HEADS: &str = "apertus arcee arctic baichuan bitnet bloom chameleon chatglm codeshell cohere2 \
    command-r dbrx deci deepseek dots1 ernie4_5 exaone falcon glm4 gpt2 gptneox granite \
    grok grovemoe internlm2 jais jais2 llada llama llama4 maincoder mistral3 mpt nemotron \
    olmo olmo2 olmoe openelm orion phi2 phi3 plamo qwen qwen2 qwen2moe qwen2vl qwen3 \
    qwen3moe qwen3vl qwen3vlmoe refact seed_oss smallthinker smollm3 stablelm starcoder \
    starcoder2 xverse";

/// Architectures that rotate a head's whole length, by assertion or by a check of the loader.
const FULL_ROPE: &str = "apertus arcee arctic baichuan chameleon codeshell dbrx deci deepseek dots1 ernie4_5 \
    exaone falcon granite grok grovemoe internlm2 jais2 llada llama maincoder mistral3 olmo \
    olmo2 olmoe orion plamo qwen2 qwen2moe qwen2vl qwen3 qwen3moe qwen3vl qwen3vlmoe \
    seed_oss smallthinker smollm3 starcoder2 xverse";

/// Architectures that may rotate a part of a head, never more than it has.
const PARTIAL_ROPE: &str = "bitnet chatglm cohere2 command-r falcon-h1 gemma gemma2 gemma3 glm4 gptneox \
    llama4 nemotron openelm phi2 phi3 qwen stablelm";

const ROPE_SCALINGS: [&str; 4] = ["none", "linear", "yarn", "longrope"];

/// Refuses a model that llama.cpp would abort on, or that cannot hold a conversation.
///
/// # Errors
/// The first [`Refusal`] found: `NotChat`, `Unsupported`, `Split` or `Inconsistent`.
pub fn check(header: &Header) -> Result<(), Refusal> {
    purpose(header)?;
    split(header)?;
    sizes(header)?;
    heads(header)?;
    experts(header)?;
    tokenizer::check(header)
}

/// The files a model consists of, in order: one, or as many as `split.count` says. They need not exist.
pub fn parts(header: &Header) -> Vec<PathBuf> {
    let count = header.uint("split.count").unwrap_or(1);
    part_paths(header, count).unwrap_or_else(|| vec![header.path.clone()])
}

/// Whether the state of an architecture has a fixed size, so that there is no KV cache.
pub(super) fn is_recurrent(arch: &str) -> bool {
    names(RECURRENT, arch)
}

/// Whether a list of names, separated by spaces, has this one.
fn names(list: &str, arch: &str) -> bool {
    list.split(' ').any(|name| name == arch)
}

fn purpose(header: &Header) -> Result<(), Refusal> {
    let other = |what: &str| Err(Refusal::NotChat(what.to_owned()));
    match header.str("general.type") {
        Some("adapter") => return other("an adapter (LoRA) for another model"),
        Some("mmproj") => return other("a vision or audio projector (mmproj)"),
        Some("imatrix") => return other("an importance matrix for quantising"),
        _ => {}
    }
    let Some(arch) = header.architecture() else {
        return broken("it does not name its architecture (general.architecture)");
    };
    if let Some((what, _)) = OTHER_PURPOSES.iter().find(|(_, archs)| names(archs, arch)) {
        return other(what);
    }
    if arch == "gptj" {
        return Err(Refusal::Unsupported("llama.cpp cannot run the architecture gptj".to_owned()));
    }
    if header.tensors.is_empty() && header.uint("split.count").unwrap_or(1) <= 1 {
        return other("a vocabulary without weights");
    }
    Ok(())
}

fn split(header: &Header) -> Result<(), Refusal> {
    let count = header.uint("split.count").unwrap_or(1);
    if count <= 1 {
        return Ok(());
    }
    let refuse = |problem: String| Err(Refusal::Split { count, problem });
    let number = header.uint("split.no").unwrap_or(0);
    if number != 0 {
        return refuse(format!("this is number {}", number + 1));
    }
    let Some(paths) = part_paths(header, count) else {
        return refuse(format!(
            "the first must be called NAME-00001-of-{count:05}.gguf for the others to be found"
        ));
    };
    match paths.iter().find(|path| !path.is_file()) {
        None => Ok(()),
        Some(path) => {
            let name = path.file_name().unwrap_or(path.as_os_str());
            refuse(format!("{} is missing", name.display()))
        }
    }
}

/// llama.cpp finds the parts by name: `PREFIX-00002-of-00003.gguf`. `None` if this file is not called so.
fn part_paths(header: &Header, count: u64) -> Option<Vec<PathBuf>> {
    if count <= 1 {
        return None;
    }
    let number = header.uint("split.no").unwrap_or(0).checked_add(1)?;
    let name = header.path.file_name()?.to_str()?;
    let prefix = name.strip_suffix(&format!("-{number:05}-of-{count:05}.gguf"))?;
    // The format stores the count in 16 bits.
    let count = u16::try_from(count).ok()?;
    Some(
        (1..=count)
            .map(|part| header.path.with_file_name(format!("{prefix}-{part:05}-of-{count:05}.gguf")))
            .collect(),
    )
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

fn heads(header: &Header) -> Result<(), Refusal> {
    let arch = header.architecture().unwrap_or_default();
    // One number, or one per layer, where 0 marks a layer without attention.
    let per_layer = header.arch_uints("attention.head_count").unwrap_or_default();
    if per_layer.iter().all(|heads| *heads == 0) {
        return if is_recurrent(arch) { Ok(()) } else { broken("attention.head_count is missing or 0") };
    }
    let Some(heads) = header.arch_uint("attention.head_count") else {
        return Ok(());
    };
    if let Some(shared) = header.arch_uint("attention.head_count_kv")
        && names(EQUAL_HEADS, arch)
        && (shared == 0 || heads % shared != 0)
    {
        return broken(format!(
            "attention.head_count ({heads}) is not a multiple of head_count_kv ({shared})"
        ));
    }
    let default = header.arch_uint("embedding_length").unwrap_or(0) / heads;
    let key = header.arch_uint("attention.key_length").unwrap_or(default);
    let value = header.arch_uint("attention.value_length").unwrap_or(default);
    if names(EQUAL_HEADS, arch) && key != value {
        return broken(format!(
            "attention.key_length ({key}) and value_length ({value}) must be equal for {arch}"
        ));
    }
    let rotated = header.arch_uint("rope.dimension_count").unwrap_or(key);
    if names(FULL_ROPE, arch) && rotated != key {
        return broken(format!(
            "rope.dimension_count ({rotated}) must be the length of a head ({key}) for {arch}"
        ));
    }
    if names(PARTIAL_ROPE, arch) && rotated > key {
        return broken(format!("rope.dimension_count ({rotated}) exceeds the length of a head ({key})"));
    }
    Ok(())
}

fn experts(header: &Header) -> Result<(), Refusal> {
    let number = |key| header.arch_uint(key).unwrap_or(0);
    let (count, groups, groups_used) =
        (number("expert_count"), number("expert_group_count"), number("expert_group_used_count"));
    // Hunyuan's dense models carry an expert count of 1, which llama.cpp forgives them.
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

pub(super) fn broken<T>(problem: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal::Inconsistent(problem.into()))
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
        let blocks =
            |n| bare("x").u32("x.context_length", 1).u32("x.embedding_length", 1).u32("x.block_count", n);
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
        assert!(refusal(&phi2.u32("phi2.rope.dimension_count", 5)).contains("exceeds"));
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
    fn models_in_several_files() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let part = |no: u32| with(|s| s.u32("split.count", 2).u32("split.no", no));
        let mut first = header(&part(0));
        first.path = dir.path().join("model.gguf");
        let problem = |h: &Header| check(h).expect_err("incomplete").to_string();
        assert!(problem(&first).contains("NAME-00001-of-00002.gguf"));
        first.path = dir.path().join("model-00001-of-00002.gguf");
        std::fs::write(&first.path, "x").expect("temporary file");
        assert!(problem(&first).contains("model-00002-of-00002.gguf is missing"));
        assert_eq!(parts(&first), [first.path.clone(), dir.path().join("model-00002-of-00002.gguf")]);
        std::fs::write(&parts(&first)[1], "x").expect("temporary file");
        check(&first).expect("complete");
        let mut second = header(&part(1));
        second.path = parts(&first)[1].clone();
        assert!(problem(&second).contains("this is number 2"));
    }
}
