//! Work on the network, watched by the thread that asked for it: progress goes out, cancellation goes in.
//!
//! The work runs on its own thread, so the watcher never waits for a network that does not answer.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::error::Error;

/// How often the watcher may stop the work.
const TICK: Duration = Duration::from_millis(50);

/// What the watcher gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HubEvent {
    /// The current progress, at every tick.
    Progress(DownloadProgress),
    /// A message for the user.
    Notice(String),
}

/// The progress of a download, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DownloadProgress {
    /// Bytes of all files that are on this machine.
    pub done: u64,
    pub total: u64,
    /// Bytes received over the network in this run.
    pub fetched: u64,
}

/// Called with each event; `Break` stops the work.
pub type HubWatcher<'a> = &'a mut dyn FnMut(HubEvent) -> ControlFlow<()>;

/// The work's end of the channel to the watcher. Cheap to clone.
#[derive(Clone)]
pub(super) struct Teller(Arc<WatchState>);

struct WatchState {
    stopped: AtomicBool,
    done: AtomicU64,
    total: AtomicU64,
    fetched: AtomicU64,
    notices: Mutex<Notices>,
}

struct Notices {
    sender: Sender<String>,
    /// When `say_rarely` last sent a line.
    last: Option<Instant>,
}

/// Runs `work` on another thread while `watch` watches. A stop returns at once; the work ends when it
/// notices.
pub(super) fn watched<T: Send + 'static>(
    watch: HubWatcher,
    work: impl FnOnce(&Teller) -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let (sender, notices) = channel();
    let teller = Teller(Arc::new(WatchState {
        stopped: AtomicBool::new(false),
        done: AtomicU64::new(0),
        total: AtomicU64::new(0),
        fetched: AtomicU64::new(0),
        notices: Mutex::new(Notices { sender, last: None }),
    }));
    let (of_work, (finished, result)) = (teller.clone(), channel());
    std::thread::spawn(move || finished.send(work(&of_work)));
    loop {
        let outcome = result.recv_timeout(TICK);
        let told = notices.try_iter().map(HubEvent::Notice);
        for event in told.chain([HubEvent::Progress(teller.progress())]) {
            if watch(event).is_break() {
                teller.0.stopped.store(true, Ordering::Relaxed);
                return Err(Error::Interrupted);
            }
        }
        match outcome {
            Ok(outcome) => return outcome,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Err(Error::Died),
        }
    }
}

impl Teller {
    fn progress(&self) -> DownloadProgress {
        let [done, total, fetched] =
            [&self.0.done, &self.0.total, &self.0.fetched].map(|n| n.load(Ordering::Relaxed));
        DownloadProgress { done: done.min(total), total, fetched }
    }

    /// Sets the total size.
    pub(super) fn expect(&self, total: u64) {
        self.0.total.store(total, Ordering::Relaxed);
    }

    /// Counts bytes that are already here; negative: discards such bytes.
    pub(super) fn found(&self, bytes: i64) {
        self.0.done.fetch_add(bytes as u64, Ordering::Relaxed); // wraps around: a subtraction
    }

    /// Counts bytes received over the network.
    pub(super) fn received(&self, bytes: u64) {
        self.0.done.fetch_add(bytes, Ordering::Relaxed);
        self.0.fetched.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Whether a download is under way: its total size is known.
    pub(super) fn fetching(&self) -> bool {
        self.0.total.load(Ordering::Relaxed) > 0
    }

    pub(super) fn fetched(&self) -> u64 {
        self.0.fetched.load(Ordering::Relaxed)
    }

    pub(super) fn say(&self, line: String) {
        let notices = self.0.notices.lock().expect("no thread panics while holding the lock");
        let _ = notices.sender.send(line); // the watcher has left
    }

    /// Sends a line unless another one was sent within `pause`: several threads may report the same.
    pub(super) fn say_rarely(&self, line: String, pause: Duration) {
        let mut notices = self.0.notices.lock().expect("no thread panics while holding the lock");
        if notices.last.is_none_or(|last| last.elapsed() >= pause) {
            notices.last = Some(Instant::now());
            let _ = notices.sender.send(line); // the watcher has left
        }
    }

    pub(super) fn stopped(&self) -> bool {
        self.0.stopped.load(Ordering::Relaxed)
    }

    /// An error after the watcher stopped the work.
    pub(super) fn check(&self) -> Result<(), Error> {
        if self.stopped() { Err(Error::Interrupted) } else { Ok(()) }
    }

    /// Waits for `time`, or until the watcher stops the work.
    pub(super) fn wait(&self, time: Duration) -> Result<(), Error> {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.check()?;
            std::thread::sleep(TICK.min(end.saturating_duration_since(Instant::now())));
        }
        self.check()
    }
}
