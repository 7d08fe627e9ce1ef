//! Logits → the few tokens that the sampler needs, where leaving out the others provably changes nothing.
//!
//! llama.cpp's chain begins with a list of the whole vocabulary, a quarter of a million entries with some models, to keep forty
//! of them. Next: draft.rs.

use super::token::Token;

/// Logits that are looked at together, which compilers turn into few instructions.
const LANES: usize = 32;

/// The token with the greatest logit, if no other token has it as well and all are numbers.
pub(super) fn best(logits: &[f32]) -> Option<Token> {
    let of = |token: &Token| logits[*token as usize];
    let few = among(logits, 2, &[])?;
    let greatest = few.iter().map(of).fold(f32::NEG_INFINITY, f32::max);
    let mut alike = few.iter().filter(|token| of(token) == greatest);
    let only = alike.next().filter(|_| greatest.is_finite())?;
    alike.next().is_none().then_some(*only)
}

/// Whether it is greater, or no number at all.
#[allow(clippy::neg_cmp_op_on_partial_ord)]
fn exceeds(logit: f32, bound: f32) -> bool {
    !(logit <= bound)
}

/// Tokens, ascending, among which llama.cpp finds the same `k` best in the same order as among all, also if the logits of the
/// `touched` ones (ascending) are changed first. `None` where something is no number.
///
/// It keeps a heap of the `k` best so far. Into that come the first `k` tokens, and later every one that is better than the
/// worst there; which of equals are kept, and in which order, follows from what came into it. What is left out here is not
/// better than `k` untouched tokens before it, so it would never have come into the heap.
pub(super) fn among(logits: &[f32], k: usize, touched: &[Token]) -> Option<Vec<Token>> {
    let mut kept = Vec::new();
    let mut untouched = Vec::new(); // the best of them, and some more
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
