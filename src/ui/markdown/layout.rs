//! Spans → rows of a terminal, wrapped between words as ui/wrap.rs does it for text without styles.
//!
//! A word longer than a row is divided where the terminal itself would do it, so that it can be copied whole, except
//! where a wide character leaves a gap.

use super::style::{Span, Style};
use crate::ui::wrap::{is_joined, may_break, width_of};

/// Most characters per cell of a row: letters may have any number of accents.
const MOST: usize = 8;
/// The sign that the one before it is a picture, on most terminals two cells wide.
const WIDE: char = '\u{fe0f}';

/// One row of the screen.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Row {
    /// With SGR sequences; plain again at its end.
    pub text: String,
    /// Full: the terminal itself goes on in the next row, as the text does.
    pub soft: bool,
}

/// A row while it is filled.
#[derive(Debug, Clone, Default)]
struct Filling {
    chars: Vec<(char, Style)>,
    /// Used cells.
    column: usize,
    /// Terminals may disagree about its width.
    unsure: bool,
}

impl Filling {
    fn put(&mut self, c: char, style: Style) {
        self.chars.push((c, style));
        self.column = after(self.column, c);
        self.unsure |= is_joined(c);
    }

    /// With SGR sequences; plain again at its end.
    fn text(&self) -> String {
        let (mut text, mut style) = (String::new(), Style::PLAIN);
        for (c, next) in &self.chars {
            text += &change(style, *next);
            text.push(*c);
            style = *next;
        }
        text + &change(style, Style::PLAIN)
    }
}

/// The SGR sequences between two styles.
fn change(from: Style, to: Style) -> String {
    if from == to {
        return String::new();
    }
    let plain = if from == Style::PLAIN { "" } else { "\x1b[0m" };
    let styled = if to == Style::PLAIN { String::new() } else { format!("\x1b[{}m", to.sgr()) };
    plain.to_string() + &styled
}

/// The column after a character.
fn after(column: usize, c: char) -> usize {
    match c {
        '\t' => column / 8 * 8 + 8,
        WIDE => column + 1,
        c => column + width_of(c),
    }
}

/// What stands before the text in its first row, and in the others.
#[derive(Debug, Clone, Default)]
pub(super) struct Prefix {
    pub(super) first: Vec<Span>,
    pub(super) rest: Vec<Span>,
}

pub(super) fn width(spans: &[Span]) -> usize {
    spans.iter().flat_map(|span| span.text.chars()).fold(0, after)
}

/// Text on its way into rows.
#[derive(Debug, Clone)]
pub(super) struct Lines {
    columns: usize,
    prefix: Prefix,
    row: Filling,
    /// Nothing of the line stands in the row yet.
    begins: bool,
    /// White space before the word.
    space: Vec<(char, Style)>,
    word: Vec<(char, Style)>,
    word_width: usize,
    /// The word is longer than a row, and its beginning is in rows already.
    endless: bool,
    /// The column in which continuation rows of this line begin.
    hang: usize,
    /// Words are not wrapped.
    as_it_is: bool,
    rows: Vec<Row>,
}

impl Lines {
    pub(super) fn new(columns: usize, prefix: Prefix) -> Lines {
        let mut lines = Lines {
            columns: columns.max(1),
            hang: 0,
            prefix,
            row: Filling::default(),
            begins: true,
            space: Vec::new(),
            word: Vec::new(),
            word_width: 0,
            endless: false,
            as_it_is: false,
            rows: Vec::new(),
        };
        lines.hang = width(&lines.prefix.rest);
        lines
    }

    /// Text that is not wrapped: the terminal divides long lines.
    pub(super) fn as_it_is(columns: usize, prefix: Prefix) -> Lines {
        Lines { as_it_is: true, ..Lines::new(columns, prefix) }
    }

    /// Continues in a window of another width. A row that is longer than that is divided as the terminal does it.
    pub(super) fn set_columns(&mut self, columns: usize) {
        self.columns = columns.max(1);
        self.hang = self.hang.min(self.columns * 3 / 5);
        if self.row.column > self.columns {
            let row = std::mem::take(&mut self.row);
            row.chars.into_iter().for_each(|(c, style)| self.write(c, style));
        }
    }

    /// Forgets what stands in the row: it is on the screen already.
    pub(super) fn shown(&mut self) {
        self.finish();
        self.rows.clear();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.begins && self.word.is_empty() && self.space.is_empty()
    }

    /// The finished rows.
    pub(super) fn take(&mut self) -> Vec<Row> {
        std::mem::take(&mut self.rows)
    }

    pub(super) fn push(&mut self, span: &Span) {
        for c in span.text.chars() {
            self.put(c, span.style);
        }
    }

    fn put(&mut self, c: char, style: Style) {
        match c {
            '\n' => self.end_line(),
            ' ' | '\t' | '\u{3000}' if self.as_it_is => self.write(c, style),
            ' ' | '\t' | '\u{3000}' => {
                self.end_word();
                self.endless = false;
                self.space.push((c, style));
            }
            c if self.as_it_is || self.endless => self.write(c, style),
            c => {
                if self.word.last().is_some_and(|(before, _)| may_break(*before, c)) {
                    self.end_word();
                }
                self.word.push((c, style));
                self.word_width = after(self.word_width, c);
                if self.word_width > self.columns || self.word.len() > MOST * self.columns / 2 {
                    self.end_word();
                    self.endless = true;
                }
            }
        }
    }

    /// Writes a character, in the next row if this one is full.
    fn write(&mut self, c: char, style: Style) {
        self.begin();
        let end = after(self.row.column, c);
        if end > self.columns && c == WIDE {
            let widened = if self.row.column > 1 { self.row.chars.pop() } else { None };
            self.end_row(false);
            widened.into_iter().for_each(|(before, style)| self.row.put(before, style));
        } else if end > self.columns && self.row.column > 0 && c != '\t' && width_of(c) > 0 {
            let full = self.row.column == self.columns; // else what follows might fit where a wide character did not
            let soft = full && !self.row.unsure && !is_joined(c);
            self.end_row(soft);
        } else if self.row.chars.len() > MOST * self.columns.max(8) {
            self.end_row(false);
        }
        self.row.put(c, style);
        self.row.column = self.row.column.min(self.columns);
    }

    /// Puts what stands before the text into an empty row.
    fn begin(&mut self) {
        if std::mem::take(&mut self.begins) {
            let first = std::mem::take(&mut self.prefix.first);
            self.put_prefix(&first);
            self.prefix.first = self.prefix.rest.clone();
        }
    }

    fn put_prefix(&mut self, prefix: &[Span]) {
        for (c, style) in prefix.iter().flat_map(|span| span.text.chars().map(|c| (c, span.style))) {
            if after(self.row.column, c) > self.columns {
                self.end_row(false);
            }
            self.row.put(c, style);
        }
    }

    fn end_row(&mut self, soft: bool) {
        let row = std::mem::take(&mut self.row);
        self.rows.push(Row { text: row.text(), soft });
    }

    fn end_word(&mut self) {
        let (word, wide) = (std::mem::take(&mut self.word), std::mem::take(&mut self.word_width));
        if word.is_empty() {
            return;
        }
        let space = std::mem::take(&mut self.space);
        if self.begins {
            self.begin();
            let indent = space.iter().fold(self.row.column, |at, (c, _)| after(at, *c));
            self.hang = self.hang_at(width(&self.prefix.rest), indent);
        }
        let fresh = self.row.column <= self.hang;
        let start = space.iter().fold(self.row.column, |at, (c, _)| after(at, *c));
        let longer = wide > self.columns || self.endless;
        if start + wide <= self.columns || (longer && start < self.columns && (fresh || start == self.hang)) {
            space.iter().for_each(|(c, style)| self.row.put(*c, *style));
        } else if fresh && self.row.column == 0 {
            let indent = self.indent(wide, longer).min(start);
            (0..indent).for_each(|_| self.row.put(' ', Style::PLAIN));
        } else {
            self.next_row(wide, longer);
        }
        word.iter().for_each(|(c, style)| self.write(*c, *style));
    }

    fn next_row(&mut self, wide: usize, longer: bool) {
        self.end_row(false);
        let rest = self.prefix.rest.clone();
        let prefix = width(&rest);
        let indent = self.indent(wide, longer);
        if prefix <= indent {
            self.put_prefix(&rest);
        }
        (self.row.column..indent).for_each(|_| self.row.put(' ', Style::PLAIN));
    }

    fn indent(&self, wide: usize, longer: bool) -> usize {
        if longer || self.hang + wide <= self.columns {
            self.hang
        } else {
            self.columns.saturating_sub(wide).min(2)
        }
    }

    /// The column of continuation rows: that of the text, or less in a narrow window.
    fn hang_at(&self, prefix: usize, indent: usize) -> usize {
        let most = self.columns * 3 / 5;
        [indent.max(prefix), prefix].into_iter().find(|hang| *hang <= most).unwrap_or(2.min(most))
    }

    /// Ends the line, without white space at its end.
    pub(super) fn end_line(&mut self) {
        self.end_word();
        self.begin();
        self.space.clear();
        self.endless = false;
        self.end_row(false);
        self.begins = true;
        self.hang = width(&self.prefix.rest);
    }

    /// The rest of the rows, if anything is left.
    pub(super) fn finish(&mut self) {
        if !self.is_empty() {
            self.end_line();
        }
    }
}
