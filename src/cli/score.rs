//! The arguments of `fireside score`.

use std::path::PathBuf;

/// The text to score, and how.
#[derive(Debug, clap::Args)]
pub struct Score {
    /// text file, or - for stdin
    #[arg(value_name = "FILE|-")]
    pub file: PathBuf,
    /// score the text as the answer to this prompt
    #[arg(short, long, value_name = "TEXT", allow_hyphen_values = true)]
    pub prompt: Option<String>,
    /// with --prompt: put it before the text as it is, without a chat template
    #[arg(long, requires = "prompt")]
    pub raw: bool,
    /// at most so many chunks of a long text
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub chunks: Option<u32>,
    /// list each token with its log-probability and the N likeliest others, 0 to 20
    #[arg(long, value_name = "N", allow_hyphen_values = true, value_parser = clap::value_parser!(u8).range(0..=20))]
    pub logprobs: Option<u8>,
}
