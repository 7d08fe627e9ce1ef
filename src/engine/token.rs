//! Token ids and vocabularies, independent of llama.cpp.

/// A token id: an index into the vocabulary.
pub type Token = i32;

/// The facts about a loaded model's vocabulary.
#[derive(Debug, Clone, Default)]
pub struct Vocabulary {
    pub len: usize,
    /// Starts every text, if the model asks for it.
    pub bos: Option<Token>,
    pub add_bos: bool,
    pub bos_text: String,
    pub eos_text: String,
    /// Texts that the tokenizer turns into a single token.
    pub markers: Vec<Marker>,
    /// Whether the tokenizer prepends a space to a text (SentencePiece).
    pub space_prefix: bool,
}

/// A text that the tokenizer may turn into one special token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Marker {
    pub token: Token,
    pub text: String,
    /// CONTROL or UNKNOWN; otherwise USER_DEFINED, which llama.cpp recognises in any text.
    pub control: bool,
    /// UNKNOWN: the placeholder for text that the vocabulary cannot encode.
    pub unknown: bool,
    /// Whether it strips white space before it.
    pub takes_space: bool,
}
