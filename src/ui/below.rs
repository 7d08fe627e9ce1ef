//! The row below an answer that is still growing: what is typed meanwhile, dim.
//!
//! The cursor stays at the end of the answer, so that erasing everything after it removes the row, whatever the
//! window's size has become. Whoever prints writes `terminal::below_off` first, and `drawn` brings the row back.

use super::{sanitize, terminal, typing, width};

/// Before the typed text.
const PROMPT: &str = "> ";
/// Between lines: Enter.
const ENTER: &str = " ⏎ ";
/// Fewest columns for the row.
const FEWEST: usize = 8;

/// Holds back what the terminal shows until the end (mode 2026); harmless where it is unknown.
const SYNCHRONISED: &str = "\x1b[?2026h";
const SYNCHRONISED_END: &str = "\x1b[?2026l";

/// The output of `piece`: the row below it, if any, is erased before it and drawn after it by `drawn`.
pub fn around(piece: &str, drawn: impl FnOnce() -> String) -> String {
    let (erased, drawn) = (terminal::below_off(), drawn());
    match erased.is_empty() && drawn.is_empty() {
        true => piece.to_string(),
        false => format!("{SYNCHRONISED}{erased}{piece}{drawn}{SYNCHRONISED_END}"),
    }
}

#[derive(Default)]
pub struct Below {
    /// The text of the row; empty: nothing is typed.
    text: String,
    /// The state of the typed keys that the text is from.
    seen: usize,
}

impl Below {
    /// The row with this text.
    pub fn of(text: &str) -> Below {
        Below { text: text.into(), seen: 0 }
    }

    /// Adopts what is typed by now. `true`: the row is not on the screen as it should be.
    pub(super) fn is_behind(&mut self) -> bool {
        let now = typing::changes();
        if self.seen != now {
            self.seen = now;
            self.text = typing::lines().join(ENTER);
            return true;
        }
        !self.text.is_empty() && !terminal::is_text_below()
    }

    /// The output that draws the row in a window of this many columns, with the cursor in this column. `style`:
    /// SGR parameters; empty: none.
    pub fn drawn(&self, column: usize, columns: usize, style: &str) -> String {
        // At the end of a full row, terminals differ in where the cursor returns to.
        if self.text.is_empty() || columns < FEWEST || column + 1 >= columns {
            return terminal::below_off().to_string();
        }
        terminal::text_is_below();
        let text = last(&sanitize(&self.text).replace(['\n', '\t'], " "), columns - 1 - PROMPT.len());
        // A vertical tab makes room below and, unlike a newline, keeps the column.
        let (on, off) =
            if style.is_empty() { (String::new(), "") } else { (format!("\x1b[{style}m"), "\x1b[0m") };
        format!("\x0b\x1b[A\x1b7\x1b[B\r\x1b[J{on}{PROMPT}{text}{off}\x1b8")
    }
}

/// The end of a text that fits this many cells.
fn last(text: &str, cells: usize) -> String {
    if text.len() <= cells || width(text) <= cells {
        return text.to_string();
    }
    let mut used = 1;
    let fits = |(_, c): &(usize, char)| {
        used += width(c.encode_utf8(&mut [0; 4]));
        used <= cells
    };
    let start = text.char_indices().rev().take_while(fits).last().map_or(text.len(), |(at, _)| at);
    format!("…{}", &text[start..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_shown() {
        assert_eq!(last("short", 5), "short");
        assert_eq!(last("longer", 5), "…nger");
        assert_eq!(last("日本語です", 5), "…です");
    }
}
