//! The local backend: a thread of its own that loads a model file and answers with the engine.
//!
//! Jobs queue up; loading begins at once and is tried again by the next job if it failed or was stopped.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};

use super::probe::{Probe, Verdict, without_repack};
use super::working::Mark;
use super::{Backend, BackendEvent, Description, Inspect, Loading, Rendered, ReplyStream};
use crate::chat::{Counts, Event, Message, Request, Stats, TokenCount};
use crate::engine::draft::Costs;
use crate::engine::llama::{self, ContextOptions, Llama, LoadOptions, SpecialIds, Weights, contained};
use crate::engine::model::{Cancel, Model};
use crate::engine::prompt::template;
use crate::engine::prompt_cache::{self, PromptCache, Rules, Unchanged};
use crate::engine::{Engine, cache};
use crate::error::{Exit, Failure};
use crate::model_state::ModelEntry;

/// Everything that is resolved before the engine's thread starts.
pub struct Spec {
    pub description: Description,
    pub path: PathBuf,
    pub load: LoadOptions,
    pub context: ContextOptions,
    /// The Jinja source of the chat template; `None`: a base model.
    pub template: Option<String>,
    pub template_args: Vec<(String, String)>,
    /// Set if the file has never been loaded: it is tried out first.
    pub probe: Option<Probe>,
    /// The folder for what was evaluated, and when it is kept; `None`: never.
    pub prompt_cache: Option<(PathBuf, Rules)>,
    /// Whether the files are still those of the description.
    pub unchanged: Unchanged,
    pub costs: BatchCosts,
    /// The folder for marks of what is worked on; `None`: none are made.
    pub working: Option<PathBuf>,
    /// What is remembered about the model.
    pub state: ModelEntry,
}

/// What batches cost on this machine.
pub struct BatchCosts {
    /// `None`: it is measured as soon as nobody waits.
    pub known: Option<Costs>,
    /// What else they depend on.
    pub conditions: String,
}

/// The stack of the engine's thread, in bytes. Nothing on it recurses with the length of a text; what does with the nesting of a
/// template or the merges of a token is bounded to a small part of this.
const STACK: usize = 16 << 20;
/// How long no job must have come before the engine does something for later.
const MOMENT: Duration = Duration::from_millis(50);

pub struct Local {
    description: Description,
    jobs: Option<Sender<Job>>,
    /// The number of the newest job: older reading ahead gives way to it.
    newest: Arc<AtomicU64>,
    loading: Arc<Loading>,
    cancel: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// Something asked of the engine's thread.
struct Job {
    number: u64,
    /// Says that nobody wants it any more; `None`: a later job does, where there is one.
    cancel: Option<Arc<AtomicBool>>,
    /// The conversation, if it is stored, whose prompt is evaluated.
    conversation: Option<String>,
    /// Whether a model that is not loaded is loaded for it.
    loads: bool,
    /// Does it with the engine, or tells why there is none. `false`: nobody listens.
    run: Box<Run>,
}

type Run = dyn FnOnce(Result<Ready, Failure>) -> bool + Send;

/// The engine, for one job.
struct Ready<'e, 'w> {
    engine: &'e mut Engine<Llama<'w>>,
    /// How long loading took.
    load: Duration,
    /// What loading has shown that the user should know, a line each, until it is told.
    cautions: &'e mut Vec<String>,
    /// Whether a newer job has come.
    superseded: Cancel<'e>,
}

impl Local {
    /// Starts the thread and the loading.
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

    fn send(&mut self, job: Job) {
        let number = self.newest.fetch_add(1, Ordering::Relaxed) + 1;
        if let Some(jobs) = &self.jobs {
            let _ = jobs.send(Job { number, ..job }); // if the thread is gone the reader of the answer sees it
        }
    }

    /// Sends a job whose end comes as events; `answer` does it, given where they go and when to stop.
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
        let run = move |ready: Result<Ready, Failure>| {
            let end = match ready {
                Ok(ready) => answer(ready, &events, &stop),
                Err(failure) => BackendEvent::Done(Err(failure)),
            };
            events.send(end).is_ok()
        };
        let cancelled = Some(cancel.clone());
        self.send(Job { cancel: cancelled, conversation, ..Job::new(run) });
        ReplyStream::new(inbox, cancel, self.loading.clone())
    }

    /// Waits for what `answer` makes of the engine.
    fn ask<T: Send + 'static>(
        &mut self,
        answer: impl FnOnce(Ready) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let (sender, inbox) = channel();
        self.send(Job::new(move |ready| sender.send(ready.and_then(answer)).is_ok()));
        let gone = |_| Err(Failure::new("the engine has stopped: this is a bug in fireside"));
        inbox.recv().unwrap_or_else(gone)
    }
}

impl Backend for Local {
    fn load(&mut self) -> ReplyStream {
        self.reply(None, |_, _, _| BackendEvent::Ready)
    }

    fn prepare(&mut self, request: Request, next: Message) {
        let conversation = request.conversation.clone();
        let run = move |ready: Result<Ready, Failure>| {
            if let Ok(Ready { engine, superseded, .. }) = ready {
                // What cannot be evaluated ahead will fail again, and be reported, when it is asked for.
                let _ = engine.prepare(&request, &next, superseded);
            }
            true
        };
        self.send(Job { conversation, loads: false, ..Job::new(run) });
    }

    fn reply(&mut self, request: Request) -> ReplyStream {
        self.reply(request.conversation.clone(), move |ready, events, cancel| {
            let send = |event| _ = events.send(BackendEvent::Event(event)); // nobody listens any more: cancelled
            ready.cautions.drain(..).for_each(|caution| send(Event::Notice(caution)));
            let done = ready.engine.reply(&request, cancel, &mut |event| send(event));
            BackendEvent::Done(done.map(|stats| Stats { load: ready.load, ..stats }))
        })
    }

    fn describe(&self) -> &Description {
        &self.description
    }

    fn inspect(&mut self) -> Option<&mut dyn Inspect> {
        Some(self)
    }

    /// Stops whatever is going on and waits until the memory is free.
    fn close(&mut self) {
        self.cancel.store(true, Ordering::Relaxed);
        self.loading.abort.store(true, Ordering::Relaxed);
        self.newest.fetch_add(1, Ordering::Relaxed);
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // a panic there was already reported to whoever waited for an answer
        }
    }
}

impl Inspect for Local {
    fn count(&mut self, request: Request) -> Result<Counts, Failure> {
        self.ask(move |ready| ready.engine.count(&request))
    }

    fn token_counts(&mut self, messages: Vec<Arc<Message>>) -> Result<Vec<TokenCount>, Failure> {
        self.ask(move |ready| Ok(ready.engine.token_counts(&messages)))
    }

    fn render(&mut self, request: Request) -> Result<Rendered, Failure> {
        self.ask(move |ready| {
            let prompt = ready.engine.prompt(&request)?;
            let tokens = ready.engine.pieces(&prompt);
            Ok(Rendered { tokens, text: prompt.text, notes: prompt.notes })
        })
    }

    fn flush(&mut self, patience: Duration) {
        let (done, flushed) = channel();
        let run = move |ready: Result<Ready, Failure>| {
            if let Ok(ready) = ready {
                ready.engine.flush(done);
            }
            true
        };
        self.send(Job { loads: false, ..Job::new(run) });
        let _ = flushed.recv_timeout(patience); // late is as well as never: it will be evaluated again
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
    fn run(mut self, inbox: &Receiver<Job>) {
        let mut unheard: Option<Failure> = None;
        while let Ok(job) = inbox.recv() {
            if job.cancelled() {
                (job.run)(Err(Failure::interrupted()));
                continue;
            }
            if !job.loads {
                continue; // a load that failed or was stopped is tried again only for a question
            }
            // The loading that began by itself failed before anyone asked: that is the answer, not to be waited for twice.
            if let Some(failure) = unheard.take() {
                (job.run)(Err(failure));
                continue;
            }
            let started = Instant::now();
            self.loading.done.store(0, Ordering::Relaxed);
            self.loading.active.store(true, Ordering::Relaxed);
            let weights = self.load();
            let ready = weights.as_ref().map_err(Failure::clone).and_then(|weights| self.ready(weights));
            match ready {
                Ok(llama) => {
                    if self.serve(llama, job, started.elapsed(), inbox).is_break() {
                        return;
                    }
                }
                Err(failure) => {
                    self.loading.active.store(false, Ordering::Relaxed);
                    let lasts = failure.exit != Exit::Interrupted;
                    let heard = (job.run)(Err(failure.clone()));
                    unheard = Some(failure).filter(|_| lasts && !heard);
                }
            }
        }
    }

    fn load(&mut self) -> Result<Weights, Failure> {
        if let Some(probe) = &self.spec.probe {
            let verdict = (probe.run)(&self.loading.abort)?;
            probe.passed(&self.spec.state, verdict);
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
        if let (Some(SpecialIds(tokens)), None) = (weights.special_ids(), &self.spec.load.special_ids) {
            self.spec.state.remember_special_ids(llama::BINDING, &tokens);
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
    fn serve(&mut self, llama: Llama, first: Job, load: Duration, inbox: &Receiver<Job>) -> ControlFlow<()> {
        let stop = self.stop(&first, &self.loading);
        let made = template::until(stop.clone(), || {
            Engine::new(llama, self.spec.template.as_deref(), &self.spec.template_args)
        });
        self.loading.active.store(false, Ordering::Relaxed);
        if stop() {
            (first.run)(Err(Failure::interrupted()));
            return ControlFlow::Continue(());
        }
        let mut engine = match made {
            Ok(engine) => {
                engine.with_prompt_cache(self.prompt_cache()).with_costs(self.spec.costs.known.clone())
            }
            Err(failure) => {
                for job in std::iter::once(first).chain(inbox) {
                    (job.run)(Err(failure.clone()));
                }
                return ControlFlow::Break(());
            }
        };
        if self.spec.load.mlock && llama::not_locked() {
            self.cautions.push(not_locked_note());
        }
        let mut next = Some(first);
        while let Some(job) = next.take().or_else(|| waiting(inbox, || self.rest(&mut engine))) {
            let _mark = job.conversation.as_ref().and_then(|id| Mark::begin(self.spec.working.as_ref()?, id));
            let (stop, newest) = (self.stop(&job, &Arc::default()), self.newest.clone());
            let superseded = || newest.load(Ordering::Relaxed) > job.number;
            let (engine, cautions) = (&mut engine, &mut self.cautions);
            template::until(stop, || {
                (job.run)(Ok(Ready { engine, load, cautions, superseded: &superseded }))
            });
        }
        ControlFlow::Break(())
    }

    /// Says whether a job is wanted no longer: cancelled, or overtaken where it cannot be.
    fn stop(&self, job: &Job, loading: &Arc<Loading>) -> impl Fn() -> bool + Clone + use<> {
        let (newest, loading) = (self.newest.clone(), loading.clone());
        let (number, cancel) = (job.number, job.cancel.clone());
        move || {
            let unwanted = match &cancel {
                Some(cancel) => cancel.load(Ordering::Relaxed),
                None => newest.load(Ordering::Relaxed) > number,
            };
            unwanted || loading.abort.load(Ordering::Relaxed)
        }
    }

    /// What is done for later while nobody waits.
    fn rest(&self, engine: &mut Engine<Llama>) {
        let (before, newest) = (self.newest.load(Ordering::Relaxed), &self.newest);
        engine.rest();
        if let Some(costs) = engine.measure(&|| newest.load(Ordering::Relaxed) > before) {
            self.spec.state.remember_costs(&self.spec.costs.conditions, costs.numbers());
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

/// The next job; when none comes for a moment, `rest` is called before going on waiting.
fn waiting(inbox: &Receiver<Job>, rest: impl FnOnce()) -> Option<Job> {
    match inbox.recv_timeout(MOMENT) {
        Ok(job) => return Some(job),
        Err(RecvTimeoutError::Disconnected) => return None,
        Err(RecvTimeoutError::Timeout) => rest(),
    }
    inbox.recv().ok()
}

impl Job {
    /// A job that waits for the model, and of which nothing is stored.
    fn new(run: impl FnOnce(Result<Ready, Failure>) -> bool + Send + 'static) -> Job {
        Job { number: 0, cancel: None, conversation: None, loads: true, run: Box::new(run) }
    }

    fn cancelled(&self) -> bool {
        self.cancel.as_ref().is_some_and(|cancel| cancel.load(Ordering::Relaxed))
    }
}
