//! Opens files and folders safely: fireside's own are private whatever the umask, its files are never opened
//! through a link, and no call blocks forever.

use serde::Serialize;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, FcntlArg, OFlag, fcntl};
use nix::sys::stat::{FchmodatFlags, Mode, fchmodat};
use nix::unistd::{AccessFlags, access, geteuid};
use tempfile::NamedTempFile;

/// How long to wait for a lock that another program holds.
const PATIENCE: Duration = Duration::from_millis(500);
/// How often to retry.
const POLL: Duration = Duration::from_millis(5);
/// How long to wait for a reader of a named pipe.
const READER: Duration = Duration::from_secs(2);
const FOLDER: u32 = 0o700;
const FILE: u32 = 0o600;

/// The system's reason, without Rust's `(os error 2)`.
pub fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    match text.rfind(" (os error ") {
        Some(end) => text[..end].to_lowercase(),
        None => text,
    }
}

/// Creates a private folder and its missing parents; makes an existing folder private.
pub fn own_folder(folder: &Path) -> io::Result<()> {
    make(folder)?;
    if fs::symlink_metadata(folder)?.is_symlink() {
        return Ok(()); // where a link leads is up to the user
    }
    let open = OpenOptions::new().read(true).custom_flags(flags(OFlag::O_DIRECTORY)).open(folder)?;
    match open.metadata()?.permissions().mode() & 0o077 {
        0 => Ok(()),
        _ => open.set_permissions(Permissions::from_mode(FOLDER)),
    }
}

fn make(folder: &Path) -> io::Result<()> {
    let create = || DirBuilder::new().mode(FOLDER).create(folder);
    let created = match (create(), folder.parent()) {
        (Err(e), Some(above)) if e.kind() == ErrorKind::NotFound && above != Path::new("") => {
            make(above)?;
            create()
        }
        (created, _) => created,
    };
    match created {
        // The umask may have removed the user's own rights.
        Ok(()) => fs::set_permissions(folder, Permissions::from_mode(FOLDER)),
        Err(e) if e.kind() == ErrorKind::AlreadyExists && folder.is_dir() => Ok(()),
        Err(e) => Err(e),
    }
}

/// Opens a private file with `options`. Refuses a link, a pipe or a device in its place.
pub fn own_file(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    let file = regular_file(path, options.mode(FILE))?;
    if file.metadata()?.permissions().mode() & 0o777 != FILE {
        file.set_permissions(Permissions::from_mode(FILE))?;
    }
    Ok(file)
}

/// Opens a file with a predictable name in a folder that others may write to. Refuses a file that someone
/// else created. Others can read the file if the umask allows it, but never write to it.
pub fn shared_file(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    let file = regular_file(path, options.mode(0o666))?;
    let about = file.metadata()?;
    if about.uid() != geteuid().as_raw() || about.nlink() > 1 {
        return Err(refused(path, "belongs to another user"));
    }
    let mode = about.permissions().mode();
    if mode & 0o022 != 0 {
        file.set_permissions(Permissions::from_mode(mode & 0o755))?;
    }
    Ok(file)
}

fn regular_file(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    let opened = options.custom_flags(flags(OFlag::O_NONBLOCK)).open(path);
    let file = opened.map_err(|error| match Errno::from_raw(error.raw_os_error().unwrap_or(0)) {
        Errno::ELOOP => refused(path, "is a link"),
        Errno::ENXIO => refused(path, "is not a regular file"),
        _ => error,
    })?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(refused(path, "is not a regular file")) }
}

/// Creates a private file that this process may hold locks on. Makes an existing one private without opening
/// it: closing it would release the locks of the whole process.
pub fn own_locked_file(path: &Path) -> io::Result<()> {
    match own_file(path, OpenOptions::new().write(true).create_new(true)) {
        Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
        made => return made.map(drop),
    }
    let about = fs::symlink_metadata(path)?;
    if !about.is_file() {
        return Err(refused(path, if about.is_symlink() { "is a link" } else { "is not a regular file" }));
    }
    access(path, AccessFlags::R_OK | AccessFlags::W_OK)?;
    if about.permissions().mode() & 0o077 != 0 {
        let mode = Mode::from_bits_truncate(FILE);
        fchmodat(AT_FDCWD, path, mode, FchmodatFlags::NoFollowSymlink)?;
    }
    Ok(())
}

fn flags(more: OFlag) -> i32 {
    (OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | more).bits()
}

fn refused(path: &Path, why: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidInput, format!("{} {why}", path.display()))
}

/// Replaces a private file atomically: a reader sees the old or the new contents. Creates the folder.
pub fn replace(path: &Path, contents: &[u8]) -> io::Result<()> {
    let folder = folder_of(path);
    own_folder(folder)?;
    let mut part = own_part(folder, ".new")?;
    part.write_all(contents)?;
    part.persist(path)?;
    Ok(())
}

/// Opens a named pipe for writing; an error if no reader opens it in time.
fn pipe(path: &Path) -> io::Result<File> {
    let begun = Instant::now();
    let open = || OpenOptions::new().write(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path);
    let file = loop {
        match open() {
            Err(e) if e.raw_os_error() != Some(Errno::ENXIO as i32) => return Err(e),
            Err(_) if begun.elapsed() >= READER => return Err(io::Error::other("nobody reads it")),
            Err(_) => std::thread::sleep(POLL),
            Ok(file) => break file,
        }
    };
    fcntl(&file, FcntlArg::F_SETFL(OFlag::empty()))?;
    Ok(file)
}

/// A temporary file in a folder, with an unpredictable name.
pub fn own_part(folder: &Path, ending: &str) -> io::Result<NamedTempFile> {
    let part = tempfile::Builder::new().suffix(ending).tempfile_in(folder)?;
    // The umask may have removed the user's own rights.
    part.as_file().set_permissions(Permissions::from_mode(FILE))?;
    Ok(part)
}

/// `~` and `~/…` → the user's home folder, as in a shell.
pub fn expanded(path: &Path) -> PathBuf {
    let home = || std::env::home_dir().filter(|home| home.is_absolute());
    match path.strip_prefix("~") {
        Ok(inside) => home().map_or_else(|| path.to_path_buf(), |home| home.join(inside)),
        Err(_) => path.to_path_buf(),
    }
}

/// What to do with an existing file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    Keep,
    Replace,
}

/// Renames a temporary file to the user's name for it.
pub fn persist(part: NamedTempFile, path: &Path, existing: Existing) -> io::Result<()> {
    let named = match existing {
        Existing::Keep => part.persist_noclobber(path), // fails if another program has created it meanwhile
        Existing::Replace => part.persist(path),
    };
    named.map(drop).map_err(|e| e.error)
}

/// Whether writing would replace a file. Pipes and devices are written to, not replaced.
pub fn would_replace(path: &Path) -> bool {
    path.metadata().is_ok_and(|about| about.is_file())
}

/// Writes a file that the user named: follows links, and writes to pipes and devices. Any other file appears
/// whole or not at all; an existing one keeps its mode.
pub fn write_named(path: &Path, contents: &[u8], existing: Existing) -> io::Result<()> {
    if existing == Existing::Keep && would_replace(path) {
        return Err(ErrorKind::AlreadyExists.into());
    }
    let there = fs::symlink_metadata(path).ok();
    if fs::metadata(path).is_ok_and(|about| about.file_type().is_fifo()) {
        return pipe(path)?.write_all(contents);
    }
    if there.as_ref().is_some_and(|about| !about.is_file()) {
        return OpenOptions::new()
            .write(true)
            .truncate(true)
            .create(true)
            .mode(FILE)
            .open(path)?
            .write_all(contents);
    }
    let mut part = own_part(folder_of(path), "")?;
    part.write_all(contents)?;
    let mode = there.map_or(FILE, |about| about.permissions().mode() & 0o777);
    part.as_file().set_permissions(Permissions::from_mode(mode))?;
    persist(part, path, existing)
}

/// Opens a file that the user named for reading. Refuses pipes and devices: they may have no writer or never
/// end.
pub fn regular(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path)?;
    match file.metadata()? {
        about if about.is_file() => Ok(file),
        about if about.is_dir() => Err(io::Error::other("it is a folder")),
        _ => Err(io::Error::other("it is not a regular file")),
    }
}

/// Whether a path names this process's own stdout, which must not be reopened.
pub fn is_stdout(path: &Path) -> bool {
    ["-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"].iter().any(|name| path == Path::new(name))
}

/// Whether a path names this process's own stdin, which is read once.
pub fn is_stdin(path: &Path) -> bool {
    ["-", "/dev/stdin", "/dev/fd/0", "/proc/self/fd/0"].iter().any(|name| path == Path::new(name))
}

/// Whether a path names a pipe: a named one, or one of this process, as the shell makes of `<(…)`.
pub fn is_pipe(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|about| about.file_type().is_fifo())
}

/// Whether only its owner can read a file.
pub fn is_private(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|about| about.permissions().mode() & 0o077 == 0)
}

/// The text of a file of at most `most` bytes. Refuses pipes and devices: they may never end. `/dev/null` is
/// empty.
pub fn read_text(path: &Path, most: u64) -> io::Result<String> {
    let other = |why: String| io::Error::other(why);
    let file = OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path)?;
    let kind = file.metadata()?.file_type();
    let mut bytes = Vec::new();
    let most_of = if kind.is_char_device() { 1 } else { most + 1 };
    if kind.is_file() || kind.is_char_device() {
        (&file).take(most_of).read_to_end(&mut bytes)?;
    }
    if !kind.is_file() && (!kind.is_char_device() || !bytes.is_empty()) {
        return Err(other(if kind.is_dir() { "it is a folder" } else { "it is not a regular file" }.into()));
    }
    text_of(bytes, most)
}

/// The text of a pipe of at most `most` bytes, read to its end; waits for its writer.
pub fn read_stream(stream: impl Read, most: u64) -> io::Result<String> {
    let mut bytes = Vec::new();
    stream.take(most + 1).read_to_end(&mut bytes)?;
    text_of(bytes, most)
}

fn text_of(bytes: Vec<u8>, most: u64) -> io::Result<String> {
    if bytes.len() as u64 > most {
        return Err(io::Error::other(format!("it is longer than {} MiB", most >> 20)));
    }
    String::from_utf8(bytes).map_err(|_| io::Error::other("it is not UTF-8 text"))
}

/// `path` with `ending` appended to the file's name.
pub fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}

/// The folder of a file.
pub fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Locks one of fireside's folders against other fireside processes until the returned file is closed.
/// Creates the folder.
pub fn lock_folder(folder: &Path) -> io::Result<File> {
    own_folder(folder)?;
    let file = File::open(folder)?;
    lock(&file, folder)?;
    Ok(file)
}

/// Locks an open file until it is closed; `path` is its path. An error if another program holds the lock for
/// too long; from then on, this process does not wait for that lock again.
pub fn lock(file: &File, path: &Path) -> io::Result<()> {
    static IN_VAIN: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());
    let in_vain = || IN_VAIN.lock().expect("no thread panics while holding the lock");
    let patience = if in_vain().iter().any(|held| held == path) { Duration::ZERO } else { PATIENCE };
    let begun = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => {
                in_vain().retain(|held| held != path);
                return Ok(());
            }
            Err(TryLockError::Error(error)) if knows_no_locks(&error) => return Ok(()),
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) if begun.elapsed() < patience => std::thread::sleep(POLL),
            Err(TryLockError::WouldBlock) => {
                in_vain().push(path.to_path_buf());
                let line = format!("another program holds {}", path.display());
                return Err(io::Error::new(ErrorKind::WouldBlock, line));
            }
        }
    }
}

/// Whether the file system does not support locks.
fn knows_no_locks(error: &io::Error) -> bool {
    let known = error.raw_os_error().map(Errno::from_raw);
    matches!(known, Some(Errno::ENOLCK | Errno::EOPNOTSUPP | Errno::ENOSYS))
}

/// Largest file that is read into memory, in bytes.
const SMALL: u64 = 64 << 20;

/// The text of a small file; `None` if it cannot be read, or for pipes and devices.
pub fn small_file(path: &Path) -> Option<String> {
    read_text(path, SMALL).ok()
}

/// Replaces a private file with JSON. Creates the folder.
pub fn write_json(file: &Path, contents: &impl Serialize) -> io::Result<()> {
    replace(file, serde_json::to_string_pretty(contents)?.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn folders_and_files_of_ours_are_closed_to_others() {
        let home = tempfile::tempdir().unwrap();
        let deep = home.path().join("a/b/c");
        own_folder(&deep).unwrap();
        fs::set_permissions(&deep, Permissions::from_mode(0o755)).unwrap();
        own_folder(&deep).unwrap();
        let file = deep.join("file");
        fs::write(&file, "x").unwrap();
        own_file(&file, OpenOptions::new().append(true)).unwrap();
        assert_eq!(
            ["a", "a/b", "a/b/c", "a/b/c/file"].map(|it| mode(&home.path().join(it))),
            [0o700, 0o700, 0o700, 0o600]
        );
        assert!(own_folder(&file).is_err() && own_folder(&file.join("x")).is_err());
        assert!(own_folder(Path::new("/proc/no/such/place")).is_err());
    }

    #[test]
    fn what_is_no_regular_file_is_refused_without_waiting() {
        let home = tempfile::tempdir().unwrap();
        let at = |name: &str| home.path().join(name);
        std::os::unix::fs::symlink(at("nowhere"), at("link")).unwrap();
        nix::unistd::mkfifo(&at("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        for (name, why) in [("link", "is a link"), ("pipe", "is not a regular file")] {
            for options in [
                OpenOptions::new().read(true),
                OpenOptions::new().append(true),
                OpenOptions::new().write(true).create(true),
            ] {
                let error = own_file(&at(name), options).unwrap_err();
                assert!(error.to_string().ends_with(why), "{name}: {error}");
            }
        }
        assert!(!at("nowhere").exists());
        assert_eq!(read_text(&at("pipe"), 10).unwrap_err().to_string(), "it is not a regular file");
        assert_eq!(
            read_text(Path::new("/dev/zero"), 10).unwrap_err().to_string(),
            "it is not a regular file"
        );
        assert_eq!(read_text(Path::new("/dev/null"), 10).unwrap(), "");
    }

    #[test]
    fn a_lock_that_another_holds_is_waited_for_once() {
        let home = tempfile::tempdir().unwrap();
        let held = lock_folder(home.path()).unwrap();
        let begun = Instant::now();
        assert!(lock_folder(home.path()).is_err() && begun.elapsed() >= PATIENCE);
        let begun = Instant::now();
        assert!(lock_folder(home.path()).is_err() && begun.elapsed() < PATIENCE);
        drop(held);
        assert!(lock_folder(home.path()).is_ok());
    }
}
