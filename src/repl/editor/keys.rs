//! Keys with a special meaning in the line editor: block marks, Enter, search, and the keys that end a line.
//!
//! rustyline inserts pasted text without calling these handlers, so only typed marks count.

use std::sync::{Arc, Mutex};

use rustyline::history::History;
use rustyline::{
    At, Cmd, ConditionalEventHandler, EditMode, Editor, Event, EventContext, EventHandler, Helper, InputMode,
    KeyCode, KeyEvent, Modifiers, Movement, RepeatCount, Word,
};

use super::blocks::{BLOCK, inside};
use crate::ui::terminal::{self, Cursor};

pub(super) const UNBROKEN: &str = "nobody panics holding it";

/// The handlers' state of the line being edited.
#[derive(Debug, Default)]
pub(super) struct LineState {
    /// The line after the last typed mark. If the line is still the same, the mark was the last key.
    after_mark: String,
    /// Whether the line begins with a block mark.
    pub(super) block: bool,
    /// Whether the final `\` becomes a new line.
    pub(super) continued: bool,
    /// Whether Esc ends the line if there is nothing else to cancel.
    cancels: bool,
    /// Whether a search through earlier lines is running.
    pub(super) searching: bool,
    /// Whether the line is drawn for a search next.
    pub(super) search_begins: bool,
    /// The line before the search.
    before_search: String,
}

impl LineState {
    pub(super) fn new(cancels: bool) -> LineState {
        LineState { cancels, ..LineState::default() }
    }
}

/// A line ended by a key. rustyline itself does not return an interrupted line.
#[derive(Debug)]
pub(super) struct EndedLine {
    pub(super) line: String,
    /// The cursor's position in bytes.
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

/// The state that the handlers share with the editor.
#[derive(Debug, Clone, Default)]
pub(super) struct Shared {
    pub(super) state: Arc<Mutex<LineState>>,
    ended: Arc<Mutex<Option<EndedLine>>>,
}

impl Shared {
    /// Takes the line that a key ended.
    pub(super) fn take_ended(&self) -> Option<EndedLine> {
        self.ended.lock().expect(UNBROKEN).take()
    }
}

/// Binds the keys.
pub(super) fn bind<H: Helper, I: History>(editor: &mut Editor<H, I>, shared: &Shared) {
    let handler = |handler: Box<dyn ConditionalEventHandler>| EventHandler::Conditional(handler);
    let end = |key| handler(Box::new(EndLine { shared: shared.clone(), key }));
    editor.bind_sequence(KeyEvent::ctrl('C'), end(EndKey::Interrupt));
    editor.bind_sequence(KeyEvent::ctrl('G'), end(EndKey::Cancel)); // Esc
    editor.bind_sequence(KeyEvent::ctrl('Z'), end(EndKey::Suspend));
    let edit = Event::KeySeq(vec![KeyEvent::ctrl('X'), KeyEvent::ctrl('E')]);
    editor.bind_sequence(edit, end(EndKey::Edit));
    let edit = Event::KeySeq(vec![KeyEvent::ctrl('X'), KeyEvent::ctrl('G')]); // Ctrl-G
    editor.bind_sequence(edit, handler(Box::new(EditorKey(shared.clone()))));
    editor.bind_sequence(KeyEvent::ctrl('J'), EventHandler::Simple(Cmd::Newline));
    editor.bind_sequence(KeyEvent::ctrl('L'), EventHandler::Simple(Cmd::ClearScreen));
    for (key, command) in [
        (KeyEvent(KeyCode::Left, Modifiers::CTRL), Cmd::Move(PREVIOUS_WORD)),
        (KeyEvent(KeyCode::Right, Modifiers::CTRL), Cmd::Move(NEXT_WORD)),
        (KeyEvent(KeyCode::Backspace, Modifiers::ALT), Cmd::Kill(PREVIOUS_WORD)),
        (KeyEvent(KeyCode::Delete, Modifiers::CTRL), Cmd::Kill(NEXT_WORD)),
    ] {
        editor.bind_sequence(key, EventHandler::Simple(command));
    }
    for key in [KeyEvent::ctrl('E'), KeyEvent(KeyCode::End, Modifiers::NONE)] {
        editor.bind_sequence(key, handler(Box::new(HintKey)));
    }
    editor.bind_sequence(Event::Any, handler(Box::new(ViMode)));
    editor.bind_sequence(KeyEvent::ctrl('R'), handler(Box::new(SearchKey(shared.state.clone()))));
    for mark in ['\\', '"'] {
        editor.bind_sequence(KeyEvent::from(mark), handler(Box::new(MarkKey(mark, shared.state.clone()))));
    }
    let enter = KeyEvent(KeyCode::Enter, Modifiers::NONE);
    editor.bind_sequence(enter, handler(Box::new(EnterKey(shared.state.clone()))));
}

const PREVIOUS_WORD: Movement = Movement::BackwardWord(1, Word::Emacs);
const NEXT_WORD: Movement = Movement::ForwardWord(1, At::AfterEnd, Word::Emacs);

/// Records a character of a mark; rustyline inserts it.
struct MarkKey(char, Arc<Mutex<LineState>>);

impl ConditionalEventHandler for MarkKey {
    fn handle(&self, _: &Event, count: RepeatCount, _: bool, ctx: &EventContext) -> Option<Cmd> {
        if is_command_mode(ctx) {
            return None;
        }
        let mut state = self.1.lock().expect(UNBROKEN);
        let (before, after) = ctx.line().split_at(ctx.pos());
        let before = before.to_string() + &self.0.to_string().repeat(count.into());
        state.block |= before.trim_start() == BLOCK;
        state.after_mark = before + after;
        None
    }
}

/// Continues on the next line if a typed mark says so.
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
        // No other command replaces text and moves the cursor behind it.
        state.continued.then_some(Cmd::Complete)
    }
}

/// Saves the line before a search replaces it.
struct SearchKey(Arc<Mutex<LineState>>);

impl ConditionalEventHandler for SearchKey {
    fn handle(&self, event: &Event, count: RepeatCount, positive: bool, ctx: &EventContext) -> Option<Cmd> {
        let mut state = self.0.lock().expect(UNBROKEN);
        if !state.searching {
            state.before_search = ctx.line().to_string();
            state.search_begins = true;
        }
        drop(state);
        ViMode.handle(event, count, positive, ctx)
    }
}

/// At the end of the line, accepts the hint.
struct HintKey;

impl ConditionalEventHandler for HintKey {
    fn handle(&self, _: &Event, _: RepeatCount, _: bool, ctx: &EventContext) -> Option<Cmd> {
        (ctx.has_hint() && ctx.pos() == ctx.line().len()).then_some(Cmd::CompleteHint)
    }
}

/// Cancels a search, or opens the editor.
struct EditorKey(Shared);

impl ConditionalEventHandler for EditorKey {
    fn handle(&self, event: &Event, count: RepeatCount, positive: bool, ctx: &EventContext) -> Option<Cmd> {
        if self.0.state.lock().expect(UNBROKEN).searching {
            return Some(Cmd::Abort);
        }
        EndLine { shared: self.0.clone(), key: EndKey::Edit }.handle(event, count, positive, ctx)
    }
}

/// Shows vi's mode by the shape of the cursor. Sees the keys without a handler of their own.
struct ViMode;

impl ConditionalEventHandler for ViMode {
    fn handle(&self, event: &Event, _: RepeatCount, _: bool, ctx: &EventContext) -> Option<Cmd> {
        let KeyEvent(key, modifiers) = event.get(0)?;
        let inserts = match (is_command_mode(ctx), key) {
            (true, KeyCode::Char('R' | 'S')) if modifiers.contains(Modifiers::CTRL) => true,
            (true, KeyCode::Char(c)) => "aAcCiIRsS".contains(*c) && *modifiers == Modifiers::NONE,
            (true, _) => false,
            (false, _) => !modifiers.contains(Modifiers::ALT), // feed.rs sends Esc as a key with Alt
        };
        if ctx.mode() == EditMode::Vi && inserts == is_command_mode(ctx) {
            terminal::shape_cursor(if inserts { Cursor::Bar } else { Cursor::Block });
        }
        None
    }
}

fn is_command_mode(ctx: &EventContext) -> bool {
    ctx.mode() == EditMode::Vi && ctx.input_mode() == InputMode::Command
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
