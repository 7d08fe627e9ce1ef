//! Conversations on the disk: the database, the journal that fills it, and files of other programs.

pub mod database;
pub mod exchange;
pub mod journal;
mod legacy;

pub use database::Error;
