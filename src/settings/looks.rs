//! Text ↔ values of the settings about the terminal.

use crate::chat::settings::{KeyBindings, Theme};

pub(super) const THEMES: &[(&str, Option<Theme>)] =
    &[("auto", None), ("light", Some(Theme::Light)), ("dark", Some(Theme::Dark))];

pub(super) const KEY_BINDINGS: &[(&str, KeyBindings)] =
    &[("emacs", KeyBindings::Emacs), ("vi", KeyBindings::Vi)];

/// What a prompt may show, in braces.
const PARTS: [&str; 4] = ["model", "used", "limit", "percent"];

/// One line of text with `{PART}`s; the space at its end goes.
pub(super) fn prompt_format(value: &str) -> Result<String, String> {
    let text = value.trim_end();
    if text.is_empty() || text.chars().any(char::is_control) {
        return Err("must be one line of text".into());
    }
    let known =
        |rest: &str| PARTS.iter().any(|part| rest.strip_prefix(part).is_some_and(|r| r.starts_with('}')));
    match text.split('{').skip(1).all(known) {
        true => Ok(text.into()),
        false => Err("must have nothing but {model}, {used}, {limit} and {percent} in braces".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_has_known_parts_only() {
        assert_eq!(prompt_format("{model} {percent}%> ").unwrap(), "{model} {percent}%>");
        for wrong in ["", "  ", "a\nb", "\x1b[1m>", "{", "{nosuch}>", "{model"] {
            assert!(prompt_format(wrong).is_err(), "{wrong:?}");
        }
    }
}
