//! One turn: a conversation in, events out, stats at the end.
//!
//! ```text
//! messages ─► template ─► tokens ─► cache ─► logits ─► sampler ─► token ─► detokenize ─► text
//! ```
//!
//! The files are numbered in the order in which a turn passes through them. The engine never prints, sleeps or
//! reads a key; whoever calls it gets events and can cancel between chunks of the prompt and between tokens.

pub mod template; // 1
mod jinja;
mod json;
pub mod llama; // 2
mod alphabet;
pub mod tokens; // 3
pub mod cache; // 4
pub mod sampler; // 6
pub mod generate; // 8
pub mod detokenize; // 9
#[cfg(test)]
mod toy;

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use self::cache::{Cache, Plan};
use self::detokenize::Detokenizer;
use self::generate::{Writing, generate};
use self::llama::{Model, Token};
use self::template::Template;
use self::tokens::{Markers, Marks};
use crate::chat::{Counts, Event, Message, Role, Stats, StopReason, Turn};
use crate::error::{Exit, Failure};

/// The exact prompt of a turn.
pub struct Prompt {
    pub text: String,
    pub tokens: Vec<Token>,
    /// What had to be changed to make the template take the conversation, a line each.
    pub notes: Vec<String>,
}

/// A loaded model with all that a conversation needs of it.
pub struct Engine<M> {
    model: M,
    cache: Cache,
    /// `None`: a base model, which completes text.
    template: Option<Template>,
    markers: Markers,
    /// Seconds a token takes to read, from the last reading that was long enough to tell.
    pace: Option<f64>,
}

/// Tokens that must be read to tell how fast reading is.
const PACE_TOKENS: usize = 32;

impl<M: Model> Engine<M> {
    /// `template`: the Jinja source, if the model has one; `args`: its extra variables.
    pub fn new(model: M, template: Option<&str>, args: &[(String, String)]) -> Result<Engine<M>, Failure> {
        let vocabulary = model.vocabulary();
        let compile = |source| Template::new(source, &vocabulary.bos_text, &vocabulary.eos_text, args);
        let template = template.map(compile).transpose().map_err(template_failure)?;
        let sample = template.as_ref().map(sample_render).unwrap_or_default();
        let markers = Markers::new(vocabulary, |text| sample.contains(text)).map_err(Failure::from)?;
        Ok(Engine { model, cache: Cache::default(), template, markers, pace: None })
    }

    /// Answers a turn. On failure the model's memory stays usable.
    pub fn reply(
        &mut self,
        turn: &Turn,
        cancel: &AtomicBool,
        show: &mut dyn FnMut(Event),
    ) -> Result<Stats, Failure> {
        let prompt = self.prompt(turn)?;
        let limit = self.model.limit();
        if prompt.tokens.is_empty() {
            return Err(empty_prompt());
        }
        if let Plan::Refuse { prompt, limit } = cache::plan(prompt.tokens.len(), limit) {
            return Err(too_long(prompt, limit));
        }
        prompt.notes.iter().cloned().for_each(|note| show(Event::Notice(note)));
        let mut sampler = self.model.sampler(&turn.settings.sampling, turn.seed)?;
        sampler.see(&prompt.tokens);

        let started = Instant::now();
        let cached = self.cache.reuse(&mut self.model, &prompt.tokens)?;
        let flow = self.read(&prompt.tokens, cached, cancel, show)?;
        let read = started.elapsed();
        let mut stats = Stats {
            stop: StopReason::Interrupted,
            prompt_tokens: prompt.tokens.len(),
            cached_tokens: cached,
            generated_tokens: 0,
            load: Duration::ZERO,
            prompt: read,
            generation: Duration::ZERO,
            context_used: self.cache.tokens().len(),
            context_limit: limit,
            seed: turn.seed,
        };
        if flow.is_break() {
            return Ok(stats);
        }
        let text = Detokenizer::new(&turn.settings.stop);
        let writing = Writing { sampler, text, predict: turn.predict, cancel };
        let written =
            generate(&mut self.model, &mut self.cache, writing, &mut |text| show(Event::Text(text)))?;
        stats.stop = written.stop;
        stats.generated_tokens = written.tokens;
        stats.generation = started.elapsed() - read;
        stats.context_used = prompt.tokens.len() + written.tokens;
        Ok(stats)
    }

    fn read(
        &mut self,
        prompt: &[Token],
        cached: usize,
        cancel: &AtomicBool,
        show: &mut dyn FnMut(Event),
    ) -> Result<ControlFlow<()>> {
        let total = prompt.len() - cached;
        let started = Instant::now();
        let flow = self.cache.read(&mut self.model, prompt, &mut |done| {
            show(Event::Reading { done: done - cached, total });
            if cancel.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        if flow.is_continue() && total >= PACE_TOKENS {
            self.pace = Some(started.elapsed().as_secs_f64() / total as f64);
        }
        Ok(flow)
    }

    /// Reads ahead what any next message of the user will leave as it is. Stops early when `superseded`.
    pub fn prepare(&mut self, turn: &Turn, superseded: &dyn Fn() -> bool) -> Result<(), Failure> {
        if turn.raw || self.template.is_none() {
            return Ok(());
        }
        let next = |text: &str| {
            let mut turn = turn.clone();
            turn.messages.push(Message::new(Role::User, text));
            self.prompt(&turn).map(|prompt| prompt.tokens)
        };
        let (one, other) = (next("A")?, next("9")?);
        let same = one.iter().zip(&other).take_while(|(a, b)| a == b).count();
        if same == 0 || cache::plan(same, self.model.limit()) != Plan::Fit {
            return Ok(());
        }
        let ahead = &one[..same];
        if self.cache.tokens().starts_with(ahead) {
            return Ok(());
        }
        self.cache.reuse(&mut self.model, ahead)?;
        let go_on = |_| {
            if superseded() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let _stopped = self.cache.read(&mut self.model, ahead, &mut { go_on })?;
        Ok(())
    }

    /// How many tokens a turn takes, and how many of them need no reading. Where nothing has told yet how fast reading
    /// is, the beginning of the turn is read: it will be needed anyway.
    pub fn count(&mut self, turn: &Turn) -> Result<Counts, Failure> {
        let prompt = self.prompt(turn)?.tokens;
        let (limit, length) = (self.model.limit(), prompt.len());
        let beginning = &prompt[..length.min(self.cache.common(&prompt) + 2 * PACE_TOKENS)];
        if self.pace.is_none() && cache::plan(length, limit) == Plan::Fit && length > 0 {
            let cached = self.cache.reuse(&mut self.model, beginning)?;
            let _whole = self.read(beginning, cached, &AtomicBool::new(false), &mut |_| {})?;
        }
        let cached = self.cache.common(&prompt);
        let reading = Duration::from_secs_f64(self.pace.unwrap_or(0.0) * (length - cached) as f64);
        Ok(Counts { prompt: length, cached, limit, reading })
    }

    /// The exact prompt of a turn: text and ids.
    pub fn prompt(&self, turn: &Turn) -> Result<Prompt, Failure> {
        match &self.template {
            Some(template) if !turn.raw => self.chat_prompt(template, turn),
            _ => Ok(self.plain_prompt(turn)),
        }
    }

    fn chat_prompt(&self, template: &Template, turn: &Turn) -> Result<Prompt, Failure> {
        let contents: Vec<String> = turn.messages.iter().map(Message::content).collect();
        let texts = contents.iter().map(String::as_str).chain([template.source(), turn.begun.as_str()]);
        let marks = Marks::absent_from(texts)?;
        let guarded = turn.messages.iter().zip(&contents).map(|(message, content)| template::Turn {
            role: message.role,
            content: self.markers.guard(content, marks),
        });
        let guarded: Vec<template::Turn> = guarded.collect();
        let mut rendered = template.render(&guarded, true).map_err(template_failure)?;
        rendered.text.push_str(&self.markers.guard(&turn.begun, marks));
        let (text, cuts) = self.markers.cuts(&rendered.text, marks);
        let tokens = tokens::encode(&self.model, &text, &cuts);
        Ok(Prompt { text, tokens, notes: rendered.notes })
    }

    /// Plain text: what was said, one after the other. Nothing is added but the beginning-of-text token.
    fn plain_prompt(&self, turn: &Turn) -> Prompt {
        let contents: Vec<String> = turn.messages.iter().map(Message::content).collect();
        let text = contents.join("\n") + &turn.begun;
        let vocabulary = self.model.vocabulary();
        let mut tokens: Vec<Token> = vocabulary.bos.filter(|_| vocabulary.add_bos).into_iter().collect();
        tokens.extend(self.model.tokenize(&text, turn.raw && turn.special));
        if tokens.is_empty() {
            tokens.extend(vocabulary.bos); // nothing at all cannot be evaluated
        }
        Prompt { text, tokens, notes: Vec::new() }
    }

    /// The tokens in memory: the last prompt and what was written after it, but for the last token.
    pub fn evaluated(&self) -> &[Token] {
        self.cache.tokens()
    }

    /// A prompt's ids, each with its text; control tokens written out.
    pub fn pieces(&self, prompt: &Prompt) -> Vec<(Token, String)> {
        let text = |token| String::from_utf8_lossy(&self.model.piece(token, true)).into_owned();
        prompt.tokens.iter().map(|token| (*token, text(*token))).collect()
    }
}

/// What the template writes around a small conversation: shows which markers are its own.
fn sample_render(template: &Template) -> String {
    let turn = |role, content: &str| template::Turn { role, content: content.into() };
    let turns = [turn(Role::User, "a"), turn(Role::Assistant, "b"), turn(Role::User, "c")];
    let rendered = template.render(&turns, true).map(|prompt| prompt.text).unwrap_or_default();
    rendered + template.source()
}

fn template_failure(error: template::TemplateError) -> Failure {
    let failure = Failure::new(error.to_string());
    match error.hint() {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

/// Without a single token there are no logits to begin with.
fn empty_prompt() -> Failure {
    Failure::new("the chat template makes nothing of what was said: the model would be given no text at all")
        .hint("--chat-template chatml uses the built-in template, --raw none")
}

fn too_long(prompt: usize, limit: usize) -> Failure {
    let message =
        format!("the prompt is too long: {prompt} tokens, and the context holds {limit} with the answer");
    Failure::new(message)
        .exit(Exit::TooLong)
        .hint("shorten it, or raise --ctx-size (in a chat: /set ctx-size) if the model allows more")
}

/// Loads a file and lets it evaluate one token: what a file must be able to do to be called a model.
pub fn try_out(weights: &llama::Weights, options: llama::ContextOptions) -> Result<()> {
    let mut model = llama::Llama::new(weights, options);
    model.grow(model.limit().min(256))?;
    let vocabulary = model.vocabulary();
    let first = vocabulary.bos.unwrap_or(0);
    model.decode(&[first], llama::Logits::Last)?;
    let best = model.logits().iter().copied().fold(f32::NEG_INFINITY, f32::max);
    best.is_finite().then_some(()).context("the model's output is not a number: the file may be damaged")
}
