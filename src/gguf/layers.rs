//! The headers of a model → the bytes of each layer: weights, experts, KV cache, recurrent state; the share of
//! the experts that one token uses; and what an evaluation needs besides.
//!
//! llama.cpp keeps the token embeddings in main memory and puts each layer, and the output, on one device
//! (`load_tensors` in its `llama-model.cpp`), with the layer's part of the KV cache. Sums are rounded up:
//! they decide whether a model fits.

use super::{Header, Tensor, memory::kv_bytes_per_layer};

/// The most that a buffer pads a tensor, in bytes: CUDA fills up rows of quantised weights.
const PADDING: u64 = 2048;
/// Compute buffers, besides what grows with the batch.
const FIXED: u64 = 1 << 20;
/// Beginnings of the names of tensors that only look up the embeddings of tokens.
const INPUTS: [&str; 4] = ["token_embd.", "position_embd.", "token_types.", "per_layer_token_embd."];

/// The bytes of one layer.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Layer {
    /// All weights but the experts'.
    pub weights: u64,
    pub experts: u64,
    /// Of KV cache per token of context.
    pub kv_per_token: f64,
    /// Of recurrent state, whatever the context.
    pub state: u64,
}

/// The bytes of a model, by where llama.cpp puts them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Layers {
    /// Token embeddings.
    pub input: u64,
    pub layers: Vec<Layer>,
    /// The share of a layer's experts that one token uses, 0 to 1.
    pub used_experts: f64,
    /// The output, which counts as one more layer. It has its own copy of shared embeddings, except in main
    /// memory.
    pub output: u64,
    /// Whether the output shares the token embeddings.
    pub shared: bool,
    /// Tensors that `pinned` gave a place to.
    pub pinned: Vec<Pinned>,
    /// The largest tensor of a layer.
    pub largest: u64,
    work: Work,
}

/// A tensor that is not placed by its layer, in bytes: all of it, and what decoding one token reads.
#[derive(Debug, Clone, PartialEq)]
pub struct Pinned {
    pub place: String,
    pub bytes: u64,
    pub read: u64,
}

/// How a context is evaluated.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Evaluation {
    /// Tokens that the context holds, those that a batch has, and those of a batch with logits.
    pub context: usize,
    pub batch: usize,
    pub outputs: usize,
    /// Without flash attention there is a score for each head, token of the batch and token of the context.
    pub flash: bool,
}

/// What a token of a batch needs while it is evaluated.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Work {
    /// Bytes in the feed-forward part of a layer, and in its attention or recurrence.
    feed_forward: u64,
    mixing: u64,
    heads: u64,
    /// Bytes of masks per token of context.
    mask: u64,
    vocabulary: u64,
}

impl Layers {
    /// `headers`: those of all parts. `bits`: per element of a key and of a value in the KV cache. `pinned`:
    /// the place of a tensor that is not placed by its layer.
    pub fn of(headers: &[&Header], bits: (f64, f64), pinned: impl Fn(&str) -> Option<String>) -> Layers {
        let header = headers[0];
        let kv = kv_bytes_per_layer(header, bits.0, bits.1);
        let count = header.arch_uint("block_count").unwrap_or(0).min(512) as usize;
        let state = state_bytes(header);
        let layer = |n| Layer { kv_per_token: kv.get(n).copied().unwrap_or(0.0), state, ..Layer::default() };
        let mut all = Layers {
            layers: (0..count).map(layer).collect(),
            used_experts: used_experts(header),
            ..Layers::default()
        };
        let mut embeddings = 0; // bytes
        let mut has_output = false;
        for tensor in headers.iter().flat_map(|header| &header.tensors) {
            let bytes = tensor.bytes + PADDING;
            has_output |= tensor.name == "output.weight";
            if tensor.name == "token_embd.weight" {
                embeddings = bytes;
            }
            if let Some(place) = pinned(&tensor.name) {
                let read = match tensor {
                    _ if is_expert(tensor) => all.used(bytes),
                    _ if is_input(tensor) => 0,
                    _ => bytes,
                };
                all.pinned.push(Pinned { place, bytes, read });
                continue;
            }
            match layer_of(tensor).and_then(|n| all.layers.get_mut(n)) {
                Some(layer) => {
                    let sum = if is_expert(tensor) { &mut layer.experts } else { &mut layer.weights };
                    *sum += bytes;
                    all.largest = all.largest.max(bytes);
                }
                None if is_input(tensor) => all.input += bytes,
                None => all.output += bytes,
            }
        }
        all.work = Work::of(header);
        all.shared = !has_output;
        all.output += if has_output { 0 } else { embeddings };
        all
    }

    /// The most that llama.cpp's compute buffer takes on one device, in bytes. Of shapes of Llama, Gemma, Qwen
    /// and GPT-OSS it took 65 to 98 % of this on a CPU, less on a GPU.
    pub fn compute(&self, how: Evaluation) -> u64 {
        let Work { feed_forward, mixing, heads, mask, vocabulary } = self.work;
        let context = how.context as u64;
        let scores = if how.flash { 0 } else { heads.saturating_mul(context).saturating_mul(4) };
        let per_token = feed_forward.max(mixing.saturating_add(scores)) + mask.saturating_mul(context);
        let logits = (how.outputs as u64).saturating_mul(vocabulary).saturating_mul(4);
        per_token.saturating_mul(how.batch as u64).saturating_add(logits).saturating_add(FIXED)
    }

    /// Of so many bytes of experts, those that decoding one token reads.
    pub fn used(&self, experts: u64) -> u64 {
        (experts as f64 * self.used_experts) as u64
    }

    /// Whether it is a mixture of experts.
    pub fn has_experts(&self) -> bool {
        self.layers.iter().any(|layer| layer.experts > 0)
    }
}

impl Work {
    fn of(header: &Header) -> Work {
        let number = |key: &str| header.arch_uint(key).unwrap_or(0);
        let most = |key: &str| header.arch_uints(key).and_then(|all| all.into_iter().max()).unwrap_or(0);
        let width = number("embedding_length");
        let heads = most("attention.head_count");
        let head = |key: &str| header.arch_uint(key).unwrap_or_else(|| width.checked_div(heads).unwrap_or(0));
        let (key, value) = (head("attention.key_length"), head("attention.value_length"));
        let groups = header.arch_uints("attention.head_count_kv").and_then(|all| all.into_iter().max());
        let groups = groups.unwrap_or(heads);
        let attention = heads.saturating_mul(key.max(value)) + groups.saturating_mul(key + value);
        let states = number("ssm.group_count").max(1).saturating_mul(number("ssm.state_size"));
        let recurrence = number("ssm.inner_size").saturating_add(states.saturating_mul(2));
        let used = number("expert_used_count");
        let expert = header.arch_uint("expert_feed_forward_length").unwrap_or(most("feed_forward_length"));
        let shared = number("expert_shared_feed_forward_length").max(expert * number("expert_shared_count"));
        let experts = 2 * used.saturating_mul(width + expert) + 4 * number("expert_count") + 4 * shared;
        let dense = most("feed_forward_length").saturating_mul(4);
        let windowed = number("attention.sliding_window") > 0;
        Work {
            feed_forward: 4 * (dense.max(experts) + 4 * width),
            mixing: 4 * (4 * width + 2 * attention + 12 * recurrence),
            heads,
            mask: if windowed { 12 } else { 6 },
            vocabulary: header.array_len("tokenizer.ggml.tokens").unwrap_or(0) as u64,
        }
    }
}

fn used_experts(header: &Header) -> f64 {
    let used = header.arch_uints("expert_used_count").and_then(|used| used.into_iter().max());
    let all = header.arch_uint("expert_count").unwrap_or(0);
    used.filter(|used| *used < all).map_or(1.0, |used| used as f64 / all as f64)
}

/// The number in `blk.7.attn_q.weight`.
fn layer_of(tensor: &Tensor) -> Option<usize> {
    tensor.name.strip_prefix("blk.")?.split_once('.')?.0.parse().ok()
}

fn is_input(tensor: &Tensor) -> bool {
    INPUTS.iter().any(|start| tensor.name.starts_with(start))
}

/// As `--cpu-moe` of llama.cpp: `\.ffn_(up|down|gate|gate_up)_(ch|)exps`.
fn is_expert(tensor: &Tensor) -> bool {
    let of = |rest: &str| rest.starts_with("exps") || rest.starts_with("chexps");
    let kinds = ["gate_up_", "up_", "down_", "gate_"];
    let parts = tensor.name.split(".ffn_").skip(1);
    parts.into_iter().any(|part| kinds.iter().any(|kind| part.strip_prefix(kind).is_some_and(of)))
}

/// Bytes of recurrent state in a layer, 0 without. llama.cpp's `n_embd_r` and `n_embd_s`, in `f32`; a hybrid
/// model's layers of attention count as if they had one.
fn state_bytes(header: &Header) -> u64 {
    let number = |key: &str| header.arch_uint(key).unwrap_or(0);
    let most = |key: &str| header.arch_uints(key).and_then(|all| all.into_iter().max()).unwrap_or(0);
    let (embedding, heads) = (number("embedding_length"), most("attention.head_count"));
    let (convolution, state, inner) =
        (number("ssm.conv_kernel"), number("ssm.state_size"), number("ssm.inner_size"));
    let short = number("shortconv.l_cache");
    let (wkv, kda) = (number("wkv.head_size"), number("kda.head_dim"));
    let elements = if wkv > 0 {
        embedding.saturating_mul(number("token_shift_count").max(2).saturating_add(wkv))
    } else if short > 0 {
        embedding.saturating_mul(short)
    } else if kda > 0 {
        let inner = heads.saturating_mul(kda);
        inner.saturating_mul(kda.saturating_add(3 * convolution.max(4)))
    } else {
        let groups = number("ssm.group_count").saturating_mul(2).saturating_mul(state);
        let rows = convolution.saturating_mul(inner.saturating_add(groups));
        rows.saturating_add(state.saturating_mul(inner))
    };
    elements.saturating_mul(4)
}

#[cfg(test)]
mod tests {
    use super::super::{parse, sample::Sample};
    use super::*;

    fn header(sample: &Sample) -> Header {
        let bytes = sample.bytes();
        parse::parse(&bytes[..], bytes.len() as u64).expect("well-formed")
    }

    fn mixture() -> Sample {
        let named = Sample::default().text("general.architecture", "qwen3moe");
        let numbers = [("block_count", 2), ("embedding_length", 64), ("attention.head_count", 4)];
        let named = numbers.iter().fold(named, |s, (key, n)| s.u32(&format!("qwen3moe.{key}"), *n));
        let tensors = ["token_embd.weight", "blk.0.attn_q.weight", "blk.0.ffn_gate_exps.weight"];
        let more =
            ["blk.1.ffn_gate_up_exps.weight", "blk.1.ffn_gate_inp.weight", "blk.1.ffn_up_shexp.weight"];
        tensors.iter().chain(&more).fold(named, |s, name| s.tensor(name, &[8]))
    }

    #[test]
    fn tensors_go_with_their_layer_and_experts_are_told_apart() {
        let one = 32 + PADDING;
        let sample = header(&mixture());
        let layers = Layers::of(&[&sample], (16.0, 16.0), |_| None);
        assert_eq!((layers.input, layers.output, layers.shared), (one, one, true), "shared embeddings");
        let bytes: Vec<_> = layers.layers.iter().map(|layer| (layer.weights, layer.experts)).collect();
        assert_eq!(bytes, [(one, one), (2 * one, one)]);
        assert_eq!(layers.layers[0].kv_per_token, 4.0 * 16.0 * 2.0 * 2.0);
        let own = header(&mixture().tensor("output.weight", &[8]));
        let pinned = |name: &str| name.contains("gate").then(|| "CPU".to_string());
        let layers = Layers::of(&[&own], (16.0, 16.0), pinned);
        assert!(!layers.shared && !layers.has_experts());
        assert_eq!((layers.output, layers.pinned.len()), (one, 3));
        let sparse = mixture().u32("qwen3moe.expert_count", 8).u32("qwen3moe.expert_used_count", 2);
        let layers = Layers::of(&[&header(&sparse)], (16.0, 16.0), pinned);
        let read: Vec<u64> = layers.pinned.iter().map(|pinned| pinned.read).collect();
        assert_eq!(read, [one / 4, one / 4, one], "two experts, and the router");
    }
}
