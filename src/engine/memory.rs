//! A bound on the memory that this process may take, besides files mapped into it, while something runs.
//!
//! Chat templates come with model files, and one of a hundred characters can ask for more memory than any machine has. Beyond
//! the bound the process ends, with a line that says so (ui/crash.rs), where otherwise the machine would come to a halt.

use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::error::RENDERING;

/// What rendering a template may take, in bytes.
const TEMPLATE: u64 = 512 << 20;

/// Renders a template within the bound.
pub(super) fn rendering<T>(render: impl FnOnce() -> T) -> T {
    static ONE: Mutex<()> = Mutex::new(()); // whoever comes second must not take the first one's bound for the usual
    let _alone = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let before = getrlimit(Resource::RLIMIT_DATA).ok();
    if let Some(used) = used() {
        limit(used.saturating_add(TEMPLATE));
    }
    RENDERING.store(true, Ordering::Relaxed);
    let result = render();
    RENDERING.store(false, Ordering::Relaxed);
    if let Some((soft, hard)) = before {
        let _ = setrlimit(Resource::RLIMIT_DATA, soft, hard); // it was allowed before
    }
    result
}

/// Bounds what this process may have from now on; without that the machine's memory is the limit.
pub fn limit(bytes: u64) {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_DATA) {
        let _ = setrlimit(Resource::RLIMIT_DATA, bytes.min(soft), hard);
    }
}

/// Bytes that count against the bound now; `None` where the system does not say.
fn used() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmData:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? << 10)
}
