//! The user's settings: their table, how values are parsed and shown, their sources, and fireside's own
//! paths.
//!
//! table.rs has a row for each setting (a `Setting`, see setting.rs). values.rs parses and shows its values,
//! looks.rs those about the terminal.
//! resolve.rs joins the sources into the settings in effect; file.rs and environment.rs read two of them, and
//! assignment.rs has the values with their sources, collected.rs what they all say. servers.rs has the servers
//! of the config file, models.rs its aliases and its sections for models, roles.rs the roles beside it, paths.rs
//! the paths of fireside's own files; commented.rs writes a config file, constraints.rs has schemas, grammars and
//! regular expressions.

pub mod assignment;
pub mod models;
pub mod paths;
pub mod resolve;
pub mod roles;
pub mod servers;
pub mod setting;
pub mod table;
mod collected;
mod commented;
mod constraints;
mod environment;
mod file;
mod looks;
mod values;
mod workers;

pub use assignment::{Assignment, Source, Wrong};
pub use commented::commented;
pub use constraints::{CONSTRAINTS, is_stdin};
pub use models::{Alias, Section, is_per_model};
pub use paths::Paths;
pub use resolve::{Config, Error, Given};
pub use roles::{Role, TakenRole};
pub use servers::{Secret, Server};
pub use setting::{Effect, Group, Setting};
pub use table::{SETTINGS, names, setting};
pub use values::stage_names;
