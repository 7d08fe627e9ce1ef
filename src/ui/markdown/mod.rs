//! Markdown, piece by piece → rows of a terminal.
//!
//! A line's block is decided as soon as its beginning allows (blocks.rs); the text in it becomes spans
//! (inline.rs) or coloured code (code.rs), and these become rows (layout.rs, table.rs). A finished row never
//! changes: what is shown depends on the text alone, not on the pieces in which it came. What could still
//! change is the tail: a table, the text after an open mark, the last row.
//!
//! The text keeps its own lines, blank lines and indentation. ui/live.rs draws the rows.

mod blocks;
mod code;
mod inline;
mod layout;
mod leaf;
mod style;
mod table;

use self::blocks::{Block, Container, Line, Open, Opened};
use self::code::Highlighter;
pub use self::layout::Row;
use self::layout::{Lines, Prefix};
use self::leaf::{Code, LONGEST, Text, Verbatim, floor, rest};
pub use self::style::Look;
use self::style::{Span, Style};
use self::table::Table;

/// Longest beginning of a line that is not shown before it is clear what the line is.
const HIDDEN: usize = 8;
/// Widest rule, in cells.
const RULE: usize = 80;

/// The block that is being written.
#[derive(Debug)]
enum Leaf {
    Nothing,
    /// A paragraph or heading.
    Text(Text),
    Code(Code),
    /// A line that is the header of a table if the next one says so.
    Header(String, Prefix),
    Table(Table),
    /// Lines as written up to one with this text.
    Verbatim(Verbatim),
}

/// A Markdown text on its way to the terminal.
#[derive(Debug)]
pub struct Markdown {
    look: Look,
    columns: usize,
    containers: Vec<Container>,
    leaf: Leaf,
    /// The beginning of a line whose block is not known yet.
    line: String,
    /// The line's block is known: what comes up to its end belongs to the leaf.
    in_line: bool,
    rows: Vec<Row>,
}

impl Markdown {
    pub fn new(look: Look, columns: usize) -> Markdown {
        Markdown {
            look,
            columns: columns.max(1),
            containers: Vec::new(),
            leaf: Leaf::Nothing,
            line: String::new(),
            in_line: false,
            rows: Vec::new(),
        }
    }

    /// The state after a text that was shown before: only what comes after it becomes rows.
    pub fn after(mut self, text: &str) -> Markdown {
        self.push(text);
        match &mut self.leaf {
            Leaf::Text(text) => {
                text.open.clear();
                text.lines.shown();
            }
            Leaf::Code(code) => {
                code.long |= !code.line.is_empty();
                code.line.clear();
                code.lines.shown();
            }
            Leaf::Verbatim(verbatim) => verbatim.lines.shown(),
            Leaf::Header(..) | Leaf::Table(_) | Leaf::Nothing => {} // a table is shown again, with its new rows
        }
        self.rows.clear();
        self
    }

    /// Continues in a window of another width; finished rows stay as they are.
    pub fn set_columns(&mut self, columns: usize) {
        self.columns = columns.max(1);
        match &mut self.leaf {
            Leaf::Text(Text { lines, .. })
            | Leaf::Code(Code { lines, .. })
            | Leaf::Verbatim(Verbatim { lines, .. }) => lines.set_columns(columns),
            _ => {}
        }
    }

    /// The next piece of the text, without control characters.
    pub fn push(&mut self, text: &str) {
        for piece in text.split_inclusive('\n') {
            let (mut text, ends) = piece.strip_suffix('\n').map_or((piece, false), |text| (text, true));
            while !self.in_line && !text.is_empty() {
                let room = floor(text, LONGEST - self.line.len());
                self.line += &text[..room];
                text = &text[room..];
                match blocks::read(&self.line, false, &self.containers, self.open()) {
                    Some(line) => self.begin_line(line),
                    None if room == 0 => self.begin_text(),
                    None => {}
                }
            }
            self.continue_line(text);
            if ends {
                self.end_line();
            }
        }
        self.collect();
    }

    /// Ends the text.
    pub fn finish(&mut self) {
        if self.in_line || !self.line.is_empty() {
            self.end_line();
        }
        self.close();
    }

    /// The finished rows.
    pub fn take(&mut self) -> Vec<Row> {
        std::mem::take(&mut self.rows)
    }

    /// The unfinished rows as they look now, at most `most`: the last ones.
    pub fn tail(&self, most: usize) -> Vec<Row> {
        let mut rows = match &self.leaf {
            Leaf::Text(text) => text.tail(self.look),
            Leaf::Code(code) => code.tail(self.look),
            Leaf::Verbatim(verbatim) => rest(verbatim.lines.clone()),
            Leaf::Header(header, prefix) => self.raw(header, prefix.clone()),
            Leaf::Table(table) => {
                let line = self.line.trim_start_matches([' ', '>']);
                let begun = if line.starts_with('|') { line } else { "" };
                table.tail(begun, self.columns, most)
            }
            Leaf::Nothing => Vec::new(),
        };
        if self.line.len() > HIDDEN && !matches!(self.leaf, Leaf::Table(_) | Leaf::Code(_)) {
            rows.extend(self.raw(&self.line, Prefix::default()));
        }
        let missing = rows.len().saturating_sub(most.max(1));
        rows.drain(..missing);
        // After a row that the terminal itself divides, an empty one would be no row at all.
        if let Some(first) = rows.first_mut().filter(|first| missing > 0 && first.text.is_empty()) {
            first.text.push(' ');
        }
        rows
    }

    fn raw(&self, text: &str, prefix: Prefix) -> Vec<Row> {
        let mut lines = Lines::new(self.columns, prefix);
        lines.push(&Span::new(text, Style::PLAIN));
        rest(lines)
    }

    fn open(&self) -> Open {
        match &self.leaf {
            Leaf::Text(text) if !text.heading => Open::Paragraph,
            Leaf::Header(..) => Open::Paragraph,
            Leaf::Code(code) => Open::Code(code.fence),
            Leaf::Verbatim(verbatim) if !verbatim.ended => Open::Verbatim(verbatim.end),
            _ => Open::Nothing,
        }
    }

    /// A line that is too long to be anything but text.
    fn begin_text(&mut self) {
        let line = blocks::read("x", true, &[], Open::Nothing).expect("the line is whole");
        let stays = matches!(self.leaf, Leaf::Code(_));
        let block = if stays { Block::Code } else { Block::Paragraph };
        self.begin_line(Line { inside: if stays { self.containers.len() } else { 0 }, block, ..line });
    }

    /// Begins a line whose block is known: what of it has come goes into its leaf.
    fn begin_line(&mut self, line: Line) {
        let text = std::mem::take(&mut self.line);
        let Line { inside, opened, block, at } = line;
        if inside < self.containers.len() || !opened.is_empty() {
            self.close();
        }
        self.containers.truncate(inside);
        let prefix = self.prefix(opened);
        self.in_line = true;
        let columns = self.columns;
        match (block, &mut self.leaf) {
            (Block::Blank, _) => {
                self.close();
                let mut prefix = prefix;
                while prefix.first.pop_if(|last| last.text.trim().is_empty()).is_some() {}
                self.put(prefix, Span::new("", Style::PLAIN));
            }
            (Block::Paragraph, Leaf::Text(open)) if !open.heading => {}
            (Block::Paragraph, _) => self.begin(text_leaf(columns, prefix, Style::PLAIN, false)),
            (Block::Heading(level), _) => {
                let style = self.look.heading(level);
                let mark = if self.look.styled { String::new() } else { "#".repeat(level) + " " };
                let mut prefix = prefix;
                prefix.first.push(Span::new(mark, style));
                self.begin(text_leaf(columns, prefix, style, true));
            }
            (Block::Rule, _) => {
                self.close();
                let width = columns.saturating_sub(layout::width(&prefix.first)).clamp(1, RULE);
                self.put(prefix, Span::new("─".repeat(width), self.look.dim()));
            }
            (Block::Fence(fence), _) => {
                self.close();
                let (info, inside) =
                    (&text[at..], Prefix { first: prefix.rest.clone(), rest: prefix.rest.clone() });
                self.put(prefix, Span::new(info, self.look.dim()));
                let highlighter = self.look.styled.then(|| Highlighter::new(info)).flatten();
                let lines = Lines::as_it_is(columns, inside);
                self.leaf = Leaf::Code(Code { fence, line: String::new(), long: false, highlighter, lines });
                self.in_line = false; // the code begins in the next one
                return;
            }
            (Block::FenceEnd, _) => {
                self.close();
                self.put(prefix, Span::new(text[at..].trim(), self.look.dim()));
            }
            (Block::Code, _) => {}
            (Block::Verbatim(_), Leaf::Verbatim(verbatim)) if !verbatim.ended => {}
            (Block::Verbatim(end), _) => {
                // The text that ends math may begin it, too.
                let opening =
                    if end == "$$" { text[at..].find("$$").map_or(at, |found| at + found + 2) } else { at };
                let mut lines = Lines::as_it_is(columns, prefix);
                lines.push(&Span::new(&text[at..opening], Style::PLAIN));
                self.begin(Leaf::Verbatim(Verbatim { end, last: String::new(), ended: false, lines }));
                return self.continue_line(&text[opening..]);
            }
            (Block::Pipe, _) => return self.pipe(text[at..].to_string(), prefix),
        }
        if !matches!(block, Block::Blank | Block::Rule | Block::FenceEnd) {
            self.continue_line(&text[at..]);
        }
    }

    /// A line that begins with a pipe.
    fn pipe(&mut self, line: String, prefix: Prefix) {
        let (look, columns) = (self.look, self.columns);
        match &mut self.leaf {
            Leaf::Table(table) => {
                let rows = table.add(&line, columns);
                self.rows.extend(rows);
            }
            Leaf::Header(header, before) => match Table::new(header, &line, before.clone(), look) {
                Some(table) => self.leaf = Leaf::Table(table),
                None => self.begin(Leaf::Header(line, prefix)),
            },
            _ => self.begin(Leaf::Header(line, prefix)),
        }
    }

    /// More of a line whose block is known.
    fn continue_line(&mut self, text: &str) {
        match &mut self.leaf {
            _ if text.is_empty() => {}
            Leaf::Text(open) => open.push(text, self.look),
            Leaf::Code(code) => code.push(text),
            Leaf::Verbatim(verbatim) => verbatim.push(text),
            _ => {}
        }
    }

    fn end_line(&mut self) {
        if !self.in_line {
            let line = blocks::read(&self.line, true, &self.containers, self.open());
            self.begin_line(line.expect("the line is whole"));
        }
        match &mut self.leaf {
            Leaf::Text(text) => {
                text.push("\n", self.look);
                if text.heading {
                    self.close();
                }
            }
            Leaf::Code(code) if self.in_line => code.end_line(self.look),
            Leaf::Verbatim(verbatim) => verbatim.end_line(),
            _ => {}
        }
        self.in_line = false;
        self.collect();
    }

    /// Takes the rows that the leaf has finished.
    fn collect(&mut self) {
        match &mut self.leaf {
            Leaf::Text(Text { lines, .. })
            | Leaf::Code(Code { lines, .. })
            | Leaf::Verbatim(Verbatim { lines, .. }) => self.rows.extend(lines.take()),
            _ => {}
        }
    }

    /// Ends the leaf: all of it becomes rows.
    fn close(&mut self) {
        match std::mem::replace(&mut self.leaf, Leaf::Nothing) {
            Leaf::Nothing => {}
            Leaf::Text(text) => self.rows.extend(text.finished(self.look)),
            Leaf::Code(Code { lines, .. }) | Leaf::Verbatim(Verbatim { lines, .. }) => {
                self.rows.extend(rest(lines))
            }
            Leaf::Table(mut table) => self.rows.extend(table.fix(self.columns)),
            Leaf::Header(line, prefix) => {
                if let Leaf::Text(mut text) = text_leaf(self.columns, prefix, Style::PLAIN, false) {
                    text.push(&line, self.look);
                    self.rows.extend(text.finished(self.look));
                }
            }
        }
    }

    /// Begins a leaf after the present one.
    fn begin(&mut self, leaf: Leaf) {
        self.close();
        self.leaf = leaf;
    }

    /// Enters containers; returns what stands before the text in them.
    fn prefix(&mut self, opened: Vec<Opened>) -> Prefix {
        let quote = Span::new("│ ", self.look.dim());
        let shown = |container: &Container| match container {
            Container::Quote => quote.clone(),
            Container::Item(indent) => Span::new(" ".repeat(*indent), Style::PLAIN),
        };
        let mut first: Vec<Span> = self.containers.iter().map(shown).collect();
        let mut rest = first.clone();
        for Opened { container, mark } in opened {
            rest.push(shown(&container));
            first.push(match container {
                Container::Quote => quote.clone(),
                Container::Item(_) => Span::new(mark, Style::PLAIN),
            });
            self.containers.push(container);
        }
        if layout::width(&rest) > self.columns * 3 / 5 {
            rest = vec![Span::new("  ", Style::PLAIN)];
        }
        Prefix { first, rest }
    }

    /// A row of its own.
    fn put(&mut self, prefix: Prefix, span: Span) {
        let mut lines = Lines::as_it_is(self.columns, prefix);
        lines.push(&span);
        lines.end_line();
        self.rows.extend(lines.take());
    }
}

fn text_leaf(columns: usize, prefix: Prefix, style: Style, heading: bool) -> Leaf {
    Leaf::Text(Text { open: String::new(), style, heading, lines: Lines::new(columns, prefix) })
}
