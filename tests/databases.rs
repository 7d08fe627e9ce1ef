//! Databases of older versions: a migration keeps everything, and happens completely or not at all.
//!
//! `databases/version-2.sql` holds the rows of one, as the program of that version wrote it;
//! `databases/make.py` made it.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use fireside::chat::record::{Entry, Record};
use fireside::chat::{Attachment, Role};
use fireside::history::database::{Conversations, Filter, Hit};
use rusqlite::Connection;

use crate::history::{DATABASE, history, listed};
use crate::support::{Home, repository};

const VERSION_2: &str = include_str!("databases/version-2.sql");
/// The prefix of lines that were in a file beside the database.
const BESIDE: &str = "-- beside: ";

/// Writes a database of version 2.
pub(crate) fn make_version_2(path: &Path) {
    let migrations = repository().join("src/history/migrations");
    let schema = ["001.sql", "002.sql"].map(|name| std::fs::read_to_string(migrations.join(name)).unwrap());
    let database = Connection::open(path).unwrap();
    database.execute_batch(&schema.concat()).unwrap();
    database.execute_batch(VERSION_2).unwrap();
    database.pragma_update(None, "user_version", 2).unwrap();
}

/// All conversations by title.
fn records(store: &Conversations) -> Vec<(String, Record)> {
    let mut list = store.list(&Filter::default()).unwrap();
    list.sort_by(|a, b| a.title.cmp(&b.title));
    let load = |id: &str| store.load(id).unwrap().unwrap();
    list.into_iter().map(|one| (one.title, load(&one.id))).collect()
}

fn texts(record: &Record) -> Vec<String> {
    record.path().into_iter().map(|entry| entry.message.content()).collect()
}

/// Every value of every row of version 2 that the program could show.
fn rows(path: &Path) -> Vec<String> {
    let database = Connection::open(path).unwrap();
    let query = "select quote(text) || quote(role) || quote(created) || quote(json_remove(answer, '$.thinking')) \
        || quote(conversation) || quote(parent) || quote(number) from message order by number";
    let mut statement = database.prepare(query).unwrap();
    let rows = statement.query_map([], |row| row.get(0)).unwrap();
    rows.map(Result::unwrap).collect()
}

/// A home with such a database, and its path.
fn with_version_2() -> (Home, PathBuf) {
    let home = Home::new();
    let database = home.path(DATABASE);
    std::fs::create_dir_all(database.parent().unwrap()).unwrap();
    make_version_2(&database);
    (home, database)
}

fn version(path: &Path) -> u32 {
    Connection::open(path).unwrap().query_row("pragma user_version", [], |row| row.get(0)).unwrap()
}

#[test]
fn nothing_of_version_2_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c.db");
    make_version_2(&path);
    let before = rows(&path);
    let (store, note) = Conversations::open(&path).unwrap();
    assert_eq!(note, None);
    let all = records(&store);
    let titles: Vec<&str> = all.iter().map(|(title, _)| title.as_str()).collect();
    let expected = [
        "A long text. Summarise",
        "Colours",
        "Cut off",
        "Grüße, \"quoted\"",
        "Left beside",
        "What is to do?",
    ];
    assert_eq!(titles, expected);
    let [summary, colours, cut, greeting, beside, to_do] = [0, 1, 2, 3, 4, 5].map(|n: usize| &all[n].1);

    assert_eq!(texts(summary), ["A long text.\n\nSummarise", "A summary."]);
    assert_eq!(texts(greeting), ["Grüße, \"quoted\"", "one\ntwo 🔥"]);
    assert_eq!(texts(beside), ["Before the lock", "before"]);
    assert_eq!((colours.system.as_deref(), colours.model.as_deref()), (Some("Be brief."), Some("script")));
    assert_eq!(
        texts(colours),
        ["Why is the sky blue?", "Blue light bends most."],
        "the last exchange was undone"
    );
    let branch = |entry: &Entry| entry.message.content() == "Because of scattering.";
    assert_eq!((colours.entries.len(), colours.entries.iter().filter(|entry| branch(entry)).count()), (5, 1));
    let answer = colours.entries[2].answer.as_ref().unwrap();
    assert_eq!((answer.stop.as_str(), answer.seed, answer.generated_tokens), ("end", Some(8), 4));
    assert!(answer.settings.iter().any(|setting| *setting == ("temp".into(), "0.8".into())));
    assert!(answer.asked.is_some() && colours.entries[2].created.is_some());

    let [question, answer] = [0, 1].map(|n: usize| &to_do.entries[n].message);
    let files: Vec<&Attachment> = question.files().collect();
    assert_eq!(files, [&Attachment::new("notes.txt", "Buy milk.\nFeed the cat.")]);
    assert_eq!((question.text().as_ref(), question.parts.len()), ("What is to do?", 2));
    assert_eq!(
        (answer.text().as_ref(), answer.thinking.as_deref()),
        ("Milk, then the cat.", Some("Milk comes first."))
    );
    let partial = &cut.entries[1];
    assert_eq!(partial.answer.as_ref().unwrap().stop, "");
    assert!(partial.message.text().starts_with("The beginning of a "), "{partial:?}");

    let found = |words: &str| -> Vec<Hit> { store.search(words, &Filter::default()).unwrap() };
    assert_eq!((found("scattering").len(), found("gruße").len(), found("secret").len()), (1, 1, 0));
    drop(store);
    assert_eq!(rows(&path), before);

    let ids = || -> Vec<_> {
        let store = Conversations::open(&path).unwrap().0;
        records(&store).iter().flat_map(|(_, record)| record.entries.iter().map(|entry| entry.id)).collect()
    };
    let once = ids();
    assert_eq!(once, ids(), "ids are given once");
    let different: std::collections::BTreeSet<_> = once.iter().collect();
    assert_eq!((once.len(), different.len()), (17, 17));
}

#[test]
fn what_version_2_left_beside_its_database_is_taken_in_once() {
    let (home, _) = with_version_2();
    let beside: String = VERSION_2
        .lines()
        .filter_map(|line| line.strip_prefix(BESIDE))
        .map(|line| format!("{line}\n"))
        .collect();
    assert!(beside.starts_with(r#"{"Turn""#));
    let left = home.path(&format!("{DATABASE}.aside-x1"));
    for _ in 0..2 {
        std::fs::write(&left, &beside).unwrap();
        let talk = listed(&home).into_iter().find(|one| one["title"] == "Left beside").unwrap();
        assert_eq!((talk["messages"].clone(), talk["path"].clone()), (4.into(), 4.into()));
        assert!(!left.exists());
        let shown = history(&home, &["show", talk["id"].as_str().unwrap()]).done().code(0).stdout;
        assert!(shown.ends_with("You:\nAfter the lock\n\nscript:\nafter\n\n"), "{shown}");
    }
}

#[test]
fn a_migration_that_cannot_be_finished_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c.db");
    make_version_2(&path);
    let before = rows(&path);
    // Another program holds the file.
    let other = Connection::open(&path).unwrap();
    other.execute_batch("begin immediate").unwrap();
    assert!(Conversations::open(&path).is_err());
    other.execute_batch("rollback").unwrap();
    drop(other);
    assert_eq!((version(&path), rows(&path)), (2, before));
    Conversations::open(&path).unwrap();
    assert_eq!(version(&path), 3);
}

/// The log beside the database grows during a migration that is too large for SQLite's memory.
#[test]
fn a_migration_that_is_killed_changes_nothing() {
    let (home, database) = with_version_2();
    let many = "with recursive n (i) as (select 1 union all select i + 1 from n where i < 20000) \
        insert into message (conversation, parent, role, text, created) \
        select conversation, number, 'user', 'Message ' || i || ' ' || hex(zeroblob(200)), 1 \
        from n, (select conversation, max(number) as number from message)";
    Connection::open(&database).unwrap().execute_batch(many).unwrap();
    let before = rows(&database);
    let log = home.path(&format!("{DATABASE}-wal"));
    let program = history(&home, &["list"]).start();
    let started = Instant::now();
    while std::fs::metadata(&log).map_or(0, |log| log.len()) < 1 << 20 {
        assert!(started.elapsed() < Duration::from_secs(60), "its log never grew");
    }
    program.kill();
    assert_eq!((version(&database), rows(&database)), (2, before.clone()));
    history(&home, &["list"]).done().code(0);
    assert_eq!((version(&database), rows(&database)), (3, before));
}

/// A newer build's database is left alone. An older build leaves this one's alone, by the same rule.
#[test]
fn a_database_of_a_newer_version_is_refused_plainly() {
    let (home, database) = with_version_2();
    Connection::open(&database).unwrap().pragma_update(None, "user_version", 4).unwrap();
    let before = rows(&database);
    history(&home, &["list"]).done().failed(1, "was written by a newer version of fireside");
    assert_eq!((version(&database), rows(&database)), (4, before));
}

/// A role that only another build knows is not taken for another.
#[test]
fn an_unknown_role_is_shown_as_such() {
    let home = Home::new();
    let file = home.path("critic.json");
    let messages = r#"[{"role":"user","content":"Hi"},{"role":"critic","content":"Too short."}]"#;
    std::fs::write(&file, messages).unwrap();
    history(&home, &["import", file.to_str().unwrap()]).done().code(0).says("unknown role, 'critic'");
    let id = listed(&home)[0]["id"].as_str().unwrap().to_string();
    let shown = history(&home, &["show", &id]).done().code(0).stdout;
    assert!(shown.contains("Unknown role (critic):\nToo short."), "{shown}");
    let object = history(&home, &["export", &id, "--format", "json"]).done().code(0).json();
    assert_eq!(object["tree"]["entries"][1]["role"], "critic");
    let hits = history(&home, &["search", "short", "--json"]).done().code(0).json();
    assert_eq!(
        (hits["hits"][0]["role"].clone(), Role::from("critic".to_string()).name()),
        ("critic".into(), "critic")
    );
}
