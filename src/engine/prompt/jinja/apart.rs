//! Rendering in a child process: requests on its stdin, results on its stdout, one line of JSON each.
//!
//! minijinja counts steps and bytes, but in one step a template can compare, hash, copy or drop values with
//! shared parts for practically unlimited time, and nothing inside the process can stop that. So the program
//! runs itself again (`--render`) with time and memory limits that the system enforces. Such a child can be
//! killed at any moment, and its end is reported as a one-line error. Tests and benchmarks are other programs
//! and render in their own process.

use std::cell::RefCell;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::libc::{SIGABRT, SIGBUS, SIGINT, SIGSEGV, SIGXCPU};
use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage, setrlimit};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::{Here, RenderBounds, TemplateError, moment};
use crate::engine::memory;
use crate::files::reason;

/// Tells the program that it is the child. Hidden, and recognised only as the first argument.
const RENDER: &str = "--render";
/// How often a caller waiting for a render checks whether it is still wanted.
const INTERVAL: Duration = Duration::from_millis(10);
/// The CPU time limit of a render in seconds, and the number of steps that grant one more: a tenth of a slow
/// machine's speed.
const SECONDS: u64 = 3;
const STEPS_A_SECOND: u64 = 5_000_000;
/// The memory limit of a render: a fixed amount, plus a multiple of its input.
const BYTES: u64 = 64 << 20;
const TIMES_GIVEN: u64 = 16;
/// For nested values: comparing, writing and dropping them recurses as deep as they nest.
const STACK: usize = 64 << 20;

/// Whether this program can run itself for rendering.
static APART: AtomicBool = AtomicBool::new(false);
/// A child without a template yet.
static SPARE: Mutex<Option<Running>> = Mutex::new(None);

thread_local! {
    /// Says whether this thread's work is no longer wanted.
    static STOP: RefCell<Option<Box<dyn Fn() -> bool>>> = const { RefCell::new(None) };
}

/// Makes children of this program render all templates; in such a child, serves requests until there are
/// none. Call it first in `main`. `true`: this was a child, and its work is done.
pub fn render_apart() -> bool {
    if std::env::args_os().nth(1).is_some_and(|word| word == RENDER) {
        serve();
        return true;
    }
    APART.store(true, Ordering::Relaxed);
    false
}

/// Starts a child for the next template ahead of time, if templates are rendered in children.
pub fn ahead() {
    if apart()
        && let Ok(running) = Running::start()
    {
        *SPARE.lock().unwrap_or_else(PoisonError::into_inner) = Some(running);
    }
}

/// Does `work`; its renders fail as soon as `stop` returns true.
pub fn until<T>(stop: impl Fn() -> bool + 'static, work: impl FnOnce() -> T) -> T {
    let before = STOP.replace(Some(Box::new(stop)));
    let done = work();
    STOP.set(before);
    done
}

pub(super) fn apart() -> bool {
    APART.load(Ordering::Relaxed)
}

fn stopped() -> bool {
    STOP.with_borrow(|stop| stop.as_ref().is_some_and(|stop| stop()))
}

#[derive(Serialize, Deserialize)]
enum RenderRequest<V> {
    /// The first request to a child: the template. The response is an empty text.
    Compile(String),
    Render {
        variables: V,
        strictly: bool,
        bounds: RenderBounds,
        /// Milliseconds since 1970.
        at: i64,
    },
}

type RenderResult = Result<String, TemplateError>;

/// A template rendered by a child, which is started when needed and restarted after it has died.
pub(in crate::engine) struct There {
    source: String,
    child: Mutex<Option<Running>>,
    /// Whether any render has run to its end.
    rendered: AtomicBool,
    /// Whether the trial renders are over and renders are for turns.
    tried: AtomicBool,
    /// The fatal error of a render, while later ones would end the same way, just as slowly.
    hopeless: Mutex<Option<TemplateError>>,
}

impl There {
    pub(super) fn new(source: &str) -> Result<There, TemplateError> {
        let there = There {
            source: source.into(),
            child: Mutex::new(None),
            rendered: AtomicBool::new(false),
            tried: AtomicBool::new(false),
            hopeless: Mutex::new(None),
        };
        drop(there.child()?);
        Ok(there)
    }

    pub(super) fn render(
        &self,
        variables: &Json,
        strictly: bool,
        bounds: RenderBounds,
        at: i64,
    ) -> RenderResult {
        if let Some(error) = &*self.hopeless() {
            return Err(error.clone());
        }
        let request = RenderRequest::Render { variables, strictly, bounds, at };
        let mut answer = self.ask(&request);
        if matches!(answer, Err(TemplateError::Killed)) {
            answer = self.ask(&request); // the system may have wanted its memory; another may have room
        }
        match &answer {
            Err(error @ (TemplateError::Died(_) | TemplateError::Killed | TemplateError::Slow(_)))
                if !(self.rendered.load(Ordering::Relaxed) && self.tried.load(Ordering::Relaxed)) =>
            {
                *self.hopeless() = Some(error.clone());
            }
            Err(TemplateError::Interrupted) => {}
            _ => self.rendered.store(true, Ordering::Relaxed),
        }
        answer
    }

    fn ask(&self, request: &RenderRequest<&Json>) -> RenderResult {
        let mut child = self.child()?;
        let answer = child.as_mut().expect("just started").ask(request);
        let ended = |error: &TemplateError| {
            use TemplateError::{Died, Interrupted, Killed, Slow};
            matches!(error, Interrupted | Died(_) | Killed | Slow(_))
        };
        if answer.as_ref().is_err_and(ended) {
            *child = None;
        }
        answer
    }

    /// Ends the trial renders: from now on a render that dies does not condemn the next, unless none has ever
    /// worked.
    pub(super) fn tried(&self) {
        self.tried.store(true, Ordering::Relaxed);
        if self.rendered.load(Ordering::Relaxed) {
            *self.hopeless() = None;
        }
    }

    fn hopeless(&self) -> MutexGuard<'_, Option<TemplateError>> {
        self.hopeless.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The child, with the template compiled.
    fn child(&self) -> Result<MutexGuard<'_, Option<Running>>, TemplateError> {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        let gone = |running: &mut Running| !matches!(running.child.try_wait(), Ok(None));
        if child.as_mut().is_none_or(gone) {
            let spare = SPARE.lock().unwrap_or_else(PoisonError::into_inner).take();
            let cannot = |e: io::Error| TemplateError::Died(format!("cannot be rendered: {}", reason(&e)));
            let mut running = spare.map_or_else(Running::start, Ok).map_err(cannot)?;
            running.ask(&RenderRequest::<Json>::Compile(self.source.clone()))?;
            *child = Some(running);
        }
        Ok(child)
    }
}

/// A child and the thread that talks to it. Ends when dropped.
struct Running {
    child: Child,
    requests: Sender<Vec<u8>>,
    answers: Receiver<io::Result<String>>,
}

impl Running {
    fn start() -> io::Result<Running> {
        // A newer program may have replaced the file; this link still leads to the running one.
        let link = Path::new("/proc/self/exe");
        let program = if link.exists() { PathBuf::from(link) } else { std::env::current_exe()? };
        let mut child = Command::new(program)
            .arg(RENDER)
            .process_group(0) // Ctrl-C is handled by this process
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let (mut stdin, stdout) = stdin.zip(stdout).expect("both are pipes");
        let (requests, inbox) = channel::<Vec<u8>>();
        let (outbox, answers) = channel();
        let conversation = move || {
            let mut stdout = BufReader::new(stdout);
            for request in inbox {
                let mut line = String::new();
                let said = stdin.write_all(&request).and_then(|()| stdout.read_line(&mut line));
                if outbox.send(said.map(|_| line)).is_err() {
                    return;
                }
            }
        };
        std::thread::Builder::new().name("renderer".into()).spawn(conversation)?;
        Ok(Running { child, requests, answers })
    }

    fn ask(&mut self, request: &RenderRequest<impl Serialize>) -> RenderResult {
        let mut line = serde_json::to_vec(request).expect("plain data");
        line.push(b'\n');
        let _ = self.requests.send(line); // if the thread is gone, there is no answer either
        loop {
            match self.answers.recv_timeout(INTERVAL) {
                Ok(Ok(line)) if !line.is_empty() => {
                    let garbled = |e: serde_json::Error| Err(TemplateError::Died(e.to_string()));
                    return serde_json::from_str(&line).unwrap_or_else(garbled);
                }
                Err(RecvTimeoutError::Timeout) if !stopped() => {}
                Err(RecvTimeoutError::Timeout) => return Err(TemplateError::Interrupted),
                Ok(_) | Err(RecvTimeoutError::Disconnected) => return Err(self.how_it_ended(request)),
            }
        }
    }

    fn how_it_ended<V>(&mut self, request: &RenderRequest<V>) -> TemplateError {
        let signal = self.child.wait().ok().as_ref().and_then(ExitStatus::signal);
        match (signal, request) {
            (Some(SIGXCPU), RenderRequest::Render { bounds, .. }) => {
                TemplateError::Slow(seconds(bounds.steps))
            }
            (Some(SIGXCPU), RenderRequest::Compile(_)) => TemplateError::Slow(SECONDS),
            (Some(SIGINT), _) => TemplateError::Interrupted,
            // Rust's own end when memory or stack runs out.
            (Some(SIGABRT | SIGSEGV | SIGBUS), _) => {
                TemplateError::Died("wants endless memory, or nests values without end".into())
            }
            _ => TemplateError::Killed,
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill(); // it may be gone
        let _ = self.child.wait();
    }
}

fn seconds(steps: u64) -> u64 {
    SECONDS + steps / STEPS_A_SECOND
}

/// The child: compiles one template and renders it on request.
fn serve() {
    let _ = setrlimit(Resource::RLIMIT_CORE, 0, 0); // an end by a signal needs no core dump
    let work = || {
        let used = memory::used(); // includes this thread's stack
        let mut here = None;
        for line in io::stdin().lock().lines().map_while(Result::ok) {
            used.iter().for_each(|used| memory::limit(used + BYTES + TIMES_GIVEN * line.len() as u64));
            let answer = match serde_json::from_str(&line) {
                Ok(request) => answered(request, &mut here),
                Err(error) => Err(TemplateError::Died(format!("cannot be rendered: {error}"))),
            };
            let mut answer = serde_json::to_vec(&answer).expect("plain data");
            answer.push(b'\n');
            if io::stdout().lock().write_all(&answer).and_then(|()| io::stdout().flush()).is_err() {
                return; // nobody is listening any more
            }
        }
    };
    let thread = std::thread::Builder::new().stack_size(STACK).spawn(work);
    let _ = thread.map(std::thread::JoinHandle::join);
}

fn answered(request: RenderRequest<Json>, here: &mut Option<Here>) -> RenderResult {
    match (request, &here) {
        (RenderRequest::Compile(source), _) => {
            bound_time(SECONDS);
            *here = Some(Here::new(&source)?);
            Ok(String::new())
        }
        (RenderRequest::Render { variables, strictly, bounds, at }, Some(here)) => {
            bound_time(seconds(bounds.steps));
            here.render(&variables, strictly, bounds, &moment(Some(at)))
        }
        (RenderRequest::Render { .. }, None) => Err(TemplateError::Died("was never given".into())),
    }
}

/// Sets the CPU time limit of this process to `seconds` from now.
fn bound_time(seconds: u64) {
    let used = getrusage(UsageWho::RUSAGE_SELF).map_or(0, |usage| {
        usage.user_time().tv_sec() as u64 + usage.system_time().tv_sec() as u64 + 2 // both are rounded down
    });
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_CPU) {
        let _ = setrlimit(Resource::RLIMIT_CPU, (used + seconds).min(hard), hard);
    }
}
