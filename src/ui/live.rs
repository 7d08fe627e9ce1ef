//! Rows of rendered Markdown → the bytes that bring them onto the screen.
//!
//! Finished rows scroll away and are never touched again. The tail below them is redrawn from the first row
//! that has changed, as one step where the terminal knows synchronised output (mode 2026). The cursor never
//! moves further up than the tail is known to begin.

use super::markdown::{Look, Markdown, Row};
use super::wrap::{is_joined, width_of};
use super::{terminal, width};

/// The most bytes of a line, from its first wide character on, that are left to the terminal to divide.
const MOST: usize = 64 << 10;

/// An answer on its way to a terminal.
pub struct Live {
    markdown: Markdown,
    /// The rows of the tail on the screen, at least one; the cursor is at the end of the last.
    tail: Vec<Row>,
    open: Open,
    /// The columns and rows of the window when they were drawn.
    columns: usize,
    height: usize,
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
            open: Open::default(),
            columns: columns.max(1),
            height: 1,
            suspensions: terminal::suspensions(),
            redraws,
        }
    }

    /// The output for the next piece, which has no control characters, in a window of this size.
    pub fn push(&mut self, text: &str, columns: usize, height: usize) -> String {
        self.markdown.set_columns(columns.max(1));
        self.markdown.push(text);
        let rows = self.markdown.take();
        let most = height.saturating_sub(1).max(1);
        let tail = if self.redraws { self.markdown.tail(most) } else { Vec::new() };
        self.draw(rows, tail, columns, height)
    }

    /// The output at the end of the answer; the cursor is then at the beginning of a row.
    pub fn end(&mut self, columns: usize, height: usize) -> String {
        self.markdown.finish();
        let rows = self.markdown.take();
        self.draw(rows, Vec::new(), columns, height)
    }

    /// The output that makes room for something else, which begins in an empty row and ends with one. The tail
    /// is drawn again after it.
    pub fn set_aside(&mut self, columns: usize, height: usize) -> String {
        let out = self.draw(Vec::new(), Vec::new(), columns, height);
        self.open = Open::default();
        out
    }

    /// The column of the cursor. Behind a full row whose line goes on it stays at the end of that.
    pub fn column(&self) -> usize {
        let Some((last, before)) = self.tail.split_last() else { return 0 };
        let goes_on = before.last().map_or(!self.open.is_empty(), |row| row.soft);
        if last.text.is_empty() && goes_on { self.columns } else { end(&last.text, self.columns) }
    }

    /// Draws finished rows and the tail after them in place of the tail that is on the screen.
    fn draw(&mut self, mut finished: Vec<Row>, mut tail: Vec<Row>, columns: usize, height: usize) -> String {
        let (columns, height) = (columns.max(1), height.max(1));
        if tail.is_empty() {
            tail.push(Row::default());
        }
        let resumed = std::mem::replace(&mut self.suspensions, terminal::suspensions()) != self.suspensions;
        let removed = if resumed {
            self.open = Open::default();
            Some(String::new())
        } else if columns != self.columns || height < self.height {
            Some(self.after_resize(columns, height))
        } else {
            None
        };
        for row in &mut finished {
            row.soft = row.soft && self.open.add(&row.text);
            if !row.soft {
                self.open = Open::default();
            }
        }
        let kept = finished.len();
        let rows = [finished, tail].concat();
        let out = removed.map_or_else(|| self.changed(&rows), |removed| removed + &joined(&rows));
        (self.columns, self.height) = (columns, height);
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
    fn after_resize(&mut self, columns: usize, height: usize) -> String {
        let divided = self.divided(columns, Reading::Widest);
        if divided != self.divided(columns, Reading::Narrowest) {
            self.open = Open::default();
            return "\n".into(); // what cannot be found for sure stays
        }
        let (shared, begins) = divided;
        let all = begins.len();
        // Terminals that reflow have divided and joined rows, others have not: the fewer rows count.
        let divided = if terminal::reflows() { all } else { all.min(self.tail.len()) };
        let below = usize::from(terminal::is_text_below());
        let rows = divided.min(height - below.min(height - 1)); // what has scrolled away stays
        if shared > 0 && rows == all {
            self.open = Open::default(); // what stands before the tail in its row is finished, and stays
            let rest = if shared < columns { format!("\x1b[{shared}C\x1b[J\n") } else { "\n\x1b[J".into() };
            return beginning(rows - 1) + &rest;
        }
        let (row, byte) = begins[all - rows];
        let line = self.tail[..row].iter().rposition(|row| !row.soft).map(|end| end + 1);
        if line.is_some() {
            self.open = Open::default();
        }
        for above in &self.tail[line.unwrap_or(0)..row] {
            self.open.add(&above.text);
        }
        self.open.add(&self.tail[row].text[..byte]);
        upwards(rows - 1)
    }

    /// The rows that the tail takes in a window of these columns, where it is divided anew: the row of the tail and the
    /// byte in it with which each begins. And how many columns of the first belong to what stands above the tail.
    fn divided(&self, columns: usize, reading: Reading) -> (usize, Vec<(usize, usize)>) {
        let mut shared = self.open.column(columns, reading);
        let (mut begins, mut at, mut begun) = (vec![(0, 0)], shared, false);
        for (n, row) in self.tail.iter().enumerate() {
            for (byte, cells) in cells(characters(&row.text), reading) {
                if at > 0 && at + cells > columns {
                    match begun {
                        true => begins.push((n, byte)),
                        false => shared = 0, // nothing of it fits behind what stands above
                    }
                    at = 0;
                }
                at += cells;
                begun |= cells > 0;
            }
            if !row.soft && n + 1 < self.tail.len() {
                begins.push((n + 1, 0));
                (at, begun) = (0, true);
            }
        }
        (shared, begins)
    }
}

/// Text above the tail that is of the same line for the terminal, which has divided it: finished, or beyond reach.
#[derive(Default)]
struct Open {
    /// The cells of its beginning, where every character has one.
    cells: usize,
    /// The rest, from the first wider character on.
    rest: String,
}

impl Open {
    fn is_empty(&self) -> bool {
        self.cells == 0 && self.rest.is_empty()
    }

    /// A row goes on below. `false`: the line is too long to be kept, and has to end.
    fn add(&mut self, text: &str) -> bool {
        for (_, c) in characters(text) {
            let cells = width_of(c);
            if c == PRESENTATION && self.rest.is_empty() && self.cells > 0 {
                self.cells -= 1; // belongs to it
                self.rest.push('x');
            }
            if !self.rest.is_empty() || cells > 1 || is_unsure(c) {
                self.rest.extend(Some(c).filter(|c| cells > 0 || is_unsure(*c)));
            } else {
                self.cells += cells;
            }
        }
        self.rest.len() <= MOST
    }

    /// The column behind it in a window of these columns, which is the last of all behind a full row; 0: nothing.
    fn column(&self, columns: usize, reading: Reading) -> usize {
        let begin = if self.cells > 0 { (self.cells - 1) % columns + 1 } else { 0 };
        let next = |at, (_, cells)| if at + cells > columns { cells } else { at + cells };
        cells(self.rest.char_indices(), reading).fold(begin, next)
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
    let mut parts = text.split('\t').map(width);
    let first = parts.next().unwrap_or(0);
    parts.fold(first, |at, part| (at / 8 * 8 + 8).min(columns) + part).min(columns)
}

/// How a terminal counts the cells of characters that make up one emoji: each by itself, or all as one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reading {
    Widest,
    Narrowest,
}

/// The character that joins emoji, and the one that makes an emoji of the character before it.
const JOINER: char = '\u{200d}';
const PRESENTATION: char = '\u{fe0f}';

/// Whether terminals count the cells of a character, or of the next, in different ways.
fn is_unsure(c: char) -> bool {
    matches!(c, JOINER | PRESENTATION) || is_joined(c) && width_of(c) > 0
}

/// The places of characters with their cells. Letters of flags have one or two each, skin tones two or none.
fn cells(
    characters: impl Iterator<Item = (usize, char)>,
    reading: Reading,
) -> impl Iterator<Item = (usize, usize)> {
    let mut before = None;
    characters.map(move |(at, c)| {
        let before = before.replace(c);
        let cells = match reading {
            Reading::Widest if c == PRESENTATION => usize::from(before.is_some_and(|c| width_of(c) == 1)),
            Reading::Widest if is_unsure(c) => 2 * width_of(c).min(1),
            Reading::Narrowest if before == Some(JOINER) => 0,
            Reading::Narrowest if is_unsure(c) => usize::from(width_of(c) == 1),
            _ => width_of(c),
        };
        (at, cells)
    })
}

/// The characters of a row with their places in it, without its SGR sequences.
fn characters(text: &str) -> impl Iterator<Item = (usize, char)> {
    let mut escaped = false;
    text.char_indices().filter(move |(_, c)| {
        let part = escaped || *c == '\x1b';
        if part {
            escaped = *c != 'm';
        }
        !part
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminals_differ_in_the_cells_of_emoji_only() {
        let of =
            |text: &str, reading| cells(characters(text), reading).map(|(_, cells)| cells).sum::<usize>();
        for (text, narrowest, widest) in [
            ("na\u{308}ive 中\x1b[1m!\x1b[m", 9, 9),
            ("👍", 2, 2),
            ("👍🏽", 2, 4),
            ("👩\u{200d}🚀", 2, 4),
            ("❤\u{fe0f}", 1, 2),
            ("🇫🇷", 2, 4),
        ] {
            assert_eq!(
                (of(text, Reading::Narrowest), of(text, Reading::Widest)),
                (narrowest, widest),
                "{text}"
            );
            let mut open = Open::default();
            assert!(open.add("ab") && open.add(text));
            let columns = [Reading::Narrowest, Reading::Widest].map(|reading| open.column(80, reading));
            assert_eq!(columns, [2 + narrowest, 2 + widest], "{text}");
        }
    }
}
