//! Files with another tokenizer than their vocabulary was made for: an answer or a failure, soon and in
//! little memory.

use std::time::Duration;

use crate::support::{Home, tiny, with_text};

const TOKENIZERS: [&str; 10] =
    ["llama", "gpt2", "bert", "t5", "rwkv", "plamo2", "hybriddna", "whitespace", "gemma4", "none"];
const MODELS: [&str; 4] = ["llama-spm", "llama-bpe", "gemma3", "mamba"];

/// Letters, signs that begin like tokens of these vocabularies but continue otherwise, and characters without
/// a token.
const TEXTS: [&str; 3] = ["the cat 12", "€ Ä ß é日本 😀 \u{7f}\u{0}", "a\n\t\u{301}…"];

#[test]
fn another_tokenizer_than_its_own_never_runs_without_end() {
    let mut written = 0;
    for model in MODELS {
        let file = std::fs::read(tiny(model)).unwrap();
        for tokenizer in TOKENIZERS {
            let home = Home::new();
            let path = home.write("model.gguf", with_text(&file, "tokenizer.ggml.model", tokenizer));
            for text in TEXTS {
                let text = format!("{text}.").replace('\0', "");
                let run = home.run(&["-p", &text, "-n", "2", "--incognito"]).model(&path);
                let run = run.measured(Duration::from_secs(30));
                let (took, memory, stderr) = (run.took, run.memory, &run.done.stderr);
                let what = format!("{model} as {tokenizer} on {text:?}: {took:?}, {memory} bytes, {stderr}");
                assert!(run.signal.is_none() && memory < 3 << 29, "{what}");
                assert!(matches!(run.done.code, Some(0 | 1 | 4)), "{what}");
                assert!(!stderr.contains("internal error"), "{what}");
            }
            // What it writes has its form, or it says that it cannot write that.
            let done =
                home.run(&["-p", "Hi", "--schema", "a yes|no", "--temp", "2", "--think", "off", "-n", "90"]);
            let done = done.model(&path).done();
            let object = serde_json::from_str::<serde_json::Value>(&done.stdout).ok();
            let is_right =
                object.is_some_and(|object| ["yes", "no"].contains(&object["a"].as_str().unwrap()));
            let can = done.code == Some(0);
            assert!(
                can == is_right && (can || matches!(done.code, Some(1 | 4))),
                "{model} as {tokenizer}: {done:#?}"
            );
            written += usize::from(can);
        }
    }
    assert!(written > 15, "{written}");
}
