//! A model file → everything the backend needs to load it: checked header, memory, recommended settings.

use std::ffi::CString;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::about::{About, count};
use super::attention::to_measure;
use super::device::device;
use super::fit::{Survey, chosen};
use super::memory::weights_bytes;
use super::plan::Plan;
use super::templates::template_of;
use super::{
    Error, advice_of, entry_of, find, of_sections, places, prefill_threads, probe, refused, select_workers,
    threads,
};
use crate::backend::Description;
use crate::backend::local::{Measured, Spec};
use crate::backend::probe::{Probe, ProbeVerdict, without_repack};
use crate::chat::settings::Settings;
use crate::engine::costs::Costs;
use crate::engine::llama::{
    self, AttentionShape, ContextOptions, LoadOptions, Parts, Placement, SpecialIds, flash_is_better,
};
use crate::engine::prompt_cache::{Rules, Unchanged};
use crate::gguf::{self, Header};
use crate::model_state::{FileState, ModelState};
use crate::models::catalogue::CatalogueEntry;
use crate::models::library;
use crate::processor;
use crate::settings::{Assignment, Config, Effect, SETTINGS, Source};
use crate::units::size;

/// A model that was found and can be loaded.
pub struct Opened {
    pub spec: Spec,
    /// With the model's recommendations.
    pub config: Config,
}

/// Finds a model and opens it.
pub fn open(config: &Config, wanted: &str) -> Result<Opened, Error> {
    open_file(config, &find(config, wanted)?)
}

/// Reads a file's header and resolves all settings that depend on it. Loads nothing yet.
fn open_file(config: &Config, path: &Path) -> Result<Opened, Error> {
    if path.to_str().is_none() {
        return Err(Error::NotUtf8(path.into()));
    }
    let header = gguf::read(path).and_then(|header| gguf::check(&header).map(|()| header));
    let header = header.map_err(|refusal| refused(path, refusal))?;
    let entry = entry_of(path);
    let advice: Vec<Assignment> = of_sections(config, path).into_iter().chain(advice_of(&header)).collect();
    let config = config.advised(advice.clone());
    select_workers(&config)?;
    let kept = config.paths.as_ref().filter(|_| !config.settings().incognito);
    let state = ModelState::at(config.paths.as_ref().map(|paths| paths.model_state.clone()));
    let state = if kept.is_some() { state } else { state.unchanged() };
    let crashes = state.crash(&machine()).filter(|_| !config.settings().no_repack);
    let no_repack = crashes.iter().map(|_| Assignment::of("no-repack", "on", Source::Machine));
    let advice: Vec<Assignment> = advice.into_iter().chain(no_repack).collect();
    let config = config.advised(advice.clone());
    let unreadable = |source: std::io::Error| Error::Unreadable { path: path.into(), source };
    let files = gguf::parts(&header);
    let stamp = gguf::stamp(&files).map_err(unreadable)?;
    let survey = Survey::of(&header, config.settings())?;
    let plan = survey.plan(config.settings(), survey.batch_size(config.settings()))?;
    let extent = survey.extent(&plan);
    // A seed stands for a reproducible answer, which no measurement may decide.
    let may_measure = kept.is_some() && config.settings().sampling.seed.is_none();
    // What was chosen for this machine is recorded with every answer, as if it were given: a replay must not
    // depend on what is measured later.
    let chooses = config.source("flash-attn") != Source::Record;
    let on_cpu = Some(config.settings()).filter(|_| chooses && plan.extent() != "all");
    let prefill = on_cpu.and_then(|settings| prefill_threads(settings, &state, &machine(), may_measure));
    let prefill = prefill.map(|n| Assignment::of("threads-batch", &n.to_string(), Source::Machine));
    let advice: Vec<Assignment> = advice.into_iter().chain(prefill).collect();
    let config = config.advised(advice.clone());
    let state = state.entry(path, &stamp);
    let before = state.get();
    let attention = || attention(before.as_ref(), may_measure, (&survey, &plan), config.settings(), &extent);
    let (attention, without_flash) = if chooses { attention() } else { (None, None) };
    let no_flash = without_flash.map(|_| Assignment::of("flash-attn", "off", Source::Machine));
    let advice: Vec<Assignment> = advice.into_iter().chain(no_flash).collect();
    let config = config.advised(advice.clone());
    let (measured, batch_size) = measured(before.as_ref(), attention, config.settings(), &extent);
    let batch_size = batch_size.unwrap_or_else(|| survey.batch_size(config.settings()));
    let ours = config.settings().batch_size.is_none();
    let batch_size = match without_flash {
        Some(shape) if ours => survey.batch_with_scores(shape, &plan, config.settings(), batch_size),
        _ => batch_size,
    };
    let ours = ours.then(|| Assignment::of("batch-size", &batch_size.to_string(), Source::Machine));
    let fit = survey.fit(config.settings(), batch_size)?;
    let chosen = chosen(&fit, config.settings());
    let config = config.advised(advice.into_iter().chain(ours).chain(chosen).collect());
    let settings = config.settings();
    let limit = fit.limit;
    let template = template_of(&header, &config)?;
    let (fingerprint, probe) =
        fingerprint(&header, before.as_ref(), settings, template.as_deref()).map_err(unreadable)?;
    let threads = threads(settings);
    let outputs = fit.plan.as_ref().map_or(ContextOptions::OUTPUTS, |plan| plan.outputs);
    let context = ContextOptions {
        outputs,
        room: Some(fit.room),
        copies_weights: fit.plan.as_ref().is_some_and(|plan| plan.copies_weights(&fit.gpus)),
        ..ContextOptions::new(settings, limit, batch_size as usize, threads.count)
    };
    let (device, gpu_warning) = device(&fit.gpus, fit.plan.as_ref(), settings, threads);
    let partly = fit.plan.as_ref().and_then(|plan| plan.partly(&fit.gpus));
    let cautions = cautions(&header, limit, template.is_some());
    let description = Description {
        name: entry.map_or_else(|| library::title(path, &places(&config)), |entry| entry.title.clone()),
        path: Some(path.to_path_buf()),
        host: None,
        cannot_continue: false,
        fingerprint,
        stamp: stamp.clone(),
        facts: facts(&header),
        device,
        warnings: demonstration(entry).into_iter().chain(gpu_warning).collect(),
        cautions: crashes.iter().map(|signal| without_repack(signal)).chain(partly).chain(cautions).collect(),
        chats: template.is_some(),
        template_sum: template.as_deref().map(gguf::fingerprint_of_text).unwrap_or_default(),
        template: template.clone().unwrap_or_default(),
        context_limit: limit,
        trained_context: gguf::memory::trained_context(&header).map(|tokens| tokens as usize),
    };
    let load = LoadOptions {
        threads: threads.count,
        special_ids: before.as_ref().and_then(|before| special_ids(&header, before)),
        ..LoadOptions::new(settings, parts(&header))
    };
    let template_args = settings.template_args.clone();
    let rules = Rules { free: gguf::memory::available_memory, ..Rules::default() };
    let folder = config.paths.as_ref().map(|p| p.prompt_cache.clone());
    let prompt_cache =
        folder.filter(|_| !settings.no_prompt_cache && !settings.incognito).map(|folder| (folder, rules));
    let path = path.to_path_buf();
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
        measured,
        working,
        state,
    };
    Ok(Opened { spec, config })
}

/// How to load a file: vocabulary and weights at once, unless its header contradicts itself about the
/// vocabulary's size.
pub fn parts(header: &Header) -> Parts {
    let size = |tokens: usize| {
        let said = header.arch_uint("vocab_size");
        let size_key = CString::new(format!("{}.vocab_size", header.architecture()?)).ok()?;
        said.is_none_or(|said| said == tokens as u64).then_some(Parts::AtOnce { size_key, tokens })
    };
    header.array_len("tokenizer.ggml.tokens").and_then(size).unwrap_or(Parts::InTurn)
}

/// The special tokens that llama.cpp found before, so that it need not search again.
fn special_ids(header: &Header, before: &FileState) -> Option<SpecialIds> {
    let tokens = before.special_ids(llama::BINDING)?.try_into().ok()?;
    fitting(header, SpecialIds(tokens))
}

/// Only if all of them are control tokens: llama.cpp changes the type of others when it finds them.
pub fn fitting(header: &Header, special_ids: SpecialIds) -> Option<SpecialIds> {
    const CONTROL: u64 = 3;
    let types = header.array("tokenizer.ggml.token_type")?;
    let of = |token: i32| types.iter().nth(usize::try_from(token).ok()?)?.uint();
    Some(special_ids).filter(|SpecialIds(tokens)| tokens.iter().all(|token| of(*token) == Some(CONTROL)))
}

/// Loads a new file once, in a child process.
pub fn prove(config: &Config, path: &Path) -> Result<(), Error> {
    if let Some(probe) = open_file(config, path)?.spec.probe {
        (probe.run)(&AtomicBool::new(false))?;
    }
    Ok(())
}

/// Remembers that a file was loaded, so that its first use skips the probe.
pub fn mark_verified(config: &Config, path: &Path) -> Result<(), Error> {
    let spec = open_file(config, path)?.spec;
    if let Some(probe) = &spec.probe {
        probe.passed(&spec.state, ProbeVerdict::Sound);
    }
    Ok(())
}

/// The file's fingerprint, and a probe if this build of llama.cpp has never loaded it.
fn fingerprint(
    header: &Header,
    before: Option<&FileState>,
    settings: &Settings,
    template: Option<&str>,
) -> std::io::Result<(String, Option<Probe>)> {
    let build = verdict(settings, template);
    if let Some(file) = before.filter(|file| file.loaded_by.as_deref() == Some(&build)) {
        return Ok((file.fingerprint.clone(), None));
    }
    let fingerprint = match before {
        Some(file) => file.fingerprint.clone(),
        None => gguf::fingerprint(&header.path, header)?,
    };
    let of_model = SETTINGS.iter().filter(|row| row.effect == Effect::Reload && !row.repeats);
    let given = of_model.map(|row| (row, (row.get)(settings)));
    let changed = given.filter(|(row, value)| *value != (row.get)(&Settings::default()));
    let variables = settings.template_args.iter().map(|(key, value)| format!("--template-arg={key}={value}"));
    let overrides = settings.override_tensor.iter();
    let overrides = overrides.map(|(regex, buffer)| format!("--override-tensor={regex}={buffer}"));
    let changed = changed.map(|(row, value)| format!("--{}={value}", row.name));
    let args: Vec<String> = changed.chain(variables).chain(overrides).collect();
    let (path, bytes) = (header.path.clone(), weights_bytes(header));
    let run = Box::new(move |abort: &AtomicBool| probe::run(&path, bytes, &args, abort));
    let probe = Probe { run, fingerprint: fingerprint.clone(), build, machine: machine() };
    Ok((fingerprint, Some(probe)))
}

/// Whether flash attention is the better way, if that had to be measured, with its conditions; and the attention, if
/// it is to be computed without. `may_measure`: no seed asks for what is reproducible, and the result will be known at
/// the next start.
fn attention(
    before: Option<&FileState>,
    may_measure: bool,
    (survey, plan): (&Survey, &Plan),
    settings: &Settings,
    extent: &str,
) -> (Option<(bool, String)>, Option<AttentionShape>) {
    let device = survey.attention_on(plan, settings);
    let Some((shape, device)) = to_measure(survey.header, settings).zip(device) else { return (None, None) };
    let conditions = conditions(settings, extent);
    let known = before.and_then(|file| file.flash_is_better(&conditions));
    let measured = (known.is_none() && may_measure)
        .then(|| flash_is_better(shape, device, threads(settings).count))
        .flatten();
    let slow_flash = measured.or(known) == Some(false);
    let without = Some(shape).filter(|_| slow_flash && survey.scores_fit(shape, plan, settings));
    (measured.map(|better| (better, conditions)), without)
}

/// What the speed of a model depends on besides its file, as a key. `extent`: how much of it is on which GPUs; the
/// number of layers changes with every program that takes some of their memory.
fn conditions(settings: &Settings, extent: &str) -> String {
    let context = ContextOptions::new(settings, 0, 0, threads(settings).count);
    let (placement, repacked) = (Placement::new(settings), !settings.no_repack);
    let machine = machine();
    format!("{machine}, {context:?}, {placement:?}, on GPUs {extent}, weights repacked {repacked}")
}

/// What was learnt under these settings, and the batch size: the user's, or the one that was chosen.
fn measured(
    before: Option<&FileState>,
    attention: Option<(bool, String)>,
    settings: &Settings,
    extent: &str,
) -> (Measured, Option<u32>) {
    let conditions = conditions(settings, extent);
    let costs = before.map_or_else(Costs::default, |file| Costs::read(file.batch_costs(&conditions)));
    let chosen = before.and_then(|file| file.batch_size(&conditions));
    let known = if settings.batch_size.is_some() { u32::MAX } else { chosen.unwrap_or(0) };
    (Measured { costs, batch_size: known, attention, conditions }, settings.batch_size.or(chosen))
}

/// What a verdict depends on besides the file: the build, and the user's chat template.
fn verdict(settings: &Settings, template: Option<&str>) -> String {
    let build = format!("fireside {}, {}", env!("CARGO_PKG_VERSION"), machine());
    if settings.chat_template.is_none() && settings.template_args.is_empty() {
        return build;
    }
    let mut hasher = DefaultHasher::new();
    (template, &settings.template_args).hash(&mut hasher);
    format!("{build}, template {:016x}", hasher.finish())
}

/// This build of llama.cpp on this processor: a file may crash one and load on another.
pub(super) fn machine() -> String {
    format!("llama.cpp {} on {}", llama::BUILD, processor::name())
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

/// Bytes of the file, or of all parts of a split model.
fn file_size(header: &Header) -> u64 {
    let others = gguf::parts(header).into_iter().filter(|part| *part != header.path);
    header.file_size
        + others.filter_map(|part| std::fs::metadata(part).ok()).map(|about| about.len()).sum::<u64>()
}

fn demonstration(entry: Option<&CatalogueEntry>) -> Option<String> {
    let entry = entry.filter(|entry| entry.demonstration)?;
    Some(format!(
        "{} is a demonstration: it shows how fireside works but knows little; fireside pull lists real models",
        entry.title
    ))
}

fn cautions(header: &Header, limit: usize, chats: bool) -> Vec<String> {
    let trained = gguf::memory::trained_context(header).map_or(limit, |n| n as usize);
    let base = "this is a base model without a chat template: it continues your text instead of answering";
    let far =
        format!("the model was trained for {trained} tokens of context: beyond them its answers get worse");
    let short = gguf::memory::context_reason(header).map(|why| format!("{trained} tokens of context: {why}"));
    [(!chats).then(|| base.to_string()), (limit > trained).then_some(far), short]
        .into_iter()
        .flatten()
        .collect()
}
