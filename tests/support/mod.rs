//! Used by all tests: runs of the real program in a home of their own, and the models for them.

pub mod chats;
mod clock;
pub mod engine;
pub mod guesser;
pub mod hub;
pub mod memory;
pub mod mutate;
mod odd;
pub mod parrot;
pub mod pty;
pub mod server;
pub mod transcripts;

use std::ffi::{OsStr, OsString};
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::rc::Rc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// A folder of the repository.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// One of the tiny models made by tests/models/make.py.
pub fn tiny(name: &str) -> PathBuf {
    let path = repository().join("tests/models").join(format!("{name}.gguf"));
    assert!(path.exists(), "{} is missing", path.display());
    path
}

/// The default model, or `None` with a line on stderr if it was not fetched. In CI its absence is a failure.
pub fn default_model() -> Option<PathBuf> {
    let path = repository().join("models/SmolLM2-135M-Instruct.Q4_1.gguf");
    if path.exists() {
        return Some(path);
    }
    cannot_run("the default model is not there (make model)");
    None
}

/// Reports that a test did not run, and why; in CI that is a failure.
pub fn cannot_run(why: &str) {
    assert!(std::env::var_os("FIRESIDE_TEST_NO_SKIP").is_none(), "cannot run: {why}");
    let _ = writeln!(std::io::stderr(), "skipped: {why}");
}

/// The program, as built for this test run; `FIRESIDE_TEST_PROGRAM` names another one.
pub fn program() -> &'static str {
    static PROGRAM: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    PROGRAM.get_or_init(|| {
        std::env::var("FIRESIDE_TEST_PROGRAM").unwrap_or_else(|_| env!("CARGO_BIN_EXE_fireside").to_string())
    })
}

/// A home folder for one test: configuration, models, history and state, removed at the end.
pub struct Home {
    folder: Rc<TempDir>,
}

impl Home {
    pub fn new() -> Home {
        Home { folder: Rc::new(TempDir::new().unwrap()) }
    }

    /// One whose path is equally long wherever the tests run.
    pub fn in_tmp() -> Home {
        Home { folder: Rc::new(TempDir::new_in("/tmp").unwrap()) }
    }

    pub fn path(&self, inside: &str) -> PathBuf {
        self.folder.path().join(inside)
    }

    /// Writes a file below the home folder and returns its path.
    pub fn write(&self, inside: &str, contents: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(inside);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, contents).unwrap();
        path
    }

    /// The environment of a run in this home, without the machine's own settings.
    pub fn environment(&self) -> Vec<(OsString, OsString)> {
        let mut environment: Vec<(OsString, OsString)> = vec![
            ("HOME".into(), self.folder.path().into()),
            ("TERM".into(), "xterm-256color".into()),
            ("LANG".into(), "C.UTF-8".into()),
            // llama.cpp's threads wait for each other by spinning: on a busy machine two are hundreds of
            // times slower.
            ("FIRESIDE_THREADS".into(), "1".into()),
            ("OMP_WAIT_POLICY".into(), "passive".into()), // runs in parallel must not spin against each other
        ];
        environment.extend(std::env::var_os("PATH").map(|path| ("PATH".into(), path)));
        // which GPU llama.cpp takes (make test-gpu)
        let of_gpu = |name: &OsString| {
            let name = name.to_string_lossy();
            ["GGML_", "CUDA_", "NVIDIA_", "VK_", "MESA_"].iter().any(|start| name.starts_with(start))
                || name == "LD_LIBRARY_PATH"
        };
        environment.extend(std::env::vars_os().filter(|(name, _)| of_gpu(name)));
        environment
    }

    /// A run of the program in this home.
    pub fn run<S: AsRef<str>>(&self, args: &[S]) -> Run {
        let mut command = Command::new(program());
        command.args(args.iter().map(AsRef::as_ref)).env_clear().envs(self.environment());
        command.current_dir(self.folder.path());
        Run { command, stdin: None, _home: self.folder.clone() }
    }

    /// A run with scripted answers, one per line (see src/backend/script.rs).
    pub fn scripted<S: AsRef<str>>(&self, answers: &str, args: &[S]) -> Run {
        let script = self.write("script.txt", answers);
        let backend = ["--backend".to_string(), format!("script:{}", script.display())];
        let args = backend.into_iter().chain(args.iter().map(|arg| arg.as_ref().to_string()));
        self.run(&args.collect::<Vec<_>>()) // before the rest, which may begin with a subcommand
    }
}

/// One run of the program. stdin is empty and closed unless given.
pub struct Run {
    command: Command,
    stdin: Option<Vec<u8>>,
    /// Lives as long as the run.
    _home: Rc<TempDir>,
}

impl Run {
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Run {
        self.stdin = Some(bytes.into());
        self
    }

    pub fn env(mut self, name: &str, value: impl AsRef<std::ffi::OsStr>) -> Run {
        self.command.env(name, value);
        self
    }

    pub fn model(mut self, path: &Path) -> Run {
        self.command.arg("-m").arg(path);
        self
    }

    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Run {
        self.command.arg(arg);
        self
    }

    /// Without a terminal device, even if the tests themselves have one.
    pub fn without_terminal(mut self) -> Run {
        let detach = || nix::unistd::setsid().map(drop).map_err(std::io::Error::from);
        // SAFETY: setsid may be called between fork and exec.
        unsafe { self.command.pre_exec(detach) };
        self
    }

    /// Under strace, which writes the system calls of one kind into `log`; nothing else is different.
    pub fn traced(self, calls: &str, log: &Path) -> Run {
        let mut command = Command::new("strace");
        command.args(["-f", "-qq", "-e", "signal=none", "-e", &format!("trace={calls}"), "-o"]).arg(log);
        command.arg(self.command.get_program()).args(self.command.get_args()).env_clear();
        let environment = self.command.get_envs().filter_map(|(name, value)| Some((name, value?)));
        command.envs(environment).current_dir(self.command.get_current_dir().unwrap());
        Run { command, ..self }
    }

    /// Run by a shell after this line, such as `umask 0` or `exec >&-`.
    pub fn after(self, line: &str) -> Run {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("{line}; exec \"$@\""), "sh"]);
        command.arg(self.command.get_program()).args(self.command.get_args()).env_clear();
        let environment = self.command.get_envs().filter_map(|(name, value)| Some((name, value?)));
        command.envs(environment).current_dir(self.command.get_current_dir().unwrap());
        Run { command, ..self }
    }

    /// On a disk whose every read takes this many microseconds longer. Signals go to the program itself.
    pub fn reads_slowed(self, microseconds: u32) -> Run {
        let delay = format!("inject=pread64,read:delay_exit={microseconds}");
        let strace = "strace -D -f -qq -o /dev/null -e signal=none -e trace=pread64,read -e";
        let mut command = Command::new("strace");
        command.args(strace.split(' ').skip(1)).arg(delay);
        command.arg(self.command.get_program()).args(self.command.get_args()).env_clear();
        let environment = self.command.get_envs().filter_map(|(name, value)| Some((name, value?)));
        command.envs(environment).current_dir(self.command.get_current_dir().unwrap());
        Run { command, ..self }
    }

    /// With a clock that stands at this many seconds since 1970. `None` if there is no C compiler to make it.
    pub fn at(mut self, seconds: i64) -> Option<Run> {
        self.command.env("LD_PRELOAD", clock::stopped()?).env("FIRESIDE_TEST_NOW", seconds.to_string());
        Some(self)
    }

    /// Runs to the end with stdout going into `file`.
    pub fn done_into(mut self, file: &str) -> Done {
        let file = std::fs::OpenOptions::new().write(true).open(file).unwrap();
        let output = self.command.stdin(Stdio::null()).stdout(file).stderr(Stdio::piped());
        Done::from(output.spawn().unwrap().wait_with_output().unwrap())
    }

    /// Starts it, so that the test can interact with it.
    pub fn start(mut self) -> Running {
        let piped = self.command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = piped.stderr(Stdio::piped()).spawn().unwrap();
        let stdin = child.stdin.take();
        let (stdout, stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let (stdout, stderr) = (Heard::from(stdout), Heard::from(stderr));
        let mut running = Running { child, stdin, stdout, stderr, _home: self._home };
        match self.stdin {
            // A program that ends without reading it is no failure.
            Some(bytes) => _ = running.stdin.as_mut().map(|stdin| stdin.write_all(&bytes)),
            None => running.stdin = None,
        }
        running
    }

    /// Runs to the end.
    pub fn done(mut self) -> Done {
        self.command.stdin(if self.stdin.is_some() { Stdio::piped() } else { Stdio::null() });
        let mut child = self.command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        if let Some(bytes) = self.stdin {
            let mut pipe = child.stdin.take().unwrap();
            std::thread::spawn(move || pipe.write_all(&bytes)); // a program that does not read it all is no failure
        }
        Done::from(child.wait_with_output().unwrap())
    }
}

/// Runs this test again in a process of its own and returns false, unless this is that process. A program's
/// memory is measured from its start, when it is still a copy of the process that started it.
pub fn alone(test: &str) -> bool {
    alone_with(test, &[])
}

/// The same with more in the environment of that process.
pub fn alone_with(test: &str, environment: &[(&str, &OsStr)]) -> bool {
    if std::env::var_os("FIRESIDE_TEST_ALONE").is_some_and(|name| name == test) {
        return true;
    }
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture", "--include-ignored"]).env("FIRESIDE_TEST_ALONE", test);
    command.env_remove("GGML_FIRESIDE").envs(environment.iter().copied());
    let done = command.stdout(Stdio::piped()).stderr(Stdio::inherit()).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stdout));
    false
}

/// How a run ended, and its time and memory, including the processes it started.
#[derive(Debug)]
pub struct Measured {
    pub done: Done,
    pub signal: Option<i32>,
    pub took: Duration,
    /// The peak memory of any one process, in bytes.
    pub memory: u64,
}

impl Run {
    /// Runs to the end; killed after `most`.
    #[allow(clippy::zombie_processes)] // wait4 waits for it
    pub fn measured(mut self, most: Duration) -> Measured {
        use std::os::unix::process::ExitStatusExt;
        self.command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let started = Instant::now();
        let mut child = self.command.spawn().unwrap();
        let pid = child.id() as i32;
        let mut pipes = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let stdout = std::thread::spawn(move || read_all(&mut pipes.0));
        let stderr = std::thread::spawn(move || read_all(&mut pipes.1));
        let (ended, watched) = channel::<()>();
        let watch = std::thread::spawn(move || {
            if watched.recv_timeout(most).is_err() {
                let _ = nix::sys::signal::kill(
                    nix::unistd::Pid::from_raw(pid),
                    nix::sys::signal::Signal::SIGKILL,
                );
            }
        });
        let (status, memory) = wait4(pid);
        let _ = ended.send(());
        watch.join().unwrap();
        let status = std::process::ExitStatus::from_raw(status);
        let (stdout, stderr) = (stdout.join().unwrap(), stderr.join().unwrap());
        let done = Done { code: status.code(), stdout, stderr };
        Measured { done, signal: status.signal(), took: started.elapsed(), memory }
    }
}

fn read_all(source: &mut impl Read) -> String {
    let mut bytes = Vec::new();
    let _ = source.read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Waits for a child; returns its status as the system gives it, and the peak memory of it and its own
/// children.
fn wait4(pid: i32) -> (i32, u64) {
    let mut status = 0;
    // SAFETY: plain numbers, for which all zeros is a value.
    let mut usage: nix::libc::rusage = unsafe { std::mem::zeroed() };
    loop {
        // SAFETY: both pointers are valid during the call; no one else waits for this child.
        if unsafe { nix::libc::wait4(pid, &mut status, 0, &mut usage) } == pid {
            let most = usage.ru_maxrss as u64 * 1024;
            return (status, if most <= own_peak() + (1 << 20) { 0 } else { most });
        }
    }
}

/// The peak memory of the tests themselves. The system counts it for a child, too, so less cannot be
/// measured.
pub fn own_peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"));
    peak.and_then(|peak| peak.trim().parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// How a run ended. A failed check prints all of it.
#[derive(Debug)]
pub struct Done {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl From<Output> for Done {
    fn from(output: Output) -> Done {
        Done {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Done {
    #[track_caller]
    pub fn code(self, code: i32) -> Done {
        assert_eq!(self.code, Some(code), "exit code; {self:#?}");
        self
    }

    #[track_caller]
    pub fn stdout(self, expected: &str) -> Done {
        assert_eq!(self.stdout, expected, "stdout; {self:#?}");
        self
    }

    #[track_caller]
    pub fn stderr(self, expected: &str) -> Done {
        assert_eq!(self.stderr, expected, "stderr; {self:#?}");
        self
    }

    /// stderr contains this text.
    #[track_caller]
    pub fn says(self, part: &str) -> Done {
        assert!(self.stderr.contains(part), "stderr lacks {part:?}; {self:#?}");
        self
    }

    /// stdout contains this text.
    #[track_caller]
    pub fn stdout_has(self, part: &str) -> Done {
        assert!(self.stdout.contains(part), "stdout lacks {part:?}; {self:#?}");
        self
    }

    /// A failure as specified: this code, nothing on stdout, one `fireside:` line with `part` in it, then at
    /// most a `hint:` line.
    #[track_caller]
    pub fn failed(self, code: i32, part: &str) -> Done {
        let done = self.code(code).stdout("");
        let failures: Vec<&str> = done.stderr.lines().filter(|l| l.starts_with("fireside: ")).collect();
        assert_eq!(failures.len(), 1, "one failure line; {done:#?}");
        assert!(failures[0].contains(part), "the failure lacks {part:?}; {done:#?}");
        assert!(!done.stderr.contains("panicked") && !done.stderr.contains("RUST_BACKTRACE"), "{done:#?}");
        done
    }

    #[track_caller]
    pub fn hint(self, part: &str) -> Done {
        let hint = self.stderr.lines().find(|l| l.starts_with("hint: ")).unwrap_or_default();
        assert!(hint.contains(part), "the hint lacks {part:?}; {self:#?}");
        self
    }
}

/// The time after which anything counts as hanging.
const PATIENCE: Duration = Duration::from_secs(60);

/// A run in progress. Its stdin is open if `stdin` was given, until `close_stdin`.
pub struct Running {
    child: Child,
    stdin: Option<ChildStdin>,
    pub stdout: Heard,
    pub stderr: Heard,
    _home: Rc<TempDir>,
}

impl Running {
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn write(&mut self, bytes: &[u8]) {
        self.stdin.as_mut().unwrap().write_all(bytes).unwrap();
    }

    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// Waits until the program has started a process, and kills that.
    pub fn kill_its_child(&self) {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            let threads = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).into_iter().flatten();
            let read =
                |thread: std::fs::DirEntry| std::fs::read_to_string(thread.path().join("children")).ok();
            let children: String = threads.flatten().filter_map(read).collect();
            if let Some(child) = children.split_whitespace().next() {
                let child = nix::unistd::Pid::from_raw(child.parse().unwrap());
                return nix::sys::signal::kill(child, nix::sys::signal::Signal::SIGKILL).unwrap();
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        panic!("it started no process");
    }

    /// Waits until the program has installed its handler for Ctrl-C.
    pub fn wait_for_handler(&self) {
        let status = format!("/proc/{}/status", self.child.id());
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            let text = std::fs::read_to_string(&status).unwrap_or_default();
            let caught = text.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap_or("2");
            if u64::from_str_radix(caught.trim(), 16).is_ok_and(|signals| signals & 2 != 0) {
                return;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Does what Ctrl-C does.
    pub fn interrupt(&self) {
        let process = nix::unistd::Pid::from_raw(self.child.id() as i32);
        nix::sys::signal::kill(process, nix::sys::signal::Signal::SIGINT).unwrap();
    }

    /// Does what kill -9 does; returns stdout until then.
    pub fn killed(&mut self) -> String {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.stdout.all()
    }

    /// Does what kill -9 does.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for the end.
    #[track_caller]
    pub fn done(mut self) -> Done {
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            match self.child.try_wait().unwrap() {
                Some(status) => break status,
                None if Instant::now() > deadline => {
                    self.child.kill().unwrap();
                    panic!("it hangs; stderr: {}", self.stderr.all());
                }
                None => std::thread::sleep(Duration::from_millis(2)),
            }
        };
        Done { code: status.code(), stdout: self.stdout.all(), stderr: self.stderr.all() }
    }
}

/// The output of a run, received while it runs.
pub struct Heard {
    pieces: Receiver<Vec<u8>>,
    bytes: Vec<u8>,
}

impl Heard {
    fn from(mut source: impl Read + Send + 'static) -> Heard {
        let (pieces, heard) = channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(n @ 1..) = source.read(&mut buffer) {
                if pieces.send(buffer[..n].to_vec()).is_err() {
                    return; // no one listens any more: the pipe closes
                }
            }
        });
        Heard { pieces: heard, bytes: Vec::new() }
    }

    /// Waits until `part` has been written.
    #[track_caller]
    pub fn wait_for(&mut self, part: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !String::from_utf8_lossy(&self.bytes).contains(part) {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.pieces.recv_timeout(left) {
                Ok(piece) => self.bytes.extend(piece),
                Err(_) => panic!("no {part:?} in {:?}", String::from_utf8_lossy(&self.bytes)),
            }
        }
    }

    /// What was heard so far.
    pub fn so_far(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    /// Closes this end of the pipe after the next piece.
    pub fn close(&mut self) {
        self.pieces = channel().1;
    }

    fn all(&mut self) -> String {
        self.bytes.extend(self.pieces.iter().flatten());
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

impl Done {
    /// stdout as one JSON object.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        assert_eq!(self.stdout.lines().count(), 1, "one line; {self:#?}");
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e}; {self:#?}"))
    }
}

/// A GGUF file's bytes with one more entry of metadata: `kind` is GGUF's number of its type, `value` its
/// bytes. `key` must be new. A second, meaningless entry keeps the weights aligned.
pub fn with_metadata(gguf: &[u8], key: &str, kind: u32, value: &[u8]) -> Vec<u8> {
    let text = |text: &[u8]| [&(text.len() as u64).to_le_bytes(), text].concat();
    let entry =
        |key: &str, kind: u32, value: &[u8]| [&text(key.as_bytes())[..], &kind.to_le_bytes(), value].concat();
    let mut added = entry(key, kind, value);
    let filler = |length: usize| entry("test.filler", GGUF_STRING, &text(&vec![b'.'; length]));
    let length = (0..32).find(|n| (added.len() + filler(*n).len()) % 32 == 0).unwrap();
    added.extend(filler(length));
    let entries = u64::from_le_bytes(gguf[16..24].try_into().unwrap()) + 2;
    [&gguf[..16], &entries.to_le_bytes(), &added, &gguf[24..]].concat()
}

/// The file with another text in one entry.
pub fn with_text(gguf: &[u8], key: &str, text: &str) -> Vec<u8> {
    let name = [&(key.len() as u64).to_le_bytes()[..], key.as_bytes(), &GGUF_STRING.to_le_bytes()].concat();
    let at =
        gguf.windows(name.len()).position(|window| window == name).expect("it has that text") + name.len();
    let length = u64::from_le_bytes(gguf[at..at + 8].try_into().unwrap()) as usize;
    let after = &gguf[at + 8 + length..];
    let changed = [&gguf[..at], &(text.len() as u64).to_le_bytes(), text.as_bytes(), after].concat();
    // The data after it may move only by multiples of the alignment.
    let grown = (text.len() + 32 - length % 32) % 32;
    let filler = |length: usize| {
        let value = [&(length as u64).to_le_bytes()[..], &vec![b'.'; length]].concat();
        let key = "test.filler";
        [&(key.len() as u64).to_le_bytes()[..], key.as_bytes(), &GGUF_STRING.to_le_bytes(), &value].concat()
    };
    let length = (0..32).find(|n| (grown + filler(*n).len()).is_multiple_of(32)).unwrap();
    let entries = u64::from_le_bytes(gguf[16..24].try_into().unwrap()) + 1;
    [&changed[..16], &entries.to_le_bytes(), &filler(length), &changed[24..]].concat()
}

pub const GGUF_F32: u32 = 6;
pub const GGUF_STRING: u32 = 8;
