//! Rendering in a child process: requests on its stdin, one line of JSON each, results on its stdout.
//!
//! minijinja counts steps and bytes, but a template can compare, hash, copy or throw away values whose parts are shared, in one
//! step, for longer than the world stands, and nothing inside a process can stop that. So the program runs itself again
//! (`--render`), with bounds on time and memory that the system keeps; such a child can be ended at any moment, and whatever
//! becomes of it is one line here. Tests and benchmarks, which are not that program, render in their own process.

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

/// What tells the program that it is the child. Hidden, and only as its first argument.
const RENDER: &str = "--render";
/// How often somebody who waits for a render looks whether it is still wanted.
const INTERVAL: Duration = Duration::from_millis(10);
/// Seconds of computing that a render may take, and how many steps are worth one more: a tenth of what a slow machine does.
const SECONDS: u64 = 3;
const STEPS_A_SECOND: u64 = 5_000_000;
/// Memory that a render may take: so much, and so many times what it was given.
const BYTES: u64 = 64 << 20;
const TIMES_GIVEN: u64 = 16;
/// For values nested in one another: comparing, writing and dropping them goes as deep as they do.
const STACK: usize = 64 << 20;

/// Whether this is a program that can be run again for rendering.
static APART: AtomicBool = AtomicBool::new(false);
/// A child that has nothing to do yet.
static SPARE: Mutex<Option<Running>> = Mutex::new(None);

thread_local! {
    /// Says whether what this thread does is wanted no longer.
    static STOP: RefCell<Option<Box<dyn Fn() -> bool>>> = const { RefCell::new(None) };
}

/// Has all templates rendered by children of this program, unless it is such a child, which this makes of it until nobody asks
/// any more. Called first thing in `main`; says whether that was all.
pub fn render_apart() -> bool {
    if std::env::args_os().nth(1).is_some_and(|word| word == RENDER) {
        serve();
        return true;
    }
    APART.store(true, Ordering::Relaxed);
    false
}

/// Starts a child that the next template will need, if it is to have one.
pub fn ahead() {
    if apart()
        && let Ok(running) = Running::start()
    {
        *SPARE.lock().unwrap_or_else(PoisonError::into_inner) = Some(running);
    }
}

/// Does `work`; renders that it waits for fail as soon as `stop` says that it is not wanted any more.
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
    /// A child's first: the template. Its answer is an empty text.
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

/// A template that a child renders: started when it is needed, again after it died.
pub(in crate::engine) struct There {
    source: String,
    child: Mutex<Option<Running>>,
    /// Whether it has rendered anything.
    rendered: AtomicBool,
    /// Whether renders are turns' now; before, they only try the template out.
    tried: AtomicBool,
    /// What a render died of, while the next ones would die of it as well, each time as slowly.
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

    pub(super) fn render(&self, variables: &Json, strictly: bool, bounds: RenderBounds, at: i64) -> RenderResult {
        if let Some(error) = &*self.hopeless() {
            return Err(error.clone());
        }
        let request = RenderRequest::Render { variables, strictly, bounds, at };
        let mut child = self.child()?;
        let answer = child.as_mut().expect("just started").ask(&request);
        if matches!(answer, Err(TemplateError::Interrupted | TemplateError::Died(_) | TemplateError::Slow(_)))
        {
            *child = None;
        }
        match &answer {
            Err(error @ (TemplateError::Died(_) | TemplateError::Slow(_)))
                if !(self.rendered.load(Ordering::Relaxed) && self.tried.load(Ordering::Relaxed)) =>
            {
                *self.hopeless() = Some(error.clone());
            }
            Err(TemplateError::Interrupted) => {}
            _ => self.rendered.store(true, Ordering::Relaxed),
        }
        answer
    }

    /// From now on a render that dies does not speak for the next, unless nothing was ever rendered.
    pub(super) fn tried(&self) {
        self.tried.store(true, Ordering::Relaxed);
        if self.rendered.load(Ordering::Relaxed) {
            *self.hopeless() = None;
        }
    }

    fn hopeless(&self) -> MutexGuard<'_, Option<TemplateError>> {
        self.hopeless.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The child, which has compiled the template.
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

/// A child and the thread that talks to it. Dropped, it ends.
struct Running {
    child: Child,
    requests: Sender<Vec<u8>>,
    answers: Receiver<io::Result<String>>,
}

impl Running {
    fn start() -> io::Result<Running> {
        // The file may have been replaced by a newer program, which this link does not mind.
        let link = Path::new("/proc/self/exe");
        let program = if link.exists() { PathBuf::from(link) } else { std::env::current_exe()? };
        let mut child = Command::new(program)
            .arg(RENDER)
            .process_group(0) // Ctrl-C is for this process to understand
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
        let _ = self.requests.send(line); // a thread that is gone does not answer either
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
            (Some(SIGXCPU), RenderRequest::Render { bounds, .. }) => TemplateError::Slow(seconds(bounds.steps)),
            (Some(SIGXCPU), RenderRequest::Compile(_)) => TemplateError::Slow(SECONDS),
            (Some(SIGINT), _) => TemplateError::Interrupted,
            // Rust's own end when there is no memory, or no stack.
            (Some(SIGABRT | SIGSEGV | SIGBUS), _) => {
                TemplateError::Died("wants endless memory, or nests values without end".into())
            }
            _ => TemplateError::Died(
                "was not rendered: the process that does it was ended from outside".into(),
            ),
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

/// The child: compiles one template and renders it as often as it is asked to.
fn serve() {
    let _ = setrlimit(Resource::RLIMIT_CORE, 0, 0); // an end by a signal is nothing to be looked into
    let work = || {
        let used = memory::used(); // with this thread's stack
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
                return; // nobody listens any more
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

/// From now on so many seconds of computing are the end of this process.
fn bound_time(seconds: u64) {
    let used = getrusage(UsageWho::RUSAGE_SELF).map_or(0, |usage| {
        usage.user_time().tv_sec() as u64 + usage.system_time().tv_sec() as u64 + 2 // whole ones, both rounded down
    });
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_CPU) {
        let _ = setrlimit(Resource::RLIMIT_CPU, (used + seconds).min(hard), hard);
    }
}
