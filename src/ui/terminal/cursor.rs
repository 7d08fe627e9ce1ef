//! What is restored when the terminal is left: the shape of the cursor, which shows vi's mode (xterm's
//! DECSCUSR), and the screen below it.

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};

use super::device;

/// Whether the cursor has another shape than at the start.
static SHAPED: AtomicBool = AtomicBool::new(false);
/// Whether there is such text.
static BELOW: AtomicBool = AtomicBool::new(false);
const ERASED_BELOW: &str = "\x1b[J";
const USUAL_CURSOR: &[u8] = b"\x1b[0 q";

/// The shape of the cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cursor {
    /// As at the start.
    Usual,
    Bar,
    Block,
}

/// Changes the shape of the cursor, which is not a part of the text on the screen.
pub fn shape_cursor(cursor: Cursor) {
    let Some(mut terminal) = device() else { return };
    SHAPED.store(cursor != Cursor::Usual, Ordering::Relaxed);
    let _ = terminal.write_all(match cursor {
        Cursor::Usual => USUAL_CURSOR,
        Cursor::Bar => b"\x1b[6 q",
        Cursor::Block => b"\x1b[2 q",
    });
}

/// The sequence that restores the shape of the cursor; empty if it has not changed.
pub(in crate::ui) fn cursor_off() -> &'static [u8] {
    if SHAPED.load(Ordering::Relaxed) { USUAL_CURSOR } else { b"" }
}

/// From now on, there is text below the cursor that does not stay.
pub(in crate::ui) fn text_is_below() {
    BELOW.store(true, Ordering::Relaxed);
}

/// Whether there is.
pub(in crate::ui) fn is_text_below() -> bool {
    BELOW.load(Ordering::Relaxed)
}

/// The sequence that erases it; empty if there is none.
pub(in crate::ui) fn below_off() -> &'static str {
    if BELOW.swap(false, Ordering::Relaxed) { ERASED_BELOW } else { "" }
}
