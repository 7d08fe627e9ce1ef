//! The bytes of a model's layers, the memory of the devices and the settings → a [`Plan`]: what goes where.
//!
//! Pure: it neither loads nor asks a device. The GPUs get as many layers as fit, the last ones first; of a
//! mixture of experts all layers, the experts of the first ones left out. What is set by the user stays as it
//! is. On each device a share of what is free stays unused: drivers need some of it, and other programs grow.

use super::share::Share;
use crate::chat::Settings;
use crate::chat::settings::{Auto, CtxSize, SplitMode};
use crate::engine::llama::{ContextOptions, Device, DeviceKind, GpuPart, Part, Room};
use crate::gguf::layers::{Evaluation, Layers};
use crate::units::size;

/// The share of a GPU's free memory that stays unused, and the most of it in bytes: llama.cpp's margin.
const MARGIN_SHARE: u64 = 8;
const MOST_MARGIN: u64 = 1 << 30;
/// Free memory counts in steps of this share of all, at most so many bytes, so that small changes do not change the
/// plan.
const STEPS: u64 = 64;
const LARGEST_STEP: u64 = 256 << 20;
/// The context that is planned for if the user names none, in tokens: longer ones grow where there is room.
const CONTEXT: usize = 8192;

/// llama.cpp rounds contexts up to a multiple of this.
const CONTEXT_STEP: usize = 256;
/// Bytes that every model fits into: of a device whose free memory is unknown.
pub(super) const ENOUGH: u64 = 1 << 50;
/// llama.cpp's name of the CPU as a device.
pub(super) const CPU: &str = "CPU";

/// The memory that there is, and the batches that are evaluated.
#[derive(Debug, Clone, Copy)]
pub struct Machine<'a> {
    pub gpus: &'a [Device],
    /// Free main memory in bytes, if known.
    pub main: Option<u64>,
    pub batch: usize,
}

/// What goes where.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Layers on GPUs, the output included, the last ones first; and how many there are.
    pub gpu_layers: u32,
    pub layers: u32,
    /// In how many of the first layers the experts stay in main memory.
    pub cpu_experts: u32,
    /// Whether some weights of layers may be in main memory.
    aside: bool,
    /// The rows of a batch that may have logits: GPUs that have all of the model verify longer drafts, if there is room.
    pub outputs: usize,
    /// Whether there are experts.
    pub mixture: bool,
    /// The layers of each GPU.
    pub split: Vec<u32>,
    /// Each GPU's share, and the rest's.
    pub gpus: Vec<Share>,
    pub main: Share,
    /// The tokens of context that the plan counts with.
    pub context: usize,
    /// Bytes of compute buffers, on each device, per token of context.
    pub compute_per_token: f64,
    /// Why not all is on the GPUs, or what does not fit.
    pub reason: Option<String>,
}

impl Plan {
    /// Where the layers are, for people.
    pub fn placed(&self) -> String {
        let layers = format!("{} of {} layers", self.gpu_layers, self.layers);
        match self.cpu_experts {
            0 => layers,
            experts => format!("{layers}, experts of {experts} in main memory"),
        }
    }

    /// How much of the model is on GPUs, in a word.
    pub fn extent(&self) -> &'static str {
        match self.gpu_layers {
            0 => "none",
            _ if self.aside => "part",
            _ => "all",
        }
    }

    /// The same for finding out how many tokens fit: without flash attention, each takes more of the compute buffers.
    pub fn with_scores(&self, settings: &Settings) -> Plan {
        let mut plan = self.clone();
        if settings.flash_attn == Auto::Off {
            let shares = plan.gpus.iter_mut().chain([&mut plan.main]).filter(|share| share.compute > 0);
            shares.for_each(|share| *share = share.computing(self.compute_per_token, self.context));
        }
        plan
    }

    /// Those of its GPUs that have weights.
    pub fn used<'a>(&'a self, gpus: &'a [Device]) -> impl Iterator<Item = &'a Device> {
        gpus.iter().zip(&self.gpus).filter(|(_, share)| share.weights > 0).map(|(gpu, _)| gpu)
    }

    /// The device that evaluates all layers, by name, if one does; workers are not counted.
    pub fn only_device<'a>(&'a self, gpus: &'a [Device]) -> Option<&'a str> {
        let mut used = self.used(gpus);
        match (used.next(), used.next()) {
            (None, _) => Some(CPU),
            (Some(gpu), None) if !self.aside && gpu.kind != DeviceKind::Lent => Some(&gpu.name),
            _ => None,
        }
    }

    /// Whether each batch copies weights from main memory to one of these GPUs: llama.cpp's `op_offload`, which
    /// workers lack.
    pub fn copies_weights(&self, gpus: &[Device]) -> bool {
        self.gpu_layers > 0 && self.aside && gpus.iter().any(|gpu| gpu.kind != DeviceKind::Lent)
    }

    /// Bytes of weights that decoding one token reads, on all devices.
    pub fn read(&self) -> u64 {
        self.gpus.iter().chain([&self.main]).map(|share| share.read).sum()
    }

    /// What a context takes of main memory and of each of the GPUs. `free`: asks main memory.
    pub fn room(&self, gpus: &[Device], free: fn() -> Option<u64>) -> Room {
        let computing = (self.compute_per_token * self.context as f64) as u64;
        let part = |share: &Share| Part {
            compute: share.compute.saturating_sub(computing),
            compute_per_token: self.compute_per_token,
            state: share.state,
            kv_per_token: share.kv_per_token,
        };
        let of = |(gpu, share): (&Device, &Share)| GpuPart {
            gpu: gpu.name.clone(),
            shared: gpu.kind == DeviceKind::Integrated,
            part: part(share),
        };
        let used = gpus.iter().zip(&self.gpus).filter(|(_, share)| share.weights > 0);
        Room { gpus: used.map(of).collect(), main: part(&self.main), free }
    }

    /// One line if not all of the model is on GPUs because it does not fit.
    pub fn partly(&self, gpus: &[Device]) -> Option<String> {
        let reason = self.reason.as_ref()?;
        Some(format!("{}: {}; the whole model {reason}", whereabouts(gpus), self.placed()))
    }
}

/// Where layers are that are on one of these devices, for people.
pub fn whereabouts(gpus: &[Device]) -> &'static str {
    match gpus.iter().filter(|gpu| gpu.kind == DeviceKind::Lent).count() {
        0 => "on the GPU",
        lent if lent == gpus.len() => "on workers",
        _ => "on the GPU and workers",
    }
}

/// The free memory of a GPU that a plan may use, in bytes, if known. An integrated GPU has no more than main memory,
/// of which `main` is free.
pub fn usable(gpu: &Device, main: Option<u64>) -> Option<u64> {
    let step = (gpu.total / STEPS).clamp(1, LARGEST_STEP);
    let free = gpu.free - gpu.free % step;
    let own = (gpu.total > 0).then(|| free - (free / MARGIN_SHARE).min(MOST_MARGIN));
    let shared = main.filter(|_| gpu.kind == DeviceKind::Integrated).map(|main| main - main / MARGIN_SHARE);
    own.into_iter().chain(shared).min()
}

/// What a plan chooses from.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    gpu_layers: u32,
    cpu_experts: u32,
}

/// The tokens of context to plan for; `limit`: the most that the model or the user allows.
pub fn planned_context(settings: &Settings, limit: usize) -> usize {
    if settings.ctx_size == CtxSize::Auto { limit.min(CONTEXT) } else { limit }
}

/// Plans for a context of `context` tokens.
pub fn plan(model: &Layers, machine: Machine, settings: &Settings, context: usize) -> Plan {
    let context = context.next_multiple_of(CONTEXT_STEP);
    let planner = Planner { model, machine, settings, context, outputs: ContextOptions::OUTPUTS };
    let layers = model.layers.len() as u32;
    let all = if machine.gpus.is_empty() { 0 } else { layers + 1 };
    let most_experts = if model.has_experts() { layers } else { 0 };
    let given_experts = if settings.cpu_moe { Some(layers) } else { settings.n_cpu_moe };
    let given_experts = given_experts.map(|count| count.min(most_experts));
    let given = |layers: u32| layers.min(all);
    let whole = Candidate {
        gpu_layers: settings.gpu_layers.map_or(all, given),
        cpu_experts: given_experts.unwrap_or(0),
    };
    let roomy = Planner { outputs: ContextOptions::OUTPUTS_ON_GPU, ..planner };
    if let Some(plan) = Some(roomy.placed(whole)).filter(|plan| !plan.aside && roomy.fits(plan)) {
        return plan;
    }
    let first = planner.placed(whole);
    if !settings.fit || planner.fits(&first) {
        return first;
    }
    let all_experts = given_experts.unwrap_or(most_experts);
    let experts = (whole.cpu_experts..=all_experts).map(|cpu_experts| Candidate { cpu_experts, ..whole });
    let fewer = (0..whole.gpu_layers).rev().filter(|_| settings.gpu_layers.is_none());
    let fewer = fewer.map(|gpu_layers| Candidate { gpu_layers, cpu_experts: all_experts });
    let found = experts.chain(fewer).map(|candidate| planner.placed(candidate)).find(|p| planner.fits(p));
    let reason = planner.reason(&first);
    Plan { reason: Some(reason), ..found.unwrap_or(first) }
}

#[derive(Clone, Copy)]
struct Planner<'a> {
    model: &'a Layers,
    machine: Machine<'a>,
    settings: &'a Settings,
    context: usize,
    outputs: usize,
}

impl Planner<'_> {
    /// Whether each GPU has room for its share.
    fn fits(&self, plan: &Plan) -> bool {
        let room = |(gpu, share): (&Device, &Share)| share.with_context(plan.context) <= self.usable(gpu);
        self.machine.gpus.iter().zip(&plan.gpus).all(room)
    }

    fn usable(&self, gpu: &Device) -> u64 {
        usable(gpu, self.machine.main).unwrap_or(ENOUGH)
    }

    /// What is where.
    fn placed(&self, candidate: Candidate) -> Plan {
        let Planner { model, machine, .. } = self;
        let layers = model.layers.len() as u32;
        let first = layers + 1 - candidate.gpu_layers;
        let split = self.split(candidate, first);
        let mut gpus = vec![Share::default(); machine.gpus.len()];
        let mut main = Share { weights: model.input, ..Share::default() };
        let owner = |layer: u32| -> Option<usize> {
            let mut place = layer.checked_sub(first)?;
            split.iter().position(|count| place.checked_sub(*count).map(|rest| place = rest).is_none())
        };
        for (n, layer) in (0..).zip(&model.layers) {
            let aside = if n < candidate.cpu_experts { layer.experts } else { 0 };
            main.add(aside, model.used(aside));
            let gpu = owner(n);
            let share = gpu.map_or(&mut main, |gpu| &mut gpus[gpu]);
            let experts = layer.experts - aside;
            share.add(layer.weights + experts, layer.weights + model.used(experts));
            let share = if self.settings.no_kv_offload { &mut main } else { share };
            share.kv_per_token += layer.kv_per_token;
            share.state += layer.state;
        }
        match owner(layers) {
            Some(gpu) => gpus[gpu].add(model.output, model.output),
            None if model.shared => main.add(0, model.output), // the embeddings are there already
            None => main.add(model.output, model.output),
        }
        for tensor in &model.pinned {
            let gpu = machine.gpus.iter().position(|gpu| gpu.name == tensor.place);
            gpu.map_or(&mut main, |gpu| &mut gpus[gpu]).add(tensor.bytes, tensor.read);
        }
        self.spread_rows(&mut gpus);
        let compute = self.compute();
        // Large batches are evaluated on a GPU even where the weights are in main memory, and copied for it.
        let aside =
            candidate.gpu_layers < layers + 1 || candidate.cpu_experts > 0 || !model.pinned.is_empty();
        let copied = if aside { 2 * model.largest } else { 0 };
        for gpu in gpus.iter_mut().filter(|gpu| gpu.weights > 0) {
            gpu.compute = compute + copied;
        }
        main.compute = compute;
        Plan {
            gpu_layers: candidate.gpu_layers,
            layers: layers + 1,
            cpu_experts: candidate.cpu_experts,
            aside,
            outputs: self.outputs,
            mixture: model.has_experts(),
            split,
            gpus,
            main,
            context: self.context,
            compute_per_token: self.compute_per_token(),
            reason: None,
        }
    }

    /// The compute buffer of each device for the planned context, in bytes.
    fn compute(&self) -> u64 {
        self.compute_for(self.context)
    }

    fn compute_per_token(&self) -> f64 {
        const LONG: usize = 1 << 20; // from there on it is proportional
        (self.compute_for(2 * LONG) - self.compute_for(LONG)) as f64 / LONG as f64
    }

    fn compute_for(&self, context: usize) -> u64 {
        self.model.compute(Evaluation {
            context,
            batch: self.machine.batch,
            outputs: self.outputs,
            flash: self.settings.flash_attn != Auto::Off,
        })
    }

    /// With rows split, each GPU has a part of every matrix.
    fn spread_rows(&self, gpus: &mut [Share]) {
        if self.settings.split_mode != SplitMode::Row {
            return;
        }
        let weights: u64 = gpus.iter().map(|share| share.weights).sum();
        let read: u64 = gpus.iter().map(|share| share.read).sum();
        let shares = self.shares();
        for (gpu, part) in gpus.iter_mut().zip(shares) {
            gpu.weights = (weights as f64 * part) as u64;
            gpu.read = (read as f64 * part) as u64;
        }
    }

    /// The part of each GPU: the user's, or by usable memory.
    fn shares(&self) -> Vec<f64> {
        let free = || self.machine.gpus.iter().map(|gpu| self.usable(gpu) as f64).collect();
        let given: Vec<f64> = self.settings.tensor_split.iter().map(|share| f64::from(*share)).collect();
        let mut parts: Vec<f64> = if given.is_empty() { free() } else { given };
        parts.resize(self.machine.gpus.len(), 0.0);
        let all: f64 = parts.iter().sum();
        parts.iter().map(|part| if all > 0.0 { part / all } else { 0.0 }).collect()
    }

    /// The number of layers that each GPU has, of which `first` is the first one.
    fn split(&self, candidate: Candidate, first: u32) -> Vec<u32> {
        let gpus = self.machine.gpus.len();
        let count = candidate.gpu_layers;
        let mut split = vec![0; gpus];
        match self.settings.split_mode {
            _ if gpus == 0 => {}
            SplitMode::Layer if gpus > 1 && self.settings.tensor_split.is_empty() => {
                return self.balanced(candidate, first);
            }
            SplitMode::Layer => {
                // llama.cpp's rule: a layer belongs to the first GPU whose part, summed up, is beyond it.
                let mut sum = 0.0;
                let ends: Vec<f64> = self.shares().iter().map(|part| (sum += part, sum).1).collect();
                for layer in 0..count {
                    let place = f64::from(layer) / f64::from(count);
                    split[ends.iter().position(|end| place < *end).unwrap_or(gpus - 1)] += 1;
                }
            }
            SplitMode::None | SplitMode::Row => {
                split[(self.settings.main_gpu as usize).min(gpus - 1)] = count;
            }
        }
        split
    }

    /// Fills the GPUs one after the other, each to the same part of its memory, the smallest with which all
    /// layers have a place.
    fn balanced(&self, candidate: Candidate, first: u32) -> Vec<u32> {
        let (model, compute) = (self.model, self.compute());
        let bytes = |n: u32| match model.layers.get(n as usize) {
            None => model.output,
            Some(layer) => {
                let aside = if n < candidate.cpu_experts { layer.experts } else { 0 };
                let kv = if self.settings.no_kv_offload { 0.0 } else { layer.kv_per_token };
                layer.weights + layer.experts - aside + layer.state + (kv * self.context as f64) as u64
            }
        };
        let layers: Vec<u64> = (first..first + candidate.gpu_layers).map(bytes).collect();
        let copied = 2 * model.largest;
        let filled = |part: u64| {
            let mut left = layers.iter().peekable();
            let fill = |gpu: &Device| {
                let mut room = (self.usable(gpu).saturating_sub(compute + copied)) / 100 * part;
                let mut count = 0;
                while let Some(bytes) = left.next_if(|bytes| **bytes <= room) {
                    room -= bytes;
                    count += 1;
                }
                count
            };
            let split: Vec<u32> = self.machine.gpus.iter().map(fill).collect();
            (split, left.len() as u32)
        };
        let (mut split, left) =
            (1..=100).map(filled).find(|(_, left)| *left == 0).unwrap_or_else(|| filled(100));
        *split.last_mut().expect("there are several GPUs") += left;
        split
    }

    /// Why a plan does not fit.
    fn reason(&self, plan: &Plan) -> String {
        let needed: u64 = plan.gpus.iter().map(|share| share.with_context(plan.context)).sum();
        let usable: u64 = self.machine.gpus.iter().map(|gpu| self.usable(gpu)).sum();
        let names: Vec<&str> = self.machine.gpus.iter().map(|gpu| gpu.name.as_str()).collect();
        format!("needs {} there, and {} of {} can be used", size(needed), size(usable), names.join(" and "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gguf::layers::Layer;

    const MIB: u64 = 1 << 20;

    /// Ten layers of 100 MiB, of which `experts` MiB are experts', and an output of 50.
    fn model(experts: u64) -> Layers {
        let weights = (100 - experts) * MIB;
        let layer = Layer { weights, experts: experts * MIB, kv_per_token: 1024.0, state: 0 };
        let mut model = Layers::default();
        (model.input, model.layers, model.output) = (50 * MIB, vec![layer; 10], 50 * MIB);
        model
    }

    fn gpu(name: &str, free: u64) -> Device {
        let kind = DeviceKind::Gpu;
        let (free, total) = (free * MIB, free * MIB);
        Device { name: name.into(), description: name.into(), kind, free, total, hardware: None }
    }

    fn planned(model: &Layers, gpus: &[Device], settings: &Settings) -> Plan {
        let machine = Machine { gpus, main: Some(64 << 30), batch: 64 };
        let plan = plan(model, machine, settings, 1024);
        if settings.fit && settings.gpu_layers.is_none() {
            for (gpu, share) in gpus.iter().zip(&plan.gpus) {
                assert!(share.with_context(1024) <= usable(gpu, None).unwrap(), "{plan:#?}");
            }
        }
        let weights: u64 = plan.gpus.iter().chain([&plan.main]).map(|share| share.weights).sum();
        assert_eq!(weights, 1100 * MIB, "nothing is lost or counted twice");
        plan
    }

    #[test]
    fn as_many_layers_as_fit_are_on_the_gpu_the_last_ones_first() {
        let settings = Settings::default();
        let with = |free| planned(&model(0), &[gpu("A", free)], &settings);
        assert_eq!((with(2000).gpu_layers, with(2000).reason), (11, None));
        let partly = with(700);
        assert_eq!((partly.gpu_layers, partly.main.weights), (6, 550 * MIB));
        assert_eq!(partly.gpus[0].weights, 550 * MIB, "the output and five layers");
        assert!(
            partly
                .partly(&[gpu("A", 700)])
                .unwrap()
                .starts_with("on the GPU: 6 of 11 layers; the whole model needs")
        );
        assert_eq!(with(1).gpu_layers, 0);
        assert_eq!(planned(&model(0), &[], &settings).main.weights, 1100 * MIB);
    }

    #[test]
    fn experts_leave_the_gpu_before_layers_do() {
        let settings = Settings::default();
        let with = |free| planned(&model(80), &[gpu("A", free)], &settings);
        assert_eq!((with(2000).gpu_layers, with(2000).cpu_experts), (11, 0));
        let some = with(700);
        assert_eq!((some.gpu_layers, some.cpu_experts), (11, 6));
        assert_eq!(some.main.weights, (50 + 6 * 80) * MIB);
        assert_eq!(some.placed(), "11 of 11 layers, experts of 6 in main memory");
        let few = with(200);
        assert_eq!((few.gpu_layers < 11, few.cpu_experts), (true, 10));
        let mut sparse = model(80);
        sparse.used_experts = 0.125;
        let some = planned(&sparse, &[gpu("A", 700)], &settings);
        assert_eq!(some.main.read, 6 * 10 * MIB, "six layers use an eighth of their experts");
        assert_eq!(some.gpus[0].read, (50 + 10 * 20 + 4 * 10) * MIB);
        assert_eq!(some.read(), 350 * MIB);
    }

    #[test]
    fn what_the_user_set_stays() {
        let of = |settings: Settings, free| planned(&model(80), &[gpu("A", free)], &settings);
        let layers = Settings { gpu_layers: Some(11), n_cpu_moe: Some(2), ..Settings::default() };
        let plan = of(layers, 100);
        assert_eq!((plan.gpu_layers, plan.cpu_experts), (11, 2));
        assert!(plan.reason.is_some());
        let plan = of(Settings { cpu_moe: true, ..Settings::default() }, 2000);
        assert_eq!((plan.gpu_layers, plan.cpu_experts), (11, 10));
        let plan = of(Settings { fit: false, ..Settings::default() }, 100);
        assert_eq!((plan.gpu_layers, plan.cpu_experts), (11, 0));
        let plan = of(Settings { no_kv_offload: true, ..Settings::default() }, 2000);
        assert_eq!((plan.main.kv_per_token, plan.gpus[0].kv_per_token), (10_240.0, 0.0));
        assert_eq!(
            of(Settings { gpu_layers: Some(0), ..Settings::default() }, 2000).main.weights,
            1100 * MIB
        );
    }

    #[test]
    fn several_gpus_share_by_what_they_have() {
        let gpus = [gpu("A", 1000), gpu("B", 500)];
        let plan = planned(&model(0), &gpus, &Settings::default());
        assert_eq!((plan.gpu_layers, plan.split.iter().sum::<u32>()), (11, 11));
        assert!(plan.split[0] > plan.split[1] && plan.split[1] > 0, "{:?}", plan.split);
        let given = Settings { tensor_split: vec![1.0, 3.0], fit: false, ..Settings::default() };
        assert_eq!(planned(&model(0), &gpus, &given).split, [3, 8], "as llama.cpp rounds");
        let row = Settings { split_mode: SplitMode::Row, main_gpu: 1, fit: false, ..Settings::default() };
        let plan = planned(&model(0), &gpus, &row);
        assert_eq!((plan.split[..].to_vec(), plan.gpus[0].kv_per_token), (vec![0, 11], 0.0));
        assert!(plan.gpus[0].weights > plan.gpus[1].weights);
    }

    #[test]
    fn an_integrated_gpu_has_no_more_than_main_memory() {
        let mut shared = gpu("A", 100_000);
        shared.kind = DeviceKind::Integrated;
        let gpus = [shared];
        let machine = Machine { gpus: &gpus, main: Some(700 * MIB), batch: 64 };
        assert!(plan(&model(0), machine, &Settings::default(), 1024).gpu_layers < 11);
    }

    #[test]
    fn a_driver_that_says_nothing_stands_in_the_way_of_nothing() {
        for (kind, some) in [(DeviceKind::Gpu, None), (DeviceKind::Integrated, Some(800 * MIB))] {
            let silent = Device { kind, ..gpu("A", 0) };
            assert_eq!(silent.free_beside(Some(800 * MIB)), some);
            assert_eq!(usable(&silent, Some(800 * MIB)), some.map(|_| 700 * MIB));
            assert_eq!(usable(&silent, None), None);
            let machine = Machine { gpus: &[silent], main: None, batch: 64 };
            assert_eq!(plan(&model(0), machine, &Settings::default(), 1024).gpu_layers, 11);
        }
        let shared = Device { kind: DeviceKind::Integrated, ..gpu("A", 500) };
        assert_eq!(shared.free_beside(Some(800 * MIB)), Some(500 * MIB));
        assert_eq!(shared.free_beside(Some(300 * MIB)), Some(300 * MIB));
    }

    #[test]
    fn weights_beside_a_gpu_are_copied_to_it_in_every_batch() {
        let local = |free| [gpu("A", free)];
        let of = |experts, gpus: &[Device], settings: &Settings| {
            let plan = planned(&model(experts), gpus, settings);
            (plan.extent(), plan.copies_weights(gpus))
        };
        let settings = Settings::default();
        assert_eq!(of(0, &local(2000), &settings), ("all", false));
        assert_eq!(of(0, &local(700), &settings), ("part", true));
        assert_eq!(of(80, &local(700), &settings), ("part", true), "experts");
        assert_eq!(of(0, &local(1), &settings), ("none", false));
        assert_eq!(of(0, &[], &settings), ("none", false));
        let worker = [Device { kind: DeviceKind::Lent, ..gpu("A", 700) }];
        assert_eq!(of(0, &worker, &settings), ("part", false), "a worker gets no copies");
    }
}
