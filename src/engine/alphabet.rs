//! The texts of all tokens → the characters that a SentencePiece vocabulary can encode, if not all.
//!
//! SentencePiece encodes a character without a token as bytes, with a token for each byte; llama.cpp ends the
//! process if such a token is missing. So the caller removes unsupported characters from the text.

use std::collections::HashSet;

/// The characters and bytes that a vocabulary can encode.
pub(super) struct Alphabet {
    characters: HashSet<char>,
    bytes: HashSet<u8>,
}

impl Alphabet {
    /// `None` if it can encode everything.
    pub(super) fn of<'a>(tokens: impl Iterator<Item = &'a [u8]>) -> Option<Alphabet> {
        let mut alphabet = Alphabet { characters: HashSet::new(), bytes: HashSet::new() };
        for text in tokens {
            match *text {
                [byte] => drop(alphabet.bytes.insert(byte)),
                [b'<', b'0', b'x', high, low, b'>'] => alphabet.bytes.extend(hexadecimal(high, low)),
                _ => {}
            }
            if alphabet.bytes.len() == 256 {
                return None; // early, because byte tokens come first
            }
            let mut letters = std::str::from_utf8(text).unwrap_or_default().chars();
            if let (Some(letter), None) = (letters.next(), letters.next()) {
                alphabet.characters.insert(letter);
            }
        }
        Some(alphabet)
    }

    pub(super) fn has(&self, character: char) -> bool {
        let written = if character == ' ' { '\u{2581}' } else { character }; // SentencePiece's space
        let mut utf8 = [0; 4];
        self.characters.contains(&written)
            || written.encode_utf8(&mut utf8).bytes().all(|byte| self.bytes.contains(&byte))
    }
}

/// The byte given by two hexadecimal digits, as llama.cpp spells them.
fn hexadecimal(high: u8, low: u8) -> Option<u8> {
    let digit = |digit: u8| b"0123456789ABCDEF".iter().position(|known| *known == digit);
    Some((digit(high)? << 4 | digit(low)?) as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(tokens: &[&str]) -> Option<Alphabet> {
        Alphabet::of(tokens.iter().map(|text| text.as_bytes()))
    }

    #[test]
    fn what_can_be_written() {
        let alphabet =
            of(&["a", "\u{2581}", "ab", "<0xC3>", "<0xA9>", "<0xc4>"]).expect("some bytes are missing");
        assert!(alphabet.has('a') && alphabet.has(' '));
        assert!(!alphabet.has('b'), "no token is 'b' alone");
        assert!(alphabet.has('é') && !alphabet.has('ã'), "é is C3 A9, ã is C3 A3");
        let bytes: Vec<String> = (0..256).map(|byte| format!("<0x{byte:02X}>")).collect();
        let bytes: Vec<&str> = bytes.iter().map(String::as_str).collect();
        assert!(of(&bytes).is_none());
        assert!(of(&bytes[1..]).is_some());
    }
}
