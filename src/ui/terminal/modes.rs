//! The terminal's modes while fireside reads keys: between lines, where Ctrl-C keeps its place among the keys that
//! are typed ahead, and in a line, where every key is one.

use std::fs::File;
use std::sync::atomic::Ordering;

use nix::sys::termios::{
    _POSIX_VDISABLE, InputFlags, LocalFlags, SetArg, SpecialCharacterIndices as Key, Termios, tcgetattr,
    tcsetattr,
};

use super::{HUSHED, device, original, restore, set_due};

/// The byte of Ctrl-C.
const CTRL_C: u8 = 3;

/// While it exists, text typed outside the editor is hidden and kept for the next line. Ctrl-C is one of the keys,
/// as a signal would not tell what was typed before it; Ctrl-Z is a signal.
pub struct Hushed(());

impl Hushed {
    pub fn new() -> Hushed {
        if let (Some(terminal), Some(mut quiet)) = (device(), original()) {
            quiet.local_flags.remove(LocalFlags::ECHO | LocalFlags::ICANON);
            // Other signals keep what was typed before them.
            quiet.local_flags.insert(LocalFlags::ISIG | LocalFlags::NOFLSH);
            let interrupt = &mut quiet.control_chars[Key::VINTR as usize];
            if *interrupt == CTRL_C {
                *interrupt = _POSIX_VDISABLE; // else it is a key of the user's own, and stays a signal
            }
            // Ctrl-\ does not end the program.
            quiet.control_chars[Key::VQUIT as usize] = _POSIX_VDISABLE;
            // Enter typed ahead must still be Enter for the editor.
            quiet.input_flags.remove(InputFlags::ICRNL);
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

/// While it exists, keys arrive unprocessed, Ctrl-C and Ctrl-Z too.
pub struct Raw(Option<(File, Termios)>);

impl Raw {
    pub fn new() -> Raw {
        Raw::but(InputFlags::ICRNL)
    }

    /// The same for one line: Enter typed after it stays a newline, as other readers expect.
    pub(in crate::ui) fn of_a_line() -> Raw {
        Raw::but(InputFlags::empty())
    }

    fn but(more: InputFlags) -> Raw {
        set_due();
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
