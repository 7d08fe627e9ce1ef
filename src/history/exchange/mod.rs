//! Conversations → files that people and other programs read, and the files of other programs → conversations.
//!
//! Knows nothing of where conversations are kept. Out: export/. In: import/. Between them native.rs, the form of fireside's own
//! files, and time.rs.

mod export;
mod import;
mod native;
mod time;

pub use export::{Format, export};
pub use import::{Error, Imported, Summary, import};
