//! Every family of models gives what the reference implementation gives: the same token ids, the same logits,
//! the same greedy tokens; also after the context grew, after an undo, and with the memory restored from a
//! cached prompt.
//!
//! tests/families/make.py makes the models and the reference's results. Those of `CONVERTED` are checkpoints,
//! which `fireside convert` first converts to a GGUF file.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, OnceLock};

use fireside::engine::llama::Llama;
use fireside::engine::model::{Logits, Model};
use fireside::engine::token::Token;
use serde::Deserialize;
use tempfile::TempDir;

use crate::support::engine::{FLOAT_NOISE, GPU_BUILD, Subject, answer, turn, user};
use crate::support::{Home, repository};

/// As a share of the largest logit. make.py keeps the two best logits apart by ten times the CPU's, at every
/// step.
const TOLERANCE: f32 = if GPU_BUILD { 4e-3 } else { 1e-3 };

/// The reference's results for a model.
#[derive(Deserialize)]
pub(crate) struct Reference {
    pub(crate) covers: String,
    pub(crate) reference: String,
    pub(crate) cases: Vec<Case>,
}

#[derive(Deserialize)]
pub(crate) struct Case {
    prompt: String,
    ids: Vec<Token>,
    greedy: Vec<Token>,
    /// The logits before the first greedy token, and after the last.
    first: Vec<f32>,
    last: Vec<f32>,
}

fn folder() -> PathBuf {
    repository().join("tests/families")
}

/// The reference's results by the model's name.
pub(crate) fn references() -> BTreeMap<String, Reference> {
    let entries = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
    let records = entries.filter(|path| path.extension().is_some_and(|end| end == "json"));
    let read = |path: PathBuf| {
        let name = path.file_stem().unwrap().to_str().unwrap().to_string();
        (name, serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap())
    };
    records.map(read).collect()
}

/// The model's file; a checkpoint is converted into `scratch` first.
fn model(name: &str, scratch: &Path) -> PathBuf {
    let file = folder().join(format!("{name}.gguf"));
    if file.exists() {
        return file;
    }
    let out = scratch.join(format!("{name}.gguf"));
    let checkpoint = folder().join(name);
    let run = Home::new().run(&["convert", "--type", "f32"]).arg(&checkpoint).arg(&out);
    run.done().code(0).stdout(&format!("{}\n", out.display()));
    out
}

#[track_caller]
fn close(ours: &[f32], theirs: &[f32], what: &str) {
    assert_eq!(ours.len(), theirs.len(), "{what}");
    let largest = theirs.iter().fold(0f32, |most, x| most.max(x.abs()));
    let apart = ours.iter().zip(theirs).fold(0f32, |most, (a, b)| most.max((a - b).abs()));
    assert!(apart < TOLERANCE * largest, "{what}: logits differ by {apart}, and the largest is {largest}");
}

fn best(logits: &[f32]) -> Token {
    (0..logits.len()).max_by(|a, b| logits[*a].total_cmp(&logits[*b])).unwrap() as Token
}

/// Evaluates tokens, the last of which gets logits.
fn read(model: &mut Llama, tokens: &[Token]) {
    tokens.chunks(model.batch_size()).for_each(|chunk| model.append(0, chunk, Logits::Last).unwrap());
}

/// Reads greedy tokens one by one, each of which must be the best.
fn follow(model: &mut Llama, greedy: &[Token], what: &str) {
    for (step, token) in greedy.iter().enumerate() {
        assert_eq!(best(model.logits(0)), *token, "{what}: token {step}");
        model.append(0, &[*token], Logits::Last).unwrap();
    }
}

/// The logits before and after the continuation, with capacity for everything from the start.
fn plainly(subject: &Subject, case: &Case, what: &str) {
    let mut model = subject.model();
    model.grow(case.ids.len() + case.greedy.len()).unwrap();
    read(&mut model, &case.ids);
    close(model.logits(0), &case.first, what);
    follow(&mut model, &case.greedy, what);
    close(model.logits(0), &case.last, what);
}

/// The same in a context that has to grow once in the prompt and twice in the continuation.
fn growing(subject: &Subject, case: &Case, what: &str) {
    let mut model = subject.model();
    let (half, all) = (case.ids.len() / 2, [&case.ids[..], &case.greedy].concat());
    let mut done = 0;
    for until in [half, case.ids.len(), case.ids.len() + 9, all.len()] {
        model.grow(until.max(1)).unwrap();
        done = model.len(0).min(done);
        read(&mut model, &all[done..until]);
        done = until;
    }
    close(model.logits(0), &case.last, what);
}

/// The same after other tokens were evaluated and undone, in the prompt and in the continuation.
fn undone(subject: &Subject, case: &Case, other: &[Token], what: &str) {
    let mut model = subject.model();
    let all = [&case.ids[..], &case.greedy].concat();
    model.grow(all.len() + other.len()).unwrap();
    for at in [case.ids.len() / 2, case.ids.len() + 5] {
        let kept = model.len(0);
        read(&mut model, &all[kept..at]);
        read(&mut model, other);
        let kept = model.truncate(0, at);
        read(&mut model, &all[kept..at]);
    }
    read(&mut model, &all[case.ids.len() + 5..]);
    close(model.logits(0), &case.last, what);
}

/// The same with the memory of the prompt saved, and restored into another context.
fn restored(subject: &Subject, case: &Case, what: &str) {
    let mut before = subject.model();
    before.grow(case.ids.len()).unwrap();
    read(&mut before, &case.ids);
    let state = before.save(0).unwrap();
    let mut model = subject.model();
    model.grow(case.ids.len() + case.greedy.len()).unwrap();
    model.restore(0, &state, case.ids.len()).unwrap();
    read(&mut model, &case.greedy);
    close(model.logits(0), &case.last, what);
}

/// The engine as people use it: the ids of the prompt, then the greedy tokens.
fn asked(subject: &Subject, case: &Case, what: &str) {
    let mut engine = subject.engine();
    let mut turn = turn(&[user(&case.prompt)], case.greedy.len() as u32);
    turn.raw = true;
    assert_eq!(engine.prompt(&turn).unwrap().tokens, case.ids, "{what}: ids of {:?}", case.prompt);
    let tokens = answer(&mut engine, &turn).tokens;
    let all = [&case.ids[..], &case.greedy].concat();
    assert_eq!(tokens, all[..all.len() - 1], "{what}: the last token is not evaluated");
}

/// Tried only once, for both the family's test and the conformance table.
pub(crate) fn gives_what_the_reference_gives(name: &str) -> bool {
    static TRIED: LazyLock<BTreeMap<&str, OnceLock<bool>>> =
        LazyLock::new(|| FAMILIES.iter().map(|name| (*name, OnceLock::new())).collect());
    *TRIED[name].get_or_init(|| std::panic::catch_unwind(|| compare(name)).is_ok())
}

fn compare(name: &str) {
    let reference = references().remove(name).unwrap();
    let scratch = TempDir::new().unwrap();
    let subject = Subject::load(&model(name, scratch.path()), FLOAT_NOISE);
    assert_eq!(reference.cases.len(), 5, "{name}");
    for (number, case) in reference.cases.iter().enumerate() {
        let other = &reference.cases[(number + 1) % 5].ids;
        let what = |how: &str| format!("{name}, {:?}, {how}", case.prompt);
        asked(&subject, case, &what("asked"));
        plainly(&subject, case, &what("read"));
        growing(&subject, case, &what("growing"));
        undone(&subject, case, other, &what("undone"));
        restored(&subject, case, &what("restored"));
    }
}

/// A test for every model, and the names of all.
macro_rules! families {
    ($($test:ident $name:literal),* $(,)?) => {
        const FAMILIES: &[&str] = &[$($name),*];
        $(#[test]
        fn $test() {
            assert!(gives_what_the_reference_gives($name), "how it differs is printed where it was tried");
        })*
    };
}

families! {
    bloom "bloom",
    deepseek_r1_distill "deepseek-r1-distill",
    deepseek_v1 "deepseek-v1",
    deepseek_v2 "deepseek-v2",
    deepseek_v3 "deepseek-v3",
    falcon_40b "falcon-40b",
    falcon_7b "falcon-7b",
    falcon_h1 "falcon-h1",
    falcon3 "falcon3",
    gemma3 "gemma3",
    gpt_j "gpt-j",
    gpt_neo "gpt-neo",
    gpt_neox "gpt-neox",
    gpt_oss "gpt-oss",
    gpt2 "gpt2",
    llama_bpe "llama-bpe",
    llama_spm "llama-spm",
    mamba "mamba",
    open_assistant "open-assistant",
}

#[test]
fn every_family_has_a_test() {
    assert_eq!(references().keys().map(String::as_str).collect::<Vec<_>>(), FAMILIES);
}

#[test]
fn open_assistants_turns_are_built_in() {
    let dry = |model: &str, args: &[&str]| {
        let run = Home::new().run(&[&["--dry-run", "-p", "Hi"], args].concat());
        run.model(&folder().join(format!("{model}.gguf"))).done().code(0)
    };
    let oasst = ["--chat-template", "oasst"];
    dry("open-assistant", &oasst).stdout("<|prompter|>Hi<|endoftext|><|assistant|>\n").says("5 tokens");
    let merged = dry("open-assistant", &[&oasst[..], &["--system-prompt", "Rhyme."]].concat());
    merged.stdout("<|prompter|>Rhyme.\n\nHi<|endoftext|><|assistant|>\n");
}

#[test]
fn llama_3s_template_has_the_date() {
    let model = folder().join("llama-bpe.gguf");
    let done = Home::new()
        .run(&["--dry-run", "-p", "Hi", "--template-arg", "date_string=26 Jul 2024"])
        .model(&model)
        .done();
    assert!(
        done.stdout.contains("Today Date: 26 Jul 2024\n\n<|eot_id|><|start_header_id|>user"),
        "{done:#?}"
    );
    let today = Home::new().run(&["--dry-run", "-p", "Hi"]).model(&model).done();
    assert!(today.stdout.contains("Today Date: ") && !today.stdout.contains("Jul 2024"), "{today:#?}");
}
