//! The conversation being evaluated → a mark on disk that outlives the process, however it ends.
//!
//! Evaluating a conversation may kill the process: out of memory, or a crash of llama.cpp. Prefill on resume
//! would then kill it every time. A leftover mark, a lock file that no process holds, shows that this
//! happened. Marks are about conversations; probe.rs is about model files.

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};

use crate::files;

/// A mark that exists until it is dropped; it outlives a process that could not drop it.
pub(super) struct Mark {
    path: PathBuf,
    /// Holds the lock, which ends with the process.
    _file: File,
}

impl Mark {
    /// Marks a conversation. If that fails, the work goes on without a mark.
    pub(super) fn begin(folder: &Path, conversation: &str) -> Option<Mark> {
        let path = path(folder, conversation)?;
        let open = || files::own_file(&path, OpenOptions::new().create(true).append(true));
        let file = open().or_else(|_| files::own_folder(folder).and_then(|()| open())).ok()?;
        file.try_lock().ok()?; // another process evaluates it too, and will remove the mark
        Some(Mark { path, _file: file })
    }
}

impl Drop for Mark {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Whether a process ended while it evaluated this conversation, and none has succeeded since.
pub fn was_killed(folder: &Path, conversation: &str) -> bool {
    let file = path(folder, conversation).and_then(|path| File::open(path).ok());
    file.is_some_and(|file| file.try_lock().is_ok())
}

/// Removes a mark, even if a process holds it.
pub fn survived(folder: &Path, conversation: &str) {
    if let Some(path) = path(folder, conversation) {
        let _ = fs::remove_file(path); // there may be none
    }
}

/// `None` for an invalid id: ids consist of letters and digits.
fn path(folder: &Path, conversation: &str) -> Option<PathBuf> {
    let plain = !conversation.is_empty() && conversation.chars().all(|c| c.is_ascii_alphanumeric());
    plain.then(|| folder.join(conversation))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_tells_work_that_ended_from_work_that_goes_on() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("state/working");
        assert!(!was_killed(&folder, "abc"));
        let mark = Mark::begin(&folder, "abc").unwrap();
        assert!(!was_killed(&folder, "abc"), "it is still at work");
        drop(mark);
        assert!(!was_killed(&folder, "abc"));
        fs::write(folder.join("abc"), "").unwrap();
        assert!(was_killed(&folder, "abc"), "nobody holds it");
        drop(Mark::begin(&folder, "abc").unwrap());
        assert!(!was_killed(&folder, "abc"), "it went well since");
        assert!(Mark::begin(&folder, "../abc").is_none() && !was_killed(&folder, ""));
    }
}
