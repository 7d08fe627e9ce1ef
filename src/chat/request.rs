//! A request to a backend: the conversation, the part of it that the model sees, and how to generate the
//! answer.

use std::sync::Arc;

use super::constraint::Constraint;
use super::dropped::{Dropped, visible};
use super::message::Message;
use super::settings::{Auto, Sampling, Settings};

/// A request for one answer: the whole conversation, and how to generate the answer.
#[derive(Debug, Clone)]
pub struct Request {
    /// Shared with the conversation, which may be long.
    pub messages: Vec<Arc<Message>>,
    /// The dropped beginning of the conversation.
    pub dropped: Dropped,
    /// Tokens reserved for the answer, at least 1; if the prompt leaves fewer, it does not fit.
    pub reserve: usize,
    /// The beginning of the answer, which the model continues.
    pub answer_prefix: String,
    /// The thinking before it.
    pub thinking_prefix: String,
    /// Complete plain text instead of answering in a chat: no template, nothing added but BOS.
    pub raw: bool,
    /// With `raw`: parse control tokens in the text.
    pub special: bool,
    pub task: Task,
    pub generation: Generation,
    /// Whether the prompt may be saved in the on-disk prompt cache.
    pub cacheable: bool,
    /// The id of the saved conversation, if any. Deleting it also deletes its prompt cache entries.
    pub conversation: Option<String>,
    /// Evaluate the whole prompt, without the KV cache and the prompt cache.
    pub no_cache: bool,
    /// Time of the request, for templates with a date, in milliseconds since 1970; `None`: now.
    pub asked: Option<i64>,
}

impl Request {
    /// A one-time request that is not saved: seed 0, limited by the context only.
    pub fn new(messages: impl IntoIterator<Item = Message>, settings: &Settings) -> Request {
        Request {
            messages: messages.into_iter().map(Arc::new).collect(),
            dropped: Dropped::default(),
            reserve: 1,
            answer_prefix: String::new(),
            thinking_prefix: String::new(),
            raw: false,
            special: false,
            task: Task::Answer,
            generation: Generation::of(settings, 0, u32::MAX),
            cacheable: false,
            conversation: None,
            no_cache: false,
            asked: None,
        }
    }

    /// The messages for the model.
    pub fn visible(&self) -> Vec<Arc<Message>> {
        visible(&self.messages, &self.dropped)
    }
}

/// What to do with the prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Task {
    /// Generate an answer.
    Answer,
    /// Answer with the likeliest of these texts.
    Choose(Vec<String>),
    /// Evaluate a text that follows the prompt, and tell the probability of each of its tokens.
    Score(Score),
}

/// A text to evaluate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Score {
    /// The whole answer, with its beginning in the request; its thinking.
    pub text: String,
    pub thinking: String,
    /// The size, in tokens, of the chunks into which a text of at least two chunks is cut, each evaluated by
    /// itself; `None`: never cut.
    pub chunk: Option<usize>,
    /// The most chunks to evaluate.
    pub most_chunks: Option<usize>,
    /// How many of the likeliest other tokens to tell of each.
    pub others: usize,
}

/// How to generate an answer. With the same model and messages, it determines every token.
#[derive(Debug, Clone, PartialEq)]
pub struct Generation {
    /// Its `seed` is the user's setting; `seed` below is the one in use.
    pub sampling: Sampling,
    pub seed: u32,
    /// Most tokens to generate; the context limits the answer as well.
    pub max_tokens: u32,
    /// Stop strings: the answer ends before any of these.
    pub stop: Vec<String>,
    /// What the answer, without its thinking, must match.
    pub constraint: Option<Constraint>,
    pub thinking: Thinking,
    /// Whether to use speculative decoding.
    pub speculative: bool,
    /// Tell the probability of each token, and this many of the likeliest others.
    pub logprobs: Option<usize>,
}

/// Whether and how long the model thinks.
#[derive(Debug, Clone, PartialEq)]
pub struct Thinking {
    /// Auto: the default of the template.
    pub think: Auto,
    /// Most tokens of thinking; `None`: no separate limit.
    pub budget: Option<u32>,
    /// The tags around thinking; `None`: from the template or the vocabulary.
    pub tags: Option<[String; 2]>,
}

impl Generation {
    /// From the settings, with the seed and the token limit of this answer.
    pub fn of(settings: &Settings, seed: u32, max_tokens: u32) -> Generation {
        Generation {
            sampling: settings.sampling.clone(),
            seed,
            max_tokens,
            stop: settings.stop.clone(),
            constraint: settings.constraint.clone(),
            thinking: Thinking {
                think: settings.think,
                budget: settings.think_budget,
                tags: settings.think_tags.clone(),
            },
            speculative: !settings.no_speculative,
            logprobs: None,
        }
    }
}
