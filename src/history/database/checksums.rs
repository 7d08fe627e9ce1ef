//! A sum in every row, which tells what was written from what the disk made of it later.
//!
//! SQLite sees when a page no longer makes sense, but not when a letter became another one. Sums are CRC-32 over all columns
//! of a row that mean something, each with its type and its length.

use rusqlite::types::{Value, ValueRef};
use rusqlite::{Connection, Row, ToSql, params};

/// Rows that have a sum.
#[derive(Debug, Clone, Copy)]
pub(super) enum Table {
    Conversation,
    Message,
}

impl Table {
    /// The columns that are summed, in their order.
    pub(super) fn columns(self) -> &'static str {
        match self {
            Table::Conversation => "id, title, created, changed, system, model, interactive, head",
            Table::Message => "number, conversation, parent, role, text, attachments, created, answer",
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Table::Conversation => "conversation",
            Table::Message => "message",
        }
    }

    /// The column that tells a row from all others.
    fn key(self) -> &'static str {
        match self {
            Table::Conversation => "id",
            Table::Message => "number",
        }
    }
}

/// How many columns are summed, in every table.
pub(super) const SUMMED: usize = 8;

/// Whether a row of a table's columns, followed by its sum, is as it was written.
pub(super) fn is_sound(row: &Row) -> rusqlite::Result<bool> {
    let kept = row.get_ref(SUMMED)?;
    Ok(kept == ValueRef::Integer(i64::from(sum_of(row)?)))
}

fn sum_of(row: &Row) -> rusqlite::Result<u32> {
    let mut sum = crc32fast::Hasher::new();
    let mut add = |kind: u8, bytes: &[u8]| {
        sum.update(&[kind]);
        sum.update(&(bytes.len() as u64).to_le_bytes());
        sum.update(bytes);
    };
    for column in 0..SUMMED {
        match row.get_ref(column)? {
            ValueRef::Null => add(0, &[]),
            ValueRef::Integer(number) => add(1, &number.to_le_bytes()),
            ValueRef::Real(number) => add(2, &number.to_le_bytes()),
            ValueRef::Text(bytes) => add(3, bytes),
            ValueRef::Blob(bytes) => add(4, bytes),
        }
    }
    Ok(sum.finalize())
}

/// Gives a row the sum of what it says now.
pub(super) fn seal(connection: &Connection, table: Table, key: &dyn ToSql) -> rusqlite::Result<()> {
    let (columns, name, id) = (table.columns(), table.name(), table.key());
    let query = format!("select {columns} from {name} where {id} = ?1");
    let sum = connection.prepare_cached(&query)?.query_row([key], sum_of)?;
    let change = format!("update {name} set sum = ?2 where {id} = ?1");
    connection.prepare_cached(&change)?.execute(params![key, sum])?;
    Ok(())
}

/// Makes a change to a row. One that the disk had changed before does not look sound afterwards.
pub(super) fn change(
    connection: &Connection,
    table: Table,
    key: &dyn ToSql,
    change: impl FnOnce() -> rusqlite::Result<()>,
) -> rusqlite::Result<()> {
    let (columns, name, id) = (table.columns(), table.name(), table.key());
    let query = format!("select {columns}, sum from {name} where {id} = ?1");
    let sound = connection.prepare_cached(&query)?.query_row([key], is_sound)?;
    change()?;
    if sound { seal(connection, table, key) } else { Ok(()) }
}

/// Gives every row its sum: for a database from before there were sums.
pub(super) fn seal_all(connection: &Connection) -> rusqlite::Result<()> {
    for table in [Table::Conversation, Table::Message] {
        let (columns, name, id) = (table.columns(), table.name(), table.key());
        let mut rows = connection.prepare(&format!("select {columns} from {name}"))?;
        let mut rows = rows.query([])?;
        let mut set = connection.prepare(&format!("update {name} set sum = ?2 where {id} = ?1"))?;
        while let Some(row) = rows.next()? {
            set.execute(params![row.get::<_, Value>(0)?, sum_of(row)?])?;
        }
    }
    Ok(())
}
