//! Turns a fatal signal or panic into one line, a restored terminal and exit code 1.
//!
//! Most faults of a model file are found before llama.cpp sees it. This handles the others, and a file that
//! is truncated while it is mapped into memory. The handlers are async-signal-safe: they take no lock and
//! allocate nothing. One of the few files with unsafe code (tests/layout.rs lists them).

use std::fs::File;
use std::mem::MaybeUninit;
use std::os::fd::IntoRawFd;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

use nix::libc;
use nix::sys::signal::{self, Signal};
use nix::sys::termios::Termios;

use super::terminal;

/// The signals of an illegal instruction or a bad address.
const FAULTS: [Signal; 3] = [Signal::SIGSEGV, Signal::SIGILL, Signal::SIGFPE];

/// The line, after the program's name, for a signal from the system.
const CAUSES: &[(libc::c_int, &str)] = &[
    (libc::SIGSEGV, "llama.cpp crashed: invalid memory access (SIGSEGV)"),
    (libc::SIGBUS, "the model file was truncated, removed or unreadable while in use (SIGBUS)"),
    (
        libc::SIGILL,
        "fireside was built for another processor: it used an instruction that this one lacks (SIGILL)",
    ),
    (libc::SIGFPE, "llama.cpp crashed: division by zero (SIGFPE)"),
    (libc::SIGABRT, "fireside aborted (SIGABRT)"),
];
/// The same for a signal from another process.
const SENT: &str = "killed by a signal";
/// The exit code of a crash.
const FAILED: libc::c_int = 1;

/// The terminal and its original mode; null until known.
static FOUND: AtomicPtr<(libc::c_int, libc::termios)> = AtomicPtr::new(ptr::null_mut());
/// Set by the first thread that crashes, which is the one that reports.
static CRASHED: AtomicBool = AtomicBool::new(false);

/// Whether stdout was closed at the start. Rust's runtime replaces a closed stdout with /dev/null.
static STDOUT_WAS_CLOSED: AtomicBool = AtomicBool::new(false);

pub(super) fn stdout_was_closed() -> bool {
    STDOUT_WAS_CLOSED.load(Ordering::Relaxed)
}

/// Called by the system before Rust's runtime starts.
extern "C" fn look_at_stdout() {
    // SAFETY: only queries a descriptor, which needs nothing of Rust's runtime.
    let closed = unsafe { libc::fcntl(libc::STDOUT_FILENO, libc::F_GETFD) } < 0;
    STDOUT_WAS_CLOSED.store(closed, Ordering::Relaxed);
}

#[used]
// SAFETY: the section holds pointers to functions called before main, which may ignore their arguments.
#[cfg_attr(target_os = "macos", unsafe(link_section = "__DATA,__mod_init_func"))]
#[cfg_attr(not(target_os = "macos"), unsafe(link_section = ".init_array"))]
static FIRST: extern "C" fn() = look_at_stdout;

/// Installs the handlers. `main` calls it first.
pub fn install() {
    for (signal, _) in CAUSES {
        let mut action = MaybeUninit::<libc::sigaction>::zeroed();
        // SAFETY: all fields are plain numbers or nullable pointers, and all relevant ones are set here. The
        // handler has the signature that SA_SIGINFO requires and is async-signal-safe. Rust's runtime gave
        // this thread an alternate signal stack, as it does for every thread it starts.
        unsafe {
            let act = action.as_mut_ptr();
            (*act).sa_sigaction = on_signal as *const () as usize;
            (*act).sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
            libc::sigemptyset(&raw mut (*act).sa_mask);
            libc::sigaction(*signal, act, ptr::null_mut());
        }
    }
    let backtrace = std::env::var_os("RUST_BACKTRACE").is_some_and(|v| v != "0");
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        terminal::restore();
        if backtrace {
            usual(panic);
        }
        let words = panic.payload();
        let text = words.downcast_ref::<&str>().copied();
        let text =
            text.or_else(|| words.downcast_ref::<String>().map(String::as_str)).unwrap_or("no reason given");
        let place = panic.location().map_or_else(String::new, |place| format!(" at {place}"));
        if text.contains("cannot unwind") {
            super::last_line("fireside: llama.cpp stopped: uncaught exception"); // a C++ exception: see llama.rs
        } else {
            super::last_line(&format!("fireside: internal error{place}: {text}"));
        }
        super::last_line("hint: this is a bug in fireside: please report it with the line above");
        signal_hook::low_level::exit(FAILED);
    }));
}

/// Restores the default action of these signals, for a child process whose parent wants to see the signal.
pub fn let_faults_end_it() {
    for signal in FAULTS {
        // SAFETY: the default action runs no code of ours.
        unsafe { libc::signal(signal as libc::c_int, libc::SIG_DFL) };
    }
}

/// Raises the signal in `FIRESIDE_TEST_FAULT`, like a build for another processor: "SIGILL" only with
/// repacked weights, "SIGILL always" in any case. For tests of the parent process.
pub fn on_purpose(repacked: bool) {
    let Ok(wish) = std::env::var("FIRESIDE_TEST_FAULT") else { return };
    let (name, always) =
        wish.split_once(' ').map_or((wish.as_str(), false), |(name, when)| (name, when == "always"));
    if let Some(signal) = FAULTS.iter().find(|signal| signal.as_str() == name).filter(|_| repacked || always)
    {
        let _ = signal::raise(*signal); // does not return
    }
}

/// Stores the terminal and its mode for the handlers.
pub fn remember(device: File, mode: &Termios) {
    let found = Box::into_raw(Box::new((device.into_raw_fd(), mode.clone().into())));
    FOUND.store(found, Ordering::Release); // never freed: a handler may still read the old value
}

extern "C" fn on_signal(signal: libc::c_int, about: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the kernel passes a valid pointer to a handler installed with SA_SIGINFO. SIGABRT always comes
    // from a call.
    let sent = signal != libc::SIGABRT && unsafe { (*about).si_code } <= 0;
    let cause = CAUSES.iter().find(|(known, _)| *known == signal).map_or(SENT, |(_, cause)| cause);
    end(if sent { SENT } else { cause });
}

/// Ends the process with one line. Takes no lock and allocates nothing.
fn end(why: &str) -> ! {
    if CRASHED.swap(true, Ordering::AcqRel) {
        loop {
            // SAFETY: only waits for a signal; the first thread ends the process.
            unsafe { libc::pause() };
        }
    }
    restore();
    write(if is_terminal(libc::STDERR_FILENO) { b"\nfireside: " } else { b"fireside: " });
    write(why.as_bytes());
    write(b"\n");
    // SAFETY: ends the process at once, without running any code.
    unsafe { libc::_exit(FAILED) };
}

/// `terminal::restore` with async-signal-safe calls only.
fn restore() {
    // SAFETY: null, or a pointer from `remember`, which is never freed.
    let Some((device, mode)) = (unsafe { FOUND.load(Ordering::Acquire).as_ref() }) else { return };
    // SAFETY: the descriptor stays open until the process ends and `mode` is a valid mode; all calls are
    // async-signal-safe. Changing a terminal that another job owns would suspend this process.
    unsafe {
        if libc::tcgetpgrp(*device) == libc::getpgrp() {
            let marks = terminal::NO_PASTE_MARKS;
            let mut now = MaybeUninit::<libc::termios>::zeroed();
            if libc::tcgetattr(*device, now.as_mut_ptr()) == 0 && now.assume_init().c_lflag != mode.c_lflag {
                libc::write(*device, marks.as_ptr().cast(), marks.len());
                let below = terminal::below_off().as_bytes();
                for off in [terminal::screen_off(), terminal::cursor_off(), below] {
                    libc::write(*device, off.as_ptr().cast(), off.len());
                }
            }
            libc::tcsetattr(*device, libc::TCSANOW, mode);
        }
    }
}

fn is_terminal(descriptor: libc::c_int) -> bool {
    let mut mode = MaybeUninit::<libc::termios>::zeroed();
    // SAFETY: async-signal-safe, and the pointer is valid during the call.
    unsafe { libc::tcgetattr(descriptor, mode.as_mut_ptr()) == 0 }
}

fn write(text: &[u8]) {
    // SAFETY: async-signal-safe; pointer and length are those of the slice. A failure cannot be reported.
    unsafe { libc::write(libc::STDERR_FILENO, text.as_ptr().cast(), text.len()) };
}
