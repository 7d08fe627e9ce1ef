//! The output of a backend: events while it works, and stats at the end.

use std::time::Duration;

use super::dropped::Dropped;

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

/// An event during a turn.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The model file is being loaded; 0 to 1.
    Loading { fraction: f32 },
    /// Prefill; both numbers in tokens, without the cached ones.
    Prefill { done: usize, total: usize },
    /// The next piece of thinking, in whole characters, and the number of thinking tokens so far.
    Thinking { text: String, tokens: usize },
    /// The next piece of the answer, in whole characters.
    Text(String),
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

/// The statistics of an answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Stats {
    pub stop: StopReason,
    /// Tokens of the prompt, control tokens included.
    pub prompt_tokens: usize,
    /// Of these, the ones that needed no prefill.
    pub cached_tokens: usize,
    pub generated_tokens: usize,
    /// Of these, the thinking tokens.
    pub thinking_tokens: usize,
    pub drafts: DraftCounts,
    pub load: Duration,
    /// From the request to the end of prefill.
    pub prompt: Duration,
    /// Of that, the time spent on evaluating uncached tokens.
    pub prefill: Duration,
    /// The time from the first decode step to the last.
    pub generation: Duration,
    /// Tokens of context in use, and the limit.
    pub context_used: usize,
    pub context_limit: usize,
    pub seed: u32,
}

impl Stats {
    /// The statistics of an answer that was stopped before prefill.
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

    /// Adds the statistics of the answer's continuation with a changed prompt; its prefill is decode time.
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

    /// Prefill speed in tokens per second; `None` if there were too few tokens to tell.
    pub fn prompt_speed(&self) -> Option<f64> {
        speed(self.prompt_tokens - self.cached_tokens, self.prefill)
    }

    /// Tokens per decode step; accepted draft tokens raise it above 1.
    pub fn tokens_a_step(&self) -> f64 {
        let steps = self.generated_tokens.saturating_sub(self.drafts.accepted).max(1);
        self.generated_tokens as f64 / steps as f64
    }

    /// Decode speed in tokens per second; `None` if there were too few tokens to tell.
    pub fn generation_speed(&self) -> Option<f64> {
        speed(self.generated_tokens, self.generation)
    }
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
    /// The context limit.
    pub limit: usize,
    /// The estimated time to prefill the rest.
    pub prefill: Duration,
}
