//! Changes that the database cannot take in time → a file beside it, and later → the database.
//!
//! The database may be locked, under a check, or on a slow disk. The file holds one change per line, as JSON,
//! and counts once it is on the disk. It is removed when all its changes are in the database. The next
//! program that opens the database applies what an ended program left; applying a change twice does nothing,
//! so it does not matter when that program ended.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::change::{Change, What};
use super::legacy::{Legacy, OldChange};
use super::progress::{AsideStep, JournalProgress};
use crate::chat::record::title_from;
use crate::clock::now;
use crate::files::{folder_of, own_file, own_folder, reason};
use crate::history::database::{Conversations, Error};

/// How soon to retry a failed write of the file.
const AGAIN: Duration = Duration::from_secs(1);

/// Runs until the journal ends.
pub(super) fn run(database: &Path, progress: &JournalProgress) {
    let mut file: Option<Aside> = None;
    let mut not_before = Instant::now();
    loop {
        match progress.next_aside(file.is_some(), not_before) {
            AsideStep::Over => return,
            AsideStep::Remove => _ = file.take().map(Aside::remove),
            AsideStep::Write { changes, end } => {
                let written = match &mut file {
                    Some(file) => file.append(&changes),
                    None => Aside::begin(database, &changes).map(|begun| file = Some(begun)),
                };
                not_before = Instant::now() + if written.is_ok() { Duration::ZERO } else { AGAIN };
                progress.change(|state| match written {
                    Ok(()) => state.aside = end,
                    Err(error) => {
                        state.complain(format!("this conversation is not being saved: {}", reason(&error)))
                    }
                });
            }
        }
    }
}

/// The file, locked by this process while it is open.
struct Aside {
    file: File,
    path: PathBuf,
}

impl Aside {
    /// Creates a file with these changes.
    fn begin(database: &Path, changes: &[Arc<Change>]) -> io::Result<Aside> {
        let folder = folder_of(database);
        own_folder(folder)?;
        let file = tempfile::Builder::new().prefix(&beginning(database)).tempfile_in(folder)?;
        file.as_file().lock()?; // no other program knows the file yet
        let (file, path) = file.keep().map_err(|e| e.error)?;
        let mut begun = Aside { file, path };
        if let Err(error) = begun.append(changes) {
            begun.remove();
            return Err(error);
        }
        File::open(folder)?.sync_all()?; // also the file's name
        Ok(begun)
    }

    fn append(&mut self, changes: &[Arc<Change>]) -> io::Result<()> {
        let mut lines = Vec::new();
        for change in changes.iter().filter(|change| !matches!(change.what, What::Overtaken)) {
            serde_json::to_writer(&mut lines, &**change)?;
            lines.push(b'\n');
        }
        let before = self.file.metadata()?.len();
        let written = self.file.write_all(&lines).and_then(|()| self.file.sync_data());
        written.inspect_err(|_| {
            let _ = self.file.set_len(before); // half a line would hide the lines after it
        })
    }

    fn remove(self) {
        let _ = remove(&self.file, &self.path); // otherwise its changes are applied again, which does nothing
    }
}

/// Overwrites the messages before removing the file, like the database.
fn remove(file: &File, path: &Path) -> io::Result<()> {
    let zeros = vec![0; file.metadata()?.len() as usize];
    file.write_all_at(&zeros, 0)?;
    file.sync_data()?;
    fs::remove_file(path)
}

/// The common prefix of the names of all such files.
fn beginning(database: &Path) -> String {
    format!("{}.aside-", database.file_name().unwrap_or_default().to_string_lossy())
}

/// Whether there is such a file, perhaps of a running program.
pub fn is_waiting(database: &Path) -> bool {
    beside(database).is_ok_and(|found| !found.is_empty())
}

fn beside(database: &Path) -> io::Result<Vec<PathBuf>> {
    let beginning = beginning(database);
    let all = fs::read_dir(folder_of(database))?.flatten();
    let ours = all.filter(|entry| entry.file_name().to_string_lossy().starts_with(&beginning));
    Ok(ours.map(|entry| entry.path()).collect())
}

/// Applies to the database what ended programs left beside it.
pub fn take_in(database: &Path, store: &mut Conversations) -> Result<(), Error> {
    if store.is_copy() {
        return Ok(());
    }
    let mut found = beside(database)?;
    found.sort_by_key(|path| fs::symlink_metadata(path).and_then(|about| about.modified()).ok());
    for path in found {
        let Ok(mut file) = own_file(&path, OpenOptions::new().read(true).write(true)) else { continue };
        if file.try_lock().is_err() || file.metadata()?.nlink() == 0 {
            continue; // its program is running, or another one has just applied it
        }
        let mut text = Vec::new();
        file.read_to_end(&mut text)?;
        make_again(&String::from_utf8_lossy(&text), store)?;
        remove(&file, &path)?;
    }
    Ok(())
}

/// One line of a file.
#[derive(serde::Deserialize)]
#[serde(untagged)]
enum Line {
    Now(Change),
    /// The format of versions before 0.2.
    Old(Box<OldChange>),
}

/// Applies the changes of a file. The last line may be incomplete.
fn make_again(lines: &str, store: &mut Conversations) -> Result<(), Error> {
    let mut legacy = Legacy::default();
    for line in lines.lines().map_while(|line| serde_json::from_str::<Line>(line).ok()) {
        let change = match line {
            Line::Now(change) => Some(change),
            Line::Old(old) => legacy.change(*old, store)?,
        };
        let Some(change) = change else { continue };
        if let What::Put(entry) = &change.what {
            // Its conversation may be gone: then the message starts one of its own.
            store.begin(&change.conversation, &title_from(&entry.message.text()), None, None, now())?;
        }
        change.apply(store)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::record::{AnswerRecord, Entry};
    use crate::chat::{Message, MessageId, Role};
    use crate::history::database::Filter;

    fn change(what: What) -> Change {
        Change { conversation: "a1".into(), what }
    }

    fn entry(name: &str, parent: Option<&str>, role: Role, text: &str) -> Entry {
        Entry {
            created: Some(1),
            ..Entry::new(name.into(), parent.map(MessageId::from), Message::new(role, text))
        }
    }

    fn answer(text: &str, stop: &str) -> Change {
        let answer = Some(Box::new(AnswerRecord { stop: stop.into(), ..AnswerRecord::default() }));
        change(What::Put(Entry { answer, ..entry("answer", Some("question"), Role::Assistant, text) }))
    }

    fn lines(changes: &[Change]) -> String {
        changes.iter().map(|change| serde_json::to_string(change).unwrap() + "\n").collect()
    }

    fn texts(store: &Conversations, id: &str) -> Vec<String> {
        let record = store.load(id).unwrap().unwrap();
        record.path().iter().map(|entry| entry.message.content()).collect()
    }

    fn conversation() -> Vec<Change> {
        let begin = What::Begin { title: "Hi".into(), system: None, model: None };
        let question = What::Put(entry("question", None, Role::User, "hi"));
        let title = change(What::Title("Ho".into()));
        vec![change(begin), change(question), answer("he", ""), answer("hello", "end"), title]
    }

    /// The same in the format of versions before 0.2.
    const OLD: &str = concat!(
        r#"{"Begin":{"id":"a1","title":"Hi","system":null,"model":null}}"#,
        "\n",
        r#"{"Add":{"parent":null,"role":"user","text":"hi","created":1}}"#,
        "\n",
        r#"{"Add":{"parent":0,"role":"assistant","text":"he","created":2,"answer":{"stop":""}}}"#,
        "\n",
        r#"{"Update":{"place":1,"text":"hello","answer":{"thinking":"hm","stop":"end"}}}"#,
        "\n",
        r#"{"Title":"Ho"}"#,
        "\n",
    );

    #[test]
    fn wherever_taking_in_was_broken_off_doing_it_again_adds_nothing() {
        for whole in [&lines(&conversation()), OLD] {
            let ends = whole.match_indices('\n').map(|(end, _)| end + 1);
            for done in [0].into_iter().chain(ends) {
                let folder = tempfile::tempdir().unwrap();
                let (mut store, _) = Conversations::open(&folder.path().join("c.db")).unwrap();
                make_again(&whole[..done], &mut store).unwrap();
                make_again(whole, &mut store).unwrap();
                make_again(&whole[..whole.len() - 10], &mut store).unwrap(); // an incomplete last line
                assert_eq!(texts(&store, "a1"), ["hi", "hello"]);
                let list = store.list(&Filter::default()).unwrap();
                assert_eq!((list.len(), list[0].messages, list[0].title.as_str()), (1, 2, "Ho"));
            }
        }
    }

    #[test]
    fn an_old_change_goes_on_from_the_rows_that_it_names() {
        let folder = tempfile::tempdir().unwrap();
        let (mut store, _) = Conversations::open(&folder.path().join("c.db")).unwrap();
        make_again(OLD, &mut store).unwrap();
        let rest = concat!(
            r#"{"Turn":{"id":"a1","numbers":[1,2]}}"#,
            "\n",
            r#"{"Add":{"parent":1,"role":"user","text":"and now?","created":3}}"#,
        );
        make_again(rest, &mut store).unwrap();
        assert_eq!(texts(&store, "a1"), ["hi", "hello", "and now?"]);
        let record = store.load("a1").unwrap().unwrap();
        assert_eq!(record.entries[1].message.thinking.as_deref(), Some("hm"));
        make_again(&rest.replace("[1,2]", "[7,9]").replace("a1", "a2"), &mut store).unwrap();
        assert_eq!(texts(&store, "a2"), ["and now?"], "what it goes on from is gone");
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
        let answer = entry("b", Some("a"), Role::Assistant, "well");
        let question = entry("a", Some("gone"), Role::User, "and now?");
        let changes = [question, answer].map(|entry| change(What::Put(entry)));
        make_again(&lines(&changes), &mut store).unwrap();
        let list = store.list(&Filter::default()).unwrap();
        assert_eq!((list.len(), list[0].title.as_str(), list[0].messages), (1, "and now?", 2));
    }

    #[test]
    fn the_file_of_a_program_that_lives_is_left_to_it() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("c.db");
        let (mut store, _) = Conversations::open(&database).unwrap();
        let changes: Vec<Arc<Change>> = conversation().into_iter().map(Arc::new).collect();
        let aside = Aside::begin(&database, &changes).unwrap();
        take_in(&database, &mut store).unwrap();
        assert!(store.list(&Filter::default()).unwrap().is_empty());
        let path = aside.path.clone();
        drop(aside); // the program has ended
        take_in(&database, &mut store).unwrap();
        assert_eq!(texts(&store, "a1"), ["hi", "hello"]);
        assert!(!path.exists());
    }
}
