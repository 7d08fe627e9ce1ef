//! Unexpected values for mutate.rs.

use super::mutate::Random;

/// A number that code may not expect, near the old one or far from it.
pub(super) fn odd_bytes(random: &mut Random, width: usize, old: &[u8]) -> Vec<u8> {
    let mut wide = [0; 8];
    wide[..old.len().min(8)].copy_from_slice(&old[..old.len().min(8)]);
    let old = u64::from_le_bytes(wide);
    let floats = [f32::NAN, f32::INFINITY, -1.0, 0.0, 1e30, 1e-30].map(|x| u64::from(x.to_bits()));
    let new = match random.below(12) {
        0 => old.wrapping_add(1),
        1 => old.wrapping_sub(1),
        2 => old.wrapping_mul(2),
        3 => old / 2,
        4 | 5 => *random.pick(&floats),
        6 => random.next(),
        _ => *random.pick(&[
            0,
            1,
            2,
            3,
            5,
            7,
            8,
            64,
            255,
            256,
            512,
            513,
            1 << 20,
            0x7fff_ffff,
            1 << 31,
            u64::MAX,
        ]),
    };
    new.to_le_bytes()[..width.min(8)].to_vec()
}

pub(super) fn odd_text(random: &mut Random, old: &[u8]) -> (Vec<u8>, String) {
    let new: Vec<u8> = match random.below(9) {
        0 => Vec::new(),
        1 => b"\0".to_vec(),
        2 => vec![b'a'; *random.pick(&[64, 4096, 100_000])],
        3 => vec![0xff, 0xfe, 0xc0, 0x80],
        4 => [old, old].concat(),
        5 => old[..old.len() / 2].to_vec(),
        6 => word(random, WORDS).as_bytes().to_vec(),
        7 => {
            let mut new = old.to_vec();
            if !new.is_empty() {
                let at = random.below(new.len());
                new[at] ^= 1 << random.below(8);
            }
            new
        }
        _ => "%s%n {{ \u{202e} \u{1f600}".as_bytes().to_vec(),
    };
    let shown = format!("{:?}", String::from_utf8_lossy(&new[..new.len().min(60)]));
    (new, shown)
}

/// One word of a list.
pub(super) fn word<'a>(random: &mut Random, list: &'a str) -> &'a str {
    let words: Vec<&str> = list.split(' ').collect();
    words[random.below(words.len())]
}

/// A type of tensor: ggml's number of it, elements in a block, bytes of a block; two of them do not exist.
pub(super) fn tensor_type(random: &mut Random) -> (u32, usize, usize) {
    let numbers = word(random, TYPES).split('/').map(|n| n.parse::<usize>().unwrap()).collect::<Vec<_>>();
    (numbers[0] as u32, numbers[1], numbers[2])
}

const TYPES: &str = "0/1/4 1/1/2 2/32/18 3/32/20 6/32/22 8/32/34 9/32/36 10/256/84 12/256/144 14/256/210 15/256/292 16/256/66 \
    20/32/18 24/1/1 26/1/4 28/1/8 30/1/2 34/256/54 39/32/17 40/64/36 41/128/18 4/32/18 77/1/4";

const WORDS: &str = "llama gpt2 bert t5 rwkv plamo2 none no_vocab gemma4 hybriddna whitespace default llama-bpe qwen2 kimi-k2 linear \
    yarn longrope magic adapter mmproj <0x0A> </s> token_embd.weight output.weight blk.0.attn_norm.weight \
    blk.99.attn_q.weight blk.0.ffn_gate_inp.weight";

/// Metadata that may be added; `{}` stands for the architecture.
pub(super) const KEYS: &str = "{}.expert_count {}.expert_used_count {}.expert_group_count {}.expert_group_used_count {}.attention.key_length \
    {}.attention.value_length {}.attention.key_length_mla {}.attention.value_length_mla {}.attention.key_length_swa \
    {}.attention.head_count_kv {}.attention.sliding_window {}.attention.sliding_window_pattern \
    {}.attention.shared_kv_layers {}.attention.causal {}.attention.layer_norm_epsilon \
    {}.attention.layer_norm_rms_epsilon {}.rope.dimension_count {}.rope.dimension_sections {}.rope.freq_base \
    {}.rope.scaling.factor {}.rope.scaling.type {}.rope.scaling.original_context_length {}.nextn_predict_layers \
    {}.embedding_length_out {}.vocab_size {}.pooling_type {}.ssm.conv_kernel {}.ssm.state_size {}.ssm.group_count \
    {}.leading_dense_block_count {}.logit_scale {}.final_logit_softcapping {}.attn_logit_softcapping \
    general.alignment general.type split.count split.no split.tensors.count tokenizer.ggml.bos_token_id \
    tokenizer.ggml.eos_token_id tokenizer.ggml.eot_token_id tokenizer.ggml.unknown_token_id \
    tokenizer.ggml.padding_token_id tokenizer.ggml.newline_token_id tokenizer.ggml.add_bos_token \
    tokenizer.ggml.add_eos_token tokenizer.ggml.add_sep_token tokenizer.ggml.add_space_prefix \
    tokenizer.ggml.remove_extra_whitespaces tokenizer.ggml.precompiled_charsmap tokenizer.ggml.suppress_tokens \
    tokenizer.ggml.token_type_count general.sampling.temp general.sampling.top_k";

pub(super) const ARCHITECTURES: &str = "llama llama4 deci falcon grok gpt2 gptj gptneox mpt baichuan starcoder refact bert bloom stablelm qwen qwen2 \
    qwen2moe qwen2vl qwen3 qwen3moe qwen3next qwen35 phi2 phi3 plamo plamo2 minicpm minicpm3 gemma gemma2 gemma3 \
    gemma3n gemma4 mamba mamba2 jamba falcon-h1 command-r cohere2 olmo2 olmoe deepseek deepseek2 chatglm glm4 \
    glm4moe bitnet t5 nemotron nemotron_h exaone4 rwkv6 rwkv7 granite granitemoe granitehybrid smollm3 gpt-oss lfm2 \
    dream llada hunyuan-dense mistral3 kimi-linear clip wavtokenizer-dec eagle3 pockettts no-such-thing";

pub(super) const TEMPLATES: &[&str] = &[
    "",
    "{{ messages }}",
    "{% for %}",
    "{{ raise_exception('never') }}",
    "{% for i in range(100000000) %}x{% endfor %}",
    "{% set ns = namespace(t='x') %}{% for i in range(60) %}{% set ns.t = ns.t + ns.t %}{% endfor %}{{ ns.t }}",
    "{% macro m(x) %}{{ m(x) }}{% endmacro %}{{ m(1) }}",
    "{{ 'x' * 10000000000 }}",
    "{{ messages[10 ** 18]['content'][1 << 60] }}",
    "{% for message in messages %}{{ message.content }}{% endfor %}\u{0}\u{1f600}<s></s><|im_end|>",
];
