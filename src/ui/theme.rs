//! Whether the terminal's background is dark or light: from the setting, the terminal's reply, `COLORFGBG`.
//!
//! The terminal is asked only in a chat, where ui/typing.rs reads everything that it sends: the reply never
//! becomes typed text, and nothing waits for it. The query and its reply are xterm's OSC 11.

use std::env;
use std::io::Write;
use std::time::{Duration, Instant};

use super::{is_plain, terminal, typing};
use crate::chat::settings::Theme;

/// Asks for the colour of the background; terminals that do not know it ignore it.
const QUERY: &[u8] = b"\x1b]11;?\x1b\\";
/// Time for the reply before the program leaves the terminal to others.
const PATIENCE: Duration = Duration::from_millis(100);
/// Terminals that would show the query.
const SHOW_IT: [&str; 3] = ["linux", "cons25", "eterm"];

/// The theme for this terminal: `chosen`, or as the terminal says, else dark.
pub fn theme(chosen: Option<Theme>) -> Theme {
    let told = || env::var("COLORFGBG").ok().and_then(|colours| of_palette(&colours));
    chosen.or_else(typing::background).or_else(told).unwrap_or(Theme::Dark)
}

/// One of xterm's 216 colours that every terminal draws alike, by its number (16 to 231) → its SGR parameters.
pub(super) fn fixed(number: u8) -> String {
    format!("38;5;{number}")
}

/// A query on its way; dropping it waits for the reply, so that the next reader of the terminal does not get it.
pub struct Asked(Instant);

/// Asks the terminal.
pub fn ask() -> Option<Asked> {
    let term = env::var("TERM").unwrap_or_default();
    let shows_it = term.is_empty() || SHOW_IT.iter().any(|name| term.starts_with(name));
    let mut terminal = terminal::device().filter(|_| !shows_it && !is_plain())?;
    terminal.write_all(QUERY).ok().map(|()| Asked(Instant::now()))
}

impl Drop for Asked {
    fn drop(&mut self) {
        if let Some(terminal) = terminal::device() {
            typing::await_background(&terminal, self.0 + PATIENCE);
        }
    }
}

/// rxvt's `foreground;background`, numbers of the palette → the theme.
fn of_palette(colours: &str) -> Option<Theme> {
    match colours.rsplit(';').next()?.parse::<u8>().ok()? {
        7 | 9..=15 => Some(Theme::Light),
        0..=6 | 8 => Some(Theme::Dark),
        _ => None,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// The contrast of a fixed colour with white, 1 to 21 (WCAG 2.2, "contrast ratio").
    pub(in crate::ui) fn contrast_with_white(number: u8) -> f64 {
        let level = |digit: u8| [0.0, 95.0, 135.0, 175.0, 215.0, 255.0][usize::from(digit % 6)] / 255.0;
        let linear =
            |level: f64| if level > 0.04 { ((level + 0.055) / 1.055).powf(2.4) } else { level / 12.92 };
        let [red, green, blue] = [36, 6, 1].map(|step| linear(level((number - 16) / step)));
        1.05 / (0.2126 * red + 0.7152 * green + 0.0722 * blue + 0.05)
    }

    #[test]
    fn contrasts_are_those_of_the_standard() {
        assert!((contrast_with_white(16) - 21.0).abs() < 1e-9, "black");
        assert!((contrast_with_white(231) - 1.0).abs() < 1e-9, "white");
        assert!((contrast_with_white(21) - 8.59).abs() < 0.01, "blue");
    }

    #[test]
    fn colours_of_the_palette_are_dark_or_light() {
        assert_eq!(of_palette("0;15"), Some(Theme::Light));
        assert_eq!(of_palette("15;default;0"), Some(Theme::Dark));
        assert_eq!(of_palette("15;default"), None);
    }
}
