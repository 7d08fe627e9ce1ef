//! `fireside worker`: lends this machine to firesides elsewhere until Ctrl-C. rpc/gate.rs lets clients in; the server
//! process of each is this program again, with `--serve-client`.

use std::ffi::OsString;
use std::net::{TcpListener, ToSocketAddrs};
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::sync::mpsc::channel;

use super::CommandContext;
use crate::chat::Settings;
use crate::cli::Worker;
use crate::failure::{Exit, Failure};
use crate::files::{expanded, own_folder, reason};
use crate::gguf::memory::available_memory;
use crate::models::{self, Device, Lending};
use crate::rpc::{Gate, GateEvent, START, Server, Token};
use crate::units::{duration, size};

/// The variables that a server process keeps: settings of libraries and drivers, and no secrets.
const KEPT: &[&str] =
    &["LD_", "OMP_", "GOMP_", "GGML_", "CUDA_", "NVIDIA_", "VK_", "HSA_", "ROCR_", "FIRESIDE_TEST_"];

/// The remedy where a server process cannot be confined.
const UNCONFINED: &str =
    "--no-sandbox lends it all the same: then a client with the token has all your rights";

/// The share of free memory that is not lent.
const RESERVE: u64 = 8;

pub(super) fn run(worker: &Worker, context: &mut CommandContext) -> Result<Exit, Failure> {
    let listener = listen(worker)?;
    let address = listener.local_addr().map_err(|error| Failure::new(reason(&error)))?;
    let (paths, settings) = (context.config.paths.as_ref(), context.config.settings());
    let path = worker.token_file.as_deref().map(expanded).or(paths.map(|paths| paths.worker_token.clone()));
    let path = path.ok_or_else(|| {
        Failure::usage("there is no home folder for the token").hint("name a file with --token-file")
    })?;
    let token = Token::read_or_make(&path)?;
    let lent = models::lendable(settings)?;
    let memory = memory(worker)?;
    let limit = worker.cache_size << 20;
    let cache = worker.cache_folder.as_deref().map(expanded);
    let cache = cache.or(paths.map(|paths| paths.tensor_cache.clone())).filter(|_| limit > 0);
    if let Some(folder) = &cache {
        own_folder(folder).map_err(|error| unusable(folder, &error))?;
    }
    let program = std::env::current_exe().map_err(|error| Failure::new(reason(&error)))?;
    let threads = models::threads(settings).count;
    let arguments = arguments(worker, threads, &lent, memory, cache.as_deref());
    try_out(&mut command(&program, &arguments))?;
    if worker.no_sandbox {
        context.screen.warning("no sandbox: a client with the token has all your rights on this machine");
    }
    if !address.ip().is_loopback() {
        context.screen.warning(
            "other machines can reach this port: the token keeps strangers out, but nothing is encrypted, and whoever \
             has the token can run code here",
        );
    }
    let devices: Vec<String> = lent.iter().map(|device| device.description.clone()).collect();
    context.screen.note(&format!("lending {}, {}, at {address}", devices.join(" and "), size(memory)));
    context.screen.note(&format!("token: {}", path.display()));
    let port = address.port();
    context.screen.note(&match address.ip().is_loopback() {
        true => format!(
            "here: fireside --rpc {address}; elsewhere the same, after ssh -L {port}:{address} THIS-HOST and with a \
             copy of the token (--rpc-token)"
        ),
        false => format!("elsewhere: fireside --rpc THIS-HOST:{port}, with a copy of the token (--rpc-token)"),
    });
    let (events, inbox) = channel();
    let gate = Gate {
        listener,
        token,
        memory: if lent.iter().all(Device::is_gpu) { u64::MAX } else { memory },
        cache: cache.map(|folder| (folder, limit)),
        start: Box::new(move || Server::start(&mut command(&program, &arguments))),
        report: Box::new(move |event| _ = events.send(event)),
        lease: Mutex::default(),
    };
    let gate = std::thread::spawn(move || gate.run());
    for event in inbox {
        context.screen.note(&told(event));
    }
    let why = gate.join().map_or_else(|_| "a bug".into(), |error| reason(&error));
    Err(Failure::new(format!("no client can connect any more: {why}")))
}

/// Starts a server process once, to find out whether one can run here.
fn try_out(command: &mut Command) -> Result<(), Failure> {
    let cannot = |why: &str| Failure::new(format!("this machine cannot be lent: {why}"));
    let mut server = Server::start(command).map_err(|error| cannot(&reason(&error)))?;
    match server.ready(START) {
        Ok(()) => Ok(()),
        Err(error) => {
            let why = server.last_words().unwrap_or_else(|| reason(&error));
            Err(cannot(&why).hint(UNCONFINED))
        }
    }
}

/// A listener, at an address that other machines cannot reach unless they may.
fn listen(worker: &Worker) -> Result<TcpListener, Failure> {
    let Worker { listen, allow_remote, .. } = worker;
    let failed = |error| Failure::new(format!("could not listen at {listen}: {}", reason(&error)));
    let addresses: Vec<_> = listen
        .to_socket_addrs()
        .map_err(|error| {
            Failure::usage(format!("--listen {listen}: {}", reason(&error)))
                .hint("it takes HOST:PORT, as in 127.0.0.1:50052")
        })?
        .collect();
    if !allow_remote && addresses.iter().any(|address| !address.ip().is_loopback()) {
        return Err(Failure::usage(format!("other machines could reach {listen}")).hint(
            "listen at 127.0.0.1 and let them come through ssh -L; --allow-remote listens there all the same",
        ));
    }
    TcpListener::bind(&addresses[..]).map_err(failed)
}

/// The main memory to lend, in bytes.
fn memory(worker: &Worker) -> Result<u64, Failure> {
    let most = worker.memory.map(|mib| mib.saturating_mul(1 << 20));
    let free = || available_memory().map(|free| free - free / RESERVE);
    most.or_else(free).ok_or_else(|| {
        Failure::usage("this system does not say how much memory is free")
            .hint("say how much to lend with --memory")
    })
}

fn unusable(folder: &Path, error: &std::io::Error) -> Failure {
    Failure::new(format!("could not use {}: {}", folder.display(), reason(error)))
        .hint("--cache-size 0 keeps no tensors on disk")
}

/// The server process of one client: serves until its stdin, a Unix socket, is closed.
pub fn serve(worker: &Worker, settings: &Settings) -> Result<(), Failure> {
    let lending = Lending {
        devices: settings.devices.clone(),
        threads: settings.threads.unwrap_or(1),
        memory: worker.memory.unwrap_or(0) << 20,
        cache: worker.cache_folder.as_deref(),
    };
    models::serve(&lending, !worker.no_sandbox).map_err(Failure::new)
}

/// The arguments of a server process.
fn arguments(
    worker: &Worker,
    threads: u32,
    lent: &[Device],
    memory: u64,
    cache: Option<&Path>,
) -> Vec<OsString> {
    let names: Vec<&str> = lent.iter().map(|device| device.name.as_str()).collect();
    let mut arguments: Vec<OsString> = vec![
        "--serve-client".into(),
        "worker".into(),
        format!("--device={}", names.join(",")).into(),
        format!("--threads={threads}").into(),
        format!("--memory={}", memory >> 20).into(),
    ];
    if let Some(folder) = cache {
        arguments.extend(["--cache-folder".into(), folder.into()]);
    }
    arguments.extend(worker.no_sandbox.then(|| "--no-sandbox".into()));
    arguments
}

/// A server process without this one's secrets.
fn command(program: &Path, args: &[OsString]) -> Command {
    let mut command = Command::new(program);
    let kept = std::env::vars_os().filter(|(name, _)| {
        name.to_str().is_some_and(|name| KEPT.iter().any(|start| name.starts_with(start)))
    });
    command.args(args).env_clear().envs(kept).current_dir("/");
    command
}

fn told(event: GateEvent) -> String {
    match event {
        GateEvent::Refused(client) => format!("refused {client}: it does not know the token"),
        GateEvent::Serving(client) => format!("serving {client}"),
        GateEvent::Gone { client, served, why } => {
            let why = why.map_or(String::new(), |why| format!(": {why}"));
            format!("{client} has gone after {}{why}", duration(served.as_secs_f64()))
        }
        GateEvent::NotStarted(why) => format!("could not start a server process: {why}"),
    }
}
