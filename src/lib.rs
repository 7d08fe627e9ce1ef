//! fireside: open models on your own machine, in a terminal.
//!
//! Modules in the order of the flow; each one imports only from those below it (`tests/tidy.rs` guards that).

// How it is used.
pub mod start;
pub mod completions;
pub mod cli;
pub mod oneshot;
pub mod repl;
pub mod verbs;
pub mod input;
pub mod kept;
// One conversation, whoever asks.
pub mod session;
pub mod model;
pub mod config;
// Who answers.
pub mod backend;
pub mod engine;
// What is on disk, what is on the screen.
pub mod convert;
pub mod gguf;
pub mod store;
pub mod ui;
// What all of them share.
pub mod chat;
pub mod nearest;
pub mod processor;
pub mod clock;
pub mod files;
pub mod units;
pub mod error;
