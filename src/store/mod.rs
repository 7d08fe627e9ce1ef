//! What is kept on disk: model files by name, what was fetched, and what was learnt about them.

pub mod catalog;
pub mod fetched;
pub mod hub;
pub mod known;
pub mod models;
