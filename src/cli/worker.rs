//! The arguments of `fireside worker`.

use std::path::PathBuf;

/// How to lend this machine.
#[derive(Debug, clap::Args)]
pub struct Worker {
    /// address to listen at
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:50052")]
    pub listen: String,
    /// listen at an address that other machines can reach
    #[arg(long)]
    pub allow_remote: bool,
    /// file with the token; made if it is missing
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// most main memory to lend; default: seven eighths of what is free
    #[arg(long, value_name = "MIB")]
    pub memory: Option<u64>,
    /// most disk space for tensors that clients send again at every start; 0: none
    #[arg(long, value_name = "MIB", default_value_t = 16_384)]
    pub cache_size: u64,
    /// folder for them
    #[arg(long, value_name = "FOLDER")]
    pub cache_folder: Option<PathBuf>,
    /// run on a system without landlock and seccomp: then a client with the token has all your rights
    #[arg(long)]
    pub no_sandbox: bool,
}
