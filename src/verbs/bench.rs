//! `fireside bench`: how fast this machine runs a model, and how near that is to what its memory allows.
//!
//! Writing a token reads every weight once, so no model that is not guessing writes faster than the memory gives its weights.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use serde_json::json;

use super::{Means, table};
use crate::chat::options::setting;
use crate::chat::{Event, Message, Role, Stats};
use crate::config::Config;
use crate::error::{Exit, Failure};
use crate::gguf;
use crate::model::{self, about};
use crate::session::{Session, Undone};
use crate::ui::terminal;
use crate::units::size;

/// Tokens in memory where reading has ended and writing begins.
const DEPTHS: [usize; 4] = [32, 512, 2048, 8192];
/// Tokens that are written at each depth.
const WRITTEN: u32 = 64;
/// Every model knows it, as one token or a few.
const WORD: &str = " house";

/// What one depth gave.
struct Run {
    stats: Stats,
    /// Of the memory's speed, what writing needs; `None`: it does not follow from the weights.
    share: Option<f64>,
}

pub(super) fn run(wanted: Option<&str>, means: &mut Means) -> Result<Exit, Failure> {
    let config = settings(means.config)?;
    let wanted = match wanted.map(String::from).or(config.settle(&[])?.model) {
        Some(wanted) => wanted,
        None => {
            let usual = model::usual(&config).ok_or_else(|| about::unnamed(&config, &about::all(&config)))?;
            usual.display().to_string()
        }
    };
    let started = Instant::now();
    let mut session = Session::new(config.clone(), (means.open)(&config, &wanted)?);
    session.raw = true;
    session.keeps_evaluated = false;
    let first = ask(&mut session, text(1), 1, means)?;
    let (load, first_token) = (first.load, started.elapsed());
    let about = session.model().clone();
    let read = about.path.as_deref().and_then(bytes_a_token);
    let mut runs: Vec<Stats> = Vec::new();
    for depth in DEPTHS.into_iter().filter(|depth| depth + WRITTEN as usize <= about.context_limit) {
        let tokens = session.count(Some(&Message::new(Role::User, text(depth))))?.prompt;
        let stats = ask(&mut session, text(depth * depth / tokens.max(1)), WRITTEN, means)?;
        runs.push(stats);
    }
    let memory = getrusage(UsageWho::RUSAGE_SELF).map_or(0, |used| used.max_rss() as u64 * RSS_UNIT);
    let bandwidth = bandwidth(model::threads(&session.settings) as usize);
    let share = |stats: Stats| {
        let share = read.zip(stats.generation_speed()).map(|(bytes, speed)| bytes as f64 * speed / bandwidth);
        Run { stats, share }
    };
    let runs: Vec<Run> = runs.into_iter().map(share).collect();
    if means.json {
        let runs: Vec<_> = runs
            .iter()
            .map(|run| {
                json!({
                    "depth": run.stats.prompt_tokens,
                    "reading": run.stats.prompt_speed(),
                    "writing": run.stats.generation_speed(),
                    "bandwidth_share": run.share,
                })
            })
            .collect();
        let object = json!({
            "model": about.name,
            "device": about.device,
            "load": load.as_secs_f64(),
            "first_token": first_token.as_secs_f64(),
            "memory": memory,
            "bandwidth": bandwidth,
            "runs": runs,
        });
        return means.print_json(&object);
    }
    let mut lines = vec![format!("{}: {}; {}", about.name, about.facts, about.device)];
    lines.push(format!(
        "loaded in {:.2} s, first token after {:.2} s, at most {} of memory",
        load.as_secs_f64(),
        first_token.as_secs_f64(),
        size(memory)
    ));
    lines.push(format!(
        "memory gives {}/s, of which writing takes the share on the right",
        size(bandwidth as u64)
    ));
    let mut rows = vec![
        ["tokens before", "reading, tokens/s", "writing, tokens/s", "of the memory's speed"]
            .map(String::from),
    ];
    for Run { stats, share } in &runs {
        let speed = |speed: Option<f64>| speed.map_or("-".into(), |speed| format!("{speed:.1}"));
        let share = share.map_or("-".into(), |share| format!("{:.0} %", share * 100.0));
        let (read, written) = (speed(stats.prompt_speed()), speed(stats.generation_speed()));
        rows.push([stats.prompt_tokens.to_string(), read, written, share]);
    }
    lines.extend(table(&rows));
    means.print(&lines.join("\n"))
}

/// Unit of the largest memory use that the system tells, in bytes.
const RSS_UNIT: u64 = if cfg!(target_vendor = "apple") { 1 } else { 1024 };

/// What is measured is the model, not what saves work.
fn settings(config: &Config) -> Result<Config, Failure> {
    let mut config = config.clone();
    for (name, value) in [("no-snapshots", "on"), ("no-guess", "on"), ("temp", "0")] {
        config.set(setting(name).expect("it is in the table"), Some(value))?;
    }
    Ok(config)
}

/// So many words, at the beginning other ones for every number, so that nothing of it is in memory already.
fn text(words: usize) -> String {
    format!("{words}{}", WORD.repeat(words))
}

/// Reads a text afresh and writes at most `most` tokens after it.
fn ask(session: &mut Session, text: String, most: u32, means: &mut Means) -> Result<Stats, Failure> {
    session.clear();
    session.settings.predict = Some(most);
    let screen = &mut *means.screen;
    let watch = &mut |event: Option<&Event>| {
        screen.show_progress(event.filter(|event| !matches!(event, Event::Text(_))));
        if terminal::interrupted() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let said = session.say(Message::new(Role::User, text), watch).map(|answer| answer.stats.clone());
    means.screen.end_progress();
    said.map_err(|Undone { failure, .. }| failure)
}

/// Bytes of weights that writing one token reads: all but the table of embeddings, of which one row is read, unless that is the
/// output as well. `None` for experts, of which only some are used, and for a model whose header cannot be read.
fn bytes_a_token(path: &std::path::Path) -> Option<u64> {
    let header = gguf::read(path).ok()?;
    if header.arch_uint("expert_count").is_some_and(|experts| experts > 0) {
        return None;
    }
    let table = header.tensor("token_embd.weight").filter(|_| header.tensor("output.weight").is_some());
    Some(model::memory::weights_bytes(&header) - table.map_or(0, |table| table.bytes))
}

/// Bytes a second that so many threads read from memory, the best of a few rounds over more than any cache holds.
fn bandwidth(threads: usize) -> f64 {
    const NUMBERS: usize = 32 << 20; // 256 MiB
    let numbers: Vec<u64> = (0..NUMBERS as u64).collect();
    let part = NUMBERS.div_ceil(threads);
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
    (NUMBERS * 8) as f64 / best.as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_at_a_speed_that_can_be() {
        let speed = bandwidth(2);
        assert!((1e8..1e13).contains(&speed), "{speed} bytes a second");
    }
}
