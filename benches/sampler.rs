//! What choosing a token costs on a vocabulary of 262,144: microseconds a token on made-up logits, by the settings; and the
//! share of a whole step that it takes in a model of Gemma 3 270M's shape, whose weights are random.
//!
//! `cargo bench --bench sampler`. Made-up logits are spread like a model's: bell-shaped, a few far above the rest. A top-k of
//! 129 takes the way over the whole vocabulary, as every setting would without the shortcuts. The model is written into a
//! temporary folder first (290 MB).

#![allow(clippy::print_stdout)] // its figures are what it is for

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;
use std::time::Instant;

use fireside::chat::settings::{Sampling, Settings};
use fireside::engine::llama::{self, ContextOptions, Hooks, Llama, LoadOptions, Parts, Weights};
use fireside::engine::model::{Logits, Model, Sampler};
use fireside::engine::sampler::Chain;
use fireside::gguf::write::{GgufWriter, Metadata, placed};

const VOCABULARY: usize = 262_144;
const ROUNDS: usize = 200;
/// Steps of the model that are timed.
const STEPS: usize = 100;

fn main() {
    let mut chance = Chance(1);
    let mut row = || -> Vec<f32> {
        let mut logits: Vec<f32> =
            (0..VOCABULARY).map(|_| (0..6).map(|_| chance.share()).sum::<f32>() * 4.0 - 16.0).collect();
        for _ in 0..10 {
            logits[(chance.share() * VOCABULARY as f32) as usize] = 10.0 + 8.0 * chance.share();
        }
        logits
    };
    let rows: Vec<Vec<f32>> = (0..8).map(|_| row()).collect();
    let usual = Sampling::default();
    for (name, sampling) in [
        ("temperature 0", Sampling { temp: 0.0, ..usual.clone() }),
        ("as it is unless set", usual.clone()),
        ("with a repeat penalty", Sampling { repeat_penalty: 1.1, ..usual.clone() }),
        (
            "temperature 0, top-k 129",
            Sampling { temp: 0.0, repeat_penalty: 1.01, top_k: 129, ..usual.clone() },
        ),
        ("top-k 129", Sampling { top_k: 129, ..usual.clone() }),
        ("top-k 129, repeat penalty", Sampling { repeat_penalty: 1.1, top_k: 129, ..usual }),
    ] {
        let mut sampler = Chain::for_logits(&sampling, 1, VOCABULARY);
        let times = (0..ROUNDS).map(|round| {
            let started = Instant::now();
            sampler.pick(&rows[round % rows.len()]).expect("they are numbers");
            started.elapsed().as_secs_f64() * 1e6
        });
        let [low, middle, high] = spread(times.collect());
        println!("{name}: {middle:.0} µs a token ({low:.0} to {high:.0})");
    }
    let folder = tempfile::tempdir().expect("there is room for a file");
    let file = folder.path().join("gemma.gguf");
    write_model(&file, &mut chance).expect("there is room for a file");
    step(&file);
}

/// Knuth's MMIX constants.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        self.0 >> 32
    }

    /// From 0 to 1.
    fn share(&mut self) -> f32 {
        (self.next() >> 8) as f32 / (1u64 << 24) as f32
    }
}

/// The shortest but few, the middle, and the longest but few.
fn spread(mut times: Vec<f64>) -> [f64; 3] {
    times.sort_by(f64::total_cmp);
    [times[0], times[times.len() / 2], times[times.len() * 9 / 10]]
}

/// The model's steps, each with the sampler's part of it.
fn step(file: &Path) {
    llama::install(Hooks { log: None, abort: |_| {} });
    let options = LoadOptions::new(&Settings::default(), Parts::InTurn);
    let weights = Weights::load(file, &options, |_| true).expect("it is a model");
    let context = ContextOptions::new(&Settings::default(), 512, 64, 2);
    let mut model = Llama::new(&weights, context);
    model.grow(512).expect("there is room");
    model.append(0, &[1], Logits::Last).expect("it evaluates");
    let (mut steps, mut picks) = (Vec::new(), Vec::new());
    let mut sampler = model.sampler(&Sampling::default(), 1).expect("the settings are good");
    for _ in 0..STEPS {
        let started = Instant::now();
        let token = sampler.pick(model.logits(0)).expect("they are numbers");
        picks.push(started.elapsed().as_secs_f64() * 1e6);
        model.append(0, &[token], Logits::Last).expect("it evaluates");
        let _done = model.logits(0)[0];
        steps.push(started.elapsed().as_secs_f64() * 1e6);
    }
    let ([_, pick, _], [_, step, _]) = (spread(picks), spread(steps));
    println!("in a model of Gemma 3 270M's shape: {pick:.0} µs of a step of {step:.0} µs");
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
