//! Long runs of one class of characters: tokenised quickly, whatever the vocabulary, and never the end of the
//! process.

use std::mem::ManuallyDrop;
use std::path::PathBuf;
use std::time::Duration;

use fireside::engine::llama::Llama;
use fireside::engine::model::Model;
use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::model::params::LlamaModelParams;

use crate::families::references;
use crate::support::engine::{Chance, FLOAT_NOISE, Subject};
use crate::support::{Home, repository, tiny};

/// Text that pre-tokenisers keep together, one line each: rules, indentation, DNA, empty fields, base64,
/// Chinese, Thai …
pub(crate) const RUNS: [&str; 16] = [
    "=",
    " ",
    "A",
    "a",
    "ACGT",
    ",",
    "\n",
    "\t",
    "0",
    "iVBORw0KGgo4",
    "中",
    "ก",
    "\u{301}",
    "é",
    " \n",
    "Aa",
];

fn models() -> impl Iterator<Item = PathBuf> {
    let file = |name: String| repository().join("tests/families").join(format!("{name}.gguf"));
    references().into_keys().map(file).filter(|path| path.exists())
}

/// `length` characters, with a word before and after.
fn text(run: &str, length: usize) -> String {
    format!("so {} 1 x", run.chars().cycle().take(length).collect::<String>())
}

/// Characters without a token become bytes. Tokenised in parts, the text must give the same tokens as in one
/// piece.
#[test]
fn a_long_text_in_bytes_has_the_tokens_of_llama_cpp() {
    let backend = &ManuallyDrop::new(LlamaBackend {}); // loading a subject starts llama.cpp
    for name in ["llama-spm", "gemma3", "mamba"] {
        let subject = Subject::load(&tiny(name), FLOAT_NOISE);
        let model = Llama::new(&subject.weights, subject.context());
        let plain = LlamaModel::load_from_file(backend, tiny(name), &LlamaModelParams::default()).unwrap();
        let mut chance = Chance(3);
        for pieces in [
            ["ก", "ข", "the ", " cat"],
            ["ก", "ก", "ก", "é"],
            ["語 ", " 語", "語", "<s>"],
            ["語", "\n", "  ", "a"],
        ] {
            let text: String = (0..3000).map(|_| pieces[chance.below(4)]).collect();
            for special in [false, true] {
                let ids: Vec<i32> = plain
                    .vocab()
                    .tokenize(text.as_bytes(), false, special)
                    .into_iter()
                    .map(|id| id.0)
                    .collect();
                assert!(model.tokenize(&text, special) == ids, "{name}: {pieces:?}, special {special}");
            }
        }
    }
}

#[test]
fn a_long_run_is_tokenised_by_every_family() {
    let home = Home::new();
    let all: String = RUNS.iter().map(|run| text(run, 20_000)).collect();
    for model in models() {
        let done = home.run(&["--raw", "--dry-run"]).model(&model).stdin(all.clone()).done();
        assert_eq!(done.code, Some(0), "{model:?}: {}", done.stderr);
        assert!(done.stdout.trim_end() == all.trim_end(), "{model:?}: not the text that was given");
    }
}

/// A million characters in almost linear time; quadratic time would be hours.
#[test]
fn a_million_characters_are_a_moment() {
    let home = Home::new();
    for name in ["gpt-oss", "deepseek-v1", "llama-spm"] {
        let model = repository().join("tests/families").join(format!("{name}.gguf"));
        for run in ["=", " ", "ก"] {
            let file = home.write("run.txt", text(run, 1_000_000));
            let run = home.run(&["--raw", "--dry-run", "-f", file.to_str().unwrap()]).model(&model);
            let run = run.measured(Duration::from_secs(120));
            assert_eq!(run.done.code, Some(0), "{name}: {}", run.done.stderr);
        }
    }
}
