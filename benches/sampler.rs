//! What choosing a token costs on a vocabulary of 262,144: microseconds a token on made-up logits, by the settings; and the
//! share of a whole step that it takes in a model of Gemma 3 270M's shape, whose weights are random.
//!
//! `cargo bench --bench sampler`. Made-up logits are spread like a model's: bell-shaped, a few far above the rest. A top-k of
//! 129 takes the way over the whole vocabulary, as every setting would without the shortcuts.

#![allow(clippy::print_stdout)] // its figures are what it is for

mod gemma;

use std::time::Instant;

use fireside::chat::settings::Sampling;
use fireside::engine::llama::{self, Llama};
use fireside::engine::model::{Logits, Model, Sampler};
use fireside::engine::sampler::Chain;

use gemma::{Chance, VOCABULARY};

const ROUNDS: usize = 200;
/// Steps of the model that are timed.
const STEPS: usize = 100;

fn main() {
    // SAFETY: there is only one thread yet.
    unsafe { llama::prepare() };
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
    let weights = gemma::weights(&mut chance);
    step(&mut gemma::begun(&weights, 512));
}

/// The shortest but few, the middle, and the longest but few.
fn spread(mut times: Vec<f64>) -> [f64; 3] {
    times.sort_by(f64::total_cmp);
    [times[0], times[times.len() / 2], times[times.len() * 9 / 10]]
}

/// The model's steps, each with the sampler's part of it.
fn step(model: &mut Llama) {
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
