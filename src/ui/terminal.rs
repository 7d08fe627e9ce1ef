//! The terminal's state: Ctrl-C noticed, typing kept quiet while the model writes, everything put back at the end.

use std::fs::{File, OpenOptions};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use nix::sys::termios::{InputFlags, LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};
use signal_hook::consts::{SIGCONT, SIGHUP, SIGINT, SIGTERM};

/// Ctrl-C was pressed and not yet acted upon.
static INTERRUPTED: OnceLock<Arc<AtomicBool>> = OnceLock::new();
/// The process was stopped (Ctrl-Z) and goes on.
static RESUMED: OnceLock<Arc<AtomicBool>> = OnceLock::new();
/// How the terminal was when the program started.
static ORIGINAL: Mutex<Option<Termios>> = Mutex::new(None);

/// From now on Ctrl-C sets a flag instead of ending the program, and ending it by a signal puts the terminal back.
pub fn watch_signals() {
    let flag = |signal, slot: &OnceLock<Arc<AtomicBool>>| {
        let flag = slot.get_or_init(Arc::default);
        let _ = signal_hook::flag::register(signal, flag.clone()); // without it Ctrl-C ends the program, no worse
    };
    flag(SIGINT, &INTERRUPTED);
    flag(SIGCONT, &RESUMED);
    if let Some(terminal) = device() {
        *ORIGINAL.lock().expect("nobody panics holding it") = tcgetattr(&terminal).ok();
    }
    if let Ok(mut ending) = signal_hook::iterator::Signals::new([SIGTERM, SIGHUP]) {
        std::thread::spawn(move || {
            if let Some(signal) = ending.forever().next() {
                restore();
                signal_hook::low_level::exit(128 + signal);
            }
        });
    }
}

/// Whether Ctrl-C was pressed since this was asked last.
pub fn interrupted() -> bool {
    INTERRUPTED.get().is_some_and(|flag| flag.swap(false, Ordering::Relaxed))
}

/// From now on the second Ctrl-C ends the program at once: for one-shot runs, which may be stuck writing to a reader
/// that does not read.
pub fn end_on_second_interrupt() {
    let first = Arc::<AtomicBool>::default();
    let _ = signal_hook::flag::register_conditional_shutdown(SIGINT, 130, first.clone());
    let _ = signal_hook::flag::register(SIGINT, first); // after the shutdown, so that the first only sets the flag
}

/// From now on Ctrl-C ends the program at once: where nothing can be lost.
pub fn end_on_interrupt() {
    let always = Arc::new(AtomicBool::new(true));
    let _ = signal_hook::flag::register_conditional_shutdown(SIGINT, 130, always);
}

/// The terminal itself, wherever stdin and stdout lead.
pub fn device() -> Option<File> {
    OpenOptions::new().read(true).write(true).open("/dev/tty").ok()
}

/// Puts the terminal back as it was when the program started.
pub fn restore() {
    let original = ORIGINAL.try_lock().ok().and_then(|original| original.clone());
    if let (Some(terminal), Some(original)) = (device(), original) {
        let _ = tcsetattr(&terminal, SetArg::TCSANOW, &original);
    }
}

/// While it lives, what is typed is not shown but kept for the next line; Ctrl-C and Ctrl-Z still work.
pub struct Hushed {
    terminal: Option<(File, Termios)>,
}

impl Hushed {
    pub fn new() -> Hushed {
        let terminal =
            device().and_then(|terminal| tcgetattr(&terminal).ok().map(|before| (terminal, before)));
        let hushed = Hushed { terminal };
        hushed.apply();
        hushed
    }

    /// After Ctrl-Z and `fg` the shell has set the terminal its own way: set it ours again.
    pub fn after_resume(&self) {
        if RESUMED.get().is_some_and(|flag| flag.swap(false, Ordering::Relaxed)) {
            self.apply();
        }
    }

    fn apply(&self) {
        let Some((terminal, before)) = &self.terminal else {
            return;
        };
        let mut quiet = before.clone();
        quiet.local_flags.remove(LocalFlags::ECHO | LocalFlags::ICANON);
        quiet.local_flags.insert(LocalFlags::ISIG);
        quiet.input_flags.remove(InputFlags::ICRNL); // Enter typed ahead must still be Enter for the editor
        let _ = tcsetattr(terminal, SetArg::TCSANOW, &quiet);
    }
}

impl Default for Hushed {
    fn default() -> Hushed {
        Hushed::new()
    }
}

impl Drop for Hushed {
    fn drop(&mut self) {
        if let Some((terminal, before)) = &self.terminal {
            let _ = tcsetattr(terminal, SetArg::TCSANOW, before);
        }
    }
}
