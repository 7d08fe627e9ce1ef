//! The folders that may hold model files: the user's own, those of the config, and those of other programs.
//!
//! Only lists folders; library.rs searches them. Never writes to other programs' folders.

use std::env;
use std::path::{Path, PathBuf};

use crate::files::expanded;
use crate::files::small_file;
use crate::hub;

/// Who owns a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Owner {
    /// The user's models folder.
    User,
    /// A folder named in the config.
    Config,
    /// The target of a link in the user's or the config's folders.
    Linked,
    HuggingFace,
    LlamaCpp,
    LmStudio,
    Gpt4All,
    Jan,
    Ollama,
}

impl Owner {
    pub fn name(self) -> &'static str {
        match self {
            Owner::User => "models folder",
            Owner::Config => "folder of the config",
            Owner::Linked => "linked folder",
            Owner::HuggingFace => "Hugging Face cache",
            Owner::LlamaCpp => "llama.cpp cache",
            Owner::LmStudio => "LM Studio",
            Owner::Gpt4All => "GPT4All",
            Owner::Jan => "Jan",
            Owner::Ollama => "Ollama",
        }
    }

    /// Whether another program put the files there, so that fireside should not remove them.
    pub fn is_other(self) -> bool {
        !matches!(self, Owner::User | Owner::Config)
    }
}

/// A folder that may hold models; it need not exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub owner: Owner,
    pub folder: PathBuf,
}

/// All places, the user's own first: names are searched in this order. `own` is the models folder, `home` the
/// user's home folder, `extra` the folders of the config.
pub fn places(own: &Path, home: &Path, extra: &[PathBuf]) -> Vec<Place> {
    let mut places = Vec::new();
    let mut add = |owner, folders: Vec<PathBuf>| {
        for folder in folders {
            if !places.iter().any(|place: &Place| place.folder == folder) {
                places.push(Place { owner, folder });
            }
        }
    };
    add(Owner::User, vec![own.to_path_buf()]);
    add(Owner::Config, extra.iter().map(|folder| expanded(folder)).collect());
    add(Owner::HuggingFace, hub::cache_folder().into_iter().collect());
    add(Owner::LlamaCpp, vec![llama_cpp_cache(home)]);
    add(Owner::LmStudio, lm_studio(home));
    add(Owner::Gpt4All, gpt4all(home));
    add(Owner::Jan, jan(home));
    add(Owner::Ollama, ollama(home));
    places
}

fn set(name: &str) -> Option<PathBuf> {
    env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

fn caches(home: &Path) -> PathBuf {
    let mac = home.join("Library/Caches");
    set("XDG_CACHE_HOME").unwrap_or_else(|| if cfg!(target_os = "macos") { mac } else { home.join(".cache") })
}

fn data(home: &Path) -> PathBuf {
    let mac = home.join("Library/Application Support");
    set("XDG_DATA_HOME")
        .unwrap_or_else(|| if cfg!(target_os = "macos") { mac } else { home.join(".local/share") })
}

/// Newer releases use Hugging Face's layout here, older ones plain files.
fn llama_cpp_cache(home: &Path) -> PathBuf {
    set("LLAMA_CACHE").unwrap_or_else(|| caches(home).join("llama.cpp"))
}

/// The folder chosen in its settings, `~/.lmstudio` or where its pointer file leads, and an older folder.
fn lm_studio(home: &Path) -> Vec<PathBuf> {
    let pointed = small_file(&home.join(".lmstudio-home-pointer"));
    let base = pointed.map_or_else(|| home.join(".lmstudio"), |path| expanded(Path::new(path.trim())));
    let settings = small_file(&base.join("settings.json")).unwrap_or_default();
    let settings: serde_json::Value = serde_json::from_str(&settings).unwrap_or_default();
    let chosen = settings["downloadsFolder"].as_str().filter(|path| !path.is_empty()).map(PathBuf::from);
    let usual = [base.join("models"), home.join(".cache/lm-studio/models")];
    chosen.into_iter().chain(usual).collect()
}

/// The folder chosen in its settings, the desktop program's, and that of its Python package.
fn gpt4all(home: &Path) -> Vec<PathBuf> {
    let settings = set("XDG_CONFIG_HOME").unwrap_or_else(|| home.join(".config"));
    let settings = small_file(&settings.join("nomic.ai/GPT4All.ini")).unwrap_or_default();
    let chosen = settings.lines().find_map(|line| line.trim().strip_prefix("modelPath="));
    let usual = [data(home).join("nomic.ai/GPT4All"), home.join(".cache/gpt4all")];
    chosen.filter(|path| !path.is_empty()).map(PathBuf::from).into_iter().chain(usual).collect()
}

/// Jan has moved its folder several times.
fn jan(home: &Path) -> Vec<PathBuf> {
    let roots = [
        data(home).join("Jan/data"),
        set("XDG_CONFIG_HOME").unwrap_or_else(|| home.join(".config")).join("Jan/data"),
        home.join("jan"),
    ];
    let both = |root: &PathBuf| [root.join("llamacpp/models"), root.join("models")];
    roots.iter().flat_map(both).collect()
}

/// The user's own store, and that of the system service.
fn ollama(home: &Path) -> Vec<PathBuf> {
    match set("OLLAMA_MODELS") {
        Some(chosen) => vec![chosen],
        None => vec![home.join(".ollama/models"), "/usr/share/ollama/.ollama/models".into()],
    }
}
