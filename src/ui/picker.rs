//! A list on the terminal → the chosen row: arrows move, typing filters, Enter selects, Esc cancels.
//!
//! Uses the alternate screen, so that it leaves no trace. Computes the descriptions of rows on demand.

use std::fs::File;
use std::io::{self, Write};
use std::time::Duration;

use super::keys::Key;
use super::sanitize;
use super::table::{cut, squeezed};
use super::terminal::{OwnScreen, size, suspensions};
use super::typing::{MOST, Waited, edit, next};
use super::wrap::{TextKind, width, wrapped};

/// How often to check for a resized window.
const PATIENCE: Duration = Duration::from_millis(100);
/// Shortest text that can match an id: shorter ones match titles only.
const SHORTEST_ID: usize = 3;
/// Key help; as many entries as fit.
const KEYS: [&str; 4] = ["Enter selects", "Esc cancels", "arrows move", "typing filters"];
/// Most rows of the question and the typed filter.
const ROWS_OF_QUESTION: usize = 3;

/// One row.
#[derive(Debug, Clone, Default)]
pub struct Choice {
    pub title: String,
    /// Whether the title is a name: shortening keeps its end.
    pub name: bool,
    /// An id that the filter matches by prefix; empty: none.
    pub id: String,
    pub listed: Listed,
}

/// When a row is in the list.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Listed {
    #[default]
    Always,
    /// While nothing is typed.
    Unfiltered,
    /// While something is typed.
    Filtered,
}

/// A question with its rows.
#[derive(Default)]
pub struct Question<'a> {
    pub text: &'a str,
    pub rows: &'a [Choice],
    /// Describes a row by its index: its second line, and the text to filter by; `None`: rows have one line.
    pub about: Option<Describe<'a>>,
    /// Draws a row by its index, at most so many columns wide; `None`: the title alone is shown.
    pub line: Option<&'a dyn Fn(usize, usize) -> String>,
    /// The index of the row that is selected first.
    pub at: usize,
}

pub type Describe<'a> = &'a mut dyn FnMut(usize) -> (String, String);

/// The index of the chosen row; `None`: cancelled.
pub(super) fn pick(terminal: File, question: Question) -> io::Result<Option<usize>> {
    let own = OwnScreen::new(terminal);
    let mut list = List::new(question);
    let mut shown = None;
    loop {
        let window = (size(own.terminal()), suspensions());
        if shown != Some(window) {
            let (columns, rows) = window.0.unwrap_or((80, 24));
            own.terminal().write_all(list.drawn(columns, rows).as_bytes())?;
            shown = Some(window);
        }
        match next(own.terminal(), None, Some(PATIENCE), MOST) {
            Waited::Nothing => {}
            Waited::End => return Ok(None),
            Waited::Key(Key::Esc | Key::Ctrl('c' | 'g')) => return Ok(None),
            Waited::Key(Key::Ctrl('d')) if list.typed.is_empty() => return Ok(None),
            Waited::Key(Key::Enter | Key::NewLine | Key::Ctrl('j')) => {
                if let Some(place) = list.found.get(list.at) {
                    return Ok(Some(*place));
                }
            }
            Waited::Key(key) => {
                list.key(key);
                shown = None;
            }
        }
    }
}

struct List<'a> {
    question: Question<'a>,
    /// The descriptions computed so far.
    about: Vec<Option<(String, String)>>,
    /// The titles in lower case, once something is typed.
    titles: Vec<String>,
    typed: String,
    /// Indices of the rows that match the filter.
    found: Vec<usize>,
    /// The places in `found` of the selected row and of the first row on the screen.
    at: usize,
    top: usize,
    /// The number of rows that fit on the screen.
    page: usize,
}

impl List<'_> {
    fn new(question: Question) -> List {
        let (about, selected) = (vec![None; question.rows.len()], question.at);
        let (titles, typed, found) = (Vec::new(), String::new(), Vec::new());
        let mut list = List { question, about, titles, typed, found, at: 0, top: 0, page: 1 };
        list.find(selected);
        list
    }

    fn key(&mut self, key: Key) {
        let last = self.found.len().saturating_sub(1);
        match key {
            Key::Up | Key::Ctrl('p') => self.at = self.at.saturating_sub(1),
            Key::Down | Key::Ctrl('n') => self.at = (self.at + 1).min(last),
            Key::PageUp => self.at = self.at.saturating_sub(self.page),
            Key::PageDown => self.at = (self.at + self.page).min(last),
            Key::Home => self.at = 0,
            Key::End => self.at = last,
            key => self.filter(key),
        }
    }

    /// Changes the filter. The selected row stays selected if it still matches.
    fn filter(&mut self, key: Key) {
        let chosen = self.found.get(self.at).copied();
        edit(&mut self.typed, key);
        self.find(chosen.unwrap_or(0));
    }

    /// Finds the rows that match the filter. Selects the row `chosen`; if it is not among them, the one above
    /// it in the whole list, and the first one in a filtered list.
    fn find(&mut self, chosen: usize) {
        let typed = self.typed.to_lowercase();
        let words: Vec<&str> = typed.split_whitespace().collect();
        if !words.is_empty() && self.titles.is_empty() {
            self.titles = self.question.rows.iter().map(|row| row.title.to_lowercase()).collect();
        }
        let mut found: Vec<usize> = self.listed().collect();
        found.retain(|place| words.is_empty() || self.has(*place, &words));
        self.found = found;
        let same = self.found.iter().position(|place| *place == chosen);
        let above = || self.found.iter().rposition(|place| *place < chosen).filter(|_| words.is_empty());
        self.at = same.or_else(above).unwrap_or(0);
    }

    fn has(&mut self, place: usize, words: &[&str]) -> bool {
        let (title, id) = (&self.titles[place], self.question.rows[place].id.to_lowercase());
        let missing: Vec<&&str> = words
            .iter()
            .filter(|word| !title.contains(**word))
            .filter(|word| word.chars().count() < SHORTEST_ID || !id.starts_with(**word))
            .collect();
        missing.is_empty() || {
            let about = self.about(place).1.to_lowercase();
            missing.iter().all(|word| about.contains(**word))
        }
    }

    /// The rows that are in the list now, or that the filter may find.
    fn listed(&self) -> impl Iterator<Item = usize> + use<'_> {
        let elsewhere = if self.typed.trim().is_empty() { Listed::Filtered } else { Listed::Unfiltered };
        let rows = self.question.rows.iter().enumerate();
        rows.filter(move |(_, row)| row.listed != elsewhere).map(|(place, _)| place)
    }

    fn about(&mut self, place: usize) -> &(String, String) {
        let asked = &mut self.question.about;
        self.about[place].get_or_insert_with(|| asked.as_mut().map(|about| about(place)).unwrap_or_default())
    }

    /// The screen's contents. Turns line wrapping off: terminals disagree about the width of some characters.
    fn drawn(&mut self, columns: usize, rows: usize) -> String {
        let asked = sanitize(&format!("{} {}", self.question.text, self.typed)).replace(['\n', '\t'], " ");
        let asked = wrapped(&asked, TextKind::Prose, columns);
        let asked: Vec<&str> = asked.split('\n').collect();
        // What is typed stands last.
        let more = if self.typed.is_empty() { 0 } else { asked.len().saturating_sub(ROWS_OF_QUESTION) };
        let asked: Vec<&str> = asked.into_iter().skip(more).take(ROWS_OF_QUESTION).collect();
        let each = if self.question.about.is_some() { 2 } else { 1 };
        self.page = (rows.saturating_sub(asked.len() + 1) / each).max(1);
        self.top = self.top.clamp((self.at + 1).saturating_sub(self.page), self.at);
        let line = |indent: &str, text: &str, cut: fn(&str, usize) -> String| {
            let text = sanitize(text).replace(['\n', '\t'], " ");
            format!("{indent}{}", cut(&text, columns.saturating_sub(indent.len())))
        };
        let mut screen = format!("\x1b[?7l\x1b[H\x1b[J{}", "\r\n".repeat(asked.len() - 1));
        for number in self.top..self.found.len().min(self.top + self.page) {
            let place = self.found[number];
            let (mark, on, off) =
                if number == self.at { ("> ", "\x1b[7m", "\x1b[m") } else { ("  ", "", "") };
            let Choice { title, name, .. } = &self.question.rows[place];
            let title = match self.question.line {
                Some(drawn) => line(mark, &drawn(place, columns.saturating_sub(mark.len())), cut),
                None => line(mark, title, if *name { squeezed } else { cut }),
            };
            screen += &format!("\r\n{on}{title}{off}");
            if each > 1 {
                let about = self.about(place).0.clone();
                screen += &format!("\r\n{}", line("    ", &about, cut));
            }
        }
        let count = format!("{} of {}", self.found.len(), self.listed().count());
        let helps = (0..=KEYS.len()).rev().map(|most| match most {
            0 => count.clone(),
            most => format!("{count}; {}", KEYS[..most].join(", ")),
        });
        let help = helps.into_iter().find(|help| width(help) <= columns).unwrap_or_default();
        screen += &format!("\x1b[{rows};1H{help}");
        screen + &format!("\x1b[H{}\x1b[?7h", asked.join("\r\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(titles: &[&str]) -> Vec<Choice> {
        titles
            .iter()
            .map(|title| Choice { title: title.to_string(), id: "3fa90011".into(), ..Choice::default() })
            .collect()
    }

    #[test]
    fn what_is_typed_is_shown_below_a_long_question() {
        let rows = rows(&["One"]);
        let text = "A question of many words that needs more rows than it gets";
        let mut list = List::new(Question { text, rows: &rows, ..Question::default() });
        assert!(list.drawn(20, 8).contains("A question of many"));
        list.key(Key::Char('o'));
        assert!(list.drawn(20, 8).contains("gets o"), "{}", list.drawn(20, 8));
    }

    #[test]
    fn what_is_said_about_a_row_is_asked_for_only_when_it_matters() {
        let rows = rows(&["One", "Two", "Three", "Four"]);
        let mut asked = Vec::new();
        let mut about = |place| {
            asked.push(place);
            (String::new(), format!("about {place}"))
        };
        let mut list = List::new(Question {
            text: "Which?",
            rows: &rows,
            about: Some(&mut about),
            ..Question::default()
        });
        list.drawn(80, 6);
        list.key(Key::End);
        list.drawn(80, 6);
        for c in "3FA9".chars() {
            list.key(Key::Char(c));
        }
        assert_eq!(list.found.len(), 4, "all have this id");
        list.key(Key::Ctrl('u'));
        list.key(Key::Pasted("ABOUT\n1".into()));
        assert_eq!(list.found, [1]);
        assert_eq!(asked, [0, 1, 2, 3], "each once, the visible ones first");
    }
}
