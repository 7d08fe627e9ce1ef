//! A `!command` → its output: run by the user's shell, shown while it runs, and kept for the next message.

use std::env;
use std::io::{self, Read};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::ui::{log, terminal, typing};

/// Most bytes of output that are shown and kept.
pub(super) const MOST_BYTES: usize = 100_000;
/// How often to look whether the command has ended.
const PATIENCE: Duration = Duration::from_millis(20);
/// How long a command may take to end after Ctrl-C before a hint says what else helps.
const DEAF: Duration = Duration::from_secs(1);
/// Most bytes that a pipe holds: what the command has written when it ends.
const PIPE: usize = 1 << 20;

/// What a command has written, to stdout and stderr.
pub(super) struct Output {
    pub(super) text: String,
    /// There was more than `MOST_BYTES`.
    pub(super) cut: bool,
    pub(super) status: ExitStatus,
}

/// Runs the command on the terminal and shows its output. Ctrl-C stops it.
pub(super) fn run(command: &str) -> io::Result<Output> {
    let _ = terminal::interrupted(); // discards an earlier Ctrl-C
    let (output, input) = io::pipe()?;
    let mut shell = Command::new(shell());
    shell.args(["-c", command]).stdout(input.try_clone()?).stderr(input);
    shell.stdin(terminal::device().map_or(Stdio::null(), Stdio::from));
    let done: io::Result<(Kept, ExitStatus)> = terminal::as_found(|| {
        let child = shell.spawn()?;
        drop(shell); // its copies of the pipe: the output ends with the command
        let mut kept = Kept::default();
        let status = follow(child, output, &mut kept)?;
        Ok((kept, status))
    });
    let _ = terminal::interrupted(); // meant for the command
    let (kept, status) = done?;
    let text = String::from_utf8_lossy(&kept.bytes).replace("\r\n", "\n");
    Ok(Output { text, cut: kept.cut, status })
}

/// The user's shell; the system's if there is no absolute path in SHELL.
fn shell() -> String {
    let own = env::var("SHELL").ok().filter(|path| Path::new(path).is_absolute());
    own.unwrap_or_else(|| "/bin/sh".into())
}

/// Reads until the command has ended. What it left running in the background may write on, unread.
fn follow(mut child: Child, mut output: io::PipeReader, kept: &mut Kept) -> io::Result<ExitStatus> {
    let (mut piece, mut open) = ([0; 8192], true);
    let mut interrupts = Interrupts::default();
    loop {
        interrupts.pass_on(&mut child, kept.bytes.len());
        let ended = child.try_wait()?;
        let (patience, most) = if ended.is_some() { (Duration::ZERO, PIPE) } else { (PATIENCE, piece.len()) };
        let mut read = 0;
        while open && read < most && typing::is_readable(&output, patience) {
            let length = output.read(&mut piece)?;
            kept.add(&piece[..length]);
            (read, open) = (read + length, length > 0);
        }
        if let Some(status) = ended {
            kept.end(interrupts.last == Some(kept.bytes.len()));
            return Ok(status);
        }
        if !open {
            sleep(PATIENCE);
        }
    }
}

/// Ctrl-C during a command.
#[derive(Default)]
struct Interrupts {
    first: Option<Instant>,
    /// How much output there was before the last one, which the terminal shows as ^C.
    last: Option<usize>,
    /// Whether the hint was shown.
    hinted: bool,
}

impl Interrupts {
    /// The first Ctrl-C reaches the command as well; if that ignores it, the second kills it.
    fn pass_on(&mut self, child: &mut Child, output: usize) {
        if terminal::interrupted() {
            self.last = Some(output);
            if self.first.replace(Instant::now()).is_some() {
                let _ = child.kill(); // an error: it has ended
            }
        }
        if self.first.is_some_and(|first| first.elapsed() > DEAF)
            && !std::mem::replace(&mut self.hinted, true)
        {
            log("[the command is still running; Ctrl-C again kills it]\n");
        }
    }
}

/// The beginning of the output, and how much of it is on the screen.
#[derive(Default)]
struct Kept {
    bytes: Vec<u8>,
    shown: usize,
    cut: bool,
}

impl Kept {
    fn add(&mut self, piece: &[u8]) {
        let room = MOST_BYTES - self.bytes.len();
        self.bytes.extend_from_slice(&piece[..piece.len().min(room)]);
        if piece.len() > room && !self.cut {
            self.cut = true;
            self.bytes.truncate(self.bytes.len() - incomplete(&self.bytes));
            self.show(self.bytes.len());
            log("\n[the rest of the output is neither shown nor kept; Ctrl-C stops the command]\n");
        }
        self.show(self.bytes.len() - incomplete(&self.bytes));
    }

    /// Shows the rest, and ends the line. `begun`: something stands in it after the output.
    fn end(&mut self, begun: bool) {
        self.show(self.bytes.len());
        if begun || !self.cut && self.bytes.last().is_some_and(|last| *last != b'\n') {
            log("\n");
        }
    }

    /// Shows what is new up to a place between characters.
    fn show(&mut self, to: usize) {
        log(&String::from_utf8_lossy(&self.bytes[self.shown..to]).replace("\r\n", "\n"));
        self.shown = to;
    }
}

/// The length of the incomplete character at the end.
fn incomplete(bytes: &[u8]) -> usize {
    match bytes.utf8_chunks().last() {
        Some(chunk) if std::str::from_utf8(chunk.invalid()).is_err_and(|e| e.error_len().is_none()) => {
            chunk.invalid().len()
        }
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_is_cut_between_characters() {
        assert_eq!(incomplete("aé".as_bytes()), 0);
        assert_eq!(incomplete(b"a\xc3"), 1);
        assert_eq!(incomplete(b"a\xff"), 0);
        assert_eq!(incomplete(b"\xf0\x9f\x98"), 3);
        assert_eq!(incomplete(b""), 0);
    }
}
