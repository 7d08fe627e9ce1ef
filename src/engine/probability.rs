//! Logits → log-probabilities: of a token, and of the likeliest others.
//!
//! The sums are in double precision, so that they do not depend on the order of the vocabulary. Their terms need
//! not be: a text is evaluated little faster than the exponentials of whole vocabularies are computed. Next:
//! sequence.rs, evaluate.rs.

use super::model::Model;
use super::token::Token;
use crate::chat::probability::{TokenLogprob, TokenProbability};

/// A distribution over tokens, by their logits.
pub(super) struct Distribution<I> {
    logits: I,
    /// The logarithm of the sum of all exponentials.
    log_sum: f64,
}

/// The distribution over the vocabulary. `logits`: one number per vocabulary token.
pub(super) fn whole(logits: &[f32]) -> Distribution<impl Iterator<Item = (Token, f32)> + Clone> {
    Distribution { logits: (0..).zip(logits.iter().copied()), log_sum: log_sum(logits) }
}

/// The logarithm of the sum of all exponentials, in lanes that the compiler makes vectors of.
fn log_sum(logits: &[f32]) -> f64 {
    const LANES: usize = 16;
    let (lanes, rest) = logits.as_chunks::<LANES>();
    let mut highest = [f32::NEG_INFINITY; LANES];
    for lane in lanes {
        highest = std::array::from_fn(|i| if lane[i] > highest[i] { lane[i] } else { highest[i] });
    }
    let most = highest.iter().chain(rest).copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sums = [0.0; LANES];
    for lane in lanes {
        sums = std::array::from_fn(|i| sums[i] + f64::from(exp(lane[i] - most)));
    }
    let rest = rest.iter().map(|logit| f64::from(exp(logit - most)));
    f64::from(most) + sums.into_iter().chain(rest).sum::<f64>().ln()
}

/// The exponential of a number up to 0, to 2⁻²², without a branch; 10⁻³⁸ for numbers below -87. Cephes' expf: powers
/// of two times a polynomial between ±ln 2 ÷ 2.
fn exp(x: f32) -> f32 {
    const ROUNDS: f32 = 12_582_912.0; // 1.5 · 2²³: what is added to it loses its fraction
    const LN_2: (f32, f32) = (0.693_359_4, -2.121_944_4e-4); // in two parts
    let x = if x > -87.0 { x } else { -87.0 };
    let shifted = x * std::f32::consts::LOG2_E + ROUNDS;
    let twos = shifted - ROUNDS;
    let x = x - twos * LN_2.0 - twos * LN_2.1;
    let terms = [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_6e-1, 0.5];
    let high = terms.into_iter().fold(1.987_569_1e-4, |sum, term| sum * x + term);
    let power = high * x * x + x + 1.0;
    f32::from_bits(power.to_bits().wrapping_add(shifted.to_bits() << 23))
}

impl<I: Iterator<Item = (Token, f32)> + Clone> Distribution<I> {
    pub(super) fn of(logits: I) -> Distribution<I> {
        let most = logits.clone().map(|(_, logit)| logit).fold(f32::NEG_INFINITY, f32::max);
        let sum: f64 = logits.clone().map(|(_, logit)| f64::from(logit - most).exp()).sum();
        Distribution { logits, log_sum: f64::from(most) + sum.ln() }
    }

    /// The log-probability of a logit.
    pub(super) fn logprob(&self, logit: f32) -> f64 {
        f64::from(logit) - self.log_sum
    }

    /// The log-probability that one of the tokens with these logits comes.
    pub(super) fn any(&self, logits: impl Iterator<Item = f32>) -> f64 {
        logits.map(|logit| self.logprob(logit).exp()).sum::<f64>().ln()
    }

    /// The `most` likeliest tokens besides one, the likeliest first; of equals the first.
    fn others(&self, besides: Token, most: usize) -> Vec<(Token, f64)> {
        if most == 0 {
            return Vec::new();
        }
        let mut best: Vec<(Token, f32)> = Vec::with_capacity(most + 1);
        for (token, logit) in self.logits.clone().filter(|(token, _)| *token != besides) {
            if best.len() == most && best.last().is_none_or(|(_, least)| logit <= *least) {
                continue;
            }
            let place = best.partition_point(|(_, better)| *better >= logit);
            best.insert(place, (token, logit));
            best.truncate(most);
        }
        best.retain(|(_, logit)| *logit > f32::NEG_INFINITY);
        best.into_iter().map(|(token, logit)| (token, self.logprob(logit))).collect()
    }

    /// The log-probability of one token, and the `most` likeliest others.
    fn at(&self, token: Token, most: usize) -> (f64, Vec<(Token, f64)>) {
        let logit = self.logits.clone().find(|(other, _)| *other == token).map(|(_, logit)| logit);
        (self.logprob(logit.unwrap_or(f32::NEG_INFINITY)), self.others(token, most))
    }
}

/// A token and the `most` likeliest others, by the model's logits and, if it was drawn, by those that the sampler
/// chain left.
pub(super) fn of_token(
    model: &impl Model,
    token: Token,
    logits: &[f32],
    drawn_from: Option<&[(Token, f32)]>,
    most: usize,
) -> TokenProbability {
    let named = |(token, logprob): (Token, f64)| TokenLogprob {
        token: Some(token),
        bytes: model.piece(token, true),
        logprob,
    };
    let before = whole(logits);
    let (logprob, others) = before.at(token, most);
    let drawn = drawn_from.map(|logits| {
        let (logprob, others) = Distribution::of(logits.iter().copied()).at(token, most);
        (logprob, others.into_iter().map(named).collect())
    });
    TokenProbability {
        chosen: named((token, logprob)),
        others: others.into_iter().map(named).collect(),
        drawn,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probabilities_are_those_of_a_softmax() {
        let logits = [1000.0, 1000.0 + 2_f32.ln(), f32::NEG_INFINITY, 1000.0];
        let all = whole(&logits);
        let (logprob, others) = all.at(1, 5);
        assert!((logprob - 0.5_f64.ln()).abs() < 1e-4, "{logprob}");
        assert_eq!(others.iter().map(|(token, _)| *token).collect::<Vec<_>>(), [0, 3], "no impossible ones");
        assert!((all.any([logits[0], logits[2], logits[3]].into_iter()) - 0.5_f64.ln()).abs() < 1e-4);
        assert_eq!(all.any([logits[2]].into_iter()), f64::NEG_INFINITY);
        assert_eq!(all.at(1, 0).1, []);
    }

    #[test]
    fn exponentials_are_exact_enough() {
        for step in 0..100_000 {
            let x = -88.0 * step as f32 / 100_000.0;
            let (ours, true_one) = (f64::from(exp(x)), f64::from(x).exp());
            assert!((ours / true_one - 1.0).abs() < 3e-7 || x < -87.0, "{x}: {ours}, {true_one}");
        }
        assert!(exp(0.0) == 1.0 && exp(f32::NEG_INFINITY) < 1e-37);
        let logits: Vec<f32> = (0..1003).map(|i| ((i * 37) % 500) as f32 / 20.0 - 30.0).collect();
        let plain = logits.iter().map(|logit| f64::from(*logit).exp()).sum::<f64>().ln();
        assert!((log_sum(&logits) - plain).abs() < 1e-6, "{plain}");
        assert!((log_sum(&[-1e30, 2.0]) - 2.0).abs() < 1e-12);
    }

    #[test]
    fn the_best_others_are_found_in_any_order() {
        let logits: Vec<f32> = (0..500).map(|i| ((i * 37) % 500) as f32 / 50.0).collect();
        let mut sorted: Vec<(Token, f32)> = (0..).zip(logits.iter().copied()).collect();
        sorted.sort_by(|a, b| b.1.total_cmp(&a.1));
        let best = whole(&logits).others(sorted[2].0, 20);
        let expected: Vec<Token> =
            sorted.iter().map(|(token, _)| *token).filter(|t| *t != sorted[2].0).collect();
        assert_eq!(best.iter().map(|(token, _)| *token).collect::<Vec<_>>(), expected[..20]);
    }
}
