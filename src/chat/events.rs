//! The output of a backend: events while it works, and stats at the end.

use std::ops::Add;
use std::time::Duration;

use super::dropped::Dropped;
use super::probability::{Choice, TokenProbability};

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StopReason {
    /// The model ended it.
    End,
    /// The token limit was reached.
    Length,
    /// The model generated a stop string.
    Stop,
    /// The context is full.
    Context,
    /// The model repeated itself endlessly.
    Repetition,
    /// The user stopped it.
    Interrupted,
    /// It is one of the given choices.
    Choice,
    /// Something failed.
    Error,
}

impl StopReason {
    const ALL: [StopReason; 8] = [
        StopReason::End,
        StopReason::Length,
        StopReason::Stop,
        StopReason::Context,
        StopReason::Repetition,
        StopReason::Interrupted,
        StopReason::Choice,
        StopReason::Error,
    ];

    pub fn from_name(name: &str) -> Option<StopReason> {
        StopReason::ALL.into_iter().find(|reason| reason.name() == name)
    }

    pub fn name(self) -> &'static str {
        match self {
            StopReason::End => "end",
            StopReason::Length => "length",
            StopReason::Stop => "stop",
            StopReason::Context => "context",
            StopReason::Repetition => "repetition",
            StopReason::Interrupted => "interrupted",
            StopReason::Choice => "choice",
            StopReason::Error => "error",
        }
    }
}

/// An event during a turn.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The request is about to be sent; its seed.
    Asked { seed: u32 },
    /// The model file is being loaded; 0 to 1.
    Loading { fraction: f32 },
    /// Prefill; both numbers in tokens, without the cached ones.
    Prefill { done: usize, total: usize },
    /// The next piece of thinking, in whole characters, and the number of thinking tokens so far.
    Thinking { text: String, tokens: usize },
    /// The next piece of the answer, in whole characters.
    Text(String),
    /// The next token, if its probability was asked for: before the text that it completes. Also the token that
    /// ends the answer.
    Token(Box<TokenProbability>),
    /// The choices, in the order in which they were given; the text of the likeliest follows.
    Choices(Vec<Choice>),
    /// A notice for the user, one line.
    Notice(String),
    /// The prompt leaves too little space for the answer; an error follows. In tokens.
    Full { prompt: usize, limit: usize },
    /// More messages were dropped from the context; `dropped` is the total.
    Dropped { messages: usize, tokens: usize, dropped: Dropped },
}

/// Draft tokens of an answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DraftCounts {
    pub drafted: usize,
    /// Of these, the ones that the model accepted.
    pub accepted: usize,
}

/// The statistics of an answer. `None`: the backend does not know.
#[derive(Debug, Clone, PartialEq)]
pub struct Stats {
    pub stop: StopReason,
    /// Tokens of the prompt, control tokens included.
    pub prompt_tokens: Option<usize>,
    /// Of these, the ones that needed no prefill.
    pub cached_tokens: Option<usize>,
    pub generated_tokens: Option<usize>,
    /// Of these, the thinking tokens.
    pub thinking_tokens: usize,
    pub drafts: Option<DraftCounts>,
    pub load: Duration,
    /// From the request to the end of prefill.
    pub prompt: Duration,
    /// Of that, the time spent on evaluating uncached tokens; zero: unknown.
    pub prefill: Duration,
    /// The time from the first decode step to the last.
    pub generation: Duration,
    /// Tokens of context in use, and the limit; 0: unknown.
    pub context_used: usize,
    pub context_limit: usize,
    pub seed: u32,
}

impl Stats {
    /// The statistics of an answer that was stopped before prefill.
    pub fn stopped(seed: u32) -> Stats {
        Stats {
            stop: StopReason::Interrupted,
            prompt_tokens: Some(0),
            cached_tokens: Some(0),
            generated_tokens: Some(0),
            thinking_tokens: 0,
            drafts: Some(DraftCounts::default()),
            load: Duration::ZERO,
            prompt: Duration::ZERO,
            prefill: Duration::ZERO,
            generation: Duration::ZERO,
            context_used: 0,
            context_limit: 0,
            seed,
        }
    }

    /// The statistics of an answer whose backend tells nothing about it.
    pub fn unknown(stop: StopReason, seed: u32) -> Stats {
        let (prompt_tokens, cached_tokens, generated_tokens, drafts) = (None, None, None, None);
        Stats { stop, prompt_tokens, cached_tokens, generated_tokens, drafts, ..Stats::stopped(seed) }
    }

    /// Adds the statistics of the answer's continuation with a changed prompt; its prefill is decode time.
    pub fn and(self, further: Stats) -> Stats {
        Stats {
            stop: further.stop,
            generated_tokens: sum(self.generated_tokens, further.generated_tokens, usize::add),
            thinking_tokens: self.thinking_tokens + further.thinking_tokens,
            drafts: sum(self.drafts, further.drafts, |one, other| DraftCounts {
                drafted: one.drafted + other.drafted,
                accepted: one.accepted + other.accepted,
            }),
            generation: self.generation + further.prompt + further.generation,
            context_used: further.context_used,
            ..self
        }
    }

    /// Prefill speed in tokens per second; `None` if there were too few tokens to tell.
    pub fn prompt_speed(&self) -> Option<f64> {
        speed(self.prompt_tokens?.saturating_sub(self.cached_tokens?), self.prefill)
    }

    /// Tokens per decode step; accepted draft tokens raise it above 1.
    pub fn tokens_a_step(&self) -> Option<f64> {
        let generated = self.generated_tokens?;
        let steps = generated.saturating_sub(self.drafts?.accepted).max(1);
        Some(generated as f64 / steps as f64)
    }

    /// Decode speed in tokens per second; `None` if there were too few tokens to tell.
    pub fn generation_speed(&self) -> Option<f64> {
        speed(self.generated_tokens?, self.generation)
    }
}

/// Both together, if both are known.
fn sum<T>(one: Option<T>, other: Option<T>, add: impl FnOnce(T, T) -> T) -> Option<T> {
    one.zip(other).map(|(one, other)| add(one, other))
}

fn speed(tokens: usize, time: Duration) -> Option<f64> {
    (tokens > 1 && !time.is_zero()).then(|| tokens as f64 / time.as_secs_f64())
}

/// The tokens of a conversation in the context.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Tokens of the whole prompt.
    pub prompt: usize,
    /// Of these, the ones in the KV cache.
    pub cached: usize,
    /// The context limit; 0: unknown.
    pub limit: usize,
    /// The estimated time to prefill the rest, if known.
    pub prefill: Option<Duration>,
    /// The counts are estimated from the length of the text.
    pub estimated: bool,
}
