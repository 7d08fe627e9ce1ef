//! A damaged database → a new one with everything readable; the damaged one is renamed.
//!
//! Looks up every message by its row number, so that an unreadable page costs only its own rows. Ids stay the
//! same. Rows of an older version are copied in that version's layout, then migrated as usual.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use rusqlite::config::DbConfig;
use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};

use super::migrations::NEWEST;
use super::{Conversations, Error, Number};
use crate::chat::record::title_from;
use crate::files::{beside, folder_of, lock_folder};

/// How many row numbers to try if the damaged database does not reveal its highest.
const MOST_TRIED: Number = 1_000_000;

/// The columns to copy from a version of the database.
struct Layout {
    version: u32,
    /// Columns; `id, title, created, changed, head` come first.
    conversation: &'static [&'static str],
    /// Columns; `number, conversation, parent, text, created` come first.
    message: &'static [&'static str],
}

/// The newest first. Version 1 has the columns of version 2 except for the checksums, which are not copied.
const LAYOUTS: [Layout; 2] = [
    Layout {
        version: NEWEST,
        conversation: &["id", "title", "created", "changed", "head", "system", "model"],
        message: &[
            "number",
            "conversation",
            "parent",
            "text",
            "created",
            "id",
            "role",
            "parts",
            "thinking",
            "answer",
        ],
    },
    Layout {
        version: 2,
        conversation: &["id", "title", "created", "changed", "head", "system", "model", "interactive"],
        message: &["number", "conversation", "parent", "text", "created", "role", "attachments", "answer"],
    },
];

/// The values of one row.
type Cells = Vec<Value>;

/// The result of a recovery.
pub(super) struct Recovered {
    pub(super) messages: usize,
    pub(super) aside: PathBuf,
}

/// Replaces a damaged database with a new one. `None`: another program has already done so.
pub(super) fn replace(path: &Path) -> Result<Option<Recovered>, Error> {
    let folder = folder_of(path);
    let _lock = lock_folder(folder)?; // one program at a time
    if Conversations::try_open(path).and_then(|store| store.check()).is_ok() {
        return Ok(None);
    }
    let fresh = tempfile::Builder::new().prefix("conversations-").suffix(".new").tempfile_in(folder)?;
    let damaged = open_damaged(path).ok(); // if this fails, nothing is readable
    let layout = damaged.as_ref().and_then(layout);
    let version = layout.map_or(NEWEST, |layout| layout.version);
    let mut store = Conversations::open_at(fresh.path(), version)?;
    let messages = match damaged.zip(layout) {
        Some((damaged, layout)) => take_over(&damaged, layout, &mut store)?,
        None => 0,
    };
    store.migrate(fresh.path(), NEWEST)?;
    drop(store); // now everything is in the one file
    let aside = set_aside(path)?;
    fresh.persist(path).map_err(|e| e.error)?;
    Ok(Some(Recovered { messages, aside }))
}

/// Opens a database read-only, but with its write-ahead log, which belongs to it.
fn open_damaged(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    // Without `writable_schema`, SQLite reads nothing from a truncated file.
    connection
        .execute_batch("pragma writable_schema = on; pragma query_only = on; pragma cell_size_check = on;")?;
    Ok(connection)
}

/// The layout that a database has.
fn layout(damaged: &Connection) -> Option<&'static Layout> {
    LAYOUTS
        .iter()
        .find(|layout| damaged.prepare(&format!("select {} from message", layout.message.join(", "))).is_ok())
}

/// Copies everything readable; returns the number of messages.
fn take_over(damaged: &Connection, layout: &Layout, store: &mut Conversations) -> Result<usize, Error> {
    let change = store.connection.transaction()?;
    let mut conversations: BTreeMap<String, Cells> = conversations(damaged, layout);
    let mut begun: HashSet<String> = HashSet::new();
    let mut taken: HashSet<Number> = HashSet::new();
    let mut add_message = change.prepare(&insert("message", layout.message))?;
    let mut add_conversation = change.prepare(&insert("conversation", layout.conversation))?;
    let mut show_last = change.prepare(
        "update conversation set head = (select max(number) from message where conversation = ?1) where id = ?1",
    )?;
    let mut headless: Vec<String> = Vec::new();
    for mut cells in messages(damaged, layout) {
        let [Value::Integer(number), Value::Text(conversation), parent, Value::Text(text), created, ..] =
            &cells[..]
        else {
            continue;
        };
        let number = *number;
        if begun.insert(conversation.clone()) {
            let known = conversations.remove(conversation);
            headless.extend(known.is_none().then(|| conversation.clone()));
            let heading =
                known.unwrap_or_else(|| heading(conversation, text, created, layout.conversation.len()));
            add_conversation.execute(params_from_iter(heading))?;
        }
        // The parent may be unreadable: then the message starts the conversation.
        if matches!(parent, Value::Integer(parent) if !taken.contains(parent)) {
            cells[2] = Value::Null;
        }
        if add_message.execute(params_from_iter(cells)).is_ok() {
            taken.insert(number);
        }
    }
    for heading in conversations.into_values() {
        add_conversation.execute(params_from_iter(heading))?; // the messages are lost, but not the title
    }
    for id in headless {
        show_last.execute([id])?;
    }
    drop((add_message, add_conversation, show_last));
    let last = "update conversation set head = (select max(number) from message where conversation = conversation.id) \
                where head not in (select number from message where conversation = conversation.id)";
    change.execute(last, [])?;
    change.commit()?;
    Ok(taken.len())
}

fn insert(table: &str, columns: &[&str]) -> String {
    let places = (1..=columns.len()).map(|place| format!("?{place}")).collect::<Vec<_>>().join(", ");
    format!("insert or ignore into {table} ({}) values ({places})", columns.join(", "))
}

/// A heading for a conversation of which only messages are readable.
fn heading(id: &str, first: &str, created: &Value, columns: usize) -> Cells {
    let created = match created {
        Value::Integer(created) => Value::Integer(*created),
        _ => Value::Integer(0),
    };
    let (id, title) = (Value::Text(id.into()), Value::Text(title_from(first)));
    let mut cells = vec![id, title, created.clone(), created, Value::Null, Value::Null, Value::Null];
    cells.resize(columns, Value::Integer(1)); // `interactive` of version 2
    cells
}

/// All readable conversations: tries several ways through the file.
fn conversations(damaged: &Connection, layout: &Layout) -> BTreeMap<String, Cells> {
    let columns = layout.conversation;
    let mut found = BTreeMap::new();
    for way in
        ["order by rowid", "order by rowid desc", "order by changed", "order by changed desc", "order by id"]
    {
        let query = format!("select {} from conversation {way}", columns.join(", "));
        let Ok(mut statement) = damaged.prepare(&query) else { continue };
        let Ok(mut rows) = statement.query([]) else { continue };
        while let Ok(Some(row)) = rows.next() {
            if let Some(cells) = cells(row, columns.len())
                && let Value::Text(id) = &cells[0]
            {
                found.entry(id.clone()).or_insert(cells);
            }
        }
    }
    found
}

fn messages<'d>(damaged: &'d Connection, layout: &Layout) -> impl Iterator<Item = Cells> + use<'d> {
    let highest = |query| damaged.query_row(query, [], |row| row.get::<_, Number>(0)).unwrap_or(0);
    let told = highest("select max(number) from message").max(highest("select max(head) from conversation"));
    let last = if told > 0 { told.min(MOST_TRIED) } else { MOST_TRIED };
    let columns = layout.message.len();
    let query = format!("select {} from message where number = ?1", layout.message.join(", "));
    let mut statement = damaged.prepare(&query).ok();
    (1..=last)
        .map_while(move |number| {
            let statement = statement.as_mut()?;
            let row = statement
                .query([number])
                .and_then(|mut rows| Ok(rows.next()?.and_then(|row| cells(row, columns))));
            Some(row.ok().flatten().filter(|cells| cells[0] == Value::Integer(number)))
        })
        .flatten()
}

/// A row's values, with invalid text replaced.
fn cells(row: &rusqlite::Row, columns: usize) -> Option<Cells> {
    let cell = |column| match row.get_ref(column).ok()? {
        rusqlite::types::ValueRef::Text(bytes) => {
            Some(Value::Text(String::from_utf8_lossy(bytes).into_owned()))
        }
        other => other.try_into().ok(),
    };
    (0..columns).map(cell).collect()
}

/// Renames a database and its log files; overwrites nothing.
fn set_aside(path: &Path) -> Result<PathBuf, Error> {
    let named = |number: u32, suffix: &str| beside(path, &format!("{suffix}.damaged-{number}"));
    let number =
        (1..).find(|number| !named(*number, "").exists()).expect("there are more numbers than files");
    for suffix in ["-wal", "-shm", ""] {
        let file = beside(path, suffix);
        if file.exists() {
            fs::rename(&file, named(number, suffix))?;
        }
    }
    Ok(named(number, ""))
}
