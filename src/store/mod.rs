//! What is kept on disk: model files by name, and what was learnt about them.

pub mod catalog;
pub mod known;
pub mod models;
