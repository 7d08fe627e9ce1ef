//! The state of the terminal: notices Ctrl-C, and restores the terminal at the end. modes.rs has the modes in
//! which fireside reads keys.

mod cursor;
mod modes;

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};
use nix::unistd::{Pid, getpgrp, getsid, tcgetpgrp};
use signal_hook::consts::{SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGSTOP, SIGTERM, SIGTSTP};

pub use self::cursor::{Cursor, shape_cursor};
pub(super) use self::cursor::{below_off, cursor_off, is_text_below, text_is_below};
pub use self::modes::{Hushed, Raw};
use super::keys::Key;
use super::{keys, typing, width};

/// Whether Ctrl-C was pressed and not handled yet.
static INTERRUPTED: OnceLock<Arc<AtomicBool>> = OnceLock::new();
/// The mode of the terminal at the start.
static ORIGINAL: Mutex<Option<Termios>> = Mutex::new(None);
/// A temporary file to remove if a signal ends the program.
static UNFINISHED: Mutex<Option<PathBuf>> = Mutex::new(None);
const UNBROKEN: &str = "nobody panics holding it";
/// The number of suspensions.
static SUSPENDED: AtomicUsize = AtomicUsize::new(0);
/// The mode to set once the program is in the foreground again.
static DUE: Mutex<Option<Termios>> = Mutex::new(None);
/// Whether keys are read one by one and stored.
static HUSHED: AtomicBool = AtomicBool::new(false);
/// Whether the alternate screen is shown.
static OWN_SCREEN: AtomicBool = AtomicBool::new(false);
const OWN_SCREEN_ON: &[u8] = b"\x1b[?1049h";
const OWN_SCREEN_OFF: &[u8] = b"\x1b[?1049l";
/// Disables bracketed paste when the editor is gone.
pub(super) const NO_PASTE_MARKS: &[u8] = b"\x1b[?2004l";
const PASTE_MARKS: &[u8] = b"\x1b[?2004h";

/// From now on, Ctrl-C sets a flag instead of ending the program, and the terminal is restored when the
/// program ends or is suspended. `found` is called with the terminal and its mode.
pub fn watch_signals(found: impl FnOnce(File, &Termios)) {
    let flag = INTERRUPTED.get_or_init(Arc::default);
    let _ = signal_hook::flag::register(SIGINT, flag.clone()); // on failure Ctrl-C just ends the program
    // A write beyond the file size limit (ulimit -f) then fails, instead of ending the program.
    let _ = signal_hook::flag::register(nix::libc::SIGXFSZ, Arc::default());
    if let Some(terminal) = device()
        && let Ok(mode) = tcgetattr(&terminal)
    {
        *ORIGINAL.lock().expect(UNBROKEN) = Some(mode.clone());
        found(terminal, &mode);
    }
    if let Ok(mut signals) = signal_hook::iterator::Signals::new([SIGTERM, SIGHUP, SIGQUIT, SIGTSTP, SIGCONT])
    {
        std::thread::spawn(move || {
            for signal in signals.forever() {
                match signal {
                    SIGTSTP => stop(),
                    SIGCONT => resume(),
                    _ => {
                        restore();
                        if let Some(path) = UNFINISHED.lock().expect(UNBROKEN).take() {
                            let _ = std::fs::remove_file(path); // a failure cannot be reported anywhere
                        }
                        signal_hook::low_level::exit(128 + signal);
                    }
                }
            }
        });
    }
}

/// Sets the file to remove if a signal ends the program; `None`: no file.
pub fn unfinished(path: Option<PathBuf>) {
    *UNFINISHED.lock().expect(UNBROKEN) = path;
}

/// Whether a SIGINT came since the last call: Ctrl-C, except where it is a key (`Hushed`, `Raw`).
pub fn interrupted() -> bool {
    INTERRUPTED.get().is_some_and(|flag| flag.swap(false, Ordering::Relaxed))
}

/// Whether Ctrl-C was pressed since the last call, or Esc if keys are being stored.
pub fn stopped() -> bool {
    stopped_by(&[Key::Ctrl('c'), Key::Esc])
}

/// Discards every Ctrl-C from before now. Lines typed before it are not sent, as after a stop.
pub fn forget_interrupts() {
    while stopped_by(&[Key::Ctrl('c')]) {}
}

fn stopped_by(keys: &[Key]) -> bool {
    let signalled = interrupted();
    let terminal = device().filter(|terminal| HUSHED.load(Ordering::Relaxed) && is_ours(terminal));
    terminal.map_or(signalled, |terminal| {
        set_due(); // some shells bring a running program to the foreground without a signal
        typing::stopped(&terminal, signalled, keys)
    })
}

/// Whether keys are read while the model generates, and stored.
pub(super) fn keeps_typing() -> bool {
    HUSHED.load(Ordering::Relaxed) && device().is_some_and(|terminal| is_ours(&terminal))
}

/// Whether this program is in the foreground.
fn is_ours(terminal: &File) -> bool {
    tcgetpgrp(terminal) == Ok(getpgrp())
}

/// From now on, the second Ctrl-C ends the program at once. For one-shot runs, which may block while writing
/// to a pipe that nobody reads.
pub fn end_on_second_interrupt() {
    let first = Arc::<AtomicBool>::default();
    let _ = signal_hook::flag::register_conditional_shutdown(SIGINT, 130, first.clone());
    // Registered after the shutdown, so that the first Ctrl-C only sets the flag.
    let _ = signal_hook::flag::register(SIGINT, first);
}

/// From now on, Ctrl-C ends the program at once. For runs that have nothing to lose.
pub fn end_on_interrupt() {
    let always = Arc::new(AtomicBool::new(true));
    let _ = signal_hook::flag::register_conditional_shutdown(SIGINT, 130, always);
}

/// The terminal itself, even if stdin and stdout are redirected.
pub fn device() -> Option<File> {
    OpenOptions::new().read(true).write(true).open("/dev/tty").ok()
}

/// The width of the terminal's window.
pub fn columns() -> Option<usize> {
    window().map(|(columns, _)| columns)
}

/// The columns and rows of the terminal's window.
pub fn window() -> Option<(usize, usize)> {
    size(device()?)
}

/// The columns and rows of the terminal behind a stream; `None`: not a terminal.
pub(super) fn size(stream: impl AsFd) -> Option<(usize, usize)> {
    let (width, height) = terminal_size::terminal_size_of(stream)?;
    Some((usize::from(width.0), usize::from(height.0)))
}

pub(super) fn columns_of(stream: impl AsFd) -> Option<usize> {
    size(stream).map(|(columns, _)| columns)
}

/// The row in which a text ends in a window of this many columns, counted from its first row.
pub fn rows(text: &str, columns: usize) -> usize {
    let (row, column) = end(text, columns);
    row + usize::from(column >= columns)
}

/// The column after a text in a window of this many columns, counted from its last row's first.
pub fn column(text: &str, columns: usize) -> usize {
    end(text, columns).1
}

/// Whether a text fills its last row, so that the next character begins another row.
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

/// Whether the terminal reflows long lines when its window changes. Terminals do not report that, so only
/// known ones count, by the names in their environment. On a terminal without reflow, moving up would erase
/// text above the line.
pub fn reflows() -> bool {
    let said = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let terminals =
        ["TMUX", "VTE_VERSION", "KITTY_WINDOW_ID", "KONSOLE_VERSION", "WT_SESSION", "ALACRITTY_WINDOW_ID"];
    let names = ["alacritty", "foot", "tmux", "xterm-kitty", "xterm-ghostty", "wezterm"];
    let term = std::env::var("TERM").unwrap_or_default();
    terminals.into_iter().any(said) || said("TERM_PROGRAM") || names.iter().any(|name| term.starts_with(name))
}

/// Whether there is unused input.
pub fn typed_ahead() -> bool {
    typing::is_waiting() || device().is_some_and(|terminal| typing::is_readable(terminal, Duration::ZERO))
}

/// The lines typed before the program took over the terminal, which until then delivers whole lines.
pub fn lines_typed_ahead() -> Vec<String> {
    let Some(mut terminal) = device() else { return Vec::new() };
    let in_lines = tcgetattr(&terminal).is_ok_and(|mode| mode.local_flags.contains(LocalFlags::ICANON));
    let mut lines = Vec::new();
    let mut line = [0; 4096]; // the longest line in the terminal's buffer
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

/// Restores the terminal's state from the start, if this program is in the foreground.
pub fn restore() {
    let (Some(mut terminal), Some(original)) = (device(), original()) else {
        return;
    };
    if is_ours(&terminal) && tcgetattr(&terminal).as_ref() != Ok(&original) {
        let _ = terminal.write_all(NO_PASTE_MARKS);
        for off in [screen_off(), cursor_off(), below_off().as_bytes()] {
            let _ = terminal.write_all(off);
        }
        let _ = tcsetattr(&terminal, SetArg::TCSANOW, &original);
    }
}

/// The sequence that leaves the alternate screen; empty if it is not shown.
pub(super) fn screen_off() -> &'static [u8] {
    if OWN_SCREEN.load(Ordering::Relaxed) { OWN_SCREEN_OFF } else { b"" }
}

/// Runs something with the terminal in its state from the start.
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

/// The number of suspensions so far. After one, the screen may need to be redrawn.
pub(super) fn suspensions() -> usize {
    SUSPENDED.load(Ordering::Relaxed)
}

/// Suspends the program, as Ctrl-Z does; returns when the shell resumes it.
pub fn suspend() {
    let before = SUSPENDED.load(Ordering::Relaxed);
    let _ = kill(Pid::from_raw(0), Signal::SIGTSTP); // all processes of this pipeline
    for _ in 0..500 {
        if SUSPENDED.load(Ordering::Relaxed) != before {
            return;
        }
        std::thread::sleep(Duration::from_millis(1)); // until the signal reaches the thread that handles it
    }
}

/// Stops until the shell resumes the program; does nothing if there is no shell that could.
fn stop() {
    let under_a_shell = getsid(None) != Ok(getpgrp());
    if under_a_shell {
        *DUE.lock().expect(UNBROKEN) = device().and_then(|terminal| tcgetattr(terminal).ok());
        restore();
        let _ = signal_hook::low_level::raise(SIGSTOP);
        resume();
    }
    SUSPENDED.fetch_add(1, Ordering::Relaxed);
}

/// Sets the mode that is due, if the program is in the foreground. In the background it goes on without: setting
/// the mode there would stop it.
fn resume() {
    if device().is_some_and(|terminal| is_ours(&terminal)) {
        set_due();
    }
}

/// Sets the mode that is due. In the background, this stops the program until it is in the foreground.
fn set_due() {
    let mut due = DUE.lock().expect(UNBROKEN);
    if let (Some(mode), Some(mut terminal)) = (due.take(), device()) {
        let _ = tcsetattr(&terminal, SetArg::TCSANOW, &mode);
        if OWN_SCREEN.load(Ordering::Relaxed) {
            let _ = terminal.write_all(OWN_SCREEN_ON);
        }
    }
}

/// Enables bracketed paste outside the editor too, so that a paste is one message instead of one per line.
pub fn mark_pastes() {
    if let Some(mut terminal) = device() {
        let _ = terminal.write_all(PASTE_MARKS);
    }
}

/// The alternate screen; dropping it restores the normal one.
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
