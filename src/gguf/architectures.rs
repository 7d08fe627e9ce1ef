//! The names of architectures, and llama.cpp's requirements for each: lists for `check.rs` and `heads.rs`.
//!
//! They follow llama.cpp's sources (`llama-arch.cpp`, the assertions in `models/`) and must be reviewed
//! whenever its version changes. A rule is not applied to architectures that its list lacks.

/// The architectures that llama.cpp runs and that chat or complete text.
const RUNNABLE: &str = "afmoe apertus arcee arctic arwkv7 baichuan bailingmoe bailingmoe2 bailingmoe3 bitnet bloom chameleon \
    chatglm clef codeshell cogvlm cohere2 cohere2moe command-r dbrx deci deepseek deepseek2 deepseek2-ocr deepseek32 \
    deepseek4 dots1 dots3note dream ernie4_5 ernie4_5-moe exaone exaone-moe exaone4 falcon falcon-h1 gemma \
    gemma2 gemma3 gemma3n gemma4 glm-dsa glm4 glm4moe glm5-next gpt-oss gpt2 gptneox granite granite_swa \
    granitehybrid granitemoe graniteswitch grok grovemoe hrm_text hunyuan-dense hunyuan-moe hunyuan_vl hy_v3 \
    hy_v4 internlm2 jais jais2 jamba kimi-k3 kimi-linear laguna lfm2 lfm2moe llada llada-moe llama llama4 \
    maincoder mamba mamba2 maple mellum mimo2 minicpm minicpm3 minimax-01 minimax-m2 minimax-m3 mistral3 \
    mistral4 mpt muse-glimmer nanbeige nemotron nemotron_h nemotron_h_moe olmo olmo2 olmoe openelm orion \
    paddleocr pangu-embedded phi2 phi3 phimoe plamo plamo2 plamo3 plm qwen qwen2 qwen2moe qwen2vl qwen3 \
    qwen35 qwen35moe qwen3moe qwen3next qwen3tts qwen3vl qwen3vlmoe qwen4exp refact rnd1 rwkv6 rwkv6qwen2 \
    rwkv7 seed_oss smallthinker smollm3 spark2_5 stablelm starcoder starcoder2 step35 talkie xverse";

/// Architectures whose state does not grow with the text; they need no attention heads.
const RECURRENT: &str = "mamba mamba2 rwkv6 rwkv6qwen2 rwkv7 arwkv7";

/// The purposes of architectures that are not for chats.
const OTHER_PURPOSES: [(&str, &str); 6] = [
    (
        "an embedding model",
        "bert modern-bert nomic-bert nomic-bert-moe neo-bert jina-bert-v2 jina-bert-v3 \
         eurobert gemma-embedding llama-embed t5encoder",
    ),
    ("a vision or audio projector (mmproj)", "clip"),
    ("a control vector", "controlvector"),
    ("a speech model", "wavtokenizer-dec pockettts"),
    ("a draft model for another model's drafts", "eagle3 dflash gemma4-assistant"),
    ("an encoder-decoder model (T5)", "t5"),
];

/// Architectures whose graph asserts that keys and values have the same length per head.
const EQUAL_HEADS: &str = "afmoe apertus arcee arctic baichuan bailingmoe2 bitnet bloom chameleon chatglm codeshell cogvlm cohere2 \
    cohere2moe command-r dbrx deci deepseek dots1 dream ernie4_5 exaone exaone-moe exaone4 falcon glm4 \
    glm4moe gpt2 gptneox granite granite_swa granitehybrid grok grovemoe hunyuan-moe hunyuan_vl hy_v3 \
    internlm2 jais jais2 laguna llada llada-moe llama llama4 maincoder maple mellum minimax-01 minimax-m2 \
    mistral3 mpt muse-glimmer nanbeige nemotron nemotron_h olmo olmo2 olmoe openelm orion pangu-embedded \
    phi2 phi3 plamo qwen qwen2 qwen2moe qwen2vl qwen3 qwen35 qwen35moe qwen3moe qwen3vl qwen3vlmoe refact \
    rnd1 seed_oss smallthinker smollm3 spark2_5 stablelm starcoder starcoder2 talkie xverse";

/// Architectures that rotate the whole head, by an assertion or by a check of the loader.
const FULL_ROPE: &str = "apertus arcee arctic baichuan chameleon codeshell cogvlm cohere2moe dbrx deci deepseek dots1 dream \
    ernie4_5 exaone exaone-moe exaone4 falcon granite granite_swa grok grovemoe hunyuan-moe hunyuan_vl hy_v3 \
    internlm2 jais2 llada llada-moe llama maincoder mellum mistral3 olmo olmo2 olmoe orion pangu-embedded \
    plamo qwen2 qwen2moe qwen2vl qwen3 qwen3moe qwen3vl qwen3vlmoe rnd1 seed_oss smallthinker smollm3 \
    starcoder2 talkie xverse";

/// Architectures that may rotate a part of the head, but not more than all of it.
const PARTIAL_ROPE: &str = "bitnet chatglm cohere2 command-r falcon-h1 gemma gemma2 gemma3 glm4 gptneox llama4 nemotron openelm phi2 \
    phi3 qwen stablelm";

/// Whether llama.cpp runs this architecture, and it generates text.
pub(super) fn is_runnable(arch: &str) -> bool {
    names(RUNNABLE, arch)
}

/// Whether the state of an architecture has a fixed size, so that there is no KV cache.
pub(super) fn is_recurrent(arch: &str) -> bool {
    names(RECURRENT, arch)
}

/// The purpose of an architecture that is not for chats.
pub(super) fn other_purpose(arch: &str) -> Option<&'static str> {
    OTHER_PURPOSES.iter().find(|(_, archs)| names(archs, arch)).map(|(what, _)| *what)
}

/// Whether keys and values must have the same length per head, and all groups of heads the same size.
pub(super) fn has_equal_heads(arch: &str) -> bool {
    names(EQUAL_HEADS, arch)
}

/// Whether all of a head is rotated.
pub(super) fn rotates_all(arch: &str) -> bool {
    names(FULL_ROPE, arch)
}

/// Whether all or a part of a head is rotated.
pub(super) fn rotates(arch: &str) -> bool {
    names(FULL_ROPE, arch) || names(PARTIAL_ROPE, arch)
}

/// Whether a list of names, separated by spaces, contains this one.
fn names(list: &str, arch: &str) -> bool {
    list.split(' ').any(|name| name == arch)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_with_a_rule_is_one_that_runs() {
        for list in [EQUAL_HEADS, FULL_ROPE, PARTIAL_ROPE, RECURRENT] {
            list.split(' ').for_each(|name| assert!(is_runnable(name), "{name}"));
        }
        assert!(!is_runnable("") && !is_runnable("bert") && other_purpose("bert").is_some());
    }
}
