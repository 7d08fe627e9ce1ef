//! What is on disk: model files by name wherever they lie, what was fetched, what was learnt about them; and conversations
//! as files.

pub mod catalog;
pub mod conversations;
pub mod exchange;
pub mod fetched;
pub mod headers;
pub mod hub;
pub mod journal;
pub mod known;
pub mod licences;
pub mod lines;
pub mod models;
pub mod names;
pub mod ollama;
pub mod package;
pub mod places;
pub mod removal;

use std::path::Path;

use serde::Serialize;

use crate::files;

/// Largest file of our own or of another program's that is read whole, in bytes.
const SMALL: u64 = 64 << 20;

/// The text of a small file; `None` of one that cannot be read, or that is none: a pipe or a device would never end.
fn small_file(path: &Path) -> Option<String> {
    files::read_text(path, SMALL).ok()
}

/// Replaces a file of our own with JSON. Makes the folder.
fn write_json(file: &Path, contents: &impl Serialize) -> std::io::Result<()> {
    files::replace(file, serde_json::to_string_pretty(contents)?.as_bytes())
}
