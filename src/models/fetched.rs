//! Which files fireside itself has fetched: the only ones that `rm` takes for ours.
//!
//! A small JSON file in the user's state folder. If it is missing or damaged, nothing is ours.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::files::write_json;
use crate::files::{folder_of, lock_folder};

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Contents {
    files: BTreeSet<PathBuf>,
}

/// The file in which it is kept. Cheap to make; read at every use, so that several processes share it.
#[derive(Debug, Clone)]
pub struct Fetched {
    file: Option<PathBuf>,
}

impl Fetched {
    /// `None` keeps nothing.
    pub fn at(file: Option<PathBuf>) -> Fetched {
        Fetched { file }
    }

    pub fn contains(&self, path: &Path) -> bool {
        self.read().files.contains(path)
    }

    /// Notes paths as they are given: a blob of the hub's cache, the link to it in a snapshot, a file of the models folder.
    pub fn remember(&self, paths: &[PathBuf]) -> io::Result<()> {
        self.change(|files| files.extend(paths.iter().cloned()))
    }

    pub fn forget(&self, paths: &[PathBuf]) -> io::Result<()> {
        self.change(|files| files.retain(|path| !paths.contains(path)))
    }

    fn read(&self) -> Contents {
        let text = self.file.as_ref().and_then(|file| crate::files::small_file(file));
        text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
    }

    /// One process at a time, so that none undoes what another has noted.
    fn change(&self, change: impl FnOnce(&mut BTreeSet<PathBuf>)) -> io::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        let _lock = lock_folder(folder_of(file))?;
        let mut contents = self.read();
        change(&mut contents.files);
        write_json(file, &contents)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_noted_is_known_until_it_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let fetched = Fetched::at(Some(folder.path().join("state/fetched.json")));
        let [a, b] = ["/x/a.gguf", "/x/b.gguf"].map(PathBuf::from);
        assert!(!fetched.contains(&a));
        fetched.remember(&[a.clone(), b.clone()]).unwrap();
        fetched.forget(std::slice::from_ref(&a)).unwrap();
        assert!(!fetched.contains(&a) && fetched.contains(&b));
        assert!(Fetched::at(None).remember(&[a]).is_ok());
    }
}
