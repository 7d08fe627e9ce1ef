//! The trial of an unknown model file: its verdict → how the backend loads the file, and what it remembers.
//!
//! This file has only the types. The function in [`Trial`] is in models/probe.rs and starts a child process;
//! engine/trial.rs does the work in that process.

use std::sync::atomic::AtomicBool;

use nix::sys::signal::Signal;

use super::Error;
use crate::model_state::ModelEntry;

/// Runs the trial of a file; setting the flag aborts it. The error says why the file cannot be used.
pub type RunTrial = dyn Fn(&AtomicBool) -> Result<TrialVerdict, Error> + Send;

/// The trial of an unknown file, and the keys under which a pass is remembered.
pub struct Trial {
    pub run: Box<RunTrial>,
    pub fingerprint: String,
    /// A key for everything but the file that the verdict depends on.
    pub build: String,
    /// A key for everything that a crash depends on: llama.cpp and the processor.
    pub machine: String,
}

impl Trial {
    /// Remembers that the file can be used.
    pub fn passed(&self, state: &ModelEntry, verdict: TrialVerdict) {
        state.remember_loaded(&self.fingerprint, &self.build);
        if let TrialVerdict::WithoutRepack(signal) = verdict {
            state.remember_crash(&self.machine, signal.as_str());
        }
    }
}

/// The result of a trial that the file passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrialVerdict {
    Sound,
    /// The file loads, but weights repacked for the processor crash with this signal: not the file's fault.
    WithoutRepack(Signal),
}

/// The notice that weights are not repacked because of this signal.
pub fn without_repack(signal: &str) -> String {
    format!(
        "llama.cpp crashes on this processor ({signal}) with weights laid out for it; they are used as the file has them, which is \
         slower: build fireside anew on this machine, and if that does not help, report it"
    )
}
