//! Conversations → files that people and other programs read, and the files of other programs → conversations.
//!
//! Knows nothing of where conversations are kept. Out: export.rs. In, in the order of the flow: import.rs (what is read, what
//! comes of it), source.rs and archive.rs (a file, a folder, a zip), json_stream.rs (one JSON value at a time), then one file for
//! each kind of conversation: native.rs, openai.rs, chatgpt.rs.

mod archive;
mod assemble;
mod chatgpt;
mod content;
mod export;
mod identity;
mod import;
mod lossy_json;
mod notes;
mod openai;
mod native;
mod json_stream;
mod source;
mod time;

pub use export::{Format, export};
pub use import::{Imported, Summary, import};
