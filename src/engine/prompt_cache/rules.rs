//! The costs of saving a state → whether that may pay, and how much memory it may take.

use std::time::Duration;

use super::folder::DiskBounds;

/// The maximum size of a state in memory if the system does not report free memory, in bytes.
const UNTOLD: u64 = 2 << 30;

/// When to save states.
#[derive(Debug, Clone)]
pub struct Rules {
    /// A prompt is saved if restoring it is to take so much less time than its prefill. Zero: every prompt is
    /// saved and restored, whatever the cost.
    pub worth: Duration,
    /// The same for prefixes that other conversations share: they save time in each of them.
    pub worth_shared: Duration,
    pub bounds: DiskBounds,
    /// Returns the free memory in bytes, if the system reports it; a state may take half of it for a while.
    pub free: fn() -> Option<u64>,
}

impl Default for Rules {
    fn default() -> Rules {
        let (worth, worth_shared) = (Duration::from_millis(250), Duration::from_millis(30));
        Rules { worth, worth_shared, bounds: DiskBounds::default(), free: || None }
    }
}

impl Rules {
    /// The most bytes that a copy may temporarily take in memory.
    pub(super) fn room(&self) -> u64 {
        (self.free)().map_or(UNTOLD, |free| free / 2)
    }
}
