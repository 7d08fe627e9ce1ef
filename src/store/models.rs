//! A model's name → its file. Looks in the user's models folder only, never in the current one.

use std::path::{Path, PathBuf};

use super::catalog::catalog;
use crate::error::Failure;
use crate::nearest::nearest;

/// The GGUF files in the models folder, by name. A folder that cannot be read holds none.
pub fn list(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries.map(|e| e.path()).filter(|p| is_gguf(p)).collect();
    files.sort();
    files
}

fn is_gguf(path: &Path) -> bool {
    path.extension().is_some_and(|e| e.eq_ignore_ascii_case("gguf"))
}

/// The name a file goes by.
pub fn name(path: &Path) -> String {
    path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

/// The file called `wanted`: a path, a file of the folder (with or without `.gguf`, any case), or a short name of the
/// catalogue whose file is in the folder.
pub fn find(wanted: &str, folder: Option<&Path>) -> Result<PathBuf, Failure> {
    if wanted.starts_with("hf:") || wanted.starts_with("http:") || wanted.starts_with("https:") {
        return Err(Failure::usage(format!("fetching '{wanted}' is not possible yet"))
            .hint("download the GGUF file yourself and give its path: fireside -m FILE.gguf"));
    }
    let path = Path::new(wanted);
    let looks_like_path = wanted.contains('/') || is_gguf(path);
    if looks_like_path && (path.symlink_metadata().is_ok() || wanted.contains('/')) {
        return Ok(path.to_path_buf()); // what is wrong with it is said when it is read
    }
    let files = folder.map(list).unwrap_or_default();
    let named = |file: &&PathBuf, wanted: &str| {
        let stem = name(file);
        stem.eq_ignore_ascii_case(wanted) || format!("{stem}.gguf").eq_ignore_ascii_case(wanted)
    };
    if let Some(file) = files.iter().find(|file| named(file, wanted)) {
        return Ok(file.clone());
    }
    if let Some(entry) = catalog().get(&wanted.to_lowercase()) {
        let there = files.iter().find(|file| named(file, &entry.file));
        let how = entry.fetch.clone().unwrap_or(format!("download {} from {}", entry.file, entry.repository));
        let missing = || Failure::new(format!("the model '{wanted}' is not in the models folder")).hint(how);
        return there.cloned().ok_or_else(missing);
    }
    Err(unknown(wanted, &files, folder))
}

fn unknown(wanted: &str, files: &[PathBuf], folder: Option<&Path>) -> Failure {
    let names: Vec<String> = files.iter().map(|f| name(f)).chain(catalog().keys().cloned()).collect();
    let lower = wanted.to_lowercase();
    let close = nearest(wanted, names.iter().map(String::as_str)).map(String::from);
    let close = close.or_else(|| names.iter().find(|n| n.to_lowercase().contains(&lower)).cloned());
    let failure = Failure::new(format!("there is no model '{wanted}'"));
    match (close, folder) {
        (Some(close), _) => failure.hint(format!("did you mean {close}?")),
        (None, Some(folder)) => {
            failure.hint(format!("give the path of a GGUF file, or put one into {}", folder.display()))
        }
        (None, None) => failure.hint("give the path of a GGUF file"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_and_near_misses_named() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("Tiny-Model.gguf"), "").unwrap();
        let find = |wanted: &str| find(wanted, Some(folder.path()));
        assert!(find("tiny-model").unwrap().ends_with("Tiny-Model.gguf"));
        assert!(find("tiny-model.gguf").is_ok());
        assert_eq!(find("tiny-modle").unwrap_err().hint.unwrap(), "did you mean Tiny-Model?");
        assert!(find("/no/such/file.gguf").is_ok(), "a path is a path");
        assert!(find("hf:a/b").unwrap_err().message.contains("not possible yet"));
        assert!(find("smollm2-135m").unwrap_err().hint.is_some());
    }
}
