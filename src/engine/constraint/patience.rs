//! Work on a constraint → its result, or a refusal if that takes too long.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use super::Error;
use crate::chat::Constraint;

/// Stack for what llguidance does recursively; only touched pages take memory.
const STACK: usize = 256 << 20;
/// How long a processor may work on one constraint: on almost all it works a hundredth of that.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long that may take on a busy machine.
const LONGEST: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(20);

/// Does some work on a constraint. llguidance and the checks before it recurse deeply, and not everything that they do
/// has a limit.
pub(super) fn in_time<T: Send + 'static>(
    constraint: &Constraint,
    work: impl FnOnce(&Constraint) -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let ((begin, begun), (end, ended)) = (channel(), channel());
    let (kind, constraint) = (constraint.kind(), constraint.clone());
    let work = move || {
        let _ = begin.send(clock());
        let _ = end.send(work(&constraint)); // fails if nobody waits any more
    };
    let thread = std::thread::Builder::new().stack_size(STACK).spawn(work);
    thread.expect("a thread can be started");
    let started = Instant::now();
    let clock = begun.recv().ok().flatten();
    loop {
        let took = || clock.as_deref().and_then(worked).unwrap_or(started.elapsed());
        match ended.recv_timeout(POLL) {
            Ok(result) => return result,
            Err(RecvTimeoutError::Timeout) if took() < PATIENCE && started.elapsed() < LONGEST => {}
            Err(_) => return Err(Error::Complex { kind, why: "it takes longer than a second".into() }),
        }
    }
}

/// The file with the time that a processor has worked for this thread; `None` where there is none.
fn clock() -> Option<PathBuf> {
    Some(Path::new("/proc").join(fs::read_link("/proc/thread-self").ok()?).join("schedstat"))
}

fn worked(clock: &Path) -> Option<Duration> {
    fs::read_to_string(clock).ok()?.split(' ').next()?.parse().ok().map(Duration::from_nanos)
}
