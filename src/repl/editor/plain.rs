//! Input line by line, without editing: from a pipe or a simple terminal.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::fd::{AsFd, OwnedFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::Input;
use super::blocks::{finished, unfinished};
use crate::failure::Failure;
use crate::repl::typed::{inert, plain};
use crate::ui::{keys, last_line, terminal};

pub(super) struct Plain {
    pub(super) input: Box<dyn BufRead>,
    /// The terminal, whose Ctrl-C ends the wait.
    pub(super) device: Option<OwnedFd>,
    pub(super) prompt: bool,
}

impl Plain {
    pub(super) fn on_terminal(device: File) -> Plain {
        let watched = device.try_clone().ok().map(OwnedFd::from);
        Plain { input: Box::new(BufReader::new(device)), device: watched, prompt: true }
    }

    pub(super) fn read(&mut self, prompt: &str, initial: &str) -> Result<Input, Failure> {
        let mut text = String::new();
        if !initial.is_empty() && self.prompt {
            last_line(&format!("(not sent: {})", plain(initial)));
        }
        loop {
            if self.prompt {
                crate::ui::log(if text.is_empty() { prompt } else { "… " });
            }
            if self.device.as_ref().is_some_and(interrupted_while_waiting) {
                crate::ui::log("\n");
                return Ok(Input::Interrupted(text));
            }
            let mut line = String::new();
            let read = self.input.read_line(&mut line);
            let read = read.map_err(|e| Failure::new(format!("could not read a line: {e}")))?;
            text += &if self.prompt { keys::typed(&line) } else { line };
            if read == 0 && text.is_empty() {
                if self.prompt {
                    crate::ui::log("\n");
                }
                return Ok(Input::End);
            }
            let whole = text.strip_suffix('\n').unwrap_or(&text);
            if read == 0 || !unfinished(whole) {
                return Ok(Input::Text(inert(&finished(whole)))); // pastes are not marked here
            }
        }
    }
}

/// Waits for input. `true`: Ctrl-C came instead.
fn interrupted_while_waiting(device: &OwnedFd) -> bool {
    let mut wanted = [PollFd::new(device.as_fd(), PollFlags::POLLIN)];
    loop {
        if terminal::interrupted() {
            return true;
        }
        // With a timeout: Ctrl-C may arrive just before the wait, or at another thread.
        match poll(&mut wanted, PollTimeout::from(50u8)) {
            Ok(0) | Err(nix::errno::Errno::EINTR) => {}
            _ => return false,
        }
    }
}
