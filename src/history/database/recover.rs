//! A damaged database → a new one with all that can still be read of it; the damaged one stays, under another name.
//!
//! Every message is looked up by its own number, so that a page that cannot be read takes only what is on it. Numbers and
//! ids stay what they were. A row whose sum is wrong is taken over with that sum: it goes on being known as damaged.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use rusqlite::config::DbConfig;
use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};

use super::checksums::{SUMMED, Table};
use super::open::beside;
use super::{Conversations, Number, Trouble};
use crate::chat::record::title_from;
use crate::files::{folder_of, lock_folder};

/// Numbers that are tried where the damaged database does not tell its highest.
const MOST_TRIED: Number = 1_000_000;
/// Columns of a row with its sum.
const COLUMNS: usize = SUMMED + 1;

type Cells = [Value; COLUMNS];

/// What became of a damaged database.
pub(super) struct Recovered {
    pub(super) messages: usize,
    pub(super) aside: PathBuf,
}

/// Puts a new database in the place of a damaged one. `None`: another program did so meanwhile.
pub(super) fn replace(path: &Path) -> Result<Option<Recovered>, Trouble> {
    let folder = folder_of(path);
    let _lock = lock_folder(folder)?; // one program at a time
    if Conversations::try_open(path).and_then(|store| store.check()).is_ok() {
        return Ok(None);
    }
    let fresh = tempfile::Builder::new().prefix("conversations-").suffix(".new").tempfile_in(folder)?;
    let mut store = Conversations::try_open(fresh.path())?;
    let messages = match open_damaged(path) {
        Ok(damaged) => take_over(&damaged, &mut store)?,
        Err(_) => 0, // nothing of it can be read
    };
    drop(store); // everything is in the one file now
    let aside = set_aside(path)?;
    fresh.persist(path).map_err(|e| e.error)?;
    Ok(Some(Recovered { messages, aside }))
}

/// Opens a database to be read and not to be written to, though what is in its log belongs to it.
fn open_damaged(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    // Without the first, SQLite reads nothing of a file that was cut.
    connection
        .execute_batch("pragma writable_schema = on; pragma query_only = on; pragma cell_size_check = on;")?;
    Ok(connection)
}

/// Copies what can be read; says how many messages that was.
fn take_over(damaged: &Connection, store: &mut Conversations) -> Result<usize, Trouble> {
    let change = store.connection.transaction()?;
    let mut conversations: BTreeMap<String, Cells> = conversations(damaged);
    let mut begun: HashSet<String> = HashSet::new();
    let mut taken: HashSet<Number> = HashSet::new();
    let mut add_message = change.prepare(&insert(Table::Message))?;
    let mut add_conversation = change.prepare(&insert(Table::Conversation))?;
    for cells in messages(damaged) {
        let [Value::Integer(number), Value::Text(conversation), parent, _, Value::Text(text), ..] = &cells
        else {
            continue;
        };
        if begun.insert(conversation.clone()) {
            let heading =
                conversations.remove(conversation).unwrap_or_else(|| heading(conversation, text, &cells[6]));
            add_conversation.execute(params_from_iter(heading))?;
        }
        let number = *number;
        // Its parent may be what could not be read: then it begins the conversation, and its sum says that something is wrong.
        let orphan = matches!(parent, Value::Integer(parent) if !taken.contains(parent));
        let mut cells = cells;
        if orphan {
            cells[2] = Value::Null;
        }
        if add_message.execute(params_from_iter(cells)).is_ok() {
            taken.insert(number);
        }
    }
    for heading in conversations.into_values() {
        add_conversation.execute(params_from_iter(heading))?; // nothing is left of what was said, but that it was
    }
    drop((add_message, add_conversation));
    let last = "update conversation set head = (select max(number) from message where conversation = id) \
                where sum is null or head not in (select number from message)";
    change.execute(last, [])?;
    change.commit()?;
    Ok(taken.len())
}

fn insert(table: Table) -> String {
    let places = (1..=COLUMNS).map(|place| format!("?{place}")).collect::<Vec<_>>().join(", ");
    format!("insert or ignore into {} ({}, sum) values ({places})", table.name(), table.columns())
}

/// What stands for a conversation of which only messages can be read: the last one read is shown.
fn heading(id: &str, first: &str, created: &Value) -> Cells {
    let created = match created {
        Value::Integer(created) => Value::Integer(*created),
        _ => Value::Integer(0),
    };
    let title = Value::Text(title_from(first));
    let (id, none) = (Value::Text(id.into()), Value::Null);
    [id, title, created.clone(), created, none.clone(), none.clone(), Value::Integer(1), none.clone(), none]
}

/// The conversations that can be read, whichever way through the file leads to them.
fn conversations(damaged: &Connection) -> BTreeMap<String, Cells> {
    let columns = Table::Conversation.columns();
    let mut found = BTreeMap::new();
    for way in
        ["order by rowid", "order by rowid desc", "order by changed", "order by changed desc", "order by id"]
    {
        let query = format!("select {columns}, sum from conversation {way}");
        let Ok(mut statement) = damaged.prepare(&query) else { continue };
        let Ok(mut rows) = statement.query([]) else { continue };
        while let Ok(Some(row)) = rows.next() {
            if let Some(cells) = cells(row)
                && let Value::Text(id) = &cells[0]
            {
                found.entry(id.clone()).or_insert(cells);
            }
        }
    }
    found
}

fn messages(damaged: &Connection) -> impl Iterator<Item = Cells> {
    let highest = |query| damaged.query_row(query, [], |row| row.get::<_, Number>(0)).unwrap_or(0);
    let told = highest("select max(number) from message").max(highest("select max(head) from conversation"));
    let last = if told > 0 { told.min(MOST_TRIED) } else { MOST_TRIED };
    let query = format!("select {}, sum from message where number = ?1", Table::Message.columns());
    let mut statement = damaged.prepare(&query).ok();
    (1..=last)
        .map_while(move |number| {
            let statement = statement.as_mut()?;
            let row = statement.query([number]).and_then(|mut rows| Ok(rows.next()?.and_then(cells)));
            Some(row.ok().flatten().filter(|cells| cells[0] == Value::Integer(number)))
        })
        .flatten()
}

/// A row with its sum. Text that is none any more becomes as much of it as there is.
fn cells(row: &rusqlite::Row) -> Option<Cells> {
    let mut cells: Cells = std::array::from_fn(|_| Value::Null);
    for (column, cell) in cells.iter_mut().enumerate() {
        *cell = match row.get_ref(column).ok()? {
            rusqlite::types::ValueRef::Text(bytes) => {
                Value::Text(String::from_utf8_lossy(bytes).into_owned())
            }
            other => other.try_into().ok()?,
        };
    }
    Some(cells)
}

/// Moves a database and what belongs to it out of the way; nothing is overwritten.
fn set_aside(path: &Path) -> Result<PathBuf, Trouble> {
    let named = |number: u32, suffix: &str| beside(path, &format!("{suffix}.damaged-{number}"));
    let number =
        (1..).find(|number| !named(*number, "").exists()).expect("numbers do not end before files do");
    for suffix in ["-wal", "-shm", ""] {
        let file = beside(path, suffix);
        if file.exists() {
            fs::rename(&file, named(number, suffix))?;
        }
    }
    Ok(named(number, ""))
}
