//! The screen: the answer on stdout, notices, progress and questions on stderr, in the style that the user chose.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use super::progress::ProgressLine;
use super::wrap::{self, TextKind, Wrap};
use super::{DEFAULT_COLUMNS, dumb, one_line, picker, print, sanitize, stats, stdout, terminal, wrapped};
use crate::chat::settings::Auto;
use crate::chat::{Event, Stats};
use crate::error::Failure;

/// SGR parameter of the prompt: bold.
const PROMPT: &str = "1";

/// What may be shown, decided once.
#[derive(Debug, Clone, Copy)]
pub struct Style {
    pub color: Auto,
    /// Nothing that moves, no colours.
    pub plain: bool,
    /// Nothing but answers and failures.
    pub quiet: bool,
    /// What is thought before an answer, too.
    pub thinking: bool,
}

/// Where answers and everything about them are shown.
pub struct Screen {
    style: Style,
    answers_to_terminal: bool,
    errors_to_terminal: bool,
    /// Whether the answer so far ends with a newline; `None` before its first character.
    at_line_start: Option<bool>,
    /// Tokens of thinking before the answer that has not begun yet.
    thought: Option<usize>,
    /// The answer and the thinking before it, on their way to a terminal.
    answer: Option<Wrap>,
    thinking: Option<Wrap>,
    progress: ProgressLine,
}

impl Screen {
    pub fn new(style: Style) -> Screen {
        let errors_to_terminal = io::stderr().is_terminal();
        let moving = errors_to_terminal && !style.plain && !style.quiet && !dumb();
        Screen {
            style,
            answers_to_terminal: io::stdout().is_terminal(),
            errors_to_terminal,
            at_line_start: None,
            thought: None,
            answer: None,
            thinking: None,
            progress: ProgressLine::new(moving),
        }
    }

    pub fn set_color(&mut self, color: Auto) {
        self.style.color = color;
    }

    pub fn set_thinking(&mut self, shown: bool) {
        self.style.thinking = shown;
    }

    /// How wide the terminal is that stdout leads to; `None`: it leads elsewhere, and nothing is broken or left out.
    pub fn columns(&self) -> Option<usize> {
        self.answers_to_terminal.then(|| terminal::columns_of(io::stdout()).unwrap_or(DEFAULT_COLUMNS))
    }

    /// The same of stderr.
    pub fn note_columns(&self) -> Option<usize> {
        self.errors_to_terminal.then(|| terminal::columns_of(io::stderr()).unwrap_or(DEFAULT_COLUMNS))
    }

    /// An answer begins, or goes on behind this part of it that was shown before.
    pub fn begin_answer(&mut self, before: &str) {
        let kind = self.streamed();
        self.answer = self.columns().map(|columns| Wrap::new(kind, columns).after(before));
    }

    fn streamed(&self) -> TextKind {
        if self.style.plain || dumb() { TextKind::Prose } else { TextKind::Streamed }
    }

    /// A piece of the answer. Unchanged bytes into a pipe or file; on a terminal, control characters are made visible and rows end
    /// between words.
    pub fn answer(&mut self, text: &str) -> io::Result<()> {
        if text.is_empty() {
            return Ok(());
        }
        self.end_thinking();
        self.at_line_start = Some(text.ends_with('\n'));
        let (kind, columns) = (self.streamed(), self.columns());
        let shown = if columns.is_some() { sanitize(text) } else { text.into() };
        print(&wrap::pushed(&mut self.answer, kind, columns, &shown))
    }

    /// A piece of what is thought before the answer, `tokens` so far: as it is if it is to be shown, else one line that counts.
    fn think(&mut self, text: &str, tokens: usize) {
        self.thought = Some(tokens);
        if !self.style.thinking {
            return self.progress.thinking(tokens);
        }
        self.progress.clear();
        let (kind, columns) = (self.streamed(), self.note_columns());
        let shown = wrap::pushed(&mut self.thinking, kind, columns, &sanitize(text));
        self.write_stderr(&shown, "2", "");
    }

    /// Thinking is over, or there was none: what follows begins on a line of its own.
    fn end_thinking(&mut self) {
        self.progress.clear();
        match self.thought.take() {
            Some(_) if self.style.thinking => {
                let rest = self.thinking.take().map_or_else(String::new, |mut wrap| wrap.end());
                self.write_stderr(&rest, "2", "\n");
            }
            Some(tokens) if self.progress.moves() => self.note(&stats::thought(tokens)),
            _ => {}
        }
    }

    /// The answer is over: a newline if it lacks one.
    pub fn end_answer(&mut self) -> io::Result<()> {
        let rest = self.rest_of_answer();
        let newline = if self.at_line_start.take() == Some(true) { "" } else { "\n" };
        print(&(rest + newline))
    }

    /// The answer is over and nothing may be added to it.
    pub fn end_raw_answer(&mut self) {
        let rest = self.rest_of_answer();
        self.at_line_start = None;
        let _ = print(&rest); // on a terminal only
    }

    /// The answer broke off: what follows begins on a line of its own.
    pub fn break_off(&mut self) {
        let rest = self.rest_of_answer();
        let newline = if self.at_line_start.take() == Some(false) { "\n" } else { "" };
        let _ = print(&(rest + newline)); // the reason for breaking off is told anyway
    }

    /// What was held back of a word that might have gone on.
    fn rest_of_answer(&mut self) -> String {
        self.end_thinking();
        self.answer.take().map_or_else(String::new, |mut wrap| wrap.end())
    }

    /// Text that was asked for on stdout, to be read by people: a pipe may lead to a terminal, too.
    pub fn output(&mut self, text: &str) -> io::Result<()> {
        self.put(&wrapped(&sanitize(text), TextKind::Columns, self.columns()))
    }

    /// The same of what users and models wrote.
    pub fn conversation(&mut self, text: &str) -> io::Result<()> {
        self.put(&wrapped(&sanitize(text), TextKind::Prose, self.columns()))
    }

    /// The same of what has rows of its own: nothing is broken.
    pub fn source(&mut self, text: &str) -> io::Result<()> {
        self.put(&sanitize(text))
    }

    /// Help, which is ours: with styles where they may be shown.
    pub fn help(&mut self, styled: &str, plain: &str) -> io::Result<()> {
        let text = if self.answers_to_terminal && self.colored() { styled } else { plain };
        print(&wrapped(text, TextKind::Columns, self.columns()))
    }

    /// JSON on stdout, where every sign can be written so that it does nothing.
    pub fn json(&mut self, text: &str) -> io::Result<()> {
        self.put(&sanitize::in_json(text))
    }

    /// Text for other programs: unchanged bytes into a pipe or file.
    pub fn output_as_it_is(&mut self, text: &str) -> io::Result<()> {
        self.put(&if self.answers_to_terminal { sanitize(text) } else { text.into() })
    }

    fn put(&mut self, text: &str) -> io::Result<()> {
        self.progress.clear();
        let mut out = stdout()?;
        out.write_all(text.as_bytes())?;
        out.write_all(if text.ends_with('\n') { b"" } else { b"\n" })?;
        out.flush()
    }

    /// Shows how far loading and reading have come; `None`: only time went by.
    pub fn show_progress(&mut self, event: Option<&Event>) {
        match event {
            None => self.progress.tick(),
            Some(Event::Loading { fraction }) => self.progress.loading(*fraction),
            Some(Event::Prefill { done, total }) => self.progress.reading(*done, *total),
            Some(Event::Thinking { text, tokens }) => self.think(text, *tokens),
            Some(Event::Text(_)) => self.end_thinking(),
            Some(Event::Notice(line)) => self.note(line),
            Some(Event::Dropped { messages, tokens, dropped }) => {
                self.note(&stats::dropped(*messages, *tokens, dropped))
            }
            Some(Event::Full { .. }) => self.progress.clear(), // whoever asked says what that means
        }
    }

    /// Shows which step of a measurement is done, and how far it has come.
    pub fn show_measuring(&mut self, step: &str, event: Option<&Event>) {
        self.progress.measuring(step, event);
    }

    /// Shows how far verifying a file has come, in bytes.
    pub fn show_checking(&mut self, done: u64, total: u64) {
        self.progress.checking(done, total);
    }

    /// Shows how far a conversion has come, in numbers.
    pub fn show_converting(&mut self, done: u64, total: u64) {
        self.progress.converting(done, total);
    }

    /// Shows how far fetching has come, in bytes.
    pub fn show_fetching(&mut self, done: u64, total: u64) {
        self.progress.fetching(done, total);
    }

    /// Shows how far taking in a file has come, in bytes.
    pub fn show_importing(&mut self, done: u64, total: u64) {
        self.progress.importing(done, total);
    }

    /// Text for stdout in which what stands between the two characters is made to stand out, where that is a terminal.
    pub fn highlights(&mut self, text: &str, begin: char, end: char) -> io::Result<()> {
        if !(self.answers_to_terminal && self.colored()) {
            return self.output(&text.replace([begin, end], ""));
        }
        let parts = text.split_inclusive([begin, end]).map(|part| match part.chars().next_back() {
            Some(mark) if [begin, end].contains(&mark) => {
                format!("{}{mark}", sanitize(part.trim_end_matches(mark)))
            }
            _ => sanitize(part).into_owned(),
        });
        let shown = wrapped(&parts.collect::<String>(), TextKind::Columns, self.columns());
        self.put(&shown.replace(begin, "\x1b[1m").replace(end, "\x1b[0m"))
    }

    pub fn end_progress(&mut self) {
        self.progress.clear();
    }

    /// Whether notes are shown to nobody.
    pub fn is_quiet(&self) -> bool {
        self.style.quiet
    }

    /// A line for the user, dim.
    pub fn note(&mut self, line: &str) {
        if self.style.quiet {
            return;
        }
        self.tell(line, TextKind::Columns, "2");
    }

    /// A line that also the quiet must see: something went wrong that is no failure of what was asked for.
    pub fn warning(&mut self, line: &str) {
        self.tell(&format!("fireside: {line}"), TextKind::Columns, "31");
    }

    /// Text that a command was asked for; quiet does not silence what was asked for.
    pub fn show(&mut self, text: &str) {
        self.tell(text, TextKind::Columns, "");
    }

    /// The same of what a user or a model wrote.
    pub fn show_conversation(&mut self, text: &str) {
        self.tell(text, TextKind::Prose, "");
    }

    /// The same of what a user typed at this prompt.
    pub fn show_typed(&mut self, prompt: &str, text: &str) {
        self.progress.clear();
        let shown = wrapped(&sanitize(&format!("{prompt}{text}")), TextKind::Prose, self.note_columns());
        let (prompt, text) = shown.split_at(prompt.len().min(shown.len()));
        self.write_stderr(&format!("{}{text}", self.drawn(prompt, PROMPT)), "", "\n");
    }

    /// The same of what has rows of its own: nothing is broken.
    pub fn show_source(&mut self, text: &str) {
        self.progress.clear();
        self.write_stderr(&sanitize(text), "", "\n");
    }

    /// A question to the user, who answers on the same line.
    pub fn question(&mut self, text: &str) {
        self.progress.clear();
        self.write_stderr(&wrapped(&sanitize(text), TextKind::Columns, self.note_columns()), "", "");
    }

    /// Whether a list to choose from can be shown.
    pub fn can_pick(&self) -> bool {
        self.errors_to_terminal && !self.style.plain && !dumb() && terminal::device().is_some()
    }

    /// Lets the user choose from a list on the terminal; `None`: none is wanted.
    pub fn pick(&mut self, question: picker::Question) -> io::Result<Option<usize>> {
        self.progress.clear();
        let terminal = terminal::device().ok_or_else(|| io::Error::other("there is no terminal"))?;
        picker::pick(terminal, question)
    }

    /// `fireside: …` and, where there is one, `hint: …`.
    pub fn failure(&mut self, failure: &Failure) {
        self.tell(&format!("fireside: {}", one_line(&failure.message)), TextKind::Columns, "31");
        if let Some(hint) = &failure.hint {
            self.tell(&format!("hint: {}", one_line(hint)), TextKind::Columns, "2");
        }
    }

    /// The line with figures after an answer.
    pub fn stats(&mut self, stats: &Stats, first_token: Option<Duration>) {
        self.note(&stats::line(stats, first_token));
    }

    /// A text on lines of its own. Wherever stderr leads, it may be a terminal in the end: no text may act on it.
    fn tell(&mut self, text: &str, kind: TextKind, color: &str) {
        self.progress.clear();
        self.write_stderr(&wrapped(&sanitize(text), kind, self.note_columns()), color, "\n");
    }

    fn write_stderr(&self, text: &str, color: &str, end: &str) {
        let line = self.drawn(text, color) + end;
        let _ = io::stderr().lock().write_all(line.as_bytes()); // there is nowhere left to report to
    }

    fn drawn(&self, text: &str, color: &str) -> String {
        match color.is_empty() || text.is_empty() || !self.colored() {
            true => text.to_string(),
            false => format!("\x1b[{color}m{text}\x1b[0m"),
        }
    }

    /// A prompt as it is drawn where colours may be.
    pub fn prompt_style(&self) -> &'static str {
        if self.colored() { PROMPT } else { "" }
    }

    fn colored(&self) -> bool {
        match self.style.color {
            _ if self.style.plain => false,
            Auto::On => true,
            Auto::Off => false,
            Auto::Auto => {
                let unwanted = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
                self.errors_to_terminal && !unwanted && !dumb()
            }
        }
    }
}
