//! The only code that prints. stdout carries the model's words; everything else goes to stderr.
//!
//! `Screen` shows answers and everything about them; the functions here print where there is no screen.

pub mod answer;
pub mod crash;
pub mod keys;
pub mod picker;
mod progress;
mod screen;
pub mod stats;
pub mod table;
pub mod terminal;
pub mod typing;
mod sanitize;
mod wrap;

use std::io::{self, IsTerminal, Write};

pub use sanitize::{acts, sanitize};
pub use screen::{Screen, Style};
use wrap::TextKind;
pub use wrap::width;

/// Columns of a terminal that does not tell its width.
const DEFAULT_COLUMNS: usize = 80;

/// The text in rows of so many cells; as it is where that is no terminal.
fn wrapped(text: &str, kind: TextKind, columns: Option<usize>) -> String {
    columns.map_or_else(|| text.to_string(), |columns| wrap::wrapped(text, kind, columns))
}

/// What was just typed behind a prompt, which the terminal broke where its rows ended, again in whole words.
pub fn retype(prompt: &str, style: &str, line: &str) {
    let Some((columns, height)) = terminal::window() else { return };
    let typed = sanitize(line);
    let text = format!("{prompt}{typed}");
    let (whole, rows) = (wrap::wrapped(&text, TextKind::Prose, columns), terminal::rows(&text, columns) + 1);
    if whole == text || rows >= height || !wrap::is_sure(&text) {
        return; // what has left the screen cannot be changed, nor what begins we do not know where
    }
    if let (Some(mut terminal), Some(rest)) = (terminal::device(), whole.strip_prefix(prompt)) {
        let again = format!("\x1b[{rows}A\r\x1b[J\x1b[{style}m{prompt}\x1b[0m{rest}\n");
        let _ = terminal.write_all(again.as_bytes()); // it stays as it was typed
    }
}

/// A terminal that can only write one line after the other.
pub fn dumb() -> bool {
    std::env::var_os("TERM").is_some_and(|term| term == "dumb")
}

/// Longest failure or hint, in characters: what a damaged file has to say may be long.
const LONGEST_LINE: usize = 1000;

fn one_line(text: &str) -> String {
    let line = text.split('\n').map(str::trim).filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(LONGEST_LINE) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

/// stdout, unless it was closed before the program began: writing to what is in its place now would lose everything.
fn stdout() -> io::Result<io::StdoutLock<'static>> {
    if crash::stdout_was_closed() {
        return Err(io::Error::other("stdout is closed"));
    }
    Ok(io::stdout().lock())
}

/// The same for what has no screen: text that was asked for on stdout.
pub fn print(text: &str) -> io::Result<()> {
    let mut out = stdout()?;
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// One line on stderr, for where there is no screen yet or any more.
pub fn last_line(line: &str) {
    let columns =
        io::stderr().is_terminal().then(|| terminal::columns_of(io::stderr()).unwrap_or(DEFAULT_COLUMNS));
    log(&format!("{}\n", wrapped(&sanitize(&one_line(line)), TextKind::Columns, columns)));
}

/// A piece of llama.cpp's log, or of a line that is being typed.
pub fn log(text: &str) {
    let _ = io::stderr().lock().write_all(sanitize(text).as_bytes()); // there is nowhere left to report to
}
