//! Text → what a terminal may be given: control characters become visible signs and can do nothing.

use std::borrow::Cow;

/// Replaces everything that could move the cursor, recolour, retitle or reorder: C0 and C1 control characters (but
/// newline and tab) and the characters that turn the direction of writing.
pub fn visible(text: &str) -> Cow<'_, str> {
    if !text.chars().any(harmful) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            c if !harmful(c) => shown.push(c),
            '\u{0}'..='\u{1f}' => shown.push(char::from_u32(0x2400 + c as u32).unwrap_or('\u{fffd}')),
            '\u{7f}' => shown.push('\u{2421}'),
            c => shown.push_str(&format!("<U+{:04X}>", c as u32)),
        }
    }
    Cow::Owned(shown)
}

fn harmful(c: char) -> bool {
    match c {
        '\n' | '\t' => false,
        c if c.is_control() => true,
        '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_harmful_is_left() {
        assert_eq!(visible("plain\n\tné 😀"), "plain\n\tné 😀");
        assert_eq!(visible("\x1b[2Ja\x07\u{9b}31m\r\u{7f}"), "␛[2Ja␇<U+009B>31m␍␡");
        assert_eq!(visible("a\u{202e}b"), "a<U+202E>b");
        let all: String = (0..0x3000).filter_map(char::from_u32).collect();
        assert!(!visible(&all).chars().any(harmful));
    }
}
