//! Damages the database of conversations, also an older version's, a thousand times: no crash, the chat
//! continues, readable messages are recovered, and the damaged file is never overwritten.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use fireside::chat::record::{AnswerRecord, Entry, Record};
use fireside::chat::{Message, MessageId, Role};
use fireside::history::database::{Conversations, Filter, fresh_id};

use crate::databases;

/// The number of runs or the seed, from `FIRESIDE_DAMAGES` or `FIRESIDE_DAMAGE_SEED`.
fn number_from(variable: &str, usual: u64) -> u64 {
    std::env::var(variable).ok().and_then(|number| number.parse().ok()).unwrap_or(usual)
}

fn said(parent: Option<MessageId>, role: Role, text: String) -> Entry {
    let figures = || Box::new(AnswerRecord { stop: "end".into(), ..AnswerRecord::default() });
    let answer = (role == Role::Assistant).then(figures);
    let entry = Entry::new(MessageId::fresh(), parent, Message::new(role, text));
    Entry { created: Some(1), answer, ..entry }
}

/// Writes 12 conversations of 10 messages; the file is complete when this returns.
fn fill(path: &Path) {
    let (mut store, _) = Conversations::open(path).unwrap();
    for talk in 0..12 {
        let id = fresh_id();
        store.begin(&id, &format!("Talk {talk}"), Some("be kind"), Some("tiny"), talk).unwrap();
        let mut parent = None;
        for n in 0..10 {
            let role = if n % 2 == 0 { Role::User } else { Role::Assistant };
            let text = format!("message {talk}-{n} {}", "about the weather ".repeat(n * 7));
            let entry = said(parent, role, text);
            store.put(&id, &entry, talk).unwrap();
            parent = Some(entry.id);
        }
    }
    assert!(store.remove("none").is_ok_and(|removed| !removed)); // writes the log into the file
}

/// Every readable conversation, whether or not it is in a list.
fn read(path: &Path, ids: &[String]) -> Vec<Record> {
    let Ok(Some(store)) = Conversations::existing(path) else { return Vec::new() };
    let _ = store.search("weather", &Filter { most: Some(5), ..Filter::default() });
    let _ = store.list(&Filter::default());
    ids.iter().filter_map(|id| store.load(id).ok().flatten()).collect()
}

/// A message's text, place and origin: everything but its id, which a migration assigns.
fn told(talk: &Record, entry: &Entry) -> String {
    let Entry { message, created, answer, .. } = entry;
    format!("{} {message:?} {created:?} {answer:?}", talk.id)
}

/// The number of copies of each message.
fn counted(talks: &[Record]) -> HashMap<String, usize> {
    let mut here = HashMap::new();
    for (talk, entry) in talks.iter().flat_map(|talk| talk.entries.iter().map(move |entry| (talk, entry))) {
        *here.entry(told(talk, entry)).or_default() += 1;
    }
    here
}

/// The number of messages that are here as written; fails if one is here twice.
fn saved(talks: &[Record], written: &HashMap<String, usize>, place: &str) -> usize {
    let mut here = counted(talks);
    here.retain(|entry, _| written.contains_key(entry));
    for (entry, times) in &here {
        assert!(*times <= written[entry], "{place}: {times} times: {entry}");
    }
    here.values().sum()
}

#[test]
fn a_thousand_damages_crash_nothing_and_overwrite_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let whole = folder.path().join("whole.db");
    fill(&whole);
    damage(&whole, number_from("FIRESIDE_DAMAGES", 1000), 50);
}

/// Opening migrates it, complete or as far as it is readable.
#[test]
fn a_damaged_database_of_an_older_version_is_read_as_far_as_it_can_be() {
    let folder = tempfile::tempdir().unwrap();
    let whole = folder.path().join("whole.db");
    databases::make_version_2(&whole);
    damage(&whole, number_from("FIRESIDE_DAMAGES", 1000) / 10, 25);
}

/// Damages copies of a database and opens them. Of those that were moved aside, more than this percentage of
/// the messages must be recovered.
#[allow(clippy::print_stdout)] // the counts are a result
fn damage(whole: &Path, damages: u64, least: usize) {
    let seed = number_from("FIRESIDE_DAMAGE_SEED", 5);
    let bytes = std::fs::read(whole).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("copy.db");
    std::fs::copy(whole, &copy).unwrap();
    let store = Conversations::existing(&copy).unwrap().unwrap();
    let ids: Vec<String> = store.list(&Filter::default()).unwrap().into_iter().map(|one| one.id).collect();
    drop(store);
    let written = counted(&read(&copy, &ids));
    let messages: usize = written.values().sum();
    assert!(messages >= 17, "{messages}");
    let mut state = seed;
    let mut random = move |below: usize| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) as usize % below
    };
    let (mut moved, mut lived, mut again) = (0, 0, 0);
    for round in 0..damages {
        let at = format!("round {round}, seed {seed}");
        let place = tempfile::tempdir_in(folder.path()).unwrap();
        let path: PathBuf = place.path().join("c.db");
        let mut damaged = bytes.clone();
        match random(3) {
            0 => damaged.truncate(random(bytes.len())),
            1 => (0..1 + random(20)).for_each(|_| damaged[random(bytes.len())] ^= 1 << random(8)),
            _ => {
                let (start, length) = (random(bytes.len()), random(8192));
                let end = (start + length).min(bytes.len());
                damaged[start..end].fill(random(256) as u8);
            }
        }
        std::fs::write(&path, &damaged).unwrap();
        read(&path, &ids); // where a page points to a row twice, it is read twice
        // A chat continues, if necessary in a new file with everything readable; the old file is kept
        // unchanged.
        let opened = Conversations::open(&path);
        let aside = place.path().join("c.db.damaged-1");
        match opened {
            Ok((mut store, note)) => {
                assert_eq!(note.is_some(), aside.exists(), "{at}");
                let id = fresh_id();
                store.begin(&id, "New", Some("be kind"), None, 99).unwrap_or_else(|e| panic!("{at}: {e}"));
                let entry = said(None, Role::User, "a new message".into());
                store.put(&id, &entry, 99).unwrap_or_else(|e| panic!("{at}: {e}"));
                assert_eq!(store.load(&id).unwrap().unwrap().entries, [entry], "{at}");
                lived += 1;
            }
            Err(trouble) => assert!(!trouble.to_string().is_empty(), "{at}"),
        }
        if aside.exists() {
            moved += 1;
            again += saved(&read(&path, &ids), &written, &at);
            let (before, after) = (damaged.len(), std::fs::read(&aside).unwrap());
            assert_eq!(after.len(), before, "{at}: it was changed");
        }
    }
    let share = again * 100 / (moved * messages).max(1);
    println!(
        "{damages} damages (seed {seed}): {moved} moved aside, {share} % of their messages saved, {lived} written to afterwards"
    );
    assert!(moved > 0 && lived > damages * 9 / 10 && share > least, "{moved}, {lived}, {share} %");
}
