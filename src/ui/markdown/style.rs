//! The look of rendered Markdown: styles as SGR parameters. On a dark background they use the terminal's own 16
//! colours; on a light one, where several of those are too pale to read, fixed ones.

use crate::chat::settings::Theme;
use crate::ui::theme::fixed;

/// How a piece of text is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Style {
    pub(super) bold: bool,
    pub(super) dim: bool,
    pub(super) italic: bool,
    pub(super) underlined: bool,
    pub(super) struck: bool,
    pub(super) colour: Colour,
}

/// A foreground colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Colour {
    /// The usual one of the terminal.
    #[default]
    Usual,
    /// One of the terminal's 16, by its SGR parameter: 30 to 37 or 90 to 97.
    Named(u8),
    /// One of xterm's 216 (ui/theme.rs), by its number: 16 to 231.
    Fixed(u8),
}

impl Colour {
    /// Its SGR parameters; `None`: none.
    fn sgr(self) -> Option<String> {
        match self {
            Colour::Usual => None,
            Colour::Named(code) => Some(code.to_string()),
            Colour::Fixed(number) => Some(fixed(number)),
        }
    }
}

impl Style {
    pub(super) const PLAIN: Style = Style {
        bold: false,
        dim: false,
        italic: false,
        underlined: false,
        struck: false,
        colour: Colour::Usual,
    };
    pub(super) const DIM: Style = Style { dim: true, ..Style::PLAIN };
    pub(super) const BOLD: Style = Style { bold: true, ..Style::PLAIN };

    /// Its SGR parameters; empty: plain.
    pub(super) fn sgr(self) -> String {
        let flags = [(self.bold, 1), (self.dim, 2), (self.italic, 3), (self.underlined, 4), (self.struck, 9)];
        let on = flags.into_iter().filter(|(on, _)| *on).map(|(_, code)| code.to_string());
        on.chain(self.colour.sgr()).collect::<Vec<_>>().join(";")
    }
}

/// A piece of text in one style.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) text: String,
    pub(super) style: Style,
}

impl Span {
    pub(super) fn new(text: impl Into<String>, style: Style) -> Span {
        Span { text: text.into(), style }
    }
}

/// What the renderer needs to know about the terminal and the user's taste.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    pub theme: Theme,
    /// Whether styles may be used. Without them the marks of emphasis, code and links stay as written.
    pub styled: bool,
}

impl Look {
    pub(super) fn dim(self) -> Style {
        if self.styled { Style::DIM } else { Style::PLAIN }
    }

    pub(super) fn bold(self) -> Style {
        if self.styled { Style::BOLD } else { Style::PLAIN }
    }

    /// `dark`: a named colour; `light`: a fixed one.
    fn pick(self, dark: u8, light: u8) -> Style {
        let colour = if self.theme == Theme::Dark { Colour::Named(dark) } else { Colour::Fixed(light) };
        Style { colour, ..Style::PLAIN }
    }

    pub(super) fn heading(self, level: usize) -> Style {
        if !self.styled {
            return Style::PLAIN;
        }
        Style { bold: true, underlined: level == 1, ..self.pick(36, 25) }
    }

    pub(super) fn code(self) -> Style {
        self.pick(36, 25)
    }

    pub(super) fn keyword(self) -> Style {
        self.pick(95, 90)
    }

    pub(super) fn string(self) -> Style {
        self.pick(92, 28)
    }

    pub(super) fn number(self) -> Style {
        self.pick(93, 124)
    }

    pub(super) fn name(self) -> Style {
        self.pick(94, 25)
    }

    pub(super) fn kind(self) -> Style {
        self.pick(96, 23)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ui::theme::tests::contrast_with_white;

    #[test]
    fn colours_on_a_light_background_can_be_read() {
        let look = Look { theme: Theme::Light, styled: true };
        let styles =
            [look.heading(2), look.code(), look.keyword(), look.string(), look.number(), look.name()];
        for style in styles.into_iter().chain([look.kind()]) {
            let Colour::Fixed(number) = style.colour else { panic!("{style:?} depends on the terminal") };
            assert!(contrast_with_white(number) >= 4.5, "{style:?}: {}", contrast_with_white(number));
        }
        assert_eq!(look.heading(1).sgr(), "1;4;38;5;25");
    }
}
