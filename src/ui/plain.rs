//! `--plain` and the environment → what the output may contain: escape sequences, redrawing, colours.

use std::env;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::chat::settings::Auto;

/// Whether the user asked for plain output.
static ASKED: AtomicBool = AtomicBool::new(false);

/// From now on, all output is plain.
pub fn be_plain() {
    ASKED.store(true, Ordering::Relaxed);
}

/// Whether nothing may be redrawn and no escape sequence written: with `--plain`, for screen readers and logs,
/// and on a simple terminal.
pub fn is_plain() -> bool {
    ASKED.load(Ordering::Relaxed) || is_simple()
}

/// Whether the terminal is a simple one, which only takes whole lines.
pub(super) fn is_simple() -> bool {
    env::var_os("TERM").is_some_and(|term| term == "dumb")
}

/// Whether text on stderr is coloured. `NO_COLOR` beats `CLICOLOR_FORCE`, which colours pipes, too.
pub(super) fn is_coloured(choice: Auto, to_terminal: bool) -> bool {
    let set = |name: &str| env::var_os(name).is_some_and(|value| !value.is_empty());
    match choice {
        _ if ASKED.load(Ordering::Relaxed) => false,
        Auto::On => true,
        Auto::Off => false,
        Auto::Auto if set("NO_COLOR") => false,
        Auto::Auto if to_terminal => !is_simple(),
        Auto::Auto => set("CLICOLOR_FORCE") && env::var_os("CLICOLOR_FORCE").is_none_or(|value| value != "0"),
    }
}
