//! The migrations that bring a database up to date: the files of `migrations/`, each applied once, in order.
//!
//! A released migration never changes, and neither do its comments: they describe the code of their time. A
//! file that no longer exists (`conversations/sums.rs`) computed the checksums that 002.sql adds; 003.sql
//! drops them.

pub(super) const MIGRATIONS: &[&str] = &[
    include_str!("../migrations/001.sql"),
    include_str!("../migrations/002.sql"),
    include_str!("../migrations/003.sql"),
];
/// The version of a fully migrated database.
pub(super) const NEWEST: u32 = MIGRATIONS.len() as u32;
