//! One file over several connections → a part on disk, complete and checked.
//!
//! Connections take ranges in order; the thread that began them follows with the checksum. It gets the bytes
//! from memory (write_buffer.rs) where it keeps pace, otherwise from the disk. On a fast network few connections do. Passing troubles
//! are tried again where they occurred; what ends a transfer is for fetch.rs. Nothing of two versions is ever mixed.

use std::collections::VecDeque;
use std::io::Read;
use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicI64};
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::client::{Client, Located, disk, other_bytes};
use super::error::Error;
use super::http::{Answer, lost};
use super::partial_file::PartialFile;
use super::retry::Trouble;
use super::url::origin;
use super::write_buffer::{BUFFER, Found, WriteBuffer};
use crate::error::reason;

/// Ranges fetched at the same time, at most.
const CONNECTIONS: usize = 8;
/// Connections that begin at once: while one writes, the other receives.
const FIRST_CONNECTIONS: usize = 2;
/// When each further one joins them, if by then fewer bytes a second came than this: a faster network needs no more,
/// and more would be in each other's way.
const JOIN_PAUSE: Duration = Duration::from_millis(50);
const FAST: f64 = 400e6;
/// Bytes that may wait for the checksum besides what the connections work on: on a fast network it must not be left behind.
const AHEAD: i64 = 32 << 20;
/// How long bytes may wait to be written.
const BUFFER_PAUSE: Duration = Duration::from_millis(200);
/// What was received is sent to the disk after so many bytes, or this long after the last time if they are fewer:
/// so a power cut loses little, and the end need not wait.
const SYNC_BYTES: u64 = 64 << 20;
const SYNC_PAUSE: Duration = Duration::from_secs(2);
const POLL: Duration = Duration::from_millis(20);
const UNBROKEN: &str = "nobody panics holding it";

/// What to fetch.
pub(super) struct Job {
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
pub(super) enum Ended {
    /// To be begun again.
    Changed(Trouble),
    Failed(Error),
}

impl From<Error> for Ended {
    fn from(error: Error) -> Ended {
        Ended::Failed(error)
    }
}

/// A transfer in progress, shared by its threads.
pub(super) struct Transfer<'a> {
    line: Client<'a>,
    pub(super) job: &'a Job,
    pub(super) part: &'a PartialFile,
    /// In pieces, or as one stream.
    in_pieces: bool,
    located: Mutex<Option<Located>>,
    state: Mutex<State>,
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
struct State {
    /// Ranges that nobody fetches yet.
    queue: VecDeque<usize>,
    over: bool,
    ended: Option<Ended>,
}

impl<'a> Transfer<'a> {
    pub(super) fn new(
        line: Client<'a>,
        job: &'a Job,
        part: &'a PartialFile,
        located: Located,
    ) -> Transfer<'a> {
        let queue = (0..part.ranges()).filter(|index| !part.complete(*index)).collect();
        let state = Mutex::new(State { queue, ..State::default() });
        let (in_pieces, located) = (located.ranges, Mutex::new(Some(located)));
        Transfer {
            line,
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
        follow: impl FnOnce(&Self, usize) -> Result<String, Ended>,
    ) -> Result<String, Ended> {
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

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect(UNBROKEN)
    }

    fn over(&self) -> bool {
        self.line.teller.stopped() || self.state().over
    }

    fn sync_now_and_then(&self) {
        let (mut synced, mut last) = (self.found, Instant::now());
        let mut state = self.state();
        while !state.over && !self.line.teller.stopped() {
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

    /// What each connection does.
    fn work(&self, number: usize) {
        let mut buffer = Vec::new();
        self.wait_until_wanted(number);
        while let Some(index) = self.next() {
            let done =
                if self.in_pieces { self.fetch_range(index, &mut buffer) } else { self.stream(&mut buffer) };
            if let Err(ended) = done {
                self.state().ended.get_or_insert(ended);
            }
            self.arrived.notify_all();
            self.changed.notify_all();
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
            if state.over || state.ended.is_some() || self.line.teller.stopped() {
                return None;
            }
            if let Some(index) = state.queue.pop_front() {
                return Some(index);
            }
            state = self.changed.wait_timeout(state, POLL).expect(UNBROKEN).0;
        }
    }

    fn fetch_range(&self, index: usize, buffer: &mut Vec<u8>) -> Result<(), Ended> {
        let mut tries = 0;
        while !self.part.complete(index) {
            let before = self.part.record(index).done;
            let Err(trouble) = self.attempt(index, buffer) else { continue };
            if self.over() {
                return Ok(()); // nobody wants it any more
            }
            if matches!(trouble, Trouble::Changed(_)) {
                return Err(Ended::Changed(trouble));
            }
            tries = if self.part.record(index).done > before { 1 } else { tries + 1 };
            self.line.recover(&self.job.url, &trouble, tries)?;
        }
        Ok(())
    }

    /// Fetches what is missing of a range with one request.
    fn attempt(&self, index: usize, buffer: &mut Vec<u8>) -> Result<(), Trouble> {
        let located = self.locate()?;
        let bounds = self.part.bounds(index);
        let (first, last) = (bounds.start + self.part.record(index).done, bounds.end - 1);
        let range = format!("bytes={first}-{last}");
        let version =
            located.validator.as_deref().filter(|v| self.job.sha256.is_none() && !v.starts_with("W/"));
        let headers = [("range", range.as_str()), ("if-range", version.unwrap_or_default())];
        let answer = self.line.http.get(&located.url, &headers[..1 + usize::from(version.is_some())])?;
        let same = self.job.sha256.is_some() || answer.validator() == located.validator;
        match answer.status {
            206 if !same => Err(Trouble::Changed("the file has changed meanwhile".into())),
            206 => match answer.content_range() {
                Some((_, _, size)) if size != self.job.size => {
                    Err(Trouble::Changed("the file's size has changed meanwhile".into()))
                }
                Some(range) if range == (first, last, self.job.size) => self.receive(answer, index, buffer),
                _ => Err(other_bytes(&answer)),
            },
            200 if same => Err(Trouble::Changed("the server no longer sends pieces of the file".into())),
            200 => Err(Trouble::Changed("the file has changed meanwhile".into())),
            416 => Err(Trouble::Changed("the server has no such piece of the file".into())),
            401 | 403 | 404 | 410 if origin(&located.url) != origin(&self.job.url) => {
                *self.located.lock().expect(UNBROKEN) = None;
                Err(Trouble::Lost("the file's address has expired".into()))
            }
            _ => Err(answer.trouble()),
        }
    }

    /// Where the file is now: addresses that the hub hands out expire.
    fn locate(&self) -> Result<Located, Trouble> {
        let mut located = self.located.lock().expect(UNBROKEN);
        if located.is_none() {
            *located = Some(self.line.locate(&self.job.url)?);
        }
        Ok(located.clone().expect("set above"))
    }

    /// The body → the part, until the range is complete.
    fn receive(&self, mut answer: Answer, index: usize, buffer: &mut Vec<u8>) -> Result<(), Trouble> {
        let length = self.part.bounds(index).end - self.part.bounds(index).start;
        loop {
            let missing = length - self.part.record(index).done;
            if missing == 0 {
                answer.drain();
                return Ok(());
            }
            self.receive_some(&mut answer.body, index, missing, buffer)?;
        }
    }

    /// What comes next, `most` bytes → the part and the checksum; how much that was.
    fn receive_some(
        &self,
        body: &mut dyn Read,
        index: usize,
        most: u64,
        buffer: &mut Vec<u8>,
    ) -> Result<u64, Trouble> {
        buffer.resize(most.min(BUFFER as u64) as usize, 0);
        let (filled, outcome) = fill(body, buffer);
        buffer.truncate(filled);
        if filled == 0 {
            return outcome.map(|()| 0);
        }
        let most_ahead = CONNECTIONS as i64 * self.part.range as i64 + AHEAD;
        while !self.over() && !self.hungry.load(Relaxed) && self.ahead.load(Relaxed) > most_ahead {
            std::thread::sleep(Duration::from_millis(1)); // the processor's time belongs to the checksum
        }
        let failed = |e| Trouble::Disk(reason(&e));
        let record = self.part.write(index, buffer).map_err(failed)?;
        let offset = self.part.bounds(index).start + record.done - filled as u64;
        *buffer = self.buffer.keep(offset, std::mem::take(buffer));
        self.part.set(index, record).map_err(failed)?; // from now on the checksum may have it
        if self.hungry.load(Relaxed) {
            self.arrived.notify_all();
        }
        self.line.teller.received(filled as u64);
        self.ahead.fetch_add(filled as i64, Relaxed);
        if self.over() {
            return Err(Trouble::Lost("nobody wants it any more".into()));
        }
        outcome.map(|()| filled as u64)
    }

    /// The whole file as one stream, from its beginning: for servers that know nothing of ranges.
    fn stream(&self, buffer: &mut Vec<u8>) -> Result<(), Ended> {
        let outcome = self.locate().and_then(|located| {
            let mut answer = self.line.http.get(&located.url, &[])?;
            if answer.status != 200 {
                return Err(answer.trouble());
            }
            if answer.length().is_some_and(|length| length != self.job.size) {
                return Err(Trouble::Changed("the file's size has changed meanwhile".into()));
            }
            for index in 0..self.part.ranges() {
                let body = std::mem::replace(&mut answer.body, Box::new(std::io::empty()));
                answer.body = self.receive_stream(body, index, buffer)?;
            }
            self.state().queue.clear();
            Ok(())
        });
        match outcome {
            Err(_) if self.over() => Ok(()),
            Err(trouble @ (Trouble::Lost(_) | Trouble::Busy { .. } | Trouble::Changed(_))) => {
                Err(Ended::Changed(trouble))
            }
            Err(trouble) => Err(Ended::Failed(self.line.failure(&self.job.url, &trouble))),
            Ok(()) => Ok(()),
        }
    }

    fn receive_stream(
        &self,
        mut body: Box<dyn Read + Send>,
        index: usize,
        buffer: &mut Vec<u8>,
    ) -> Result<Box<dyn Read + Send>, Trouble> {
        let bounds = self.part.bounds(index);
        let mut missing = bounds.end - bounds.start;
        while missing > 0 {
            missing -= self.receive_some(&mut body, index, missing, buffer)?;
        }
        Ok(body)
    }

    // For who follows: checksums.rs.

    /// Waits until a range has more than `done` bytes; how many.
    pub(super) fn more_than(&self, index: usize, done: u64) -> Result<u64, Ended> {
        let mut state = self.state();
        loop {
            let there = self.part.record(index).done;
            self.hungry.store(there <= done, Relaxed);
            if there > done {
                return Ok(there);
            }
            self.line.teller.check()?;
            if let Some(ended) = state.ended.take() {
                return Err(ended);
            }
            state = self.arrived.wait_timeout(state, POLL).expect(UNBROKEN).0;
        }
    }

    /// Forgets ranges and has them fetched again.
    pub(super) fn again(&self, indices: &[usize]) -> Result<(), Ended> {
        if !self.in_pieces {
            return Err(Ended::Changed(Trouble::Changed("what came is damaged".into())));
        }
        for index in indices {
            self.line.teller.found(-(self.part.record(*index).done as i64));
            self.part.reset(*index).map_err(|e| disk(&e))?;
        }
        self.buffer.forget();
        self.state().queue.extend(indices);
        self.changed.notify_all();
        Ok(())
    }

    pub(super) fn say(&self, line: String) {
        self.line.teller.say(line);
    }

    /// Bytes from an offset on, `most` or fewer, as they were received or from the disk.
    pub(super) fn take(&self, offset: u64, most: u64) -> Result<Vec<u8>, Ended> {
        let bytes = match self.buffer.take(offset) {
            Found::WriteBuffer(bytes) => bytes,
            Found::Cold(empty, mut buffer) => {
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

    pub(super) fn read(&self, buffer: &mut [u8], offset: u64) -> Result<(), Ended> {
        let failed = |e| Error::disk("read what was fetched", &e);
        self.part.read(buffer, offset).map_err(failed).map_err(Ended::Failed)
    }
}

/// Reads until the buffer is full, time is up or something is wrong; how much came, and what was wrong.
fn fill(body: &mut dyn Read, buffer: &mut [u8]) -> (usize, Result<(), Trouble>) {
    let (mut filled, begun) = (0, Instant::now());
    while filled < buffer.len() && (filled == 0 || begun.elapsed() < BUFFER_PAUSE) {
        match body.read(&mut buffer[filled..]) {
            Ok(0) => return (filled, Err(Trouble::Lost("the connection was closed early".into()))),
            Ok(n) => filled += n,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return (filled, Err(Trouble::Lost(lost(&e)))),
        }
    }
    (filled, Ok(()))
}
