//! What a terminal answers to questions (where its cursor is, what it can do, which colours it has) told from what is typed.
//!
//! Some program asked, maybe one that has ended since; the answer comes in as keys. In whole lines it is left out. Key by key
//! it is known by how it begins, by the signs it is made of and by its haste: it comes faster than anybody types.

use std::time::{Duration, Instant};

/// The signs of an answer follow one another at least so fast.
const HASTE: Duration = Duration::from_millis(50);
/// Longest answer that is waited for: names of terminals, colours.
const LONGEST: usize = 256;

/// A line as it came from the terminal → what was typed of it. Keys that move the cursor are left out as well.
pub fn without_replies(line: &str) -> String {
    let mut typed = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find(['\x1b', '\u{9b}', '\u{9d}', '\u{90}']) {
        typed += &rest[..at];
        rest = &rest[at + sequence(&rest[at..])..];
    }
    typed + rest
}

/// How long the sequence is that a text begins with. Of one that does not end, only what introduces it counts.
fn sequence(text: &str) -> usize {
    let mut chars = text.char_indices().map(|(at, c)| (at + c.len_utf8(), c));
    let (mut begun, mut kind) = chars.next().unwrap_or_default();
    if kind == '\x1b' {
        (begun, kind) = chars.next().unwrap_or((begun, kind));
    }
    match kind {
        '[' | '\u{9b}' => {
            let end = chars.find(|(_, c)| !matches!(c, ' '..='?'));
            end.filter(|(_, c)| matches!(c, '@'..='~')).map_or(begun, |(end, _)| end)
        }
        ']' | 'P' | '_' | '^' | 'X' | '\u{9d}' | '\u{90}' => {
            let inside = &text[begun..];
            let ends = ["\x07", "\x1b\\", "\u{9c}"].map(|end| inside.find(end).map(|at| at + end.len()));
            ends.into_iter().flatten().min().map_or(begun, |end| begun + end)
        }
        'O' => chars.next().map_or(begun, |(end, _)| end),
        _ => begun,
    }
}

/// A key as an editor understood it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    Char(char),
    Alt(char),
    /// The beginning of a sequence that means no key, or all of it.
    Unknown,
    Bell,
    Other,
}

/// What is to become of a key.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is a key.
    Typed,
    /// It belongs to an answer, or may.
    Hold,
    /// It belongs to none after all: this was typed, the key included if it is a character.
    Give(String),
}

/// What may be an answer, key by key.
#[derive(Debug, Default)]
pub struct Replies {
    inside: Inside,
    held: String,
    last: Option<Instant>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Inside {
    #[default]
    Nothing,
    /// Numbers, and a letter that ends them.
    Numbers,
    /// Any text up to its end mark.
    Text,
}

impl Replies {
    pub fn key(&mut self, key: Key, now: Instant) -> Verdict {
        let hasty = self.last.replace(now).is_some_and(|last| now.duration_since(last) < HASTE);
        let inside = if hasty && self.held.len() < LONGEST { self.inside } else { Inside::Nothing };
        self.inside = inside;
        match (inside, key) {
            (Inside::Text, Key::Bell | Key::Alt('\\')) => self.over(),
            (_, Key::Unknown) => self.begin(Inside::Numbers),
            (_, Key::Alt(']' | 'P' | '_' | '^' | 'X')) => self.begin(Inside::Text),
            (Inside::Text, Key::Char(c)) => self.hold(c),
            (Inside::Numbers, Key::Char(c @ ('0'..='9' | ';' | ':' | '$'))) => self.hold(c),
            (Inside::Numbers, Key::Char('R' | 'c' | 'n' | 't' | 'u' | 'y')) if !self.held.is_empty() => {
                self.over()
            }
            // All but the letter may have been understood as part of the sequence.
            (Inside::Numbers, Key::Char('R' | 'n')) => self.over(),
            (_, key) => self.give(key),
        }
    }

    fn begin(&mut self, inside: Inside) -> Verdict {
        self.inside = inside;
        let before = std::mem::take(&mut self.held);
        if before.is_empty() { Verdict::Hold } else { Verdict::Give(before) }
    }

    fn hold(&mut self, c: char) -> Verdict {
        self.held.push(c);
        Verdict::Hold
    }

    fn over(&mut self) -> Verdict {
        self.inside = Inside::Nothing;
        self.held.clear();
        Verdict::Hold
    }

    fn give(&mut self, key: Key) -> Verdict {
        self.inside = Inside::Nothing;
        let mut held = std::mem::take(&mut self.held);
        if held.is_empty() {
            return Verdict::Typed;
        }
        if let Key::Char(c) = key {
            held.push(c);
        }
        Verdict::Give(held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_what_was_typed() {
        for (line, typed) in [
            ("plain [24;80R", "plain [24;80R"),
            ("a\x1b[24;80Rb\x1b[?62;22cc", "abc"),
            ("a\x1b]11;rgb:0000/0000/0000\x1b\\b\x1b]0;x\x07c", "abc"),
            ("a\x1bP>|XTerm(388)\x1b\\b\u{9b}5;5Rc\u{9d}0;x\u{9c}d", "abcd"),
            ("ab\x1b[D\x1bOAc", "abc"),
            ("a\x1b", "a"),
            ("a\x1b]not ended", "anot ended"),
            ("a\x1b[5;5é", "a5;5é"),
        ] {
            assert_eq!(without_replies(line), typed, "{line:?}");
        }
    }

    /// What is typed in all, with so long a pause between the keys.
    fn typed(keys: &[Key], pause: Duration) -> String {
        let (mut replies, mut now, mut all) = (Replies::default(), Instant::now(), String::new());
        for key in keys {
            now += pause;
            match (replies.key(*key, now), key) {
                (Verdict::Typed, Key::Char(c)) => all.push(*c),
                (Verdict::Give(text), _) => all += &text,
                _ => {}
            }
        }
        all
    }

    fn after(first: Key, text: &str) -> Vec<Key> {
        [first].into_iter().chain(text.chars().map(Key::Char)).collect()
    }

    #[test]
    fn keys_in_haste_may_be_an_answer_and_others_are_not() {
        let fast = Duration::from_millis(1);
        for (text, rest) in [
            (";1Rab", "ab"),
            ("R", ""),
            ("62;22cab", "ab"),
            ("2004;1$yx", "x"),
            ("5; 7R", "5; 7R"),
            ("ab", "ab"),
        ] {
            assert_eq!(typed(&after(Key::Unknown, text), fast), rest, "{text}");
            assert_eq!(typed(&after(Key::Unknown, text), HASTE), text, "typed slowly: {text}");
        }
        let colour = [after(Key::Alt(']'), "11;rgb:0/0/0"), vec![Key::Bell], after(Key::Other, "x")].concat();
        assert_eq!(typed(&colour, fast), "x");
        let long = "y".repeat(2 * LONGEST);
        assert_eq!(typed(&after(Key::Alt(']'), &long), fast), long);
    }
}
