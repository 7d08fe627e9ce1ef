//! What was learnt about model files: their fingerprints, which were loaded before, which was used last.
//!
//! A small JSON file in the user's state folder. It only saves work: if it is missing, damaged or cannot be written,
//! everything is found out again.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};

use crate::files::{folder_of, lock_folder};

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Contents {
    /// The model used last.
    last: Option<PathBuf>,
    files: BTreeMap<PathBuf, KnownFile>,
    /// Builds of llama.cpp with the processor on which they crash with weights laid out for it, and the signal.
    crashes: BTreeMap<String, String>,
}

/// A file as it was when it was looked at.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KnownFile {
    /// Of all files of the model: what is known holds while it is the same.
    #[serde(default)]
    stamp: String,
    pub fingerprint: String,
    /// The build of llama.cpp that loaded it, if one did.
    pub loaded_by: Option<String>,
    /// What batches of it cost, and what else that depends on.
    #[serde(default)]
    costs: Option<(String, Vec<f64>)>,
    /// Tokens that a build of llama.cpp found by their names, and that build.
    #[serde(default)]
    special_ids: Option<(String, Vec<i32>)>,
}

impl KnownFile {
    /// What batches cost, if that was measured under the same `conditions`.
    pub fn costs(&self, conditions: &str) -> Option<&[f64]> {
        self.costs.as_ref().filter(|(under, _)| under == conditions).map(|(_, costs)| &costs[..])
    }

    /// The tokens that `build` found, if it did.
    pub fn special_ids(&self, build: &str) -> Option<&[i32]> {
        self.special_ids.as_ref().filter(|(by, _)| by == build).map(|(_, tokens)| &tokens[..])
    }
}

/// The file in which it is kept. Cheap to make; read at every use, so that several processes share it.
#[derive(Debug, Clone)]
pub struct Known {
    file: Option<PathBuf>,
}

impl Known {
    /// `None` keeps nothing.
    pub fn at(file: Option<PathBuf>) -> Known {
        Known { file }
    }

    fn read(&self) -> Contents {
        let text = self.file.as_ref().and_then(|file| crate::files::small_file(file));
        text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
    }

    /// What is known of a file, if its stamp is still the same.
    pub fn file(&self, path: &Path, stamp: &str) -> Option<KnownFile> {
        self.read().files.remove(&absolute(path)).filter(|known| known.stamp == stamp)
    }

    /// The signal of which llama.cpp dies on this machine with weights laid out for the processor, if that was seen.
    pub fn crashes(&self, machine: &str) -> Option<String> {
        self.read().crashes.remove(machine)
    }

    pub fn remember_crash(&self, machine: &str, signal: &str) {
        let found = (machine.to_string(), signal.to_string());
        let _ = self.change(|contents| contents.crashes.extend([found])); // it will crash again
    }

    pub fn last_used(&self) -> Option<PathBuf> {
        self.read().last.filter(|path| path.exists())
    }

    /// Remembers a file. Whether that worked does not matter to anyone.
    pub fn remember(&self, path: &Path, stamp: &str, fingerprint: &str, loaded_by: Option<String>) {
        let before = self.file(path, stamp);
        let costs = before.as_ref().and_then(|known| known.costs.clone());
        let special_ids = before.and_then(|known| known.special_ids);
        let (stamp, fingerprint) = (stamp.to_string(), fingerprint.to_string());
        let known = KnownFile { stamp, fingerprint, loaded_by, costs, special_ids };
        let _ = self.change(|contents| _ = contents.files.insert(absolute(path), known)); // only saves work
    }

    /// Remembers what batches cost for a file that is known.
    pub fn remember_costs(&self, path: &Path, stamp: &str, conditions: &str, costs: &[f64]) {
        self.learn(path, stamp, |known| known.costs = Some((conditions.to_string(), costs.to_vec())));
    }

    /// Remembers the tokens that `build` found by their names, for a file that is known.
    pub fn remember_special_ids(&self, path: &Path, stamp: &str, build: &str, tokens: &[i32]) {
        self.learn(path, stamp, |known| known.special_ids = Some((build.to_string(), tokens.to_vec())));
    }

    fn learn(&self, path: &Path, stamp: &str, learn: impl FnOnce(&mut KnownFile)) {
        if let Some(mut known) = self.file(path, stamp) {
            learn(&mut known);
            let _ = self.change(|contents| _ = contents.files.insert(absolute(path), known)); // only saves work
        }
    }

    /// Remembers the model used last. An error, which every start may tell: nothing can be remembered now.
    pub fn remember_last_used(&self, path: &Path) -> io::Result<()> {
        let path = absolute(path);
        self.change(|contents| contents.last = Some(path))
    }

    /// One program at a time, and not at all where another one does not let go.
    fn change(&self, change: impl FnOnce(&mut Contents)) -> io::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        let _lock = lock_folder(folder_of(file))?;
        let before = self.read();
        let mut contents = before.clone();
        change(&mut contents);
        if contents == before { Ok(()) } else { crate::files::write_json(file, &contents) }
    }
}

/// Nanoseconds since 1970; 0 where the file system knows no times.
pub(super) fn modified(about: &std::fs::Metadata) -> u64 {
    let since = about.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    since.map_or(0, |since| since.as_nanos() as u64)
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_file_is_unknown_again() {
        let folder = tempfile::tempdir().unwrap();
        let model = folder.path().join("m.gguf");
        std::fs::write(&model, "one").unwrap();
        let known = Known::at(Some(folder.path().join("state/known.json")));
        assert_eq!(known.file(&model, "s1"), None);
        known.remember(&model, "s1", "abc", Some("b1".into()));
        known.remember_last_used(&model).unwrap();
        assert_eq!(known.file(&model, "s1").unwrap().fingerprint, "abc");
        assert_eq!(known.last_used().unwrap(), model);
        known.remember_costs(&model, "s1", "one thread", &[1.0, 1.25]);
        known.remember(&model, "s1", "abc", Some("b2".into()));
        assert_eq!(known.file(&model, "s1").unwrap().costs("one thread"), Some(&[1.0, 1.25][..]));
        assert_eq!(known.file(&model, "s1").unwrap().costs("two threads"), None);
        known.remember_special_ids(&model, "s1", "b2", &[5, 7]);
        known.remember(&model, "s1", "abc", Some("b3".into()));
        assert_eq!(known.file(&model, "s1").unwrap().special_ids("b2"), Some(&[5, 7][..]));
        assert_eq!(known.file(&model, "s1").unwrap().special_ids("b3"), None);
        assert_eq!(known.file(&model, "s2"), None);
    }

    #[test]
    fn a_damaged_file_is_no_reason_to_stop() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("known.json");
        std::fs::write(&file, "{ not json").unwrap();
        assert_eq!(Known::at(Some(file)).last_used(), None);
        assert_eq!(Known::at(Some("/proc/no/such/place".into())).last_used(), None);
        assert_eq!(Known::at(None).last_used(), None);
    }
}
