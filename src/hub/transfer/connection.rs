//! One connection of a transfer: downloads ranges, or the whole file as one stream, to the part on disk and
//! to the checksum.

use std::io::Read;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use super::{CONNECTIONS, Transfer, TransferError, UNBROKEN};
use crate::files::reason;
use crate::http::retry::RequestError;
use crate::http::url::origin;
use crate::http::{HttpResponse, lost};
use crate::hub::client::{Located, other_bytes};
use crate::hub::write_buffer::BUFFER;

/// How far the connections may get ahead of the checksum, in bytes besides their own ranges: on a fast
/// network it must not fall behind.
const AHEAD: i64 = 32 << 20;
/// How long bytes may wait in the buffer before they are written.
const BUFFER_PAUSE: Duration = Duration::from_millis(200);

impl Transfer<'_> {
    /// Runs one connection until the transfer is over.
    pub(super) fn work(&self, number: usize) {
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

    fn fetch_range(&self, index: usize, buffer: &mut Vec<u8>) -> Result<(), TransferError> {
        let mut tries = 0;
        while !self.part.complete(index) {
            let before = self.part.record(index).done;
            let Err(trouble) = self.attempt(index, buffer) else { continue };
            if self.over() {
                return Ok(()); // the transfer is over
            }
            if matches!(trouble, RequestError::Changed(_)) {
                return Err(TransferError::Changed(trouble));
            }
            tries = if self.part.record(index).done > before { 1 } else { tries + 1 };
            self.client.recover(&self.job.url, &trouble, tries)?;
        }
        Ok(())
    }

    /// Requests the missing bytes of a range.
    fn attempt(&self, index: usize, buffer: &mut Vec<u8>) -> Result<(), RequestError> {
        let located = self.locate()?;
        let bounds = self.part.bounds(index);
        let (first, last) = (bounds.start + self.part.record(index).done, bounds.end - 1);
        let range = format!("bytes={first}-{last}");
        let version =
            located.validator.as_deref().filter(|v| self.job.sha256.is_none() && !v.starts_with("W/"));
        let headers = [("range", range.as_str()), ("if-range", version.unwrap_or_default())];
        let answer = self.client.http.get(&located.url, &headers[..1 + usize::from(version.is_some())])?;
        let same = self.job.sha256.is_some() || answer.validator() == located.validator;
        match answer.status {
            206 if !same => Err(RequestError::Changed("the file has changed meanwhile".into())),
            206 => match answer.content_range() {
                Some((_, _, size)) if size != self.job.size => {
                    Err(RequestError::Changed("the file's size has changed meanwhile".into()))
                }
                Some(range) if range == (first, last, self.job.size) => self.receive(answer, index, buffer),
                _ => Err(other_bytes(&answer)),
            },
            200 if same => Err(RequestError::Changed("the server no longer sends pieces of the file".into())),
            200 => Err(RequestError::Changed("the file has changed meanwhile".into())),
            416 => Err(RequestError::Changed("the server has no such piece of the file".into())),
            401 | 403 | 404 | 410 if origin(&located.url) != origin(&self.job.url) => {
                *self.located.lock().expect(UNBROKEN) = None;
                Err(RequestError::Lost("the file's address has expired".into()))
            }
            _ => Err(answer.trouble()),
        }
    }

    /// The file's current location: the hub's addresses expire.
    fn locate(&self) -> Result<Located, RequestError> {
        let mut located = self.located.lock().expect(UNBROKEN);
        if located.is_none() {
            *located = Some(self.client.locate(&self.job.url)?);
        }
        Ok(located.clone().expect("set above"))
    }

    /// Writes the body to the part until the range is complete.
    fn receive(
        &self,
        mut answer: HttpResponse,
        index: usize,
        buffer: &mut Vec<u8>,
    ) -> Result<(), RequestError> {
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

    /// Receives at most `most` bytes into the part and the buffer for the checksum; returns their number.
    fn receive_some(
        &self,
        body: &mut dyn Read,
        index: usize,
        most: u64,
        buffer: &mut Vec<u8>,
    ) -> Result<u64, RequestError> {
        buffer.resize(most.min(BUFFER as u64) as usize, 0);
        let (filled, outcome) = fill(body, buffer);
        buffer.truncate(filled);
        if filled == 0 {
            return outcome.map(|()| 0);
        }
        let most_ahead = CONNECTIONS as i64 * self.part.range as i64 + AHEAD;
        while !self.over() && !self.hungry.load(Relaxed) && self.ahead.load(Relaxed) > most_ahead {
            std::thread::sleep(Duration::from_millis(1)); // leave the processor to the checksum
        }
        let failed = |e| RequestError::Disk(reason(&e));
        let record = self.part.write(index, buffer).map_err(failed)?;
        let offset = self.part.bounds(index).start + record.done - filled as u64;
        *buffer = self.buffer.keep(offset, std::mem::take(buffer));
        self.part.set(index, record).map_err(failed)?; // from here on the checksum may use it
        if self.hungry.load(Relaxed) {
            self.arrived.notify_all();
        }
        self.client.teller.received(filled as u64);
        self.ahead.fetch_add(filled as i64, Relaxed);
        if self.over() {
            return Err(RequestError::Lost("nobody wants it any more".into()));
        }
        outcome.map(|()| filled as u64)
    }

    /// Fetches the whole file as one stream, from its start: for servers without range support.
    fn stream(&self, buffer: &mut Vec<u8>) -> Result<(), TransferError> {
        let outcome = self.locate().and_then(|located| {
            let mut answer = self.client.http.get(&located.url, &[])?;
            if answer.status != 200 {
                return Err(answer.trouble());
            }
            if answer.length().is_some_and(|length| length != self.job.size) {
                return Err(RequestError::Changed("the file's size has changed meanwhile".into()));
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
            Err(trouble @ (RequestError::Lost(_) | RequestError::Busy { .. } | RequestError::Changed(_))) => {
                Err(TransferError::Changed(trouble))
            }
            Err(trouble) => Err(TransferError::Failed(self.client.failure(&self.job.url, &trouble))),
            Ok(()) => Ok(()),
        }
    }

    fn receive_stream(
        &self,
        mut body: Box<dyn Read + Send>,
        index: usize,
        buffer: &mut Vec<u8>,
    ) -> Result<Box<dyn Read + Send>, RequestError> {
        let bounds = self.part.bounds(index);
        let mut missing = bounds.end - bounds.start;
        while missing > 0 {
            missing -= self.receive_some(&mut body, index, missing, buffer)?;
        }
        Ok(body)
    }
}

/// Reads until the buffer is full, the time is up, or an error occurs; returns the number of bytes read and
/// the outcome.
fn fill(body: &mut dyn Read, buffer: &mut [u8]) -> (usize, Result<(), RequestError>) {
    let (mut filled, begun) = (0, Instant::now());
    while filled < buffer.len() && (filled == 0 || begun.elapsed() < BUFFER_PAUSE) {
        match body.read(&mut buffer[filled..]) {
            Ok(0) => return (filled, Err(RequestError::Lost("the connection was closed early".into()))),
            Ok(n) => filled += n,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return (filled, Err(RequestError::Lost(lost(&e)))),
        }
    }
    (filled, Ok(()))
}
