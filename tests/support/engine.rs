//! fireside's engine in the test's own process, for tests of tokens and logits.

use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use fireside::chat::settings::{Auto, CacheType, Settings};
use fireside::chat::{DraftCounts, Event, Message, Request, Role, StopReason};
use fireside::engine::Engine;
use fireside::engine::llama::{self, ContextOptions, Hooks, Llama, LoadOptions, Parts, SpecialIds, Weights};
use fireside::engine::model::{Logits, Model};
use fireside::engine::token::Token;
use fireside::gguf;

use super::default_model;

/// Logits of the default model (Q4_1) move by up to this much with the batch size.
pub const QUANTISED_NOISE: f32 = 1.1;
/// The tiny models are f32 and are run with an f32 KV cache and without flash attention, whose kernels round
/// to f16. llama.cpp's Vulkan kernels round the queries of more than 8 tokens to f16, and so differ from those for fewer:
/// Mesa's driver in software reaches 0.013. Its CUDA kernels for a few rows multiply in TF32, with 10 bits: an H200 reaches
/// 0.055.
pub const FLOAT_NOISE: f32 = match (TF32, GPU_BUILD) {
    (true, _) => 0.16,
    (_, true) => 0.016,
    _ => 0.002,
};
/// Whether batches are evaluated less exactly than single tokens, if there is a GPU.
pub const TF32: bool = cfg!(feature = "cuda");
/// Whether the models are on a GPU, if there is one.
pub const GPU_BUILD: bool = cfg!(any(feature = "cuda", feature = "metal", feature = "vulkan"));
/// Tokens per batch.
pub const CHUNK: usize = 512;
pub const TINY: [&str; 7] = ["llama-bpe", "llama-spm", "gemma3", "mamba", "falcon-h1", "lfm2", "qwen35"];
/// Those whose memory cannot be truncated.
pub const RECURRENT: [&str; 4] = ["mamba", "falcon-h1", "lfm2", "qwen35"];

pub struct Subject {
    pub weights: Weights,
    pub template: Option<String>,
    pub limit: usize,
    pub noise: f32,
}

pub fn load(path: &Path, parts: Parts, special_ids: Option<SpecialIds>) -> Weights {
    llama::install(Hooks { log: None, abort: |_| {} });
    let options = LoadOptions { special_ids, ..LoadOptions::new(&Settings::default(), parts) };
    Weights::load(path, &options, |_| true).unwrap()
}

impl Subject {
    pub fn load(path: &Path, noise: f32) -> Subject {
        let header = gguf::read(path).unwrap();
        Subject {
            weights: load(path, Parts::InTurn, None),
            template: header.str("tokenizer.chat_template").map(String::from),
            limit: gguf::memory::trained_context(&header).unwrap().min(4096) as usize,
            noise,
        }
    }

    pub fn model(&self) -> Llama<'_> {
        Llama::new(&self.weights, self.context())
    }

    pub fn context(&self) -> ContextOptions {
        let (cache, flash_attn) = match self.noise {
            FLOAT_NOISE => (CacheType::F32, Auto::Off),
            _ => (CacheType::F16, Auto::Auto),
        };
        // two threads would spin against the tests beside them
        let options = ContextOptions::new(&Settings::default(), self.limit, CHUNK, 1);
        ContextOptions { flash_attn, cache_type_k: cache, cache_type_v: cache, ..options }
    }

    pub fn engine(&self) -> Engine<Llama<'_>> {
        self.engine_of(self.model())
    }

    pub fn engine_of<'w>(&self, model: Llama<'w>) -> Engine<Llama<'w>> {
        Engine::new(model, self.template.as_deref(), &[]).unwrap()
    }

    /// The distance between the two best logits after these tokens.
    pub fn margin(&self, tokens: &[Token]) -> f32 {
        let mut model = self.model();
        model.grow(tokens.len() + 1).unwrap();
        for chunk in tokens.chunks(CHUNK) {
            model.append(0, chunk, Logits::Last).unwrap();
        }
        let mut logits = model.logits(0).to_vec();
        logits.sort_by(|a, b| b.total_cmp(a));
        logits[0] - logits[1]
    }
}

/// The default model, loaded once.
pub fn default_subject() -> Option<&'static Subject> {
    static SUBJECT: OnceLock<Option<Subject>> = OnceLock::new();
    SUBJECT.get_or_init(|| default_model().map(|path| Subject::load(&path, QUANTISED_NOISE))).as_ref()
}

pub fn turn(messages: &[Message], predict: u32) -> Request {
    let mut settings = Settings::default();
    settings.sampling.temp = 0.0;
    settings.no_speculative = true; // drafts are verified by other kernels: tests/speculative.rs
    let mut request = Request { cacheable: true, ..Request::new(messages.iter().cloned(), &settings) };
    (request.generation.seed, request.generation.max_tokens) = (7, predict);
    request
}

pub fn user(text: &str) -> Message {
    Message::new(Role::User, text)
}

/// An engine's answer: the text, the evaluated tokens (with the prompt), and why it ended.
pub struct Answer {
    pub text: String,
    pub tokens: Vec<Token>,
    pub stop: StopReason,
    /// Tokens of the prompt that were cached.
    pub cached: usize,
    pub drafts: DraftCounts,
}

pub fn answer<M: Model>(engine: &mut Engine<M>, turn: &Request) -> Answer {
    let mut text = String::new();
    let stats = engine.reply(turn, &AtomicBool::new(false), &mut |event| {
        if let Event::Text(piece) = event {
            text.push_str(&piece);
        }
    });
    let stats = stats.unwrap();
    let tokens = engine.evaluated().to_vec();
    Answer {
        text,
        tokens,
        stop: stats.stop,
        cached: stats.cached_tokens.unwrap(),
        drafts: stats.drafts.unwrap(),
    }
}

/// A small random number generator with Knuth's MMIX constants, so that a failure can be repeated.
pub struct Chance(pub u64);

impl Chance {
    pub fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) as usize % n
    }
}

/// Asks, and stops after this many pieces of text, or during the prefill.
pub fn cancelled(engine: &mut Engine<Llama>, turn: &Request, after: usize) {
    let cancel = AtomicBool::new(after == 0);
    let mut pieces = 0;
    let stats = engine.reply(turn, &cancel, &mut |event| {
        pieces += usize::from(matches!(event, Event::Text(_)));
        cancel.fetch_or(pieces >= after, Ordering::Relaxed);
    });
    assert!(pieces <= after + 1 && stats.is_ok());
}
