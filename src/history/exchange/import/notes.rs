//! Notices about an imported conversation: each one once, with a count.

use crate::chat::record::Record;

/// A conversation that was read.
#[derive(Debug, Clone, PartialEq)]
pub struct Imported {
    /// Its ids are the same at every import.
    pub record: Record,
    /// What was omitted, and what was kept without being understood.
    pub notes: Vec<String>,
}

/// Maximum number of different notes per conversation; the others are only counted.
const MOST: usize = 20;
/// Maximum length of a quoted word, in characters.
const LONGEST: usize = 60;

/// In the order of their first appearance.
#[derive(Debug, Default)]
pub(super) struct Notes {
    notes: Vec<(String, usize)>,
    more: usize,
}

impl Notes {
    pub(super) fn add(&mut self, note: impl Into<String>) {
        let note = note.into();
        let full = self.notes.len() >= MOST;
        match self.notes.iter_mut().find(|(known, _)| *known == note) {
            Some((_, times)) => *times += 1,
            None if full => self.more += 1,
            None => self.notes.push((note, 1)),
        }
    }

    pub(super) fn finish(self) -> Vec<String> {
        let said = |(note, times)| if times == 1 { note } else { format!("{note} ({times} times)") };
        let more = (self.more > 0).then(|| format!("and {} more of this kind", self.more));
        self.notes.into_iter().map(said).chain(more).collect()
    }
}

/// A word from a file, safe to display.
pub(super) fn quoted(word: &str) -> String {
    let mut shown: String = word.trim().chars().filter(|c| !c.is_control()).take(LONGEST + 1).collect();
    if shown.chars().count() > LONGEST {
        shown.pop();
        shown.push('…');
    }
    format!("'{shown}'")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_are_counted_and_not_without_end() {
        let mut notes = Notes::default();
        for n in 0..100 {
            notes.add(format!("{}", n % 30));
        }
        let notes = notes.finish();
        assert_eq!((notes.len(), notes[0].as_str()), (MOST + 1, "0 (4 times)"));
        assert_eq!(notes[MOST], "and 30 more of this kind");
        assert_eq!(quoted(" a\x1b\nb "), "'ab'");
        assert_eq!(quoted(&"x".repeat(100)).chars().count(), LONGEST + 3);
    }
}
