//! A question → the line typed as an answer on the terminal: Enter ends it, Esc cancels.
//!
//! Reads no more than the answer; the rest of the input is left for the next reader.

use std::fs::File;
use std::io::Write;
use std::time::Duration;

use super::keys::Key;
use super::terminal::{self, Raw, size};
use super::typing::{Waited, edit, next};
use super::wrap::{self, TextKind};
use super::{DEFAULT_COLUMNS, sanitize};

/// How often to check for Ctrl-C as a signal.
const PATIENCE: Duration = Duration::from_millis(100);

/// The answer to a question.
#[derive(Debug, PartialEq, Eq)]
pub enum Reply {
    Line(String),
    /// Esc, or Ctrl-D on an empty line.
    Nothing,
    /// Ctrl-C.
    Interrupted,
}

/// Asks on the terminal; `None`: there is none, or only a simple one.
pub fn ask(question: &str) -> Option<Reply> {
    let terminal = terminal::device().filter(|_| !super::is_simple())?;
    let columns = size(&terminal).map_or(DEFAULT_COLUMNS, |(columns, _)| columns);
    let question = wrap::wrapped(&sanitize(question), TextKind::Columns, columns);
    let mut shown = DrawnQuestion { terminal: &terminal, columns, text: String::new() };
    let _raw = Raw::of_a_line();
    let reply = answered(&question, &mut shown);
    shown.put("\n");
    Some(reply)
}

fn answered(question: &str, shown: &mut DrawnQuestion) -> Reply {
    let mut line = String::new();
    loop {
        shown.draw(format!("{question}{}", sanitize(&line)));
        match next(shown.terminal, None, Some(PATIENCE), 1) {
            _ if terminal::interrupted() => return Reply::Interrupted,
            Waited::Nothing => {}
            Waited::End | Waited::Key(Key::Esc | Key::Ctrl('g')) => return Reply::Nothing,
            Waited::Key(Key::Ctrl('d')) if line.is_empty() => return Reply::Nothing,
            Waited::Key(Key::Ctrl('c')) => return Reply::Interrupted,
            Waited::Key(Key::Ctrl('z')) => {
                terminal::suspend();
                shown.put("\n");
                shown.text.clear();
            }
            Waited::Key(Key::Enter | Key::NewLine | Key::Ctrl('j')) => return Reply::Line(line),
            Waited::Key(key) => edit(&mut line, key),
        }
    }
}

/// The question and the answer on the screen.
struct DrawnQuestion<'a> {
    terminal: &'a File,
    columns: usize,
    text: String,
}

impl DrawnQuestion<'_> {
    /// Draws the new part of the answer, or all of it again: in plain output, in a new row.
    fn draw(&mut self, text: String) {
        if text == self.text {
            return;
        }
        let up = match terminal::rows(&self.text, self.columns) {
            0 => String::new(),
            rows => format!("\x1b[{rows}A"),
        };
        let drawn = match text.strip_prefix(&self.text) {
            Some(new) => new.to_string(),
            None if super::is_plain() => format!("\n{text}"),
            None => format!("{up}\r\x1b[J{text}"),
        };
        let next_row = if terminal::is_full(&text, self.columns) { "\n" } else { "" };
        self.put(&format!("{drawn}{next_row}"));
        self.text = text;
    }

    fn put(&mut self, text: &str) {
        let _ = self.terminal.write_all(text.as_bytes()); // a failure only affects the display
    }
}
