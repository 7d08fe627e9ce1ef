//! 8 — one answer as a state machine: logits → next token, text or thinking, end. Next: scheduler.rs.
//!
//! A sequence evaluates nothing: its caller evaluates the token of each step and returns with the next
//! logits.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Result;

use super::constrained::Constrained;
use super::model::{Model, Sampler};
use super::probability;
use super::stream::Stream;
use super::stream::reasoning::ReplyDelta;
use super::token::Token;
use crate::chat::{Event, StopReason};

/// An answer being generated.
pub struct Sequence<'a> {
    sampler: Box<dyn Sampler>,
    constraint: Option<Constrained>,
    stream: Stream,
    /// Tokens that end the answer besides the model's own end tokens.
    ends: Vec<Token>,
    max_tokens: usize,
    cancel: &'a AtomicBool,
    /// Tokens to emit next, whatever the model would choose.
    forced: VecDeque<Token>,
    repetition: Repetition,
    /// Tokens so far, without the one that ends the answer.
    tokens: usize,
    /// The thinking tokens among them.
    thinking: usize,
    /// Tell the probability of each token, and this many of the likeliest others.
    logprobs: Option<usize>,
}

/// The result of one step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepResult {
    /// The answer continues with this token, which still has to be evaluated.
    Token(Token),
    End(StopReason),
}

impl<'a> Sequence<'a> {
    /// `ends`: tokens that end the answer besides the model's own; `max_tokens`: the token limit of the
    /// answer.
    pub fn new(
        sampler: Box<dyn Sampler>,
        stream: Stream,
        ends: Vec<Token>,
        max_tokens: u32,
        cancel: &'a AtomicBool,
    ) -> Sequence<'a> {
        Sequence {
            sampler,
            constraint: None,
            stream,
            ends,
            max_tokens: max_tokens as usize,
            cancel,
            forced: VecDeque::new(),
            repetition: Repetition::new(),
            tokens: 0,
            thinking: 0,
            logprobs: None,
        }
    }

    /// The same with a constraint on the answer.
    pub fn constrained(self, constraint: Option<Constrained>) -> Sequence<'a> {
        Sequence { constraint, ..self }
    }

    /// The same sequence, which tells the probability of each token and that many of the likeliest others.
    pub fn telling(self, logprobs: Option<usize>) -> Sequence<'a> {
        Sequence { logprobs, ..self }
    }

    pub fn cancel(&self) -> &'a AtomicBool {
        self.cancel
    }

    pub fn cancelled(&self) -> bool {
        self.cancel.load(Ordering::Relaxed)
    }

    /// Chooses the next token from the logits after the previous one, and shows the text that is certain.
    pub fn step(
        &mut self,
        model: &impl Model,
        logits: &[f32],
        show: &mut dyn FnMut(Event),
    ) -> Result<StepResult> {
        if self.tokens >= self.max_tokens {
            return Ok(StepResult::End(StopReason::Length));
        }
        if self.cancelled() {
            return Ok(StepResult::End(StopReason::Interrupted));
        }
        let Some((next, drawn)) = self.next(logits)? else { return Ok(StepResult::End(StopReason::End)) };
        if let Some(others) = self.logprobs {
            let left = drawn.then(|| self.sampler.left());
            let told = probability::of_token(model, next, logits, left.as_deref(), others);
            show(Event::Token(Box::new(told)));
        }
        if model.ends(next) || (self.may_end(model, next) && !self.stream.parted_by(next)) {
            return Ok(StepResult::End(StopReason::End));
        }
        self.tokens += 1;
        self.thinking += usize::from(self.stream.thinks());
        let (piece, stopped) = match self.stream.tag(next) {
            Some(tag) => self.stream.push_tag(&tag),
            None => self.stream.push(&model.piece(next, false)), // token → text
        };
        tell(piece, self.thinking, show);
        if stopped {
            return Ok(StepResult::End(StopReason::Stop));
        }
        if self.forced.is_empty() {
            self.forced.extend(self.stream.enough(self.thinking));
        }
        if self.repetition.endless(next) {
            return Ok(StepResult::End(StopReason::Repetition));
        }
        if self.tokens >= self.max_tokens {
            return Ok(StepResult::End(StopReason::Length));
        }
        Ok(StepResult::Token(next))
    }

    /// Logits → token, and whether it was drawn from them, not forced. `None`: the answer is whole.
    fn next(&mut self, logits: &[f32]) -> Result<Option<(Token, bool)>> {
        if let Some(constraint) = self.constraint.as_ref().filter(|_| self.forced.is_empty()) {
            self.forced.extend(constraint.lead(self.stream.stage()));
        }
        if let Some(token) = self.forced.pop_front() {
            return Ok(Some((self.sampler.take(token), false)));
        }
        let Some(constraint) = &mut self.constraint else {
            return self.sampler.pick(logits).map(|token| Some((token, true)));
        };
        let chosen = constraint.choose(&mut *self.sampler, self.stream.stage(), logits)?;
        if chosen.is_some_and(|(_, is_answer)| is_answer) {
            self.stream.begin_answer();
        }
        Ok(chosen.map(|(token, _)| (token, true)))
    }

    /// What the constraint demands next, as it is probably spelled.
    pub fn demanded(&mut self, model: &impl Model) -> Vec<Token> {
        let stage = self.stream.stage();
        let constraint = self.constraint.as_mut().filter(|_| self.forced.is_empty());
        constraint.map_or(Vec::new(), |constraint| constraint.demanded(model, stage))
    }

    /// The drafted tokens that may follow, without those from the first one on that may not.
    pub fn keep_fitting(&mut self, drafts: &mut Vec<Token>) {
        if let Some(constraint) = &mut self.constraint {
            drafts.truncate(constraint.fitting(self.stream.stage(), drafts));
        }
    }

    /// Whether this token may end the answer.
    pub fn may_end(&self, model: &impl Model, token: Token) -> bool {
        model.ends(token) || self.ends.contains(&token)
    }

    /// The maximum length of a useful draft after the last step's token.
    pub fn draftable(&self) -> usize {
        if self.forced.is_empty() { self.max_tokens - self.tokens - 1 } else { 0 }
    }

    /// Shows the text still held back. Returns the number of tokens and of thinking tokens.
    pub fn finish(self, stop: StopReason, show: &mut dyn FnMut(Event)) -> (usize, usize) {
        let Sequence { stream, tokens, mut thinking, .. } = self;
        if stop != StopReason::Stop {
            let rest = stream.finish(stop == StopReason::End);
            if thinking == 0 && !rest.thinking.is_empty() {
                thinking = tokens; // a header that never ended
            }
            tell(rest, thinking, show);
        }
        (tokens, thinking)
    }
}

fn tell(piece: ReplyDelta, tokens: usize, show: &mut dyn FnMut(Event)) {
    if !piece.thinking.is_empty() {
        show(Event::Thinking { text: piece.thinking, tokens });
    }
    if !piece.answer.is_empty() {
        show(Event::Text(piece.answer));
    }
}

/// Detects endless repetition: the same sequence of up to 64 tokens over and over, 512 tokens long.
struct Repetition {
    tokens: Vec<Token>,
    /// For each period, the number of last tokens that equal the token one period earlier.
    runs: [usize; Repetition::LONGEST_PERIOD],
}

impl Repetition {
    const LONGEST_PERIOD: usize = 64;
    const ENDLESS: usize = 512;

    fn new() -> Repetition {
        Repetition { tokens: Vec::new(), runs: [0; Repetition::LONGEST_PERIOD] }
    }

    fn endless(&mut self, token: Token) -> bool {
        for (period, run) in (1..).zip(&mut self.runs) {
            let before = self.tokens.len().checked_sub(period).map(|at| self.tokens[at]);
            *run = if before == Some(token) { *run + 1 } else { 0 };
        }
        self.tokens.push(token);
        self.runs.iter().any(|run| *run >= Repetition::ENDLESS)
    }
}
