//! What is on disk: model files by name wherever they lie, what was fetched, and what was learnt about them.

pub mod catalog;
pub mod conversations;
pub mod fetched;
pub mod headers;
pub mod hub;
pub mod journal;
pub mod known;
pub mod licences;
pub mod models;
pub mod ollama;
pub mod places;
pub mod removal;
