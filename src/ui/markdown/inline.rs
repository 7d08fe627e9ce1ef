//! The text of a block → spans of one style each: emphasis, code, links. pulldown-cmark finds them.
//!
//! A block's text comes bit by bit, and what came first must not change later. `resolved` finds how much of a
//! text no further text can change: the beginning in which nothing is open that later text could close. An
//! open mark is given up after [`WINDOW`] bytes and stays as written.
//!
//! Math (`$…$`, `$$…$$`, `\(…\)`, `\[…\]`) and HTML stay as written; what stands between their marks is
//! hidden from the parser.

use std::borrow::Cow;
use std::ops::Range;

use pulldown_cmark::{Event, LinkType, Options, Parser, Tag, TagEnd};

use super::style::{Look, Span, Style};
use crate::ui::sanitize;

/// Longest emphasis, code or link, in bytes.
pub(super) const WINDOW: usize = 1000;
/// What the parser sees before and after a text, so that it is the inside of a paragraph.
const AROUND: &str = "x ";

/// The text as the parser may see it.
struct Masked {
    text: String,
    /// Where math stands, in bytes of the original.
    math: Vec<Range<usize>>,
    /// Where backticks enclose something.
    code: Vec<Range<usize>>,
    /// Where math or code begins that does not end.
    open: Option<usize>,
}

impl Masked {
    fn new(text: &str) -> Masked {
        let mut masked = Masked { text: String::new(), math: Vec::new(), code: Vec::new(), open: None };
        let bytes = text.as_bytes();
        let mut at = 0;
        let mut absent: Vec<&str> = Vec::new(); // ends that do not come any more
        while at < bytes.len() {
            let rest = &text[at..];
            let (length, end) = match bytes[at] {
                b'\\' if rest.starts_with("\\(") => (2, find(rest, 2, "\\)", &mut absent)),
                b'\\' if rest.starts_with("\\[") => (2, find(rest, 2, "\\]", &mut absent)),
                b'\\' => {
                    let escaped = rest.chars().nth(1);
                    masked.open = masked.open.or(escaped.is_none().then_some(at));
                    at += 1 + escaped.map_or(0, char::len_utf8);
                    continue;
                }
                b'`' => {
                    let length = rest.len() - rest.trim_start_matches('`').len();
                    match find_run(rest, length, &mut absent) {
                        Some(end) => {
                            masked.code.push(at..at + end);
                            at += end;
                        }
                        None => {
                            masked.open = masked.open.or(Some(at));
                            at += length;
                        }
                    }
                    continue;
                }
                b'$' if rest.starts_with("$$") => (2, find(rest, 2, "$$", &mut absent)),
                b'$' if rest[1..].starts_with([' ', '\n', '\t']) => {
                    at += 1;
                    continue;
                }
                b'$' => (1, find_dollar(rest, &mut absent)),
                _ => {
                    at += rest.chars().next().map_or(1, char::len_utf8);
                    continue;
                }
            };
            match end {
                Some(end) => masked.math.push(at..at + end),
                None => masked.open = masked.open.or(Some(at)),
            }
            at += end.unwrap_or(length);
        }
        let mut shown = text.replace('\n', " ");
        for range in &masked.math {
            shown.replace_range(range.clone(), &"x".repeat(range.len()));
        }
        masked.text = [AROUND, &shown, " x"].concat();
        masked
    }

    /// The events in the text, with their places in the original, and whether an event's text stands there
    /// as it is.
    fn events(&self) -> impl Iterator<Item = (Event<'_>, Range<usize>, bool)> {
        let last = self.text.len() - 2 * AROUND.len();
        let parser = Parser::new_ext(&self.text, Options::ENABLE_STRIKETHROUGH).into_offset_iter();
        parser.map(move |(event, range)| {
            let literal = matches!(&event, Event::Text(text) if text.as_ref() == &self.text[range.clone()]);
            let place = |at: usize| at.saturating_sub(AROUND.len()).min(last);
            (event, place(range.start)..place(range.end), literal)
        })
    }

    /// The text without what stands around it.
    fn inside(&self) -> &str {
        &self.text[AROUND.len()..self.text.len() - AROUND.len()]
    }
}

/// The place after `end` in a text, searched from `from`.
fn find<'a>(text: &str, from: usize, end: &'a str, absent: &mut Vec<&'a str>) -> Option<usize> {
    if absent.contains(&end) {
        return None;
    }
    let found = text[from..].find(end).map(|at| from + at + end.len());
    if found.is_none() {
        absent.push(end);
    }
    found
}

/// The place after the next run of as many backticks as the text begins with.
fn find_run(text: &str, length: usize, absent: &mut Vec<&str>) -> Option<usize> {
    const RUNS: &str = "````````````````````````````````";
    let key = &RUNS[..length.min(RUNS.len())];
    if absent.contains(&key) {
        return None;
    }
    let mut at = length;
    while let Some(next) = text[at..].find('`') {
        let run = &text[at + next..];
        let found = run.len() - run.trim_start_matches('`').len();
        at += next + found;
        if found == length {
            return Some(at);
        }
    }
    if length < RUNS.len() {
        absent.push(key);
    }
    None
}

/// The place after a dollar sign that ends math: none with white space before it, or a digit after it.
fn find_dollar(text: &str, absent: &mut Vec<&str>) -> Option<usize> {
    if absent.contains(&"$") {
        return None;
    }
    let bytes = text.as_bytes();
    let ends = |at: &usize| {
        bytes[*at] == b'$'
            && !matches!(bytes[at - 1], b' ' | b'\n' | b'\t' | b'\\' | b'$')
            && !bytes.get(at + 1).is_some_and(u8::is_ascii_digit)
    };
    let found = (2..bytes.len()).find(ends).map(|at| at + 1);
    if found.is_none() {
        absent.push("$");
    }
    found
}

/// The number of bytes at the beginning of a text that no further text can change.
pub(super) fn resolved(text: &str) -> usize {
    divided(text).0
}

/// The same, and the place of the first mark that is open.
fn divided(text: &str) -> (usize, usize) {
    let masked = Masked::new(text);
    let seen = masked.inside();
    let mut open = masked.open.unwrap_or(text.len());
    let mut closed = [&masked.math[..], &masked.code].concat();
    let mut outer: Vec<Range<usize>> = Vec::new();
    let mut brackets: Vec<usize> = Vec::new();
    let mut end = 0;
    for (event, range, literal) in masked.events() {
        match event {
            Event::Start(Tag::Paragraph) | Event::End(TagEnd::Paragraph) => continue,
            Event::Start(_) => {
                outer.push(range);
                continue;
            }
            Event::End(_) => closed.extend(outer.pop().filter(|_| outer.is_empty())),
            Event::Text(_) if literal => {
                let escaped = range.start > end && seen.as_bytes()[range.start - 1] == b'\\';
                for (at, c) in seen[range.clone()].char_indices().skip(usize::from(escaped)) {
                    let at = range.start + at;
                    let place = outer.first().map_or(at, |element| element.start);
                    match c {
                        '[' => brackets.push(place),
                        ']' => {
                            let opened = brackets.pop();
                            if matches!(seen.as_bytes().get(at + 1), None | Some(b'(')) {
                                open = open.min(opened.unwrap_or(place));
                            }
                        }
                        c if may_open(seen, at, c) => open = open.min(place),
                        _ => {}
                    }
                }
            }
            _ => closed.extend(outer.is_empty().then(|| range.clone())), // code, HTML, an entity
        }
        end = range.end;
    }
    open = brackets.first().map_or(open, |first| open.min(*first));
    (last_break(text, open, &closed), open)
}

/// Whether a mark that stands for itself so far could begin something.
fn may_open(text: &str, at: usize, c: char) -> bool {
    let rest = text[at..].trim_start_matches(c);
    let after = rest.chars().next();
    match c {
        '_' if text[..at].trim_end_matches('_').ends_with(char::is_alphanumeric) => after.is_none(),
        '*' | '_' | '~' => after.is_none_or(|after| !after.is_whitespace()),
        '<' => after.is_none_or(|after| after.is_ascii_alphabetic() || "/!?".contains(after)),
        '`' => true, // where code and HTML overlap
        '&' => !text[at + 1..].contains(|c: char| !c.is_ascii_alphanumeric() && c != '#'),
        _ => false,
    }
}

/// The last place up to `limit`, outside of all these ranges, where a text can be divided: after white space
/// or between two letters.
fn last_break(text: &str, limit: usize, ranges: &[Range<usize>]) -> usize {
    let mut inside = vec![false; text.len() + 1];
    ranges.iter().for_each(|range| inside[(range.start + 1).min(range.end)..range.end].fill(true));
    let may_break = |at: &usize| {
        let before = text[..*at].chars().next_back().unwrap_or(' ');
        let letters = || before.is_alphanumeric() && text[*at..].starts_with(char::is_alphanumeric);
        !inside[*at] && (before.is_whitespace() || letters())
    };
    (1..=limit).rev().filter(|at| text.is_char_boundary(*at)).find(may_break).unwrap_or(0)
}

/// The place at which a text of [`WINDOW`] bytes is divided if nothing in it is resolved: its first open mark
/// stands for itself.
pub(super) fn given_up(text: &str) -> usize {
    let (_, open) = divided(text);
    let mark = text[open..].chars().next().unwrap_or(' ');
    let after = text.len() - text[open..].trim_start_matches(mark).len();
    let far = Some(after + resolved(&text[after..])).filter(|at| *at >= WINDOW / 4); // so that it takes linear time
    far.or(Some(last_break(text, text.len(), &[]))).filter(|at| *at > 0).unwrap_or(text.len())
}

/// An unfinished text as it will probably go on: its last open mark is closed, or not shown yet.
pub(super) fn completed(text: &str) -> Cow<'_, str> {
    for mark in ["`", "**", "*"] {
        let Some(at) = text.rfind(mark).filter(|_| text.matches(mark).count() % 2 == 1) else { continue };
        let inside = &text[at + mark.len()..];
        if inside.trim().is_empty() {
            return text[..at].into();
        }
        if !inside.starts_with(char::is_whitespace) {
            let end = text.trim_end();
            return [end, mark, &text[end.len()..]].concat().into();
        }
    }
    text.into()
}

/// The spans of a text, given its style.
pub(super) fn spans(text: &str, base: Style, look: Look) -> Vec<Span> {
    if !look.styled {
        return vec![Span::new(text, base)];
    }
    let masked = Masked::new(text);
    let mut spans: Vec<Span> = Vec::new();
    let mut styles = vec![base];
    let mut links: Vec<(String, usize)> = Vec::new();
    let mut raw_until = 0;
    for (event, range, literal) in masked.events() {
        let style = *styles.last().expect("the first one stays");
        let source = &text[range.clone()];
        match event {
            Event::Start(Tag::Paragraph) | Event::End(TagEnd::Paragraph) => {}
            _ if range.end <= raw_until && !range.is_empty() => {}
            Event::Start(Tag::Emphasis) => styles.push(Style { italic: true, ..style }),
            Event::Start(Tag::Strong) => styles.push(Style { bold: true, ..style }),
            Event::Start(Tag::Strikethrough) => styles.push(Style { struck: true, ..style }),
            Event::Start(Tag::Link { dest_url, link_type, title, .. }) => {
                // A URL that looks like math was hidden from the parser.
                if masked.math.iter().any(|math| math.start >= range.start && math.end <= range.end) {
                    spans.push(Span::new(source, style));
                    raw_until = range.end;
                    continue;
                }
                let auto = matches!(link_type, LinkType::Autolink | LinkType::Email);
                links.push((if auto { String::new() } else { target(&dest_url, &title) }, spans.len()));
                styles.push(Style { underlined: true, ..style });
            }
            Event::Start(Tag::Image { dest_url, title, .. }) => {
                links.push((target(&dest_url, &title), spans.len()));
                styles.push(style);
            }
            Event::End(TagEnd::Link | TagEnd::Image) => {
                styles.pop();
                let (url, from) = links.pop().unwrap_or_default();
                let shown: String =
                    spans[from.min(spans.len())..].iter().map(|span| span.text.as_str()).collect();
                if !url.is_empty() && shown != url && format!("mailto:{shown}") != url {
                    let gap = if shown.is_empty() { "" } else { " " };
                    spans.push(Span::new(format!("{gap}({url})"), Style { dim: true, ..Style::PLAIN }));
                }
            }
            Event::End(_) => _ = styles.pop(),
            Event::Code(_) => spans.push(Span::new(
                code(source),
                Style { bold: style.bold, italic: style.italic, ..look.code() },
            )),
            Event::Text(entity) if !literal => spans.push(Span::new(sanitize(&entity), style)),
            _ => spans.push(Span::new(without_break_marks(source), style)),
        }
    }
    spans
}

/// The address of a link, and its title if it has one, on one line.
fn target(url: &str, title: &str) -> String {
    let title = if title.is_empty() { String::new() } else { format!(" \"{title}\"") };
    sanitize(&format!("{url}{title}")).replace('\n', " ")
}

/// A backslash at the end of a line only says that the line ends there.
fn without_break_marks(text: &str) -> Cow<'_, str> {
    if text.contains("\\\n") { text.replace("\\\n", "\n").into() } else { text.into() }
}

/// The code between backticks.
fn code(source: &str) -> &str {
    let inside = source.trim_matches('`');
    let bare = inside.strip_prefix(' ').and_then(|inside| inside.strip_suffix(' '));
    bare.filter(|bare| !bare.trim().is_empty()).unwrap_or(inside)
}
