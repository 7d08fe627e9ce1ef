//! A name → the model, or the error for no match or several.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::catalogue::catalogue;
use super::library::{ModelFile, all, is_gguf, name, split_name};
use super::places::{Owner, Place};
use crate::files::expanded;
use crate::hub::{self, Reference, Wanted};
use crate::suggest::nearest;

/// Why a name does not select exactly one model on this machine.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotHere {
    /// The name that fetches it.
    #[error("the model '{0}' is not on this machine")]
    Fetchable(String),
    #[error("'{wanted}' matches {} models", candidates.len())]
    Ambiguous { wanted: String, candidates: Vec<String> },
    /// No file is at this path; `close` is a file beside it with a similar name.
    #[error("could not use the model {}: no such file", path.display())]
    NoFile { path: PathBuf, close: Option<PathBuf> },
    #[error("there is no model '{wanted}'")]
    Unknown { wanted: String, close: Option<String> },
    /// A model file outside all places.
    #[error("{} is not among the models that fireside finds", .0.display())]
    Outside(PathBuf),
}

/// The file for `wanted`: a path; a name, with or without its quantisation; a reference that `pull` takes; a
/// short name in the catalogue; or the beginning of exactly one name. An error if different files share the
/// name.
pub fn find(wanted: &str, places: &[Place]) -> Result<PathBuf, NotHere> {
    found(wanted, places, meant, true)
}

/// The same for a name that stands in a file: nothing in the current folder is meant.
pub fn find_by_name(wanted: &str, places: &[Place]) -> Result<PathBuf, NotHere> {
    found(wanted, places, meant, false)
}

/// The same without prefixes, for uses where the user does not see which model was chosen.
pub fn find_exactly(wanted: &str, places: &[Place]) -> Result<PathBuf, NotHere> {
    found(wanted, places, called, true)
}

/// The same for a name that is stored: nothing in the current folder is meant.
pub fn find_exactly_by_name(wanted: &str, places: &[Place]) -> Result<PathBuf, NotHere> {
    found(wanted, places, called, false)
}

/// `here`: a relative path begins in the current folder.
fn found(wanted: &str, places: &[Place], meant: Meaning, here: bool) -> Result<PathBuf, NotHere> {
    let path = expanded(Path::new(wanted));
    let is_path = (wanted.contains('/') || is_gguf(&path)) && (here || path.is_absolute());
    if is_path && path.symlink_metadata().is_ok() {
        return Ok(path); // problems are reported when the file is read
    }
    let models = all(places);
    match meant(wanted, &models)?[..] {
        [first, ref others @ ..] if others.iter().all(|other| other.size == first.size) => {
            Ok(first.path.clone()) // copies of one file
        }
        ref several => Err(ambiguous(wanted, several)),
    }
}

/// The one model with this name or path; copies count as different models.
pub fn find_one(wanted: &str, places: &[Place]) -> Result<ModelFile, NotHere> {
    found_one(wanted, places, meant)
}

/// The same without prefixes.
pub fn find_one_exactly(wanted: &str, places: &[Place]) -> Result<ModelFile, NotHere> {
    found_one(wanted, places, called)
}

fn found_one(wanted: &str, places: &[Place], meant: Meaning) -> Result<ModelFile, NotHere> {
    use std::os::unix::fs::MetadataExt;
    let (models, path) = (all(places), expanded(Path::new(wanted)));
    if let (true, Ok(about)) = (wanted.contains('/') || is_gguf(&path), fs::metadata(&path)) {
        let identity = (about.dev(), about.ino());
        let exact = models.iter().find(|model| model.path == path);
        let other = || models.iter().find(|model| model.identity == identity);
        return exact.or_else(other).cloned().ok_or(NotHere::Outside(path));
    }
    match meant(wanted, &models)?[..] {
        [only] => Ok(only.clone()),
        ref several => Err(ambiguous(wanted, several)),
    }
}

/// Whether this is the full name of a model here or in the catalogue, or the path of a model file.
pub fn is_name(word: &str, places: &[Place]) -> bool {
    let path = Path::new(word);
    catalogue().contains_key(&word.to_lowercase())
        || (is_gguf(path) && path.is_file())
        || all(places).iter().any(|model| model.is_called(word))
}

type Meaning = for<'a> fn(&str, &'a [ModelFile]) -> Result<Vec<&'a ModelFile>, NotHere>;

/// The models that `wanted` selects, each file once; never empty. Falls back to names that begin with
/// `wanted`.
fn meant<'a>(wanted: &str, models: &'a [ModelFile]) -> Result<Vec<&'a ModelFile>, NotHere> {
    let of_catalogue = catalogue().contains_key(&wanted.to_lowercase());
    called(wanted, models).or_else(|unknown| {
        let (beginning, mut seen) = (wanted.to_lowercase(), HashSet::new());
        let begins = |model: &&ModelFile| model.current && model.name.to_lowercase().starts_with(&beginning);
        let mut begin: Vec<&ModelFile> = models.iter().filter(begins).collect();
        begin.retain(|model| seen.insert(model.identity));
        match begin[..] {
            _ if of_catalogue || wanted.is_empty() => Err(unknown),
            [first, ..] if begin.iter().all(|other| other.name.eq_ignore_ascii_case(&first.name)) => {
                called(&first.name, models)
            }
            [] => Err(unknown),
            _ => Err(ambiguous(wanted, &begin)),
        }
    })
}

/// The models with this name, each file once; never empty.
fn called<'a>(wanted: &str, models: &'a [ModelFile]) -> Result<Vec<&'a ModelFile>, NotHere> {
    let mut seen = HashSet::new();
    let mut once = |models: Vec<&'a ModelFile>| -> Vec<&'a ModelFile> {
        models.into_iter().filter(|model| seen.insert(model.identity)).collect()
    };
    let those = |is_meant: &dyn Fn(&ModelFile) -> bool| -> Vec<&'a ModelFile> {
        models.iter().filter(|model| model.current && is_meant(model)).collect()
    };
    let exactly = those(&|model| model.is_called(wanted));
    if !exactly.is_empty() {
        return Ok(once(exactly));
    }
    let fetchable = || NotHere::Fetchable(wanted.into());
    if let Some(reference) = Reference::parse(wanted) {
        return of_reference(models, &reference).map(|model| vec![model]).ok_or_else(fetchable);
    }
    let entry = catalogue().get(&wanted.to_lowercase());
    let file = entry.map(|entry| name(Path::new(&entry.file)));
    let file = file.map(|file| split_name(&file).map_or(file.clone(), |(whole, ..)| whole.to_string()));
    let of_catalogue =
        those(&|model| file.as_ref().is_some_and(|file| model.is_whole() && model.is_called(file)));
    let without = those(&|model| model.is_called_without_quantisation(wanted));
    if let Some(found) = [of_catalogue, without].into_iter().find(|found| !found.is_empty()) {
        return Ok(once(found));
    }
    match entry {
        Some(_) => Err(fetchable()),
        None if wanted.contains('/') && !wanted.contains(':') => Err(missing(expanded(Path::new(wanted)))),
        None => Err(unknown(wanted, models)),
    }
}

/// The model on this machine that this reference would fetch.
fn of_reference<'a>(models: &'a [ModelFile], reference: &Reference) -> Option<&'a ModelFile> {
    match reference {
        Reference::Hub(wanted) => of_hub(models, wanted),
        Reference::Url(url) => models.iter().find(|model| {
            let file = model.path.file_name().unwrap_or_default().to_string_lossy();
            model.owner == Owner::User && url.ends_with(&format!("/{file}"))
        }),
    }
}

/// The wanted file at the wanted revision.
fn of_hub<'a>(models: &'a [ModelFile], wanted: &Wanted) -> Option<&'a ModelFile> {
    let of_it =
        models.iter().filter_map(|model| Some((model, model.origin.as_ref()?))).filter(|(model, origin)| {
            let revision = match wanted.revision.as_str() {
                "main" => model.current,
                other => origin.commit == other || origin.revision(other).as_ref() == Some(&origin.commit),
            };
            model.is_whole() && revision && origin.repository.eq_ignore_ascii_case(&wanted.repository)
        });
    let here: Vec<_> = of_it.collect();
    let files = here.iter().map(|(model, origin)| (origin.file.as_str(), model.size));
    let name = hub::meant(files, &wanted.which)?;
    here.iter().find(|(_, origin)| origin.file == name).map(|(model, _)| *model)
}

fn ambiguous(wanted: &str, meant: &[&ModelFile]) -> NotHere {
    let names: HashSet<&str> = meant.iter().map(|model| model.name.as_str()).collect();
    let candidates = match names.len() == meant.len() {
        true => meant.iter().map(|model| model.name.clone()).collect(),
        false => meant.iter().map(|model| model.full_name()).collect(),
    };
    NotHere::Ambiguous { wanted: wanted.into(), candidates }
}

/// The error for a path without a file, with a suggestion from the same folder.
fn missing(path: PathBuf) -> NotHere {
    let entries = path.parent().and_then(|folder| fs::read_dir(folder).ok()).into_iter().flatten().flatten();
    let beside: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(|path| is_gguf(path)).collect();
    let names: Vec<String> = beside.iter().map(|file| name(file)).collect();
    let close = nearest(&name(&path), names.iter().map(String::as_str));
    let close = beside.iter().find(|file| Some(&*name(file)) == close).cloned();
    NotHere::NoFile { path, close }
}

fn unknown(wanted: &str, models: &[ModelFile]) -> NotHere {
    let here = models.iter().map(|model| model.name.as_str());
    let names: Vec<&str> = here.chain(catalogue().keys().map(String::as_str)).collect();
    let lower = wanted.to_lowercase();
    let close = nearest(wanted, names.iter().copied());
    let part = |name: &&str| lower.chars().count() >= 3 && name.to_lowercase().contains(&lower);
    let close = close.or_else(|| names.iter().copied().find(part));
    NotHere::Unknown { wanted: wanted.into(), close: close.map(String::from) }
}

#[cfg(test)]
mod tests {
    use super::super::library::list;
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
        let find = |wanted: &str| find(wanted, &places(folder.path()));
        assert!(find("tiny-model").unwrap().ends_with("Tiny-Model.gguf"));
        assert!(find("tiny-model.gguf").is_ok());
        let unknown = NotHere::Unknown { wanted: "tiny-modle".into(), close: Some("Tiny-Model".into()) };
        assert_eq!(find("tiny-modle"), Err(unknown));
        assert!(find("/no/such/file.gguf").unwrap_err().to_string().ends_with("no such file"));
        let near = folder.path().join("own/tiny-modle.gguf");
        let close = Some(folder.path().join("own/Tiny-Model.gguf"));
        assert_eq!(find(near.to_str().unwrap()), Err(NotHere::NoFile { path: near, close }));
        assert_eq!(find("smollm2-135m"), Err(NotHere::Fetchable("smollm2-135m".into())));
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
        assert_eq!(list(&places)[0].origin.as_ref().unwrap().repository, "Owner/My-Repo");
        assert!(find("one", &places).unwrap().starts_with(folder.path().join("hub")));
        let two = find("two", &places).unwrap_err();
        assert_eq!(two.to_string(), "'two' matches 2 models");
        let candidates = ["Two-Q4_K_M", "Two-Q8_0"].map(String::from).to_vec();
        assert_eq!(two, NotHere::Ambiguous { wanted: "two".into(), candidates });
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
}
