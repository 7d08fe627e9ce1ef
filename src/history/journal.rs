//! A running conversation → the database, message by message, on separate threads.
//!
//! The journal follows the conversation in memory: everything added since the last call is written, in order.
//! If the database cannot be written, changes wait for another try; the caller must save those left at the
//! end elsewhere. If it is merely slow, a file beside it receives the changes, so the caller need not wait.
//! Only [`Journal::flush`], [`Journal::wait_for_database`] and [`Journal::finish`] ever wait.
//!
//! Read on in the order of the flow: change.rs, the changes; progress.rs, the state that the threads share;
//! writer.rs, the thread that writes to the database; aside.rs, the thread that writes to a file instead;
//! legacy.rs, changes from older versions.

mod aside;
mod change;
mod legacy;
mod progress;
mod writer;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use self::aside::{is_waiting, take_in};
use self::change::{Change, What};
use self::progress::JournalProgress;
use super::database::fresh_id;
use crate::chat::record::{Entry, Record};
use crate::chat::{Conversation, MessageId};

/// How long to wait for the disk at the end.
const LAST: Duration = Duration::from_secs(2);

/// Everything about a conversation except its messages.
#[derive(Debug, Clone, Default)]
pub struct Heading {
    /// The id of a conversation that is already in the database.
    pub stored: Option<String>,
    /// `None`: the title comes from the first message.
    pub title: Option<String>,
    /// The name that `-m` takes.
    pub model: Option<String>,
}

impl Heading {
    /// The heading of a stored conversation.
    pub fn of(record: &Record) -> Heading {
        let (stored, title) = (Some(record.id.clone()), Some(record.title.clone()));
        Heading { stored, title, model: record.model.clone() }
    }
}

/// Follows one conversation at a time.
pub struct Journal {
    progress: Arc<JournalProgress>,
    /// The conversation's id, also before it is in the database.
    id: String,
    heading: Heading,
    /// The number of messages handed to the threads.
    given: usize,
    head: Option<MessageId>,
    system: Option<String>,
    begun: bool,
}

impl Journal {
    /// Starts to follow a conversation. The database is created when there is something to write.
    pub fn start(file: PathBuf, heading: Heading, conversation: &Conversation) -> Journal {
        let progress = Arc::new(JournalProgress::default());
        let (for_writer, for_aside) = (progress.clone(), progress.clone());
        let beside = file.clone();
        std::thread::spawn(move || writer::run(file, &for_writer));
        std::thread::spawn(move || aside::run(&beside, &for_aside));
        let mut journal = Journal {
            progress,
            id: String::new(),
            heading: Heading::default(),
            given: 0,
            head: None,
            system: None,
            begun: false,
        };
        journal.turn_to(heading, conversation);
        journal
    }

    /// Switches to another conversation; if `heading.stored` is set, its messages are already in the
    /// database.
    pub fn turn_to(&mut self, heading: Heading, conversation: &Conversation) {
        self.begun = heading.stored.is_some();
        self.id = heading.stored.clone().unwrap_or_else(fresh_id);
        self.given = if self.begun { conversation.entries().len() } else { 0 };
        self.head = conversation.head().filter(|_| self.begun);
        self.system = conversation.system.clone();
        self.heading = heading;
    }

    /// The id of the current conversation.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Whether the conversation is in the database, or will be.
    pub fn has_begun(&self) -> bool {
        self.begun
    }

    /// Writes everything new in the conversation.
    pub fn follow(&mut self, conversation: &Conversation) {
        if self.progress.take_gone() {
            // Another database: write everything again.
            (self.begun, self.given, self.head) = (false, 0, None);
        }
        if conversation.entries().is_empty() {
            self.system.clone_from(&conversation.system);
            return; // no messages yet
        }
        self.begin(conversation);
        if self.system != conversation.system {
            self.system.clone_from(&conversation.system);
            self.send(What::System(self.system.clone()));
        }
        for entry in &conversation.entries()[self.given..] {
            self.send(What::Put(entry.clone()));
            self.head = Some(entry.id); // the database moves its head there, too
        }
        self.given = conversation.entries().len();
        if conversation.head() != self.head {
            self.head = conversation.head();
            self.send(What::Head(self.head));
        }
    }

    /// Writes an unfinished answer to the head. The conversation provides the finished one under the same id.
    pub fn partial(&mut self, conversation: &Conversation, answer: Entry) {
        self.follow(conversation); // everything may have to be written again
        self.send(What::Put(answer));
    }

    pub fn set_title(&mut self, title: &str) {
        self.heading.title = Some(title.to_string());
        if self.begun {
            self.send(What::Title(title.into()));
        }
    }

    pub fn set_model(&mut self, model: Option<String>) {
        self.heading.model.clone_from(&model);
        if self.begun {
            self.send(What::Model(model));
        }
    }

    fn begin(&mut self, conversation: &Conversation) {
        if std::mem::replace(&mut self.begun, true) {
            return;
        }
        let title = self.heading.title.clone().unwrap_or_else(|| conversation.entries()[0].title());
        let model = self.heading.model.clone();
        self.system.clone_from(&conversation.system);
        self.send(What::Begin { title, system: self.system.clone(), model });
    }

    fn send(&self, what: What) {
        self.progress.give(Change { conversation: self.id.clone(), what });
    }

    /// Problems since the last call, one line each.
    pub fn troubles(&mut self) -> Vec<String> {
        self.progress.take_troubles()
    }

    /// Waits, at most for `most`, until everything is on the disk or there is a problem.
    pub fn flush(&mut self, most: Duration) {
        self.progress.wait(Instant::now() + most, |state| state.is_kept() || state.is_in_trouble());
    }

    /// Waits, at most for `most`, until everything is in the database itself, for who reads that next, or there is a
    /// problem.
    pub fn wait_for_database(&mut self, most: Duration) {
        self.progress.wait(Instant::now() + most, |state| state.is_written() || state.is_in_trouble());
    }

    /// Ends the journal: retries all failed writes. `false`: some changes are still unwritten.
    pub fn finish(&mut self, conversation: &Conversation) -> bool {
        let deadline = Instant::now() + LAST;
        loop {
            self.follow(conversation);
            let tries = self.progress.try_again();
            self.progress.wait(deadline, |state| state.is_kept() || state.gone || state.tries >= tries);
            if !self.progress.is(|state| state.gone) || Instant::now() >= deadline {
                return self.progress.is(|state| state.is_kept() && !state.gone);
            } // otherwise, write everything again
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
    use crate::chat::record::AnswerRecord;
    use crate::chat::{Message, Role};
    use crate::history::database::Conversations;

    fn texts(file: &std::path::Path) -> Vec<String> {
        let store = Conversations::existing(file).unwrap().unwrap();
        let summary = store.list(&Default::default()).unwrap().remove(0);
        let record = store.load(&summary.id).unwrap().unwrap();
        record.path().iter().map(|entry| entry.message.content()).collect()
    }

    /// An unfinished answer to the head.
    fn so_far(conversation: &Conversation, id: MessageId, text: &str) -> Entry {
        let entry = Entry::new(id, conversation.head(), Message::new(Role::Assistant, text));
        Entry { answer: Some(Box::default()), ..entry }
    }

    fn finished() -> Option<AnswerRecord> {
        Some(AnswerRecord { stop: "end".into(), ..AnswerRecord::default() })
    }

    /// The journal of a conversation with the message "hi".
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
    fn a_slow_database_can_be_waited_for() {
        let (_folder, file, mut conversation, mut journal) = begun();
        journal.wait_for_database(LAST);
        let slow = Conversations::open(&file).unwrap().0;
        slow.hold();
        conversation.add(Message::new(Role::User, "more"), None, None);
        journal.follow(&conversation);
        journal.flush(LAST);
        assert_eq!(texts(&file), ["hi"], "the rest is in the file beside it");
        std::thread::scope(|scope| {
            scope.spawn(move || {
                std::thread::sleep(Duration::from_millis(200));
                drop(slow);
            });
            journal.wait_for_database(5 * LAST);
        });
        assert_eq!(texts(&file), ["hi", "more"]);
    }

    #[test]
    fn what_is_said_is_on_the_disk() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("c.db");
        let mut conversation = Conversation::new(None);
        let mut journal = Journal::start(file.clone(), Heading::default(), &conversation);
        journal.follow(&conversation);
        assert!(!file.exists(), "the conversation is empty");
        let question = conversation.add(Message::new(Role::User, "hi"), None, Some(1));
        journal.follow(&conversation);
        journal.wait_for_database(LAST);
        assert!(journal.troubles().is_empty());
        assert_eq!(texts(&file), ["hi"]);
        let id = MessageId::fresh();
        journal.partial(&conversation, so_far(&conversation, id, "he"));
        journal.partial(&conversation, so_far(&conversation, id, "hell"));
        journal.wait_for_database(LAST);
        assert!(journal.troubles().is_empty());
        assert_eq!(texts(&file), ["hi", "hell"]);
        conversation.add_as(id, Message::new(Role::Assistant, "hello"), finished(), Some(2));
        journal.follow(&conversation);
        conversation.move_to(Some(question));
        conversation.add(Message::new(Role::Assistant, "good day"), finished(), Some(3));
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
        journal.partial(&conversation, so_far(&conversation, MessageId::fresh(), "he"));
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
        journal.wait_for_database(LAST);
        std::fs::remove_file(&file).unwrap(); // or moved aside by another program
        conversation.add(Message::new(Role::Assistant, "hello"), finished(), None);
        journal.follow(&conversation);
        assert!(journal.finish(&conversation));
        assert_eq!(texts(&file), ["hi", "hello"]);
        std::fs::remove_file(&file).unwrap();
        let id = MessageId::fresh();
        journal.partial(&conversation, so_far(&conversation, id, "as"));
        journal.flush(LAST);
        journal.partial(&conversation, so_far(&conversation, id, "as you"));
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
        // Another program detects the damage first.
        let (mut other, note) = Conversations::open(&file).unwrap();
        assert!(note.is_some());
        other.begin("0", "other", None, None, 1).unwrap();
        conversation.add(Message::new(Role::Assistant, "hello"), finished(), None);
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
        const EVER: Duration = Duration::from_secs(3600);
        journal.flush(EVER); // neither waits for what will not come
        journal.wait_for_database(EVER);
        assert!(!journal.finish(&conversation));
    }
}
