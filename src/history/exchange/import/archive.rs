//! A zip → the files in it that hold conversations, as streams. Unpacks nothing to disk, so that file names
//! do no harm; refuses zip bombs.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use zip::ZipArchive;
use zip::read::ZipFile;
use zip::result::ZipError;

use super::error::Error;
use super::source::choose;
use crate::files::reason;

/// Maximum ratio of unpacked to zipped size. Text shrinks to a tenth, a bomb to a thousandth.
const MOST_GROWTH: u64 = 200;
/// Unpacked size that is always allowed, in bytes.
const HARMLESS: u64 = 64 << 20;

pub(super) struct Archive {
    zip: ZipArchive<BufReader<File>>,
    members: Vec<usize>,
    /// Bytes that may still be unpacked.
    left: u64,
}

/// Whether a file that starts with these bytes is a zip.
pub(super) fn is_zip(beginning: &[u8]) -> bool {
    beginning.starts_with(b"PK\x03\x04") || beginning.starts_with(b"PK\x05\x06")
}

impl Archive {
    pub(super) fn open(file: File, path: &Path) -> Result<Archive, Error> {
        let size = file.metadata().map_or(0, |about| about.len());
        let mut zip =
            ZipArchive::new(BufReader::new(file)).map_err(|error| refused(&path.display(), error))?;
        let names: Vec<String> = (0..zip.len()).map(|index| name(&mut zip, index)).collect();
        let members = choose(&names);
        if members.is_empty() {
            return Err(Error::NoFile { name: path.display().to_string(), zip: true });
        }
        let left = size.saturating_mul(MOST_GROWTH).max(HARMLESS);
        Ok(Archive { zip, members, left })
    }

    /// Unpacked bytes of the members, according to the zip.
    pub(super) fn size(&mut self) -> u64 {
        let sizes =
            self.members.iter().map(|index| self.zip.by_index_raw(*index).map_or(0, |file| file.size()));
        sizes.fold(0, u64::saturating_add)
    }

    pub(super) fn members(&self) -> std::ops::Range<usize> {
        0..self.members.len()
    }

    /// A member's name and its contents.
    pub(super) fn member(&mut self, member: usize) -> Result<(String, impl Read), Error> {
        let index = self.members[member];
        let name = name(&mut self.zip, index);
        let file = self.zip.by_index(index).map_err(|error| refused(&name, error))?;
        Ok((name, LimitedMember { file, left: &mut self.left }))
    }
}

/// A member's name without control characters.
fn name(zip: &mut ZipArchive<BufReader<File>>, index: usize) -> String {
    let raw = zip.by_index_raw(index).map(|file| file.name_raw().to_vec()).unwrap_or_default();
    String::from_utf8_lossy(&raw).chars().filter(|c| !c.is_control()).collect()
}

fn refused(name: &dyn std::fmt::Display, error: ZipError) -> Error {
    let why = match error {
        ZipError::Io(error) => reason(&error),
        ZipError::UnsupportedArchive(ZipError::PASSWORD_REQUIRED) => "it is encrypted".into(),
        ZipError::CompressionMethodNotSupported(_) => "it is compressed in an unusual way".into(),
        error => error.to_string().to_lowercase(),
    };
    Error::Zip { name: name.to_string(), why }
}

/// A member with a limit on its unpacked size.
struct LimitedMember<'a> {
    file: ZipFile<'a, BufReader<File>>,
    left: &'a mut u64,
}

impl Read for LimitedMember<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        match self.left.checked_sub(read as u64) {
            Some(left) => *self.left = left,
            None => return Err(io::Error::other("it is a zip bomb: no text shrinks that much")),
        }
        Ok(read)
    }
}
