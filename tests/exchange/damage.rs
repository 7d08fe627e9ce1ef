//! Files that are damaged, hostile, huge, or contain no conversations.

use std::fs::File;
use std::ops::ControlFlow;

use fireside::failure::{Exit, Failure};
use fireside::history::exchange::{ExportFormat, ImportSummary, export, import};

use super::{folder, good, imported, one, sample, zipped};
use crate::support::chats::write_export;
use crate::support::mutate::Random;
use crate::support::{alone, own_peak};

#[test]
fn what_came_before_the_damage_is_imported_and_the_failure_says_where() {
    let text = std::fs::read_to_string(sample("chatgpt.json")).unwrap();
    let third = text.find("\"title\": null").unwrap();
    let line = text[..third].lines().count();
    let folder = folder(&[("cut.json", &text.as_bytes()[..third + 5])]);
    let (all, summary) = imported(&folder.path().join("cut.json"));
    let failure = summary.unwrap_err();
    assert_eq!((all.len(), failure.exit), (2, Exit::Failed));
    let expected = format!("cut.json is damaged at line {line}, column 10 (byte {}): ", third + 5);
    assert!(failure.message.contains(&expected), "{failure}");
    assert!(failure.message.contains("it ends in the middle of what begins at line "), "{failure}");
    assert!(failure.message.ends_with("; 2 conversations before that were imported"), "{failure}");

    // Invalid JSON inside one conversation costs only that one.
    std::fs::write(folder.path().join("wrong.json"), text.replacen("\"parent\": null", "\"parent\": nil", 1))
        .unwrap();
    let (all, summary) = imported(&folder.path().join("wrong.json"));
    let notes = summary.unwrap().notes;
    assert_eq!(all.len(), 3);
    assert!(
        notes[0].contains("wrong.json, line 2, column 3") && notes[0].contains("at line 6, column "),
        "{notes:?}"
    );
}

#[test]
fn what_is_no_conversation_is_refused_with_what_would_be() {
    for (contents, part) in [
        (&b"<html></html>"[..], "neither JSON nor a zip"),
        (b"", "it is empty"),
        (b"\n\n", "it is empty"),
        (b"{\"id\": \"me\", \"email\": \"me@example.org\"}", "no conversation in a known format"),
        (b"[1, 2, \"three\"]", "no conversation in a known format"),
        (b"{\"mapping\": nil}", "expected ident at line 1, column 14"),
        (b"\xff\xfe[\0", "UTF-16"),
        (b"GGUF\x03\0\0\0", "neither JSON nor a zip"),
        (
            b"[a link](https://example.org)",
            "line 1, column 4 (byte 3): there is no comma between two values; nothing was imported",
        ),
    ] {
        let folder = folder(&[("file.json", contents)]);
        let failure = imported(&folder.path().join("file.json")).1.unwrap_err();
        assert!(failure.message.contains(part), "{part}: {failure}");
    }
    let deep = [vec![b'['; 100_000], vec![b']'; 100_000]].concat();
    let mut deep_one = one("fine");
    deep_one.pop();
    deep_one.extend([b",".as_slice(), &deep, b"]"].concat());
    let folder = folder(&[("deep.json", &deep_one), ("none.json", b"[]"), ("bom.json", b"\xef\xbb\xbf[]")]);
    let (all, summary) = imported(&folder.path().join("deep.json"));
    assert_eq!((all.len(), summary.unwrap().skipped), (1, 1));
    assert_eq!(good(&folder.path().join("none.json")).1, ImportSummary::default());
    assert_eq!(good(&folder.path().join("bom.json")).1, ImportSummary::default());
    assert!(imported(&folder.path().join("absent")).1.unwrap_err().message.contains("no such file"));
}

#[test]
fn a_zip_bomb_is_refused() {
    let spaces = vec![b' '; 80 << 20];
    let (_folder, path) = zipped(&[("conversations.json", &spaces)]);
    assert!(std::fs::metadata(&path).unwrap().len() < 200_000);
    let failure = imported(&path).1.unwrap_err();
    assert!(failure.message.contains("zip bomb"), "{failure}");
}

#[test]
fn a_damaged_zip_says_so() {
    let (_folder, path) = zipped(&[("conversations.json", &one("x").repeat(50))]);
    let whole = std::fs::read(&path).unwrap();
    for at in [10, 40, 60, whole.len() / 2, whole.len() - 30, whole.len() - 5] {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x55;
        std::fs::write(&path, &bytes).unwrap();
        let _ = imported(&path); // any result, but no panic
        std::fs::write(&path, &whole[..at]).unwrap();
        assert!(imported(&path).1.is_err());
    }
}

const SAMPLES: [&str; 5] =
    ["chatgpt.json", "openai-list.json", "openai-lines.json", "ours.json", "ours-without-tree.json"];

#[test]
fn damaged_files_never_bring_it_down() {
    let samples: Vec<Vec<u8>> = SAMPLES.iter().map(|name| std::fs::read(sample(name)).unwrap()).collect();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("damaged.json");
    for seed in 0..2000 {
        let mut random = Random::new(seed);
        let mut bytes = random.pick(&samples).clone();
        for _ in 0..1 + random.below(4) {
            damage(&mut bytes, &mut random);
        }
        std::fs::write(&file, &bytes).unwrap();
        for one in imported(&file).0 {
            for format in [ExportFormat::Markdown, ExportFormat::Json, ExportFormat::Text] {
                export(&one.record, format, &mut std::io::sink()).unwrap();
            }
        }
    }
}

/// Changes a byte or a word, removes some, or doubles some.
fn damage(bytes: &mut Vec<u8>, random: &mut Random) {
    let words: [&[u8]; 12] = [
        b"null",
        b"[]",
        b"{}",
        b"\"\"",
        b"-1",
        b"1e999",
        b"true",
        b"\"\\ud800\"",
        b"\xff",
        b"]",
        b"\"",
        b"18446744073709551615",
    ];
    let at = random.below(bytes.len());
    let end = (at + random.below(40)).min(bytes.len());
    let word = words[random.below(words.len())];
    match random.below(6) {
        0 if at < bytes.len() => bytes[at] = random.next() as u8,
        1 => drop(bytes.drain(at..end)),
        2 => drop(bytes.splice(at..end, word.iter().copied())),
        3 => {
            let copy = bytes[at..end].to_vec();
            let to = random.below(bytes.len());
            bytes.splice(to..to, copy);
        }
        4 => replace_value(bytes, at, word),
        _ => bytes.truncate(bytes.len() - random.below(bytes.len() / 4 + 1)),
    }
}

/// Replaces the value after the next colon, up to a comma: mostly still JSON, but different.
fn replace_value(bytes: &mut Vec<u8>, at: usize, word: &[u8]) {
    let find =
        |from: usize, marks: &[u8]| bytes[from..].iter().position(|b| marks.contains(b)).map(|n| from + n);
    if let Some(colon) = find(at, b":")
        && let Some(end) = find(colon, b",}")
    {
        bytes.splice(colon + 1..end, word.iter().copied());
    }
}

#[test]
fn large_exports_need_little_memory() {
    const MOST: u64 = 30 << 20;
    if !alone("exchange::damage::large_exports_need_little_memory") {
        return;
    }
    let before = own_peak(); // the memory for writing the files counts, too
    let folder = tempfile::tempdir().unwrap();
    let plain = folder.path().join("conversations.json");
    let conversations = write_export(File::create(&plain).unwrap(), 20_000_000).unwrap();
    let mut packed = zip::ZipWriter::new(File::create(folder.path().join("export.zip")).unwrap());
    packed.start_file("conversations.json", zip::write::SimpleFileOptions::default()).unwrap();
    std::io::copy(&mut File::open(&plain).unwrap(), &mut packed).unwrap();
    packed.finish().unwrap();
    for path in [plain, folder.path().join("export.zip")] {
        let mut taken = 0;
        let summary = import::<Failure>(&path, &mut |_, _| ControlFlow::Continue(()), &mut |_| {
            taken += 1;
            Ok(())
        });
        assert_eq!((summary.unwrap().conversations, taken), (conversations, conversations));
        let grown = own_peak() - before;
        assert!(grown < MOST, "{} took {grown} bytes", path.display());
    }
}
