//! Conversations on disk: the database, the journal that writes to it, export and import.

pub mod database;
pub mod exchange;
pub mod journal;
mod legacy;

pub use database::Error;
