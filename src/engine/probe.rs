//! The probe of a model file, run in the child process that models/probe.rs starts: tokenise sample texts,
//! evaluate a few tokens, and check that the logits are numbers.

use super::error::Error;
use super::llama;
use super::model::{Logits, Model};

/// Has the model tokenise all kinds of text and evaluate a few tokens: the minimum for a usable model file.
pub fn probe(weights: &llama::Weights, options: llama::ContextOptions) -> Result<(), Error> {
    let mut model = llama::Llama::new(weights, options);
    model.grow(model.limit().min(256))?;
    let vocabulary = model.vocabulary();
    let first = vocabulary.bos.unwrap_or(0);
    // A batch, as in a prompt, and a single token, as in an answer: llama.cpp runs different code for each. For
    // large models each row takes a second.
    for tokens in [&[first; 2][..], &[first]] {
        model.append(0, tokens, Logits::Last)?;
        let best = model.logits(0).iter().copied().fold(f32::NEG_INFINITY, f32::max);
        if !best.is_finite() {
            return Err(Error::Llama("the model's output is not a number: the file may be damaged".into()));
        }
    }
    for text in sample_texts() {
        model.tokenize(&text, false);
        model.tokenize(&text, true);
    }
    Ok(())
}

/// Texts that may trip a tokenizer: every byte that UTF-8 uses, each kind of character alone and in a long
/// run, and one longer mixed text.
fn sample_texts() -> Vec<String> {
    const KINDS: [char; 14] =
        ['a', 'Z', '7', ' ', '\n', '\t', '=', '\'', '\\', 'é', '\u{301}', '中', 'ก', '😀'];
    const LONG: usize = 4096;
    let leading = (2..32).map(|n| n << 6).chain((1..16).map(|n| n << 12)).chain((1..5).map(|n| n << 18));
    let bytes: String = (0..0x100).chain(leading).filter_map(char::from_u32).collect();
    let text: String = bytes.chars().flat_map(|c| [c, 'a', ' ', c, c]).collect();
    let runs = KINDS.iter().flat_map(|kind| [1, LONG].map(|length| kind.to_string().repeat(length)));
    runs.chain([bytes, text]).collect()
}
