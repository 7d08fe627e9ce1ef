//! `fireside bench`: the speed of a model on this machine, compared with the memory bandwidth.
//!
//! Decoding a token reads the weights once, except the embedding table and the experts that it does not use.
//! So memory bandwidth limits decode speed without drafts; several devices take turns, so their times add up.

use std::ops::ControlFlow;
use std::time::Instant;

use nix::sys::resource::{UsageWho, getrusage};
use serde_json::json;

use super::CommandContext;
use crate::chat::{Event, Message, Role, Stats};
use crate::failure::{Exit, Failure};
use crate::models::bandwidth::{Reading, largest_cache, readings};
use crate::session::{FailedTurn, Session, SessionOptions};
use crate::settings::Config;
use crate::settings::setting;
use crate::ui::table::Column;
use crate::ui::terminal;
use crate::units::{duration, size};

/// Depths: tokens in the KV cache after prefill, before decode.
const DEPTHS: [usize; 4] = [32, 512, 2048, 8192];
/// How the device is called that all have.
const MAIN_MEMORY: &str = "main memory";
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
    let mut runs: Vec<Stats> = Vec::new();
    let depths = DEPTHS.into_iter().filter(|depth| depth + WRITTEN as usize <= about.context_limit);
    let depths: Vec<usize> = depths.collect();
    for (number, depth) in (1..).zip(&depths) {
        let tokens = session.count(Some(&Message::new(Role::User, text(*depth))))?.prompt;
        let step = format!("{number} of {}: depth {depth}", depths.len());
        runs.push(ask(&mut session, text(depth * depth / tokens.max(1)), WRITTEN, &step, context)?);
    }
    let memory = getrusage(UsageWho::RUSAGE_SELF).map_or(0, |used| used.max_rss() as u64 * RSS_UNIT);
    let readings = readings(about.path.as_deref(), session.settings());
    let speeds: Vec<Option<f64>> = runs.iter().map(Stats::generation_speed).collect();
    let (readings, shares) = shares(readings, &speeds, largest_cache());
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
        let devices = readings.iter().map(|Reading { gpu, bytes, speed }| {
            json!({
                "name": gpu.as_deref().unwrap_or(MAIN_MEMORY),
                "read": bytes,
                "bandwidth": speed.map(|speed| speed.reading),
                "filling": speed.map(|speed| speed.filling),
            })
        });
        let object = json!({
            "model": about.name,
            "device": about.device,
            "load": load.as_secs_f64(),
            "first_token": first_token.as_secs_f64(),
            "memory": memory,
            "bandwidth": together(&readings),
            "devices": devices.collect::<Vec<_>>(),
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
    lines.extend(bandwidths(&readings));
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

/// The bandwidth of each device, for people; `None` if none was measured.
fn bandwidths(readings: &[Reading]) -> Option<String> {
    let measured = readings.iter().filter_map(|of| Some((of.gpu.as_deref(), of.speed?.reading)));
    let told = measured.map(|(gpu, bandwidth)| {
        let place = match gpu {
            Some(gpu) => format!(" on {gpu}"),
            None if readings.len() > 1 => format!(" in {MAIN_MEMORY}"),
            None => String::new(),
        };
        format!("{}/s{place}", size(bandwidth as u64))
    });
    let told = told.collect::<Vec<_>>().join(", ");
    (!told.is_empty())
        .then(|| format!("memory bandwidth {told}; the last column is the share that decode uses"))
}

/// The seconds that reading takes for each token; `None` if unknown.
fn seconds(readings: &[Reading]) -> Option<f64> {
    readings.iter().map(|of| Some(of.bytes? as f64 / of.speed?.reading)).sum()
}

/// The bandwidth of all devices together, in bytes per second.
fn together(readings: &[Reading]) -> Option<f64> {
    if let [one] = readings {
        return Some(one.speed?.reading);
    }
    let bytes: Option<u64> = readings.iter().map(|of| of.bytes).sum();
    Some(bytes? as f64 / seconds(readings)?)
}

/// The devices, and each run's share of their bandwidth. Weights that exceed the cache come from memory, so it
/// gives at least what the fastest run needs; the measured value may be lower if the machine was busy.
fn shares(mut readings: Vec<Reading>, speeds: &[Option<f64>], cache: u64) -> (Vec<Reading>, Vec<Share>) {
    if matches!(readings[..], [Reading { gpu: None, bytes: Some(bytes), .. }] if bytes <= cache) {
        return (readings, vec![Share::InCache; speeds.len()]);
    }
    let needed = |speed: &Option<f64>| Some(seconds(&readings)? * (*speed)?);
    let needed: Vec<Option<f64>> = speeds.iter().map(needed).collect();
    let most = needed.iter().flatten().copied().fold(1.0, f64::max);
    readings.iter_mut().filter_map(|of| of.speed.as_mut()).for_each(|speed| speed.reading *= most);
    let share = |needed: Option<f64>| needed.map_or(Share::Unknown, |needed| Share::Of(needed / most));
    (readings, needed.into_iter().map(share).collect())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::bandwidth::MemorySpeed;

    fn read(gpu: Option<&str>, bytes: Option<u64>, bandwidth: f64) -> Reading {
        let speed = Some(MemorySpeed { reading: bandwidth, filling: 1.0 });
        Reading { gpu: gpu.map(String::from), bytes, speed }
    }

    #[test]
    fn no_run_needs_more_than_the_memory_gives() {
        let speeds = [Some(200.0), Some(50.0), None];
        let of = |bytes, bandwidth, speeds: &[_]| {
            let (readings, shares) = shares(vec![read(None, bytes, bandwidth)], speeds, 500);
            (together(&readings).unwrap(), shares)
        };
        let (bandwidth, shares) = of(Some(1000), 100_000.0, &speeds);
        assert_eq!((bandwidth, shares), (200_000.0, vec![Share::Of(1.0), Share::Of(0.25), Share::Unknown]));
        assert_eq!(of(Some(1000), 400_000.0, &speeds[..1]), (400_000.0, vec![Share::Of(0.5)]));
        assert_eq!(of(Some(400), 9.0, &speeds[..1]), (9.0, vec![Share::InCache]));
        assert_eq!(of(None, 9.0, &speeds[..1]), (9.0, vec![Share::Unknown]));
    }

    #[test]
    fn devices_read_one_after_the_other() {
        let both = || vec![read(Some("CUDA0"), Some(3000), 3e6), read(None, Some(400), 1e5)];
        let (readings, of) = shares(both(), &[Some(100.0), Some(400.0)], 500);
        assert_eq!(of, [Share::Of(0.5 / 2.0), Share::Of(1.0)], "the processor's cache holds a part only");
        assert_eq!(together(&readings), Some(2.0 * 3400.0 / 0.005));
        let told = bandwidths(&both()).unwrap();
        assert!(told.starts_with("memory bandwidth 3 MiB/s on CUDA0, 98 KiB/s in main memory; "), "{told}");
        let unknown =
            vec![Reading { speed: None, ..read(Some("RPC0"), Some(1), 1.0) }, read(None, Some(1), 1.0)];
        assert_eq!((together(&unknown), seconds(&unknown)), (None, None), "a worker is not measured");
    }
}
