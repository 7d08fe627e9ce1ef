//! What choosing a token costs: microseconds a token on a vocabulary of 262,144, by the settings.
//!
//! `cargo bench --bench sampler`. The logits are spread like a model's: bell-shaped, a few far above the rest. A top-k of 129
//! takes the way over the whole vocabulary, as every setting would without the shortcuts.

#![allow(clippy::print_stdout)] // its figures are what it is for

use std::time::Instant;

use fireside::chat::settings::Sampling;
use fireside::engine::sampler::Sampler;

const VOCABULARY: usize = 262_144;
const ROUNDS: usize = 200;

fn main() {
    let mut state = 1u64; // Knuth's MMIX constants
    let mut chance = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 40) as f32 / (1u64 << 24) as f32
    };
    let mut row = || -> Vec<f32> {
        let mut logits: Vec<f32> =
            (0..VOCABULARY).map(|_| (0..6).map(|_| chance()).sum::<f32>() * 4.0 - 16.0).collect();
        for _ in 0..10 {
            logits[(chance() * VOCABULARY as f32) as usize] = 10.0 + 8.0 * chance();
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
        let mut sampler = Sampler::for_logits(&sampling, 1, VOCABULARY);
        let mut times: Vec<f64> = (0..ROUNDS)
            .map(|round| {
                let started = Instant::now();
                sampler.pick(&rows[round % rows.len()]).expect("they are numbers");
                started.elapsed().as_secs_f64() * 1e6
            })
            .collect();
        times.sort_by(f64::total_cmp);
        println!(
            "{name}: {:.0} µs a token ({:.0} to {:.0})",
            times[ROUNDS / 2],
            times[0],
            times[ROUNDS * 9 / 10]
        );
    }
}
