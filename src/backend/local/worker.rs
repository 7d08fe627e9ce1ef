//! The engine's thread: loads the model for the first job, and runs all jobs in turn; background work when
//! idle.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};

use super::Spec;
use super::job::{EngineJob, Ready};
use crate::backend::crash_mark::Mark;
use crate::backend::probe::{ProbeVerdict, without_repack};
use crate::backend::{Description, Error, Loading};
use crate::engine::llama::{self, Llama, SpecialIds, Weights};
use crate::engine::model::Model;
use crate::engine::prompt::template;
use crate::engine::prompt_cache::{self, PromptCache};
use crate::engine::{self, Engine, cache};

/// How long the queue must be empty before background work begins.
const MOMENT: Duration = Duration::from_millis(50);

/// The state of the engine's thread.
pub(super) struct Worker {
    pub(super) spec: Spec,
    pub(super) newest: Arc<AtomicU64>,
    pub(super) loading: Arc<Loading>,
    /// Notices from loading for the user, one line each.
    pub(super) cautions: Vec<String>,
}

impl Worker {
    pub(super) fn run(mut self, inbox: &Receiver<EngineJob>) {
        let mut unheard: Option<Error> = None;
        while let Ok(job) = inbox.recv() {
            if job.cancelled() {
                (job.run)(Err(Error::Interrupted));
                continue;
            }
            if !job.loads {
                continue; // only a job that loads retries a load that failed or was stopped
            }
            // The initial load failed before the first question: report that error instead of loading again.
            if let Some(error) = unheard.take() {
                (job.run)(Err(error));
                continue;
            }
            let started = Instant::now();
            self.loading.done.store(0, Ordering::Relaxed);
            self.loading.active.store(true, Ordering::Relaxed);
            let weights = self.load();
            let ready = weights.as_ref().map_err(Error::clone).and_then(|weights| self.ready(weights));
            match ready {
                Ok(llama) => {
                    if self.serve(llama, job, started.elapsed(), inbox).is_break() {
                        return;
                    }
                }
                Err(error) => {
                    self.loading.active.store(false, Ordering::Relaxed);
                    let lasts = error != Error::Interrupted;
                    let heard = (job.run)(Err(error.clone()));
                    unheard = Some(error).filter(|_| lasts && !heard);
                }
            }
        }
    }

    fn load(&mut self) -> Result<Weights, Error> {
        if let Some(probe) = &self.spec.probe {
            let verdict = (probe.run)(&self.loading.abort)?;
            probe.passed(&self.spec.state, verdict);
            if let ProbeVerdict::WithoutRepack(signal) = verdict {
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

    /// Creates the first context while the vocabulary is still loading.
    fn ready<'w>(&self, weights: &'w Weights) -> Result<Llama<'w>, Error> {
        let mut llama = Llama::new(weights, self.spec.context.clone());
        // If this fails, it is retried when the context is needed, and reported then.
        let _ = llama.grow(cache::capacity_for(0, self.spec.context.limit));
        weights.complete().map_err(|error| self.not_loaded(&error))?;
        if let (Some(SpecialIds(tokens)), None) = (weights.special_ids(), &self.spec.load.special_ids) {
            self.spec.state.remember_special_ids(llama::BINDING, &tokens);
        }
        Ok(llama)
    }

    fn not_loaded(&self, error: &anyhow::Error) -> Error {
        if self.loading.abort.load(Ordering::Relaxed) {
            return Error::Interrupted;
        }
        if let Some(engine::Error::Worker(lost)) = error.downcast_ref() {
            return Error::Engine(engine::Error::Worker(lost.clone()));
        }
        let (path, why) = (self.spec.path.clone(), error.to_string());
        if llama::lacks_memory(&why) { Error::NoMemory { path, why } } else { Error::Load { path, why } }
    }

    /// Runs jobs until the queue closes, or until loading is stopped and must begin again.
    fn serve(
        &mut self,
        llama: Llama,
        first: EngineJob,
        load: Duration,
        inbox: &Receiver<EngineJob>,
    ) -> ControlFlow<()> {
        let stop = self.stop(&first, &self.loading);
        let made = template::until(stop.clone(), || {
            Engine::new(llama, self.spec.template.as_deref(), &self.spec.template_args)
        });
        self.loading.active.store(false, Ordering::Relaxed);
        if stop() {
            (first.run)(Err(Error::Interrupted));
            return ControlFlow::Continue(());
        }
        let mut engine = match made {
            Ok(engine) => {
                engine.with_prompt_cache(self.prompt_cache()).with_costs(self.spec.measured.costs.clone())
            }
            Err(error) => {
                let error = Error::from(error);
                for job in std::iter::once(first).chain(inbox) {
                    (job.run)(Err(error.clone()));
                }
                return ControlFlow::Break(());
            }
        };
        if self.spec.load.mlock && llama::not_locked() {
            self.cautions.push(not_locked_note());
        }
        let mut next = Some(first);
        while let Some(job) = next.take().or_else(|| waiting(inbox, || engine.rest())) {
            let _mark = job.conversation.as_ref().and_then(|id| Mark::begin(self.spec.working.as_ref()?, id));
            let (stop, newest) = (self.stop(&job, &Arc::default()), self.newest.clone());
            let superseded = || newest.load(Ordering::Relaxed) > job.number;
            let (engine, cautions) = (&mut engine, &mut self.cautions);
            let (measured, state) = (&mut self.spec.measured, &self.spec.state);
            template::until(stop, || {
                (job.run)(Ok(Ready { engine, load, cautions, superseded: &superseded, measured, state }))
            });
        }
        ControlFlow::Break(())
    }

    /// Whether a job is obsolete: cancelled, or superseded by a newer one.
    fn stop(&self, job: &EngineJob, loading: &Arc<Loading>) -> impl Fn() -> bool + Clone + use<> {
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

    fn prompt_cache(&self) -> Option<PromptCache> {
        let spec = &self.spec;
        let Description { fingerprint, stamp, .. } = &spec.description;
        let model = format!("{fingerprint} in files {stamp}");
        let key = || prompt_cache::key(&model, &spec.context, &spec.load.placement, spec.load.repack);
        let (folder, rules) = spec.prompt_cache.clone()?;
        Some(PromptCache::new(folder, key(), rules).while_they_are(spec.unchanged.clone()))
    }
}

/// The notice that `mlock` failed, with the limit.
fn not_locked_note() -> String {
    let limit = getrlimit(Resource::RLIMIT_MEMLOCK).map(|(soft, _)| soft);
    let limit = match limit {
        Ok(RLIM_INFINITY) | Err(_) => "the system has no more memory for that".into(),
        Ok(bytes) => format!("{} KiB may be (ulimit's locked memory; root can raise that)", bytes >> 10),
    };
    format!("mlock: the model is not locked in memory, or not all of it: {limit}")
}

/// The next job; if none comes for a moment, calls `rest` once and then waits on.
fn waiting(inbox: &Receiver<EngineJob>, rest: impl FnOnce()) -> Option<EngineJob> {
    match inbox.recv_timeout(MOMENT) {
        Ok(job) => return Some(job),
        Err(RecvTimeoutError::Disconnected) => return None,
        Err(RecvTimeoutError::Timeout) => rest(),
    }
    inbox.recv().ok()
}
