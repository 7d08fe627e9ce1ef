//! fireside: open models on your own machine, in a terminal.
//!
//! Modules in the order of the flow; each one imports only from those below it (`tests/layout.rs` checks that).

// How it is used.
pub mod app;
pub mod open_session;
pub mod oneshot;
pub mod repl;
pub mod commands;
pub mod completions;
pub mod cli;
pub mod saved;
pub mod failure;
// One conversation, whoever asks.
pub mod session;
pub mod models;
// Who answers.
pub mod backend;
pub mod engine;
// What is on disk, what is on the screen.
pub mod convert;
pub mod gguf;
pub mod history;
pub mod hub;
pub mod model_state;
pub mod input;
pub mod ui;
// What all of them share.
pub mod settings;
pub mod chat;
pub mod suggest;
pub mod processor;
pub mod clock;
pub mod files;
pub mod units;
