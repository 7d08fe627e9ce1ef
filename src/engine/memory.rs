//! A limit on this process's memory, not counting files mapped into it.
//!
//! For processes that do one risky task: probe a model file or render a template. Past the limit they die
//! instead of bringing the machine to a halt.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Limits the data memory of this process, in bytes. Without a limit the machine's memory is the only one.
pub fn limit(bytes: u64) {
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_DATA) {
        let _ = setrlimit(Resource::RLIMIT_DATA, bytes.min(hard), hard);
    }
}

/// Bytes that count towards the limit now; `None` if the system does not report them.
pub(super) fn used() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmData:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? << 10)
}
