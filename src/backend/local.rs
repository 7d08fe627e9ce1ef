//! The local backend: a thread that loads a model file and answers with the engine.
//!
//! Jobs (job.rs) queue up for the thread (worker.rs). Loading begins at once. If it is stopped, the next job
//! that needs the model retries it; if it fails, that job gets the error, and the one after it retries.

mod job;
mod worker;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use self::job::{EngineJob, Ready};
use self::worker::Worker;
use super::probe::Probe;
use super::{Backend, BackendEvent, Description, Error, Inspect, Loading, Rendered, ReplyStream};
use crate::chat::{Counts, Event, Message, Request, Stats, TokenCount};
use crate::engine::costs::Costs;
use crate::engine::llama::{ContextOptions, LoadOptions, contained};
use crate::engine::prompt_cache::{Rules, Unchanged};
use crate::model_state::ModelEntry;

/// The inputs of the engine's thread.
pub struct Spec {
    pub description: Description,
    pub path: PathBuf,
    pub load: LoadOptions,
    pub context: ContextOptions,
    /// The Jinja source of the chat template; `None`: a base model.
    pub template: Option<String>,
    pub template_args: Vec<(String, String)>,
    /// The probe of a file that was never loaded.
    pub probe: Option<Probe>,
    /// The folder of the prompt cache and the rules for saving; `None`: no prompt cache.
    pub prompt_cache: Option<(PathBuf, Rules)>,
    /// Checks whether the model's files are still those of the description.
    pub unchanged: Unchanged,
    pub measured: Measured,
    /// The folder of the crash marks; `None`: no marks.
    pub working: Option<PathBuf>,
    /// The remembered facts about the model.
    pub state: ModelEntry,
}

/// What was measured of a model on this machine.
pub struct Measured {
    /// The costs of batches, as remembered.
    pub costs: Costs,
    /// Batch sizes up to this are not worth remembering: what was chosen before, or any if the user sets it.
    pub batch_size: u32,
    /// Whether flash attention is the better way, if that was just measured, and under which conditions.
    pub attention: Option<(bool, String)>,
    /// The conditions that both depend on, as a key.
    pub conditions: String,
}

/// The stack of the engine's thread, in bytes. Recursion never depends on the length of a text; recursion
/// over the nesting of a template or the merges of a token is bounded to a small part of this.
const STACK: usize = 16 << 20;

pub struct Local {
    description: Description,
    jobs: Option<Sender<EngineJob>>,
    /// The number of the newest job, which stops older prefill ahead.
    newest: Arc<AtomicU64>,
    loading: Arc<Loading>,
    cancel: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Local {
    /// Starts the thread, which begins to load.
    pub fn start(spec: Spec) -> Local {
        let (jobs, inbox) = channel();
        let newest = Arc::new(AtomicU64::new(0));
        let loading = Arc::new(Loading::default());
        let description = spec.description.clone();
        let worker = Worker { spec, newest: newest.clone(), loading: loading.clone(), cautions: Vec::new() };
        let thread = std::thread::Builder::new().name("engine".into()).stack_size(STACK);
        let thread = thread.spawn(move || contained(|| worker.run(&inbox)));
        let mut local = Local {
            description,
            jobs: Some(jobs),
            newest,
            loading,
            cancel: Arc::default(),
            thread: thread.ok(),
        };
        drop(local.load());
        local
    }

    fn send(&mut self, job: EngineJob) {
        let number = self.newest.fetch_add(1, Ordering::Relaxed) + 1;
        if let Some(jobs) = &self.jobs {
            let _ = jobs.send(EngineJob { number, ..job }); // if the thread has died, the receiver of the reply notices
        }
    }

    /// Sends a job that replies with events. `answer` runs with the engine, the sender and the cancel flag,
    /// and returns the last event.
    fn reply(
        &mut self,
        conversation: Option<String>,
        answer: impl FnOnce(Ready, &Sender<BackendEvent>, &AtomicBool) -> BackendEvent + Send + 'static,
    ) -> ReplyStream {
        let (events, inbox) = channel();
        let cancel: Arc<AtomicBool> = Arc::default();
        self.cancel = cancel.clone();
        self.loading.abort.store(false, Ordering::Relaxed); // of an earlier job
        let stop = cancel.clone();
        let run = move |ready: Result<Ready, Error>| {
            let end = match ready {
                Ok(ready) => answer(ready, &events, &stop),
                Err(error) => BackendEvent::Done(Err(error)),
            };
            events.send(end).is_ok()
        };
        let cancelled = Some(cancel.clone());
        self.send(EngineJob { cancel: cancelled, conversation, ..EngineJob::new(run) });
        ReplyStream::new(inbox, cancel, self.loading.clone())
    }

    /// Runs `answer` with the engine and waits for its result.
    fn ask<T: Send + 'static>(
        &mut self,
        answer: impl FnOnce(Ready) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let (sender, inbox) = channel();
        self.send(EngineJob::new(move |ready| sender.send(ready.and_then(answer)).is_ok()));
        let gone = |_| Err(Error::Stopped);
        inbox.recv().unwrap_or_else(gone)
    }
}

impl Backend for Local {
    fn load(&mut self) -> ReplyStream {
        self.reply(None, |_, _, _| BackendEvent::Ready)
    }

    fn prepare(&mut self, request: Request, next: Message) {
        let conversation = request.conversation.clone();
        let run = move |ready: Result<Ready, Error>| {
            if let Ok(Ready { engine, superseded, .. }) = ready {
                // A failure will repeat, and be reported, when the message is sent.
                let _ = engine.prepare(&request, &next, superseded);
            }
            true
        };
        self.send(EngineJob { conversation, loads: false, ..EngineJob::new(run) });
    }

    fn reply(&mut self, request: Request) -> ReplyStream {
        self.reply(request.conversation.clone(), move |mut ready, events, cancel| {
            let send = |event| _ = events.send(BackendEvent::Progress(event)); // fails if the receiver has gone
            ready.cautions.drain(..).for_each(|caution| send(Event::Notice(caution)));
            let done = ready.engine.reply(&request, cancel, &mut |event| send(event));
            ready.remember_speed(); // a process that answers once ends soon after
            BackendEvent::Done(done.map(|stats| Stats { load: ready.load, ..stats }).map_err(Error::from))
        })
    }

    fn describe(&self) -> &Description {
        &self.description
    }

    fn inspect(&mut self) -> Option<&mut dyn Inspect> {
        Some(self)
    }

    /// Stops all work and waits until the memory is free.
    fn close(&mut self) {
        self.cancel.store(true, Ordering::Relaxed);
        self.loading.abort.store(true, Ordering::Relaxed);
        self.newest.fetch_add(1, Ordering::Relaxed);
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // a panic was already reported to the waiting receiver
        }
    }
}

impl Inspect for Local {
    fn count(&mut self, request: Request) -> Result<Counts, Error> {
        self.ask(move |ready| Ok(ready.engine.count(&request)?))
    }

    fn token_counts(&mut self, messages: Vec<Arc<Message>>) -> Result<Vec<TokenCount>, Error> {
        self.ask(move |ready| Ok(ready.engine.token_counts(&messages)))
    }

    fn render(&mut self, request: Request) -> Result<Rendered, Error> {
        self.ask(move |ready| {
            let prompt = ready.engine.prompt(&request)?;
            let tokens = ready.engine.pieces(&prompt);
            Ok(Rendered { tokens, thinks: prompt.thinks, text: prompt.text, notes: prompt.notes })
        })
    }

    fn flush(&mut self, patience: Duration) {
        let (done, flushed) = channel();
        let run = move |ready: Result<Ready, Error>| {
            if let Ok(ready) = ready {
                ready.engine.flush(done);
            }
            true
        };
        self.send(EngineJob { loads: false, ..EngineJob::new(run) });
        let _ = flushed.recv_timeout(patience); // if it is not saved in time, the prompt is evaluated again
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        self.close();
    }
}
