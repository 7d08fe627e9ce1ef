//! Long runs of one class of characters: tokens in a moment, whatever the vocabulary, and never the end of the process.

use std::path::PathBuf;

use crate::families::references;
use crate::support::{Home, repository};

/// One line each of what pre-tokenisers keep together: rules, indentation, DNA, empty fields, base64, Chinese, Thai …
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
    references().into_iter().map(move |(name, _)| file(name)).filter(|path| path.exists())
}

/// `length` characters, with a word before and after.
fn text(run: &str, length: usize) -> String {
    format!("so {} 1 x", run.chars().cycle().take(length).collect::<String>())
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
