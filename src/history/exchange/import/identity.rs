//! Ids of imported conversations, the same at every import; and hashes of media.

use std::fmt::Write as _;
use std::io;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use sha2::{Digest, Sha256};

/// Hexadecimal digits of an id.
const DIGITS: usize = 16;

/// The id of a conversation with a name in its source.
pub(super) fn of_name(source: &str, name: &str) -> String {
    let mut sum = IdHasher::of(source);
    sum.0.update(name);
    sum.digits()
}

/// The id of a conversation without a name: equal contents have equal ids.
pub(super) fn of_content(source: &str, content: &impl Serialize) -> String {
    let mut sum = IdHasher::of(source);
    serde_json::to_writer(&mut sum, content)
        .expect("parsed JSON serialises, and a hasher accepts every byte");
    sum.digits()
}

/// The hash of a medium's bytes: SHA-256 in lower-case hexadecimal.
pub(super) fn of_bytes(bytes: &[u8]) -> String {
    hexadecimal(&Sha256::digest(bytes))
}

/// The media type and bytes of a base64 `data:` URL; `None` for other URLs.
pub(super) fn data_url(url: &str) -> Option<(String, Vec<u8>)> {
    let (head, data) = url.strip_prefix("data:")?.split_once(',')?;
    let media_type = head.strip_suffix(";base64")?;
    Some((media_type.to_string(), STANDARD.decode(data).ok()?))
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}"); // writing to a String cannot fail
        text
    })
}

struct IdHasher(Sha256);

impl IdHasher {
    fn of(source: &str) -> IdHasher {
        let mut sum = Sha256::new();
        sum.update(source);
        sum.update([0]);
        IdHasher(sum)
    }

    fn digits(self) -> String {
        hexadecimal(&self.0.finalize()[..DIGITS / 2])
    }
}

impl io::Write for IdHasher {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Whether this is an id in the form that [`Record`](crate::chat::record::Record) uses.
pub(super) fn is_id(text: &str) -> bool {
    (12..=64).contains(&text.len()) && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_follow_from_what_is_imported() {
        assert_eq!(of_name("chatgpt", "a"), of_name("chatgpt", "a"));
        assert_ne!(of_name("chatgpt", "a"), of_name("openai", "a"));
        assert!(is_id(&of_content("openai", &serde_json::json!([1]))));
        assert!(!is_id("0123") && !is_id("0123456789AB") && is_id("0123456789ab"));
    }
}
