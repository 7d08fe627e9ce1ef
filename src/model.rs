//! A model's name → everything settled before it is loaded: file checked, memory counted, settings advised.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

use crate::backend::Description;
use crate::backend::local::{Probe, Spec};
use crate::chat::options::{Effect, SETTINGS, setting};
use crate::chat::settings::{CacheType, CtxSize, Settings};
use crate::config::{Assignment, Config, Source};
use crate::engine::llama::{self, ContextOptions, LoadOptions};
use crate::engine::template;
use crate::error::{Failure, reason};
use crate::gguf::{self, Header};
use crate::input;
use crate::store::catalog::{Entry, entry_for_file};
use crate::store::known::Known;
use crate::store::models;

/// Context of a model that does not say what it was trained for, in tokens.
const DEFAULT_CONTEXT: usize = 2048;
/// Smallest context that is worth starting with.
const SMALLEST_CONTEXT: usize = 256;
/// What llama.cpp needs besides weights and KV cache, as bytes and as a share of the weights.
const COMPUTE_BYTES: u64 = 64 << 20;
const COMPUTE_SHARE: f64 = 0.02;

/// A model that was found and can be tried.
pub struct Opened {
    pub spec: Spec,
    pub settings: Settings,
    pub advice: Vec<Assignment>,
}

/// Finds out which model is meant and opens it.
pub fn open(config: &Config, wanted: &str) -> Result<Opened, Failure> {
    open_file(config, &find(config, wanted)?)
}

/// The file that a name or path stands for.
pub fn find(config: &Config, wanted: &str) -> Result<PathBuf, Failure> {
    models::find(wanted, config.paths.as_ref().map(|p| p.models.as_path()))
}

/// Which model is used when none is named: the one used last, or the only one in the models folder. Several: a list.
pub fn usual(config: &Config) -> Result<PathBuf, Vec<PathBuf>> {
    let Some(paths) = &config.paths else {
        return Err(Vec::new());
    };
    if let Some(last) = Known::at(Some(paths.known_models.clone())).last_used() {
        return Ok(last);
    }
    match &models::list(&paths.models)[..] {
        [only] => Ok(only.clone()),
        several => Err(several.to_vec()),
    }
}

/// Says how to get a model.
pub fn none_found(config: &Config) -> Failure {
    let folder = config.paths.as_ref().map(|p| format!(", or put one into {}", p.models.display()));
    Failure::new("no model was named and none was found")
        .hint(format!("give a GGUF file with -m FILE.gguf{}", folder.unwrap_or_default()))
}

/// Reads a file's header and settles what follows from it. Nothing is loaded yet.
pub fn open_file(config: &Config, path: &Path) -> Result<Opened, Failure> {
    let header = gguf::read(path).and_then(|header| gguf::check(&header).map(|()| header));
    let header = header.map_err(|refusal| {
        let failure = Failure::new(format!("could not use the model {}: {refusal}", path.display()));
        refusal.hint().into_iter().fold(failure, Failure::hint)
    })?;
    let entry = path.file_name().and_then(|name| entry_for_file(&name.to_string_lossy()));
    let advice = advice(&header, entry);
    let settings = config.settle(&advice)?;
    let known = Known::at(config.paths.as_ref().map(|p| p.known_models.clone()));
    let chunk = chunk(&header);
    let limit = context_limit(&header, &settings, chunk)?;
    let template = chat_template(&header, &settings)?;
    let (fingerprint, probe) = fingerprint(&header, &known, &settings, template.as_deref())?;
    let threads = settings.threads.unwrap_or_else(physical_cores);
    let context = ContextOptions {
        limit,
        chunk,
        threads,
        threads_batch: settings.threads_batch.unwrap_or(threads),
        flash_attn: settings.flash_attn,
        cache_type_k: settings.cache_type_k,
        cache_type_v: settings.cache_type_v,
    };
    let (device, gpu_warning) = device(&header, &settings, threads);
    let description = Description {
        name: entry.map_or_else(|| models::name(path), |entry| entry.title.clone()),
        path: Some(path.to_path_buf()),
        fingerprint,
        facts: facts(&header),
        device,
        warnings: demonstration(entry).into_iter().chain(gpu_warning).collect(),
        cautions: cautions(&header, limit, template.is_some()),
        chats: template.is_some(),
        template: template.clone().unwrap_or_default(),
        context_limit: limit,
    };
    let load =
        LoadOptions { gpu_layers: settings.gpu_layers, mmap: !settings.no_mmap, mlock: settings.mlock };
    let template_args = settings.template_args.clone();
    let spec = Spec { description, path: path.to_path_buf(), load, context, template, template_args, probe };
    Ok(Opened { spec, settings, advice })
}

/// What the model at `path` advises, as far as its header can be read.
pub fn advised(path: &Path) -> Vec<Assignment> {
    let entry = path.file_name().and_then(|name| entry_for_file(&name.to_string_lossy()));
    gguf::read(path).map(|header| advice(&header, entry)).unwrap_or_default()
}

/// What the file's authors and the catalogue recommend; the file wins.
fn advice(header: &Header, entry: Option<&'static Entry>) -> Vec<Assignment> {
    let mut advice = Vec::new();
    let mut add = |name: &str, value: String, source: Source| {
        let valid = setting(name).filter(|row| (row.set)(&mut Settings::default(), &value).is_ok());
        advice.extend(valid.map(|setting| Assignment { setting, value, source }));
    };
    for (name, value) in entry.iter().flat_map(|entry| &entry.sampling) {
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

/// The Jinja source that will be used: the user's, or the file's; `None` for a base model.
pub fn chat_template(header: &Header, settings: &Settings) -> Result<Option<String>, Failure> {
    let Some(wanted) = &settings.chat_template else {
        let own = header.str("tokenizer.chat_template").filter(|t| !t.trim().is_empty());
        return Ok(own.map(|own| template::builtin(own).unwrap_or(own).to_string()));
    };
    if let Some(builtin) = template::builtin(wanted) {
        return Ok(Some(builtin.to_string()));
    }
    input::read_file(Path::new(wanted)).map(Some).map_err(|failure| Failure {
        message: format!("the chat template: {}", failure.message),
        ..failure.hint("--chat-template takes a Jinja file or the name of a built-in one: chatml")
    })
}

/// The file's fingerprint, and how to try it out if this build of llama.cpp never loaded it.
fn fingerprint(
    header: &Header,
    known: &Known,
    settings: &Settings,
    template: Option<&str>,
) -> Result<(String, Option<Probe>), Failure> {
    let path = header.path.clone();
    let build = verdict(settings, template);
    let before = known.file(&path);
    if let Some(file) = before.as_ref().filter(|file| file.loaded_by.as_deref() == Some(&build)) {
        return Ok((file.fingerprint.clone(), None));
    }
    let fingerprint = match before {
        Some(file) => file.fingerprint,
        None => gguf::fingerprint(&path, header)
            .map_err(|e| Failure::new(format!("could not read {}: {}", path.display(), reason(&e))))?,
    };
    let of_model = SETTINGS.iter().filter(|row| row.effect == Effect::Reload && !row.repeats);
    let given = of_model.map(|row| (row, (row.get)(settings)));
    let changed = given.filter(|(row, value)| *value != (row.get)(&Settings::default()));
    let variables = settings.template_args.iter().map(|(key, value)| format!("--template-arg={key}={value}"));
    let args = changed.map(|(row, value)| format!("--{}={value}", row.name)).chain(variables).collect();
    let (known, print) = (known.clone(), fingerprint.clone());
    let passed = Box::new(move || known.remember(&path, &print, Some(build.clone())));
    Ok((fingerprint, Some(Probe { bytes: weights_bytes(header), args, passed })))
}

/// What a verdict on a file depends on besides the file: the build, and a chat template of the user's.
fn verdict(settings: &Settings, template: Option<&str>) -> String {
    let build = format!("fireside {}", env!("CARGO_PKG_VERSION"));
    if settings.chat_template.is_none() && settings.template_args.is_empty() {
        return build;
    }
    let mut hasher = DefaultHasher::new();
    (template, &settings.template_args).hash(&mut hasher);
    format!("{build}, template {:016x}", hasher.finish())
}

/// Bytes of the weights, in all files of a model that is stored in several.
pub fn weights_bytes(header: &Header) -> u64 {
    match &gguf::parts(header)[..] {
        [] | [_] => gguf::memory::weights_bytes(header),
        parts => parts.iter().filter_map(|part| std::fs::metadata(part).ok()).map(|part| part.len()).sum(),
    }
}

/// Tokens evaluated at once, a power of two fixed per model: large models get small chunks, so that Ctrl-C is heard.
fn chunk(header: &Header) -> usize {
    match weights_bytes(header) >> 20 {
        0..1_000 => 512,
        1_000..4_000 => 256,
        4_000..16_000 => 128,
        _ => 64,
    }
}

/// Most tokens of context: what was asked for or what the model was trained for, if memory allows. Refuses what cannot
/// fit, with the figures.
fn context_limit(header: &Header, settings: &Settings, chunk: usize) -> Result<usize, Failure> {
    let trained = gguf::memory::trained_context(header).map_or(DEFAULT_CONTEXT, |n| n as usize);
    let wanted = match settings.ctx_size {
        CtxSize::Auto | CtxSize::Trained => trained,
        CtxSize::Tokens(n) => n as usize,
    };
    if wanted > trained && gguf::memory::learned_positions(header) {
        return Err(Failure::usage(format!("--ctx-size {wanted} is more than this model can take"))
            .hint(format!("it has learnt {trained} positions and no more: --ctx-size {trained}")));
    }
    let Some(available) = gguf::memory::available_memory() else {
        return Ok(wanted);
    };
    let weights = weights_bytes(header);
    let fixed =
        weights + COMPUTE_BYTES + (weights as f64 * COMPUTE_SHARE) as u64 + (chunk as u64 * 16 * 1024);
    let per_token =
        gguf::memory::kv_bytes_per_token(header, bits(settings.cache_type_k), bits(settings.cache_type_v));
    let on_gpu = llama::devices().iter().any(|d| d.gpu) && settings.gpu_layers != Some(0);
    if on_gpu {
        return Ok(wanted); // memory of the GPU is llama.cpp's to judge
    }
    let room = available.saturating_sub(fixed) as f64;
    let fits = if per_token > 0.0 { (room / per_token) as usize } else { usize::MAX };
    if available < fixed || fits < SMALLEST_CONTEXT.min(wanted) {
        return Err(Failure::new(format!(
            "not enough memory: the model needs {} and {} are free",
            size(fixed + (per_token * SMALLEST_CONTEXT as f64) as u64),
            size(available)
        ))
        .hint("close other programs, or take a smaller model or a stronger quantisation of it"));
    }
    match settings.ctx_size {
        CtxSize::Auto => Ok(wanted.min(fits)),
        _ if wanted > fits => Err(Failure::new(format!(
            "not enough memory: {wanted} tokens of context need {} besides the model's {}, and {} are free",
            size((per_token * wanted as f64) as u64),
            size(fixed),
            size(available)
        ))
        .hint(format!(
            "--ctx-size {} would fit, or --ctx-size auto; --cache-type-k q8_0 halves the keys",
            fits.min(trained)
        ))),
        _ => Ok(wanted),
    }
}

/// Bits of one element, the scales of its block included.
fn bits(kind: CacheType) -> f64 {
    match kind {
        CacheType::F32 => 32.0,
        CacheType::F16 | CacheType::BF16 => 16.0,
        CacheType::Q8_0 => 8.5,
        CacheType::Q5_1 => 6.0,
        CacheType::Q5_0 => 5.5,
        CacheType::Q4_1 => 5.0,
        CacheType::Q4_0 | CacheType::Iq4Nl => 4.5,
    }
}

/// Bytes for people: `1.5 GiB`.
pub fn size(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} bytes"),
        1024..1_048_576 => format!("{} KiB", bytes >> 10),
        1_048_576..1_073_741_824 => format!("{:.0} MiB", bytes as f64 / 1_048_576.0),
        _ => format!("{:.1} GiB", bytes as f64 / 1_073_741_824.0),
    }
}

fn facts(header: &Header) -> String {
    let arch = header.architecture().unwrap_or("unknown architecture");
    let parameters: u64 = header.tensors.iter().map(|t| t.dims.iter().product::<u64>()).sum();
    let parameters = match parameters {
        0..1_000_000 => format!("{} thousand parameters", parameters / 1_000),
        1_000_000..1_000_000_000 => format!("{} million parameters", parameters / 1_000_000),
        _ => format!("{:.1} billion parameters", parameters as f64 / 1e9),
    };
    format!("{arch}, {parameters}, {}", size(weights_bytes(header)))
}

fn demonstration(entry: Option<&Entry>) -> Option<String> {
    let entry = entry.filter(|entry| entry.demonstration)?;
    Some(format!(
        "{} is a demonstration: it shows how fireside works but knows little; for a real model: fireside -m FILE.gguf",
        entry.title
    ))
}

fn cautions(header: &Header, limit: usize, chats: bool) -> Vec<String> {
    let trained = gguf::memory::trained_context(header).map_or(limit, |n| n as usize);
    let base = "this is a base model without a chat template: it goes on with your text instead of answering";
    let far =
        format!("the model was trained for {trained} tokens of context: beyond them its answers get worse");
    [(!chats).then(|| base.to_string()), (limit > trained).then_some(far)].into_iter().flatten().collect()
}

/// What the model will run on, and a warning when a GPU is there but not used.
fn device(header: &Header, settings: &Settings, threads: u32) -> (String, Option<String>) {
    let layers = header.arch_uint("block_count").unwrap_or(0) + 1; // the output counts as one, as in llama.cpp
    let gpus: Vec<String> = llama::devices().into_iter().filter(|d| d.gpu).map(|d| d.description).collect();
    let on_gpu = settings.gpu_layers.map_or(layers, u64::from).min(layers);
    let threads = if threads == 1 { "1 thread".into() } else { format!("{threads} threads") };
    match gpus.first() {
        Some(gpu) if on_gpu > 0 => {
            (format!("{gpu}, up to {on_gpu} of {layers} layers; CPU, {threads}"), None)
        }
        Some(gpu) => {
            let warning = format!("{gpu} is there but not used: --gpu-layers is 0");
            (format!("CPU, {threads}"), Some(warning))
        }
        None => {
            let there = ["/proc/driver/nvidia/gpus", "/dev/kfd"].iter().any(|p| Path::new(p).exists());
            let warning = "a GPU is there but not used: this fireside was built without it (cargo features cuda, vulkan)";
            (format!("CPU, {threads}"), there.then(|| warning.to_string()))
        }
    }
}

/// Physical cores this process may run on, at least 1: more threads than that slow llama.cpp down.
fn physical_cores() -> u32 {
    let logical = std::thread::available_parallelism().map_or(1, |n| n.get() as u32);
    let siblings = |cpu: u32| {
        let file = format!("/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list");
        std::fs::read_to_string(file).ok()
    };
    let cores: BTreeSet<String> = allowed_cpus().into_iter().filter_map(siblings).collect();
    if cores.is_empty() { logical } else { (cores.len() as u32).min(logical) }
}

/// The processors the kernel lets this process use, as `/proc` lists them: `0-3,8`.
fn allowed_cpus() -> Vec<u32> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap_or_default();
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.trim().parse().ok()?..=last.trim().parse().ok()?)
    };
    list.split(',').filter_map(range).flatten().collect()
}
