//! The checksum of a file, computed as its bytes arrive; and the repair of a file whose checksum is wrong.

use std::fmt::Write;

use sha2::{Digest, Sha256};

use super::error::Error;
use super::transfer::{DownloadJob, Transfer, TransferError};

/// Bytes per read from the disk.
const CHUNK: usize = 1 << 20;

/// The version of the file that a part belongs to.
pub(super) fn version(job: &DownloadJob) -> [u8; 32] {
    match (&job.sha256, &job.validator) {
        (Some(_), _) => [0; 32], // the blob's name is its checksum
        (None, version) => Sha256::digest(version.as_deref().unwrap_or_default()).into(),
    }
}

fn hex(sum: Sha256) -> String {
    sum.finalize().iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}"); // writing to a String cannot fail
        text
    })
}

/// Follows a transfer to its end; returns the SHA-256 if it is as expected. `batch`: number of ranges to
/// refetch at once.
pub(super) fn follow(transfer: &Transfer, batch: usize) -> Result<String, TransferError> {
    let mut follower = Follower { transfer, before: Vec::new(), chunk: vec![0; CHUNK] };
    let sum = follower.from(0)?;
    match &transfer.job.sha256 {
        Some(wanted) if !sum.eq_ignore_ascii_case(wanted) => follower.repair(wanted, batch),
        _ => Ok(sum),
    }
}

struct Follower<'a> {
    transfer: &'a Transfer<'a>,
    /// The hash state before each range.
    before: Vec<Sha256>,
    chunk: Vec<u8>,
}

impl Follower<'_> {
    /// The checksum of the whole file, continued from the known state before range `first`.
    fn from(&mut self, first: usize) -> Result<String, TransferError> {
        let mut sum = self.before.get(first).cloned().unwrap_or_default();
        self.before.truncate(first);
        for index in first..self.transfer.part.ranges() {
            self.before.push(sum.clone());
            sum = self.range(index, sum)?;
        }
        Ok(hex(sum))
    }

    /// The hash state after a range. A range from an earlier run is compared with its recorded CRC.
    fn range(&mut self, index: usize, before: Sha256) -> Result<Sha256, TransferError> {
        let part = self.transfer.part;
        let bounds = part.bounds(index);
        loop {
            let inherited = part.record(index).inherited;
            let (mut sum, mut crc, mut at) = (before.clone(), crc32fast::Hasher::new(), 0);
            while at < bounds.end - bounds.start {
                let there = self.transfer.more_than(index, at)?;
                let bytes = self.transfer.take(bounds.start + at, there - at)?;
                sum.update(&bytes);
                if inherited {
                    crc.update(&bytes);
                }
                at += bytes.len() as u64;
                self.transfer.give_back(bytes);
            }
            if !inherited || crc.finalize() == part.record(index).crc {
                part.trust(index);
                return Ok(sum);
            }
            self.transfer
                .say(format!("part of {} was lost on disk: fetching it again", self.transfer.job.name));
            self.transfer.again(&[index])?;
        }
    }

    /// The checksum is wrong. Refetches the ranges that the disk lost; if it lost none, wrong bytes were
    /// received, and all ranges are refetched, some at a time, until the checksum is right.
    fn repair(&mut self, wanted: &str, batch: usize) -> Result<String, TransferError> {
        let part = self.transfer.part;
        let name = self.transfer.job.name.clone();
        let all: Vec<usize> = (0..part.ranges()).collect();
        self.transfer.say(format!("the checksum of {name} is wrong: looking for the damaged part"));
        let mut lost = Vec::new();
        for index in &all {
            if self.crc(*index)? != part.record(*index).crc {
                lost.push(*index);
            }
        }
        let batches = if lost.is_empty() { all.chunks(batch) } else { lost.chunks(lost.len()) };
        for batch in batches {
            let before: Vec<u32> = batch.iter().map(|index| part.record(*index).crc).collect();
            self.transfer.again(batch)?;
            for index in batch {
                let bounds = part.bounds(*index);
                self.transfer.more_than(*index, bounds.end - bounds.start - 1)?;
            }
            let other = batch.iter().zip(before).find(|(index, crc)| part.record(**index).crc != *crc);
            let first = if lost.is_empty() { other.map(|(index, _)| *index) } else { batch.first().copied() };
            if let Some(first) = first {
                let sum = self.from(first)?;
                if sum.eq_ignore_ascii_case(wanted) {
                    return Ok(sum);
                }
            }
        }
        Err(TransferError::Failed(Error::Checksum(name)))
    }

    /// The CRC-32 of a range as it is on disk.
    fn crc(&mut self, index: usize) -> Result<u32, TransferError> {
        let (bounds, mut crc) = (self.transfer.part.bounds(index), crc32fast::Hasher::new());
        let mut at = bounds.start;
        while at < bounds.end {
            let piece = &mut self.chunk[..CHUNK.min((bounds.end - at) as usize)];
            self.transfer.read(piece, at)?;
            crc.update(piece);
            at += piece.len() as u64;
        }
        Ok(crc.finalize())
    }
}
