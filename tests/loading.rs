//! A file loaded in two halves at once, with the special tokens found before, gives the same model as one
//! loaded in turn.

use std::ffi::CString;
use std::path::Path;

use fireside::chat::settings::Settings;
use fireside::engine::llama::{self, Hooks, Llama, LoadOptions, Parts, Weights};
use fireside::engine::model::{Logits, Model};
use fireside::gguf;

use crate::support::engine::{FLOAT_NOISE, QUANTISED_NOISE, Subject, TINY, load};
use crate::support::{Home, default_model, tiny};

const TEXT: &str = "The cat sat on the mat.\n\n  Größe 🔥 <|im_end|> </s> <s> 12345 def f(x):";

pub(crate) fn same_vocabulary(one: &impl Model, other: &impl Model) {
    assert_eq!(format!("{:?}", one.vocabulary()), format!("{:?}", other.vocabulary()));
    for token in 0..one.vocabulary().len as i32 {
        assert_eq!(one.ends(token), other.ends(token), "{token}");
        for special in [false, true] {
            assert_eq!(one.piece(token, special), other.piece(token, special), "{token}");
        }
    }
}

fn halves(path: &Path) -> Parts {
    let header = gguf::read(path).unwrap();
    let size_key = CString::new(format!("{}.vocab_size", header.architecture().unwrap())).unwrap();
    Parts::AtOnce { size_key, tokens: header.array_len("tokenizer.ggml.tokens").unwrap() }
}

#[test]
fn in_halves_it_is_the_same_model() {
    let tiny = TINY.map(|name| (tiny(name), FLOAT_NOISE));
    let default = default_model().map(|path| (path, QUANTISED_NOISE));
    for (path, noise) in tiny.into_iter().chain(default) {
        let subject = Subject::load(&path, noise);
        let context = subject.context();
        let again = load(&path, halves(&path), subject.weights.special_ids());
        let [mut whole, mut halves] =
            [&subject.weights, &again].map(|weights| Llama::new(weights, context.clone()));
        same_vocabulary(&whole, &halves);
        for special in [false, true] {
            assert_eq!(whole.tokenize(TEXT, special), halves.tokenize(TEXT, special), "{path:?}");
        }
        let tokens = whole.tokenize(TEXT, true);
        for model in [&mut whole, &mut halves] {
            model.grow(tokens.len()).unwrap();
            model.append(0, &tokens, Logits::Last).unwrap();
        }
        assert_eq!(whole.logits(0), halves.logits(0), "{path:?}");
        assert_eq!(subject.weights.special_ids(), again.special_ids(), "{path:?}");
    }
}

#[test]
fn a_vocabulary_that_cannot_be_read_is_why_loading_fails() {
    llama::install(Hooks { log: None, abort: |_| {} }); // records the reason
    let path = tiny("llama-bpe");
    let mut bytes = std::fs::read(&path).unwrap();
    let name = b"tokenizer.ggml.merges";
    let at = bytes.windows(name.len()).position(|window| window == name).unwrap();
    bytes[at + name.len() - 1] = b'x'; // no merges, but unchanged tensors
    let folder = tempfile::tempdir().unwrap();
    let broken = folder.path().join("broken.gguf");
    std::fs::write(&broken, bytes).unwrap();
    let options = LoadOptions::new(&Settings::default(), halves(&broken));
    let weights = Weights::begin(&broken, &options, |_| true).unwrap();
    let failure = weights.complete().unwrap_err().to_string();
    assert!(failure.contains("merges"), "{failure}");
    let stopped = Weights::load(&path, &LoadOptions { parts: halves(&path), ..options }, |_| false);
    assert!(stopped.err().unwrap().to_string().contains("stopped"));
}

#[test]
fn the_log_does_not_spell_out_the_vocabulary() {
    let home = Home::new();
    let done = home.run(&["-p", "Hi", "-n", "1", "--verbose"]).model(&tiny("llama-bpe")).done().code(0);
    let line = done.stderr.lines().find(|line| line.contains("tokenizer.ggml.tokens")).unwrap();
    assert!(line.ends_with("= [...]"), "{line}");
}
