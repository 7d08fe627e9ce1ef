//! What a person can set: the table of settings, how values are read and shown, where they come from, and all paths.
//!
//! table.rs has a row for each setting and values.rs reads and shows its values; resolve.rs joins the sources into the
//! settings that hold (file.rs and environment.rs read two of them); paths.rs says where things are.

pub mod assignment;
pub mod paths;
pub mod resolve;
pub mod table;
mod environment;
mod file;
mod values;

pub use assignment::{Assignment, Source, Wrong};
pub use paths::Paths;
pub use resolve::{Config, Given};
pub use table::{Effect, Group, SETTINGS, Setting, names, setting};
