//! What the headers of model files said, kept so that a list of many files need not read them again.
//!
//! A JSON file in the user's cache folder, one entry a path, valid while the file has the same size and time. It only saves
//! work: if it is missing, damaged or cannot be written, everything is read again.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::files::write_json;

/// What is kept of a header is of type `T`.
pub struct Headers<T> {
    file: Option<PathBuf>,
    kept: Kept<T>,
    changed: bool,
}

#[derive(Serialize, Deserialize)]
struct Kept<T> {
    /// Which program wrote it: another may keep other things.
    by: String,
    files: BTreeMap<PathBuf, Entry<T>>,
}

#[derive(Serialize, Deserialize)]
struct Entry<T> {
    size: u64,
    modified: u64,
    says: T,
}

impl<T: Clone + Serialize + DeserializeOwned> Headers<T> {
    /// What `file` holds, if `by` wrote it. `None` keeps nothing.
    pub fn open(file: Option<&Path>, by: &str) -> Headers<T> {
        let text = file.and_then(crate::files::small_file);
        let kept =
            text.and_then(|text| serde_json::from_str(&text).ok()).filter(|kept: &Kept<T>| kept.by == by);
        let kept = kept.unwrap_or_else(|| Kept { by: by.to_string(), files: BTreeMap::new() });
        Headers { file: file.map(Path::to_path_buf), kept, changed: false }
    }

    /// What the file at `path` says, which now has this size and time; `read` finds out if that is not known.
    pub fn get(&mut self, path: &Path, size: u64, modified: u64, read: impl FnOnce() -> T) -> T {
        let known = self.kept.files.get(path).filter(|e| e.size == size && e.modified == modified);
        if let Some(entry) = known {
            return entry.says.clone();
        }
        let says = read();
        self.changed = true;
        self.kept.files.insert(path.to_path_buf(), Entry { size, modified, says: says.clone() });
        says
    }

    /// Writes down what is new, and forgets the files that are not in `here`.
    pub fn save(mut self, here: &[&Path]) {
        let before = self.kept.files.len();
        let here: std::collections::BTreeSet<&Path> = here.iter().copied().collect();
        self.kept.files.retain(|path, _| here.contains(path.as_path()));
        if let Some(file) = self.file.filter(|_| self.changed || before != self.kept.files.len()) {
            let _ = write_json(&file, &self.kept); // only saves work, see above
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_read_once_until_its_file_changes() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("cache/headers.json");
        let ask = |by: &str, size: u64, here: &[&Path]| {
            let mut headers: Headers<String> = Headers::open(Some(&file), by);
            let mut reads = 0;
            let says = headers.get(Path::new("/m.gguf"), size, 7, || {
                reads += 1;
                "llama".into()
            });
            headers.save(here);
            assert_eq!(says, "llama");
            reads
        };
        let here = [Path::new("/m.gguf")];
        assert_eq!(ask("1", 5, &here), 1);
        assert_eq!(ask("1", 5, &here), 0);
        assert_eq!(ask("1", 6, &here), 1);
        assert_eq!(ask("2", 6, &[]), 1);
        assert_eq!(ask("2", 6, &here), 1);
        std::fs::write(&file, "{ not json").unwrap();
        assert_eq!(ask("2", 6, &here), 1);
    }
}
