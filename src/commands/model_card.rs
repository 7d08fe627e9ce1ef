//! The headers of a model → everything that `fireside show` says about it, as text and as JSON.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::list;
use crate::chat::Settings;
use crate::gguf::{self, Header};
use crate::models::about::{About, count};
use crate::models::fit::{available_memory, planned};
use crate::models::licences::Openness;
use crate::models::memory::Needs;
use crate::models::plan::{Plan, whereabouts};
use crate::models::share::Share;
use crate::models::{self, Device, Supports};
use crate::units::size;

/// Context sizes whose memory is shown, besides the trained one.
const CONTEXTS: [u32; 4] = [2048, 8192, 32_768, 131_072];
/// Shown for every model: people confuse open weights with open source.
const WEIGHTS: &str = "Open weights are the trained parameters only: the code and the data they were made with need not be \
                       public.";

/// The contents of the summary.
pub(super) struct ModelCard {
    name: String,
    path: String,
    about: About,
    /// Why the model cannot be used.
    problem: Option<String>,
    sizes: Vec<(&'static str, u64)>,
    context_reason: Option<String>,
    vocabulary: (String, usize),
    types: Vec<(&'static str, u64)>,
    supports: Option<Supports>,
    /// The names of the named chat templates.
    templates: Vec<String>,
    sampling: Vec<(String, String, &'static str)>,
    needs: Needs,
    available: Option<u64>,
    /// The GPUs, and what goes where; an error says what the settings have wrong.
    plan: Result<(Vec<Device>, Plan), String>,
    openness: Openness,
    file_size: u64,
}

/// The catalogue's name for the file, else its own.
fn name(header: &Header) -> String {
    let known = models::entry_of(&header.path).map(|entry| entry.title.as_str());
    known.or(header.str("general.name")).or(header.architecture()).unwrap_or("a model").to_string()
}

impl ModelCard {
    /// `headers`: the headers of all parts, in order.
    pub(super) fn of(headers: &[Header], settings: &Settings, path: String) -> ModelCard {
        let header = &headers[0];
        let about = About::of(header);
        let numbers = [
            ("layers", "block_count"),
            ("embedding length", "embedding_length"),
            ("heads", "attention.head_count"),
            ("key/value heads", "attention.head_count_kv"),
            ("experts", "expert_count"),
            ("experts used", "expert_used_count"),
            ("sliding window", "attention.sliding_window"),
        ];
        let most = |key: &str| header.arch_uints(key).and_then(|numbers| numbers.into_iter().max());
        let sizes = numbers.iter().filter_map(|(name, key)| Some((*name, most(key).filter(|n| *n > 0)?)));
        let mut types: BTreeMap<&'static str, u64> = BTreeMap::new();
        for tensor in headers.iter().flat_map(|header| &header.tensors) {
            *types.entry(gguf::type_name(tensor.kind)).or_default() += tensor.bytes;
        }
        let mut types: Vec<(&str, u64)> = types.into_iter().collect();
        types.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
        let sampling = models::advice_of(header).into_iter();
        ModelCard {
            name: name(header),
            path,
            problem: gguf::check(header).err().map(|refusal| refusal.to_string()),
            sizes: sizes.collect(),
            context_reason: gguf::memory::context_reason(header).map(String::from),
            vocabulary: (
                header.str("tokenizer.ggml.model").unwrap_or("none").to_string(),
                header.array_len("tokenizer.ggml.tokens").unwrap_or(0),
            ),
            types,
            supports: models::own_template(header).ok().flatten().and_then(models::supports),
            templates: models::template_names(header).into_iter().map(String::from).collect(),
            sampling: sampling.map(|a| (a.setting.name.to_string(), a.value, a.source.name())).collect(),
            needs: Needs::of(header, settings.cache_type_k, settings.cache_type_v),
            available: available_memory(),
            plan: planned(headers, settings).map_err(|error| error.to_string()),
            openness: about.openness(),
            file_size: headers.iter().map(|header| header.file_size).sum(),
            about,
        }
    }

    /// The card of a remote file, whose size and licence come from the hub.
    pub(super) fn of_remote(mut self, size: u64, licence: Option<&str>) -> ModelCard {
        self.about.licences.extend(licence.map(String::from));
        self.openness = self.about.openness();
        self.needs.weights = self.needs.weights.max(size);
        self.about.weights = self.needs.weights;
        if size > self.file_size {
            self.plan = Err("the header of the first part says too little".into());
        }
        self.file_size = size;
        // Do not report missing parts, which are remote as well.
        self.problem = self.problem.filter(|_| self.about.family.is_empty());
        self
    }

    fn contexts(&self) -> Vec<u32> {
        let trained = self.about.context;
        let mut contexts: Vec<u32> =
            CONTEXTS.into_iter().filter(|n| trained.is_none_or(|t| *n < t)).chain(trained).collect();
        contexts.sort_unstable();
        contexts
    }

    pub(super) fn text(&self) -> String {
        let about = &self.about;
        let mut lines = vec![self.name.clone(), format!("  {}", self.path), String::new()];
        let mut row = |name: &str, value: String| {
            if !value.is_empty() {
                lines.push(format!("{name:18}{value}"));
            }
        };
        row("problem", self.problem.clone().unwrap_or_default());
        row("architecture", about.family.clone());
        row("parameters", count(about.parameters));
        self.sizes.iter().for_each(|(name, n)| row(name, n.to_string()));
        row("context", about.context.map_or("unknown".into(), |tokens| format!("{tokens} tokens")));
        row("", self.context_reason.clone().unwrap_or_default());
        row("vocabulary", format!("{} tokens ({})", self.vocabulary.1, self.vocabulary.0));
        let total = self.types.iter().map(|(_, bytes)| bytes).sum::<u64>().max(1);
        let share = |bytes: u64| bytes as f64 * 100.0 / total as f64;
        let types = self.types.iter().map(|(name, bytes)| format!("{name} {:.1} %", share(*bytes)));
        row("quantisation", format!("{}: {}", about.quantisation, types.collect::<Vec<_>>().join(", ")));
        row("file", size(self.file_size));
        row("chat template", self.template());
        if !self.templates.is_empty() {
            row("", format!("by name: {}", self.templates.join(", ")));
        }
        row("", format!("--chat-template takes a file or {}", models::builtin_templates().join(" ")));
        let advice = self.sampling.iter().map(|(name, value, source)| format!("{name} {value} ({source})"));
        row("recommended", advice.collect::<Vec<_>>().join(", "));
        lines.push(String::new());
        lines.extend(self.memory());
        lines.push(String::new());
        let licence = self.openness.licence.as_deref().unwrap_or("none named");
        lines.push(format!("{:18}{licence}: {}", "licence", self.openness.kind.explained()));
        lines.push(format!("{:18}{}", "", self.openness.meaning));
        lines.push(WEIGHTS.into());
        lines.join("\n")
    }

    fn template(&self) -> String {
        let Some(supports) = self.supports else {
            return match self.about.chats {
                true if self.templates.is_empty() => "cannot be read".into(),
                true => "named ones only".into(),
                false => "none: a base model".into(),
            };
        };
        let one = |name: &str, yes| format!("{name} {}", if yes { "yes" } else { "no" });
        let Supports { system, thinking, tools } = supports;
        [one("system", system), one("thinking", thinking), one("tools", tools)].join(", ")
    }

    fn memory(&self) -> Vec<String> {
        let mut lines =
            vec![format!("{:18}{} for weights and compute buffers", "memory", size(self.needs.fixed()))];
        for context in self.contexts() {
            let (kv, all) = (self.needs.kv(context as usize), self.needs.with_context(context as usize));
            let fits = match self.available {
                Some(available) if all > available => "  does not fit",
                Some(_) => "  fits",
                None => "",
            };
            lines.push(format!(
                "{:18}{:>7} tokens of context: {:>9} more, {:>9} in total{fits}",
                "",
                context,
                size(kv),
                size(all)
            ));
        }
        if let Some(available) = self.available {
            let fits = match self.problem {
                Some(_) => "no, see the problem above".to_string(),
                None => list::fits(self.about.fit(available)),
            };
            let free = size(available);
            lines.push(format!("{:18}{free} free on this machine now; it fits: {fits}", ""));
        }
        let read = self.plan.as_ref().map_or(0, |(_, plan)| plan.read());
        if read > 0 {
            let most = 1e11 / read as f64;
            let (read, digits) = (size(read), usize::from(most < 9.95));
            let bound = format!("at most {most:.digits$} tokens/s for each 100 GB/s of bandwidth");
            lines.push(format!("{:18}{read} of weights read per token: {bound}", ""));
        }
        match &self.plan {
            Ok((gpus, plan)) if !gpus.is_empty() => {
                lines.push(format!("{:18}{}: {}", "", whereabouts(gpus), plan.placed()));
                let share = |((gpu, share), layers): ((&Device, &Share), &u32)| {
                    let bytes = size(share.with_context(plan.context));
                    let layers =
                        if gpus.len() > 1 { format!("{layers} of the layers, ") } else { String::new() };
                    let (name, read) = (models::name(gpu), size(share.read));
                    let free =
                        if gpu.total > 0 { format!(" of {} free", size(gpu.free)) } else { String::new() };
                    format!("{:18}{name}: {layers}{bytes}{free}, {read} read per token", "")
                };
                lines.extend(gpus.iter().zip(&plan.gpus).zip(&plan.split).map(share));
                let (main, read) = (size(plan.main.with_context(plan.context)), size(plan.main.read));
                let context = format!("for {} tokens of context", plan.context);
                lines.push(format!("{:18}main memory: {main}, {context}; {read} read per token", ""));
                lines.extend(plan.reason.iter().map(|why| format!("{:18}the whole model {why}", "")));
            }
            Ok(_) => {}
            Err(why) => lines.push(format!("{:18}{why}", "")),
        }
        lines
    }

    pub(super) fn json(&self) -> Value {
        let about = &self.about;
        let contexts = self.contexts();
        let memory = contexts.iter().map(|n| {
            json!({"context": n, "kv": self.needs.kv(*n as usize), "total": self.needs.with_context(*n as usize)})
        });
        let mut object = json!({
            "name": self.name,
            "path": self.path,
            "problem": self.problem,
            "architecture": about.family,
            "parameters": about.parameters,
            "context": about.context,
            "vocabulary": { "tokenizer": self.vocabulary.0, "tokens": self.vocabulary.1 },
            "quantisation": about.quantisation,
            "types": self.types.iter().map(|(name, bytes)| (name.to_string(), json!(bytes))).collect::<Map<_, _>>(),
            "size": self.file_size,
            "chat_template": about.chats,
            "chat_templates": self.templates,
            "builtin_templates": models::builtin_templates(),
            "supports": self.supports.map(|s| json!({"system": s.system, "thinking": s.thinking, "tools": s.tools})),
            "sampling": self.sampling.iter().map(|(name, value, _)| (name.clone(), json!(value))).collect::<Map<_, _>>(),
            "memory": {
                "weights": self.needs.weights,
                "fixed": self.needs.fixed(),
                "available": self.available,
                "contexts": memory.collect::<Vec<_>>(),
                "plan": self.plan.as_ref().ok().map(plan_object),
            },
            "openness": self.openness,
        });
        for (name, number) in &self.sizes {
            object[name.replace([' ', '/'], "_")] = json!(number);
        }
        object
    }
}

fn plan_object((gpus, plan): &(Vec<Device>, Plan)) -> Value {
    let object = |name: &str, share: &Share, layers: u32| {
        let kv = share.with_context(plan.context) - share.weights - share.compute;
        json!({
            "name": name, "layers": layers, "weights": share.weights, "read": share.read, "kv": kv,
            "compute": share.compute,
        })
    };
    let layers = plan.split.iter().copied();
    let gpus = gpus.iter().zip(&plan.gpus).zip(layers);
    let gpus = gpus.map(|((gpu, share), layers)| object(&gpu.name, share, layers));
    let main = object("main memory", &plan.main, plan.layers - plan.gpu_layers);
    json!({
        "context": plan.context,
        "gpu_layers": plan.gpu_layers,
        "layers": plan.layers,
        "cpu_experts": plan.cpu_experts,
        "devices": gpus.chain([main]).collect::<Vec<_>>(),
        "reason": plan.reason,
    })
}
