//! Rows of rendered Markdown → the bytes that bring them onto the screen.
//!
//! Finished rows scroll away and are never touched again. The tail below them is redrawn from the first row
//! that has changed, as one step where the terminal knows synchronised output (mode 2026). The cursor never
//! moves further up than the tail is known to begin.

use super::markdown::{Look, Markdown, Row};
use super::{terminal, width};

/// An answer on its way to a terminal.
pub struct Live {
    markdown: Markdown,
    /// The rows of the tail on the screen, at least one; the cursor is at the end of the last.
    tail: Vec<Row>,
    /// Cells above the tail that are of the same line for the terminal, which has divided it; 0: none.
    open: usize,
    /// The columns of the window when they were drawn.
    columns: usize,
    /// Suspensions of the program until then.
    suspensions: usize,
    /// Whether the cursor may be moved back; if not, only finished rows are shown.
    redraws: bool,
}

impl Live {
    /// An answer that goes on after `before`, which was shown earlier.
    pub fn new(look: Look, columns: usize, redraws: bool, before: &str) -> Live {
        let markdown = Markdown::new(look, columns).after(before);
        Live {
            markdown,
            tail: vec![Row::default()],
            open: 0,
            columns: columns.max(1),
            suspensions: terminal::suspensions(),
            redraws,
        }
    }

    /// The output for the next piece, which has no control characters, in a window of this size.
    pub fn push(&mut self, text: &str, columns: usize, height: usize) -> String {
        let columns = columns.max(1);
        self.markdown.set_columns(columns);
        self.markdown.push(text);
        let mut rows = self.markdown.take();
        let most = height.saturating_sub(1).max(1);
        let (tail, cut) = if self.redraws { self.markdown.tail(most) } else { Default::default() };
        // What follows might fit where a wide character did not.
        if let Some(last) = rows.last_mut().filter(|last| cut && cells(&last.text) < columns) {
            last.soft = false;
        }
        self.draw(rows, tail, columns)
    }

    /// The output at the end of the answer; the cursor is then at the beginning of a row.
    pub fn end(&mut self, columns: usize) -> String {
        self.markdown.finish();
        let rows = self.markdown.take();
        self.draw(rows, Vec::new(), columns.max(1))
    }

    /// The output that makes room for something else, which begins in an empty row and ends with one. The tail
    /// is drawn again after it.
    pub fn set_aside(&mut self, columns: usize) -> String {
        let out = self.draw(Vec::new(), Vec::new(), columns.max(1));
        self.open = 0;
        out
    }

    /// The column of the cursor. Behind a full row whose line goes on it stays at the end of that.
    pub fn column(&self) -> usize {
        let Some((last, before)) = self.tail.split_last() else { return 0 };
        let goes_on = before.last().map_or(self.open > 0, |row| row.soft);
        if last.text.is_empty() && goes_on { self.columns } else { end(&last.text, self.columns) }
    }

    /// Draws finished rows and the tail after them in place of the tail that is on the screen.
    fn draw(&mut self, finished: Vec<Row>, mut tail: Vec<Row>, columns: usize) -> String {
        if tail.is_empty() {
            tail.push(Row::default());
        }
        let kept = finished.len();
        let rows = [finished, tail].concat();
        let resumed = std::mem::replace(&mut self.suspensions, terminal::suspensions()) != self.suspensions;
        let out = if resumed {
            joined(&rows)
        } else if columns != self.columns {
            self.after_resize(columns) + &joined(&rows)
        } else {
            self.changed(&rows)
        };
        let open = |open, row: &Row| if row.soft { open + cells(&row.text) } else { 0 };
        self.open = rows[..kept].iter().fold(self.open, open);
        self.columns = columns;
        self.tail = rows[kept..].to_vec();
        out
    }

    /// The output that turns the tail into these rows.
    fn changed(&self, rows: &[Row]) -> String {
        let last = self.tail.len() - 1;
        let same = self.tail.iter().zip(rows).take_while(|(before, now)| before == now).count();
        let continued = rows.get(last).and_then(|row| row.text.strip_prefix(self.tail[last].text.as_str()));
        if let Some(rest) = continued.filter(|_| same >= last) {
            let row = Row { text: rest.to_string(), soft: rows[last].soft };
            return joined(&[&[row], &rows[last + 1..]].concat());
        }
        let from = same.min(rows.len() - 1);
        synchronised(&(upwards(last - from) + &joined(&rows[from..])))
    }

    /// The output that removes the tail after the window has changed.
    fn after_resize(&mut self, columns: usize) -> String {
        if let ([only], 1..) = (&self.tail[..], self.open)
            && only.text.is_empty()
        {
            self.open = 0;
            return "\n".into(); // the cursor is behind finished text
        }
        let (mut lines, mut line) = (Vec::new(), self.open);
        for row in &self.tail {
            line += cells(&row.text);
            if !row.soft {
                lines.push(std::mem::take(&mut line));
            }
        }
        lines.extend(Some(line).filter(|line| *line > 0));
        // Terminals that reflow have divided and joined rows, others have not: the fewer rows count.
        let rows_of = |line: &usize| line.div_ceil(columns).max(1);
        let all: usize = lines.iter().map(rows_of).sum();
        let (above, column) = (self.open / columns, self.open % columns);
        let rows = if terminal::reflows() { all - above } else { (all - above).min(self.tail.len()) };
        let rows = rows.max(1);
        let mut first = all - rows;
        if first == above && column > 0 {
            self.open = 0; // what stands before the tail in its row is finished, and stays
            return format!("{}\x1b[{column}C\x1b[J\n", beginning(rows - 1));
        }
        for line in lines.iter().map(rows_of) {
            if first < line {
                break;
            }
            first -= line;
        }
        self.open = first * columns;
        upwards(rows - 1)
    }
}

/// Moves to the beginning of a row above.
fn beginning(rows: usize) -> String {
    if rows > 0 { format!("\x1b[{rows}A\r") } else { "\r".into() }
}

/// The same, and erases everything from there on.
fn upwards(rows: usize) -> String {
    beginning(rows) + "\x1b[J"
}

fn synchronised(output: &str) -> String {
    format!("\x1b[?2026h{output}\x1b[?2026l")
}

fn joined(rows: &[Row]) -> String {
    let mut out = String::new();
    for (n, row) in rows.iter().enumerate() {
        out += &row.text;
        if n + 1 < rows.len() && !row.soft {
            out.push('\n');
        }
    }
    out
}

/// The column after a row of at most `columns`. A tab leads to the next multiple of 8, but not beyond the row.
fn end(text: &str, columns: usize) -> usize {
    let mut parts = text.split('\t').map(cells);
    let first = parts.next().unwrap_or(0);
    parts.fold(first, |at, part| (at / 8 * 8 + 8).min(columns) + part).min(columns)
}

/// The cells of a row without its tabs, so that never too many rows are erased; SGR sequences take none.
fn cells(text: &str) -> usize {
    width(text)
}
