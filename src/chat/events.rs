//! What a backend says while it works: events, and stats at the end.

use std::time::Duration;

use super::dropped::Dropped;

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StopReason {
    /// The model ended it.
    End,
    /// The limit of tokens to write was reached.
    Length,
    /// One of the user's stop strings came.
    Stop,
    /// The context is full.
    Context,
    /// The model repeated itself without end.
    Repetition,
    /// The user stopped it.
    Interrupted,
    /// Something failed.
    Error,
}

impl StopReason {
    const ALL: [StopReason; 7] = [
        StopReason::End,
        StopReason::Length,
        StopReason::Stop,
        StopReason::Context,
        StopReason::Repetition,
        StopReason::Interrupted,
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
            StopReason::Error => "error",
        }
    }
}

/// What happens while an answer is made.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The model file is being loaded; 0 to 1.
    Loading { fraction: f32 },
    /// The prompt is being read; both in tokens, what was cached not counted.
    Prefill { done: usize, total: usize },
    /// The next piece of what is thought before the answer, whole characters, and how many tokens that makes so far.
    Thinking { text: String, tokens: usize },
    /// The next piece of the answer, whole characters.
    Text(String),
    /// Something the user should know, one line.
    Notice(String),
    /// The prompt leaves too little of the context for the answer. A failure follows. In tokens.
    Full { prompt: usize, limit: usize },
    /// So much more has left the model's view, after which this is all that has.
    Dropped { messages: usize, tokens: usize, dropped: Dropped },
}

/// Draft tokens of an answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DraftCounts {
    pub drafted: usize,
    /// Of these, the ones that the model wrote.
    pub accepted: usize,
}

/// How an answer went.
#[derive(Debug, Clone, PartialEq)]
pub struct Stats {
    pub stop: StopReason,
    /// Every token the model was given, control tokens included.
    pub prompt_tokens: usize,
    /// Of these, the ones that were not read again.
    pub cached_tokens: usize,
    pub generated_tokens: usize,
    /// Of these, the ones of thinking.
    pub thinking_tokens: usize,
    pub drafts: DraftCounts,
    pub load: Duration,
    /// Until the model had the prompt.
    pub prompt: Duration,
    /// Of that, how long it evaluated what was not in memory.
    pub prefill: Duration,
    /// From the first token asked for to the last.
    pub generation: Duration,
    /// Tokens of context in use, and the most there can be.
    pub context_used: usize,
    pub context_limit: usize,
    pub seed: u32,
}

impl Stats {
    /// Of an answer that was stopped before anything was read.
    pub fn stopped(seed: u32) -> Stats {
        Stats {
            stop: StopReason::Interrupted,
            prompt_tokens: 0,
            cached_tokens: 0,
            generated_tokens: 0,
            thinking_tokens: 0,
            drafts: DraftCounts::default(),
            load: Duration::ZERO,
            prompt: Duration::ZERO,
            prefill: Duration::ZERO,
            generation: Duration::ZERO,
            context_used: 0,
            context_limit: 0,
            seed,
        }
    }

    /// Of an answer that went on after its prompt was changed: what was read for that counts as writing.
    pub fn and(self, further: Stats) -> Stats {
        Stats {
            stop: further.stop,
            generated_tokens: self.generated_tokens + further.generated_tokens,
            thinking_tokens: self.thinking_tokens + further.thinking_tokens,
            drafts: DraftCounts {
                drafted: self.drafts.drafted + further.drafts.drafted,
                accepted: self.drafts.accepted + further.drafts.accepted,
            },
            generation: self.generation + further.prompt + further.generation,
            context_used: further.context_used,
            ..self
        }
    }

    /// Tokens a second at which the prompt was read; `None` if too little was to tell.
    pub fn prompt_speed(&self) -> Option<f64> {
        speed(self.prompt_tokens - self.cached_tokens, self.prefill)
    }

    /// Tokens that the model wrote at each step, an accepted draft token being one more.
    pub fn tokens_a_step(&self) -> f64 {
        let steps = self.generated_tokens.saturating_sub(self.drafts.accepted).max(1);
        self.generated_tokens as f64 / steps as f64
    }

    /// Tokens a second at which the answer was written; `None` if too little was to tell.
    pub fn generation_speed(&self) -> Option<f64> {
        speed(self.generated_tokens, self.generation)
    }
}

fn speed(tokens: usize, time: Duration) -> Option<f64> {
    (tokens > 1 && !time.is_zero()).then(|| tokens as f64 / time.as_secs_f64())
}

/// How much of the context a conversation takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Tokens of the whole prompt.
    pub prompt: usize,
    /// Of these, the ones already evaluated.
    pub cached: usize,
    /// The most there can be.
    pub limit: usize,
    /// How long reading the rest will take, as far as can be told.
    pub prefill: Duration,
}
