//! A bound on the memory that this process may take, besides files mapped into it.
//!
//! For processes that do one dangerous thing: trying out a model file, rendering a template. Beyond the bound they end, where
//! otherwise the machine would come to a halt.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Bounds what this process may have from now on; without that the machine's memory is the limit.
pub fn limit(bytes: u64) {
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_DATA) {
        let _ = setrlimit(Resource::RLIMIT_DATA, bytes.min(hard), hard);
    }
}

/// Bytes that count against the bound now; `None` where the system does not say.
pub(super) fn used() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmData:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? << 10)
}
