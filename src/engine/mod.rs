//! One turn: a conversation in, events out, stats at the end.
//!
//! ```text
//! messages ─► template ─► tokens ─► cache ─► logits ─► sampler ─► token ─► detokenize ─► text
//! ```
//!
//! The files are numbered in the order in which a turn passes through them. The engine never prints, sleeps or
//! reads a key; whoever calls it gets events and can cancel between chunks of the prompt and between tokens.

pub mod template; // 1
pub mod builtin;
mod jinja;
pub mod memory;
mod json;
pub mod token;
pub mod model; // 2
pub mod llama;
mod alphabet;
pub mod prompt;
pub mod guard;
pub mod tokens; // 3
pub mod cache; // 4
mod overflow;
pub mod prompt_cache; // 5
pub mod sampler; // 6
mod candidates;
pub mod draft; // 7
mod measure;
pub mod generate; // 8
pub mod detokenize; // 9
pub mod reasoning; // 10
#[cfg(test)]
mod toy;

use std::cell::LazyCell;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use self::cache::Cache;
use self::detokenize::Stops;
use self::draft::{Costs, Drafter, Lookup};
use self::generate::{Writing, generate};
use self::guard::Markers;
use self::model::{Logits, Model};
pub use self::prompt::Prompt;
use self::prompt_cache::{LEAST, PromptCache, Uses};
use self::reasoning::{AnswerPrefix, Format};
use self::template::Template;
use self::token::Token;
use self::tokens::Encoder;
use crate::chat::{Counts, Event, Message, Request, Role, Stats};
use crate::error::{Exit, Failure};

/// A loaded model with all that a conversation needs of it.
pub struct Engine<M> {
    model: M,
    cache: Cache,
    /// `None`: a base model, which completes text.
    template: Option<Template>,
    /// The texts that it may look for in content.
    words: Vec<String>,
    markers: Markers,
    encoder: Encoder,
    /// How the model says that it thinks, if it does.
    format: Option<Format>,
    /// Special tokens that the template writes after an answer.
    ends: Vec<Token>,
    /// Seconds a token takes to read, from the last reading that was long enough to tell.
    secs_per_token: Option<f64>,
    /// What was evaluated before, on disk.
    prompt_cache: Option<PromptCache>,
    /// Whether what is in memory may be kept there, and the conversation it belongs to.
    cacheable: bool,
    conversation: Option<String>,
    /// What in memory other conversations will begin with as well, so many tokens, where that is not told by a turn.
    shared: Option<usize>,
    /// A turn whose prompt is too short for keeping all of it, and that prompt.
    short: Option<(Request, Vec<Token>)>,
    /// What verifying draft tokens costs, once that is known.
    costs: Option<Costs>,
    /// Whether it has answered with drafts, so that this matters.
    drafting: bool,
    /// How often measuring that was broken off.
    disturbed: usize,
}

/// Tokens that must be read to tell how fast reading is.
const TIMED_TOKENS: usize = 16;

impl<M: Model> Engine<M> {
    /// `template`: the Jinja source, if the model has one; `args`: its extra variables.
    pub fn new(model: M, template: Option<&str>, args: &[(String, String)]) -> Result<Engine<M>, Failure> {
        let vocabulary = model.vocabulary();
        let compile = |source| Template::new(source, &vocabulary.bos_text, &vocabulary.eos_text, args);
        let template = template.map(compile).transpose().map_err(template_failure)?;
        // Made of some thirty renders, so only where a token's text that is not in the source asks for it.
        let sample = LazyCell::new(|| template.as_ref().map(Template::sample).unwrap_or_default());
        let source = template.as_ref().map(Template::source).unwrap_or_default();
        let emitted = |text: &str| source.contains(text) || sample.contains(text);
        let markers = Markers::new(vocabulary, emitted).map_err(Failure::from)?;
        let encoder = Encoder::new(vocabulary).map_err(Failure::from)?;
        let format = template.as_ref().and_then(|template| Format::of(template, &prompt::Known(&model)));
        let ends = template.as_ref().filter(|_| format != Some(Format::Harmony));
        let ends = ends.map(|template| prompt::ends_of(template, vocabulary)).unwrap_or_default();
        template.iter().for_each(Template::tried);
        Ok(Engine {
            model,
            cache: Cache::default(),
            words: template.as_ref().map(Template::constants).unwrap_or_default(),
            template,
            markers,
            encoder,
            format,
            ends,
            secs_per_token: None,
            prompt_cache: None,
            cacheable: false,
            conversation: None,
            shared: None,
            short: None,
            costs: None,
            drafting: false,
            disturbed: 0,
        })
    }

    /// The same engine, with a folder for what it has evaluated.
    pub fn with_prompt_cache(self, prompt_cache: Option<PromptCache>) -> Engine<M> {
        Engine { prompt_cache, ..self }
    }

    /// The same engine, told what verifying draft tokens costs; `None`: not measured yet.
    pub fn with_costs(self, costs: Option<Costs>) -> Engine<M> {
        Engine { costs, ..self }
    }

    /// Answers a turn. On failure the model's memory stays usable.
    pub fn reply(
        &mut self,
        request: &Request,
        cancel: &AtomicBool,
        show: &mut dyn FnMut(Event),
    ) -> Result<Stats, Failure> {
        let mut fitted = match self.fit(request, cancel, show) {
            Ok(Some(fitted)) => fitted,
            Ok(None) => return Ok(Stats::stopped(request.generation.seed)),
            Err(failure) if failure.exit == Exit::Interrupted => {
                return Ok(Stats::stopped(request.generation.seed));
            }
            Err(failure) => return Err(failure),
        };
        fitted.prompt.notes.iter().cloned().for_each(|note| show(Event::Notice(note)));
        let (mut thinking, mut text) = (request.thinking_prefix.clone(), request.answer_prefix.clone());
        let mut whole: Option<Stats> = None;
        loop {
            let stats = self.answer(&fitted.request, &fitted.prompt, cancel, &mut |event| {
                match &event {
                    Event::Text(piece) => text.push_str(piece),
                    Event::Thinking { text, .. } => thinking.push_str(text),
                    _ => {}
                }
                show(event);
            })?;
            let stats = match whole {
                Some(before) => before.and(stats),
                None => stats,
            };
            match self.fit_more(
                &fitted.request,
                AnswerPrefix { thinking: &thinking, text: &text },
                &stats,
                cancel,
                show,
            ) {
                Some(more) => fitted = more,
                None => return Ok(stats),
            }
            whole = Some(stats);
        }
    }

    /// Reads a prompt that fits, and writes after it until something ends that.
    fn answer(
        &mut self,
        request: &Request,
        prompt: &Prompt,
        cancel: &AtomicBool,
        show: &mut dyn FnMut(Event),
    ) -> Result<Stats, Failure> {
        if prompt.tokens.is_empty() {
            return Err(empty_prompt());
        }
        let mut sampler = self.model.sampler(&request.generation.sampling, request.generation.seed)?;
        sampler.see(&prompt.tokens);

        let started = Instant::now();
        let cached = self.reuse(&prompt.tokens, request)?;
        let reused = Instant::now();
        let flow = self.read_in_parts(request, &prompt.tokens, cached, cancel, show)?;
        let (read, reading) = (started.elapsed(), reused.elapsed());
        let short = |prompt_cache: &PromptCache| prompt_cache.wants_shared_only(read.as_secs_f64());
        let short = self.cacheable && cached < LEAST && self.prompt_cache.as_ref().is_some_and(short);
        self.short = short.then(|| (request.clone(), prompt.tokens.clone()));
        let mut stats = Stats {
            prompt_tokens: prompt.tokens.len(),
            cached_tokens: cached,
            prompt: read,
            prefill: reading,
            context_used: self.cache.tokens().len(),
            context_limit: self.model.limit(),
            ..Stats::stopped(request.generation.seed)
        };
        if flow.is_break() {
            return Ok(stats);
        }
        let writing = Writing {
            sampler,
            stops: Stops::new(&request.generation.stop),
            thoughts: prompt.reasoning.as_ref().map(|reasoning| self.thoughts(reasoning, request)),
            ends: if request.raw { Vec::new() } else { self.ends.clone() },
            predict: request.generation.max_tokens,
            drafter: request.generation.speculative.then(|| self.drafter()),
            cancel,
        };
        let written = generate(&mut self.model, &mut self.cache, writing, show)?;
        self.drafting = request.generation.speculative;
        stats.stop = written.stop;
        stats.generated_tokens = written.tokens;
        stats.thinking_tokens = written.thinking;
        stats.drafts = written.drafts;
        stats.generation = started.elapsed() - read;
        stats.context_used = (prompt.tokens.len() + written.tokens).min(stats.context_limit);
        Ok(stats)
    }

    fn drafter(&self) -> Box<dyn Drafter> {
        Box::new(Lookup::new(self.costs.clone().unwrap_or_default()))
    }

    /// Makes as much of `prompt` as possible be in memory without reading: from memory, or from disk if more of it is there.
    fn reuse(&mut self, prompt: &[Token], request: &Request) -> Result<usize> {
        self.cacheable = request.cacheable;
        self.conversation.clone_from(&request.conversation);
        if request.no_cache {
            self.cache.clear(&mut self.model);
        } else {
            let here = self.cache.cut(&mut self.model, prompt);
            self.recall(prompt, here)?;
        }
        self.cache.reuse(&mut self.model, prompt)
    }

    fn recall(&mut self, prompt: &[Token], mut here: usize) -> Result<()> {
        let uses = Uses { parts: self.model.restores_parts(), limit: self.model.limit() };
        let Some(prompt_cache) = self.prompt_cache.as_mut().filter(|_| prompt.len() >= here + LEAST) else {
            return Ok(());
        };
        while let Some(found) = prompt_cache.find(prompt, here, uses) {
            let Some((tokens, state)) = prompt_cache.load(&found) else { continue };
            if self.cache.restore(&mut self.model, &tokens, &state, prompt.len())? {
                self.secs_per_token.get_or_insert(found.secs_per_token);
                if self.cacheable {
                    prompt_cache.note(Some(&found));
                }
                return Ok(());
            }
            prompt_cache.discard(&found);
            here = 0;
        }
        if self.cacheable {
            prompt_cache.note(None);
        }
        Ok(())
    }

    /// Reads a prompt. Where saved memory is of use only as a whole, it is saved on the way: before the user's own words.
    fn read_in_parts(
        &mut self,
        request: &Request,
        prompt: &[Token],
        cached: usize,
        cancel: &AtomicBool,
        show: &mut dyn FnMut(Event),
    ) -> Result<ControlFlow<()>> {
        let stop = || cancel.load(Ordering::Relaxed);
        if !self.model.restores_parts()
            && prompt.len() >= cached + LEAST
            && let Some(shared_prefix_len) = self
                .shared_prefix_len(request, prompt)
                .filter(|shared_prefix_len| *shared_prefix_len >= cached + LEAST)
        {
            if self.read(&prompt[..shared_prefix_len], cached, prompt.len(), &stop, show)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
            self.cache.mark(&self.model);
            self.shared = Some(shared_prefix_len);
            self.hold();
        }
        self.read(prompt, cached, prompt.len(), &stop, show)
    }

    /// Evaluates what is not in memory of `prompt`, the beginning of one of `whole` tokens.
    fn read(
        &mut self,
        prompt: &[Token],
        cached: usize,
        whole: usize,
        stop: &dyn Fn() -> bool,
        show: &mut dyn FnMut(Event),
    ) -> Result<ControlFlow<()>> {
        let unread = prompt.len() - self.cache.tokens().len();
        let started = Instant::now();
        let flow = self.cache.read(&mut self.model, prompt, &mut |done| {
            show(Event::Prefill { done: done - cached, total: whole - cached });
            if stop() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        if flow.is_continue() && unread >= TIMED_TOKENS {
            self.secs_per_token = Some(started.elapsed().as_secs_f64() / unread as f64);
        }
        Ok(flow)
    }

    /// How many tokens come before the user's own words, of which the last paragraph of a message counts as such: another
    /// question about the same documents begins with these.
    fn shared_prefix_len(&self, request: &Request, prompt: &[Token]) -> Option<usize> {
        let last = request.messages.iter().rposition(|message| message.role == Role::User)?;
        let same = |text: &str| {
            let mut other = request.clone();
            let said = &mut Arc::make_mut(&mut other.messages[last]).text;
            said.replace_range(said.rfind("\n\n").map_or(0, |at| at + 2).., text);
            self.prompt(&other).ok().map(|other| prompt_cache::common(&other.tokens, prompt))
        };
        Some(same("A")?.min(same("9")?))
    }

    /// Saves memory, to be written to disk when nobody waits, if that is allowed and pays.
    fn hold(&mut self) {
        let (tokens, parts) = (self.cache.tokens(), self.model.restores_parts());
        let Some((prompt_cache, secs_per_token)) =
            self.prompt_cache.as_mut().filter(|_| self.cacheable).zip(self.secs_per_token)
        else {
            return;
        };
        let shared = self.shared == Some(tokens.len());
        if prompt_cache.wants(tokens, self.model.state_bytes(), secs_per_token, parts, shared)
            && let Ok(state) = self.model.save()
        {
            prompt_cache.hold(tokens.to_vec(), state, secs_per_token, parts, self.conversation.as_deref());
        }
    }

    /// Has kept on disk what took long to evaluate. For when nobody waits: it takes as long as copying the memory.
    pub fn rest(&mut self) {
        self.hold();
        if let Some(prompt_cache) = &mut self.prompt_cache {
            prompt_cache.write();
        }
    }

    /// The same, and drops `done` when it is on disk or cannot be brought there. Of a prompt that is too short to be kept, what
    /// other questions begin with is: memory holds nothing else afterwards.
    pub fn flush(&mut self, done: Sender<()>) {
        self.rest();
        if let Some((request, prompt)) = self.short.take().filter(|_| self.model.restores_parts())
            && let Some(shared_prefix_len) = self
                .shared_prefix_len(&request, &prompt)
                .filter(|shared_prefix_len| *shared_prefix_len >= LEAST)
            && self.cache.truncate_to(&mut self.model, shared_prefix_len).is_ok()
        {
            self.shared = Some(shared_prefix_len);
            self.hold();
        }
        if let Some(prompt_cache) = &mut self.prompt_cache {
            prompt_cache.flush(done);
        }
    }

    /// Reads ahead what `message`, the user's next, will leave as it is whatever its text: all before it, and its files. Stops
    /// early when `superseded`.
    pub fn prepare(
        &mut self,
        request: &Request,
        message: &Message,
        superseded: &dyn Fn() -> bool,
    ) -> Result<(), Failure> {
        if request.raw || self.template.is_none() {
            return Ok(());
        }
        let next = |text: &str| {
            let mut request = request.clone();
            request.messages.push(Arc::new(Message { text: text.into(), ..message.clone() }));
            self.prompt(&request).map(|prompt| prompt.tokens)
        };
        let (one, other) = (next("A")?, next("9")?);
        let same = one.iter().zip(&other).take_while(|(a, b)| a == b).count();
        if same == 0 || same >= self.model.limit() {
            return Ok(());
        }
        let ahead = &one[..same];
        if self.cache.tokens().starts_with(ahead) {
            return Ok(());
        }
        let cached = self.reuse(ahead, request)?;
        let stop = || superseded();
        if self.read(ahead, cached, ahead.len(), &stop, &mut |_| {})?.is_continue() {
            self.cache.mark(&self.model); // undo, retry and edit come back to here
            let alone =
                message.attachments.is_empty() && request.messages.iter().all(|m| m.role == Role::System);
            self.shared = alone.then_some(same); // every conversation begins so
        }
        Ok(())
    }

    /// How many tokens a turn takes, and how many of them need no reading. Where nothing has told yet how fast reading
    /// is, the beginning of the turn is read: it will be needed anyway.
    pub fn count(&mut self, request: &Request) -> Result<Counts, Failure> {
        let prompt = self.prompt(request)?.tokens;
        let (limit, length) = (self.model.limit(), prompt.len());
        let beginning = &prompt[..length.min(self.cache.common(&prompt) + 2 * TIMED_TOKENS)];
        if self.secs_per_token.is_none() && (1..limit).contains(&length) {
            self.cacheable = request.cacheable;
            self.conversation.clone_from(&request.conversation);
            let cached = self.cache.reuse(&mut self.model, beginning)?;
            let _whole = self.read(beginning, cached, beginning.len(), &|| false, &mut |_| {})?;
        }
        let cached = self.cache.common(&prompt);
        let reading = Duration::from_secs_f64(self.secs_per_token.unwrap_or(0.0) * (length - cached) as f64);
        Ok(Counts { prompt: length, cached, limit, prefill: reading })
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

fn template_failure(error: template::TemplateError) -> Failure {
    if error == template::TemplateError::Interrupted {
        return Failure::interrupted();
    }
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
    Failure::new(message).exit(Exit::TooLong)
}

/// Has a model make tokens of all kinds of text and evaluate some: what a file must be able to do to be called a model.
pub fn try_out(weights: &llama::Weights, options: llama::ContextOptions) -> Result<()> {
    let mut model = llama::Llama::new(weights, options);
    model.grow(model.limit().min(256))?;
    let vocabulary = model.vocabulary();
    let first = vocabulary.bos.unwrap_or(0);
    // Several tokens, as a prompt has them, and one, as an answer: llama.cpp has other instructions for each.
    for tokens in [&[first; 5][..], &[first]] {
        model.decode(tokens, Logits::Last)?;
        let best = model.logits(0).iter().copied().fold(f32::NEG_INFINITY, f32::max);
        best.is_finite()
            .then_some(())
            .context("the model's output is not a number: the file may be damaged")?;
    }
    for text in sample_texts() {
        model.tokenize(&text, false);
        model.tokenize(&text, true);
    }
    Ok(())
}

/// What a tokenizer may stumble over: every byte that UTF-8 has, each kind of character by itself and in a long run, and a text
/// of some length.
fn sample_texts() -> Vec<String> {
    const KINDS: [char; 14] =
        ['a', 'Z', '7', ' ', '\n', '\t', '=', '\'', '\\', 'é', '\u{301}', '中', 'ก', '😀'];
    const LONG: usize = 4096;
    let leading = (2..32).map(|n| n << 6).chain((1..16).map(|n| n << 12)).chain((1..5).map(|n| n << 18));
    let bytes: String = (0..0x100).chain(leading).filter_map(char::from_u32).collect();
    let text: String = bytes.chars().flat_map(|c| [c, 'a', ' ', c, c]).collect();
    let runs = KINDS.iter().flat_map(|kind| [1, LONG].map(|length| kind.to_string().repeat(length)));
    runs.chain([bytes, text]).collect()
}
