//! A model's name → its file, and the facts known before it is loaded: location, recommendations, memory.
//!
//! open.rs prepares a file for loading, fit.rs and plan.rs (share.rs) decide what goes where, memory.rs what fits into main
//! memory, device.rs describes the result, threads.rs finds the number of threads, templates.rs the chat
//! template, about.rs the facts for lists, bandwidth.rs what decoding reads; servers.rs asks for remote models; probe.rs tries out new files; error.rs has the errors.

pub mod library;
pub mod names;
pub mod places;
pub mod ollama;
pub mod package;
pub mod catalogue;
pub mod licences;
pub mod removal;
pub mod servers;
pub mod about;
mod attention;
pub mod bandwidth;
mod device;
mod error;
pub mod memory;
pub mod plan;
pub mod fit;
mod open;
pub mod probe;
pub mod share;
mod templates;
mod threads;
mod workers;

use std::path::{Path, PathBuf};

use self::catalogue::{CatalogueEntry, entry_for_file};
use self::names::NotHere;
use self::places::{Owner, Place};
use crate::backend::probe::without_repack;
use crate::chat::settings::Settings;
use crate::engine::llama::{self, DeviceKind, Placement, devices, plugins, system_info};
pub use crate::engine::llama::{Device, Lending};
pub use crate::engine::prompt::template::Supports;
use crate::engine::prompt_cache::{Usage, forget, usage};
use crate::gguf::{self, Header, Refusal};
use crate::model_state::ModelState;
use crate::processor;
use crate::settings::{Alias, Assignment, Config, Source, Wrong, setting};
use crate::suggest::nearest;
pub use error::{Error, Remedies};
use open::machine;
pub use open::{Opened, fitting, mark_verified, open, parts, prove};
pub use templates::{builtin_templates, chat_template, has_template, own_template, supports, template_names};
use threads::prefill_threads;
pub use threads::{Threads, threads};
pub use workers::{lendable, select_workers, serve};

/// The folders to search for models.
pub fn places(config: &Config) -> Vec<Place> {
    let (paths, extra) = (config.paths.as_ref(), &config.settings().model_folders);
    paths.map_or_else(Vec::new, |paths| places::places(&paths.models, &paths.home, extra))
}

/// The file for a name or path.
pub fn find(config: &Config, wanted: &str) -> Result<PathBuf, NotHere> {
    let (meant, places) = (config.unaliased(wanted), places(config));
    let found = if config.is_typed(wanted) {
        names::find(&meant, &places)
    } else {
        names::find_by_name(&meant, &places)
    };
    found.map_err(|not_here| match not_here {
        NotHere::Unknown { wanted, close: None } => {
            let aliases = config.aliases.iter().map(|alias| alias.name.as_str());
            NotHere::Unknown { close: nearest(&wanted, aliases).map(String::from), wanted }
        }
        other => other,
    })
}

/// Whether a word is a model's name, on this machine or in the catalogue, or a model file's path.
pub fn is_called(config: &Config, word: &str) -> bool {
    config.unaliased(word) != word || names::is_name(word, &places(config))
}

/// The default model: the one used last, or the only one in the user's models folder.
pub fn usual(config: &Config) -> Option<PathBuf> {
    let paths = config.paths.as_ref()?;
    if let Some(last) = ModelState::at(Some(paths.model_state.clone())).last_used() {
        return Some(last);
    }
    let own: Vec<Place> = places(config).into_iter().filter(|place| place.owner == Owner::User).collect();
    match &library::list(&own)[..] {
        [only] => Some(only.path.clone()),
        _ => None,
    }
}

/// llama.cpp's build, devices and threads: pairs of name and value.
pub fn build(config: &Config, settings: &Settings) -> Vec<(&'static str, String)> {
    let (info, threads) = (system_info(), threads(settings));
    let state = ModelState::at(config.paths.as_ref().map(|paths| paths.model_state.clone()));
    let prefill = prefill_threads(settings, &state, &machine(), false).map(|n| format!("{n} (measured)"));
    let prefill = prefill.or(settings.threads_batch.map(|n| n.to_string()));
    let prefill = prefill.map_or(String::new(), |number| format!("; prefill: {number}"));
    let known = devices().into_iter().map(|device| match device.kind {
        DeviceKind::Cpu => format!("{} ({})", device.name, device.description.trim()),
        _ => described(&device),
    });
    let mut build = vec![
        ("processor", processor::name()),
        ("llama.cpp", format!("{}, {}", llama::BINDING, processor::built_for(&info))),
        ("instructions", info.trim().trim_end_matches('|').trim().into()),
        ("devices", known.collect::<Vec<_>>().join(", ")),
        ("threads", format!("{}: {}{prefill}", threads.count, threads.why.explained())),
    ];
    build.extend(plugins().map(|plugins| ("back ends", plugins.to_string())));
    build
}

/// The devices besides the CPU.
pub fn listed_devices() -> Vec<Device> {
    devices().into_iter().filter(|device| device.kind != DeviceKind::Cpu).collect()
}

/// A device on one line, as llama.cpp's `--list-devices` shows it.
pub fn described(device: &Device) -> String {
    let Device { name, description, total, free, .. } = device;
    format!("{name}: {description} ({} MiB, {} MiB free)", total >> 20, free >> 20)
}

/// The name of a device; with its address, if it is another machine's.
pub fn name(device: &Device) -> String {
    match device.kind {
        DeviceKind::Lent => format!("{}, {}", device.name, device.description),
        _ => device.name.clone(),
    }
}

/// The kind of a device, in a word.
pub fn kind(device: &Device) -> &'static str {
    match device.kind {
        DeviceKind::Cpu => "cpu",
        DeviceKind::Gpu => "gpu",
        DeviceKind::Integrated => "integrated",
        DeviceKind::Accelerator => "accelerator",
        DeviceKind::Lent => "worker",
    }
}

/// Whether a model with these settings uses a GPU.
pub fn on_gpu(settings: &Settings) -> bool {
    Placement::new(settings).on_gpu()
}

/// The size of the on-disk prompt cache, and its hits and misses.
pub fn prompt_cache(folder: &Path) -> Usage {
    usage(folder)
}

/// Removes the prompt cache entries of these conversations, and those of unknown origin.
pub fn forget_prompts(folder: &Path, conversations: &[String]) -> std::io::Result<()> {
    forget(folder, conversations)
}

/// The model of a stored conversation, unless the command line, the environment or a role sets one. An error
/// if it is no longer here.
pub fn of_conversation(config: &Config, before: Option<&str>) -> Result<Option<String>, String> {
    let given = config.source("model") >= Source::Role;
    match before.filter(|_| !given) {
        None => Ok(None),
        Some(model) if config.remote(model).is_some() => Ok(Some(model.to_string())),
        Some(model) => match names::find_exactly_by_name(model, &places(config)) {
            Ok(path) => Ok(Some(path.display().to_string())),
            Err(_) => Err(format!("the conversation used {model}, which is no longer here")),
        },
    }
}

/// The error for an unusable file.
pub fn refused(path: &Path, refusal: Refusal) -> Error {
    Error::Refused { path: path.into(), refusal }
}

/// The catalogue entry for a file.
pub fn entry_of(path: &Path) -> Option<&'static CatalogueEntry> {
    path.file_name().and_then(|name| entry_for_file(&name.to_string_lossy()))
}

/// What the config file's sections say for the model at `path`, and the recommendations for it; none if its
/// header cannot be read.
pub fn advised(config: &Config, path: &Path) -> Vec<Assignment> {
    let advice = gguf::read(path).map(|header| advice_of(&header)).unwrap_or_default();
    of_sections(config, path).into_iter().chain(advice).collect()
}

/// What the config file's sections say for the model at `path`.
pub fn of_sections(config: &Config, path: &Path) -> Vec<Assignment> {
    if config.sections.is_empty() { Vec::new() } else { config.of_model(&names_of(config, path)) }
}

/// The names that sections match: the one in the list of models, and the catalogue's.
pub fn names_of(config: &Config, path: &Path) -> Vec<String> {
    let file = path.file_name().unwrap_or_default().to_string_lossy();
    let short = catalogue::catalogue().iter().find(|(_, entry)| entry.file.eq_ignore_ascii_case(&file));
    let short = short.map(|(name, _)| name.clone());
    [library::title(path, &places(config))].into_iter().chain(short).collect()
}

/// Drops the aliases that would hide a model, on this machine or in the catalogue, and says so.
pub fn drop_hiding_aliases(config: &mut Config) {
    let all = std::mem::take(&mut config.aliases);
    let places = if all.is_empty() { Vec::new() } else { places(config) };
    let is_name = |name: &str| {
        let found = names::find_exactly(name, &places);
        names::is_name(name, &places) || !matches!(found, Err(NotHere::Unknown { .. }))
    };
    let (hiding, others): (Vec<Alias>, _) = all.into_iter().partition(|alias| is_name(&alias.name));
    config.aliases = others;
    config.wrong.extend(hiding.into_iter().map(|Alias { name, line, .. }| {
        let what = format!("config.toml line {line}: the alias {name} is ignored: a model has this name");
        Wrong { source: Source::File, what, harmless: true }
    }));
}

/// The recommendations of the file's authors and of the catalogue; the file's win.
pub fn advice_of(header: &Header) -> Vec<Assignment> {
    let entry = entry_of(&header.path);
    let mut advice = Vec::new();
    let mut add = |name: &str, value: String, source: Source| {
        let valid = setting(name).filter(|row| (row.set)(&mut Settings::default(), &value).is_ok());
        advice.extend(valid.map(|setting| Assignment::new(setting, &value, source)));
    };
    for (name, value) in entry.into_iter().flat_map(|entry| &entry.sampling) {
        add(name, value.to_string(), Source::Catalogue);
    }
    for (key, name) in SAMPLING_KEYS {
        let key = format!("general.sampling.{key}");
        let value = header.str(&key).map(String::from);
        let value = value.or_else(|| header.float(&key).map(|x| x.to_string()));
        let value = value.or_else(|| header.uint(&key).map(|x| x.to_string()));
        value.into_iter().for_each(|value| add(name, value, Source::Model));
    }
    advice
}

/// GGUF's `general.sampling.*` keys and the settings that they stand for.
const SAMPLING_KEYS: &[(&str, &str)] = &[
    ("sequence", "samplers"),
    ("top_k", "top-k"),
    ("top_p", "top-p"),
    ("min_p", "min-p"),
    ("xtc_probability", "xtc-probability"),
    ("xtc_threshold", "xtc-threshold"),
    ("temp", "temp"),
    ("penalty_last_n", "repeat-last-n"),
    ("penalty_repeat", "repeat-penalty"),
    ("mirostat", "mirostat"),
    ("mirostat_tau", "mirostat-ent"),
    ("mirostat_eta", "mirostat-lr"),
];

/// The known problem of llama.cpp on this machine, for people.
pub fn trouble_here(config: &Config) -> Option<String> {
    let state = ModelState::at(config.paths.as_ref().map(|paths| paths.model_state.clone()));
    state.crash(&machine()).map(|signal| without_repack(&signal))
}
