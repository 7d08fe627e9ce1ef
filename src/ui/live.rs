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
        self.draw(Vec::new(), Vec::new(), columns.max(1))
    }

    /// The column of the cursor.
    pub fn column(&self) -> usize {
        self.tail.last().map_or(0, |row| cells(&row.text))
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
    fn after_resize(&self, columns: usize) -> String {
        // Terminals that reflow have divided and joined rows, others have not: the fewer rows count.
        let mut reflowed = 0;
        let mut line = 0;
        for row in &self.tail {
            line += cells(&row.text);
            if !row.soft {
                reflowed += line.div_ceil(columns).max(1);
                line = 0;
            }
        }
        let reflowed = if line > 0 { reflowed + line.div_ceil(columns) } else { reflowed };
        let rows = if terminal::reflows() { reflowed } else { reflowed.min(self.tail.len()) };
        upwards(rows - 1)
    }
}

/// Moves to the beginning of a row above and erases everything from there on.
fn upwards(rows: usize) -> String {
    if rows > 0 { format!("\x1b[{rows}A\r\x1b[J") } else { "\r\x1b[J".into() }
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

/// The cells of a row; SGR sequences take none.
fn cells(text: &str) -> usize {
    width(text)
}
