//! The folder of the prompt cache: its entries, its size limit, and eviction.
//!
//! Several processes use it at once. Cached prompts appear complete, under their final names, are never
//! modified, and may disappear at any time. Use updates a file's modification time; the least recently used
//! file is evicted first.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::file::{self, CacheFileHeader};
use crate::files::{own_file, own_folder, own_part};

const ENDING: &str = "state";
/// The ending of a file that is still being written.
const UNFINISHED: &str = ".part";
/// After this time an unfinished file belongs to a dead process.
const ABANDONED: Duration = Duration::from_secs(3600);
/// One character per lookup: hit or miss.
const LOOKUPS: &str = "lookups";
const MOST_LOOKUPS: u64 = 100_000;

/// The limits on the disk space for cached prompts.
#[derive(Debug, Clone)]
pub struct DiskBounds {
    /// In bytes.
    pub most: u64,
    /// Share of the disk space that would be free without them.
    pub share: f64,
    /// Bytes of the disk to leave free.
    pub leave: u64,
}

impl Default for DiskBounds {
    fn default() -> DiskBounds {
        DiskBounds { most: 8 << 30, share: 0.1, leave: 4 << 30 }
    }
}

/// The contents of a prompt cache folder and its lookup statistics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    pub files: usize,
    pub bytes: u64,
    pub hits: u64,
    pub misses: u64,
}

/// The folder's name up to version 0.1.
const OLD_NAME: &str = "snapshots";

/// Renames the folder of an older version unless a newer one exists, so that the limits cover its files too.
pub(super) fn adopt(folder: &Path) {
    // Fails if the old folder does not exist, or the new one has files.
    let _ = fs::rename(folder.with_file_name(OLD_NAME), folder);
}

/// The usage of a folder; zero if it does not exist.
pub fn usage(folder: &Path) -> Usage {
    adopt(folder);
    let stored = stored(folder);
    let lookups = fs::read(folder.join(LOOKUPS)).unwrap_or_default();
    let hits = lookups.iter().filter(|found| **found == b'+').count() as u64;
    Usage {
        files: stored.len(),
        bytes: stored.iter().map(|one| one.bytes).sum(),
        hits,
        misses: lookups.len() as u64 - hits,
    }
}

/// Removes the cached prompts of these conversations, and those of unknown origin: tied to no conversation,
/// unreadable, unfinished. A file that is already gone is not an error.
pub fn forget(folder: &Path, conversations: &[String]) -> io::Result<()> {
    adopt(folder);
    let others = |path: &Path| {
        let header = file::read_header(path);
        header.is_ok_and(|CacheFileHeader { conversations: of, .. }| {
            !of.is_empty() && of.iter().all(|of| !conversations.contains(of))
        })
    };
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let ends = |ending: &str| name.as_encoded_bytes().ends_with(ending.as_bytes());
        let cached = ends(&format!(".{ENDING}")) && !others(&entry.path());
        if (cached || ends(UNFINISHED))
            && let Err(error) = fs::remove_file(entry.path())
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(error);
        }
    }
    Ok(())
}

/// Counts a lookup for [`usage`]. Creates no folder for it.
pub(super) fn note(folder: &Path, found: bool) {
    let path = folder.join(LOOKUPS);
    if fs::metadata(&path).is_ok_and(|lookups| lookups.len() >= MOST_LOOKUPS) {
        let _ = fs::remove_file(&path); // start counting afresh
    }
    let lookups = own_file(&path, OpenOptions::new().append(true).create(true));
    let _ = lookups.and_then(|mut file| file.write_all(if found { b"+" } else { b"-" }));
}

/// The file names with the ending of cached prompts.
pub(super) fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| Path::new(name).extension() == Some(OsStr::new(ENDING))).collect()
}

pub(super) fn name(key: u64, beginning: u32, tokens: u64) -> String {
    format!("{}{tokens:016x}.{ENDING}", name_start(key, beginning))
}

/// The start of the names of all cached prompts with this key and these first tokens.
pub(super) fn name_start(key: u64, beginning: u32) -> String {
    format!("{key:016x}-{beginning:08x}-")
}

/// Marks a file as used, so that it is evicted later.
pub(super) fn touch(path: &Path) {
    let _ = File::options().append(true).open(path).and_then(|file| file.set_modified(SystemTime::now()));
}

/// Writes a cached prompt after making room for it. `false`: it is there already, and left as it is.
pub(super) fn store(
    folder: &Path,
    name: &str,
    header: &CacheFileHeader,
    state: &[u8],
    bounds: &DiskBounds,
) -> io::Result<bool> {
    let path = folder.join(name);
    if path.exists() {
        touch(&path);
        return Ok(false);
    }
    own_folder(folder)?;
    make_room(folder, state.len() as u64 + header.tokens.len() as u64 * 4 + 4096, bounds)?;
    let mut part = own_part(folder, UNFINISHED)?;
    file::write(&mut part, header, state)?;
    part.persist(path)?;
    Ok(true)
}

struct StoredFile {
    path: PathBuf,
    bytes: u64,
    used: SystemTime,
}

fn stored(folder: &Path) -> Vec<StoredFile> {
    let found = names(folder).into_iter().filter_map(|name| {
        let path = folder.join(name);
        let metadata = fs::metadata(&path).ok()?; // gone in the meantime
        Some(StoredFile { path, bytes: metadata.len(), used: metadata.modified().ok()? })
    });
    found.collect()
}

/// Evicts the least recently used files until `needed` more bytes fit the limits. Removes nothing if they
/// cannot fit.
fn make_room(folder: &Path, needed: u64, bounds: &DiskBounds) -> io::Result<()> {
    remove_abandoned(folder);
    let mut stored = stored(folder);
    stored.sort_by_key(|one| std::cmp::Reverse(one.used));
    let ours: u64 = stored.iter().map(|one| one.bytes).sum();
    let disk = nix::sys::statvfs::statvfs(folder)?;
    #[allow(clippy::unnecessary_cast)] // narrower on some systems
    let free = disk.blocks_available() as u64 * disk.fragment_size() as u64;
    let without = free.saturating_add(ours);
    let budget = bounds.most.min((without as f64 * bounds.share) as u64);
    let budget = budget.min(without.saturating_sub(bounds.leave));
    if needed > budget {
        return Err(io::ErrorKind::StorageFull.into());
    }
    let mut left = ours;
    while left > budget - needed
        && let Some(oldest) = stored.pop()
    {
        let _ = fs::remove_file(&oldest.path); // another process may have removed it
        left -= oldest.bytes;
    }
    Ok(())
}

fn remove_abandoned(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let age = || entry.metadata().ok()?.modified().ok()?.elapsed().ok();
        let unfinished = entry.file_name().as_encoded_bytes().ends_with(UNFINISHED.as_bytes());
        if unfinished && age().is_some_and(|age| age > ABANDONED) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn bounds(most: u64) -> DiskBounds {
        DiskBounds { most, share: 1.0, leave: 0 }
    }

    fn put(folder: &Path, name: &str, size: usize, bounds: &DiskBounds) -> io::Result<()> {
        let state = vec![7; size];
        let header = CacheFileHeader::new("key", vec![1; 10], vec![name.into()], 0.1, &state);
        store(folder, &format!("{name}.{ENDING}"), &header, &state, bounds).map(drop)
    }

    fn used_ago(folder: &Path, name: &str, seconds: u64) {
        let file = File::options().append(true).open(folder.join(name)).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(seconds)).unwrap();
    }

    #[test]
    fn what_was_not_used_for_longest_goes_first() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("a/b");
        let bounds = bounds(350_000);
        for (name, seconds) in [("one", 300), ("two", 200), ("three", 100)] {
            put(&folder, name, 100_000, &bounds).unwrap();
            used_ago(&folder, &format!("{name}.{ENDING}"), seconds);
        }
        touch(&folder.join("one.state"));
        put(&folder, "four", 100_000, &bounds).unwrap();
        let mut left = names(&folder);
        left.sort();
        assert_eq!(left, ["four.state", "one.state", "three.state"]);
        let now = usage(&folder);
        assert!(now.files == 3 && now.bytes > 300_000 && now.bytes < 350_000, "{now:?}");
    }

    #[test]
    fn what_cannot_fit_drives_nothing_out() {
        let home = tempfile::tempdir().unwrap();
        put(home.path(), "one", 1000, &bounds(100_000)).unwrap();
        assert!(put(home.path(), "two", 200_000, &bounds(100_000)).is_err());
        assert!(put(home.path(), "two", 1000, &DiskBounds { leave: u64::MAX, ..bounds(100_000) }).is_err());
        assert!(put(home.path(), "two", 1000, &DiskBounds { share: 0.0, ..bounds(100_000) }).is_err());
        assert_eq!(names(home.path()), ["one.state"]);
    }

    #[test]
    fn cached_prompts_go_with_their_conversations_and_nothing_else_does() {
        let home = tempfile::tempdir().unwrap();
        for name in ["one", "two", "three"] {
            put(home.path(), name, 1000, &bounds(100_000)).unwrap();
        }
        for name in ["of-none.state", "five.part", "mine.txt"] {
            fs::write(home.path().join(name), "x").unwrap();
        }
        forget(home.path(), &["two".into(), "nine".into()]).unwrap();
        let entries = fs::read_dir(home.path()).unwrap();
        let mut left: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["mine.txt", "one.state", "three.state"]);
        forget(&home.path().join("none"), &[]).unwrap();
    }

    #[test]
    fn the_folder_of_an_older_version_is_renamed_once() {
        let home = tempfile::tempdir().unwrap();
        let [old, new] = [OLD_NAME, "prompts"].map(|name| home.path().join(name));
        put(&old, "one", 1000, &bounds(100_000)).unwrap();
        assert_eq!(usage(&new).files, 1);
        assert!(!old.exists());
        put(&old, "two", 1000, &bounds(100_000)).unwrap(); // by an older version that is still running
        assert_eq!((names(&new), names(&old)), (vec!["one.state".into()], vec!["two.state".into()]));
        assert_eq!(usage(&new).files, 1);
        fs::remove_dir_all(&new).unwrap();
        forget(&new, &["two".into()]).unwrap();
        assert!(!old.exists() && new.exists() && names(&new).is_empty());
    }

    #[test]
    fn only_the_user_can_read_them() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("prompts");
        put(&folder, "one", 10, &bounds(100_000)).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&folder), mode(&folder.join("one.state"))), (0o700, 0o600));
    }

    #[test]
    fn what_a_dead_process_left_is_removed() {
        let home = tempfile::tempdir().unwrap();
        for name in ["old.part", "new.part"] {
            fs::write(home.path().join(name), "x").unwrap();
        }
        used_ago(home.path(), "old.part", 7200);
        put(home.path(), "one", 10, &bounds(100_000)).unwrap();
        assert!(!home.path().join("old.part").exists() && home.path().join("new.part").exists());
    }

    #[test]
    fn lookups_are_counted_where_there_is_a_folder() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("prompts");
        note(&folder, true);
        assert_eq!(usage(&folder), Usage::default());
        fs::create_dir(&folder).unwrap();
        [true, false, true].into_iter().for_each(|found| note(&folder, found));
        assert_eq!(usage(&folder), Usage { hits: 2, misses: 1, ..Usage::default() });
    }
}
