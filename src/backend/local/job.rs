//! What is asked of the engine's thread: a job, and what it is given once the model is loaded.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::backend::Error;
use crate::engine::Engine;
use crate::engine::llama::Llama;
use crate::engine::model::Cancel;

/// Something asked of the engine's thread.
pub(super) struct EngineJob {
    pub(super) number: u64,
    /// Cancels the job; `None`: a later job cancels it.
    pub(super) cancel: Option<Arc<AtomicBool>>,
    /// The conversation, if it is stored, whose prompt is evaluated.
    pub(super) conversation: Option<String>,
    /// Whether the job loads a model that is not loaded.
    pub(super) loads: bool,
    /// Runs with the engine, or with the reason why there is none. `false`: nobody listens.
    pub(super) run: Box<Run>,
}

type Run = dyn FnOnce(Result<Ready, Error>) -> bool + Send;

impl EngineJob {
    /// A job that waits for the model, and of which nothing is stored.
    pub(super) fn new(run: impl FnOnce(Result<Ready, Error>) -> bool + Send + 'static) -> EngineJob {
        EngineJob { number: 0, cancel: None, conversation: None, loads: true, run: Box::new(run) }
    }

    pub(super) fn cancelled(&self) -> bool {
        self.cancel.as_ref().is_some_and(|cancel| cancel.load(Ordering::Relaxed))
    }
}

/// The engine, for one job.
pub(super) struct Ready<'e, 'w> {
    pub(super) engine: &'e mut Engine<Llama<'w>>,
    /// How long loading took.
    pub(super) load: Duration,
    /// What loading has shown that the user should know, a line each, until it is told.
    pub(super) cautions: &'e mut Vec<String>,
    /// Whether a newer job has come.
    pub(super) superseded: Cancel<'e>,
}
