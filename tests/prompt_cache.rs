//! The prompt cache: a prompt evaluated before is restored from disk and answered the same. Whatever is
//! missing, damaged, or from another model or other settings is evaluated again.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use fireside::chat::settings::CacheType;
use fireside::chat::{Attachment, Message, Request, Role, Settings};
use fireside::engine::Engine;
use fireside::engine::llama::{Llama, Placement};
use fireside::engine::model::{Logits, Model};
use fireside::engine::prompt_cache::{DiskBounds, LEAST, PromptCache, Rules, key, usage};
use fireside::engine::token::Token;
use fireside::gguf;
use tempfile::TempDir;

use crate::support::engine::{
    Answer, FLOAT_NOISE, QUANTISED_NOISE, Subject, TINY, answer, default_subject, turn, user,
};
use crate::support::{Home, default_model, tiny};

pub(crate) const ANYTHING: Rules = Rules {
    worth: Duration::ZERO,
    worth_shared: Duration::ZERO,
    bounds: DiskBounds { most: 1 << 30, share: 1.0, leave: 0 },
    free: || None,
};

pub(crate) fn tiny_subjects() -> impl Iterator<Item = (&'static str, Subject)> {
    TINY.into_iter().chain(["base"]).map(|name| (name, Subject::load(&tiny(name), FLOAT_NOISE)))
}

pub(crate) fn with_folder<'w>(subject: &'w Subject, folder: &Path) -> Engine<Llama<'w>> {
    with_rules(subject, folder, ANYTHING)
}

fn with_rules<'w>(subject: &'w Subject, folder: &Path, rules: Rules) -> Engine<Llama<'w>> {
    subject.engine().with_prompt_cache(Some(PromptCache::new(folder.into(), "a key".into(), rules)))
}

pub(crate) fn flushed(mut engine: Engine<Llama>) {
    flush(&mut engine);
}

pub(crate) fn flush(engine: &mut Engine<Llama>) {
    let (done, flushed) = channel();
    engine.flush(done);
    assert!(flushed.recv_timeout(Duration::from_secs(60)).is_err(), "the sender is dropped");
}

/// About 130 tokens in every vocabulary.
fn document() -> String {
    let words = ["the fire is low", "a small house", "read the weather", "the end of the road", "and again"];
    (0..11).map(|i| format!("{} {i}. ", words[i * 7 % 5])).collect()
}

/// A question about the document.
pub(crate) fn about(question: &str) -> Message {
    let attachments = vec![Attachment::new("document", document())];
    user(question).with_files(attachments)
}

/// Fails unless both are the same or part at a near tie; returns whether they do, and prints by how much.
#[allow(clippy::print_stdout)] // near ties are a result
pub(crate) fn assert_same(subject: &Subject, ours: &Answer, fresh: &Answer, what: &str) -> bool {
    if ours.tokens == fresh.tokens && ours.text == fresh.text && ours.stop == fresh.stop {
        return false;
    }
    let same = ours.tokens.iter().zip(&fresh.tokens).take_while(|(a, b)| a == b).count();
    let margin = subject.margin(&fresh.tokens[..same]);
    assert!(margin < subject.noise, "{what}: the answers part at a margin of {margin}");
    println!("{what}: a near tie: the two best logits are {margin} apart");
    true
}

/// Answers the document's first question, so that its state is saved in `folder`; returns the answer.
fn first_question(subject: &Subject, folder: &Path) -> String {
    let mut engine = with_folder(subject, folder);
    let first = answer(&mut engine, &turn(&[about("What is it?")], 16));
    assert_eq!(first.cached, 0);
    flushed(engine);
    first.text
}

pub(crate) fn second_question() -> Request {
    turn(&[about("Why so?")], 16)
}

/// The second question, evaluated without the cache.
pub(crate) fn expected(subject: &Subject) -> Answer {
    answer(&mut subject.engine(), &second_question())
}

pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.extension().is_some_and(|e| e == "state")).collect()
}

fn read(model: &mut Llama, tokens: &[Token]) {
    model.grow(tokens.len() + 100).unwrap();
    tokens.chunks(model.batch_size()).for_each(|chunk| model.append(0, chunk, Logits::Last).unwrap());
}

#[test]
fn restored_memory_is_the_same_to_the_last_bit() {
    for (name, subject) in tiny_subjects() {
        let mut model = subject.model();
        let tokens = model.tokenize(&document(), false);
        read(&mut model, &tokens);
        let state = model.save(0).unwrap();
        assert_eq!(state.len(), model.state_bytes(0));
        let mut other = subject.model();
        other.grow(tokens.len() + 200).unwrap(); // so that even the size differs
        other.restore(0, &state, tokens.len()).unwrap();
        assert_eq!(other.len(0), tokens.len());
        for next in &tokens[..40] {
            model.append(0, &[*next], Logits::Last).unwrap();
            other.append(0, &[*next], Logits::Last).unwrap();
            let apart = model.logits(0).iter().zip(other.logits(0)).map(|(a, b)| (a - b).abs());
            let apart = apart.fold(0.0, f32::max);
            // Of a sliding window only the visible cells are saved: other cells, added up in another order.
            let noise = if name == "gemma3" { FLOAT_NOISE } else { 0.0 };
            assert!(apart <= noise, "{name}: logits differ by {apart}");
        }
        assert_eq!(model.state_bytes(0), other.state_bytes(0), "{name}");
    }
}

#[test]
fn what_is_no_state_of_this_model_is_not_taken() {
    let subject = Subject::load(&tiny("llama-bpe"), FLOAT_NOISE);
    let mut model = subject.model();
    let tokens = model.tokenize(&document(), false);
    read(&mut model, &tokens);
    let state = model.save(0).unwrap();
    let other = Subject::load(&tiny("mamba"), FLOAT_NOISE);
    let mut mamba = other.model();
    read(&mut mamba, &tokens[..10]);
    assert!(mamba.restore(0, &state, tokens.len()).is_err());
    assert_eq!(mamba.len(0), 0);
    assert!(model.restore(0, &state, tokens.len() + 1).is_err(), "of another length");
    assert_eq!(model.len(0), 0);
    assert!(model.restore(0, &[], 10).is_err() && model.restore(0, &state[..1000], tokens.len()).is_err());
    read(&mut model, &tokens);
    assert!(model.save(0).unwrap() == state, "it can be used as before");
    let mut small = subject.model();
    small.grow(64).unwrap();
    assert!(small.restore(0, &state, tokens.len()).is_err(), "more than there is room for");
}

#[test]
fn a_conversation_is_resumed_in_another_process() {
    for (name, subject) in tiny_subjects() {
        let folder = TempDir::new().unwrap();
        let first = first_question(&subject, folder.path());
        let said = [about("What is it?"), Message::new(Role::Assistant, first), user("And then?")];
        let next = turn(&said, 12);
        let ours = answer(&mut with_folder(&subject, folder.path()), &next);
        let fresh = answer(&mut subject.engine(), &next);
        assert!(ours.cached >= LEAST, "{name}: {} of {}", ours.cached, fresh.tokens.len());
        assert_same(&subject, &ours, &fresh, name);
    }
}

#[test]
fn another_question_about_the_same_document_does_not_read_it_again() {
    for (name, subject) in tiny_subjects() {
        let folder = TempDir::new().unwrap();
        first_question(&subject, folder.path());
        let mut engine = with_folder(&subject, folder.path());
        let ours = answer(&mut engine, &second_question());
        let document = subject.model().tokenize(&document(), false).len();
        assert!(ours.cached >= document - 2, "{name}: {} of {document}", ours.cached);
        assert_same(&subject, &ours, &expected(&subject), name);
        // Once more from memory, then from disk.
        let again = answer(&mut engine, &turn(&[user("Hi")], 4));
        assert_eq!(again.cached, again.cached.min(LEAST), "{name}");
        let restored = answer(&mut engine, &second_question());
        assert!(restored.cached >= document - 2, "{name}: {} of {document}", restored.cached);
        assert_same(&subject, &restored, &ours, name);
        let seen = usage(folder.path());
        // Of a recurrent model the checkpoint is all of its memory: the disk is needed no more.
        let hits = if name == "mamba" { 1 } else { 2 };
        assert!(seen.hits == hits && seen.files >= 1 && seen.bytes > 0, "{name}: {seen:?}");
    }
}

#[test]
fn a_long_system_prompt_is_read_once_for_several_processes() {
    for (name, subject) in tiny_subjects().filter(|(name, _)| *name != "base") {
        let folder = TempDir::new().unwrap();
        let asked = |text: &str| {
            let messages = vec![Message::new(Role::System, document()), user(text)];
            turn(&messages, 16)
        };
        let mut first = with_folder(&subject, folder.path());
        answer(&mut first, &asked("What is it?"));
        flushed(first);
        let ours = answer(&mut with_folder(&subject, folder.path()), &asked("Why so?"));
        let fresh = answer(&mut subject.engine(), &asked("Why so?"));
        assert_same(&subject, &ours, &fresh, name);
        let alone = subject.engine().count(&turn(&[user("Why so?")], 16)).unwrap().prompt;
        let prompt = subject.engine().count(&asked("Why so?")).unwrap().prompt;
        assert!(
            ours.cached + alone + 8 >= prompt,
            "{name}: only {} of {prompt} tokens were there",
            ours.cached
        );
    }
}

#[test]
fn reading_ahead_restores_as_well() {
    let subject = Subject::load(&tiny("llama-bpe"), FLOAT_NOISE);
    let folder = TempDir::new().unwrap();
    let text = first_question(&subject, folder.path());
    let said = [about("What is it?"), Message::new(Role::Assistant, text)];
    let mut engine = with_folder(&subject, folder.path());
    engine.prepare(&turn(&said, 12), &user(""), &|| false).unwrap();
    assert_eq!(usage(folder.path()).hits, 1);
    let next = turn(&[&said[..], &[user("And then?")]].concat(), 12);
    assert!(engine.count(&next).unwrap().cached > 100);
}

#[test]
fn nothing_is_kept_of_what_may_not_be() {
    let subject = Subject::load(&tiny("gemma3"), FLOAT_NOISE);
    let folder = TempDir::new().unwrap();
    let secret = Request { cacheable: false, ..second_question() };
    let mut engine = with_folder(&subject, folder.path());
    answer(&mut engine, &secret);
    flush(&mut engine);
    engine.prepare(&secret, &user(""), &|| false).unwrap();
    flush(&mut engine);
    engine.count(&secret).unwrap();
    flushed(engine);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    first_question(&subject, folder.path());
    let before = usage(folder.path());
    assert!(answer(&mut with_folder(&subject, folder.path()), &secret).cached > LEAST, "it may be used");
    assert_eq!(usage(folder.path()), before, "without a trace");
}

#[test]
fn a_damaged_file_is_removed_and_read_again() {
    let subject = Subject::load(&tiny("llama-spm"), FLOAT_NOISE);
    let folder = TempDir::new().unwrap();
    first_question(&subject, folder.path());
    let [path] = &files(folder.path())[..] else { panic!("one file") };
    let good = fs::read(path).unwrap();
    let expected = expected(&subject);
    let mut engine = with_folder(&subject, folder.path()); // an engine that already knew the file
    assert!(answer(&mut engine, &second_question()).cached > LEAST);
    let mut check = |bytes: &[u8], what: &str| {
        for known in [false, true] {
            fs::write(path, bytes).unwrap();
            let ours = match known {
                true => {
                    answer(&mut engine, &turn(&[user("Hi")], 1));
                    answer(&mut engine, &second_question())
                }
                false => answer(&mut with_folder(&subject, folder.path()), &second_question()),
            };
            assert!(ours.cached < LEAST, "{what}: {} tokens were believed", ours.cached);
            assert_same(&subject, &ours, &expected, what);
            assert!(!path.exists(), "{what}: the file is still there");
            fs::write(path, &good).unwrap();
            answer(&mut engine, &turn(&[user("Hi")], 1));
            assert!(answer(&mut engine, &second_question()).cached > LEAST, "{what}: known again");
        }
    };
    for place in (0..good.len()).step_by(good.len() / 40).chain([8, 9, 12, 16, 20, good.len() - 1]) {
        let mut bytes = good.clone();
        bytes[place] ^= 0x10;
        check(&bytes, &format!("byte {place} changed"));
    }
    for length in [0, 7, 19, 20, 400, good.len() / 2, good.len() - 1] {
        check(&good[..length], &format!("cut to {length}"));
    }
    check(&vec![b'x'; good.len()], "no cached prompt at all");
    check(&[&good[..], b"more"].concat(), "more than there was");
    let version_1 = [&good[..8], &1u32.to_le_bytes(), &good[12..]].concat();
    check(&version_1, "another version");
}

#[test]
fn other_settings_and_other_models_have_other_prompt_caches() {
    let home = TempDir::new().unwrap();
    let path = tiny("llama-bpe");
    let mut bytes = fs::read(&path).unwrap();
    let end = bytes.len();
    bytes[end - 40_000..].iter_mut().step_by(4).for_each(|byte| *byte ^= 1); // other weights, the same shape
    let tuned = home.path().join("tuned.gguf");
    fs::write(&tuned, bytes).unwrap();
    let print = |path: &Path| gguf::fingerprint(path, &gguf::read(path).unwrap()).unwrap();
    let subject = Subject::load(&path, FLOAT_NOISE);
    let context = subject.context();
    let placement = Placement::new(&Settings::default());
    let experts = Placement { cpu_experts: 1, ..placement.clone() };
    let mut others = vec![
        key(&print(&tuned), &context, &placement, true),
        key(&print(&path), &context, &Placement { gpu_layers: 3, ..placement.clone() }, true),
        key(&print(&path), &context, &experts, true),
        key(&print(&path), &context, &placement, false),
    ];
    let changed: [fn(&mut fireside::engine::llama::ContextOptions); 5] = [
        |context| context.kv_offload = false,
        |context| context.cache_type_k = CacheType::F16,
        |context| context.cache_type_v = CacheType::F16,
        |context| context.flash_attn = fireside::chat::settings::Auto::On,
        |context| context.batch_size = 64,
    ];
    for change in changed {
        let mut context = context.clone();
        change(&mut context);
        others.push(key(&print(&path), &context, &placement, true));
    }
    let ours = key(&print(&path), &context, &placement, true);
    let engine = |key: &str| {
        let prompt_cache = PromptCache::new(home.path().into(), key.into(), ANYTHING);
        subject.engine().with_prompt_cache(Some(prompt_cache))
    };
    let mut first = engine(&ours);
    answer(&mut first, &second_question());
    flushed(first);
    assert!(answer(&mut engine(&ours), &second_question()).cached > LEAST);
    for other in others {
        assert!(answer(&mut engine(&other), &second_question()).cached < LEAST, "{other}");
    }
    assert_eq!(files(home.path()).len(), 1, "what is of others stays");
}

#[test]
fn a_state_that_llama_cpp_refuses_is_read_again() {
    let folder = TempDir::new().unwrap();
    let subject = Subject::load(&tiny("llama-bpe"), FLOAT_NOISE);
    first_question(&subject, folder.path());
    let mut context = subject.context();
    context.cache_type_k = CacheType::F16;
    let half = || subject.engine_of(Llama::new(&subject.weights, context.clone()));
    let prompt_cache = PromptCache::new(folder.path().into(), "a key".into(), ANYTHING); // the same key anyway
    let ours = answer(&mut half().with_prompt_cache(Some(prompt_cache)), &second_question());
    let fresh = answer(&mut half(), &second_question());
    assert_eq!((ours.cached, ours.text), (0, fresh.text));
    assert_eq!(files(folder.path()).len(), 0);
}

#[test]
fn a_folder_that_cannot_be_used_is_no_failure() {
    let subject = Subject::load(&tiny("llama-bpe"), FLOAT_NOISE);
    let home = TempDir::new().unwrap();
    let file = home.path().join("file");
    fs::write(&file, "").unwrap();
    let full = Rules { bounds: DiskBounds { leave: u64::MAX, ..ANYTHING.bounds }, ..ANYTHING };
    let small = Rules { bounds: DiskBounds { most: 1000, ..ANYTHING.bounds }, ..ANYTHING };
    let cases = [
        (file.join("folder"), ANYTHING),
        (home.path().join("full"), full),
        (home.path().join("small"), small),
    ];
    for (folder, rules) in cases {
        for _ in 0..2 {
            let mut engine = with_rules(&subject, &folder, rules.clone());
            let ours = answer(&mut engine, &second_question());
            assert_eq!((ours.cached, &ours.text), (0, &expected(&subject).text));
            flushed(engine);
        }
        assert_eq!(usage(&folder).files, 0);
    }
}

#[test]
fn the_bound_holds_and_what_is_used_stays() {
    let subject = Subject::load(&tiny("llama-bpe"), FLOAT_NOISE);
    let folder = TempDir::new().unwrap();
    first_question(&subject, folder.path());
    let size = usage(folder.path()).bytes;
    let rules = Rules { bounds: DiskBounds { most: size * 4, ..ANYTHING.bounds }, ..ANYTHING };
    for i in 0..12 {
        let mut engine = with_rules(&subject, folder.path(), rules.clone());
        let text = format!("{i} {}", document());
        let other = user("What is it?").with_files([Attachment::new("d", text)]);
        answer(&mut engine, &turn(&[other], 16));
        flushed(engine);
        let now = usage(folder.path());
        assert!(now.bytes <= size * 4 && now.files >= 2.min(i + 1), "{now:?}");
        let ours = answer(&mut with_rules(&subject, folder.path(), rules.clone()), &second_question());
        assert!(ours.cached > LEAST, "what is used all the time was removed after {i}");
    }
}

#[test]
fn two_processes_share_a_folder() {
    let subject = Subject::load(&tiny("llama-bpe"), FLOAT_NOISE);
    let folder = TempDir::new().unwrap();
    let mut other = with_folder(&subject, folder.path());
    assert!(answer(&mut other, &turn(&[user(&"word ".repeat(80))], 1)).cached == 0, "it has looked before");
    first_question(&subject, folder.path());
    let expected = expected(&subject);
    let ours = answer(&mut other, &second_question());
    assert!(ours.cached > LEAST, "what another process wrote is found");
    assert_same(&subject, &ours, &expected, "another process");
    answer(&mut other, &turn(&[user("Hi")], 1));
    files(folder.path()).iter().for_each(|file| fs::remove_file(file).unwrap());
    let ours = answer(&mut other, &second_question());
    assert!(ours.cached < LEAST, "what another process removed is read again");
    assert_same(&subject, &ours, &expected, "removed");
    // All at once, with hardly enough space for two.
    let small = Rules { bounds: DiskBounds { most: 600_000, ..ANYTHING.bounds }, ..ANYTHING };
    std::thread::scope(|scope| {
        for seed in 0..4 {
            let (subject, small, folder, expected) = (&subject, &small, folder.path(), &expected);
            scope.spawn(move || {
                for round in 0..6 {
                    let mut engine = with_rules(subject, folder, small.clone());
                    let filler = "tree moon ".repeat(40 + 7 * ((seed + round) % 5));
                    answer(&mut engine, &turn(&[user(&filler)], 2));
                    flush(&mut engine);
                    assert_same(subject, &answer(&mut engine, &second_question()), expected, "all at once");
                    flushed(engine);
                }
            });
        }
    });
    assert!(usage(folder.path()).bytes < 1_500_000, "each may have been writing one more");
}

#[test]
fn an_interrupted_reading_leaves_all_usable() {
    for name in ["llama-bpe", "falcon-h1"] {
        let subject = Subject::load(&tiny(name), FLOAT_NOISE);
        let folder = TempDir::new().unwrap();
        first_question(&subject, folder.path());
        let mut engine = with_folder(&subject, folder.path());
        engine.reply(&second_question(), &AtomicBool::new(true), &mut |_| {}).unwrap();
        assert_same(&subject, &answer(&mut engine, &second_question()), &expected(&subject), name);
    }
}

#[test]
fn the_default_model_answers_the_same() {
    let Some(subject) = default_subject() else { return };
    let folder = TempDir::new().unwrap();
    let first = first_question(subject, folder.path());
    let ours = answer(&mut with_folder(subject, folder.path()), &second_question());
    assert!(ours.cached > LEAST);
    assert_same(subject, &ours, &expected(subject), "another question");
    let said = [about("What is it?"), Message::new(Role::Assistant, first), user("And then?")];
    let ours = answer(&mut with_folder(subject, folder.path()), &turn(&said, 24));
    assert!(ours.cached > LEAST);
    assert_same(subject, &ours, &answer(&mut subject.engine(), &turn(&said, 24)), "a conversation");
    assert_eq!(subject.noise, QUANTISED_NOISE);
}

/// A file of about 600 tokens: enough for a slow prefill.
fn big_file(home: &Home) -> String {
    let line = |i| format!("Entry {i}: the lamp in room {} costs {} euros.\n", i * 7 % 60, 100 + i);
    home.write("big.txt", (0..30).map(line).collect::<String>()).to_str().unwrap().into()
}

#[test]
fn a_second_run_about_the_same_file_does_not_read_it_again() {
    let Some(model) = default_model() else { return };
    let home = Home::new();
    let file = big_file(&home);
    let folder = home.path(".cache/fireside/prompts");
    let run = |more: &[&str]| {
        let args = ["-f", &file, "-p", "What is this?", "--json", "--temp", "0", "-n", "12"];
        let run = home.run(&[&args[..], more].concat()).model(&model);
        run.done().code(0).json()
    };
    run(&["--no-prompt-cache"]);
    run(&["--incognito"]);
    assert!(!folder.exists(), "neither keeps anything");
    let first = run(&[]);
    assert_eq!((&first["tokens"]["cached"], usage(&folder).files), (&0.into(), 1));
    let second = run(&[]);
    let tokens = |name: &str| second["tokens"][name].as_u64().unwrap();
    assert_eq!(tokens("cached"), tokens("prompt") - 1);
    assert_eq!(second["text"], first["text"]);
    let seconds = |run: &serde_json::Value| run["timings"]["prompt"].as_f64().unwrap();
    assert!(seconds(&second) < seconds(&first) / 2.0, "{first} {second}");
    assert_eq!(run(&["--no-prompt-cache"])["tokens"]["cached"], 0, "--no-prompt-cache looks for nothing");
}

/// Keys and values of the default model: 30 layers, 3 heads of 64 numbers, 2 bytes each.
const BYTES_PER_TOKEN: u64 = 30 * 3 * 64 * 2 * 2;

#[test]
fn a_chat_keeps_what_it_has_read_while_it_waits() {
    let Some(model) = default_model() else { return };
    let home = Home::new();
    let file = big_file(&home);
    let folder = home.path(".cache/fireside/prompts");
    let args = ["--repl-stdin", "-i", "-f", &file, "-p", "What is this?", "-n", "4"];
    let mut chat = home.run(&args).model(&model).stdin("").start();
    let deadline = Instant::now() + Duration::from_secs(60);
    // On a busy machine the beginning that all questions share is kept first, which is much smaller.
    let whole = |file: &PathBuf| fs::metadata(file).is_ok_and(|about| about.len() > 400 * BYTES_PER_TOKEN);
    while !files(&folder).iter().any(whole) {
        assert!(Instant::now() < deadline, "nothing was kept");
        std::thread::sleep(Duration::from_millis(20));
    }
    chat.close_stdin();
    chat.done().code(0);
    let run = home.run(&["-f", &file, "-p", "Why?", "--json", "-n", "1"]).model(&model);
    assert!(run.done().json()["tokens"]["cached"].as_u64().unwrap() > 400);
}

#[test]
fn a_short_prompt_neither_looks_nor_keeps() {
    let home = Home::new();
    home.run(&["-p", "Hi", "-n", "8"]).model(&tiny("llama-bpe")).done().code(0);
    assert!(!home.path(".cache/fireside/prompts").exists());
}

/// Changes bytes in the middle of a large file, outside all samples of its fingerprint.
fn edited(path: &Path) {
    use std::os::unix::fs::FileExt;
    let print = || gguf::fingerprint(path, &gguf::read(path).unwrap()).unwrap();
    let header = gguf::read(path).unwrap();
    let tensor = header.tensors.iter().find(|t| t.name == "blk.14.attn_v.weight").unwrap();
    let (place, before) = (header.data_start + tensor.offset + tensor.bytes / 2, print());
    let file = fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut bytes = [0; 4096];
    file.read_exact_at(&mut bytes, place).unwrap();
    bytes.iter_mut().step_by(3).for_each(|byte| *byte ^= 0x11);
    file.write_all_at(&bytes, place).unwrap();
    assert_eq!(print(), before, "the samples have seen it");
}

/// The file is changed between the samples, keeps its size, and gets its old modification time back.
#[test]
fn an_edited_model_uses_nothing_that_the_one_before_it_left() {
    let Some(model) = default_model() else { return };
    let home = Home::new();
    let file = big_file(&home);
    let copy = home.path("model.gguf");
    fs::copy(&model, &copy).unwrap();
    let run = || {
        let args = ["-f", &file, "-p", "What is this?", "--json", "--temp", "0", "-n", "12"];
        home.run(&args).model(&copy).done().code(0).json()
    };
    run();
    assert!(run()["tokens"]["cached"].as_u64().unwrap() > 400, "as long as it is the same");
    let modified = fs::metadata(&copy).unwrap().modified().unwrap();
    edited(&copy);
    let change = fs::OpenOptions::new().write(true).open(&copy).unwrap();
    change.set_modified(modified).unwrap();
    assert_eq!(run()["tokens"]["cached"], 0);
    assert!(run()["tokens"]["cached"].as_u64().unwrap() > 400, "its own are used again");
}

/// CRC-32 does not detect a change by its own polynomial; whatever is added to the state, the file must be
/// rejected.
#[test]
fn a_damage_that_a_short_sum_misses_is_seen() {
    let subject = Subject::load(&tiny("llama-spm"), FLOAT_NOISE);
    let folder = TempDir::new().unwrap();
    first_question(&subject, folder.path());
    let [path] = &files(folder.path())[..] else { panic!("one file") };
    let good = fs::read(path).unwrap();
    let polynomial: u64 = 0x1_04c1_1db7;
    let bits = (0..33).map(|i| (polynomial >> (32 - i)) & 1 == 1);
    let places = [good.len() / 2, good.len() - 5, good.len() - 20_000];
    for place in places {
        let mut bytes = good.clone();
        for (i, _) in bits.clone().enumerate().filter(|(_, set)| *set) {
            bytes[place + i / 8] ^= 1 << (i % 8);
        }
        let before = crc32fast::hash(&good[place - 10..place + 5]);
        assert_eq!(crc32fast::hash(&bytes[place - 10..place + 5]), before);
        fs::write(path, bytes).unwrap();
        let ours = answer(&mut with_folder(&subject, folder.path()), &second_question());
        assert!(ours.cached < LEAST, "{} tokens were believed", ours.cached);
        assert!(!path.exists());
    }
}

/// As for other files: attached and typed text is saved, piped text only with --keep.
#[test]
fn a_plain_completion_is_kept_like_any_prompt() {
    let Some(model) = default_model() else { return };
    let home = Home::new();
    let file = big_file(&home);
    let cached = |args: &[&str], stdin: &str| {
        let run = home.run(&[&["--json", "--temp", "0", "-n", "1"], args].concat()).model(&model);
        run.stdin(stdin).done().code(0).json()["tokens"]["cached"].as_u64().unwrap()
    };
    let text = fs::read_to_string(&file).unwrap();
    for raw in [&["--raw"][..], &[]] {
        let with = |more: &[&'static str]| [raw, more].concat();
        cached(&with(&[]), &text);
        assert!(cached(&with(&["--keep"]), &text) < LEAST as u64, "{raw:?}: what was piped in was kept");
        assert!(cached(&with(&[]), &text) > 400, "{raw:?}: what is to be kept was not");
        let args = [raw, &["-f", &file, "-p", "The end"]].concat();
        let typed = cached(&args, "");
        assert!(typed > 400 || cached(&args, "") > 400, "{raw:?}: {typed}");
    }
}
