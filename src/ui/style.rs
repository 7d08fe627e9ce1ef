//! The settings about output → what the screen shows.

use super::is_plain;
use crate::chat::Settings;
use crate::chat::settings::{Auto, Theme};

/// The user's choice of what to show.
#[derive(Debug, Clone, Copy)]
pub struct Style {
    pub color: Auto,
    /// The chosen theme; `None`: as the terminal says.
    pub theme: Option<Theme>,
    /// Show answers and failures only.
    pub quiet: bool,
    /// Show thinking.
    pub thinking: bool,
    /// Show bars and counters.
    pub progress: bool,
}

impl Style {
    pub fn of(settings: &Settings, quiet: bool) -> Style {
        let Settings { color, theme, show_thinking: thinking, progress, .. } = *settings;
        Style { color, theme, quiet, thinking, progress }
    }

    /// Whether progress is drawn.
    pub(super) fn moves(&self, on_terminal: bool) -> bool {
        on_terminal && self.progress && !self.quiet && !is_plain()
    }
}
