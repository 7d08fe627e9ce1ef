//! A header, the settings and the devices of this machine → where the model goes, the context that fits, and
//! what was chosen for that; or the refusal, with figures and remedies. Next: plan.rs, which does the sums.

use regex_lite::Regex;

use super::Error;
use super::memory::{bits, context_limit, first_batch_size, limited, wanted_context};
use super::plan::{Machine, Plan, Share, plan, planned_context, usable};
use crate::chat::Settings;
use crate::chat::settings::SplitMode;
use crate::engine::llama::{self, ContextOptions, Device, DeviceKind};
use crate::gguf::layers::Layers;
use crate::gguf::{self, Header};
use crate::settings::{Assignment, Source};

/// The fit of a model on this machine.
pub(super) struct Fit {
    pub gpus: Vec<Device>,
    /// `None` without a GPU.
    pub plan: Option<Plan>,
    /// The most tokens of context.
    pub limit: usize,
}

/// The GPUs to use, with their memory as it is now. Refuses names that llama.cpp does not know.
fn gpus(settings: &Settings) -> Result<Vec<Device>, Error> {
    let gpus = match &settings.devices[..] {
        [] => llama::gpus(),
        [none] if none == "none" => Vec::new(),
        names => {
            let known: Vec<Device> = llama::devices().into_iter().filter(Device::is_gpu).collect();
            let named = |name: &String| {
                known.iter().find(|device| device.name == *name).cloned().ok_or_else(|| Error::NoDevice {
                    name: name.clone(),
                    known: known.iter().map(|device| device.name.clone()).collect(),
                })
            };
            names.iter().map(named).collect::<Result<_, _>>()?
        }
    };
    let (main, count) = (settings.main_gpu as usize, gpus.len());
    if count > 0 && main >= count && settings.split_mode != SplitMode::Layer {
        return Err(Error::NoMainGpu { main, count });
    }
    match settings.split_mode {
        SplitMode::None if count > 0 => Ok(vec![gpus[main].clone()]),
        _ => Ok(gpus),
    }
}

/// The headers of a model's parts → its bytes by layer. Refuses expressions and buffer types that llama.cpp
/// would not take.
fn layers(headers: &[&Header], settings: &Settings) -> Result<Layers, Error> {
    let overrides = overrides(settings)?;
    let pinned = |name: &str| {
        overrides.iter().find(|(regex, _)| regex.is_match(name)).map(|(_, buffer)| (*buffer).to_string())
    };
    let bits = (bits(settings.cache_type_k), bits(settings.cache_type_v));
    Ok(Layers::of(headers, bits, pinned))
}

fn overrides(settings: &Settings) -> Result<Vec<(Regex, &str)>, Error> {
    if settings.override_tensor.is_empty() {
        return Ok(Vec::new());
    }
    let known = llama::buffer_types();
    let checked = |(regex, buffer): &(String, String)| -> Result<Regex, Error> {
        if !known.contains(buffer) {
            return Err(Error::NoBuffer { name: buffer.clone(), known: known.clone() });
        }
        let why = |error: regex_lite::Error| Error::Override { regex: regex.clone(), why: error.to_string() };
        Regex::new(regex).map_err(why)
    };
    let all = settings.override_tensor.iter();
    all.map(|one| Ok((checked(one)?, one.1.as_str()))).collect()
}

/// This machine with these GPUs, for batches of so many tokens.
fn machine(gpus: &[Device], batch: usize) -> Machine<'_> {
    Machine { gpus, main: gguf::memory::available_memory(), batch, outputs: ContextOptions::OUTPUTS }
}

/// Free memory of this machine for a model, in bytes: main memory, and what GPUs have of their own. `None` if
/// unknown.
pub fn available_memory() -> Option<u64> {
    let own = |gpu: &Device| if gpu.has_own_memory() { usable(gpu) } else { 0 };
    Some(gguf::memory::available_memory()?.saturating_add(llama::gpus().iter().map(own).sum()))
}

/// The plan for a model whose headers, those of all parts, are at hand, and its GPUs.
pub fn planned(headers: &[Header], settings: &Settings) -> Result<(Vec<Device>, Plan), Error> {
    let gpus = gpus(settings)?;
    let weights = headers.iter().map(gguf::memory::weights_bytes).sum();
    let batch = settings.batch_size.unwrap_or_else(|| first_batch_size(weights, !gpus.is_empty()));
    let context = planned_context(settings, wanted_context(&headers[0], settings)?);
    let layers = layers(&headers.iter().collect::<Vec<_>>(), settings)?;
    let plan = plan(&layers, machine(&gpus, batch as usize), settings, context);
    Ok((gpus, plan))
}

/// Fits a model, whose `header` is that of its first part.
pub(super) fn fit(header: &Header, settings: &Settings, batch: usize) -> Result<Fit, Error> {
    let gpus = gpus(settings)?;
    overrides(settings)?;
    if gpus.is_empty() {
        return Ok(Fit { gpus, plan: None, limit: context_limit(header, settings)? });
    }
    let others: Vec<Header> = gguf::parts(header)
        .iter()
        .filter(|part| **part != header.path)
        .filter_map(|part| gguf::read(part).ok())
        .collect();
    let layers = layers(&std::iter::once(header).chain(&others).collect::<Vec<_>>(), settings)?;
    let wanted = wanted_context(header, settings)?;
    let machine = machine(&gpus, batch);
    let plan = plan(&layers, machine, settings, planned_context(settings, wanted));
    if !settings.fit {
        return Ok(Fit { plan: Some(plan), gpus, limit: wanted });
    }
    check_given(&plan, &gpus)?;
    let fits = tokens_that_fit(&plan, machine);
    let needed = |tokens: usize| {
        plan.gpus.iter().map(|share| share.with_context(tokens)).sum::<u64>() + plan.main.with_context(tokens)
    };
    let free = available_memory().unwrap_or(u64::MAX);
    let limit = limited(header, settings, fits, needed, free)?;
    Ok(Fit { plan: Some(plan), gpus, limit })
}

/// The tokens of context that fit: with the KV cache where the layers are, or all of it in main memory.
/// `None`: the model does not fit.
fn tokens_that_fit(plan: &Plan, machine: Machine) -> Option<usize> {
    // Integrated GPUs take main memory.
    let shared = machine.gpus.iter().zip(&plan.gpus).filter(|(gpu, _)| gpu.kind == DeviceKind::Integrated);
    let taken: u64 = shared.map(|(_, share)| share.with_context(plan.context)).sum();
    let main = machine.main.unwrap_or(u64::MAX).saturating_sub(taken);
    let room = |(gpu, share): (&Device, &Share)| share.tokens_in(usable(gpu)).unwrap_or(0);
    let on_gpus = machine.gpus.iter().zip(&plan.gpus).filter(|(_, share)| share.weights > 0).map(room).min();
    let here = plan.main.tokens_in(main)?.min(on_gpus.unwrap_or(usize::MAX));
    let kv_per_token = plan.main.kv_per_token + plan.gpus.iter().map(|share| share.kv_per_token).sum::<f64>();
    let aside = Share { kv_per_token, ..plan.main }.tokens_in(main);
    Some(here.max(aside.unwrap_or(0)))
}

/// Refuses what the user set if it cannot fit, even without a margin.
fn check_given(plan: &Plan, gpus: &[Device]) -> Result<(), Error> {
    for (gpu, share) in gpus.iter().zip(&plan.gpus) {
        let needed = share.with_context(plan.context);
        if needed > gpu.free && gpu.total > 0 {
            return Err(Error::NoGpuMemory {
                layers: plan.gpu_layers,
                gpu: gpu.name.clone(),
                needed,
                free: gpu.free,
                mixture: plan.mixture,
            });
        }
    }
    Ok(())
}

/// What the plan chose of what the settings leave open, as settings: it is recorded with every answer.
pub(super) fn chosen(fit: &Fit, settings: &Settings) -> Vec<Assignment> {
    let Some(plan) = fit.plan.as_ref().filter(|_| settings.fit) else { return Vec::new() };
    let of = |name: &str, value: String| Assignment::of(name, &value, Source::Machine);
    let mut chosen = Vec::new();
    if settings.gpu_layers.is_none() {
        chosen.push(of("gpu-layers", plan.gpu_layers.to_string()));
    }
    if settings.n_cpu_moe.is_none() && !settings.cpu_moe && plan.mixture {
        chosen.push(of("n-cpu-moe", plan.cpu_experts.to_string()));
    }
    let by_layers = settings.split_mode == SplitMode::Layer && fit.gpus.len() > 1;
    if by_layers && settings.tensor_split.is_empty() && plan.gpu_layers > 0 {
        let shares: Vec<String> = plan.split.iter().map(u32::to_string).collect();
        chosen.push(of("tensor-split", shares.join(",")));
    }
    chosen
}
