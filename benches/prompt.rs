//! What a turn costs before the model reads: the template and the tokenizer, in a conversation of 100 messages.
//!
//! `cargo bench --bench prompt`, after `scripts/references`, which fetches the vocabularies and templates. Two medians each, of
//! 30 conversations: the first render after the program started, and that of the next turn, two messages later.

#![allow(clippy::print_stdout)] // its figures are what it is for

use std::path::Path;
use std::time::{Duration, Instant};

use fireside::chat::settings::{Auto, Settings};
use fireside::chat::{Message, Request, Role};
use fireside::engine::Engine;
use fireside::engine::llama::{self, ContextOptions, Hooks, Llama, LoadOptions, Parts, Weights};
use fireside::engine::prompt::builtin::builtin;

/// Vocabularies and templates that go together.
const PAIRS: [(&str, &str); 6] = [
    ("llama-bpe", "meta-llama-Llama-3.1-8B-Instruct"),
    ("qwen2", "Qwen-Qwen3-0.6B"),
    ("gemma-4", "google-gemma-4-31B-it"),
    ("phi-3", "microsoft-Phi-3.5-mini-instruct"),
    ("deepseek-llm", "deepseek-ai-DeepSeek-V3.1"),
    ("falcon", "falcon-instruct"),
];
const MESSAGES: usize = 100;
const ROUNDS: usize = 30;

fn main() {
    llama::install(Hooks { log: None, abort: |_| {} });
    let references = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/references/llama.cpp/models");
    println!(
        "| vocabulary | template | characters | tokens | first | next turn |\n|---|---|---|---|---|---|"
    );
    for (vocabulary, template) in PAIRS {
        let file = || std::fs::read_to_string(references.join(format!("templates/{template}.jinja")));
        let builtin = builtin(template).map(String::from);
        let source = builtin.unwrap_or_else(|| file().expect("scripts/references fetches the templates"));
        let options = LoadOptions::new(&Settings::default(), Parts::Vocabulary);
        let file = references.join(format!("ggml-vocab-{vocabulary}.gguf"));
        let weights = Weights::load(&file, &options, |_| true).expect("a vocabulary of llama.cpp loads");
        let mut times = [Vec::new(), Vec::new()];
        let (mut characters, mut tokens) = (0, 0);
        for round in 0..ROUNDS {
            let engine =
                Engine::new(Llama::new(&weights, context()), Some(&source), &[]).expect("it compiles");
            for (length, times) in [MESSAGES - 1, MESSAGES + 1].into_iter().zip(&mut times) {
                let turn = turn(round, length);
                let started = Instant::now();
                let prompt = engine.prompt(&turn).expect("the template takes it");
                times.push(started.elapsed());
                (characters, tokens) = (prompt.text.chars().count(), prompt.tokens.len());
            }
        }
        let [first, next] = times.map(median);
        println!("| {vocabulary} | {template} | {characters} | {tokens} | {first:.1} ms | {next:.1} ms |");
    }
}

/// In milliseconds.
fn median(mut times: Vec<Duration>) -> f64 {
    times.sort();
    times[times.len() / 2].as_secs_f64() * 1000.0
}

/// A conversation of so many messages, no two alike: questions of 20 words and answers of 80.
fn turn(round: usize, messages: usize) -> Request {
    const WORDS: [&str; 16] = [
        "the", "river", "why", "does", "light", "bend,", "it's", "quite", "simple:", "naïve", "x = y;",
        "and", "every", "(see", "above)", "morning.",
    ];
    let text = |message: usize, count: usize| -> String {
        let mut state = (round * 1009 + message + 1) as u64;
        let mut word = || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            match state >> 60 {
                0 => (state >> 40).to_string(),
                _ => WORDS[(state >> 33) as usize % WORDS.len()].to_owned(),
            }
        };
        (0..count).map(|_| word()).collect::<Vec<_>>().join(" ")
    };
    let message = |n: usize| match n % 2 {
        0 => Message::new(Role::User, text(n, 20)),
        _ => Message::new(Role::Assistant, text(n, 80)),
    };
    let mut request =
        Request { cacheable: true, ..Request::new((0..messages).map(message), &Settings::default()) };
    request.generation.max_tokens = 1;
    request
}

fn context() -> ContextOptions {
    ContextOptions { flash_attn: Auto::Off, ..ContextOptions::new(&Settings::default(), 1 << 17, 512, 1) }
}
