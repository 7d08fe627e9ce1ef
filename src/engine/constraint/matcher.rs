//! An answer so far → the tokens that may come next.
//!
//! A token counts as the bytes that the stream makes of it (stream/), so that what matches is what people get.
//! Special tokens, which have none, are never allowed; the end of the answer is a token of its own here, after
//! all others, because a model may have several end tokens or none.

use std::sync::Arc;

use llguidance::toktrie::{TokRxInfo, TokTrie, TokenId, TokenizerEnv};
use llguidance::{Matcher as Parser, ParserFactory};

use super::patience::in_time;
use super::words::of_llguidance;
use super::{Error, Follower, factory, made, options};
use crate::chat::Constraint;
use crate::engine::model::Model;
use crate::engine::token::Token;

/// The longest token that llguidance's trie can hold, in bytes, with a margin.
const LONGEST: usize = 1000;

/// The bytes of a model's tokens. Made once a model: it takes some time.
pub struct Tokens {
    factory: Arc<ParserFactory>,
    /// The model's own end tokens, ascending.
    ends: Vec<Token>,
}

/// llguidance's view of a vocabulary.
struct Trie(TokTrie);

impl TokenizerEnv for Trie {
    fn tok_trie(&self) -> &TokTrie {
        &self.0
    }

    fn tokenize_bytes(&self, bytes: &[u8]) -> Vec<TokenId> {
        self.0.greedy_tokenize(bytes)
    }

    /// The model chooses how to write what is demanded.
    fn tokenize_is_canonical(&self) -> bool {
        false
    }
}

impl Tokens {
    pub fn of(model: &impl Model) -> Tokens {
        let vocabulary = model.vocabulary();
        let all = 0..vocabulary.len as Token;
        let ends: Vec<Token> = all.clone().filter(|token| model.ends(*token)).collect();
        let mut never = ends.clone();
        never.extend(vocabulary.markers.iter().filter(|marker| marker.control).map(|marker| marker.token));
        never.sort_unstable();
        let bytes = |token: Token| match never.binary_search(&token) {
            Ok(_) => Vec::new(),
            Err(_) => Some(model.piece(token, false)).filter(|bytes| is_text(bytes)).unwrap_or_default(),
        };
        let mut words: Vec<Vec<u8>> = all.map(bytes).collect();
        words.push(Vec::new()); // the end of the answer
        let info = TokRxInfo::new(words.len() as u32, words.len() as u32 - 1);
        let factory = Arc::new(factory(&(Arc::new(Trie(TokTrie::from(&info, &words))) as _)));
        Tokens { factory, ends }
    }

    /// A matcher for an answer that begins with `begun`. `ends`: tokens that end it besides the model's own;
    /// `never`: tokens that are not text in it.
    pub fn matcher(
        &self,
        constraint: &Constraint,
        begun: &str,
        ends: &[Token],
        never: Vec<Token>,
    ) -> Result<Matcher, Error> {
        let mut ends: Vec<Token> = self.ends.iter().chain(ends).copied().collect();
        ends.sort_unstable();
        ends.dedup();
        let factory = self.factory.clone();
        let (parser, _) = in_time(constraint, move |constraint| made(constraint, &factory, options()))?;
        let trie = self.factory.tok_env().tok_trie();
        let end = trie.eos_token() as Token;
        let (kind, allowed, added) = (constraint.kind(), Vec::new(), Vec::new());
        let json = matches!(constraint, Constraint::JsonSchema(_)).then(|| self.factory.clone());
        let mut matcher = Matcher { parser, kind, json, ends, end, never, allowed, added };
        let tokens = trie.greedy_tokenize(begun.as_bytes());
        let taken = matcher.parser.try_consume_tokens(&tokens);
        let whole = taken.is_ok_and(|taken| taken == tokens.len());
        if !whole || trie.decode_raw(&tokens) != begun.as_bytes() {
            return Err(Follower::of(constraint)?.refused(kind, begun));
        }
        Ok(matcher)
    }
}

/// Whether bytes may be part of an answer: 0xFF never is, and starts llguidance's names of special tokens.
fn is_text(bytes: &[u8]) -> bool {
    bytes.len() <= LONGEST && !bytes.contains(&0xff)
}

/// Follows one answer.
pub struct Matcher {
    parser: Parser,
    kind: &'static str,
    /// For JSON: the vocabulary. White space after its end is none of it.
    json: Option<Arc<ParserFactory>>,
    /// Every token that ends the answer, ascending.
    ends: Vec<Token>,
    /// What stands for all of them in llguidance's masks.
    end: Token,
    never: Vec<Token>,
    allowed: Vec<Token>,
    /// The tokens among them that are no part of the answer.
    added: Vec<Token>,
}

/// What may come next.
#[derive(Debug, PartialEq, Eq)]
pub enum Allowed<'a> {
    /// Nothing: the answer is whole.
    End,
    /// One of these, ascending.
    Tokens(&'a [Token]),
}

impl Matcher {
    /// What may come next. `others`: tokens that are no part of the answer, but may come before it.
    pub fn allowed(&mut self, others: &[Token]) -> Result<Allowed<'_>, Error> {
        self.added.clear();
        if self.parser.is_stopped() && !self.parser.is_error() {
            return Ok(Allowed::End);
        }
        let mask = self.parser.compute_mask();
        let mask = mask.map_err(|error| self.failed(&error.to_string()))?;
        let allowed = &mut self.allowed;
        allowed.clear();
        mask.iter_set_entries(|token| allowed.push(token as Token));
        let may_end = allowed.pop_if(|last| *last == self.end).is_some();
        for token in &self.never {
            if let Ok(at) = allowed.binary_search(token) {
                allowed.remove(at);
            }
        }
        let trie = self.json.as_ref().map(|json| json.tok_env().tok_trie());
        let is_space =
            |token: &Token| trie.is_some_and(|trie| trie.token(*token as TokenId).trim_ascii().is_empty());
        match may_end && allowed.iter().all(is_space) {
            true => return Ok(Allowed::End),
            false if allowed.is_empty() => return Err(Error::Unwritable { kind: self.kind }),
            false => {}
        }
        for token in self.ends.iter().filter(|_| may_end) {
            if let Err(at) = allowed.binary_search(token) {
                allowed.insert(at, *token);
            }
        }
        for token in others {
            if let Err(at) = allowed.binary_search(token) {
                allowed.insert(at, *token);
                self.added.push(*token);
            }
        }
        Ok(Allowed::Tokens(allowed))
    }

    /// Continues the answer with one of the allowed tokens. `false`: it is no part of the answer, or ends it.
    pub fn take(&mut self, token: Token) -> Result<bool, Error> {
        let is_part = !self.ends.contains(&token) && !self.added.contains(&token);
        if is_part {
            let taken = self.parser.consume_token(token as TokenId);
            taken.map_err(|error| self.failed(&error.to_string()))?;
        }
        Ok(is_part)
    }

    /// The bytes that must come next; none if there is a choice.
    pub fn demanded(&mut self) -> Vec<u8> {
        if self.parser.is_stopped() { Vec::new() } else { self.parser.compute_ff_bytes() }
    }

    /// How many of these tokens may follow, from the first one on.
    pub fn fitting(&mut self, tokens: &[Token]) -> usize {
        let tokens: Vec<TokenId> = tokens.iter().map(|token| *token as TokenId).collect();
        self.parser.validate_tokens(&tokens).unwrap_or(0)
    }

    fn failed(&self, why: &str) -> Error {
        match self.parser.stop_reason() {
            llguidance::api::StopReason::NoExtensionBias => Error::Unwritable { kind: self.kind },
            _ => Error::Complex { kind: self.kind, why: of_llguidance(why) },
        }
    }
}
