//! One file over several connections → a part on disk, complete and verified.
//!
//! Connections (connection.rs) fetch ranges in order; the thread that started them computes the checksum
//! (checksums.rs). It takes the bytes from memory (write_buffer.rs) while it keeps up, otherwise from the
//! disk. A fast network needs few connections. A connection retries temporary failures itself; fetch.rs
//! handles what ends a transfer. Bytes of different versions are never mixed.

mod connection;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicI64};
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::client::{Client, Located, disk};
use super::error::Error;
use super::partial_file::PartialFile;
use super::write_buffer::{BUFFER, BufferLookup, WriteBuffer};
use crate::http::retry::RequestError;

/// Maximum number of ranges fetched at the same time.
const CONNECTIONS: usize = 8;
/// Connections at the start: while one writes, the other receives.
const FIRST_CONNECTIONS: usize = 2;
/// Another connection joins after this pause if fewer bytes per second arrived than this: on a faster
/// network, more connections would get in each other's way.
const JOIN_PAUSE: Duration = Duration::from_millis(50);
const FAST: f64 = 400e6;
/// Received bytes are flushed to the disk after this many bytes or this long: a power cut then loses little,
/// and the final flush is short.
const SYNC_BYTES: u64 = 64 << 20;
const SYNC_PAUSE: Duration = Duration::from_secs(2);
const POLL: Duration = Duration::from_millis(20);
const UNBROKEN: &str = "no thread panics while holding the lock";

/// One file to fetch.
pub(super) struct DownloadJob {
    /// For messages.
    pub(super) name: String,
    pub(super) url: String,
    pub(super) size: u64,
    /// The expected checksum; without one, `validator` identifies the version.
    pub(super) sha256: Option<String>,
    /// ETag or date of the wanted version, if there is no checksum.
    pub(super) validator: Option<String>,
    pub(super) target: PathBuf,
}

/// Why a transfer did not complete.
pub(super) enum TransferError {
    /// Start the file over.
    Changed(RequestError),
    Failed(Error),
}

impl From<Error> for TransferError {
    fn from(error: Error) -> TransferError {
        TransferError::Failed(error)
    }
}

/// A transfer in progress, shared by its threads.
pub(super) struct Transfer<'a> {
    client: Client<'a>,
    pub(super) job: &'a DownloadJob,
    pub(super) part: &'a PartialFile,
    /// Ranges, or one stream.
    in_pieces: bool,
    located: Mutex<Option<Located>>,
    state: Mutex<TransferState>,
    /// Bytes received but not yet hashed. Negative after resuming: bytes from an earlier run are hashed, too.
    ahead: AtomicI64,
    buffer: WriteBuffer,
    begun: Instant,
    /// Bytes that an earlier run left.
    found: u64,
    /// The checksum is waiting for bytes.
    hungry: AtomicBool,
    /// Wakes the checksum: bytes arrived, or the transfer is over.
    arrived: Condvar,
    /// Wakes everyone else: there is a range to fetch, or the transfer is over.
    changed: Condvar,
}

#[derive(Default)]
struct TransferState {
    /// Ranges that no connection is fetching.
    queue: VecDeque<usize>,
    over: bool,
    ended: Option<TransferError>,
}

impl<'a> Transfer<'a> {
    pub(super) fn new(
        client: Client<'a>,
        job: &'a DownloadJob,
        part: &'a PartialFile,
        located: Located,
    ) -> Transfer<'a> {
        let queue = (0..part.ranges()).filter(|index| !part.complete(*index)).collect();
        let state = Mutex::new(TransferState { queue, ..TransferState::default() });
        let (in_pieces, located) = (located.ranges, Mutex::new(Some(located)));
        Transfer {
            client,
            job,
            part,
            in_pieces,
            located,
            state,
            ahead: AtomicI64::new(0),
            buffer: WriteBuffer::default(),
            begun: Instant::now(),
            found: part.done(),
            hungry: AtomicBool::new(false),
            arrived: Condvar::new(),
            changed: Condvar::new(),
        }
    }

    /// Receives until `follow` returns. `follow` gets the number of ranges worth requesting at once; it
    /// computes the checksum.
    pub(super) fn run(
        &self,
        follow: impl FnOnce(&Self, usize) -> Result<String, TransferError>,
    ) -> Result<String, TransferError> {
        std::thread::scope(|scope| {
            let connections = if self.in_pieces { CONNECTIONS.min(self.part.ranges()) } else { 1 };
            for number in 0..connections {
                scope.spawn(move || self.work(number));
            }
            scope.spawn(|| self.sync_now_and_then());
            let sum = follow(self, connections);
            self.state().over = true;
            self.changed.notify_all();
            sum
        })
    }

    fn state(&self) -> MutexGuard<'_, TransferState> {
        self.state.lock().expect(UNBROKEN)
    }

    fn over(&self) -> bool {
        self.client.teller.stopped() || self.state().over
    }

    fn sync_now_and_then(&self) {
        let (mut synced, mut last) = (self.found, Instant::now());
        let mut state = self.state();
        while !state.over && !self.client.teller.stopped() {
            state = self.changed.wait_timeout(state, POLL).expect(UNBROKEN).0;
            let done = self.part.done();
            if done >= synced + SYNC_BYTES || done > synced && last.elapsed() >= SYNC_PAUSE {
                drop(state);
                let _ = self.part.sync(); // a failed write is reported at the end
                (synced, last) = (done, Instant::now());
                state = self.state();
            }
        }
    }

    /// Waits until this connection should join the others, or the transfer is over.
    fn wait_until_wanted(&self, number: usize) {
        let mut state = self.state();
        while number >= FIRST_CONNECTIONS && !state.over && state.ended.is_none() {
            let elapsed = self.begun.elapsed();
            let fetched = self.part.done().saturating_sub(self.found) as f64;
            if elapsed >= JOIN_PAUSE * number as u32 && fetched < FAST * elapsed.as_secs_f64() {
                return;
            }
            state = self.changed.wait_timeout(state, POLL).expect(UNBROKEN).0;
        }
    }

    fn next(&self) -> Option<usize> {
        let mut state = self.state();
        loop {
            if state.over || state.ended.is_some() || self.client.teller.stopped() {
                return None;
            }
            if let Some(index) = state.queue.pop_front() {
                return Some(index);
            }
            state = self.changed.wait_timeout(state, POLL).expect(UNBROKEN).0;
        }
    }

    /// Waits until a range has more than `done` bytes; returns its number of bytes.
    pub(super) fn more_than(&self, index: usize, done: u64) -> Result<u64, TransferError> {
        let mut state = self.state();
        loop {
            let there = self.part.record(index).done;
            self.hungry.store(there <= done, Relaxed);
            if there > done {
                return Ok(there);
            }
            self.client.teller.check()?;
            if let Some(ended) = state.ended.take() {
                return Err(ended);
            }
            state = self.arrived.wait_timeout(state, POLL).expect(UNBROKEN).0;
        }
    }

    /// Discards ranges and queues them to be fetched again.
    pub(super) fn again(&self, indices: &[usize]) -> Result<(), TransferError> {
        if !self.in_pieces {
            return Err(TransferError::Changed(RequestError::Changed("what came is damaged".into())));
        }
        for index in indices {
            self.client.teller.found(-(self.part.record(*index).done as i64));
            self.part.reset(*index).map_err(|e| disk(&e))?;
        }
        self.buffer.forget();
        self.state().queue.extend(indices);
        self.changed.notify_all();
        Ok(())
    }

    pub(super) fn say(&self, line: String) {
        self.client.teller.say(line);
    }

    /// At most `most` bytes from `offset`, from memory or from the disk.
    pub(super) fn take(&self, offset: u64, most: u64) -> Result<Vec<u8>, TransferError> {
        let bytes = match self.buffer.take(offset) {
            BufferLookup::Hit(bytes) => bytes,
            BufferLookup::Miss(empty, mut buffer) => {
                buffer.resize(most.min(empty).min(BUFFER as u64) as usize, 0);
                self.read(&mut buffer, offset)?;
                buffer
            }
        };
        self.ahead.fetch_sub(bytes.len() as i64, Relaxed);
        Ok(bytes)
    }

    /// Returns a hashed buffer for reuse.
    pub(super) fn give_back(&self, bytes: Vec<u8>) {
        self.buffer.give_back(bytes);
    }

    pub(super) fn read(&self, buffer: &mut [u8], offset: u64) -> Result<(), TransferError> {
        let failed = |e| Error::disk("read what was fetched", &e);
        self.part.read(buffer, offset).map_err(failed).map_err(TransferError::Failed)
    }
}
