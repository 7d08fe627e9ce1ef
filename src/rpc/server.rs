//! llama.cpp's RPC server in a child process, which ends with its owner. It gets its clients as descriptors over the
//! Unix socket that is its stdin, and says there when it is ready for the next one. It has no terminal, into which it
//! could type.

use std::io::{self, Read};
use std::net::TcpStream;
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::descriptor;

/// How long a server may take until it is ready for a connection.
pub const START: Duration = Duration::from_secs(60);

/// The child.
pub struct Server {
    child: Child,
    control: UnixStream,
    /// How it ended, once it has.
    ended: Option<String>,
    /// Hears the end of what it says on stderr.
    ear: Option<JoinHandle<String>>,
}

/// How many bytes of that are kept.
const WORDS: usize = 4 << 10;

/// In the child: the number of the descriptor of its Unix socket.
pub fn control() -> RawFd {
    0
}

impl Server {
    /// Starts the child: `command` runs llama.cpp's server with [`control`].
    pub fn start(command: &mut Command) -> io::Result<Server> {
        let (control, theirs) = UnixStream::pair()?;
        let command = command.stdin(OwnedFd::from(theirs)).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        let ear = child.stderr.take().map(|stderr| thread::spawn(|| heard(stderr)));
        Ok(Server { child, control, ended: None, ear })
    }

    /// Waits until it takes a client.
    pub fn ready(&mut self, patience: Duration) -> io::Result<()> {
        self.control.set_read_timeout(Some(patience))?;
        self.control.read_exact(&mut [0])
    }

    /// Hands it a client.
    pub(super) fn serve(&self, client: &TcpStream) -> io::Result<()> {
        descriptor::send(&self.control, Some(client.as_fd()))
    }

    /// Why it does not run now: it ended, or was stopped by a signal.
    pub(super) fn trouble(&mut self) -> Option<String> {
        let pid = Pid::from_raw(self.child.id() as i32);
        match waitpid(pid, Some(WaitPidFlag::WNOHANG | WaitPidFlag::WUNTRACED)) {
            _ if self.ended.is_some() => {}
            Ok(WaitStatus::Stopped(_, signal)) => return Some(format!("stopped by {signal}")),
            Ok(WaitStatus::Signaled(_, signal, _)) => self.ended = Some(format!("ended by {signal}")),
            Ok(WaitStatus::Exited(_, code)) => self.ended = Some(format!("ended with exit code {code}")),
            _ => {}
        }
        self.ended.clone()
    }

    /// Ends it; its last line on stderr.
    pub fn last_words(mut self) -> Option<String> {
        self.end();
        let said = self.ear.take()?.join().ok()?;
        said.lines()
            .find_map(|line| line.strip_prefix("fireside: "))
            .or(said.lines().last())
            .map(String::from)
    }

    fn end(&mut self) {
        if self.ended.is_none() {
            let _ = self.child.kill(); // it may have just ended
            let _ = self.child.wait();
            self.ended = Some("ended".into());
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

fn heard(mut stderr: ChildStderr) -> String {
    let (mut words, mut piece) = (Vec::new(), [0; 1024]);
    while let Ok(length @ 1..) = stderr.read(&mut piece) {
        words.extend_from_slice(&piece[..length]);
        words.drain(..words.len().saturating_sub(WORDS));
    }
    String::from_utf8_lossy(&words).into_owned()
}
