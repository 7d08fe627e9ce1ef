//! The rows that a line took before its window became narrower: most terminals break it anew then, so that it begins further up
//! than the editor knows, and what it draws over is not all of it.

use std::cell::RefCell;
use std::env;

use crate::ui::terminal;

/// What is on the screen of the line that is being typed.
#[derive(Debug, Default)]
struct DrawnLine {
    columns: usize,
    prompt: String,
    /// The line up to the cursor.
    line: String,
    /// The line up to the cursor that is drawn next.
    next: String,
}

impl DrawnLine {
    /// How many rows below its first one the cursor is in a window of so many columns.
    fn rows(&self, columns: usize) -> usize {
        terminal::rows(&format!("{}{}", self.prompt, self.line), columns)
    }

    /// What takes the cursor, from where the editor believes the line to begin, to where it begins, and erases all that follows.
    fn to_its_beginning(&self, columns: usize) -> String {
        match self.rows(columns).saturating_sub(self.rows(self.columns)) {
            0 => String::new(),
            more => format!("\x1b[{more}A\r\x1b[J"),
        }
    }
}

/// Follows what the editor shows.
pub(super) struct Rows(Option<RefCell<DrawnLine>>);

impl Rows {
    /// Does nothing where lines stay as they were broken.
    pub(super) fn new() -> Rows {
        Rows(breaks_anew().then(RefCell::default))
    }

    /// Before the prompt is drawn again.
    pub(super) fn before(&self, prompt: &str) -> String {
        let (Some(shown), Some(columns)) = (&self.0, terminal::columns()) else { return String::new() };
        let mut shown = shown.borrow_mut();
        let narrower = shown.columns > columns && shown.prompt == prompt;
        let before = if narrower { shown.to_its_beginning(columns) } else { String::new() };
        (shown.columns, shown.prompt) = (columns, prompt.to_string());
        before
    }

    /// The line that is drawn next; the one before is on the screen by now.
    pub(super) fn next(&self, line: &str, position: usize) {
        if let Some(shown) = &self.0 {
            let next = line.get(..position).unwrap_or(line).to_string();
            let shown = &mut *shown.borrow_mut();
            shown.line = std::mem::replace(&mut shown.next, next);
        }
    }
}

/// Whether the terminal breaks long lines anew when its window changes. No terminal tells; those that are known to say who they
/// are. Where one does not, going further up would erase what stands above the line.
fn breaks_anew() -> bool {
    let said = |name: &str| env::var_os(name).is_some_and(|value| !value.is_empty());
    let terminals =
        ["TMUX", "VTE_VERSION", "KITTY_WINDOW_ID", "KONSOLE_VERSION", "WT_SESSION", "ALACRITTY_WINDOW_ID"];
    let names = ["alacritty", "foot", "tmux", "xterm-kitty", "xterm-ghostty", "wezterm"];
    let term = env::var("TERM").unwrap_or_default();
    terminals.into_iter().any(said) || said("TERM_PROGRAM") || names.iter().any(|name| term.starts_with(name))
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
        assert_eq!(shown(100, "one\ntwo").to_its_beginning(10), "", "it had two rows before");
    }
}
