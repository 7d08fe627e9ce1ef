//! 8 — the loop: logits → token → thinking and text, until something ends it. Next: detokenize.rs.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Result;

use super::cache::Cache;
use super::detokenize::{Detokenizer, Stops};
use super::llama::{Model, Token};
use super::reasoning::{self, Reasoning};
use super::sampler::Sampler;
use crate::chat::{Event, StopReason};

/// What the loop needs besides the model and its memory, whose last token has logits.
pub struct Writing<'a> {
    pub sampler: Sampler,
    pub stops: Stops,
    /// Of a model that thinks before it answers.
    pub thoughts: Option<Thoughts>,
    /// Most tokens to write.
    pub predict: u32,
    pub cancel: &'a AtomicBool,
}

/// How thinking is told from the answer, and when it has been enough.
pub struct Thoughts {
    pub reasoning: Reasoning,
    /// Tokens whose text is part of the stream although they are control tokens.
    pub markers: Vec<Token>,
    /// Most tokens of thinking, and what is written in the model's place to end it.
    pub budget: Option<(u32, Vec<Token>)>,
}

/// Why it ended, and how many tokens were written (the one that says "over" not counted).
pub struct Written {
    pub stop: StopReason,
    pub tokens: usize,
    /// Of these, the ones of thinking.
    pub thinking: usize,
}

/// Writes an answer after what is in the cache; every piece of it goes to `show`.
pub fn generate(
    model: &mut impl Model,
    cache: &mut Cache,
    mut writing: Writing,
    show: &mut dyn FnMut(Event),
) -> Result<Written> {
    let (mut tokens, mut thinking) = (0, 0);
    let mut repetition = Repetition::new();
    let mut stream =
        Stream { characters: Detokenizer::default(), thoughts: writing.thoughts, stops: writing.stops };
    let mut forced = VecDeque::new(); // tokens that are written whatever the model would write
    let stop = loop {
        if tokens >= writing.predict as usize {
            break StopReason::Length;
        }
        if writing.cancel.load(Ordering::Relaxed) {
            break StopReason::Interrupted;
        }
        let next = match forced.pop_front() {
            Some(token) => writing.sampler.take(token),
            None => writing.sampler.pick(model.logits(0))?, // logits → token
        };
        if model.ends(next) {
            break StopReason::End;
        }
        tokens += 1;
        thinking += usize::from(stream.thinks());
        let (piece, stopped) = stream.push(&model.piece(next, stream.shows(next))); // token → text
        tell(piece, thinking, show);
        if stopped {
            return Ok(Written { stop: StopReason::Stop, tokens, thinking });
        }
        if forced.is_empty() {
            forced.extend(stream.enough(thinking));
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
    tell(stream.finish(), thinking, show);
    Ok(Written { stop, tokens, thinking })
}

fn tell(piece: reasoning::Piece, tokens: usize, show: &mut dyn FnMut(Event)) {
    if !piece.thinking.is_empty() {
        show(Event::Thinking { text: piece.thinking, tokens });
    }
    if !piece.answer.is_empty() {
        show(Event::Text(piece.answer));
    }
}

/// What becomes of the bytes of tokens.
struct Stream {
    characters: Detokenizer,
    thoughts: Option<Thoughts>,
    stops: Stops,
}

impl Stream {
    fn thinks(&self) -> bool {
        self.thoughts.as_ref().is_some_and(|thoughts| thoughts.reasoning.thinks())
    }

    /// Whether the text of a control token is wanted.
    fn shows(&self, token: Token) -> bool {
        self.thoughts.as_ref().is_some_and(|thoughts| thoughts.markers.contains(&token))
    }

    /// What is certain now, and whether a stop string came in the answer.
    fn push(&mut self, bytes: &[u8]) -> (reasoning::Piece, bool) {
        let text = self.characters.push(bytes);
        self.stopped(text, false)
    }

    fn stopped(&mut self, text: String, over: bool) -> (reasoning::Piece, bool) {
        let mut piece = match &mut self.thoughts {
            Some(thoughts) => thoughts.reasoning.push(&text),
            None => reasoning::Piece { answer: text, ..reasoning::Piece::default() },
        };
        if over && let Some(thoughts) = self.thoughts.take() {
            let rest = thoughts.reasoning.finish();
            piece.thinking += &rest.thinking;
            piece.answer += &rest.answer;
        }
        let before = self.stops.push(&piece.answer);
        piece.answer = before.text;
        (piece, before.stopped)
    }

    /// What ends the thinking, if there were so many tokens of it that it must end.
    fn enough(&self, thinking: usize) -> Vec<Token> {
        let budget =
            self.thoughts.as_ref().filter(|_| self.thinks()).and_then(|thoughts| thoughts.budget.as_ref());
        budget
            .filter(|(most, _)| thinking >= *most as usize)
            .map_or(Vec::new(), |(_, closing)| closing.clone())
    }

    fn finish(mut self) -> reasoning::Piece {
        let text = std::mem::take(&mut self.characters).finish();
        let (mut piece, stopped) = self.stopped(text, true);
        if !stopped {
            piece.answer += &self.stops.finish();
        }
        piece
    }
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

    use super::super::reasoning::{Begun, Format};
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
            stops: Stops::new(&stops),
            thoughts: None,
            predict,
            cancel: &AtomicBool::new(false),
        };
        let mut text = String::new();
        let mut add = |event| match event {
            Event::Text(piece) => text.push_str(&piece),
            other => panic!("{other:?}"),
        };
        let written = generate(toy, &mut cache, writing, &mut add).unwrap();
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

    /// What a model that says `says` thought and answered.
    fn think(says: &str, budget: Option<u32>, stops: &[&str]) -> (String, String, Written) {
        let mut toy = Toy::saying(says);
        let (mut cache, prompt) = (Cache::default(), [1, 2, 3]);
        cache.reuse(&mut toy, &prompt).unwrap();
        cache.read(&mut toy, &prompt, &mut |_| ControlFlow::Continue(())).unwrap().is_continue();
        let format = Format::Tags { open: "<t>".into(), close: "</t>".into() };
        let closing = toy.tokenize(&format.closing(), true);
        let stops: Vec<String> = stops.iter().map(|stop| stop.to_string()).collect();
        let sampling = Sampling { temp: 0.0, ..Sampling::default() };
        let writing = Writing {
            sampler: Sampler::for_logits(&sampling, 1, toy.vocabulary.len),
            stops: Stops::new(&stops),
            thoughts: Some(Thoughts {
                reasoning: Reasoning::after(&format, "", Begun::default()),
                markers: Vec::new(),
                budget: budget.map(|most| (most, closing)),
            }),
            predict: 100,
            cancel: &AtomicBool::new(false),
        };
        let (mut thinking, mut text) = (String::new(), String::new());
        let written = generate(&mut toy, &mut cache, writing, &mut |event| match event {
            Event::Text(piece) => text.push_str(&piece),
            Event::Thinking { text, .. } => thinking.push_str(&text),
            other => panic!("{other:?}"),
        });
        assert_eq!(cache.tokens(), toy.memory());
        (thinking, text, written.unwrap())
    }

    #[test]
    fn thinking_is_told_apart_and_ends_when_it_was_enough() {
        let (thinking, text, written) = think("<t>hm.\n</t>\nYes.", None, &["."]);
        assert_eq!((thinking.as_str(), text.as_str(), written.stop), ("hm.", "Yes", StopReason::Stop));
        assert_eq!(written.thinking, 8, "from the tag's end on");
        let (thinking, text, _) = think("<t>0123456789................abc", Some(4), &[]);
        assert_eq!(
            (thinking.as_str(), text.as_str()),
            ("0123", "...............abc"),
            "seven were written for it"
        );
    }

    #[test]
    fn circles_end() {
        let (_, stop, tokens) = write(&mut Toy::saying(&"ab".repeat(2000)), 5000, &[]);
        assert_eq!((stop, tokens), (StopReason::Repetition, 514));
        let counting: String = (0..400).map(|i| format!("{i} ")).collect();
        assert_eq!(write(&mut Toy::saying(&counting), 5000, &[]).1, StopReason::End);
    }
}
