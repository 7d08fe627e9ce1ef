//! The stored conversations damaged a thousand times: no crash, a chat goes on, and what was there is never overwritten.

use std::path::{Path, PathBuf};

use fireside::chat::Role;
use fireside::chat::record::{Answer, Entry};
use fireside::store::conversations::{Conversations, Filter};

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
        let id = store.begin(&format!("Talk {talk}"), None, Some("tiny"), true, talk).unwrap();
        let mut parent = None;
        for n in 0..10 {
            let role = if n % 2 == 0 { Role::User } else { Role::Assistant };
            let text = format!("message {talk}-{n} {}", "about the weather ".repeat(n * 7));
            parent = Some(store.add(&id, parent, &said(role, text), talk).unwrap());
        }
    }
    assert!(store.remove("none").is_ok_and(|removed| !removed)); // writes the log into the file
}

/// Everything that can be read, and whether anything could not be.
fn read(path: &Path) -> (Vec<String>, bool) {
    let Ok(Some(store)) = Conversations::existing(path) else { return (Vec::new(), true) };
    let _ = store.search("weather", &Filter { most: Some(5), ..Filter::default() });
    let Ok(listed) = store.list(&Filter::default()) else { return (Vec::new(), true) };
    let mut texts = Vec::new();
    for one in listed {
        match store.load(&one.id) {
            Ok(Some((record, _))) => texts.extend(record.entries.into_iter().map(|entry| entry.text)),
            _ => return (texts, true),
        }
    }
    (texts, false)
}

#[test]
#[allow(clippy::print_stdout)] // the counts are a result
fn a_thousand_damages_crash_nothing_and_overwrite_nothing() {
    let (damages, seed) = (number_from("FIRESIDE_DAMAGES", 1000), number_from("FIRESIDE_DAMAGE_SEED", 5));
    let folder = tempfile::tempdir().unwrap();
    let whole = folder.path().join("whole.db");
    fill(&whole);
    let bytes = std::fs::read(&whole).unwrap();
    let expected = read(&whole).0;
    assert_eq!(expected.len(), 120);
    let mut state = seed;
    let mut random = move |below: usize| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) as usize % below
    };
    let (mut moved, mut lived, mut unseen) = (0, 0, 0);
    for round in 0..damages {
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
        let (texts, _) = read(&path);
        assert!(texts.len() <= 4 * expected.len(), "round {round}, seed {seed}: more than there was");
        // A chat goes on, if need be in a new file, and the old one is kept as it was.
        let opened = Conversations::open(&path);
        let aside = place.path().join("c.db.damaged-1");
        match opened {
            Ok((mut store, note)) => {
                assert_eq!(note.is_some(), aside.exists(), "round {round}, seed {seed}");
                let written = store.begin("New", None, None, true, 99).and_then(|id| {
                    let number = store.add(&id, None, &said(Role::User, "a new message".into()), 99)?;
                    store.load(&id).map(|loaded| (loaded, number))
                });
                if let Ok((Some((record, _)), _)) = written {
                    let text = record.entries.first().map(|entry| entry.text.as_str());
                    assert!(
                        text.is_none_or(|text| text == "a new message"),
                        "round {round}, seed {seed}: {text:?}"
                    );
                    lived += usize::from(text.is_some());
                    unseen += usize::from(text.is_none()); // an index lost it: SQLite's quick check does not see that
                }
            }
            Err(trouble) => assert!(!trouble.to_string().is_empty(), "round {round}, seed {seed}"),
        }
        if aside.exists() {
            moved += 1;
            let (before, after) = (damaged.len(), std::fs::read(&aside).unwrap());
            assert_eq!(after.len(), before, "round {round}, seed {seed}: it was changed");
        }
    }
    println!(
        "{damages} damages (seed {seed}): {moved} moved aside, {lived} written to afterwards, {unseen} lost that"
    );
    assert!(moved > 0 && lived as u64 > damages * 9 / 10 && unseen as u64 <= damages / 100);
}
