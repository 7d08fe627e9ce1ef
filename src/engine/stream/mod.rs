//! 10 — token bytes → thinking and answer, as the user sees them.
//!
//! In the order of the flow: characters (`utf8.rs`), thinking or answer (`reasoning.rs`), and stop strings in
//! the answer (`stops.rs`).

pub mod utf8;
pub mod stage;
pub mod reasoning;
pub mod stops;

use self::reasoning::{Reasoning, ReplyDelta};
use self::stage::Stage;
use self::stops::Stops;
use self::utf8::Detokenizer;
use super::model::Model;
use super::prompt::format::{AnswerPrefix, ThinkingFormat};
use super::prompt::one_token;
use super::token::Token;

/// How to tell thinking from the answer, and its token budget.
pub struct Thoughts {
    pub reasoning: Reasoning,
    /// Tokens that are tags or parts of tags, with their texts.
    pub tags: Vec<(Token, String)>,
    /// The maximum number of thinking tokens, and the tokens that are forced to end it.
    pub budget: Option<(u32, Vec<Token>)>,
}

impl Thoughts {
    /// For an answer that continues `answer_prefix`. `opened`: whether the prompt ends inside the thinking or
    /// right after it. `budget`: the maximum number of thinking tokens.
    pub fn new(
        model: &impl Model,
        (format, opened): &(ThinkingFormat, Option<bool>),
        answer_prefix: AnswerPrefix,
        budget: Option<u32>,
    ) -> Thoughts {
        let texts = format.markers();
        let whole = texts.iter().filter_map(|text| Some((one_token(model, text)?, text.to_string())));
        let mut tags: Vec<(Token, String)> = whole.collect();
        let one_token = tags.iter().map(|(_, text)| text.clone()).collect();
        let special = model.vocabulary().markers.iter().filter(|marker| !marker.text.trim().is_empty());
        let parts = special.filter(|marker| texts.iter().any(|text| text.contains(&marker.text)));
        tags.extend(parts.map(|marker| (marker.token, marker.text.clone())));
        Thoughts {
            reasoning: Reasoning::after(format, *opened, answer_prefix).with_tokens(one_token),
            tags,
            budget: budget.map(|most| (most, model.tokenize(&format.closing(), true))),
        }
    }
}

/// Turns the bytes of tokens into thinking and answer.
pub struct Stream {
    characters: Detokenizer,
    thoughts: Option<Thoughts>,
    stops: Stops,
}

impl Stream {
    /// `thoughts`: for a model that thinks before it answers.
    pub fn new(thoughts: Option<Thoughts>, stops: &[String]) -> Stream {
        Stream { characters: Detokenizer::default(), thoughts, stops: Stops::new(stops) }
    }

    pub fn thinks(&self) -> bool {
        self.thoughts.as_ref().is_some_and(|thoughts| thoughts.reasoning.thinks())
    }

    /// What the next token belongs to.
    pub fn stage(&self) -> Stage {
        self.thoughts.as_ref().map_or(Stage::Answer, |thoughts| thoughts.reasoning.stage())
    }

    /// What follows is the answer, even if it looks like something else.
    pub fn begin_answer(&mut self) {
        if let Some(thoughts) = &mut self.thoughts {
            thoughts.reasoning.begin_answer();
        }
    }

    /// Tokens that are tags or parts of tags.
    pub fn tags(&self) -> Vec<Token> {
        self.thoughts.iter().flat_map(|thoughts| thoughts.tags.iter().map(|(token, _)| *token)).collect()
    }

    /// Whether a token may end the thinking.
    pub fn parted_by(&self, token: Token) -> bool {
        self.thinks() && self.tag(token).is_some()
    }

    /// The text of a token that is a tag or part of one.
    pub fn tag(&self, token: Token) -> Option<String> {
        let tags = &self.thoughts.as_ref()?.tags;
        tags.iter().find(|(tag, _)| *tag == token).map(|(_, text)| text.clone())
    }

    /// The text that is certain now, and whether the answer reached a stop string.
    pub fn push(&mut self, bytes: &[u8]) -> (ReplyDelta, bool) {
        let text = self.characters.push(bytes);
        let piece = self.parted(text);
        self.stopped(piece)
    }

    /// The same for a tag. An incomplete character before it stays incomplete.
    pub fn push_tag(&mut self, tag: &str) -> (ReplyDelta, bool) {
        let before = std::mem::take(&mut self.characters).finish();
        let mut piece = self.parted(before);
        if let Some(thoughts) = &mut self.thoughts {
            piece.and(thoughts.reasoning.push_tag(tag));
        }
        self.stopped(piece)
    }

    fn parted(&mut self, text: String) -> ReplyDelta {
        match &mut self.thoughts {
            Some(thoughts) => thoughts.reasoning.push(&text),
            None => ReplyDelta { answer: text, ..ReplyDelta::default() },
        }
    }

    fn stopped(&mut self, mut piece: ReplyDelta) -> (ReplyDelta, bool) {
        let before = self.stops.push(&piece.answer);
        piece.answer = before.text;
        (piece, before.stopped)
    }

    /// The tokens that end the thinking, if it has used up its budget.
    pub fn enough(&self, thinking: usize) -> Vec<Token> {
        let budget =
            self.thoughts.as_ref().filter(|_| self.thinks()).and_then(|thoughts| thoughts.budget.as_ref());
        budget
            .filter(|(most, _)| thinking >= *most as usize)
            .map_or(Vec::new(), |(_, closing)| closing.clone())
    }

    /// The text still held back at the end. If the answer was cut off, an incomplete character is dropped.
    pub fn finish(mut self, by_the_model: bool) -> ReplyDelta {
        let characters = std::mem::take(&mut self.characters);
        let text = if by_the_model { characters.finish() } else { String::new() };
        let mut piece = self.parted(text);
        if let Some(thoughts) = self.thoughts.take() {
            piece.and(thoughts.reasoning.finish());
        }
        let (mut piece, stopped) = self.stopped(piece);
        if !stopped {
            piece.answer += &self.stops.finish();
        }
        piece
    }
}
