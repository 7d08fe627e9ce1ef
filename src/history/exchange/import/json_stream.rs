//! A stream of bytes → the JSON values in it, one at a time: the values of a list, or consecutive values.
//!
//! Finds only where a value ends; lossy_json.rs parses it. So an invalid value does not stop those after it,
//! and only one value is in memory at a time.

use std::fmt;
use std::io::{self, BufRead};

/// A position in the stream. Lines and columns count from 1, columns in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) byte: u64,
    pub(super) line: u64,
    pub(super) column: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {} (byte {})", self.line, self.column, self.byte)
    }
}

impl Position {
    /// Moves past these bytes.
    fn pass(&mut self, bytes: &[u8]) {
        self.byte += bytes.len() as u64;
        self.line += bytes.iter().filter(|byte| **byte == b'\n').count() as u64;
        match bytes.iter().rposition(|byte| *byte == b'\n') {
            Some(newline) => self.column = (bytes.len() - newline) as u64,
            None => self.column += bytes.len() as u64,
        }
    }
}

/// The next item of the stream.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum JsonItem {
    /// A value that starts here; its bytes are in [`JsonStream::bytes`].
    Value(Position),
    /// A value longer than the limit.
    TooLong(Position),
    ListEnd,
}

/// Why the stream ends early.
#[derive(Debug)]
pub(super) enum Stop {
    Damaged(Position, String),
    Unreadable(io::Error),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Stop {
        Stop::Unreadable(error)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ScanState {
    Outside,
    /// In a list, before a value or the end of the list.
    Before,
    /// In a list, after a value.
    After,
}

pub(super) struct JsonStream<R> {
    input: R,
    /// Maximum length of a value, in bytes.
    limit: usize,
    state: ScanState,
    place: Position,
    pub(super) bytes: Vec<u8>,
}

/// Buffer capacity kept from one value to the next, in bytes.
const KEPT: usize = 4 << 20;

impl<R: BufRead> JsonStream<R> {
    pub(super) fn new(input: R, limit: usize) -> JsonStream<R> {
        let place = Position { byte: 0, line: 1, column: 1 };
        JsonStream { input, limit, state: ScanState::Outside, place, bytes: Vec::new() }
    }

    pub(super) fn next(&mut self) -> Result<Option<JsonItem>, Stop> {
        loop {
            let byte = match (self.byte_after_space()?, self.state) {
                (Some(byte), _) => byte,
                (None, ScanState::Outside) => return Ok(None),
                (None, _) => {
                    return Err(Stop::Damaged(self.place, "it ends in the middle of its list".into()));
                }
            };
            match (self.state, byte) {
                (ScanState::Outside, b'[') => {
                    self.skip();
                    self.state = ScanState::Before;
                }
                (ScanState::Before | ScanState::After, b']') => {
                    self.skip();
                    self.state = ScanState::Outside;
                    return Ok(Some(JsonItem::ListEnd));
                }
                (ScanState::After, b',') => {
                    self.skip();
                    self.state = ScanState::Before;
                }
                (ScanState::Outside, other) if other != b'{' => {
                    return Err(Stop::Damaged(self.place, "this is not JSON".into()));
                }
                (ScanState::After, _) => {
                    return Err(Stop::Damaged(self.place, "there is no comma between two values".into()));
                }
                _ => {
                    let piece = self.value(byte)?;
                    self.state =
                        if self.state == ScanState::Outside { ScanState::Outside } else { ScanState::After };
                    return Ok(Some(piece));
                }
            }
        }
    }

    /// The next byte that is not white space; does not consume it.
    fn byte_after_space(&mut self) -> io::Result<Option<u8>> {
        loop {
            let chunk = self.input.fill_buf()?;
            let space = chunk.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
            let (next, empty) = (chunk.get(space).copied(), chunk.is_empty());
            self.place.pass(&chunk[..space]);
            self.input.consume(space);
            if empty || next.is_some() {
                return Ok(next);
            }
        }
    }

    fn skip(&mut self) {
        self.input.consume(1);
        self.place.pass(b" ");
    }

    fn value(&mut self, first: u8) -> Result<JsonItem, Stop> {
        if !matches!(first, b'{' | b'[' | b'"' | b'-' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z') {
            return Err(Stop::Damaged(self.place, "this is not JSON".into()));
        }
        let start = self.place;
        let mut extent = Extent::default();
        let mut too_long = false;
        if self.bytes.capacity() > KEPT {
            self.bytes = Vec::new();
        }
        self.bytes.clear();
        loop {
            let chunk = self.input.fill_buf()?;
            if chunk.is_empty() && !extent.may_end_here() {
                let why = format!(
                    "it ends in the middle of what begins at line {}, column {}",
                    start.line, start.column
                );
                return Err(Stop::Damaged(self.place, why));
            }
            let (inside, ended) = extent.within(chunk);
            too_long |= self.bytes.len() + inside > self.limit;
            if too_long {
                self.bytes = Vec::new();
            } else {
                self.bytes.extend_from_slice(&chunk[..inside]);
            }
            let ended = ended || chunk.is_empty();
            self.place.pass(&chunk[..inside]);
            self.input.consume(inside);
            if ended {
                return Ok(if too_long { JsonItem::TooLong(start) } else { JsonItem::Value(start) });
            }
        }
    }
}

/// Where a value ends, judged by its brackets and quotes alone.
#[derive(Default)]
struct Extent {
    depth: usize,
    string: bool,
    escaped: bool,
    /// A number or a word: it ends before a byte that cannot belong to it.
    bare: bool,
}

impl Extent {
    /// The number of these bytes that belong to the value, and whether it ends there.
    fn within(&mut self, bytes: &[u8]) -> (usize, bool) {
        for (index, byte) in bytes.iter().enumerate() {
            if self.string {
                match byte {
                    _ if self.escaped => self.escaped = false,
                    b'\\' => self.escaped = true,
                    b'"' => self.string = false,
                    _ => {}
                }
            } else if self.depth == 0 && self.bare {
                if matches!(byte, b',' | b']' | b'}' | b'[' | b'{' | b'"') || byte.is_ascii_whitespace() {
                    return (index, true);
                }
                continue;
            } else {
                match byte {
                    b'"' => self.string = true,
                    b'{' | b'[' => self.depth += 1,
                    b'}' | b']' => self.depth = self.depth.saturating_sub(1),
                    _ => self.bare = self.depth == 0,
                }
            }
            if self.depth == 0 && !self.string && !self.bare {
                return (index + 1, true);
            }
        }
        (bytes.len(), false)
    }

    fn may_end_here(&self) -> bool {
        self.bare
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::BufReader;

    /// The items, read with a buffer of `buffer` bytes, and the position of the error.
    fn read(text: &str, buffer: usize) -> (Vec<String>, Option<(u64, u64)>) {
        let mut pieces = JsonStream::new(BufReader::with_capacity(buffer, text.as_bytes()), 20);
        let mut found = Vec::new();
        loop {
            match pieces.next() {
                Ok(Some(JsonItem::Value(_))) => found.push(String::from_utf8(pieces.bytes.clone()).unwrap()),
                Ok(Some(JsonItem::TooLong(place))) => found.push(format!("too long at {}", place.byte)),
                Ok(Some(JsonItem::ListEnd)) => found.push("end".into()),
                Ok(None) => return (found, None),
                Err(Stop::Damaged(place, _)) => return (found, Some((place.line, place.column))),
                Err(Stop::Unreadable(error)) => panic!("{error}"),
            }
        }
    }

    #[test]
    fn values_are_told_apart_however_they_arrive() {
        for (text, expected, stop) in [
            ("", &[][..], None),
            (" [ ] ", &["end"], None),
            ("[{\"a\": [1, \"]}\\\"\"]}, 2 ,[3]]", &["{\"a\": [1, \"]}\\\"\"]}", "2", "[3]", "end"], None),
            ("{}\n{\"a\":1}\n[1]\n", &["{}", "{\"a\":1}", "1", "end"], None),
            ("[\"a\",\"\\\\\",null,]", &["\"a\"", "\"\\\\\"", "null", "end"], None),
            ("12", &[], Some((1, 1))),
            ("[12", &["12"], Some((1, 4))),
            ("[1\n 2]", &["1"], Some((2, 2))),
            ("[{}", &["{}"], Some((1, 4))),
            ("[{}, {\n\"a", &["{}"], Some((2, 3))),
            ("<html>", &[], Some((1, 1))),
            ("{} }", &["{}"], Some((1, 4))),
            ("[\"123456789012345678901\", 3]", &["too long at 1", "3", "end"], None),
        ] {
            for buffer in [1, 2, 3, 7, 100] {
                let (found, stopped) = read(text, buffer);
                assert_eq!(
                    (&found[..], stopped),
                    (&expected.iter().map(|e| e.to_string()).collect::<Vec<_>>()[..], stop),
                    "{text:?}"
                );
            }
        }
    }

    #[test]
    fn places_are_those_of_an_editor() {
        let mut pieces = JsonStream::new("[1,\n  22]".as_bytes(), 20);
        assert_eq!(pieces.next().unwrap(), Some(JsonItem::Value(Position { byte: 1, line: 1, column: 2 })));
        assert_eq!(pieces.next().unwrap(), Some(JsonItem::Value(Position { byte: 6, line: 2, column: 3 })));
    }
}
