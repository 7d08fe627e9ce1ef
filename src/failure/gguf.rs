//! Refused model files → remedies.

use std::io;
use std::path::Path;

use crate::gguf::{Foreign, Refusal, joining};

/// The remedy for a damaged file.
pub const FETCH_AGAIN: &str = "fetch the file again; if that does not help, the file itself is faulty";

/// A remedy for the user, without a full stop; `None` if there is none.
pub fn remedy(refusal: &Refusal) -> Option<String> {
    let text = match refusal {
        Refusal::Io(e) if e.kind() == io::ErrorKind::PermissionDenied => {
            "check the permissions of the file (ls -l)"
        }
        Refusal::Directory => "name the .gguf file inside it",
        Refusal::Empty | Refusal::Short { .. } | Refusal::Truncated { .. } => {
            "the download was probably cut short: fetch the file again"
        }
        Refusal::Malformed(_) => FETCH_AGAIN,
        Refusal::Foreign(foreign) => return of_foreign(*foreign).map(str::to_owned),
        Refusal::BigEndian => {
            "get the little-endian file, or convert it with llama.cpp's gguf_convert_endian.py"
        }
        Refusal::Version(1) => "the file is from 2023: get a newer conversion of the model",
        Refusal::Version(_) => "the file may be newer than this program",
        Refusal::NotChat(_) => "choose the file that holds the language model itself",
        Refusal::Architecture(_) => {
            "the model may be newer than this program: update it, or take another model"
        }
        Refusal::Split { .. } => {
            "put all parts into one folder under their original names and open the first"
        }
        _ => return None,
    };
    Some(text.to_owned())
}

fn of_foreign(foreign: Foreign) -> Option<&'static str> {
    Some(match foreign {
        Foreign::LfsPointer => "run 'git lfs pull' there, or download the file itself",
        Foreign::Html => "the download saved an error or login page: fetch the file itself",
        Foreign::Safetensors => {
            "get a GGUF version of the model, or convert its folder: with fireside convert (GPT-J, \
             GPT-Neo), the others with convert_hf_to_gguf.py of llama.cpp"
        }
        Foreign::Zip | Foreign::Pickle => {
            "get a GGUF version of the model, or convert it with convert_hf_to_gguf.py of llama.cpp"
        }
        Foreign::OldGgml => "get a GGUF version of the model: llama.cpp has not read this format since 2023",
        Foreign::Gzip => "unpack it first (gunzip)",
        Foreign::Json | Foreign::Text | Foreign::Unknown(_) => return None,
    })
}

/// How to join the pieces of a file; `None` if `path` is not a piece.
pub fn joined(path: &Path) -> Option<String> {
    joining(path).map(|command| format!("this is a piece of a file; in its folder, join them: {command}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_name_a_remedy() {
        assert_eq!(remedy(&Refusal::Io(io::Error::from(io::ErrorKind::NotFound))), None);
        let lfs = Refusal::Foreign(Foreign::LfsPointer);
        assert!(remedy(&lfs).is_some_and(|hint| hint.contains("git lfs pull")));
    }
}
