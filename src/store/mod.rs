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
pub mod models;
pub mod names;
pub mod ollama;
pub mod places;
pub mod removal;

use std::path::Path;

/// Largest file of our own or of another program's that is read whole, in bytes.
const SMALL: u64 = 64 << 20;

/// The text of a small file; `None` of one that cannot be read, or that is none: a pipe or a device would never end.
fn small_file(path: &Path) -> Option<String> {
    let about = std::fs::metadata(path).ok()?;
    if !about.is_file() || about.len() > SMALL {
        return None;
    }
    std::fs::read_to_string(path).ok()
}
