//! The log-probabilities of the same answers here and at a llama-server of another release of llama.cpp: of each
//! token, and of the likeliest others. Both with flash attention and the same batches: other kernels round
//! otherwise.

use serde_json::Value;

use super::super::{Row, conclude, reference};
use super::server::Server;
use super::{PROMPTS, models};
use crate::support::{Home, default_model};

pub(crate) const CHECK: &str = "log-probabilities";

/// Tokens of an answer, and the likeliest others of each.
const TOKENS: &str = "16";
const OTHERS: &str = "5";
/// The most that two log-probabilities may differ.
const MOST: f64 = 1e-3;

/// How two tokens with their others differ; `None`: they do not. Others are compared by their texts: of those
/// with about the same probability, either may come first.
fn difference(here: &Value, there: &Value) -> Option<String> {
    let logprob = |token: &Value| token["logprob"].as_f64().unwrap_or(f64::NEG_INFINITY);
    let differ = |one: &Value, other: &Value| (logprob(one) - logprob(other)).abs() > MOST;
    let mut others = here["others"].as_array()?.iter();
    let found = |other: &&Value| there["others"].as_array()?.iter().find(|of| of["bytes"] == other["bytes"]);
    let wrong = others.find(|other| found(other).is_some_and(|found| differ(other, found)));
    (differ(here, there) || wrong.is_some()).then(|| format!("here {here}, there {there}"))
}

#[test]
fn log_probabilities_are_those_of_llama_server() {
    let Some(program) = reference("bin/llama-server") else { return };
    if default_model().is_none() {
        return;
    }
    let (mut compared, mut differing) = (0, Vec::new());
    let home = Home::new();
    let args = ["-n", TOKENS, "--logprobs", OTHERS];
    for model in models() {
        for prompt in PROMPTS {
            // A fresh server: what it has in its cache was evaluated in other batches.
            let server = Server::start(&program, &model, &["--ctx-size", "4096", "--flash-attn", "on"]);
            let there = server.answers(&home, &[&args[..], &["-p", prompt]].concat());
            let alone = "--temp 0 --json --no-speculative --no-prompt-cache --flash-attn on --batch-size 512";
            let alone: Vec<&str> = alone.split(' ').chain(["-p", prompt]).collect();
            let here = home.run(&[&args[..], &alone].concat()).model(&model).done().code(0).json();
            let tokens = |object: &Value| object["logprobs"].as_array().unwrap().clone();
            for (one, other) in tokens(&here).iter().zip(&tokens(&there)) {
                if one["bytes"] != other["bytes"] {
                    break; // a near tie, after which the texts are others: the row llama-server has them
                }
                compared += 1;
                differing.extend(difference(one, other).map(|how| format!("{prompt:?}: {how}")));
            }
        }
    }
    conclude(Row {
        check: CHECK,
        reference: "llama.cpp's llama-server",
        compared,
        differing,
        near_ties: None,
    });
}
