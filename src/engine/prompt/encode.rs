//! Prompt text → token ids; content never becomes a control token.
//!
//! A render is tokenised as one text, so harmless input gives exactly llama.cpp's ids. A marker that did not
//! come from the template (see markers.rs) is cut: the pieces are tokenised separately, and the model sees
//! the same characters as ordinary text. Finally the ids are checked: a control token that stands for none of
//! the template's markers (a vocabulary may contain one that its merges produce) is broken up into smaller
//! pieces, down to characters.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::Range;

use aho_corasick::AhoCorasick;
use anyhow::{Context as _, Result};

use super::markers::GuardedPrompt;
use crate::engine::model::Model;
use crate::engine::token::{Marker, Token, Vocabulary};

/// Tokenises prompts. Messages that a prompt shares with the previous one are not tokenised again.
pub struct Encoder {
    markers: Vec<Marker>,
    finder: AhoCorasick,
    /// For each token, whether it is a visible control token; and the marker of each of these.
    control: Vec<bool>,
    of_token: HashMap<Token, usize>,
    /// The parts of the last prompt, with their ids.
    known: RefCell<HashMap<String, Vec<Token>>>,
}

/// The minimum length of a part worth caching, in bytes.
const PART: usize = 32;

impl Encoder {
    pub fn new(vocabulary: &Vocabulary) -> Result<Encoder> {
        let markers: Vec<Marker> =
            vocabulary.markers.iter().filter(|marker| !marker.text.is_empty()).cloned().collect();
        let finder = AhoCorasick::new(markers.iter().map(|marker| &marker.text));
        let finder = finder.context("could not index the vocabulary's control tokens")?;
        let mut control = vec![false; vocabulary.len];
        let visible = |m: &Marker| m.control && !m.unknown && !m.text.trim().is_empty();
        let of_token: HashMap<Token, usize> =
            (0..).zip(&markers).filter(|(_, m)| visible(m)).map(|(n, m)| (m.token, n)).collect();
        for token in of_token.keys() {
            if let Some(place) = control.get_mut(*token as usize) {
                *place = true;
            }
        }
        Ok(Encoder { markers, finder, control, of_token, known: RefCell::default() })
    }

    /// Tokenises a prompt. The beginning-of-text token comes first if the vocabulary or the template asks for
    /// it, and never twice.
    pub fn encode(&self, model: &impl Model, prompt: &GuardedPrompt) -> Vec<Token> {
        let (vocabulary, GuardedPrompt { text, cuts, .. }) = (model.vocabulary(), prompt);
        let written = !vocabulary.bos_text.is_empty()
            && text.starts_with(&vocabulary.bos_text)
            && cuts.iter().all(|cut| *cut >= vocabulary.bos_text.len());
        let mut start = if written { vocabulary.bos_text.len() } else { 0 };
        let bos = vocabulary.bos.filter(|_| written || vocabulary.add_bos);
        let mut tokens: Vec<Token> = bos.into_iter().collect();
        let mut before = self.known.take();
        let mut known = HashMap::with_capacity(before.len());
        for end in cuts.iter().copied().chain([text.len()]) {
            let piece = &text[start..end];
            let cut_before = start > 0 && cuts.binary_search(&start).is_ok(); // sorted, and possibly many
            if cut_before && vocabulary.space_prefix {
                let ids = encode_inside(model, piece, true);
                tokens.extend(self.accounted_for(model, prompt, start..end, &ids).iter());
            } else {
                let mut at = start;
                for part in self.parts(piece) {
                    if !known.contains_key(part) {
                        let (text, ids) = before
                            .remove_entry(part)
                            .unwrap_or_else(|| (part.to_owned(), model.tokenize(part, true)));
                        known.insert(text, ids);
                    }
                    let place = at..at + part.len();
                    at = place.end;
                    tokens.extend(self.accounted_for(model, prompt, place, &known[part]).iter());
                }
            }
            start = end;
        }
        self.known.replace(known);
        tokens
    }

    /// Tokenises text that people wrote; it contains no markers.
    pub fn encode_plain(&self, model: &impl Model, text: &str) -> Vec<Token> {
        let ids = model.tokenize(text, false);
        if self.controls(&ids).next().is_none() {
            return ids;
        }
        self.broken_up(model, text, false)
    }

    fn controls(&self, ids: &[Token]) -> impl Iterator<Item = Token> {
        let control = |id: &Token| usize::try_from(*id).is_ok_and(|id| self.control.get(id) == Some(&true));
        ids.iter().copied().filter(control)
    }

    /// The ids of a part of a prompt if each control token among them stands for one of its markers;
    /// otherwise ids for which that holds.
    fn accounted_for<'i>(
        &self,
        model: &impl Model,
        prompt: &GuardedPrompt,
        part: Range<usize>,
        ids: &'i [Token],
    ) -> Cow<'i, [Token]> {
        if self.controls(ids).next().is_none() {
            return ids.into();
        }
        let GuardedPrompt { text, markers, .. } = prompt;
        let first = markers.partition_point(|marker| marker.start < part.start);
        let here: Vec<&Range<usize>> =
            markers[first..].iter().take_while(|marker| marker.end <= part.end).collect();
        let mut left: HashMap<&str, usize> = HashMap::new();
        for marker in &here {
            *left.entry(&text[(*marker).clone()]).or_default() += 1;
        }
        let mut take = |id| {
            let left = left.get_mut(self.markers[self.of_token[&id]].text.as_str()).filter(|left| **left > 0);
            left.map(|left| *left -= 1).is_some()
        };
        if self.controls(ids).all(&mut take) {
            return ids.into();
        }
        let mut ids = Vec::new();
        let mut start = part.start;
        for marker in here {
            if marker.start < start {
                continue; // overlaps the previous one
            }
            ids.extend(self.broken_up(model, &text[start..marker.start], start > 0));
            ids.extend(
                self.markers.iter().find(|known| known.text == text[marker.clone()]).map(|known| known.token),
            );
            start = marker.end;
        }
        ids.extend(self.broken_up(model, &text[start..part.end], start > 0));
        ids.into()
    }

    /// Ids without any control token: text that yields one is split in half. A single character with no other
    /// encoding is dropped.
    fn broken_up(&self, model: &impl Model, text: &str, inside: bool) -> Vec<Token> {
        let mut ids = if inside { tokens_inside(model, text) } else { model.tokenize(text, false) };
        if self.controls(&ids).next().is_none() {
            return ids;
        }
        let middle = (text.len() / 2..text.len()).find(|at| *at > 0 && text.is_char_boundary(*at));
        let Some(middle) = middle else {
            ids.retain(|id| self.controls(&[*id]).next().is_none());
            return ids;
        };
        let mut halves = self.broken_up(model, &text[..middle], inside);
        halves.extend(self.broken_up(model, &text[middle..], true));
        halves
    }

    /// Splits a text into parts that can be tokenised separately. Each but the first starts with a marker:
    /// llama.cpp finds markers first and tokenises the text between two of them on its own. Where several
    /// overlap, its choice depends on their lengths, so no part starts there.
    fn parts<'t>(&self, text: &'t str) -> impl Iterator<Item = &'t str> {
        let mut found: Vec<_> = self.finder.find_overlapping_iter(text).collect();
        found.sort_unstable_by_key(|found| found.start());
        let (mut places, mut reached) = (vec![0], 0);
        for (i, this) in found.iter().enumerate() {
            let apart =
                reached <= this.start() && found.get(i + 1).is_none_or(|next| this.end() <= next.start());
            reached = reached.max(this.end());
            let long_enough = this.start() >= places[places.len() - 1] + PART;
            if apart && long_enough && !self.markers[this.pattern()].takes_space {
                places.push(this.start());
            }
        }
        let ends = places.clone().into_iter().skip(1).chain([text.len()]);
        places.into_iter().zip(ends).map(|(start, end)| &text[start..end])
    }
}

/// Tokenises plain text that goes on where another text ended.
pub(in crate::engine) fn tokens_inside(model: &impl Model, text: &str) -> Vec<Token> {
    if model.vocabulary().space_prefix {
        encode_inside(model, text, false)
    } else {
        model.tokenize(text, false)
    }
}

/// Tokenises a piece from the middle of a text. SentencePiece would prepend a space; a known beginning
/// prevents that, and its ids are dropped again.
fn encode_inside(model: &impl Model, piece: &str, special: bool) -> Vec<Token> {
    for beginning in ["\n", "\u{1}", "§"] {
        let known = model.tokenize(beginning, false);
        let both = model.tokenize(&format!("{beginning}{piece}"), special);
        if both.starts_with(&known) {
            return both[known.len()..].to_vec();
        }
    }
    model.tokenize(piece, special)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::toy::Toy;

    /// A prompt without markers apart from the cuts.
    fn prompt(text: &str, cuts: &[usize]) -> GuardedPrompt {
        GuardedPrompt { text: text.into(), cuts: cuts.to_vec(), markers: Vec::new() }
    }

    #[test]
    fn a_text_is_parted_only_before_markers_that_stand_alone() {
        let marker = |text: &str, takes_space| Marker {
            token: 1,
            text: text.into(),
            control: true,
            unknown: false,
            takes_space,
        };
        let markers =
            vec![marker("<a>", false), marker("<b>", true), marker("><c>", false), marker("\n", false)];
        let encoder = Encoder::new(&Vocabulary { markers, ..Vocabulary::default() }).unwrap();
        let parts = |text: &str| encoder.parts(text).map(String::from).collect::<Vec<_>>();
        let long = "0123456789012345678901234567890123456789";
        assert_eq!(parts(&format!("{long}<a>{long}")), [long.to_owned(), format!("<a>{long}")]);
        assert_eq!(parts(&format!("{long}<b>{long}")).len(), 1, "it strips the space before it");
        assert_eq!(parts(&format!("{long}<a><c>")).len(), 1, "the two overlap");
        assert_eq!(parts("short<a>short<a>").len(), 1);
        assert_eq!(parts("").len(), 1);
    }

    #[test]
    fn what_was_tokenised_before_is_not_tokenised_again() {
        let mut toy = Toy::new(64);
        toy.vocabulary.markers = vec![Marker {
            token: 256,
            text: "<a>".into(),
            control: true,
            unknown: false,
            takes_space: false,
        }];
        let encoder = Encoder::new(&toy.vocabulary).unwrap();
        let message = format!("<a>{}", "x".repeat(PART));
        let text = [message.as_str(), &message, "<a>new"].concat();
        let plain = toy.tokenize(&text, true);
        assert_eq!(encoder.encode(&toy, &prompt(&text, &[])), plain);
        assert_eq!(encoder.known.borrow().len(), 2);
        assert_eq!(encoder.encode(&toy, &prompt(&text, &[])), plain);
    }

    #[test]
    fn the_beginning_of_text_comes_once() {
        let mut toy = Toy::new(64);
        toy.vocabulary.bos = Some(1);
        toy.vocabulary.bos_text = "<s>".into();
        let encoder = Encoder::new(&toy.vocabulary).unwrap();
        let tokens = |toy: &Toy, text: &str, cuts: &[usize]| encoder.encode(toy, &prompt(text, cuts));
        assert_eq!(tokens(&toy, "<s>a", &[]), [1, 97]);
        assert_eq!(tokens(&toy, "a", &[]), [97]);
        toy.vocabulary.add_bos = true;
        assert_eq!(tokens(&toy, "<s>a", &[]), [1, 97]);
        assert_eq!(tokens(&toy, "a", &[]), [1, 97]);
        assert_eq!(tokens(&toy, "<s>a", &[1]), [1, 60, 115, 62, 97], "typed by a person, so not the token");
    }
    #[test]
    fn a_control_token_that_no_marker_stands_for_is_broken_up() {
        let mut toy = Toy::new(64);
        let marker = |text: &str| Marker {
            token: Token::from(text.as_bytes()[0]),
            text: text.into(),
            control: true,
            unknown: false,
            takes_space: false,
        };
        // Bytes are tokens, and these two are control tokens.
        toy.vocabulary.markers = vec![marker("b"), marker("c")];
        let encoder = Encoder::new(&toy.vocabulary).unwrap();
        assert_eq!(encoder.encode_plain(&toy, "abcd"), [97, 100]);
        assert_eq!(encoder.encode(&toy, &prompt("abcd", &[])), [97, 100]);
        let markers =
            |markers: &[Range<usize>]| GuardedPrompt { markers: markers.to_vec(), ..prompt("abcb", &[]) };
        assert_eq!(encoder.encode(&toy, &markers(&[1..2, 2..3, 3..4])), [97, 98, 99, 98]);
        assert_eq!(encoder.encode(&toy, &markers(&[1..2, 2..3])), [97, 98, 99]);
        let last = markers(std::slice::from_ref(&(3..4)));
        assert_eq!(encoder.encode(&toy, &last), [97, 98]);
    }
}
