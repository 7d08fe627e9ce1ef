//! How every connection between a worker and a client begins: both prove that they know the token, which is not
//! sent, and the client says what the connection is for. All numbers are little-endian.
//!
//! ```text
//! worker → client  "fireside worker 1\n"  nonce 32
//! client → worker  purpose 1   nonce 32   lease 32   proof 32 of (worker's nonce, all before)
//! worker → client  status 1    memory 8   proof 32 of (both nonces, all before)
//! ```
//!
//! A client first takes out a lease, which one client has at a time, and keeps it by beats: any byte, which the
//! worker returns. Its other connections name the lease and are llama.cpp's.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::token::{Nonce, Token, random};

const GREETING: &[u8; 18] = b"fireside worker 1\n";
/// The greeting without its version.
const WORKER: usize = 16;
const CLIENT_PROOF: &[u8] = b"client";
const WORKER_PROOF: &[u8] = b"worker";

/// What a connection is for. The lease is the nonce that the worker sent when it was taken out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    Lease,
    Rpc { lease: Nonce },
}

/// The worker's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    /// Bytes of main memory that are lent.
    Granted {
        memory: u64,
    },
    WrongToken,
    Busy,
    OutOfOrder,
}

impl Status {
    fn byte(self) -> u8 {
        match self {
            Status::Granted { .. } => b'+',
            Status::WrongToken => b'T',
            Status::Busy => b'B',
            Status::OutOfOrder => b'X',
        }
    }
}

/// How a handshake failed on the client's side.
#[derive(Debug)]
pub(super) enum Trouble {
    Io(io::Error),
    NotAWorker,
    /// The version in the greeting.
    Version(String),
    /// The worker's proof is wrong.
    NotOurs,
    Refused(Status),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Trouble {
        Trouble::Io(error)
    }
}

/// A connection that is read from until a moment, however slowly the bytes come.
struct Until<'a> {
    stream: &'a TcpStream,
    end: Instant,
}

impl Read for Until<'_> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let left = self.end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.stream.set_read_timeout(Some(left))?;
        self.stream.read(to)
    }
}

/// The client's side, for which the worker has so much time. Returns the worker's nonce and the memory that it
/// lends.
pub(super) fn introduce(
    mut stream: &TcpStream,
    token: &Token,
    purpose: Purpose,
    patience: Duration,
) -> Result<(Nonce, u64), Trouble> {
    let mut from = Until { stream, end: Instant::now() + patience };
    let mut greeting = [0; GREETING.len()];
    read_greeting(&mut from, &mut greeting)?;
    if greeting[..WORKER] != GREETING[..WORKER] {
        return Err(Trouble::NotAWorker);
    }
    if greeting != *GREETING {
        return Err(Trouble::Version(String::from_utf8_lossy(&greeting[WORKER..]).trim().into()));
    }
    let mut theirs = [0; 32];
    from.read_exact(&mut theirs)?;
    let ours: Nonce = random()?;
    let (kind, lease) = match purpose {
        Purpose::Lease => (b'L', [0; 32]),
        Purpose::Rpc { lease } => (b'R', lease),
    };
    let proof = token.proof(&[CLIENT_PROOF, &theirs, &[kind], &ours, &lease]);
    stream.write_all(&[&[kind][..], &ours, &lease, proof.as_bytes()].concat())?;

    let (mut status, mut memory, mut proof) = ([0], [0; 8], [0; 32]);
    from.read_exact(&mut status)?;
    from.read_exact(&mut memory)?;
    from.read_exact(&mut proof)?;
    let memory_lent = u64::from_le_bytes(memory);
    let status_byte = status[0];
    let status = match status_byte {
        b'+' => Status::Granted { memory: memory_lent },
        b'T' => return Err(Trouble::Refused(Status::WrongToken)), // who has another token can prove nothing
        b'B' => Status::Busy,
        _ => Status::OutOfOrder,
    };
    if token.proof(&[WORKER_PROOF, &theirs, &ours, &[status_byte], &memory]) != proof {
        return Err(Trouble::NotOurs);
    }
    match status {
        Status::Granted { memory } => Ok((theirs, memory)),
        refused => Err(Trouble::Refused(refused)),
    }
}

/// Whoever sends something else is not waited for to the end of it.
fn read_greeting(from: &mut impl Read, greeting: &mut [u8]) -> Result<(), Trouble> {
    let mut length = 0;
    while length < greeting.len() {
        match from.read(&mut greeting[length..])? {
            0 => return Err(Trouble::NotAWorker),
            more => length += more,
        }
        let same = length.min(WORKER);
        if greeting[..same] != GREETING[..same] {
            return Err(Trouble::NotAWorker);
        }
    }
    Ok(())
}

/// A client that has said what it wants, and waits for [`Caller::answer`].
pub(super) struct Caller {
    pub purpose: Purpose,
    /// The worker's nonce, which names a lease taken out on this connection.
    pub nonce: Nonce,
    theirs: Nonce,
}

/// The worker's side, for which the client has so much time. `None`: it does not know the token, and has been told.
pub(super) fn receive(
    mut stream: &TcpStream,
    token: &Token,
    patience: Duration,
) -> io::Result<Option<Caller>> {
    let mut from = Until { stream, end: Instant::now() + patience };
    let nonce: Nonce = random()?;
    stream.write_all(&[&GREETING[..], &nonce].concat())?;
    let (mut kind, mut theirs, mut lease, mut proof) = ([0], [0; 32], [0; 32], [0; 32]);
    from.read_exact(&mut kind)?;
    from.read_exact(&mut theirs)?;
    from.read_exact(&mut lease)?;
    from.read_exact(&mut proof)?;
    let purpose = match kind[0] {
        b'L' => Purpose::Lease,
        b'R' => Purpose::Rpc { lease },
        _ => return Err(io::ErrorKind::InvalidData.into()),
    };
    // The comparison takes the same time wherever they differ.
    if token.proof(&[CLIENT_PROOF, &nonce, &kind, &theirs, &lease]) != proof {
        stream.write_all(&[&[Status::WrongToken.byte()][..], &[0; 40]].concat())?;
        return Ok(None);
    }
    Ok(Some(Caller { purpose, nonce, theirs }))
}

impl Caller {
    pub(super) fn answer(&self, mut stream: &TcpStream, token: &Token, status: Status) -> io::Result<()> {
        let memory = match status {
            Status::Granted { memory } => memory,
            _ => 0,
        };
        let (byte, memory) = ([status.byte()], memory.to_le_bytes());
        let proof = token.proof(&[WORKER_PROOF, &self.nonce, &self.theirs, &byte, &memory]);
        stream.write_all(&[&byte[..], &memory, proof.as_bytes()].concat())
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);

    fn token(letter: char) -> Token {
        Token::new(&letter.to_string().repeat(64)).unwrap()
    }

    /// A client with one token meets a worker with another; the worker's end.
    fn meet(client: char, worker: char, purpose: Purpose) -> (Result<u64, Trouble>, Option<Purpose>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let serve = thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let caller = receive(&stream, &token(worker), PATIENCE).unwrap()?;
            caller.answer(&stream, &token(worker), Status::Granted { memory: 7 }).unwrap();
            Some(caller.purpose)
        });
        let stream = TcpStream::connect(address).unwrap();
        let met = introduce(&stream, &token(client), purpose, PATIENCE).map(|(_, memory)| memory);
        (met, serve.join().unwrap())
    }

    #[test]
    fn both_must_know_the_token() {
        let purpose = Purpose::Rpc { lease: [3; 32] };
        let (met, seen) = meet('a', 'a', purpose);
        assert_eq!((met.unwrap(), seen), (7, Some(purpose)));
        let (met, seen) = meet('a', 'b', purpose);
        assert!(matches!(met, Err(Trouble::Refused(Status::WrongToken))));
        assert_eq!(seen, None);
    }

    /// Someone who took over the port after the worker has ended, and lets everybody in.
    #[test]
    fn a_stranger_in_the_workers_place_is_found_out() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let stranger = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(&[&GREETING[..], &[1; 32]].concat()).unwrap();
            stream.read_exact(&mut [0; 97]).unwrap();
            stream.write_all(&[b"+".as_slice(), &[0; 40]].concat()).unwrap();
        });
        let stream = TcpStream::connect(address).unwrap();
        let met = introduce(&stream, &token('a'), Purpose::Lease, PATIENCE);
        assert!(matches!(met, Err(Trouble::NotOurs)));
        stranger.join().unwrap();
    }
}
