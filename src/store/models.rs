//! Models by name: the files in all places (`places.rs`) → a list, and the one that a name means.
//!
//! Never looks into the current folder, never changes anything, and reads no file but Ollama's manifests: what is inside a
//! model file is for others. Files of one split model (`-00001-of-00003.gguf`) count as one.

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::catalog::{Entry, catalog};
use super::hub::{self, Reference};
use super::known::modified;
use super::ollama;
use super::places::{Owner, Place};
use crate::error::Failure;
use crate::nearest::nearest;

/// How many folders deep a place is searched.
const DEPTH: usize = 8;

/// A model on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelFile {
    /// What `-m` takes: the file's name without `.gguf` and part numbers, or Ollama's name.
    pub name: String,
    /// The file, or the first part.
    pub path: PathBuf,
    pub owner: Owner,
    /// The place it was found in.
    pub place: PathBuf,
    /// `OWNER/REPO` on Hugging Face, where the path tells it.
    pub repository: Option<String>,
    /// Bytes of all parts.
    pub size: u64,
    /// Nanoseconds since 1970, of the first part.
    pub modified: u64,
    /// Parts that are there, of how many.
    pub parts: (u32, u32),
    /// Device and inode: the same file under two names counts once.
    identity: (u64, u64),
}

/// Every model in `places`, in their order, then by name.
pub fn list(places: &[Place]) -> Vec<ModelFile> {
    let mut seen = HashSet::new();
    let mut models = Vec::new();
    for place in places {
        let mut here = match place.owner {
            Owner::Ollama => in_ollama(place),
            _ => in_folder(place),
        };
        here.sort_by(|a, b| a.name.to_lowercase().cmp(&b.name.to_lowercase()).then(a.path.cmp(&b.path)));
        models.extend(here.into_iter().filter(|model| seen.insert(model.identity)));
    }
    models
}

fn in_ollama(place: &Place) -> Vec<ModelFile> {
    let stored = ollama::list(&place.folder).into_iter();
    let found = stored.filter_map(|model| {
        let about = fs::metadata(&model.blob).ok()?;
        Some(ModelFile { name: model.name, ..ModelFile::new(model.blob, place, &about) })
    });
    found.collect()
}

fn in_folder(place: &Place) -> Vec<ModelFile> {
    let mut files = Vec::new();
    walk(&place.folder, DEPTH, &mut HashSet::new(), &mut files);
    // Parts by the name they share.
    let mut models: BTreeMap<PathBuf, ModelFile> = BTreeMap::new();
    for (path, about) in files {
        let file = ModelFile::new(path, place, &about);
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

/// Every `.gguf` file below `folder`. Links are followed, circles are not.
fn walk(folder: &Path, depth: usize, been: &mut HashSet<(u64, u64)>, files: &mut Vec<(PathBuf, Metadata)>) {
    let new = |about: &Metadata, been: &mut HashSet<_>| been.insert((about.dev(), about.ino()));
    if depth == 0 || !fs::metadata(folder).is_ok_and(|about| new(&about, been)) {
        return;
    }
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if is_gguf(&path) {
            let about = fs::metadata(&path).ok().filter(Metadata::is_file);
            files.extend(about.map(|about| (path, about)));
        } else if worth_entering(&entry) {
            walk(&path, depth - 1, been, files);
        }
    }
}

/// Folders that hold no files of their own name: hidden ones, and where Hugging Face keeps its contents and other things
/// than models.
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
        ModelFile {
            name: name(&path),
            repository: repository(&path),
            owner: place.owner,
            place: place.folder.clone(),
            size: about.len(),
            modified: modified(about),
            parts: (1, 1),
            identity: (about.dev(), about.ino()),
            path,
        }
    }

    /// Whether all its parts are here.
    pub fn is_whole(&self) -> bool {
        self.parts.0 == self.parts.1
    }

    /// Whether `-m wanted` means this one exactly.
    fn is_called(&self, wanted: &str) -> bool {
        let file = self.path.file_name().unwrap_or_default().to_string_lossy();
        let tagged =
            self.owner == Owner::Ollama && self.name.eq_ignore_ascii_case(&format!("{wanted}:latest"));
        let suffixed = format!("{}.gguf", self.name);
        tagged || [self.name.as_str(), &suffixed, &file].iter().any(|name| name.eq_ignore_ascii_case(wanted))
    }

    /// Whether `-m wanted` means this one but for its quantisation.
    fn is_called_without_quantisation(&self, wanted: &str) -> bool {
        self.owner != Owner::Ollama
            && without_quantisation(&self.name).is_some_and(|name| name.eq_ignore_ascii_case(wanted))
    }
}

fn is_gguf(path: &Path) -> bool {
    path.extension().is_some_and(|e| e.eq_ignore_ascii_case("gguf"))
}

/// The name a file goes by.
pub fn name(path: &Path) -> String {
    path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

/// What the model in the file at `path` is called: as [`list`] calls it.
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
fn split_name(name: &str) -> Option<(&str, u32, u32)> {
    let (rest, count) = name.rsplit_once("-of-")?;
    let (name, number) = rest.rsplit_once('-')?;
    let parse = |digits: &str| digits.parse().ok().filter(|_| digits.len() == 5);
    let (number, count) = (parse(number)?, parse(count)?);
    (1 <= number && number <= count).then_some((name, number, count))
}

/// The files of the model that `path` is, or is a part of: those that are there.
pub(super) fn parts(path: &Path) -> Vec<PathBuf> {
    let name = name(path);
    let Some((whole, _, count)) = split_name(&name) else {
        return vec![path.to_path_buf()];
    };
    let part = |number| path.with_file_name(format!("{whole}-{number:05}-of-{count:05}.gguf"));
    (1..=count).map(part).filter(|part| part.symlink_metadata().is_ok()).collect()
}

/// `OWNER/REPO` out of a path of the Hugging Face cache: `…/models--OWNER--REPO/snapshots/…`.
fn repository(path: &Path) -> Option<String> {
    let folder =
        path.iter().filter_map(|part| part.to_str()).find_map(|part| part.strip_prefix("models--"))?;
    Some(folder.replacen("--", "/", 1))
}

/// `Llama-3.2-1B-Instruct-Q4_K_M` → `Llama-3.2-1B-Instruct`; `None` where the name does not end with a quantisation.
pub fn without_quantisation(name: &str) -> Option<&str> {
    let (base, last) = name.rsplit_once(['-', '.'])?;
    let last = last.to_ascii_uppercase();
    let digits = ["IQ", "TQ", "Q", "BF", "F", "FP", "MXFP", "NVFP"];
    let is = digits.iter().any(|letters| {
        let rest = last.strip_prefix(letters);
        rest.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    });
    is.then(|| base.strip_suffix("-UD").unwrap_or(base))
}

/// A model that is not on this machine.
#[derive(Debug)]
pub struct NotHere {
    pub failure: Failure,
    /// What `pull` would take to fetch it.
    pub fetchable: Option<String>,
}

impl From<NotHere> for Failure {
    fn from(not_here: NotHere) -> Failure {
        not_here.failure
    }
}

/// The file called `wanted`: a path; a name in the user's models folder; a name anywhere else, with or without its
/// quantisation; a short name of the catalogue. A name that several files have is not guessed at.
pub fn find(wanted: &str, places: &[Place]) -> Result<PathBuf, NotHere> {
    let path = Path::new(wanted);
    if (wanted.contains('/') || is_gguf(path)) && path.symlink_metadata().is_ok() {
        return Ok(path.to_path_buf()); // what is wrong with it is said when it is read
    }
    let own: Vec<Place> = places.iter().filter(|place| place.owner == Owner::User).cloned().collect();
    if let Some(model) = list(&own).into_iter().find(|model| model.is_called(wanted)) {
        return Ok(model.path); // without a look into the other places
    }
    let models = list(places);
    if let Some(reference) = Reference::parse(wanted) {
        let here =
            models.iter().find(|model| model.is_called(wanted)).or_else(|| of_reference(&models, &reference));
        return here.map(|model| model.path.clone()).ok_or_else(|| not_fetched(wanted));
    }
    let entry = catalog().get(&wanted.to_lowercase());
    let file = entry.map(|entry| Path::new(&entry.file)).map(name);
    let file = file.map(|file| split_name(&file).map_or(file.clone(), |(whole, ..)| whole.to_string()));
    let which: [&dyn Fn(&ModelFile) -> bool; 3] = [
        &|model| model.is_called(wanted),
        &|model| file.as_ref().is_some_and(|file| model.is_whole() && model.is_called(file)),
        &|model| model.is_called_without_quantisation(wanted),
    ];
    for is_meant in which {
        let meant: Vec<&ModelFile> = models.iter().filter(|model| is_meant(model)).collect();
        match meant[..] {
            [] => continue,
            [first, ref others @ ..] if others.iter().all(|other| other.size == first.size) => {
                return Ok(first.path.clone()); // copies of one file
            }
            _ => return Err(ambiguous(wanted, &meant).into()),
        }
    }
    match entry {
        Some(Entry { fetch: Some(command), .. }) => {
            let failure = Failure::new(format!("the model '{wanted}' is not on this machine"));
            Err(failure.hint(format!("it comes with: {command}")).into())
        }
        Some(_) => Err(not_fetched(wanted)),
        None if wanted.contains('/') && !wanted.contains(':') => Err(missing(path).into()),
        None => Err(unknown(wanted, &models, places).into()),
    }
}

impl From<Failure> for NotHere {
    fn from(failure: Failure) -> NotHere {
        NotHere { failure, fetchable: None }
    }
}

/// Something that `pull` could bring.
fn not_fetched(wanted: &str) -> NotHere {
    let failure = Failure::new(format!("the model '{wanted}' is not on this machine"));
    let failure = failure.hint(format!("to fetch it: fireside pull {wanted}"));
    NotHere { failure, fetchable: Some(wanted.to_string()) }
}

/// The model on this machine that `pull` would bring otherwise.
fn of_reference<'a>(models: &'a [ModelFile], reference: &Reference) -> Option<&'a ModelFile> {
    let file = |model: &'a ModelFile| model.path.file_name().unwrap_or_default().to_str().unwrap_or_default();
    match reference {
        Reference::Hub(wanted) => {
            let of_it = |model: &&ModelFile| {
                let repository = model.repository.as_ref();
                model.is_whole()
                    && repository.is_some_and(|name| name.eq_ignore_ascii_case(&wanted.repository))
            };
            let here: Vec<&ModelFile> = models.iter().filter(of_it).collect();
            let name = hub::meant(here.iter().map(|model| (file(model), model.size)), &wanted.which)?;
            here.into_iter().find(|model| file(model) == name)
        }
        Reference::Url(url) => models
            .iter()
            .find(|model| model.owner == Owner::User && url.ends_with(&format!("/{}", file(model)))),
    }
}

fn ambiguous(wanted: &str, meant: &[&ModelFile]) -> Failure {
    let names: HashSet<&str> = meant.iter().map(|model| model.name.as_str()).collect();
    let candidates: Vec<String> = match names.len() == meant.len() {
        true => meant.iter().map(|model| model.name.clone()).collect(),
        false => meant.iter().map(|model| model.path.display().to_string()).collect(),
    };
    Failure::usage(format!("'{wanted}' could be any of {} models", meant.len()))
        .hint(format!("give one of them: {}", candidates.join(", ")))
}

/// A path where nothing is: perhaps a neighbour was meant.
fn missing(path: &Path) -> Failure {
    let failure = Failure::new(format!("could not use the model {}: no such file", path.display()));
    let entries = path.parent().and_then(|folder| fs::read_dir(folder).ok()).into_iter().flatten().flatten();
    let beside: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(|path| is_gguf(path)).collect();
    let names: Vec<String> = beside.iter().map(|file| name(file)).collect();
    let close = nearest(&name(path), names.iter().map(String::as_str));
    match beside.iter().find(|file| Some(&*name(file)) == close) {
        Some(close) => failure.hint(format!("did you mean {}?", close.display())),
        None => failure,
    }
}

fn unknown(wanted: &str, models: &[ModelFile], places: &[Place]) -> Failure {
    let here = models.iter().map(|model| model.name.as_str());
    let names: Vec<&str> = here.chain(catalog().keys().map(String::as_str)).collect();
    let lower = wanted.to_lowercase();
    let close = nearest(wanted, names.iter().copied());
    let close = close.or_else(|| names.iter().copied().find(|n| n.to_lowercase().contains(&lower)));
    let failure = Failure::new(format!("there is no model '{wanted}'"));
    match (close, places.first()) {
        (Some(close), _) => failure.hint(format!("did you mean {close}?")),
        (None, Some(own)) => failure.hint(format!(
            "fireside list shows what is here, fireside pull fetches more; or give the path of a GGUF file, or put one into {}",
            own.folder.display()
        )),
        (None, None) => failure.hint("give the path of a GGUF file"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(folder: &Path) -> Vec<Place> {
        let place = |owner, name: &str| Place { owner, folder: folder.join(name) };
        vec![place(Owner::User, "own"), place(Owner::HuggingFace, "hub"), place(Owner::LmStudio, "lm")]
    }

    fn put(folder: &Path, path: &str, contents: &str) {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, contents).unwrap();
    }

    #[test]
    fn names_are_found_and_near_misses_named() {
        let folder = tempfile::tempdir().unwrap();
        put(folder.path(), "own/Tiny-Model.gguf", "");
        let find = |wanted: &str| find(wanted, &places(folder.path())).map_err(Failure::from);
        assert!(find("tiny-model").unwrap().ends_with("Tiny-Model.gguf"));
        assert!(find("tiny-model.gguf").is_ok());
        assert_eq!(find("tiny-modle").unwrap_err().hint.unwrap(), "did you mean Tiny-Model?");
        assert!(find("/no/such/file.gguf").unwrap_err().message.ends_with("no such file"));
        let near = folder.path().join("own/tiny-modle.gguf").display().to_string();
        assert!(find(&near).unwrap_err().hint.unwrap().ends_with("/Tiny-Model.gguf?"));
        assert!(find("smollm2-135m").unwrap_err().hint.is_some());
    }

    #[test]
    fn every_place_is_searched_and_copies_are_one() {
        let folder = tempfile::tempdir().unwrap();
        let snapshot = "hub/models--Owner--My-Repo/snapshots/abc/sub";
        put(folder.path(), &format!("{snapshot}/One-Q4_K_M.gguf"), "one");
        put(folder.path(), "hub/models--Owner--My-Repo/blobs/x.gguf", "not by this name");
        put(folder.path(), "lm/pub/repo/One-Q4_K_M.gguf", "one");
        put(folder.path(), "lm/pub/repo/Two-Q4_K_M.gguf", "two");
        put(folder.path(), "lm/pub/repo/Two-Q8_0.gguf", "two two");
        std::os::unix::fs::symlink(folder.path().join("lm"), folder.path().join("lm/circle")).unwrap();
        let places = places(folder.path());
        let names: Vec<String> = list(&places).into_iter().map(|model| model.name).collect();
        assert_eq!(names, ["One-Q4_K_M", "One-Q4_K_M", "Two-Q4_K_M", "Two-Q8_0"]);
        assert_eq!(list(&places)[0].repository.as_deref(), Some("Owner/My-Repo"));
        assert!(find("one", &places).unwrap().starts_with(folder.path().join("hub")));
        let two = find("two", &places).unwrap_err().failure;
        assert_eq!(two.message, "'two' could be any of 2 models");
        assert_eq!(two.hint.unwrap(), "give one of them: Two-Q4_K_M, Two-Q8_0");
        assert!(find("two-q8_0", &places).is_ok());
    }

    #[test]
    fn parts_count_as_one() {
        let folder = tempfile::tempdir().unwrap();
        for part in ["00002", "00001"] {
            put(folder.path(), &format!("own/Big-{part}-of-00003.gguf"), "12345");
        }
        let models = list(&places(folder.path()));
        let [big] = &models[..] else { panic!("{models:?}") };
        assert_eq!((big.name.as_str(), big.size, big.parts), ("Big", 10, (2, 3)));
        assert!(find("big", &places(folder.path())).unwrap().ends_with("Big-00001-of-00003.gguf"));
    }

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
