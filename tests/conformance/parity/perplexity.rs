//! The perplexity of the same chunks of a text here and by llama-perplexity of another release of llama.cpp. Both
//! with flash attention: other kernels round otherwise.

use std::path::Path;
use std::process::{Command, Stdio};

use super::super::{Row, conclude, reference};
use super::models;
use crate::support::{Home, default_model, repository};

pub(crate) const CHECK: &str = "perplexity";

/// A text of more chunks than that.
const TEXT: &str = "docs/scripting.md";
const CHUNKS: usize = 4;
/// Tokens of a chunk.
const CHUNK: &str = "512";
/// The most that two perplexities may differ, as a share.
const MOST: f64 = 0.005;

/// llama-perplexity's estimates after each chunk.
fn theirs(program: &Path, model: &Path, text: &Path) -> Vec<f64> {
    let mut command = Command::new(program);
    command.arg("--model").arg(model).arg("--file").arg(text).arg("--no-escape");
    command.args(["--ctx-size", CHUNK, "--batch-size", CHUNK, "--threads", "1", "--flash-attn", "on"]);
    let out = command.args(["--chunks", &CHUNKS.to_string()]).stdin(Stdio::null()).output().unwrap();
    let said = [out.stdout, out.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat();
    let estimate = |number: usize| -> Option<f64> {
        said.split_once(&format!("[{number}]"))?.1.split_once(',')?.0.trim().parse().ok()
    };
    let all: Option<Vec<f64>> = (1..=CHUNKS).map(estimate).collect();
    all.unwrap_or_else(|| panic!("llama-perplexity said something else: {said}"))
}

#[test]
fn perplexities_are_those_of_llama_perplexity() {
    let Some(program) = reference("bin/llama-perplexity") else { return };
    if default_model().is_none() {
        return;
    }
    let (mut compared, mut differing) = (0, Vec::new());
    let home = Home::new();
    let text = repository().join(TEXT);
    let score = ["score", text.to_str().unwrap(), "--json", "--flash-attn", "on", "-c", CHUNK];
    for model in models() {
        for (number, there) in (1..).zip(theirs(&program, &model, &text)) {
            let run = home.run(&[&score[..], &["--chunks", &number.to_string()]].concat());
            let here = run.model(&model).done().code(0).json();
            let here = here["perplexity"].as_f64().unwrap();
            compared += 1;
            if (here / there - 1.0).abs() > MOST {
                differing.push(format!("{}, {number} chunks: {here}, theirs {there}", model.display()));
            }
        }
    }
    conclude(Row {
        check: CHECK,
        reference: "llama.cpp's llama-perplexity",
        compared,
        differing,
        near_ties: None,
    });
}
