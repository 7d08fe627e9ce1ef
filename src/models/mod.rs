//! A model's name → everything resolved before it is loaded: file checked, memory counted, settings advised.
//!
//! `memory.rs` says what fits, `device.rs` what it runs on, `templates.rs` how it chats, `about.rs` what a list shows of it,
//! `probe.rs` tries out a file that is new here.

pub mod library;
pub mod names;
pub mod places;
pub mod ollama;
pub mod package;
pub mod catalog;
pub mod licences;
pub mod known;
pub mod headers;
pub mod fetched;
pub mod removal;
pub mod about;
mod device;
pub mod memory;
pub mod probe;
mod templates;

use std::ffi::CString;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use self::catalog::{Entry, entry_for_file};
use self::names::NotHere;
use self::places::{Owner, Place};
use crate::backend::Description;
use crate::backend::local::{BatchCosts, Spec};
use crate::backend::probe::{Probe, Verdict, without_repack};
use crate::chat::settings::Settings;
use crate::engine::draft::Costs;
use crate::engine::llama::{self, ContextOptions, LoadOptions, Parts, SpecialIds, devices, system_info};
pub use crate::engine::prompt::template::Supports;
use crate::engine::prompt_cache::{Rules, Unchanged, Usage, forget, usage};
use crate::error::{Failure, reason};
use crate::gguf::{self, Header, Refusal};
use crate::models::known::{Known, KnownFile};
use crate::processor;
use crate::settings::{Assignment, Config, Source};
use crate::settings::{Effect, SETTINGS, setting};
use crate::units::size;
use about::{About, count};
use device::{device, physical_cores};
use memory::{chunk, context_limit, weights_bytes};
pub use templates::{builtin_templates, chat_template, has_template, own_template, supports, template_names};

/// A model that was found and can be tried.
pub struct Opened {
    pub spec: Spec,
    /// With its advice.
    pub config: Config,
}

/// Finds out which model is meant and opens it.
pub fn open(config: &Config, wanted: &str) -> Result<Opened, Failure> {
    open_file(config, &find(config, wanted)?)
}

/// Where models are looked for.
pub fn places(config: &Config) -> Vec<Place> {
    let (paths, extra) = (config.paths.as_ref(), &config.settings().model_folders);
    paths.map_or_else(Vec::new, |paths| places::places(&paths.models, &paths.home, extra))
}

/// The file that a name or path stands for.
pub fn find(config: &Config, wanted: &str) -> Result<PathBuf, NotHere> {
    names::find(wanted, &places(config))
}

/// Whether a word is a model's name: of one on this machine, or in the catalogue; or a model file's path.
pub fn is_called(config: &Config, word: &str) -> bool {
    names::is_name(word, &places(config))
}

/// Which model is used when none is named: the one used last, or the only one in the user's models folder.
pub fn usual(config: &Config) -> Option<PathBuf> {
    let paths = config.paths.as_ref()?;
    if let Some(last) = Known::at(Some(paths.known_models.clone())).last_used() {
        return Some(last);
    }
    let own: Vec<Place> = places(config).into_iter().filter(|place| place.owner == Owner::User).collect();
    match &library::list(&own)[..] {
        [only] => Some(only.path.clone()),
        _ => None,
    }
}

/// How llama.cpp was built and what it can run on, a name and a line each.
pub fn build() -> Vec<(&'static str, String)> {
    let native = match cfg!(any(target_feature = "avx2", target_arch = "aarch64")) {
        true => "for this processor",
        false => "without this processor's instructions: slower than it could be",
    };
    let known =
        devices().into_iter().map(|device| format!("{} ({})", device.name, device.description.trim()));
    vec![
        ("processor", processor::name()),
        ("llama.cpp", format!("{}, built {native}", llama::BINDING)),
        ("instructions", system_info().trim().trim_end_matches('|').trim().into()),
        ("devices", known.collect::<Vec<_>>().join(", ")),
    ]
}

/// Threads that a model runs on.
pub fn threads(settings: &Settings) -> u32 {
    settings.threads.unwrap_or_else(physical_cores)
}

/// What is kept of evaluated prompts.
pub fn prompt_cache(folder: &Path) -> Usage {
    usage(folder)
}

/// Removes what of it went with these conversations, or may have.
pub fn forget_prompts(folder: &Path, conversations: &[String]) -> std::io::Result<()> {
    forget(folder, conversations)
}

/// The model that a conversation was held with, unless the command line or the environment names one. The error says that
/// it is not here.
pub fn of_conversation(config: &Config, before: Option<&str>) -> Result<Option<String>, String> {
    let given = config.source("model") >= Source::Environment;
    match before.filter(|_| !given) {
        None => Ok(None),
        Some(model) if names::find_exactly(model, &places(config)).is_ok() => Ok(Some(model.to_string())),
        Some(model) => Err(format!("the conversation was held with {model}, which is not here any more")),
    }
}

/// Says how to get a model.
pub fn none_found(config: &Config) -> Failure {
    let folder = config.paths.as_ref().map(|p| format!(", or put one into {}", p.models.display()));
    let (name, entry) = catalog::demonstration();
    let fetch = format!(
        "fireside pull {name} fetches a demonstration ({}), fireside pull lists others; or ",
        size(entry.size)
    );
    let fetch = if config.settings().offline { String::new() } else { fetch };
    Failure::new("no model was named and none was found")
        .hint(format!("{fetch}give a GGUF file with -m FILE.gguf{}", folder.unwrap_or_default()))
}

/// Reads a file's header and resolves what follows from it. Nothing is loaded yet.
pub fn open_file(config: &Config, path: &Path) -> Result<Opened, Failure> {
    if path.to_str().is_none() {
        return Err(Failure::new(format!(
            "could not use the model {}: llama.cpp takes no name that is not UTF-8",
            path.display()
        ))
        .hint("give the file, or the folder that it is in, another name"));
    }
    let header = gguf::read(path).and_then(|header| gguf::check(&header).map(|()| header));
    let header = header.map_err(|refusal| refused(path, &refusal))?;
    let entry = entry_of(path);
    let mut advice = advice_of(&header);
    let kept = config.paths.as_ref().filter(|_| !config.settings().incognito);
    let known = Known::at(kept.map(|p| p.known_models.clone()));
    let crashes = known.crashes(&machine()).filter(|_| !config.settings().no_repack);
    advice.extend(crashes.iter().map(|_| Assignment::of("no-repack", "on", Source::Machine)));
    let config = config.advised(advice);
    let settings = config.settings();
    let unreadable =
        |e: std::io::Error| Failure::new(format!("could not read {}: {}", path.display(), reason(&e)));
    let files = gguf::parts(&header);
    let stamp = gguf::stamp(&files).map_err(unreadable)?;
    let before = known.file(path, &stamp);
    let chunk = chunk(weights_bytes(&header));
    let limit = context_limit(&header, settings)?;
    let template = chat_template(&header, settings)?;
    let seen = Seen { known: &known, stamp: &stamp, before: before.as_ref() };
    let (fingerprint, probe) =
        fingerprint(&header, &seen, settings, template.as_deref()).map_err(unreadable)?;
    let threads = threads(settings);
    let context = ContextOptions::new(settings, limit, chunk, threads);
    let (device, gpu_warning) = device(&header, settings, threads);
    let cautions = cautions(&header, limit, template.is_some());
    let description = Description {
        name: entry.map_or_else(|| library::title(path, &places(&config)), |entry| entry.title.clone()),
        path: Some(path.to_path_buf()),
        fingerprint,
        stamp: stamp.clone(),
        facts: facts(&header),
        device,
        warnings: demonstration(entry).into_iter().chain(gpu_warning).collect(),
        cautions: crashes.iter().map(|signal| without_repack(signal)).chain(cautions).collect(),
        chats: template.is_some(),
        template_sum: template.as_deref().map(gguf::fingerprint_of_text).unwrap_or_default(),
        template: template.clone().unwrap_or_default(),
        context_limit: limit,
        trained_context: gguf::memory::trained_context(&header).map(|tokens| tokens as usize),
    };
    let load = LoadOptions {
        special_ids: before.as_ref().and_then(|before| special_ids(&header, before)),
        ..LoadOptions::new(settings, parts(&header))
    };
    let template_args = settings.template_args.clone();
    let rules = Rules { free: gguf::memory::available_memory, ..Rules::default() };
    let folder = config.paths.as_ref().map(|p| p.prompt_cache.clone());
    let prompt_cache =
        folder.filter(|_| !settings.no_prompt_cache && !settings.incognito).map(|folder| (folder, rules));
    let costs = batch_costs(&seen, path, settings, &context);
    let path = path.to_path_buf();
    let found = {
        let (path, stamp) = (path.clone(), stamp.clone());
        Box::new(move |SpecialIds(tokens): SpecialIds| {
            known.remember_special_ids(&path, &stamp, llama::BINDING, &tokens);
        })
    };
    let working = kept.map(|paths| paths.working.clone());
    let unchanged: Unchanged = Arc::new(move || gguf::stamp(&files).is_ok_and(|now| now == stamp));
    let spec = Spec {
        description,
        path,
        load,
        context,
        template,
        template_args,
        probe,
        prompt_cache,
        unchanged,
        costs,
        working,
        found,
    };
    Ok(Opened { spec, config })
}

/// In which order a file is loaded: all at once, unless it says two things of the size of its vocabulary.
pub fn parts(header: &Header) -> Parts {
    let size = |tokens: usize| {
        let said = header.arch_uint("vocab_size");
        let size_key = CString::new(format!("{}.vocab_size", header.architecture()?)).ok()?;
        said.is_none_or(|said| said == tokens as u64).then_some(Parts::AtOnce { size_key, tokens })
    };
    header.array_len("tokenizer.ggml.tokens").and_then(size).unwrap_or(Parts::InTurn)
}

/// What llama.cpp need not look for, if it has found it before.
fn special_ids(header: &Header, before: &KnownFile) -> Option<SpecialIds> {
    let tokens = before.special_ids(llama::BINDING)?.try_into().ok()?;
    fitting(header, SpecialIds(tokens))
}

/// Only where all of them are control tokens: others llama.cpp makes such when it finds them.
pub fn fitting(header: &Header, special_ids: SpecialIds) -> Option<SpecialIds> {
    const CONTROL: u64 = 3;
    let types = header.array("tokenizer.ggml.token_type")?;
    let of = |token: i32| types.iter().nth(usize::try_from(token).ok()?)?.uint();
    Some(special_ids).filter(|SpecialIds(tokens)| tokens.iter().all(|token| of(*token) == Some(CONTROL)))
}

/// Loads a new file once, in a process of its own.
pub fn prove(config: &Config, path: &Path) -> Result<(), Failure> {
    let probe = open_file(config, path)?.spec.probe;
    probe.map_or(Ok(()), |probe| (probe.run)(&AtomicBool::new(false)).map(drop))
}

/// Remembers that a file was loaded, so that it is not tried out at its first use.
pub fn mark_verified(config: &Config, path: &Path) -> Result<(), Failure> {
    let probe = open_file(config, path)?.spec.probe;
    probe.into_iter().for_each(|probe| (probe.passed)(Verdict::Sound));
    Ok(())
}

/// A file that cannot be used, for people.
pub fn refused(path: &Path, refusal: &Refusal) -> Failure {
    let failure = Failure::new(format!("could not use the model {}: {refusal}", path.display()));
    match joined(path) {
        Some(hint) => failure.hint(hint),
        None => refusal.hint().into_iter().fold(failure, Failure::hint),
    }
}

/// What to do with a piece of a file, if `path` is one.
pub fn joined(path: &Path) -> Option<String> {
    gguf::joining(path)
        .map(|command| format!("this is a piece of a file; in its folder, join them: {command}"))
}

/// What the catalogue says of a file.
pub fn entry_of(path: &Path) -> Option<&'static Entry> {
    path.file_name().and_then(|name| entry_for_file(&name.to_string_lossy()))
}

/// What the model at `path` advises, as far as its header can be read.
pub fn advised(path: &Path) -> Vec<Assignment> {
    gguf::read(path).map(|header| advice_of(&header)).unwrap_or_default()
}

/// What the file's authors and the catalogue recommend; the file wins.
pub fn advice_of(header: &Header) -> Vec<Assignment> {
    let entry = entry_of(&header.path);
    let mut advice = Vec::new();
    let mut add = |name: &str, value: String, source: Source| {
        let valid = setting(name).filter(|row| (row.set)(&mut Settings::default(), &value).is_ok());
        advice.extend(valid.map(|setting| Assignment { setting, value, source }));
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

/// GGUF's `general.sampling.*` and the settings they stand for.
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

/// What is known of a file that was looked at before, and how it is now.
struct Seen<'a> {
    known: &'a Known,
    stamp: &'a str,
    before: Option<&'a KnownFile>,
}

/// The file's fingerprint, and how to try it out if this build of llama.cpp never loaded it.
fn fingerprint(
    header: &Header,
    seen: &Seen,
    settings: &Settings,
    template: Option<&str>,
) -> std::io::Result<(String, Option<Probe>)> {
    let path = header.path.clone();
    let build = verdict(settings, template);
    if let Some(file) = seen.before.filter(|file| file.loaded_by.as_deref() == Some(&build)) {
        return Ok((file.fingerprint.clone(), None));
    }
    let fingerprint = match seen.before {
        Some(file) => file.fingerprint.clone(),
        None => gguf::fingerprint(&path, header)?,
    };
    let of_model = SETTINGS.iter().filter(|row| row.effect == Effect::Reload && !row.repeats);
    let given = of_model.map(|row| (row, (row.get)(settings)));
    let changed = given.filter(|(row, value)| *value != (row.get)(&Settings::default()));
    let variables = settings.template_args.iter().map(|(key, value)| format!("--template-arg={key}={value}"));
    let args: Vec<String> =
        changed.map(|(row, value)| format!("--{}={value}", row.name)).chain(variables).collect();
    let (known, stamp, print) = (seen.known.clone(), seen.stamp.to_string(), fingerprint.clone());
    let (file, bytes) = (path.clone(), weights_bytes(header));
    let run = Box::new(move |abort: &AtomicBool| probe::run(&file, bytes, &args, abort));
    let passed = Box::new(move |verdict| {
        known.remember(&path, &stamp, &print, Some(build.clone()));
        if let Verdict::WithoutRepack(signal) = verdict {
            known.remember_crash(&machine(), signal.as_str());
        }
    });
    Ok((fingerprint, Some(Probe { run, passed })))
}

/// What batches cost with these settings, if that was measured before, and how it is remembered.
fn batch_costs(seen: &Seen, path: &Path, settings: &Settings, context: &ContextOptions) -> BatchCosts {
    let context = ContextOptions { limit: 0, ..context.clone() }; // depends on the memory that happens to be free
    let conditions = format!(
        "{}, {context:?}, gpu layers {:?}, weights laid out anew {}",
        llama::BINDING,
        settings.gpu_layers,
        !settings.no_repack
    );
    let before = seen.before.and_then(|file| file.costs(&conditions).and_then(Costs::read));
    let (known, stamp, path) = (seen.known.clone(), seen.stamp.to_string(), path.to_path_buf());
    let measured =
        Box::new(move |costs: Costs| known.remember_costs(&path, &stamp, &conditions, costs.numbers()));
    BatchCosts { known: before, measured }
}

/// What a verdict on a file depends on besides the file: the build, and a chat template of the user's.
fn verdict(settings: &Settings, template: Option<&str>) -> String {
    let build = format!("fireside {}, {}", env!("CARGO_PKG_VERSION"), machine());
    if settings.chat_template.is_none() && settings.template_args.is_empty() {
        return build;
    }
    let mut hasher = DefaultHasher::new();
    (template, &settings.template_args).hash(&mut hasher);
    format!("{build}, template {:016x}", hasher.finish())
}

/// This build of llama.cpp on this processor: what crashes on one may be sound on another.
fn machine() -> String {
    format!("llama.cpp {} on {}", llama::BUILD, processor::name())
}

/// What does not work on this machine, for people.
pub fn trouble_here(config: &Config) -> Option<String> {
    let known = Known::at(config.paths.as_ref().map(|paths| paths.known_models.clone()));
    known.crashes(&machine()).map(|signal| without_repack(&signal))
}

fn facts(header: &Header) -> String {
    let about = About::of(header);
    format!(
        "{}, {} parameters, {}, {}",
        about.family,
        count(about.parameters),
        about.quantisation,
        size(file_size(header))
    )
}

/// Bytes of the file, or of all parts of a model in several.
fn file_size(header: &Header) -> u64 {
    let others = gguf::parts(header).into_iter().filter(|part| *part != header.path);
    header.file_size
        + others.filter_map(|part| std::fs::metadata(part).ok()).map(|about| about.len()).sum::<u64>()
}

fn demonstration(entry: Option<&Entry>) -> Option<String> {
    let entry = entry.filter(|entry| entry.demonstration)?;
    Some(format!(
        "{} is a demonstration: it shows how fireside works but knows little; fireside pull lists real models",
        entry.title
    ))
}

fn cautions(header: &Header, limit: usize, chats: bool) -> Vec<String> {
    let trained = gguf::memory::trained_context(header).map_or(limit, |n| n as usize);
    let base = "this is a base model without a chat template: it goes on with your text instead of answering";
    let far =
        format!("the model was trained for {trained} tokens of context: beyond them its answers get worse");
    let short = gguf::memory::context_reason(header).map(|why| format!("{trained} tokens of context: {why}"));
    [(!chats).then(|| base.to_string()), (limit > trained).then_some(far), short]
        .into_iter()
        .flatten()
        .collect()
}
