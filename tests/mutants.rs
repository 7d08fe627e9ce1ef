//! Thousands of damaged model files, none of which may bring the program down.
//!
//! `FIRESIDE_MUTANTS=10000` tries that many; a failure names its seed, and `FIRESIDE_MUTANT=SEED` tries that
//! one alone and keeps the file.

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use fireside::engine::llama;
use fireside::{gguf, processor};

use crate::support::mutate::{Document, Random, blind};
use crate::support::{Home, Measured, alone, repository, tiny};

const USUAL: u64 = 150;
const LONGEST: Duration = Duration::from_secs(60);
const MOST_MEMORY: u64 = 1 << 30;
const MODELS: [&str; 7] = ["llama-bpe", "llama-spm", "gemma3", "mamba", "falcon-h1", "base", "aborts"];

/// The file for a seed, and its changes in words.
fn mutant(seed: u64) -> (Vec<u8>, String) {
    let mut random = Random::new(seed);
    let name = random.pick(&MODELS);
    let mut done = vec![name.to_string()];
    let mut bytes = std::fs::read(tiny(name)).unwrap();
    if random.below(4) > 0 {
        let mut document = Document::read(&bytes);
        let changes = 1 + random.below(2);
        done.extend((0..changes).map(|_| document.mutate(&mut random)));
        bytes = document.bytes();
    } else {
        let changes = 1 + random.below(3);
        done.extend((0..changes).map(|_| blind(&mut bytes, &mut random)));
    }
    (bytes, done.join("; "))
}

/// The fault in how a run ended, if any.
fn complaint(run: &Measured) -> Option<String> {
    let done = &run.done;
    let failures = done.stderr.lines().filter(|line| line.starts_with("fireside: ")).count();
    Some(match done.code {
        None => format!("ended by signal {:?}", run.signal),
        Some(code) if !(0..=4).contains(&code) => format!("the exit code is {code}"),
        Some(1) if failures != 1 => format!("{failures} failure lines"),
        _ if done.stderr.contains("panicked") => "a panic".into(),
        _ if done.stderr.contains("bug in fireside") => "a panic, well behaved".into(),
        _ if run.took > LONGEST => format!("it took {:?}", run.took),
        _ if run.memory > MOST_MEMORY => format!("it used {} MiB", run.memory >> 20),
        _ => return None,
    })
}

/// Makes the program believe that it loaded this file before: it then skips the probe, so that a crash would
/// be its own.
fn believe(home: &Home, file: &Path) {
    let known = serde_json::json!({
        "stamp": gguf::stamp(&[file.to_path_buf()]).unwrap(),
        "fingerprint": "0",
        "loaded_by": format!(
            "fireside {}, llama.cpp {} on {}",
            env!("CARGO_PKG_VERSION"),
            llama::BUILD,
            processor::name()
        ),
    });
    let state = serde_json::json!({ "files": { (file.to_str().unwrap()): known } });
    home.write(".local/state/fireside/models.json", state.to_string());
}

/// A run; prompt and temperature depend on the seed, too.
fn tried(home: &Home, model: &Path, seed: u64) -> Measured {
    let prompt = if seed.is_multiple_of(2) { "Hi" } else { "Hé, \u{4e16}\u{754c} \u{1f525}\n~<s>" };
    let temperature = if seed.is_multiple_of(3) { "0.8" } else { "0" };
    home.run(&["-p", prompt, "-n", "2", "--temp", temperature, "--seed", "1"])
        .model(model)
        .measured(LONGEST + Duration::from_secs(5))
}

/// Prints a line at once, for those who watch a long run.
fn note(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

#[test]
fn damaged_models_never_bring_the_program_down() {
    if !alone("mutants::damaged_models_never_bring_the_program_down") {
        return;
    }
    let number = |name: &str| std::env::var(name).ok().map(|n| n.parse::<u64>().unwrap());
    let home = Home::new();
    if let Some(seed) = number("FIRESIDE_MUTANT") {
        let (bytes, done) = mutant(seed);
        let kept = repository().join(format!("target/mutant-{seed}.gguf"));
        std::fs::write(&kept, bytes).unwrap();
        if seed % 4 == 3 {
            believe(&home, &kept);
        }
        let run = tried(&home, &kept, seed);
        panic!("seed {seed}: {done}\nin {}\n{:?}\n{run:#?}", kept.display(), complaint(&run));
    }
    let (first, count) =
        (number("FIRESIDE_FIRST_MUTANT").unwrap_or(0), number("FIRESIDE_MUTANTS").unwrap_or(USUAL));
    let (mut bad, mut codes, mut most, mut longest) = (Vec::new(), [0; 5], 0, Duration::ZERO);
    let started = Instant::now();
    for seed in first..first + count {
        let (bytes, done) = mutant(seed);
        let file = home.write("mutant.gguf", bytes);
        if seed.is_multiple_of(5) {
            let run = home.run(&["check"]).arg(&file).measured(LONGEST);
            let wrong = complaint(&run).or_else(|| (run.memory > 64 << 20).then(|| "too much memory".into()));
            bad.extend(
                wrong.map(|wrong| {
                    format!("seed {seed}: check: {wrong}: {done}\n    {}", run.done.stderr.trim())
                }),
            );
        }
        if seed % 4 == 3 {
            believe(&home, &file);
        }
        let run = tried(&home, &file, seed);
        (most, longest) = (most.max(run.memory), longest.max(run.took));
        if let Some(count) = run.done.code.and_then(|code| codes.get_mut(code as usize)) {
            *count += 1;
        }
        if let Some(complaint) = complaint(&run) {
            let line = format!("seed {seed}: {complaint}: {done}\n    {}", run.done.stderr.trim());
            note(&line);
            bad.push(line);
        }
    }
    let summary = format!(
        "{count} mutants in {:?}; exit codes {codes:?}; at most {} MiB and {longest:?}",
        started.elapsed(),
        most >> 20
    );
    note(&summary);
    assert!(
        bad.is_empty(),
        "{} of {count} mutants (FIRESIDE_MUTANT=SEED tries one again):\n{}",
        bad.len(),
        bad.join("\n")
    );
}
