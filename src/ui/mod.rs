//! Printing: answers and the results of subcommands go to stdout, everything else to stderr.
//!
//! `Screen` shows answers and everything about them. The functions here print without a screen. Printed
//! elsewhere: the line being typed (rustyline), completions for the shell (clap_complete), a renderer's
//! results (engine/prompt/jinja/apart.rs), and the message of processor.c.

pub mod answer;
pub mod below;
pub mod clipboard;
pub mod crash;
pub mod keys;
pub mod live;
pub mod markdown;
pub mod picker;
mod plain;
pub mod probabilities;
mod progress;
mod screen;
pub mod stats;
mod style;
pub mod table;
pub mod terminal;
pub mod theme;
pub mod typing;
mod sanitize;
mod wrap;

use std::io::{self, IsTerminal, Write};

use plain::is_simple;
pub use plain::{be_plain, is_plain};
pub use sanitize::{acts, sanitize};
pub use screen::Screen;
pub use style::Style;
use wrap::TextKind;
pub use wrap::width;

/// Columns of a terminal of unknown width.
const DEFAULT_COLUMNS: usize = 80;
/// Its rows.
const DEFAULT_ROWS: usize = 24;

/// The text wrapped to `columns` cells; unchanged without a terminal.
fn wrapped(text: &str, kind: TextKind, columns: Option<usize>) -> String {
    columns.map_or_else(|| text.to_string(), |columns| wrap::wrapped(text, kind, columns))
}

/// Redraws the line just typed after a prompt with breaks between words; the terminal breaks it anywhere. Behind a
/// full row Enter has left an empty one, which goes. `hint` stands after it on the screen, and goes.
pub fn retype(prompt: &str, style: &str, line: &str, hint: &str) {
    let Some((columns, height)) = terminal::window() else { return };
    let typed = sanitize(line);
    let text = format!("{prompt}{typed}");
    let whole = wrap::wrapped(&text, TextKind::Prose, columns);
    let rows = terminal::rows(&format!("{text}{hint}"), columns) + 1;
    let as_it_is = whole == text && hint.is_empty() && !terminal::is_full(&text, columns);
    if as_it_is || rows >= height || !wrap::is_sure(&text) {
        return; // lines that scrolled off the screen, or of uncertain height, stay as they are
    }
    if let (Some(mut terminal), Some(rest)) = (terminal::device(), whole.strip_prefix(prompt)) {
        let again = format!("\x1b[{rows}A\r\x1b[J\x1b[{style}m{prompt}\x1b[0m{rest}\n");
        let _ = terminal.write_all(again.as_bytes()); // on failure the line stays as typed
    }
}

/// Longest failure or hint, in characters: texts from a damaged file may be long.
const LONGEST_LINE: usize = 1000;

fn one_line(text: &str) -> String {
    let line = text.split('\n').map(str::trim).filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(LONGEST_LINE) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

/// stdout; an error if it was closed at the start, because writes to /dev/null would be lost.
fn stdout() -> io::Result<io::StdoutLock<'static>> {
    if crash::stdout_was_closed() {
        return Err(io::Error::other("stdout is closed"));
    }
    Ok(io::stdout().lock())
}

/// Prints to stdout without a screen.
pub fn print(text: &str) -> io::Result<()> {
    let mut out = stdout()?;
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Prints one line to stderr without a screen.
pub fn last_line(line: &str) {
    let columns =
        io::stderr().is_terminal().then(|| terminal::columns_of(io::stderr()).unwrap_or(DEFAULT_COLUMNS));
    log(&format!("{}\n", wrapped(&sanitize(&one_line(line)), TextKind::Columns, columns)));
}

/// Prints a piece of llama.cpp's log, or of a line being typed, to stderr.
pub fn log(text: &str) {
    let _ = io::stderr().lock().write_all(sanitize(text).as_bytes()); // a failure cannot be reported anywhere
}
