//! Splits a text into parts that SentencePiece tokenises the same separately as together.
//!
//! A character without a token is written as bytes and merges with neither neighbour. llama.cpp takes time
//! quadratic in the number of such characters (it reallocates for each), so a long text in a script that the
//! vocabulary does not cover takes minutes. In parts of a few hundred such characters it takes moments. A
//! part starts at such a character.

use std::collections::HashSet;
use std::ffi::CStr;

use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::token::LlamaToken;

use crate::engine::token::Token;

/// The number of characters without a token in a part.
const MOST: usize = 256;
/// The shortest text that may exceed it, in bytes.
pub(super) const LONG: usize = 2 * MOST;

/// The characters that occur in tokens.
pub(super) struct Letters(HashSet<char>);

impl Letters {
    /// `None` if the vocabulary is not SentencePiece.
    pub(super) fn of(model: &LlamaModel) -> Option<Letters> {
        if model.meta_val_str("tokenizer.ggml.model").ok()? != "llama" {
            return None;
        }
        let vocab = model.vocab();
        let text = |id| vocab.text(LlamaToken(id)).map(CStr::to_string_lossy);
        let mut letters: HashSet<char> = HashSet::from([' ']);
        for text in (0..vocab.n_tokens().max(0)).filter_map(text) {
            letters.extend(text.chars());
        }
        Some(Letters(letters))
    }

    /// The tokens of a text; `plain` tokenises each part. No part starts after one of the characters
    /// `not_after`.
    pub(super) fn tokens(
        &self,
        text: &str,
        not_after: &[char],
        plain: &dyn Fn(&str) -> Vec<Token>,
    ) -> Vec<Token> {
        let parts = self.parts(text, not_after);
        let mut tokens = plain(parts[0]);
        for part in &parts[1..] {
            // Any tokens before the bytes of its first character are those that start every text.
            let first = part.chars().next().map_or(0, char::len_utf8);
            let Some(begun) = plain(&part[..first]).len().checked_sub(first) else { return plain(text) };
            tokens.extend_from_slice(&plain(part)[begun..]);
        }
        tokens
    }

    /// Splits a text into parts; all but the first start with a character that has no token. None starts
    /// after white space or a character in `not_after`: llama.cpp starts afresh after a control token, and
    /// may strip white space there.
    fn parts<'t>(&self, text: &'t str, not_after: &[char]) -> Vec<&'t str> {
        let (mut parts, mut from, mut count) = (Vec::new(), 0, 0);
        let mut before = ' ';
        for (at, c) in text.char_indices() {
            let may_begin = !before.is_whitespace() && !not_after.contains(&before);
            before = c;
            if self.0.contains(&c) {
                continue;
            }
            count += 1;
            if count > MOST && may_begin {
                parts.push(&text[from..at]);
                (from, count) = (at, 1);
            }
        }
        parts.push(&text[from..]);
        parts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_begin_with_what_has_no_token() {
        let letters = Letters("abc ".chars().collect());
        let text = "abcก".repeat(MOST + 2) + "cc";
        let parts = letters.parts(&text, &[]);
        assert_eq!(parts.concat(), text);
        assert_eq!(parts.len(), 2);
        assert!(parts[1].starts_with('ก'));
        assert_eq!(letters.parts(&text, &['c']).len(), 1);
        assert_eq!(letters.parts(&text.replace('c', " "), &[]).len(), 1);
        assert_eq!(letters.parts("abc abc", &[]).len(), 1);
        assert_eq!(letters.parts("", &[]).concat(), "");
    }
}
