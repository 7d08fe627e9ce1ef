//! The thread that writes cached prompts, so that nothing waits for the disk. The process may exit at any
//! point.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::time::Instant;

use super::super::token::Token;
use super::disk::Disk;
use super::file::CacheFileHeader;
use super::folder::{self, DiskBounds};

/// A state to write.
pub(super) struct Held {
    pub(super) name: String,
    pub(super) key: String,
    pub(super) tokens: Vec<Token>,
    pub(super) conversations: Vec<String>,
    pub(super) secs_per_token: f64,
    /// With the checkpoints at its end.
    pub(super) state: Vec<u8>,
    pub(super) checkpoints: Vec<(u32, u64)>,
    /// Files that this one supersedes.
    pub(super) instead_of: Vec<String>,
}

enum WriteJob {
    Store(Held),
    Tell(Sender<()>),
}

/// The thread, started with the first state. After a drop it finishes the jobs it has, then ends.
pub(super) struct CacheWriter {
    jobs: Option<Sender<WriteJob>>,
    seen: Arc<WriterState>,
    disk: Disk,
}

/// What the thread reports.
#[derive(Default)]
struct WriterState {
    waiting: AtomicUsize,
    failed: AtomicBool,
}

impl CacheWriter {
    /// `disk` learns how long each write takes.
    pub(super) fn new(disk: Disk) -> CacheWriter {
        CacheWriter { jobs: None, seen: Arc::default(), disk }
    }

    /// The number of states not yet written.
    pub(super) fn waiting(&self) -> usize {
        self.seen.waiting.load(Ordering::Relaxed)
    }

    /// Whether a write has failed: this process then attempts no more.
    pub(super) fn failed(&self) -> bool {
        self.seen.failed.load(Ordering::Relaxed)
    }

    pub(super) fn write(&mut self, held: Held, folder: &std::path::Path, bounds: &DiskBounds) {
        let start = || start(folder.into(), bounds.clone(), self.seen.clone(), self.disk.clone());
        let jobs = self.jobs.get_or_insert_with(start);
        self.seen.waiting.fetch_add(1, Ordering::Relaxed);
        let _ = jobs.send(WriteJob::Store(held)); // without the thread nothing is written
    }

    /// Drops `done` when everything is written.
    pub(super) fn tell(&self, done: Sender<()>) {
        if let Some(jobs) = &self.jobs {
            let _ = jobs.send(WriteJob::Tell(done));
        }
    }
}

fn start(folder: PathBuf, bounds: DiskBounds, seen: Arc<WriterState>, disk: Disk) -> Sender<WriteJob> {
    let (jobs, inbox) = channel();
    let work = move || {
        for job in inbox {
            match job {
                WriteJob::Store(held) => {
                    let done = store(&folder, &bounds, &held, &disk);
                    seen.failed.fetch_or(done.is_err(), Ordering::Relaxed);
                    seen.waiting.fetch_sub(1, Ordering::Relaxed);
                }
                WriteJob::Tell(done) => drop(done),
            }
        }
    };
    let _ = std::thread::Builder::new().name("cached prompts".into()).spawn(work);
    jobs
}

fn store(folder: &std::path::Path, bounds: &DiskBounds, held: &Held, disk: &Disk) -> std::io::Result<()> {
    let started = Instant::now();
    let Held { key, tokens, conversations, secs_per_token, state, checkpoints, .. } = held;
    let header = CacheFileHeader::new(key, tokens.clone(), conversations.clone(), *secs_per_token, state);
    let header = CacheFileHeader { checkpoints: checkpoints.clone(), ..header };
    if folder::store(folder, &held.name, &header, &held.state, bounds)? {
        disk.has_written(held.state.len(), started.elapsed());
    }
    for name in &held.instead_of {
        let _ = std::fs::remove_file(folder.join(name)); // another process may have removed it
    }
    Ok(())
}
