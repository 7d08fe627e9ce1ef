//! The look of rendered Markdown: styles as SGR parameters, in the terminal's own 16 colours.

use crate::chat::settings::Theme;

/// How a piece of text is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Style {
    pub(super) bold: bool,
    pub(super) dim: bool,
    pub(super) italic: bool,
    pub(super) underlined: bool,
    pub(super) struck: bool,
    /// An SGR foreground colour, 30 to 37 or 90 to 97; 0: the terminal's own.
    pub(super) colour: u8,
}

impl Style {
    pub(super) const PLAIN: Style =
        Style { bold: false, dim: false, italic: false, underlined: false, struck: false, colour: 0 };
    pub(super) const DIM: Style = Style { dim: true, ..Style::PLAIN };
    pub(super) const BOLD: Style = Style { bold: true, ..Style::PLAIN };

    pub(super) const fn coloured(colour: u8) -> Style {
        Style { colour, ..Style::PLAIN }
    }

    /// Its SGR parameters; empty: plain.
    pub(super) fn sgr(self) -> String {
        let flags = [(self.bold, 1), (self.dim, 2), (self.italic, 3), (self.underlined, 4), (self.struck, 9)];
        let on = flags.into_iter().filter(|(on, _)| *on).map(|(_, code)| code);
        let codes = on.chain((self.colour > 0).then_some(self.colour));
        codes.map(|code| code.to_string()).collect::<Vec<_>>().join(";")
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

    fn pick(self, dark: u8, light: u8) -> Style {
        Style::coloured(if self.theme == Theme::Dark { dark } else { light })
    }

    pub(super) fn heading(self, level: usize) -> Style {
        if !self.styled {
            return Style::PLAIN;
        }
        Style { bold: true, underlined: level == 1, ..self.pick(36, 34) }
    }

    pub(super) fn code(self) -> Style {
        self.pick(36, 34)
    }

    pub(super) fn keyword(self) -> Style {
        self.pick(95, 35)
    }

    pub(super) fn string(self) -> Style {
        self.pick(92, 32)
    }

    pub(super) fn number(self) -> Style {
        self.pick(93, 31)
    }

    pub(super) fn name(self) -> Style {
        self.pick(94, 34)
    }

    pub(super) fn kind(self) -> Style {
        self.pick(96, 36)
    }
}
