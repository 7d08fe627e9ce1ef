//! The answer on the screen: rendered Markdown, wrapped text, or to a pipe the text itself. Below it, what is
//! typed meanwhile.

use std::io;

use super::Screen;
use crate::chat::settings::Auto;
use crate::ui::below::around;
use crate::ui::live::Live;
use crate::ui::markdown::Look;
use crate::ui::wrap::{self, Wrap};
use crate::ui::{DEFAULT_COLUMNS, DEFAULT_ROWS, is_plain, plain, print, sanitize, terminal};

impl Screen {
    /// Begins an answer, or continues one whose beginning `before` was shown earlier.
    pub fn begin_answer(&mut self, before: &str) {
        let (kind, redraws) = (self.streamed(), !is_plain());
        let renders = self.style.markdown == Auto::On || (self.style.markdown == Auto::Auto && redraws);
        if let Some(columns) = self.columns().filter(|_| renders) {
            let styled = redraws && plain::is_coloured(self.style.color, self.answers_to_terminal);
            let look = Look { theme: self.theme(), styled };
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
        let piece = match &mut self.rendered {
            Some(live) => {
                let (columns, rows) = window();
                live.push(&shown, columns, rows)
            }
            None => wrap::pushed(&mut self.answer, kind, columns, &shown),
        };
        self.print_above(&piece)
    }

    /// Prints a piece of the answer; what is typed stands in the row below.
    fn print_above(&mut self, piece: &str) -> io::Result<()> {
        print(&around(piece, || self.row_below()))
    }

    /// Shows what is typed while the model answers, in the row below.
    pub fn show_typing(&mut self) {
        if self.below.is_behind() {
            let _ = print(&self.row_below()); // only for the eye
        }
    }

    /// The output that draws the row below, or removes it.
    fn row_below(&self) -> String {
        let window = self.columns().filter(|_| self.errors_to_terminal && !is_plain());
        match window.filter(|_| terminal::keeps_typing()) {
            Some(columns) => {
                let style = if self.colored() { "2" } else { "" };
                self.below.drawn(self.column(), columns, style)
            }
            None => String::new(),
        }
    }

    /// The column of the cursor in what the model writes; 0 in the row of a bar, which is drawn anew.
    fn column(&self) -> usize {
        let written = match self.thought {
            _ if self.progress.is_drawn() => None,
            Some(_) => self.thinking.as_ref(),
            None if self.rendered.is_some() => return self.rendered.as_ref().map_or(0, Live::column),
            None => self.answer.as_ref().filter(|_| self.at_line_start.is_some()),
        };
        written.map_or(0, Wrap::column)
    }

    /// Takes away what is not there to stay, so that something else can be printed.
    pub(super) fn make_room(&mut self) {
        self.progress.clear();
        let erased = terminal::below_off();
        if !erased.is_empty() {
            let _ = print(erased); // only for the eye
        }
        self.set_answer_aside();
    }

    /// Takes the unfinished rows of the answer off the screen; its next piece brings them back.
    pub(super) fn set_answer_aside(&mut self) {
        let out = self.rendered.as_mut().map_or_else(String::new, |live| {
            let (columns, rows) = window();
            live.set_aside(columns, rows)
        });
        if !out.is_empty() {
            let _ = print(&out); // the next piece of the answer reports a failure
        }
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
            self.make_room();
            self.at_line_start = self.at_line_start.map(|_| true);
            let (columns, rows) = window();
            return live.end(columns, rows);
        }
        self.make_room();
        self.answer.take().map_or_else(String::new, |mut wrap| wrap.end())
    }
}

/// The columns and rows of the terminal at stdout.
fn window() -> (usize, usize) {
    terminal::size(io::stdout()).unwrap_or((DEFAULT_COLUMNS, DEFAULT_ROWS))
}
