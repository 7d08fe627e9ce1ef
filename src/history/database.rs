//! Conversations on disk: an SQLite database in the user's data folder. Only this file and its folder name
//! rusqlite.
//!
//! A conversation is a row; its messages are rows that refer to their parents. Two programs that continue the
//! same conversation create two branches. Every change is on disk when the call returns.
//!
//! Outside this module, a conversation's id and a message's id identify a message; row numbers stay in here.
//! Writing is idempotent: a message that is put twice is stored once.
//!
//! In `database/`: open.rs opens, migrates (migrations.rs) and checks the file; search.rs lists and searches;
//! recover.rs saves what is readable in a damaged file.

mod search;
mod open;
mod migrations;
mod recover;

use std::io;
use std::path::PathBuf;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, ErrorCode, OptionalExtension, Row, ToSql, TransactionBehavior, params};
use tempfile::TempDir;

use self::open::identity;
pub use self::search::{Filter, Hit, Summary};

use crate::chat::id::random;
use crate::chat::record::{AnswerRecord, Entry, Record};
use crate::chat::{Message, MessageId, Part, Role};
use crate::files::reason;

/// Why the database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0} was written by a newer version of fireside")]
    Newer(PathBuf),
    #[error("the stored conversations are damaged")]
    Damaged,
    #[error("another program holds the stored conversations")]
    Held,
    /// A link, a pipe or a device is in the file's place.
    #[error("{0}")]
    NoFile(String),
    #[error("{0}")]
    Other(String),
}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Error {
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Error::Damaged,
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Error::Held,
            Some(ErrorCode::ReadOnly) => Error::Other("the database is read-only".into()),
            Some(ErrorCode::DiskFull) => Error::Other("the disk is full".into()),
            Some(ErrorCode::SystemIoFailure) => Error::Other(format!("the disk failed ({error})")),
            _ => Error::Other(error.to_string()),
        }
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Error {
        match error.kind() {
            io::ErrorKind::WouldBlock => Error::Held,
            io::ErrorKind::InvalidInput => Error::NoFile(error.to_string()), // from `files::own_file`
            _ => Error::Other(reason(&error)),
        }
    }
}

/// A row number in `message`.
type Number = i64;

/// An open database.
pub struct Conversations {
    connection: Connection,
    path: PathBuf,
    /// Device and inode: tells whether another file has replaced the opened one.
    file: (u64, u64),
    /// For a copy of a read-only database: its folder, and why the original cannot be written.
    copy: Option<(TempDir, String)>,
}

impl Conversations {
    /// Whether the opened file is still in its place: another program may have moved a damaged one aside.
    pub fn is_in_place(&self) -> bool {
        identity(&self.path).is_ok_and(|file| file == self.file)
    }

    /// Creates a conversation unless it exists.
    pub fn begin(
        &mut self,
        id: &str,
        title: &str,
        system: Option<&str>,
        model: Option<&str>,
        now: i64,
    ) -> Result<(), Error> {
        let begin = "insert or ignore into conversation (id, title, created, changed, system, model) \
                     values (?1, ?2, ?3, ?3, ?4, ?5)";
        self.connection.execute(begin, params![id, title, now, system, model])?;
        Ok(())
    }

    /// Adds a message and makes it the head. If it exists as an unfinished answer, a longer or finished
    /// version replaces it; a finished message never changes. `now` is in milliseconds since 1970.
    pub fn put(&mut self, conversation: &str, entry: &Entry, now: i64) -> Result<(), Error> {
        // A read transaction that turns into a write transaction would not wait for another program.
        let change = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let Some(number) = number(&change, conversation, entry.id)? else {
            let number = insert(&change, conversation, entry)?;
            let head = "update conversation set head = ?2, changed = ?3 where id = ?1";
            change.execute(head, params![conversation, number, now])?;
            return Ok(change.commit()?);
        };
        let Entry { message, answer, .. } = entry;
        let (said, thinking) = (message.said(), message.thinking.as_deref());
        let here = "select text, thinking, answer from message where number = ?1";
        let (length, before): (usize, Option<AnswerRecord>) = change.query_row(here, [number], |row| {
            let length = |column| text(row, column).map(|text| text.map_or(0, |text| text.len()));
            Ok((length(0)? + length(1)?, parsed(text(row, 2)?)))
        })?;
        let longer = said.len() + thinking.map_or(0, str::len) >= length;
        let finished = answer.as_ref().is_some_and(|answer| answer.is_finished());
        if before.is_some_and(|before| !before.is_finished()) && (longer || finished) {
            let says =
                "update message set text = ?2, parts = ?3, thinking = ?4, answer = ?5 where number = ?1";
            let answer = answer.as_ref().map(json);
            change.execute(says, params![number, said, parts(message), thinking, answer])?;
        }
        Ok(change.commit()?)
    }

    pub fn move_head(&mut self, id: &str, head: Option<MessageId>) -> Result<(), Error> {
        let head = head.map(|head| number(&self.connection, id, head)).transpose()?.flatten();
        self.set(id, "head", &head)
    }

    pub fn set_system(&mut self, id: &str, system: Option<&str>) -> Result<(), Error> {
        self.set(id, "system", &system)
    }

    pub fn set_title(&mut self, id: &str, title: &str) -> Result<(), Error> {
        self.set(id, "title", &title)
    }

    pub fn set_model(&mut self, id: &str, model: Option<&str>) -> Result<(), Error> {
        self.set(id, "model", &model)
    }

    fn set(&mut self, id: &str, column: &str, value: &dyn ToSql) -> Result<(), Error> {
        let set = format!("update conversation set {column} = ?2 where id = ?1");
        self.connection.execute(&set, params![id, value])?;
        Ok(())
    }

    /// Imports a whole conversation; `false` if it exists already, in which case nothing changes.
    pub fn import(&mut self, record: &Record) -> Result<bool, Error> {
        let change = self.connection.transaction()?;
        let Record { id, title, created, changed, system, model, .. } = record;
        let fresh = change.execute(
            "insert or ignore into conversation (id, title, created, changed, system, model) \
             values (?1, ?2, ?3, ?4, ?5, ?6)",
            params![id, title, created, changed, system, model],
        )?;
        if fresh == 0 {
            return Ok(false);
        }
        for entry in &record.entries {
            insert(&change, id, entry)?;
        }
        let head = record.head.map(|head| number(&change, id, head)).transpose()?.flatten();
        change.execute("update conversation set head = ?2 where id = ?1", params![id, head])?;
        change.commit()?;
        Ok(true)
    }

    /// The conversation with this id, if it exists.
    pub fn load(&self, id: &str) -> Result<Option<Record>, Error> {
        let query = "select title, created, changed, system, model, head from conversation where id = ?1";
        let found = self.connection.query_row(query, [id], |row| {
            let record = Record {
                id: id.to_string(),
                title: text(row, 0)?.unwrap_or_default(),
                created: row.get(1)?,
                changed: row.get(2)?,
                system: text(row, 3)?,
                model: text(row, 4)?,
                ..Record::default()
            };
            Ok((record, row.get::<_, Option<Number>>(5)?))
        });
        let Some((mut record, head)) = found.optional()? else { return Ok(None) };
        let query = "select number, id, parent, role, text, parts, thinking, created, answer \
                     from message where conversation = ?1 order by number";
        let mut statement = self.connection.prepare(query)?;
        let mut rows = statement.query([id])?;
        let mut numbers: Vec<Number> = Vec::new();
        while let Some(row) = rows.next()? {
            let number: Number = row.get(0)?;
            if numbers.last().is_some_and(|last| *last >= number) {
                continue; // a damaged index may list a row twice
            }
            let place = |number: Option<Number>| numbers.binary_search(&number?).ok();
            let parent = place(row.get(2)?).map(|place: usize| record.entries[place].id);
            record.entries.push(Entry { parent, ..entry(row)? });
            numbers.push(number);
        }
        let place = head.and_then(|head| numbers.binary_search(&head).ok());
        record.head = place.map(|place| record.entries[place].id);
        Ok(Some(record))
    }

    /// The id of a stored message that equals `entry` or is a later version of it: for changes from versions
    /// before 0.2, which had no ids.
    pub fn find_alike(&self, conversation: &str, entry: &Entry) -> Result<Option<MessageId>, Error> {
        let query = "select id from message where conversation = ?1 and role = ?2 and created is ?3 \
                     and parent is (select number from message where conversation = ?1 and id = ?4) \
                     and substr(text, 1, length(?5)) = ?5 order by number limit 1";
        let parent = entry.parent.map(|parent| parent.to_string());
        let values =
            params![conversation, entry.message.role.name(), entry.created, parent, entry.message.said()];
        let id = self.connection.query_row(query, values, |row| row.get::<_, String>(0)).optional()?;
        Ok(id.map(MessageId::from))
    }

    /// The ids of the messages in these rows; `None` unless all of them are in the conversation. For versions
    /// before 0.2, too.
    pub fn ids_of_rows(&self, conversation: &str, rows: &[i64]) -> Result<Option<Vec<MessageId>>, Error> {
        let query = "select id from message where number = ?1 and conversation = ?2";
        let mut statement = self.connection.prepare(query)?;
        let id = |row: &i64| {
            statement.query_row(params![row, conversation], |row| row.get::<_, String>(0)).optional()
        };
        let ids = rows.iter().map(id).collect::<Result<Option<Vec<String>>, _>>()?;
        Ok(ids.filter(|ids| !ids.is_empty()).map(|ids| ids.into_iter().map(MessageId::from).collect()))
    }

    /// Removes a conversation, its messages and their search index entries. Overwrites their space in the
    /// files.
    pub fn remove(&mut self, id: &str) -> Result<bool, Error> {
        if let Some((_, why)) = &self.copy {
            return Err(Error::Other(why.clone()));
        }
        let removed = self.connection.execute("delete from conversation where id = ?1", [id])?;
        // The write-ahead log still holds earlier pages: truncate it.
        self.connection.query_row("pragma wal_checkpoint(truncate)", [], |_| Ok(()))?;
        Ok(removed > 0)
    }
}

/// The row number of a message.
fn number(connection: &Connection, conversation: &str, id: MessageId) -> Result<Option<Number>, Error> {
    let query = "select number from message where conversation = ?1 and id = ?2";
    let mut statement = connection.prepare_cached(query)?;
    Ok(statement.query_row(params![conversation, id.to_string()], |row| row.get(0)).optional()?)
}

fn insert(connection: &Connection, conversation: &str, entry: &Entry) -> Result<Number, Error> {
    let parent = entry.parent.map(|parent| number(connection, conversation, parent)).transpose()?.flatten();
    let query = "insert into message (id, conversation, parent, role, text, parts, thinking, created, answer) \
                 values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
    let Entry { id, message, created, answer, .. } = entry;
    let (answer, thinking) = (answer.as_ref().map(json), message.thinking.as_deref());
    let (id, role, said, parts) = (id.to_string(), message.role.name(), message.said(), parts(message));
    let values = params![id, conversation, parent, role, said, parts, thinking, created, answer];
    connection.prepare_cached(query)?.execute(values)?;
    Ok(connection.last_insert_rowid())
}

/// The parts of a message as JSON; `None` if the message is only text.
fn parts(message: &Message) -> Option<String> {
    let plain = matches!(&message.parts[..], [] | [Part::Text(_)]);
    (!plain).then(|| json(&message.parts))
}

/// A message without its parent, from the columns that [`Conversations::load`] selects.
fn entry(row: &Row) -> rusqlite::Result<Entry> {
    let role = Role::from(text(row, 3)?.unwrap_or_default());
    let plain = Message::new(role, text(row, 4)?.unwrap_or_default());
    let parts = parsed(text(row, 5)?).unwrap_or(plain.parts);
    let message = Message { role: plain.role, parts, thinking: text(row, 6)? };
    let id = MessageId::from(text(row, 1)?.unwrap_or_default());
    Ok(Entry { created: row.get(7)?, answer: parsed(text(row, 8)?), ..Entry::new(id, None, message) })
}

/// A column's text, with invalid bytes replaced: the disk may have damaged it.
fn text(row: &Row, column: usize) -> rusqlite::Result<Option<String>> {
    Ok(match row.get_ref(column)? {
        ValueRef::Text(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
        _ => None,
    })
}

fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("plain data always serialises")
}

fn parsed<T: serde::de::DeserializeOwned>(text: Option<String>) -> Option<T> {
    serde_json::from_str(&text?).ok()
}

/// A new random id for a conversation.
pub fn fresh_id() -> String {
    format!("{:016x}", random())
}

#[cfg(test)]
impl Conversations {
    /// Nobody else can write until this is dropped.
    pub(super) fn hold(&self) {
        self.connection.execute_batch("BEGIN IMMEDIATE").unwrap();
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn store() -> (tempfile::TempDir, Conversations) {
        let folder = tempfile::tempdir().unwrap();
        let (store, note) = Conversations::open(&folder.path().join("deep/er/conversations.db")).unwrap();
        assert_eq!(note, None);
        (folder, store)
    }

    fn said(parent: Option<&Entry>, role: Role, text: &str) -> Entry {
        let answer = (role == Role::Assistant).then(|| finished("end"));
        let message = Message::new(role, text);
        let parent = parent.map(|parent| parent.id);
        Entry { created: Some(1), answer, ..Entry::new(MessageId::fresh(), parent, message) }
    }

    fn finished(stop: &str) -> Box<AnswerRecord> {
        Box::new(AnswerRecord { stop: stop.into(), seed: Some(7), ..AnswerRecord::default() })
    }

    fn with_text(entry: &Entry, text: &str, stop: &str) -> Entry {
        let message = Message::new(entry.message.role.clone(), text).into();
        Entry { message, answer: Some(finished(stop)), ..entry.clone() }
    }

    #[test]
    fn a_tree_is_kept_with_its_branches_and_its_head() {
        let (_folder, mut store) = store();
        let id = fresh_id();
        assert_eq!(id.len(), 16);
        store.begin(&id, "Hi", Some("be kind"), Some("tiny"), 10).unwrap();
        let question = said(None, Role::User, "hi");
        let first = with_text(&said(Some(&question), Role::Assistant, ""), "hello", "");
        let second = said(Some(&question), Role::Assistant, "good day");
        for (entry, now) in [(&question, 11), (&first, 12), (&second, 13)] {
            store.put(&id, entry, now).unwrap();
        }
        store.move_head(&id, Some(first.id)).unwrap();
        store.put(&id, &with_text(&first, "hello there", "length"), 14).unwrap();
        let record = store.load(&id).unwrap().unwrap();
        assert_eq!((record.system.as_deref(), record.changed), (Some("be kind"), 13));
        let texts: Vec<String> = record.path().iter().map(|entry| entry.message.content()).collect();
        assert_eq!(texts, ["hi", "hello there"]);
        assert_eq!((record.entries.len(), record.entries[2].parent), (3, Some(question.id)));
        assert_eq!(record.entries[1].answer.as_ref().unwrap().seed, Some(7));
        assert_eq!(store.list(&Filter::default()).unwrap()[0].id, id);
        assert_eq!(store.ids(&id[..6]).unwrap(), std::slice::from_ref(&id));
        assert!(store.ids("%").unwrap().is_empty() && store.load("0").unwrap().is_none());
    }

    #[test]
    fn a_message_that_is_put_again_is_there_once_and_an_older_text_does_not_return() {
        let (_folder, mut store) = store();
        store.begin("a1", "Hi", None, None, 1).unwrap();
        let answer = said(None, Role::Assistant, "");
        let text = |store: &Conversations| {
            let record = store.load("a1").unwrap().unwrap();
            assert_eq!(record.entries.len(), 1);
            record.entries[0].message.content()
        };
        for (put, stop, expected) in [
            ("he", "", "he"),
            ("hell", "", "hell"),
            ("he", "", "hell"),
            ("hel", "end", "hel"),
            ("hello", "", "hel"),
            ("hello", "length", "hel"),
        ] {
            store.put("a1", &with_text(&answer, put, stop), 1).unwrap();
            assert_eq!(text(&store), expected, "after {put:?}");
        }
    }

    #[test]
    fn roles_and_parts_that_nobody_knows_come_back_as_they_were() {
        let (_folder, mut store) = store();
        let odd = Message {
            role: Role::Other("critic".into()),
            parts: vec![
                Part::Unknown(serde_json::json!({ "type": "hologram", "depth": 3 })),
                Part::text("deep"),
            ],
            thinking: Some("hm".into()),
        };
        let entries = vec![Entry::new(MessageId::fresh(), None, odd)];
        let record =
            Record { id: "00ff00ff00ff00ff".into(), head: Some(entries[0].id), entries, ..Record::default() };
        store.import(&record).unwrap();
        assert_eq!(store.load(&record.id).unwrap().unwrap(), record);
        assert_eq!(store.search("deep", &Filter::default()).unwrap()[0].role, Role::Other("critic".into()));
    }

    #[test]
    fn words_are_found_in_every_message_and_gone_when_removed() {
        let (folder, mut store) = store();
        let id = fresh_id();
        store.begin(&id, "Colours", None, Some("Tiny-7B"), 10).unwrap();
        let question = said(None, Role::User, "Why is the café's sky blue?");
        let answer = said(Some(&question), Role::Assistant, "Because of Rayleigh scattering xyzzyplugh.");
        store.put(&id, &question, 11).unwrap();
        store.put(&id, &answer, 12).unwrap();
        let found = |words: &str| store.search(words, &Filter::default()).unwrap();
        assert_eq!(found("cafe blue").len(), 1);
        assert_eq!(found("rayl")[0].snippet, "Because of \u{2}Rayleigh\u{3} scattering xyzzyplugh.");
        assert!(found("green").is_empty() && found("\"").is_empty() && found("AND OR (").is_empty());
        let filter = |model: &str, since| Filter { model: Some(model.into()), since, most: None };
        assert_eq!(store.list(&filter("tiny", Some(12))).unwrap().len(), 1);
        assert!(store.list(&filter("huge", None)).unwrap().is_empty());
        assert!(store.list(&filter("tiny", Some(13))).unwrap().is_empty());
        assert!(store.remove(&id).unwrap() && !store.remove(&id).unwrap());
        assert!(store.search("rayleigh", &Filter::default()).unwrap().is_empty());
        drop(store);
        for entry in fs::read_dir(folder.path().join("deep/er")).unwrap() {
            let bytes = fs::read(entry.unwrap().path()).unwrap();
            assert!(!bytes.windows(11).any(|w| w == b"xyzzyplugh."), "the text is still in a file");
        }
    }

    #[test]
    fn importing_twice_adds_nothing() {
        let (_folder, mut store) = store();
        let question = said(None, Role::User, "a");
        let answer = said(Some(&question), Role::Assistant, "b");
        let head = Some(answer.id);
        let entries = vec![question, answer];
        let record = Record { id: "00ff00ff00ff00ff".into(), entries, head, ..Record::default() };
        assert!(store.import(&record).unwrap() && !store.import(&record).unwrap());
        assert_eq!(store.load(&record.id).unwrap().unwrap(), record);
    }

    #[test]
    fn only_the_user_may_read_it() {
        let (folder, store) = store();
        drop(store);
        fs::set_permissions(folder.path().join("deep/er"), fs::Permissions::from_mode(0o755)).unwrap();
        let (_store, _) = Conversations::open(&folder.path().join("deep/er/conversations.db")).unwrap();
        let mode = |path: &str| fs::metadata(folder.path().join(path)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("deep/er"), mode("deep/er/conversations.db")), (0o700, 0o600));
        assert_eq!(mode("deep/er/conversations.db-wal"), 0o600);
    }

    #[test]
    fn a_damaged_database_is_moved_aside_and_a_newer_one_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.db");
        fs::write(&path, "this is no database, and long enough not to be taken for an empty one".repeat(20))
            .unwrap();
        let (store, note) = Conversations::open(&path).unwrap();
        assert!(note.unwrap().contains("c.db.damaged-1"));
        store.connection.pragma_update(None, "user_version", 99).unwrap();
        drop(store);
        let before = fs::read(&path).unwrap();
        assert!(matches!(Conversations::open(&path), Err(Error::Newer(_))));
        assert_eq!(fs::read(&path).unwrap(), before);
    }
}
