//! The blocks that hold text: paragraph, code, lines as written. Each turns text into finished rows and a tail.

use super::blocks::Fence;
use super::code::Highlighter;
use super::inline;
use super::layout::{Lines, Row};
use super::style::{Look, Span, Style};

/// Longest beginning of a line, in bytes, that is held back until it is clear what the line is; a longer one
/// is text. Longer lines of code are not coloured.
pub(super) const LONGEST: usize = 2000;
/// Longest unfinished line of code, in bytes, that is coloured: it is done again for every token.
const COLOURED_AT_ONCE: usize = 200;

/// The text of a paragraph or heading.
#[derive(Debug)]
pub(super) struct Text {
    /// What further text may change.
    pub(super) open: String,
    pub(super) style: Style,
    pub(super) heading: bool,
    pub(super) lines: Lines,
}

#[derive(Debug)]
pub(super) struct Code {
    pub(super) fence: Fence,
    /// The line so far, unless it is a long one.
    pub(super) line: String,
    pub(super) long: bool,
    pub(super) highlighter: Option<Highlighter>,
    pub(super) lines: Lines,
}

#[derive(Debug)]
pub(super) struct Verbatim {
    pub(super) end: &'static str,
    /// The last bytes of the line, in which `end` may stand.
    pub(super) last: String,
    pub(super) ended: bool,
    pub(super) lines: Lines,
}

impl Text {
    pub(super) fn push(&mut self, text: &str, look: Look) {
        let mut text = text;
        while !text.is_empty() {
            let room = floor(text, inline::WINDOW - self.open.len());
            self.open += &text[..room];
            text = &text[room..];
            let resolved = match inline::resolved(&self.open) {
                0 if room == 0 => inline::given_up(&self.open),
                resolved => resolved,
            };
            if resolved > 0 {
                let rest = self.open.split_off(resolved);
                let spans = inline::spans(&std::mem::replace(&mut self.open, rest), self.style, look);
                spans.iter().for_each(|span| self.lines.push(span));
            }
        }
    }

    pub(super) fn tail(&self, look: Look) -> Vec<Row> {
        self.rows(&if look.styled { inline::completed(&self.open) } else { self.open.as_str().into() }, look)
    }

    /// The rows at its end.
    pub(super) fn finished(&self, look: Look) -> Vec<Row> {
        self.rows(&self.open, look)
    }

    fn rows(&self, open: &str, look: Look) -> Vec<Row> {
        let mut lines = self.lines.clone();
        inline::spans(open, self.style, look).iter().for_each(|span| lines.push(span));
        rest(lines)
    }
}

impl Code {
    pub(super) fn push(&mut self, text: &str) {
        if !self.long && self.line.len() + text.len() <= LONGEST {
            self.line += text;
            return;
        }
        self.long = true;
        let line = std::mem::take(&mut self.line) + text;
        self.lines.push(&Span::new(line, Style::PLAIN));
    }

    pub(super) fn end_line(&mut self, look: Look) {
        let line = std::mem::take(&mut self.line);
        match &mut self.highlighter {
            Some(highlighter) if !self.long => {
                highlighter.line(&line, look).iter().for_each(|span| self.lines.push(span));
            }
            _ => self.lines.push(&Span::new(line, Style::PLAIN)),
        }
        self.lines.end_line();
        self.long = false;
    }

    pub(super) fn tail(&self, look: Look) -> Vec<Row> {
        let mut lines = self.lines.clone();
        match &self.highlighter {
            Some(highlighter) if self.line.len() <= COLOURED_AT_ONCE => {
                highlighter.clone().line(&self.line, look).iter().for_each(|span| lines.push(span))
            }
            _ => lines.push(&Span::new(self.line.as_str(), Style::PLAIN)),
        }
        rest(lines)
    }
}

impl Verbatim {
    pub(super) fn push(&mut self, text: &str) {
        self.lines.push(&Span::new(text, Style::PLAIN));
        self.last += text;
        self.ended |= !self.end.is_empty() && self.last.contains(self.end);
        let kept = floor(&self.last, self.last.len().saturating_sub(8));
        self.last.drain(..kept);
    }

    pub(super) fn end_line(&mut self) {
        self.lines.end_line();
        self.last.clear();
    }
}

/// All rows, also the last one.
pub(super) fn rest(mut lines: Lines) -> Vec<Row> {
    lines.finish();
    lines.take()
}

/// The largest place up to `at` where a text can be divided.
pub(super) fn floor(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}
