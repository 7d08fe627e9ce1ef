//! The backend interface: a request → a stream of events. Every request carries the whole conversation; a
//! backend does its own caching.

pub mod crash_mark;
mod error;
pub mod local;
pub mod remote;
pub mod script;
pub mod probe;

use std::cell::RefCell;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

pub use self::error::{Error, ServerFault};
use crate::chat::{Constraint, Counts, Event, Message, Request, Stats, TokenCount};
pub use crate::engine::constraint::{matches, matches_loosely};
use crate::engine::{self, constraint};

/// Checks a constraint without a model. Returns notices for the user, one line each.
pub fn check_constraint(constraint: &Constraint) -> Result<Vec<String>, Error> {
    constraint::check(constraint).map_err(|error| engine::Error::from(error).into())
}

/// Answers conversations, one request at a time, in the background.
pub trait Backend {
    /// Sends `Ready` when the model is loaded, or an error.
    fn load(&mut self) -> ReplyStream;
    /// Prefills ahead while the user types `next`, whose files are known; any later call ends that.
    fn prepare(&mut self, _request: Request, _next: Message) {}
    /// Begins to answer. If the prompt leaves less than `reserve` for the answer, it sends `Full` and fails.
    fn reply(&mut self, request: Request) -> ReplyStream;
    /// Known before the model is loaded.
    fn describe(&self) -> &Description;
    /// Access to prompts and tokens; `None`: this backend has none.
    fn inspect(&mut self) -> Option<&mut dyn Inspect> {
        None
    }
    /// Frees all memory; no calls may follow.
    fn close(&mut self) {}
}

/// Access to prompts and tokens, for backends that have them. Each call waits until the model is loaded.
pub trait Inspect {
    /// The tokens of a request.
    fn count(&mut self, request: Request) -> Result<Counts, Error>;
    /// The approximate tokens of each message.
    fn token_counts(&mut self, messages: Vec<Arc<Message>>) -> Result<Vec<TokenCount>, Error>;
    /// The exact prompt of a request.
    fn render(&mut self, request: Request) -> Result<Rendered, Error>;
    /// Waits, at most this long, until the last prompt is in the prompt cache, if it is to be saved at all.
    fn flush(&mut self, _patience: Duration) {}
}

/// A backend's model, for banners and records.
#[derive(Debug, Clone, Default)]
pub struct Description {
    pub name: String,
    pub path: Option<PathBuf>,
    /// Where the conversation goes, as people write it; `None`: it stays on this machine.
    pub host: Option<String>,
    /// Fingerprint: identifies the model wherever its files are, but may miss small edits.
    pub fingerprint: String,
    /// Stamp: identifies the exact files, and changes with every modification.
    pub stamp: String,
    /// Architecture, size and the like, one line.
    pub facts: String,
    /// The device, one line.
    pub device: String,
    /// Notices for the start of a chat, one line each.
    pub warnings: Vec<String>,
    /// Notices for every run, one line each.
    pub cautions: Vec<String>,
    /// Whether it is a chat model; otherwise it completes text.
    pub chats: bool,
    /// The chat template's source, empty if there is none.
    pub template: String,
    /// Hash of the chat template; empty if there is none.
    pub template_sum: String,
    /// An answer that was cut off cannot be continued.
    pub cannot_continue: bool,
    /// Most tokens of context; 0: unknown.
    pub context_limit: usize,
    /// The context size the model was trained with, if known.
    pub trained_context: Option<usize>,
}

/// A prompt as the model sees it.
#[derive(Debug, Clone, Default)]
pub struct Rendered {
    pub text: String,
    /// Token ids with the text they stand for.
    pub tokens: Vec<(i32, String)>,
    pub notes: Vec<String>,
    /// Whether the model may think before the answer.
    pub thinks: bool,
}

/// The output of a backend; `Ready` or `Done` is the last one.
#[derive(Debug)]
pub enum BackendEvent {
    Progress(Event),
    Ready,
    Done(Result<Stats, Error>),
}

/// Progress of loading, shared between threads.
#[derive(Debug, Default)]
pub struct Loading {
    pub(crate) active: AtomicBool,
    pub(crate) abort: AtomicBool,
    /// In thousandths.
    pub(crate) done: AtomicU32,
}

/// A running answer. Dropping it does not stop the backend; [`ReplyStream::cancel`] does.
pub struct ReplyStream {
    events: Receiver<BackendEvent>,
    /// Received while text was collected, but not returned yet.
    held: RefCell<Option<BackendEvent>>,
    cancel: Arc<AtomicBool>,
    loading: Arc<Loading>,
    /// Interrupts what the backend waits for.
    interrupt: Option<Box<dyn Fn()>>,
}

impl ReplyStream {
    pub(crate) fn new(
        events: Receiver<BackendEvent>,
        cancel: Arc<AtomicBool>,
        loading: Arc<Loading>,
    ) -> ReplyStream {
        ReplyStream { events, held: RefCell::new(None), cancel, loading, interrupt: None }
    }

    /// An answer that fails at once.
    pub(crate) fn failed(error: Error) -> ReplyStream {
        let (events, inbox) = channel();
        let _ = events.send(BackendEvent::Done(Err(error)));
        ReplyStream::new(inbox, Arc::default(), Arc::default())
    }

    /// Calls this when the answer is cancelled.
    pub(crate) fn interrupted_by(self, interrupt: impl Fn() + 'static) -> ReplyStream {
        ReplyStream { interrupt: Some(Box::new(interrupt)), ..self }
    }

    /// The next event, or `None` after `patience` without one. Text that a slow reader left waiting comes in
    /// one piece. A dead backend is an error.
    pub fn next(&self, patience: Duration) -> Option<BackendEvent> {
        if let Some(events) = self.held.take() {
            return Some(events);
        }
        match self.events.recv_timeout(patience) {
            Ok(BackendEvent::Progress(event)) => Some(BackendEvent::Progress(self.gather(event))),
            Ok(events) => Some(events),
            Err(RecvTimeoutError::Timeout) if self.loading.active.load(Ordering::Relaxed) => {
                let fraction = self.loading.done.load(Ordering::Relaxed) as f32 / 1000.0;
                Some(BackendEvent::Progress(Event::Loading { fraction }))
            }
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => Some(BackendEvent::Done(Err(Error::Stopped))),
        }
    }

    fn gather(&self, mut event: Event) -> Event {
        while matches!(event, Event::Text(_) | Event::Thinking { .. })
            && let Ok(events) = self.events.try_recv()
        {
            match (&mut event, events) {
                (Event::Text(text), BackendEvent::Progress(Event::Text(more))) => text.push_str(&more),
                (
                    Event::Thinking { text, tokens },
                    BackendEvent::Progress(Event::Thinking { text: more, tokens: so_far }),
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

    /// Cancels the answer; takes effect as soon as llama.cpp can stop.
    pub fn cancel(&self) {
        self.cancel.store(true, Ordering::Relaxed);
        if self.loading.active.load(Ordering::Relaxed) {
            self.loading.abort.store(true, Ordering::Relaxed);
        }
        self.interrupt.iter().for_each(|interrupt| interrupt());
    }
}
