//! What a backend is asked for: a conversation, how much of it the model still sees, and how the answer is generated.

use std::sync::Arc;

use super::dropped::{Dropped, visible};
use super::message::Message;
use super::settings::{Auto, Sampling, Settings};

/// One thing to answer: the whole conversation, and how.
#[derive(Debug, Clone)]
pub struct Request {
    /// Shared with the conversation, which may be long.
    pub messages: Vec<Arc<Message>>,
    /// The beginning of the conversation that the model no longer sees.
    pub dropped: Dropped,
    /// Fewest tokens that the context must have left for the answer, at least 1; otherwise the prompt does not fit.
    pub room: usize,
    /// The beginning of the answer, already written: the model goes on after it.
    pub answer_prefix: String,
    /// The thinking before that.
    pub thinking_prefix: String,
    /// Continue plain text instead of answering in a chat: no template, nothing added but the first token (BOS).
    pub raw: bool,
    /// With `raw`: control tokens written out in the text count as such.
    pub special: bool,
    pub generation: Generation,
    /// Whether its prompt may go to the prompt cache on disk.
    pub cacheable: bool,
    /// The id of the conversation it belongs to, if that is stored: removing the conversation empties the prompt cache of it.
    pub conversation: Option<String>,
    /// Evaluates the whole prompt, whatever memory and the prompt cache have of it.
    pub no_cache: bool,
    /// When it is asked, for templates that say the date, in milliseconds since 1970; `None`: now.
    pub asked: Option<i64>,
}

impl Request {
    /// Something to answer once, of which nothing is stored: seed 0, no limit but the context's.
    pub fn new(messages: impl IntoIterator<Item = Message>, settings: &Settings) -> Request {
        Request {
            messages: messages.into_iter().map(Arc::new).collect(),
            dropped: Dropped::default(),
            room: 1,
            answer_prefix: String::new(),
            thinking_prefix: String::new(),
            raw: false,
            special: false,
            generation: Generation::of(settings, 0, u32::MAX),
            cacheable: false,
            conversation: None,
            no_cache: false,
            asked: None,
        }
    }

    /// The messages that the model is given.
    pub fn visible(&self) -> Vec<Arc<Message>> {
        visible(&self.messages, &self.dropped)
    }
}

/// How an answer is generated. With the same model and messages, it decides every token.
#[derive(Debug, Clone, PartialEq)]
pub struct Generation {
    /// Its `seed` is the user's wish; `seed` below is the one that counts.
    pub sampling: Sampling,
    pub seed: u32,
    /// Most tokens to generate; the end of the context counts besides.
    pub max_tokens: u32,
    /// The answer ends before any of these.
    pub stop: Vec<String>,
    pub thinking: Thinking,
    /// Whether tokens are drafted for the model to verify, several at once.
    pub speculative: bool,
}

/// Whether and how long a model thinks before it answers.
#[derive(Debug, Clone, PartialEq)]
pub struct Thinking {
    /// Auto: as the template has it.
    pub think: Auto,
    /// Most tokens of thinking; `None`: no limit of its own.
    pub budget: Option<u32>,
    /// What opens and closes thinking; `None`: as the template or the vocabulary tells.
    pub tags: Option<[String; 2]>,
}

impl Generation {
    /// As the settings have it, with the seed of this answer and the most tokens it may have.
    pub fn of(settings: &Settings, seed: u32, max_tokens: u32) -> Generation {
        Generation {
            sampling: settings.sampling.clone(),
            seed,
            max_tokens,
            stop: settings.stop.clone(),
            thinking: Thinking {
                think: settings.think,
                budget: settings.think_budget,
                tags: settings.think_tags.clone(),
            },
            speculative: !settings.no_speculative,
        }
    }
}
