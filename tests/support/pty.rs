//! A terminal for tests: runs the program in a pseudo-terminal and shows its screen as a user would see it.

use std::fs::File;
use std::io::{Read, Write};
use std::num::NonZeroU16;
use std::process::Command;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rexpect::process::{PtyProcess, Signal, WaitStatus};
use rustix::termios::{InputModes, LocalModes, Winsize, tcgetattr, tcgetpgrp, tcsetwinsize};

use super::{Home, program};

/// Long enough for a busy machine: only a failing test waits for it.
const PATIENCE: Duration = Duration::from_secs(60);
/// One terminal at a time, so that typing and waiting do not depend on other tests.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

pub const CTRL_C: &str = "\x03";
pub const CTRL_D: &str = "\x04";
pub const CTRL_J: &str = "\x0a";
pub const CTRL_R: &str = "\x12";
pub const CTRL_U: &str = "\x15";
pub const CTRL_X_CTRL_E: &str = "\x18\x05";
pub const CTRL_Z: &str = "\x1a";
pub const ENTER: &str = "\r";
pub const TAB: &str = "\t";
pub const UP: &str = "\x1b[A";
pub const DOWN: &str = "\x1b[B";
pub const LEFT: &str = "\x1b[D";
/// Escape as most terminals send it: other keys begin with it too, so the pause after it counts.
pub const ESC: &str = "\x1b";
/// Escape from a terminal that encodes it unambiguously.
pub const CSI_ESC: &str = "\x1b[27u";

/// A terminal with a running program.
pub struct Terminal {
    process: PtyProcess,
    master: File,
    shown: Arc<(Mutex<Shown>, Condvar)>,
    _alone: MutexGuard<'static, ()>,
}

struct Shown {
    screen: vt100::Parser,
    /// All output, unchanged.
    bytes: Vec<u8>,
    ended: bool,
}

/// The properties of the terminal.
pub struct Setup {
    pub columns: u16,
    pub rows: u16,
    pub environment: Vec<(&'static str, String)>,
}

impl Default for Setup {
    fn default() -> Setup {
        Setup { columns: 100, rows: ROWS, environment: Vec::new() }
    }
}

const ROWS: u16 = 50;

impl Home {
    /// The program in a terminal.
    pub fn terminal<S: AsRef<str>>(&self, args: &[S]) -> Terminal {
        self.terminal_as(&Setup::default(), args)
    }

    pub fn terminal_as<S: AsRef<str>>(&self, setup: &Setup, args: &[S]) -> Terminal {
        let words = args.iter().map(|arg| arg.as_ref().to_string());
        let words: Vec<String> = [program().to_string()].into_iter().chain(words).collect();
        self.shell_command(setup, "exec \"$@\"", &words)
    }

    /// A shell command in a terminal; `words` are its `$@`.
    pub fn shell_command(&self, setup: &Setup, line: &str, words: &[String]) -> Terminal {
        let alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let mut command = Command::new("sh");
        let Setup { columns, rows, .. } = setup;
        let line = format!("stty echo cols {columns} rows {rows}; {line}"); // rexpect turns echo off
        command.args(["-c", &line, "sh"]).args(words);
        command.env_clear().envs(self.environment());
        command.envs(setup.environment.iter().map(|(name, value)| (name, value)));
        command.current_dir(self.path(""));
        let mut process = PtyProcess::new(command).unwrap();
        process.set_kill_timeout(Some(1000));
        let master = process.get_file_handle().unwrap();
        let shown = Arc::new((
            Mutex::new(Shown {
                screen: vt100::Parser::new(cells(*rows), cells(*columns), 0),
                bytes: Vec::new(),
                ended: false,
            }),
            Condvar::new(),
        ));
        let output = process.get_file_handle().unwrap();
        let writes = shown.clone();
        std::thread::spawn(move || show(output, &writes));
        Terminal { process, master, shown, _alone: alone }
    }

    /// `--backend` with scripted answers, in a file called `name`.
    pub fn script(&self, name: &str, answers: &str) -> [String; 2] {
        let path = self.write(name, answers);
        ["--backend".into(), format!("script:{}", path.display())]
    }
}

fn cells(number: u16) -> NonZeroU16 {
    NonZeroU16::new(number).unwrap()
}

/// Reads the output until no process has the terminal open.
///
/// The end is EIO, twice: Linux may report it once while the last bytes are still on their way from the
/// terminal's other side (`n_tty_read` looks for input, then for the closed side; both can change in
/// between). The next read gets them.
fn show(mut output: File, shown: &(Mutex<Shown>, Condvar)) {
    let mut piece = [0; 4096];
    loop {
        let read = output.read(&mut piece).or_else(|_| output.read(&mut piece)).unwrap_or(0);
        let mut now = shown.0.lock().unwrap();
        now.screen.process(&piece[..read]);
        now.bytes.extend_from_slice(&piece[..read]);
        now.ended = read == 0;
        shown.1.notify_all();
        if read == 0 {
            return;
        }
    }
}

impl Terminal {
    /// Presses keys.
    pub fn keys(&mut self, keys: &str) -> &mut Terminal {
        self.master.write_all(keys.as_bytes()).unwrap();
        self
    }

    /// Types a line and presses Enter.
    pub fn line(&mut self, text: &str) -> &mut Terminal {
        self.keys(&format!("{text}{ENTER}"))
    }

    /// Waits until the screen is as wanted.
    #[track_caller]
    pub fn wait(&mut self, what: &str, wanted: impl Fn(&vt100::Screen) -> bool) -> &mut Terminal {
        let deadline = Instant::now() + PATIENCE;
        let mut shown = self.shown.0.lock().unwrap();
        while !wanted(shown.screen.screen()) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || shown.ended {
                let (screen, bytes) = (shown.screen.screen().contents(), shown.bytes.clone());
                drop(shown);
                let last = String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(600)..]).into_owned();
                panic!("waited for {what}; the screen:\n{screen}\n---- the last bytes: {last:?}");
            }
            shown = self.shown.1.wait_timeout(shown, left).unwrap().0;
        }
        drop(shown);
        self
    }

    /// Waits until this text is on the screen.
    #[track_caller]
    pub fn sees(&mut self, text: &str) -> &mut Terminal {
        self.wait(&format!("{text:?}"), |screen| screen.contents().contains(text))
    }

    /// Waits until this text is on the screen, wherever its lines are broken.
    #[track_caller]
    pub fn sees_wrapped(&mut self, text: &str) -> &mut Terminal {
        self.wait(&format!("{text:?}"), |screen| screen.contents().replace('\n', "").contains(text))
    }

    /// Types a line, presses Enter, and waits until the editor has released the terminal.
    #[track_caller]
    pub fn entered(&mut self, text: &str) -> &mut Terminal {
        self.line(text).wait(&format!("{text:?} to be sent"), |screen| {
            let (row, column) = screen.cursor_position();
            let above = screen.contents_between(0, 0, row, 0);
            column == 0 && above.trim_end().ends_with(text)
        })
    }

    /// Waits until this line is being typed, with the cursor at its end.
    #[track_caller]
    pub fn at(&mut self, line: &str) -> &mut Terminal {
        let typed = |screen: &vt100::Screen| {
            let (row, column) = screen.cursor_position();
            let text = screen.contents_between(row, 0, row, column);
            text == line && screen.contents().trim_end().ends_with(line.trim_end())
        };
        self.wait(&format!("the cursor after {line:?}"), typed)
    }

    /// Waits for the prompt with nothing typed.
    #[track_caller]
    pub fn at_prompt(&mut self) -> &mut Terminal {
        self.at("> ")
    }

    /// Waits for a question to be answered with yes or no, with the cursor behind it.
    #[track_caller]
    pub fn asked(&mut self) -> &mut Terminal {
        self.wait("a question", |screen| {
            let (row, column) = screen.cursor_position();
            // Behind a full row, the answer begins in the next one.
            screen.contents_between(0, 0, row, column).trim_end().ends_with("[y/N]")
                && (column == 0 || column > 5)
        })
    }

    /// The current screen.
    pub fn screen(&self) -> String {
        self.shown.0.lock().unwrap().screen.screen().contents()
    }

    /// The rows of the current screen, without spaces at their ends.
    pub fn rows(&self, columns: u16) -> Vec<String> {
        self.screen_as(|screen| screen.rows(0, columns).map(|row| row.trim_end().to_string()).collect())
    }

    /// What `read` makes of the current screen.
    pub fn screen_as<T>(&self, read: impl Fn(&vt100::Screen) -> T) -> T {
        read(self.shown.0.lock().unwrap().screen.screen())
    }

    /// All output so far, unchanged.
    pub fn bytes(&self) -> Vec<u8> {
        self.shown.0.lock().unwrap().bytes.clone()
    }

    /// Clears the screen as seen here, so that earlier text is not mistaken for new text.
    pub fn wiped(&mut self) -> &mut Terminal {
        let mut shown = self.shown.0.lock().unwrap();
        shown.screen.process(b"\x1b[2J\x1b[H");
        drop(shown);
        self
    }

    /// Changes the size of the window, as if a user dragged it.
    pub fn resize(&mut self, columns: u16) -> &mut Terminal {
        self.resize_to(columns, ROWS)
    }

    pub fn resize_to(&mut self, columns: u16, rows: u16) -> &mut Terminal {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        self.shown.0.lock().unwrap().screen.screen_mut().set_size(cells(rows), cells(columns));
        tcsetwinsize(&self.master, size).unwrap();
        self
    }

    /// Waits until the program has started another one with this word on its command line.
    #[track_caller]
    pub fn starts(&mut self, word: &str) -> &mut Terminal {
        let deadline = Instant::now() + PATIENCE;
        let program = tcgetpgrp(&self.master).unwrap().as_raw_nonzero();
        let tasks = format!("/proc/{program}/task");
        while Instant::now() < deadline {
            let threads = std::fs::read_dir(&tasks).into_iter().flatten().flatten();
            let children =
                threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok());
            let children = children.collect::<Vec<_>>().concat();
            let words = |child: &str| std::fs::read(format!("/proc/{child}/cmdline")).unwrap_or_default();
            let is_it = |child: &str| words(child).split(|byte| *byte == 0).any(|one| one == word.as_bytes());
            if children.split_whitespace().any(is_it) {
                return self;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        panic!("no {word:?} was started; the screen:\n{}", self.screen());
    }

    pub fn signal(&mut self, signal: Signal) -> &mut Terminal {
        self.process.signal(signal).unwrap();
        self
    }

    /// Whether typing is echoed, arrives line by line, and Enter is a newline: the state in which a shell
    /// passes the terminal.
    pub fn is_as_found(&self) -> bool {
        let modes = tcgetattr(&self.master).unwrap();
        modes.local_modes.contains(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG)
            && modes.input_modes.contains(InputModes::ICRNL)
    }

    /// Waits for the last output, which comes a little after the end; gives up if another process keeps the
    /// terminal open.
    fn wait_for_the_last_words(&self) {
        let deadline = Instant::now() + Duration::from_secs(2);
        let mut shown = self.shown.0.lock().unwrap();
        while !shown.ended && Instant::now() < deadline {
            let left = deadline.saturating_duration_since(Instant::now());
            shown = self.shown.1.wait_timeout(shown, left).unwrap().0;
        }
    }

    /// Waits for the end, checks that the terminal is as before, and returns the exit code.
    #[track_caller]
    pub fn ends(&mut self) -> i32 {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.process.status() {
                Some(WaitStatus::Exited(_, code)) => {
                    self.wait_for_the_last_words();
                    assert!(self.is_as_found(), "the terminal was not put back");
                    return code;
                }
                Some(WaitStatus::StillAlive) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                other => panic!("it did not end: {other:?}; the screen:\n{}", self.screen()),
            }
        }
    }
}
