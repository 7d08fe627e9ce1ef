//! A stream of text → thinking and answer.
//!
//! Models that think before they answer mark it in the text itself: with two tags, or with channels and
//! headers (harmony, the format of GPT-OSS); `prompt/format.rs` detects which. Text that is still ambiguous
//! is held back, so no part of a tag is ever shown, wherever the stream is split. A tag that is one token of
//! the vocabulary counts only as that token; the same characters as ordinary text are a quotation. The stream
//! need not be well-formed: all visible text becomes thinking or answer.

use std::collections::VecDeque;
use std::ops::Range;

use super::stage::{Phase, Stage};
use crate::engine::prompt::format::{AnswerPrefix, CHANNEL, ENDS, MESSAGE, START, ThinkingFormat};

/// The longest white space before thinking, in bytes: anything longer belongs to the answer.
const MOST_SPACE: usize = 8;
/// The longest header of a message, in bytes: anything longer is the message itself.
const MOST_HEADER: usize = 128;

/// The thinking and the answer text that became certain.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ReplyDelta {
    pub thinking: String,
    pub answer: String,
}

impl ReplyDelta {
    /// Appends a later delta.
    pub fn and(&mut self, later: ReplyDelta) {
        self.thinking += &later.thinking;
        self.answer += &later.answer;
    }
}

/// The next certain part of the stream.
enum Segment {
    Text(String),
    Tag { tag: String, one_token: bool },
}

/// Separates the thinking of one answer from the rest.
#[derive(Debug, Clone)]
pub struct Reasoning {
    format: ThinkingFormat,
    /// The tags that are one token each.
    one_token: Vec<String>,
    phase: Phase,
    /// Text that is still ambiguous.
    held: String,
    /// The positions in `held` of tokens that are tags.
    tags: VecDeque<Range<usize>>,
    /// The header so far, or white space that may precede thinking.
    header: String,
    /// Whether the header is still at its role: it has named no channel.
    role: bool,
    /// Whether this header names a recipient.
    addressed: bool,
    /// The text of headers that broke off.
    broken: String,
    /// Thinking was opened by a tag spelled in ordinary tokens, and only such a tag ends it.
    in_letters: bool,
    thought: Shown,
    answered: Shown,
    /// White space after the thinking so far: part of it if more follows.
    space: String,
}

/// What has been shown of the thinking, or of the answer.
#[derive(Debug, Clone, Copy, Default)]
struct Shown {
    /// Anything visible at all.
    any: bool,
    /// Nothing visible since its last section began.
    fresh: bool,
}

impl Shown {
    fn after(text: &str) -> Shown {
        Shown { any: !text.trim().is_empty(), fresh: text.is_empty() }
    }
}

impl Reasoning {
    /// For an answer that continues `answer_prefix`. `opened`: the result of [`ThinkingFormat::opened`] for
    /// the prompt.
    pub fn after(format: &ThinkingFormat, opened: Option<bool>, answer_prefix: AnswerPrefix) -> Reasoning {
        let phase = match (answer_prefix.thinking, answer_prefix.text) {
            ("", "") => match opened {
                Some(true) => Phase::Thinking,
                Some(false) => Phase::Before,
                None => Phase::Undecided,
            },
            (_, "") => Phase::Thinking,
            _ => Phase::Answer,
        };
        Reasoning {
            format: format.clone(),
            one_token: Vec::new(),
            phase,
            held: String::new(),
            tags: VecDeque::new(),
            header: String::new(),
            role: true,
            addressed: false,
            broken: String::new(),
            in_letters: false,
            thought: Shown::after(answer_prefix.thinking),
            answered: Shown { fresh: false, ..Shown::after(answer_prefix.text) },
            space: String::new(),
        }
    }

    /// Sets the tags that are one token each, to be passed to [`Reasoning::push_tag`].
    pub fn with_tokens(self, one_token: Vec<String>) -> Reasoning {
        Reasoning { one_token, ..self }
    }

    pub fn thinks(&self) -> bool {
        self.phase == Phase::Thinking
    }

    /// What the next token belongs to.
    pub fn stage(&self) -> Stage {
        self.phase.stage(self.format == ThinkingFormat::Harmony, self.role)
    }

    /// What follows is the answer, even if it looks like something else.
    pub fn begin_answer(&mut self) {
        if matches!(self.phase, Phase::Undecided | Phase::Before) {
            self.begin(Phase::Answer);
        }
    }

    /// Takes the next piece of the stream and returns the text that is certain now.
    pub fn push(&mut self, text: &str) -> ReplyDelta {
        self.held.push_str(text);
        let mut piece = ReplyDelta::default();
        while let Some(next) = self.next() {
            self.take(next, &mut piece);
        }
        piece
    }

    /// The same for a token that is a tag or part of one.
    pub fn push_tag(&mut self, text: &str) -> ReplyDelta {
        self.tags.push_back(self.held.len()..self.held.len() + text.len());
        self.push(text)
    }

    /// Ends the stream and returns all text still held back.
    pub fn finish(mut self) -> ReplyDelta {
        let mut piece = ReplyDelta::default();
        let rest = self.text(self.held.len());
        self.take(Segment::Text(rest), &mut piece);
        match (self.phase, &self.format) {
            (Phase::Undecided, _) => piece.answer += &std::mem::take(&mut self.header),
            (Phase::Header, _) => self.headerless(&mut piece),
            _ => {}
        }
        if !self.thought.any && !self.answered.any && piece.answer.is_empty() {
            piece.answer = self.broken;
        }
        piece
    }

    /// The tags that have a meaning in this phase.
    fn wanted(&self) -> Vec<&str> {
        match (&self.format, self.phase) {
            (ThinkingFormat::Harmony, _) => [CHANNEL, MESSAGE, START].into_iter().chain(ENDS).collect(),
            (ThinkingFormat::Tags { close, .. }, Phase::Thinking) if !self.thought.fresh => vec![close],
            (ThinkingFormat::Tags { open, close }, _) => vec![open, close],
        }
    }

    /// Whether a tag spelled in ordinary tokens counts now: if no token is that tag, or if nothing has been
    /// decided yet. Never in an answer.
    fn counts_in_letters(&self, tag: &str) -> bool {
        let one_token = self.one_token.iter().any(|one| one == tag);
        match (&self.format, self.phase) {
            (ThinkingFormat::Harmony, _) => !one_token,
            (_, Phase::Undecided) => true,
            (_, Phase::Thinking) => !one_token || self.in_letters,
            (ThinkingFormat::Tags { close, .. }, Phase::Before) => !one_token && tag == close,
            _ => false,
        }
    }

    /// Takes the next certain part from the held text.
    fn next(&mut self) -> Option<Segment> {
        let wanted = self.wanted();
        let in_letters: Vec<&&str> = wanted.iter().filter(|tag| self.counts_in_letters(tag)).collect();
        let tokens = self.tags.iter().filter(|at| wanted.contains(&&self.held[(*at).clone()]));
        let token = tokens.map(|at| (at.start, at.len(), true)).next();
        let letters =
            in_letters.iter().filter_map(|tag| Some((self.held.find(**tag)?, tag.len(), false))).min();
        let found = token.into_iter().chain(letters).min_by_key(|(at, _, one_token)| (*at, !one_token));
        let certain = match found {
            Some((0, length, one_token)) => return Some(Segment::Tag { tag: self.cut(length), one_token }),
            Some((at, ..)) => at,
            None => {
                self.held.len() - in_letters.iter().map(|tag| overlap(&self.held, tag)).max().unwrap_or(0)
            }
        };
        (certain > 0).then(|| Segment::Text(self.text(certain)))
    }

    /// Takes `length` bytes of text from the held text. Drops a marker that has no meaning here.
    fn text(&mut self, length: usize) -> String {
        let tags: Vec<Range<usize>> = self.tags.iter().filter(|at| at.end <= length).cloned().collect();
        let mut text = self.cut(length);
        for at in tags.into_iter().rev() {
            if marks(&text[at.clone()]) {
                text.replace_range(at, "");
            }
        }
        text
    }

    /// Takes `length` bytes from the held text.
    fn cut(&mut self, length: usize) -> String {
        self.tags.retain(|at| at.start >= length);
        for at in &mut self.tags {
            *at = at.start - length..at.end - length;
        }
        let rest = self.held.split_off(length);
        std::mem::replace(&mut self.held, rest)
    }

    fn take(&mut self, next: Segment, piece: &mut ReplyDelta) {
        match (next, self.phase) {
            (Segment::Text(text), Phase::Thinking) => self.think(&text, piece),
            (Segment::Text(text), Phase::Answer) => self.answer(&text, piece),
            (Segment::Text(text), Phase::Before | Phase::Between) => {
                let visible = text.trim_start();
                if !visible.is_empty() {
                    self.phase = Phase::Answer;
                    self.answer(visible, piece);
                }
            }
            (Segment::Text(text), Phase::Undecided | Phase::Header) => {
                self.header.push_str(&text);
                if self.is_no_header() {
                    self.headerless(piece);
                }
            }
            (Segment::Tag { tag, .. }, _) if self.format == ThinkingFormat::Harmony => {
                self.message(&tag, piece)
            }
            (Segment::Tag { tag, one_token }, _) => self.tag(&tag, one_token),
        }
    }

    /// Handles an opening or closing tag. A repeated tag without text in between has no effect.
    fn tag(&mut self, tag: &str, one_token: bool) {
        let closes = matches!(&self.format, ThinkingFormat::Tags { close, .. } if close == tag);
        match (closes, self.phase) {
            (true, Phase::Answer) => {}
            (true, _) => self.begin(Phase::Before),
            (false, Phase::Thinking) => {}
            (false, _) => {
                self.in_letters = !one_token;
                self.begin(Phase::Thinking);
            }
        }
        self.header.clear();
    }

    /// `<|start|>ROLE<|channel|>NAME to=RECIPIENT<|constrain|>json<|message|>`: the last name decides what
    /// follows.
    fn message(&mut self, tag: &str, piece: &mut ReplyDelta) {
        let header = std::mem::take(&mut self.header);
        let addressed = self.addressed || header.contains("to=");
        match (tag, self.phase) {
            (MESSAGE, Phase::Header | Phase::Undecided | Phase::Between) => {
                let thinks = addressed || channel(&header).0 == Some("analysis");
                self.begin(if thinks { Phase::Thinking } else { Phase::Answer });
            }
            (MESSAGE, _) => {}
            _ => {
                if self.phase == Phase::Header && !self.role && !addressed {
                    self.broken_off(channel(&header).1, piece);
                }
                self.addressed = tag == CHANNEL && addressed;
                self.role = tag != CHANNEL;
                self.phase = if ENDS.contains(&tag) { Phase::Between } else { Phase::Header };
            }
        }
    }

    /// Handles a header without a message: a lone name is shown only if nothing else is; longer text becomes
    /// thinking.
    fn broken_off(&mut self, header: &str, piece: &mut ReplyDelta) {
        if header.split_whitespace().nth(1).is_none() {
            self.broken.push_str(header);
            return;
        }
        self.begin(Phase::Thinking);
        self.think(header, piece);
    }

    /// Whether the text so far cannot precede thinking or a message.
    fn is_no_header(&self) -> bool {
        let visible = self.header.trim_start();
        match (&self.format, self.phase) {
            (_, Phase::Header) => self.header.len() > MOST_HEADER,
            (ThinkingFormat::Harmony, _) => {
                let addressed = "to=".starts_with(visible) || visible.starts_with("to=");
                !addressed || self.header.len() > MOST_HEADER
            }
            _ => !visible.is_empty() || self.header.len() > MOST_SPACE,
        }
    }

    /// Treats a header that does not end as the message itself, without the name of its channel.
    fn headerless(&mut self, piece: &mut ReplyDelta) {
        let header = std::mem::take(&mut self.header);
        let (phase, text) = match self.phase {
            Phase::Undecided => (Phase::Answer, header.as_str()),
            _ if self.role => {
                (Phase::Answer, header.strip_prefix("assistant").unwrap_or(&header).trim_start())
            }
            _ => match channel(&header) {
                (Some("analysis"), text) => (Phase::Thinking, text),
                (_, text) => (Phase::Answer, text.trim_start()),
            },
        };
        self.begin(phase);
        match phase {
            Phase::Thinking => self.think(text, piece),
            _ => self.answer(text, piece),
        }
    }

    /// Starts another section of thinking or answer.
    fn begin(&mut self, phase: Phase) {
        self.phase = phase;
        self.space.clear();
        let part = if phase == Phase::Thinking { &mut self.thought } else { &mut self.answered };
        part.fresh = true;
    }

    /// White space at the end of thinking is held back: it is not part of it.
    fn think(&mut self, text: &str, piece: &mut ReplyDelta) {
        let text = if self.thought.fresh { text.trim_start() } else { text };
        let (visible, space) = text.split_at(text.trim_end().len());
        if !visible.is_empty() {
            if self.thought.fresh && self.thought.any {
                piece.thinking.push_str("\n\n");
            }
            piece.thinking.push_str(&std::mem::take(&mut self.space));
            piece.thinking.push_str(visible);
            self.thought = Shown { any: true, fresh: false };
        }
        self.space.push_str(space);
    }

    /// A later section of the answer starts a new paragraph.
    fn answer(&mut self, text: &str, piece: &mut ReplyDelta) {
        let parted = self.answered.fresh && self.answered.any;
        let text = if parted { text.trim_start() } else { text };
        if parted && !text.is_empty() {
            piece.answer.push_str("\n\n");
        }
        piece.answer.push_str(text);
        self.answered.fresh &= text.is_empty();
        self.answered.any |= !text.trim().is_empty();
    }
}

/// Whether a token looks like a marker rather than words.
fn marks(token: &str) -> bool {
    token.starts_with(['<', '['])
}

/// The channel that a header starts with, if it is a known one, and the text after it.
fn channel(header: &str) -> (Option<&'static str>, &str) {
    let visible = header.trim_start();
    let known = ["analysis", "commentary", "final"].into_iter().find(|name| visible.starts_with(name));
    known.map_or((None, header), |name| (Some(name), &visible[name.len()..]))
}

/// The length in bytes of the longest end of `text` that is a proper prefix of `mark`.
pub(super) fn overlap(text: &str, mark: &str) -> usize {
    let longest = mark.len().saturating_sub(1).min(text.len());
    (1..=longest).rev().find(|n| mark.is_char_boundary(*n) && text.ends_with(&mark[..*n])).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn think_tags() -> ThinkingFormat {
        ThinkingFormat::tags("<think>", "</think>")
    }

    /// Splits the stream at every place, and at every pair of places.
    fn every_cut(format: &ThinkingFormat, prompt: &str, stream: &str, thinking: &str, answer: &str) {
        let places: Vec<usize> = (0..=stream.len()).filter(|at| stream.is_char_boundary(*at)).collect();
        for a in &places {
            for b in places.iter().filter(|b| *b >= a) {
                let mut reasoning = Reasoning::after(format, format.opened(prompt), AnswerPrefix::default());
                let mut all = ReplyDelta::default();
                for part in [&stream[..*a], &stream[*a..*b], &stream[*b..]] {
                    all.and(reasoning.push(part));
                }
                all.and(reasoning.finish());
                let expected = ReplyDelta { thinking: thinking.into(), answer: answer.into() };
                assert_eq!(all, expected, "{stream:?} cut at {a} and {b}");
            }
        }
    }

    #[test]
    fn tags_opened_by_the_model_or_by_the_template() {
        let tags = think_tags();
        every_cut(&tags, "<a>", "<think>\nhm, <b>\n\nso\n</think>\n\nYes.\n", "hm, <b>\n\nso", "Yes.\n");
        every_cut(&tags, "<a><think>\n", "hm\n</think>\n\nYes. </think>", "hm", "Yes. </think>");
        every_cut(&tags, "<a>", "  <thin air", "", "  <thin air");
        every_cut(&tags, "<a><think>\n\n</think>\n\n", "Yes <think>", "", "Yes <think>");
        every_cut(&tags, "<a>", "<think>never en</thi", "never en</thi", "");
        every_cut(&tags, "<a>", "<think></think>ß", "", "ß");
    }

    #[test]
    fn channels() {
        let whole =
            "<|channel|>analysis<|message|>hm\n<|end|><|start|>assistant<|channel|>final<|message|>Yes.";
        every_cut(&ThinkingFormat::Harmony, "<|start|>assistant", whole, "hm", "Yes.");
        let preamble = "<|channel|>commentary<|message|>Wait.<|end|><|start|>assistant<|channel|>final<|message|> Yes.<|return|>";
        every_cut(&ThinkingFormat::Harmony, "<|start|>assistant", preamble, "", "Wait.\n\nYes.");
        let call = "<|channel|>commentary to=functions.x <|constrain|>json<|message|>{}<|call|>";
        every_cut(&ThinkingFormat::Harmony, "<|start|>assistant", call, "{}", "");
        every_cut(&ThinkingFormat::Harmony, "<|start|>assistant", "Just text", "", "Just text");
    }

    #[test]
    fn malformed_channels() {
        let harmony = |stream: &str, thinking: &str, answer: &str| {
            every_cut(&ThinkingFormat::Harmony, "<|start|>assistant", stream, thinking, answer);
        };
        let secret = "<|end|><|start|>assistant<|channel|>analysis<|message|>secret<|end|>\
                      <|start|>assistant<|channel|>final<|message|>the answer";
        harmony(&format!("<|channel|>??{secret}"), "secret", "the answer");
        harmony(&format!("<|channel|>?? and more{secret}"), "?? and more\n\nsecret", "the answer");
        harmony("<|channel|>??", "", "??");
        harmony("<|channel|>??<|end|>", "", "??");
        harmony("<|channel|>analysis<|channel|>final<|message|>Yes.", "", "Yes.");
        harmony("<|channel|>final<|channel|>analysis<|message|>hm", "hm", "");
        harmony("<|channel|>analysis<|message|>hm<|channel|>final<|message|>Yes.", "hm", "Yes.");
        harmony("<|channel|>analysis<|message|>hm<|end|>Yes.", "hm", "Yes.");
        harmony("<|channel|>analysis<|message|>hm<|end|><|start|>assistant Yes.", "hm", "Yes.");
        harmony("<|channel|>final<|message|><|message|>Yes.", "", "Yes.");
        harmony(
            "<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>analysis<|message|>b",
            "a\n\nb",
            "",
        );
        harmony("<|start|>assistant<|channel|>final<|message|>Yes.", "", "Yes.");
        let long = "?".repeat(2 * MOST_HEADER);
        let mut reasoning = Reasoning::after(&ThinkingFormat::Harmony, None, AnswerPrefix::default());
        assert_eq!(reasoning.push(&format!("<|channel|>{long}")).answer, long, "shown as it arrives");
        assert_eq!(reasoning.push(" more").answer, " more");
    }

    #[test]
    fn malformed_tags() {
        let tags = think_tags();
        every_cut(&tags, "<a>", "</think>\n\nYes.", "", "Yes.");
        every_cut(&tags, "<a><think>\n", "<think>\nhm</think></think>Yes.", "hm", "Yes.");
        every_cut(&tags, "<a><think>\n\n</think>\n", "</think>\nYes.", "", "Yes.");
        every_cut(&tags, "<a>", "<think>hm</think>\n</thin", "hm", "</thin");
    }

    /// Feeds a stream in which the text in brackets is one token.
    fn of_tokens(prompt: &str, stream: &str) -> ReplyDelta {
        let tokens = ["<think>", "</think>"].map(String::from).to_vec();
        let mut reasoning =
            Reasoning::after(&think_tags(), think_tags().opened(prompt), AnswerPrefix::default())
                .with_tokens(tokens);
        let mut all = ReplyDelta::default();
        for part in stream.split_inclusive(']') {
            let (letters, token) = part.split_once('[').unwrap_or((part, ""));
            letters.chars().for_each(|c| all.and(reasoning.push(&c.to_string())));
            if let Some(tag) = token.strip_suffix(']') {
                all.and(reasoning.push_tag(tag));
            }
        }
        all.and(reasoning.finish());
        all
    }

    #[test]
    fn a_tag_that_is_one_token_counts_as_that_token_only() {
        let piece =
            |thinking: &str, answer: &str| ReplyDelta { thinking: thinking.into(), answer: answer.into() };
        assert_eq!(
            of_tokens("", "[<think>]a </think> b[</think>]\nYes </think>."),
            piece("a </think> b", "Yes </think>.")
        );
        assert_eq!(of_tokens("<think>", "a </think> b"), piece("a </think> b", ""));
        assert_eq!(of_tokens("", "<think>a</think>Yes"), piece("a", "Yes"));
        assert_eq!(
            of_tokens("", "[<think>]a[</think>]One.[<think>]b[</think>]Two."),
            piece("a\n\nb", "One.\n\nTwo.")
        );
        assert_eq!(of_tokens("", "Quoted: <think>."), piece("", "Quoted: <think>."));
        assert_eq!(of_tokens("<think>", "[<think>]a[</think>][</think>]Yes"), piece("a", "Yes"));
    }

    #[test]
    fn white_space_between_thoughts_stays() {
        let mut reasoning = Reasoning::after(&think_tags(), Some(true), AnswerPrefix::default());
        let pieces: Vec<String> =
            ["a", " ", "\n", "b", "\n</think>"].map(|text| reasoning.push(text).thinking).into();
        assert_eq!(pieces, ["a", "", "", " \nb", ""]);
    }
}
