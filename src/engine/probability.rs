//! Logits → log-probabilities: of a token, and of the likeliest others.
//!
//! The sums are in double precision, so that they do not depend on the order of the vocabulary. Next:
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
    Distribution::of((0..).zip(logits.iter().copied()))
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

    /// The log-probability that one of these tokens comes.
    pub(super) fn any(&self, mut wanted: impl FnMut(Token) -> bool) -> f64 {
        let logits = self.logits.clone().filter(|(token, _)| wanted(*token));
        logits.map(|(_, logit)| self.logprob(logit).exp()).sum::<f64>().ln()
    }

    /// The `most` likeliest tokens besides one, the likeliest first; of equals the first.
    fn others(&self, besides: Token, most: usize) -> Vec<(Token, f64)> {
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
        assert!((all.any(|token| token != 1) - 0.5_f64.ln()).abs() < 1e-4);
        assert_eq!(all.any(|token| token == 2), f64::NEG_INFINITY);
        assert_eq!(all.at(1, 0).1, []);
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
