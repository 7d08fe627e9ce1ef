//! Text ↔ values of settings: parsers with their error messages, and formatters.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;

use crate::chat::settings::{
    Auto, BATCH_SIZES, CacheType, CtxSize, Numa, Overflow, Sampling, SplitMode, Stage,
};

pub(super) const CACHE_TYPES: &[(&str, CacheType)] = &[
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

pub(super) const SPLIT_MODES: &[(&str, SplitMode)] =
    &[("none", SplitMode::None), ("layer", SplitMode::Layer), ("row", SplitMode::Row)];

pub(super) const NUMA: &[(&str, Numa)] = &[
    ("off", Numa::Off),
    ("distribute", Numa::Distribute),
    ("isolate", Numa::Isolate),
    ("numactl", Numa::Numactl),
];

pub(super) const AUTO: &[(&str, Auto)] = &[("auto", Auto::Auto), ("on", Auto::On), ("off", Auto::Off)];
pub(super) const WHEN: &[(&str, Auto)] = &[("auto", Auto::Auto), ("always", Auto::On), ("never", Auto::Off)];
pub(super) const STATS: &[(&str, Option<bool>)] = &[
    ("auto", None),
    ("on", Some(true)),
    ("off", Some(false)),
    ("true", Some(true)),
    ("false", Some(false)),
    ("1", Some(true)),
    ("0", Some(false)),
];
pub(super) const SWITCH: &[(&str, bool)] =
    &[("on", true), ("off", false), ("true", true), ("false", false), ("1", true), ("0", false)];

pub(super) const OVERFLOW: &[(&str, Option<Overflow>)] = &[
    ("ask", None),
    ("roll", Some(Overflow::Roll)),
    ("compact", Some(Overflow::Compact)),
    ("stop", Some(Overflow::Stop)),
];

/// llama.cpp's names of the stages, and the other spellings that its command line accepts.
pub(super) const STAGES: &[(&str, Stage)] = &[
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

pub(super) fn text(value: &str) -> Result<String, String> {
    if value.is_empty() { Err("must not be empty".into()) } else { Ok(value.to_string()) }
}

pub(super) fn some_text(value: &str) -> Result<Option<String>, String> {
    text(value).map(Some)
}

pub(super) fn path(value: &str) -> Result<PathBuf, String> {
    text(value).map(PathBuf::from)
}

pub(super) fn some_path(value: &str) -> Result<Option<PathBuf>, String> {
    path(value).map(Some)
}

/// A number within `range`, both ends allowed; never NaN or infinite.
pub(super) fn number<T: FromStr + PartialOrd + Display>(
    value: &str,
    range: RangeInclusive<T>,
) -> Result<T, String> {
    let value = value.trim();
    if let Ok(number) = value.parse::<T>()
        && range.contains(&number)
    {
        return Ok(number);
    }
    let pointed = value.replacen(',', ".", 1);
    if pointed != value && pointed.parse::<T>().is_ok() {
        return Err(format!("must be written with a point, as in {pointed}"));
    }
    let kind = if "0.5".parse::<T>().is_ok() { "number" } else { "whole number" };
    Err(format!("must be a {kind} from {} to {}", range.start(), range.end()))
}

/// Appends to a list; `none` empties it.
pub(super) fn listed<T>(
    value: &str,
    list: &mut Vec<T>,
    read: fn(&str) -> Result<T, String>,
) -> Result<(), String> {
    match value {
        "none" => list.clear(),
        value => list.push(read(value)?),
    }
    Ok(())
}

pub(super) fn one_of<T: Copy>(value: &str, names: &[(&str, T)]) -> Result<T, String> {
    let found = names.iter().find(|(name, _)| name.eq_ignore_ascii_case(value.trim()));
    found.map(|(_, v)| *v).ok_or_else(|| {
        let names: Vec<&str> = names.iter().map(|(name, _)| *name).collect();
        format!("must be one of {}", names.join(" "))
    })
}

pub(super) fn name_of<T: PartialEq>(value: &T, names: &[(&str, T)]) -> String {
    names.iter().find(|(_, v)| v == value).map_or(String::new(), |(name, _)| name.to_string())
}

pub(super) fn ctx_size(value: &str) -> Result<CtxSize, String> {
    match value.trim() {
        "auto" => Ok(CtxSize::Auto),
        "0" => Ok(CtxSize::Trained),
        n => match number::<u32>(n, 16..=i32::MAX as u32) {
            Ok(n) => Ok(CtxSize::Tokens(n)),
            Err(_) => Err(format!("must be auto, 0, or a number of tokens from 16 to {}", i32::MAX)),
        },
    }
}

pub(super) fn show_ctx_size(size: &CtxSize) -> String {
    match size {
        CtxSize::Auto => "auto".into(),
        CtxSize::Trained => "0".into(),
        CtxSize::Tokens(n) => n.to_string(),
    }
}

/// `auto`, and llama.cpp's 0 and -1, mean automatic.
pub(super) fn threads(value: &str) -> Result<Option<u32>, String> {
    match value.trim() {
        "auto" | "0" | "-1" => Ok(None),
        n => number(n, 1..=512).map(Some).map_err(|why| format!("{why}, or auto")),
    }
}

pub(super) fn batch_size(value: &str) -> Result<Option<u32>, String> {
    match value.trim() {
        "auto" => Ok(None),
        n => {
            let size =
                n.parse().ok().filter(|size: &u32| size.is_power_of_two() && BATCH_SIZES.contains(size));
            let why = || {
                format!(
                    "must be a power of two from {} to {}, or auto",
                    BATCH_SIZES.start(),
                    BATCH_SIZES.end()
                )
            };
            size.map(Some).ok_or_else(why)
        }
    }
}

pub(super) fn gpu_layers(value: &str) -> Result<Option<u32>, String> {
    match value.trim() {
        "auto" | "-1" => Ok(None),
        "all" => Ok(Some(9999)),
        n => number(n, 0..=9999).map(Some).map_err(|why| format!("{why}, or auto or all")),
    }
}

pub(super) fn n_cpu_moe(value: &str) -> Result<Option<u32>, String> {
    match value.trim() {
        "auto" => Ok(None),
        n => number(n, 0..=9999).map(Some).map_err(|why| format!("{why}, or auto")),
    }
}

/// Words between commas.
pub(super) fn words(value: &str) -> impl Iterator<Item = &str> {
    value.split(',').map(str::trim).filter(|word| !word.is_empty())
}

/// `auto` empties the list.
pub(super) fn devices(value: &str) -> Result<Vec<String>, String> {
    match value.trim() {
        "auto" => Ok(Vec::new()),
        _ => match words(value).map(String::from).collect::<Vec<_>>() {
            names if names.is_empty() => {
                Err("must name devices that --list-devices shows, or be none".into())
            }
            names => Ok(names),
        },
    }
}

/// Shares as llama.cpp takes them, separated by `,` or `/`; `auto` empties the list.
pub(super) fn shares(value: &str) -> Result<Vec<f32>, String> {
    let wrong = || "must be a list of shares, as in 3,1, or auto".to_string();
    if value.trim() == "auto" {
        return Ok(Vec::new());
    }
    let value = value.replace('/', ",");
    let shares: Result<Vec<f32>, String> = words(&value).map(|share| number(share, 0.0..=1e6)).collect();
    shares.ok().filter(|shares| shares.len() <= 16 && shares.iter().sum::<f32>() > 0.0).ok_or_else(wrong)
}

/// Appends to a list, in llama.cpp's own form: `REGEX=BUFFER,REGEX=BUFFER`. `none` empties it. What they stand
/// for is checked when the model is opened.
pub(super) fn overrides(value: &str, list: &mut Vec<(String, String)>) -> Result<(), String> {
    if value == "none" {
        list.clear();
        return Ok(());
    }
    let mut regex = String::new();
    for part in value.split_inclusive(',') {
        let Some((end, buffer)) = part.trim_end_matches(',').rsplit_once('=') else {
            regex.push_str(part); // a comma inside the expression
            continue;
        };
        let whole = std::mem::take(&mut regex) + end;
        list.push((whole, buffer.trim().to_string()));
    }
    let complete = |(regex, buffer): &(String, String)| !regex.is_empty() && !buffer.is_empty();
    if !regex.is_empty() || value.contains('\0') || !list.iter().all(complete) {
        return Err("must be a regular expression for tensor names and a buffer type, as in exps=CPU".into());
    }
    Ok(())
}

pub(super) fn show_devices(names: &[String]) -> String {
    if names.is_empty() { "auto".into() } else { names.join(",") }
}

pub(super) fn show_shares(shares: &[f32]) -> String {
    let shares: Vec<String> = shares.iter().map(f32::to_string).collect();
    if shares.is_empty() { "auto".into() } else { shares.join(",") }
}

/// llama.cpp's `-1` and `-2`: limited by the context only.
pub(super) fn predict(value: &str) -> Result<Option<u32>, String> {
    match value.trim() {
        "auto" => Ok(None),
        "-1" | "-2" => Ok(Some(u32::MAX)),
        n => number(n, 0..=i32::MAX as u32).map(Some).map_err(|why| format!("{why}, or -1")),
    }
}

/// Two words separated by white space.
pub(super) fn think_tags(value: &str) -> Result<Option<[String; 2]>, String> {
    let mut words = value.split_whitespace().map(String::from);
    match (words.next(), words.next(), words.next()) {
        (Some(open), Some(close), None) => Ok(Some([open, close])),
        _ => {
            Err("must be the text before the thinking and the one after it, with a space between them".into())
        }
    }
}

pub(super) fn think_budget(value: &str) -> Result<Option<u32>, String> {
    match value.trim() {
        "-1" => Ok(None),
        n => number(n, 0..=i32::MAX as u32).map(Some).map_err(|why| format!("{why}, or -1")),
    }
}

pub(super) fn show_predict(predict: &Option<u32>) -> String {
    match predict {
        None => "auto".into(),
        Some(u32::MAX) => "-1".into(),
        Some(n) => n.to_string(),
    }
}

pub(super) fn seed(value: &str) -> Result<Option<u32>, String> {
    match value.trim() {
        "-1" | "random" => Ok(None),
        n => number(n, 0..=u32::MAX).map(Some).map_err(|why| format!("{why}, or -1")),
    }
}

pub(super) fn stages(value: &str) -> Result<Vec<Stage>, String> {
    let names = value.split([';', ',']).map(str::trim).filter(|name| !name.is_empty());
    let mut stages = Vec::new();
    for name in names {
        match STAGES.iter().find(|(known, _)| *known == name) {
            Some((_, stage)) => stages.push(*stage),
            None => {
                let known: Vec<&str> = STAGES[..9].iter().map(|(name, _)| *name).collect();
                return Err(format!("must be a list of these stages: {}", known.join(" ")));
            }
        }
    }
    Ok(stages)
}

pub(super) fn show_stages(stages: &[Stage]) -> String {
    stage_names(stages).join(";")
}

/// llama.cpp's names of sampler stages.
pub fn stage_names(stages: &[Stage]) -> Vec<String> {
    stages.iter().map(|stage| name_of(stage, STAGES)).collect()
}

pub(super) fn logit_bias(value: &str) -> Result<(i32, f32), String> {
    let wrong = || "must be a token id and a number, as in 15043+1 or 15043-inf".to_string();
    let sign = value.find(['+', '-']).ok_or_else(wrong)?;
    let id = value[..sign].trim().parse::<u32>().map_err(|_| wrong())?;
    let bias = value[sign..].trim().parse::<f32>().map_err(|_| wrong())?;
    if bias.is_nan() || bias == f32::INFINITY || id > i32::MAX as u32 {
        return Err(wrong());
    }
    Ok((id as i32, bias))
}

pub(super) fn key_value(value: &str) -> Result<(String, String), String> {
    match value.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => Ok((key.trim().to_string(), value.to_string())),
        _ => Err("must be KEY=VALUE".into()),
    }
}

/// The first value replaces the defaults.
pub(super) fn breaker(value: &str, breakers: &mut Vec<String>) -> Result<(), String> {
    if value.contains('\0') {
        return Err("must not contain a NUL character".into());
    }
    if *breakers == Sampling::default().dry_sequence_breakers {
        breakers.clear();
    }
    listed(value, breakers, |v| text(v).map(|v| v.replace("\\n", "\n")))
}

pub(super) fn show_text(text: &Option<String>) -> String {
    text.clone().unwrap_or_default()
}

pub(super) fn show_think_tags(tags: &Option<[String; 2]>) -> String {
    tags.as_ref().map_or(String::new(), |tags| tags.join(" "))
}

pub(super) fn or_auto<T: Display>(value: &Option<T>) -> String {
    value.as_ref().map_or("auto".into(), T::to_string)
}

/// `None` is llama.cpp's -1.
pub(super) fn or_minus_one(value: &Option<u32>) -> String {
    value.map_or("-1".into(), |n| n.to_string())
}

pub(super) fn show_path(path: &Option<PathBuf>) -> String {
    path.as_ref().map_or(String::new(), |p| p.display().to_string())
}

/// A list as text; an empty one as `none`.
fn shown(list: Vec<String>, between: &str) -> String {
    if list.is_empty() { "none".into() } else { list.join(between) }
}

pub(super) fn show_texts(texts: &[String]) -> String {
    shown(texts.to_vec(), ", ")
}

pub(super) fn show_paths(paths: &[PathBuf]) -> String {
    shown(paths.iter().map(|path| path.display().to_string()).collect(), ", ")
}

pub(super) fn show_list(list: &[String]) -> String {
    shown(list.iter().map(|item| item.replace('\n', "\\n")).collect(), " ")
}

pub(super) fn show_pairs(pairs: &[(String, String)]) -> String {
    shown(pairs.iter().map(|(k, v)| format!("{k}={v}")).collect(), " ")
}

pub(super) fn show_biases(biases: &[(i32, f32)]) -> String {
    shown(biases.iter().map(|(id, bias)| format!("{id}{bias:+}")).collect(), " ")
}
