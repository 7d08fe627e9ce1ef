//! Tokens and vocabularies, without llama.cpp.

/// A token id: an index into the vocabulary.
pub type Token = i32;

/// What is known of a vocabulary once a model is loaded.
#[derive(Debug, Clone, Default)]
pub struct Vocabulary {
    pub len: usize,
    /// Begins every text, if the model wants that.
    pub bos: Option<Token>,
    pub add_bos: bool,
    pub bos_text: String,
    pub eos_text: String,
    /// Texts that become one token when control tokens are parsed: (text, always parsed even when they are not).
    pub markers: Vec<Marker>,
    /// Whether a text gets a space before it (SentencePiece).
    pub space_prefix: bool,
}

/// A text that the tokenizer may take for one special token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Marker {
    pub token: Token,
    pub text: String,
    /// CONTROL or UNKNOWN; otherwise USER_DEFINED, which llama.cpp parses in any text.
    pub control: bool,
    /// UNKNOWN: stands for what cannot be written.
    pub unknown: bool,
    /// Whether white space before it is dropped.
    pub takes_space: bool,
}
