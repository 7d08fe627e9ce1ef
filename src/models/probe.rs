//! The trial of an unknown model file in a child process, because llama.cpp ends the process on some bad
//! files.
//!
//! Both ends of the process boundary: [`run`] starts the child and turns its end into a verdict
//! (backend/trial.rs), [`child`] loads the file and has engine/trial.rs evaluate some tokens. Whatever the
//! file does to the child, the parent gets one line: it limits the child's time, and the child its own
//! memory.

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
use super::{chat_template, parts, refused};
use crate::backend::Error;
use crate::backend::trial::TrialVerdict;
use crate::chat::Settings;
use crate::engine::llama::{ContextOptions, Llama, LoadOptions, Weights, contained, devices};
use crate::engine::{self, Engine};
use crate::files::reason;
use crate::gguf;
use crate::ui::crash;

/// How often the child is looked at.
const INTERVAL: Duration = Duration::from_millis(5);
/// How long it may take: for a start, and for every gibibyte of the file on a disk as slow as they come.
const PATIENCE: Duration = Duration::from_secs(30);
const PATIENCE_PER_GIB: Duration = Duration::from_secs(100);
/// A child's exit code where a setting is wrong, and nothing with the file.
const WRONG_SETTING: i32 = 2;
/// How much of what it says is kept, in bytes: the last words count.
const WORDS: usize = 16 << 10;

/// Loads `path`, a model of `bytes` bytes in all its files, in a child of this program ([`child`]); in another one without
/// weights laid out anew if the first dies of what processors do. The error says why the file cannot be used.
pub(super) fn run(path: &Path, bytes: u64, args: &[String], abort: &AtomicBool) -> Result<TrialVerdict, Error> {
    let first = attempt(path, bytes, args, abort)?;
    let Ended::Crashed(signal) = first else { return first.verdict(path) };
    let plain: Vec<String> = args.iter().cloned().chain(["--no-repack=on".to_string()]).collect();
    match attempt(path, bytes, &plain, abort)? {
        Ended::Well => Ok(TrialVerdict::WithoutRepack(signal)),
        _ => first.verdict(path),
    }
}

fn attempt(path: &Path, bytes: u64, args: &[String], abort: &AtomicBool) -> Result<Ended, Error> {
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
        Some(status) if status.success() => Ended::Well,
        Some(status) if status.signal() == Some(SIGINT) => return Err(Error::Interrupted),
        Some(status) => match (fault(status), last("fireside: ")) {
            (Some(signal), _) => Ended::Crashed(signal),
            (None, Some(line)) if status.code() == Some(WRONG_SETTING) => {
                return Err(Error::Setting { line, hint: last("hint: ") });
            }
            (None, why) => Ended::Badly(why.unwrap_or_else(|| how_it_ended(status))),
        },
        None => Ended::Badly(format!("trying it out was not over after {} seconds", most.as_secs())),
    })
}

/// How a trial ended.
enum Ended {
    Well,
    /// Of a signal that a wrong instruction or a wrong address raises.
    Crashed(Signal),
    /// For this reason.
    Badly(String),
}

impl Ended {
    fn verdict(self, path: &Path) -> Result<TrialVerdict, Error> {
        let reason = match self {
            Ended::Well => return Ok(TrialVerdict::Sound),
            Ended::Crashed(signal) => format!("llama.cpp crashes on it ({signal})"),
            Ended::Badly(reason) => reason,
        };
        Err(Error::Unsound { path: path.into(), why: reason })
    }
}

fn fault(status: ExitStatus) -> Option<Signal> {
    let signal = status.signal().and_then(|signal| Signal::try_from(signal).ok())?;
    matches!(signal, Signal::SIGSEGV | Signal::SIGILL | Signal::SIGFPE).then_some(signal)
}

fn end(child: &mut Child) {
    let _ = child.kill(); // it may just have ended by itself
    let _ = child.wait();
}

/// Reads what the child says, however much that is, so that it never waits for a reader.
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

/// What the child said in the last line that began so.
fn last_words(words: &[u8], start: &str) -> Option<String> {
    let text = String::from_utf8_lossy(words);
    text.lines().rev().find_map(|line| line.strip_prefix(start)).map(String::from)
}

fn how_it_ended(status: ExitStatus) -> String {
    match status.signal() {
        Some(SIGKILL) => "the system ended it, probably because memory ran out".into(),
        Some(signal) => format!("llama.cpp was ended by signal {signal} while loading it"),
        None => "llama.cpp stopped while loading it".into(),
    }
}

/// Memory that a child may use besides twice the size of the model, in bytes.
const PROBE_MEMORY: u64 = 1 << 30;

/// The child: tries a file out. Its last lines on stderr and its exit code are to say what came of that.
pub fn child(path: &Path, settings: &Settings) -> Result<(), super::Error> {
    crash::let_faults_end_it();
    contained(|| try_out(path, settings))
}

/// Loads a file, evaluates one token, and renders its chat template. Only the end of the process is a verdict on the
/// template: what it merely refuses is said when it is asked to answer.
fn try_out(path: &Path, settings: &Settings) -> Result<(), super::Error> {
    let header = gguf::read(path).map_err(|refusal| refused(path, refusal))?;
    let bytes = weights_bytes(&header);
    if !devices().iter().any(|device| device.gpu) {
        engine::memory::limit(bytes.saturating_mul(2).saturating_add(PROBE_MEMORY)); // a GPU's driver has its own ideas of memory
    }
    let load = LoadOptions::new(settings, parts(&header)); // as it will be loaded
    let context = ContextOptions { threads_batch: 1, ..ContextOptions::new(settings, 256, 64, 1) };
    let weights = Weights::load(path, &load, |_| true).map_err(engine::Error::from).map_err(Error::from)?;
    crash::on_purpose(load.repack);
    engine::try_out(&weights, context.clone()).map_err(Error::from)?;
    let template = chat_template(&header, settings)?;
    let _ = Engine::new(Llama::new(&weights, context), template.as_deref(), &settings.template_args);
    Ok(())
}
