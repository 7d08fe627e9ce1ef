//! 9 — bytes of tokens → whole characters of text; stop strings held back.
//!
//! A token may end in the middle of a character, and a stop string may begin in one token and end in another:
//! what is not yet certain waits here. Next: reasoning.rs.

use super::reasoning::overlap;

/// Turns the bytes of one answer into text.
#[derive(Debug, Default)]
pub struct Detokenizer {
    /// Bytes of a character that is not complete yet, or characters of an emoji that the next one may complete.
    bytes: Vec<u8>,
}

/// Ends an answer before a stop string.
#[derive(Debug, Default)]
pub struct Stops {
    stops: Vec<String>,
    /// Text that may turn out to be the beginning of a stop string.
    held: String,
}

/// What one push brought.
#[derive(Debug, PartialEq, Eq)]
pub struct Piece {
    pub text: String,
    /// A stop string came: `text` ends before it, and the answer is over.
    pub stopped: bool,
}

impl Detokenizer {
    /// Takes the bytes of a token and gives the characters that are whole now. Bytes that can be no UTF-8 become U+FFFD.
    pub fn push(&mut self, bytes: &[u8]) -> String {
        self.bytes.extend_from_slice(bytes);
        let whole = whole_characters(&self.bytes);
        let whole = whole_emoji(&self.bytes[..whole]);
        let text = String::from_utf8_lossy(&self.bytes[..whole]).into_owned();
        self.bytes.drain(..whole);
        text
    }

    /// The model ended its answer here: an incomplete character becomes U+FFFD. Of an answer that is cut, what waits is dropped
    /// instead.
    pub fn finish(self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

impl Stops {
    pub fn new(stops: &[String]) -> Stops {
        let stops = stops.iter().filter(|s| !s.is_empty()).cloned().collect();
        Stops { stops, held: String::new() }
    }

    /// Takes the next piece of the answer and gives what is certain now.
    pub fn push(&mut self, text: &str) -> Piece {
        self.held.push_str(text);
        let first = self.stops.iter().filter_map(|stop| self.held.find(stop.as_str())).min();
        if let Some(at) = first {
            self.held.truncate(at);
            return Piece { text: std::mem::take(&mut self.held), stopped: true };
        }
        let waiting = self.stops.iter().map(|stop| overlap(&self.held, stop)).max().unwrap_or(0);
        let kept = self.held.split_off(self.held.len() - waiting);
        Piece { text: std::mem::replace(&mut self.held, kept), stopped: false }
    }

    /// The answer is over: what waited was no stop string.
    pub fn finish(self) -> String {
        self.held
    }
}

/// Length of the part of `bytes` that does not end inside a character that more bytes could complete.
fn whole_characters(bytes: &[u8]) -> usize {
    let mut start = 0;
    loop {
        match std::str::from_utf8(&bytes[start..]) {
            Ok(_) => return bytes.len(),
            Err(e) => match e.error_len() {
                Some(bad) => start += e.valid_up_to() + bad,
                None => return start + e.valid_up_to(),
            },
        }
    }
}

/// Length of the part of `bytes` that does not end inside an emoji of several characters: after a joiner, or after the first of
/// the two letters that make a flag.
fn whole_emoji(bytes: &[u8]) -> usize {
    const JOINER: &[u8] = "\u{200d}".as_bytes();
    let is_letter = |four: &[u8]| four[..3] == *b"\xf0\x9f\x87" && four[3] >= 0xa6; // U+1F1E6 to U+1F1FF
    let letters = bytes.rchunks_exact(4).take_while(|four| is_letter(four)).count();
    match letters % 2 {
        0 => bytes.strip_suffix(JOINER).map_or(bytes.len(), <[u8]>::len),
        _ => bytes.len() - 4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(stops: &[&str], pieces: &[&[u8]]) -> (Vec<String>, bool) {
        let stops: Vec<String> = stops.iter().map(|s| s.to_string()).collect();
        let (mut stream, mut stops) = (Detokenizer::default(), Stops::new(&stops));
        let mut shown = Vec::new();
        for bytes in pieces {
            let piece = stops.push(&stream.push(bytes));
            shown.push(piece.text);
            if piece.stopped {
                return (shown, true);
            }
        }
        let rest = stops.push(&stream.finish()).text;
        shown.push(rest + &stops.finish());
        (shown, false)
    }

    #[test]
    fn an_emoji_over_four_tokens_comes_whole() {
        let (shown, _) = run(&[], &[b"a\xf0", b"\x9f", b"\x98", b"\x80b"]);
        assert_eq!(shown, ["a", "", "", "😀b", ""]);
    }

    #[test]
    fn bytes_that_are_no_text_are_replaced_at_once() {
        let (shown, _) = run(&[], &[b"\xff", b"\xc3", b"("]);
        assert_eq!(shown, ["\u{fffd}", "", "\u{fffd}(", ""]);
        assert_eq!(run(&[], &[b"\xf0\x9f"]).0, ["", "\u{fffd}"]);
    }

    #[test]
    fn an_emoji_of_several_characters_comes_whole() {
        let pieces = ["👩", "\u{200d}", "💻🇫", "🇮🇸", "🇪!"].map(str::as_bytes);
        assert_eq!(run(&[], &pieces).0, ["👩", "", "\u{200d}💻", "🇫🇮", "🇸🇪!", ""]);
        assert_eq!(run(&[], &["🇫".as_bytes()]).0, ["", "🇫"], "the model ended it there");
    }

    #[test]
    fn a_stop_string_is_never_shown_even_in_parts() {
        let (shown, stopped) = run(&["User:"], &[b"Hi\nUs", b"er", b": more"]);
        assert_eq!((shown.concat().as_str(), stopped), ("Hi\n", true));
        let (shown, stopped) = run(&["User:"], &[b"Us", b"ers: no"]);
        assert_eq!((shown.concat().as_str(), stopped), ("Users: no", false));
        let (shown, _) = run(&["END"], &[b"the EN"]);
        assert_eq!(shown, ["the ", "EN"]);
    }

    #[test]
    fn any_cutting_of_the_bytes_gives_the_same_text() {
        let text = "né 😀 </s 日本 stop".as_bytes();
        for a in 0..text.len() {
            for b in a..text.len() {
                let (shown, stopped) = run(&["</s>", " stop"], &[&text[..a], &text[a..b], &text[b..]]);
                assert_eq!((shown.concat().as_str(), stopped), ("né 😀 </s 日本", true));
            }
        }
    }
}
