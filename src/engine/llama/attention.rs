//! The shape of a model's attention → whether flash attention is faster on a device, by measurement.
//!
//! llama.cpp always prefers flash attention. On a processor with matrix units (Intel AMX) it evaluates one row at
//! a time there, and a model with many small heads then generates at less than half its speed; so it may be on GPUs
//! for which llama.cpp has only simple flash kernels. The two graphs here are those of `build_attn_mha` in
//! llama-graph.cpp, without a model around them: zeros take as long as any other numbers.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use llama_cpp_sys_2 as sys;

use super::computer::{Computer, Graph};
use super::devices::handle;
use super::log::contained;

/// The attention of a model, without the layers' weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct AttentionShape {
    /// The number of heads of the queries, and of the keys and values: a divisor of it.
    pub heads: u32,
    pub kv_heads: u32,
    /// The numbers in each head of a key and of a value.
    pub key_length: u32,
    pub value_length: u32,
    /// The number of layers with attention.
    pub layers: u32,
}

impl AttentionShape {
    /// The bytes of scores of a batch that llama.cpp holds without flash attention.
    pub fn score_bytes(self, context: usize, batch_size: usize) -> u64 {
        u64::from(self.heads) * context as u64 * batch_size as u64 * size_of::<f32>() as u64
    }
}

/// The number of tokens in memory while measuring: a conversation of some length.
const DEPTH: i64 = 2048;
/// The layers measured at most: their keys and values together are larger than a core's cache.
const LAYERS: u32 = 8;
/// The rows of a measured prefill batch: flash attention works on tiles of 64 rows.
const ROWS: i64 = 256;
/// The tokens prefilled for each token generated, in common use: questions, files, answers.
const PREFILLED: f64 = 2.0;
/// The rounds, in each of which every graph runs once, so that other load slows them alike.
const ROUNDS: usize = 3;
/// The share of the time with flash attention up to which going without pays: it needs more memory, and no
/// noise of other load may decide.
const PAYS: f64 = 0.75;

/// Whether flash attention is the better way on the device of this name, the CPU with so many threads, in the common
/// mix of prefill and decoding. `None` if it cannot be measured. Takes a tenth of a second for a small model; a
/// process measures once.
pub fn flash_is_better(shape: AttentionShape, device: &str, threads: u32) -> Option<bool> {
    static MEASURED: Mutex<BTreeMap<(AttentionShape, String, u32), Option<bool>>> =
        Mutex::new(BTreeMap::new());
    let mut measured = MEASURED.lock().unwrap_or_else(PoisonError::into_inner);
    let key = (shape, device.to_string(), threads);
    *measured.entry(key).or_insert_with(|| measure(shape, device, threads))
}

fn measure(shape: AttentionShape, device: &str, threads: u32) -> Option<bool> {
    contained(|| {
        let computer = Computer::of(handle(device)?, threads)?;
        let layers = shape.layers.min(LAYERS);
        let graph = |layers, rows, flash| attention(&computer, shape, layers, rows, flash);
        let [off, on] = [false, true].map(|flash| Some((graph(layers, 1, flash)?, graph(1, ROWS, flash)?)));
        let (off, on) = (off?, on?);
        let cost = |(decode, prefill): &(Graph, Graph)| {
            Some(decode.run()? / f64::from(layers) + PREFILLED * prefill.run()? / ROWS as f64)
        };
        let _warm = (cost(&off)?, cost(&on)?);
        let round = |_| Some(cost(&off)? / cost(&on)?);
        let mut ratios = (0..ROUNDS).map(round).collect::<Option<Vec<f64>>>()?;
        ratios.sort_by(f64::total_cmp);
        Some(ratios[ROUNDS / 2] > PAYS)
    })
}

/// The attention of some layers for one batch of `rows`. `None`: out of memory.
fn attention(
    computer: &Computer,
    shape: AttentionShape,
    layers: u32,
    rows: i64,
    flash: bool,
) -> Option<Graph<'_>> {
    const TENSORS: usize = 16; // for each layer
    // SAFETY: the context has room for the tensors of each layer.
    unsafe {
        Graph::new(computer, TENSORS * layers as usize, |context, graph| {
            (0..layers).for_each(|_| add_layer(context, graph, shape, rows, flash));
        })
    }
}

/// # Safety
/// The context must have room for the tensors, and the graph for the operations.
unsafe fn add_layer(
    ctx: *mut sys::ggml_context,
    graph: *mut sys::ggml_cgraph,
    shape: AttentionShape,
    rows: i64,
    flash: bool,
) {
    let (heads, kv_heads) = (i64::from(shape.heads), i64::from(shape.kv_heads));
    let (key, value) = (i64::from(shape.key_length), i64::from(shape.value_length));
    let scale = 1.0 / (shape.key_length as f32).sqrt();
    // SAFETY: all tensors belong to this context, and their shapes agree.
    unsafe {
        let tensor = |kind, a, b, c| sys::ggml_new_tensor_3d(ctx, kind, a, b, c);
        let by_head = |tensor| sys::ggml_permute(ctx, tensor, 0, 2, 1, 3);
        let q = by_head(tensor(sys::GGML_TYPE_F32, key, heads, rows));
        let k = by_head(tensor(sys::GGML_TYPE_F16, key, kv_heads, DEPTH));
        let out = if flash {
            let v = by_head(tensor(sys::GGML_TYPE_F16, value, kv_heads, DEPTH));
            let mask = tensor(sys::GGML_TYPE_F16, DEPTH, rows, 1);
            let out = sys::ggml_flash_attn_ext(ctx, q, k, v, mask, scale, 0.0, 0.0);
            sys::ggml_flash_attn_ext_set_prec(out, sys::GGML_PREC_F32);
            out
        } else {
            let v = tensor(sys::GGML_TYPE_F16, DEPTH, value, kv_heads); // held transposed
            let mask = tensor(sys::GGML_TYPE_F32, DEPTH, rows, 1);
            let scores = sys::ggml_mul_mat(ctx, k, q);
            sys::ggml_mul_mat_set_prec(scores, sys::GGML_PREC_F32);
            let scores = sys::ggml_soft_max_ext(ctx, scores, mask, scale, 0.0);
            sys::ggml_cont(ctx, by_head(sys::ggml_mul_mat(ctx, v, scores)))
        };
        sys::ggml_build_forward_expand(graph, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: AttentionShape =
        AttentionShape { heads: 4, kv_heads: 2, key_length: 32, value_length: 32, layers: 2 };

    #[test]
    fn both_ways_can_be_timed() {
        for (rows, flash) in [(1, false), (1, true), (ROWS, false), (ROWS, true)] {
            let cpu = Computer::cpu(1).unwrap();
            let seconds = attention(&cpu, SMALL, 2, rows, flash).unwrap().run().unwrap();
            assert!(seconds > 0.0, "{rows} rows, flash attention {flash}");
        }
        assert!(flash_is_better(SMALL, "CPU", 1).is_some());
        assert_eq!(flash_is_better(SMALL, "Pretend0", 1), None);
    }

    #[test]
    fn scores_take_four_bytes_each() {
        assert_eq!(SMALL.score_bytes(4096, 512), 4 * 4 * 4096 * 512);
    }
}
