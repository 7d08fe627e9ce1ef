//! The thread that writes to the database, one change at a time, however long it takes.

use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::statvfs::statvfs;

use super::aside::take_in;
use super::change::{Change, What};
use super::progress::JournalProgress;
use crate::history::database::{Conversations, Error};

/// How soon to retry a failed write without another reason.
const AGAIN: Duration = Duration::from_secs(2);

/// Runs until the journal ends.
pub(super) fn run(file: PathBuf, progress: &JournalProgress) {
    let mut writer = Writer { file, progress, store: None, opened: false, gone: false };
    if writer.file.exists() {
        // Checks the database before anyone waits for it; problems are reported when something is written.
        writer.store = writer.open().ok();
    }
    while let Some((change, asked)) = progress.next_change() {
        match writer.write(&change) {
            Ok(()) => progress.written(),
            Err(trouble) => {
                writer.complain(&trouble);
                if !progress.failed(asked, AGAIN) {
                    return;
                }
            }
        }
    }
}

struct Writer<'a> {
    file: PathBuf,
    progress: &'a JournalProgress,
    store: Option<Conversations>,
    /// A database was opened before: the next one is another one.
    opened: bool,
    /// The database has been replaced: skips changes until the journal starts over with `Begin`.
    gone: bool,
}

impl Writer<'_> {
    fn complain(&mut self, trouble: &Error) {
        if matches!(trouble, Error::Damaged) {
            self.store = None; // opening the database again moves the damaged one aside
        }
        let held = matches!(trouble, Error::Held);
        let line = match held {
            true => format!("{trouble}: new messages are saved in a file beside them for now"),
            false if is_full(&self.file) => "this conversation is not being saved: the disk is full".into(),
            false => format!("this conversation is not being saved: {trouble}"),
        };
        self.progress.change(|state| {
            state.refused = !held;
            state.complain(line);
        });
    }

    /// Opens the database at its path. If it has been replaced, the conversation, or part of it, may be
    /// missing.
    fn open(&mut self) -> Result<Conversations, Error> {
        let (mut store, note) = Conversations::open(&self.file)?;
        let _ = take_in(&self.file, &mut store); // changes that cannot be applied stay in their file
        self.progress.change(|state| note.into_iter().for_each(|note| state.complain(note)));
        if std::mem::replace(&mut self.opened, true) {
            self.gone = true;
            self.progress.change(|state| state.gone = true);
        }
        Ok(store)
    }

    fn write(&mut self, change: &Change) -> Result<(), Error> {
        let mut store = match self.store.take().filter(Conversations::is_in_place) {
            Some(store) => store,
            None => self.open()?,
        };
        self.gone &= !matches!(change.what, What::Begin { .. });
        let done = if self.gone { Ok(()) } else { change.apply(&mut store) };
        self.store = Some(store);
        done
    }
}

fn is_full(file: &Path) -> bool {
    let disk = file.ancestors().find_map(|folder| statvfs(folder).ok());
    disk.is_some_and(|disk| disk.blocks_available() == 0)
}
