//! Every setting in one table. It drives the flags, the environment (`FIRESIDE_…`), the config file, `/set`,
//! Tab completion, `--json`'s `sampling`, the man page and docs/configuration.md. Values arrive as text and
//! end up in `Settings`.

use super::constraints::*;
use super::looks::*;
use super::setting::{Access, Group, Setting, row};
use super::values::*;
use super::workers::{show_workers, workers};

/// The row with this name or alias; `_` counts as `-`.
pub fn setting(name: &str) -> Option<&'static Setting> {
    let name = name.replace('_', "-");
    SETTINGS.iter().find(|s| s.name == name || s.aliases.contains(&name.as_str()))
}

/// All names of all settings.
pub fn names() -> impl Iterator<Item = &'static str> {
    SETTINGS.iter().flat_map(Setting::names)
}

/// A field: `$read` parses its value, `$show` formats it.
macro_rules! value {
    ($($field:ident).+, $read:expr, $show:expr) => {
        Access { set: |s, v| $read(v).map(|v| s.$($field).+ = v), get: |s| $show(&s.$($field).+) }
    };
}

/// A number within a range, both ends allowed.
macro_rules! number {
    ($($field:ident).+, $range:expr) => {
        value!($($field).+, |v| number(v, $range), ToString::to_string)
    };
}

/// One of a list of names.
macro_rules! choice {
    ($($field:ident).+, $names:expr) => {
        value!($($field).+, |v| one_of(v, $names), |v| name_of(v, $names))
    };
}

/// A list; each value is appended.
macro_rules! list {
    ($($field:ident).+, $read:expr, $show:expr) => {
        Access { set: |s, v| listed(v, &mut s.$($field).+, $read), get: |s| $show(&s.$($field).+) }
    };
}

/// The table.
pub const SETTINGS: &[Setting] = &[
    row("model", "NAME|PATH|hf:OWNER/REPO[:QUANT]", Group::Model, value!(model, some_text, show_text))
        .help("model to use: a name from fireside list, a GGUF file, or anything fireside pull takes")
        .short('m')
        .start(),
    row("ctx-size", "N|auto", Group::Model, value!(ctx_size, ctx_size, show_ctx_size))
        .help("context size in tokens; auto grows with the conversation, 0 is the size the model was trained with")
        .short('c')
        .shapes(),
    row("threads", "N", Group::Model, value!(threads, threads, or_auto))
        .help("threads for decode; default: one per fast core, within affinity and quota")
        .short('t')
        .shapes(),
    row("threads-batch", "N", Group::Model, value!(threads_batch, threads, or_auto))
        .help("threads for prefill; default: like --threads, or more if faster")
        .shapes(),
    row("batch-size", "N|auto", Group::Model, value!(batch_size, batch_size, or_auto))
        .help("tokens that prefill evaluates at once, a power of two; default: chosen for the model and this machine")
        .aliases(&["ubatch-size"])
        .shapes(),
    row("gpu-layers", "N|auto", Group::Model, value!(gpu_layers, gpu_layers, or_auto))
        .help("layers to offload to the GPU; default: as many as fit")
        .aliases(&["n-gpu-layers"])
        .shapes(),
    row("device", "NAMES|none", Group::Model, value!(devices, devices, show_devices))
        .help("GPUs to use, by the names that --list-devices shows, separated by commas; none: the CPU alone")
        .shapes(),
    row("rpc", "HOST:PORT,…|none", Group::Model, value!(rpc, workers, show_workers))
        .help("lent machines to put layers on, where fireside worker runs"),
    row("rpc-token", "FILE", Group::Model, value!(rpc_token, some_path, show_path))
        .help("file with the token of the workers; default: that of workers on this machine"),
    row("rpc-timeout", "N", Group::Model, number!(rpc_timeout, 1..=600))
        .help("seconds without a sign of life after which a worker is given up"),
    row("split-mode", "none|layer|row", Group::Model, choice!(split_mode, SPLIT_MODES))
        .help("how several GPUs share the model: by layers, by rows of each matrix, or not at all")
        .shapes(),
    row("main-gpu", "N", Group::Model, number!(main_gpu, 0..=15))
        .help("the GPU, counted from 0, that has the whole model with --split-mode none, and with row the KV cache")
        .shapes(),
    row("tensor-split", "SHARES", Group::Model, value!(tensor_split, shares, show_shares))
        .help("share of the model for each GPU, as in 3,1; auto: by free memory")
        .shapes(),
    row("cpu-moe", "", Group::Model, choice!(cpu_moe, SWITCH))
        .help("keep the experts of a mixture of experts in main memory")
        .shapes(),
    row("n-cpu-moe", "N|auto", Group::Model, value!(n_cpu_moe, n_cpu_moe, or_auto))
        .help("keep the experts of the first N layers in main memory; default: as few as fit")
        .shapes(),
    row("override-tensor", "REGEX=BUFFER", Group::Model, OVERRIDES)
        .help("put tensors whose name matches into another kind of memory, as in 'exps=CPU'; repeatable")
        .repeats()
        .shapes(),
    row("no-kv-offload", "", Group::Model, choice!(no_kv_offload, SWITCH))
        .help("keep the KV cache in main memory")
        .shapes(),
    row("fit", "on|off", Group::Model, choice!(fit, SWITCH))
        .help("choose what is not set so that the model fits into memory, and refuse what does not; off: try it"),
    row("numa", "off|distribute|isolate|numactl", Group::Model, choice!(numa, NUMA))
        .help("how to use a machine with several memory nodes")
        .start(),
    row("flash-attn", "auto|on|off", Group::Model, choice!(flash_attn, AUTO))
        .help("flash attention; auto: unless it is slower on this machine")
        .shapes(),
    row("cache-type-k", "TYPE", Group::Model, choice!(cache_type_k, CACHE_TYPES))
        .help("data type of the KV cache keys: f32 f16 bf16 q8_0 q5_1 q5_0 q4_1 q4_0 iq4_nl")
        .shapes(),
    row("cache-type-v", "TYPE", Group::Model, choice!(cache_type_v, CACHE_TYPES))
        .help("data type of the KV cache values, one of the same")
        .shapes(),
    row("no-mmap", "", Group::Model, choice!(no_mmap, SWITCH))
        .help("read the weights into memory instead of mapping the file"),
    row("no-repack", "", Group::Model, choice!(no_repack, SWITCH))
        .help("do not repack the weights for this processor")
        .shapes(),
    row("mlock", "", Group::Model, choice!(mlock, SWITCH))
        .help("lock the weights in memory so that they are never swapped out"),
    row("no-prompt-cache", "", Group::Model, choice!(no_prompt_cache, SWITCH))
        .help("do not read or write the on-disk prompt cache")
        .start(),
    row("model-folder", "FOLDER", Group::Model, list!(model_folders, path, show_paths))
        .help("another folder to search for models; repeatable, none clears the list")
        .start()
        .repeats(),
    row("offline", "", Group::Model, choice!(offline, SWITCH))
        .help("do not use the network: only models on this machine")
        .start(),
    row("system-prompt", "TEXT", Group::Ask, value!(system_prompt, some_text, show_text))
        .help("system prompt: instructions for the model")
        .aliases(&["system"]),
    row("system-prompt-file", "FILE", Group::Ask, value!(system_prompt_file, some_path, show_path))
        .help("read the system prompt from a file"),
    row("file-header", "auto|always|never", Group::Ask, choice!(file_header, WHEN))
        .help("put the name of an attached file above it and fences around it; auto: if there are several inputs")
        .now(),
    row("predict", "N", Group::Answer, value!(predict, predict, show_predict))
        .help("maximum number of tokens to generate; -1: limited by the context only")
        .short('n')
        .aliases(&["n-predict"]),
    row("stop", "TEXT", Group::Answer, list!(stop, text, show_texts))
        .help("stop generating before this text; repeatable, none clears the list")
        .aliases(&["reverse-prompt"])
        .repeats(),
    row("json-schema", "JSON|FILE", Group::Answer, JSON_SCHEMA)
        .help("generate JSON that matches this JSON schema; none: any text")
        .short('j')
        .read(json_or_file),
    row("json-schema-file", "FILE", Group::Answer, JSON_SCHEMA.unshown())
        .help("the same with a schema from a file")
        .read(file),
    row("schema", "FIELDS", Group::Answer, JSON_SCHEMA.unshown())
        .help("generate a JSON object with these fields, as in 'name, age int, mood happy|sad: how they feel'")
        .read(fields),
    row("schema-multi", "FIELDS", Group::Answer, JSON_SCHEMA.unshown())
        .help("the same with a list of such objects")
        .read(list_of_fields),
    row("grammar", "GBNF", Group::Answer, GRAMMAR)
        .help("generate text that matches this grammar in llama.cpp's notation"),
    row("grammar-file", "FILE", Group::Answer, GRAMMAR.unshown())
        .help("the same with a grammar from a file")
        .read(file),
    row("regex", "REGEX", Group::Answer, REGEX)
        .help("generate text that this regular expression matches as a whole"),
    row("think", "on|off|auto", Group::Answer, choice!(think, AUTO))
        .help("think before answering, if the chat template supports it; auto: the template's default"),
    row("think-budget", "N", Group::Answer, value!(think_budget, think_budget, or_minus_one))
        .help("maximum number of thinking tokens before the answer must begin; 0: no thinking, -1: no limit")
        .aliases(&["reasoning-budget"]),
    row("think-tags", "OPEN CLOSE", Group::Answer, value!(think_tags, think_tags, show_think_tags))
        .help("tags around the model's thinking if fireside cannot detect them: '<thinking> </thinking>'"),
    row("overflow", "ask|roll|compact|stop", Group::Answer, choice!(overflow, OVERFLOW))
        .help(
            "if the conversation exceeds the context: let you decide (ask), drop the oldest messages (roll), summarise \
             them first (compact), or refuse (stop); default: ask in a chat, stop otherwise",
        ),
    row("no-speculative", "", Group::Answer, choice!(no_speculative, SWITCH)).help("disable speculative decoding"),
    row("temp", "T", Group::Sampling, number!(sampling.temp, 0.0..=100.0))
        .help("temperature; 0: always the most likely token, higher: more varied")
        .aliases(&["temperature"]),
    row("top-k", "K", Group::Sampling, number!(sampling.top_k, 0..=i32::MAX))
        .help("sample from the K most likely tokens; 0: off"),
    row("top-p", "P", Group::Sampling, number!(sampling.top_p, 0.0..=1.0))
        .help("sample from the most likely tokens whose probabilities add up to P; 1: off"),
    row("min-p", "P", Group::Sampling, number!(sampling.min_p, 0.0..=1.0))
        .help("exclude tokens less likely than P times the most likely one; 0: off"),
    row("typical-p", "P", Group::Sampling, number!(sampling.typical_p, 0.0..=1.0))
        .help("locally typical sampling; 1: off")
        .aliases(&["typical"]),
    row("top-n-sigma", "N", Group::Sampling, number!(sampling.top_n_sigma, -1.0..=100.0))
        .help("exclude tokens whose logit is more than N standard deviations below the highest; -1: off")
        .aliases(&["top-nsigma"]),
    row("xtc-probability", "P", Group::Sampling, number!(sampling.xtc_probability, 0.0..=1.0))
        .help("probability of excluding the most likely tokens (XTC); 0: off"),
    row("xtc-threshold", "P", Group::Sampling, number!(sampling.xtc_threshold, 0.0..=1.0))
        .help("minimum probability of a token that XTC excludes; above 0.5: off"),
    row("dry-multiplier", "X", Group::Sampling, number!(sampling.dry_multiplier, 0.0..=100.0))
        .help("strength of the DRY repetition penalty; 0: off"),
    row("dry-base", "X", Group::Sampling, number!(sampling.dry_base, 1.0..=100.0))
        .help("base of the DRY penalty's exponential growth"),
    row("dry-allowed-length", "N", Group::Sampling, number!(sampling.dry_allowed_length, 0..=i32::MAX))
        .help("longest repetition without a DRY penalty, in tokens"),
    row("dry-penalty-last-n", "N", Group::Sampling, number!(sampling.dry_penalty_last_n, -1..=i32::MAX))
        .help("tokens that DRY searches for repetitions; 0: off, -1: the whole context"),
    row("dry-sequence-breaker", "TEXT", Group::Sampling, BREAKERS)
        .help("text that ends a repetition for DRY; repeatable, the first replaces the defaults; none: no text")
        .repeats(),
    row("repeat-penalty", "X", Group::Sampling, number!(sampling.repeat_penalty, 0.01..=100.0))
        .help("penalty for recent tokens; 1: off"),
    row("repeat-last-n", "N", Group::Sampling, number!(sampling.repeat_last_n, -1..=i32::MAX))
        .help("number of recent tokens to penalise; 0: off, -1: the whole context"),
    row("presence-penalty", "X", Group::Sampling, number!(sampling.presence_penalty, -100.0..=100.0))
        .help("penalty for tokens that have occurred at all; 0: off"),
    row("frequency-penalty", "X", Group::Sampling, number!(sampling.frequency_penalty, -100.0..=100.0))
        .help("penalty for tokens by the number of times they have occurred; 0: off"),
    row("mirostat", "0|1|2", Group::Sampling, number!(sampling.mirostat, 0..=2))
        .help("Mirostat sampling instead of the sampler chain; 0: off, 1: Mirostat, 2: Mirostat 2.0"),
    row("mirostat-ent", "X", Group::Sampling, number!(sampling.mirostat_ent, 0.0..=100.0))
        .help("Mirostat target entropy (tau)"),
    row("mirostat-lr", "X", Group::Sampling, number!(sampling.mirostat_lr, 0.0..=1.0))
        .help("Mirostat learning rate (eta)"),
    row("samplers", "LIST", Group::Sampling, value!(sampling.samplers, stages, show_stages))
        .help("stages of the sampler chain in order, separated by ; or ,"),
    row("seed", "N", Group::Sampling, value!(sampling.seed, seed, or_minus_one))
        .help("random seed; -1: a new one for each answer")
        .short('s'),
    row("logit-bias", "ID+X", Group::Sampling, list!(sampling.logit_bias, logit_bias, show_biases))
        .help("add X to the logit of a token, as in 15043+1 or 15043-inf; repeatable, none clears the list")
        .repeats(),
    row("stats", "", Group::Output, choice!(stats, STATS))
        .help("show speed and context use after each answer (default in a chat)"),
    row("show-thinking", "", Group::Output, choice!(show_thinking, SWITCH))
        .help("show the model's thinking on stderr"),
    row("color", "auto|always|never", Group::Output, choice!(color, WHEN)).help("coloured output"),
    row("markdown", "auto|on|off", Group::Output, choice!(markdown, AUTO)).help(
        "render Markdown in answers on a terminal; auto: unless --plain is given or the terminal is a simple one",
    ),
    row("theme", "auto|light|dark", Group::Output, choice!(theme, THEMES))
        .help("colours for this background; auto: in a chat as the terminal tells, else as COLORFGBG tells, else dark"),
    row("keys", "emacs|vi", Group::Output, choice!(keys, KEY_BINDINGS)).help("keys of the line editor in a chat"),
    row("hints", "on|off", Group::Output, choice!(hints, SWITCH))
        .help("suggest the rest of a path after @ or of an earlier line, dimmed; Right, End or Ctrl-E accepts"),
    row("prompt-format", "TEXT", Group::Output, value!(prompt_format, prompt_format, Clone::clone))
        .help("prompt of a chat, in which {model}, {used}, {limit} and {percent} show the model and the use of the context"),
    row("progress", "on|off", Group::Output, choice!(progress, SWITCH))
        .help("show bars and counters on a terminal: loading, prefill, thinking, downloads"),
    row("incognito", "", Group::Conversation, choice!(incognito, SWITCH)).help(
        "save nothing: no conversation, no input history, no facts about models; with --continue or \
         --resume, nothing new",
    ),
    row("keep", "", Group::Conversation, choice!(keep, SWITCH))
        .help("save the conversation even if input is piped or there is no terminal"),
    row("chat-template", "NAME|FILE", Group::Template, value!(chat_template, some_text, show_text))
        .help("chat template to use: a Jinja file, or the name of a built-in one or of another one in the model")
        .reload(),
    row("template-arg", "KEY=VALUE", Group::Template, list!(template_args, key_value, show_pairs))
        .help("variable for the chat template, JSON or text; repeatable, none clears the list")
        .reload()
        .repeats(),
];

/// A list with defaults; the first value replaces them.
const BREAKERS: Access = Access {
    set: |s, v| breaker(v, &mut s.sampling.dry_sequence_breakers),
    get: |s| show_list(&s.sampling.dry_sequence_breakers),
};

/// A list whose values may each hold several entries.
const OVERRIDES: Access =
    Access { set: |s, v| overrides(v, &mut s.override_tensor), get: |s| show_pairs(&s.override_tensor) };

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::settings::{Settings, Stage};

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
                continue; // not set
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
        let overrides = set("override-tensor", "a{1,2}=CPU,b=X").unwrap().override_tensor;
        assert_eq!(overrides, [("a{1,2}".into(), "CPU".into()), ("b".into(), "X".into())]);
        assert_eq!(set("tensor-split", "3/1").unwrap().tensor_split, [3.0, 1.0]);
        assert!(set("tensor-split", "0,0").is_err() && set("override-tensor", "a=CPU,b").is_err());
        assert_eq!(set("device", "CUDA0, CUDA1").unwrap().devices, ["CUDA0", "CUDA1"]);
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
