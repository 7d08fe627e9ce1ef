//! A conversation resumed in a new engine at every turn gets the same answers as an uninterrupted one; and a
//! thousand damaged cached prompts are all rejected.

use std::fs;
use std::path::Path;

use fireside::chat::{Message, Role};
use fireside::engine::Engine;
use fireside::engine::llama::Llama;
use fireside::engine::prompt_cache::{LEAST, PromptCache};
use tempfile::TempDir;

use crate::prompt_cache::{
    ANYTHING, about, assert_same, expected, files, flushed, second_question, tiny_subjects, with_folder,
};
use crate::support::engine::{Chance, FLOAT_NOISE, Subject, answer, cancelled, default_subject, turn, user};
use crate::support::{Home, tiny};

/// Runs one conversation with an engine that stays and with one that is new at every turn. Both get the same
/// requests, undos and stops. Returns how many turns used the prompt cache on disk.
#[allow(clippy::print_stdout)] // the count of near ties is a result
fn interrupted_everywhere(name: &str, subject: &Subject, turns: usize) -> usize {
    let mut chance = Chance(20);
    let folder = TempDir::new().unwrap();
    let mut whole = subject.engine();
    let mut messages = Vec::new();
    let (mut restored, mut near_ties) = (0, 0);
    for number in 0..turns {
        match chance.below(6) {
            0 => messages.truncate(messages.len().saturating_sub(2)), // undo
            1 => messages.truncate(messages.len() / 4 * 2),           // edit
            _ => {}
        }
        if chance.below(5) == 0 && !messages.is_empty() {
            messages.pop(); // retry
        } else {
            let question = ["What is it?", "And then?", "Why so?", "Who was it?"][chance.below(4)];
            messages.push(if messages.is_empty() { about(question) } else { user(question) });
        }
        let asked = turn(&messages, 12);
        if whole.prompt(&asked).unwrap().tokens.len() + 16 > subject.limit {
            messages.clear();
            continue;
        }
        let mut resumed = with_folder(subject, folder.path());
        if chance.below(4) == 0 {
            let after = chance.below(4);
            cancelled(&mut whole, &asked, after);
            cancelled(&mut resumed, &asked, after);
        }
        let (ours, theirs) = (answer(&mut resumed, &asked), answer(&mut whole, &asked));
        near_ties += usize::from(assert_same(subject, &ours, &theirs, &format!("{name}, turn {number}")));
        restored += usize::from(ours.cached >= LEAST);
        flushed(resumed);
        messages.push(Message::new(Role::Assistant, theirs.text));
    }
    println!("{name}: {turns} turns, {restored} of them from what was on disk, {near_ties} near ties");
    restored
}

#[test]
fn resumed_at_every_turn_is_never_interrupted() {
    for (name, subject) in tiny_subjects() {
        let restored = interrupted_everywhere(name, &subject, 24);
        assert!(restored >= 8, "{name}: only {restored} turns were resumed");
    }
}

#[test]
fn resumed_at_every_turn_is_never_interrupted_default_model() {
    let Some(subject) = default_subject() else { return };
    let restored = interrupted_everywhere("default model", subject, 6);
    assert!(restored >= 3, "only {restored} turns were resumed");
}

/// A chat of six turns gives the same text in one process and in six.
#[test]
fn a_chat_left_and_continued_at_every_turn_says_the_same() {
    let questions = ["What is it?", "And then?", "Why so?", "Who was it?", "Really?", "Tell me more."];
    for name in ["llama-bpe", "llama-spm", "gemma3", "mamba", "falcon-h1"] {
        let said = |together: usize| {
            let home = Home::new();
            let mut said = String::new();
            for (number, lines) in questions.chunks(together).enumerate() {
                let more = if number > 0 { &["--continue"][..] } else { &[] };
                let exact = ["--cache-type-k", "f32", "--cache-type-v", "f32", "--temp", "0", "-n", "12"];
                let args = [&["--repl-stdin", "--keep"], &exact[..], more].concat();
                let typed = lines.iter().map(|line| format!("{line}\n")).collect::<String>();
                said += &home.run(&args).model(&tiny(name)).stdin(typed).done().code(0).stdout;
            }
            said
        };
        let (whole, resumed) = (said(questions.len()), said(1));
        assert!(!whole.trim().is_empty());
        assert_eq!(whole, resumed, "{name}");
    }
}

/// An engine whose cached prompts have the model's name as their key.
fn named<'w>(name: &str, subject: &'w Subject, folder: &Path) -> Engine<Llama<'w>> {
    let prompt_cache = PromptCache::new(folder.into(), name.into(), ANYTHING);
    subject.engine().with_prompt_cache(Some(prompt_cache))
}

/// Damages bytes: cut, changed in one bit, a block zeroed, two blocks exchanged, or those of another file.
fn damaged(good: &[u8], others: &[Vec<u8>], chance: &mut Chance) -> Vec<u8> {
    let mut bytes = good.to_vec();
    let place = chance.below(bytes.len());
    match chance.below(5) {
        0 => bytes.truncate(place),
        1 => {
            let place = if chance.below(3) == 0 { place % 600 } else { place }; // the header as well
            bytes[place] ^= 1 << chance.below(8);
        }
        2 => {
            let end = bytes.len().min(place + 4096);
            bytes[place..end].fill(0);
        }
        3 => {
            let (half, length) = (bytes.len() / 2, 1 + chance.below(4096));
            let (left, right) = bytes.split_at_mut(half);
            left[half - length..].swap_with_slice(&mut right[..length]);
        }
        _ => bytes.clone_from(&others[chance.below(others.len())]),
    }
    bytes
}

#[test]
fn a_thousand_damaged_cached_prompts_are_not_believed() {
    const NAMES: [&str; 4] = ["llama-bpe", "gemma3", "mamba", "falcon-h1"];
    let subjects = NAMES.map(|name| Subject::load(&tiny(name), FLOAT_NOISE));
    let folders = NAMES.map(|_| TempDir::new().unwrap());
    let kept: Vec<_> = (0..NAMES.len())
        .map(|i| {
            let mut engine = named(NAMES[i], &subjects[i], folders[i].path());
            answer(&mut engine, &turn(&[about("What is it?")], 2));
            flushed(engine);
            // The cached prompt that is a prefix of the second question; if memory cannot be truncated there
            // is a longer one, too.
            let mut files = files(folders[i].path());
            files.sort_by_key(|file| fs::metadata(file).unwrap().len());
            files[1..].iter().for_each(|file| fs::remove_file(file).unwrap());
            (files[0].clone(), fs::read(&files[0]).unwrap())
        })
        .collect();
    let mut chance = Chance(4);
    for (i, (name, subject)) in NAMES.iter().zip(&subjects).enumerate() {
        let ((path, good), folder) = (&kept[i], &folders[i]);
        let others: Vec<Vec<u8>> =
            kept.iter().map(|(_, bytes)| bytes.clone()).filter(|bytes| bytes != good).collect();
        let right = expected(subject);
        assert!(
            answer(&mut named(name, subject, folder.path()), &second_question()).cached >= LEAST,
            "{name}"
        );
        for number in 0..250 {
            let bytes = damaged(good, &others, &mut chance);
            if bytes == *good {
                continue; // zeros over zeros
            }
            fs::write(path, bytes).unwrap();
            let ours = answer(&mut named(name, subject, folder.path()), &second_question());
            assert!(ours.cached < LEAST, "{name}, {number}: {} tokens were believed", ours.cached);
            assert_same(subject, &ours, &right, &format!("{name}, {number}"));
        }
    }
}
