//! 5 — prefill: reuses the KV cache and the prompt cache, evaluates the rest, and saves expensive results.
//! Next: sampler.rs.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::batch_size::{self, Batches};
use super::cache::{Cache, SavedMemory};
use super::checkpoints::Checkpoint;
use super::model::{Cancel, MemoryKind, Model};
use super::prompt::{Prompt, Prompter};
use super::prompt_cache::{LEAST, PromptCache, Uses, common};
use super::token::Token;
use crate::chat::{Event, Request};

/// The minimum number of tokens for a speed measurement; on a GPU, the part of a batch.
const TELLING: usize = 16;
const TELLING_SHARE: usize = 4;

/// The minimum number of tokens to evaluate before a stop: each stop costs about as much as some ten tokens.
const SPLITTING: usize = 64;
/// A stop is useful if it is this much nearer than the one before it: by one part in so many.
const NEARER: usize = 4;
/// The maximum number of checkpoints in a cached prompt.
const MOST_SAVED: usize = 4;

/// The contents of a model's memory and where to save them.
#[derive(Default)]
pub struct Prefill {
    pub cache: Cache,
    /// Evaluation time per token, from the last prompt long enough to measure.
    secs_per_token: Option<f64>,
    /// The same from the last prompt that filled a batch, until it is asked for.
    secs_in_batches: Option<f64>,
    /// The last prompt evaluated in one batch, until it is asked for: its tokens, those in memory before, the seconds.
    one_batch: Option<(usize, usize, f64)>,
    /// Whether a batch was evaluated before.
    warm: bool,
    /// The prompt cache on disk.
    prompt_cache: Option<PromptCache>,
    /// Whether the memory may be saved there, and the conversation that it belongs to.
    cacheable: bool,
    conversation: Option<String>,
    /// The length in tokens of the prefix in memory that other conversations share, if known.
    shared: Option<usize>,
    /// A request whose prompt is too short to be saved as a whole.
    short: Option<Request>,
}

/// The result of a prefill.
pub struct Prefilled {
    /// The number of tokens that needed no evaluation.
    pub cached: usize,
    /// The total time, and the time for evaluation alone.
    pub took: Duration,
    pub evaluating: Duration,
    /// `Break`: it was cancelled, and the prompt is incomplete.
    pub flow: ControlFlow<()>,
}

impl Prefill {
    pub fn new(prompt_cache: Option<PromptCache>) -> Prefill {
        Prefill { prompt_cache, ..Prefill::default() }
    }

    /// Loads as much of `prompt` as possible without evaluation: from memory, or from disk if that holds
    /// more. Returns the number of tokens.
    pub fn reuse(&mut self, model: &mut impl Model, request: &Request, prompt: &[Token]) -> Result<usize> {
        self.belongs_to(request);
        if request.no_cache {
            self.cache.clear(model);
        } else {
            let here = self.cache.cut(model, prompt);
            self.restore(model, prompt, here)?;
        }
        self.cache.reuse(model, prompt)
    }

    fn belongs_to(&mut self, request: &Request) {
        self.cacheable = request.cacheable;
        self.conversation.clone_from(&request.conversation);
    }

    fn restore(&mut self, model: &mut impl Model, prompt: &[Token], mut here: usize) -> Result<()> {
        let uses = Uses { parts: model.restores_parts(), limit: model.limit() };
        let Some(prompt_cache) = self.prompt_cache.as_mut().filter(|_| prompt.len() >= here + LEAST) else {
            return Ok(());
        };
        while let Some(found) = prompt_cache.find(prompt, here, uses) {
            let started = Instant::now();
            let Some(saved) = prompt_cache.load(&found) else { continue };
            let (bytes, loaded) = (saved.state.len(), started.elapsed());
            if let Some(put_back) = self.cache.restore(model, saved, prompt.len())? {
                self.secs_per_token.get_or_insert(found.secs_per_token);
                if self.cacheable {
                    prompt_cache.restored(&found, bytes, loaded + put_back);
                }
                return Ok(());
            }
            prompt_cache.discard(&found);
            here = 0;
        }
        if self.cacheable {
            prompt_cache.missed();
        }
        Ok(())
    }

    /// Where to stop while evaluating a prompt of which `cached` tokens are in memory, because later prompts may
    /// return there. Only a memory that cannot be truncated, or not once it was restored, needs that.
    pub fn stops(
        &self,
        model: &impl Model,
        prompter: &Prompter,
        request: &Request,
        (prompt, cached): (&Prompt, usize),
    ) -> Vec<usize> {
        let length = prompt.tokens.len();
        match model.memory_kind() {
            MemoryKind::Attention if model.restores_parts() || length < cached + LEAST => Vec::new(),
            MemoryKind::Attention => {
                let before = prompter.before_user_text(model, request).unwrap_or_default();
                let shared = common(&before, &prompt.tokens);
                Some(shared).filter(|shared| *shared >= cached + LEAST).into_iter().collect()
            }
            _ if length < cached + SPLITTING => Vec::new(),
            _ => useful_stops(&prompter.user_texts(model, request, prompt), cached, length),
        }
    }

    /// Evaluates a prompt of which `cached` tokens are in memory. At each of `stops`, makes a checkpoint; if the
    /// memory can have none, saves it there.
    pub fn read(
        &mut self,
        model: &mut impl Model,
        prompt: &[Token],
        (cached, stops): (usize, &[usize]),
        cancel: &AtomicBool,
        show: &mut dyn FnMut(Event),
    ) -> Result<ControlFlow<()>> {
        let cancel = || cancel.load(Ordering::Relaxed);
        let mut progress = |done| show(Event::Prefill { done: done - cached, total: prompt.len() - cached });
        self.cache.mark(model); // the end of the last answer
        for stop in stops {
            if self.evaluate(model, &prompt[..*stop], &cancel, &mut progress)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
            self.cache.mark(model);
            if model.memory_kind() == MemoryKind::Attention {
                self.shared = Some(*stop);
                self.save(model);
            }
        }
        self.evaluate(model, prompt, &cancel, &mut progress)
    }

    /// Evaluates the rest of `prompt`; reports the number of tokens in memory to `progress` between chunks.
    fn evaluate(
        &mut self,
        model: &mut impl Model,
        prompt: &[Token],
        cancel: Cancel,
        progress: &mut dyn FnMut(usize),
    ) -> Result<ControlFlow<()>> {
        let begun = self.cache.tokens().len();
        // The batch in which kernels are loaded tells nothing about the speed.
        let cold = model.on_gpu() && !std::mem::replace(&mut self.warm, true);
        let telling = if model.on_gpu() { model.batch_size() / TELLING_SHARE } else { TELLING };
        let mut timed = (!cold).then(|| (Instant::now(), begun));
        let mut between = |done| {
            if done > begun {
                timed.get_or_insert_with(|| (Instant::now(), done));
            }
            progress(done);
        };
        let flow = self.cache.read(model, prompt, cancel, &mut between)?;
        if let Some((since, from)) = timed.filter(|(_, from)| prompt.len() > *from)
            && flow.is_continue()
        {
            let _last = model.logits(0)[0]; // waits for a GPU
            let (tokens, seconds) = (prompt.len() - from, since.elapsed().as_secs_f64());
            self.one_batch = Some((tokens, from, seconds)).filter(|_| tokens <= model.batch_size());
            if tokens >= telling {
                self.secs_per_token = Some(seconds / tokens as f64);
            }
            if tokens >= telling.max(model.batch_size()) {
                self.secs_in_batches = self.secs_per_token;
            }
        }
        Ok(flow)
    }

    /// The last prefill in one batch: its tokens, those in memory before it, and the seconds.
    pub fn take_one_batch(&mut self) -> Option<(usize, usize, f64)> {
        self.one_batch.take()
    }

    /// The best batch size, if the last prefill has shown the speed of batches.
    pub fn best_batch_size(&mut self, model: &impl Model) -> Option<usize> {
        let batches = Batches { parts: model.interruptible_parts(), copy_weights: model.copies_weights() };
        self.secs_in_batches.take().map(|secs| batch_size::best(secs, batches))
    }

    /// Remembers a request with a fast prefill: only the prefix that other questions share is saved of it.
    pub fn remember_short(&mut self, request: &Request, prefilled: &Prefilled) {
        let short = |prompt_cache: &PromptCache| prompt_cache.wants_shared_only(prefilled.took.as_secs_f64());
        let short =
            self.cacheable && prefilled.cached < LEAST && self.prompt_cache.as_ref().is_some_and(short);
        self.short = short.then(|| request.clone());
    }

    /// Takes the request remembered by `remember_short`.
    pub fn take_short(&mut self) -> Option<Request> {
        self.short.take()
    }

    /// Evaluates `prompt` ahead of a request that will start with it, until `superseded`. `alone`: every
    /// conversation will.
    pub fn ahead(
        &mut self,
        model: &mut impl Model,
        request: &Request,
        (prompt, alone): (&[Token], bool),
        superseded: Cancel,
    ) -> Result<()> {
        if prompt.is_empty() || prompt.len() >= model.limit() || self.cache.tokens().starts_with(prompt) {
            return Ok(());
        }
        self.reuse(model, request, prompt)?;
        if self.evaluate(model, prompt, superseded, &mut |_| {})?.is_continue() {
            self.cache.mark(model); // undo, retry and edit return to this point
            self.shared = alone.then_some(prompt.len());
        }
        Ok(())
    }

    /// The number of cached tokens of `prompt`, and the approximate time to evaluate the others. If the speed
    /// is still unknown, evaluates the start of the prompt, which will be needed anyway.
    pub fn estimate(
        &mut self,
        model: &mut impl Model,
        request: &Request,
        prompt: &[Token],
    ) -> Result<(usize, Duration)> {
        if self.secs_per_token.is_none() && (1..model.limit()).contains(&prompt.len()) {
            let beginning = &prompt[..prompt.len().min(self.cache.kept(model, prompt) + 2 * TELLING)];
            self.belongs_to(request);
            self.cache.reuse(model, beginning)?;
            let _whole = self.evaluate(model, beginning, &|| false, &mut |_| {})?;
        }
        let cached = self.cache.kept(model, prompt);
        let secs_per_token = self.secs_per_token.unwrap_or(0.0);
        Ok((cached, Duration::from_secs_f64(secs_per_token * (prompt.len() - cached) as f64)))
    }

    /// Holds the memory's state, to be written to disk when idle, if that is allowed and pays.
    fn save(&mut self, model: &impl Model) {
        let (tokens, parts) = (self.cache.tokens(), model.restores_parts());
        let prompt_cache = self.prompt_cache.as_mut().filter(|_| self.cacheable);
        let Some(prompt_cache) = prompt_cache else { return };
        let unknown = prompt_cache.saves_everything().then_some(0.0);
        let Some(secs_per_token) = self.secs_per_token.or(unknown) else { return };
        let shared = self.shared == Some(tokens.len());
        let checkpoints = checkpoints_to_save(&self.cache);
        let bytes = model.state_bytes(0) + checkpoints.iter().map(|c| c.state.len()).sum::<usize>();
        if prompt_cache.wants(tokens, bytes, secs_per_token, parts, shared)
            && let Ok(state) = model.save(0)
        {
            let checkpoints = checkpoints.into_iter().cloned().collect();
            let saved = SavedMemory { tokens: tokens.to_vec(), state, checkpoints };
            prompt_cache.hold(saved, secs_per_token, parts, self.conversation.as_deref());
        }
    }

    /// Saves what the memory has of `before_user_text`. Nothing else stays in memory.
    pub fn save_beginning(&mut self, model: &mut impl Model, before_user_text: &[Token]) {
        if common(before_user_text, self.cache.tokens()) < LEAST {
            return;
        }
        let shared = self.cache.keep(model, before_user_text);
        if shared >= LEAST {
            self.shared = Some(shared);
            self.save(model);
        }
    }

    /// Writes the memory to disk if it was expensive to evaluate. Call it while idle: it takes as long as
    /// copying the memory.
    pub fn rest(&mut self, model: &impl Model) {
        self.save(model);
        if let Some(prompt_cache) = &mut self.prompt_cache {
            prompt_cache.write();
        }
    }

    /// Drops `done` when everything saved is on disk or has failed to be written.
    pub fn flush(&mut self, done: Sender<()>) {
        if let Some(prompt_cache) = &mut self.prompt_cache {
            prompt_cache.flush(done);
        }
    }
}

/// Those of `places` (ascending) at which to stop between `cached` and `length` tokens: the first, which is the
/// end of what other conversations share, and ever more of the others towards the end.
fn useful_stops(places: &[usize], cached: usize, length: usize) -> Vec<usize> {
    let mut stops: Vec<usize> = Vec::new();
    for (number, place) in places.iter().enumerate().filter(|(_, place)| **place < length) {
        let apart = place.saturating_sub(*stops.last().unwrap_or(&cached));
        if apart >= SPLITTING && (number == 0 || apart * NEARER >= length - place) {
            stops.push(*place);
        }
    }
    stops
}

/// The checkpoints that go to disk with the memory: the first and the last ones.
fn checkpoints_to_save(cache: &Cache) -> Vec<&Checkpoint> {
    let mut checkpoints = cache.checkpoints();
    checkpoints.retain(|checkpoint| checkpoint.tokens.len() < cache.tokens().len());
    let surplus = checkpoints.len().saturating_sub(MOST_SAVED);
    checkpoints.drain(checkpoints.len().min(1)..checkpoints.len().min(1) + surplus);
    checkpoints
}

#[cfg(test)]
mod tests {
    use super::super::toy::Toy;
    use super::*;

    #[test]
    fn the_batch_in_which_a_gpu_loads_its_kernels_is_not_timed() {
        let measured = |on_gpu, batches: &[usize]| {
            let mut toy = Toy::new(4096);
            toy.on_gpu = on_gpu;
            toy.grow(4096).unwrap();
            let mut prefill = Prefill::default();
            for tokens in batches {
                let prompt = vec![7; tokens * toy.batch_size()];
                let _ = prefill.evaluate(&mut toy, &prompt, &|| false, &mut |_| {}).unwrap();
            }
            prefill.secs_per_token.is_some()
        };
        assert!(measured(false, &[1]));
        assert!(!measured(true, &[1]));
        assert!(measured(true, &[3]), "the second and third batch tell");
        assert!(measured(true, &[1, 2]));
    }

    #[test]
    fn slow_batches_become_smaller_unless_they_copy_weights() {
        for (copies, size) in [(false, 64), (true, 512)] {
            let mut toy = Toy::new(4096);
            toy.copies_weights = copies;
            let mut prefill = Prefill { secs_in_batches: Some(2.2 / 512.0), ..Prefill::default() };
            assert_eq!(prefill.best_batch_size(&toy), Some(size));
            assert_eq!(prefill.best_batch_size(&toy), None, "once");
        }
    }

    #[test]
    fn stops_are_sparse_at_first_and_no_nearer_than_they_pay() {
        let turns: Vec<usize> = (1..80).map(|turn| turn * 100).collect();
        let stops = useful_stops(&turns, 0, 8000);
        assert_eq!((stops[0], *stops.last().unwrap()), (100, 7900));
        assert!((10..20).contains(&stops.len()), "{stops:?}");
        assert!(useful_stops(&turns, 7850, 8000).is_empty());
        assert_eq!(useful_stops(&[30, 3000, 3010], 0, 3020), [3000]);
        assert_eq!(useful_stops(&[400, 410], 0, 415), [400]);
    }
}
