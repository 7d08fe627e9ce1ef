//! The probe of an unknown model file in a child process: some bad files make llama.cpp end the process.
//!
//! Both ends of the process boundary: [`run`] starts the child and turns its exit into a verdict
//! (backend/probe.rs), [`child`] loads the file and has engine/probe.rs evaluate some tokens. Whatever the
//! file does to the child, the parent gets one line: it limits the child's time, and the child its own memory
//! unless there is a GPU.
//!
//! A large model is not loaded twice: the child evaluates all of it as it lies in the mapped file, which the
//! load that follows finds in the system's cache, and repacks one weight of each kind.

use std::collections::BTreeSet;
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::libc::{SIGINT, SIGKILL};
use nix::sys::signal::Signal;

use super::memory::weights_bytes;
use super::{chat_template, parts, refused, threads};
use crate::backend::Error;
use crate::backend::probe::ProbeVerdict;
use crate::chat::Settings;
use crate::engine::llama::{
    self, ContextOptions, Llama, LoadOptions, Placement, Weights, contained, gpus, multiply_repacked,
};
use crate::engine::{self, Engine};
use crate::files::reason;
use crate::gguf::{self, Header};
use crate::ui::crash;

/// How often to check on the child.
const INTERVAL: Duration = Duration::from_millis(5);
/// The child's time limit: a base, and an allowance per gibibyte for the slowest disks.
const PATIENCE: Duration = Duration::from_secs(30);
const PATIENCE_PER_GIB: Duration = Duration::from_secs(100);
/// The child's exit code if a setting is wrong, not the file.
const WRONG_SETTING: i32 = 2;
/// How many bytes of the child's stderr are kept: its end.
const WORDS: usize = 16 << 10;

/// Loads `path`, a model of `bytes` bytes in all parts, in a child process ([`child`]). If the child dies of
/// a processor fault, tries another one without repacked weights. The error says why the file cannot be used.
pub(super) fn run(
    path: &Path,
    bytes: u64,
    args: &[String],
    abort: &AtomicBool,
) -> Result<ProbeVerdict, Error> {
    let first = attempt(path, bytes, args, abort)?;
    let ProbeEnd::Crashed(signal) = first else { return first.verdict(path) };
    let plain: Vec<String> = args.iter().cloned().chain(["--no-repack=on".to_string()]).collect();
    match attempt(path, bytes, &plain, abort)? {
        ProbeEnd::Well => Ok(ProbeVerdict::WithoutRepack(signal)),
        _ => first.verdict(path),
    }
}

fn attempt(path: &Path, bytes: u64, args: &[String], abort: &AtomicBool) -> Result<ProbeEnd, Error> {
    let cannot = |e: std::io::Error| Error::NotTried { path: path.into(), why: reason(&e) };
    let program = std::env::current_exe().map_err(cannot)?;
    let mut child = Command::new(program)
        .arg("--probe")
        .arg(path)
        .args(args)
        .env("GGML_NO_BACKTRACE", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(cannot)?;
    let words = listen(&mut child);
    let most = PATIENCE + PATIENCE_PER_GIB.mul_f64(bytes as f64 / f64::from(1 << 30));
    let started = Instant::now();
    let ended = loop {
        match child.try_wait().map_err(cannot)? {
            Some(status) => break Some(status),
            None if abort.load(Ordering::Relaxed) => {
                end(&mut child);
                return Err(Error::Interrupted);
            }
            None if started.elapsed() > most => {
                end(&mut child);
                break None;
            }
            None => std::thread::sleep(INTERVAL),
        }
    };
    let words = words.and_then(|words| words.join().ok());
    let last = |start: &str| last_words(words.as_deref()?, start);
    Ok(match ended {
        Some(status) if status.success() => ProbeEnd::Well,
        Some(status) if status.signal() == Some(SIGINT) => return Err(Error::Interrupted),
        Some(status) => match (fault(status), last("fireside: ")) {
            (Some(signal), _) => ProbeEnd::Crashed(signal),
            (None, Some(line)) if status.code() == Some(WRONG_SETTING) => {
                return Err(Error::Setting { line, hint: last("hint: ") });
            }
            (None, Some(line)) if line.starts_with(&no_memory_for(path)) => {
                let why = line[no_memory_for(path).len()..].to_string();
                return Err(Error::NoMemory { path: path.into(), why });
            }
            (None, why) => ProbeEnd::Badly(why.unwrap_or_else(|| how_it_ended(status))),
        },
        None => ProbeEnd::Badly(format!("testing it took longer than {} seconds", most.as_secs())),
    })
}

/// How a probe ended.
enum ProbeEnd {
    Well,
    /// By a signal for an invalid instruction or address.
    Crashed(Signal),
    /// With this reason.
    Badly(String),
}

impl ProbeEnd {
    fn verdict(self, path: &Path) -> Result<ProbeVerdict, Error> {
        let reason = match self {
            ProbeEnd::Well => return Ok(ProbeVerdict::Sound),
            ProbeEnd::Crashed(signal) => format!("llama.cpp crashes on it ({signal})"),
            ProbeEnd::Badly(reason) => reason,
        };
        Err(Error::Unsound { path: path.into(), why: reason })
    }
}

fn fault(status: ExitStatus) -> Option<Signal> {
    let signal = status.signal().and_then(|signal| Signal::try_from(signal).ok())?;
    matches!(signal, Signal::SIGSEGV | Signal::SIGILL | Signal::SIGFPE).then_some(signal)
}

fn end(child: &mut Child) {
    let _ = child.kill(); // it may have just ended
    let _ = child.wait();
}

/// Drains the child's stderr, so that the child never blocks on it.
fn listen(child: &mut Child) -> Option<JoinHandle<Vec<u8>>> {
    let mut stderr = child.stderr.take()?;
    let read = move || {
        let (mut words, mut piece) = (Vec::new(), [0; 4096]);
        while let Ok(length @ 1..) = stderr.read(&mut piece) {
            words.extend_from_slice(&piece[..length]);
            words.drain(..words.len().saturating_sub(WORDS));
        }
        words
    };
    std::thread::Builder::new().spawn(read).ok()
}

/// The child's last line with this prefix, without the prefix.
fn last_words(words: &[u8], start: &str) -> Option<String> {
    let text = String::from_utf8_lossy(words);
    text.lines().rev().find_map(|line| line.strip_prefix(start)).map(String::from)
}

/// The beginning of the child's line if memory ran out.
fn no_memory_for(path: &Path) -> String {
    Error::NoMemory { path: path.into(), why: String::new() }.to_string()
}

fn how_it_ended(status: ExitStatus) -> String {
    match status.signal() {
        Some(SIGKILL) => "the system killed it, probably because memory ran out".into(),
        Some(signal) => format!("llama.cpp was killed by signal {signal} while loading it"),
        None => "llama.cpp stopped while loading it".into(),
    }
}

/// Memory that the child may use besides twice the model's size, in bytes.
const PROBE_MEMORY: u64 = 1 << 30;
/// The layers that the child puts on a GPU: the output layer and one more.
const GPU_LAYERS: u32 = 2;

/// The child: tries out a file. Its last lines on stderr and its exit code tell the outcome.
pub fn child(path: &Path, settings: &Settings) -> Result<(), super::Error> {
    crash::let_faults_end_it();
    contained(|| try_out(path, settings))
}

/// Loads a file, evaluates some tokens, and renders its chat template. Only a crash counts against the
/// template: an error in it is reported when the model is asked to answer.
fn try_out(path: &Path, settings: &Settings) -> Result<(), super::Error> {
    let header = gguf::read(path).map_err(|refusal| refused(path, refusal))?;
    let bytes = weights_bytes(&header);
    let limited = gpus().is_empty();
    if limited {
        // GPU drivers have memory needs of their own.
        engine::memory::limit(bytes.saturating_mul(2).saturating_add(PROBE_MEMORY));
    }
    let usual = LoadOptions::new(settings, parts(&header));
    let gpu_layers = usual.placement.gpu_layers.min(GPU_LAYERS);
    let placement = Placement { gpu_layers, ..usual.placement.clone() };
    let load = LoadOptions { placement, mlock: false, repack: false, ..usual };
    let threads = threads(settings).count;
    let context = ContextOptions::new(settings, 256, 64, threads);
    // Beyond the limit a file takes more than a sound one of its size.
    let failed = |error: anyhow::Error| match error.to_string() {
        why if llama::lacks_memory(&why) && !limited => Error::NoMemory { path: path.into(), why },
        _ => Error::from(engine::Error::from(error)),
    };
    let weights = Weights::load(path, &load, |_| true).map_err(failed)?;
    crash::on_purpose(usual.repack);
    if usual.repack {
        for (kind, dims) in kinds(&header) {
            multiply_repacked(kind, &dims, threads);
        }
    }
    let probed = engine::probe(&weights, context.clone());
    probed.map_err(|error| match error {
        engine::Error::NoRoom { why, .. } if !limited => Error::NoMemory { path: path.into(), why },
        error => Error::from(error),
    })?;
    let template = chat_template(&header, settings)?;
    let _ = Engine::new(Llama::new(&weights, context), template.as_deref(), &settings.template_args);
    Ok(())
}

/// The types and shapes of a model's matrices, each once; with a third dimension those of its experts.
fn kinds(header: &Header) -> BTreeSet<(u32, Vec<u64>)> {
    let others = gguf::parts(header).into_iter().filter(|part| *part != header.path);
    let others: Vec<Header> = others.filter_map(|part| gguf::read(&part).ok()).collect();
    let tensors = std::iter::once(header).chain(&others).flat_map(|part| &part.tensors);
    let matrices = tensors.filter(|tensor| matches!(tensor.dims.len(), 2 | 3));
    matrices.map(|tensor| (tensor.kind, tensor.dims.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gguf::sample::Sample;

    #[test]
    fn layers_of_the_same_shape_count_once() {
        let layer = |sample: Sample, layer| {
            let name = |weight: &str| format!("blk.{layer}.{weight}.weight");
            let sample = sample.tensor(&name("attn_norm"), &[8]).tensor(&name("attn_q"), &[8, 8]);
            sample.tensor(&name("ffn_up"), &[8, 16]).tensor(&name("ffn_up_exps"), &[8, 4, 2])
        };
        let bytes = (0..3).fold(Sample::default().tensor("output.weight", &[8, 16]), layer).bytes();
        let header = gguf::read_from(&bytes[..], bytes.len() as u64, Path::new("m.gguf")).unwrap();
        let expected = [&[8, 4, 2][..], &[8, 8], &[8, 16]].map(|dims| (0, dims.to_vec()));
        assert_eq!(kinds(&header), BTreeSet::from(expected));
    }
}
