//! A model of Gemma 3 270M's shape with random weights and a vocabulary of 262,144, written into a temporary folder
//! (290 MB): benchmarks of what depends on the size of a vocabulary compare with its step.

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;

use fireside::chat::settings::Settings;
use fireside::engine::llama::{self, ContextOptions, Hooks, Llama, LoadOptions, Parts, Weights};
use fireside::engine::model::{Logits, Model};
use fireside::gguf::write::{GgufWriter, Metadata, placed};

pub(crate) const VOCABULARY: usize = 262_144;

/// The weights, read from a file that is gone afterwards.
pub(crate) fn weights(chance: &mut Chance) -> Weights {
    let folder = tempfile::tempdir().expect("there is room for a file");
    let file = folder.path().join("gemma.gguf");
    write_model(&file, chance).expect("there is room for a file");
    llama::install(Hooks { log: None, abort: |_| {} });
    let options = LoadOptions::new(&Settings::default(), Parts::InTurn);
    Weights::load(&file, &options, |_| true).expect("it is a model")
}

/// A context for so many tokens, with logits to begin with.
pub(crate) fn begun(weights: &Weights, tokens: usize) -> Llama<'_> {
    let context = ContextOptions::new(&Settings::default(), tokens, 64, 2);
    let mut model = Llama::new(weights, context);
    model.grow(tokens).expect("there is room");
    model.append(0, &[1], Logits::Last).expect("it evaluates");
    model
}

/// Knuth's MMIX constants.
pub(crate) struct Chance(pub(crate) u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        self.0 >> 32
    }

    /// From 0 to 1.
    pub(crate) fn share(&mut self) -> f32 {
        (self.next() >> 8) as f32 / (1u64 << 24) as f32
    }
}

/// Random weights, q8_0 as far as they are matrices.
fn write_model(file: &Path, chance: &mut Chance) -> std::io::Result<()> {
    const Q8_0: u32 = 8;
    const F32: u32 = 0;
    let (width, heads, groups, length, hidden, blocks) = (640u64, 4, 1, 256, 2048, 18);
    let special = ["<unk>", "<s>", "</s>", "\u{2581}"].map(String::from);
    let bytes = (0..256).map(|byte| format!("<0x{byte:02X}>"));
    let tokens = special.into_iter().chain(bytes).chain((260..VOCABULARY).map(|number| format!("t{number}")));
    let tokens: Vec<String> = tokens.collect();
    let kinds: Vec<i32> = (0..VOCABULARY as i32)
        .map(|token| match token {
            0 => 2,      // unknown
            1 | 2 => 3,  // control
            4..260 => 6, // byte
            _ => 1,
        })
        .collect();
    let metadata = Metadata::default()
        .text("general.architecture", "gemma3")
        .u32("gemma3.context_length", 4096)
        .u32("gemma3.embedding_length", width as u32)
        .u32("gemma3.block_count", blocks)
        .u32("gemma3.feed_forward_length", hidden as u32)
        .u32("gemma3.attention.head_count", heads as u32)
        .u32("gemma3.attention.head_count_kv", groups as u32)
        .u32("gemma3.attention.key_length", length as u32)
        .u32("gemma3.attention.value_length", length as u32)
        .f32("gemma3.attention.layer_norm_rms_epsilon", 1e-6)
        .u32("gemma3.attention.sliding_window", 512)
        .text("tokenizer.ggml.model", "llama")
        .texts("tokenizer.ggml.tokens", &tokens)
        .i32s("tokenizer.ggml.scores", &vec![0; VOCABULARY])
        .i32s("tokenizer.ggml.token_type", &kinds)
        .u32("tokenizer.ggml.bos_token_id", 1)
        .u32("tokenizer.ggml.eos_token_id", 2);
    let mut tensors = vec![("token_embd.weight".to_string(), vec![width, VOCABULARY as u64], Q8_0)];
    for block in 0..blocks {
        let all = heads * length;
        for (name, dims) in [
            ("attn_q", vec![width, all]),
            ("attn_k", vec![width, groups * length]),
            ("attn_v", vec![width, groups * length]),
            ("attn_output", vec![all, width]),
            ("ffn_gate", vec![width, hidden]),
            ("ffn_up", vec![width, hidden]),
            ("ffn_down", vec![hidden, width]),
        ] {
            tensors.push((format!("blk.{block}.{name}.weight"), dims, Q8_0));
        }
        for (name, size) in [
            ("attn_norm", width),
            ("attn_q_norm", length),
            ("attn_k_norm", length),
            ("post_attention_norm", width),
            ("ffn_norm", width),
            ("post_ffw_norm", width),
        ] {
            tensors.push((format!("blk.{block}.{name}.weight"), vec![size], F32));
        }
    }
    tensors.push(("output_norm.weight".into(), vec![width], F32));
    let tensors = placed(tensors);
    let mut out = GgufWriter::begin(BufWriter::new(File::create(file)?), &metadata, &tensors)?;
    for tensor in &tensors {
        if tensor.kind == F32 {
            (0..tensor.bytes / 4).try_for_each(|_| out.data(&1f32.to_le_bytes()))?;
        } else {
            for _ in 0..tensor.bytes / 34 {
                let mut block = [0; 34]; // a scale as f16, and 32 numbers of a byte
                block[..2].copy_from_slice(&0x1400u16.to_le_bytes()); // 2^-10
                block[2..]
                    .chunks_mut(4)
                    .for_each(|four| four.copy_from_slice(&(chance.next() as u32).to_le_bytes()));
                out.data(&block)?;
            }
        }
        out.end_tensor()?;
    }
    out.finish().map(drop)
}
