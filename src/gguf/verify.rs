//! A whole file → its checksum and every tensor with a NaN or an infinity, in one pass with little memory.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use sha2::{Digest, Sha256};

use super::numbers::{Bad, first_bad};
use super::{Header, Tensor, element_type};

/// Bytes to read at once.
const PIECE: usize = 1 << 20;

/// The result of a pass over a file.
#[derive(Debug)]
pub struct Verified {
    /// SHA-256 in hexadecimal.
    pub sha256: String,
    /// Bytes read.
    pub bytes: u64,
    /// Faulty tensors, one line each.
    pub problems: Vec<String>,
}

/// Reads a whole file. Without its `header`, only computes the checksum. `go_on` gets the bytes read so far
/// and decides whether to continue; `None` if it stopped the pass.
///
/// # Errors
/// If the file cannot be read, or is shorter than when `header` was read.
pub fn verify(
    path: &Path,
    header: Option<&Header>,
    go_on: &mut dyn FnMut(u64) -> bool,
) -> io::Result<Option<Verified>> {
    let mut pass = Pass {
        file: File::open(path)?,
        hash: Sha256::new(),
        at: 0,
        piece: vec![0; PIECE],
        stopped: false,
        go_on,
    };
    let mut problems = Vec::new();
    for tensor in header.iter().flat_map(|header| &header.tensors) {
        let start = header.map_or(0, |header| header.data_start + tensor.offset);
        pass.through(start - pass.at, 1, |_, _| {})?;
        problems.extend(numbers(&mut pass, tensor)?);
    }
    while !pass.stopped && pass.read(PIECE)? > 0 {}
    if pass.stopped {
        return Ok(None);
    }
    let sha256 = pass.hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(Some(Verified { sha256, bytes: pass.at, problems }))
}

/// Reads a tensor; returns the fault of its numbers, if any.
fn numbers(pass: &mut Pass, tensor: &Tensor) -> io::Result<Option<String>> {
    let element = element_type(tensor.kind).filter(|element| !element.removed());
    let Some(element) = element else { return pass.through(tensor.bytes, 1, |_, _| {}).map(|()| None) };
    let size = element.bytes as usize;
    let mut found: Option<(u64, Bad)> = None;
    pass.through(tensor.bytes, size, |before, piece| {
        if found.is_none() {
            found = first_bad(tensor.kind, size, piece).map(|(n, bad)| (before / size as u64 + n, bad));
        }
    })?;
    Ok(found.map(|(number, bad)| {
        let what = match bad {
            Bad::Nan => "a value that is not a number (NaN)",
            Bad::Infinity => "an infinite value",
        };
        let place = if element.block == 1 { "element" } else { "block" };
        format!("tensor '{}' ({}) has {what} in {place} {number}", tensor.name, element.name)
    }))
}

struct Pass<'a> {
    file: File,
    hash: Sha256,
    at: u64,
    piece: Vec<u8>,
    stopped: bool,
    go_on: &'a mut dyn FnMut(u64) -> bool,
}

impl Pass<'_> {
    /// Reads `length` bytes and passes them on in pieces of whole blocks, each with its offset.
    fn through(&mut self, length: u64, block: usize, mut look: impl FnMut(u64, &[u8])) -> io::Result<()> {
        let whole = PIECE / block * block;
        let mut done = 0;
        while done < length && !self.stopped {
            let wanted = (length - done).min(whole as u64) as usize;
            if self.read(wanted)? < wanted {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            look(done, &self.piece[..wanted]);
            done += wanted as u64;
        }
        Ok(())
    }

    /// Reads up to `wanted` bytes; fewer only at the end of the file.
    fn read(&mut self, wanted: usize) -> io::Result<usize> {
        let mut length = 0;
        while length < wanted {
            match self.file.read(&mut self.piece[length..wanted]) {
                Ok(0) => break,
                Ok(more) => length += more,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        self.hash.update(&self.piece[..length]);
        self.at += length as u64;
        self.stopped = !(self.go_on)(self.at);
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            read,
            sample::{Sample, SampleTensor},
        },
        *,
    };

    fn verified(bytes: &[u8]) -> Verified {
        let dir = tempfile::tempdir().expect("temporary folder");
        let path = dir.path().join("a.gguf");
        std::fs::write(&path, bytes).expect("temporary file");
        let header = read(&path).expect("well-formed");
        verify(&path, Some(&header), &mut |_| true).expect("readable").expect("not stopped")
    }

    #[test]
    fn a_sound_file_has_its_checksum() {
        let bytes = Sample::default().tensor("t", &[64, 3]).tensor("u", &[5]).bytes();
        let found = verified(&bytes);
        let expected: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!((found.sha256, found.bytes, found.problems.len()), (expected, bytes.len() as u64, 0));
    }

    #[test]
    fn bad_numbers_are_named_with_their_place() {
        let elements = 700_000; // more than one piece
        let mut data = vec![0; elements * 4];
        data[600_000 * 4..600_001 * 4].copy_from_slice(&f32::NAN.to_le_bytes());
        let offset = data.len().next_multiple_of(32) as u64;
        let record = |name: &str, kind, dims: &[u64], offset, data| SampleTensor {
            name: name.into(),
            dims: dims.into(),
            kind,
            offset,
            data,
        };
        let mut blocks = vec![0; 34 * 2];
        blocks[34..36].copy_from_slice(&[0, 0xfc]);
        let sample = Sample::default().record(record("wide", 0, &[elements as u64], 0, data)).record(record(
            "blocks",
            8,
            &[64],
            offset,
            blocks,
        ));
        let problems = verified(&sample.bytes()).problems;
        assert_eq!(
            problems[0],
            "tensor 'wide' (f32) has a value that is not a number (NaN) in element 600000"
        );
        assert_eq!(problems[1], "tensor 'blocks' (q8_0) has an infinite value in block 1");
    }

    #[test]
    fn it_stops_when_told_to() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let path = dir.path().join("a");
        std::fs::write(&path, [0; 100]).expect("temporary file");
        assert!(verify(&path, None, &mut |_| false).expect("readable").is_none());
        assert!(
            verify(&path, None, &mut |_| true).expect("readable").is_some_and(|found| found.bytes == 100)
        );
    }
}
