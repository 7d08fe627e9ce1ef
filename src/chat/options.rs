//! Every setting a person can make, in one table: its name, what it takes, what it means, how it is read and shown.
//!
//! The table drives the flags, the environment (`FIRESIDE_…`), the config file, `/set`, Tab completion, `--json`'s
//! `sampling` and the README. Values arrive as text and end in [`Settings`].

mod values;

use std::path::PathBuf;

use self::values::*;
use super::settings::{Auto, CacheType, Overflow, Settings, Stage};

/// The table's groups, in the order of `--help` and of the README.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Group {
    Model,
    Ask,
    Answer,
    Sampling,
    Conversation,
    Output,
    Template,
}

impl Group {
    pub fn heading(self) -> &'static str {
        match self {
            Group::Model => "Model",
            Group::Ask => "Ask",
            Group::Answer => "Answer",
            Group::Sampling => "Sampling",
            Group::Conversation => "Conversation",
            Group::Output => "Output",
            Group::Template => "Template",
        }
    }
}

/// When a change made in a running chat takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// With the next answer.
    Now,
    /// After the model is loaded again, which `/set` does.
    Reload,
    /// Only when the program starts.
    Start,
}

const CACHE_TYPES: &[(&str, CacheType)] = &[
    ("f32", CacheType::F32),
    ("f16", CacheType::F16),
    ("bf16", CacheType::BF16),
    ("q8_0", CacheType::Q8_0),
    ("q5_1", CacheType::Q5_1),
    ("q5_0", CacheType::Q5_0),
    ("q4_1", CacheType::Q4_1),
    ("q4_0", CacheType::Q4_0),
    ("iq4_nl", CacheType::Iq4Nl),
];

const AUTO: &[(&str, Auto)] = &[("auto", Auto::Auto), ("on", Auto::On), ("off", Auto::Off)];
const WHEN: &[(&str, Auto)] = &[("auto", Auto::Auto), ("always", Auto::On), ("never", Auto::Off)];
const STATS: &[(&str, Option<bool>)] = &[
    ("auto", None),
    ("on", Some(true)),
    ("off", Some(false)),
    ("true", Some(true)),
    ("false", Some(false)),
    ("1", Some(true)),
    ("0", Some(false)),
];
const SWITCH: &[(&str, bool)] =
    &[("on", true), ("off", false), ("true", true), ("false", false), ("1", true), ("0", false)];

const OVERFLOW: &[(&str, Option<Overflow>)] = &[
    ("ask", None),
    ("roll", Some(Overflow::Roll)),
    ("compact", Some(Overflow::Compact)),
    ("stop", Some(Overflow::Stop)),
];

/// llama.cpp's names of the stages, and the spellings that its command line takes as well.
const STAGES: &[(&str, Stage)] = &[
    ("penalties", Stage::Penalties),
    ("dry", Stage::Dry),
    ("top_n_sigma", Stage::TopNSigma),
    ("top_k", Stage::TopK),
    ("typ_p", Stage::TypicalP),
    ("top_p", Stage::TopP),
    ("min_p", Stage::MinP),
    ("xtc", Stage::Xtc),
    ("temperature", Stage::Temperature),
    ("top-n-sigma", Stage::TopNSigma),
    ("top-k", Stage::TopK),
    ("typical-p", Stage::TypicalP),
    ("typical", Stage::TypicalP),
    ("typ", Stage::TypicalP),
    ("top-p", Stage::TopP),
    ("nucleus", Stage::TopP),
    ("min-p", Stage::MinP),
    ("temp", Stage::Temperature),
];

type Set = fn(&mut Settings, &str) -> Result<(), String>;
type Get = fn(&Settings) -> String;

/// One row of the table.
#[derive(Debug)]
pub struct Setting {
    /// The long flag, the config key, the name for `/set`; in the environment `FIRESIDE_` and capitals.
    pub name: &'static str,
    pub short: Option<char>,
    /// Other spellings users bring along.
    pub aliases: &'static [&'static str],
    /// What it takes; empty for a switch.
    pub value: &'static str,
    pub group: Group,
    pub help: &'static str,
    pub effect: Effect,
    /// Given more than once it adds to what is there.
    pub repeats: bool,
    /// What the model answers may depend on it.
    pub shapes: bool,
    pub set: Set,
    pub get: Get,
}

impl Setting {
    /// Its value, for people.
    pub fn shown(&self, settings: &Settings) -> String {
        let value = (self.get)(settings);
        if value.is_empty() { "not set".into() } else { value }
    }

    /// All its names.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        [self.name].into_iter().chain(self.aliases.iter().copied())
    }

    /// The name of its environment variable.
    pub fn env(&self) -> String {
        variable(self.name)
    }

    /// That, and the variables of its aliases.
    pub fn variables(&self) -> impl Iterator<Item = String> {
        self.names().map(variable)
    }

    /// Whether `true` and `false` mean something for it.
    pub fn switches(&self) -> bool {
        self.value.is_empty() || self.choices().contains(&"on")
    }

    /// Whether its value is text of any kind: no number, no switch, no choice.
    pub fn takes_text(&self) -> bool {
        let number = |value: &str| matches!(value, "N" | "T" | "K" | "P" | "X");
        !self.switches() && self.choices().is_empty() && !self.value.split('|').any(number)
    }

    /// How its value is written where fireside starts: flag, environment, config file.
    pub fn ways(&self, value: &str) -> String {
        let Setting { name, .. } = self;
        let (flag, line) = match value {
            "on" | "true" | "1" if self.value.is_empty() => (String::new(), "true".to_string()),
            _ if self.value.is_empty() => (format!("={value}"), "false".to_string()),
            _ if self.takes_text() => (format!(" {value}"), format!("{value:?}")),
            _ => (format!(" {value}"), value.to_string()),
        };
        format!("--{name}{flag}, {}={value} or {name} = {line}", self.env())
    }

    /// Values worth offering on Tab.
    pub fn choices(&self) -> Vec<&'static str> {
        if !self.value.contains('|') {
            return Vec::new();
        }
        self.value.split('|').filter(|choice| !choice.contains(char::is_uppercase)).collect()
    }
}

fn variable(name: &str) -> String {
    format!("FIRESIDE_{}", name.to_uppercase().replace('-', "_"))
}

/// The row called `name`, by its name, an alias, or the name with `_` for `-`.
pub fn setting(name: &str) -> Option<&'static Setting> {
    let name = name.replace('_', "-");
    SETTINGS.iter().find(|s| s.name == name || s.aliases.contains(&name.as_str()))
}

const fn row(
    name: &'static str,
    value: &'static str,
    group: Group,
    help: &'static str,
    set: Set,
    get: Get,
) -> Setting {
    let effect = match group {
        Group::Model => Effect::Reload,
        Group::Ask | Group::Conversation | Group::Template => Effect::Start,
        Group::Answer | Group::Sampling | Group::Output => Effect::Now,
    };
    let shapes = matches!(group, Group::Answer | Group::Sampling | Group::Template);
    Setting { name, short: None, aliases: &[], value, group, help, effect, repeats: false, shapes, set, get }
}

impl Setting {
    const fn short(mut self, short: char) -> Setting {
        self.short = Some(short);
        self
    }
    const fn aliases(mut self, aliases: &'static [&'static str]) -> Setting {
        self.aliases = aliases;
        self
    }
    const fn now(mut self) -> Setting {
        self.effect = Effect::Now;
        self
    }
    const fn start(mut self) -> Setting {
        self.effect = Effect::Start;
        self
    }
    const fn reload(mut self) -> Setting {
        self.effect = Effect::Reload;
        self
    }
    const fn repeats(mut self) -> Setting {
        self.repeats = true;
        self
    }
    const fn shapes(mut self) -> Setting {
        self.shapes = true;
        self
    }
}

/// All names of all settings.
pub fn names() -> impl Iterator<Item = &'static str> {
    SETTINGS.iter().flat_map(Setting::names)
}

/// The table.
pub const SETTINGS: &[Setting] = &[
    row("model", "NAME|PATH|hf:OWNER/REPO[:QUANT]", Group::Model, "the model: a name that fireside list shows, a GGUF file, or what fireside pull takes",
        |s, v| text(v).map(|v| s.model = Some(v)), |s| s.model.clone().unwrap_or_default()).short('m').start(),
    row("ctx-size", "N|auto", Group::Model, "tokens of context; auto grows with the conversation, 0 is the model's full context",
        |s, v| ctx_size(v).map(|v| s.ctx_size = v), |s| show_ctx_size(s.ctx_size)).short('c').shapes(),
    row("threads", "N", Group::Model, "threads for writing; one a physical core if not given",
        |s, v| threads(v).map(|v| s.threads = v), |s| or_auto(&s.threads)).short('t').shapes(),
    row("threads-batch", "N", Group::Model, "threads for reading the prompt; as --threads if not given",
        |s, v| threads(v).map(|v| s.threads_batch = v), |s| or_auto(&s.threads_batch)).shapes(),
    row("gpu-layers", "N|auto", Group::Model, "layers to put on the GPU; as many as fit if not given",
        |s, v| gpu_layers(v).map(|v| s.gpu_layers = v), |s| or_auto(&s.gpu_layers)).aliases(&["n-gpu-layers"]).shapes(),
    row("flash-attn", "auto|on|off", Group::Model, "flash attention",
        |s, v| one_of(v, AUTO).map(|v| s.flash_attn = v), |s| name_of(&s.flash_attn, AUTO)).shapes(),
    row("cache-type-k", "TYPE", Group::Model, "element type of the KV cache's keys: f32 f16 bf16 q8_0 q5_1 q5_0 q4_1 q4_0 iq4_nl",
        |s, v| one_of(v, CACHE_TYPES).map(|v| s.cache_type_k = v), |s| name_of(&s.cache_type_k, CACHE_TYPES)).shapes(),
    row("cache-type-v", "TYPE", Group::Model, "element type of the KV cache's values",
        |s, v| one_of(v, CACHE_TYPES).map(|v| s.cache_type_v = v), |s| name_of(&s.cache_type_v, CACHE_TYPES)).shapes(),
    row("no-mmap", "", Group::Model, "read the weights into memory instead of mapping the file",
        |s, v| one_of(v, SWITCH).map(|v| s.no_mmap = v), |s| name_of(&s.no_mmap, SWITCH)),
    row("no-repack", "", Group::Model, "use the weights as the file has them, not laid out anew for this processor",
        |s, v| one_of(v, SWITCH).map(|v| s.no_repack = v), |s| name_of(&s.no_repack, SWITCH)).shapes(),
    row("mlock", "", Group::Model, "keep the weights in memory, never swapped out",
        |s, v| one_of(v, SWITCH).map(|v| s.mlock = v), |s| name_of(&s.mlock, SWITCH)),
    row("no-prompt-cache", "", Group::Model, "read every prompt afresh: keep nothing of what was read on disk, and look for nothing there",
        |s, v| one_of(v, SWITCH).map(|v| s.no_prompt_cache = v), |s| name_of(&s.no_prompt_cache, SWITCH)).start(),
    row("model-folder", "FOLDER", Group::Model, "a further folder to look for models in; may be given several times; none: no further one",
        |s, v| listed(v, &mut s.model_folders, |v| text(v).map(PathBuf::from)), |s| show_paths(&s.model_folders)).start().repeats(),
    row("offline", "", Group::Model, "use what is on this machine only: ask no network for models",
        |s, v| one_of(v, SWITCH).map(|v| s.offline = v), |s| name_of(&s.offline, SWITCH)).start(),
    row("system-prompt", "TEXT", Group::Ask, "what the model is told about its task before the conversation",
        |s, v| text(v).map(|v| s.system_prompt = Some(v)), |s| s.system_prompt.clone().unwrap_or_default()).aliases(&["system"]),
    row("system-prompt-file", "FILE", Group::Ask, "the same, read from a file",
        |s, v| text(v).map(|v| s.system_prompt_file = Some(v.into())), |s| show_path(&s.system_prompt_file)),
    row("file-header", "auto|always|never", Group::Ask, "give attached files with their names and fences around them; auto: where there are several, or a file and stdin",
        |s, v| one_of(v, WHEN).map(|v| s.file_header = v), |s| name_of(&s.file_header, WHEN)).now(),
    row("predict", "N", Group::Answer, "most tokens of one answer; -1: no limit but the context",
        |s, v| predict(v).map(|v| s.predict = v), |s| show_predict(s.predict)).short('n').aliases(&["n-predict"]),
    row("stop", "TEXT", Group::Answer, "end the answer before this text; may be given several times; none: no text",
        |s, v| listed(v, &mut s.stop, text), |s| shown(s.stop.clone(), ", ")).aliases(&["reverse-prompt"]).repeats(),
    row("think", "on|off|auto", Group::Answer, "whether the model thinks before it answers, where its template allows that; auto: as the template has it",
        |s, v| one_of(v, AUTO).map(|v| s.think = v), |s| name_of(&s.think, AUTO)),
    row("think-budget", "N", Group::Answer, "most tokens of thinking; then the model must answer. 0: no thinking, -1: no limit",
        |s, v| think_budget(v).map(|v| s.think_budget = v), |s| s.think_budget.map_or("-1".into(), |n| n.to_string())).aliases(&["reasoning-budget"]),
    row("think-tags", "OPEN CLOSE", Group::Answer, "what the model writes before and after its thinking, where neither its template nor its vocabulary tells: --think-tags '<thinking> </thinking>'",
        |s, v| think_tags(v).map(|v| s.think_tags = Some(v)), |s| s.think_tags.as_ref().map_or(String::new(), |tags| tags.join(" "))),
    row("overflow", "ask|roll|compact|stop", Group::Answer, "when the conversation no longer fits the context: its oldest messages leave the model's view (roll), are summarised first (compact), or there is no answer (stop); a chat asks if not given, one question stops",
        |s, v| one_of(v, OVERFLOW).map(|v| s.overflow = v), |s| name_of(&s.overflow, OVERFLOW)),
    row("no-speculative", "", Group::Answer, "do not draft ahead: a draft makes copying and editing faster and changes no choice, but where two tokens are equally likely the arithmetic of larger batches may decide otherwise",
        |s, v| one_of(v, SWITCH).map(|v| s.no_speculative = v), |s| name_of(&s.no_speculative, SWITCH)),
    row("temp", "T", Group::Sampling, "temperature: 0 always takes the likeliest token, higher is more varied",
        |s, v| number(v, 0.0..=100.0).map(|v| s.sampling.temp = v), |s| s.sampling.temp.to_string()).aliases(&["temperature"]),
    row("top-k", "K", Group::Sampling, "choose among the K likeliest tokens; 0: all",
        |s, v| number(v, 0..=i32::MAX).map(|v| s.sampling.top_k = v), |s| s.sampling.top_k.to_string()),
    row("top-p", "P", Group::Sampling, "choose among the likeliest tokens that together reach probability P; 1: all",
        |s, v| number(v, 0.0..=1.0).map(|v| s.sampling.top_p = v), |s| s.sampling.top_p.to_string()),
    row("min-p", "P", Group::Sampling, "leave out tokens less likely than P times the likeliest; 0: none",
        |s, v| number(v, 0.0..=1.0).map(|v| s.sampling.min_p = v), |s| s.sampling.min_p.to_string()),
    row("typical-p", "P", Group::Sampling, "locally typical sampling; 1: off",
        |s, v| number(v, 0.0..=1.0).map(|v| s.sampling.typical_p = v), |s| s.sampling.typical_p.to_string()).aliases(&["typical"]),
    row("top-n-sigma", "N", Group::Sampling, "leave out tokens whose logit is more than N standard deviations below the best; -1: off",
        |s, v| number(v, -1.0..=100.0).map(|v| s.sampling.top_n_sigma = v), |s| s.sampling.top_n_sigma.to_string()).aliases(&["top-nsigma"]),
    row("xtc-probability", "P", Group::Sampling, "how often to leave out the likeliest tokens (XTC); 0: never",
        |s, v| number(v, 0.0..=1.0).map(|v| s.sampling.xtc_probability = v), |s| s.sampling.xtc_probability.to_string()),
    row("xtc-threshold", "P", Group::Sampling, "how likely a token must be for XTC to leave it out; above 0.5: off",
        |s, v| number(v, 0.0..=1.0).map(|v| s.sampling.xtc_threshold = v), |s| s.sampling.xtc_threshold.to_string()),
    row("dry-multiplier", "X", Group::Sampling, "strength of the DRY penalty on repeated sequences; 0: off",
        |s, v| number(v, 0.0..=100.0).map(|v| s.sampling.dry_multiplier = v), |s| s.sampling.dry_multiplier.to_string()),
    row("dry-base", "X", Group::Sampling, "base of the DRY penalty's growth with the length of the repetition",
        |s, v| number(v, 1.0..=100.0).map(|v| s.sampling.dry_base = v), |s| s.sampling.dry_base.to_string()),
    row("dry-allowed-length", "N", Group::Sampling, "longest repetition that DRY lets pass",
        |s, v| number(v, 0..=i32::MAX).map(|v| s.sampling.dry_allowed_length = v), |s| s.sampling.dry_allowed_length.to_string()),
    row("dry-penalty-last-n", "N", Group::Sampling, "tokens DRY looks back at; 0: off, -1: the whole context",
        |s, v| number(v, -1..=i32::MAX).map(|v| s.sampling.dry_penalty_last_n = v), |s| s.sampling.dry_penalty_last_n.to_string()),
    row("dry-sequence-breaker", "TEXT", Group::Sampling, "text that ends a repetition for DRY; may be given several times, the first replaces the usual ones; none: no text does",
        |s, v| breaker(v, &mut s.sampling.dry_sequence_breakers), |s| show_list(&s.sampling.dry_sequence_breakers)).repeats(),
    row("repeat-penalty", "X", Group::Sampling, "penalty on tokens seen lately; 1: off",
        |s, v| number(v, 0.01..=100.0).map(|v| s.sampling.repeat_penalty = v), |s| s.sampling.repeat_penalty.to_string()),
    row("repeat-last-n", "N", Group::Sampling, "tokens the penalties look back at; 0: off, -1: the whole context",
        |s, v| number(v, -1..=i32::MAX).map(|v| s.sampling.repeat_last_n = v), |s| s.sampling.repeat_last_n.to_string()),
    row("presence-penalty", "X", Group::Sampling, "penalty on tokens that occurred at all; 0: off",
        |s, v| number(v, -100.0..=100.0).map(|v| s.sampling.presence_penalty = v), |s| s.sampling.presence_penalty.to_string()),
    row("frequency-penalty", "X", Group::Sampling, "penalty on tokens by how often they occurred; 0: off",
        |s, v| number(v, -100.0..=100.0).map(|v| s.sampling.frequency_penalty = v), |s| s.sampling.frequency_penalty.to_string()),
    row("mirostat", "0|1|2", Group::Sampling, "Mirostat sampling instead of the chain: 0 off, 1 Mirostat, 2 Mirostat 2.0",
        |s, v| number(v, 0..=2).map(|v| s.sampling.mirostat = v), |s| s.sampling.mirostat.to_string()),
    row("mirostat-ent", "X", Group::Sampling, "Mirostat's target entropy",
        |s, v| number(v, 0.0..=100.0).map(|v| s.sampling.mirostat_ent = v), |s| s.sampling.mirostat_ent.to_string()),
    row("mirostat-lr", "X", Group::Sampling, "Mirostat's learning rate",
        |s, v| number(v, 0.0..=1.0).map(|v| s.sampling.mirostat_lr = v), |s| s.sampling.mirostat_lr.to_string()),
    row("samplers", "LIST", Group::Sampling, "the stages of the sampler chain in their order, separated by ; or ,",
        |s, v| stages(v).map(|v| s.sampling.samplers = v), |s| show_stages(&s.sampling.samplers)),
    row("seed", "N", Group::Sampling, "seed of the random choices; -1: a fresh one for every answer",
        |s, v| seed(v).map(|v| s.sampling.seed = v), |s| s.sampling.seed.map_or("-1".into(), |s| s.to_string())).short('s'),
    row("logit-bias", "ID+X", Group::Sampling, "add X to a token's logit, as in 15043+1 or 15043-inf; may be given several times; none: no token's",
        |s, v| listed(v, &mut s.sampling.logit_bias, logit_bias), |s| show_biases(&s.sampling.logit_bias)).repeats(),
    row("stats", "", Group::Output, "a line with speed and context use after an answer (a chat shows it unless it is set off)",
        |s, v| one_of(v, STATS).map(|v| s.stats = v), |s| name_of(&s.stats, STATS)),
    row("show-thinking", "", Group::Output, "show what the model thinks before it answers, on stderr",
        |s, v| one_of(v, SWITCH).map(|v| s.show_thinking = v), |s| name_of(&s.show_thinking, SWITCH)),
    row("color", "auto|always|never", Group::Output, "colours on the terminal",
        |s, v| one_of(v, WHEN).map(|v| s.color = v), |s| name_of(&s.color, WHEN)),
    row("incognito", "", Group::Conversation, "keep nothing: no conversation, no line typed, nothing learnt about models; with --continue or --resume, nothing of what is said from then on",
        |s, v| one_of(v, SWITCH).map(|v| s.incognito = v), |s| name_of(&s.incognito, SWITCH)),
    row("keep", "", Group::Conversation, "keep the conversation also where input is piped or there is no terminal",
        |s, v| one_of(v, SWITCH).map(|v| s.keep = v), |s| name_of(&s.keep, SWITCH)),
    row("chat-template", "NAME|FILE", Group::Template, "a Jinja chat template from a file, or by name one of the model's or a built-in one, instead of the model's usual",
        |s, v| text(v).map(|v| s.chat_template = Some(v)), |s| s.chat_template.clone().unwrap_or_default()).reload(),
    row("template-arg", "KEY=VALUE", Group::Template, "a variable for the chat template, JSON or text; may be given several times; none: no variable",
        |s, v| listed(v, &mut s.template_args, key_value), |s| show_pairs(&s.template_args)).reload().repeats(),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn set(name: &str, value: &str) -> Result<Settings, String> {
        let mut settings = Settings::default();
        (setting(name).expect("a setting of the table").set)(&mut settings, value).map(|()| settings)
    }

    #[test]
    fn what_a_setting_shows_can_be_set_again() {
        let defaults = Settings::default();
        for row in SETTINGS.iter().filter(|row| !row.repeats) {
            let shown = (row.get)(&defaults);
            if shown.is_empty() {
                continue; // nothing is set
            }
            let again = set(row.name, &shown).unwrap_or_else(|e| panic!("--{} {shown}: {e}", row.name));
            assert_eq!((row.get)(&again), shown, "--{}", row.name);
        }
    }

    #[test]
    fn numbers_out_of_range_are_refused_with_the_range() {
        assert_eq!(set("top-p", "1.5").unwrap_err(), "must be a number from 0 to 1");
        assert!(set("temp", "nan").is_err());
        assert!(set("temp", "-0.1").is_err());
        assert!(set("ctx-size", "3").is_err());
        assert!(set("seed", "4294967296").is_err());
    }

    #[test]
    fn spellings_that_users_bring() {
        assert_eq!(set("temperature", "0.5").unwrap().sampling.temp, 0.5);
        assert_eq!(set("top_k", "7").unwrap().sampling.top_k, 7);
        let chain = set("samplers", "top-k;temperature").unwrap().sampling.samplers;
        assert_eq!(chain, [Stage::TopK, Stage::Temperature]);
        assert_eq!(set("logit-bias", "15-inf").unwrap().sampling.logit_bias, [(15, f32::NEG_INFINITY)]);
    }

    #[test]
    fn names_are_unique() {
        let mut names: Vec<&str> = super::names().collect();
        let before = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), before);
    }
}
