//! The local backend: a thread of its own that loads a model file and answers with the engine.
//!
//! Requests queue up; loading begins at once and is tried again by the next request if it failed or was stopped.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};

use super::probe::{self, Verdict, without_repack};
use super::working::Mark;
use super::{Backend, BackendEvent, Description, Loading, Rendered, ReplyStream};
use crate::chat::{Counts, Event, Message, Request, Stats};
use crate::engine::draft::Costs;
use crate::engine::llama::{self, ContextOptions, Llama, LoadOptions, SpecialIds, Weights, contained};
use crate::engine::model::Model;
use crate::engine::prompt::template;
use crate::engine::prompt_cache::{self, PromptCache, Rules, Unchanged};
use crate::engine::{Engine, cache};
use crate::error::{Exit, Failure};

/// Everything that is resolved before the engine's thread starts.
pub struct Spec {
    pub description: Description,
    pub path: PathBuf,
    pub load: LoadOptions,
    pub context: ContextOptions,
    /// The Jinja source of the chat template; `None`: a base model.
    pub template: Option<String>,
    pub template_args: Vec<(String, String)>,
    /// Set if the file has never been loaded: tried out first by a child process, given these arguments.
    pub probe: Option<Probe>,
    /// The folder for what was evaluated, and when it is kept; `None`: never.
    pub prompt_cache: Option<(PathBuf, Rules)>,
    /// Whether the files are still those of the description.
    pub unchanged: Unchanged,
    pub costs: BatchCosts,
    /// The folder for marks of what is worked on; `None`: none are made.
    pub working: Option<PathBuf>,
    /// Is told what loading found out, if it was not told itself.
    pub found: Box<dyn Fn(SpecialIds) + Send>,
}

/// What batches cost on this machine.
pub struct BatchCosts {
    /// `None`: it is measured as soon as nobody waits.
    pub known: Option<Costs>,
    pub measured: Box<dyn Fn(Costs) + Send>,
}

/// How an unknown file is tried out, and what to do when it passed.
pub struct Probe {
    /// Of all files of the model.
    pub bytes: u64,
    pub args: Vec<String>,
    pub passed: Box<dyn Fn(Verdict) + Send>,
}

impl Probe {
    /// Tries out the file at `path`. The failure says why it cannot be used.
    pub fn run(&self, path: &Path, abort: &AtomicBool) -> Result<Verdict, Failure> {
        probe::run(path, self.bytes, &self.args, abort)
    }
}

/// The stack of the engine's thread, in bytes. Nothing on it recurses with the length of a text; what does with the nesting of a
/// template or the merges of a token is bounded to a small part of this.
const STACK: usize = 16 << 20;
/// How long no request must have come before the engine does something for later.
const MOMENT: Duration = Duration::from_millis(50);

pub struct Local {
    description: Description,
    requests: Option<Sender<Queued>>,
    /// The number of the newest request: older reading ahead gives way to it.
    newest: Arc<AtomicU64>,
    loading: Arc<Loading>,
    cancel: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

struct Queued {
    number: u64,
    job: Job,
}

enum Job {
    Load {
        events: Sender<BackendEvent>,
        cancel: Arc<AtomicBool>,
    },
    Prepare(Request, Message),
    Reply {
        request: Request,
        events: Sender<BackendEvent>,
        cancel: Arc<AtomicBool>,
    },
    Count(Request, Sender<Result<Counts, Failure>>),
    TokenCounts(Request, Sender<Result<Vec<usize>, Failure>>),
    Render(Request, Sender<Result<Rendered, Failure>>),
    /// Drops the sender when what was evaluated is on disk.
    Flush(Sender<()>),
}

impl Local {
    /// Starts the thread and the loading.
    pub fn start(spec: Spec) -> Local {
        let (requests, inbox) = channel();
        let newest = Arc::new(AtomicU64::new(0));
        let loading = Arc::new(Loading::default());
        let description = spec.description.clone();
        let worker = Worker { spec, newest: newest.clone(), loading: loading.clone(), cautions: Vec::new() };
        let thread = std::thread::Builder::new().name("engine".into()).stack_size(STACK);
        let thread = thread.spawn(move || contained(|| worker.run(&inbox)));
        let mut local = Local {
            description,
            requests: Some(requests),
            newest,
            loading,
            cancel: Arc::default(),
            thread: thread.ok(),
        };
        drop(local.load());
        local
    }

    fn send(&mut self, job: Job) {
        let number = self.newest.fetch_add(1, Ordering::Relaxed) + 1;
        if let Some(requests) = &self.requests {
            let _ = requests.send(Queued { number, job }); // if the thread is gone the reader of the answer sees it
        }
    }

    fn reply(&mut self, job: impl FnOnce(Sender<BackendEvent>, Arc<AtomicBool>) -> Job) -> ReplyStream {
        let (events, inbox) = channel();
        self.cancel = Arc::default();
        self.loading.abort.store(false, Ordering::Relaxed); // of an earlier request
        self.send(job(events, self.cancel.clone()));
        ReplyStream::new(inbox, self.cancel.clone(), self.loading.clone())
    }

    fn ask<T>(&mut self, job: impl FnOnce(Sender<Result<T, Failure>>) -> Job) -> Result<T, Failure> {
        let (answer, inbox) = channel();
        self.send(job(answer));
        let gone = |_| Err(Failure::new("the engine has stopped: this is a bug in fireside"));
        inbox.recv().unwrap_or_else(gone)
    }
}

impl Backend for Local {
    fn load(&mut self) -> ReplyStream {
        self.reply(|events, cancel| Job::Load { events, cancel })
    }

    fn prepare(&mut self, request: Request, next: Message) {
        self.send(Job::Prepare(request, next));
    }

    fn reply(&mut self, request: Request) -> ReplyStream {
        self.reply(|events, cancel| Job::Reply { request, events, cancel })
    }

    fn count(&mut self, request: Request) -> Result<Counts, Failure> {
        self.ask(|answer| Job::Count(request, answer))
    }

    fn token_counts(&mut self, request: Request) -> Result<Vec<usize>, Failure> {
        self.ask(|answer| Job::TokenCounts(request, answer))
    }

    fn render(&mut self, request: Request) -> Result<Rendered, Failure> {
        self.ask(|answer| Job::Render(request, answer))
    }

    fn describe(&self) -> &Description {
        &self.description
    }

    fn flush(&mut self, patience: Duration) {
        let (done, flushed) = channel();
        self.send(Job::Flush(done));
        let _ = flushed.recv_timeout(patience); // late is as well as never: it will be read again
    }

    /// Stops whatever is going on and waits until the memory is free.
    fn close(&mut self) {
        self.cancel.store(true, Ordering::Relaxed);
        self.loading.abort.store(true, Ordering::Relaxed);
        self.newest.fetch_add(1, Ordering::Relaxed);
        self.requests = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // a panic there was already reported to whoever waited for an answer
        }
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        self.close();
    }
}

/// What lives on the engine's thread.
struct Worker {
    spec: Spec,
    newest: Arc<AtomicU64>,
    loading: Arc<Loading>,
    /// What loading has shown that the user should know, a line each.
    cautions: Vec<String>,
}

impl Worker {
    fn run(mut self, inbox: &Receiver<Queued>) {
        let mut unheard: Option<Failure> = None;
        while let Ok(request) = inbox.recv() {
            if request.job.cancelled() {
                request.job.refuse(Failure::interrupted());
                continue;
            }
            if matches!(request.job, Job::Prepare(..) | Job::Flush(_)) {
                continue; // a load that failed or was stopped is tried again only for a question
            }
            // The loading that began by itself failed before anyone asked: that is the answer, not to be waited for twice.
            if let Some(failure) = unheard.take() {
                request.job.refuse(failure);
                continue;
            }
            let started = Instant::now();
            self.loading.done.store(0, Ordering::Relaxed);
            self.loading.active.store(true, Ordering::Relaxed);
            let weights = self.load();
            let ready = weights.as_ref().map_err(Failure::clone).and_then(|weights| self.ready(weights));
            match ready {
                Ok(llama) => {
                    if self.serve(llama, request, started.elapsed(), inbox).is_break() {
                        return;
                    }
                }
                Err(failure) => {
                    self.loading.active.store(false, Ordering::Relaxed);
                    let lasts = failure.exit != Exit::Interrupted;
                    let heard = request.job.refuse(failure.clone());
                    unheard = Some(failure).filter(|_| lasts && !heard);
                }
            }
        }
    }

    fn load(&mut self) -> Result<Weights, Failure> {
        if let Some(probe) = &self.spec.probe {
            let verdict = probe.run(&self.spec.path, &self.loading.abort)?;
            (probe.passed)(verdict);
            if let Verdict::WithoutRepack(signal) = verdict {
                self.spec.load.repack = false;
                self.cautions.push(without_repack(signal.as_str()));
            }
            self.spec.probe = None;
        }
        template::ahead();
        let loading = self.loading.clone();
        let progress = move |fraction: f32| {
            loading.done.store((fraction * 1000.0) as u32, Ordering::Relaxed);
            !loading.abort.load(Ordering::Relaxed)
        };
        Weights::begin(&self.spec.path, &self.spec.load, progress).map_err(|error| self.not_loaded(&error))
    }

    /// Makes the first context while the vocabulary is still being read.
    fn ready<'w>(&self, weights: &'w Weights) -> Result<Llama<'w>, Failure> {
        let mut llama = Llama::new(weights, self.spec.context.clone());
        let _ = llama.grow(cache::capacity_for(0, self.spec.context.limit)); // tried again, and reported, when it is needed
        weights.complete().map_err(|error| self.not_loaded(&error))?;
        if let Some(special_ids) = weights.special_ids().filter(|_| self.spec.load.special_ids.is_none()) {
            (self.spec.found)(special_ids);
        }
        Ok(llama)
    }

    fn not_loaded(&self, error: &anyhow::Error) -> Failure {
        if self.loading.abort.load(Ordering::Relaxed) {
            return Failure::interrupted();
        }
        Failure::new(format!("could not load {}: {error}", self.spec.path.display()))
    }

    /// Answers until nobody asks any more; or until it is stopped before it could begin, so that it must be loaded again.
    fn serve(
        &mut self,
        llama: Llama,
        first: Queued,
        load: Duration,
        inbox: &Receiver<Queued>,
    ) -> ControlFlow<()> {
        let stop = self.stop(&first, &self.loading);
        let made = template::until(stop.clone(), || {
            Engine::new(llama, self.spec.template.as_deref(), &self.spec.template_args)
        });
        self.loading.active.store(false, Ordering::Relaxed);
        if stop() {
            first.job.refuse(Failure::interrupted());
            return ControlFlow::Continue(());
        }
        let mut engine = match made {
            Ok(engine) => {
                engine.with_prompt_cache(self.prompt_cache()).with_costs(self.spec.costs.known.clone())
            }
            Err(failure) => {
                for request in std::iter::once(first).chain(inbox) {
                    request.job.refuse(failure.clone());
                }
                return ControlFlow::Break(());
            }
        };
        if self.spec.load.mlock && llama::not_locked() {
            self.cautions.push(not_locked_note());
        }
        let mut next = Some(first);
        while let Some(request) = next.take().or_else(|| waiting(inbox, || self.rest(&mut engine))) {
            if let Job::Reply { events, .. } = &request.job {
                self.cautions
                    .drain(..)
                    .for_each(|caution| _ = events.send(BackendEvent::Event(Event::Notice(caution))));
            }
            let _mark =
                request.job.conversation().and_then(|id| Mark::begin(self.spec.working.as_ref()?, id));
            let superseded = || self.newest.load(Ordering::Relaxed) > request.number;
            let stop = self.stop(&request, &Arc::default());
            template::until(stop, || request.job.done_by(&mut engine, load, &superseded));
        }
        ControlFlow::Break(())
    }

    /// Says whether a request is wanted no longer: cancelled, or overtaken where nobody waits for it.
    fn stop(&self, request: &Queued, loading: &Arc<Loading>) -> impl Fn() -> bool + Clone + use<> {
        let (newest, loading, number) = (self.newest.clone(), loading.clone(), request.number);
        let (cancel, waited_for) = match &request.job {
            Job::Load { cancel, .. } | Job::Reply { cancel, .. } => (cancel.clone(), true),
            _ => (Arc::default(), false),
        };
        move || {
            let overtaken = !waited_for && newest.load(Ordering::Relaxed) > number;
            overtaken || cancel.load(Ordering::Relaxed) || loading.abort.load(Ordering::Relaxed)
        }
    }

    /// What is done for later while nobody waits.
    fn rest(&self, engine: &mut Engine<Llama>) {
        let newest = self.newest.load(Ordering::Relaxed);
        engine.rest();
        if let Some(costs) = engine.measure(&|| self.newest.load(Ordering::Relaxed) > newest) {
            (self.spec.costs.measured)(costs);
        }
    }

    fn prompt_cache(&self) -> Option<PromptCache> {
        let spec = &self.spec;
        let Description { fingerprint, stamp, .. } = &spec.description;
        let model = format!("{fingerprint} in files {stamp}");
        let key = || prompt_cache::key(&model, &spec.context, spec.load.gpu_layers, spec.load.repack);
        let (folder, rules) = spec.prompt_cache.clone()?;
        Some(PromptCache::new(folder, key(), rules).while_they_are(spec.unchanged.clone()))
    }
}

/// Says that what was to be locked is not, and what it takes.
fn not_locked_note() -> String {
    let limit = getrlimit(Resource::RLIMIT_MEMLOCK).map(|(soft, _)| soft);
    let limit = match limit {
        Ok(RLIM_INFINITY) | Err(_) => "the system has no more memory for that".into(),
        Ok(bytes) => format!("{} KiB may be (ulimit -l; root can raise that)", bytes >> 10),
    };
    format!("mlock: the model is not locked in memory, or not all of it: {limit}")
}

/// The next request; when none comes for a moment, `rest` is called before going on waiting.
fn waiting(inbox: &Receiver<Queued>, rest: impl FnOnce()) -> Option<Queued> {
    match inbox.recv_timeout(MOMENT) {
        Ok(request) => return Some(request),
        Err(RecvTimeoutError::Disconnected) => return None,
        Err(RecvTimeoutError::Timeout) => rest(),
    }
    inbox.recv().ok()
}

impl Job {
    fn done_by(self, engine: &mut Engine<Llama>, load: Duration, superseded: &dyn Fn() -> bool) {
        match self {
            Job::Load { events, .. } => {
                let _ = events.send(BackendEvent::Ready);
            }
            Job::Prepare(request, next) => {
                // What cannot be read ahead will fail again, and be reported, when it is asked for.
                let _ = engine.prepare(&request, &next, superseded);
            }
            Job::Reply { request, events, cancel } => {
                let done = engine.reply(&request, &cancel, &mut |event| {
                    let _ = events.send(BackendEvent::Event(event)); // nobody listens any more: cancelled
                });
                let _ = events.send(BackendEvent::Done(done.map(|stats| Stats { load, ..stats })));
            }
            Job::Count(request, answer) => {
                let _ = answer.send(engine.count(&request));
            }
            Job::TokenCounts(request, answer) => {
                let _ = answer.send(Ok(engine.token_counts(&request.messages)));
            }
            Job::Render(request, answer) => {
                let rendered = engine.prompt(&request).map(|prompt| Rendered {
                    tokens: engine.pieces(&prompt),
                    text: prompt.text,
                    notes: prompt.notes,
                });
                let _ = answer.send(rendered);
            }
            Job::Flush(done) => engine.flush(done),
        }
    }

    /// The conversation, if it is kept, that is read or answered.
    fn conversation(&self) -> Option<&str> {
        match self {
            Job::Prepare(request, _) | Job::Reply { request, .. } => request.conversation.as_deref(),
            _ => None,
        }
    }

    fn cancelled(&self) -> bool {
        matches!(self, Job::Load { cancel, .. } | Job::Reply { cancel, .. } if cancel.load(Ordering::Relaxed))
    }

    /// Whether somebody heard it.
    fn refuse(self, failure: Failure) -> bool {
        match self {
            Job::Prepare(..) => true, // tried again, and reported, by the next request that waits for it
            Job::Load { events, .. } | Job::Reply { events, .. } => {
                events.send(BackendEvent::Done(Err(failure))).is_ok()
            }
            Job::Count(_, answer) => answer.send(Err(failure)).is_ok(),
            Job::TokenCounts(_, answer) => answer.send(Err(failure)).is_ok(),
            Job::Render(_, answer) => answer.send(Err(failure)).is_ok(),
            Job::Flush(_) => true,
        }
    }
}
