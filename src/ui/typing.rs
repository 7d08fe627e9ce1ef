//! Input from the terminal → keys, stored until they are used. The only code that reads keys: for the editor,
//! for pickers, and while the model generates.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::select::{FdSet, select};
use nix::sys::time::{TimeVal, TimeValLike};

use super::keys::{Decoder, Key};
use crate::chat::settings::Theme;

/// The longest pause between the bytes of a key. An Esc byte without more bytes in this time is the key Esc.
const HASTE: Duration = Duration::from_millis(50);
/// Most bytes to read at once.
pub const MOST: usize = 4096;
const UNBROKEN: &str = "nobody panics holding it";

static TYPED: Mutex<Option<Typed>> = Mutex::new(None);

#[derive(Default)]
struct Typed {
    keys: VecDeque<Key>,
    decoder: Decoder,
    /// When the last byte arrived.
    last: Option<Instant>,
    /// How often the keys have changed.
    changes: usize,
}

impl Typed {
    fn add(&mut self, bytes: &[u8]) {
        self.decoder.add(bytes);
        self.last = Some(Instant::now());
        self.changes += 1;
        self.keys.extend(std::iter::from_fn(|| self.decoder.whole()));
    }

    /// How long the rest of an incomplete key may still take; `None`: no key is incomplete.
    fn patience(&mut self) -> Option<Duration> {
        let waiting = self.decoder.is_waiting();
        let waited = self.last.filter(|_| waiting)?.elapsed();
        if waited < HASTE {
            return Some(HASTE - waited);
        }
        self.changes += 1;
        self.keys.extend(std::iter::from_fn(|| self.decoder.last()));
        None
    }
}

fn with<T>(act: impl FnOnce(&mut Typed) -> T) -> T {
    act(TYPED.lock().expect(UNBROKEN).get_or_insert_default())
}

/// The result of waiting for a key.
#[derive(Debug, PartialEq, Eq)]
pub enum Waited {
    Key(Key),
    /// Timed out or woken up.
    Nothing,
    /// The terminal is gone.
    End,
}

/// Waits for a key. The wait ends early once `awake` is readable. Reads at most `most` bytes at once; bytes
/// that are not read are left for other programs.
pub fn next(terminal: &File, awake: Option<BorrowedFd>, timeout: Option<Duration>, most: usize) -> Waited {
    loop {
        let (key, patience) = with(|typed| {
            let patience = typed.patience();
            typed.changes += usize::from(!typed.keys.is_empty());
            (typed.keys.pop_front(), patience)
        });
        if let Some(key) = key {
            return Waited::Key(key);
        }
        let of_interest = [Some(terminal.as_fd()), awake];
        match wait(of_interest.into_iter().flatten(), patience.or(timeout)) {
            Ok(ready) if awake.is_some_and(|awake| ready.contains(awake)) => return Waited::Nothing,
            Ok(ready) if ready.contains(terminal.as_fd()) && !take_in(terminal, most) => return Waited::End,
            Ok(ready) if patience.is_none() && !ready.contains(terminal.as_fd()) => return Waited::Nothing,
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return Waited::End,
        }
    }
}

/// Waits until a file is readable. Uses select, because poll does not support terminals on macOS.
fn wait<'a>(
    files: impl Iterator<Item = BorrowedFd<'a>>,
    timeout: Option<Duration>,
) -> nix::Result<FdSet<'a>> {
    let mut ready = FdSet::new();
    files.for_each(|file| ready.insert(file));
    let mut time =
        timeout.map(|time| TimeVal::microseconds(i64::try_from(time.as_micros()).unwrap_or(i64::MAX)));
    select(None, &mut ready, None, None, &mut time)?;
    Ok(ready)
}

/// Whether the file is readable, now or within this time.
pub fn is_readable(file: impl AsFd, within: Duration) -> bool {
    let file = file.as_fd();
    wait([file].into_iter(), Some(within)).is_ok_and(|ready| ready.contains(file))
}

/// Reads the available bytes. `false`: the terminal is gone.
fn take_in(mut terminal: &File, most: usize) -> bool {
    let mut bytes = [0; MOST];
    match terminal.read(&mut bytes[..most]) {
        Ok(0) => false,
        Ok(length) => {
            with(|typed| typed.add(&bytes[..length]));
            true
        }
        Err(e) => e.kind() == std::io::ErrorKind::Interrupted,
    }
}

/// Reads everything typed so far. `true`: a signal came, or one of `stops` is among the keys, from which the first
/// is removed. Lines typed before that are not sent by themselves: they become lines of one message. What was typed
/// after it is as if nothing had happened; a signal counts as the last key.
pub fn stopped(terminal: &File, signalled: bool, stops: &[Key]) -> bool {
    while is_readable(terminal, Duration::ZERO) && take_in(terminal, MOST) {}
    with(|typed| {
        let _ = typed.patience();
        let stop = typed.keys.iter().position(|key| stops.contains(key));
        stop.and_then(|at| typed.keys.remove(at));
        typed.changes += usize::from(stop.is_some());
        let Some(end) = signalled.then_some(typed.keys.len()).or(stop) else { return false };
        typed.keys.iter_mut().take(end).filter(|key| **key == Key::Enter).for_each(|key| *key = Key::NewLine);
        while end == typed.keys.len() && typed.keys.back() == Some(&Key::NewLine) {
            typed.keys.pop_back();
        }
        true
    })
}

/// The background that the terminal has reported.
pub(super) fn background() -> Option<Theme> {
    with(|typed| typed.decoder.background)
}

/// Reads until the terminal has reported its background, or until the deadline. Typed keys are stored.
pub(super) fn await_background(terminal: &File, deadline: Instant) {
    let left = || deadline.saturating_duration_since(Instant::now());
    while background().is_none() && !left().is_zero() {
        if is_readable(terminal, left()) && !take_in(terminal, MOST) {
            return;
        }
    }
}

/// Applies a key to a line that is only edited at its end.
pub fn edit(line: &mut String, key: Key) {
    match key {
        Key::Char(c) => line.push(c),
        Key::Pasted(text) => *line += &text.replace(|c: char| c.is_control(), " "),
        Key::Backspace => _ = line.pop(),
        Key::BackspaceWord | Key::Ctrl('w') => {
            let kept = line.trim_end().rfind(char::is_whitespace).map_or(0, |at| at + 1);
            line.truncate(kept);
        }
        Key::Ctrl('u') => line.clear(),
        _ => {}
    }
}

/// How often what is typed has changed so far.
pub(super) fn changes() -> usize {
    with(|typed| typed.changes)
}

/// The lines that the unused keys make, as far as one can tell without the editor.
pub(super) fn lines() -> Vec<String> {
    let mut lines = vec![String::new()];
    with(|typed| {
        for key in &typed.keys {
            match (key, lines.last_mut()) {
                (Key::Enter | Key::NewLine | Key::Ctrl('j'), _) => lines.push(String::new()),
                (key, Some(line)) => edit(line, key.clone()),
                (_, None) => {}
            }
        }
    });
    lines
}

/// Returns unused keys; they come before all later ones.
pub fn give_back(keys: impl DoubleEndedIterator<Item = Key>) {
    with(|typed| {
        typed.changes += 1;
        keys.rev().for_each(|key| typed.keys.push_front(key));
    });
}

/// Whether there is unused input.
pub fn is_waiting() -> bool {
    with(|typed| !typed.keys.is_empty() || !typed.decoder.is_empty())
}

/// Whether a line of text with Enter after it is among the unused keys.
pub fn is_line_waiting() -> bool {
    let is_text =
        |key: &Key| matches!(key, Key::Char(c) if !c.is_whitespace()) || matches!(key, Key::Pasted(_));
    with(|typed| {
        let mut before_enter = typed.keys.iter().take_while(|key| **key != Key::Enter);
        typed.keys.contains(&Key::Enter) && before_enter.any(is_text)
    })
}

/// `first` and, if it is a character, all characters directly after it.
pub fn take_run(first: Key) -> Vec<Key> {
    let mut run = vec![first];
    if let [Key::Char(_)] = run[..] {
        with(|typed| {
            while run.len() < 256
                && let Some(key @ Key::Char(_)) = typed.keys.front()
            {
                run.push(key.clone());
                typed.keys.pop_front();
            }
        });
    }
    run
}
