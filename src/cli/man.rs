//! The command line → man pages, one for fireside and one for each subcommand, written by `make install`.

use std::fs::create_dir_all;
use std::path::Path;

use crate::failure::Failure;
use crate::files::reason;

/// Writes the pages to a folder, which is created if necessary.
pub fn write(folder: &Path) -> Result<(), Failure> {
    let written = create_dir_all(folder).and_then(|()| clap_mangen::generate_to(super::command(), folder));
    written.map_err(|e| {
        Failure::new(format!("could not write man pages to {}: {}", folder.display(), reason(&e)))
    })
}
