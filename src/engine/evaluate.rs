//! Given texts → their probabilities: the likeliest of several answers, and each token of one text.
//!
//! Nothing is sampled: each token is evaluated where it stands. Choices share what they begin with: they are
//! the branches of a tree, walked one after the other, and before each the KV cache returns to the fork. The
//! arithmetic of chunks is that of llama-perplexity (tools/perplexity/perplexity.cpp in llama.cpp).

use std::ops::{ControlFlow, Range};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::cache::{self, Cache};
use super::draft;
use super::error::Error;
use super::model::{Cancel, Model};
use super::probability::{of_token, whole};
use super::prompt::Prompt;
use super::token::Token;
use super::{Engine, prefill::Prefilled};
use crate::chat::probability::{choices, likeliest};
use crate::chat::{Event, Request, Score, Stats, StopReason};

/// The most tokens of a batch that all get logits: the context reserves rows for so many.
const ROWS: usize = draft::MOST + 1;

impl<M: Model> Engine<M> {
    /// Finds the likeliest of several answers: by the probability of its whole text and of the end of the turn.
    pub(super) fn choose(
        &mut self,
        request: &Request,
        prompt: &Prompt,
        texts: &[String],
        cancel: &AtomicBool,
        show: &mut dyn FnMut(Event),
    ) -> Result<Stats, Error> {
        let mut answers: Vec<Vec<Token>> = Vec::new();
        for text in texts {
            answers.push(self.with_answer(
                request,
                &request.thinking_prefix,
                &(request.answer_prefix.clone() + text),
            )?);
        }
        // The tokenizer may join the end of the prompt and the beginning of an answer: then both are compared.
        let fork = answers.iter().map(|answer| shared(&prompt.tokens, answer)).min().unwrap_or(0);
        let longest = answers.iter().map(Vec::len).max().unwrap_or(0);
        let (mut stats, ready) = self.begin(request, prompt, fork..longest, cancel, show)?;
        if ready.is_break() {
            return Ok(stats);
        }
        let started = Instant::now();
        let mut ends = self.prompter.ends(request);
        let vocabulary = self.model.vocabulary().len as Token;
        ends.extend((0..vocabulary).filter(|token| self.model.ends(*token)));
        ends.sort_unstable();
        let mut logprobs = vec![0.0; texts.len()];
        let stop = || cancel.load(Ordering::Relaxed);
        let mut tree = Tree { answers: &answers, ends: &ends, logprobs: &mut logprobs, cancel: &stop };
        let all: Vec<usize> = (0..texts.len()).collect();
        let flow = tree.walk(&mut self.model, &mut self.prefill.cache, &all, fork, 0)?;
        stats.generation = started.elapsed();
        if flow.is_break() {
            return Ok(stats);
        }
        let found = choices(texts, &logprobs);
        if let Some(best) = likeliest(&found) {
            stats.stop = StopReason::Choice;
            stats.generated_tokens = Some(answers[best].len() - fork);
            stats.context_used = answers[best].len();
            show(Event::Choices(found));
            show(Event::Text(texts[best].clone()));
        }
        Ok(stats)
    }

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
            let (mut stats, ready) = self.begin(request, prompt, from..tokens.len(), cancel, show)?;
            stats.generated_tokens = Some(tokens.len() - shared(&prompt.tokens, &tokens));
            let started = Instant::now();
            if ready.is_continue() && self.tell(&tokens, from, score.others, cancel, show)?.is_continue() {
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
        for (number, tokens) in chunks.iter().enumerate() {
            show(Event::Prefill { done: number * chunk, total: chunks.len() * chunk });
            let mut tokens = tokens.to_vec();
            tokens[0] = bos.unwrap_or(tokens[0]);
            self.prefill.cache.clear(&mut self.model);
            self.prefill.cache.reuse(&mut self.model, &tokens)?;
            let stop = || cancel.load(Ordering::Relaxed);
            let before = &tokens[..chunk / 2 + 1];
            let read = self.prefill.cache.read(&mut self.model, before, &stop, &mut |_| {})?;
            if read.is_break() || self.tell(&tokens, before.len(), score.others, cancel, show)?.is_break() {
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
    fn with_answer(&self, request: &Request, thinking: &str, text: &str) -> Result<Vec<Token>, Error> {
        let (thinking_prefix, answer_prefix) = (thinking.to_string(), text.to_string());
        Ok(self.prompt(&Request { thinking_prefix, answer_prefix, ..request.clone() })?.tokens)
    }

    /// Evaluates the prompt's tokens before `given`, with room for all of these; the logits are those after the
    /// last one. `Break`: it was cancelled.
    fn begin(
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

    /// Tells the probability of each of `tokens` from `from` on; those before it were just evaluated.
    fn tell(
        &mut self,
        tokens: &[Token],
        from: usize,
        others: usize,
        cancel: &AtomicBool,
        show: &mut dyn FnMut(Event),
    ) -> Result<ControlFlow<()>, Error> {
        let (mut row, mut start) = (0, from);
        while start < tokens.len() {
            // The logits in `row` and after it are those before `start` and after it.
            let told = of_token(&self.model, tokens[start], self.model.logits(row), None, others);
            show(Event::Token(Box::new(told)));
            start += 1;
            row += 1;
            let evaluated = self.prefill.cache.tokens().len();
            if start > evaluated && start < tokens.len() {
                let most = ROWS.min(self.model.batch_size());
                let next = &tokens[evaluated..(evaluated + most).min(tokens.len() - 1)];
                let stop = || cancel.load(Ordering::Relaxed);
                if cache::append(&mut self.model, &mut [(&mut self.prefill.cache, next)], &stop)?.is_break() {
                    return Ok(ControlFlow::Break(()));
                }
                row = 0;
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}

/// Answers to one prompt, as a tree whose forks are where they part.
struct Tree<'a> {
    /// Each with the prompt.
    answers: &'a [Vec<Token>],
    /// The tokens that end an answer, ascending.
    ends: &'a [Token],
    /// The sum so far of each answer.
    logprobs: &'a mut [f64],
    cancel: Cancel<'a>,
}

impl Tree<'_> {
    /// Adds up what follows `fork` of some answers that are the same up to there and were evaluated: the logits
    /// after their common tokens are in `row`.
    fn walk(
        &mut self,
        model: &mut impl Model,
        cache: &mut Cache,
        these: &[usize],
        fork: usize,
        row: usize,
    ) -> Result<ControlFlow<()>, Error> {
        self.add(model, these, fork, row);
        cache.mark(model);
        let mut rest: Vec<usize> =
            these.iter().copied().filter(|answer| self.answers[*answer].len() > fork).collect();
        while let Some(first) = rest.first().map(|first| &self.answers[*first]) {
            let (branch, others): (Vec<usize>, Vec<usize>) =
                rest.iter().partition(|answer| self.answers[**answer][fork] == first[fork]);
            let next =
                branch.iter().map(|answer| shared(first, &self.answers[*answer])).min().unwrap_or(fork);
            cache.return_to(model, fork)?;
            let mut row = 0;
            while cache.tokens().len() < next {
                let start = cache.tokens().len();
                let tokens = &first[start..next.min(start + ROWS.min(model.batch_size()))];
                if cache::append(model, &mut [(&mut *cache, tokens)], self.cancel)?.is_break() {
                    return Ok(ControlFlow::Break(()));
                }
                let inside = (start + 1..next).take(tokens.len()).enumerate();
                inside.for_each(|(row, place)| self.add(model, &branch, place, row));
                row = tokens.len() - 1;
            }
            if self.walk(model, cache, &branch, next, row)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
            rest = others;
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Adds to each of these answers its token at `place`, or its end, by the logits in `row`.
    fn add(&mut self, model: &impl Model, these: &[usize], place: usize, row: usize) {
        let logits = model.logits(row);
        let distribution = whole(logits);
        for answer in these {
            self.logprobs[*answer] += match self.answers[*answer].get(place) {
                Some(token) => distribution.logprob(logits[*token as usize]),
                None => distribution.any(|token| self.ends.binary_search(&token).is_ok()),
            };
        }
    }
}

/// The number of tokens that two texts begin with in common.
fn shared(one: &[Token], other: &[Token]) -> usize {
    one.iter().zip(other).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use super::super::toy::Toy;
    use super::*;
    use crate::chat::probability::Choice;
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
    fn every_answer_is_walked_once_and_equals_its_own_sum() {
        let texts = ["yes", "yes, it is", "no", "yesterday", "n"].map(String::from);
        for toy in [Toy::new(4096), Toy::new(4096).uncuttable(), Toy::new(4096).hybrid()] {
            let (events, stats) = run(toy, Task::Choose(texts.to_vec()));
            let Some(Event::Choices(found)) = events.iter().find(|e| matches!(e, Event::Choices(_))) else {
                panic!("{events:?}")
            };
            assert_eq!(stats.stop, StopReason::Choice);
            assert_eq!(
                found.iter().map(|choice| &choice.text).collect::<Vec<_>>(),
                texts.iter().collect::<Vec<_>>()
            );
            let all: f64 = found.iter().map(|choice: &Choice| choice.probability).sum();
            assert!((all - 1.0).abs() < 1e-9 && found.iter().all(|choice| choice.logprob < 0.0), "{found:?}");
        }
    }

    #[test]
    fn a_long_text_is_told_to_its_last_token() {
        for length in [1, 2, 32, 33, 34, 66, 100] {
            let text = "x".repeat(length);
            let score = Score { text, thinking: String::new(), chunk: None, most_chunks: None, others: 1 };
            let (events, stats) = run(Toy::new(4096), Task::Score(score));
            let told = events.iter().filter(|event| matches!(event, Event::Token(_))).count();
            assert_eq!((told, stats.stop), (length, StopReason::End));
        }
    }
}
