//! The bytes of one JSON value → the value, even if it contains invalid characters.
//!
//! Programs that cut text inside a UTF-16 surrogate pair write half of it, and old files contain bytes that
//! are not UTF-8. Either costs one character, not the conversation.

use serde_json::Value;

/// The value, and whether characters were replaced; or the parser's error.
pub(super) fn parse(bytes: &[u8]) -> Result<(Value, bool), serde_json::Error> {
    serde_json::from_slice(bytes).map(|value| (value, false)).or_else(|error| {
        let mut text = String::from_utf8_lossy(bytes).into_owned().into_bytes();
        replace_halves(&mut text);
        if text == bytes {
            return Err(error);
        }
        serde_json::from_slice(&text).map(|value| (value, true))
    })
}

/// Writes `\ufffd` over every unpaired surrogate, such as `\ud83d`.
fn replace_halves(text: &mut [u8]) {
    let mut at = 0;
    while at + 1 < text.len() {
        if text[at] != b'\\' {
            at += 1;
            continue;
        }
        match (unit(text, at), unit(text, at + 6)) {
            (Some(0xd800..0xdc00), Some(0xdc00..0xe000)) => at += 12,
            (Some(0xd800..0xe000), _) => {
                text[at + 2..at + 6].copy_from_slice(b"fffd");
                at += 6;
            }
            _ => at += 2,
        }
    }
}

/// The code unit of the `\u1234` at this place.
fn unit(text: &[u8], at: usize) -> Option<u16> {
    let digits = text.get(at..at + 6)?.strip_prefix(b"\\u")?;
    let digits = std::str::from_utf8(digits).ok().filter(|_| digits.iter().all(u8::is_ascii_hexdigit))?;
    u16::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_half_character_costs_itself_only() {
        for (json, expected) in [
            (&br#""a\ud83d\ude00b""#[..], Some(("a😀b", false))),
            (br#""a\ud83db""#, Some(("a\u{fffd}b", true))),
            (br#""\ude00\ud83d\ud83d\ude00""#, Some(("\u{fffd}\u{fffd}😀", true))),
            (br#""\\ud83d""#, Some(("\\ud83d", false))),
            (b"\"a\xffb\"", Some(("a\u{fffd}b", true))),
            (br#""\x""#, None),
            (br#""\ud8"#, None),
        ] {
            let read = parse(json).ok();
            let expected = expected.map(|(text, repaired)| (Value::from(text), repaired));
            assert_eq!(read, expected, "{}", String::from_utf8_lossy(json));
        }
    }
}
