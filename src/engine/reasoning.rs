//! 10 — a stream of text → thinking and answer.
//!
//! Models that think before they answer say so in the text itself: between two tags, or in channels with headers (harmony, the
//! format of GPT-OSS). Which way a model has is read from its chat template. What is not yet certain waits here, so that no part
//! of a tag is ever shown, wherever the stream is cut. Source: the templates of the models; llama.cpp's `common/chat*.cpp`.

use serde_json::Map;

use super::template::{Template, Turn};
use crate::chat::Role;
use crate::chat::settings::Auto;

/// How a model's thinking is told from its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Format {
    /// Between these; the answer follows.
    Tags { open: String, close: String },
    /// `<|channel|>analysis<|message|>…<|end|><|start|>assistant<|channel|>final<|message|>…`
    Harmony,
}

/// Tags that occur in chat templates.
const TAGS: [(&str, &str); 6] = [
    ("<think>", "</think>"),
    ("[THINK]", "[/THINK]"),
    ("<seed:think>", "</seed:think>"),
    ("<|channel>thought", "<channel|>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<thinking>", "</thinking>"),
];
/// Variables by which templates switch thinking on and off.
const SWITCHES: [&str; 2] = ["enable_thinking", "thinking"];

/// Longest white space before thinking, in bytes: what is longer is the answer.
const MOST_SPACE: usize = 8;

const CHANNEL: &str = "<|channel|>";
const MESSAGE: &str = "<|message|>";
const START: &str = "<|start|>";
const ENDS: [&str; 3] = ["<|end|>", "<|return|>", "<|call|>"];
const ANALYSIS: &str = "<|channel|>analysis<|message|>";
const FINAL: &str = "<|channel|>final<|message|>";
const TO_FINAL: &str = "<|end|><|start|>assistant<|channel|>final<|message|>";

impl Format {
    /// The format that a template's model has, if it thinks at all. Renders only where the source gives reason to.
    pub fn of(template: &Template) -> Option<Format> {
        let source = template.source();
        if source.contains(CHANNEL) && source.contains(MESSAGE) {
            return Some(Format::Harmony);
        }
        let tags = |(open, close): (&str, &str)| Format::Tags { open: open.into(), close: close.into() };
        let known = TAGS.into_iter().find(|(_, close)| source.contains(close));
        known
            .map(tags)
            .or_else(|| source.contains("reasoning_content").then(|| Format::found(template)).flatten())
    }

    /// Looks what a template writes around the thinking of an answer.
    fn found(template: &Template) -> Option<Format> {
        let (thought, word) = ("Gedankenwort", "Antwortwort");
        let render = |thinking: Option<&str>| {
            let answer = Turn { thinking: thinking.map(String::from), ..Turn::new(Role::Assistant, word) };
            template
                .render(&[Turn::new(Role::User, "Benutzerwort"), answer], false)
                .ok()
                .map(|prompt| prompt.text)
        };
        let (with, without) = (render(Some(thought))?, render(None)?);
        let (before, rest) = with.split_once(thought)?;
        let (after, _) = rest.split_once(word)?;
        let same = before.char_indices().zip(without.chars()).take_while(|((_, a), b)| a == b).last();
        let open = before[same.map_or(0, |((at, c), _)| at + c.len_utf8())..].trim();
        let close = after.trim();
        let usable = !open.is_empty() && !close.is_empty();
        usable.then(|| Format::Tags { open: open.into(), close: close.into() })
    }

    /// The texts of tokens that must be seen in the stream even where they are control tokens.
    pub fn markers(&self) -> Vec<&str> {
        match self {
            Format::Tags { open, close } => vec![open, close],
            Format::Harmony => [CHANNEL, MESSAGE, START, "<|constrain|>"].into_iter().chain(ENDS).collect(),
        }
    }

    /// What ends thinking, written in the model's place when it has thought enough.
    pub fn closing(&self) -> String {
        match self {
            Format::Tags { close, .. } => format!("\n{close}\n\n"),
            Format::Harmony => TO_FINAL.into(),
        }
    }

    fn opening(&self) -> String {
        match self {
            Format::Tags { open, .. } => format!("{open}\n"),
            Format::Harmony => ANALYSIS.into(),
        }
    }

    /// Whether a prompt with this end has opened (`Some(true)`) or closed (`Some(false)`) the thinking.
    fn opened(&self, prompt: &str) -> Option<bool> {
        let Format::Tags { open, close } = self else { return None };
        let end = prompt.trim_end();
        match () {
            () if end.ends_with(open.as_str()) => Some(true),
            () if end.ends_with(close.as_str()) => Some(false),
            () => None,
        }
    }

    /// What follows a prompt so that the model goes on after `begun`, or thinks or not as it is told. The parts of `begun` are
    /// text that was guarded before.
    pub fn lead(&self, prompt: &str, begun: Begun, think: Think) -> String {
        let opened = self.opened(prompt);
        let open = if opened == Some(true) { String::new() } else { self.opening() };
        match (begun.thinking, begun.text, self) {
            ("", "", Format::Harmony) => String::new(),
            ("", "", _) => match (think, opened) {
                (Think::Not, Some(true)) => self.closing(),
                (Think::Not, None) => open + &self.closing(),
                (Think::Do, None) => open,
                _ => String::new(),
            },
            ("", text, Format::Harmony) => format!("{FINAL}{text}"),
            ("", text, _) if opened == Some(true) => self.closing() + text,
            ("", text, _) => text.into(),
            (thinking, "", _) => open + thinking,
            (thinking, text, _) => open + thinking + &self.closing() + text,
        }
    }
}

/// What has been written of an answer.
#[derive(Debug, Clone, Copy, Default)]
pub struct Begun<'a> {
    pub thinking: &'a str,
    pub text: &'a str,
}

/// What must be done besides the template's own switch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Think {
    AsItLikes,
    Do,
    Not,
}

/// The variables that make a template have the model think or not, and what is left to do without them; or why that cannot
/// be done.
pub fn wish(
    think: Auto,
    format: Option<&Format>,
    template: &Template,
) -> (Map<String, serde_json::Value>, Think, Option<&'static str>) {
    let on = match think {
        Auto::Auto => return (Map::new(), Think::AsItLikes, None),
        Auto::On => true,
        Auto::Off => false,
    };
    let alone = [Turn::new(Role::User, "Benutzerwort")];
    let set = |name: &str, on: bool| Map::from_iter([(name.to_string(), on.into())]);
    let render =
        |name, on| template.render_with(&alone, true, &set(name, on), None).map(|prompt| prompt.text).ok();
    let switch = SWITCHES
        .into_iter()
        .filter(|name| template.source().contains(name))
        .find(|name| render(name, true) != render(name, false));
    match (switch, format) {
        (Some(name), _) => (set(name, on), Think::AsItLikes, None),
        (None, Some(Format::Harmony)) if on => (Map::new(), Think::AsItLikes, None),
        (None, Some(Format::Harmony)) => {
            let least = Map::from_iter([("reasoning_effort".to_string(), "low".into())]);
            (
                least,
                Think::AsItLikes,
                Some("this model always thinks: --think off has it think as little as it can"),
            )
        }
        (None, Some(_)) => (Map::new(), if on { Think::Do } else { Think::Not }, None),
        (None, None) if on => (
            Map::new(),
            Think::AsItLikes,
            Some("this model's template knows no thinking: --think on changes nothing"),
        ),
        (None, None) => (Map::new(), Think::AsItLikes, None),
    }
}

/// What one push brought.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Piece {
    pub thinking: String,
    pub answer: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing but white space has come.
    Undecided,
    Thinking,
    /// White space before the answer is left out.
    Before,
    Answer,
    /// Harmony: the header of a message, up to `<|message|>`.
    Header,
    /// Harmony: between two messages.
    Between,
}

/// Tells the thinking of one answer from the rest.
#[derive(Debug, Clone)]
pub struct Reasoning {
    format: Format,
    state: State,
    /// Not certain yet.
    held: String,
    /// Nothing visible was thought yet.
    fresh: bool,
}

impl Reasoning {
    /// For an answer that goes on after `prompt`, which ends with what [`Format::lead`] gave for `begun`.
    pub fn after(format: &Format, prompt: &str, begun: Begun) -> Reasoning {
        let state = match (begun.thinking, begun.text, format) {
            ("", "", format) => match format.opened(prompt) {
                Some(true) => State::Thinking,
                Some(false) => State::Before,
                None => State::Undecided,
            },
            (_, "", _) => State::Thinking,
            _ => State::Answer,
        };
        Reasoning { format: format.clone(), state, held: String::new(), fresh: begun.thinking.is_empty() }
    }

    pub fn thinks(&self) -> bool {
        self.state == State::Thinking
    }

    /// What ends the thinking.
    pub fn closing(&self) -> String {
        self.format.closing()
    }

    /// Takes the next piece of the stream and gives what is certain now.
    pub fn push(&mut self, text: &str) -> Piece {
        self.held.push_str(text);
        let mut piece = Piece::default();
        while self.step(&mut piece) {}
        piece
    }

    /// The stream is over: all that waited.
    pub fn finish(mut self) -> Piece {
        let rest = std::mem::take(&mut self.held);
        match self.state {
            State::Thinking => Piece { thinking: rest.trim_end().into(), ..Piece::default() },
            State::Answer | State::Undecided => Piece { answer: rest, ..Piece::default() },
            State::Before | State::Header | State::Between => Piece::default(),
        }
    }

    /// Moves on in what is held. `false`: more must come first.
    fn step(&mut self, piece: &mut Piece) -> bool {
        match (self.state, self.format.clone()) {
            (State::Undecided, Format::Tags { open, .. }) => self.decide(&open),
            (State::Before, _) => self.skip_white_space(),
            (State::Thinking, Format::Tags { close, .. }) => self.think(&[&close], State::Before, piece),
            (State::Answer, Format::Tags { .. }) => {
                piece.answer.push_str(&std::mem::take(&mut self.held));
                false
            }
            (State::Thinking, Format::Harmony) => {
                let ends = [&ENDS[..], &[START]].concat();
                self.think(&ends, State::Between, piece)
            }
            (State::Answer, Format::Harmony) => {
                let ends = [&ENDS[..], &[START]].concat();
                let (text, ended) = self.until(&ends);
                piece.answer.push_str(&text);
                self.state = if ended { State::Between } else { State::Answer };
                ended
            }
            (State::Undecided, Format::Harmony) => self.first_header(),
            (State::Header, _) => self.header(),
            (State::Between, _) => match self.held.find(START) {
                Some(at) => {
                    self.held.drain(..at + START.len());
                    self.state = State::Header;
                    true
                }
                None => false,
            },
        }
    }

    fn decide(&mut self, open: &str) -> bool {
        let visible = self.held.trim_start();
        if let Some(rest) = visible.strip_prefix(open) {
            self.held = rest.to_string();
            self.state = State::Thinking;
            return true;
        }
        if open.starts_with(visible) && self.held.len() - visible.len() <= MOST_SPACE {
            return false;
        }
        self.state = State::Answer;
        true
    }

    fn skip_white_space(&mut self) -> bool {
        self.held = self.held.trim_start().to_string();
        let begins = !self.held.is_empty();
        if begins {
            self.state = State::Answer;
        }
        begins
    }

    /// White space before the end of thinking waits: it is no part of it.
    fn think(&mut self, ends: &[&str], then: State, piece: &mut Piece) -> bool {
        let (text, ended) = self.until(ends);
        let text = if self.fresh { text.trim_start() } else { &text };
        let (visible, space) = text.split_at(text.trim_end().len());
        self.fresh &= visible.is_empty();
        piece.thinking.push_str(visible);
        match ended {
            true => self.state = then,
            false => self.held.insert_str(0, space),
        }
        ended
    }

    /// Takes out what stands before the first of `ends`, and that end; without one all that cannot be the beginning of one.
    fn until(&mut self, ends: &[&str]) -> (String, bool) {
        let found = ends.iter().filter_map(|end| self.held.find(end).map(|at| (at, end.len()))).min();
        if let Some((at, length)) = found {
            let starts = self.held[at..].starts_with(START);
            let text = self.held[..at].to_string();
            self.held.drain(..if starts { at } else { at + length });
            return (text, true);
        }
        let waiting = ends.iter().map(|end| overlap(&self.held, end)).max().unwrap_or(0);
        let kept = self.held.split_off(self.held.len() - waiting);
        (std::mem::replace(&mut self.held, kept), false)
    }

    /// The header that the prompt has begun.
    fn first_header(&mut self) -> bool {
        let visible = self.held.trim_start();
        let waits = [CHANNEL, "to=", MESSAGE].iter().any(|text| text.starts_with(visible));
        let begins = [CHANNEL, "to=", MESSAGE].iter().any(|text| visible.starts_with(text));
        if begins || !waits {
            self.state = if begins { State::Header } else { State::Answer }; // none: the model was not trained for it
        }
        begins || !waits
    }

    /// `<|channel|>NAME to=RECIPIENT<|constrain|>json<|message|>`: the name says what follows.
    fn header(&mut self) -> bool {
        let Some((header, body)) = self.held.split_once(MESSAGE) else {
            return false;
        };
        let channel = header.split_once(CHANNEL).map_or("", |(_, name)| name).trim_start();
        let thinks = channel.starts_with("analysis") || header.contains("to=");
        self.held = body.to_string();
        self.state = if thinks { State::Thinking } else { State::Answer };
        true
    }
}

/// How many bytes of `text`'s end are the beginning of `mark`, but not all of it.
pub(super) fn overlap(text: &str, mark: &str) -> usize {
    let longest = mark.len().saturating_sub(1).min(text.len());
    (1..=longest).rev().find(|n| mark.is_char_boundary(*n) && text.ends_with(&mark[..*n])).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn think_tags() -> Format {
        Format::Tags { open: "<think>".into(), close: "</think>".into() }
    }

    /// The stream cut at every place, and at every pair of places.
    fn every_cut(format: &Format, prompt: &str, stream: &str, thinking: &str, answer: &str) {
        let places: Vec<usize> = (0..=stream.len()).filter(|at| stream.is_char_boundary(*at)).collect();
        for a in &places {
            for b in places.iter().filter(|b| *b >= a) {
                let mut reasoning = Reasoning::after(format, prompt, Begun::default());
                let mut all = Piece::default();
                let mut add = |piece: Piece| {
                    all.thinking += &piece.thinking;
                    all.answer += &piece.answer;
                };
                [&stream[..*a], &stream[*a..*b], &stream[*b..]]
                    .iter()
                    .for_each(|part| add(reasoning.push(part)));
                add(reasoning.finish());
                let expected = Piece { thinking: thinking.into(), answer: answer.into() };
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
        every_cut(&Format::Harmony, "<|start|>assistant", whole, "hm", "Yes.");
        let preamble = "<|channel|>commentary<|message|>Wait.<|end|><|start|>assistant<|channel|>final<|message|> Yes.<|return|>";
        every_cut(&Format::Harmony, "<|start|>assistant", preamble, "", "Wait. Yes.");
        let call = "<|channel|>commentary to=functions.x <|constrain|>json<|message|>{}<|call|>";
        every_cut(&Format::Harmony, "<|start|>assistant", call, "{}", "");
        every_cut(&Format::Harmony, "<|start|>assistant", "Just text", "", "Just text");
    }

    #[test]
    fn white_space_between_thoughts_stays() {
        let mut reasoning = Reasoning::after(&think_tags(), "<think>", Begun::default());
        let pieces: Vec<String> =
            ["a", " ", "\n", "b", "\n</think>"].map(|text| reasoning.push(text).thinking).into();
        assert_eq!(pieces, ["a", "", "", " \nb", ""]);
    }

    #[test]
    fn an_answer_is_gone_on_with_where_it_was() {
        let tags = think_tags();
        let lead =
            |prompt: &str, thinking, text| tags.lead(prompt, Begun { thinking, text }, Think::AsItLikes);
        assert_eq!(lead("<a>", "", ""), "");
        assert_eq!(lead("<a>", "hm", ""), "<think>\nhm");
        assert_eq!(lead("<a><think>\n", "hm", "Yes"), "hm\n</think>\n\nYes");
        assert_eq!(lead("<a><think>\n", "", "Yes"), "\n</think>\n\nYes");
        assert_eq!(lead("<a>", "", "Yes"), "Yes");
        let none = Begun::default();
        assert_eq!(tags.lead("<a><think>\n", none, Think::Not), "\n</think>\n\n");
        assert_eq!(tags.lead("<a>", none, Think::Not), "<think>\n\n</think>\n\n");
        assert_eq!(tags.lead("<a>", none, Think::Do), "<think>\n");
        let both = Begun { thinking: "hm", text: "Yes" };
        assert_eq!(Format::Harmony.lead("x", both, Think::AsItLikes), format!("{ANALYSIS}hm{TO_FINAL}Yes"));
    }

    #[test]
    fn the_format_is_read_from_the_template() {
        let format = |source: &str| Format::of(&Template::new(source, "", "", &[]).unwrap());
        assert_eq!(format("{{ messages[-1].content }}"), None);
        assert_eq!(format("{{ messages[-1].content.split('</think>')[-1] }}"), Some(think_tags()));
        let own = "{% for m in messages %}<{{ m.role }}>{% if m.reasoning_content %}\n{hm}{{ m.reasoning_content }}{/hm}\n{% endif %}{{ m.content }}{% endfor %}";
        assert_eq!(format(own), Some(Format::Tags { open: "{hm}".into(), close: "{/hm}".into() }));
        assert_eq!(format("<|start|><|channel|>final<|message|>"), Some(Format::Harmony));
    }

    #[test]
    fn thinking_is_switched_as_the_template_has_it() {
        let wish = |source: &str, think| {
            let template = Template::new(source, "", "", &[]).unwrap();
            let (variables, todo, note) = super::wish(think, Format::of(&template).as_ref(), &template);
            (
                variables.into_iter().map(|(name, value)| format!("{name}={value}")).collect::<String>(),
                todo,
                note.is_some(),
            )
        };
        let hybrid = "{{ messages[-1].content }}<a>{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>{% endif %}";
        assert_eq!(wish(hybrid, Auto::Off), ("enable_thinking=false".into(), Think::AsItLikes, false));
        assert_eq!(wish(hybrid, Auto::Auto), (String::new(), Think::AsItLikes, false));
        assert_eq!(wish("<think>{# </think> #}", Auto::Off), (String::new(), Think::Not, false));
        assert_eq!(wish("{{ 1 }}", Auto::On), (String::new(), Think::AsItLikes, true));
        assert_eq!(
            wish("<|channel|><|message|>", Auto::Off),
            ("reasoning_effort=\"low\"".into(), Think::AsItLikes, true)
        );
    }
}
