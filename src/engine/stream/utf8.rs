//! Bytes of tokens → whole characters of text. Next: reasoning.rs.
//!
//! A token may end in the middle of a character, so incomplete characters are held back.

/// Turns the bytes of one answer into text.
#[derive(Debug, Default)]
pub struct Detokenizer {
    /// An incomplete character, or the characters of an emoji that the next one may complete.
    bytes: Vec<u8>,
}

impl Detokenizer {
    /// Takes the bytes of a token and returns the characters that are complete. Invalid UTF-8 becomes U+FFFD.
    pub fn push(&mut self, bytes: &[u8]) -> String {
        self.bytes.extend_from_slice(bytes);
        let whole = whole_characters(&self.bytes);
        let whole = whole_emoji(&self.bytes[..whole]);
        let text = String::from_utf8_lossy(&self.bytes[..whole]).into_owned();
        self.bytes.drain(..whole);
        text
    }

    /// The model ended its answer: an incomplete character becomes U+FFFD. For an answer that was cut off,
    /// drop this value instead.
    pub fn finish(self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

/// The length of the part of `bytes` that does not end inside a character that more bytes could complete.
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

/// The length of the part of `bytes` that does not end inside an emoji of several characters: after a joiner,
/// or after the first of the two letters of a flag.
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

    fn run(pieces: &[&[u8]]) -> Vec<String> {
        let mut stream = Detokenizer::default();
        let mut shown: Vec<String> = pieces.iter().map(|bytes| stream.push(bytes)).collect();
        shown.push(stream.finish());
        shown
    }

    #[test]
    fn an_emoji_over_four_tokens_comes_whole() {
        let shown = run(&[b"a\xf0", b"\x9f", b"\x98", b"\x80b"]);
        assert_eq!(shown, ["a", "", "", "😀b", ""]);
    }

    #[test]
    fn bytes_that_are_no_text_are_replaced_at_once() {
        let shown = run(&[b"\xff", b"\xc3", b"("]);
        assert_eq!(shown, ["\u{fffd}", "", "\u{fffd}(", ""]);
        assert_eq!(run(&[b"\xf0\x9f"]), ["", "\u{fffd}"]);
    }

    #[test]
    fn an_emoji_of_several_characters_comes_whole() {
        let pieces = ["👩", "\u{200d}", "💻🇫", "🇮🇸", "🇪!"].map(str::as_bytes);
        assert_eq!(run(&pieces), ["👩", "", "\u{200d}💻", "🇫🇮", "🇸🇪!", ""]);
        assert_eq!(run(&["🇫".as_bytes()]), ["", "🇫"], "the model ended the answer there");
    }
}
