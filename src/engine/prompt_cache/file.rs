//! One cached prompt as a file: a header with the tokens, then the state, each with a checksum.
//!
//! ```text
//! magic 8 | version 4 | header length 4 | header's sum 32 | header | state
//! ```
//!
//! llama.cpp trusts every byte of a state. So this file returns only bytes that it wrote itself: the lengths
//! must add up to the file's length, and both checksums must match. Numbers are little-endian; the checksums
//! are BLAKE3, which detects any damage. They do not protect against someone with write access to the folder,
//! who can compute valid ones.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::path::Path;

use super::super::cache::SavedMemory;
use super::super::checkpoints::Checkpoint;
use super::super::token::Token;
use crate::files::own_file;

const MAGIC: &[u8; 8] = b"firesnap";
const VERSION: u32 = 4;
const START: usize = 16 + SUM;
/// The length of a checksum in bytes.
const SUM: usize = blake3::OUT_LEN;
type Sum = [u8; SUM];
/// Bytes per read or write.
const PIECE: usize = 1 << 20;
/// The maximum length of a header: more tokens than any model's context holds.
const LONGEST_HEADER: u32 = 256 << 20;

/// The description of a cached prompt.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct CacheFileHeader {
    /// Everything besides the tokens that the state depends on.
    pub(super) key: String,
    pub(super) tokens: Vec<Token>,
    /// The ids of the conversations in it.
    pub(super) conversations: Vec<String>,
    /// How long each token took to evaluate, in seconds.
    pub(super) secs_per_token: f32,
    /// The checkpoints at the end of the state, the shortest first: after how many tokens, and their length in
    /// bytes.
    pub(super) checkpoints: Vec<(u32, u64)>,
    /// The length of the state in bytes, and its checksum.
    pub(super) state: (u64, Sum),
}

/// Why a file cannot be used.
#[derive(Debug)]
pub(super) enum ReadError {
    /// Missing, or not readable.
    Unreadable,
    /// Not as written.
    Damaged,
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> ReadError {
        match error.kind() {
            ErrorKind::UnexpectedEof => ReadError::Damaged,
            _ => ReadError::Unreadable,
        }
    }
}

impl CacheFileHeader {
    /// The memory that a file with this header holds: `state` is followed by those of the checkpoints.
    pub(super) fn memory(self, mut state: Vec<u8>) -> SavedMemory {
        let CacheFileHeader { tokens, checkpoints, .. } = self;
        let take = |(length, bytes): &(u32, u64)| Checkpoint {
            tokens: tokens[..*length as usize].to_vec(),
            state: state.split_off(state.len() - *bytes as usize),
        };
        let mut checkpoints: Vec<Checkpoint> = checkpoints.iter().rev().map(take).collect();
        checkpoints.reverse();
        SavedMemory { tokens, state, checkpoints }
    }

    pub(super) fn new(
        key: &str,
        tokens: Vec<Token>,
        conversations: Vec<String>,
        secs_per_token: f64,
        state: &[u8],
    ) -> CacheFileHeader {
        let state = (state.len() as u64, blake3::hash(state).into());
        CacheFileHeader {
            key: key.into(),
            tokens,
            conversations,
            secs_per_token: secs_per_token as f32,
            checkpoints: Vec::new(),
            state,
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.key.len() + self.tokens.len() * 4 + 64);
        let mut text = |text: &str| {
            bytes.extend((text.len() as u32).to_le_bytes());
            bytes.extend(text.as_bytes());
        };
        text(&self.key);
        text(&self.conversations.join(" "));
        bytes.extend(self.secs_per_token.to_le_bytes());
        bytes.extend((self.tokens.len() as u32).to_le_bytes());
        self.tokens.iter().for_each(|token| bytes.extend(token.to_le_bytes()));
        bytes.extend((self.checkpoints.len() as u32).to_le_bytes());
        for (tokens, length) in &self.checkpoints {
            bytes.extend(tokens.to_le_bytes());
            bytes.extend(length.to_le_bytes());
        }
        bytes.extend(self.state.0.to_le_bytes());
        bytes.extend(self.state.1);
        bytes
    }

    fn parse(bytes: &[u8]) -> Option<CacheFileHeader> {
        let mut rest = bytes;
        let mut text = || {
            let length = number(&mut rest)? as usize;
            String::from_utf8(rest.split_off(..length)?.to_vec()).ok()
        };
        let (key, conversations) = (text()?, text()?);
        let conversations = conversations.split_whitespace().map(str::to_string).collect();
        let secs_per_token = f32::from_bits(number(&mut rest)?);
        let count = number(&mut rest)? as usize;
        let tokens = rest.split_off(..count.checked_mul(4)?)?.chunks_exact(4);
        let tokens: Vec<Token> = tokens.map(|t| Token::from_le_bytes([t[0], t[1], t[2], t[3]])).collect();
        let count = number(&mut rest)?;
        let checkpoint = |_| Some((number(&mut rest)?, long_number(&mut rest)?));
        let checkpoints = (0..count).map(checkpoint).collect::<Option<Vec<_>>>()?;
        let state = (long_number(&mut rest)?, rest.try_into().ok()?);
        let bytes = checkpoints.iter().try_fold(0u64, |sum, (_, bytes)| sum.checked_add(*bytes))?;
        let inside = |(length, _): &(u32, u64)| *length as usize <= tokens.len();
        if bytes > state.0 || !checkpoints.iter().all(inside) {
            return None;
        }
        Some(CacheFileHeader { key, tokens, conversations, secs_per_token, checkpoints, state })
    }
}

fn long_number(rest: &mut &[u8]) -> Option<u64> {
    let (low, high) = (number(rest)?, number(rest)?);
    Some(u64::from(low) | u64::from(high) << 32)
}

fn number(rest: &mut &[u8]) -> Option<u32> {
    rest.split_off(..4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
}

/// The checksum of `start` (everything before the header's checksum) and the header.
fn sum_of(start: &[u8], header: &[u8]) -> Sum {
    blake3::Hasher::new().update(start).update(header).finalize().into()
}

/// Writes a complete file.
pub(super) fn write(file: &mut impl Write, header: &CacheFileHeader, state: &[u8]) -> io::Result<()> {
    let bytes = header.bytes();
    let start = [&MAGIC[..], &VERSION.to_le_bytes(), &(bytes.len() as u32).to_le_bytes()].concat();
    let sum = sum_of(&start, &bytes);
    file.write_all(&[&start[..], &sum, &bytes].concat())?;
    state.chunks(PIECE).try_for_each(|piece| file.write_all(piece))
}

/// Reads a file's header; its checksum does not cover the state.
pub(super) fn read_header(path: &Path) -> Result<CacheFileHeader, ReadError> {
    open(path).map(|(header, _)| header)
}

/// Reads a complete file and verifies both checksums.
pub(super) fn read(path: &Path) -> Result<(CacheFileHeader, Vec<u8>), ReadError> {
    let (header, file) = open(path)?;
    let length = usize::try_from(header.state.0).map_err(|_| ReadError::Damaged)?;
    let mut state = Vec::new();
    state.try_reserve_exact(length).map_err(|_| ReadError::Unreadable)?;
    let mut sum = blake3::Hasher::new();
    while state.len() < length {
        let before = state.len();
        let piece = PIECE.min(length - before);
        if (&file).take(piece as u64).read_to_end(&mut state)? != piece {
            return Err(ReadError::Damaged);
        }
        sum.update(&state[before..]);
    }
    if Sum::from(sum.finalize()) == header.state.1 { Ok((header, state)) } else { Err(ReadError::Damaged) }
}

/// Reads the header, and returns the file positioned at the state.
fn open(path: &Path) -> Result<(CacheFileHeader, File), ReadError> {
    let mut file = own_file(path, OpenOptions::new().read(true))?;
    let whole = file.metadata()?.len();
    let mut start = [0; START];
    file.read_exact(&mut start)?;
    let mut rest = start.strip_prefix(MAGIC).ok_or(ReadError::Damaged)?;
    let mut number = || number(&mut rest).ok_or(ReadError::Damaged);
    let (version, length, sum) = (number()?, number()?, rest);
    if version != VERSION || length > LONGEST_HEADER || u64::from(length) > whole {
        return Err(ReadError::Damaged);
    }
    let mut bytes = vec![0; length as usize];
    file.read_exact(&mut bytes)?;
    if sum_of(&start[..START - SUM], &bytes) != *sum {
        return Err(ReadError::Damaged);
    }
    let header = CacheFileHeader::parse(&bytes).ok_or(ReadError::Damaged)?;
    let expected = header.state.0.checked_add((START + bytes.len()) as u64);
    if expected == Some(whole) { Ok((header, file)) } else { Err(ReadError::Damaged) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("one");
        let state: Vec<u8> = (0..1_200_000u32).map(|i| (i % 251) as u8).collect();
        let conversations = vec!["a".into(), "b".into()];
        let header =
            CacheFileHeader::new("model x\nchunk 512", (0..200).collect(), conversations, 0.01, &state);
        let header = CacheFileHeader { checkpoints: vec![(50, 1000), (120, 2000)], ..header };
        let mut bytes = Vec::new();
        write(&mut bytes, &header, &state).unwrap();
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(read_header(&path).unwrap(), header);
        assert_eq!(read(&path).unwrap(), (header, state));
        let damaged = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            matches!(read(&path), Err(ReadError::Damaged))
        };
        let beginning = (0..20)
            .chain((20..900).step_by(7))
            .chain((900..bytes.len()).step_by(20_011))
            .chain([bytes.len() - 1]);
        for place in beginning {
            let mut changed = bytes.clone();
            changed[place] ^= 1 << (place % 8);
            assert!(damaged(&changed), "one bit changed at {place}");
        }
        for length in [0, 1, 8, 19, 20, 21, 100, 800, 2000, bytes.len() - 1] {
            assert!(damaged(&bytes[..length]), "cut to {length}");
        }
        assert!(damaged(&[&bytes[..], b"x"].concat()), "longer than its header says");
        assert!(damaged(&vec![0; 100_000]) && damaged(&vec![255; 100_000]));
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(read(&path), Err(ReadError::Unreadable)));
    }
}
