//! What a constraint costs: microseconds a token for the mask and for choosing under it, and its share of a whole step of the
//! default model; the same on a vocabulary of 262,144 if scripts/references has fetched it, and the time to begin.
//!
//! `cargo bench --bench constraint`. The other numbers are on made-up logits: the text is random, but it matches.

#![allow(clippy::print_stdout)] // its figures are what it is for

use std::path::Path;
use std::time::Instant;

use fireside::chat::Constraint;
use fireside::chat::settings::{Sampling, Settings};
use fireside::engine::constraint::{Allowed, Tokens};
use fireside::engine::llama::{self, ContextOptions, Hooks, Llama, LoadOptions, Parts, Weights};
use fireside::engine::model::{Logits, Model};

const DEFAULT: &str = "models/SmolLM2-135M-Instruct.Q4_1.gguf";
const LARGE: &str = "target/references/llama.cpp/models/ggml-vocab-gemma-4.gguf";
/// Tokens of an answer, which are timed.
const STEPS: usize = 400;

const SCHEMA: &str = r#"{
    "type": "object",
    "properties": {
        "name": { "type": "string" },
        "age": { "type": "integer", "minimum": 0, "maximum": 150 },
        "tags": { "type": "array", "items": { "enum": ["red", "green", "blue"] } },
        "address": { "type": "object", "properties": { "street": { "type": "string", "maxLength": 100 } }, "required": ["street"] }
    },
    "required": ["name", "age", "tags", "address"],
    "additionalProperties": false
}"#;

fn main() {
    llama::install(Hooks { log: None, abort: |_| {} });
    if Path::new(DEFAULT).exists() {
        let weights = weights(DEFAULT, Parts::InTurn);
        let mut model = Llama::new(&weights, ContextOptions::new(&Settings::default(), 1024, 64, 2));
        model.grow(1024).expect("there is room");
        model.append(0, &[1], Logits::Last).expect("it evaluates");
        println!("{DEFAULT}:");
        walk(&mut model, true);
    }
    if Path::new(LARGE).exists() {
        let weights = weights(LARGE, Parts::Vocabulary);
        println!("{LARGE}:");
        walk(&mut Llama::new(&weights, ContextOptions::new(&Settings::default(), 1024, 64, 2)), false);
    }
}

fn weights(path: &str, parts: Parts) -> Weights {
    let options = LoadOptions::new(&Settings::default(), parts);
    Weights::load(Path::new(path), &options, |_| true).expect("it is a model")
}

/// Writes answers until enough tokens are timed.
fn walk(model: &mut Llama, evaluates: bool) {
    let started = Instant::now();
    let tokens = Tokens::of(model);
    println!("  the vocabulary once: {:.0} ms", started.elapsed().as_secs_f64() * 1e3);
    let constraint = Constraint::JsonSchema(SCHEMA.into());
    let started = Instant::now();
    let begin = || tokens.matcher(&constraint, "", &[], Vec::new()).expect("it can be enforced");
    let mut matcher = begin();
    println!("  a schema: {:.1} ms", started.elapsed().as_secs_f64() * 1e3);
    let mut sampler = model.sampler(&Sampling::default(), 1).expect("the settings are good");
    let made_up = made_up(model.vocabulary().len);
    let (mut masks, mut picks, mut plain, mut steps) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut plain_sampler = model.sampler(&Sampling::default(), 1).expect("the settings are good");
    let micros = |since: Instant| since.elapsed().as_secs_f64() * 1e6;
    while masks.len() < STEPS {
        let logits =
            if evaluates { model.logits(0).to_vec() } else { made_up[masks.len() % made_up.len()].clone() };
        let started = Instant::now();
        let allowed = match matcher.allowed(&[]).expect("it goes on") {
            Allowed::End => {
                matcher = begin();
                continue;
            }
            Allowed::Tokens(allowed) => allowed,
        };
        masks.push(micros(started));
        let started = Instant::now();
        let token = sampler.pick_among(&logits, allowed).expect("they are numbers");
        picks.push(micros(started));
        if !matcher.take(token).expect("it is allowed") {
            matcher = begin();
        }
        let started = Instant::now();
        plain_sampler.pick(&logits).expect("they are numbers");
        plain.push(micros(started));
        if evaluates {
            let started = Instant::now();
            model.append(0, &[token], Logits::Last).expect("it evaluates");
            let _done = model.logits(0)[0];
            steps.push(micros(started));
        }
    }
    for (name, times) in
        [("mask", masks), ("choosing under it", picks), ("choosing freely", plain), ("evaluating", steps)]
    {
        if let Some([mean, middle, high]) = spread(times) {
            println!("  {name}: mean {mean:.0} µs a token, median {middle:.0}, 99th percentile {high:.0}");
        }
    }
}

/// The mean, the middle, and the longest but one in a hundred.
fn spread(mut times: Vec<f64>) -> Option<[f64; 3]> {
    times.sort_by(f64::total_cmp);
    let mean = times.iter().sum::<f64>() / times.len() as f64;
    (!times.is_empty()).then(|| [mean, times[times.len() / 2], times[times.len() * 99 / 100]])
}

/// Logits spread like a model's: bell-shaped.
fn made_up(vocabulary: usize) -> Vec<Vec<f32>> {
    let mut state = 1u64; // Knuth's MMIX constants
    let mut share = move || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 40) as f32 / (1u64 << 24) as f32
    };
    (0..8)
        .map(|_| (0..vocabulary).map(|_| (0..6).map(|_| share()).sum::<f32>() * 4.0 - 16.0).collect())
        .collect()
}
