//! Lines from the user: edited on a terminal, or read plainly from a pipe or a terminal that can do no more.
//!
//! The only file naming rustyline. A message may have several lines: pasted, joined with Ctrl-J, continued with a
//! trailing `\`, or between `"""` marks. It comes out whole, without the marks. Only what was typed is a mark: what was
//! pasted, recalled or put back is sent as it is.

mod external;
mod feed;

use std::borrow::Cow;
use std::cell::Cell;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustyline::completion::{Completer, FilenameCompleter, Pair};
use rustyline::config::{Behavior, CompletionType};
use rustyline::error::ReadlineError;
use rustyline::highlight::{CmdKind, Highlighter};
use rustyline::history::MemHistory;
use rustyline::{
    Cmd, ColorMode, ConditionalEventHandler, Config, Context, Event, EventContext, EventHandler, Helper,
    Hinter, KeyCode, KeyEvent, Modifiers, RepeatCount, Validator,
};

pub(super) use self::external::{in_external_editor, is_external_set, no_editor};
use self::feed::Feed;
use super::rows::Rows;
use crate::error::{Failure, reason};
use crate::repl::lines;
use crate::ui::answer::{self, Reply};
use crate::ui::terminal::{self, Hushed};
use crate::ui::{acts, keys, last_line, retype, sanitize, width};

/// What the user did at the prompt.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    Text(String),
    /// Ctrl-C, with what had been typed.
    Interrupted(String),
    /// Ctrl-D, or the end of the input.
    End,
}

/// What Tab offers for the line up to the cursor, and where in the line that begins; `None`: file names.
pub(super) type Complete = Box<dyn Fn(&str) -> Option<(usize, Vec<String>)>>;

pub(super) struct Editor(Kind);

enum Kind {
    Full(Box<Full>),
    Plain(Plain),
}

impl Editor {
    /// An editor on the terminal; the plain one where TERM says that the terminal can do no more.
    pub(super) fn on_terminal(history: Option<PathBuf>, complete: Complete) -> Result<Editor, Failure> {
        let feed = if crate::ui::dumb() { None } else { Feed::new() };
        match (feed, terminal::device()) {
            (Some(feed), _) => {
                Full::new(feed, history, complete).map(|full| Editor(Kind::Full(Box::new(full))))
            }
            (None, Some(device)) => Ok(Editor(Kind::Plain(Plain::on_terminal(device)))),
            (None, None) => Err(Failure::usage("cannot chat without a terminal")),
        }
    }

    /// Lines from stdin, for tests.
    pub(super) fn on_stdin() -> Editor {
        Editor(Kind::Plain(Plain {
            input: Box::new(BufReader::new(std::io::stdin())),
            device: None,
            prompt: false,
        }))
    }

    /// Whether there is somebody to answer a question.
    pub(super) fn asks(&self) -> bool {
        match &self.0 {
            Kind::Full(_) => true,
            Kind::Plain(plain) => plain.prompt,
        }
    }

    /// How prompts are drawn from now on.
    pub(super) fn draw_prompts(&mut self, style: &'static str) {
        if let Kind::Full(full) = &mut self.0
            && let Some(assistant) = full.editor.helper_mut()
        {
            assistant.prompts = style;
        }
    }

    /// Whether a text that is put into the line can be changed there.
    pub(super) fn edits(&self) -> bool {
        matches!(self.0, Kind::Full(_))
    }

    /// The next line, beginning with `initial` if there is any.
    pub(super) fn read(&mut self, prompt: &str, initial: &str) -> Result<Line, Failure> {
        match &mut self.0 {
            Kind::Full(full) => full.read(prompt, initial, false),
            Kind::Plain(plain) => plain.read(prompt, initial),
        }
    }

    /// The same with what is there already, which Esc leaves as it is; `None`: it is to stay so.
    pub(super) fn change(&mut self, prompt: &str, text: &str) -> Result<Option<String>, Failure> {
        let line = match &mut self.0 {
            Kind::Full(full) => full.read(prompt, text, true)?,
            Kind::Plain(plain) => plain.read(prompt, text)?,
        };
        Ok(match line {
            Line::Text(line) => Some(line),
            Line::Interrupted(_) | Line::End => None,
        })
    }

    /// What answers a question; `None`: nothing does. It is no line of the chat, nor is there any in it.
    pub(super) fn ask(&mut self, question: &str) -> Result<Option<String>, Failure> {
        Ok(match &mut self.0 {
            Kind::Full(_) => match answer::ask(question) {
                Some(Reply::Line(line)) => Some(line),
                _ => None,
            },
            Kind::Plain(plain) => match plain.read(question, "")? {
                Line::Text(line) => Some(line),
                Line::Interrupted(_) | Line::End => None,
            },
        })
    }
}

/// Whether the message goes on in the next line, where lines come one by one.
fn unfinished(text: &str) -> bool {
    let text = text.trim_start();
    match text.strip_prefix("\"\"\"") {
        Some(rest) => !rest.trim_end().ends_with("\"\"\""),
        None => text.ends_with('\\'),
    }
}

/// The message without the marks that held it together.
fn finished(text: &str) -> String {
    inside(text).unwrap_or_else(|| text.replace("\\\n", "\n"))
}

/// What stands between block marks.
fn inside(text: &str) -> Option<String> {
    let block = text.trim().strip_prefix(BLOCK)?.strip_suffix(BLOCK)?;
    Some(block.strip_prefix('\n').unwrap_or(block).trim_end_matches('\n').to_string())
}

/// Begins and ends a block of lines.
const BLOCK: &str = "\"\"\"";

/// Which marks were typed, and what is searched for, as far as that matters.
#[derive(Debug, Default)]
struct Typed {
    /// The line as the mark that was typed last left it: if it is still so, that was the last key.
    line: String,
    /// The line begins with a block mark.
    block: bool,
    /// The `\` at the end is to become a new line.
    continued: bool,
    /// Esc leaves the line where there is nothing else to cancel.
    cancels: bool,
    /// Earlier lines are being searched.
    searching: bool,
    /// The line as it was before.
    draft: String,
}

/// Notes a character of a mark and leaves it to rustyline, which inserts what was pasted without asking.
struct Mark(char, Arc<Mutex<Typed>>);

impl ConditionalEventHandler for Mark {
    fn handle(&self, _: &Event, count: RepeatCount, _: bool, ctx: &EventContext) -> Option<Cmd> {
        let mut typed = self.1.lock().expect(UNBROKEN);
        let (before, after) = ctx.line().split_at(ctx.pos());
        let before = before.to_string() + &self.0.to_string().repeat(count.into());
        typed.block |= before.trim_start() == BLOCK;
        typed.line = before + after;
        None
    }
}

/// Goes on in the next line where a mark that was typed asks for that.
struct Enter(Arc<Mutex<Typed>>);

impl ConditionalEventHandler for Enter {
    fn handle(&self, _: &Event, _: RepeatCount, _: bool, ctx: &EventContext) -> Option<Cmd> {
        let mut typed = self.0.lock().expect(UNBROKEN);
        let line = ctx.line();
        typed.block &= line.trim_start().starts_with(BLOCK);
        let just_typed = typed.line.trim_end() == line.trim_end();
        if typed.block {
            let closed = just_typed && inside(line).is_some();
            return (!closed).then_some(Cmd::Newline);
        }
        typed.continued = just_typed && line.ends_with('\\') && ctx.pos() == line.len();
        typed.continued.then_some(Cmd::Complete) // no other command replaces text and goes on behind it
    }
}

/// Notes the line before a search begins, which shows others in its place.
struct Search(Arc<Mutex<Typed>>);

impl ConditionalEventHandler for Search {
    fn handle(&self, _: &Event, _: RepeatCount, _: bool, ctx: &EventContext) -> Option<Cmd> {
        let mut typed = self.0.lock().expect(UNBROKEN);
        if !typed.searching {
            typed.draft = ctx.line().to_string();
        }
        None
    }
}

const UNBROKEN: &str = "nobody panics holding it";

/// How long rustyline waits for the rest of a key, which came with its beginning. In milliseconds.
const KEYS_APART: u16 = 100;

/// rustyline with our keys.
struct Full {
    editor: rustyline::Editor<Assistant, MemHistory>,
    feed: Feed,
    history: Option<PathBuf>,
    left: Left,
    typed: Arc<Mutex<Typed>>,
    /// Typed before the editor was there.
    earlier: VecDeque<String>,
    _hushed: Hushed,
}

/// What a key that ends the line left behind: rustyline itself does not hand out an interrupted line.
type Left = Arc<Mutex<Option<LeftLine>>>;

#[derive(Debug)]
struct LeftLine {
    line: String,
    /// Of the cursor, in bytes.
    position: usize,
    why: Why,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    Interrupt,
    Cancel,
    Edit,
    Suspend,
}

struct LeaveLine {
    left: Left,
    typed: Arc<Mutex<Typed>>,
    why: Why,
}

impl ConditionalEventHandler for LeaveLine {
    fn handle(&self, _: &Event, _: RepeatCount, _: bool, ctx: &EventContext) -> Option<Cmd> {
        let typed = self.typed.lock().expect(UNBROKEN);
        if self.why == Why::Cancel && (typed.searching || !typed.cancels) {
            return None;
        }
        let given_up = typed.searching && self.why == Why::Interrupt;
        let line = if given_up { typed.draft.clone() } else { ctx.line().to_string() };
        *self.left.lock().expect(UNBROKEN) = Some(LeftLine { line, position: ctx.pos(), why: self.why });
        Some(Cmd::Interrupt)
    }
}

impl Full {
    fn new(feed: Feed, history: Option<PathBuf>, complete: Complete) -> Result<Full, Failure> {
        let cannot = |e: ReadlineError| Failure::new(format!("could not use the terminal: {e}"));
        let config = Config::builder()
            .behavior(Behavior::Stdio)
            .keyseq_timeout(Some(KEYS_APART))
            .completion_type(CompletionType::List)
            .completion_prompt_limit(usize::MAX)
            .max_history_size(lines::MOST)
            .and_then(|config| config.history_ignore_dups(true))
            .map_err(cannot)?
            .bracketed_paste(true)
            .color_mode(ColorMode::Forced) // else NO_COLOR would leave out what makes control characters visible
            .build();
        let typed_before = MemHistory::with_config(&config);
        let editor = feed.around(|| rustyline::Editor::with_history(config, typed_before));
        let mut editor = editor.map_err(ReadlineError::from).flatten().map_err(cannot)?;
        let typed = Arc::<Mutex<Typed>>::default();
        let files = FilenameCompleter::new();
        let rows = Rows::new();
        let odd = Cell::default();
        editor.set_helper(Some(Assistant { complete, files, typed: typed.clone(), rows, odd, prompts: "" }));
        let left = Left::default();
        let leave = |why| {
            EventHandler::Conditional(Box::new(LeaveLine { left: left.clone(), typed: typed.clone(), why }))
        };
        editor.bind_sequence(KeyEvent::ctrl('C'), leave(Why::Interrupt));
        editor.bind_sequence(KeyEvent::ctrl('G'), leave(Why::Cancel)); // Esc
        editor.bind_sequence(KeyEvent::ctrl('Z'), leave(Why::Suspend));
        editor.bind_sequence(KeyEvent::ctrl('J'), EventHandler::Simple(Cmd::Newline));
        let search = EventHandler::Conditional(Box::new(Search(typed.clone())));
        editor.bind_sequence(KeyEvent::ctrl('R'), search);
        for mark in ['\\', '"'] {
            let handler = Box::new(Mark(mark, typed.clone()));
            editor.bind_sequence(KeyEvent::from(mark), EventHandler::Conditional(handler));
        }
        let enter = KeyEvent(KeyCode::Enter, Modifiers::NONE);
        editor.bind_sequence(enter, EventHandler::Conditional(Box::new(Enter(typed.clone()))));
        let edit = Event::KeySeq(vec![KeyEvent::ctrl('X'), KeyEvent::ctrl('E')]);
        editor.bind_sequence(edit, leave(Why::Edit));
        // What is wrong with the file is said when the first line is to be kept.
        for line in history.as_ref().and_then(|path| lines::read(path).ok()).unwrap_or_default() {
            let _ = editor.add_history_entry(line);
        }
        Ok(Full {
            editor,
            history,
            left,
            typed,
            earlier: terminal::lines_typed_ahead().into(),
            feed,
            _hushed: Hushed::new(),
        })
    }

    fn read(&mut self, prompt: &str, initial: &str, cancels: bool) -> Result<Line, Failure> {
        if let Some(line) = self.earlier.pop_front() {
            crate::ui::log(&format!("{prompt}{line}\n"));
            retype(prompt, "", &line);
            self.remember(&line);
            return Ok(Line::Text(line));
        }
        *self.typed.lock().expect(UNBROKEN) = Typed { cancels, ..Typed::default() };
        let line = self.edited(initial, prompt);
        terminal::mark_pastes(); // what is pasted while it writes comes with marks as well
        line
    }

    fn edited(&mut self, initial: &str, prompt: &str) -> Result<Line, Failure> {
        let mut initial = (initial.to_string(), String::new());
        loop {
            let editor = &mut self.editor;
            let read = self.feed.run(|| editor.readline_with_initial(prompt, (&initial.0, &initial.1)));
            match read.map_err(ReadlineError::from).flatten() {
                Ok(line) => {
                    let style = self.editor.helper().map_or("", |assistant| assistant.prompts);
                    retype(prompt, style, &line);
                    let block = self.typed.lock().expect(UNBROKEN).block;
                    let line = inside(&line).filter(|_| block).unwrap_or(line);
                    self.remember(&line);
                    return Ok(Line::Text(line));
                }
                Err(ReadlineError::Interrupted) => match self.take_left() {
                    Some(left) if left.why == Why::Edit => {
                        let edited = in_external_editor(&left.line);
                        initial.0 = edited.unwrap_or_else(|failure| {
                            show(&failure);
                            left.line
                        });
                        initial.1.clear();
                    }
                    Some(left) if left.why == Why::Suspend => {
                        terminal::suspend();
                        let (before, after) = left.line.split_at(left.position);
                        initial = (before.to_string(), after.to_string());
                    }
                    left => {
                        let line = left.map(|left| left.line).unwrap_or_default();
                        self.remember(&line);
                        return Ok(Line::Interrupted(line));
                    }
                },
                Err(ReadlineError::Eof) => return Ok(Line::End),
                Err(ReadlineError::Signal(_)) => {}
                Err(e) => return Err(Failure::new(format!("could not read from the terminal: {e}"))),
            }
        }
    }

    fn take_left(&self) -> Option<LeftLine> {
        self.left.lock().expect(UNBROKEN).take()
    }

    fn remember(&mut self, line: &str) {
        if line.trim().is_empty() {
            return;
        }
        let new = self.editor.add_history_entry(line).unwrap_or(true); // not the same as the one before
        if let Some(path) = self.history.as_ref().filter(|_| new)
            && let Err(e) = lines::append(path, line)
        {
            let (why, shown) = (reason(&e), path.display().to_string());
            let why = if why.contains(&shown) { why } else { format!("{shown}: {why}") };
            last_line(&format!("fireside: could not save typed lines: {why}"));
            self.history = None;
        }
    }
}

fn show(failure: &Failure) {
    last_line(&format!("fireside: {failure}"));
    failure.hint.iter().for_each(|hint| last_line(&format!("hint: {hint}")));
}

#[derive(Helper, Hinter, Validator)]
struct Assistant {
    complete: Complete,
    files: FilenameCompleter,
    typed: Arc<Mutex<Typed>>,
    rows: Rows,
    /// How many signs of the line take other room than rustyline knows when it deletes them.
    odd: Cell<usize>,
    /// Numbers of SGR; none: as all else.
    prompts: &'static str,
}

/// Control characters in a line that was edited elsewhere, or put back, do nothing when they are shown.
impl Highlighter for Assistant {
    fn highlight_prompt<'b, 's: 'b, 'p: 'b>(&'s self, prompt: &'p str, default: bool) -> Cow<'b, str> {
        self.typed.lock().expect(UNBROKEN).searching = !default;
        let before = self.rows.before(prompt);
        match self.prompts {
            "" if before.is_empty() => Cow::Borrowed(prompt),
            "" => Cow::Owned(before + prompt),
            style => Cow::Owned(format!("{before}\x1b[{style}m{prompt}\x1b[0m")),
        }
    }

    fn highlight<'l>(&self, line: &'l str, _: usize) -> Cow<'l, str> {
        sanitize(line)
    }

    fn highlight_char(&self, line: &str, position: usize, _: CmdKind) -> bool {
        self.rows.next(line, position);
        let odd = line.chars().filter(|c| matches!(c, '\n' | '\t') || acts(*c)).count();
        self.odd.replace(odd) > odd || line.contains(acts)
    }
}

impl Completer for Assistant {
    type Candidate = Pair;

    fn complete(&self, line: &str, pos: usize, ctx: &Context) -> rustyline::Result<(usize, Vec<Pair>)> {
        if std::mem::take(&mut self.typed.lock().expect(UNBROKEN).continued) {
            let new_line = "\n".to_string();
            return Ok((pos - 1, vec![Pair { display: new_line.clone(), replacement: new_line }]));
        }
        let (start, mut offered) = match (self.complete)(&line[..pos]) {
            Some((start, names)) => {
                let pair = |name: String| Pair { display: name.trim_end().to_string(), replacement: name };
                (start, names.into_iter().map(pair).collect())
            }
            None => self.files.complete(line, pos, ctx)?,
        };
        offered.retain(|pair| !pair.display.contains(acts)); // a file's name must not act on the terminal
        Ok((start, as_many_as_fit(offered)))
    }
}

/// The first of these, as many as the window shows at once, and how many more there are: rustyline would ask about them, and
/// only some keys would answer.
fn as_many_as_fit(mut offered: Vec<Pair>) -> Vec<Pair> {
    let Some((columns, rows)) = terminal::window() else { return offered };
    let more = |count: usize| format!("… and {count} more");
    let widths = offered.iter().map(|pair| width(&pair.display));
    let widest = widths.chain([width(&more(offered.len()))]).max().unwrap_or_default();
    let most = (columns / (widest + 2)).max(1) * rows.saturating_sub(3).max(2);
    if offered.len() > most {
        offered.sort_by(|a, b| a.replacement.cmp(&b.replacement)); // the first and the last one have in common what all have
        let left_out = offered.len() - (most - 1);
        let last = offered.pop().map(|last| Pair { display: more(left_out), ..last });
        offered.truncate(most - 1);
        offered.extend(last);
    }
    offered
}

/// One line after the other, without editing.
struct Plain {
    input: Box<dyn BufRead>,
    /// The terminal, where Ctrl-C must be noticed while waiting.
    device: Option<OwnedFd>,
    prompt: bool,
}

impl Plain {
    fn on_terminal(device: File) -> Plain {
        let watched = device.try_clone().ok().map(OwnedFd::from);
        Plain { input: Box::new(BufReader::new(device)), device: watched, prompt: true }
    }

    fn read(&mut self, prompt: &str, initial: &str) -> Result<Line, Failure> {
        let mut text = String::new();
        if !initial.is_empty() && self.prompt {
            last_line(&format!("(not sent: {initial})"));
        }
        loop {
            if self.prompt {
                crate::ui::log(if text.is_empty() { prompt } else { "… " });
            }
            if self.device.as_ref().is_some_and(interrupted_while_waiting) {
                crate::ui::log("\n");
                return Ok(Line::Interrupted(text));
            }
            let mut line = String::new();
            let read = self.input.read_line(&mut line);
            let read = read.map_err(|e| Failure::new(format!("could not read a line: {e}")))?;
            text += &if self.prompt { keys::typed(&line) } else { line };
            if read == 0 && text.is_empty() {
                if self.prompt {
                    crate::ui::log("\n");
                }
                return Ok(Line::End);
            }
            let whole = text.strip_suffix('\n').unwrap_or(&text);
            if read == 0 || !unfinished(whole) {
                return Ok(Line::Text(finished(whole)));
            }
        }
    }
}

/// Waits for something to read; Ctrl-C ends the waiting.
fn interrupted_while_waiting(device: &OwnedFd) -> bool {
    let mut wanted = [PollFd::new(device.as_fd(), PollFlags::POLLIN)];
    loop {
        if terminal::interrupted() {
            return true;
        }
        // Not for ever: Ctrl-C may come just before the waiting begins, or to another thread.
        match poll(&mut wanted, PollTimeout::from(50u8)) {
            Ok(0) | Err(nix::errno::Errno::EINTR) => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_and_backslashes_hold_lines_together() {
        assert!(unfinished("\"\"\"one"));
        assert!(unfinished("\"\"\"one\ntwo"));
        assert!(!unfinished("\"\"\"one\ntwo\"\"\""));
        assert!(unfinished("\"\"\""));
        assert!(unfinished("one \\"));
        assert!(!unfinished("a \"\"\" in the middle"));
        assert_eq!(finished("\"\"\"\none\ntwo\n\"\"\""), "one\ntwo");
        assert_eq!(finished("one \\\ntwo"), "one \ntwo");
        assert_eq!(finished("  indented"), "  indented");
    }
}
