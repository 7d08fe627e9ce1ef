//! After the window is narrowed: the escape sequence that moves the cursor to the true start of the line.
//! Most terminals reflow the line, so that it starts further up than the editor assumes, and redrawing it
//! would leave old rows on the screen.

use std::cell::RefCell;

use crate::ui::terminal;

/// The part of the edited line that is on the screen.
#[derive(Debug, Default)]
struct DrawnLine {
    columns: usize,
    prompt: String,
    /// The line up to the cursor.
    line: String,
    /// The line up to the cursor, as it will be drawn next.
    next: String,
}

impl DrawnLine {
    /// The row of the cursor in a window of this many columns, counted from the line's first row.
    fn rows(&self, columns: usize) -> usize {
        terminal::rows(&format!("{}{}", self.prompt, self.line), columns)
    }

    /// Moves the cursor from the assumed start of the line to the true one, and erases everything after it.
    fn to_its_beginning(&self, columns: usize) -> String {
        match self.rows(columns).saturating_sub(self.rows(self.columns)) {
            0 => String::new(),
            more => format!("\x1b[{more}A\r\x1b[J"),
        }
    }
}

/// Tracks the line that the editor draws; `None`: the terminal does not reflow lines.
pub(super) struct Rows(Option<RefCell<DrawnLine>>);

impl Rows {
    /// Does nothing on terminals that do not reflow lines.
    pub(super) fn new() -> Rows {
        Rows(terminal::reflows().then(RefCell::default))
    }

    /// Forgets the previous line: what stands above a new one is not to be erased.
    pub(super) fn begin(&self) {
        self.0.as_ref().map(RefCell::take);
    }

    /// The escape sequence to write before the prompt is redrawn.
    pub(super) fn before(&self, prompt: &str) -> String {
        let (Some(shown), Some(columns)) = (&self.0, terminal::columns()) else { return String::new() };
        let mut shown = shown.borrow_mut();
        let narrower = shown.columns > columns && shown.prompt == prompt;
        let before = if narrower { shown.to_its_beginning(columns) } else { String::new() };
        (shown.columns, shown.prompt) = (columns, prompt.to_string());
        before
    }

    /// Records the line that is drawn next; the previous one is on the screen by now.
    pub(super) fn next(&self, line: &str, position: usize) {
        if let Some(shown) = &self.0 {
            let next = line.get(..position).unwrap_or(line).to_string();
            let shown = &mut *shown.borrow_mut();
            shown.line = std::mem::replace(&mut shown.next, next);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_begins_as_many_rows_further_up_as_it_now_takes() {
        let shown = |columns, line: &str| DrawnLine {
            columns,
            prompt: "> ".into(),
            line: line.into(),
            next: String::new(),
        };
        let line = "x".repeat(50);
        assert_eq!(shown(100, &line).to_its_beginning(20), "\x1b[2A\r\x1b[J");
        assert_eq!(shown(40, &line).to_its_beginning(20), "\x1b[1A\r\x1b[J");
        assert_eq!(shown(100, "short").to_its_beginning(20), "");
        assert_eq!(shown(100, "日本語日本語日本語").to_its_beginning(10), "\x1b[2A\r\x1b[J");
        assert_eq!(shown(100, "one\ntwo").to_its_beginning(10), "", "it also had two rows before");
    }
}
