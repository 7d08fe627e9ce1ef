//! Transcripts in the docs: commands for a shell, and what they print with the default model.

use std::path::Path;
use std::process::{Command, Stdio};

use super::{Home, program, repository};

/// Runs the commands of the first console block under a heading of a page with `model`, and compares what they
/// print; numbers may differ by this share. Returns how many commands there are.
#[track_caller]
pub fn check(page: &str, heading: &str, model: &Path, share: f64) -> usize {
    let page = std::fs::read_to_string(repository().join(page)).unwrap();
    let (_, rest) = page.split_once(&format!("{heading}\n")).unwrap();
    let (block, _) = rest.split_once("```console\n").unwrap().1.split_once("```").unwrap();
    let home = Home::new();
    std::os::unix::fs::symlink(program(), home.path("fireside")).unwrap();
    let path = format!("{}:{}", home.path("").display(), std::env::var("PATH").unwrap());
    let parts = block.split("$ ").filter(|part| !part.is_empty());
    let run = |part: &str| {
        let (command, expected) = part.split_once('\n').unwrap();
        let mut run = Command::new("sh");
        run.args(["-c", command]).current_dir(home.path(""));
        run.envs(home.environment()).env("PATH", &path).env("FIRESIDE_MODEL", model);
        let done = run.stdin(Stdio::null()).output().unwrap();
        let printed = String::from_utf8(done.stdout).unwrap();
        assert!(same(&printed, expected, share), "{command}\nprints\n{printed}and not\n{expected}");
    };
    parts.map(run).count()
}

/// Whether two texts are the same but for their numbers, and these about the same.
fn same(one: &str, other: &str, share: f64) -> bool {
    let words = |text: &str| -> Vec<String> {
        text.split_inclusive([' ', '\n', ',', ':', '{', '}', '[', ']']).map(String::from).collect()
    };
    let near = |(one, other): (&String, &String)| {
        let [one_number, other_number] =
            [one, other].map(|word| word.trim_end_matches(|c: char| !c.is_numeric()));
        let ends = one[one_number.len()..] == other[other_number.len()..];
        match (one_number.parse::<f64>(), other_number.parse::<f64>()) {
            (Ok(one), Ok(other)) => ends && (one - other).abs() < share * one.abs().max(other.abs()),
            _ => false,
        }
    };
    let (one, other) = (words(one), words(other));
    one.len() == other.len() && one.iter().zip(&other).all(|pair| pair.0 == pair.1 || near(pair))
}
