//! Text → text that is safe on a terminal: control characters become visible.

use std::borrow::Cow;
use std::fmt::Write;

/// Replaces every character for which [`acts`] is true.
pub fn sanitize(text: &str) -> Cow<'_, str> {
    replaced(text, |c, shown| match c {
        '\u{0}'..='\u{1f}' => shown.push(char::from_u32(0x2400 + c as u32).unwrap_or('\u{fffd}')),
        '\u{7f}' => shown.push('\u{2421}'),
        c => _ = write!(shown, "<U+{:04X}>", c as u32), // a String takes everything
    })
}

/// The same for JSON, where such characters occur only in strings: escapes them.
pub(super) fn in_json(text: &str) -> Cow<'_, str> {
    replaced(text, |c, shown| {
        for unit in c.encode_utf16(&mut [0; 2]) {
            let _ = write!(shown, "\\u{unit:04x}"); // a String takes everything
        }
    })
}

fn replaced(text: &str, instead: impl Fn(char, &mut String)) -> Cow<'_, str> {
    if !text.chars().any(acts) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if acts(c) { instead(c, &mut shown) } else { shown.push(c) }
    }
    Cow::Owned(shown)
}

/// Whether a character could control the terminal or hide and reorder text: C0 and C1 control characters
/// (except newline and tab), bidirectional controls, line and paragraph separators, and tags, which are
/// invisible.
pub fn acts(c: char) -> bool {
    match c {
        '\n' | '\t' => false,
        c if c.is_control() => true,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => true,
        '\u{e0000}'..='\u{e007f}' => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_harmful_is_left() {
        assert_eq!(sanitize("plain\n\tné 😀 👩‍💻"), "plain\n\tné 😀 👩‍💻");
        assert_eq!(sanitize("\x1b[2Ja\x07\u{9b}31m\r\u{7f}"), "␛[2Ja␇<U+009B>31m␍␡");
        assert_eq!(sanitize("a\u{202e}b\u{61c}c\u{2028}d\u{2029}e"), "a<U+202E>b<U+061C>c<U+2028>d<U+2029>e");
        assert_eq!(sanitize("\u{e0001}\u{e0041}\u{e007f}"), "<U+E0001><U+E0041><U+E007F>");
        assert_eq!(sanitize("not ended\x1b]0;x"), "not ended␛]0;x");
        let all: String = (0..0xf0000).filter_map(char::from_u32).collect();
        assert!(!sanitize(&all).chars().any(acts));
    }

    #[test]
    fn json_stays_the_same() {
        let all: String = (0..0xf0000).filter_map(char::from_u32).collect();
        let text = serde_json::json!({ "a": all }).to_string();
        let shown = in_json(&text);
        assert!(!shown.chars().any(acts));
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap()["a"], all.as_str());
    }
}
