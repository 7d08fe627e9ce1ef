//! The words after a command → flags, and a path as a shell would take it.

use std::path::{Path, PathBuf};

use crate::files::expanded;

/// Takes flags from the beginning and the end of a command's words. Returns which are there, and the rest.
pub(super) fn flagged<'a, const N: usize>(words: &'a str, flags: [&str; N]) -> ([bool; N], &'a str) {
    let (mut given, mut rest) = ([false; N], words.trim());
    let place = |word: Option<&str>| flags.iter().position(|flag| Some(*flag) == word);
    loop {
        let first = place(rest.split_whitespace().next());
        let last = place(rest.split_whitespace().last());
        rest = match (first, last) {
            (Some(flag), _) => rest[flags[flag].len()..].trim_start(),
            (_, Some(flag)) => rest[..rest.len() - flags[flag].len()].trim_end(),
            _ => return (given, rest),
        };
        given[first.or(last).expect("one of them is a flag")] = true;
    }
}

/// `"two words"` → `two words`, as a shell does.
pub(super) fn unquoted(value: &str) -> &str {
    let inside = |quote: char| value.strip_prefix(quote).and_then(|v| v.strip_suffix(quote));
    inside('"').or_else(|| inside('\'')).unwrap_or(value)
}

/// A typed path → the path, without quotes and Tab's backslashes, and with `~` expanded.
pub(super) fn path(typed: &str) -> PathBuf {
    let mut plain = String::new();
    let mut escaped = false;
    for c in unquoted(typed).chars() {
        escaped = c == '\\' && !escaped;
        if !escaped {
            plain.push(c);
        }
    }
    expanded(Path::new(&plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_stand_at_either_end() {
        let words = |words| flagged(words, ["--force", "--code"]);
        assert_eq!(words("--force a b"), ([true, false], "a b"));
        assert_eq!(words("a --code --force"), ([true, true], "a"));
        assert_eq!(words(" --code a --force"), ([true, true], "a"));
        assert_eq!(words("a --force b"), ([false, false], "a --force b"));
        assert_eq!(words("--forceful"), ([false, false], "--forceful"));
        assert_eq!(words("--force"), ([true, false], ""));
    }
}
