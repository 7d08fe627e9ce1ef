//! A file during its download: its bytes so far, and a journal of its ranges.
//!
//! Both are beside the target. A journal record is written after the bytes it describes, so a process that
//! ends loses only unwritten bytes; each record holds the checksum of the received bytes, so bytes lost in a
//! power cut are detected. checksums.rs does the comparing.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use crate::files::shared_file;

const MAGIC: &[u8; 8] = b"fireside";
/// Bytes of the journal's header, and of each record.
const HEADER: usize = 64;
const RECORD: usize = 16;
/// A range is 1/64 of the file, within these bounds in bytes.
const SMALLEST_RANGE: u64 = 1 << 20;
const LARGEST_RANGE: u64 = 32 << 20;
const UNBROKEN: &str = "no thread panics while holding the records";

/// How far a range has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct RangeRecord {
    /// Bytes received, from the range's start.
    pub(super) done: u64,
    /// CRC-32 of these bytes as received.
    pub(super) crc: u32,
    /// Written by an earlier run and not yet compared with the disk.
    pub(super) inherited: bool,
}

pub(super) struct PartialFile {
    data: File,
    journal: File,
    path: PathBuf,
    pub(super) size: u64,
    /// Bytes per range.
    pub(super) range: u64,
    records: Mutex<Vec<RangeRecord>>,
    writing: Mutex<()>,
}

impl PartialFile {
    /// Resumes the part beside `target` if it has the same `version` and size; otherwise starts over.
    pub(super) fn open(target: &Path, size: u64, version: [u8; 32]) -> io::Result<PartialFile> {
        let open = |path: &Path| {
            shared_file(path, OpenOptions::new().read(true).write(true).create(true).truncate(false))
        };
        let path = beside(target, "part");
        let (data, journal) = (open(&path)?, open(&beside(target, "ranges"))?);
        let known =
            read_journal(&journal, size, version).filter(|_| data.metadata().is_ok_and(|m| m.len() == size));
        let (range, records) = known.unwrap_or_else(|| {
            let range = range_length(size);
            (range, vec![RangeRecord::default(); size.div_ceil(range) as usize])
        });
        let part = PartialFile {
            data,
            journal,
            path,
            size,
            range,
            records: Mutex::new(records),
            writing: Mutex::new(()),
        };
        if part.done() == 0 {
            part.journal.set_len(0)?;
            part.data.set_len(0)?;
            part.data.set_len(size)?; // sparse: takes up space only as bytes arrive
            part.journal.write_all_at(&header(size, part.range, version), 0)?;
        }
        Ok(part)
    }

    /// Bytes of a part beside `target`, verified or not.
    pub(super) fn held(target: &Path, size: u64, version: [u8; 32]) -> u64 {
        let journal = shared_file(&beside(target, "ranges"), OpenOptions::new().read(true)).ok();
        let known = journal.and_then(|journal| read_journal(&journal, size, version));
        let whole = std::fs::metadata(beside(target, "part")).is_ok_and(|m| m.len() == size);
        known.filter(|_| whole).map_or(0, |(_, records)| records.iter().map(|record| record.done).sum())
    }

    /// Removes the part of a file that is complete by now.
    pub(super) fn discard(target: &Path) {
        for kind in ["part", "ranges"] {
            let _ = std::fs::remove_file(beside(target, kind)); // a leftover only takes up space
        }
    }

    /// Whether a part is beside `target`.
    pub(super) fn left(target: &Path) -> bool {
        ["part", "ranges"].iter().any(|kind| beside(target, kind).exists())
    }

    pub(super) fn ranges(&self) -> usize {
        self.size.div_ceil(self.range) as usize
    }

    /// The bytes of the file that belong to a range.
    pub(super) fn bounds(&self, index: usize) -> Range<u64> {
        let start = index as u64 * self.range;
        start..(start + self.range).min(self.size)
    }

    pub(super) fn record(&self, index: usize) -> RangeRecord {
        self.records.lock().expect(UNBROKEN)[index]
    }

    pub(super) fn complete(&self, index: usize) -> bool {
        let bounds = self.bounds(index);
        self.record(index).done == bounds.end - bounds.start
    }

    /// Bytes received.
    pub(super) fn done(&self) -> u64 {
        self.records.lock().expect(UNBROKEN).iter().map(|record| record.done).sum()
    }

    /// Appends bytes to a range. They count once [`PartialFile::set`] gets the returned record.
    pub(super) fn write(&self, index: usize, bytes: &[u8]) -> io::Result<RangeRecord> {
        let mut record = self.record(index); // each range has one writer at a time
        {
            let _one = self.writing.lock().expect(UNBROKEN);
            self.data.write_all_at(bytes, self.bounds(index).start + record.done)?;
        }
        let mut crc = crc32fast::Hasher::new_with_initial(record.crc);
        crc.update(bytes);
        record.done += bytes.len() as u64;
        record.crc = crc.finalize();
        Ok(record)
    }

    /// Resets a range: it will be refetched.
    pub(super) fn reset(&self, index: usize) -> io::Result<()> {
        self.set(index, RangeRecord::default())
    }

    /// Resets all ranges.
    pub(super) fn reset_all(&self) -> io::Result<()> {
        (0..self.ranges()).try_for_each(|index| self.reset(index))
    }

    /// Marks a range whose bytes on disk match its record.
    pub(super) fn trust(&self, index: usize) {
        self.records.lock().expect(UNBROKEN)[index].inherited = false;
    }

    /// Records how far a range has come.
    pub(super) fn set(&self, index: usize, record: RangeRecord) -> io::Result<()> {
        self.records.lock().expect(UNBROKEN)[index] = record;
        self.journal.write_all_at(&encode(index, record), (HEADER + index * RECORD) as u64)
    }

    /// Reads received bytes.
    pub(super) fn read(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.data.read_exact_at(buffer, offset)
    }

    /// Flushes to the disk: the bytes before the journal that describes them.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.data.sync_data()?;
        self.journal.sync_data()
    }

    /// Renames the complete file to its final name.
    pub(super) fn finish(self, target: &Path) -> io::Result<()> {
        self.data.sync_all()?;
        std::fs::rename(&self.path, target)?;
        let _ = std::fs::remove_file(beside(target, "ranges")); // a journal without its part is ignored
        if let Some(folder) = target.parent() {
            File::open(folder).and_then(|folder| folder.sync_all())?;
        }
        Ok(())
    }
}

/// `blobs/1234` → `blobs/1234.fireside-part`; `models/m.gguf` → `models/m.gguf.fireside-part`, so that no
/// list shows it as a model.
fn beside(target: &Path, kind: &str) -> PathBuf {
    let mut name = OsString::from(target.file_name().unwrap_or_default());
    name.push(format!(".fireside-{kind}"));
    target.with_file_name(name)
}

fn range_length(size: u64) -> u64 {
    (size / 64).next_multiple_of(1 << 20).clamp(SMALLEST_RANGE, LARGEST_RANGE)
}

fn header(size: u64, range: u64, version: [u8; 32]) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[..8].copy_from_slice(MAGIC);
    header[8..16].copy_from_slice(&size.to_le_bytes());
    header[16..24].copy_from_slice(&range.to_le_bytes());
    header[24..56].copy_from_slice(&version);
    let check = crc32fast::hash(&header[..56]);
    header[56..60].copy_from_slice(&check.to_le_bytes());
    header
}

fn encode(index: usize, record: RangeRecord) -> [u8; RECORD] {
    let mut bytes = [0; RECORD];
    bytes[..8].copy_from_slice(&record.done.to_le_bytes());
    bytes[8..12].copy_from_slice(&record.crc.to_le_bytes());
    let check = check(index, &bytes[..12]);
    bytes[12..].copy_from_slice(&check.to_le_bytes());
    bytes
}

/// Detects a record that is half written or in another one's place.
fn check(index: usize, record: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new_with_initial(index as u32);
    crc.update(record);
    crc.finalize()
}

/// The length of the ranges and their records; `None` if this is no journal of this file.
fn read_journal(journal: &File, size: u64, version: [u8; 32]) -> Option<(u64, Vec<RangeRecord>)> {
    let mut found = [0; HEADER];
    journal.read_exact_at(&mut found, 0).ok()?;
    let range = u64::from_le_bytes(found[16..24].try_into().expect("eight bytes"));
    if range == 0 || found != header(size, range, version) {
        return None;
    }
    let most = |index: u64| range.min(size - index * range);
    let count = size.div_ceil(range);
    let record = |index: u64| {
        let mut bytes = [0; RECORD];
        journal.read_exact_at(&mut bytes, HEADER as u64 + index * RECORD as u64).ok()?;
        let [done, rest] =
            [0, 8].map(|at| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes")));
        let sound = (rest >> 32) as u32 == check(index as usize, &bytes[..12]) && done <= most(index);
        sound.then_some(RangeRecord { done, crc: rest as u32, inherited: true })
    };
    Some((range, (0..count).map(|index| record(index).unwrap_or_default()).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const VERSION: [u8; 32] = [7; 32];
    const SIZE: u64 = (5 << 20) / 2; // three ranges, the last one half as long

    impl PartialFile {
        fn append(&self, index: usize, bytes: &[u8]) -> io::Result<()> {
            self.set(index, self.write(index, bytes)?)
        }
    }

    #[test]
    fn what_was_written_is_there_again_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("blob");
        let part = PartialFile::open(&target, SIZE, VERSION).unwrap();
        assert_eq!((part.ranges(), part.bounds(2)), (3, 2 << 20..SIZE));
        part.append(1, b"hello ").unwrap();
        part.append(1, b"world").unwrap();
        part.append(2, &vec![1; 1 << 19]).unwrap();
        drop(part);
        let again = PartialFile::open(&target, SIZE, VERSION).unwrap();
        assert_eq!(again.record(0), RangeRecord::default());
        assert_eq!(
            again.record(1),
            RangeRecord { done: 11, crc: crc32fast::hash(b"hello world"), inherited: true }
        );
        assert!(again.complete(2) && !again.complete(1));
        assert_eq!(PartialFile::held(&target, SIZE, VERSION), 11 + (1 << 19));
        again.append(1, b"!").unwrap();
        assert_eq!(again.record(1).crc, crc32fast::hash(b"hello world!"));
    }

    #[test]
    fn another_version_or_a_damaged_journal_begins_again() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("blob");
        let write = || PartialFile::open(&target, SIZE, VERSION).unwrap().append(0, b"x").unwrap();
        write();
        assert_eq!(PartialFile::open(&target, SIZE, [8; 32]).unwrap().done(), 0);
        write();
        assert_eq!(PartialFile::open(&target, SIZE + 1, VERSION).unwrap().done(), 0);
        write();
        let journal = OpenOptions::new().write(true).open(beside(&target, "ranges")).unwrap();
        journal.write_all_at(b"?", HEADER as u64).unwrap();
        assert_eq!(PartialFile::open(&target, SIZE, VERSION).unwrap().done(), 0);
        write();
        File::create(beside(&target, "part")).unwrap();
        assert_eq!(PartialFile::open(&target, SIZE, VERSION).unwrap().done(), 0);
    }

    #[test]
    fn the_finished_file_has_its_name_and_no_journal() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("blob");
        let part = PartialFile::open(&target, 3, VERSION).unwrap();
        part.append(0, b"abc").unwrap();
        part.finish(&target).unwrap();
        assert_eq!(std::fs::read(&target).unwrap(), b"abc");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn ranges_grow_with_the_file_within_bounds() {
        assert_eq!(
            [1, 98 << 20, 1 << 30, 80 << 30].map(range_length),
            [1 << 20, 2 << 20, 16 << 20, 32 << 20]
        );
    }
}
