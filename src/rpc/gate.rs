//! The gate of a worker: who knows the token gets through to llama.cpp's server, one client at a time.
//!
//! Before the proof nobody gets more than a greeting, and a few seconds. Each client gets a server process of its
//! own, which ends with its lease: nothing of it stays but the cache of tensors.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::handshake::{Caller, Purpose, Status, receive};
use super::server::{START, Server};
use super::tensor_cache;
use super::token::{Nonce, Token};

/// How long a stranger may take to introduce itself, and how many may try at once.
const PATIENCE: Duration = Duration::from_secs(5);
const MOST_STRANGERS: usize = 32;
/// How long a client may be silent.
const LEASE: Duration = Duration::from_secs(15);
/// How often the cache is pruned while a client is served.
const PRUNE: Duration = Duration::from_secs(10);

/// What happens at the gate, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GateEvent {
    /// Somebody without the token was turned away.
    Refused(SocketAddr),
    Serving(SocketAddr),
    /// A client has gone; how long it was served, and why it was sent away.
    Gone {
        client: SocketAddr,
        served: Duration,
        why: Option<String>,
    },
    /// No server process could be started.
    NotStarted(String),
}

/// A gate that listens.
pub struct Gate {
    pub listener: TcpListener,
    pub token: Token,
    /// Bytes of main memory that are lent.
    pub memory: u64,
    /// The folder of the tensor cache, and the most bytes in it.
    pub cache: Option<(PathBuf, u64)>,
    /// Starts a server process.
    pub start: Box<dyn Fn() -> io::Result<Server> + Send + Sync>,
    pub report: Box<dyn Fn(GateEvent) + Send + Sync>,
    pub lease: Mutex<Option<Lease>>,
}

/// The client that is served.
pub struct Lease {
    nonce: Nonce,
    server: Arc<Mutex<Server>>,
    /// Its connection to the server.
    connection: Option<TcpStream>,
}

impl Gate {
    /// Lets clients in until the listener fails.
    pub fn run(self) -> io::Error {
        let (gate, strangers) = (Arc::new(self), Arc::new(AtomicUsize::new(0)));
        if let Some((folder, limit)) = &gate.cache {
            tensor_cache::end(folder, *limit); // an earlier worker may have been killed
            tensor_cache::prune(folder, *limit);
        }
        loop {
            let (stream, address) = match gate.listener.accept() {
                Ok(accepted) => accepted,
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
                Err(error) => return error,
            };
            if strangers.fetch_add(1, Ordering::Relaxed) >= MOST_STRANGERS {
                strangers.fetch_sub(1, Ordering::Relaxed);
                continue;
            }
            let (gate, others) = (gate.clone(), strangers.clone());
            let serve = move || {
                let introduced = gate.introduced(stream, address);
                others.fetch_sub(1, Ordering::Relaxed);
                if let Some((caller, stream)) = introduced {
                    let _ = gate.admit(&caller, stream, address); // the client notices as well
                }
            };
            if thread::Builder::new().name("client".into()).spawn(serve).is_err() {
                strangers.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }

    /// A client that knows the token.
    fn introduced(&self, stream: TcpStream, address: SocketAddr) -> Option<(Caller, TcpStream)> {
        let limits = stream.set_nodelay(true).and_then(|()| stream.set_write_timeout(Some(PATIENCE)));
        match limits.and_then(|()| receive(&stream, &self.token, PATIENCE)) {
            Ok(Some(caller)) => Some((caller, stream)),
            _ => {
                (self.report)(GateEvent::Refused(address));
                None
            }
        }
    }

    fn admit(&self, caller: &Caller, stream: TcpStream, address: SocketAddr) -> io::Result<()> {
        let granted = Status::Granted { memory: self.memory };
        let server = match caller.purpose {
            Purpose::Lease => match self.grant(caller.nonce) {
                Ok(server) => server,
                Err(status) => return caller.answer(&stream, &self.token, status),
            },
            Purpose::Rpc { lease } => {
                let Some(server) = self.server(lease) else {
                    return caller.answer(&stream, &self.token, Status::Busy);
                };
                let mut server = lock(&server);
                if server.ready(START).is_err() {
                    return caller.answer(&stream, &self.token, Status::OutOfOrder);
                }
                // Nobody has read further than the proof: what follows is for llama.cpp.
                caller.answer(&stream, &self.token, granted)?;
                stream.set_read_timeout(None)?;
                stream.set_write_timeout(None)?;
                server.serve(&stream)?;
                self.connected(lease, stream);
                return Ok(());
            }
        };
        let since = Instant::now();
        (self.report)(GateEvent::Serving(address));
        let answered = caller.answer(&stream, &self.token, granted);
        let why = answered.map(|()| self.keep(stream, &server)).unwrap_or_default();
        drop(server);
        self.release();
        (self.report)(GateEvent::Gone { client: address, served: since.elapsed(), why });
        Ok(())
    }

    fn lease(&self) -> MutexGuard<'_, Option<Lease>> {
        lock(&self.lease)
    }

    /// Starts a server for a new client, unless there is one.
    fn grant(&self, nonce: Nonce) -> Result<Arc<Mutex<Server>>, Status> {
        let mut lease = self.lease();
        if lease.is_some() {
            return Err(Status::Busy);
        }
        if let Some((folder, _)) = &self.cache {
            let _ = tensor_cache::begin(folder); // if that fails, so does writing tensors
        }
        let server = (self.start)().map_err(|error| {
            (self.report)(GateEvent::NotStarted(error.to_string()));
            Status::OutOfOrder
        })?;
        let server = Arc::new(Mutex::new(server));
        *lease = Some(Lease { nonce, server: server.clone(), connection: None });
        Ok(server)
    }

    fn server(&self, nonce: Nonce) -> Option<Arc<Mutex<Server>>> {
        self.lease().as_ref().filter(|lease| lease.nonce == nonce).map(|lease| lease.server.clone())
    }

    fn connected(&self, nonce: Nonce, stream: TcpStream) {
        match self.lease().as_mut().filter(|lease| lease.nonce == nonce) {
            Some(lease) => lease.connection = Some(stream),
            None => _ = stream.shutdown(Shutdown::Both), // the lease has just ended
        }
    }

    /// Returns the client's beats until it leaves. Why it must leave, if it is not its own doing.
    fn keep(&self, mut stream: TcpStream, server: &Mutex<Server>) -> Option<String> {
        let mut pruned = Instant::now();
        let mut beat = [0];
        if stream.set_read_timeout(Some(LEASE)).is_err() {
            return None;
        }
        loop {
            match stream.read_exact(&mut beat) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return None,
                Err(_) => return Some("the connection to it broke".into()),
            }
            // While the server is waited for, it is starting.
            if let Some(trouble) = server.try_lock().ok().and_then(|mut server| server.trouble()) {
                return Some(format!("llama.cpp's server {trouble}"));
            }
            if stream.write_all(&beat).is_err() {
                return Some("the connection to it broke".into());
            }
            if let Some((folder, limit)) = self.cache.as_ref().filter(|_| pruned.elapsed() > PRUNE) {
                tensor_cache::prune(folder, *limit);
                pruned = Instant::now();
            }
        }
    }

    /// Ends the lease: its connection, its server and what it left unfinished on disk.
    fn release(&self) {
        let mut lease = self.lease();
        if let Some(connection) = lease.as_ref().and_then(|lease| lease.connection.as_ref()) {
            let _ = connection.shutdown(Shutdown::Both); // it may be closed already
        }
        *lease = None;
        if let Some((folder, limit)) = &self.cache {
            tensor_cache::end(folder, *limit);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
