//! Keys with a meaning of their own in the line editor: block marks, Enter, search, and the keys that end a line.
//!
//! rustyline inserts pasted text without calling these handlers, so only typed marks count.

use std::sync::{Arc, Mutex};

use rustyline::history::History;
use rustyline::{
    Cmd, ConditionalEventHandler, Editor, Event, EventContext, EventHandler, Helper, KeyCode, KeyEvent,
    Modifiers, RepeatCount,
};

use super::blocks::{BLOCK, inside};

pub(super) const UNBROKEN: &str = "nobody panics holding it";

/// What the handlers remember about the line that is being edited.
#[derive(Debug, Default)]
pub(super) struct LineState {
    /// The line after the last typed mark: if it has not changed since, the mark was the last key.
    after_mark: String,
    /// The line begins with a block mark.
    pub(super) block: bool,
    /// The `\` at the end becomes a new line.
    pub(super) continued: bool,
    /// Esc ends the line if there is nothing else to cancel.
    cancels: bool,
    /// A search through earlier lines is running.
    pub(super) searching: bool,
    /// The line before the search.
    before_search: String,
}

impl LineState {
    pub(super) fn new(cancels: bool) -> LineState {
        LineState { cancels, ..LineState::default() }
    }
}

/// The line that a key ended: rustyline itself does not return an interrupted line.
#[derive(Debug)]
pub(super) struct EndedLine {
    pub(super) line: String,
    /// Of the cursor, in bytes.
    pub(super) position: usize,
    pub(super) key: EndKey,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EndKey {
    Interrupt,
    Cancel,
    Edit,
    Suspend,
}

/// What the handlers share with the editor.
#[derive(Debug, Clone, Default)]
pub(super) struct Shared {
    pub(super) state: Arc<Mutex<LineState>>,
    ended: Arc<Mutex<Option<EndedLine>>>,
}

impl Shared {
    /// The line that a key ended, once.
    pub(super) fn take_ended(&self) -> Option<EndedLine> {
        self.ended.lock().expect(UNBROKEN).take()
    }
}

/// Gives the keys their meaning.
pub(super) fn bind<H: Helper, I: History>(editor: &mut Editor<H, I>, shared: &Shared) {
    let handler = |handler: Box<dyn ConditionalEventHandler>| EventHandler::Conditional(handler);
    let end = |key| handler(Box::new(EndLine { shared: shared.clone(), key }));
    editor.bind_sequence(KeyEvent::ctrl('C'), end(EndKey::Interrupt));
    editor.bind_sequence(KeyEvent::ctrl('G'), end(EndKey::Cancel)); // Esc
    editor.bind_sequence(KeyEvent::ctrl('Z'), end(EndKey::Suspend));
    let edit = Event::KeySeq(vec![KeyEvent::ctrl('X'), KeyEvent::ctrl('E')]);
    editor.bind_sequence(edit, end(EndKey::Edit));
    editor.bind_sequence(KeyEvent::ctrl('J'), EventHandler::Simple(Cmd::Newline));
    editor.bind_sequence(KeyEvent::ctrl('R'), handler(Box::new(SearchKey(shared.state.clone()))));
    for mark in ['\\', '"'] {
        editor.bind_sequence(KeyEvent::from(mark), handler(Box::new(MarkKey(mark, shared.state.clone()))));
    }
    let enter = KeyEvent(KeyCode::Enter, Modifiers::NONE);
    editor.bind_sequence(enter, handler(Box::new(EnterKey(shared.state.clone()))));
}

/// Notes a character of a mark and leaves it to rustyline to insert it.
struct MarkKey(char, Arc<Mutex<LineState>>);

impl ConditionalEventHandler for MarkKey {
    fn handle(&self, _: &Event, count: RepeatCount, _: bool, ctx: &EventContext) -> Option<Cmd> {
        let mut state = self.1.lock().expect(UNBROKEN);
        let (before, after) = ctx.line().split_at(ctx.pos());
        let before = before.to_string() + &self.0.to_string().repeat(count.into());
        state.block |= before.trim_start() == BLOCK;
        state.after_mark = before + after;
        None
    }
}

/// Continues on the next line if a typed mark asks for that.
struct EnterKey(Arc<Mutex<LineState>>);

impl ConditionalEventHandler for EnterKey {
    fn handle(&self, _: &Event, _: RepeatCount, _: bool, ctx: &EventContext) -> Option<Cmd> {
        let mut state = self.0.lock().expect(UNBROKEN);
        let line = ctx.line();
        state.block &= line.trim_start().starts_with(BLOCK);
        let just_typed = state.after_mark.trim_end() == line.trim_end();
        if state.block {
            let closed = just_typed && inside(line).is_some();
            return (!closed).then_some(Cmd::Newline);
        }
        state.continued = just_typed && line.ends_with('\\') && ctx.pos() == line.len();
        state.continued.then_some(Cmd::Complete) // no other command replaces text and moves the cursor behind it
    }
}

/// Notes the line before a search shows others in its place.
struct SearchKey(Arc<Mutex<LineState>>);

impl ConditionalEventHandler for SearchKey {
    fn handle(&self, _: &Event, _: RepeatCount, _: bool, ctx: &EventContext) -> Option<Cmd> {
        let mut state = self.0.lock().expect(UNBROKEN);
        if !state.searching {
            state.before_search = ctx.line().to_string();
        }
        None
    }
}

struct EndLine {
    shared: Shared,
    key: EndKey,
}

impl ConditionalEventHandler for EndLine {
    fn handle(&self, _: &Event, _: RepeatCount, _: bool, ctx: &EventContext) -> Option<Cmd> {
        let state = self.shared.state.lock().expect(UNBROKEN);
        if self.key == EndKey::Cancel && (state.searching || !state.cancels) {
            return None;
        }
        let search_stopped = state.searching && self.key == EndKey::Interrupt;
        let line = if search_stopped { state.before_search.clone() } else { ctx.line().to_string() };
        *self.shared.ended.lock().expect(UNBROKEN) =
            Some(EndedLine { line, position: ctx.pos(), key: self.key });
        Some(Cmd::Interrupt)
    }
}
