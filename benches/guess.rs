//! What guessing gains: tokens a second with it and without, on texts that are copied, edited and freely written.
//!
//! `cargo bench --bench guess [-- MODEL.gguf [THREADS [ROUNDS]]]`. The runs with and without alternate, so that whatever else
//! the machine does slows both. First comes what a batch costs: the shortest of nine times, by its size and by how much is in
//! memory before it.

#![allow(clippy::print_stdout)] // its figures are what it is for

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use fireside::chat::settings::{Auto, CacheType, Settings};
use fireside::chat::{Message, Role, Stats, Turn};
use fireside::engine::Engine;
use fireside::engine::llama::{
    self, ContextOptions, Hooks, Llama, LoadOptions, Logits, Model, Token, Weights,
};
use fireside::gguf;

const MODEL: &str = "models/SmolLM2-135M-Instruct.Q4_1.gguf";
const SIZES: [usize; 7] = [1, 2, 3, 5, 9, 13, 17];
const DEPTHS: [usize; 3] = [16, 512, 2048];

const LETTER: &str = "Dear Ms Albright, thank you for your letter of the third of March. The parcel that we sent you on the first \
    has been held at the border, where it will stay until the papers have been signed. Please sign them and send them back to \
    us at your earliest convenience. We are sorry for the trouble this has caused. Our office in Dover is open from nine to \
    five on every day of the week but Sunday, and Mr Harrow, who knows your case, will be glad to hear from you. If the papers \
    have been lost, write to him and he will have new ones made at no cost to you. The parcel itself is safe and dry. Yours \
    sincerely, Edmund Pike";
const CODE: &str = "def total(values, limit):\n    result = 0\n    for value in values:\n        if value > limit:\n            \
    continue\n        result += value\n    return result\n\n\ndef mean(values, limit):\n    result = total(values, limit)\n    \
    count = 0\n    for value in values:\n        if value <= limit:\n            count += 1\n    if count == 0:\n        \
    return None\n    result = result / count\n    return result\n\n\nprint(total([1, 2, 3, 40], 10))\nprint(mean([1, 2, 3, 40], 10))\n";

fn tasks() -> [(&'static str, String); 6] {
    let typos =
        LETTER.replace("parcel", "parsel").replace("convenience", "convinience").replace("office", "ofice");
    [
        ("repeat", format!("Repeat this text:\n\n{LETTER}")),
        ("fix", format!("Fix the typos in this text:\n\n{typos}")),
        ("rename", format!("Rename the variable result to amount in this code:\n\n```python\n{CODE}```")),
        ("poem", "Write a poem about a lighthouse.".into()),
        ("explain", "Explain the difference between TCP and UDP.".into()),
        ("story", "Tell me a story about a dragon who was afraid of fire.".into()),
    ]
}

fn main() {
    let mut args = std::env::args().skip(1).filter(|arg| arg != "--bench");
    let path = args.next().unwrap_or_else(|| MODEL.into());
    let threads = args.next().map_or(2, |arg| arg.parse().expect("THREADS is a number"));
    let rounds: usize = args.next().map_or(9, |arg| arg.parse().expect("ROUNDS is a number"));
    llama::install(Hooks { log: None, abort: |_| {} });
    let options = LoadOptions { gpu_layers: None, mmap: true, mlock: false, vocabulary_only: false };
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
    batches(Llama::new(&weights, options.clone()));
    let header = gguf::read(Path::new(&path)).expect("it was loaded");
    let template = header.str("tokenizer.chat_template");
    let mut engine = Engine::new(Llama::new(&weights, options), template, &[]).expect("its template is good");
    let nobody = AtomicBool::new(false);
    let ask = |engine: &mut Engine<Llama>, text: &str, temp: f32, guesses: bool| -> Stats {
        engine.reply(&turn(text, temp, guesses), &nobody, &mut |_| {}).expect("it answers")
    };
    ask(&mut engine, "Hello", 0.0, false);
    let costs = engine.measure(&|| false).expect("nobody disturbs it");
    println!("measured: {:.2?}", costs.numbers());
    for (name, text) in tasks() {
        for temp in [0.0, 0.8] {
            let mut gains = Vec::new();
            let mut last = None;
            for _ in 0..rounds {
                let without = ask(&mut engine, &text, temp, false);
                let with = ask(&mut engine, &text, temp, true);
                gains
                    .push(with.generation_speed().unwrap_or(0.0) / without.generation_speed().unwrap_or(1.0));
                last = Some(with);
            }
            gains.sort_by(f64::total_cmp);
            let with = last.expect("there is a round");
            println!(
                "{name}, temperature {temp}: {:.2} of the speed without ({:.2} to {:.2}), {} tokens, {} of {} guesses right, {:.2} a step",
                gains[rounds / 2],
                gains[0],
                gains[rounds - 1],
                with.generated_tokens,
                with.guesses.right,
                with.guesses.made,
                with.tokens_a_step(),
            );
        }
    }
}

fn turn(text: &str, temp: f32, guesses: bool) -> Turn {
    let mut settings = Settings { no_guess: !guesses, ..Settings::default() };
    settings.sampling.temp = temp;
    Turn { seed: 7, predict: 400, ..Turn::new([Message::new(Role::User, text)], settings) }
}

fn batches(mut model: Llama) {
    model.grow(4096).expect("there is room");
    let tokens: Vec<Token> =
        model.tokenize(&"The quick brown fox jumps over the lazy dog. ".repeat(500), false);
    for depth in DEPTHS {
        while model.len() < depth {
            let more = (depth - model.len()).min(512);
            model.decode(&tokens[model.len()..][..more], Logits::None).expect("it evaluates");
        }
        let mut best = [(f64::INFINITY, f64::INFINITY); SIZES.len()];
        for _ in 0..9 {
            for (size, best) in SIZES.iter().zip(&mut best) {
                let mut time = || {
                    let started = Instant::now();
                    model.decode(&tokens[depth..][..*size], Logits::All).expect("it evaluates");
                    let _done = model.logits(size - 1)[0];
                    model.truncate(depth);
                    started.elapsed().as_secs_f64() * 1e3
                };
                *best = (best.0.min(time()), best.1.min(time()));
            }
        }
        let shown = SIZES
            .iter()
            .zip(best)
            .map(|(size, (first, again))| format!("{size}: {first:.1}, again {again:.1}"));
        println!("after {depth} tokens, ms a batch: {}", shown.collect::<Vec<_>>().join("; "));
    }
}
