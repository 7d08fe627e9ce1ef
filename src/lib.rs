//! fireside: open models on your own machine, in a terminal.
//!
//! Modules in the order of the flow. Each imports only from those below it; `tests/layout.rs` checks that.

// Entry points.
pub mod app;
pub mod open_session;
pub mod oneshot;
pub mod repl;
pub mod commands;
pub mod completions;
pub mod cli;
pub mod saved;
pub mod failure;
// One conversation, shared by all entry points.
pub mod session;
pub mod models;
// Backends, which answer.
pub mod backend;
pub mod engine;
// Disk, network and screen.
pub mod convert;
pub mod gguf;
pub mod history;
pub mod hub;
pub mod http;
pub mod rpc;
pub mod model_state;
pub mod input;
pub mod ui;
// Shared by all of them.
pub mod settings;
pub mod chat;
pub mod suggest;
pub mod processor;
pub mod clock;
pub mod files;
pub mod units;
