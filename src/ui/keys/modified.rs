//! The parameters and the final byte of an escape sequence → a key with its modifiers.

use super::{First, Key, first};
use crate::ui::acts;

/// The modifier keys held with a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Modifiers {
    shift: bool,
    alt: bool,
    ctrl: bool,
    /// Super, Hyper or Meta.
    other: bool,
}

impl Modifiers {
    pub(super) const CTRL: Modifiers = Modifiers { shift: false, alt: false, ctrl: true, other: false };

    /// From a terminal's number: 1 plus a bit for each modifier. Caps Lock and Num Lock do not count.
    pub(super) fn from(number: u32) -> Modifiers {
        let bits = number.saturating_sub(1);
        Modifiers { shift: bits & 1 > 0, alt: bits & 2 > 0, ctrl: bits & 4 > 0, other: bits & 0b11_1000 > 0 }
    }

    /// Whether an arrow moves by words.
    fn word(self) -> bool {
        self.ctrl || self.alt || self.other
    }
}

pub(super) fn meaning(parameters: &str, letter: u8) -> First {
    let fields: Vec<Vec<Option<u32>>> = parameters
        .split(';')
        .map(|field| field.split(':').map(|number| number.parse().ok()).collect())
        .collect();
    let number = |field: usize, part: usize| *fields.get(field)?.get(part)?;
    if parameters.starts_with(['<', '=', '>', '?']) || number(1, 1) == Some(3) {
        return First::Nothing; // a reply, or the release of a key
    }
    let held = Modifiers::from(number(1, 0).unwrap_or(1));
    match (letter, number(0, 0)) {
        (b'A'..=b'H', None | Some(1)) => arrow(letter, held),
        (b'a'..=b'd', None) => arrow(letter.to_ascii_uppercase(), held),
        (b'~', Some(27)) => number(2, 0).map_or(First::Nothing, |code| coded(code, None, held)),
        (b'~', Some(200)) => First::Paste,
        (b'~' | b'$', Some(number)) => numbered(number, held),
        (b'^' | b'@', Some(number)) => numbered(number, Modifiers { ctrl: true, ..held }),
        // On a non-Latin layout, the third number is the key's Latin letter, which counts with Ctrl.
        (b'u', Some(code)) if held.ctrl => coded(number(0, 2).unwrap_or(code), None, held),
        (b'u', Some(code)) => coded(code, number(0, 1), held),
        _ => First::Nothing,
    }
}

pub(super) fn arrow(letter: u8, held: Modifiers) -> First {
    named(
        match letter {
            b'A' => Key::Up,
            b'B' => Key::Down,
            b'C' => Key::Right,
            b'D' => Key::Left,
            b'F' => Key::End,
            b'H' => Key::Home,
            _ => return First::Nothing,
        },
        held,
    )
}

fn numbered(number: u32, held: Modifiers) -> First {
    named(
        match number {
            1 | 7 => Key::Home,
            3 => Key::Delete,
            4 | 8 => Key::End,
            5 => Key::PageUp,
            6 => Key::PageDown,
            _ => return First::Nothing,
        },
        held,
    )
}

fn named(key: Key, held: Modifiers) -> First {
    First::Key(match key {
        Key::Left if held.word() => Key::WordLeft,
        Key::Right if held.word() => Key::WordRight,
        Key::Delete if held.word() => Key::DeleteWord,
        Key::Up | Key::Down | Key::PageUp | Key::PageDown if held.word() => return First::Nothing,
        key => key,
    })
}

/// A key by its character code; `shifted`: the code with Shift.
fn coded(code: u32, shifted: Option<u32>, held: Modifiers) -> First {
    let with_any = held.word() || held.shift;
    let key = match code {
        13 | 57414 => return First::Key(if with_any { Key::NewLine } else { Key::Enter }),
        8 | 127 if held.word() => Key::BackspaceWord,
        8 | 127 => Key::Backspace,
        9 if !with_any => Key::Tab,
        27 if !held.word() => Key::Esc,
        0..32 => return First::Nothing,
        57399..=57408 => Key::Char(char::from_digit(code - 57399, 10).unwrap_or('0')),
        57409..=57413 => Key::Char(b"./*-+"[(code - 57409) as usize] as char),
        57415 => Key::Char('='),
        57416 => Key::Char(','),
        57417..=57424 => {
            let keys = [Key::Left, Key::Right, Key::Up, Key::Down];
            let more = [Key::PageUp, Key::PageDown, Key::Home, Key::End];
            let key = keys.into_iter().chain(more).nth((code - 57417) as usize);
            return key.map_or(First::Nothing, |key| named(key, held));
        }
        57426 => return named(Key::Delete, held),
        57344..=63743 => return First::Nothing, // keys without a character
        code => match char::from_u32(code).filter(|c| !acts(*c)) {
            Some(c) => return lettered(c, shifted.and_then(char::from_u32), held),
            None => return First::Nothing,
        },
    };
    First::Key(key)
}

fn lettered(c: char, shifted: Option<char>, held: Modifiers) -> First {
    let upper = || shifted.unwrap_or_else(|| c.to_uppercase().next().unwrap_or(c));
    match held {
        Modifiers { other: true, .. } => First::Nothing,
        Modifiers { ctrl: true, alt: false, shift: false, .. } => match c.to_ascii_lowercase() {
            c @ ('a'..='z' | '\\' | ']' | '^' | '_') => {
                first(&[c as u8 & 0x1f]).map_or(First::Nothing, |(_, key)| key)
            }
            '[' => First::Key(Key::Esc),
            _ => First::Nothing,
        },
        Modifiers { ctrl: true, .. } => First::Nothing,
        Modifiers { alt: true, shift, .. } => First::Key(Key::Alt(if shift { upper() } else { c })),
        Modifiers { shift: true, .. } => First::Key(Key::Char(upper())),
        _ => First::Key(Key::Char(c)),
    }
}
