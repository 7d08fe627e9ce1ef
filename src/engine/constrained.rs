//! 6 — the tokens of an answer with a constraint: free while the model thinks, allowed ones in the answer.
//! Next: draft.rs.

use anyhow::Result;

use super::constraint::{Allowed, Matcher};
use super::model::{Model, Sampler};
use super::prompt::encode::tokens_inside;
use super::prompt::format::ThinkingFormat;
use super::prompt::one_token;
use super::stream::stage::{Stage, leads};
use super::token::Token;

/// The most bytes of demanded text to spell: enough for the longest draft.
const LONGEST_DEMAND: usize = 512;

/// Chooses the tokens of one answer.
pub struct Constrained {
    matcher: Matcher,
    /// The tag with which the model may begin to think, if it is one token.
    opening: Option<Token>,
    /// Line breaks, one of which may come between the thinking and the answer.
    breaks: Vec<Token>,
    /// What leads from each stage of a harmony stream to the next.
    leads: Vec<(Stage, Vec<Token>)>,
}

impl Constrained {
    /// `format`: how the model marks its thinking, if it thinks.
    pub fn new(model: &impl Model, matcher: Matcher, format: Option<&ThinkingFormat>) -> Constrained {
        let opening = match format {
            Some(ThinkingFormat::Tags { open, .. }) => one_token(model, open),
            _ => None,
        };
        let breaks = ["\n\n", "\n"].iter().filter_map(|text| one_token(model, text)).collect();
        let leads = format.map_or(&[][..], leads);
        let leads = leads.iter().map(|(stage, text)| (*stage, model.tokenize(text, true))).collect();
        Constrained { matcher, opening, breaks, leads }
    }

    /// Tokens that must come next, whatever the model would choose.
    pub fn lead(&self, stage: Stage) -> &[Token] {
        self.leads.iter().find(|(of, _)| *of == stage).map_or(&[], |(_, tokens)| tokens)
    }

    /// Chooses the next token, and says whether it is part of the answer. `None`: the answer is whole.
    pub fn choose(
        &mut self,
        sampler: &mut dyn Sampler,
        stage: Stage,
        logits: &[f32],
    ) -> Result<Option<(Token, bool)>> {
        let others: &[Token] = match stage {
            Stage::Thinking => return Ok(Some((sampler.pick(logits)?, false))),
            Stage::Undecided => self.opening.as_slice(),
            Stage::Before => &self.breaks,
            _ => &[],
        };
        let token = match self.matcher.allowed(others)? {
            Allowed::End => return Ok(None),
            Allowed::Tokens(allowed) => sampler.pick_among(logits, allowed)?,
        };
        if stage == Stage::Before {
            self.breaks.clear(); // only one
        }
        Ok(Some((token, self.matcher.take(token)?)))
    }

    /// The beginning of the only text that may follow, as the tokenizer spells it.
    pub fn demanded(&mut self, model: &impl Model, stage: Stage) -> Vec<Token> {
        if stage != Stage::Answer {
            return Vec::new();
        }
        let bytes = self.matcher.demanded();
        let bytes = &bytes[..bytes.len().min(LONGEST_DEMAND)];
        let text = bytes.utf8_chunks().next().map_or("", |chunk| chunk.valid());
        let mut tokens = tokens_inside(model, text);
        tokens.pop(); // what follows may belong to the last one
        tokens
    }

    /// How many drafted tokens may follow, from the first one on.
    pub fn fitting(&mut self, stage: Stage, drafts: &[Token]) -> usize {
        if stage == Stage::Answer { self.matcher.fitting(drafts) } else { drafts.len() }
    }
}
