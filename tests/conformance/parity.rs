//! Compares fireside's engine with llama-cli, compiled from the references' sources with the kernels (ggml)
//! that fireside runs: both must give the same text at temperature 0.
//!
//! Quantised kernels give slightly different numbers for different batch sizes. Where two texts part, the
//! logits decide: if the best token leads by less than that noise, it is a near tie, otherwise a difference.

pub(super) mod logprobs;
pub(super) mod perplexity;
pub(super) mod server;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use fireside::engine::model::Model as _;

use super::{Row, conclude, reference};
use crate::support::engine::{QUANTISED_NOISE, Subject, answer, turn, user};
use crate::support::{default_model, repository};

pub(super) const CHECK: &str = "llama-cli";

/// Tokens of an answer.
const TOKENS: u32 = 64;

const PROMPTS: [&str; 20] = [
    "What is the capital of France?",
    "Write a haiku about the sea.",
    "Explain photosynthesis to a child.",
    "def fibonacci(n):\n    if n < 2:",
    "List three uses of a paper clip.",
    "Übersetze ins Deutsche: good morning",
    "Why do cats purr?\n\nAnswer briefly.",
    "1, 1, 2, 3, 5, 8,",
    "Tell me a story about a dragon who was afraid of fire 🐉.",
    "What is the difference between TCP and UDP?",
    "  Trim me.  ", // llama-cli would remove a final newline
    "Say \"hello\" in <b>HTML</b> & 'quotes'.",
    "¿Dónde está la biblioteca?",
    "Write a limerick about a clock.",
    "What is 12 * 12? Show your work.",
    "Name five rivers, one on each line.",
    "Repeat this: the fire is low and the evening is long, the evening is long and the fire is low.",
    "Give me a recipe for pancakes.",
    "How does a bicycle stay upright?",
    "你好",
];

/// The model files in models/.
pub(super) fn models() -> Vec<PathBuf> {
    let files = std::fs::read_dir(repository().join("models")).unwrap().map(|entry| entry.unwrap().path());
    let mut models: Vec<PathBuf> =
        files.filter(|path| path.extension().is_some_and(|end| end == "gguf")).collect();
    models.sort();
    models
}

/// llama-cli's answer, with the newline that it adds if there is none.
fn theirs(program: &Path, model: &Path, prompt: &str) -> String {
    let out = Command::new(program)
        .arg("--model")
        .arg(model)
        .args([
            "--prompt",
            prompt,
            "--no-escape",
            "--predict",
            &TOKENS.to_string(),
            "--temp",
            "0",
            "--threads",
            "1",
        ])
        .args(["--single-turn", "--simple-io", "--no-show-timings", "--reasoning-format", "none"])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    let answer = said.split_once(&format!("\n> {prompt}\n")).map(|(_, answer)| answer);
    let answer = answer.and_then(|answer| answer.strip_suffix("\n\nExiting...\n"));
    answer.unwrap_or_else(|| panic!("llama-cli said something else: {said:?}")).to_string()
}

/// Where the engine's answer to a prompt parts from another one, and whether only by the noise; `None` if they
/// are the same. `added`: the other one always ends with a newline.
fn parting(subject: &Subject, prompt: &str, theirs: &str, added: bool) -> Option<(String, bool)> {
    let asked = turn(&[user(prompt)], TOKENS + 1); // the last token of an answer is not evaluated
    let mut engine = subject.engine();
    let read = engine.prompt(&asked).unwrap().tokens.len();
    let tokens = answer(&mut engine, &asked).tokens;
    let tokens = &tokens[..tokens.len().min(read + TOKENS as usize)];
    let vocabulary = subject.model();
    let bytes = |until: usize| -> Vec<u8> {
        tokens[read..until].iter().flat_map(|token| vocabulary.piece(*token, false)).collect()
    };
    let ours = String::from_utf8_lossy(&bytes(tokens.len())).trim_end_matches('\u{fffd}').to_string(); // half a character
    let newline = if added && !ours.ends_with('\n') { "\n" } else { "" };
    if ours.clone() + newline == theirs {
        return None;
    }
    let same = (read..tokens.len()).take_while(|n| theirs.as_bytes().starts_with(&bytes(n + 1))).count();
    let margin = subject.margin(&tokens[..read + same]);
    let how =
        format!("{prompt:?}: {ours:?}, theirs {theirs:?}: token {same}, where the best leads by {margin}");
    Some((how, margin < subject.noise))
}

#[test]
fn answers_are_those_of_llama_cli() {
    let Some(program) = reference("bin/llama-cli") else { return };
    if default_model().is_none() {
        return;
    }
    let (mut compared, mut differing, mut near_ties) = (0, Vec::new(), Vec::new());
    for model in models() {
        let subject = Subject::load(&model, QUANTISED_NOISE);
        for prompt in PROMPTS {
            compared += 1;
            match parting(&subject, prompt, &theirs(&program, &model, prompt), true) {
                Some((how, true)) => near_ties.push(how),
                Some((how, false)) => differing.push(how),
                None => {}
            }
        }
    }
    let near_ties = Some(near_ties);
    conclude(Row { check: CHECK, reference: "llama.cpp's llama-cli", compared, differing, near_ties });
}
