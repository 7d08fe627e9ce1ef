//! Conversations on disk: an SQLite database in the user's data folder. The only file naming rusqlite.
//!
//! A conversation is a row, its messages are rows that know the message before them: two programs that go on with the same
//! conversation make two branches. Every change is on the disk when the call returns. The files of `migrations/` are applied in
//! their order, once each, and never edited.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OptionalExtension, Row, params};

use crate::chat::Role;
use crate::chat::record::{Answer, Entry, Record};
use crate::error::{Failure, reason};

const MIGRATIONS: &[&str] = &[include_str!("migrations/001.sql")];
/// The version of a database with all of them.
const NEWEST: u32 = MIGRATIONS.len() as u32;
/// How long another program may hold the database.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why the store cannot be used as it should.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    #[error("{0} was written by a newer version of fireside")]
    Newer(PathBuf),
    #[error("the stored conversations are damaged")]
    Damaged,
    #[error("{0}")]
    Other(String),
}

impl From<rusqlite::Error> for Trouble {
    fn from(error: rusqlite::Error) -> Trouble {
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Trouble::Damaged,
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                Trouble::Other("another program holds the stored conversations".into())
            }
            Some(ErrorCode::ReadOnly) => Trouble::Other("the stored conversations may not be written".into()),
            Some(ErrorCode::DiskFull) => Trouble::Other("the disk is full".into()),
            _ => Trouble::Other(error.to_string()),
        }
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Trouble {
        Trouble::Other(reason(&error))
    }
}

impl From<Trouble> for Failure {
    fn from(trouble: Trouble) -> Failure {
        Failure::new(format!("could not use the stored conversations: {trouble}"))
    }
}

/// The number of a message in the database.
pub type Number = i64;

/// A conversation in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    pub id: String,
    pub title: String,
    pub changed: i64,
    pub model: Option<String>,
    pub messages: u32,
}

/// A message that was searched for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hit {
    pub conversation: Summary,
    pub role: Role,
    /// The place in the text, the words found between [`Hit::BEGIN`] and [`Hit::END`].
    pub snippet: String,
}

impl Hit {
    pub const BEGIN: char = '\u{2}';
    pub const END: char = '\u{3}';
}

/// Which conversations are wanted.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// A part of the model's name.
    pub model: Option<String>,
    /// Changed then or later, in milliseconds since 1970.
    pub since: Option<i64>,
    pub most: Option<usize>,
}

/// An open database.
pub struct Conversations {
    connection: Connection,
}

impl Conversations {
    /// Opens the database at `path`, or makes it. A damaged one is moved aside and told of in the second value.
    pub fn open(path: &Path) -> Result<(Conversations, Option<String>), Trouble> {
        // Looked over before anything is written: what is added to a damaged file may never be seen again.
        match Conversations::try_open(path).and_then(|store| store.check().map(|()| store)) {
            Err(Trouble::Damaged) => {
                let aside = set_aside(path)?;
                let note = format!("the stored conversations were damaged: they are now {}", aside.display());
                Ok((Conversations::try_open(path)?, Some(note)))
            }
            opened => opened.map(|store| (store, None)),
        }
    }

    /// Opens the database if it is there; nothing is made or changed.
    pub fn existing(path: &Path) -> Result<Option<Conversations>, Trouble> {
        if !path.exists() {
            return Ok(None);
        }
        Conversations::try_open(path).map(Some)
    }

    fn try_open(path: &Path) -> Result<Conversations, Trouble> {
        let folder = path.parent().unwrap_or(Path::new("."));
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        only_for_the_user(folder, 0o700)?; // another part of the program may have made it
        // Made by us, so that nobody else may read it for a moment.
        match fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e.into()),
            _ => {}
        }
        only_for_the_user(path, 0o600)?;
        let connection = Connection::open(path)?;
        connection.busy_timeout(PATIENCE)?;
        connection.execute_batch(
            "pragma journal_mode = wal; pragma synchronous = full; pragma foreign_keys = on; pragma secure_delete = on;",
        )?;
        let mut store = Conversations { connection };
        store.migrate(path)?;
        Ok(store)
    }

    fn migrate(&mut self, path: &Path) -> Result<(), Trouble> {
        let version = |connection: &Connection| {
            connection.query_row("pragma user_version", [], |row| row.get::<_, u32>(0))
        };
        if version(&self.connection)? == NEWEST {
            return Ok(());
        }
        let change = self.connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        let applied = version(&change)?; // another program may have been first
        if applied > NEWEST {
            return Err(Trouble::Newer(path.to_path_buf()));
        }
        for migration in &MIGRATIONS[applied as usize..] {
            change.execute_batch(migration)?;
        }
        change.pragma_update(None, "user_version", NEWEST)?;
        change.commit()?;
        Ok(())
    }

    /// Begins a conversation; gives its id.
    pub fn begin(
        &mut self,
        title: &str,
        system: Option<&str>,
        model: Option<&str>,
        interactive: bool,
        now: i64,
    ) -> Result<String, Trouble> {
        let id = format!("{:016x}", fresh());
        self.connection.execute(
            "insert into conversation (id, title, created, changed, system, model, interactive) \
             values (?1, ?2, ?3, ?3, ?4, ?5, ?6)",
            params![id, title, now, system, model, interactive],
        )?;
        Ok(id)
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
        change.execute(
            "update conversation set head = ?2, changed = ?3 where id = ?1",
            params![id, number, now],
        )?;
        change.commit()?;
        Ok(number)
    }

    /// Replaces what an answer says so far.
    pub fn update(&mut self, number: Number, text: &str, answer: &Answer) -> Result<(), Trouble> {
        self.connection.execute(
            "update message set text = ?2, answer = ?3 where number = ?1",
            params![number, text, json(answer)],
        )?;
        Ok(())
    }

    pub fn move_head(&mut self, id: &str, head: Option<Number>) -> Result<(), Trouble> {
        self.connection.execute("update conversation set head = ?2 where id = ?1", params![id, head])?;
        Ok(())
    }

    pub fn set_system(&mut self, id: &str, system: Option<&str>) -> Result<(), Trouble> {
        self.connection.execute("update conversation set system = ?2 where id = ?1", params![id, system])?;
        Ok(())
    }

    pub fn set_title(&mut self, id: &str, title: &str) -> Result<(), Trouble> {
        self.connection.execute("update conversation set title = ?2 where id = ?1", params![id, title])?;
        Ok(())
    }

    pub fn set_model(&mut self, id: &str, model: Option<&str>) -> Result<(), Trouble> {
        self.connection.execute("update conversation set model = ?2 where id = ?1", params![id, model])?;
        Ok(())
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
        change.commit()?;
        Ok(true)
    }

    /// A conversation, and the number of each of its entries. `None` if there is none of that id.
    pub fn load(&self, id: &str) -> Result<Option<(Record, Vec<Number>)>, Trouble> {
        let query = "select title, created, changed, system, model, head from conversation where id = ?1";
        let found = self.connection.query_row(query, [id], |row| {
            let head: Option<Number> = row.get(5)?;
            let record = Record {
                id: id.to_string(),
                title: row.get(0)?,
                created: row.get(1)?,
                changed: row.get(2)?,
                system: row.get(3)?,
                model: row.get(4)?,
                entries: Vec::new(),
                head: None,
            };
            Ok((record, head))
        });
        let Some((mut record, head)) = found.optional()? else { return Ok(None) };
        let query = "select number, parent, role, text, attachments, created, answer from message \
                     where conversation = ?1 order by number";
        let mut statement = self.connection.prepare(query)?;
        let mut rows = statement.query([id])?;
        let mut numbers: Vec<Number> = Vec::new();
        while let Some(row) = rows.next()? {
            let parent: Option<Number> = row.get(1)?;
            record.entries.push(Entry {
                parent: parent.and_then(|parent| numbers.binary_search(&parent).ok()),
                role: role(&row.get::<_, String>(2)?),
                text: row.get(3)?,
                attachments: parsed(row.get(4)?).unwrap_or_default(),
                created: row.get(5)?,
                answer: parsed(row.get(6)?),
            });
            numbers.push(row.get(0)?);
        }
        record.head = head.and_then(|head| numbers.binary_search(&head).ok());
        Ok(Some((record, numbers)))
    }

    /// The ids that begin with `prefix`, at most a few.
    pub fn ids(&self, prefix: &str) -> Result<Vec<String>, Trouble> {
        if prefix.is_empty() || !prefix.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Ok(Vec::new());
        }
        let query = "select id from conversation where id >= ?1 and id < ?1 || 'g' order by id limit 20";
        let mut statement = self.connection.prepare(query)?;
        let ids = statement.query_map([prefix.to_lowercase()], |row| row.get(0))?;
        Ok(ids.collect::<Result<_, _>>()?)
    }

    /// Conversations with at least one message, the one changed last first.
    pub fn list(&self, filter: &Filter) -> Result<Vec<Summary>, Trouble> {
        let query = "select id, title, changed, model, (select count(*) from message where conversation = id) \
                     from conversation where exists (select 1 from message where conversation = id) and (?1 is null or instr(lower(coalesce(model, '')), lower(?1)) > 0) \
                     and (?2 is null or changed >= ?2) order by changed desc limit ?3";
        let mut statement = self.connection.prepare(query)?;
        let most = filter.most.map_or(-1, |most| most as i64);
        let rows = statement.query_map(params![filter.model, filter.since, most], summary)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Looks over the whole file for damage that SQLite can see.
    pub fn check(&self) -> Result<(), Trouble> {
        let said: String = self.connection.query_row("pragma quick_check(1)", [], |row| row.get(0))?;
        if said == "ok" { Ok(()) } else { Err(Trouble::Damaged) }
    }

    /// The chat that was changed last.
    pub fn last_chat(&self) -> Result<Option<String>, Trouble> {
        let query = "select id from conversation where interactive and exists (select 1 from message where conversation = id) order by changed desc limit 1";
        Ok(self.connection.query_row(query, [], |row| row.get(0)).optional()?)
    }

    /// Messages that have all these words, the one kept last first: to find the best of many, all would have to be weighed.
    /// The last word may be the beginning of one.
    pub fn search(&self, words: &str, filter: &Filter) -> Result<Vec<Hit>, Trouble> {
        let words: Vec<String> =
            words.split_whitespace().map(|word| format!("\"{}\"", word.replace('"', "\"\""))).collect();
        if words.is_empty() {
            return Ok(Vec::new());
        }
        let query = "select conversation.id, title, changed, model, \
                     (select count(*) from message where conversation = conversation.id), role, \
                     snippet(word, 0, char(2), char(3), '…', 16) \
                     from word join message on message.number = word.rowid \
                     join conversation on conversation.id = message.conversation \
                     where word match ?1 and (?2 is null or instr(lower(coalesce(model, '')), lower(?2)) > 0) \
                     and (?3 is null or changed >= ?3) order by word.rowid desc limit ?4";
        let mut statement = self.connection.prepare(query)?;
        let most = filter.most.map_or(-1, |most| most as i64);
        let rows =
            statement.query_map(params![words.join(" ") + "*", filter.model, filter.since, most], |row| {
                Ok(Hit {
                    conversation: summary(row)?,
                    role: role(&row.get::<_, String>(5)?),
                    snippet: row.get(6)?,
                })
            })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Removes a conversation, its messages and their words. What they took of the files is overwritten.
    pub fn remove(&mut self, id: &str) -> Result<bool, Trouble> {
        let removed = self.connection.execute("delete from conversation where id = ?1", [id])?;
        // The write-ahead log holds pages from before: they go, too.
        self.connection.query_row("pragma wal_checkpoint(truncate)", [], |_| Ok(()))?;
        Ok(removed > 0)
    }
}

fn only_for_the_user(path: &Path, mode: u32) -> io::Result<()> {
    match fs::metadata(path)?.permissions().mode() & 0o077 {
        0 => Ok(()),
        _ => fs::set_permissions(path, fs::Permissions::from_mode(mode)),
    }
}

fn insert(
    connection: &Connection,
    id: &str,
    parent: Option<Number>,
    entry: &Entry,
) -> Result<Number, Trouble> {
    let attachments = (!entry.attachments.is_empty()).then(|| json(&entry.attachments));
    connection.execute(
        "insert into message (conversation, parent, role, text, attachments, created, answer) \
         values (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        params![
            id,
            parent,
            entry.role.name(),
            entry.text,
            attachments,
            entry.created,
            entry.answer.as_ref().map(json)
        ],
    )?;
    Ok(connection.last_insert_rowid())
}

fn summary(row: &Row) -> rusqlite::Result<Summary> {
    Ok(Summary {
        id: row.get(0)?,
        title: row.get(1)?,
        changed: row.get(2)?,
        model: row.get(3)?,
        messages: row.get(4)?,
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

/// A number that nobody had before.
fn fresh() -> u64 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    RandomState::new().build_hasher().finish() // keyed by the system's randomness
}

/// Moves a database and what belongs to it out of the way; nothing is overwritten.
fn set_aside(path: &Path) -> Result<PathBuf, Trouble> {
    let named = |number: u32, suffix: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(format!("{suffix}.damaged-{number}"));
        PathBuf::from(name)
    };
    let number =
        (1..).find(|number| !named(*number, "").exists()).expect("numbers do not end before files do");
    for suffix in ["-wal", "-shm", ""] {
        let mut file = path.as_os_str().to_owned();
        file.push(suffix);
        if Path::new(&file).exists() {
            fs::rename(&file, named(number, suffix))?;
        }
    }
    Ok(named(number, ""))
}

#[cfg(test)]
mod tests {
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
        let id = store.begin("Hi", Some("be kind"), Some("tiny"), true, 10).unwrap();
        assert_eq!(id.len(), 16);
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
        let (record, numbers) = store.load(&id).unwrap().unwrap();
        assert_eq!(numbers.len(), 3);
        assert_eq!((record.system.as_deref(), record.changed), (Some("be kind"), 13));
        let texts: Vec<&str> = record.path().iter().map(|i| record.entries[*i].text.as_str()).collect();
        assert_eq!(texts, ["hi", "hello there"]);
        assert_eq!(record.entries[2].parent, Some(0));
        assert_eq!(record.entries[1].answer.as_ref().unwrap().seed, Some(7));
        assert_eq!(store.last_chat().unwrap().as_ref(), Some(&id));
        assert_eq!(store.ids(&id[..6]).unwrap(), std::slice::from_ref(&id));
        assert!(store.ids("%").unwrap().is_empty() && store.load("0").unwrap().is_none());
    }

    #[test]
    fn words_are_found_in_every_message_and_gone_when_removed() {
        let (folder, mut store) = store();
        let id = store.begin("Colours", None, Some("Tiny-7B"), false, 10).unwrap();
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
        assert_eq!(store.load(&record.id).unwrap().unwrap().0, record);
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
