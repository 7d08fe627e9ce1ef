//! The header of a split model's first file → the paths of all its files, or the fault of the set.
//!
//! llama.cpp finds the parts by name, and asserts some of their contents.

use std::path::{Path, PathBuf};

use super::{Header, Refusal, Scalar, ValueType, read};
use crate::units;

/// The paths of a model's files, in order: one, or `split.count`. They need not exist.
pub fn parts(header: &Header) -> Vec<PathBuf> {
    paths(header, count(header)).unwrap_or_else(|| vec![header.path.clone()])
}

/// The shell command that joins the pieces of a file, if `path` is named like a piece of one that was split
/// by bytes: `m.gguf.part1of2`, `m.gguf-split-a`. llama.cpp does not support such pieces.
pub fn joining(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_str()?;
    let (whole, pieces) = numbered(name).or_else(|| lettered(path, name))?;
    let pieces: Vec<String> = pieces.iter().map(|piece| quoted(piece)).collect();
    whole
        .to_ascii_lowercase()
        .ends_with(".gguf")
        .then(|| format!("cat {} > {}", pieces.join(" "), quoted(whole)))
}

fn numbered(name: &str) -> Option<(&str, Vec<String>)> {
    const MOST: usize = 99;
    let (whole, place) = name.rsplit_once(".part")?;
    let (number, count) = place.split_once("of")?;
    let all: usize = count.parse().ok().filter(|all| (2..=MOST).contains(all))?;
    number.parse::<usize>().ok().filter(|number| (1..=all).contains(number))?;
    let width = number.len();
    Some((whole, (1..=all).map(|piece| format!("{whole}.part{piece:0width$}of{count}")).collect()))
}

fn lettered<'a>(path: &Path, name: &'a str) -> Option<(&'a str, Vec<String>)> {
    let (whole, letter) = name.rsplit_once("-split-")?;
    let [own @ b'a'..=b'z'] = *letter.as_bytes() else { return None };
    let piece = |letter: u8| format!("{whole}-split-{}", char::from(letter));
    let there = |letter: &u8| *letter <= own.max(b'b') || path.with_file_name(piece(*letter)).exists();
    Some((whole, (b'a'..=b'z').take_while(there).map(piece).collect()))
}

/// Quotes a name as one word for a shell.
fn quoted(name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-+".contains(c);
    if name.chars().all(plain) { name.into() } else { format!("'{}'", name.replace('\'', "'\\''")) }
}

/// Refuses an incomplete set: each part must exist, be valid, state its number, and have its tensors.
pub(super) fn check(header: &Header) -> Result<(), Refusal> {
    let count = count(header);
    if count <= 1 {
        return Ok(());
    }
    let refuse = |problem: String| Err(Refusal::Split { count, problem });
    let number = header.uint("split.no").unwrap_or(0);
    if number != 0 {
        return refuse(format!("this is number {}", number.saturating_add(1)));
    }
    let Some(paths) = paths(header, count) else {
        return refuse(format!(
            "the first must be called NAME-00001-of-{count:05}.gguf for the others to be found"
        ));
    };
    if let Some(path) = paths.iter().find(|path| !path.is_file()) {
        return refuse(format!("{} is missing", name(path)));
    }
    let mut tensors = header.tensors.len();
    for (number, path) in (1..).zip(&paths[1..]) {
        let part = match read(path) {
            Ok(part) => part,
            Err(refusal) => return refuse(format!("{} is not usable: {refusal}", name(path))),
        };
        if let Err(problem) = place(&part, number, count) {
            return refuse(format!("{} {problem}", name(path)));
        }
        tensors += part.tensors.len();
    }
    match header.uint("split.tensors.count") {
        Some(all) if all != tensors as u64 => {
            refuse(format!("they hold {} together instead of {all}", units::count(tensors, "tensor")))
        }
        _ => Ok(()),
    }
}

/// Whether a part states the number `number`, counted from 0.
fn place(part: &Header, number: u64, count: u64) -> Result<(), String> {
    let kind = part.by_key.get("split.no").map(|at| part.fields[*at].kind);
    if kind != Some(ValueType::Single(Scalar::Uint16)) {
        return Err("does not say which part it is (split.no)".to_owned());
    }
    match part.uint("split.no") {
        Some(own) if own != number => {
            Err(format!("is number {} of its model, not {}", own.saturating_add(1), number + 1))
        }
        _ => match part.uint("split.count") {
            Some(own) if own != count => Err(format!("belongs to a model in {}", units::count(own, "file"))),
            _ => Ok(()),
        },
    }
}

fn count(header: &Header) -> u64 {
    header.uint("split.count").unwrap_or(1)
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).display().to_string()
}

/// llama.cpp finds the parts by name: `PREFIX-00002-of-00003.gguf`. `None` if this file is named otherwise.
fn paths(header: &Header, count: u64) -> Option<Vec<PathBuf>> {
    if count <= 1 {
        return None;
    }
    let number = header.uint("split.no").unwrap_or(0).checked_add(1)?;
    let name = header.path.file_name()?.to_str()?;
    let prefix = name.strip_suffix(&format!("-{number:05}-of-{count:05}.gguf"))?;
    // The format stores the count in 16 bits.
    let count = u16::try_from(count).ok()?;
    Some(
        (1..=count)
            .map(|part| header.path.with_file_name(format!("{prefix}-{part:05}-of-{count:05}.gguf")))
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::{
        super::{check as whole, sample::Sample},
        *,
    };

    fn first() -> Sample {
        Sample::default()
            .text("general.architecture", "llama")
            .u32("llama.context_length", 128)
            .u32("llama.embedding_length", 8)
            .u32("llama.block_count", 2)
            .u32("llama.attention.head_count", 2)
            .text("tokenizer.ggml.model", "llama")
            .texts("tokenizer.ggml.tokens", &["a", "b"])
            .u32("split.count", 2)
            .u32("split.no", 0)
            .i32("split.tensors.count", 2)
            .tensor("token_embd.weight", &[8, 2])
    }

    fn second() -> Sample {
        Sample::default().u16("split.no", 1).u16("split.count", 2).tensor("output.weight", &[8, 2])
    }

    fn tried(first: &Sample, second: &Sample) -> Result<(), String> {
        let dir = tempfile::tempdir().expect("temporary folder");
        let path = dir.path().join("m-00001-of-00002.gguf");
        std::fs::write(&path, first.bytes()).expect("temporary file");
        std::fs::write(dir.path().join("m-00002-of-00002.gguf"), second.bytes()).expect("temporary file");
        let header = read(&path).expect("well-formed");
        assert_eq!(parts(&header).len(), 2);
        whole(&header).map_err(|refusal| refusal.to_string())
    }

    #[test]
    fn a_whole_set_passes() {
        assert_eq!(tried(&first(), &second()), Ok(()));
    }

    #[test]
    fn parts_that_do_not_belong_together() {
        let second_with = |n: u16, count: u16| Sample::default().u16("split.no", n).u16("split.count", count);
        let told = |second: &Sample| tried(&first(), second).expect_err("it must be refused");
        assert!(told(&second_with(0, 2)).contains("is number 1 of its model, not 2"));
        assert!(told(&second_with(1, 3)).contains("belongs to a model in 3 files"));
        assert!(told(&Sample::default()).contains("does not say which part"));
        assert!(told(&Sample::default().u32("split.no", 1)).contains("does not say which part"));
        assert!(told(&second_with(1, 2)).contains("they hold 1 tensor together instead of 2"));
        assert!(
            told(&second().version(9)).contains("m-00002-of-00002.gguf is not usable: it is a GGUF file of")
        );
    }

    #[test]
    fn parts_that_are_missing() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let path = dir.path().join("m-00001-of-00002.gguf");
        std::fs::write(&path, first().bytes()).expect("temporary file");
        let refused = whole(&read(&path).expect("well-formed")).expect_err("one is missing").to_string();
        assert!(refused.contains("m-00002-of-00002.gguf is missing"), "{refused}");
        let renamed = dir.path().join("renamed.gguf");
        std::fs::rename(&path, &renamed).expect("temporary file");
        let refused = whole(&read(&renamed).expect("well-formed")).expect_err("not found").to_string();
        assert!(refused.contains("must be called"), "{refused}");
    }
}
