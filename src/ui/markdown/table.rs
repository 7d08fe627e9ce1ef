//! The rows of a table → rows of a terminal. A table is held until it ends, because every row may widen a column.
//!
//! A table wider than the window has its cells wrapped; where there is no room even for that, each row becomes
//! a record of `heading: value` lines.

use super::inline;
use super::layout::{Lines, Prefix, Row, width};
use super::style::{Look, Span, Style};

/// Bytes of a table that are held. The rows after them have the columns of those before.
const HELD: usize = 64 * 1024;
/// Most columns: a record has a line for each.
const MOST: usize = 64;
/// The narrowest column in which words are wrapped.
const NARROWEST: usize = 8;
const BETWEEN: &str = " │ ";
const BETWEEN_WIDTH: usize = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Align {
    Left,
    Centre,
    Right,
}

type Cell = Vec<Span>;

#[derive(Debug, Clone)]
pub(super) struct Table {
    look: Look,
    prefix: Prefix,
    aligns: Vec<Align>,
    header: Vec<Cell>,
    /// The rows that are not shown yet.
    rows: Vec<Vec<Cell>>,
    /// The width of each column's widest cell.
    widths: Vec<usize>,
    held: usize,
    /// The header is shown, and the columns have these widths; empty: records.
    fixed: Option<Vec<usize>>,
}

impl Table {
    /// A table with this header; `None` if the second line does not belong to it.
    pub(super) fn new(header: &str, delimiter: &str, prefix: Prefix, look: Look) -> Option<Table> {
        let cells = split(header);
        let aligns = split(delimiter).iter().map(|cell| align(cell)).collect::<Option<Vec<Align>>>()?;
        if cells.len() != aligns.len() || cells.len() > MOST {
            return None;
        }
        let header: Vec<Cell> = cells.iter().map(|cell| inline::spans(cell, look.bold(), look)).collect();
        let widths = header.iter().map(|cell| width(cell)).collect();
        Some(Table { look, prefix, aligns, header, rows: Vec::new(), widths, held: 0, fixed: None })
    }

    /// Adds a row; returns what is shown for good if the table is too long to be held.
    pub(super) fn add(&mut self, line: &str, columns: usize) -> Vec<Row> {
        let row = self.cells(line);
        for (widest, cell) in self.widths.iter_mut().zip(&row) {
            *widest = width(cell).max(*widest);
        }
        self.rows.push(row);
        self.held += line.len();
        if self.held > HELD || self.fixed.is_some() { self.fix(columns) } else { Vec::new() }
    }

    /// The cells of a line, as many as the header has. What is too much stands in the last one.
    fn cells(&self, line: &str) -> Vec<Cell> {
        let mut cells = split(line);
        let count = self.header.len();
        if cells.len() > count {
            let last = cells.split_off(count - 1).join(" | ");
            cells.push(last);
        }
        cells.resize(count, String::new());
        cells.iter().map(|cell| inline::spans(cell, Style::PLAIN, self.look)).collect()
    }

    /// Shows all that is held; the columns stay as they are from now on.
    pub(super) fn fix(&mut self, columns: usize) -> Vec<Row> {
        let widths = self.fixed.clone().unwrap_or_else(|| self.fitted(&self.widths, columns));
        let mut out = if self.fixed.is_none() { self.head(&widths, columns) } else { Vec::new() };
        for row in std::mem::take(&mut self.rows) {
            out.extend(self.drawn(&row, &widths, columns));
        }
        self.fixed = Some(widths);
        out
    }

    /// The last rows as they look now, at most about `most`; `line`: the beginning of another row.
    pub(super) fn tail(&self, line: &str, columns: usize, most: usize) -> Vec<Row> {
        let begun = (!line.is_empty()).then(|| self.cells(line));
        let mut widest = self.widths.clone();
        for (widest, cell) in widest.iter_mut().zip(begun.iter().flatten()) {
            *widest = width(cell).max(*widest);
        }
        let widths = self.fixed.clone().unwrap_or_else(|| self.fitted(&widest, columns));
        let mut drawn: Vec<Vec<Row>> = Vec::new();
        let mut height = 0;
        for row in self.rows.iter().chain(&begun).rev() {
            if height > most {
                break;
            }
            let rows = self.drawn(row, &widths, columns);
            height += rows.len();
            drawn.push(rows);
        }
        if self.fixed.is_none() && height <= most {
            drawn.push(self.head(&widths, columns));
        }
        drawn.into_iter().rev().flatten().collect()
    }

    fn room(&self, columns: usize) -> usize {
        columns.saturating_sub(width(&self.prefix.rest))
    }

    /// Column widths that fit the window; empty: there are none.
    fn fitted(&self, widths: &[usize], columns: usize) -> Vec<usize> {
        let room = self.room(columns).saturating_sub(BETWEEN_WIDTH * (widths.len() - 1));
        let total = |most: usize| widths.iter().map(|width| (*width).clamp(1, most.max(1))).sum::<usize>();
        if total(NARROWEST) > room {
            return Vec::new();
        }
        let widest = widths.iter().copied().max().unwrap_or(1).min(room);
        // The largest limit of a column with which all fit.
        let (mut fits, mut too_wide) = (NARROWEST, widest + 1);
        while fits + 1 < too_wide {
            let middle = (fits + too_wide) / 2;
            if total(middle) <= room { fits = middle } else { too_wide = middle }
        }
        widths.iter().map(|width| (*width).clamp(1, fits)).collect()
    }

    fn head(&self, widths: &[usize], columns: usize) -> Vec<Row> {
        if widths.is_empty() {
            return Vec::new();
        }
        let mut rows = self.drawn(&self.header, widths, columns);
        let line: Vec<String> = widths.iter().map(|width| "─".repeat(*width)).collect();
        rows.extend(self.row(&[Span::new(line.join("─┼─"), self.look.dim())], columns));
        rows
    }

    fn drawn(&self, row: &[Cell], widths: &[usize], columns: usize) -> Vec<Row> {
        if widths.is_empty() {
            return self.record(row, columns);
        }
        let cells: Vec<Vec<Cell>> =
            row.iter().zip(widths).map(|(cell, width)| wrapped(cell, *width)).collect();
        let height = cells.iter().map(Vec::len).max().unwrap_or(1);
        let mut rows = Vec::new();
        for n in 0..height {
            let mut line: Vec<Span> = Vec::new();
            for (at, (cell, wide)) in cells.iter().zip(widths).enumerate() {
                if at > 0 {
                    line.push(Span::new(BETWEEN, self.look.dim()));
                }
                let part = cell.get(n).map_or(&[][..], Vec::as_slice);
                let free = wide.saturating_sub(width(part));
                let (before, behind) = match self.aligns[at] {
                    Align::Left => (0, free),
                    Align::Centre => (free / 2, free - free / 2),
                    Align::Right => (free, 0),
                };
                line.push(Span::new(" ".repeat(before), Style::PLAIN));
                line.extend_from_slice(part);
                let last = at + 1 == widths.len();
                line.push(Span::new(" ".repeat(if last { 0 } else { behind }), Style::PLAIN));
            }
            rows.extend(self.row(&line, columns));
        }
        rows
    }

    /// A row as lines of `heading: value`, with a short rule after them.
    fn record(&self, row: &[Cell], columns: usize) -> Vec<Row> {
        let mut rows = Vec::new();
        for (heading, cell) in self.header.iter().zip(row).filter(|(_, cell)| width(cell) > 0) {
            let indent = Span::new("  ", Style::PLAIN);
            let rest = [&self.prefix.rest[..], &[indent]].concat();
            let mut lines = Lines::new(columns, Prefix { first: self.prefix.rest.clone(), rest });
            heading.iter().for_each(|span| lines.push(span));
            lines.push(&Span::new(": ", Style::PLAIN));
            cell.iter().for_each(|span| lines.push(span));
            lines.finish();
            rows.extend(lines.take());
        }
        let rule = "─".repeat(self.room(columns).min(3));
        rows.extend(self.row(&[Span::new(rule, self.look.dim())], columns));
        rows
    }

    fn row(&self, line: &[Span], columns: usize) -> Vec<Row> {
        let prefix = Prefix { first: self.prefix.rest.clone(), rest: self.prefix.rest.clone() };
        let mut lines = Lines::as_it_is(columns, prefix);
        line.iter().for_each(|span| lines.push(span));
        lines.end_line();
        lines.take()
    }
}

/// A cell's text in lines of this width.
fn wrapped(cell: &Cell, columns: usize) -> Vec<Cell> {
    let mut rows: Vec<Cell> = vec![Vec::new()];
    let mut column = 0;
    for word in words(cell) {
        let wide = width(&word);
        let blank = word.iter().all(|span| span.text.trim().is_empty());
        if column + wide > columns && column > 0 {
            rows.push(Vec::new());
            column = 0;
        }
        if blank && column == 0 {
            continue;
        }
        for span in word {
            let mut piece = Span::new("", span.style);
            for c in span.text.chars() {
                let end = width(&[Span::new(c, Style::PLAIN)]);
                if column + end > columns && column > 0 {
                    rows.last_mut()
                        .expect("there is one")
                        .push(std::mem::replace(&mut piece, Span::new("", span.style)));
                    rows.push(Vec::new());
                    column = 0;
                }
                piece.text.push(if c == '\t' { ' ' } else { c });
                column += end;
            }
            rows.last_mut().expect("there is one").push(piece);
        }
    }
    rows
}

/// The words of a cell and the white space between them.
fn words(cell: &Cell) -> Vec<Cell> {
    let mut words: Vec<Cell> = Vec::new();
    let mut white = None;
    for span in cell {
        for c in span.text.chars() {
            if white != Some(c.is_whitespace()) {
                white = Some(c.is_whitespace());
                words.push(Vec::new());
            }
            let word = words.last_mut().expect("pushed above");
            match word.last_mut().filter(|last| last.style == span.style) {
                Some(last) => last.text.push(c),
                None => word.push(Span::new(c, span.style)),
            }
        }
    }
    words
}

/// The texts between the pipes of a line.
fn split(line: &str) -> Vec<String> {
    let line = line.trim();
    let line = line.strip_prefix('|').unwrap_or(line);
    let mut cells = vec![String::new()];
    let mut escaped = false;
    for c in line.chars() {
        match c {
            '|' if escaped => {
                let cell = cells.last_mut().expect("there is one");
                cell.pop();
                cell.push('|');
            }
            '|' => cells.push(String::new()),
            c => cells.last_mut().expect("there is one").push(c),
        }
        escaped = c == '\\' && !escaped;
    }
    if cells.len() > 1 && cells.last().is_some_and(|last| last.trim().is_empty()) {
        cells.pop();
    }
    cells.iter().map(|cell| cell.trim().to_string()).collect()
}

/// The alignment that a cell of the second line stands for.
fn align(cell: &str) -> Option<Align> {
    let (left, right) = (cell.starts_with(':'), cell.ends_with(':'));
    let line = cell.trim_matches(':');
    let valid = !line.is_empty() && line.chars().all(|c| c == '-');
    valid.then_some(match (left, right) {
        (true, true) => Align::Centre,
        (false, true) => Align::Right,
        _ => Align::Left,
    })
}
