//! The command line → man pages, one for fireside and one for each command: written where fireside is installed.

use std::fs::create_dir_all;
use std::path::Path;

use clap::CommandFactory;

use super::Args;
use crate::error::{Failure, reason};

/// Writes the pages into a folder, which is made if it is not there.
pub fn write(folder: &Path) -> Result<(), Failure> {
    let written = create_dir_all(folder).and_then(|()| clap_mangen::generate_to(Args::command(), folder));
    written.map_err(|e| {
        Failure::new(format!("could not write man pages to {}: {}", folder.display(), reason(&e)))
    })
}
