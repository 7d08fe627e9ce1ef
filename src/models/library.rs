//! The model files in all places (places.rs) → a list of models with their names.
//!
//! Never searches the current folder, never changes anything, and opens no files except Ollama's manifests
//! and the revisions of the Hugging Face cache. The parts of a split model (`-00001-of-00003.gguf`) count as
//! one model. Next: names.rs, which finds a model by its name.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use super::ollama;
use super::places::{Owner, Place};
use crate::files::small_file;

/// How many folders deep a place is searched.
const DEPTH: usize = 8;
/// Maximum number of files per place: more than anyone has, and quickly listed.
pub const MOST: usize = 10_000;

/// A model on this machine, under one of its names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelFile {
    /// The name that `-m` takes: the file's name without `.gguf` and part numbers, or the name in the program
    /// that it belongs to.
    pub name: String,
    /// The file, or the first part of a split model.
    pub path: PathBuf,
    /// Whose file it is.
    pub owner: Owner,
    /// The folder of the place where it was found.
    pub place: PathBuf,
    /// Its location in the Hugging Face cache, if it is there.
    pub origin: Option<CacheLocation>,
    /// Bytes of all parts.
    pub size: u64,
    /// Modification time of the first part, in nanoseconds since 1970.
    pub modified: u64,
    /// The number of parts found, and of parts in all.
    pub parts: (u32, u32),
    /// Not an older revision of another file.
    pub current: bool,
    /// Device and inode: identical for all names of one file.
    pub identity: (u64, u64),
}

/// A path in the Hugging Face cache: `models--OWNER--REPO/snapshots/COMMIT/FILE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheLocation {
    /// `OWNER/REPO`.
    pub repository: String,
    /// The repository's folder.
    pub folder: PathBuf,
    pub commit: String,
    /// The path inside the repository.
    pub file: String,
}

/// Every model in `places`, ordered by place and name: each once, and only the current revision.
pub fn list(places: &[Place]) -> Vec<ModelFile> {
    let mut seen = HashSet::new();
    all(places).into_iter().filter(|model| model.current && seen.insert(model.identity)).collect()
}

/// Whether a place has more files than are listed.
pub fn is_too_much(place: &Place) -> bool {
    let mut files = Vec::new();
    if place.owner != Owner::Ollama {
        walk(&place.folder, DEPTH, false, &mut HashSet::new(), &mut files);
    }
    files.len() >= MOST
}

/// Every name of every model in `places`, ordered by place and name.
pub fn all(places: &[Place]) -> Vec<ModelFile> {
    let mut models = Vec::new();
    for place in places {
        let mut here = match place.owner {
            Owner::Ollama => in_ollama(place),
            _ => in_folder(place, places),
        };
        here.sort_by(|a, b| a.name.to_lowercase().cmp(&b.name.to_lowercase()).then(a.path.cmp(&b.path)));
        models.extend(here);
    }
    mark_older(&mut models);
    models
}

/// Of several revisions of a file, marks the one at `main` as current; if that is unknown, the newest.
fn mark_older(models: &mut [ModelFile]) {
    let mut mains: HashMap<PathBuf, Option<String>> = HashMap::new();
    let mut best: HashMap<(PathBuf, String), (bool, u64, usize)> = HashMap::new();
    for (index, model) in models.iter().enumerate() {
        let Some(origin) = &model.origin else { continue };
        let main = mains.entry(origin.folder.clone()).or_insert_with(|| origin.revision("main"));
        let rank = (main.as_ref() == Some(&origin.commit), model.modified, index);
        let key = (origin.folder.clone(), origin.file.clone());
        best.entry(key).and_modify(|best| *best = (*best).max(rank)).or_insert(rank);
    }
    for (index, model) in models.iter_mut().enumerate() {
        if let Some(origin) = &model.origin {
            model.current = best[&(origin.folder.clone(), origin.file.clone())].2 == index;
        }
    }
}

impl CacheLocation {
    fn of(path: &Path) -> Option<CacheLocation> {
        let folder = path.ancestors().find(|folder| {
            folder.file_name().is_some_and(|name| name.to_string_lossy().starts_with("models--"))
        })?;
        let name = folder.file_name()?.to_str()?.strip_prefix("models--")?;
        let mut inside = path.strip_prefix(folder.join("snapshots")).ok()?.iter();
        let commit = inside.next()?.to_str()?.to_string();
        let file = inside.as_path().to_str()?.to_string();
        Some(CacheLocation {
            repository: name.replacen("--", "/", 1),
            folder: folder.to_path_buf(),
            commit,
            file,
        })
    }

    /// The commit of a branch or tag, if this cache records it.
    pub fn revision(&self, name: &str) -> Option<String> {
        let commit = small_file(&self.folder.join("refs").join(name))?;
        Some(commit.trim().to_string())
    }
}

fn in_ollama(place: &Place) -> Vec<ModelFile> {
    let stored = ollama::list(&place.folder).into_iter();
    let found = stored.filter_map(|model| {
        let about = fs::metadata(&model.blob).ok()?;
        Some(ModelFile { name: model.name, ..ModelFile::new(model.blob, place, &about) })
    });
    found.collect()
}

fn in_folder(place: &Place, places: &[Place]) -> Vec<ModelFile> {
    let mut files = Vec::new();
    walk(&place.folder, DEPTH, false, &mut HashSet::new(), &mut files);
    // Split models by the path that their parts share.
    let mut models: BTreeMap<PathBuf, ModelFile> = BTreeMap::new();
    for found in files {
        let (path, place) = match found.linked {
            true => really(&found.path, place, places),
            false => (found.path, place.clone()),
        };
        let file = ModelFile::new(path, &place, &found.about);
        let Some((name, number, count)) = split_name(&file.name) else {
            models.insert(file.path.clone(), file);
            continue;
        };
        let whole = file.path.with_file_name(format!("{name}-of-{count:05}"));
        let part = ModelFile { name: name.to_string(), parts: (1, count), ..file };
        match models.get_mut(&whole) {
            None => _ = models.insert(whole, part),
            Some(model) => {
                let (size, found) = (model.size + part.size, model.parts.0 + 1);
                if number == 1 {
                    *model = part;
                }
                model.size = size;
                model.parts.0 = found;
            }
        }
    }
    models.into_values().collect()
}

/// A file behind a linked folder: its real path, and the place that it belongs to.
fn really(path: &Path, place: &Place, places: &[Place]) -> (PathBuf, Place) {
    let Ok(real) = fs::canonicalize(path.parent().unwrap_or(path)) else {
        return (path.to_path_buf(), place.clone());
    };
    let holds = |place: &&Place| fs::canonicalize(&place.folder).is_ok_and(|folder| real.starts_with(folder));
    let linked = || Place { owner: Owner::Linked, folder: real.clone() };
    let real_place = places.iter().find(holds).cloned().unwrap_or_else(linked);
    (real.join(path.file_name().unwrap_or_default()), real_place)
}

/// A model file found in a folder.
struct FoundFile {
    path: PathBuf,
    about: Metadata,
    /// Found through a link to a folder.
    linked: bool,
}

/// Every `.gguf` file below `folder`. Follows links, but enters each folder only once.
fn walk(
    folder: &Path,
    depth: usize,
    linked: bool,
    been: &mut HashSet<(u64, u64)>,
    files: &mut Vec<FoundFile>,
) {
    let new = |about: &Metadata, been: &mut HashSet<_>| been.insert((about.dev(), about.ino()));
    if depth == 0 || files.len() >= MOST || !fs::metadata(folder).is_ok_and(|about| new(&about, been)) {
        return;
    }
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if files.len() >= MOST {
            return;
        }
        let path = entry.path();
        if is_gguf(&path) {
            let about = fs::metadata(&path).ok().filter(Metadata::is_file);
            files.extend(about.map(|about| FoundFile { path, about, linked }));
        } else if worth_entering(&entry) {
            let linked = linked || entry.file_type().is_ok_and(|kind| kind.is_symlink());
            walk(&path, depth - 1, linked, been, files);
        }
    }
}

/// Skips hidden folders, and the Hugging Face cache's blobs, datasets and spaces: their files have no names
/// of models.
fn worth_entering(entry: &fs::DirEntry) -> bool {
    let name = entry.file_name();
    let name = name.to_string_lossy();
    let skipped = name.starts_with('.')
        || name == "blobs"
        || name.starts_with("datasets--")
        || name.starts_with("spaces--");
    let kind = entry.file_type();
    !skipped && kind.is_ok_and(|kind| kind.is_dir() || kind.is_symlink())
}

impl ModelFile {
    fn new(path: PathBuf, place: &Place, about: &Metadata) -> ModelFile {
        let mut own = name(&path);
        if place.owner == Owner::Jan && own == "model" {
            // Jan calls every file `model` and names the folder.
            let folder = path.parent().and_then(|folder| folder.strip_prefix(&place.folder).ok());
            let folder = folder.map(|folder| folder.to_string_lossy().into_owned());
            own = folder.filter(|folder| !folder.is_empty()).unwrap_or(own);
        }
        ModelFile {
            name: own,
            owner: place.owner,
            place: place.folder.clone(),
            origin: CacheLocation::of(&path),
            size: about.len(),
            modified: modified(about),
            parts: (1, 1),
            current: true,
            identity: (about.dev(), about.ino()),
            path,
        }
    }

    /// A name that tells it from others with the same name.
    pub fn full_name(&self) -> String {
        match &self.origin {
            Some(origin) if self.owner == Owner::HuggingFace && self.current => {
                format!("hf:{}:{}", origin.repository, origin.file)
            }
            _ => self.path.display().to_string(),
        }
    }

    /// Whether all its parts are here.
    pub fn is_whole(&self) -> bool {
        self.parts.0 == self.parts.1
    }

    /// Whether `-m wanted` names exactly this model.
    pub(super) fn is_called(&self, wanted: &str) -> bool {
        let file = self.path.file_name().unwrap_or_default().to_string_lossy();
        let tagged =
            self.owner == Owner::Ollama && self.name.eq_ignore_ascii_case(&format!("{wanted}:latest"));
        let suffixed = format!("{}.gguf", self.name);
        tagged || [self.name.as_str(), &suffixed, &file].iter().any(|name| name.eq_ignore_ascii_case(wanted))
    }

    /// Whether `-m wanted` names this model without its quantisation.
    pub(super) fn is_called_without_quantisation(&self, wanted: &str) -> bool {
        self.owner != Owner::Ollama
            && without_quantisation(&self.name).is_some_and(|name| name.eq_ignore_ascii_case(wanted))
    }
}

pub(super) fn is_gguf(path: &Path) -> bool {
    path.extension().is_some_and(|e| e.eq_ignore_ascii_case("gguf"))
}

/// The name of a model file: without the extension.
pub fn name(path: &Path) -> String {
    path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

/// The name of the model in the file at `path`, as in [`list`].
pub fn title(path: &Path, places: &[Place]) -> String {
    let name = name(path);
    if let Some((whole, ..)) = split_name(&name) {
        return whole.to_string();
    }
    let in_ollama = |place: &&Place| place.owner == Owner::Ollama && path.starts_with(&place.folder);
    let stored = places.iter().filter(in_ollama).flat_map(|place| ollama::list(&place.folder));
    stored.into_iter().find(|model| model.blob == path).map_or(name, |model| model.name)
}

/// `name-00002-of-00003` → name, 2, 3.
pub(super) fn split_name(name: &str) -> Option<(&str, u32, u32)> {
    let (rest, count) = name.rsplit_once("-of-")?;
    let (name, number) = rest.rsplit_once('-')?;
    let parse = |digits: &str| digits.parse().ok().filter(|_| digits.len() == 5);
    let (number, count) = (parse(number)?, parse(count)?);
    (1 <= number && number <= count).then_some((name, number, count))
}

/// `Llama-3.2-1B-Instruct-Q4_K_M` → `Llama-3.2-1B-Instruct`; `None` if the name does not end in a
/// quantisation.
fn without_quantisation(name: &str) -> Option<&str> {
    let (base, last) = name.rsplit_once(['-', '.'])?;
    let last = last.to_ascii_uppercase();
    let digits = ["IQ", "TQ", "Q", "BF", "F", "FP", "MXFP", "NVFP"];
    let is = digits.iter().any(|letters| {
        let rest = last.strip_prefix(letters);
        rest.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    });
    is.then(|| base.strip_suffix("-UD").unwrap_or(base))
}

/// The existing files of the model that `path` belongs to.
pub(super) fn parts(path: &Path) -> Vec<PathBuf> {
    let name = name(path);
    let Some((whole, _, count)) = split_name(&name) else {
        return vec![path.to_path_buf()];
    };
    let part = |number| path.with_file_name(format!("{whole}-{number:05}-of-{count:05}.gguf"));
    let is_one = |part: &PathBuf| part.symlink_metadata().is_ok_and(|about| !about.is_dir());
    (1..=count).map(part).filter(is_one).collect()
}

/// Modification time in nanoseconds since 1970; 0 if the file system has none.
fn modified(about: &Metadata) -> u64 {
    let since = about.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    since.map_or(0, |since| since.as_nanos() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_without_its_quantisation() {
        assert_eq!(without_quantisation("Llama-3.2-1B-Instruct-Q4_K_M"), Some("Llama-3.2-1B-Instruct"));
        assert_eq!(without_quantisation("SmolLM2-135M-Instruct.Q4_1"), Some("SmolLM2-135M-Instruct"));
        assert_eq!(without_quantisation("gpt-oss-20b-mxfp4"), Some("gpt-oss-20b"));
        assert_eq!(without_quantisation("Qwen3-4B-UD-IQ2_XXS"), Some("Qwen3-4B"));
        assert_eq!(without_quantisation("model.f16"), Some("model"));
        assert_eq!(without_quantisation("Falcon3-7B-Instruct"), None);
    }
}
