//! The settings as values, with their defaults. A default that depends on the model or the kind of run is
//! `None` or `Auto` here, and the code that uses the setting decides.
//!
//! settings/table.rs has their names, parsers and help; settings/resolve.rs resolves their sources.

use std::ops::RangeInclusive;
use std::path::PathBuf;

use super::constraint::Constraint;

/// Old names of settings, each with the new one.
const RENAMED: &[(&str, &str)] = &[("no-snapshots", "no-prompt-cache"), ("no-guess", "no-speculative")];

/// The new name of a renamed setting. Takes the old name as a user may write it.
pub fn renamed(name: &str) -> Option<&'static str> {
    let name = name.replace('_', "-");
    RENAMED.iter().find(|(former, _)| *former == name).map(|(_, present)| *present)
}

/// The context size in tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CtxSize {
    /// Starts small and doubles when needed, up to the size the model was trained with.
    Auto,
    /// The size the model was trained with.
    Trained,
    /// This many tokens.
    Tokens(u32),
}

/// On, off, or automatic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Auto {
    Auto,
    On,
    Off,
}

/// The keys of the line editor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyBindings {
    Emacs,
    Vi,
}

/// The background of the terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Theme {
    Dark,
    Light,
}

/// What to do when a conversation does not fit the context.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overflow {
    /// Drop the oldest exchanges from the context.
    Roll,
    /// The same, after the model summarised them.
    Compact,
    /// Drop nothing and fail.
    Stop,
}

/// How several GPUs share a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SplitMode {
    /// One GPU has all of it.
    None,
    /// Each has some of the layers.
    Layer,
    /// Each has some of the rows of every matrix.
    Row,
}

/// How threads and memory are spread over the nodes of a NUMA machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Numa {
    Off,
    /// Over all nodes.
    Distribute,
    /// Only on the node where the program started.
    Isolate,
    /// As `numactl` has set it up.
    Numactl,
}

/// Data type of the KV cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheType {
    F32,
    F16,
    BF16,
    Q8_0,
    Q5_1,
    Q5_0,
    Q4_1,
    Q4_0,
    Iq4Nl,
}

/// One stage of llama.cpp's sampler chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    Penalties,
    Dry,
    TopNSigma,
    TopK,
    TypicalP,
    TopP,
    MinP,
    Xtc,
    Temperature,
}

impl Stage {
    /// All stages, in llama.cpp's order.
    pub const ALL: [Stage; 9] = [
        Stage::Penalties,
        Stage::Dry,
        Stage::TopNSigma,
        Stage::TopK,
        Stage::TypicalP,
        Stage::TopP,
        Stage::MinP,
        Stage::Xtc,
        Stage::Temperature,
    ];
}

/// Sampling parameters: llama.cpp's, in its units, with its defaults.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampling {
    pub temp: f32,
    pub top_k: i32,
    pub top_p: f32,
    pub min_p: f32,
    pub typical_p: f32,
    pub top_n_sigma: f32,
    pub xtc_probability: f32,
    pub xtc_threshold: f32,
    pub dry_multiplier: f32,
    pub dry_base: f32,
    pub dry_allowed_length: i32,
    /// Tokens looked back at; -1: the whole context.
    pub dry_penalty_last_n: i32,
    pub dry_sequence_breakers: Vec<String>,
    pub repeat_penalty: f32,
    /// Tokens looked back at; -1: the whole context.
    pub repeat_last_n: i32,
    pub presence_penalty: f32,
    pub frequency_penalty: f32,
    /// 0 off, 1 Mirostat, 2 Mirostat 2.0.
    pub mirostat: u8,
    pub mirostat_ent: f32,
    pub mirostat_lr: f32,
    pub samplers: Vec<Stage>,
    /// `None`: a new random seed for each answer.
    pub seed: Option<u32>,
    /// Token id, and the number added to its logit.
    pub logit_bias: Vec<(i32, f32)>,
}

impl Default for Sampling {
    fn default() -> Sampling {
        Sampling {
            temp: 0.8,
            top_k: 40,
            top_p: 0.95,
            min_p: 0.05,
            typical_p: 1.0,
            top_n_sigma: -1.0,
            xtc_probability: 0.0,
            xtc_threshold: 0.1,
            dry_multiplier: 0.0,
            dry_base: 1.75,
            dry_allowed_length: 2,
            dry_penalty_last_n: 64,
            dry_sequence_breakers: ["\n", ":", "\"", "*"].map(String::from).to_vec(),
            repeat_penalty: 1.0,
            repeat_last_n: 64,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            mirostat: 0,
            mirostat_ent: 5.0,
            mirostat_lr: 0.1,
            samplers: Stage::ALL.to_vec(),
            seed: None,
            logit_bias: Vec::new(),
        }
    }
}

/// The values of [`Settings::batch_size`].
pub const BATCH_SIZES: RangeInclusive<u32> = 64..=4096;

/// All settings, with their defaults.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    pub model: Option<String>,
    pub ctx_size: CtxSize,
    /// `None`: one per physical core.
    pub threads: Option<u32>,
    /// `None`: as many as `threads`.
    pub threads_batch: Option<u32>,
    /// Tokens that prefill evaluates at once, a power of two; `None`: chosen for the model and the machine.
    pub batch_size: Option<u32>,
    /// Layers on the GPUs, the output layer included; `None`: as many as fit.
    pub gpu_layers: Option<u32>,
    /// llama.cpp's names of the devices to use, or `none` alone; empty: all GPUs.
    pub devices: Vec<String>,
    /// Workers, each as HOST:PORT.
    pub rpc: Vec<String>,
    pub rpc_token: Option<PathBuf>,
    /// In seconds.
    pub rpc_timeout: u32,
    pub split_mode: SplitMode,
    /// The place, among the devices, of the one that has what is not split.
    pub main_gpu: u32,
    /// The share of each device, in any unit; empty: by its free memory.
    pub tensor_split: Vec<f32>,
    /// Keep the experts of all layers in main memory.
    pub cpu_moe: bool,
    /// Keep the experts of the first layers in main memory; `None`: as few as fit.
    pub n_cpu_moe: Option<u32>,
    /// Regular expressions of tensor names, each with llama.cpp's name of a buffer type.
    pub override_tensor: Vec<(String, String)>,
    /// Keep the KV cache in main memory.
    pub no_kv_offload: bool,
    /// Choose what is not set so that the model fits, and refuse what does not.
    pub fit: bool,
    pub numa: Numa,
    pub flash_attn: Auto,
    pub cache_type_k: CacheType,
    pub cache_type_v: CacheType,
    pub no_mmap: bool,
    pub no_repack: bool,
    pub mlock: bool,
    /// Neither read nor write the on-disk prompt cache.
    pub no_prompt_cache: bool,
    /// Additional folders to search for models.
    pub model_folders: Vec<PathBuf>,
    /// Do not use the network.
    pub offline: bool,
    pub system_prompt: Option<String>,
    pub system_prompt_file: Option<PathBuf>,
    /// Put names and code fences around attached files; auto: if there are several.
    pub file_header: Auto,
    /// Most tokens of one answer; `None`: the default of the mode (chat or one answer).
    pub predict: Option<u32>,
    pub stop: Vec<String>,
    /// What the answer must match.
    pub constraint: Option<Constraint>,
    /// Whether the model thinks before it answers; auto: the default of the template.
    pub think: Auto,
    /// Most tokens of thinking; `None`: no separate limit.
    pub think_budget: Option<u32>,
    /// The tags around thinking; `None`: from the template or the vocabulary.
    pub think_tags: Option<[String; 2]>,
    /// Show thinking on stderr while it is generated.
    pub show_thinking: bool,
    /// `None`: a chat asks, a single answer stops.
    pub overflow: Option<Overflow>,
    /// Disable speculative decoding.
    pub no_speculative: bool,
    pub sampling: Sampling,
    pub stats: Option<bool>,
    pub color: Auto,
    /// Render Markdown in answers on a terminal; auto: where the cursor can be moved back.
    pub markdown: Auto,
    /// `None`: as the terminal says.
    pub theme: Option<Theme>,
    pub keys: KeyBindings,
    /// Suggest the rest of a path or of an earlier line.
    pub hints: bool,
    /// The prompt of a chat, without the space at its end.
    pub prompt_format: String,
    /// Show bars and counters on a terminal.
    pub progress: bool,
    /// Save nothing.
    pub incognito: bool,
    /// Save conversations even without a terminal.
    pub keep: bool,
    pub chat_template: Option<String>,
    pub template_args: Vec<(String, String)>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            model: None,
            ctx_size: CtxSize::Auto,
            threads: None,
            threads_batch: None,
            batch_size: None,
            gpu_layers: None,
            devices: Vec::new(),
            rpc: Vec::new(),
            rpc_token: None,
            rpc_timeout: 10,
            split_mode: SplitMode::Layer,
            main_gpu: 0,
            tensor_split: Vec::new(),
            cpu_moe: false,
            n_cpu_moe: None,
            override_tensor: Vec::new(),
            no_kv_offload: false,
            fit: true,
            numa: Numa::Off,
            flash_attn: Auto::Auto,
            cache_type_k: CacheType::F16,
            cache_type_v: CacheType::F16,
            no_mmap: false,
            no_repack: false,
            mlock: false,
            no_prompt_cache: false,
            model_folders: Vec::new(),
            offline: false,
            system_prompt: None,
            system_prompt_file: None,
            file_header: Auto::Auto,
            predict: None,
            stop: Vec::new(),
            constraint: None,
            think: Auto::Auto,
            think_budget: None,
            think_tags: None,
            show_thinking: false,
            overflow: None,
            no_speculative: false,
            sampling: Sampling::default(),
            stats: None,
            color: Auto::Auto,
            markdown: Auto::Auto,
            theme: None,
            keys: KeyBindings::Emacs,
            hints: true,
            prompt_format: ">".into(),
            progress: true,
            incognito: false,
            keep: false,
            chat_template: None,
            template_args: Vec::new(),
        }
    }
}
