//! The trial of an unknown model file, as the backend sees it: the verdict → how to load the file, and what
//! to remember.
//!
//! Here are only the types: [`Trial`] holds the function that runs the trial. models/probe.rs is that
//! function, and starts a child process; engine/trial.rs is the work in the child.

use std::sync::atomic::AtomicBool;

use nix::sys::signal::Signal;

use super::Error;
use crate::model_state::ModelEntry;

/// Tries out a file, until the flag is set. The error says why it cannot be used.
pub type RunTrial = dyn Fn(&AtomicBool) -> Result<TrialVerdict, Error> + Send;

/// How an unknown file is tried out, and what is remembered once it has passed.
pub struct Trial {
    pub run: Box<RunTrial>,
    pub fingerprint: String,
    /// What the verdict depends on besides the file.
    pub build: String,
    /// What a crash depends on.
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

/// What to load a file with that was tried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrialVerdict {
    Sound,
    /// It loads, but dies of this signal with weights laid out for the processor: that is no fault of the file.
    WithoutRepack(Signal),
}

/// The line for who uses a model whose weights are used as they are, because of this signal.
pub fn without_repack(signal: &str) -> String {
    format!(
        "llama.cpp crashes on this processor ({signal}) with weights laid out for it; they are used as the file has them, which is \
         slower: build fireside anew on this machine, and if that does not help, report it"
    )
}
