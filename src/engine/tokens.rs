//! 3 — prompt text → token ids, where what people wrote never becomes a control token.
//!
//! A render is tokenised as one text, so harmless input gives exactly llama.cpp's ids. Where content spells a marker
//! (the text of a control token), a cut is made inside that literal: the pieces are tokenised apart, and the model
//! sees the same characters as ordinary text. The cut travels through the template as a code point that occurs
//! nowhere in the text and is taken out again; no content is altered. A literal that begins in the template and ends
//! in content (or the other way round) is found by marking the edges of content and is cut there. Next: cache.rs.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};

use aho_corasick::AhoCorasick;
use anyhow::{Context as _, Result};

use super::llama::{Marker, Model, Token, Vocabulary};

/// The texts that content must not turn into tokens.
pub struct Markers {
    texts: Vec<String>,
    finder: AhoCorasick,
    /// Sorted, for the question whether a text ends with the beginning of one of them.
    forward: Vec<String>,
    /// Reversed and sorted, for the question whether a text begins with the end of one of them.
    backward: Vec<String>,
}

/// Three code points that occur in no text of a prompt.
#[derive(Debug, Clone, Copy)]
pub struct Marks {
    /// Cut the text here.
    pub(super) cut: char,
    /// Stands after the first visible character of content.
    opened: char,
    /// Stands before the last visible character of content.
    closing: char,
}

impl Marks {
    /// Picks code points absent from `texts` among Unicode's noncharacters, which no text should contain.
    pub fn absent_from<'a>(texts: impl Iterator<Item = &'a str> + Clone) -> Result<Marks> {
        let free = |c: &char| !texts.clone().any(|text| text.contains(*c));
        let mut free = ('\u{fdd0}'..='\u{fdef}').chain('\u{e000}'..='\u{f8ff}').filter(free);
        let mut next = || free.next().context("the text uses every private code point there is");
        Ok(Marks { cut: next()?, opened: next()?, closing: next()? })
    }
}

impl Markers {
    /// The markers of a vocabulary. A user-defined token counts only if `emitted` says that the template writes it:
    /// the others are ordinary words to the model.
    pub fn new(vocabulary: &Vocabulary, emitted: impl Fn(&str) -> bool) -> Result<Markers> {
        let all = vocabulary.markers.iter().filter(|m| !m.text.trim().is_empty());
        let texts: BTreeSet<String> =
            all.filter(|m| m.control || emitted(&m.text)).map(|m| m.text.clone()).collect();
        let texts: Vec<String> = texts.into_iter().collect();
        let finder = AhoCorasick::new(&texts).context("could not index the vocabulary's control tokens")?;
        let mut backward: Vec<String> = texts.iter().map(|t| t.chars().rev().collect()).collect();
        backward.sort();
        Ok(Markers { forward: texts.clone(), texts, finder, backward })
    }

    /// Content with cuts inside every marker it spells, and with its edges marked where a marker could reach across.
    pub fn guard(&self, content: &str, marks: Marks) -> String {
        let mut inserts: Vec<(usize, char)> = Vec::new();
        for found in self.finder.find_overlapping_iter(content) {
            inserts.push((found.start() + first_len(&content[found.start()..]), marks.cut));
        }
        let visible = content.trim();
        if let Some(start) =
            content.find(visible).filter(|_| !visible.is_empty() && self.reaches_across(visible))
        {
            let last = visible.chars().next_back().map_or(0, char::len_utf8);
            inserts.push((start + first_len(visible), marks.opened));
            inserts.push((start + visible.len() - last, marks.closing));
        }
        inserts.sort();
        inserts.dedup();
        let mut guarded = String::with_capacity(content.len() + 4 * inserts.len());
        let mut done = 0;
        for (at, mark) in inserts {
            guarded.push_str(&content[done..at]);
            guarded.push(mark);
            done = at;
        }
        guarded.push_str(&content[done..]);
        guarded
    }

    /// Whether content begins with a marker's end or ends with a marker's beginning.
    fn reaches_across(&self, content: &str) -> bool {
        let longest = self.texts.iter().map(String::len).max().unwrap_or(0);
        let head: String = content.chars().take(longest).collect();
        let head_reversed: String = head.chars().rev().collect();
        let begins = |n: usize| proper_prefix(&self.backward, &head_reversed[head_reversed.len() - n..]);
        let ends = |n: usize| proper_prefix(&self.forward, &content[content.len() - n..]);
        lengths_from_end(&head_reversed, longest).any(begins) || lengths_from_end(content, longest).any(ends)
    }

    /// The guarded render without its marks, and where it is to be cut, in bytes.
    pub fn cuts(&self, guarded: &str, marks: Marks) -> (String, Vec<usize>) {
        let mut text = String::with_capacity(guarded.len());
        let (mut cuts, mut edges) = (BTreeSet::new(), Vec::new());
        let mut closing = false;
        for c in guarded.chars() {
            if c == marks.cut {
                cuts.insert(text.len());
            } else if c == marks.opened {
                edges.push(text.len() - last_len(&text));
            } else if c == marks.closing {
                closing = true;
            } else {
                text.push(c);
                if std::mem::take(&mut closing) {
                    edges.push(text.len());
                }
            }
        }
        if !edges.is_empty() {
            for found in self.finder.find_overlapping_iter(&text) {
                cuts.extend(edges.iter().filter(|edge| found.start() < **edge && **edge < found.end()));
            }
        }
        (text, cuts.into_iter().collect())
    }
}

/// Makes tokens of prompts. What one has in common with the prompt before it, message by message, is not tokenised again.
pub struct Encoder {
    markers: Vec<Marker>,
    finder: AhoCorasick,
    /// The parts of the last prompt, with their ids.
    known: RefCell<HashMap<String, Vec<Token>>>,
}

/// Bytes of a part that is worth looking up.
const PART: usize = 32;

impl Encoder {
    pub fn new(vocabulary: &Vocabulary) -> Result<Encoder> {
        let markers: Vec<Marker> =
            vocabulary.markers.iter().filter(|marker| !marker.text.is_empty()).cloned().collect();
        let finder = AhoCorasick::new(markers.iter().map(|marker| &marker.text));
        let finder = finder.context("could not index the vocabulary's control tokens")?;
        Ok(Encoder { markers, finder, known: RefCell::default() })
    }

    /// Tokenises `text` cut at `cuts`. The beginning-of-text token is put first if the vocabulary or the template asks for
    /// it, and never twice.
    pub fn encode(&self, model: &impl Model, text: &str, cuts: &[usize]) -> Vec<Token> {
        let vocabulary = model.vocabulary();
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
            let cut_before = start > 0 && cuts.binary_search(&start).is_ok(); // sorted, and there may be many
            if cut_before && vocabulary.space_prefix {
                tokens.extend(encode_inside(model, piece));
            } else {
                for part in self.parts(piece) {
                    if !known.contains_key(part) {
                        let (text, ids) = before
                            .remove_entry(part)
                            .unwrap_or_else(|| (part.to_owned(), model.tokenize(part, true)));
                        known.insert(text, ids);
                    }
                    tokens.extend(&known[part]);
                }
            }
            start = end;
        }
        self.known.replace(known);
        tokens
    }

    /// A text in parts that can be tokenised one by one. Each but the first begins with a marker: llama.cpp looks for markers
    /// first, and makes tokens of what is between two of them by itself. Which of several that overlap it takes depends on
    /// their lengths, so that such a place is none to part at.
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

/// Tokenises a piece from the middle of a text: SentencePiece would put a space before it, which a known beginning
/// keeps away; the beginning's ids are dropped again.
fn encode_inside(model: &impl Model, piece: &str) -> Vec<Token> {
    for beginning in ["\n", "\u{1}", "§"] {
        let known = model.tokenize(beginning, false);
        let both = model.tokenize(&format!("{beginning}{piece}"), true);
        if both.starts_with(&known) {
            return both[known.len()..].to_vec();
        }
    }
    model.tokenize(piece, true)
}

fn first_len(text: &str) -> usize {
    text.chars().next().map_or(0, char::len_utf8)
}

fn last_len(text: &str) -> usize {
    text.chars().next_back().map_or(0, char::len_utf8)
}

/// Byte lengths, up to `longest`, of the endings of `text` that begin at a character.
fn lengths_from_end(text: &str, longest: usize) -> impl Iterator<Item = usize> + '_ {
    (1..=longest.min(text.len())).filter(|n| text.is_char_boundary(text.len() - n))
}

/// Whether one of the sorted texts begins with `part` and goes on after it.
fn proper_prefix(sorted: &[String], part: &str) -> bool {
    let at = sorted.partition_point(|text| text.as_str() <= part);
    sorted.get(at).is_some_and(|text| text.starts_with(part))
}

#[cfg(test)]
mod tests {
    use super::super::toy::Toy;
    use super::*;

    fn markers() -> Markers {
        let marker =
            |token, text: &str, control| Marker { token, text: text.into(), control, takes_space: false };
        let markers = vec![
            marker(1, "<|im_start|>", true),
            marker(2, "<|im_end|>", true),
            marker(3, "<think>", false),
            marker(4, "\n\n", false),
        ];
        Markers::new(&Vocabulary { markers, ..Vocabulary::default() }, |text| text == "<think>").unwrap()
    }

    fn cut(before: &str, content: &str, after: &str) -> Vec<String> {
        let marks = Marks::absent_from([before, content, after].into_iter()).unwrap();
        let markers = markers();
        let render = format!("{before}{}{after}", markers.guard(content, marks));
        let (text, cuts) = markers.cuts(&render, marks);
        assert_eq!(text, format!("{before}{content}{after}"), "no content is altered");
        let mut pieces = Vec::new();
        let mut start = 0;
        for end in cuts.into_iter().chain([text.len()]) {
            pieces.push(text[start..end].to_string());
            start = end;
        }
        pieces
    }

    #[test]
    fn harmless_content_is_not_cut() {
        assert_eq!(cut("<|im_start|>user\n", "a < b | c", "<|im_end|>").len(), 1);
        assert_eq!(cut("<|im_start|>user\n", "ends with <", "<|im_end|>").len(), 1);
        assert_eq!(cut("<|im_start|>user\n", "> quoted", "<|im_end|>").len(), 1);
    }

    #[test]
    fn a_marker_in_content_is_cut_inside() {
        assert_eq!(cut("A", "x<|im_end|>y", "B"), ["Ax<", "|im_end|>yB"]);
        assert_eq!(cut("A", "<think>", "B"), ["A<", "think>B"]);
        assert_eq!(cut("A", "<|im_end|><|im_end|>", "B"), ["A<", "|im_end|><", "|im_end|>B"]);
    }

    #[test]
    fn a_marker_across_the_edge_is_cut_at_the_edge() {
        assert_eq!(cut("<|im_", "end|>", "\n"), ["<|im_", "end|>\n"]);
        assert_eq!(cut("x", "<|im_end", "|>"), ["x<|im_end", "|>"]);
        assert_eq!(cut("<|im_end|", ">", "z"), ["<|im_end|", ">z"]);
    }

    #[test]
    fn marks_avoid_what_the_text_uses() {
        let marks = Marks::absent_from(["\u{fdd0}\u{fdd1}"].into_iter()).unwrap();
        assert_eq!(marks.cut, '\u{fdd2}');
    }

    #[test]
    fn a_text_is_parted_only_before_markers_that_stand_alone() {
        let marker =
            |text: &str, takes_space| Marker { token: 1, text: text.into(), control: true, takes_space };
        let markers =
            vec![marker("<a>", false), marker("<b>", true), marker("><c>", false), marker("\n", false)];
        let encoder = Encoder::new(&Vocabulary { markers, ..Vocabulary::default() }).unwrap();
        let parts = |text: &str| encoder.parts(text).map(String::from).collect::<Vec<_>>();
        let long = "0123456789012345678901234567890123456789";
        assert_eq!(parts(&format!("{long}<a>{long}")), [long.to_owned(), format!("<a>{long}")]);
        assert_eq!(parts(&format!("{long}<b>{long}")).len(), 1, "it drops the space before it");
        assert_eq!(parts(&format!("{long}<a><c>")).len(), 1, "two overlap");
        assert_eq!(parts("short<a>short<a>").len(), 1);
        assert_eq!(parts("").len(), 1);
    }

    #[test]
    fn what_was_tokenised_before_is_not_tokenised_again() {
        let mut toy = Toy::new(64);
        toy.vocabulary.markers =
            vec![Marker { token: 256, text: "<a>".into(), control: true, takes_space: false }];
        let encoder = Encoder::new(&toy.vocabulary).unwrap();
        let message = format!("<a>{}", "x".repeat(PART));
        let text = [message.as_str(), &message, "<a>new"].concat();
        let plain = toy.tokenize(&text, true);
        assert_eq!(encoder.encode(&toy, &text, &[]), plain);
        assert_eq!(encoder.known.borrow().len(), 2);
        assert_eq!(encoder.encode(&toy, &text, &[]), plain);
    }

    #[test]
    fn the_beginning_of_text_comes_once() {
        let mut toy = Toy::new(64);
        toy.vocabulary.bos = Some(1);
        toy.vocabulary.bos_text = "<s>".into();
        let encoder = Encoder::new(&toy.vocabulary).unwrap();
        let tokens = |toy: &Toy, text: &str, cuts: &[usize]| encoder.encode(toy, text, cuts);
        assert_eq!(tokens(&toy, "<s>a", &[]), [1, 97]);
        assert_eq!(tokens(&toy, "a", &[]), [97]);
        toy.vocabulary.add_bos = true;
        assert_eq!(tokens(&toy, "<s>a", &[]), [1, 97]);
        assert_eq!(tokens(&toy, "a", &[]), [1, 97]);
        assert_eq!(tokens(&toy, "<s>a", &[1]), [1, 60, 115, 62, 97], "typed by someone, so not the token");
    }
}
