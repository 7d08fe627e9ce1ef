//! A text → the text as edited in the user's own editor.

use std::fs::File;
use std::io::{Read, Write};
use std::process::Command;

use crate::chat::message::{without_final_newline, without_mark};
use crate::failure::Failure;
use crate::ui::terminal;

/// The user's editor, if one is set.
fn external() -> Option<String> {
    let set = |name| std::env::var(name).ok().filter(|v| !v.trim().is_empty());
    set("VISUAL").or_else(|| set("EDITOR"))
}

pub(in crate::repl) fn no_editor() -> Failure {
    Failure::new("no editor is set").hint("set EDITOR, as in: export EDITOR=nano")
}

pub(in crate::repl) fn is_external_set() -> bool {
    external().is_some()
}

/// Opens `text` in the user's editor and returns it as it was saved.
pub(in crate::repl) fn in_external_editor(text: &str) -> Result<String, Failure> {
    let Some(editor) = external() else {
        return Err(no_editor());
    };
    let cannot = |e: std::io::Error| Failure::new(format!("could not run the editor '{editor}': {e}"));
    let mut file = tempfile::Builder::new().prefix("fireside-").suffix(".md").tempfile().map_err(cannot)?;
    file.write_all(text.as_bytes()).map_err(cannot)?;
    let mut run = Command::new("sh");
    run.args(["-c", &format!("{editor} \"$1\""), "sh"]).arg(file.path());
    if let Some((input, output)) = terminal::device().and_then(|t| Some((t.try_clone().ok()?, t))) {
        run.stdin(input).stdout(output); // fireside's own may be redirected
    }
    let status = terminal::as_found(|| run.status()).map_err(cannot)?;
    let _ = terminal::interrupted(); // discards a Ctrl-C meant for the editor
    if !status.success() {
        return Err(Failure::new(format!("the editor '{editor}' failed; the message is unchanged")));
    }
    let mut bytes = Vec::new();
    File::open(file.path()).and_then(|mut file| file.read_to_end(&mut bytes)).map_err(cannot)?;
    let edited =
        String::from_utf8(bytes).map_err(|_| Failure::new("the editor saved text that is not UTF-8"))?;
    Ok(without_final_newline(without_mark(edited)))
}
