//! Text ↔ values of the settings about the terminal.

use crate::chat::settings::{KeyBindings, Theme};

pub(super) const THEMES: &[(&str, Option<Theme>)] =
    &[("auto", None), ("light", Some(Theme::Light)), ("dark", Some(Theme::Dark))];

pub(super) const KEY_BINDINGS: &[(&str, KeyBindings)] =
    &[("emacs", KeyBindings::Emacs), ("vi", KeyBindings::Vi)];
