use fireside::chat::settings::{Auto, CacheType};
use fireside::engine::llama::{self, ContextOptions, Hooks, Llama, LoadOptions, Logits, Model, Parts, Weights};
use std::path::Path;
use std::time::Instant;
fn main() {
    llama::in_large_steps();
    llama::install(Hooks { log: None, abort: |_| {} });
    let path = "models/SmolLM2-135M-Instruct.Q4_1.gguf";
    let weights = Weights::load(Path::new(path), &LoadOptions { gpu_layers: None, mmap: true, mlock: false, parts: Parts::InTurn, sought: None }, |_| true).unwrap();
    let cap: usize = std::env::args().nth(1).unwrap().parse().unwrap();
    let options = ContextOptions { limit: 4096, chunk: 512, threads: 2, threads_batch: 2, flash_attn: Auto::Auto, cache_type_k: CacheType::F16, cache_type_v: CacheType::F16 };
    let t = Instant::now();
    let mut m = Llama::new(&weights, options);
    m.grow(cap).unwrap();
    print!("open {:.1?} ", t.elapsed());
    let tokens = m.tokenize(&" house".repeat(512), false);
    for _ in 0..4 {
        let t = Instant::now();
        m.decode(&tokens[..512], Logits::Last).unwrap();
        let _x = m.logits(0)[0];
        print!("{:.1?} ", t.elapsed());
        m.truncate(0);
    }
    println!();
}
