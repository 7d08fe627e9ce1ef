//! A header → `Ok`, or what is wrong with its vocabulary: the last check of `check.rs`.

use std::collections::HashSet;

use super::{Array, Header, Refusal, Value, refusal::broken};
use crate::units::count;

/// Values of `tokenizer.ggml.model`; the last group uses merges.
const TOKENIZERS: [&str; 5] = ["llama", "bert", "t5", "rwkv", "plamo2"];
const MERGING_TOKENIZERS: [&str; 4] = ["gpt2", "hybriddna", "whitespace", "gemma4"];

/// Refuses a vocabulary that llama.cpp would abort on or not load.
pub(super) fn check(header: &Header) -> Result<(), Refusal> {
    let Some(model) = header.str("tokenizer.ggml.model") else {
        return broken("it has no tokenizer (tokenizer.ggml.model)");
    };
    if matches!(model, "none" | "no_vocab") {
        return broken("it has no vocabulary");
    }
    let merging = MERGING_TOKENIZERS.contains(&model);
    if !merging && !TOKENIZERS.contains(&model) {
        return broken(format!("its tokenizer '{model}' is unknown"));
    }
    let Some(tokens) = header.array("tokenizer.ggml.tokens").filter(|tokens| !tokens.is_empty()) else {
        return broken("it has no tokens (tokenizer.ggml.tokens)");
    };
    one_per_token(header, "tokenizer.ggml.scores", tokens.len(), &["float32", "int32"])?;
    one_per_token(header, "tokenizer.ggml.token_type", tokens.len(), &["int32"])?;
    // Kimi K2's token ids are the ranks.
    let needs_merges = merging && header.str("tokenizer.ggml.pre") != Some("kimi-k2");
    if needs_merges && header.strings("tokenizer.ggml.merges").is_none() {
        return broken("its tokenizer lacks the merges (tokenizer.ggml.merges)");
    }
    distinct(tokens)?;
    if model == "rwkv" {
        ends(tokens)?;
    }
    bytes(header, model, tokens)?;
    embeddings(header, tokens.len())
}

/// Byte tokens are named after their byte, `<0x0A>`. llama.cpp parses the name from the fourth character on,
/// and for PLaMo-2 requires a token for each byte.
fn bytes(header: &Header, model: &str, tokens: Array) -> Result<(), Refusal> {
    const BYTE: u64 = 6;
    let types = header.array("tokenizer.ggml.token_type");
    let types = types.iter().flat_map(|types| types.iter());
    let texts = tokens.strings().into_iter().flatten();
    let mut named = [false; 256];
    for (_, text) in types.zip(texts).filter(|(kind, _)| kind.uint() == Some(BYTE)) {
        let digits = text.strip_prefix(b"<0x").and_then(|text| text.strip_suffix(b">"));
        let digits = digits.filter(|digits| digits.len() == 2 && digits.iter().all(u8::is_ascii_hexdigit));
        let byte = digits.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
        match byte {
            Some(byte) => named[usize::from(byte)] = true,
            None if model != "plamo2" && text.len() >= 3 => {}
            None => {
                return broken(format!("the token \"{}\" names no byte, as it should", text.escape_ascii()));
            }
        }
    }
    match named.iter().position(|named| !named).filter(|_| model == "plamo2") {
        Some(byte) => broken(format!("its tokenizer has no token for the byte 0x{byte:02X}")),
        None => Ok(()),
    }
}

/// The embedding table must have a row for every token.
fn embeddings(header: &Header, tokens: usize) -> Result<(), Refusal> {
    match header.tensor("token_embd.weight").map(|tensor| &tensor.dims[..]) {
        Some([_, rows]) if *rows != tokens as u64 => broken(format!(
            "there are {}, but token_embd.weight has {}",
            count(tokens, "token"),
            count(*rows, "row")
        )),
        _ => Ok(()),
    }
}

/// An optional array with an element per token; it may have more, but not fewer.
fn one_per_token(header: &Header, key: &str, tokens: usize, elements: &[&str]) -> Result<(), Refusal> {
    match header.get(key) {
        None => Ok(()),
        Some(Value::Array(array)) if !elements.contains(&array.element_name()) => {
            broken(format!("{key} holds {}, not {}", array.element_name(), elements[0]))
        }
        Some(Value::Array(array)) if array.len() < tokens => {
            broken(format!("{key} has {} for {}", count(array.len(), "entry"), count(tokens, "token")))
        }
        Some(Value::Array(_)) => Ok(()),
        Some(_) => broken(format!("{key} is not an array")),
    }
}

/// llama.cpp asserts that tokens are distinct. It reads them as C strings, which end at a zero byte, and
/// gives unique names to empty ones.
fn distinct(tokens: Array) -> Result<(), Refusal> {
    let Some(texts) = tokens.strings() else {
        return broken("tokenizer.ggml.tokens does not hold text");
    };
    let mut seen: HashSet<&[u8]> = HashSet::with_capacity(tokens.len());
    let mut empty = Vec::new();
    for (id, text) in texts.enumerate() {
        let end = text.iter().position(|byte| *byte == 0).unwrap_or(text.len());
        if end == 0 {
            empty.push(format!("[EMPTY_{id}]"));
        } else if !seen.insert(&text[..end]) {
            return broken(format!("the token \"{}\" appears twice", text.escape_ascii()));
        }
    }
    match empty.iter().find(|name| seen.contains(name.as_bytes())) {
        Some(name) => broken(format!("the token \"{name}\" has the name that llama.cpp gives to empty ones")),
        None => Ok(()),
    }
}

/// RWKV's tokenizer searches for the longest token at each place. llama.cpp loops forever if tokens begin
/// with the byte there but none matches the text; a token of that byte alone prevents this.
fn ends(tokens: Array) -> Result<(), Refusal> {
    let (mut begins, mut alone) = ([false; 256], [false; 256]);
    for token in tokens.strings().into_iter().flatten().map(unescaped) {
        if let Some(first) = token.first() {
            begins[usize::from(*first)] = true;
            alone[usize::from(*first)] |= token.len() == 1;
        }
    }
    match (0..256).find(|byte| begins[*byte] && !alone[*byte]) {
        Some(byte) => broken(format!("its tokenizer is RWKV's, but no token is the byte {byte:#04x} alone")),
        None => Ok(()),
    }
}

/// Unescapes a token of RWKV's vocabulary: `\n`, `\t`, `\r`, `\x41`, and a backslash before any other
/// character.
fn unescaped(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.iter().copied();
    while let Some(byte) = rest.next() {
        let escaped = if byte == b'\\' { rest.next() } else { None };
        bytes.push(match escaped {
            None => byte,
            Some(b't') => b'\t',
            Some(b'n') => b'\n',
            Some(b'r') => b'\r',
            Some(b'x') => {
                let mut digit =
                    || rest.next().and_then(|digit| char::from(digit).to_digit(16)).unwrap_or(0) as u8;
                digit() << 4 | digit()
            }
            Some(other) => other,
        });
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::{
        super::{parse, sample::Sample},
        *,
    };

    fn header(sample: &Sample) -> Header {
        let bytes = sample.bytes();
        parse::parse(&bytes[..], bytes.len() as u64).expect("well-formed")
    }

    fn refusal(sample: &Sample) -> String {
        check(&header(sample)).expect_err("the sample must be refused").to_string()
    }

    fn with(extra: impl FnOnce(Sample) -> Sample) -> Sample {
        extra(
            Sample::default()
                .text("tokenizer.ggml.model", "llama")
                .texts("tokenizer.ggml.tokens", &["a", "b"]),
        )
    }

    #[test]
    fn vocabularies_that_fail() {
        let tok = |model| Sample::default().text("tokenizer.ggml.model", model);
        assert!(refusal(&Sample::default()).contains("no tokenizer"));
        assert!(refusal(&tok("none")).contains("no vocabulary"));
        assert!(refusal(&tok("magic")).contains("'magic'"));
        assert!(refusal(&tok("llama")).contains("no tokens"));
        assert!(refusal(&tok("llama").i32s("tokenizer.ggml.tokens", &[1])).contains("hold text"));
        assert!(refusal(&tok("gpt2").texts("tokenizer.ggml.tokens", &["a"])).contains("merges"));
        assert!(refusal(&tok("llama").texts("tokenizer.ggml.tokens", &["a", "a"])).contains("appears twice"));
        assert!(
            refusal(&tok("llama").texts("tokenizer.ggml.tokens", &["a\0b", "a\0c"]))
                .contains("appears twice")
        );
        assert!(refusal(&with(|s| s.f32s("tokenizer.ggml.scores", &[0.0]))).contains("1 entry for 2"));
        assert!(
            refusal(&with(|s| s.f32s("tokenizer.ggml.token_type", &[0.0; 2]))).contains("float32, not int32")
        );
        assert!(refusal(&with(|s| s.u32("tokenizer.ggml.token_type", 1))).contains("not an array"));
        check(&header(&tok("llama").texts("tokenizer.ggml.tokens", &["", "\0", "a"])))
            .expect("empty tokens are renamed");
        let rwkv = |tokens: &[&str]| tok("rwkv").texts("tokenizer.ggml.tokens", tokens);
        assert!(refusal(&rwkv(&["a", "bc", "b\\n"])).contains("no token is the byte 0x62 alone"));
        check(&header(&rwkv(&["\\x61", "ab", "\\n", "\\n\\n", "\\\\"])))
            .expect("every token's first byte is one");
        let named = tok("llama").texts("tokenizer.ggml.tokens", &["a", "", "[EMPTY_1]"]);
        assert!(refusal(&named).contains("[EMPTY_1]"));
        assert!(refusal(&with(|s| s.tensor("token_embd.weight", &[8, 3]))).contains("has 3 rows"));
    }
}
