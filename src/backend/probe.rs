//! The probe of an unknown model file: its verdict → how the backend loads the file, and what it remembers.
//!
//! This file has the types, remembers a pass, and words the notice about a crash. The function in [`Probe`]
//! is in models/probe.rs and starts a child process; engine/probe.rs does the work in that process.

use std::sync::atomic::AtomicBool;

use nix::sys::signal::Signal;

use super::Error;
use crate::model_state::ModelEntry;

/// Runs the probe of a file; setting the flag aborts it. The error says why the file cannot be used.
pub type RunProbe = dyn Fn(&AtomicBool) -> Result<ProbeVerdict, Error> + Send;

/// The probe of an unknown file, and the keys under which a pass is remembered.
pub struct Probe {
    pub run: Box<RunProbe>,
    pub fingerprint: String,
    /// A key for everything but the file that the verdict depends on.
    pub build: String,
    /// A key for everything that a crash depends on: llama.cpp and the processor.
    pub machine: String,
}

impl Probe {
    /// Remembers that the file can be used.
    pub fn passed(&self, state: &ModelEntry, verdict: ProbeVerdict) {
        state.remember_loaded(&self.fingerprint, &self.build);
        if let ProbeVerdict::WithoutRepack(signal) = verdict {
            state.remember_crash(&self.machine, signal.as_str());
        }
    }
}

/// The result of a probe that the file passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProbeVerdict {
    Sound,
    /// The file loads, but weights repacked for the processor crash with this signal: not the file's fault.
    WithoutRepack(Signal),
}

/// The notice that weights are not repacked because of this signal.
pub fn without_repack(signal: &str) -> String {
    format!(
        "llama.cpp crashes on this processor ({signal}) when it repacks weights for it; fireside runs it without, which is slower: \
         rebuild fireside on this machine, and report the crash if that does not help"
    )
}
