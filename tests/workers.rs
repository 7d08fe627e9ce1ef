//! Lent machines: `fireside worker` and `--rpc` over loopback. Answers as without them; nobody gets in without the
//! token, and nowhere past the gate; a worker that dies, stops or is cut off ends neither the chat nor the program.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::{Done, Home, Run, Running, cannot_run, default_model, repository, tiny};

/// A worker on loopback, with its home.
pub(crate) struct Worker {
    home: Home,
    running: Running,
    address: String,
}

impl Worker {
    pub(crate) fn start(args: &[&str]) -> Worker {
        let home = Home::new();
        let mut running = home.run(&[&["worker", "--listen", "127.0.0.1:0"], args].concat()).start();
        let address = listening(&mut running);
        Worker { home, running, address }
    }

    pub(crate) fn token(&self) -> PathBuf {
        self.home.path(".local/state/fireside/worker-token")
    }

    /// Its processes: the gate and, while a client is served, the server.
    fn processes(&self) -> Vec<Pid> {
        let gate = Pid::from_raw(self.running.id() as i32);
        [gate].into_iter().chain(children(gate)).collect()
    }

    /// From now on its server gets no more memory than so many bytes, as if other programs took the rest.
    pub(crate) fn leave(&self, bytes: u64) {
        for process in children(self.processes()[0]) {
            let pages = fs::read_to_string(format!("/proc/{process}/statm")).unwrap();
            let pages: u64 = pages.split(' ').next().unwrap().parse().unwrap();
            let limit = format!("--as={}", pages * 4096 + bytes);
            let done =
                Command::new("prlimit").args(["--pid", &process.to_string(), &limit]).status().unwrap();
            assert!(done.success());
        }
    }

    fn signal(&self, signal: Signal) {
        for process in self.processes() {
            let _ = kill(process, signal); // the server ends with the gate
        }
    }
}

/// A stopped process would not end with the test.
impl Drop for Worker {
    fn drop(&mut self) {
        self.signal(Signal::SIGKILL);
    }
}

fn listening(worker: &mut Running) -> String {
    worker.stderr.wait_for("\n"); // the first line
    let heard = worker.stderr.so_far();
    let line = heard.lines().next().unwrap();
    line.rsplit_once(" at ").unwrap_or_else(|| panic!("{heard}")).1.to_string()
}

fn children(process: Pid) -> Vec<Pid> {
    let threads = fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    let children = threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    let children: String = children.collect();
    children.split_whitespace().map(|child| Pid::from_raw(child.parse().unwrap())).collect()
}

/// A run that may use these workers, all with the first one's token.
pub(crate) fn with_workers(home: &Home, workers: &[&Worker], args: &[&str]) -> Run {
    let addresses: Vec<&str> = workers.iter().map(|worker| worker.address.as_str()).collect();
    borrowing(home, &addresses.join(","), &workers[0].token(), args)
}

fn borrowing(home: &Home, addresses: &str, token: &Path, args: &[&str]) -> Run {
    home.run(args).env("FIRESIDE_RPC", addresses).env("FIRESIDE_RPC_TOKEN", token)
}

/// Arguments for a reproducible answer of so many tokens, computed the same way on every device.
fn greedy(tokens: &'static str) -> [&'static str; 9] {
    [
        "--temp",
        "0",
        "-n",
        tokens,
        "--no-repack",
        "--flash-attn=on",
        "--no-speculative",
        "--no-prompt-cache",
        "-q",
    ]
}

#[test]
fn answers_are_those_of_this_machine_for_three_families() {
    let one = Worker::start(&[]);
    let other = Worker::start(&["--token-file", one.token().to_str().unwrap()]);
    let models = ["llama-bpe", "gemma3", "mamba"].map(tiny).into_iter().chain(default_model());
    for model in models {
        let home = Home::new();
        let args = [&greedy("24")[..], &["--raw", "-p", "The quick brown fox"]].concat();
        let local = home.run(&args).model(&model).done().code(0).stdout;
        let lent = with_workers(&home, &[&one], &args).model(&model).done().code(0);
        assert_eq!(lent.stdout, local, "{}", model.display());
        let both = [&args[..], &["--tensor-split", "1,1", "--gpu-layers", "99"]].concat();
        let lent = with_workers(&home, &[&one, &other], &both).model(&model).done().code(0);
        assert_eq!(lent.stdout, local, "{} on two", model.display());
        let part = [&args[..], &["--gpu-layers", "2"]].concat();
        let lent = with_workers(&home, &[&one], &part).model(&model).done().code(0);
        assert_eq!(lent.stdout, local, "{} in part", model.display());
    }
}

#[test]
fn the_plan_and_the_lists_name_the_worker() {
    let worker = Worker::start(&["--memory", "2000"]);
    let home = Home::new();
    let devices = with_workers(&home, &[&worker], &["--list-devices"]).done().code(0).stdout;
    assert!(devices.contains(&format!("worker {} (", worker.address)), "{devices}");
    assert!(devices.contains("2000 MiB free"), "{devices}");
    let model = tiny("llama-bpe");
    let show = with_workers(&home, &[&worker], &["show", model.to_str().unwrap()]).done().code(0);
    let show = show.stdout_has("on workers: ").stdout_has(&format!("RPC0, worker {}: ", worker.address));
    assert!(!show.stdout.contains("GPU"), "{show:#?}");
    let run = with_workers(&home, &[&worker], &["-v", "-n", "1", "-p", "Hi"]).model(&model);
    run.done().code(0).says(&format!("worker {}", worker.address));
}

/// One line for each fault before llama.cpp has anything to do with it.
#[test]
fn each_fault_of_an_address_has_its_line() {
    let home = Home::new();
    let token = home.write("token", "0123456789abcdef0123456789abcdef");
    fs::set_permissions(&token, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let ask = |address: &str| {
        borrowing(&home, address, &token, &["-p", "Hi", "--rpc-timeout", "1"])
            .model(&tiny("llama-bpe"))
            .done()
    };
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    ask(&closed).failed(1, &format!("no worker at {closed}: connection refused")).hint("fireside worker");
    ask("nowhere").code(2).says("must be HOST:PORT");
    ask("256.0.0.1:1").failed(1, "no worker at 256.0.0.1:1");

    let answers = |bytes: &'static [u8]| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.write_all(bytes);
            let _ = stream.read_to_end(&mut Vec::new());
        });
        address
    };
    ask(&answers(b"SSH-2.0-OpenSSH_9.2p1\r\n")).failed(1, "is not a fireside worker").hint("rpc-server");
    ask(&answers(b"fireside worker 2\nand more")).failed(1, "is another version: it speaks 2, and this");
    ask(&answers(b"")).failed(1, "did not answer within 1 s");

    let worker = Worker::start(&[]);
    ask(&worker.address).failed(1, "does not accept this token").hint("--rpc-token");
    let none = home.run(&["-p", "Hi", "--rpc", &worker.address]).model(&tiny("llama-bpe")).done();
    none.failed(1, "there is no token for the worker at").hint("--rpc-token");
    let open = home.write("open", "0123456789abcdef0123456789abcdef");
    fs::set_permissions(&open, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    borrowing(&home, &worker.address, &open, &["-p", "Hi"])
        .model(&tiny("llama-bpe"))
        .done()
        .failed(1, "other users may read or change it");
    borrowing(&home, &worker.address, &worker.token(), &["-p", "Hi", "--offline"])
        .model(&tiny("llama-bpe"))
        .done()
        .failed(2, "offline: no worker is used");
}

#[test]
fn a_worker_serves_one_client_at_a_time_and_the_next_one_after_it() {
    let mut worker = Worker::start(&[]);
    let home = Home::new();
    let model = tiny("llama-bpe");
    let mut chat =
        with_workers(&home, &[&worker], &["--repl-stdin", "-n", "3"]).model(&model).stdin("Hi\n").start();
    worker.running.stderr.wait_for("serving 127.0.0.1:");
    let ask = || with_workers(&home, &[&worker], &["-n", "1", "-p", "Hi"]).model(&model).done();
    ask().failed(1, &format!("the worker at {} is busy", worker.address)).hint("one fireside at a time");
    chat.close_stdin();
    chat.done().code(0);
    worker.running.stderr.wait_for("has gone after");
    assert_eq!(worker.processes().len(), 1, "the server has ended with its client");
    let ask = || with_workers(&home, &[&worker], &["-n", "1", "-p", "Hi"]).model(&model).done();
    ask().code(0);
}

#[test]
fn nothing_but_the_gate_listens_and_it_tells_strangers_nothing() {
    let mut worker = Worker::start(&[]);
    let home = Home::new();
    let lent = &["--repl-stdin", "-n", "3"];
    let mut chat = with_workers(&home, &[&worker], lent).model(&tiny("llama-bpe")).stdin("Hi\n").start();
    chat.stdout.wait_for("\n"); // an answer: the server is at work
    let processes = worker.processes();
    assert_eq!(processes.len(), 2, "the gate and one server");
    // The listening sockets of both; whoever may be reached may be reached by other users of this machine.
    let port = worker.address.rsplit_once(':').unwrap().1;
    let listening: Vec<String> = processes.iter().flat_map(|process| listeners(*process)).collect();
    assert_eq!(listening, [format!("{:04X}", port.parse::<u16>().unwrap())]);
    assert_eq!(sockets(processes[1]).len(), 2, "the server has its gate's socket and its client's");

    // llama.cpp's own client gets a greeting, and no answer to its HELLO.
    let mut stranger = TcpStream::connect(&worker.address).unwrap();
    let hello = [&[14_u8][..], &24_u64.to_le_bytes(), &[0; 24]].concat();
    let _ = stranger.write_all(&[&hello[..], &[0; 100]].concat());
    let mut heard = Vec::new();
    let _ = stranger.read_to_end(&mut heard);
    assert!(heard.starts_with(b"fireside worker 1\n") && heard.len() == 18 + 32, "{heard:?}");
    worker.running.stderr.wait_for("refused 127.0.0.1:");
    chat.close_stdin();
    chat.done().code(0);
}

/// The ports, in hex, on which a process listens.
fn listeners(process: Pid) -> Vec<String> {
    let sockets = sockets(process);
    let tables =
        ["tcp", "tcp6"].map(|table| fs::read_to_string(format!("/proc/{process}/net/{table}")).unwrap());
    let lines = tables.iter().flat_map(|table| table.lines().skip(1));
    let fields = lines.map(|line| line.split_whitespace().collect::<Vec<_>>());
    let own = fields.filter(|fields| fields[3] == "0A" && sockets.iter().any(|inode| inode == fields[9]));
    own.map(|fields| fields[1].rsplit_once(':').unwrap().1.to_string()).collect()
}

/// The inodes of a process's sockets.
fn sockets(process: Pid) -> Vec<String> {
    let open = fs::read_dir(format!("/proc/{process}/fd")).unwrap().flatten();
    let links = open.filter_map(|open| fs::read_link(open.path()).ok()?.to_str().map(String::from));
    links.filter_map(|link| Some(link.strip_prefix("socket:[")?.strip_suffix(']')?.to_string())).collect()
}

/// Forks a process with one thread, takes its rights away, and lets it try to get some back.
#[test]
#[cfg(target_os = "linux")]
fn a_confined_process_reaches_nothing_but_its_cache() {
    use std::os::fd::FromRawFd;

    use fireside::rpc::{Confinement, confine};
    use nix::sys::wait::{WaitStatus, waitpid};
    use nix::unistd::{ForkResult, fork};

    let home = Home::new();
    let cache = home.path("cache");
    fs::create_dir(&cache).unwrap();
    let outside = home.write("outside", "secret");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let confinement = Confinement { cache: Some(cache.clone()), ..Confinement::default() };
    // SAFETY: the child is this thread alone; it takes no lock that another thread may have had.
    let child = match unsafe { fork() }.unwrap() {
        ForkResult::Parent { child } => child,
        ForkResult::Child => {
            let failed = [
                confine(&confinement).is_err(),
                fs::write(cache.join("tensor"), "bytes").is_err() || fs::read(cache.join("tensor")).is_err(),
                fs::read(&outside).is_ok() || fs::read("/etc/passwd").is_ok(),
                fs::write(&outside, "gone").is_ok() || fs::remove_file(&outside).is_ok(),
                fs::copy("/proc/self/exe", cache.join("program")).is_ok(),
                TcpStream::connect(address).is_ok() || TcpListener::bind("127.0.0.1:0").is_ok(),
                std::os::unix::net::UnixStream::pair().is_ok(),
                nix::unistd::execv(c"/bin/true", &[c"true"]).is_ok(),
                kill(nix::unistd::getppid(), None).is_ok(),
                // The descriptors that it has stay usable.
                // SAFETY: stdin of this process; it ends before anything else uses it.
                unsafe { fs::File::from_raw_fd(0) }.metadata().is_err(),
            ];
            let code = failed.iter().position(|failed| *failed).map_or(0, |first| first as i32 + 1);
            // SAFETY: ends the process without running what belongs to the tests.
            unsafe { nix::libc::_exit(code) }
        }
    };
    match waitpid(child, None).unwrap() {
        WaitStatus::Exited(_, 0) => {}
        WaitStatus::Exited(_, 1) => cannot_run("this kernel has no landlock or no seccomp"),
        failed => panic!("{failed:?}: the number of the first thing that was allowed, less one"),
    }
}

#[test]
fn no_more_memory_is_taken_than_is_lent() {
    let Some(model) = default_model() else { return };
    let worker = Worker::start(&["--memory", "40"]);
    let home = Home::new();
    // Where fireside chooses, it takes as many layers as there is room for.
    let args = [&greedy("2")[..], &["-p", "Hi"]].concat();
    with_workers(&home, &[&worker], &args).model(&model).done().code(0);
    let all = [&args[..], &["--gpu-layers", "99", "--fit", "off"]].concat();
    let done = with_workers(&home, &[&worker], &all).model(&model).done();
    done.failed(1, "not enough memory to load");
    with_workers(&home, &[&worker], &args).model(&model).done().code(0);
}

#[test]
fn large_tensors_are_kept_within_a_limit() {
    let Some(model) = default_model() else { return };
    let home = Home::new();
    let kept = |worker: &Worker| -> u64 {
        let files = fs::read_dir(worker.home.path(".cache/fireside/tensors")).unwrap().flatten();
        files.map(|file| file.metadata().unwrap().len()).sum()
    };
    let args = [&greedy("2")[..], &["-p", "Hi"]].concat();
    for (limit, most) in [("100", 100 << 20), ("1", 1 << 20)] {
        let mut worker = Worker::start(&["--cache-size", limit]);
        let first = with_workers(&home, &[&worker], &args).model(&model).done().code(0).stdout;
        worker.running.stderr.wait_for("has gone after");
        assert!(kept(&worker) <= most && (kept(&worker) > 0) == (limit == "100"), "{}", kept(&worker));
        let second = with_workers(&home, &[&worker], &args).model(&model).done().code(0).stdout;
        assert_eq!(first, second);
    }
}

#[test]
fn other_machines_are_let_in_on_request_only() {
    let home = Home::new();
    home.run(&["worker", "--listen", "0.0.0.0:0"])
        .done()
        .failed(2, "other machines could reach 0.0.0.0:0")
        .hint("--allow-remote");
    let mut worker = home.run(&["worker", "--listen", "0.0.0.0:0", "--allow-remote"]).start();
    worker.stderr.wait_for("nothing is encrypted");
    worker.interrupt();
    worker.done().code(130);
}

/// The chat goes on without a worker that has died, with the conversation as it was.
#[test]
fn a_chat_survives_its_worker() {
    let worker = Worker::start(&[]);
    let home = Home::new();
    let args = ["--repl-stdin", "--keep", "--temp", "0", "-n", "8", "--rpc-timeout", "2"];
    let mut chat = with_workers(&home, &[&worker], &args).model(&tiny("llama-bpe")).stdin("One\n").start();
    chat.stdout.wait_for("\n");
    worker.signal(Signal::SIGKILL);
    chat.write(b"Two\ny\n/exit\n");
    chat.stderr.wait_for(&format!("the worker at {} is lost: it closed the connection", worker.address));
    let done = chat.done().code(0);
    assert_eq!(done.stdout.lines().filter(|line| !line.is_empty()).count(), 2, "two answers; {done:#?}");
    let kept = home.run(&["history", "show", "--json"]).done();
    let kept = if kept.code == Some(0) { kept } else { home.run(&["history", "list", "--json"]).done() };
    assert!(kept.stdout.contains("One"), "{kept:#?}");
}

/// What the answer had until then is in the database, all of it.
#[test]
fn a_chat_keeps_what_was_said_before_the_worker_died() {
    let Some(model) = default_model() else { return };
    let worker = Worker::start(&["--cache-size", "0"]);
    let home = Home::new();
    let args = ["--repl-stdin", "--keep", "--temp", "0", "-n", "2000", "--no-speculative"];
    let ask = "Tell me a long story about a fox.\n";
    let mut chat = with_workers(&home, &[&worker], &args).model(&model).stdin(ask).start();
    chat.stdout.wait_for(". ");
    worker.signal(Signal::SIGKILL);
    chat.write(b"n\n/exit\n");
    let said = chat.done().code(0).says("is lost: it closed the connection").stdout;
    let list = home.run(&["history", "list", "--json"]).done().code(0).json();
    let texts = |json: &serde_json::Value| strings(json).map(String::from).collect::<Vec<_>>();
    let id = texts(&list).into_iter().find(|text| text.len() >= 16 && u64::from_str_radix(text, 16).is_ok());
    let file = home.path("export.json");
    home.run(&["history", "export", &id.unwrap(), file.to_str().unwrap()]).done().code(0);
    let export = serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap();
    assert!(texts(&export).iter().any(|text| text == said.trim_end()), "{said:?} is not in {export:#}");
}

/// All texts in a JSON value.
fn strings(json: &serde_json::Value) -> Box<dyn Iterator<Item = &str> + '_> {
    match json {
        serde_json::Value::String(text) => Box::new(std::iter::once(text.as_str())),
        serde_json::Value::Array(all) => Box::new(all.iter().flat_map(strings)),
        serde_json::Value::Object(all) => Box::new(all.values().flat_map(strings)),
        _ => Box::new(std::iter::empty()),
    }
}

/// Only the server process fails: the gate notices, and serves the next client with another one.
#[test]
fn a_worker_survives_its_server_process() {
    let mut worker = Worker::start(&[]);
    let home = Home::new();
    for (signal, said) in [(Signal::SIGKILL, "has gone"), (Signal::SIGSTOP, "server stopped by SIGSTOP")] {
        let args = ["--repl-stdin", "-n", "3", "--rpc-timeout", "2"];
        let mut chat =
            with_workers(&home, &[&worker], &args).model(&tiny("llama-bpe")).stdin("One\n").start();
        chat.stdout.wait_for("\n");
        kill(worker.processes()[1], signal).unwrap();
        chat.write(b"Two\nn\n/exit\n");
        chat.stderr.wait_for(&format!("the worker at {} is lost", worker.address));
        chat.done().code(0);
        worker.running.stderr.wait_for(said);
        let again = with_workers(&home, &[&worker], &["-n", "1", "-p", "Hi"]).model(&tiny("llama-bpe"));
        again.done().code(0);
    }
}

// ---- faults in each phase --------------------------------------------------------------------------------------------

/// What happens to a worker.
#[derive(Debug, Clone, Copy)]
enum Fault {
    /// It is killed.
    Kill,
    /// It is stopped: its sockets stay open.
    Stop,
    /// Its packets are lost.
    Cut,
}

/// What it is doing meanwhile.
#[derive(Debug, Clone, Copy)]
enum Phase {
    Load,
    Prefill,
    Decode,
}

/// A way to a worker that counts the bytes to it, and may lose them.
struct Way {
    address: String,
    bytes: Arc<AtomicU64>,
    cut: Arc<AtomicBool>,
}

impl Way {
    fn to(worker: &str) -> Way {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (bytes, cut) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (worker, count, lost) = (worker.to_string(), bytes.clone(), cut.clone());
        thread::spawn(move || {
            for here in listener.incoming().flatten() {
                let Ok(there) = TcpStream::connect(&worker) else { continue };
                let _ = (here.set_nodelay(true), there.set_nodelay(true));
                let back = (there.try_clone().unwrap(), here.try_clone().unwrap());
                let (there_count, back_count) = (count.clone(), Arc::default());
                let (there_lost, back_lost) = (lost.clone(), lost.clone());
                thread::spawn(move || carry(here, there, &there_count, &there_lost));
                thread::spawn(move || carry(back.0, back.1, &back_count, &back_lost));
            }
        });
        Way { address, bytes, cut }
    }
}

fn carry(mut from: TcpStream, mut to: TcpStream, count: &AtomicU64, cut: &AtomicBool) {
    let mut buffer = vec![0; 1 << 16];
    loop {
        let length = from.read(&mut buffer).unwrap_or(0);
        while cut.load(Ordering::SeqCst) {
            thread::park(); // for good: both ends stay open
        }
        if length == 0 || to.write_all(&buffer[..length]).is_err() {
            break;
        }
        count.fetch_add(length as u64, Ordering::SeqCst);
    }
    let _ = (from.shutdown(std::net::Shutdown::Both), to.shutdown(std::net::Shutdown::Both));
}

/// A run in which the worker has this fault in this phase: how it ended, and how long after the fault.
fn faulty(model: &Path, fault: Fault, phase: Phase) -> (Done, Duration, String) {
    let worker = Worker::start(&["--cache-size", "0"]);
    let way = Way::to(&worker.address);
    let home = Home::new();
    let text = "A fox ran over the hill and met a dog. ".repeat(if matches!(phase, Phase::Prefill) {
        300
    } else {
        1
    });
    let args = [&greedy("2000")[..8], &["--raw", "-v", "--rpc-timeout", "2", "-p", &text]].concat();
    let mut run = borrowing(&home, &way.address, &worker.token(), &args).model(model).start();
    match phase {
        Phase::Load => {
            let deadline = Instant::now() + Duration::from_secs(60);
            while way.bytes.load(Ordering::SeqCst) < 8 << 20 {
                assert!(Instant::now() < deadline, "it does not load");
                thread::yield_now();
            }
        }
        Phase::Prefill => {
            let loaded = |way: &Way| way.bytes.load(Ordering::SeqCst);
            run.stderr.wait_for("sched_reserve: graph: "); // the context has been made
            let (before, deadline) = (loaded(&way), Instant::now() + Duration::from_secs(60));
            while loaded(&way) < before + (100 << 10) {
                assert!(Instant::now() < deadline, "it does not read");
                thread::yield_now();
            }
        }
        Phase::Decode => run.stdout.wait_for(" "),
    }
    match fault {
        Fault::Kill => worker.signal(Signal::SIGKILL),
        Fault::Stop => worker.signal(Signal::SIGSTOP),
        Fault::Cut => way.cut.store(true, Ordering::SeqCst),
    }
    let since = Instant::now();
    let done = run.done(); // or it hangs
    (done, since.elapsed(), way.address)
}

/// Each fault in each phase; FIRESIDE_TEST_RUNS times (`make test-remote`), else once. Prints a table.
#[test]
#[allow(clippy::print_stdout)] // the table is a result
fn no_fault_of_a_worker_in_any_phase_hangs_or_garbles() {
    let Some(model) = default_model() else { return };
    let runs: u32 = std::env::var("FIRESIDE_TEST_RUNS").ok().and_then(|n| n.parse().ok()).unwrap_or(1);
    let text = "A fox ran over the hill and met a dog. ";
    let args = [&greedy("2000")[..], &["--raw", "-p", text]].concat();
    let whole = Home::new().run(&args).model(&model).done().code(0).stdout;
    println!("{:8} {:8} {:>5} {:>5} {:>5} {:>9}", "fault", "phase", "runs", "lost", "hung", "slowest");
    let mut failures = Vec::new();
    for fault in [Fault::Kill, Fault::Stop, Fault::Cut] {
        for phase in [Phase::Load, Phase::Prefill, Phase::Decode] {
            let (mut lost, mut hung, mut slowest) = (0, 0, Duration::ZERO);
            for _ in 0..runs {
                let ended = std::panic::catch_unwind(|| faulty(&model, fault, phase));
                let Ok((done, took, address)) = ended else {
                    hung += 1;
                    continue;
                };
                slowest = slowest.max(took);
                let said = done.stderr.contains(&format!("fireside: the worker at {address} is lost: "));
                // What was written before the fault is the beginning of the answer, and nothing else.
                if !(said && done.code == Some(1) && whole.starts_with(done.stdout.trim_end_matches('\n'))) {
                    lost += 1;
                    failures.push(format!("{fault:?} {phase:?}: {:?} {:?}", done.code, &done.stdout));
                }
            }
            let name = format!("{fault:?} {phase:?}").to_lowercase();
            let (fault, phase) = name.split_once(' ').unwrap();
            println!("{fault:8} {phase:8} {runs:5} {lost:5} {hung:5} {:7.1} s", slowest.as_secs_f64());
            if hung > 0 {
                failures.push(format!("{name} hung {hung} times"));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

// ---- two machines ----------------------------------------------------------------------------------------------------

/// Two network namespaces with addresses of their own, as root: a worker in each, the client in the first.
#[test]
fn workers_at_other_addresses_answer_alike() {
    let script = repository().join("tests/workers.sh");
    let model = tiny("llama-bpe");
    let program = crate::support::program();
    let done = std::process::Command::new(script).args([program, model.to_str().unwrap()]).output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    match done.status.code() {
        Some(0) => {}
        Some(77) => cannot_run(said.trim()),
        _ => panic!("{said}"),
    }
}
