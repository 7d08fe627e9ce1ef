//! Text → rows of a terminal, wrapped between words.
//!
//! Text may come piece by piece. The beginning of a word is shown at once if most words would fit there, and
//! is moved to the next row if the word turns out to be longer. Fenced code and table rows are not wrapped,
//! so that they can be copied.

use textwrap::core::display_width;

/// Cells that must be free for a word to be shown before it is complete.
const LONG: usize = 24;
/// Most bytes per cell of a row that a word may have; a longer one is written as it comes.
const MOST: usize = 16;
/// A line of columns with this many leading spaces continues the column above.
const DEEP: usize = 8;
/// Bytes of a line's beginning that are kept to tell its kind.
const BEGINNING: usize = 200;

/// The kind of a text, which decides where continuation rows begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TextKind {
    /// fireside's own text: below the text after the first gap, which is a column.
    Columns,
    /// A model's or a user's text: below the text of a list item. Shows whole words only, because the cursor
    /// cannot be moved back.
    Prose,
    /// The same for a terminal whose cursor can be moved back.
    Streamed,
}

/// The text in rows of `columns` cells.
pub(super) fn wrapped(text: &str, kind: TextKind, columns: usize) -> String {
    let mut wrap = Wrap::new(kind, columns);
    wrap.push(text) + &wrap.end()
}

/// The output for the next piece of text on a terminal of this many columns; `None`: no terminal.
pub(super) fn pushed(wrap: &mut Option<Wrap>, kind: TextKind, columns: Option<usize>, text: &str) -> String {
    let Some(columns) = columns else { return text.to_string() };
    let wrap = wrap.get_or_insert_with(|| Wrap::new(kind, columns));
    wrap.columns = columns.max(1); // the window may have changed
    wrap.push(text)
}

/// The largest width of a text in cells: terminals disagree about symbols that consist of several characters.
pub fn width(text: &str) -> usize {
    display_width(text) + text.matches('\u{fe0f}').count()
}

/// Whether all terminals agree on the width of a text: no characters combine.
pub(super) fn is_sure(text: &str) -> bool {
    !text.chars().any(|c| c != '\n' && is_joined(c))
}

/// Whether a character may combine with the one before it.
pub(super) fn is_joined(c: char) -> bool {
    width_of(c) == 0 || matches!(c, '\u{1f3fb}'..='\u{1f3ff}' | '\u{1f1e6}'..='\u{1f1ff}')
}

/// Text on its way to the terminal.
#[derive(Debug)]
pub(super) struct Wrap {
    text: TextKind,
    columns: usize,
    /// Used cells of the row.
    column: usize,
    /// The beginning of the line.
    line: String,
    /// The fence of the code block that the line is in.
    fence: Option<Fence>,
    /// Whether the line is a row of a table.
    table: bool,
    /// White space before the word, not shown yet.
    space: String,
    /// The current word, and how many of its bytes are shown.
    word: String,
    shown: usize,
    /// Whether the word is longer than a row; its rest is written as it comes.
    endless: bool,
}

#[derive(Debug, Clone, Copy)]
struct Fence {
    mark: char,
    length: usize,
}

impl Wrap {
    pub(super) fn new(text: TextKind, columns: usize) -> Wrap {
        let (line, space, word) = (String::new(), String::new(), String::new());
        Wrap {
            text,
            columns: columns.max(1),
            column: 0,
            line,
            fence: None,
            table: false,
            space,
            word,
            shown: 0,
            endless: false,
        }
    }

    /// The state after a text that was shown before.
    pub(super) fn after(mut self, text: &str) -> Wrap {
        self.push(text);
        self.end();
        (self.column, self.endless) = (0, false);
        self
    }

    /// Used cells of the row; more than the window has if the terminal breaks the line.
    pub(super) fn column(&self) -> usize {
        self.column
    }

    /// The output for the next piece of text.
    fn push(&mut self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        for c in text.chars() {
            let white = matches!(c, '\n' | ' ' | '\t' | '\u{3000}');
            self.endless &= !white;
            // A unit is a word, or %.
            if !(c.is_alphabetic() || c == '%') {
                self.let_go(&mut out);
            }
            match c {
                ' ' if self.text == TextKind::Columns && is_number(&self.word) => self.word.push(' '),
                '\n' => self.end_line(&mut out),
                ' ' | '\t' | '\u{3000}' => {
                    self.end_word(&mut out);
                    self.space.push(c);
                }
                c if self.endless => {
                    out.push(c);
                    self.take(width_of(c));
                }
                c => {
                    if self.word.chars().next_back().is_some_and(|before| may_break(before, c)) {
                        self.end_word(&mut out);
                    }
                    self.word.push(c);
                    self.endless = self.word.len() > self.columns
                        && (width(&self.word) > self.columns || self.word.len() > MOST * self.columns);
                    if self.endless {
                        self.end_word(&mut out);
                    }
                }
            }
            if c != '\n' && self.line.len() < BEGINNING {
                self.line.push(c);
            }
        }
        self.begin_word(&mut out);
        out
    }

    /// Ends a number that no unit follows.
    fn let_go(&mut self, out: &mut String) {
        if self.word.ends_with(' ') {
            self.word.pop();
            self.end_word(out);
            self.space.push(' ');
        }
    }

    /// The rest of the output at the end of the text.
    pub(super) fn end(&mut self) -> String {
        let mut out = String::new();
        self.let_go(&mut out);
        self.end_word(&mut out);
        self.end_space(&mut out);
        out
    }

    fn end_line(&mut self, out: &mut String) {
        self.end_word(out);
        self.end_space(out);
        out.push('\n');
        self.fence = match self.fence {
            None => fence(inside(&self.line)).map(|(opening, _)| opening),
            Some(open) => match fence(self.line.trim_start_matches([' ', '>'])) {
                Some((end, "")) if end.mark == open.mark && end.length >= open.length => None,
                _ => Some(open),
            },
        };
        self.table = is_delimiter(&self.line) || (self.table && !self.line.trim().is_empty());
        self.line.clear();
        self.column = 0;
    }

    /// Writes the white space at the end of a line, but not beyond the row.
    fn end_space(&mut self, out: &mut String) {
        let space = std::mem::take(&mut self.space);
        let gap = self.gap(&space);
        if self.as_it_is() || self.column + gap <= self.columns {
            out.push_str(&space);
            self.column += gap;
        }
    }

    fn gap(&self, space: &str) -> usize {
        let end = space
            .chars()
            .fold(self.column, |at, c| if c == '\t' { at / 8 * 8 + 8 } else { at + width_of(c) });
        end - self.column
    }

    /// Whether the line is not wrapped: code or a table.
    fn as_it_is(&self) -> bool {
        self.text != TextKind::Columns
            && (self.fence.is_some()
                || self.table
                || is_delimiter(&self.line)
                || self.line.trim_start().starts_with('|')
                || fence(inside(&self.line)).is_some())
    }

    /// Shows the known beginning of a word if it will not be moved, or if it can be moved later.
    fn begin_word(&mut self, out: &mut String) {
        if self.word.is_empty() {
            return;
        }
        let wide = width(&self.word);
        let start = self.column + if self.shown == 0 { self.gap(&self.space) } else { 0 };
        let end = start + width(&self.word[self.shown..]);
        let as_it_is = self.as_it_is();
        let shows = match self.shown {
            _ if as_it_is => true,
            0 => self.text == TextKind::Streamed && start + LONG.max(wide) <= self.columns,
            _ => end < self.columns,
        };
        // A word can only be moved if its width is certain.
        let certain = || self.word.chars().all(|c| width_of(c) == 1);
        if shows && (as_it_is || certain()) {
            out.push_str(&std::mem::take(&mut self.space));
            out.push_str(&self.word[self.shown..]);
            (self.shown, self.column) = (self.word.len(), end);
        }
    }

    /// Ends the word, and writes it where it fits.
    fn end_word(&mut self, out: &mut String) {
        if self.word.is_empty() {
            return;
        }
        let (word, shown) = (std::mem::take(&mut self.word), std::mem::take(&mut self.shown));
        let space = std::mem::take(&mut self.space);
        let (wide, rest) = (width(&word), &word[shown..]);
        let start = self.column + self.gap(&space);
        let hang = self.hang();
        if self.as_it_is() || start + width(rest) <= self.columns {
            out.push_str(&space);
            out.push_str(rest);
            self.column = start + width(rest);
            return;
        }
        // A word longer than a row stays in its column, or in an empty row, and the terminal breaks it.
        let longer = self.endless || wide > self.columns;
        let begins = if shown > 0 { self.column - width(&word[..shown]) } else { start };
        let alone = shown == 0 && self.column == 0;
        let indent = if longer || hang + wide <= self.columns {
            hang
        } else {
            self.columns.saturating_sub(wide).min(2)
        };
        if (shown > 0 && self.text != TextKind::Streamed) || (longer && (alone || begins == hang)) {
            out.push_str(&space);
            out.push_str(rest);
            self.column = start;
            return self.take(width(rest));
        }
        if alone {
            *out += &" ".repeat(indent.min(start));
            self.column = indent.min(start);
        } else {
            if shown > 0 {
                *out += &format!("\x1b[{}D\x1b[K", width(&word[..shown]));
            }
            *out += &format!("\n{:indent$}", "");
            self.column = indent;
        }
        out.push_str(&word);
        self.take(wide);
    }

    /// Advances by written cells, which the terminal breaks into rows.
    fn take(&mut self, cells: usize) {
        self.column = (self.column + cells).saturating_sub(1) % self.columns + 1;
    }

    /// The column in which continuation rows of this line begin.
    fn hang(&self) -> usize {
        let text = self.line.trim_start_matches([' ', '\u{3000}']);
        let indent = width(&self.line[..self.line.len() - text.len()]);
        let column = match self.text {
            TextKind::Columns if indent >= DEEP => indent,
            kind => width(&self.line[..self.line.len() - behind(text, kind).len()]),
        };
        let most = self.columns * 3 / 5;
        let less = if column > indent { indent + 2 } else { indent };
        [column, less].into_iter().find(|hang| *hang <= most).unwrap_or(2.min(most))
    }
}

/// The text after a line's first gap, or after an item's mark; the whole line if there is neither.
fn behind(text: &str, kind: TextKind) -> &str {
    if kind == TextKind::Columns {
        let gap = text.find("  ");
        return gap.map(|at| text[at..].trim_start()).filter(|rest| !rest.is_empty()).unwrap_or(text);
    }
    let digits = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let mark = match text.strip_prefix(['-', '*', '+', '>', '•']) {
        None if digits.len() < text.len() => digits.strip_prefix(['.', ')']),
        rest => rest,
    };
    mark.filter(|rest| rest.starts_with(' ')).map_or(text, |rest| rest.trim_start())
}

/// A line without its marks of list items and quotations.
fn inside(line: &str) -> &str {
    let text = line.trim_start();
    let inside = behind(text, TextKind::Prose);
    if inside.len() == text.len() { text } else { self::inside(inside) }
}

/// The fence at the beginning of a line, and the text after it.
fn fence(line: &str) -> Option<(Fence, &str)> {
    let mark = line.chars().next().filter(|c| ['`', '~'].contains(c))?;
    let rest = line.trim_start_matches(mark);
    let length = line.len() - rest.len();
    (length >= 3 && !(mark == '`' && rest.contains('`'))).then(|| (Fence { mark, length }, rest.trim()))
}

/// Whether a line separates the headings of a table from its rows, as `--- | :-:` does.
fn is_delimiter(line: &str) -> bool {
    line.contains('|') && line.contains('-') && line.chars().all(|c| "|-: >".contains(c))
}

/// Whether a word is a number, which stays on one row with its unit.
fn is_number(word: &str) -> bool {
    let digits = word.trim_start_matches('(');
    digits.starts_with(|c: char| c.is_ascii_digit())
        && digits.ends_with(|c: char| c.is_ascii_digit())
        && digits.chars().all(|c| c.is_ascii_digit() || c == '.' || c == ',')
}

pub(super) fn width_of(c: char) -> usize {
    display_width(c.encode_utf8(&mut [0; 4]))
}

/// Whether a row may end between two characters without white space: in Chinese and Japanese, between most.
pub(super) fn may_break(before: char, after: char) -> bool {
    let never_first = "、。，．・：；？！ー々〻ヽヾゝゞぁぃぅぇぉっゃゅょゎァィゥェォッャュョヮヵヶ）］｝」』】〕〉》〗〙〛’”…‥%％°℃)]},.!?:;";
    let never_last = "（［｛「『【〔〈《〖〘〚‘“([{$＄￥£";
    (is_ideographic(before) || is_ideographic(after))
        && width_of(after) > 0
        && !never_first.contains(after)
        && !never_last.contains(before)
}

/// Ideographs, kana and their punctuation: scripts without spaces between words.
fn is_ideographic(c: char) -> bool {
    matches!(c, '\u{2e80}'..='\u{312f}' | '\u{3190}'..='\u{a4cf}' | '\u{f900}'..='\u{faff}' | '\u{fe30}'..='\u{fe4f}'
        | '\u{ff00}'..='\u{ff60}' | '\u{20000}'..='\u{3ffff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXTS: &[&str] = &[
        "Some words, one of them incomprehensibly-uninterrupted-and-long, and others.\n\n- an item of a list that is long",
        "Code:\n\n1. ```rust\n   let x = \"a line of code that is longer than the window\";\n   ```\nand words after it",
        "| a | table that is wider than the window is |\n|---|---|\n> quoted words that go on and on and on",
        "日本の首都は東京です。「江戸」と呼ばれていた。 mixed with English words 混ぜて and 👩‍💻👍🏽 ❤️ at the end of it   ",
        "see https://example.org/a/path/that/is/longer/than/any/of/these/windows/are/wide?and=more for more",
        "  indented\twith tabs\tin between   and more than one space   ```not a fence``` naïve cafe\u{301}s everywhere",
    ];

    fn screen(bytes: &str, columns: u16) -> String {
        let size = |n| std::num::NonZeroU16::new(n).unwrap();
        let mut parser = vt100::Parser::new(size(100), size(columns), 0);
        parser.process(bytes.replace('\n', "\r\n").as_bytes());
        parser.screen().rows(0, columns).map(|row| row.trim_end().to_string() + "\n").collect()
    }

    #[test]
    fn a_number_keeps_its_unit() {
        assert_eq!(wrapped("takes all of 94 MiB", TextKind::Columns, 15), "takes all of\n94 MiB");
        assert_eq!(wrapped("chapter 7  of it", TextKind::Columns, 11), "chapter 7\n  of it");
        assert_eq!(wrapped("a number is 9 ", TextKind::Columns, 14), "a number is 9 ");
        assert_eq!(
            wrapped("takes all of 94 MiB", TextKind::Prose, 15),
            "takes all of 94\nMiB",
            "not fireside's own text"
        );
    }

    #[test]
    fn pieces_come_out_like_the_whole() {
        for text in TEXTS {
            for columns in [20, 33, 60] {
                let whole = screen(&wrapped(text, TextKind::Prose, columns.into()), columns);
                let all: Vec<char> = text.chars().collect();
                for (kind, length) in [TextKind::Prose, TextKind::Streamed]
                    .into_iter()
                    .flat_map(|kind| [1, 2, 3, 7].map(|n| (kind, n)))
                {
                    let mut wrap = Wrap::new(kind, columns.into());
                    let mut out = String::new();
                    for piece in all.chunks(length) {
                        out += &wrap.push(&piece.iter().collect::<String>());
                    }
                    out += &wrap.end();
                    assert_eq!(screen(&out, columns), whole, "{kind:?}, {length} of {text:?} at {columns}");
                }
            }
        }
    }

    #[test]
    fn a_word_without_end_takes_no_more_time_than_others() {
        let marks = "\u{301}".repeat(100_000);
        for text in ["x".repeat(300_000), format!("a{marks}"), format!("```\n{}", "x".repeat(300_000))] {
            let mut wrap = Wrap::new(TextKind::Streamed, 80);
            let pieces: String = text.chars().map(|c| wrap.push(&c.to_string())).collect();
            assert_eq!(pieces + &wrap.end(), text);
            assert!(wrap.word.len() <= 80 * MOST + 4, "the buffered word stays short");
        }
    }

    #[test]
    fn nothing_but_white_space_is_changed() {
        let bare = |text: &str| text.split_whitespace().collect::<String>();
        for text in TEXTS {
            for columns in [1, 2, 5, 20, 79] {
                for kind in [TextKind::Columns, TextKind::Prose] {
                    let rows = wrapped(text, kind, columns);
                    assert_eq!(bare(&rows), bare(text));
                    assert_eq!(wrapped(text, kind, 1000), text.trim_end_matches('\t'));
                }
            }
        }
    }

    #[test]
    fn columns_hang_under_what_stands_in_them() {
        let shown = |text: &str| wrapped(text, TextKind::Columns, 20);
        assert_eq!(shown("name   words that go on"), "name   words that go\n       on");
        assert_eq!(shown("name   /a/path/of/18/signs"), "name\n /a/path/of/18/signs");
        assert_eq!(shown("name   /a/path/longer/than/the/row"), "name   /a/path/longer/than/the/row");
        assert_eq!(shown("      deep words go on here"), "      deep words go\n      on here");
        assert_eq!(shown("a much longer name   words"), "a much longer name\n  words");
    }
}
