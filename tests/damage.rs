//! The stored conversations damaged a thousand times: no crash, a chat goes on, and what was there is never overwritten.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use fireside::chat::Role;
use fireside::chat::record::{Answer, Entry};
use fireside::history::database::{Conversations, Filter, Kept, Number, fresh_id};

/// How often, and the seed: `FIRESIDE_DAMAGES`, `FIRESIDE_DAMAGE_SEED`.
fn number_from(variable: &str, usual: u64) -> u64 {
    std::env::var(variable).ok().and_then(|number| number.parse().ok()).unwrap_or(usual)
}

fn said(role: Role, text: String) -> Entry {
    let answer = (role == Role::Assistant).then(|| Answer { stop: "end".into(), ..Answer::default() });
    Entry { parent: None, role, text, attachments: Vec::new(), created: Some(1), answer }
}

/// 12 conversations of 10 messages; the file is whole when this returns.
fn fill(path: &Path) {
    let (mut store, _) = Conversations::open(path).unwrap();
    for talk in 0..12 {
        let id = fresh_id();
        store.begin(&id, &format!("Talk {talk}"), Some("be kind"), Some("tiny"), talk).unwrap();
        let mut parent = None;
        for n in 0..10 {
            let role = if n % 2 == 0 { Role::User } else { Role::Assistant };
            let text = format!("message {talk}-{n} {}", "about the weather ".repeat(n * 7));
            parent = Some(store.add(&id, parent, &said(role, text), talk).unwrap());
        }
    }
    assert!(store.remove("none").is_ok_and(|removed| !removed)); // writes the log into the file
}

/// The messages as they were written.
type Written = HashMap<Number, Entry>;

/// Every conversation that can be read, whether or not a list names it.
fn read(path: &Path, ids: &[String]) -> Vec<Kept> {
    let Ok(Some(store)) = Conversations::existing(path) else { return Vec::new() };
    let _ = store.search("weather", &Filter { most: Some(5), ..Filter::default() });
    let _ = store.list(&Filter::default());
    ids.iter().filter_map(|id| store.load(id).ok().flatten()).collect()
}

/// Whether everything here is as it was written, or known not to be. Gives the number of sound messages.
fn sound(talks: &[Kept], written: &Written, place: &str) -> usize {
    let mut sound = 0;
    for Kept { record, numbers, damage } in talks {
        assert!(damage.heading || record.system.as_deref() == Some("be kind"), "{place}: {record:?}");
        for (at, (number, entry)) in numbers.iter().zip(&record.entries).enumerate() {
            if damage.entries.contains(&at) {
                continue;
            }
            let before = &written[number];
            let same =
                (&entry.text, entry.role, &entry.answer) == (&before.text, before.role, &before.answer);
            assert!(same, "{place}: a change that nobody noticed: {entry:?}");
            sound += 1;
        }
    }
    sound
}

#[test]
#[allow(clippy::print_stdout)] // the counts are a result
fn a_thousand_damages_crash_nothing_overwrite_nothing_and_are_noticed() {
    let (damages, seed) = (number_from("FIRESIDE_DAMAGES", 1000), number_from("FIRESIDE_DAMAGE_SEED", 5));
    let folder = tempfile::tempdir().unwrap();
    let whole = folder.path().join("whole.db");
    fill(&whole);
    let bytes = std::fs::read(&whole).unwrap();
    let store = Conversations::existing(&whole).unwrap().unwrap();
    let ids: Vec<String> = store.list(&Filter::default()).unwrap().into_iter().map(|one| one.id).collect();
    let mut written = Written::new();
    for id in &ids {
        let kept = store.load(id).unwrap().unwrap();
        written.extend(kept.numbers.into_iter().zip(kept.record.entries));
    }
    drop(store);
    assert_eq!(written.len(), 120);
    let mut state = seed;
    let mut random = move |below: usize| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) as usize % below
    };
    let (mut moved, mut lived, mut saved) = (0, 0, 0);
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
        sound(&read(&path, &ids), &written, &at);
        // A chat goes on, if need be in a new file with what can be read, and the old one is kept as it was.
        let opened = Conversations::open(&path);
        let aside = place.path().join("c.db.damaged-1");
        match opened {
            Ok((mut store, note)) => {
                assert_eq!(note.is_some(), aside.exists(), "{at}");
                let id = fresh_id();
                store.begin(&id, "New", Some("be kind"), None, 99).unwrap_or_else(|e| panic!("{at}: {e}"));
                store
                    .add(&id, None, &said(Role::User, "a new message".into()), 99)
                    .unwrap_or_else(|e| panic!("{at}: {e}"));
                let Kept { record, damage, .. } = store.load(&id).unwrap().unwrap();
                assert_eq!((record.entries[0].text.as_str(), damage.line()), ("a new message", None), "{at}");
                lived += 1;
            }
            Err(trouble) => assert!(!trouble.to_string().is_empty(), "{at}"),
        }
        if aside.exists() {
            moved += 1;
            saved += sound(&read(&path, &ids), &written, &at);
            let (before, after) = (damaged.len(), std::fs::read(&aside).unwrap());
            assert_eq!(after.len(), before, "{at}: it was changed");
        }
    }
    let share = saved * 100 / (moved * written.len()).max(1);
    println!(
        "{damages} damages (seed {seed}): {moved} moved aside, {share} % of their messages saved, {lived} written to afterwards"
    );
    assert!(moved > 0 && lived > damages * 9 / 10 && share > 50);
}
