//! Errors of schemas, grammars and regular expressions → failures with remedies.

use super::{Failure, usage, worded};
use crate::engine::constraint::Error;

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        let hint = match error {
            Error::NotJson(_) => {
                "--json-schema takes JSON, or the path of a file with JSON; --schema takes fields"
            }
            Error::Schema { .. } => "docs/scripting.md lists what schemas may contain",
            Error::Grammar { .. } => "docs/scripting.md says what grammars may contain",
            Error::Regex(_) => {
                "regular expressions have Rust's syntax: https://docs.rs/regex/latest/regex/#syntax"
            }
            Error::Complex { .. } => "shorter limits on lengths and counts make it simpler",
            Error::Unwritable { .. } => return worded(&error, Some("use another model".into())),
            Error::Begun { .. } => {
                return worded(
                    &error,
                    Some("/begin changes its beginning, /retry gets another answer".into()),
                );
            }
        };
        usage(&error).hint(hint)
    }
}
