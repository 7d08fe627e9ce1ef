//! The answer on the screen: rendered Markdown, wrapped text, or to a pipe the text itself.

use std::io;

use super::Screen;
use crate::chat::settings::Auto;
use crate::ui::live::Live;
use crate::ui::markdown::{Look, Theme};
use crate::ui::wrap::{self, TextKind, Wrap};
use crate::ui::{DEFAULT_COLUMNS, DEFAULT_ROWS, print, sanitize, terminal};

impl Screen {
    /// Begins an answer, or continues one whose beginning `before` was shown earlier.
    pub fn begin_answer(&mut self, before: &str) {
        let kind = self.streamed();
        let redraws = kind == TextKind::Streamed;
        let renders = self.style.markdown == Auto::On || (self.style.markdown == Auto::Auto && redraws);
        if let Some(columns) = self.columns().filter(|_| renders) {
            let look = Look { theme: Theme::Dark, styled: self.styles(self.answers_to_terminal) };
            self.rendered = Some(Live::new(look, columns, redraws, &sanitize(before)));
        } else {
            self.answer = self.columns().map(|columns| Wrap::new(kind, columns).after(before));
        }
    }

    /// Prints a piece of the answer: unchanged to a pipe or file; on a terminal with visible control
    /// characters and breaks between words.
    pub fn answer(&mut self, text: &str) -> io::Result<()> {
        if text.is_empty() {
            return Ok(());
        }
        self.end_thinking();
        self.at_line_start = Some(text.ends_with('\n'));
        let (kind, columns) = (self.streamed(), self.columns());
        let shown = if columns.is_some() { sanitize(text) } else { text.into() };
        if let Some(live) = &mut self.rendered {
            let (columns, rows) = window();
            return print(&live.push(&shown, columns, rows));
        }
        print(&wrap::pushed(&mut self.answer, kind, columns, &shown))
    }

    /// Ends the answer, with a newline if it lacks one.
    pub fn end_answer(&mut self) -> io::Result<()> {
        let rest = self.rest_of_answer();
        let newline = if self.at_line_start.take() == Some(true) { "" } else { "\n" };
        print(&(rest + newline))
    }

    /// Ends the answer without adding anything.
    pub fn end_raw_answer(&mut self) {
        let rest = self.rest_of_answer();
        self.at_line_start = None;
        let _ = print(&rest); // there is a rest only on a terminal
    }

    /// Ends an answer that failed; later output starts on a new line.
    pub fn break_off(&mut self) {
        let rest = self.rest_of_answer();
        let newline = if self.at_line_start.take() == Some(false) { "\n" } else { "" };
        let _ = print(&(rest + newline)); // the failure itself is reported anyway
    }

    /// The rest of the answer that was held back at a possible break.
    fn rest_of_answer(&mut self) -> String {
        self.end_thinking();
        if let Some(mut live) = self.rendered.take() {
            self.at_line_start = self.at_line_start.map(|_| true);
            return live.end(window().0);
        }
        self.answer.take().map_or_else(String::new, |mut wrap| wrap.end())
    }

    /// Takes what moves off the screen, so that something else can be printed.
    pub(super) fn make_room(&mut self) {
        self.progress.clear();
        self.set_answer_aside();
    }

    /// Takes the unfinished rows of the answer off the screen; its next piece brings them back.
    pub(super) fn set_answer_aside(&mut self) {
        let out = self.rendered.as_mut().map_or_else(String::new, |live| live.set_aside(window().0));
        if !out.is_empty() {
            let _ = print(&out); // the next piece of the answer reports a failure
        }
    }
}

/// The columns and rows of the terminal at stdout.
fn window() -> (usize, usize) {
    terminal::size(io::stdout()).unwrap_or((DEFAULT_COLUMNS, DEFAULT_ROWS))
}
