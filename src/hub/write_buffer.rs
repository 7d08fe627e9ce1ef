//! Received bytes on their way to the checksum: kept in memory so that it need not read them back.
//!
//! When it is full, the bytes nearest the file's end are dropped: the checksum reads those from the disk.
//! partial_file.rs decides which bytes count.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};

/// Bytes received and written at once: the most that each connection loses if the process ends.
pub(super) const BUFFER: usize = 512 * 1024;
/// Maximum number of buffers: 64 MiB.
const MOST_KEPT: usize = 128;
const UNBROKEN: &str = "no thread panics while holding the lock";

/// The result of looking up bytes at an offset.
pub(super) enum BufferLookup {
    Hit(Vec<u8>),
    /// No bytes for this length; a buffer to read them into.
    Miss(u64, Vec<u8>),
}

#[derive(Default)]
pub(super) struct WriteBuffer(Mutex<Shelf>);

#[derive(Default)]
struct Shelf {
    /// Offset in the file → the bytes there.
    buffers: BTreeMap<u64, Vec<u8>>,
    spare: Vec<Vec<u8>>,
}

impl WriteBuffer {
    /// Keeps bytes; returns a buffer for the next ones.
    pub(super) fn keep(&self, offset: u64, bytes: Vec<u8>) -> Vec<u8> {
        let shelf = &mut *self.shelf();
        shelf.spare.extend(shelf.buffers.insert(offset, bytes));
        if shelf.buffers.len() > MOST_KEPT {
            shelf.spare.extend(shelf.buffers.pop_last().map(|(_, bytes)| bytes));
        }
        shelf.spare.pop().unwrap_or_default()
    }

    /// Takes the bytes at `offset`; drops all before it.
    pub(super) fn take(&self, offset: u64) -> BufferLookup {
        let shelf = &mut *self.shelf();
        while let Some(first) = shelf.buffers.first_entry().filter(|first| *first.key() < offset) {
            shelf.spare.push(first.remove());
        }
        match shelf.buffers.first_entry() {
            Some(first) if *first.key() == offset => BufferLookup::Hit(first.remove()),
            first => {
                let empty = first.map_or(u64::MAX, |first| *first.key() - offset);
                BufferLookup::Miss(empty, shelf.spare.pop().unwrap_or_default())
            }
        }
    }

    /// Takes back a buffer for reuse.
    pub(super) fn give_back(&self, bytes: Vec<u8>) {
        self.shelf().spare.push(bytes);
    }

    /// Drops all bytes: their ranges are fetched again.
    pub(super) fn forget(&self) {
        self.shelf().buffers.clear();
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.0.lock().expect(UNBROKEN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gap(found: BufferLookup) -> Option<u64> {
        match found {
            BufferLookup::Hit(_) => None,
            BufferLookup::Miss(length, _) => Some(length),
        }
    }

    #[test]
    fn bytes_are_found_where_they_belong_and_once() {
        let buffer = WriteBuffer::default();
        buffer.keep(10, vec![1; 5]);
        buffer.keep(20, vec![2; 5]);
        buffer.keep(30, vec![3; 5]);
        assert_eq!(gap(buffer.take(5)), Some(5));
        assert!(matches!(buffer.take(10), BufferLookup::Hit(bytes) if bytes == [1; 5]));
        assert_eq!(gap(buffer.take(10)), Some(10));
        assert!(matches!(buffer.take(30), BufferLookup::Hit(bytes) if bytes == [3; 5]));
        assert_eq!(gap(buffer.take(20)), Some(u64::MAX), "bytes before an earlier offset are dropped");
        buffer.keep(40, vec![4; 5]);
        buffer.forget();
        assert_eq!(gap(buffer.take(40)), Some(u64::MAX));
    }

    #[test]
    fn of_too_much_the_first_is_kept_and_buffers_go_round() {
        let buffer = WriteBuffer::default();
        for offset in (0..2 * MOST_KEPT as u64).rev() {
            let next = buffer.keep(offset, vec![7]);
            assert_eq!(
                next.is_empty(),
                offset >= MOST_KEPT as u64,
                "a full buffer gives one back for each that it gets"
            );
        }
        assert_eq!(gap(buffer.take(MOST_KEPT as u64)), Some(u64::MAX));
        buffer.keep(0, vec![7]);
        assert!(matches!(buffer.take(0), BufferLookup::Hit(_)));
    }
}
