//! A file → the primitive values of its header, checked against the file's size before memory is allocated.
//!
//! `parse.rs` interprets them.

use std::{io::Read, ops::Range};

use super::Refusal;

/// Bytes to read at once.
const CHUNK: u64 = 1 << 20;
/// Most bytes of a header. Real ones reach 30 MB (vocabulary and merges).
const LARGEST_HEADER: u64 = 1 << 28;

/// Reads a file from its beginning. `bytes[..at]` has been parsed, the rest is read ahead.
pub(super) struct HeaderReader<R> {
    file: R,
    pub(super) size: u64,
    pub(super) bytes: Vec<u8>,
    pub(super) at: usize,
    /// What is being read, for error messages.
    pub(super) place: String,
}

impl<R: Read> HeaderReader<R> {
    pub(super) fn new(file: R, size: u64) -> HeaderReader<R> {
        HeaderReader {
            file,
            size,
            bytes: Vec::new(),
            at: 0,
            place: "the fixed part of the header".to_owned(),
        }
    }

    /// The next `len` bytes, as a range of `bytes`.
    pub(super) fn take(&mut self, len: u64) -> Result<Range<usize>, Refusal> {
        let start = self.at as u64;
        let end =
            start.checked_add(len).filter(|end| *end <= self.size).ok_or_else(|| self.truncated(len))?;
        if end > LARGEST_HEADER {
            return Err(self.malformed("it is longer than 256 MiB"));
        }
        self.read_to(end)?;
        let range = self.at..end as usize;
        self.at = range.end;
        Ok(range)
    }

    pub(super) fn read_to(&mut self, end: u64) -> Result<(), Refusal> {
        while (self.bytes.len() as u64) < end {
            let have = self.bytes.len() as u64;
            let want = (self.size - have).min(CHUNK);
            let got = self.file.by_ref().take(want).read_to_end(&mut self.bytes)?;
            if got == 0 {
                // The file has shrunk since its size was read.
                return Err(Refusal::Truncated { place: self.place.clone(), needed: end, file_size: have });
            }
        }
        Ok(())
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Refusal> {
        let range = self.take(N as u64)?;
        Ok(self.bytes[range].try_into().expect("take gives exactly the bytes asked for"))
    }

    pub(super) fn u32(&mut self) -> Result<u32, Refusal> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(super) fn u64(&mut self) -> Result<u64, Refusal> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// A text: its length, then its bytes.
    pub(super) fn text(&mut self) -> Result<Range<usize>, Refusal> {
        let len = self.u64()?;
        self.take(len)
    }

    pub(super) fn lossy(&self, range: Range<usize>) -> String {
        String::from_utf8_lossy(&self.bytes[range]).into_owned()
    }

    /// Refuses a count of elements, of at least `smallest` bytes, that the rest of the file cannot hold.
    pub(super) fn expect_room(&self, count: u64, smallest: u64, what: &str) -> Result<(), Refusal> {
        let room = (self.size - self.at as u64) / smallest;
        if count <= room {
            return Ok(());
        }
        Err(self.malformed(&format!("it announces {count} {what}, the file has room for {room} at most")))
    }

    pub(super) fn malformed(&self, problem: &str) -> Refusal {
        Refusal::Malformed(format!("in {} (byte {}): {problem}", self.place, self.at))
    }

    fn truncated(&self, len: u64) -> Refusal {
        Refusal::Truncated {
            place: self.place.clone(),
            needed: (self.at as u64).saturating_add(len),
            file_size: self.size,
        }
    }
}
