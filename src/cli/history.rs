//! The arguments of `fireside history`.

use std::path::PathBuf;

use clap::Subcommand;

/// Subcommands of `history`.
#[derive(Debug, Subcommand)]
pub enum History {
    /// list conversations, most recent first; --model and --since filter them
    List {
        /// changed since a date (2026-11-25) or within a period (7d, 12h)
        #[arg(long, value_name = "WHEN")]
        since: Option<String>,
    },
    /// find messages that contain all the words; --model and --since filter them
    Search {
        #[arg(value_name = "WORDS", required = true)]
        words: Vec<String>,
        /// maximum number of messages, latest first; 0: all
        #[arg(long, value_name = "N", default_value_t = 50)]
        limit: usize,
        /// changed since a date (2026-11-25) or within a period (7d, 12h)
        #[arg(long, value_name = "WHEN")]
        since: Option<String>,
    },
    /// print a conversation as text
    Show {
        #[arg(value_name = "ID")]
        id: String,
    },
    /// write a conversation to a file or to stdout
    Export {
        #[arg(value_name = "ID")]
        id: String,
        /// .md, .json or .txt selects the format
        #[arg(value_name = "FILE")]
        file: Option<PathBuf>,
        /// md, json or txt, if the file's name does not say it
        #[arg(long, value_name = "FORMAT")]
        format: Option<String>,
        /// overwrite the file without asking
        #[arg(long)]
        force: bool,
    },
    /// import a file: fireside's own, OpenAI messages, or a ChatGPT data export (also its zip)
    Import {
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// generate saved answers again with the same settings, and compare
    Replay {
        #[arg(value_name = "ID")]
        id: String,
        /// only the N-th answer
        #[arg(value_name = "N")]
        number: Option<usize>,
    },
    /// delete conversations for good
    Rm {
        #[arg(value_name = "ID", required = true)]
        ids: Vec<String>,
        /// do not ask
        #[arg(short, long)]
        yes: bool,
    },
}
