//! Who answers a conversation. A backend gets the whole of it every turn; what it remembers is its own affair.

pub mod local;
pub mod probe;
pub mod script;
pub mod working;

use std::cell::RefCell;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use crate::chat::{Counts, Event, Message, Request, Stats, TokenCount};
use crate::error::Failure;

/// Answers conversations, one request at a time, in the background.
pub trait Backend {
    /// Says `Ready` when the model is loaded, or why it cannot be.
    fn load(&mut self) -> ReplyStream;
    /// Evaluates ahead while the user types what `next`, with its files, will say; the next call of any kind ends it.
    fn prepare(&mut self, _request: Request, _next: Message) {}
    /// Begins to answer. Where the prompt leaves less than `room` for that it says `Full`, and fails.
    fn reply(&mut self, request: Request) -> ReplyStream;
    /// Known from the beginning, before anything is loaded.
    fn describe(&self) -> &Description;
    /// What can be asked besides answers; `None`: nothing, this backend keeps prompts and tokens to itself.
    fn inspect(&mut self) -> Option<&mut dyn Inspect> {
        None
    }
    /// Gives memory back; nothing may be asked afterwards.
    fn close(&mut self) {}
}

/// Prompts and tokens, of a backend that has them at hand. Each waits until the model is loaded.
pub trait Inspect {
    /// How much of the context a request takes.
    fn count(&mut self, request: Request) -> Result<Counts, Failure>;
    /// About how many tokens each of these messages takes.
    fn token_counts(&mut self, messages: Vec<Arc<Message>>) -> Result<Vec<TokenCount>, Failure>;
    /// The exact prompt of a request.
    fn render(&mut self, request: Request) -> Result<Rendered, Failure>;
    /// Waits until what was evaluated is in the prompt cache on disk, if it goes there at all, at most so long.
    fn flush(&mut self, _patience: Duration) {}
}

/// What answers, for banners and records.
#[derive(Debug, Clone, Default)]
pub struct Description {
    pub name: String,
    pub path: Option<PathBuf>,
    /// Tells this model from any other, wherever its files lie, but not from one that was edited a little.
    pub fingerprint: String,
    /// Tells its files, as they are, from any others and from what they were before the last change.
    pub stamp: String,
    /// Architecture, size and the like, one line.
    pub facts: String,
    /// What it runs on, one line.
    pub device: String,
    /// What the user should know before a chat, a line each.
    pub warnings: Vec<String>,
    /// What the user should know about every answer, a line each.
    pub cautions: Vec<String>,
    /// Whether it was made to hold conversations; otherwise it completes text.
    pub chats: bool,
    /// The chat template's source, empty if there is none.
    pub template: String,
    /// Tells it from any other; empty if there is none.
    pub template_sum: String,
    /// Most tokens of context.
    pub context_limit: usize,
    /// What the model was trained for, where that is known.
    pub trained_context: Option<usize>,
}

/// A prompt as the model sees it.
#[derive(Debug, Clone, Default)]
pub struct Rendered {
    pub text: String,
    /// Token ids with the text they stand for.
    pub tokens: Vec<(i32, String)>,
    pub notes: Vec<String>,
}

/// What a backend says while it works; `Ready` or `Done` is the last.
#[derive(Debug)]
pub enum BackendEvent {
    Event(Event),
    Ready,
    Done(Result<Stats, Failure>),
}

/// How far loading has come, shared between the thread that loads and the one that waits.
#[derive(Debug, Default)]
pub struct Loading {
    pub(crate) active: AtomicBool,
    pub(crate) abort: AtomicBool,
    /// In thousandths.
    pub(crate) done: AtomicU32,
}

/// An answer being made. Dropping it does not stop it; [`ReplyStream::cancel`] does.
pub struct ReplyStream {
    events: Receiver<BackendEvent>,
    /// Received while text was being gathered, not yet handed out.
    held: RefCell<Option<BackendEvent>>,
    cancel: Arc<AtomicBool>,
    loading: Arc<Loading>,
}

impl ReplyStream {
    pub(crate) fn new(
        events: Receiver<BackendEvent>,
        cancel: Arc<AtomicBool>,
        loading: Arc<Loading>,
    ) -> ReplyStream {
        ReplyStream { events, held: RefCell::new(None), cancel, loading }
    }

    /// The next thing said, or `None` if nothing was for `patience`. Text that has piled up behind a slow reader comes
    /// as one piece. A backend that died is a failure.
    pub fn next(&self, patience: Duration) -> Option<BackendEvent> {
        if let Some(events) = self.held.take() {
            return Some(events);
        }
        match self.events.recv_timeout(patience) {
            Ok(BackendEvent::Event(event)) => Some(BackendEvent::Event(self.gather(event))),
            Ok(events) => Some(events),
            Err(RecvTimeoutError::Timeout) if self.loading.active.load(Ordering::Relaxed) => {
                let fraction = self.loading.done.load(Ordering::Relaxed) as f32 / 1000.0;
                Some(BackendEvent::Event(Event::Loading { fraction }))
            }
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => Some(BackendEvent::Done(Err(Failure::new(
                "the engine has stopped: this is a bug in fireside",
            )))),
        }
    }

    fn gather(&self, mut event: Event) -> Event {
        while matches!(event, Event::Text(_) | Event::Thinking { .. })
            && let Ok(events) = self.events.try_recv()
        {
            match (&mut event, events) {
                (Event::Text(text), BackendEvent::Event(Event::Text(more))) => text.push_str(&more),
                (
                    Event::Thinking { text, tokens },
                    BackendEvent::Event(Event::Thinking { text: more, tokens: so_far }),
                ) => {
                    text.push_str(&more);
                    *tokens = so_far;
                }
                (_, other) => {
                    self.held.replace(Some(other));
                    break;
                }
            }
        }
        event
    }

    /// Asks for an end at the next token, the next chunk of the prompt, or the next part of the file.
    pub fn cancel(&self) {
        self.cancel.store(true, Ordering::Relaxed);
        if self.loading.active.load(Ordering::Relaxed) {
            self.loading.abort.store(true, Ordering::Relaxed);
        }
    }
}
