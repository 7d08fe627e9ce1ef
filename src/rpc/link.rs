//! One worker in use: its address and the token → connections for llama.cpp, for as long as it answers.
//!
//! llama.cpp asks for connections, and tells of broken ones, over a Unix socket whose other end this file has
//! (engine/llama/build/rpc/transport.cpp). Beats on the lease's connection find out that a worker has stopped
//! answering: then its connections are cut, on which llama.cpp would otherwise wait for ever.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, IntoRawFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use super::handshake::{Purpose, Status, Trouble, introduce};
use super::preflight::{self, Answer};
use super::token::{Nonce, Token};
use super::{Error, descriptor};
use crate::files::reason;

/// The longest time between two beats: much less than the worker waits for one (gate.rs).
const LONGEST_INTERVAL: Duration = Duration::from_secs(1);

/// A lease on a worker.
pub struct Link {
    /// As the user wrote it.
    pub address: String,
    /// Bytes of main memory that the worker lends.
    pub memory: u64,
    /// Where llama.cpp is to connect: a text that no other link has, and its end of the Unix socket.
    pub endpoint: String,
    shared: Arc<Shared>,
    /// Ends the beats when dropped.
    _beats: Sender<()>,
}

/// What the threads of a link share.
struct Shared {
    dial: Dial,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Why the worker can no longer be used.
    lost: Option<String>,
    /// The connection that llama.cpp was given last.
    connection: Option<TcpStream>,
}

/// How to reach the worker.
struct Dial {
    address: String,
    token: Token,
    /// How long to wait for an answer.
    patience: Duration,
}

impl Link {
    /// Takes out a lease on the worker at `address`, HOST:PORT, and asks what it has. Waits for each answer for
    /// `patience` at most, then and later.
    pub fn open(address: &str, token: Token, patience: Duration) -> Result<Link, Error> {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let dial = Dial { address: address.into(), token, patience };
        let (lease, nonce, memory) = dial.introduced(Purpose::Lease)?;
        let purpose = Purpose::Rpc { lease: nonce };
        let (mut connection, _, _) = dial.introduced(purpose)?;
        match preflight::ask(&mut connection).map_err(|error| dial.failed(&error))? {
            Answer::Devices(0) => return Err(Error::OutOfOrder(address.into())),
            Answer::Devices(_) => {}
            Answer::Version(major, minor, patch) => {
                let (ours, theirs) = (preflight::VERSION, (major, minor, patch));
                let text = |(a, b, c)| format!("llama.cpp's RPC {a}.{b}.{c}");
                return Err(Error::Version {
                    address: address.into(),
                    theirs: text(theirs),
                    ours: text(ours),
                });
            }
        }
        drop(connection);
        let unreachable = |error: io::Error| dial.failed(&error);
        let (control, theirs) = UnixStream::pair().map_err(unreachable)?;
        let (beats, end) = channel();
        let shared = Arc::new(Shared { dial, state: Mutex::default() });
        let (serving, beating) = (shared.clone(), shared.clone());
        let spawn = |name: &str, run: Box<dyn FnOnce() + Send>| {
            thread::Builder::new().name(name.into()).spawn(run).map_err(|error| shared.dial.failed(&error))
        };
        spawn("worker", Box::new(move || serving.serve(&control, purpose)))?;
        spawn("beats", Box::new(move || beating.beat(lease, &end)))?;
        // llama.cpp keeps its end for as long as it knows the endpoint: to the end of the process.
        let number = theirs.into_raw_fd();
        let label = address.replace(':', " port ");
        let endpoint = format!("{label} #{}:{number}", NUMBER.fetch_add(1, Ordering::Relaxed));
        Ok(Link { address: address.into(), memory, endpoint, shared, _beats: beats })
    }

    /// Why the worker can no longer be used, if it is lost.
    pub fn lost(&self) -> Option<Error> {
        let why = self.shared.state().lost.clone()?;
        Some(Error::Lost { address: self.address.clone(), why })
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the worker up. The first reason counts.
    fn lose(&self, why: String) {
        let mut state = self.state();
        state.lost.get_or_insert(why);
        if let Some(connection) = state.connection.take() {
            let _ = connection.shutdown(Shutdown::Both); // it may be closed already
        }
    }

    /// Answers llama.cpp until the process ends.
    fn serve(&self, control: &UnixStream, purpose: Purpose) {
        let mut asked = [0];
        while (&mut &*control).read_exact(&mut asked).is_ok() {
            let answered = match asked[0] {
                b'C' => match self.connect(purpose) {
                    Some(connection) => descriptor::send(control, Some(connection.as_fd())),
                    None => descriptor::send(control, None),
                },
                _ => {
                    self.lose("it closed the connection".into());
                    descriptor::send(control, None)
                }
            };
            if answered.is_err() {
                break;
            }
        }
    }

    /// A connection for llama.cpp; a cut one if the worker is lost meanwhile.
    fn connect(&self, purpose: Purpose) -> Option<TcpStream> {
        if self.state().lost.is_some() {
            return None;
        }
        let connected = self.dial.introduced(purpose).and_then(|(connection, _, _)| {
            // llama.cpp waits as long as a computation takes; the beats know whether the worker is alive.
            let waits = connection.set_read_timeout(None).and_then(|()| connection.set_write_timeout(None));
            waits
                .and_then(|()| connection.try_clone().map(|other| (connection, other)))
                .map_err(|e| self.dial.failed(&e))
        });
        match connected {
            Ok((connection, other)) => {
                let mut state = self.state();
                match state.lost {
                    Some(_) => _ = other.shutdown(Shutdown::Both), // as if it had been there before
                    None => state.connection = Some(other),
                }
                Some(connection)
            }
            Err(_) => {
                self.lose("it takes no new connection".into());
                None
            }
        }
    }

    /// Keeps the lease, until `end` says that it is no longer wanted or the worker no longer answers in time.
    fn beat(&self, mut lease: TcpStream, end: &Receiver<()>) {
        let patience = self.dial.patience;
        let interval = (patience / 4).min(LONGEST_INTERVAL);
        let waits = lease.set_read_timeout(Some(patience - interval));
        let mut beat = || lease.write_all(b".").and_then(|()| lease.read_exact(&mut [0]));
        let broken = waits.err().or_else(|| {
            loop {
                match end.recv_timeout(interval) {
                    Err(RecvTimeoutError::Timeout) => {}
                    _ => return None,
                }
                if let Err(error) = beat() {
                    return Some(error);
                }
            }
        });
        self.lose(match broken {
            Some(error) if late(&error) => format!("no sign of life for {} s", patience.as_secs()),
            Some(_) => "it closed the connection".into(),
            None => "it is no longer used".into(),
        });
    }
}

impl Dial {
    /// A connection on which both sides know each other. Also the worker's nonce, and the memory that it lends.
    fn introduced(&self, purpose: Purpose) -> Result<(TcpStream, Nonce, u64), Error> {
        let stream = self.dialled()?;
        let (address, ours) = (self.address.clone(), "1".to_string());
        match introduce(&stream, &self.token, purpose, self.patience) {
            Ok((nonce, memory)) => {
                let limit = stream.set_read_timeout(Some(self.patience)); // from here on for each answer
                limit.map(|()| (stream, nonce, memory)).map_err(|error| self.failed(&error))
            }
            Err(Trouble::Io(error)) => Err(self.failed(&error)),
            Err(Trouble::NotAWorker) => Err(Error::NotAWorker(address)),
            Err(Trouble::Version(theirs)) => Err(Error::Version { address, theirs, ours }),
            Err(Trouble::NotOurs) => Err(Error::NotOurs(address)),
            Err(Trouble::Refused(Status::WrongToken)) => Err(Error::WrongToken(address)),
            Err(Trouble::Refused(Status::Busy)) => Err(Error::Busy(address)),
            Err(Trouble::Refused(_)) => Err(Error::OutOfOrder(address)),
        }
    }

    /// A connection to the first of the host's addresses that takes one.
    fn dialled(&self) -> Result<TcpStream, Error> {
        let addresses = self.address.to_socket_addrs().map_err(|error| self.failed(&error))?;
        let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
        for address in addresses {
            match TcpStream::connect_timeout(&address, self.patience) {
                Ok(stream) => {
                    let limits =
                        stream.set_nodelay(true).and_then(|()| stream.set_write_timeout(Some(self.patience)));
                    return limits.map(|()| stream).map_err(|error| self.failed(&error));
                }
                Err(error) => last = error,
            }
        }
        Err(self.failed(&last))
    }

    fn failed(&self, error: &io::Error) -> Error {
        let address = self.address.clone();
        match error.kind() {
            _ if late(error) => Error::Silent { address, seconds: self.patience.as_secs() },
            io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData => Error::NotAWorker(address),
            _ => Error::Unreachable { address, why: reason(error) },
        }
    }
}

/// Whether the time for an answer has passed.
fn late(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}
