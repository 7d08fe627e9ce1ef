//! Text ↔ values of the settings about the terminal.

use crate::chat::settings::Theme;

pub(super) const THEMES: &[(&str, Option<Theme>)] =
    &[("auto", None), ("light", Some(Theme::Light)), ("dark", Some(Theme::Dark))];
