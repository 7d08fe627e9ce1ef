//! One answer: a request → events as it is generated, and its statistics at the end.
//!
//! ```text
//! messages ─► prompt ─► KV cache ─► logits ─► sampler ─► token ─► text
//! ```
//!
//! Stages are numbered in the order in which a request passes through them; docs/internals.md and the file
//! headers use the same numbers. The engine never prints, sleeps or reads a key. Its caller receives events
//! and can cancel between batches and, on the CPU and Metal, within one.

pub mod prompt; // 1
pub mod token;
pub mod model; // 2
pub mod llama;
mod alphabet;
pub mod memory;
mod probe;
pub mod cache; // 3
mod checkpoints;
pub mod prompt_cache; // 4
pub mod prefill; // 5
mod batch_size;
pub mod constraint; // 6
pub mod sampler;
mod candidates;
pub mod constrained;
mod probability;
pub mod draft; // 7
pub mod costs;
pub mod sequence; // 8
pub mod scheduler; // 9
mod evaluate;
mod choices;
pub mod stream; // 10
mod error;
#[cfg(test)]
mod toy;

use std::cell::OnceCell;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::Sender;
use std::time::Instant;

use self::constrained::Constrained;
use self::constraint::Tokens;
use self::costs::Costs;
use self::draft::{Drafter, Lookup};
pub use self::error::Error;
use self::model::{Cancel, MemoryKind, Model};
use self::prefill::{Prefill, Prefilled};
pub use self::probe::probe;
pub use self::prompt::Prompt;
use self::prompt::Prompter;
use self::prompt::format::AnswerPrefix;
use self::prompt_cache::PromptCache;
use self::scheduler::{Scheduler, Slot};
use self::sequence::Sequence;
use self::stream::{Stream, Thoughts};
use self::token::Token;
use crate::chat::{Counts, Event, Message, Request, Role, Stats, Task, TokenCount};

/// A loaded model and everything needed to converse with it.
pub struct Engine<M> {
    model: M,
    prompter: Prompter,
    prefill: Prefill,
    drafter: Lookup,
    costs: Costs,
    /// Made for the first answer with a constraint.
    tokens: OnceCell<Tokens>,
}

impl<M: Model> Engine<M> {
    /// `template`: the model's Jinja template, if it has one; `args`: additional template variables.
    pub fn new(model: M, template: Option<&str>, args: &[(String, String)]) -> Result<Engine<M>, Error> {
        let prompter = Prompter::new(&model, template, args)?;
        let (prefill, drafter, costs) = Default::default();
        Ok(Engine { model, prompter, prefill, drafter, costs, tokens: OnceCell::new() })
    }

    /// The same engine, with a prompt cache on disk.
    pub fn with_prompt_cache(self, prompt_cache: Option<PromptCache>) -> Engine<M> {
        Engine { prefill: Prefill::new(prompt_cache), ..self }
    }

    /// The same engine with what was learnt of the costs of batches.
    pub fn with_costs(self, costs: Costs) -> Engine<M> {
        Engine { costs, ..self }
    }

    /// What the answers so far have taught of the costs of batches.
    pub fn costs(&self) -> &Costs {
        &self.costs
    }

    /// Answers a request if the context has room for its prompt and an answer; otherwise emits `Full` and
    /// fails. The model's memory stays usable after a failure.
    pub fn reply(
        &mut self,
        request: &Request,
        cancel: &AtomicBool,
        show: &mut dyn FnMut(Event),
    ) -> Result<Stats, Error> {
        let prompt = match self.prompt(request) {
            Ok(prompt) => prompt,
            Err(Error::Interrupted) => return Ok(Stats::stopped(request.generation.seed)),
            Err(error) => return Err(error),
        };
        let (tokens, limit) = (prompt.tokens.len(), self.model.limit());
        if tokens + request.reserve > limit {
            show(Event::Full { prompt: tokens, limit });
            return Err(Error::TooLong { prompt: tokens, limit });
        }
        prompt.notes.iter().cloned().for_each(|note| show(Event::Notice(note)));
        match &request.task {
            Task::Answer => self.answer(request, &prompt, cancel, show),
            Task::Choose(choices) => self.choose(request, &prompt, choices, cancel, show),
            Task::Score(score) => self.score(request, &prompt, score, cancel, show),
        }
    }

    /// Prefills the prompt, then generates until a stop condition is met.
    fn answer(
        &mut self,
        request: &Request,
        prompt: &Prompt,
        cancel: &AtomicBool,
        show: &mut dyn FnMut(Event),
    ) -> Result<Stats, Error> {
        if prompt.tokens.is_empty() {
            return Err(Error::EmptyPrompt);
        }
        let generation = &request.generation;
        let mut sampler = self.model.sampler(&generation.sampling, generation.seed)?;
        sampler.see(&prompt.tokens);
        let answer_prefix = AnswerPrefix { thinking: &request.thinking_prefix, text: &request.answer_prefix };
        let budget = generation.thinking.budget;
        let thoughts = prompt.thinking.as_ref();
        let thoughts = thoughts.map(|thinking| Thoughts::new(&self.model, thinking, answer_prefix, budget));
        let stream = Stream::new(thoughts, &generation.stop);
        let ends = self.prompter.ends(request);
        let constrained = self.constrained(request, prompt, &ends, stream.tags())?;

        let prefilled = self.prefill(request, prompt, cancel, show);
        self.model.notices().into_iter().for_each(|note| show(Event::Notice(note)));
        let prefilled = prefilled?;
        let mut stats = Stats {
            prompt_tokens: Some(prompt.tokens.len()),
            cached_tokens: Some(prefilled.cached),
            prompt: prefilled.took,
            prefill: prefilled.evaluating,
            context_used: self.prefill.cache.tokens().len(),
            context_limit: self.model.limit(),
            ..Stats::stopped(generation.seed)
        };
        if prefilled.flow.is_break() {
            return Ok(stats);
        }
        if let Some((tokens, depth, seconds)) = self.prefill.take_one_batch() {
            self.costs.learn_prefill(tokens, depth, seconds);
        }
        let started = Instant::now();
        let sequence = Sequence::new(sampler, stream, ends, generation.max_tokens, cancel);
        let sequence = sequence.constrained(constrained).telling(generation.logprobs);
        self.drafter.begin();
        let drafter = generation.speculative.then_some(&mut self.drafter as &mut dyn Drafter);
        let mut scheduler = Scheduler::new(&mut self.costs);
        scheduler
            .add(&self.model, Slot { sequence, cache: &mut self.prefill.cache, drafter, show: &mut *show })?;
        for generated in scheduler.run(&mut self.model)? {
            stats.stop = generated.stop;
            stats.generated_tokens = Some(generated.tokens);
            stats.thinking_tokens = generated.thinking;
            stats.drafts = Some(generated.drafts);
        }
        self.model.notices().into_iter().for_each(|note| show(Event::Notice(note)));
        stats.generation = started.elapsed();
        let used = prompt.tokens.len() + stats.generated_tokens.unwrap_or(0);
        stats.context_used = used.min(stats.context_limit);
        Ok(stats)
    }

    /// What keeps the answer to its constraint, if it has one. `tags`: tokens that are no text in it.
    fn constrained(
        &self,
        request: &Request,
        prompt: &Prompt,
        ends: &[Token],
        tags: Vec<Token>,
    ) -> Result<Option<Constrained>, Error> {
        let Some(constraint) = &request.generation.constraint else { return Ok(None) };
        let tokens = self.tokens.get_or_init(|| Tokens::of(&self.model));
        let matcher = tokens.matcher(constraint, &request.answer_prefix, ends, tags)?;
        let format = prompt.thinking.as_ref().map(|(format, _)| format);
        Ok(Some(Constrained::new(&self.model, matcher, format)))
    }

    /// Loads a prompt into the model's memory and leaves the logits after its last token.
    fn prefill(
        &mut self,
        request: &Request,
        prompt: &Prompt,
        cancel: &AtomicBool,
        show: &mut dyn FnMut(Event),
    ) -> Result<Prefilled, Error> {
        let started = Instant::now();
        let cached = self.prefill.reuse(&mut self.model, request, &prompt.tokens)?;
        let reused = Instant::now();
        let stops = self.prefill.stops(&self.model, &self.prompter, request, (prompt, cached));
        let flow = self.prefill.read(&mut self.model, &prompt.tokens, (cached, &stops), cancel, show)?;
        let prefilled = Prefilled { cached, took: started.elapsed(), evaluating: reused.elapsed(), flow };
        self.prefill.remember_short(request, &prefilled);
        Ok(prefilled)
    }

    /// The batch size that the last prefill recommends for the next load, once.
    pub fn best_batch_size(&mut self) -> Option<usize> {
        self.prefill.best_batch_size(&self.model)
    }

    /// Saves expensive prefills to disk. Call it while idle: it takes as long as copying the memory.
    pub fn rest(&mut self) {
        self.prefill.rest(&self.model);
    }

    /// Like `rest`, and drops `done` when everything is on disk or has failed to be written. Of a prompt too
    /// short to be saved, saves the prefix that other questions share, and nothing else stays in memory.
    pub fn flush(&mut self, done: Sender<()>) {
        self.rest();
        let kind = self.model.memory_kind();
        if let Some(request) = self.prefill.take_short()
            && (kind != MemoryKind::Attention || self.model.restores_parts())
            && let Ok(before) = self.prompter.before_user_text(&self.model, &request)
        {
            self.prefill.save_beginning(&mut self.model, &before);
        }
        self.prefill.flush(done);
    }

    /// Prefills the part of the next prompt that does not depend on the text of `message`, the next user
    /// message: everything before it, and its files. Stops early when `superseded`.
    pub fn prepare(&mut self, request: &Request, message: &Message, superseded: Cancel) -> Result<(), Error> {
        if request.raw || !self.prompter.chats() {
            return Ok(());
        }
        let alone = message.parts.is_empty() && request.messages.iter().all(|m| m.role == Role::System);
        let mut next = request.clone();
        next.messages.push(Arc::new(message.clone()));
        let before = self.prompter.before_user_text(&self.model, &next)?;
        Ok(self.prefill.ahead(&mut self.model, request, (&before, alone), superseded)?)
    }

    /// The exact prompt of a request, as text and token ids.
    pub fn prompt(&self, request: &Request) -> Result<Prompt, Error> {
        self.prompter.prompt(&self.model, request)
    }

    /// The number of tokens in a request, and how many of them are cached. If the prefill speed is still
    /// unknown, prefills the start of the prompt, which will be needed anyway.
    pub fn count(&mut self, request: &Request) -> Result<Counts, Error> {
        let prompt = self.prompt(request)?.tokens;
        let (cached, reading) = self.prefill.estimate(&mut self.model, request, &prompt)?;
        let (prompt, limit) = (prompt.len(), self.model.limit());
        Ok(Counts { prompt, cached, limit, prefill: Some(reading), estimated: false })
    }

    /// The approximate number of tokens in each message.
    pub fn token_counts(&self, messages: &[Arc<Message>]) -> Vec<TokenCount> {
        self.prompter.token_counts(&self.model, messages)
    }

    /// The tokens in memory: the last prompt and the answer without its last token.
    pub fn evaluated(&self) -> &[Token] {
        self.prefill.cache.tokens()
    }

    /// The token ids of a prompt with the text of each; control tokens are spelled out.
    pub fn pieces(&self, prompt: &Prompt) -> Vec<(Token, String)> {
        let text = |token| String::from_utf8_lossy(&self.model.piece(token, true)).into_owned();
        prompt.tokens.iter().map(|token| (*token, text(*token))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::toy::Toy;
    use super::*;
    use crate::chat::{Attachment, Dropped, Settings};

    const TEMPLATE: &str = "{% for m in messages %}<{{ m.role[0] }}>{{ m.content }}{% endfor %}{% if add_generation_prompt %}<a>{% endif %}";

    fn engine(limit: usize, says: &str) -> Engine<Toy> {
        let mut toy = Toy::saying(says);
        toy.limit = limit;
        Engine::new(toy, Some(TEMPLATE), &[]).unwrap()
    }

    /// A system prompt, a file attached to the first message, and `exchanges` exchanges of 50 tokens each,
    /// including markup.
    fn conversation(exchanges: usize) -> Request {
        let said = |role, letter: &str| Message::new(role, letter.repeat(22));
        let mut messages = vec![Message::new(Role::System, "be kind")];
        for _ in 0..exchanges {
            messages.extend([said(Role::User, "u"), said(Role::Assistant, "a")]);
        }
        messages.push(said(Role::User, "q"));
        messages[1] = messages[1].clone().with_files([Attachment::new("f", "F".repeat(40))]);
        Request::new(messages, &Settings::default())
    }

    fn reply(engine: &mut Engine<Toy>, request: &Request) -> (Vec<Event>, Result<Stats, Error>) {
        let mut events = Vec::new();
        let done = engine.reply(request, &AtomicBool::new(false), &mut |event| events.push(event));
        (events, done)
    }

    #[test]
    fn a_message_takes_what_it_adds_to_the_prompt() {
        let counts = engine(1000, "").token_counts(&conversation(2).messages);
        let tokens: Vec<usize> = counts.iter().map(|count| count.tokens).collect();
        let attached: Vec<usize> = counts.iter().map(|count| count.attached).collect();
        assert_eq!((tokens, attached), (vec![10, 67, 25, 25, 25, 25], vec![0, 40, 0, 0, 0, 0]));
    }

    #[test]
    fn a_prompt_that_leaves_too_little_room_is_not_evaluated() {
        let mut engine = engine(400, "one");
        let (events, done) = reply(&mut engine, &conversation(7));
        assert_eq!(events, [Event::Full { prompt: 430, limit: 400 }]);
        assert_eq!(done.unwrap_err(), Error::TooLong { prompt: 430, limit: 400 });
        let tight = conversation(6);
        assert_eq!(reply(&mut engine, &tight).1.unwrap().prompt_tokens, Some(380), "little room is enough");
        let (events, _) = reply(&mut engine, &Request { reserve: 21, ..tight });
        assert_eq!(events, [Event::Full { prompt: 380, limit: 400 }]);
    }

    #[test]
    fn after_messages_were_dropped_only_what_follows_them_is_read() {
        let mut engine = engine(400, "one\0two\0three");
        assert_eq!(reply(&mut engine, &conversation(4)).1.unwrap().cached_tokens, Some(0));
        let seen = Request { dropped: Dropped { count: 10, summary: None }, ..conversation(7) };
        // Both start with the system prompt, the file, the blank line after it, and two exchanges.
        let stats = reply(&mut engine, &seen).1.unwrap();
        assert_eq!((stats.prompt_tokens, stats.cached_tokens), (Some(180), Some(155)));
        let again = reply(&mut engine, &seen).1.unwrap();
        let counts = (again.prompt_tokens, again.cached_tokens);
        assert_eq!(counts, (Some(180), Some(179)), "the whole prompt is in memory");
    }
}
