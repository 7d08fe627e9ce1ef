//! A remote file read from its beginning, no further than it is asked for: for a header of some megabytes, not for weights.

use std::io::{self, Read};

use super::http::{Http, lost};
use super::retry::Trouble;
use super::url::host;

/// The first piece that is asked for; each further one is twice as large, up to the last.
const FIRST_PIECE: u64 = 1 << 20;
const LARGEST_PIECE: u64 = 16 << 20;
/// How often a piece is tried.
const TRIES: u32 = 3;

/// Implements `Read` over pieces fetched one after the other.
pub struct Reader<'a> {
    http: &'a Http,
    url: String,
    size: u64,
    /// What was fetched and not yet read.
    piece: io::Cursor<Vec<u8>>,
    /// Where the next piece begins.
    next: u64,
    length: u64,
}

impl<'a> Reader<'a> {
    pub(super) fn new(http: &'a Http, url: String, size: u64) -> Reader<'a> {
        Reader { http, url, size, piece: io::Cursor::default(), next: 0, length: FIRST_PIECE }
    }

    fn fetch(&mut self) -> Result<Vec<u8>, Trouble> {
        let (first, last) = (self.next, self.size.min(self.next + self.length) - 1);
        let answer = self.http.get(&self.url, &[("range", &format!("bytes={first}-{last}"))])?;
        match answer.status {
            206 if answer.content_range() == Some((first, last, self.size)) => {}
            200 if first == 0 => {} // knows nothing of ranges: the connection is closed after the piece
            200 | 206 => return Err(Trouble::Wrong("cannot send a file in pieces".into())),
            _ => return Err(Trouble::of(&answer)),
        }
        self.url.clone_from(&answer.url);
        let mut piece = Vec::new();
        let wanted = last - first + 1;
        answer.body.take(wanted).read_to_end(&mut piece).map_err(|e| Trouble::Lost(lost(&e)))?;
        match piece.len() as u64 == wanted {
            true => Ok(piece),
            false => Err(Trouble::Lost("the connection was closed early".into())),
        }
    }
}

impl Read for Reader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.piece.read(buffer)?;
        if read > 0 || buffer.is_empty() || self.next >= self.size {
            return Ok(read);
        }
        let mut tries = 1;
        let piece = loop {
            match self.fetch() {
                Ok(piece) => break piece,
                Err(Trouble::Lost(_) | Trouble::Busy { .. }) if tries < TRIES => tries += 1,
                Err(trouble) => {
                    return Err(io::Error::other(format!("{}: {}", host(&self.url), trouble.words())));
                }
            }
        };
        self.next += piece.len() as u64;
        self.length = (self.length * 2).min(LARGEST_PIECE);
        self.piece = io::Cursor::new(piece);
        self.piece.read(buffer)
    }
}
