//! A job for the engine's thread, and the engine as the job gets it once the model is loaded.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::Measured;
use crate::backend::Error;
use crate::engine::Engine;
use crate::engine::llama::Llama;
use crate::engine::model::Cancel;
use crate::model_state::ModelEntry;

/// A job for the engine's thread.
pub(super) struct EngineJob {
    pub(super) number: u64,
    /// Cancels the job; `None`: a later job cancels it.
    pub(super) cancel: Option<Arc<AtomicBool>>,
    /// The id of the saved conversation that the job evaluates, if any.
    pub(super) conversation: Option<String>,
    /// Whether the job loads the model if it is not loaded.
    pub(super) loads: bool,
    /// Runs with the engine, or with the error if there is none. `false`: nobody receives the result.
    pub(super) run: Box<Run>,
}

type Run = dyn FnOnce(Result<Ready, Error>) -> bool + Send;

impl EngineJob {
    /// A job that waits for the model and belongs to no saved conversation.
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
    /// Notices from loading that the user has not seen yet, one line each.
    pub(super) cautions: &'e mut Vec<String>,
    /// Whether there is a newer job.
    pub(super) superseded: Cancel<'e>,
    /// What is remembered of the model's speed, and where.
    pub(super) measured: &'e mut Measured,
    pub(super) state: &'e ModelEntry,
}

impl Ready<'_, '_> {
    /// Remembers what the engine has learnt of the model's speed, if that is notable, which is rare: what
    /// batches cost, the best size of prefill batches, and once the better attention. The size only grows: the
    /// machine may have been busy, or a GPU's driver compiling, when the smaller one was chosen.
    pub(super) fn remember_speed(&mut self) {
        let costs = self.engine.costs();
        if costs.differ_from(&self.measured.costs) {
            self.state.remember_batch_costs(&self.measured.conditions, costs.list());
            self.measured.costs = costs.clone();
        }
        if let Some(size) = self.engine.best_batch_size()
            && size as u32 > self.measured.batch_size
        {
            self.measured.batch_size = size as u32;
            self.state.remember_batch_size(&self.measured.conditions, self.measured.batch_size);
        }
        if let Some((better, conditions)) = self.measured.attention.take() {
            self.state.remember_flash_is_better(&conditions, better);
        }
    }
}
