//! The reason why a file cannot be used as a model → one line for the user.
//!
//! The line completes "could not use model 'x': …" and never repeats the path. Also recognises other formats
//! by their first bytes. `parse.rs` finds faults of the format, `check.rs` faults of the metadata.

use std::{fmt, io};

use crate::units;

/// A file that must not be given to llama.cpp, with the reason.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The operating system refused to open or read the file.
    #[error("{}", io_message(.0))]
    Io(#[source] io::Error),
    #[error("it is a folder, not a model file")]
    Directory,
    #[error("it is not a regular file")]
    Special,
    #[error("the file is empty")]
    Empty,
    /// Fewer than 24 bytes, the fixed part of a GGUF header.
    #[error("the file has only {}, too few for a GGUF file", units::count(*bytes, "byte"))]
    Short { bytes: u64 },
    #[error("it is not a GGUF file but {0}")]
    Foreign(Foreign),
    #[error("it is a GGUF file for big-endian machines; this one is little-endian")]
    BigEndian,
    #[error("it is a GGUF file of version {0}; llama.cpp reads versions 2 and 3")]
    Version(u32),
    /// The file is shorter than its header announces.
    #[error("the file ends too early: it has {}, but {place} ends at byte {needed}", units::count(*file_size, "byte"))]
    Truncated { place: String, needed: u64, file_size: u64 },
    /// The header breaks the format.
    #[error("the GGUF header is damaged: {0}")]
    Malformed(String),
    /// A valid GGUF file that does not contain a language model.
    #[error("it is {0}, not a chat model")]
    NotChat(String),
    /// An architecture that llama.cpp cannot run, by name.
    #[error("llama.cpp, as built into this program, does not know the architecture '{0}'")]
    Architecture(String),
    /// Inconsistent metadata; llama.cpp would abort on it.
    #[error("the model's metadata is not usable: {0}")]
    Inconsistent(String),
    /// One part of a model stored in several files, and the fault of the set.
    #[error("the model is stored in {}, and {problem}", units::count(*count, "file"))]
    Split { count: u64, problem: String },
}

/// An error for inconsistent metadata.
pub(super) fn broken<T>(problem: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal::Inconsistent(problem.into()))
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Refusal {
        Refusal::Io(error)
    }
}

fn io_message(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "no such file".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => error.to_string(),
    }
}

/// The format of a file that is not GGUF.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Foreign {
    LfsPointer,
    Html,
    /// A zip archive, as PyTorch has written since 1.6.
    Zip,
    /// A bare Python pickle, as PyTorch wrote before.
    Pickle,
    Safetensors,
    /// llama.cpp's formats before GGUF (2023): `ggml`, `ggmf`, `ggjt`, and the LoRA format `ggla`.
    OldGgml,
    Gzip,
    Json,
    Text,
    /// An unknown format, by its first four bytes.
    Unknown([u8; 4]),
}

impl Foreign {
    /// Recognises a format by the first bytes of a file, 512 if there are that many.
    pub(super) fn recognise(head: &[u8]) -> Foreign {
        let magic = [0, 1, 2, 3].map(|i| head.get(i).copied().unwrap_or(0));
        let starts = |prefix: &[u8]| head.starts_with(prefix);
        if starts(b"version https://git-lfs") {
            return Foreign::LfsPointer;
        }
        match &magic {
            b"PK\x03\x04" | b"PK\x05\x06" => return Foreign::Zip,
            // Written as little-endian integers, so the letters are reversed in the file.
            b"lmgg" | b"fmgg" | b"tjgg" | b"algg" => return Foreign::OldGgml,
            [0x1f, 0x8b, ..] => return Foreign::Gzip,
            [0x80, 2..=5, ..] => return Foreign::Pickle,
            _ => {}
        }
        // safetensors: the length of a JSON object in 8 bytes, then the object.
        if head.get(8) == Some(&b'{') && head[5..8] == [0, 0, 0] {
            return Foreign::Safetensors;
        }
        Foreign::of_text(head).unwrap_or(Foreign::Unknown(magic))
    }

    fn of_text(head: &[u8]) -> Option<Foreign> {
        let readable = |b: &u8| matches!(b, b'\t' | b'\n' | b'\r' | 0x20..=0x7e | 0x80..);
        // The last multi-byte character may be cut.
        let whole = match std::str::from_utf8(head) {
            Ok(text) => text,
            Err(e) if e.error_len().is_none() => std::str::from_utf8(&head[..e.valid_up_to()]).ok()?,
            Err(_) => return None,
        };
        if whole.is_empty() || !head.iter().all(readable) {
            return None;
        }
        let start = whole.trim_start_matches('\u{feff}').trim_start().to_ascii_lowercase();
        Some(if ["<!doctype", "<html", "<?xml", "<head"].iter().any(|tag| start.starts_with(tag)) {
            Foreign::Html
        } else if start.starts_with('{') || start.starts_with('[') {
            Foreign::Json
        } else {
            Foreign::Text
        })
    }
}

impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Foreign::LfsPointer => "a Git LFS pointer, a small text file that stands for the real one",
            Foreign::Html => "a web page",
            Foreign::Zip => "a zip archive, perhaps a PyTorch checkpoint",
            Foreign::Pickle => "a Python pickle, perhaps a PyTorch checkpoint",
            Foreign::Safetensors => "a safetensors file",
            Foreign::OldGgml => "a file in a GGML format older than GGUF",
            Foreign::Gzip => "gzip-compressed data",
            Foreign::Json => "a JSON file",
            Foreign::Text => "a text file",
            Foreign::Unknown(magic) => {
                return write!(f, "something unknown (it begins with \"{}\")", magic.escape_ascii());
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_files_are_recognised() {
        let cases: [(&[u8], Foreign); 13] = [
            (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", Foreign::LfsPointer),
            (b"  <!DOCTYPE html><html>", Foreign::Html),
            (b"<html><body>404 Not Found</body>", Foreign::Html),
            (b"PK\x03\x04aaaaaaaaaaaaaaaaaaaaaaaa", Foreign::Zip),
            (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.", Foreign::Pickle),
            (b"\x40\x00\x00\x00\x00\x00\x00\x00{\"__metadata__\":{}}", Foreign::Safetensors),
            (b"tjgg\x03\x00\x00\x00", Foreign::OldGgml),
            (b"lmgg\x03\x00\x00\x00", Foreign::OldGgml),
            (b"\x1f\x8b\x08\x00", Foreign::Gzip),
            (b"{\"model_type\": \"llama\"}", Foreign::Json),
            ("Grüße, Welt".as_bytes(), Foreign::Text),
            (b"\x00\x01\x02\x03zzzz", Foreign::Unknown([0, 1, 2, 3])),
            (b"", Foreign::Unknown([0; 4])),
        ];
        for (head, expected) in cases {
            assert_eq!(Foreign::recognise(head), expected, "{}", head.escape_ascii());
        }
    }

    #[test]
    fn a_text_cut_inside_a_character_is_still_text() {
        assert_eq!(Foreign::recognise(&"aü".as_bytes()[..2]), Foreign::Text);
    }

    #[test]
    fn messages_are_one_line() {
        let missing = Refusal::Io(io::Error::from(io::ErrorKind::NotFound));
        assert_eq!(missing.to_string(), "no such file");
        let lfs = Refusal::Foreign(Foreign::LfsPointer);
        assert!(lfs.to_string().starts_with("it is not a GGUF file but a Git LFS pointer"));
        let cut = Refusal::Truncated { place: "tensor 'a'".into(), needed: 9, file_size: 5 };
        assert_eq!(cut.to_string(), "the file ends too early: it has 5 bytes, but tensor 'a' ends at byte 9");
    }
}
