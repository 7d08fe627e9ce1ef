//! Lent machines: a worker (`fireside worker`) runs llama.cpp's RPC server for another machine's fireside.
//!
//! llama.cpp's protocol knows no password, and its server runs what it is sent. So llama.cpp never listens and never
//! connects: fireside makes every connection, proves on it that both sides have the same token, and hands it to
//! llama.cpp as a descriptor (engine/llama/build/rpc/transport.cpp). No port leads past the gate, on neither side.
//!
//! token.rs and handshake.rs are used by both sides. The borrower: preflight.rs asks what a worker has, link.rs
//! keeps up the connection to it and notices its loss. The worker: gate.rs lets clients in, server.rs runs
//! llama.cpp's server in a child process, sandbox.rs takes that child's rights away, tensor_cache.rs bounds what it
//! leaves on disk.

mod descriptor;
mod error;
mod gate;
mod handshake;
mod link;
mod preflight;
mod sandbox;
mod server;
pub mod tensor_cache;
mod token;

pub use error::Error;
pub use gate::{Gate, GateEvent};
pub use link::Link;
pub use sandbox::{Confinement, confine};
pub use server::{START, Server, control};
pub use token::Token;
