//! The secret that a worker and its clients share: a file that only its owner can read → a key → proofs.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::Error;
use crate::files::{own_file, own_folder, reason};

/// Length of a new token in bytes, and the least length of any in characters.
const NEW: usize = 32;
const SHORTEST: usize = 32;
const MOST: u64 = 4096;

/// Random bytes of one connection.
pub(super) type Nonce = [u8; 32];

/// A key made of the token. It never leaves the process; only proofs do.
#[derive(Clone)]
pub struct Token([u8; 32]);

impl Token {
    /// The key of a token as text; white space around it does not count. `None`: it is too short to be secret.
    pub fn new(text: &str) -> Option<Token> {
        let text = text.trim();
        (text.len() >= SHORTEST)
            .then(|| Token(blake3::derive_key("fireside worker token 1", text.as_bytes())))
    }

    /// Reads a token file. Refuses one that others can read or write.
    pub fn read(path: &Path) -> Result<Token, Error> {
        let bad = |why: &str| Error::BadToken { path: path.into(), why: why.into() };
        let file = File::open(path).map_err(|error| bad(&reason(&error)))?;
        let about = file.metadata().map_err(|error| bad(&reason(&error)))?;
        if !about.is_file() {
            return Err(bad("it is not a file"));
        }
        if about.mode() & 0o077 != 0 {
            return Err(bad("other users may read or change it"));
        }
        let mut text = String::new();
        file.take(MOST).read_to_string(&mut text).map_err(|error| bad(&reason(&error)))?;
        Token::new(&text).ok_or_else(|| bad(&format!("it has fewer than {SHORTEST} characters")))
    }

    /// Reads a token file, or makes one with a new token, mode 0600.
    pub fn read_or_make(path: &Path) -> Result<Token, Error> {
        if !path.exists() {
            make(path).map_err(|error| Error::BadToken { path: path.into(), why: reason(&error) })?;
        }
        Token::read(path)
    }

    /// What only a holder of the token can compute of these parts, whose lengths are fixed.
    pub(super) fn proof(&self, parts: &[&[u8]]) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        parts.iter().for_each(|part| _ = hasher.update(part));
        hasher.finalize()
    }
}

fn make(path: &Path) -> io::Result<()> {
    if let Some(folder) = path.parent().filter(|folder| !folder.exists()) {
        own_folder(folder)?;
    }
    let text: String = random::<NEW>()?.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut file = own_file(path, OpenOptions::new().write(true).create_new(true))?;
    let written = file.write_all(format!("{text}\n").as_bytes()).and_then(|()| file.sync_all());
    written.inspect_err(|_| _ = fs::remove_file(path))
}

/// Bytes that nobody can predict.
pub(super) fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_token_file_is_made_once_for_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state/worker-token");
        let first = Token::read_or_make(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text.trim().len(), 2 * NEW);
        assert_eq!(Token::read_or_make(&path).unwrap().0, first.0);
        assert_eq!(Token::new(&text).unwrap().0, first.0);

        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let refused = Token::read(&path).err().unwrap().to_string();
        assert!(refused.ends_with("other users may read or change it"), "{refused}");
        assert!(Token::new("short").is_none());
    }
}
