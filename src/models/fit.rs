//! A header, the settings and the devices of this machine → where the model goes, the context that fits, and
//! what was chosen for that; or the refusal, with figures and remedies. Next: plan.rs, which does the sums.

use regex_lite::Regex;

use super::attention::scores_fit;
use super::catalogue::smaller;
use super::error::{Error, Remedies};
use super::memory::{
    SMALLEST_CONTEXT, bits, context_limit, first_batch_size, limited, wanted_context, weights_bytes,
};
use super::plan::{CPU, ENOUGH, Machine, Plan, plan, planned_context, usable};
use super::share::Share;
use crate::chat::Settings;
use crate::chat::settings::{Auto, SplitMode};
use crate::engine::llama::{self, AttentionShape, Device, DeviceKind, Room};
use crate::gguf::layers::Layers;
use crate::gguf::{self, Header};
use crate::settings::{Assignment, Source};

/// The fit of a model on this machine.
pub(super) struct Fit {
    pub gpus: Vec<Device>,
    /// `None` without a GPU.
    pub plan: Option<Plan>,
    /// What a context takes of memory.
    pub room: Room,
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

/// Free memory of this machine for a model, in bytes: main memory, and what GPUs have of their own. `None` if
/// unknown.
pub fn available_memory() -> Option<u64> {
    let own = |gpu: &Device| if gpu.has_own_memory() { usable(gpu, None).unwrap_or(0) } else { 0 };
    Some(gguf::memory::available_memory()?.saturating_add(llama::gpus().iter().map(own).sum()))
}

/// A model and this machine, with its memory as it is now: all that a plan depends on but the settings and the
/// batch size.
pub(super) struct Survey<'h> {
    /// That of the model's first part.
    pub header: &'h Header,
    layers: Layers,
    gpus: Vec<Device>,
    /// Free main memory in bytes, if known.
    main: Option<u64>,
    /// The batch size until the model's speed is known.
    first_batch_size: u32,
}

impl<'h> Survey<'h> {
    /// Of a model file, whose `header` is that of its first part. The others count where there is a GPU.
    pub(super) fn of(header: &'h Header, settings: &Settings) -> Result<Survey<'h>, Error> {
        let gpus = gpus(settings)?;
        let parts = if gpus.is_empty() { Vec::new() } else { gguf::parts(header) };
        let others = parts.iter().filter(|part| **part != header.path);
        let others: Vec<Header> = others.filter_map(|part| gguf::read(part).ok()).collect();
        Survey::with((header, &others), weights_bytes(header), gpus, settings)
    }

    fn with(
        (header, others): (&'h Header, &[Header]),
        weights: u64,
        gpus: Vec<Device>,
        settings: &Settings,
    ) -> Result<Survey<'h>, Error> {
        let layers = layers(&std::iter::once(header).chain(others).collect::<Vec<_>>(), settings)?;
        let evaluating = if settings.gpu_layers == Some(0) { &[][..] } else { &gpus };
        let first_batch_size = first_batch_size(weights, evaluating);
        Ok(Survey { header, layers, gpus, main: gguf::memory::available_memory(), first_batch_size })
    }

    /// The user's batch size, or else the one until a model's speed is known.
    pub(super) fn batch_size(&self, settings: &Settings) -> u32 {
        settings.batch_size.unwrap_or(self.first_batch_size)
    }

    /// What goes where, for batches of so many tokens.
    pub(super) fn plan(&self, settings: &Settings, batch: u32) -> Result<Plan, Error> {
        let context = planned_context(settings, wanted_context(self.header, settings)?);
        Ok(plan(&self.layers, self.machine(batch), settings, context))
    }

    /// How much of the model is on which GPUs, in a few words.
    pub(super) fn extent(&self, plan: &Plan) -> String {
        let name = |gpu: &'_ Device| match gpu.kind {
            DeviceKind::Lent => "a worker".to_string(), // its address may change
            _ => gpu.description.clone(),
        };
        let names: Vec<String> = plan.used(&self.gpus).map(name).collect();
        format!("{} {names:?}", plan.extent())
    }

    /// The device that computes all of attention, by name, if one does.
    pub(super) fn attention_on<'a>(&'a self, plan: &'a Plan, settings: &Settings) -> Option<&'a str> {
        plan.only_device(&self.gpus).filter(|device| *device == CPU || !settings.no_kv_offload)
    }

    /// Whether attention of this shape has room without flash attention, where this plan puts it.
    pub(super) fn scores_fit(&self, shape: AttentionShape, plan: &Plan, settings: &Settings) -> bool {
        let batch = self.batch_size(settings);
        let without = Settings { flash_attn: Auto::Off, ..settings.clone() };
        let same = self.plan(&without, batch).is_ok_and(|other| other.extent() == plan.extent());
        same && self.scores_of_batch_fit(shape, plan, settings, batch)
    }

    /// The largest batch size up to `wanted`, but no smaller than the first one, whose scores have room.
    pub(super) fn batch_with_scores(
        &self,
        shape: AttentionShape,
        plan: &Plan,
        settings: &Settings,
        wanted: u32,
    ) -> u32 {
        let mut sizes = std::iter::successors(Some(wanted), |size| Some(size / 2));
        let is_enough = |size: &u32| {
            *size <= self.first_batch_size || self.scores_of_batch_fit(shape, plan, settings, *size)
        };
        sizes.find(is_enough).unwrap_or(wanted)
    }

    fn scores_of_batch_fit(
        &self,
        shape: AttentionShape,
        plan: &Plan,
        settings: &Settings,
        batch: u32,
    ) -> bool {
        let Ok(limit) = wanted_context(self.header, settings) else { return false };
        let on = self.attention_on(plan, settings);
        let gpu = on.and_then(|name| self.gpus.iter().find(|gpu| gpu.name == name));
        let free = gpu.map_or(self.main, |gpu| usable(gpu, self.main)).unwrap_or(ENOUGH);
        scores_fit(shape, settings, (limit, batch), free)
    }

    fn machine(&self, batch: u32) -> Machine<'_> {
        Machine { gpus: &self.gpus, main: self.main, batch: batch as usize }
    }

    /// Fits the model.
    pub(super) fn fit(self, settings: &Settings, batch: u32) -> Result<Fit, Error> {
        let plan = self.plan(settings, batch)?;
        let room = plan.room(&self.gpus, if settings.fit { gguf::memory::available_memory } else { || None });
        if self.gpus.is_empty() {
            let scores = if settings.flash_attn == Auto::Off { plan.compute_per_token } else { 0.0 };
            let limit = context_limit(self.header, settings, scores)?;
            return Ok(Fit { gpus: self.gpus, plan: None, room, limit });
        }
        if !settings.fit {
            let limit = wanted_context(self.header, settings)?;
            return Ok(Fit { gpus: self.gpus, plan: Some(plan), room, limit });
        }
        self.check_given(&plan)?;
        let fits = tokens_that_fit(&plan.with_scores(settings), self.machine(batch));
        let needed = |tokens: usize| {
            let on_gpus: u64 = plan.gpus.iter().map(|share| share.with_context(tokens)).sum();
            on_gpus + plan.main.with_context(tokens)
        };
        let free = available_memory().unwrap_or(u64::MAX);
        let limit = limited(self.header, settings, fits, needed, free).map_err(|mut error| {
            if let Error::NoMemory { remedies, .. } = &mut error {
                remedies.context = self.smaller_context(settings, batch, plan.context);
            }
            error
        })?;
        Ok(Fit { gpus: self.gpus, plan: Some(plan), room, limit })
    }

    /// Refuses what the user set if it cannot fit, even without a margin.
    fn check_given(&self, plan: &Plan) -> Result<(), Error> {
        for (gpu, share) in self.gpus.iter().zip(&plan.gpus) {
            let needed = share.with_context(plan.context);
            if let Some(free) = gpu.free_beside(self.main).filter(|free| needed > *free) {
                let all = self.gpus.iter().filter_map(|gpu| gpu.free_beside(self.main)).sum();
                let smaller = smaller(self.header.str("general.name"), weights_bytes(self.header), all);
                let smaller = smaller.filter(|_| plan.extent() == "all");
                return Err(Error::NoGpuMemory {
                    layers: plan.gpu_layers,
                    gpu: gpu.name.clone(),
                    needed,
                    free,
                    remedies: Remedies { smaller, context: None, mixture: plan.mixture },
                });
            }
        }
        Ok(())
    }

    /// A context smaller than `than`, in tokens, for which the GPUs would take so much more of the model that it fits.
    fn smaller_context(&self, settings: &Settings, batch: u32, than: usize) -> Option<usize> {
        let machine = self.machine(batch);
        let fits = |tokens: &usize| {
            let plan = plan(&self.layers, machine, settings, *tokens);
            tokens_that_fit(&plan.with_scores(settings), machine).is_some_and(|fits| fits >= *tokens)
        };
        let halves = std::iter::successors(Some(than / 2), |tokens| Some(tokens / 2));
        halves.take_while(|tokens| *tokens >= SMALLEST_CONTEXT).find(fits)
    }
}

/// The plan for a model whose headers, those of all parts, are at hand, and its GPUs.
pub fn planned(headers: &[Header], settings: &Settings) -> Result<(Vec<Device>, Plan), Error> {
    let weights = headers.iter().map(gguf::memory::weights_bytes).sum();
    let survey = Survey::with((&headers[0], &headers[1..]), weights, gpus(settings)?, settings)?;
    let plan = survey.plan(settings, survey.batch_size(settings))?;
    Ok((survey.gpus, plan))
}

/// The tokens of context that fit: with the KV cache where the layers are, or all of it in main memory.
/// `None`: the model does not fit.
fn tokens_that_fit(plan: &Plan, machine: Machine) -> Option<usize> {
    // Integrated GPUs take main memory.
    let shared = machine.gpus.iter().zip(&plan.gpus).filter(|(gpu, _)| gpu.kind == DeviceKind::Integrated);
    let taken: u64 = shared.map(|(_, share)| share.with_context(plan.context)).sum();
    let main = machine.main.unwrap_or(u64::MAX).saturating_sub(taken);
    let usable = |gpu: &Device| usable(gpu, machine.main).unwrap_or(ENOUGH);
    let room = |(gpu, share): (&Device, &Share)| share.tokens_in(usable(gpu)).unwrap_or(0);
    let on_gpus = machine.gpus.iter().zip(&plan.gpus).filter(|(_, share)| share.weights > 0).map(room).min();
    let here = plan.main.tokens_in(main)?.min(on_gpus.unwrap_or(usize::MAX));
    let kv_per_token = plan.main.kv_per_token + plan.gpus.iter().map(|share| share.kv_per_token).sum::<f64>();
    let aside = Share { kv_per_token, ..plan.main }.tokens_in(main);
    Some(here.max(aside.unwrap_or(0)))
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
