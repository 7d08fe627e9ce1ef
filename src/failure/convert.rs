//! Conversion errors → failures with remedies.

use super::{Failure, worded};
use crate::convert::Error;

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        let hint = match &error {
            Error::Interrupted => return Failure::interrupted(),
            Error::CutShort { .. } => "the download was probably cut short: fetch the file again",
            Error::Architecture { elsewhere: true, .. } => {
                "llama.cpp's own converter does: run convert_hf_to_gguf.py, or get the model as GGUF \
                 with fireside pull"
            }
            Error::Architecture { elsewhere: false, .. } => {
                "fireside converts gptj and gpt_neo; for others, try llama.cpp's convert_hf_to_gguf.py"
            }
            Error::Pickle(_) => {
                "get it as safetensors; or in Python, if you trust it: \
                 from_pretrained(DIR).save_pretrained(NEW)"
            }
            Error::TooLarge { .. } => "use --type bf16, which has the range of f32",
            Error::Unsuitable(_) | Error::Read { .. } | Error::Write(_) => return worded(&error, None),
        };
        worded(&error, Some(hint.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_families_are_pointed_to_where_they_are_converted() {
        let hint =
            |elsewhere| Failure::from(Error::Architecture { name: "x".into(), elsewhere }).hint.unwrap();
        assert!(hint(true).contains("own converter does"));
        assert!(hint(false).contains("gptj and gpt_neo"));
    }
}
