//! The hub's cache on disk, with the same layout as huggingface_hub, so that all programs share one copy.
//!
//! `models--OWNER--REPO/blobs/<checksum>` holds the bytes, `snapshots/<commit>/<path>` links to them,
//! `refs/<revision>` names the commit, and the writer of a blob holds `.locks/…/<checksum>.lock`.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use nix::fcntl::OFlag;
use nix::sys::statvfs::statvfs;

use super::error::Error;
use super::watch::Teller;
use crate::files::small_file;

/// How often to retry a lock that another process holds.
const POLL: Duration = Duration::from_millis(100);

/// A repository in the cache.
pub(super) struct Repository {
    cache: PathBuf,
    /// `models--OWNER--REPO`.
    name: String,
}

impl Repository {
    pub(super) fn new(cache: &Path, repository: &str) -> Repository {
        let name = format!("models--{}", repository.replace('/', "--"));
        Repository { cache: cache.to_path_buf(), name }
    }

    fn inside(&self, path: &str) -> PathBuf {
        self.cache.join(&self.name).join(path)
    }

    pub(super) fn blob(&self, etag: &str) -> PathBuf {
        self.inside("blobs").join(etag)
    }

    pub(super) fn snapshot(&self, commit: &str, file: &str) -> PathBuf {
        self.inside("snapshots").join(commit).join(file)
    }

    pub(super) fn lock_file(&self, etag: &str) -> PathBuf {
        self.cache.join(".locks").join(&self.name).join(format!("{etag}.lock"))
    }

    /// Creates the snapshot's link to an existing blob, unless it exists.
    pub(super) fn link(&self, etag: &str, commit: &str, file: &str) -> io::Result<PathBuf> {
        let (blob, link) = (self.blob(etag), self.snapshot(commit, file));
        let up = "../".repeat(file.split('/').count() + 1);
        let target = PathBuf::from(format!("{up}blobs/{etag}"));
        if link.exists() && (std::fs::read_link(&link).is_ok_and(|there| there == target) || !blob.exists()) {
            return Ok(link);
        }
        make_parent(&link)?;
        match std::fs::remove_file(&link) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        match std::os::unix::fs::symlink(&target, &link) {
            // Like huggingface_hub on file systems without links.
            Err(e) if matches!(e.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::Unsupported) => {
                std::fs::rename(&blob, &link)?
            }
            made => made?,
        }
        Ok(link)
    }

    /// Records the commit of a revision.
    pub(super) fn write_ref(&self, revision: &str, commit: &str) -> io::Result<()> {
        let path = self.inside("refs").join(revision);
        if revision == commit || small_file(&path).is_some_and(|there| there == commit) {
            return Ok(());
        }
        make_parent(&path)?;
        let folder = path.parent().unwrap_or(Path::new("."));
        let mut part = tempfile::Builder::new().permissions(readable()).tempfile_in(folder)?;
        part.write_all(commit.as_bytes())?;
        part.persist(&path)?;
        Ok(())
    }
}

fn readable() -> std::fs::Permissions {
    std::os::unix::fs::PermissionsExt::from_mode(0o644) // minus the umask
}

pub(super) fn make_parent(path: &Path) -> io::Result<()> {
    let make = |folder| DirBuilder::new().recursive(true).mode(0o755).create(folder); // minus the umask
    path.parent().map_or(Ok(()), make)
}

/// Waits while another program writes `target`, which `lock_file` protects. Gives up when nothing is written
/// for 15 times `patience` (the wait for a byte from the network): the other program may be computing the
/// checksum of a large file. Dropping the returned file releases the lock.
pub(super) fn lock(
    lock_file: &Path,
    target: &Path,
    name: &str,
    patience: Duration,
    teller: &Teller,
) -> Result<File, Error> {
    let failed = |e: io::Error| Error::disk_at("lock", lock_file, &e);
    make_parent(lock_file).map_err(failed)?;
    let mut options = OpenOptions::new();
    let options = options.write(true).create(true).truncate(false).mode(0o664);
    let file = options.custom_flags(OFlag::O_NOFOLLOW.bits()).open(lock_file).map_err(failed)?;
    let patience = patience * 15;
    let mut waited: Option<(Instant, Vec<SystemTime>)> = None; // when nothing had been written since
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            // The file system has no locks.
            Err(TryLockError::Error(e)) if e.kind() == io::ErrorKind::Unsupported => return Ok(file),
            Err(TryLockError::Error(e)) => return Err(failed(e)),
            Err(TryLockError::WouldBlock) => {}
        }
        let now = (Instant::now(), written(target));
        match &waited {
            None => teller.say(format!("another program is fetching {name}: waiting for it")),
            Some((since, before)) if *before == now.1 && since.elapsed() >= patience => {
                return Err(Error::Locked { name: name.into(), lock: lock_file.into(), waited: patience });
            }
            Some(_) => {}
        }
        waited = waited.filter(|(_, before)| *before == now.1).or(Some(now));
        teller.wait(POLL)?;
    }
}

/// When `target` and its parts, from any program, were last modified; sorted.
fn written(target: &Path) -> Vec<SystemTime> {
    let name = target.file_name().unwrap_or_default().as_encoded_bytes();
    let entries =
        target.parent().and_then(|folder| std::fs::read_dir(folder).ok()).into_iter().flatten().flatten();
    let parts = entries.filter(|entry| entry.file_name().as_encoded_bytes().starts_with(name));
    let mut times: Vec<SystemTime> =
        parts.filter_map(|entry| entry.metadata().ok()?.modified().ok()).collect();
    times.sort();
    times
}

/// Refuses to start a download that the disk has no room for.
pub(super) fn check_space(folder: &Path, missing: u64) -> Result<(), Error> {
    let there = folder.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("/"));
    let Ok(disk) = statvfs(there) else { return Ok(()) }; // the write itself reports the problem
    #[allow(clippy::unnecessary_cast)] // not u64 on every platform
    let free = disk.blocks_available() as u64 * disk.fragment_size() as u64;
    enough(free, missing, folder)
}

fn enough(free: u64, missing: u64, folder: &Path) -> Result<(), Error> {
    if missing <= free {
        return Ok(());
    }
    Err(Error::NoRoom { folder: folder.into(), missing, free })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_for_what_is_missing_is_enough() {
        let folder = Path::new("/x");
        assert!(enough(100, 100, folder).is_ok());
        let error = enough(1 << 30, 3 << 30, folder).unwrap_err();
        assert_eq!(
            error.to_string(),
            "not enough room in /x: 3.0 GiB are still to come and 1.0 GiB are free"
        );
        assert!(check_space(Path::new("/no/such/folder"), u64::MAX).is_err());
    }

    #[test]
    fn links_are_relative_however_deep() {
        let cache = tempfile::tempdir().unwrap();
        let repository = Repository::new(cache.path(), "a/b");
        let blob = repository.blob("1234");
        make_parent(&blob).unwrap();
        std::fs::write(&blob, "x").unwrap();
        for file in ["m.gguf", "q/m.gguf"] {
            let link = repository.link("1234", "c0ffee", file).unwrap();
            assert_eq!(std::fs::read_to_string(&link).unwrap(), "x");
            assert_eq!(link, cache.path().join("models--a--b/snapshots/c0ffee").join(file));
        }
        let link = repository.snapshot("c0ffee", "q/m.gguf");
        assert_eq!(std::fs::read_link(link).unwrap(), Path::new("../../../blobs/1234"));
    }
}
