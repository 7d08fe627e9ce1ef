//! Bytes from a terminal → keys: typed and pasted text, without the terminal's own reports.
//!
//! Keys with modifiers have many encodings (xterm's, rxvt's, CSI u, modifyOtherKeys); each becomes its usual
//! meaning, or nothing. Replies to queries of other programs (cursor position, features, colors), mouse and
//! focus events are not keys.

mod modified;
mod replies;

use self::modified::{Modifiers, arrow, meaning};
use super::acts;
use crate::chat::settings::Theme;

/// Longest text in a reply of the terminal (names, colors) before the decoder gives up on it.
const LONGEST: usize = 256;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Key {
    Char(char),
    /// A lower-case letter, or one of `@[\]^_`.
    Ctrl(char),
    Alt(char),
    Enter,
    /// Enter with a modifier.
    NewLine,
    Tab,
    Backspace,
    Delete,
    Esc,
    Up,
    Down,
    Left,
    Right,
    Home,
    End,
    PageUp,
    PageDown,
    WordLeft,
    WordRight,
    /// Deletes the word before the cursor.
    BackspaceWord,
    DeleteWord,
    /// Pasted text without control sequences, but with line breaks and tabs.
    Pasted(String),
}

/// The first element of some bytes.
#[derive(Debug, PartialEq, Eq)]
enum First {
    Key(Key),
    /// A sequence without a key.
    Nothing,
    /// The mark before a pasted text.
    Paste,
    /// The terminal's reply about its background.
    Background(Theme),
}

/// The mark after a pasted text.
const PASTED: &[u8] = b"\x1b[201~";

/// A decoder with the bytes that are not decoded yet.
#[derive(Debug, Default)]
pub struct Decoder {
    bytes: Vec<u8>,
    /// Inside a paste: the number of bytes already searched for the end mark.
    pasting: Option<usize>,
    /// The background that the terminal reported last.
    pub(super) background: Option<Theme>,
}

impl Decoder {
    pub fn add(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Whether an incomplete key sequence is pending. A paste may stay incomplete forever.
    pub fn is_waiting(&self) -> bool {
        !self.bytes.is_empty() && self.pasting.is_none()
    }

    /// The next complete key.
    pub fn whole(&mut self) -> Option<Key> {
        loop {
            if let Some(looked) = self.pasting {
                return self.pasted(looked);
            }
            let (length, first) = first(&self.bytes)?;
            if let Some(key) = self.took(length, first) {
                return Some(key);
            }
        }
    }

    /// The next key, taking incomplete sequences as they are.
    pub fn last(&mut self) -> Option<Key> {
        loop {
            if let Some(key) = self.whole() {
                return Some(key);
            }
            let (length, first) = alone(&self.bytes).filter(|_| self.pasting.is_none())?;
            if let Some(key) = self.took(length, first) {
                return Some(key);
            }
        }
    }

    fn took(&mut self, length: usize, first: First) -> Option<Key> {
        self.bytes.drain(..length);
        match first {
            First::Key(key) => Some(key),
            First::Nothing => None,
            First::Background(theme) => {
                self.background = Some(theme);
                None
            }
            First::Paste => {
                self.pasting = Some(0);
                None
            }
        }
    }

    fn pasted(&mut self, looked: usize) -> Option<Key> {
        let Some(at) = self.bytes[looked..].windows(PASTED.len()).position(|window| window == PASTED) else {
            self.pasting = Some(self.bytes.len().saturating_sub(PASTED.len() - 1).max(looked));
            return None;
        };
        let text = String::from_utf8_lossy(&self.bytes[..looked + at]).into_owned();
        self.bytes.drain(..looked + at + PASTED.len());
        self.pasting = None;
        Some(Key::Pasted(without_sequences(&text)))
    }
}

/// A whole line → its typed text, without cursor keys.
pub fn typed(line: &str) -> String {
    let mut decoder = Decoder::default();
    decoder.add(line.as_bytes());
    let mut text = String::with_capacity(line.len());
    while let Some(key) = decoder.last() {
        match key {
            Key::Char(c) => text.push(c),
            Key::Tab => text.push('\t'),
            Key::Ctrl('j') => text.push('\n'),
            Key::Pasted(pasted) => text += &pasted,
            _ => {}
        }
    }
    // The rest is a paste that continues on the next line.
    text + &without_sequences(&String::from_utf8_lossy(&decoder.bytes))
}

/// The text without control sequences.
fn without_sequences(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(['\x1b', '\u{9b}', '\u{9d}', '\u{90}']) {
        clean += &rest[..at];
        let bytes = &rest.as_bytes()[at..];
        let (length, _) = first(bytes).or_else(|| alone(bytes)).unwrap_or((1, First::Nothing));
        rest = &rest[at + length..];
    }
    clean + rest
}

/// The first key or sequence of some bytes, and its length. `None`: incomplete.
fn first(bytes: &[u8]) -> Option<(usize, First)> {
    match *bytes.first()? {
        0x1b => escape(bytes),
        b'\r' => key(1, Key::Enter),
        b'\t' => key(1, Key::Tab),
        0x7f | 0x08 => key(1, Key::Backspace),
        byte @ 1..=26 => key(1, Key::Ctrl((byte + b'a' - 1) as char)),
        byte @ 0..=31 => key(1, Key::Ctrl((byte + b'@') as char)),
        _ => match character(bytes)? {
            (length, '\u{9b}') => csi(bytes, length),
            (length, '\u{9d}' | '\u{90}') => string(bytes, length),
            (length, c) if acts(c) => Some((length, First::Nothing)),
            (length, c) => key(length, Key::Char(c)),
        },
    }
}

/// The same for bytes after which nothing follows.
fn alone(bytes: &[u8]) -> Option<(usize, First)> {
    match bytes {
        [] => None,
        [0x1b] | [0x1b, 0x1b, ..] => key(1, Key::Esc),
        [0x1b, b'[', _, ..] => Some((bytes.len(), First::Nothing)),
        [0x1b, ..] => Some((2, First::Nothing)),
        _ => key(bytes.len(), Key::Char(char::REPLACEMENT_CHARACTER)),
    }
}

fn key(length: usize, key: Key) -> Option<(usize, First)> {
    Some((length, First::Key(key)))
}

fn character(bytes: &[u8]) -> Option<(usize, char)> {
    let most = &bytes[..bytes.len().min(4)];
    let (valid, error) = match std::str::from_utf8(most) {
        Ok(text) => (text, None),
        Err(e) => (std::str::from_utf8(&most[..e.valid_up_to()]).unwrap_or_default(), Some(e)),
    };
    match valid.chars().next() {
        Some(c) => Some((c.len_utf8(), c)),
        None => Some((error?.error_len()?, char::REPLACEMENT_CHARACTER)),
    }
}

fn escape(bytes: &[u8]) -> Option<(usize, First)> {
    match *bytes.get(1)? {
        b'[' => csi(bytes, 2),
        b'O' => ss3(bytes, 2),
        b']' | b'P' | b'_' | b'^' | b'X' => string(bytes, 2),
        0x1b if !matches!(bytes.get(2)?, b'[' | b'O') => key(1, Key::Esc),
        _ => {
            let (length, then) = first(&bytes[1..])?;
            Some((1 + length, with_alt(then)))
        }
    }
}

fn with_alt(first: First) -> First {
    let First::Key(key) = first else { return first };
    First::Key(match key {
        Key::Char(c) => Key::Alt(c),
        Key::Enter | Key::Ctrl('j') => Key::NewLine,
        Key::Backspace => Key::BackspaceWord,
        Key::Delete => Key::DeleteWord,
        Key::Left => Key::WordLeft,
        Key::Right => Key::WordRight,
        _ => return First::Nothing,
    })
}

/// Text up to its end mark.
fn string(bytes: &[u8], begun: usize) -> Option<(usize, First)> {
    let inside = &bytes[begun..];
    let ends = [&b"\x07"[..], b"\x1b\\", b"\xc2\x9c"].map(|end| {
        inside.windows(end.len()).position(|window| window == end).map(|at| begun + at + end.len())
    });
    match ends.into_iter().flatten().min() {
        Some(end) => {
            let background = replies::background(&inside[..end - begun]);
            Some((end, background.map_or(First::Nothing, First::Background)))
        }
        None if inside.len() > LONGEST => Some((begun, First::Nothing)),
        None => None,
    }
}

/// `ESC [`, parameters, final byte.
fn csi(bytes: &[u8], begun: usize) -> Option<(usize, First)> {
    match bytes.get(begun)? {
        // A function key of the Linux console.
        b'[' => return bytes.get(begun + 1).map(|_| (begun + 2, First::Nothing)),
        // The mouse: button, column, row.
        b'M' => return bytes.get(begun + 3).map(|_| (begun + 4, First::Nothing)),
        _ => {}
    }
    let inside = &bytes[begun..];
    let ends = |(at, byte): (usize, &u8)| match byte {
        b'$' => at > 0 && inside[..at].iter().all(u8::is_ascii_digit), // rxvt's keys with Shift
        byte => !(b' '..=b'?').contains(byte),
    };
    let end = inside.iter().enumerate().position(ends)?;
    let parameters = std::str::from_utf8(&inside[..end]).unwrap_or_default();
    match inside[end] {
        letter @ (b'$' | b'@'..=b'~') => Some((begun + end + 1, meaning(parameters, letter))),
        _ => Some((begun + end, First::Nothing)), // an incomplete sequence
    }
}

/// `ESC O`, final byte: keypad keys, and arrows of some terminals.
fn ss3(bytes: &[u8], begun: usize) -> Option<(usize, First)> {
    let digits = bytes[begun..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let letter = *bytes.get(begun + digits)?;
    let held = std::str::from_utf8(&bytes[begun..begun + digits]).ok().and_then(|digits| digits.parse().ok());
    let length = begun + digits + 1;
    let first = match letter {
        b'M' => First::Key(Key::Enter),
        b'j'..=b'y' => First::Key(Key::Char((letter - b'j' + b'*') as char)),
        b'X' => First::Key(Key::Char('=')),
        b'a'..=b'd' => arrow(letter.to_ascii_uppercase(), Modifiers::CTRL),
        b'A'..=b'H' => arrow(letter, Modifiers::from(held.unwrap_or(1))),
        b'@'..=b'~' => First::Nothing,
        _ => return Some((begun + digits, First::Nothing)),
    };
    Some((length, first))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All keys of the bytes, which arrive in pieces of `step`.
    fn keys(bytes: &[u8], step: usize) -> Vec<Key> {
        let (mut decoder, mut keys) = (Decoder::default(), Vec::new());
        for piece in bytes.chunks(step) {
            decoder.add(piece);
            keys.extend(std::iter::from_fn(|| decoder.whole()));
        }
        keys.extend(std::iter::from_fn(|| decoder.last()));
        keys
    }

    fn text(keys: &[Key]) -> String {
        let sign = |key: &Key| match key {
            Key::Char(c) => c.to_string(),
            Key::Pasted(text) => format!("«{text}»"),
            other => format!("<{other:?}>"),
        };
        keys.iter().map(sign).collect()
    }

    #[test]
    fn keys_are_the_same_however_they_arrive() {
        for (bytes, expected) in [
            (&b"a\x1b[24;80Rb\x1b[?62;22cc\x1b[0nd"[..], "abcd"),
            (b"a\x1b]11;rgb:0000/0000/0000\x1b\\b\x1b]0;x\x07c\x1bP>|XTerm(388)\x1b\\d", "abcd"),
            (b"a\x1b[<0;33;14Mb\x1b[M\xff\xfe!c\x1b[Id\x1b[?2004;1$ye", "abcde"),
            (b"\x1b[200~two\rlines \x1b[31mred\xff\x1b[201~x", "«two\rlines red\u{fffd}»x"),
            (
                b"\x1b\x1b[D\x1b[3$\x1b[13;2u\x1b[27;2;13~\x1b\r",
                "<WordLeft><Delete><NewLine><NewLine><NewLine>",
            ),
            ("é\u{9b}5;5R日\u{9d}0;x\u{9c}\u{85}😀".as_bytes(), "é日😀"),
            (b"a\xe9b\xc3", "a\u{fffd}b\u{fffd}"),
            (b"a\x1b[5;5\xc3\xa9", "aé"),
            (b"\x1b[1;5Aa\x1bOPb\x1b[[Ac\x1b[57441;5ud", "abcd"),
            (b"\x1b", "<Esc>"),
        ] {
            assert_eq!(text(&keys(bytes, bytes.len())), expected, "{bytes:?}");
            assert_eq!(text(&keys(bytes, 1)), expected, "byte by byte: {bytes:?}");
        }
    }

    #[test]
    fn the_background_is_no_key() {
        for (bytes, theme) in [
            (&b"a\x1b]11;rgb:ffff/ffff/ffff\x1b\\b"[..], Some(Theme::Light)),
            (b"a\x1b]11;rgb:0000/0000/0000\x07b", Some(Theme::Dark)),
            ("a\u{9d}11;rgb:fd/f6/e3\u{9c}b".as_bytes(), Some(Theme::Light)),
            (b"a\x1b]10;rgb:ffff/ffff/ffff\x07b", None),
            (b"a\x1bP11;rgb:nonsense\x1b\\b", None),
        ] {
            for step in [1, bytes.len()] {
                let (mut decoder, mut keys) = (Decoder::default(), Vec::new());
                for piece in bytes.chunks(step) {
                    decoder.add(piece);
                    keys.extend(std::iter::from_fn(|| decoder.whole()));
                }
                assert_eq!((text(&keys).as_str(), decoder.background), ("ab", theme), "{bytes:?}");
            }
        }
    }

    #[test]
    fn what_nothing_follows_is_what_it_looks_like() {
        for (bytes, expected) in [
            (&b"\x1b\x1b"[..], "<Esc><Esc>"),
            (b"\x1b\x1bx", "<Esc><Alt('x')>"),
            (b"\x1b[13;", ""),
            (b"\x1b]not ended", "not ended"),
            (b"\x1bO", ""),
        ] {
            assert_eq!(text(&keys(bytes, bytes.len())), expected, "{bytes:?}");
        }
        let long = "y".repeat(2 * LONGEST);
        assert_eq!(text(&keys(format!("\x1bP{long}").as_bytes(), 7)), long);
    }

    #[test]
    fn lines_are_what_was_typed() {
        for (line, text) in [
            ("plain [24;80R", "plain [24;80R"),
            ("a\x1b[24;80Rb\tc", "ab\tc"),
            ("ab\x1b[D\x1bOAc", "abc"),
            ("a\x1b", "a"),
            ("a\x1b[200~b \x1b[31mc", "ab c"),
            ("d\x1b[201~e", "de"),
        ] {
            assert_eq!(typed(line), text, "{line:?}");
        }
    }

    #[test]
    fn no_bytes_are_too_much() {
        let mut seed = 1_u32;
        for _ in 0..20_000 {
            let mut next = || {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                b"\x1b[O]P;:?<$0123456789~uMARx\xc3\xa9\x9b"[(seed >> 16) as usize % 29]
            };
            let bytes: Vec<u8> = (0..12).map(|_| next()).collect();
            let one_by_one = keys(&bytes, 1);
            assert!(one_by_one.len() <= bytes.len());
            assert!(!text(&one_by_one).contains('\x1b'), "{bytes:?}");
        }
    }
}
