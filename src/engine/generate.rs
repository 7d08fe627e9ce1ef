//! 8 — the loop: logits → token → text, until something ends it. Next: detokenize.rs.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Result;

use super::cache::Cache;
use super::detokenize::Detokenizer;
use super::llama::{Model, Token};
use super::sampler::Sampler;
use crate::chat::StopReason;

/// What the loop needs besides the model and its memory, whose last token has logits.
pub struct Writing<'a> {
    pub sampler: Sampler,
    pub text: Detokenizer,
    /// Most tokens to write.
    pub predict: u32,
    pub cancel: &'a AtomicBool,
}

/// Why it ended, and how many tokens were written (the one that says "over" not counted).
pub struct Written {
    pub stop: StopReason,
    pub tokens: usize,
}

/// Writes an answer after what is in the cache; every piece of text goes to `show`.
pub fn generate(
    model: &mut impl Model,
    cache: &mut Cache,
    mut writing: Writing,
    show: &mut dyn FnMut(String),
) -> Result<Written> {
    let mut tokens = 0;
    let mut repetition = Repetition::new();
    let stop = loop {
        if tokens >= writing.predict as usize {
            break StopReason::Length;
        }
        if writing.cancel.load(Ordering::Relaxed) {
            break StopReason::Interrupted;
        }
        let next = writing.sampler.pick(model.logits())?; // logits → token
        if model.ends(next) {
            break StopReason::End;
        }
        tokens += 1;
        let piece = writing.text.push(&model.piece(next, false)); // token → text
        if !piece.text.is_empty() {
            show(piece.text);
        }
        if piece.stopped {
            return Ok(Written { stop: StopReason::Stop, tokens });
        }
        if repetition.endless(next) {
            break StopReason::Repetition;
        }
        if tokens >= writing.predict as usize {
            break StopReason::Length;
        }
        if cache.tokens().len() + 1 > model.limit() {
            break StopReason::Context;
        }
        cache.push(model, next)?; // token → logits
    };
    let rest = writing.text.finish();
    if !rest.is_empty() {
        show(rest);
    }
    Ok(Written { stop, tokens })
}

/// Notices an answer that goes round in circles: the same up to 64 tokens over and over, 512 tokens long.
struct Repetition {
    tokens: Vec<Token>,
    /// For every period, how many of the last tokens equal the one a period before.
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

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use super::super::toy::Toy;
    use super::*;
    use crate::chat::settings::Sampling;

    fn write(toy: &mut Toy, predict: u32, stops: &[&str]) -> (String, StopReason, usize) {
        let mut cache = Cache::default();
        let prompt = [1, 2, 3];
        cache.reuse(toy, &prompt).unwrap();
        let flow = cache.read(toy, &prompt, &mut |_| ControlFlow::Continue(())).unwrap();
        assert!(flow.is_continue());
        let stops: Vec<String> = stops.iter().map(|s| s.to_string()).collect();
        let writing = Writing {
            sampler: Sampler::for_logits(
                &Sampling { temp: 0.0, ..Sampling::default() },
                1,
                toy.vocabulary.len,
            ),
            text: Detokenizer::new(&stops),
            predict,
            cancel: &AtomicBool::new(false),
        };
        let mut text = String::new();
        let written = generate(toy, &mut cache, writing, &mut |piece| text.push_str(&piece)).unwrap();
        assert_eq!(cache.tokens(), toy.memory());
        (text, written.stop, written.tokens)
    }

    #[test]
    fn each_way_to_end() {
        assert_eq!(write(&mut Toy::saying("hello"), 100, &[]), ("hello".into(), StopReason::End, 5));
        assert_eq!(write(&mut Toy::saying("hello"), 3, &[]), ("hel".into(), StopReason::Length, 3));
        assert_eq!(write(&mut Toy::saying("hello"), 0, &[]), (String::new(), StopReason::Length, 0));
        assert_eq!(write(&mut Toy::saying("hello"), 100, &["lo"]), ("hel".into(), StopReason::Stop, 5));
        let mut small = Toy::saying("hello");
        small.limit = 5;
        assert_eq!(write(&mut small, 100, &[]), ("hel".into(), StopReason::Context, 3));
    }

    #[test]
    fn circles_end() {
        let (_, stop, tokens) = write(&mut Toy::saying(&"ab".repeat(2000)), 5000, &[]);
        assert_eq!((stop, tokens), (StopReason::Repetition, 514));
        let counting: String = (0..400).map(|i| format!("{i} ")).collect();
        assert_eq!(write(&mut Toy::saying(&counting), 5000, &[]).1, StopReason::End);
    }
}
