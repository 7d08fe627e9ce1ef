//! A descriptor → the process at the other end of a Unix socket.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};

/// Sends one byte, and a descriptor with it.
pub(super) fn send(to: &UnixStream, descriptor: Option<BorrowedFd>) -> io::Result<()> {
    let numbers: Vec<_> = descriptor.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&numbers)];
    let with = if numbers.is_empty() { &[][..] } else { &rights };
    sendmsg::<()>(to.as_fd().as_raw_fd(), &[IoSlice::new(b".")], with, MsgFlags::empty(), None)?;
    Ok(())
}
