//! The state of the terminal: notices Ctrl-C, hides typing while the model writes, and restores everything at the end.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{
    InputFlags, LocalFlags, SetArg, SpecialCharacterIndices as Key, Termios, tcgetattr, tcsetattr,
};
use nix::unistd::{Pid, getpgrp, getsid, tcgetpgrp};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGSTOP, SIGTERM, SIGTSTP};

use super::{keys, typing, width};

/// Ctrl-C was pressed and not handled yet.
static INTERRUPTED: OnceLock<Arc<AtomicBool>> = OnceLock::new();
/// The mode of the terminal at the start.
static ORIGINAL: Mutex<Option<Termios>> = Mutex::new(None);
/// A temporary file to remove if a signal ends the program.
static UNFINISHED: Mutex<Option<PathBuf>> = Mutex::new(None);
const UNBROKEN: &str = "nobody panics holding it";
/// The number of suspensions.
static SUSPENDED: AtomicUsize = AtomicUsize::new(0);
/// Keys are read one by one and stored.
static HUSHED: AtomicBool = AtomicBool::new(false);
/// The alternate screen is shown.
static OWN_SCREEN: AtomicBool = AtomicBool::new(false);
const OWN_SCREEN_ON: &[u8] = b"\x1b[?1049h";
const OWN_SCREEN_OFF: &[u8] = b"\x1b[?1049l";
/// Tells the terminal to mark pasted text no more: the editor is gone.
pub(super) const NO_PASTE_MARKS: &[u8] = b"\x1b[?2004l";
const PASTE_MARKS: &[u8] = b"\x1b[?2004h";

/// From now on Ctrl-C sets a flag instead of ending the program, and ending or suspending it puts the terminal back. `found`
/// is told which terminal there is and in which mode.
pub fn watch_signals(found: impl FnOnce(File, &Termios)) {
    let flag = INTERRUPTED.get_or_init(Arc::default);
    let _ = signal_hook::flag::register(SIGINT, flag.clone()); // without it Ctrl-C ends the program, no worse
    // A file that may not become larger (ulimit -f) is a failed write like any other, and not the end of the program.
    let _ = signal_hook::flag::register(nix::libc::SIGXFSZ, Arc::default());
    if let Some(terminal) = device()
        && let Ok(mode) = tcgetattr(&terminal)
    {
        *ORIGINAL.lock().expect(UNBROKEN) = Some(mode.clone());
        found(terminal, &mode);
    }
    if let Ok(mut signals) = signal_hook::iterator::Signals::new([SIGTERM, SIGHUP, SIGQUIT, SIGTSTP]) {
        std::thread::spawn(move || {
            for signal in signals.forever() {
                if signal == SIGTSTP {
                    stop();
                } else {
                    restore();
                    if let Some(path) = UNFINISHED.lock().expect(UNBROKEN).take() {
                        let _ = std::fs::remove_file(path); // there is nobody left to tell
                    }
                    signal_hook::low_level::exit(128 + signal);
                }
            }
        });
    }
}

/// A file that is to go if a signal ends the program now; `None`: no longer.
pub fn unfinished(path: Option<PathBuf>) {
    *UNFINISHED.lock().expect(UNBROKEN) = path;
}

/// Whether Ctrl-C was pressed since the last call.
pub fn interrupted() -> bool {
    INTERRUPTED.get().is_some_and(|flag| flag.swap(false, Ordering::Relaxed))
}

/// Whether Ctrl-C, or Esc where keys are stored, was pressed since the last call.
pub fn stopped() -> bool {
    let signalled = interrupted();
    let terminal = device().filter(|terminal| HUSHED.load(Ordering::Relaxed) && is_ours(terminal));
    terminal.map_or(signalled, |terminal| typing::stopped(&terminal, signalled))
}

/// Whether this program is in the foreground.
fn is_ours(terminal: &File) -> bool {
    tcgetpgrp(terminal) == Ok(getpgrp())
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

/// The width of its window.
pub fn columns() -> Option<usize> {
    window().map(|(columns, _)| columns)
}

/// The columns and rows of its window.
pub fn window() -> Option<(usize, usize)> {
    size(device()?)
}

/// The same, if this leads to a terminal.
pub(super) fn size(stream: impl AsFd) -> Option<(usize, usize)> {
    let (width, height) = terminal_size::terminal_size_of(stream)?;
    Some((usize::from(width.0), usize::from(height.0)))
}

pub(super) fn columns_of(stream: impl AsFd) -> Option<usize> {
    size(stream).map(|(columns, _)| columns)
}

/// How many rows below its first one a text ends in a window of so many columns.
pub fn rows(text: &str, columns: usize) -> usize {
    let (row, column) = end(text, columns);
    row + usize::from(column >= columns)
}

/// Whether its last row is full, so that what comes next begins another one.
pub(super) fn is_full(text: &str, columns: usize) -> bool {
    end(text, columns).1 >= columns
}

fn end(text: &str, columns: usize) -> (usize, usize) {
    let (mut row, mut column) = (0, 0);
    for c in text.chars() {
        let width = width(c.encode_utf8(&mut [0; 4]));
        if c == '\n' || column + width > columns {
            (row, column) = (row + 1, 0);
        }
        column += width;
    }
    (row, column)
}

/// Whether there is unused input.
pub fn typed_ahead() -> bool {
    typing::is_waiting() || device().is_some_and(|terminal| typing::is_readable(terminal, Duration::ZERO))
}

/// The lines that were typed before the program took over the terminal, which hands out whole lines until then.
pub fn lines_typed_ahead() -> Vec<String> {
    let Some(mut terminal) = device() else { return Vec::new() };
    let in_lines = tcgetattr(&terminal).is_ok_and(|mode| mode.local_flags.contains(LocalFlags::ICANON));
    let mut lines = Vec::new();
    let mut line = [0; 4096]; // the longest line that a terminal keeps
    while in_lines && typing::is_readable(&terminal, Duration::ZERO) {
        match terminal.read(&mut line) {
            Ok(length) if length > 0 => {
                lines.push(keys::typed(String::from_utf8_lossy(&line[..length]).trim_end()))
            }
            _ => break,
        }
    }
    lines
}

fn original() -> Option<Termios> {
    ORIGINAL.lock().expect(UNBROKEN).clone()
}

/// Puts the terminal back as it was when the program started, if it is still ours to change.
pub fn restore() {
    let (Some(mut terminal), Some(original)) = (device(), original()) else {
        return;
    };
    if is_ours(&terminal) && tcgetattr(&terminal).as_ref() != Ok(&original) {
        let _ = terminal.write_all(NO_PASTE_MARKS);
        let _ = terminal.write_all(screen_off());
        let _ = tcsetattr(&terminal, SetArg::TCSANOW, &original);
    }
}

/// What leaves the screen of our own, if it is shown.
pub(super) fn screen_off() -> &'static [u8] {
    if OWN_SCREEN.load(Ordering::Relaxed) { OWN_SCREEN_OFF } else { b"" }
}

/// Runs something with the terminal as it was when the program started.
pub fn as_found<T>(run: impl FnOnce() -> T) -> T {
    let terminal = device();
    let mode = terminal.as_ref().and_then(|terminal| tcgetattr(terminal).ok());
    restore();
    let result = run();
    if let (Some(mut terminal), Some(mode)) = (terminal, mode) {
        let _ = tcsetattr(&terminal, SetArg::TCSANOW, &mode);
        if OWN_SCREEN.load(Ordering::Relaxed) {
            let _ = terminal.write_all(OWN_SCREEN_ON);
        }
    }
    result
}

/// How often the program was stopped and went on: what it shows may be gone.
pub(super) fn suspensions() -> usize {
    SUSPENDED.load(Ordering::Relaxed)
}

/// Does what Ctrl-Z does; returns when the shell lets the program go on.
pub fn suspend() {
    let before = SUSPENDED.load(Ordering::Relaxed);
    let _ = kill(Pid::from_raw(0), Signal::SIGTSTP); // everyone in this pipeline
    for _ in 0..500 {
        if SUSPENDED.load(Ordering::Relaxed) != before {
            return;
        }
        std::thread::sleep(Duration::from_millis(1)); // until the signal has reached the thread that acts upon it
    }
}

/// Stops until the shell continues the program; does nothing where no shell could.
fn stop() {
    let under_a_shell = getsid(None) != Ok(getpgrp());
    if under_a_shell {
        let _ = as_found(|| signal_hook::low_level::raise(SIGSTOP));
    }
    SUSPENDED.fetch_add(1, Ordering::Relaxed);
}

/// Has the terminal say what is pasted outside the editor, too: one message instead of one for each line of it.
pub fn mark_pastes() {
    if let Some(mut terminal) = device() {
        let _ = terminal.write_all(PASTE_MARKS);
    }
}

/// While it lives, what is typed outside the editor is not shown but kept for the next line; Ctrl-C and Ctrl-Z still
/// work.
pub struct Hushed(());

impl Hushed {
    pub fn new() -> Hushed {
        if let (Some(terminal), Some(mut quiet)) = (device(), original()) {
            quiet.local_flags.remove(LocalFlags::ECHO | LocalFlags::ICANON);
            quiet.local_flags.insert(LocalFlags::ISIG | LocalFlags::NOFLSH); // Ctrl-C forgets nothing typed before it
            quiet.control_chars[Key::VQUIT as usize] = quiet.control_chars[Key::VINTR as usize]; // Ctrl-\ ends nothing
            quiet.input_flags.remove(InputFlags::ICRNL); // Enter typed ahead must still be Enter for the editor
            let _ = tcsetattr(terminal, SetArg::TCSANOW, &quiet);
            HUSHED.store(true, Ordering::Relaxed);
        }
        Hushed(())
    }
}

impl Default for Hushed {
    fn default() -> Hushed {
        Hushed::new()
    }
}

impl Drop for Hushed {
    fn drop(&mut self) {
        HUSHED.store(false, Ordering::Relaxed);
        restore();
    }
}

/// While it lives, every key comes as it is, Ctrl-C and Ctrl-Z too.
pub struct Raw(Option<(File, Termios)>);

impl Raw {
    pub fn new() -> Raw {
        Raw::but(InputFlags::ICRNL)
    }

    /// The same for one line: what is typed behind it is as others expect it.
    pub(super) fn of_a_line() -> Raw {
        Raw::but(InputFlags::empty())
    }

    fn but(more: InputFlags) -> Raw {
        let found = device().and_then(|terminal| Some((tcgetattr(&terminal).ok()?, terminal)));
        Raw(found.map(|(found, terminal)| {
            let mut raw = found.clone();
            let local = LocalFlags::ECHO | LocalFlags::ICANON | LocalFlags::IEXTEN | LocalFlags::ISIG;
            raw.local_flags.remove(local);
            raw.input_flags.remove(InputFlags::IXON | InputFlags::ISTRIP | more);
            (raw.control_chars[Key::VMIN as usize], raw.control_chars[Key::VTIME as usize]) = (1, 0);
            let _ = tcsetattr(&terminal, SetArg::TCSANOW, &raw);
            (terminal, found)
        }))
    }
}

impl Default for Raw {
    fn default() -> Raw {
        Raw::new()
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        if let Some((terminal, found)) = &self.0 {
            let _ = tcsetattr(terminal, SetArg::TCSANOW, found);
        }
    }
}

/// A screen of its own, gone without a trace when it is dropped.
pub(super) struct OwnScreen(File, #[expect(dead_code)] Raw);

impl OwnScreen {
    pub(super) fn new(mut terminal: File) -> OwnScreen {
        let raw = Raw::new();
        OWN_SCREEN.store(true, Ordering::Relaxed);
        let _ = terminal.write_all(OWN_SCREEN_ON);
        OwnScreen(terminal, raw)
    }

    pub(super) fn terminal(&self) -> &File {
        &self.0
    }
}

impl Drop for OwnScreen {
    fn drop(&mut self) {
        OWN_SCREEN.store(false, Ordering::Relaxed);
        let _ = self.0.write_all(OWN_SCREEN_OFF);
    }
}
