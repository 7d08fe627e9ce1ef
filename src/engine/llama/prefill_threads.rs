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
/// The rounds, in each of which every number runs once, so that other load slows them alike.
const ROUNDS: usize = 5;
/// The share of the first number's time up to which another one pays: no noise of other load may decide.
const PAYS: f64 = 0.9;

/// The best of these numbers, of which the first needs no reason. `None` if it cannot be measured. Takes about a
/// tenth of a second for each.
pub fn fastest_prefill(counts: &[u32]) -> Option<u32> {
    contained(|| {
        let computers = counts.iter().map(|count| Computer::cpu(*count)).collect::<Option<Vec<_>>>()?;
        let graphs = computers.iter().map(multiplications).collect::<Option<Vec<_>>>()?;
        let round = || graphs.iter().map(Graph::run).collect::<Option<Vec<f64>>>();
        let _warm = round()?;
        let rounds = (0..ROUNDS).map(|_| round()).collect::<Option<Vec<_>>>()?;
        let share = |index: usize| {
            let mut shares: Vec<f64> = rounds.iter().map(|times| times[index] / times[0]).collect();
            shares.sort_by(f64::total_cmp);
            shares[ROUNDS / 2]
        };
        let shares = (0..counts.len()).map(|index| (counts[index], share(index)));
        let (best, share) = shares.min_by(|a, b| a.1.total_cmp(&b.1))?;
        Some(if share <= PAYS { best } else { counts[0] })
    })
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
        assert!([1, 2].contains(&fastest_prefill(&[1, 2]).unwrap()));
        assert_eq!(fastest_prefill(&[2]), Some(2));
    }
}
