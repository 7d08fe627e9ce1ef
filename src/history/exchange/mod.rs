//! Export and import: conversations → files, and files of fireside or other programs → conversations.
//!
//! Independent of the database. Out: export/. In: import/. Both use native.rs, fireside's own file format,
//! and time.rs.

mod export;
mod import;
mod native;
mod time;

pub use export::{ExportFormat, export};
pub use import::{Error, ImportSummary, Imported, import};
