//! `fireside bench`: the speed of a model on this machine, compared with the memory bandwidth.
//!
//! Decoding a token reads the weights once, except the embedding table and the experts that it does not use.
//! So memory bandwidth limits decode speed without drafts. That of a GPU is not measured.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use serde_json::json;

use super::CommandContext;
use crate::chat::{Event, Message, Role, Stats};
use crate::failure::{Exit, Failure};
use crate::gguf;
use crate::models;
use crate::session::{FailedTurn, Session, SessionOptions};
use crate::settings::Config;
use crate::settings::setting;
use crate::ui::table::Column;
use crate::ui::terminal;
use crate::units::{duration, size};

/// Depths: tokens in the KV cache after prefill, before decode.
const DEPTHS: [usize; 4] = [32, 512, 2048, 8192];
/// Tokens decoded at each depth.
const WRITTEN: u32 = 64;
/// Words of one token, or a few, in every vocabulary: many, because a mixture of experts evaluates the same
/// word with the same few experts.
const WORDS: &str = "the of and to in is that it was for on are with they be at one have this from by hot word but \
    what some we can out other were all there when up use your how said an each she which do their time if will way \
    about many then them write would like so these her long make thing see him two has look more day could go come \
    did number sound no most people my over know water than call first who may down side been now find any new work \
    part take get place made live where after back little only round man year came show every good me give our under \
    name very through just form sentence great think say help low line differ turn cause much mean before move right \
    boy old too same tell does set three want air well also play small end put home read hand port large spell add \
    even land here must big high such follow act why ask men change went light kind off need house picture try us \
    again animal point mother world near build self earth father";

/// The share of the memory bandwidth that decode uses.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Share {
    Of(f64),
    /// The weights fit the processor's cache.
    InCache,
    /// It cannot be computed from the weights.
    Unknown,
}

pub(super) fn run(wanted: Option<&str>, context: &mut CommandContext) -> Result<Exit, Failure> {
    let config = settings(context.config)?;
    let wanted = super::wanted_model(wanted, &config)?;
    if config.remote(&wanted).is_some() {
        return Err(Failure::usage(format!("bench measures this machine, and {wanted} is at a server")));
    }
    let started = Instant::now();
    let options = SessionOptions { raw: true, prompt_cache: false, ..SessionOptions::default() };
    let mut session = Session::new((context.open)(&config, &wanted)?, options);
    let first = ask(&mut session, text(1), 1, "loading", context)?;
    let (load, first_token) = (first.load, started.elapsed());
    let about = session.model().clone();
    let on_gpu = models::on_gpu(session.settings());
    let read = about.path.as_deref().filter(|_| !on_gpu).and_then(bytes_a_token);
    let mut runs: Vec<Stats> = Vec::new();
    let depths = DEPTHS.into_iter().filter(|depth| depth + WRITTEN as usize <= about.context_limit);
    let depths: Vec<usize> = depths.collect();
    for (number, depth) in (1..).zip(&depths) {
        let tokens = session.count(Some(&Message::new(Role::User, text(*depth))))?.prompt;
        let step = format!("{number} of {}: depth {depth}", depths.len());
        runs.push(ask(&mut session, text(depth * depth / tokens.max(1)), WRITTEN, &step, context)?);
    }
    let memory = getrusage(UsageWho::RUSAGE_SELF).map_or(0, |used| used.max_rss() as u64 * RSS_UNIT);
    let measured = bandwidth(models::threads(session.settings()).count as usize);
    let speeds: Vec<Option<f64>> = runs.iter().map(Stats::generation_speed).collect();
    let (bandwidth, shares) = shares(read, &speeds, measured, largest_cache());
    if context.json {
        let runs: Vec<_> = runs
            .iter()
            .zip(&shares)
            .map(|(stats, share)| {
                json!({
                    "depth": stats.prompt_tokens,
                    "prefill": stats.prompt_speed(),
                    "decode": stats.generation_speed(),
                    "bandwidth_share": if let Share::Of(share) = share { Some(share) } else { None },
                })
            })
            .collect();
        let object = json!({
            "model": about.name,
            "device": about.device,
            "load": load.as_secs_f64(),
            "first_token": first_token.as_secs_f64(),
            "memory": memory,
            "bandwidth": Some(bandwidth).filter(|_| !on_gpu),
            "runs": runs,
        });
        return context.print_json(&object);
    }
    let mut lines = vec![format!("{}: {}; {}", about.name, about.facts, about.device)];
    lines.push(format!(
        "loaded in {}, first token after {}, peak memory {}",
        duration(load.as_secs_f64()),
        duration(first_token.as_secs_f64()),
        size(memory)
    ));
    if !on_gpu {
        lines.push(format!(
            "memory bandwidth {}/s; the last column is the share that decode uses",
            size(bandwidth as u64)
        ));
    }
    context.print(&lines.join("\n"))?;
    let rows = runs.iter().zip(shares).map(|(stats, share)| {
        let speed = |speed: Option<f64>| speed.map_or("-".into(), |speed| format!("{speed:.1}"));
        let (read, written) = (speed(stats.prompt_speed()), speed(stats.generation_speed()));
        [stats.prompt_tokens.unwrap_or(0).to_string(), read, written, share.to_string()]
    });
    let headings = ["depth, tokens", "prefill, tokens/s", "decode, tokens/s", "memory bandwidth"];
    context.print_table(headings.map(|heading| (heading, Column::Whole)), &rows.collect::<Vec<_>>())
}

/// The system's unit for peak memory use, in bytes.
const RSS_UNIT: u64 = if cfg!(target_vendor = "apple") { 1 } else { 1024 };

/// The settings for measuring: no prompt cache, no drafts.
fn settings(config: &Config) -> Result<Config, Failure> {
    let mut config = config.clone();
    for (name, value) in [("no-prompt-cache", "on"), ("no-speculative", "on"), ("temp", "0")] {
        config.set(setting(name).expect("it is in the table"), Some(value))?;
    }
    Ok(config)
}

/// A text of this many words, always the same. Texts of different lengths have different beginnings, so that
/// none is cached.
fn text(words: usize) -> String {
    let all: Vec<&str> = WORDS.split(' ').collect();
    let mut place = 0;
    let next = |_| {
        place = (place * 25 + 47) % 1_000_003; // mixes them well enough
        [" ", all[place % all.len()]].concat()
    };
    words.to_string() + &(0..words).map(next).collect::<String>()
}

/// Prefills a text without caches and decodes at most `most` tokens after it, showing `step` meanwhile.
fn ask(
    session: &mut Session,
    text: String,
    most: u32,
    step: &str,
    context: &mut CommandContext,
) -> Result<Stats, Failure> {
    session.clear();
    let predict = setting("predict").expect("it is in the table");
    session.set(predict, Some(&most.to_string()), context.open, &mut |_| ControlFlow::Continue(()))?;
    let screen = &mut *context.screen;
    let watch = &mut |event: Option<&Event>| {
        screen.show_measuring(step, event);
        if terminal::interrupted() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let said = session.say(Message::new(Role::User, text), watch).map(|answer| answer.stats.clone());
    context.screen.end_progress();
    said.map_err(|FailedTurn { error, .. }| error.into())
}

/// Bytes of weights that decoding one token reads: all but the embedding table, unless that is the output
/// layer as well. `None` for mixtures of experts, which use only some of them, and for a model whose header
/// cannot be read.
fn bytes_a_token(path: &std::path::Path) -> Option<u64> {
    let header = gguf::read(path).ok()?;
    if header.arch_uint("expert_count").is_some_and(|experts| experts > 0) {
        return None;
    }
    let table = header.tensor("token_embd.weight").filter(|_| header.tensor("output.weight").is_some());
    Some(models::memory::weights_bytes(&header) - table.map_or(0, |table| table.bytes))
}

/// The memory bandwidth, and each run's share of it. Weights that exceed the cache come from memory, so the
/// bandwidth is at least what the fastest run needs; the measured value may be lower if the machine was busy.
fn shares(read: Option<u64>, speeds: &[Option<f64>], measured: f64, cache: u64) -> (f64, Vec<Share>) {
    let from_memory = read.filter(|bytes| *bytes > cache).map(|bytes| bytes as f64);
    let needed = |speed: &Option<f64>| from_memory.zip(*speed).map(|(bytes, speed)| bytes * speed);
    let bandwidth = speeds.iter().filter_map(needed).fold(measured, f64::max);
    let share = |speed: &Option<f64>| match needed(speed) {
        Some(needed) => Share::Of(needed / bandwidth),
        None if read.is_some_and(|bytes| bytes <= cache) => Share::InCache,
        None => Share::Unknown,
    };
    (bandwidth, speeds.iter().map(share).collect())
}

impl std::fmt::Display for Share {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Share::Of(share) => write!(f, "{:.0} %", share * 100.0),
            Share::InCache => f.write_str("fits in cache"),
            Share::Unknown => f.write_str("-"),
        }
    }
}

/// The size of the processor's largest cache in bytes; 0 if the system does not report it.
fn largest_cache() -> u64 {
    let size = |level: u32| {
        let path = format!("/sys/devices/system/cpu/cpu0/cache/index{level}/size");
        std::fs::read_to_string(path).ok()?.trim().strip_suffix('K')?.parse::<u64>().ok()
    };
    (0..5).filter_map(size).max().unwrap_or(0) << 10
}

/// Bytes per second that this many threads read from memory: the best of a few rounds, beyond cache size.
fn bandwidth(threads: usize) -> f64 {
    let bytes = (4 * largest_cache()).clamp(256 << 20, 1 << 30);
    let numbers: Vec<u64> = (0..bytes / 8).collect();
    let part = numbers.len().div_ceil(threads);
    let round = || {
        let started = Instant::now();
        std::thread::scope(|scope| {
            for part in numbers.chunks(part) {
                scope.spawn(move || std::hint::black_box(part.iter().copied().fold(0, u64::wrapping_add)));
            }
        });
        started.elapsed()
    };
    let best = (0..6).map(|_| round()).min().unwrap_or(Duration::MAX);
    bytes as f64 / best.as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_at_a_speed_that_can_be() {
        let speed = bandwidth(2);
        assert!((1e8..1e13).contains(&speed), "{speed} bytes a second");
    }

    #[test]
    fn no_run_needs_more_than_the_memory_gives() {
        let speeds = [Some(200.0), Some(50.0), None];
        let (bandwidth, of) = shares(Some(1000), &speeds, 100_000.0, 500);
        assert_eq!((bandwidth, of), (200_000.0, vec![Share::Of(1.0), Share::Of(0.25), Share::Unknown]));
        assert_eq!(shares(Some(1000), &speeds[..1], 400_000.0, 500), (400_000.0, vec![Share::Of(0.5)]));
        assert_eq!(shares(Some(400), &speeds[..1], 9.0, 500), (9.0, vec![Share::InCache]));
        assert_eq!(shares(None, &speeds[..1], 9.0, 500), (9.0, vec![Share::Unknown]));
    }
}
