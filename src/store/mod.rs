//! What is on disk: model files by name wherever they lie, what was fetched, what was learnt about them; and conversations
//! as files.

pub mod catalog;
pub mod exchange;
pub mod fetched;
pub mod headers;
pub mod hub;
pub mod known;
pub mod licences;
pub mod models;
pub mod ollama;
pub mod places;
pub mod removal;
