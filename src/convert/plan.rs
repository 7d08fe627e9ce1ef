//! A config → the tensors of the GGUF file with their sources, and the metadata about the model's shape.
//!
//! llama.cpp has no graph for GPT-J and GPT-Neo, but two that compute the same with rearranged weights:
//!
//! - GPT-J is `phi2` with q and k rearranged. GPT-J rotates the adjacent numbers 2i and 2i+1 of a head, phi2
//!   the numbers i and i + half of the rotated ones. Permuting the rows of q and k in the same way leaves
//!   their products unchanged.
//! - GPT-Neo is `gpt2` with q scaled: unlike gpt2, it does not divide by the square root of the head's
//!   length. Its local layers have an attention window, which gpt2 lacks, so the file's context ends where
//!   the two begin to differ.

use super::config::{CheckpointConfig, Family};
use crate::gguf::write::Metadata;

/// One tensor of the file.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Planned {
    pub name: String,
    /// The contiguous dimension first, as in GGUF.
    pub dims: Vec<u64>,
    /// Its parts in order, by rows.
    pub parts: Vec<TensorPart>,
}

/// A part of a tensor.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum TensorPart {
    Zeros(u64),
    StoredTensor {
        /// Without the prefix of some checkpoints.
        name: String,
        /// The contiguous dimension last, as in safetensors.
        shape: Vec<u64>,
        change: TensorChange,
    },
}

/// The change to a stored tensor.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum TensorChange {
    None,
    /// Keep only this many rows.
    First(u64),
    Scaled(f64),
    /// In every `head` rows, move the even rows among the first `rotated` before the odd ones.
    Halved {
        head: u64,
        rotated: u64,
    },
}

impl Planned {
    /// Whether the tensor keeps its precision: vectors and the position table do.
    pub(super) fn precise(&self) -> bool {
        self.dims.len() == 1 || self.name == "position_embd.weight"
    }
}

/// The longest context in which the file computes the same as the model.
pub(super) fn context(config: &CheckpointConfig) -> u64 {
    match config.family {
        Family::GptNeo { window: Some(window) } => config.positions.min(window),
        _ => config.positions,
    }
}

/// Why the context is shorter than in training, if it is.
pub(super) fn reason(config: &CheckpointConfig) -> Option<String> {
    let context = context(config);
    (context < config.positions).then(|| {
        format!(
            "half of its layers look back {context} tokens only, which llama.cpp cannot compute for {}: up to there the \
             answers are exact, and there the context ends (it was trained for {} tokens)",
            config.family.name(),
            config.positions
        )
    })
}

/// The metadata about the model's shape.
pub(super) fn metadata(config: &CheckpointConfig) -> Metadata {
    let arch = match config.family {
        Family::GptJ { .. } => "phi2",
        Family::GptNeo { .. } => "gpt2",
    };
    let numbers = [
        ("context_length", context(config)),
        ("embedding_length", config.width),
        ("feed_forward_length", config.hidden),
        ("block_count", config.layers),
        ("attention.head_count", config.heads),
        ("attention.head_count_kv", config.heads),
    ];
    let rotated = match config.family {
        Family::GptJ { rotated } => Some(("rope.dimension_count", rotated)),
        Family::GptNeo { .. } => None,
    };
    let begun = Metadata::default().text("general.architecture", arch);
    let sized = numbers
        .iter()
        .chain(&rotated)
        .fold(begun, |metadata, (key, number)| metadata.u32(&format!("{arch}.{key}"), *number as u32));
    sized.f32(&format!("{arch}.attention.layer_norm_epsilon"), config.epsilon as f32)
}

/// Every tensor of the file, in its order.
pub(super) fn tensors(config: &CheckpointConfig) -> Vec<Planned> {
    let CheckpointConfig { width, vocabulary, .. } = *config;
    let mut tensors = vec![matrix("token_embd.weight", "wte.weight", width, vocabulary)];
    if let Family::GptNeo { .. } = config.family {
        let first = TensorChange::First(context(config));
        tensors.push(Planned {
            name: "position_embd.weight".into(),
            dims: vec![width, context(config)],
            parts: vec![stored("wpe.weight", &[config.positions, width], first)],
        });
    }
    for layer in 0..config.layers {
        tensors.extend(match config.family {
            Family::GptJ { rotated } => gptj_layer(config, layer, rotated),
            Family::GptNeo { .. } => gpt_neo_layer(config, layer),
        });
    }
    tensors.extend(norm("output_norm", "ln_f", width));
    let table = if config.tied { "wte.weight" } else { "lm_head.weight" };
    match config.family {
        Family::GptJ { .. } => tensors.extend([
            matrix("output.weight", table, width, vocabulary),
            vector("output.bias", "lm_head.bias", vocabulary),
        ]),
        Family::GptNeo { .. } if !config.tied => {
            tensors.push(matrix("output.weight", table, width, vocabulary))
        }
        Family::GptNeo { .. } => {} // llama.cpp uses the embedding table for the output as well
    }
    tensors
}

fn gptj_layer(config: &CheckpointConfig, layer: u64, rotated: u64) -> Vec<Planned> {
    let CheckpointConfig { width, hidden, .. } = *config;
    let (block, from) = (format!("blk.{layer}"), format!("h.{layer}"));
    let halved = TensorChange::Halved { head: config.head(), rotated };
    let attention = |name: &str, stored_as: &str, change| Planned {
        name: format!("{block}.{name}.weight"),
        dims: vec![width, width],
        parts: vec![stored(&format!("{from}.attn.{stored_as}.weight"), &[width, width], change)],
    };
    let mut tensors = norm(&format!("{block}.attn_norm"), &format!("{from}.ln_1"), width).to_vec();
    tensors.extend([
        attention("attn_q", "q_proj", halved),
        attention("attn_k", "k_proj", halved),
        attention("attn_v", "v_proj", TensorChange::None),
        attention("attn_output", "out_proj", TensorChange::None),
        zeros(&format!("{block}.attn_output.bias"), width), // phi2 requires one
    ]);
    tensors.extend(linear(&format!("{block}.ffn_up"), &format!("{from}.mlp.fc_in"), width, hidden));
    tensors.extend(linear(&format!("{block}.ffn_down"), &format!("{from}.mlp.fc_out"), hidden, width));
    tensors
}

fn gpt_neo_layer(config: &CheckpointConfig, layer: u64) -> Vec<Planned> {
    let CheckpointConfig { width, hidden, .. } = *config;
    let (block, from) = (format!("blk.{layer}"), format!("h.{layer}"));
    let attention = format!("{from}.attn.attention");
    let part = |name: &str, change| stored(&format!("{attention}.{name}.weight"), &[width, width], change);
    let mut tensors = norm(&format!("{block}.attn_norm"), &format!("{from}.ln_1"), width).to_vec();
    tensors.extend([
        Planned {
            name: format!("{block}.attn_qkv.weight"),
            dims: vec![width, 3 * width],
            parts: vec![
                part("q_proj", TensorChange::Scaled((config.head() as f64).sqrt())),
                part("k_proj", TensorChange::None),
                part("v_proj", TensorChange::None),
            ],
        },
        zeros(&format!("{block}.attn_qkv.bias"), 3 * width), // gpt2 requires one
    ]);
    tensors.extend(linear(&format!("{block}.attn_output"), &format!("{attention}.out_proj"), width, width));
    tensors.extend(norm(&format!("{block}.ffn_norm"), &format!("{from}.ln_2"), width));
    tensors.extend(linear(&format!("{block}.ffn_up"), &format!("{from}.mlp.c_fc"), width, hidden));
    tensors.extend(linear(&format!("{block}.ffn_down"), &format!("{from}.mlp.c_proj"), hidden, width));
    tensors
}

/// Whether a stored tensor can be ignored: masks, which are computed, and a second copy of a shared table.
pub(super) fn ignorable(config: &CheckpointConfig, name: &str) -> bool {
    let mask = [".attn.bias", ".attn.masked_bias", ".attention.bias", ".attention.masked_bias"];
    mask.iter().any(|end| name.ends_with(end)) || config.tied && name == "lm_head.weight"
}

fn stored(name: &str, shape: &[u64], change: TensorChange) -> TensorPart {
    TensorPart::StoredTensor { name: name.into(), shape: shape.into(), change }
}

fn matrix(name: &str, from: &str, inputs: u64, outputs: u64) -> Planned {
    let parts = vec![stored(from, &[outputs, inputs], TensorChange::None)];
    Planned { name: name.into(), dims: vec![inputs, outputs], parts }
}

fn vector(name: &str, from: &str, size: u64) -> Planned {
    Planned { name: name.into(), dims: vec![size], parts: vec![stored(from, &[size], TensorChange::None)] }
}

fn zeros(name: &str, size: u64) -> Planned {
    Planned { name: name.into(), dims: vec![size], parts: vec![TensorPart::Zeros(size)] }
}

fn linear(name: &str, from: &str, inputs: u64, outputs: u64) -> [Planned; 2] {
    [
        matrix(&format!("{name}.weight"), &format!("{from}.weight"), inputs, outputs),
        vector(&format!("{name}.bias"), &format!("{from}.bias"), outputs),
    ]
}

fn norm(name: &str, from: &str, width: u64) -> [Planned; 2] {
    ["weight", "bias"].map(|kind| vector(&format!("{name}.{kind}"), &format!("{from}.{kind}"), width))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(family: Family, tied: bool) -> CheckpointConfig {
        CheckpointConfig {
            family,
            width: 8,
            layers: 2,
            heads: 2,
            hidden: 32,
            positions: 64,
            vocabulary: 10,
            epsilon: 1e-5,
            bos: None,
            eos: None,
            tied,
        }
    }

    fn stored_names(tensors: &[Planned]) -> Vec<&str> {
        let parts = tensors.iter().flat_map(|tensor| &tensor.parts);
        let names = parts.filter_map(|part| match part {
            TensorPart::StoredTensor { name, .. } => Some(name.as_str()),
            TensorPart::Zeros(_) => None,
        });
        names.collect()
    }

    #[test]
    fn parts_fill_their_tensor() {
        for config in [
            config(Family::GptJ { rotated: 2 }, false),
            config(Family::GptNeo { window: Some(16) }, true),
            config(Family::GptNeo { window: None }, false),
        ] {
            for tensor in tensors(&config) {
                let sizes = tensor.parts.iter().map(|part| match part {
                    TensorPart::Zeros(count) => *count,
                    TensorPart::StoredTensor { shape, change: TensorChange::First(rows), .. } => {
                        rows * shape[1]
                    }
                    TensorPart::StoredTensor { shape, .. } => shape.iter().product(),
                });
                assert_eq!(sizes.sum::<u64>(), tensor.dims.iter().product::<u64>(), "{}", tensor.name);
            }
        }
    }

    #[test]
    fn gptj_is_arranged_for_phi2() {
        let config = config(Family::GptJ { rotated: 2 }, false);
        let tensors = tensors(&config);
        assert_eq!(tensors.len(), 1 + 2 * 11 + 4);
        let find = |name: &str| tensors.iter().find(|t| t.name == name).unwrap();
        let halved = stored("h.1.attn.k_proj.weight", &[8, 8], TensorChange::Halved { head: 4, rotated: 2 });
        assert_eq!(find("blk.1.attn_k.weight").parts, [halved]);
        assert_eq!(find("blk.0.ffn_up.weight").dims, [8, 32]);
        assert_eq!(find("output.weight").parts, [stored("lm_head.weight", &[10, 8], TensorChange::None)]);
        assert_eq!(stored_names(&tensors).len(), tensors.len() - 2);
    }

    #[test]
    fn gpt_neo_ends_where_its_window_does() {
        let local = config(Family::GptNeo { window: Some(16) }, true);
        assert_eq!((context(&local), reason(&local).is_some()), (16, true));
        let global = config(Family::GptNeo { window: None }, true);
        assert_eq!((context(&global), reason(&global)), (64, None));
        let wide = config(Family::GptNeo { window: Some(256) }, true);
        assert_eq!((context(&wide), reason(&wide)), (64, None));
        let tensors = tensors(&local);
        assert_eq!(tensors[1].dims, [8, 16]);
        assert!(!stored_names(&tensors).contains(&"lm_head.weight"));
        let query = stored("h.0.attn.attention.q_proj.weight", &[8, 8], TensorChange::Scaled(2.0));
        let qkv = tensors.iter().find(|t| t.name == "blk.0.attn_qkv.weight").unwrap();
        assert_eq!(qkv.parts[0], query);
    }

    #[test]
    fn masks_are_no_weights() {
        let config = config(Family::GptNeo { window: None }, true);
        assert!(ignorable(&config, "h.0.attn.attention.bias") && ignorable(&config, "lm_head.weight"));
        assert!(!ignorable(&config, "h.0.attn.attention.out_proj.bias"));
    }
}
