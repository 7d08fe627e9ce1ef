//! The database file: open or create, migrate, check; read-only databases are opened as a copy.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::migrations::{MIGRATIONS, NEWEST};
use super::recover::{self, Recovered};
use super::{Conversations, Error, text};
use crate::files::{beside, folder_of, own_folder, own_locked_file};
use crate::units::count;

/// How long to wait for another program that holds the database.
const PATIENCE: Duration = Duration::from_millis(1500);

impl Conversations {
    /// Opens or creates the database at `path`. Moves a damaged one aside and recovers what is readable; the
    /// second value reports that.
    pub fn open(path: &Path) -> Result<(Conversations, Option<String>), Error> {
        // Checks before any write: additions to a damaged file may be lost.
        let checked = |store: Conversations| {
            store.check()?;
            // Moves the write-ahead log of earlier programs into the file; if another program is reading, a
            // later time will do.
            store.connection.query_row("pragma wal_checkpoint(passive)", [], |_| Ok(()))?;
            Ok(store)
        };
        match Conversations::try_open(path).and_then(checked) {
            Err(Error::Damaged) => {
                let note = recover::replace(path)?.map(|Recovered { messages, aside }| {
                    format!(
                        "the stored conversations were damaged: recovered {}; the damaged file is now {}",
                        count(messages, "message"),
                        aside.display()
                    )
                });
                Ok((Conversations::try_open(path)?, note))
            }
            opened => opened.map(|store| (store, None)),
        }
    }

    /// Opens the database if it exists, to read from it or to remove conversations. SQLite cannot read where
    /// it cannot write: then opens a copy.
    pub fn existing(path: &Path) -> Result<Option<Conversations>, Error> {
        if fs::symlink_metadata(path).is_err_and(|e| e.kind() == io::ErrorKind::NotFound) {
            return Ok(None);
        }
        match Conversations::try_open(path) {
            Err(Error::Other(why)) => {
                let copy = Conversations::copy(path, why.clone());
                copy.map_err(|_| Error::Other(why)).map(Some)
            }
            opened => opened.map(Some),
        }
    }

    /// Whether this is a temporary copy, in which changes are lost.
    pub fn is_copy(&self) -> bool {
        self.copy.is_some()
    }

    fn copy(path: &Path, why: String) -> Result<Conversations, Error> {
        let folder = tempfile::tempdir()?;
        let copied = folder.path().join("conversations.db");
        for ending in ["", "-wal"] {
            let (from, to) = (beside(path, ending), beside(&copied, ending));
            if from.exists() {
                fs::copy(from, &to)?;
                fs::set_permissions(to, fs::Permissions::from_mode(0o600))?;
            }
        }
        let store = Conversations::try_open(&copied)?;
        Ok(Conversations { copy: Some((folder, why)), ..store })
    }

    pub(super) fn try_open(path: &Path) -> Result<Conversations, Error> {
        Conversations::open_at(path, NEWEST)
    }

    /// Opens or creates the database and migrates it to `version`. Rows recovered from an older database are
    /// written in its own version before they are migrated.
    pub(super) fn open_at(path: &Path, version: u32) -> Result<Conversations, Error> {
        let folder = folder_of(path);
        own_folder(folder)?; // another part of the program may have created it
        own_locked_file(path)?; // SQLite's own errors are obscure
        let file = folder.canonicalize()?.join(path.file_name().unwrap_or_default());
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(file, flags | OpenFlags::SQLITE_OPEN_NOFOLLOW)?;
        connection.busy_timeout(PATIENCE)?;
        connection.execute_batch(
            "pragma journal_mode = wal; pragma synchronous = full; pragma foreign_keys = on; pragma secure_delete = on;",
        )?;
        let file = identity(path)?;
        let mut store = Conversations { connection, path: path.into(), file, copy: None };
        store.migrate(path, version)?;
        Ok(store)
    }

    /// Migrates in one transaction: if the program ends meanwhile, the database is unchanged.
    pub(super) fn migrate(&mut self, path: &Path, to: u32) -> Result<(), Error> {
        let version = |connection: &Connection| {
            connection.query_row("pragma user_version", [], |row| row.get::<_, u32>(0))
        };
        if version(&self.connection)? == to {
            return Ok(());
        }
        let change = self.connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        let applied = version(&change)?; // another program may have been faster
        if applied > to {
            return Err(Error::Newer(path.to_path_buf()));
        }
        if applied > 0 {
            look_over(&change, applied)?; // migrating would lose unreadable rows
        }
        for migration in &MIGRATIONS[applied as usize..to as usize] {
            change.execute_batch(migration)?;
        }
        change.pragma_update(None, "user_version", to)?;
        change.commit()?;
        Ok(())
    }

    /// Checks the whole file for damage that SQLite detects, and the schema for changes.
    pub fn check(&self) -> Result<(), Error> {
        look_over(&self.connection, NEWEST)
    }
}

fn look_over(connection: &Connection, version: u32) -> Result<(), Error> {
    let said: String = connection.query_row("pragma integrity_check(1)", [], |row| row.get(0))?;
    let ours = Connection::open_in_memory()?;
    MIGRATIONS[..version as usize].iter().try_for_each(|migration| ours.execute_batch(migration))?;
    let sound = said == "ok" && schema(connection)? == schema(&ours)?;
    if sound { Ok(()) } else { Err(Error::Damaged) }
}

/// The tables, indices and triggers of a database.
fn schema(connection: &Connection) -> rusqlite::Result<Vec<[Option<String>; 3]>> {
    let mut statement = connection.prepare("select name, tbl_name, sql from sqlite_schema order by name")?;
    let rows = statement.query_map([], |row| Ok([text(row, 0)?, text(row, 1)?, text(row, 2)?]))?;
    rows.collect()
}

/// Device and inode of a file.
pub(super) fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::metadata(path).map(|file| (file.dev(), file.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::journal::take_in;

    #[test]
    fn into_a_copy_nothing_is_taken_in() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.db");
        drop(Conversations::open(&path).unwrap());
        let aside = folder.path().join("c.db.aside-x");
        fs::write(&aside, "{}").unwrap();
        let mut copy = Conversations::copy(&path, "it may not be written".into()).unwrap();
        take_in(&path, &mut copy).unwrap();
        assert!(aside.exists());
        take_in(&path, &mut Conversations::open(&path).unwrap().0).unwrap();
        assert!(!aside.exists());
    }
}
