//! Logits → the few tokens that the sampler needs; leaving out the others provably changes nothing.
//!
//! llama.cpp's chain starts with a list of the whole vocabulary, a quarter of a million entries for some
//! models, to keep forty of them. Next: draft.rs.

use super::token::Token;

/// The number of logits examined together; compilers turn this into a few SIMD instructions.
const LANES: usize = 32;

/// The token with the highest logit, if there is exactly one and no logit is NaN.
pub(super) fn best(logits: &[f32]) -> Option<Token> {
    let of = |token: &Token| logits[*token as usize];
    let few = among(logits, 2, &[])?;
    let greatest = few.iter().map(of).fold(f32::NEG_INFINITY, f32::max);
    let mut alike = few.iter().filter(|token| of(token) == greatest);
    let only = alike.next().filter(|_| greatest.is_finite())?;
    alike.next().is_none().then_some(*only)
}

/// Whether it is greater than `bound`, or NaN.
#[allow(clippy::neg_cmp_op_on_partial_ord)]
fn exceeds(logit: f32, bound: f32) -> bool {
    !(logit <= bound)
}

/// Tokens, in ascending order, among which llama.cpp finds the same top `k` in the same order as among all,
/// even if the logits of the `touched` tokens (ascending) change first. `None` if a logit is NaN.
///
/// llama.cpp keeps a heap of the top `k` so far. The first `k` tokens enter it, and later every token better
/// than the worst in it; which of several equals stay, and in which order, follows from what entered. A token
/// left out here is not better than `k` untouched tokens before it, so it would never have entered the heap.
pub(super) fn among(logits: &[f32], k: usize, touched: &[Token]) -> Option<Vec<Token>> {
    let mut kept = Vec::new();
    let mut untouched = Vec::new(); // the top k of them, and some more
    let mut bound = f32::NEG_INFINITY;
    let mut touched = touched.iter().peekable();
    for (chunk, start) in logits.chunks(LANES).zip((0..).step_by(LANES)) {
        let is_here = touched.peek().is_some_and(|token| (**token as usize) < start + LANES);
        let exceeding = chunk.iter().fold(false, |any, logit| any | exceeds(*logit, bound));
        if start >= k && !is_here && !exceeding {
            continue;
        }
        for (id, logit) in (start..).zip(chunk) {
            if logit.is_nan() {
                return None;
            }
            let changed = touched.next_if(|token| **token as usize == id).is_some();
            let comes_in = id < k || *logit > bound;
            if comes_in || changed {
                kept.push(id as Token);
            }
            if comes_in && !changed {
                untouched.push(*logit);
            }
        }
        if untouched.len() >= 2 * k {
            untouched.select_nth_unstable_by(k - 1, |a, b| b.total_cmp(a));
            untouched.truncate(k);
            bound = untouched[k - 1];
        }
    }
    Some(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_is_told_only_if_it_is_one() {
        assert_eq!(best(&[1.0, 3.0, 2.0]), Some(1));
        let mut many: Vec<f32> = (0..1000).map(|i| ((i * 37) % 1000) as f32).collect();
        assert_eq!(best(&many), many.iter().position(|logit| *logit == 999.0).map(|at| at as Token));
        assert_eq!(best(&[1.0, 3.0, 3.0]), None);
        assert_eq!(best(&[0.0, -0.0]), None);
        many[500] = f32::NAN;
        assert_eq!(best(&many), None);
        assert_eq!(best(&[f32::NEG_INFINITY, f32::NEG_INFINITY]), None);
        assert_eq!(best(&[]), None);
    }

    #[test]
    fn few_are_kept_of_many() {
        let logits: Vec<f32> =
            (0..200_000u64).map(|i| (i.wrapping_mul(0x9E3779B97F4A7C15) >> 40) as f32).collect();
        let kept = among(&logits, 40, &[150_000]).unwrap();
        assert!(kept.len() < 1000, "{}", kept.len());
        assert!(kept.is_sorted() && kept.contains(&150_000));
    }
}
