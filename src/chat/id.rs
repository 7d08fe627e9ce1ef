//! Message ids: 64 random bits, written as 16 lower-case hexadecimal digits. They never change.

use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};

use serde::{Deserialize, Serialize};

/// The id of a message in memory, the database and exports. Unique within a conversation; a fork has messages
/// with the same ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct MessageId(u64);

/// A random id.
pub fn random() -> u64 {
    RandomState::new().build_hasher().finish() // keyed by the system's randomness
}

impl MessageId {
    pub fn fresh() -> MessageId {
        MessageId(random())
    }

    /// The id of an imported message without one: the same names always give the same id (FNV-1a).
    pub fn derived<'a>(names: impl IntoIterator<Item = &'a str>) -> MessageId {
        let bytes = names.into_iter().flat_map(|name| name.bytes().chain([0]));
        MessageId(
            bytes.fold(0xcbf29ce484222325, |sum, byte| (sum ^ u64::from(byte)).wrapping_mul(0x100000001b3)),
        )
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl From<MessageId> for String {
    fn from(id: MessageId) -> String {
        id.to_string()
    }
}

/// Parses an id. An id in another form, from another program, becomes an id derived from it.
impl From<&str> for MessageId {
    fn from(text: &str) -> MessageId {
        let digits = text.len() == 16 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let parsed = u64::from_str_radix(text, 16).ok().filter(|_| digits);
        parsed.map_or_else(|| MessageId::derived([text]), MessageId)
    }
}

impl From<String> for MessageId {
    fn from(text: String) -> MessageId {
        text.as_str().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_digits_and_come_back() {
        let id = MessageId::fresh();
        assert_eq!(MessageId::from(id.to_string()), id);
        assert_eq!(MessageId(10).to_string(), "000000000000000a");
        assert_ne!(MessageId::fresh(), id);
    }

    #[test]
    fn other_names_give_the_same_id_again() {
        for name in
            ["", "msg-1", "000000000000000A", "+00000000000000a", "550e8400-e29b-41d4-a716-446655440000"]
        {
            assert_eq!(MessageId::from(name), MessageId::derived([name]));
        }
        assert_ne!(MessageId::derived(["a", "bc"]), MessageId::derived(["ab", "c"]));
    }
}
