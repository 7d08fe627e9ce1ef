//! A running conversation → the database, message by message, on a thread of its own.
//!
//! The journal follows the conversation in memory: whatever was added there since the last call is written, in that order.
//! Where the database cannot be written, the changes wait and are tried again with the next one; what is left at the end is
//! for the caller to save elsewhere. Nothing here is ever waited for but by [`Journal::settle`] and [`Journal::finish`].

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::sys::statvfs::statvfs;

use super::conversations::{Conversations, Number, Trouble, fresh_id};
use crate::chat::record::{Answer, Entry, title_from};
use crate::chat::{Conversation, Role};

/// How long leaving may wait for the disk.
const LAST: Duration = Duration::from_secs(2);

/// Milliseconds since 1970.
pub fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}

/// What a conversation is, besides its messages.
#[derive(Debug, Clone, Default)]
pub struct Heading {
    /// The id of a conversation that is in the database already, with the numbers of its messages.
    pub stored: Option<(String, Vec<Number>)>,
    /// `None`: made from the first message.
    pub title: Option<String>,
    /// As `-m` takes it.
    pub model: Option<String>,
    /// Whether it is a chat, which `--continue` would go on with.
    pub interactive: bool,
}

/// Follows one conversation after the other.
pub struct Journal {
    changes: Sender<Change>,
    told: Receiver<Told>,
    /// The conversation's id in the database, where it may not be yet.
    id: String,
    heading: Heading,
    /// For every message of the conversation that the thread was given, which one it was there.
    given: Vec<usize>,
    /// How many the thread was given; also those that did not become messages, such as an answer that failed.
    count: usize,
    head: Option<usize>,
    system: Option<String>,
    begun: bool,
    /// An answer is being written: which one it is for the thread, and what it follows in the conversation.
    writing: Option<(usize, Option<usize>)>,
    /// Changes sent and not yet on the disk.
    open: usize,
    troubles: Vec<String>,
}

enum Change {
    /// A conversation that is in the database already is followed from here on. Nothing is written.
    Turn {
        id: String,
        numbers: Vec<Number>,
    },
    Begin {
        id: String,
        heading: Heading,
        system: Option<String>,
        title: String,
    },
    /// The parent is counted as the thread counts.
    Add(Entry),
    Update {
        place: usize,
        text: String,
        answer: Answer,
    },
    Head(Option<usize>),
    System(Option<String>),
    Title(String),
    Model(Option<String>),
    /// Answers `Told::Left` when everything before it was tried.
    Finish,
}

enum Told {
    Written,
    /// One line, each reason once.
    Trouble(String),
    /// The database is another one, and the conversation is not in it: all of it is to be given again.
    Gone,
    /// Changes that could not be written.
    Left(usize),
}

impl Journal {
    /// Begins to follow a conversation. The database is opened when there is something to write.
    pub fn start(file: PathBuf, heading: Heading, conversation: &Conversation) -> Journal {
        let (changes, inbox) = channel();
        let (teller, told) = channel();
        std::thread::spawn(move || Writer::new(file, teller).run(&inbox));
        let mut journal = Journal {
            changes,
            told,
            id: String::new(),
            heading: Heading::default(),
            given: Vec::new(),
            count: 0,
            head: None,
            system: None,
            begun: false,
            writing: None,
            open: 0,
            troubles: Vec::new(),
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
            let _ = self.changes.send(Change::Turn { id, numbers }); // nothing that has to be waited for
        }
        self.heading = heading;
    }

    /// The id of the conversation that is followed.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Writes what is new in the conversation.
    pub fn follow(&mut self, conversation: &Conversation) {
        while let Ok(told) = self.told.try_recv() {
            self.hear(told);
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
        let first = conversation.entry(0);
        let said = if first.text.trim().is_empty() {
            first.attachments.first().map_or("", |a| &a.name)
        } else {
            &first.text
        };
        let title = self.heading.title.clone().unwrap_or_else(|| title_from(said));
        let (id, heading, system) = (self.id.clone(), self.heading.clone(), conversation.system.clone());
        self.system.clone_from(&system);
        self.send(Change::Begin { id, heading, system, title });
    }

    fn send(&mut self, change: Change) {
        self.open += 1;
        let _ = self.changes.send(change); // the thread lives as long as this does
    }

    /// What went wrong since this was asked last, a line each.
    pub fn troubles(&mut self) -> Vec<String> {
        while let Ok(told) = self.told.try_recv() {
            self.hear(told);
        }
        std::mem::take(&mut self.troubles)
    }

    fn hear(&mut self, told: Told) {
        match told {
            Told::Written => self.open = self.open.saturating_sub(1),
            Told::Trouble(line) => self.troubles.push(line),
            Told::Gone => self.begin_anew(),
            Told::Left(_) => {}
        }
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
    pub fn settle(&mut self, most: Duration) {
        let deadline = Instant::now() + most;
        while self.open > 0 && self.troubles.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(told) = self.told.recv_timeout(left) else { break };
            self.hear(told);
        }
    }

    /// The end: tries once more to write what could not be written. `false`: something is left.
    pub fn finish(&mut self, conversation: &Conversation) -> bool {
        let deadline = Instant::now() + LAST;
        self.follow(conversation);
        if self.open == 0 {
            return true; // however long the database is being looked over
        }
        loop {
            self.follow(conversation);
            self.send(Change::Finish);
            let left = loop {
                match self.told.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                    Ok(Told::Left(left)) => break left,
                    Ok(told) => self.hear(told),
                    Err(_) => return false,
                }
            };
            if self.begun || conversation.count() == 0 {
                return left == 0;
            } // else it turned out to be gone meanwhile
        }
    }
}

/// The thread's side.
struct Writer {
    file: PathBuf,
    told: Sender<Told>,
    store: Option<Conversations>,
    waiting: VecDeque<Change>,
    /// The conversation that is followed, and the numbers of its messages in the database.
    id: String,
    numbers: Vec<Number>,
    /// It is in no database any more: what belongs to it is given again after another beginning.
    gone: bool,
    complained: Option<String>,
}

impl Writer {
    fn new(file: PathBuf, told: Sender<Told>) -> Writer {
        let (store, waiting, numbers) = (None, VecDeque::new(), Vec::new());
        Writer { file, told, store, waiting, id: String::new(), numbers, gone: false, complained: None }
    }

    fn run(mut self, changes: &Receiver<Change>) {
        if self.file.exists() {
            self.store = self.open().ok(); // looked over while nobody waits; what is wrong is said when something is kept
        }
        while let Ok(change) = changes.recv() {
            let finish = matches!(change, Change::Finish);
            if !finish {
                self.waiting.push_back(change);
            }
            while let Some(change) = self.waiting.pop_front() {
                match self.write(&change) {
                    Ok(()) if matches!(change, Change::Turn { .. }) => {}
                    Ok(()) => self.tell(Told::Written),
                    Err(trouble) => {
                        self.waiting.push_front(change);
                        self.complain(&trouble);
                        break;
                    }
                }
            }
            if finish {
                self.tell(Told::Left(self.waiting.len()));
            }
        }
    }

    fn tell(&self, told: Told) {
        let _ = self.told.send(told); // whoever asked may be gone
    }

    fn complain(&mut self, trouble: &Trouble) {
        if matches!(trouble, Trouble::Damaged) {
            self.store = None; // opening it again moves it aside
        }
        let full = self.file.ancestors().find_map(|folder| statvfs(folder).ok());
        let line = match full.is_some_and(|disk| disk.blocks_available() == 0) {
            true => "this conversation is not being kept: the disk is full".into(),
            false => format!("this conversation is not being kept: {trouble}"),
        };
        if self.complained.as_ref() != Some(&line) {
            self.tell(Told::Trouble(line.clone()));
            self.complained = Some(line);
        }
    }

    /// Opens the database that is at its place now. In another one than before, the conversation may not be.
    fn open(&mut self) -> Result<Conversations, Trouble> {
        let (store, note) = Conversations::open(&self.file)?;
        note.into_iter().for_each(|note| self.tell(Told::Trouble(note)));
        if !self.numbers.is_empty() && !self.gone && !store.holds(&self.id, &self.numbers)? {
            self.gone = true;
            self.tell(Told::Gone);
        }
        Ok(store)
    }

    fn write(&mut self, change: &Change) -> Result<(), Trouble> {
        let mut store = match self.store.take().filter(Conversations::is_in_place) {
            Some(store) => store,
            None => self.open()?,
        };
        let done = self.write_to(&mut store, change);
        self.store = Some(store);
        done
    }

    fn write_to(&mut self, store: &mut Conversations, change: &Change) -> Result<(), Trouble> {
        let real = |number: &usize| self.numbers.get(*number).copied();
        match change {
            Change::Turn { id, numbers } => {
                self.gone = false;
                self.id.clone_from(id);
                self.numbers.clone_from(numbers);
            }
            Change::Begin { id, heading, system, title } => {
                let Heading { model, interactive, .. } = heading;
                store.begin(id, title, system.as_deref(), model.as_deref(), *interactive, now())?;
                self.gone = false;
                self.id.clone_from(id);
                self.numbers.clear();
            }
            _ if self.gone => {}
            Change::Add(entry) => {
                let parent = entry.parent.as_ref().and_then(real);
                let number = store.add(&self.id, parent, entry, now())?;
                self.numbers.push(number);
            }
            Change::Update { place, text, answer } => {
                if let Some(number) = real(place) {
                    store.update(number, text, answer)?;
                }
            }
            Change::Head(head) => store.move_head(&self.id, head.as_ref().and_then(real))?,
            Change::System(system) => store.set_system(&self.id, system.as_deref())?,
            Change::Title(title) => store.set_title(&self.id, title)?,
            Change::Model(model) => store.set_model(&self.id, model.as_deref())?,
            Change::Finish => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::Message;

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
        let mut talk = Conversation::new(None);
        let mut journal = Journal::start(file.clone(), Heading::default(), &talk);
        talk.add(Message::new(Role::User, "hi"), None, None);
        journal.follow(&talk);
        (folder, file, talk, journal)
    }

    #[test]
    fn what_is_said_is_on_the_disk() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("c.db");
        let mut talk = Conversation::new(None);
        let mut journal = Journal::start(file.clone(), Heading::default(), &talk);
        journal.follow(&talk);
        assert!(!file.exists(), "nothing was said");
        let question = talk.add(Message::new(Role::User, "hi"), None, Some(1));
        journal.follow(&talk);
        journal.settle(LAST);
        assert!(journal.troubles().is_empty());
        assert_eq!(texts(&file), ["hi"]);
        journal.partial(&talk, "he", &Answer::default());
        journal.partial(&talk, "hell", &Answer::default());
        journal.settle(LAST);
        assert!(journal.troubles().is_empty());
        assert_eq!(texts(&file), ["hi", "hell"]);
        talk.add(Message::new(Role::Assistant, "hello"), Some(Answer::default()), Some(2));
        journal.follow(&talk);
        talk.move_to(Some(question));
        talk.add(Message::new(Role::Assistant, "good day"), Some(Answer::default()), Some(3));
        journal.follow(&talk);
        assert!(journal.finish(&talk));
        assert_eq!(texts(&file), ["hi", "good day"]);
        let store = Conversations::existing(&file).unwrap().unwrap();
        assert_eq!(store.list(&Default::default()).unwrap()[0].messages, 3);
        assert_eq!(store.list(&Default::default()).unwrap()[0].title, "hi");
    }

    #[test]
    fn an_answer_that_failed_after_its_first_words_stays_a_branch() {
        let (_folder, file, mut talk, mut journal) = begun();
        journal.partial(&talk, "he", &Answer::default());
        talk.move_to(None);
        journal.follow(&talk);
        talk.add(Message::new(Role::User, "again"), None, None);
        journal.follow(&talk);
        assert!(journal.finish(&talk));
        assert_eq!(texts(&file), ["again"]);
    }

    #[test]
    fn in_another_database_it_is_begun_anew() {
        let (_folder, file, mut talk, mut journal) = begun();
        journal.settle(LAST);
        std::fs::remove_file(&file).unwrap(); // or moved aside by another program
        talk.add(Message::new(Role::Assistant, "hello"), Some(Answer::default()), None);
        journal.follow(&talk);
        assert!(journal.finish(&talk));
        assert_eq!(texts(&file), ["hi", "hello"]);
        std::fs::remove_file(&file).unwrap();
        journal.partial(&talk, "as", &Answer::default());
        journal.settle(LAST);
        journal.partial(&talk, "as you", &Answer::default());
        assert!(journal.finish(&talk));
        assert_eq!(texts(&file), ["hi", "hello", "as you"]);
    }

    #[test]
    fn after_damage_what_was_kept_and_what_comes_are_in_the_new_database() {
        let (_folder, file, mut talk, mut journal) = begun();
        assert!(journal.finish(&talk));
        let mut bytes = std::fs::read(&file).unwrap();
        bytes[..100].fill(7);
        std::fs::write(&file, bytes).unwrap();
        let (mut other, note) = Conversations::open(&file).unwrap(); // another program sees it first
        assert!(note.is_some());
        other.begin("0", "other", None, None, false, 1).unwrap();
        talk.add(Message::new(Role::Assistant, "hello"), Some(Answer::default()), None);
        journal.follow(&talk);
        assert!(journal.finish(&talk), "{:?}", journal.troubles());
        assert_eq!(texts(&file), ["hi", "hello"]);
    }

    #[test]
    fn where_nothing_can_be_written_it_says_so_once_and_at_the_end() {
        let mut talk = Conversation::new(None);
        let mut journal = Journal::start("/proc/no/such/place.db".into(), Heading::default(), &talk);
        talk.add(Message::new(Role::User, "hi"), None, None);
        journal.follow(&talk);
        journal.settle(LAST);
        assert_eq!(journal.troubles().len(), 1);
        talk.add(Message::new(Role::Assistant, "hello"), None, None);
        journal.follow(&talk);
        assert!(!journal.finish(&talk));
    }
}
