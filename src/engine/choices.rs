//! Given answers → the likeliest: by the probability of its whole text and of the end of the turn.
//!
//! The answers are the branches of a tree that grows out of the prompt; what several begin with is evaluated once.
//! Where memory can hold branches side by side, a batch has tokens of all of them. A recurrent or hybrid memory
//! cannot: there, one branch is evaluated after the other, and the memory returns to where they part.

use std::ops::{ControlFlow, Range};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::Engine;
use super::cache::{self, Cache};
use super::error::Error;
use super::evaluate::shared;
use super::model::{Cancel, Model, Row};
use super::probability::whole;
use super::prompt::Prompt;
use super::token::Token;
use crate::chat::probability::{choices, likeliest};
use crate::chat::{Event, Request, Stats, StopReason};

impl<M: Model> Engine<M> {
    /// Finds the likeliest of several answers. All of them, their shares and the likeliest text become events.
    pub(super) fn choose(
        &mut self,
        request: &Request,
        prompt: &Prompt,
        texts: &[String],
        cancel: &AtomicBool,
        show: &mut dyn FnMut(Event),
    ) -> Result<Stats, Error> {
        let mut answers: Vec<(Vec<Token>, usize)> = Vec::new();
        for (place, text) in texts.iter().enumerate() {
            let text = request.answer_prefix.clone() + text;
            answers.push((self.with_answer(request, &request.thinking_prefix, &text)?, place));
        }
        // The tokenizer may join the end of the prompt and the beginning of an answer: then both are compared.
        let fork = answers.iter().map(|(answer, _)| shared(&prompt.tokens, answer)).min().unwrap_or(0);
        answers.iter_mut().for_each(|(answer, _)| _ = answer.drain(..fork));
        answers.sort_unstable();
        let places: Vec<usize> = answers.iter().map(|(_, place)| *place).collect();
        let answers: Vec<Vec<Token>> = answers.into_iter().map(|(answer, _)| answer).collect();

        self.widen(nodes(&answers, 0..answers.len()).len(), answers.len())?;
        let room = self.model.limit().saturating_sub(fork);
        let bundles = bundles(&answers, self.model.branches(), room);
        let longest = answers.iter().map(Vec::len).max().unwrap_or(0);
        let most = bundles.iter().map(|bundle| nodes(&answers, bundle.clone()).len()).max().unwrap_or(0);
        let (mut stats, ready) = self.begin(request, prompt, fork..fork + longest.max(most), cancel, show)?;
        if ready.is_break() {
            return Ok(stats);
        }
        let started = Instant::now();
        let mut ends = self.prompter.ends(request);
        let vocabulary = self.model.vocabulary().len as Token;
        ends.extend((0..vocabulary).filter(|token| self.model.ends(*token)));
        ends.sort_unstable();
        ends.dedup();
        let stop = || cancel.load(Ordering::Relaxed);
        let logprobs = vec![0.0; answers.len()];
        let mut tree = Tree { answers: &answers, ends: &ends, logprobs, cancel: &stop };
        tree.add(&self.model, 0..answers.len(), 0, 0);
        let cache = &mut self.prefill.cache;
        let mut flow = ControlFlow::Continue(());
        if bundles.is_empty() {
            flow = tree.one_by_one(&mut self.model, cache)?;
        }
        for bundle in bundles {
            if flow.is_continue() {
                flow = tree.together(&mut self.model, cache, bundle)?;
            }
        }
        stats.generation = started.elapsed();
        if flow.is_break() {
            return Ok(stats);
        }
        let mut logprobs = vec![0.0; texts.len()];
        places.iter().zip(tree.logprobs).for_each(|(place, logprob)| logprobs[*place] = logprob);
        let found = choices(texts, &logprobs);
        if let Some(best) = likeliest(&found) {
            let length = places.iter().position(|place| *place == best).map_or(0, |at| answers[at].len());
            stats.stop = StopReason::Choice;
            stats.generated_tokens = Some(length);
            stats.context_used = fork + length;
            show(Event::Choices(found));
            show(Event::Text(texts[best].clone()));
        }
        Ok(stats)
    }
}

/// Answers to one prompt, in ascending order, as a tree.
struct Tree<'a> {
    /// What follows the last token that all have in common with the prompt.
    answers: &'a [Vec<Token>],
    /// The tokens that end an answer.
    ends: &'a [Token],
    /// The sum so far of each answer.
    logprobs: Vec<f64>,
    cancel: Cancel<'a>,
}

/// A token of the tree.
struct Node {
    /// The number of tokens before it in its answers.
    place: usize,
    /// The answers that are the same up to it.
    answers: Range<usize>,
}

/// The nodes of a tree of ascending answers, each after those that lead to it.
fn nodes(answers: &[Vec<Token>], these: Range<usize>) -> Vec<Node> {
    let mut nodes = Vec::new();
    for first in these.clone() {
        let answer = &answers[first];
        let known = if first > these.start { shared(&answers[first - 1], answer) } else { 0 };
        for place in known..answer.len() {
            let parts = |other: &usize| shared(&answers[*other], answer) <= place;
            let end = (first + 1..these.end).find(parts).unwrap_or(these.end);
            nodes.push(Node { place, answers: first..end });
        }
    }
    nodes
}

/// Ascending answers in bundles of at most `most`, with at most `room` nodes each if there are several. None if
/// `most` is 0.
fn bundles(answers: &[Vec<Token>], most: usize, room: usize) -> Vec<Range<usize>> {
    let mut bundles: Vec<Range<usize>> = Vec::new();
    if most == 0 {
        return bundles;
    }
    for place in 0..answers.len() {
        let fits = |bundle: &&mut Range<usize>| {
            bundle.len() < most && nodes(answers, bundle.start..place + 1).len() <= room
        };
        match bundles.last_mut().filter(fits) {
            Some(bundle) => bundle.end = place + 1,
            None => bundles.push(place..place + 1),
        }
    }
    bundles
}

impl Tree<'_> {
    /// Evaluates some answers in batches of nodes.
    fn together(
        &mut self,
        model: &mut impl Model,
        cache: &Cache,
        these: Range<usize>,
    ) -> Result<ControlFlow<()>, Error> {
        model.branch(cache.sequence(), these.len());
        let flow = self.evaluate(model, cache.tokens().len(), these);
        model.branch(cache.sequence(), 0);
        flow
    }

    /// Evaluates answers of which each is a branch, after `fork` tokens.
    fn evaluate(
        &mut self,
        model: &mut impl Model,
        fork: usize,
        these: Range<usize>,
    ) -> Result<ControlFlow<()>, Error> {
        let first = model.sequences();
        for part in nodes(self.answers, these.clone()).chunks(model.rows().min(model.batch_size())) {
            let row = |node: &Node| Row {
                sequence: first + node.answers.start - these.start,
                also: node.answers.len() - 1,
                position: fork + node.place,
                token: self.answers[node.answers.start][node.place],
                logits: true,
            };
            let batch: Vec<Row> = part.iter().map(row).collect();
            if model.decode(&batch, self.cancel)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
            self.add_all(model, part);
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Evaluates all answers one after the other, each from where it parts from the one before it.
    fn one_by_one(&mut self, model: &mut impl Model, cache: &mut Cache) -> Result<ControlFlow<()>, Error> {
        let fork = cache.tokens().len();
        let most = model.rows().min(model.batch_size());
        let all = nodes(self.answers, 0..self.answers.len());
        for branch in all.chunk_by(|node, next| node.answers == next.answers) {
            cache.return_to(model, fork + branch[0].place)?;
            cache.mark(model);
            for part in branch.chunks(most) {
                let token = |node: &Node| self.answers[node.answers.start][node.place];
                let tokens: Vec<Token> = part.iter().map(token).collect();
                if cache::append(model, &mut [(&mut *cache, &tokens)], self.cancel)?.is_break() {
                    return Ok(ControlFlow::Break(()));
                }
                self.add_all(model, part);
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Adds what follows each of the nodes of the last batch.
    fn add_all(&mut self, model: &impl Model, nodes: &[Node]) {
        for (row, node) in nodes.iter().enumerate() {
            self.add(model, node.answers.clone(), node.place + 1, row);
        }
    }

    /// Adds to each of these answers its token at `place`, or its end, by the logits in `row`.
    fn add(&mut self, model: &impl Model, these: Range<usize>, place: usize, row: usize) {
        let logits = model.logits(row);
        let distribution = whole(logits);
        for answer in these {
            self.logprobs[answer] += match self.answers[answer].get(place) {
                Some(token) => distribution.logprob(logits[*token as usize]),
                None => distribution.any(self.ends.iter().map(|end| logits[*end as usize])),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::toy::{Toy, dreamt};
    use super::*;
    use crate::chat::probability::Choice;
    use crate::chat::{Message, Role, Settings, Task};

    const TEXTS: [&str; 8] = ["yes", "yes, it is", "no", "yesterday", "n", "yes, it was", "maybe", "x"];

    /// The choices, the sizes of the batches after the prompt, and what is left of the engine.
    fn choose(mut toy: Toy, texts: &[&str]) -> (Vec<Choice>, Vec<usize>, Engine<Toy>) {
        toy.dreams = true;
        let mut engine = Engine::new(toy, None, &[]).unwrap();
        let asked = Request::new([Message::new(Role::User, "Is it?")], &Settings::default());
        let task = Task::Choose(texts.iter().map(|text| text.to_string()).collect());
        let request = Request { raw: true, task, ..asked };
        let mut found = Vec::new();
        let mut show = |event| {
            if let Event::Choices(choices) = event {
                found = choices;
            }
        };
        let stats = engine.reply(&request, &AtomicBool::new(false), &mut show).unwrap();
        assert_eq!(stats.stop, StopReason::Choice);
        let batches = engine.model.batches[1..].to_vec();
        (found, batches, engine)
    }

    /// The log-probability of an answer and its end, token by token.
    fn plain(text: &str) -> f64 {
        let mut memory: Vec<Token> = "Is it?".bytes().map(Token::from).collect();
        let mut sum = 0.0;
        for next in text.bytes().map(Token::from).chain([256]) {
            let logits = dreamt(&memory);
            sum += whole(&logits).logprob(logits[next as usize]);
            memory.push(next);
        }
        sum
    }

    #[test]
    fn each_answer_is_as_likely_as_its_tokens_and_its_end() {
        // y e s | , _ i t _ i s | w a s | t e r d a y | n | o | m a y b e | x
        let nodes = 3 + 7 + 3 + 6 + 1 + 1 + 5 + 1;
        let few = |texts: &[&str], toy: Toy| {
            let (found, batches, engine) = choose(toy, texts);
            let all: f64 = found.iter().map(|choice| choice.probability).sum();
            assert!((all - 1.0).abs() < 1e-9);
            for (choice, text) in found.iter().zip(texts) {
                assert_eq!(choice.text, *text);
                assert!((choice.logprob - plain(text)).abs() < 1e-6, "{choice:?}, {}", plain(text));
            }
            assert_eq!(engine.model.memory(0), engine.evaluated());
            batches
        };
        let together = few(&TEXTS, Toy::new(4096));
        assert_eq!((together.len(), together.iter().sum::<usize>()), (2, nodes), "the batch size is 16");
        for toy in [Toy::new(4096).uncuttable(), Toy::new(4096).hybrid()] {
            assert!(few(&TEXTS, toy).len() > 6, "one after the other");
        }
        // So little room that only some fit side by side.
        let small = few(&TEXTS, Toy::new(6 + 12));
        assert!(small.len() > 2 && small.iter().sum::<usize>() > nodes, "{small:?}");
        assert_eq!(few(&["yes"], Toy::new(4096)), [3]);
        assert_eq!(few(&["b", "a", "c"], Toy::new(4096)), [3]);
    }

    #[test]
    fn a_tree_has_each_beginning_once() {
        let answers: Vec<Vec<Token>> = vec![vec![1], vec![1, 2, 3], vec![1, 2, 4], vec![5]];
        let nodes: Vec<(usize, Range<usize>)> =
            nodes(&answers, 0..4).into_iter().map(|node| (node.place, node.answers)).collect();
        assert_eq!(nodes, [(0, 0..3), (1, 1..3), (2, 1..2), (2, 2..3), (0, 3..4)]);
        assert_eq!(bundles(&answers, 100, 100), std::slice::from_ref(&(0..4)));
        assert_eq!(bundles(&answers, 3, 100), [0..3, 3..4]);
        assert_eq!(bundles(&answers, 100, 3), [0..2, 2..3, 3..4]);
        assert!(bundles(&answers, 0, 100).is_empty());
    }
}
