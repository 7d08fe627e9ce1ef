//! Decoded keys → key sequences that rustyline knows, through a pseudo-terminal in place of stdin.
//!
//! rustyline would insert the rest of an unknown sequence into the line. It reads file descriptor 0 and
//! writes 1: during a line, these are a pseudo-terminal, into which a thread writes the typed keys, and the
//! terminal itself. The thread writes one key at a time, so that keys typed after the end of the line are
//! left for the next reader.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::pty::openpty;
use nix::sys::termios::{FlushArg, cfmakeraw, tcflush, tcgetattr};
use nix::unistd::{dup2_stdin, dup2_stdout};

use crate::chat::settings::KeyBindings;
use crate::repl::typed::inert;
use crate::ui::keys::Key;
use crate::ui::terminal::{self, Raw};
use crate::ui::typing::{self, Waited, is_readable};

/// How often to check whether a key was read.
const BETWEEN: Duration = Duration::from_micros(200);
/// How long the system may take to deliver a key.
const WAY: Duration = Duration::from_millis(1);
/// How long rustyline may take to return after a key that ends the line.
const ENDING: Duration = Duration::from_millis(20);
/// Most bytes at once: they must fit into the pseudo-terminal's input buffer.
const PIECE: usize = 1024;

pub(super) struct Feed {
    terminal: File,
    ours: File,
    /// The side that rustyline reads.
    theirs: OwnedFd,
}

impl Feed {
    /// `None` without a terminal, or if the system provides no pseudo-terminal.
    pub(super) fn new() -> Option<Feed> {
        let terminal = terminal::device()?;
        let mut mode = tcgetattr(&terminal).ok()?; // for the keys of end of file and interrupt
        cfmakeraw(&mut mode); // also for input before rustyline sets its own mode
        let pair = openpty(None, &mode).ok()?;
        for side in [&pair.master, &pair.slave] {
            fcntl(side, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).ok()?;
        }
        Some(Feed { terminal, ours: pair.master.into(), theirs: pair.slave })
    }

    /// Runs something with the terminals in place of stdin and stdout.
    pub(super) fn around<T>(&self, run: impl FnOnce() -> T) -> io::Result<T> {
        let _swapped = Swapped::new(self.theirs.as_fd(), self.terminal.as_fd())?;
        Ok(run())
    }

    /// The same for something that reads keys: a thread feeds them.
    pub(super) fn run<T>(&self, bindings: KeyBindings, read: impl FnOnce() -> T) -> io::Result<T> {
        let (awake, wake) = io::pipe()?; // close-on-exec, unlike nix's: a child process must not keep it open
        let _raw = Raw::new();
        std::thread::scope(|scope| {
            let wake = wake; // closed at the end of the line, even after a panic
            scope.spawn(|| self.pump(bindings, awake.as_fd()));
            let read = self.around(read);
            drop(wake);
            read
        })
    }

    fn pump(&self, bindings: KeyBindings, awake: BorrowedFd) {
        loop {
            let run = match typing::next(&self.terminal, Some(awake), None, typing::MOST) {
                Waited::Nothing => return,
                Waited::End => vec![Key::Ctrl('c')],
                Waited::Key(key) => typing::take_run(key),
            };
            let bytes: String = run.iter().map(|key| as_bytes(key, bindings)).collect();
            let may_end = matches!(run.last(), Some(Key::Enter | Key::Esc | Key::Ctrl(_)));
            match self.give(awake, bytes.as_bytes()) {
                Taken::No => return typing::give_back(run.into_iter()),
                Taken::Yes if may_end && is_readable(awake, ENDING) => return,
                Taken::Yes => {}
            }
        }
    }

    /// Writes the bytes, and waits until they are read or the line ends.
    fn give(&self, awake: BorrowedFd, bytes: &[u8]) -> Taken {
        for piece in bytes.chunks(PIECE) {
            if (&self.ours).write_all(piece).is_err() {
                return Taken::No;
            }
            let mut within = WAY;
            while is_readable(&self.theirs, within) {
                if is_readable(awake, BETWEEN) && is_readable(&self.theirs, Duration::ZERO) {
                    let _ = tcflush(&self.theirs, FlushArg::TCIFLUSH); // the reader has stopped
                    return Taken::No;
                }
                within = Duration::ZERO;
            }
        }
        Taken::Yes
    }
}

/// Whether the keys were read.
enum Taken {
    Yes,
    No,
}

/// Redirects stdin and stdout until it is dropped; holds the original ones.
struct Swapped(OwnedFd, OwnedFd);

impl Swapped {
    fn new(input: BorrowedFd, output: BorrowedFd) -> io::Result<Swapped> {
        let before =
            Swapped(io::stdin().as_fd().try_clone_to_owned()?, io::stdout().as_fd().try_clone_to_owned()?);
        dup2_stdin(input)?;
        dup2_stdout(output)?;
        Ok(before)
    }
}

impl Drop for Swapped {
    fn drop(&mut self) {
        let _ = dup2_stdin(&self.0).and(dup2_stdout(&self.1)); // both descriptors were open before, so this cannot fail
    }
}

/// rustyline's Alt-h, which in vi mode does what Esc does: it leaves insert mode and moves left. After Esc
/// itself, rustyline waits for more bytes and takes the next key for a part of it.
const VI_ESC: &str = "\x1bh";

/// The bytes that rustyline reads as this key. Esc becomes Ctrl-G, except in vi mode, and Ctrl-G a sequence of
/// keys.rs.
fn as_bytes(key: &Key, bindings: KeyBindings) -> String {
    let vi = bindings == KeyBindings::Vi;
    let fixed = match key {
        Key::Char(c) => return c.to_string(),
        Key::Esc if vi => VI_ESC,
        Key::Alt(c) if vi => return format!("{VI_ESC}{c}"), // Esc and a key in quick succession
        Key::Ctrl('g') => "\x18\x07",
        Key::Ctrl('v' | 'q') => "", // would insert the next key literally
        Key::Ctrl('\\') => "",      // would end the line like Ctrl-C
        Key::Ctrl(c) => return char::from(*c as u8 & 0x1f).to_string(),
        Key::Alt(c) if c.is_ascii_alphanumeric() && *c != 'O' || "<>-".contains(*c) => {
            return format!("\x1b{c}");
        }
        Key::Alt(_) | Key::PageUp | Key::PageDown => "",
        Key::Enter => "\r",
        Key::NewLine => "\n",
        Key::Tab => "\t",
        Key::Backspace => "\x7f",
        Key::Delete => "\x1b[3~",
        Key::Esc => "\x07",
        Key::Up => "\x1b[A",
        Key::Down => "\x1b[B",
        Key::Right => "\x1b[C",
        Key::Left => "\x1b[D",
        Key::Home => "\x1b[H",
        Key::End => "\x1b[F",
        Key::WordLeft => "\x1b[1;5D",
        Key::WordRight => "\x1b[1;5C",
        Key::BackspaceWord => "\x1b\x7f",
        Key::DeleteWord => "\x1b[3;5~",
        Key::Pasted(text) => return format!("\x1b[200~{}\x1b[201~", inert(text)),
    };
    fixed.to_string()
}
