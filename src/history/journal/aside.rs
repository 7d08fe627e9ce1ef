//! What the database does not take in time → a file beside it, and later from there into the database.
//!
//! The database may be locked, looked over, or on a slow disk. The file holds one change a line, as JSON, and is on the disk before
//! it counts. It goes when all of it is in the database. Whoever opens the database next takes in what an ended program left;
//! making a change that was made already does nothing, so it does not matter when that program ended.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::change::{Applied, Change};
use super::progress::{Progress, Step};
use crate::chat::record::title_from;
use crate::clock::now;
use crate::error::reason;
use crate::files::{folder_of, own_file, own_folder};
use crate::history::database::{Conversations, Trouble, fresh_id};

/// How soon a file that could not be written is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// Stands in until nobody gives changes any more.
pub(super) fn run(database: &Path, progress: &Progress) {
    let mut file: Option<Aside> = None;
    let mut not_before = Instant::now();
    loop {
        match progress.next_aside(file.is_some(), not_before) {
            Step::Over => return,
            Step::Remove => _ = file.take().map(Aside::remove),
            Step::Write { applied, changes, end } => {
                let written = match &mut file {
                    Some(file) => file.append(&changes),
                    None => Aside::begin(database, &applied, &changes).map(|begun| file = Some(begun)),
                };
                not_before = Instant::now() + if written.is_ok() { Duration::ZERO } else { AGAIN };
                progress.change(|state| match written {
                    Ok(()) => state.aside = end,
                    Err(error) => {
                        state.complain(format!("this conversation is not being kept: {}", reason(&error)))
                    }
                });
            }
        }
    }
}

/// The file, which belongs to this process as long as it is open.
struct Aside {
    file: File,
    path: PathBuf,
}

impl Aside {
    /// Makes one that begins where the database is.
    fn begin(database: &Path, applied: &Applied, changes: &[Arc<Change>]) -> io::Result<Aside> {
        let folder = folder_of(database);
        own_folder(folder)?;
        let file = tempfile::Builder::new().prefix(&beginning(database)).tempfile_in(folder)?;
        file.as_file().lock()?; // nobody else knows it yet
        let (file, path) = file.keep().map_err(|e| e.error)?;
        let mut begun = Aside { file, path };
        let Applied { id, numbers, gone } = applied.clone();
        let start = (!id.is_empty() && !gone).then(|| Arc::new(Change::Turn { id, numbers }));
        let all: Vec<Arc<Change>> = start.into_iter().chain(changes.iter().cloned()).collect();
        if let Err(error) = begun.append(&all) {
            begun.remove();
            return Err(error);
        }
        File::open(folder)?.sync_all()?; // its name, too
        Ok(begun)
    }

    fn append(&mut self, changes: &[Arc<Change>]) -> io::Result<()> {
        let mut lines = Vec::new();
        for change in changes.iter().filter(|change| !matches!(***change, Change::Overtaken)) {
            serde_json::to_writer(&mut lines, &**change)?;
            lines.push(b'\n');
        }
        let before = self.file.metadata()?.len();
        let written = self.file.write_all(&lines).and_then(|()| self.file.sync_data());
        written.inspect_err(|_| {
            let _ = self.file.set_len(before); // half a line would hide what comes after it
        })
    }

    fn remove(self) {
        let _ = remove(&self.file, &self.path); // or it is taken in again, which changes nothing
    }
}

/// What was said is overwritten before the file goes, as in the database.
fn remove(file: &File, path: &Path) -> io::Result<()> {
    let zeros = vec![0; file.metadata()?.len() as usize];
    file.write_all_at(&zeros, 0)?;
    file.sync_data()?;
    fs::remove_file(path)
}

/// What the names of all such files begin with.
fn beginning(database: &Path) -> String {
    format!("{}.aside-", database.file_name().unwrap_or_default().to_string_lossy())
}

/// Whether there is such a file, perhaps of a program that lives.
pub fn is_waiting(database: &Path) -> bool {
    beside(database).is_ok_and(|found| !found.is_empty())
}

fn beside(database: &Path) -> io::Result<Vec<PathBuf>> {
    let beginning = beginning(database);
    let all = fs::read_dir(folder_of(database))?.flatten();
    let ours = all.filter(|entry| entry.file_name().to_string_lossy().starts_with(&beginning));
    Ok(ours.map(|entry| entry.path()).collect())
}

/// Takes into the database what programs that have ended left beside it.
pub fn take_in(database: &Path, store: &mut Conversations) -> Result<(), Trouble> {
    if store.is_copy() {
        return Ok(());
    }
    let mut found = beside(database)?;
    found.sort_by_key(|path| fs::symlink_metadata(path).and_then(|about| about.modified()).ok());
    for path in found {
        let Ok(mut file) = own_file(&path, OpenOptions::new().read(true).write(true)) else { continue };
        if file.try_lock().is_err() || file.metadata()?.nlink() == 0 {
            continue; // its program lives, or another one has taken it in
        }
        let mut text = Vec::new();
        file.read_to_end(&mut text)?;
        make_again(&String::from_utf8_lossy(&text), store)?;
        remove(&file, &path)?;
    }
    Ok(())
}

/// Makes the changes of a file. The last line may be half of one.
fn make_again(lines: &str, store: &mut Conversations) -> Result<(), Trouble> {
    let mut applied = Applied::default();
    for change in lines.lines().map_while(|line| serde_json::from_str::<Change>(line).ok()) {
        match &change {
            // What it goes on from is not there any more: what was said is not lost for that.
            Change::Turn { id, numbers } if !store.holds(id, numbers)? => applied = Applied::default(),
            Change::Add(entry) if applied.id.is_empty() => {
                applied.id = fresh_id();
                store.begin(&applied.id, &title_from(&entry.text), None, None, now())?;
                applied.apply(store, &change, true)?;
            }
            _ if applied.id.is_empty() && !matches!(change, Change::Turn { .. } | Change::Begin { .. }) => {}
            change => applied.apply(store, change, true)?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::Role;
    use crate::chat::record::{Answer, Entry};
    use crate::history::database::Filter;

    fn entry(parent: Option<usize>, role: Role, text: &str, created: i64) -> Entry {
        Entry {
            parent,
            role,
            text: text.into(),
            attachments: Vec::new(),
            created: Some(created),
            answer: None,
        }
    }

    fn lines(changes: &[Change]) -> String {
        changes.iter().map(|change| serde_json::to_string(change).unwrap() + "\n").collect()
    }

    fn texts(store: &Conversations, id: &str) -> Vec<String> {
        let record = store.load(id).unwrap().unwrap().record;
        record.path().iter().map(|place| record.entries[*place].text.clone()).collect()
    }

    fn conversation() -> Vec<Change> {
        let begin = Change::Begin { id: "a1".into(), title: "Hi".into(), system: None, model: None };
        let update = Change::Update { place: 1, text: "hello".into(), answer: Answer::default() };
        let (question, answer) = (entry(None, Role::User, "hi", 1), entry(Some(0), Role::Assistant, "he", 2));
        vec![begin, Change::Add(question), Change::Add(answer), update, Change::Title("Ho".into())]
    }

    #[test]
    fn wherever_taking_in_was_broken_off_doing_it_again_adds_nothing() {
        let changes = conversation();
        let whole = lines(&changes);
        for done in 0..=changes.len() {
            let folder = tempfile::tempdir().unwrap();
            let (mut store, _) = Conversations::open(&folder.path().join("c.db")).unwrap();
            make_again(&lines(&changes[..done]), &mut store).unwrap();
            make_again(&whole, &mut store).unwrap();
            make_again(&whole[..whole.len() - 10], &mut store).unwrap(); // half a line at its end
            assert_eq!(texts(&store, "a1"), ["hi", "hello"]);
            let list = store.list(&Filter::default()).unwrap();
            assert_eq!((list.len(), list[0].messages, list[0].title.as_str()), (1, 2, "Ho"));
        }
    }

    #[test]
    fn an_older_text_does_not_take_the_place_of_a_newer_one() {
        let folder = tempfile::tempdir().unwrap();
        let (mut store, _) = Conversations::open(&folder.path().join("c.db")).unwrap();
        let changes = conversation();
        make_again(&lines(&changes), &mut store).unwrap();
        make_again(&lines(&changes[..3]), &mut store).unwrap();
        assert_eq!(texts(&store, "a1"), ["hi", "hello"]);
    }

    #[test]
    fn what_goes_on_from_nothing_is_a_conversation_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let (mut store, _) = Conversations::open(&folder.path().join("c.db")).unwrap();
        let turn = Change::Turn { id: "gone".into(), numbers: vec![7, 9] };
        let (question, answer) =
            (entry(Some(1), Role::User, "and now?", 1), entry(Some(2), Role::Assistant, "well", 2));
        make_again(&lines(&[turn, Change::Add(question), Change::Add(answer)]), &mut store).unwrap();
        let list = store.list(&Filter::default()).unwrap();
        assert_eq!((list.len(), list[0].title.as_str(), list[0].messages), (1, "and now?", 2));
    }

    #[test]
    fn the_file_of_a_program_that_lives_is_left_to_it() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("c.db");
        let (mut store, _) = Conversations::open(&database).unwrap();
        let changes: Vec<Arc<Change>> = conversation().into_iter().map(Arc::new).collect();
        let aside = Aside::begin(&database, &Applied::default(), &changes).unwrap();
        take_in(&database, &mut store).unwrap();
        assert!(store.list(&Filter::default()).unwrap().is_empty());
        let path = aside.path.clone();
        drop(aside); // the program has ended
        take_in(&database, &mut store).unwrap();
        assert_eq!(texts(&store, "a1"), ["hi", "hello"]);
        assert!(!path.exists());
    }
}
