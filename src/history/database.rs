//! Conversations on disk: an SQLite database in the user's data folder. The only file naming rusqlite.
//!
//! A conversation is a row, its messages are rows that know the message before them: two programs that go on with the same
//! conversation make two branches. Every change is on the disk when the call returns.
//!
//! `conversations/open.rs` opens and looks over the file; `search.rs` lists and searches; `checksums.rs` tells what the disk has changed; `recover.rs` takes what can be read
//! out of a damaged file.

mod search;
mod open;
mod recover;
mod checksums;

use std::io;
use std::path::PathBuf;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, ErrorCode, OptionalExtension, Row, ToSql, params};
use tempfile::TempDir;

use self::checksums::Table;
use self::open::identity;
pub use self::search::{Filter, Hit, Summary};

use crate::chat::Role;
use crate::chat::record::{Answer, Entry, Record};
use crate::error::{Failure, reason};

/// Why the store cannot be used as it should.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    #[error("{0} was written by a newer version of fireside")]
    Newer(PathBuf),
    #[error("the stored conversations are damaged")]
    Damaged,
    #[error("another program holds the stored conversations")]
    Held,
    /// At its place is something else than a file of ours.
    #[error("{0}")]
    NoFile(String),
    #[error("{0}")]
    Other(String),
}

impl From<rusqlite::Error> for Trouble {
    fn from(error: rusqlite::Error) -> Trouble {
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Trouble::Damaged,
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Trouble::Held,
            Some(ErrorCode::ReadOnly) => Trouble::Other("the stored conversations may not be written".into()),
            Some(ErrorCode::DiskFull) => Trouble::Other("the disk is full".into()),
            Some(ErrorCode::SystemIoFailure) => {
                Trouble::Other(format!("the disk did not take or give them ({error})"))
            }
            _ => Trouble::Other(error.to_string()),
        }
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Trouble {
        match error.kind() {
            io::ErrorKind::WouldBlock => Trouble::Held,
            io::ErrorKind::InvalidInput => Trouble::NoFile(error.to_string()), // of `files::own_file`
            _ => Trouble::Other(reason(&error)),
        }
    }
}

impl From<Trouble> for Failure {
    fn from(trouble: Trouble) -> Failure {
        Failure::new(format!("could not use the stored conversations: {trouble}"))
    }
}

/// The number of a message in the database.
pub type Number = i64;

/// A conversation out of the database.
#[derive(Debug)]
pub struct Kept {
    pub record: Record,
    /// The number of each of its entries.
    pub numbers: Vec<Number>,
    pub damage: Damage,
}

/// What of a conversation is not as it was written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Damage {
    /// What it says of itself: its title, its system prompt, where it goes on.
    pub heading: bool,
    /// Places of messages in [`Record::entries`].
    pub entries: Vec<usize>,
}

impl Damage {
    /// One line for people; `None`: nothing is damaged.
    pub fn line(&self) -> Option<String> {
        let heading = self.heading.then(|| "its heading".to_string());
        let message = |place: &usize| format!("message {}", place + 1);
        let what: Vec<String> = heading.into_iter().chain(self.entries.iter().map(message)).collect();
        (!what.is_empty())
            .then(|| format!("the disk has changed what was kept of this conversation: {}", what.join(", ")))
    }
}

/// An open database.
pub struct Conversations {
    connection: Connection,
    path: PathBuf,
    /// Tells the file that was opened from one that may take its place.
    file: (u64, u64),
    /// It is a copy of one that may not be written, and why that is so.
    copy: Option<(TempDir, String)>,
}

impl Conversations {
    /// Whether what was opened is still what is at its place: another program may have moved a damaged one aside.
    pub fn is_in_place(&self) -> bool {
        identity(&self.path).is_ok_and(|file| file == self.file)
    }

    /// Whether a conversation is here with all these messages.
    pub fn holds(&self, id: &str, numbers: &[Number]) -> Result<bool, Trouble> {
        let query = "select number from message where conversation = ?1 order by number";
        let mut statement = self.connection.prepare(query)?;
        let here: Vec<Number> = statement.query_map([id], |row| row.get(0))?.collect::<Result<_, _>>()?;
        Ok(!here.is_empty() && numbers.iter().all(|number| here.binary_search(number).is_ok()))
    }

    /// Whether a conversation is here, however little of it.
    pub fn has(&self, id: &str) -> Result<bool, Trouble> {
        let query = "select exists (select 1 from conversation where id = ?1)";
        Ok(self.connection.query_row(query, [id], |row| row.get(0))?)
    }

    /// The number of a message that is this one, whatever was added to it since.
    pub fn find_message(
        &self,
        id: &str,
        parent: Option<Number>,
        entry: &Entry,
    ) -> Result<Option<Number>, Trouble> {
        let query = "select number from message where conversation = ?1 and parent is ?2 and role = ?3 \
                     and created is ?4 and substr(text, 1, length(?5)) = ?5 order by number limit 1";
        let values = params![id, parent, entry.role.name(), entry.created, entry.text];
        Ok(self.connection.query_row(query, values, |row| row.get(0)).optional()?)
    }

    /// Whether a message begins with this text and goes on after it.
    pub fn says_more(&self, number: Number, text: &str) -> Result<bool, Trouble> {
        let query = "select length(text) > length(?2) and substr(text, 1, length(?2)) = ?2 from message where number = ?1";
        Ok(self
            .connection
            .query_row(query, params![number, text], |row| row.get(0))
            .optional()?
            .unwrap_or(true))
    }

    /// Begins a conversation.
    pub fn begin(
        &mut self,
        id: &str,
        title: &str,
        system: Option<&str>,
        model: Option<&str>,
        now: i64,
    ) -> Result<(), Trouble> {
        let change = self.connection.transaction()?;
        change.execute(
            "insert into conversation (id, title, created, changed, system, model, interactive) \
             values (?1, ?2, ?3, ?3, ?4, ?5, 1)", // programs before 0.2 went on with such ones only
            params![id, title, now, system, model],
        )?;
        checksums::seal(&change, Table::Conversation, &id)?;
        Ok(change.commit()?)
    }

    /// Adds a message after `parent` and makes it the head.
    pub fn add(
        &mut self,
        id: &str,
        parent: Option<Number>,
        entry: &Entry,
        now: i64,
    ) -> Result<Number, Trouble> {
        let change = self.connection.transaction()?;
        let number = insert(&change, id, parent, entry)?;
        checksums::change(&change, Table::Conversation, &id, || {
            let head = "update conversation set head = ?2, changed = ?3 where id = ?1";
            change.execute(head, params![id, number, now]).map(|_| ())
        })?;
        change.commit()?;
        Ok(number)
    }

    /// Replaces what an answer says so far.
    pub fn update(&mut self, number: Number, text: &str, answer: &Answer) -> Result<(), Trouble> {
        let change = self.connection.transaction()?;
        checksums::change(&change, Table::Message, &number, || {
            let says = "update message set text = ?2, answer = ?3 where number = ?1";
            change.execute(says, params![number, text, json(answer)]).map(|_| ())
        })?;
        Ok(change.commit()?)
    }

    pub fn move_head(&mut self, id: &str, head: Option<Number>) -> Result<(), Trouble> {
        self.set(id, "head", &head)
    }

    pub fn set_system(&mut self, id: &str, system: Option<&str>) -> Result<(), Trouble> {
        self.set(id, "system", &system)
    }

    pub fn set_title(&mut self, id: &str, title: &str) -> Result<(), Trouble> {
        self.set(id, "title", &title)
    }

    pub fn set_model(&mut self, id: &str, model: Option<&str>) -> Result<(), Trouble> {
        self.set(id, "model", &model)
    }

    fn set(&mut self, id: &str, column: &str, value: &dyn ToSql) -> Result<(), Trouble> {
        let change = self.connection.transaction()?;
        checksums::change(&change, Table::Conversation, &id, || {
            let set = format!("update conversation set {column} = ?2 where id = ?1");
            change.execute(&set, params![id, value]).map(|_| ())
        })?;
        Ok(change.commit()?)
    }

    /// Takes in a whole conversation. `false`: it is here already, and nothing was changed.
    pub fn import(&mut self, record: &Record) -> Result<bool, Trouble> {
        let change = self.connection.transaction()?;
        let Record { id, title, created, changed, system, model, .. } = record;
        let fresh = change.execute(
            "insert or ignore into conversation (id, title, created, changed, system, model, interactive) \
             values (?1, ?2, ?3, ?4, ?5, ?6, 0)",
            params![id, title, created, changed, system, model],
        )?;
        if fresh == 0 {
            return Ok(false);
        }
        let mut numbers: Vec<Number> = Vec::with_capacity(record.entries.len());
        for entry in &record.entries {
            let parent = entry.parent.and_then(|parent| numbers.get(parent).copied());
            numbers.push(insert(&change, id, parent, entry)?);
        }
        let head = record.head.and_then(|head| numbers.get(head).copied());
        change.execute("update conversation set head = ?2 where id = ?1", params![id, head])?;
        checksums::seal(&change, Table::Conversation, id)?;
        change.commit()?;
        Ok(true)
    }

    /// A conversation; `None` if there is none of that id.
    pub fn load(&self, id: &str) -> Result<Option<Kept>, Trouble> {
        let query = format!("select {}, sum from conversation where id = ?1", Table::Conversation.columns());
        let found = self.connection.query_row(&query, [id], |row| {
            let record = Record {
                id: id.to_string(),
                title: text(row, 1)?.unwrap_or_default(),
                created: row.get(2)?,
                changed: row.get(3)?,
                system: text(row, 4)?,
                model: text(row, 5)?,
                ..Record::default()
            };
            Ok((record, row.get::<_, Option<Number>>(7)?, checksums::is_sound(row)?))
        });
        let Some((mut record, head, sound)) = found.optional()? else { return Ok(None) };
        let mut damage = Damage { heading: !sound, entries: Vec::new() };
        let columns = Table::Message.columns();
        let query = format!("select {columns}, sum from message where conversation = ?1 order by number");
        let mut statement = self.connection.prepare(&query)?;
        let mut rows = statement.query([id])?;
        let mut numbers: Vec<Number> = Vec::new();
        let place = |numbers: &[Number], number: Number| numbers.binary_search(&number).ok();
        while let Some(row) = rows.next()? {
            let before: Option<Number> = row.get(2)?;
            let parent = before.and_then(|before| place(&numbers, before));
            if !checksums::is_sound(row)? || parent.is_some() != before.is_some() {
                damage.entries.push(numbers.len());
            }
            record.entries.push(Entry {
                parent,
                role: role(&text(row, 3)?.unwrap_or_default()),
                text: text(row, 4)?.unwrap_or_default(),
                attachments: parsed(text(row, 5)?).unwrap_or_default(),
                created: row.get(6)?,
                answer: parsed(text(row, 7)?),
            });
            numbers.push(row.get(0)?);
        }
        record.head = head.and_then(|head| place(&numbers, head));
        damage.heading |= record.head.is_some() != head.is_some();
        Ok(Some(Kept { record, numbers, damage }))
    }

    /// Looks over every conversation: how many the disk has changed.
    pub fn count_damaged(&self) -> Result<usize, Trouble> {
        let mut statement = self.connection.prepare("select id from conversation")?;
        let ids: Vec<String> = statement.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
        let mut damaged = 0;
        for id in ids {
            damaged += usize::from(self.load(&id)?.is_some_and(|kept| kept.damage != Damage::default()));
        }
        Ok(damaged)
    }

    /// Removes a conversation, its messages and their words. What they took of the files is overwritten.
    pub fn remove(&mut self, id: &str) -> Result<bool, Trouble> {
        if let Some((_, why)) = &self.copy {
            return Err(Trouble::Other(why.clone()));
        }
        let removed = self.connection.execute("delete from conversation where id = ?1", [id])?;
        // The write-ahead log holds pages from before: they go, too.
        self.connection.query_row("pragma wal_checkpoint(truncate)", [], |_| Ok(()))?;
        Ok(removed > 0)
    }
}

fn insert(
    connection: &Connection,
    id: &str,
    parent: Option<Number>,
    entry: &Entry,
) -> Result<Number, Trouble> {
    let attachments = (!entry.attachments.is_empty()).then(|| json(&entry.attachments));
    let message = "insert into message (conversation, parent, role, text, attachments, created, answer) \
                   values (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    let Entry { role, text, created, answer, .. } = entry;
    let answer = answer.as_ref().map(json);
    let values = params![id, parent, role.name(), text, attachments, created, answer];
    connection.prepare_cached(message)?.execute(values)?;
    let number = connection.last_insert_rowid();
    checksums::seal(connection, Table::Message, &number)?;
    Ok(number)
}

/// Text as far as it is some: the disk may have made other bytes of it.
fn text(row: &Row, column: usize) -> rusqlite::Result<Option<String>> {
    Ok(match row.get_ref(column)? {
        ValueRef::Text(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
        _ => None,
    })
}

fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("plain data is always written")
}

fn parsed<T: serde::de::DeserializeOwned>(text: Option<String>) -> Option<T> {
    serde_json::from_str(&text?).ok()
}

fn role(name: &str) -> Role {
    match name {
        "system" => Role::System,
        "assistant" => Role::Assistant,
        _ => Role::User,
    }
}

/// An id that no conversation had before.
pub fn fresh_id() -> String {
    use std::hash::{BuildHasher, Hasher, RandomState};
    format!("{:016x}", RandomState::new().build_hasher().finish()) // keyed by the system's randomness
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

    fn said(role: Role, text: &str) -> Entry {
        let answer = (role == Role::Assistant).then(|| Answer { stop: "end".into(), ..Answer::default() });
        Entry { parent: None, role, text: text.into(), attachments: Vec::new(), created: Some(1), answer }
    }

    #[test]
    fn a_tree_is_kept_with_its_branches_and_its_head() {
        let (_folder, mut store) = store();
        let id = fresh_id();
        assert_eq!(id.len(), 16);
        store.begin(&id, "Hi", Some("be kind"), Some("tiny"), 10).unwrap();
        let question = store.add(&id, None, &said(Role::User, "hi"), 11).unwrap();
        let first = store.add(&id, Some(question), &said(Role::Assistant, "hello"), 12).unwrap();
        store.add(&id, Some(question), &said(Role::Assistant, "good day"), 13).unwrap();
        store.move_head(&id, Some(first)).unwrap();
        store
            .update(
                first,
                "hello there",
                &Answer { stop: "length".into(), seed: Some(7), ..Answer::default() },
            )
            .unwrap();
        let Kept { record, numbers, damage } = store.load(&id).unwrap().unwrap();
        assert_eq!(damage, Damage::default());
        assert_eq!(numbers.len(), 3);
        assert_eq!((record.system.as_deref(), record.changed), (Some("be kind"), 13));
        let texts: Vec<&str> = record.path().iter().map(|i| record.entries[*i].text.as_str()).collect();
        assert_eq!(texts, ["hi", "hello there"]);
        assert_eq!(record.entries[2].parent, Some(0));
        assert_eq!(record.entries[1].answer.as_ref().unwrap().seed, Some(7));
        assert_eq!(store.list(&Filter::default()).unwrap()[0].id, id);
        assert_eq!(store.ids(&id[..6]).unwrap(), std::slice::from_ref(&id));
        assert!(store.ids("%").unwrap().is_empty() && store.load("0").unwrap().is_none());
    }

    #[test]
    fn words_are_found_in_every_message_and_gone_when_removed() {
        let (folder, mut store) = store();
        let id = fresh_id();
        store.begin(&id, "Colours", None, Some("Tiny-7B"), 10).unwrap();
        let question = store.add(&id, None, &said(Role::User, "Why is the café's sky blue?"), 11).unwrap();
        store
            .add(
                &id,
                Some(question),
                &said(Role::Assistant, "Because of Rayleigh scattering xyzzyplugh."),
                12,
            )
            .unwrap();
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
        let entries = vec![said(Role::User, "a"), Entry { parent: Some(0), ..said(Role::Assistant, "b") }];
        let record = Record { id: "00ff00ff00ff00ff".into(), entries, head: Some(1), ..Record::default() };
        assert!(store.import(&record).unwrap() && !store.import(&record).unwrap());
        assert_eq!(store.load(&record.id).unwrap().unwrap().record, record);
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
        assert!(matches!(Conversations::open(&path), Err(Trouble::Newer(_))));
        assert_eq!(fs::read(&path).unwrap(), before);
    }
}
