//! Given texts → the probability of each of their tokens.
//!
//! Nothing is sampled: each token is evaluated where it stands, and a batch tells as many as memory has room for
//! their logits. The arithmetic of chunks is that of llama-perplexity (tools/perplexity/perplexity.cpp in
//! llama.cpp). choices.rs compares texts.

use std::ops::{ControlFlow, Range};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::cache;
use super::error::Error;
use super::model::Model;
use super::probability::of_token;
use super::prompt::Prompt;
use super::token::Token;
use super::{Engine, prefill::Prefilled};
use crate::chat::{Event, Request, Score, Stats, StopReason};

/// The most memory for the logits of a batch, in bytes.
const LOGITS: usize = 64 << 20;

impl<M: Model> Engine<M> {
    /// Tells the probability of each token of a text that follows the prompt. Without a prompt, the first token
    /// has none. Of a text that is cut into chunks, the second half of each is told.
    pub(super) fn score(
        &mut self,
        request: &Request,
        prompt: &Prompt,
        score: &Score,
        cancel: &AtomicBool,
        show: &mut dyn FnMut(Event),
    ) -> Result<Stats, Error> {
        let tokens = self.with_answer(request, &score.thinking, &score.text)?;
        let limit = self.model.limit();
        let chunk = score.chunk.filter(|chunk| tokens.len() >= 2 * chunk || tokens.len() > limit);
        let Some(chunk) = chunk else {
            let from = shared(&prompt.tokens, &tokens).max(1).min(tokens.len());
            if self.prefill.cache.tokens().is_empty() {
                self.widen(tokens.len() - from, 0)?; // what is in memory would have to be copied
            }
            let (mut stats, ready) = self.begin(request, prompt, from..tokens.len(), cancel, show)?;
            stats.generated_tokens = Some(tokens.len() - shared(&prompt.tokens, &tokens));
            let started = Instant::now();
            let total = tokens.len() - from;
            let progress = |place: usize| Event::Prefill { done: place - from, total };
            if ready.is_continue()
                && self.tell(&tokens, from, score.others, &progress, cancel, show)?.is_continue()
            {
                stats.stop = StopReason::End;
            }
            stats.generation = started.elapsed();
            return Ok(stats);
        };
        if chunk > limit {
            return Err(Error::TooLong { prompt: chunk, limit });
        }
        let vocabulary = self.model.vocabulary();
        let bos = vocabulary.bos.filter(|_| vocabulary.add_bos);
        let (started, mut stats) = (Instant::now(), Stats::stopped(request.generation.seed));
        stats.context_limit = limit;
        let most = score.most_chunks.unwrap_or(usize::MAX);
        let chunks: Vec<&[Token]> = tokens.chunks_exact(chunk).take(most).collect();
        self.widen(chunk - chunk / 2, 0)?;
        for (number, tokens) in chunks.iter().enumerate() {
            let progress =
                |place: usize| Event::Prefill { done: number * chunk + place, total: chunks.len() * chunk };
            show(progress(0));
            let mut tokens = tokens.to_vec();
            tokens[0] = bos.unwrap_or(tokens[0]);
            self.prefill.cache.clear(&mut self.model);
            self.prefill.cache.reuse(&mut self.model, &tokens)?;
            let stop = || cancel.load(Ordering::Relaxed);
            let before = &tokens[..chunk / 2 + 1];
            if self.prefill.cache.read(&mut self.model, before, &stop, &mut |_| {})?.is_break()
                || self.tell(&tokens, before.len(), score.others, &progress, cancel, show)?.is_break()
            {
                return Ok(stats);
            }
        }
        stats.stop = StopReason::End;
        stats.generated_tokens = Some(tokens.len());
        stats.prompt_tokens = Some(chunks.len() * chunk);
        stats.prompt = started.elapsed();
        stats.prefill = stats.prompt;
        Ok(stats)
    }

    /// The tokens of the prompt with an answer.
    pub(super) fn with_answer(
        &self,
        request: &Request,
        thinking: &str,
        text: &str,
    ) -> Result<Vec<Token>, Error> {
        let (thinking_prefix, answer_prefix) = (thinking.to_string(), text.to_string());
        Ok(self.prompt(&Request { thinking_prefix, answer_prefix, ..request.clone() })?.tokens)
    }

    /// Evaluates the prompt's tokens before `given`, with room for all of these; the logits are those after the
    /// last one. `Break`: it was cancelled.
    pub(super) fn begin(
        &mut self,
        request: &Request,
        prompt: &Prompt,
        given: Range<usize>,
        cancel: &AtomicBool,
        show: &mut dyn FnMut(Event),
    ) -> Result<(Stats, ControlFlow<()>), Error> {
        let limit = self.model.limit();
        if given.end > limit {
            show(Event::Full { prompt: given.end, limit });
            return Err(Error::TooLong { prompt: given.end, limit });
        }
        if given.start == 0 || given.start > prompt.tokens.len() {
            return Err(Error::EmptyPrompt);
        }
        self.prefill.cache.reserve(&mut self.model, given.end)?;
        let tokens = prompt.tokens[..given.start].to_vec();
        let before = Prompt { tokens, text: prompt.text.clone(), ..Prompt::default() };
        let prefilled = self.prefill(request, &before, cancel, show);
        self.model.notices().into_iter().for_each(|note| show(Event::Notice(note)));
        let Prefilled { cached, took, evaluating, flow } = prefilled?;
        let stats = Stats {
            prompt_tokens: Some(given.start),
            cached_tokens: Some(cached),
            prompt: took,
            prefill: evaluating,
            context_used: given.end,
            context_limit: limit,
            ..Stats::stopped(request.generation.seed)
        };
        Ok((stats, flow))
    }

    /// Provides for as many rows with logits, and branches, as memory should hold.
    pub(super) fn widen(&mut self, rows: usize, branches: usize) -> Result<(), Error> {
        let most = LOGITS / (size_of::<f32>() * self.model.vocabulary().len.max(1));
        Ok(self.prefill.cache.widen(&mut self.model, rows.min(most), branches.min(most))?)
    }

    /// Tells the probability of each of `tokens` from `from` on; those before it were just evaluated.
    fn tell(
        &mut self,
        tokens: &[Token],
        from: usize,
        others: usize,
        progress: &dyn Fn(usize) -> Event,
        cancel: &AtomicBool,
        show: &mut dyn FnMut(Event),
    ) -> Result<ControlFlow<()>, Error> {
        let most = self.model.rows().min(self.model.batch_size());
        let (mut place, mut rows) = (from, 1);
        while place < tokens.len() {
            // The first row has the logits before `place`.
            for (row, token) in tokens[place..].iter().take(rows).enumerate() {
                let told = of_token(&self.model, *token, self.model.logits(row), None, others);
                show(Event::Token(Box::new(told)));
            }
            let evaluated = place + rows - 1;
            show(progress(evaluated));
            place += rows;
            let next = &tokens[evaluated..(evaluated + most).min(tokens.len() - 1)];
            rows = next.len();
            if !next.is_empty() {
                let stop = || cancel.load(Ordering::Relaxed);
                if cache::append(&mut self.model, &mut [(&mut self.prefill.cache, next)], &stop)?.is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}

/// The number of tokens that two texts begin with in common.
pub(super) fn shared(one: &[Token], other: &[Token]) -> usize {
    one.iter().zip(other).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use super::super::toy::Toy;
    use super::*;
    use crate::chat::{Message, Role, Settings, Task};

    fn run(toy: Toy, task: Task) -> (Vec<Event>, Stats) {
        let mut engine = Engine::new(toy, None, &[]).unwrap();
        let asked = Request::new([Message::new(Role::User, "Is it?")], &Settings::default());
        let mut events = Vec::new();
        let request = Request { raw: true, task, ..asked };
        let stats = engine.reply(&request, &AtomicBool::new(false), &mut |event| events.push(event));
        (events, stats.unwrap())
    }

    #[test]
    fn a_long_text_is_told_to_its_last_token() {
        for length in [1, 2, 16, 17, 18, 33, 100] {
            let text = "x".repeat(length);
            let score = Score { text, thinking: String::new(), chunk: None, most_chunks: None, others: 1 };
            let (events, stats) = run(Toy::new(4096), Task::Score(score));
            let told = events.iter().filter(|event| matches!(event, Event::Token(_))).count();
            assert_eq!((told, stats.stop), (length, StopReason::End));
        }
    }
}
