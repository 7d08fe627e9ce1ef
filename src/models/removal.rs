//! A model → the files to remove with it, and the folders that become empty.
//!
//! In the Hugging Face cache a file is a link in `snapshots/` to a blob; Ollama shares layers between models.
//! Files that another model still needs stay.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::library::{ModelFile, parts};
use super::ollama;
use super::places::Owner;

/// The files of a model to be removed.
#[derive(Debug)]
pub struct Removal {
    /// Files and links, in the order of removal.
    pub files: Vec<PathBuf>,
    /// This folder and those above it stay.
    place: PathBuf,
}

impl Removal {
    pub fn of(model: &ModelFile) -> Removal {
        let files = match model.owner {
            Owner::Ollama => {
                let stored = ollama::list(&model.place).into_iter().find(|stored| stored.name == model.name);
                stored.map_or_else(Vec::new, |stored| ollama::files_of(&model.place, &stored.manifest))
            }
            _ => parts(&model.path).iter().flat_map(|part| with_links(part)).collect(),
        };
        Removal { files, place: model.place.clone() }
    }

    /// Bytes that the disk gets back: files with another hard link free none.
    pub fn bytes(&self) -> u64 {
        let freed = |file: &PathBuf| {
            let about = fs::symlink_metadata(file).ok()?;
            (about.is_file() && about.nlink() == 1).then_some(about.len())
        };
        self.files.iter().filter_map(freed).sum()
    }

    /// Removes everything; returns the number of bytes freed. A file that no longer exists is no error.
    ///
    /// # Errors
    /// The first file that cannot be removed; those before it are gone.
    pub fn carry_out(&self) -> Result<u64, (PathBuf, io::Error)> {
        let freed = self.bytes();
        for file in &self.files {
            match fs::remove_file(file) {
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err((file.clone(), e)),
            }
        }
        self.files.iter().for_each(|file| self.prune(file));
        Ok(freed)
    }

    /// Removes the folders above a removed file that are now empty, and a repository without snapshots.
    fn prune(&self, file: &Path) {
        for folder in file.ancestors().skip(1).take_while(|folder| **folder != self.place) {
            if folder.file_name().is_some_and(|name| name.to_string_lossy().starts_with("models--"))
                && !folder.join("snapshots").exists()
            {
                let _ = fs::remove_dir_all(folder.join("refs")); // names of removed snapshots
                let _ = fs::remove_dir_all(folder.join(".no_exist"));
            }
            let _ = fs::remove_dir(folder); // removes empty folders only, as intended
        }
    }
}

/// The file; if it is a link into the same repository's blobs: all links to the blob, then the blob.
fn with_links(file: &Path) -> Vec<PathBuf> {
    let snapshots =
        file.ancestors().find(|folder| folder.file_name().is_some_and(|name| name == "snapshots"));
    let blob = fs::canonicalize(file).ok();
    let (Some(snapshots), Some(blob), true) = (snapshots, blob, file.is_symlink()) else {
        return vec![file.to_path_buf()];
    };
    let mut links = Vec::new();
    links_to(&blob, snapshots, &mut links);
    let repository = snapshots.parent().and_then(|repository| fs::canonicalize(repository).ok());
    let inside = repository.is_some_and(|repository| blob.starts_with(repository));
    links.extend(inside.then_some(blob));
    links
}

fn links_to(blob: &Path, folder: &Path, links: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => links_to(blob, &path, links),
            Ok(kind) if kind.is_symlink() && fs::canonicalize(&path).is_ok_and(|to| to == blob) => {
                links.push(path)
            }
            _ => {}
        }
    }
}
