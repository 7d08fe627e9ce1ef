//! What guessing costs and what the sampler costs: seconds a batch, by its size and by what is in memory before it.
//!
//! `cargo bench --bench guess [-- MODEL.gguf [THREADS]]`.

#![allow(clippy::print_stdout)] // its figures are what it is for

use std::path::Path;
use std::time::Instant;

use fireside::chat::settings::{Auto, CacheType};
use fireside::engine::llama::{
    self, ContextOptions, Hooks, Llama, LoadOptions, Logits, Model, Token, Weights,
};

const MODEL: &str = "models/SmolLM2-135M-Instruct.Q4_1.gguf";
const SIZES: [usize; 9] = [1, 2, 3, 4, 5, 9, 13, 16, 17];
const DEPTHS: [usize; 4] = [16, 256, 1024, 3072];

fn main() {
    let mut args = std::env::args().skip(1).filter(|arg| arg != "--bench");
    let path = args.next().unwrap_or_else(|| MODEL.into());
    let threads = args.next().map_or(2, |arg| arg.parse().expect("THREADS is a number"));
    llama::install(Hooks { log: None, abort: |_| {} });
    let options = LoadOptions { gpu_layers: None, mmap: true, mlock: false };
    let weights = Weights::load(Path::new(&path), &options, |_| true).expect("it is a model");
    let options = ContextOptions {
        limit: 4096,
        chunk: 512,
        threads,
        threads_batch: threads,
        flash_attn: Auto::Auto,
        cache_type_k: CacheType::F16,
        cache_type_v: CacheType::F16,
    };
    let mut model = Llama::new(&weights, options);
    model.grow(4096).expect("there is room");
    let tokens: Vec<Token> =
        model.tokenize(&"The quick brown fox jumps over the lazy dog. ".repeat(500), false);
    for depth in DEPTHS {
        while model.len() < depth {
            let more = (depth - model.len()).min(512);
            model.decode(&tokens[model.len()..][..more], Logits::None).expect("it evaluates");
        }
        let mut times = [const { Vec::new() }; SIZES.len()];
        for _ in 0..9 {
            for (size, times) in SIZES.iter().zip(&mut times) {
                let started = Instant::now();
                model.decode(&tokens[depth..][..*size], Logits::All).expect("it evaluates");
                let _done = model.logits(size - 1)[0];
                times.push(started.elapsed().as_secs_f64() * 1e3);
                model.truncate(depth);
            }
        }
        let middle = times.map(|mut times| {
            times.sort_by(f64::total_cmp);
            times[0]
        });
        let shown: Vec<String> = SIZES
            .iter()
            .zip(middle)
            .map(|(size, time)| format!("{size}: {time:.1} ({:.2})", time / middle[0]))
            .collect();
        println!("after {depth} tokens, ms a batch (times one token): {}", shown.join("  "));
    }
}
