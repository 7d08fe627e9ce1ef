//! Text → the clipboard: through the terminal, which may be on another machine, and through the system's tool.
//!
//! The terminal takes it in the escape sequence OSC 52 (xterm's control sequences, "Manipulate Selection Data"),
//! as base64. tmux and GNU screen pass sequences on only in wrappers of their own.

use std::env;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{is_plain, terminal};

/// Most bytes that terminals take: xterm's limit of 100,000 characters of base64.
pub const MOST_BYTES: usize = 74_994;
/// Most bytes that GNU screen passes on in one wrapper.
const SCREEN_PIECE: usize = 250;

/// How the terminal took a text. It never answers, so nobody knows whether it has the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    Whole,
    /// Longer than terminals take: nothing was sent.
    TooLong,
    /// There is no terminal, or none that may get escape sequences.
    NoTerminal,
}

/// Copies the text. Returns how the terminal took it, and the tools that have it.
pub fn copy(text: &str) -> (Sent, Vec<&'static str>) {
    let copies = |(may, call): &(bool, Call)| *may && by_tool(call, text).is_ok();
    let system = system_tools().into_iter().find(copies);
    let tmux = Some((is_set("TMUX"), TMUX)).filter(copies);
    let by_tools = [system, tmux].into_iter().flatten().map(|(_, call)| call[0]).collect();
    (to_terminal(text), by_tools)
}

fn to_terminal(text: &str) -> Sent {
    let Some(mut terminal) = terminal::device().filter(|_| !is_plain()) else { return Sent::NoTerminal };
    if text.len() > MOST_BYTES {
        return Sent::TooLong;
    }
    match terminal.write_all(sequence(text, Multiplexer::found()).as_bytes()) {
        Ok(()) => Sent::Whole,
        Err(_) => Sent::NoTerminal,
    }
}

/// A program between fireside and the terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Multiplexer {
    None,
    Tmux,
    Screen,
}

impl Multiplexer {
    fn found() -> Multiplexer {
        match () {
            () if is_set("TMUX") => Multiplexer::Tmux,
            () if is_set("STY") => Multiplexer::Screen,
            () => Multiplexer::None,
        }
    }
}

fn is_set(name: &str) -> bool {
    env::var_os(name).is_some_and(|value| !value.is_empty())
}

fn sequence(text: &str, through: Multiplexer) -> String {
    let bare = format!("\x1b]52;c;{}\x07", STANDARD.encode(text));
    match through {
        Multiplexer::None => bare,
        // tmux takes the bare one with `set-clipboard on`, and passes the other on with `allow-passthrough on`.
        Multiplexer::Tmux => format!("{bare}\x1bPtmux;{}\x1b\\", bare.replace('\x1b', "\x1b\x1b")),
        Multiplexer::Screen => {
            let pieces = bare.as_bytes().chunks(SCREEN_PIECE).map(String::from_utf8_lossy);
            pieces.map(|piece| format!("\x1bP{piece}\x1b\\")).collect()
        }
    }
}

/// A program and its arguments.
type Call = &'static [&'static str];

/// Also fills the buffer that tmux's own paste inserts.
const TMUX: Call = &["tmux", "load-buffer", "-w", "-"];

/// The system's tools in the order in which they are tried, and whether they may reach a clipboard here. The first
/// that is there and succeeds is enough.
fn system_tools() -> [(bool, Call); 4] {
    [
        (cfg!(target_os = "macos"), &["pbcopy"]),
        (is_set("WAYLAND_DISPLAY"), &["wl-copy"]),
        (is_set("DISPLAY"), &["xclip", "-selection", "clipboard"]),
        (is_set("DISPLAY"), &["xsel", "--clipboard", "--input"]),
    ]
}

/// A program in the folders of PATH. Relative folders do not count: they lie wherever fireside was started.
fn program(name: &str) -> Option<PathBuf> {
    let folders = env::var_os("PATH")?;
    let mut paths = env::split_paths(&folders).filter(|folder| folder.is_absolute());
    paths.find_map(|folder| Some(folder.join(name)).filter(|path| path.is_file()))
}

fn by_tool(call: Call, text: &str) -> io::Result<()> {
    let path = program(call[0]).ok_or(io::ErrorKind::NotFound)?;
    let mut child = Command::new(path)
        .args(&call[1..])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let written = child.stdin.take().map_or(Ok(()), |mut stdin| stdin.write_all(text.as_bytes()));
    let status = child.wait()?; // its stdin is closed
    written?;
    if status.success() { Ok(()) } else { Err(io::Error::other("the tool failed")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn multiplexers_pass_the_sequence_on_in_wrappers() {
        assert_eq!(sequence("hé", Multiplexer::None), "\x1b]52;c;aMOp\x07");
        assert_eq!(
            sequence("hé", Multiplexer::Tmux),
            "\x1b]52;c;aMOp\x07\x1bPtmux;\x1b\x1b]52;c;aMOp\x07\x1b\\"
        );
        let long = sequence(&"x".repeat(600), Multiplexer::Screen);
        let pieces: Vec<&str> = long.split_inclusive("\x1b\\").collect();
        assert!(pieces.iter().all(|piece| piece.len() <= SCREEN_PIECE + 4), "{pieces:?}");
        let whole: String = pieces.iter().map(|piece| &piece[2..piece.len() - 2]).collect();
        assert_eq!(whole, sequence(&"x".repeat(600), Multiplexer::None));
    }
}
