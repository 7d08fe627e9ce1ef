//! The folder in which llama.cpp's RPC server keeps large tensors: one file each, named by the FNV-1a hash of its
//! contents in 16 hex digits (ggml-rpc.cpp). llama.cpp neither limits the folder nor checks what it reads back.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Exists while a client is served: what is newer than it may not be whole.
const SERVING: &str = "serving";

/// Marks that files may be written from now on.
pub fn begin(folder: &Path) -> io::Result<()> {
    File::create(folder.join(SERVING)).map(drop)
}

/// Removes files that were written since [`begin`], if their contents are not what their names say; then what
/// exceeds `limit` bytes.
pub fn end(folder: &Path, limit: u64) {
    let marker = folder.join(SERVING);
    let Ok(since) = fs::metadata(&marker).and_then(|about| about.modified()) else { return };
    for file in files(folder).into_iter().filter(|file| file.modified >= since) {
        if !is_whole(&file.path) {
            let _ = fs::remove_file(&file.path); // if that fails, so will reading it
        }
    }
    prune(folder, limit);
    let _ = fs::remove_file(marker); // at worst the files are checked again
}

/// Removes the oldest files until the others have `limit` bytes at most.
pub fn prune(folder: &Path, limit: u64) {
    let mut files = files(folder);
    files.sort_by_key(|file| file.modified);
    let mut all: u64 = files.iter().map(|file| file.bytes).sum();
    for file in files {
        if all > limit && fs::remove_file(&file.path).is_ok() {
            all -= file.bytes;
        }
    }
}

struct CachedTensor {
    path: PathBuf,
    bytes: u64,
    modified: SystemTime,
}

fn files(folder: &Path) -> Vec<CachedTensor> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let tensor = |entry: fs::DirEntry| {
        let about = entry.metadata().ok()?;
        let named = hash_in_name(&entry.path()).is_some() && about.is_file();
        let modified = about.modified().ok()?;
        named.then(|| CachedTensor { path: entry.path(), bytes: about.len(), modified })
    };
    entries.filter_map(tensor).collect()
}

fn hash_in_name(path: &Path) -> Option<u64> {
    let name = path.file_name()?.to_str()?;
    u64::from_str_radix(name, 16).ok().filter(|_| name.len() == 16)
}

fn is_whole(path: &Path) -> bool {
    File::open(path).and_then(hash).ok() == hash_in_name(path)
}

/// FNV-1a with 64 bits.
fn hash(file: File) -> io::Result<u64> {
    let (mut hash, mut reader) = (0xcbf2_9ce4_8422_2325_u64, BufReader::with_capacity(1 << 20, file));
    loop {
        let bytes = reader.fill_buf()?;
        if bytes.is_empty() {
            return Ok(hash);
        }
        for byte in bytes {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
        let length = bytes.len();
        reader.consume(length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FOOBAR: &str = "85944171f73967e8"; // of "foobar", as the authors of FNV give it

    #[test]
    fn a_tensor_that_is_not_whole_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FOOBAR);
        begin(folder.path()).unwrap();
        fs::write(&path, "foobar").unwrap();
        end(folder.path(), u64::MAX);
        assert!(path.exists());
        begin(folder.path()).unwrap();
        fs::write(&path, "fooba").unwrap(); // the disk was full, or the worker was killed
        end(folder.path(), u64::MAX);
        assert!(!path.exists() && !folder.path().join(SERVING).exists());
    }

    #[test]
    fn the_oldest_tensors_go_first() {
        let folder = tempfile::tempdir().unwrap();
        let start = SystemTime::UNIX_EPOCH;
        for age in 1..=4_u64 {
            let file = File::create(folder.path().join(format!("{age:016x}"))).unwrap();
            file.set_len(100).unwrap();
            file.set_modified(start + std::time::Duration::from_secs(age)).unwrap();
        }
        fs::write(folder.path().join("notes"), "someone else's").unwrap();
        prune(folder.path(), 250);
        let mut left: Vec<_> =
            fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["0000000000000003", "0000000000000004", "notes"]);
    }
}
