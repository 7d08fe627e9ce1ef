//! A running conversation → the database, message by message, on threads of their own.
//!
//! The journal follows the conversation in memory: whatever was added there since the last call is written, in that order.
//! Where the database cannot be written, the changes wait and are tried again; what is left at the end is for the caller to save
//! elsewhere. A database that only takes its time keeps nobody waiting: meanwhile a file beside it takes the changes. Nothing
//! here is ever waited for but by [`Journal::flush`] and [`Journal::finish`].
//!
//! Read on in the order of the flow: change.rs, the words of the journal; progress.rs, what its threads share; writer.rs, the one
//! that writes into the database; aside.rs, the one that stands in.

mod aside;
mod change;
mod progress;
mod writer;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use self::aside::{is_waiting, take_in};
use self::change::Change;
use self::progress::Progress;
use super::database::{Number, fresh_id};
use crate::chat::record::{Answer, Entry, Record};
use crate::chat::{Conversation, Role};
use crate::clock::now;

/// How long leaving may wait for the disk.
const LAST: Duration = Duration::from_secs(2);

/// What a conversation is, besides its messages.
#[derive(Debug, Clone, Default)]
pub struct Heading {
    /// The id of a conversation that is in the database already, with the numbers of its messages.
    pub stored: Option<(String, Vec<Number>)>,
    /// `None`: made from the first message.
    pub title: Option<String>,
    /// As `-m` takes it.
    pub model: Option<String>,
}

impl Heading {
    /// Of a conversation out of the database.
    pub fn of(record: &Record, numbers: Vec<Number>) -> Heading {
        let (stored, title) = (Some((record.id.clone(), numbers)), Some(record.title.clone()));
        Heading { stored, title, model: record.model.clone() }
    }
}

/// Follows one conversation after the other.
pub struct Journal {
    progress: Arc<Progress>,
    /// The conversation's id in the database, where it may not be yet.
    id: String,
    heading: Heading,
    /// For every message of the conversation that was given to the threads, which one it was there.
    given: Vec<usize>,
    /// How many were given; also those that did not become messages, such as an answer that failed.
    count: usize,
    head: Option<usize>,
    system: Option<String>,
    begun: bool,
    /// An answer is being written: which one it is for the threads, and what it follows in the conversation.
    writing: Option<(usize, Option<usize>)>,
}

impl Journal {
    /// Begins to follow a conversation. The database is made when there is something to write.
    pub fn start(file: PathBuf, heading: Heading, conversation: &Conversation) -> Journal {
        let progress = Arc::new(Progress::default());
        let (for_writer, for_aside) = (progress.clone(), progress.clone());
        let beside = file.clone();
        std::thread::spawn(move || writer::run(file, &for_writer));
        std::thread::spawn(move || aside::run(&beside, &for_aside));
        let mut journal = Journal {
            progress,
            id: String::new(),
            heading: Heading::default(),
            given: Vec::new(),
            count: 0,
            head: None,
            system: None,
            begun: false,
            writing: None,
        };
        journal.turn_to(heading, conversation);
        journal
    }

    /// From now on follows another conversation, of which what is in `heading.stored` is in the database already.
    pub fn turn_to(&mut self, heading: Heading, conversation: &Conversation) {
        self.id = heading.stored.as_ref().map_or_else(fresh_id, |(id, _)| id.clone());
        self.begun = heading.stored.is_some();
        self.count = heading.stored.as_ref().map_or(0, |(_, numbers)| numbers.len());
        self.given = (0..self.count).collect();
        self.head = conversation.head().map(Conversation::number).filter(|_| self.begun);
        self.system = conversation.system.clone();
        self.writing = None;
        if let Some((id, numbers)) = heading.stored.clone() {
            self.send(Change::Turn { id, numbers });
        }
        self.heading = heading;
    }

    /// The id of the conversation that is followed.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Whether it has a place in the database, or will have one.
    pub fn has_begun(&self) -> bool {
        self.begun
    }

    /// Writes what is new in the conversation.
    pub fn follow(&mut self, conversation: &Conversation) {
        if self.progress.take_gone() {
            self.begin_anew();
        }
        if conversation.count() == 0 {
            self.system.clone_from(&conversation.system);
            return; // nothing was said yet
        }
        self.begin(conversation);
        if self.system != conversation.system {
            self.system.clone_from(&conversation.system);
            self.send(Change::System(self.system.clone()));
        }
        for number in self.given.len()..conversation.count() {
            let entry = conversation.entry(number);
            match self.writing.take() {
                Some((place, parent)) if entry.role == Role::Assistant && parent == entry.parent => {
                    self.given.push(place);
                    let answer = entry.answer.unwrap_or_default();
                    self.send(Change::Update { place, text: entry.text, answer });
                }
                _ => {
                    self.given.push(self.count);
                    self.add(entry);
                }
            }
            self.head = Some(number);
        }
        let head = conversation.head().map(Conversation::number);
        if head != self.head {
            self.head = head;
            self.send(Change::Head(head.map(|number| self.given[number])));
        }
    }

    /// Writes an answer to the head as far as it has come.
    pub fn partial(&mut self, conversation: &Conversation, text: &str, answer: &Answer) {
        self.follow(conversation); // all of it may have to be given again
        let parent = conversation.head().map(Conversation::number);
        match self.writing {
            Some((place, before)) if before == parent => {
                self.send(Change::Update { place, text: text.into(), answer: answer.clone() });
            }
            _ => {
                self.writing = Some((self.count, parent));
                let (text, answer) = (text.to_string(), Some(answer.clone()));
                let (role, attachments, created) = (Role::Assistant, Vec::new(), Some(now()));
                self.add(Entry { parent, role, text, attachments, created, answer });
            }
        }
    }

    fn add(&mut self, entry: Entry) {
        self.count += 1;
        let parent = entry.parent.map(|number| self.given[number]);
        self.send(Change::Add(Entry { parent, ..entry }));
    }

    pub fn set_title(&mut self, title: &str) {
        self.heading.title = Some(title.to_string());
        if self.begun {
            self.send(Change::Title(title.into()));
        }
    }

    pub fn set_model(&mut self, model: Option<String>) {
        self.heading.model.clone_from(&model);
        if self.begun {
            self.send(Change::Model(model));
        }
    }

    fn begin(&mut self, conversation: &Conversation) {
        if std::mem::replace(&mut self.begun, true) {
            return;
        }
        let title = self.heading.title.clone().unwrap_or_else(|| conversation.entry(0).title());
        let model = self.heading.model.clone();
        self.system.clone_from(&conversation.system);
        let (id, system) = (self.id.clone(), self.system.clone());
        self.send(Change::Begin { id, title, system, model });
    }

    fn send(&self, change: Change) {
        self.progress.give(change);
    }

    /// What went wrong since this was asked last, a line each.
    pub fn troubles(&mut self) -> Vec<String> {
        self.progress.take_troubles()
    }

    /// Nothing of the conversation is in the database any more.
    fn begin_anew(&mut self) {
        self.id = fresh_id();
        self.heading.stored = None;
        self.begun = false;
        self.given.clear();
        self.count = 0;
        self.head = None;
        self.writing = None;
    }

    /// Waits until everything is on the disk or something went wrong, at most so long.
    pub fn flush(&mut self, most: Duration) {
        self.progress.wait(Instant::now() + most, |state| state.is_kept() || state.is_in_trouble());
    }

    /// The end: tries once more to write what could not be written. `false`: something is left.
    pub fn finish(&mut self, conversation: &Conversation) -> bool {
        let deadline = Instant::now() + LAST;
        loop {
            self.follow(conversation);
            let tries = self.progress.try_again();
            self.progress.wait(deadline, |state| state.is_kept() || state.gone || state.tries >= tries);
            if !self.progress.is(|state| state.gone) || Instant::now() >= deadline {
                return self.progress.is(|state| state.is_kept() && !state.gone);
            } // else all of it is given again
        }
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.progress.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::Message;
    use crate::history::database::Conversations;

    fn texts(file: &std::path::Path) -> Vec<String> {
        let store = Conversations::existing(file).unwrap().unwrap();
        let summary = store.list(&Default::default()).unwrap().remove(0);
        let record = store.load(&summary.id).unwrap().unwrap().record;
        record.path().iter().map(|number| record.entries[*number].text.clone()).collect()
    }

    /// A journal of a conversation in which "hi" was said.
    fn begun() -> (tempfile::TempDir, PathBuf, Conversation, Journal) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("c.db");
        let mut conversation = Conversation::new(None);
        let mut journal = Journal::start(file.clone(), Heading::default(), &conversation);
        conversation.add(Message::new(Role::User, "hi"), None, None);
        journal.follow(&conversation);
        (folder, file, conversation, journal)
    }

    #[test]
    fn what_is_said_is_on_the_disk() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("c.db");
        let mut conversation = Conversation::new(None);
        let mut journal = Journal::start(file.clone(), Heading::default(), &conversation);
        journal.follow(&conversation);
        assert!(!file.exists(), "nothing was said");
        let question = conversation.add(Message::new(Role::User, "hi"), None, Some(1));
        journal.follow(&conversation);
        journal.flush(LAST);
        assert!(journal.troubles().is_empty());
        assert_eq!(texts(&file), ["hi"]);
        journal.partial(&conversation, "he", &Answer::default());
        journal.partial(&conversation, "hell", &Answer::default());
        journal.flush(LAST);
        assert!(journal.troubles().is_empty());
        assert_eq!(texts(&file), ["hi", "hell"]);
        conversation.add(Message::new(Role::Assistant, "hello"), Some(Answer::default()), Some(2));
        journal.follow(&conversation);
        conversation.move_to(Some(question));
        conversation.add(Message::new(Role::Assistant, "good day"), Some(Answer::default()), Some(3));
        journal.follow(&conversation);
        assert!(journal.finish(&conversation));
        assert_eq!(texts(&file), ["hi", "good day"]);
        let store = Conversations::existing(&file).unwrap().unwrap();
        assert_eq!(store.list(&Default::default()).unwrap()[0].messages, 3);
        assert_eq!(store.list(&Default::default()).unwrap()[0].title, "hi");
    }

    #[test]
    fn an_answer_that_failed_after_its_first_words_stays_a_branch() {
        let (_folder, file, mut conversation, mut journal) = begun();
        journal.partial(&conversation, "he", &Answer::default());
        conversation.move_to(None);
        journal.follow(&conversation);
        conversation.add(Message::new(Role::User, "again"), None, None);
        journal.follow(&conversation);
        assert!(journal.finish(&conversation));
        assert_eq!(texts(&file), ["again"]);
    }

    #[test]
    fn in_another_database_it_is_begun_anew() {
        let (_folder, file, mut conversation, mut journal) = begun();
        journal.flush(LAST);
        std::fs::remove_file(&file).unwrap(); // or moved aside by another program
        conversation.add(Message::new(Role::Assistant, "hello"), Some(Answer::default()), None);
        journal.follow(&conversation);
        assert!(journal.finish(&conversation));
        assert_eq!(texts(&file), ["hi", "hello"]);
        std::fs::remove_file(&file).unwrap();
        journal.partial(&conversation, "as", &Answer::default());
        journal.flush(LAST);
        journal.partial(&conversation, "as you", &Answer::default());
        assert!(journal.finish(&conversation));
        assert_eq!(texts(&file), ["hi", "hello", "as you"]);
    }

    #[test]
    fn after_damage_what_was_kept_and_what_comes_are_in_the_new_database() {
        let (_folder, file, mut conversation, mut journal) = begun();
        assert!(journal.finish(&conversation));
        let mut bytes = std::fs::read(&file).unwrap();
        bytes[..100].fill(7);
        std::fs::write(&file, bytes).unwrap();
        let (mut other, note) = Conversations::open(&file).unwrap(); // another program sees it first
        assert!(note.is_some());
        other.begin("0", "other", None, None, 1).unwrap();
        conversation.add(Message::new(Role::Assistant, "hello"), Some(Answer::default()), None);
        journal.follow(&conversation);
        assert!(journal.finish(&conversation), "{:?}", journal.troubles());
        assert_eq!(texts(&file), ["hi", "hello"]);
    }

    #[test]
    fn where_nothing_can_be_written_it_says_so_once_and_at_the_end() {
        let mut conversation = Conversation::new(None);
        let mut journal = Journal::start("/proc/no/such/place.db".into(), Heading::default(), &conversation);
        conversation.add(Message::new(Role::User, "hi"), None, None);
        journal.follow(&conversation);
        journal.flush(LAST);
        assert_eq!(journal.troubles().len(), 1);
        conversation.add(Message::new(Role::Assistant, "hello"), None, None);
        journal.follow(&conversation);
        assert!(!journal.finish(&conversation));
    }
}
