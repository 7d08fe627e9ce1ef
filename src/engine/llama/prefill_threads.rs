//! Numbers of threads → the one with which this processor prefills fastest, by measurement.
//!
//! Decoding waits for memory, and for the slowest thread. Prefill multiplies matrices, which llama.cpp shares out
//! piece by piece, so the slower cores of a hybrid processor, or the second thread of each core, may help: by more
//! than half, or not at all.

use llama_cpp_sys_2 as sys;

use super::computer::{Computer, Graph};
use super::log::contained;

/// The rows and columns of a matrix, in a common type, and the tokens it is multiplied by: a small model's, in
/// which threads wait for each other often.
const KIND: sys::ggml_type = sys::GGML_TYPE_Q4_K;
const SIDE: i64 = 2048;
const TOKENS: i64 = 64;
/// The multiplications in a run.
const TIMES: usize = 8;
/// The rounds, in each of which every number runs once.
const ROUNDS: usize = 5;
/// The share of the default's time up to which another number pays.
const PAYS: f64 = 0.9;
/// How much longer than its best run the default's median may take. Other load favours many threads, which get more of
/// what is left.
const STEADY: f64 = 1.2;

/// The best of these numbers, of which the first is the default. `None` if it cannot be measured, or not now, beside
/// other load. Takes about a tenth of a second for each.
pub fn fastest_prefill(counts: &[u32]) -> Option<u32> {
    contained(|| {
        let computers = counts.iter().map(|count| Computer::cpu(*count)).collect::<Option<Vec<_>>>()?;
        let graphs = computers.iter().map(multiplications).collect::<Option<Vec<_>>>()?;
        let round = || graphs.iter().map(Graph::run).collect::<Option<Vec<f64>>>();
        let _warm = round()?;
        let rounds = (0..ROUNDS).map(|_| round()).collect::<Option<Vec<_>>>()?;
        best(counts, &rounds)
    })
}

/// `rounds`: the seconds of each number.
fn best(counts: &[u32], rounds: &[Vec<f64>]) -> Option<u32> {
    let sorted = |of: &dyn Fn(&[f64]) -> f64| {
        let mut all: Vec<f64> = rounds.iter().map(|times| of(times)).collect();
        all.sort_by(f64::total_cmp);
        all
    };
    let default = sorted(&|times| times[0]);
    if default[default.len() / 2] > STEADY * default[0] {
        return None;
    }
    let share = |index: usize| sorted(&|times| times[index] / times[0])[rounds.len() / 2];
    let shares = (0..counts.len()).map(|index| (counts[index], share(index)));
    let (best, share) = shares.min_by(|a, b| a.1.total_cmp(&b.1))?;
    Some(if share <= PAYS { best } else { counts[0] })
}

fn multiplications(cpu: &Computer) -> Option<Graph<'_>> {
    // SAFETY: a matrix, the tokens and the products, whose shapes fit.
    unsafe {
        Graph::new(cpu, TIMES + 2, |context, graph| {
            let matrix = sys::ggml_new_tensor_2d(context, KIND, SIDE, SIDE);
            let tokens = sys::ggml_new_tensor_2d(context, sys::GGML_TYPE_F32, SIDE, TOKENS);
            for _ in 0..TIMES {
                sys::ggml_build_forward_expand(graph, sys::ggml_mul_mat(context, matrix, tokens));
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_the_numbers_is_chosen() {
        assert!(fastest_prefill(&[1, 2]).is_none_or(|count| [1, 2].contains(&count)));
        let rounds = |of: [[f64; 3]; 3]| of.map(Vec::from);
        let best = |of| best(&[8, 16, 24], &rounds(of));
        assert_eq!(best([[1.0, 0.7, 0.6], [1.1, 0.9, 0.7], [1.0, 0.8, 3.0]]), Some(24));
        assert_eq!(best([[1.0, 0.95, 1.3], [1.0, 0.92, 1.2], [1.1, 1.1, 1.1]]), Some(8), "it must pay");
        assert_eq!(best([[1.0, 0.5, 0.5], [1.3, 0.5, 0.5], [1.4, 0.5, 0.5]]), None, "something else runs");
    }
}
