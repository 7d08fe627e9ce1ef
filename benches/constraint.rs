//! What a constraint costs: microseconds a token for the mask and for choosing under it, and its share of a whole step of the
//! default model; the same on a vocabulary of 262,144, if scripts/references has fetched it, with the steps of a model of Gemma 3
//! 270M's shape; and the time to begin.
//!
//! `cargo bench --bench constraint`. The large vocabulary gets made-up logits: the text is random, but it matches.

#![allow(clippy::print_stdout)] // its figures are what it is for

mod gemma;

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
    // SAFETY: there is only one thread yet.
    unsafe { llama::prepare() };
    llama::install(Hooks { log: None, abort: |_| {} });
    if Path::new(DEFAULT).exists() {
        let weights = weights(DEFAULT, Parts::InTurn);
        println!("{DEFAULT}:");
        walk(&mut gemma::begun(&weights, 1024), None);
    }
    if Path::new(LARGE).exists() {
        let weights = weights(LARGE, Parts::Vocabulary);
        let shaped = gemma::weights(&mut gemma::Chance(1));
        println!("{LARGE}, with the steps of a model of Gemma 3 270M's shape:");
        let mut vocabulary = Llama::new(&weights, ContextOptions::new(&Settings::default(), 1024, 64, 2));
        walk(&mut vocabulary, Some(&mut gemma::begun(&shaped, 1024)));
    }
}

fn weights(path: &str, parts: Parts) -> Weights {
    let options = LoadOptions::new(&Settings::default(), parts);
    Weights::load(Path::new(path), &options, |_| true).expect("it is a model")
}

/// Writes answers until enough tokens are timed. `other`: evaluates instead of a model that is only a vocabulary.
fn walk<'w>(model: &mut Llama<'w>, mut other: Option<&mut Llama<'w>>) {
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
        let logits = match other {
            None => model.logits(0).to_vec(),
            Some(_) => made_up[masks.len() % made_up.len()].clone(),
        };
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
        let evaluating = other.as_deref_mut().unwrap_or(&mut *model);
        let started = Instant::now();
        evaluating.append(0, &[token], Logits::Last).expect("it evaluates");
        let _done = evaluating.logits(0)[0];
        steps.push(micros(started));
    }
    let all =
        [("mask", masks), ("choosing under it", picks), ("choosing freely", plain), ("evaluating", steps)];
    let means = all.map(|(name, times)| {
        let [mean, middle, high] = spread(times);
        println!("  {name}: mean {mean:.0} µs a token, median {middle:.0}, 99th percentile {high:.0}");
        mean
    });
    let [mask, chosen, freely, step] = means;
    let share = |micros: f64| 100.0 * micros / (step + freely);
    println!("  the mask takes {:.1} % of a step without a constraint", share(mask));
    println!("  with what choosing takes longer: {:.1} %", share(mask + chosen - freely));
}

/// The mean, the middle, and the longest but one in a hundred.
fn spread(mut times: Vec<f64>) -> [f64; 3] {
    times.sort_by(f64::total_cmp);
    let mean = times.iter().sum::<f64>() / times.len() as f64;
    [mean, times[times.len() / 2], times[times.len() * 99 / 100]]
}

/// Logits spread like a model's: bell-shaped.
fn made_up(vocabulary: usize) -> Vec<Vec<f32>> {
    let mut chance = gemma::Chance(1);
    (0..8)
        .map(|_| (0..vocabulary).map(|_| (0..6).map(|_| chance.share()).sum::<f32>() * 4.0 - 16.0).collect())
        .collect()
}
