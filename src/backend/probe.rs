//! Trying out an unknown model file in a child process, because llama.cpp ends the process on some bad files.

use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::error::Failure;

/// How often the child is looked at.
const INTERVAL: Duration = Duration::from_millis(5);

/// Loads `path` in a child of this program (`--probe`). The failure says why the file cannot be used.
pub(super) fn run(path: &Path, args: &[String], abort: &AtomicBool) -> Result<(), Failure> {
    let cannot = |e: std::io::Error| Failure::new(format!("could not try out {}: {e}", path.display()));
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
    let status = loop {
        match child.try_wait().map_err(cannot)? {
            Some(status) => break status,
            None if abort.load(Ordering::Relaxed) => {
                let _ = child.kill(); // it may just have ended by itself
                let _ = child.wait();
                return Err(Failure::interrupted());
            }
            None => std::thread::sleep(INTERVAL),
        }
    };
    if status.success() {
        return Ok(());
    }
    let reason = last_words(child).unwrap_or_else(|| how_it_ended(status));
    Err(Failure::new(format!("could not load {}: {reason}", path.display()))
        .hint("the file may be damaged, or made for another version of llama.cpp; try fetching it again"))
}

/// The reason the child gave: the last line that it wrote under the program's name.
fn last_words(child: Child) -> Option<String> {
    let output = child.wait_with_output().ok()?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let line = text.lines().rev().find_map(|line| line.strip_prefix("fireside: "))?;
    Some(line.to_string())
}

fn how_it_ended(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match status.signal() {
        Some(signal) => format!("llama.cpp was ended by signal {signal} while loading it"),
        None => "llama.cpp stopped while loading it".into(),
    }
}
