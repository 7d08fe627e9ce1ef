//! The screen: answers on stdout; notices, progress and questions on stderr, in the user's style.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use super::below::Below;
use super::progress::ProgressLine;
use super::style::Style;
use super::wrap::{self, TextKind, Wrap};
use super::{
    DEFAULT_COLUMNS, is_plain, one_line, picker, plain, print, sanitize, stats, stdout, terminal, theme,
    wrapped,
};
use crate::chat::settings::Theme;
use crate::chat::{Event, Settings, Stats};

/// SGR parameter of the prompt: bold.
const PROMPT: &str = "1";

/// Holds back what the terminal shows until the end (mode 2026); harmless where it is unknown.
const SYNCHRONISED: &str = "\x1b[?2026h";
const SYNCHRONISED_END: &str = "\x1b[?2026l";

/// Shows answers on stdout and everything else on stderr.
pub struct Screen {
    style: Style,
    answers_to_terminal: bool,
    errors_to_terminal: bool,
    /// Whether the answer so far ends with a newline; `None` before its first character.
    at_line_start: Option<bool>,
    /// Thinking tokens so far, until the answer begins.
    thought: Option<usize>,
    /// The wrapped answer and thinking, if they go to a terminal.
    answer: Option<Wrap>,
    thinking: Option<Wrap>,
    progress: ProgressLine,
    below: Below,
}

impl Screen {
    pub fn new(style: Style) -> Screen {
        let errors_to_terminal = io::stderr().is_terminal();
        Screen {
            style,
            answers_to_terminal: io::stdout().is_terminal(),
            errors_to_terminal,
            at_line_start: None,
            thought: None,
            answer: None,
            thinking: None,
            progress: ProgressLine::new(style.moves(errors_to_terminal)),
            below: Below::default(),
        }
    }

    /// Adopts changed settings.
    pub fn restyle(&mut self, settings: &Settings) {
        self.style = Style::of(settings, self.style.quiet);
        self.progress.move_if(self.style.moves(self.errors_to_terminal));
    }

    /// The theme for colours on the terminal.
    pub fn theme(&self) -> Theme {
        theme::theme(self.style.theme)
    }

    /// The width of the terminal at stdout; `None`: not a terminal, so nothing is wrapped or cut.
    pub fn columns(&self) -> Option<usize> {
        self.answers_to_terminal.then(|| terminal::columns_of(io::stdout()).unwrap_or(DEFAULT_COLUMNS))
    }

    /// The same for stderr.
    pub fn note_columns(&self) -> Option<usize> {
        self.errors_to_terminal.then(|| terminal::columns_of(io::stderr()).unwrap_or(DEFAULT_COLUMNS))
    }

    /// Begins an answer, or continues one whose beginning `before` was shown earlier.
    pub fn begin_answer(&mut self, before: &str) {
        let kind = self.streamed();
        self.answer = self.columns().map(|columns| Wrap::new(kind, columns).after(before));
    }

    fn streamed(&self) -> TextKind {
        if is_plain() { TextKind::Prose } else { TextKind::Streamed }
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
        let piece = wrap::pushed(&mut self.answer, kind, columns, &shown);
        self.print_above(&piece)
    }

    /// Prints a piece of the answer; what is typed stands in the row below.
    fn print_above(&mut self, piece: &str) -> io::Result<()> {
        let (erased, drawn) = (terminal::below_off(), self.row_below());
        if erased.is_empty() && drawn.is_empty() {
            return print(piece);
        }
        print(&format!("{SYNCHRONISED}{erased}{piece}{drawn}{SYNCHRONISED_END}"))
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
            None => self.answer.as_ref().filter(|_| self.at_line_start.is_some()),
        };
        written.map_or(0, Wrap::column)
    }

    /// Takes away what is not there to stay, so that something else can be printed.
    fn make_room(&mut self) {
        self.progress.clear();
        let erased = terminal::below_off();
        if !erased.is_empty() {
            let _ = print(erased); // only for the eye
        }
    }

    /// A piece of thinking, `tokens` so far: printed if thinking is shown, otherwise only counted.
    fn think(&mut self, text: &str, tokens: usize) {
        self.thought = Some(tokens);
        if !self.style.thinking {
            return self.progress.thinking(tokens);
        }
        self.make_room();
        let (kind, columns) = (self.streamed(), self.note_columns());
        let shown = wrap::pushed(&mut self.thinking, kind, columns, &sanitize(text));
        self.write_stderr(&shown, "2", "");
    }

    /// Ends the thinking, if any; later output starts on a new line.
    fn end_thinking(&mut self) {
        self.progress.clear();
        match self.thought.take() {
            Some(_) if self.style.thinking => {
                self.make_room();
                let rest = self.thinking.take().map_or_else(String::new, |mut wrap| wrap.end());
                self.write_stderr(&rest, "2", "\n");
            }
            Some(tokens) if self.progress.moves() => self.note(&stats::thought(tokens)),
            _ => {}
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
        self.make_room();
        self.answer.take().map_or_else(String::new, |mut wrap| wrap.end())
    }

    /// Prints text for people on stdout. Sanitized even in a pipe, which may end at a terminal.
    pub fn output(&mut self, text: &str) -> io::Result<()> {
        self.put(&wrapped(&sanitize(text), TextKind::Columns, self.columns()))
    }

    /// The same for text from users and models.
    pub fn conversation(&mut self, text: &str) -> io::Result<()> {
        self.put(&wrapped(&sanitize(text), TextKind::Prose, self.columns()))
    }

    /// The same for text with its own lines, which is not wrapped.
    pub fn source(&mut self, text: &str) -> io::Result<()> {
        self.put(&sanitize(text))
    }

    /// Prints help, styled where styles are allowed.
    pub fn help(&mut self, styled: &str, plain: &str) -> io::Result<()> {
        let text = if self.answers_to_terminal && self.colored() { styled } else { plain };
        print(&wrapped(text, TextKind::Columns, self.columns()))
    }

    /// Prints JSON on stdout with control characters escaped.
    pub fn json(&mut self, text: &str) -> io::Result<()> {
        self.put(&sanitize::in_json(text))
    }

    /// Prints text for other programs: unchanged to a pipe or file.
    pub fn output_as_it_is(&mut self, text: &str) -> io::Result<()> {
        self.put(&if self.answers_to_terminal { sanitize(text) } else { text.into() })
    }

    fn put(&mut self, text: &str) -> io::Result<()> {
        self.make_room();
        let mut out = stdout()?;
        out.write_all(text.as_bytes())?;
        out.write_all(if text.ends_with('\n') { b"" } else { b"\n" })?;
        out.flush()
    }

    /// Shows the progress of an event; `None`: only time has passed.
    pub fn show_progress(&mut self, event: Option<&Event>) {
        match event {
            None | Some(Event::Asked { .. }) => self.progress.tick(),
            Some(Event::Loading { fraction }) => self.progress.loading(*fraction),
            Some(Event::Prefill { done, total }) => self.progress.reading(*done, *total),
            Some(Event::Thinking { text, tokens }) => self.think(text, *tokens),
            Some(Event::Text(_)) => self.end_thinking(),
            Some(Event::Token(_) | Event::Choices(_)) => {}
            Some(Event::Notice(line)) => self.note(line),
            Some(Event::Dropped { messages, tokens, dropped }) => {
                self.note(&stats::dropped(*messages, *tokens, dropped))
            }
            Some(Event::Full { .. }) => self.make_room(), // the caller reports it
        }
    }

    /// Shows the step of a benchmark and its progress.
    pub fn show_measuring(&mut self, step: &str, event: Option<&Event>) {
        self.progress.measuring(step, event);
    }

    /// Shows the progress of a verification, in bytes.
    pub fn show_checking(&mut self, done: u64, total: u64) {
        self.progress.checking(done, total);
    }

    /// Shows the progress of a conversion, in numbers.
    pub fn show_converting(&mut self, done: u64, total: u64) {
        self.progress.converting(done, total);
    }

    /// Shows the progress of a download, in bytes.
    pub fn show_fetching(&mut self, done: u64, total: u64) {
        self.progress.fetching(done, total);
    }

    /// Shows the progress of an import, in bytes.
    pub fn show_importing(&mut self, done: u64, total: u64) {
        self.progress.importing(done, total);
    }

    /// Prints text on stdout. On a terminal, parts between `begin` and `end`, which are removed, are bold.
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
        self.make_room();
    }

    /// Whether notices are suppressed.
    pub fn is_quiet(&self) -> bool {
        self.style.quiet
    }

    /// A notice, dim.
    pub fn note(&mut self, line: &str) {
        if self.style.quiet {
            return;
        }
        self.tell(line, TextKind::Columns, "2");
    }

    /// A warning about a side task that failed, shown even with --quiet.
    pub fn warning(&mut self, line: &str) {
        self.tell(&format!("fireside: {line}"), TextKind::Columns, "31");
    }

    /// The output of a slash command on stderr, shown even with --quiet.
    pub fn show(&mut self, text: &str) {
        self.tell(text, TextKind::Columns, "");
    }

    /// The same for text from a user or a model.
    pub fn show_conversation(&mut self, text: &str) {
        self.tell(text, TextKind::Prose, "");
    }

    /// The same for a line that a user typed at this prompt.
    pub fn show_typed(&mut self, prompt: &str, text: &str) {
        self.make_room();
        let shown = wrapped(&sanitize(&format!("{prompt}{text}")), TextKind::Prose, self.note_columns());
        let (prompt, text) = shown.split_at(prompt.len().min(shown.len()));
        self.write_stderr(&format!("{}{text}", self.drawn(prompt, PROMPT)), "", "\n");
    }

    /// The same for text with its own lines, which is not wrapped.
    pub fn show_source(&mut self, text: &str) {
        self.make_room();
        self.write_stderr(&sanitize(text), "", "\n");
    }

    /// A question, answered on the same line.
    pub fn question(&mut self, text: &str) {
        self.make_room();
        self.write_stderr(&wrapped(&sanitize(text), TextKind::Columns, self.note_columns()), "", "");
    }

    /// Whether the terminal can show a picker.
    pub fn can_pick(&self) -> bool {
        self.errors_to_terminal && !is_plain() && terminal::device().is_some()
    }

    /// Lets the user pick a row; `None`: cancelled.
    pub fn pick(&mut self, question: picker::Question) -> io::Result<Option<usize>> {
        self.make_room();
        let terminal = terminal::device().ok_or_else(|| io::Error::other("there is no terminal"))?;
        picker::pick(terminal, question)
    }

    /// `fireside: …` and, if there is a hint, `hint: …`.
    pub fn show_failure(&mut self, line: &str, hint: Option<&str>) {
        self.tell(&format!("fireside: {}", one_line(line)), TextKind::Columns, "31");
        if let Some(hint) = hint {
            self.tell(&format!("hint: {}", one_line(hint)), TextKind::Columns, "2");
        }
    }

    /// The statistics line after an answer.
    pub fn stats(&mut self, stats: &Stats, first_token: Option<Duration>) {
        self.note(&stats::line(stats, first_token));
    }

    /// Prints whole lines to stderr. Sanitized even in a pipe, which may end at a terminal.
    fn tell(&mut self, text: &str, kind: TextKind, color: &str) {
        self.make_room();
        self.write_stderr(&wrapped(&sanitize(text), kind, self.note_columns()), color, "\n");
    }

    pub(super) fn write_stderr(&self, text: &str, color: &str, end: &str) {
        let line = self.drawn(text, color) + end;
        let _ = io::stderr().lock().write_all(line.as_bytes()); // a failure cannot be reported anywhere
    }

    fn drawn(&self, text: &str, color: &str) -> String {
        match color.is_empty() || text.is_empty() || !self.colored() {
            true => text.to_string(),
            false => format!("\x1b[{color}m{text}\x1b[0m"),
        }
    }

    /// The style of prompts, as SGR parameters; empty: none.
    pub fn prompt_style(&self) -> &'static str {
        if self.colored() { PROMPT } else { "" }
    }

    pub(super) fn colored(&self) -> bool {
        plain::is_coloured(self.style.color, self.errors_to_terminal)
    }
}
