//! One file over several connections → a part on disk, complete and checked.
//!
//! Connections (connection.rs) take ranges in order; the thread that began them follows with the checksum
//! (checksums.rs). It gets the bytes from memory (write_buffer.rs) where it keeps pace, otherwise from the
//! disk. On a fast network few connections do. Passing troubles are tried again where they occurred; what
//! ends a transfer is for fetch.rs. Nothing of two versions is ever mixed.

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
use super::retry::RequestError;
use super::write_buffer::{BUFFER, BufferLookup, WriteBuffer};

/// Ranges fetched at the same time, at most.
const CONNECTIONS: usize = 8;
/// Connections that begin at once: while one writes, the other receives.
const FIRST_CONNECTIONS: usize = 2;
/// When each further one joins them, if by then fewer bytes a second came than this: a faster network needs no more,
/// and more would be in each other's way.
const JOIN_PAUSE: Duration = Duration::from_millis(50);
const FAST: f64 = 400e6;
/// What was received is sent to the disk after so many bytes, or this long after the last time if they are fewer:
/// so a power cut loses little, and the end need not wait.
const SYNC_BYTES: u64 = 64 << 20;
const SYNC_PAUSE: Duration = Duration::from_secs(2);
const POLL: Duration = Duration::from_millis(20);
const UNBROKEN: &str = "nobody panics holding it";

/// What to fetch.
pub(super) struct DownloadJob {
    /// For people.
    pub(super) name: String,
    pub(super) url: String,
    pub(super) size: u64,
    /// What it must be; without it the server's word for the version holds.
    pub(super) sha256: Option<String>,
    /// ETag or date of the version that is wanted, where there is no checksum.
    pub(super) validator: Option<String>,
    pub(super) target: PathBuf,
}

/// Why a transfer did not come to its end.
pub(super) enum TransferError {
    /// To be begun again.
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
    /// In pieces, or as one stream.
    in_pieces: bool,
    located: Mutex<Option<Located>>,
    state: Mutex<TransferState>,
    /// Bytes received and not yet part of the checksum. Negative after a resumption.
    ahead: AtomicI64,
    buffer: WriteBuffer,
    begun: Instant,
    /// Bytes that were there when it began.
    found: u64,
    /// The checksum waits for bytes.
    hungry: AtomicBool,
    /// For the checksum: bytes came, or the end.
    arrived: Condvar,
    /// For everyone else: there is something to fetch, or nothing any more.
    changed: Condvar,
}

#[derive(Default)]
struct TransferState {
    /// Ranges that nobody fetches yet.
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

    /// Receives until `follow`, which is given how many ranges are worth asking for at once, is content with the checksum.
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
                let _ = self.part.sync(); // what cannot be written is said at the end
                (synced, last) = (done, Instant::now());
                state = self.state();
            }
        }
    }

    /// Until it is this connection's turn to join the others, or all is over.
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

    /// Waits until a range has more than `done` bytes; how many.
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

    /// Forgets ranges and has them fetched again.
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

    /// Bytes from an offset on, `most` or fewer, as they were received or from the disk.
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

    /// The checksum has them.
    pub(super) fn give_back(&self, bytes: Vec<u8>) {
        self.buffer.give_back(bytes);
    }

    pub(super) fn read(&self, buffer: &mut [u8], offset: u64) -> Result<(), TransferError> {
        let failed = |e| Error::disk("read what was fetched", &e);
        self.part.read(buffer, offset).map_err(failed).map_err(TransferError::Failed)
    }
}
