//! Conversations as files: every variant that other programs write is read, damaged or not, and fireside's
//! own exports are imported without loss. The files are in tests/exchange/, written by hand.

mod damage;

use std::collections::HashSet;
use std::fs::File;
use std::io::Write;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use fireside::chat::part::{Media, MediaKind, ToolCall, ToolResult};
use fireside::chat::record::{AnswerRecord, Entry, Record};
use fireside::chat::{Attachment, Message, MessageId, Part, Role};
use fireside::failure::Failure;
use fireside::history::exchange::{ExportFormat, ImportSummary, Imported, export, import};
use tempfile::TempDir;

use crate::support::mutate::Random;
use crate::support::repository;

fn sample(name: &str) -> PathBuf {
    repository().join("tests/exchange").join(name)
}

/// All conversations in a file.
fn imported(path: &Path) -> (Vec<Imported>, Result<ImportSummary, Failure>) {
    let mut all = Vec::new();
    let mut last = 0;
    let mut watch = |done, total| {
        assert!(last <= done && done <= total, "{last} {done} {total}");
        last = done;
        ControlFlow::Continue(())
    };
    let summary = import(path, &mut watch, &mut |one| {
        all.push(one);
        Ok(())
    });
    for one in &all {
        check(&one.record);
    }
    (all, summary)
}

/// Checks the invariants of every record.
fn check(record: &Record) {
    assert!(
        record.id.len() >= 12 && record.id.bytes().all(|b| b.is_ascii_hexdigit() && !b.is_ascii_uppercase())
    );
    let mut before: HashSet<MessageId> = HashSet::new();
    for entry in &record.entries {
        assert!(entry.parent.is_none_or(|parent| before.contains(&parent)));
        assert!(before.insert(entry.id), "every id once");
    }
    assert!(record.head.is_none_or(|head| before.contains(&head)));
}

fn good(path: &Path) -> (Vec<Imported>, ImportSummary) {
    let (all, summary) = imported(path);
    let summary = summary.unwrap_or_else(|failure| panic!("{}: {failure}", path.display()));
    assert_eq!(summary.conversations, all.len());
    assert_eq!(summary.messages, all.iter().map(|one| one.record.entries.len()).sum::<usize>());
    (all, summary)
}

/// A message's place in a record.
fn place(record: &Record, id: Option<MessageId>) -> Option<usize> {
    record.entries.iter().position(|entry| Some(entry.id) == id)
}

/// The parent's place, the role, and the text for a model, of every message.
fn told(record: &Record) -> Vec<(Option<usize>, Role, String)> {
    let told =
        |entry: &Entry| (place(record, entry.parent), entry.message.role.clone(), entry.message.content());
    record.entries.iter().map(told).collect()
}

fn texts(expected: &[(Option<usize>, Role, &str)]) -> Vec<(Option<usize>, Role, String)> {
    expected.iter().map(|(parent, role, text)| (*parent, role.clone(), text.to_string())).collect()
}

#[test]
fn a_chatgpt_export_with_branches_and_tools() {
    let (all, summary) = good(&sample("chatgpt.json"));
    let record = &all[0].record;
    assert_eq!((record.title.as_str(), record.id.len()), ("Branches and tools", 16));
    assert_eq!((record.created, record.changed), (1736209400123, 1736209800000));
    assert_eq!(record.system.as_deref(), Some("I like cats.\n\nAnswer briefly."));
    assert_eq!(record.model, None);
    let expected = [
        (None, Role::User, "[file: sums.pdf]\n\nWhat is 2+2?"),
        (Some(0), Role::Assistant, "Five"),
        (Some(0), Role::Assistant, "```python\nprint(2+2)\n```"),
        (Some(2), Role::Tool, "```python\n4\n```"),
        (Some(3), Role::Assistant, "It is 4."),
    ];
    assert_eq!(told(record), texts(&expected));
    assert_eq!(place(record, record.head), Some(4));
    let [first, second] = [1, 4].map(|index: usize| record.entries[index].answer.clone().unwrap());
    assert_eq!((first.model.as_str(), first.stop.as_str()), ("gpt-4o-mini", "interrupted"));
    assert_eq!((second.model.as_str(), second.stop.as_str()), ("o3", "end"));
    let thinking = |index: usize| record.entries[index].message.thinking.as_deref();
    assert_eq!((thinking(2), thinking(4)), (Some("Adding\nTwo and two.\n\nThought for 3s"), None));
    assert_eq!(record.entries[2].created, Some(1736209403000));
    assert_eq!(all[0].notes, ["a file is left out"]);
    assert_eq!((summary.conversations, summary.skipped), (4, 2));
    assert!(summary.notes[0].contains("'Never said anything': it has no messages"), "{:?}", summary.notes);
    assert!(summary.notes[1].contains("'Unreadable': its messages"), "{:?}", summary.notes);
}

#[test]
fn every_kind_of_content_is_kept_or_mentioned() {
    let (all, _) = good(&sample("chatgpt.json"));
    let record = &all[1].record;
    let asked = "[image: sediment://file_1]\n\nLook at this\n\n[audio]\n\nand tell me";
    let expected = [
        (None, Role::User, asked),
        (Some(0), Role::Tool, "```browser\nL0: A page\n```"),
        (Some(1), Role::Tool, "```browser\nA page\nhttps://example.org/a\nQuoted.\n```"),
        (Some(2), Role::Tool, "````web.search\nB\nhttps://example.org/b\nWeb ``` text\n````"),
        (Some(3), Role::Tool, "```browser\ntool_error\nrobots.txt\n```"),
        (Some(4), Role::Assistant, "Sheep.\n\n```dalle.text2im\n{\"prompt\":\"a cat\"}\n```"),
        (Some(5), Role::Tool, "```dalle.text2im\n\n```\n\n[image: file-service://file-2: a cat]"),
        (Some(6), Role::Assistant, "Done."),
    ];
    assert_eq!(told(record), texts(&expected));
    let notes = [
        "an image is kept as a reference: the file does not contain it (2 times)",
        "a recording is kept as a reference: the file does not contain it",
        "content of an unknown kind, 'dream_sequence', is kept as text",
    ];
    assert_eq!(all[1].notes, notes);
}

#[test]
fn null_everywhere_circles_and_missing_nodes_lose_no_message() {
    let (all, _) = good(&sample("chatgpt.json"));
    let record = &all[2].record;
    assert_eq!(record.title, "Everything is null here");
    let expected = [
        (None, Role::User, "Everything is null here"),
        (Some(0), Role::Assistant, "Not quite."),
        (None, Role::User, "I follow you."),
        (Some(2), Role::Assistant, "No, I follow you."),
    ];
    assert_eq!(told(record), texts(&expected));
    assert!(record.created > 0, "the time of the file");
    assert_eq!(all[2].notes, ["messages that formed a cycle were put in a row"]);
}

#[test]
fn an_export_of_2023() {
    let (all, _) = good(&sample("chatgpt.json"));
    let record = &all[3].record;
    assert_eq!(record.system.as_deref(), Some("A sailor.\n\nBe kind."));
    let expected = [(None, Role::User, "Ahoy"), (Some(0), Role::Assistant, "Half an emoji: \u{fffd}")];
    assert_eq!(told(record), texts(&expected));
    assert_eq!(record.entries[1].answer.as_ref().unwrap().stop, "length");
    let notes = ["a message that ChatGPT itself hides is left out", "damaged characters were replaced"];
    assert_eq!(all[3].notes, notes);
}

#[test]
fn openai_messages_as_a_list_and_as_lines() {
    let (all, summary) = good(&sample("openai-list.json"));
    let record = &all[0].record;
    assert_eq!((all.len(), record.system.as_deref()), (1, Some("You are a poet.")));
    let expected = [
        (None, Role::User, "What is this?\n\n[image]"),
        (Some(0), Role::Assistant, "```look\n{\"at\":\"picture\"}\n```"),
        (Some(1), Role::Tool, "```tool\na cat\n```"),
        (Some(2), Role::Assistant, "A cat."),
        (Some(3), Role::Other("critic".into()), "Good."),
    ];
    assert_eq!(told(record), texts(&expected));
    assert_eq!((all[0].notes.len(), summary.skipped), (1, 0));

    let (all, summary) = good(&sample("openai-lines.json"));
    let titles: Vec<&str> = all.iter().map(|one| one.record.title.as_str()).collect();
    assert_eq!(titles, ["One?", "Two?", "Three?", "Four?"]);
    assert_eq!(all[0].record.entries[1].answer.as_ref().unwrap().model, "gpt-4o");
    assert_eq!(summary.skipped, 2);
    assert!(summary.notes[0].contains("line 5, column 1 (byte "), "{:?}", summary.notes);
}

#[test]
fn firesides_own_files_come_back_as_they_were() {
    let (all, _) = good(&sample("ours.json"));
    let record = &all[0].record;
    assert_eq!((record.id.as_str(), place(record, record.head)), ("00112233445566ff", Some(2)));
    let thinking: Vec<_> = record.entries.iter().map(|entry| entry.message.thinking.as_deref()).collect();
    assert_eq!((thinking, record.entries[0].message.files().count()), (vec![None, None, Some("Easy.")], 1));
    assert_eq!(
        all[0].record.entries[1].answer.as_ref().unwrap().settings[0],
        ("temp".to_string(), "0.7".to_string())
    );
    let (all, _) = good(&sample("ours-without-tree.json"));
    assert_eq!(all[0].record.id, "00112233445566ff");
    assert_eq!((all[0].record.entries.len(), all[0].record.system.as_deref()), (2, Some("Be brief.")));
    assert_eq!(all[0].notes, ["its tree cannot be read: branches are left out"]);
    assert_eq!((all[1].record.entries.len(), all[1].notes.len()), (1, 1));
}

#[test]
fn any_conversation_survives_going_out_and_coming_back() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("all.jsonl");
    let mut random = Random::new(1);
    let records: Vec<Record> = (0..300).map(|_| random_record(&mut random)).collect();
    let mut out = File::create(&file).unwrap();
    for record in &records {
        export(record, ExportFormat::Json, &mut out).unwrap();
        for format in [ExportFormat::Markdown, ExportFormat::Text] {
            export(record, format, &mut std::io::sink()).unwrap();
        }
    }
    let (all, _) = good(&file);
    assert_eq!(all.into_iter().map(|one| one.record).collect::<Vec<_>>(), records);
}

fn random_record(random: &mut Random) -> Record {
    let mut entries: Vec<Entry> = Vec::new();
    for _ in 0..random.below(12) {
        let parent = (!entries.is_empty() && random.below(6) > 0).then(|| random.pick(&entries).id);
        entries.push(random_entry(random, parent));
    }
    let head = (random.below(5) > 0 && !entries.is_empty()).then(|| random.pick(&entries).id);
    let created = random.below(1 << 40) as i64;
    Record {
        id: format!("{:016x}", random.next()),
        title: random_text(random),
        created,
        changed: created + random.below(1000) as i64,
        system: (random.below(2) == 0).then(|| random_text(random)),
        model: (random.below(2) == 0).then(|| random_text(random)),
        entries,
        head,
    }
}

fn random_entry(random: &mut Random, parent: Option<MessageId>) -> Entry {
    let role = random
        .pick(&[Role::User, Role::Assistant, Role::System, Role::Tool, Role::Other("critic".into())])
        .clone();
    let answer = (role == Role::Assistant).then(|| {
        Box::new(AnswerRecord {
            stop: random_text(random),
            model: random_text(random),
            settings: (0..random.below(3)).map(|_| (random_text(random), random_text(random))).collect(),
            seed: (random.below(2) == 0).then(|| random.next() as u32),
            prompt_tokens: random.next() as u32,
            ..AnswerRecord::default()
        })
    });
    let thinking = (random.below(2) == 0).then(|| random_text(random));
    let parts = (0..random.below(4)).map(|_| random_part(random)).collect();
    let created = (random.below(2) == 0).then(|| random.next() as i64);
    let id = MessageId::from(format!("{:016x}", random.next()));
    Entry { created, answer, ..Entry::new(id, parent, Message { role, parts, thinking }) }
}

fn random_part(random: &mut Random) -> Part {
    let text = random_text(random);
    match random.below(6) {
        0 => Part::text(text),
        1 => Part::File(Attachment {
            header: random.below(2) == 0,
            ..Attachment::file(random_text(random), text)
        }),
        2 => {
            Part::Media(Media { name: Some(text), size: Some(random.next()), ..Media::new(MediaKind::Audio) })
        }
        3 => Part::ToolCall(ToolCall {
            id: random_text(random),
            name: text,
            arguments: serde_json::json!({ "b": random_text(random), "a": [1, null] }),
        }),
        4 => Part::ToolResult(ToolResult { id: random_text(random), name: random_text(random), text }),
        _ => Part::Unknown(serde_json::json!({ "type": "hologram", "z": text, "a": 1.5 })),
    }
}

fn random_text(random: &mut Random) -> String {
    let pieces = ["a", " ", "\n", "```", "\"", "\\", "\0", "\u{1f525}", "é", "\u{2028}", "{}", "</details>"];
    (0..random.below(8)).map(|_| *random.pick(&pieces)).collect()
}

#[test]
fn the_same_file_gives_the_same_ids() {
    for name in ["chatgpt.json", "openai-list.json", "openai-lines.json", "ours.json"] {
        let ids = |path: &Path| {
            let records = good(path).0.into_iter().map(|one| one.record);
            let messages = |record: &Record| record.entries.iter().map(|entry| entry.id).collect::<Vec<_>>();
            records.map(|record| (record.id.clone(), messages(&record))).collect::<Vec<_>>()
        };
        let once = ids(&sample(name));
        let folder = tempfile::tempdir().unwrap();
        let copy = folder.path().join("elsewhere");
        std::fs::copy(sample(name), &copy).unwrap();
        assert_eq!(once, ids(&copy), "{name}");
        let different: HashSet<&String> = once.iter().map(|(id, _)| id).collect();
        assert_eq!(different.len(), once.len(), "{name}");
    }
}

/// A folder with these files.
fn folder(files: &[(&str, &[u8])]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, contents) in files {
        std::fs::write(folder.path().join(name), contents).unwrap();
    }
    folder
}

fn one(title: &str) -> Vec<u8> {
    let message = serde_json::json!({ "author": { "role": "user" }, "content": { "content_type": "text", "parts": [title] } });
    let mapping = serde_json::json!({ "m": { "message": message } });
    serde_json::json!([{ "conversation_id": title, "title": title, "mapping": mapping }])
        .to_string()
        .into_bytes()
}

fn titles(path: &Path) -> Vec<String> {
    good(path).0.into_iter().map(|one| one.record.title).collect()
}

#[test]
fn an_export_in_parts_is_given_as_its_folder() {
    let (first, second, tenth) = (one("first"), one("second"), one("tenth"));
    let files: [(&str, &[u8]); 4] = [
        ("conversations-001.json", &second),
        ("conversations-000.json", &first),
        ("conversations-010.json", &tenth),
        ("user.json", b"{\"id\": \"me\"}"),
    ];
    let folder = folder(&files);
    assert_eq!(titles(folder.path()), ["first", "second", "tenth"]);
    let (all, summary) = good(&folder.path().join("conversations-001.json"));
    assert_eq!((all[0].record.title.as_str(), all.len()), ("second", 1));
    assert!(summary.notes[0].contains("give the folder"), "{:?}", summary.notes);
}

fn zipped(files: &[(&str, &[u8])]) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("export.zip");
    let mut zip = zip::ZipWriter::new(File::create(&path).unwrap());
    for (name, contents) in files {
        zip.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
        zip.write_all(contents).unwrap();
    }
    zip.finish().unwrap();
    (folder, path)
}

#[test]
fn a_zip_is_read_without_being_unpacked() {
    let (first, second, bad) = (one("first"), one("second"), one("bad"));
    let files: [(&str, &[u8]); 4] = [
        ("export/conversations-001.json", &second),
        ("export/conversations-000.json", &first),
        ("export/chat.html", b"<html>"),
        ("export/user.json", b"{}"),
    ];
    let (_folder, path) = zipped(&files);
    assert_eq!(titles(&path), ["first", "second"]);
    let (folder, path) = zipped(&[("../../conversations.json", &bad), ("/etc/conversations-1.json", &first)]);
    assert_eq!(titles(&path), ["bad", "first"]);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    let (_folder, path) = zipped(&[("readme.txt", b"hello")]);
    let failure = imported(&path).1.unwrap_err();
    assert!(failure.message.ends_with("holds no conversations") && failure.hint.is_some(), "{failure}");
}

#[test]
fn it_can_be_stopped_by_who_watches_and_by_who_takes() {
    let stop = &mut |_, _| ControlFlow::Break(());
    let failure: Failure = import(&sample("chatgpt.json"), stop, &mut |_| Ok(())).unwrap_err();
    assert_eq!(failure, Failure::interrupted());
    let mut taken = 0;
    let go_on = &mut |_, _| ControlFlow::Continue(());
    let failure = import(&sample("chatgpt.json"), go_on, &mut |_| {
        taken += 1;
        Err(Failure::new("the disk is full"))
    });
    assert_eq!((taken, failure.unwrap_err().message.as_str()), (1, "the disk is full"));
}

#[test]
fn a_byte_order_mark_before_an_export_is_nothing() {
    let folder = TempDir::new().unwrap();
    for name in ["chatgpt.json", "openai-lines.json", "openai-list.json", "ours.json"] {
        let marked = folder.path().join(name);
        let bytes = std::fs::read(sample(name)).unwrap();
        std::fs::write(&marked, [&b"\xef\xbb\xbf"[..], &bytes].concat()).unwrap();
        let records = |path: &Path| good(path).0.into_iter().map(|one| one.record).collect::<Vec<_>>();
        let plain = |records: Vec<Record>| {
            let mut records = records;
            // Derived from the file's bytes, or from its time.
            for record in &mut records {
                *record = Record { id: String::new(), created: 0, changed: 0, ..record.clone() };
            }
            records
        };
        assert_eq!(plain(records(&marked)), plain(records(&sample(name))), "{name}");
    }
}
