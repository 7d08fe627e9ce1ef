//! Reads files, pipes and answers to questions as text: UTF-8, limited in length, interruptible with Ctrl-C.

mod folder;
mod attach;

use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::path::Path;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

pub use self::attach::{Attached, attach};
use crate::chat::Settings;
use crate::chat::message::{without_final_newline, without_mark};
use crate::files::{expanded, reason};
use crate::ui::answer::{self, Reply};
use crate::ui::{Screen, keys, terminal};

/// Longest text, in bytes: more than any context holds.
const MOST_BYTES: u64 = 64 << 20;
/// How long to wait for the end of stdin before showing a notice.
const STDIN_PATIENCE: Duration = Duration::from_secs(1);
/// How often to check for Ctrl-C.
const PATIENCE: Duration = Duration::from_millis(20);

/// Why there is no text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("could not read {name}: {why}")]
    Unreadable { name: String, why: String },
    #[error("{name} is longer than {} MiB, more than any context holds", MOST_BYTES >> 20)]
    TooLong { name: String },
    /// `at`: the offset of the first invalid byte.
    #[error("{name} is not UTF-8 text: the first invalid byte is at offset {at}")]
    NotText { name: String, at: usize },
    /// A folder without text files. `left_out`: its other files, and why.
    #[error("there are no text files in {name}{}", listed(left_out))]
    NoText { name: String, left_out: Option<String> },
    /// A glob that matches no text file. `left_out`: the other files that it matches, and why.
    #[error("no text file matches {name}{}", listed(left_out))]
    NoMatch { name: String, left_out: Option<String> },
    #[error("{name} is not a valid pattern: {why}")]
    BadGlob { name: String, why: String },
    #[error("interrupted")]
    Interrupted,
}

fn listed(left_out: &Option<String>) -> String {
    left_out.as_ref().map_or_else(String::new, |files| format!(": {files}"))
}

fn unreadable(name: &str, error: &io::Error) -> Error {
    Error::Unreadable { name: name.into(), why: reason(error) }
}

/// The system prompt of a new conversation.
pub fn system_prompt(settings: &Settings) -> Result<Option<String>, Error> {
    match &settings.system_prompt_file {
        Some(file) => Ok(Some(read_text(file)?)),
        None => Ok(settings.system_prompt.clone().map(without_mark)),
    }
}

/// The text of a file or a named pipe, without one trailing newline.
pub fn read_text(path: &Path) -> Result<String, Error> {
    read_file(path).map(without_final_newline)
}

/// The text of a file or a named pipe.
pub fn read_file(path: &Path) -> Result<String, Error> {
    let path = &expanded(path);
    let name = path.display().to_string();
    if path.is_dir() {
        return Err(Error::Unreadable { name, why: "it is a folder".into() });
    }
    let owned = path.to_path_buf();
    let read = watched(move || {
        let file = File::open(owned)?;
        if file.is_terminal() {
            return Err(io::Error::other("it is a terminal"));
        }
        read_bounded(file)
    });
    let bytes = read.until_done(|| {})?.map_err(|e| unreadable(&name, &e))?;
    text_of(bytes, &name)
}

/// The text of stdin without one trailing newline; `None` on a terminal. Calls `waiting` if it takes long.
pub fn read_stdin(waiting: impl FnOnce()) -> Result<Option<String>, Error> {
    if io::stdin().is_terminal() {
        return Ok(None);
    }
    let bytes = match watched(|| read_bounded(io::stdin().lock())).until_done(waiting)? {
        Ok(bytes) => bytes,
        // stdin is closed.
        Err(e) if e.raw_os_error() == Some(nix::errno::Errno::EBADF as i32) => return Ok(None),
        Err(e) => return Err(unreadable("stdin", &e)),
    };
    text_of(bytes, "stdin").map(|text| Some(without_final_newline(text)))
}

/// Asks on the terminal; returns the trimmed line, or `None` on Esc or at the end of the input.
pub fn ask(screen: &mut Screen, question: &str) -> Result<Option<String>, Error> {
    screen.end_progress();
    match answer::ask(question) {
        Some(Reply::Line(line)) => return Ok(Some(line.trim().to_string())),
        Some(Reply::Nothing) => return Ok(None),
        Some(Reply::Interrupted) => return Err(Error::Interrupted),
        None => screen.question(question),
    }
    let line = watched(|| {
        let mut line = String::new();
        io::stdin().read_line(&mut line).map(|_| line)
    });
    let line = line.until_done(|| {}).inspect_err(|_| screen.show(""))?; // later output starts on a new line
    line.map(|line| (!line.is_empty()).then(|| keys::typed(&line).trim().to_string()))
        .map_err(|e| unreadable("a line", &e))
}

/// Asks for confirmation; anything but yes means no.
pub fn confirm(screen: &mut Screen, question: &str) -> Result<bool, Error> {
    let answer = ask(screen, &format!("{question} [y/N] "))?;
    Ok(answer.is_some_and(|answer| is_yes(&answer)))
}

/// `y` or `yes`; anything else means no.
pub fn is_yes(answer: &str) -> bool {
    ["y", "yes"].contains(&answer.trim().to_lowercase().as_str())
}

/// Whether the user can answer questions.
pub fn can_ask() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// A read in a thread, because a pipe or a user may block it forever.
struct Pending<T>(std::sync::mpsc::Receiver<io::Result<T>>);

fn watched<T: Send + 'static>(read: impl FnOnce() -> io::Result<T> + Send + 'static) -> Pending<T> {
    let (sender, inbox) = channel();
    std::thread::spawn(move || sender.send(read()));
    Pending(inbox)
}

impl<T> Pending<T> {
    /// Waits for the result; Ctrl-C is an error. Calls `waiting` once if it takes long.
    fn until_done(self, waiting: impl FnOnce()) -> Result<io::Result<T>, Error> {
        let started = Instant::now();
        let mut waiting = Some(waiting);
        loop {
            match self.0.recv_timeout(PATIENCE) {
                Ok(read) => return Ok(read),
                Err(_) if terminal::stopped() => return Err(Error::Interrupted),
                Err(_) if started.elapsed() >= STDIN_PATIENCE => {
                    waiting.take().into_iter().for_each(|says| says());
                }
                Err(_) => {}
            }
        }
    }
}

/// Reads at most one byte more than the limit, so that an endless source ends.
fn read_bounded(source: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    source.take(MOST_BYTES + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The text of `bytes` without a byte order mark; `what` names their source.
fn text_of(bytes: Vec<u8>, what: &str) -> Result<String, Error> {
    if bytes.len() as u64 > MOST_BYTES {
        return Err(Error::TooLong { name: what.into() });
    }
    String::from_utf8(bytes).map(without_mark).map_err(|e| {
        let at = e.utf8_error().valid_up_to();
        Error::NotText { name: what.into(), at }
    })
}
