//! Facts about a loaded model: vocabulary, sliding window, position limit.

use std::ffi::CStr;

use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::token::LlamaToken;
use llama_cpp_2::token_type::LlamaTokenAttr;

use crate::engine::alphabet::Alphabet;
use crate::engine::token::{Marker, Vocabulary};

/// The unknown token that llama.cpp assumes for a WordPiece vocabulary if the file names none.
const BERT_UNKNOWN: i32 = 100;

/// The characters that a SentencePiece vocabulary can encode; `None` if it can encode all, or is of another
/// kind.
pub(super) fn alphabet(model: &LlamaModel) -> Option<Alphabet> {
    if model.meta_val_str("tokenizer.ggml.model").ok()? != "llama" {
        return None;
    }
    let vocab = model.vocab();
    let text = |id| vocab.text(LlamaToken(id)).map(CStr::to_bytes);
    Alphabet::of((0..vocab.n_tokens().max(0)).filter_map(text))
}

pub(super) fn sliding_window(model: &LlamaModel) -> Option<usize> {
    let arch = model.meta_val_str("general.architecture").ok()?;
    let window = model.meta_val_str(&format!("{arch}.attention.sliding_window")).ok()?;
    window.parse().ok().filter(|window| *window > 0)
}

/// The largest context for which a model with two sets of RoPE factors uses the first set.
pub(super) fn near_context(model: &LlamaModel) -> Option<usize> {
    let arch = model.meta_val_str("general.architecture").ok()?;
    let of_rope = |key: &str| model.meta_val_str(&format!("{arch}.rope.scaling.{key}")).ok();
    let one_set = of_rope("type").is_some_and(|kind| ["none", "linear", "yarn"].contains(&kind.as_str()));
    of_rope("original_context_length")?.parse().ok().filter(|_| !one_set)
}

pub(super) fn read_vocabulary(model: &LlamaModel) -> Vocabulary {
    let vocab = model.vocab();
    let len = vocab.n_tokens().max(0);
    let kind = model.meta_val_str("tokenizer.ggml.model").unwrap_or_default();
    let unknown = model.meta_val_str("tokenizer.ggml.unknown_token_id").ok().and_then(|id| id.parse().ok());
    let unknown: Option<i32> = unknown.or((kind == "bert").then_some(BERT_UNKNOWN));
    let mut markers = Vec::new();
    for id in 0..len {
        let attr = vocab.attr(LlamaToken(id));
        let unknown = attr.contains(LlamaTokenAttr::Unknown) || unknown == Some(id);
        let control = attr.contains(LlamaTokenAttr::Control) || unknown;
        if !control && !attr.contains(LlamaTokenAttr::UserDefined) {
            continue;
        }
        let text = vocab.text(LlamaToken(id)).map(|t| t.to_string_lossy().into_owned()).unwrap_or_default();
        let takes_space = attr.contains(LlamaTokenAttr::LStrip);
        markers.push(Marker { token: id, text, control, unknown, takes_space });
    }
    let text_of = |token: LlamaToken| {
        let text = (0..len).contains(&token.0).then(|| vocab.text(token)).flatten();
        text.map(|t| t.to_string_lossy().into_owned()).unwrap_or_default()
    };
    let space_prefix = model.meta_val_str("tokenizer.ggml.add_space_prefix").map(|v| v == "true");
    Vocabulary {
        len: len as usize,
        bos: (0..len).contains(&vocab.bos().0).then_some(vocab.bos().0),
        add_bos: vocab.should_add_bos(),
        bos_text: text_of(vocab.bos()),
        eos_text: text_of(vocab.eos()),
        markers,
        space_prefix: space_prefix.unwrap_or(kind == "llama"),
    }
}
