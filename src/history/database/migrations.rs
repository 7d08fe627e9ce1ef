//! The steps that bring a database up to date: the files of `migrations/`, applied in order, once each.
//!
//! A released step is never edited, its comments included: they speak of the code of their time. The sums
//! that 002.sql adds were computed by a file that is gone (`conversations/sums.rs`); 003.sql drops them.

pub(super) const MIGRATIONS: &[&str] = &[
    include_str!("../migrations/001.sql"),
    include_str!("../migrations/002.sql"),
    include_str!("../migrations/003.sql"),
];
/// The version of a database with all of them.
pub(super) const NEWEST: u32 = MIGRATIONS.len() as u32;
