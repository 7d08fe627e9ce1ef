//! 6 — options → llama.cpp's sampler chain; logits → the next token.
//!
//! Order and defaults are those of llama.cpp's `common_sampler_init`; stages that are switched off are left out,
//! which changes no result. Next: generate.rs.

use anyhow::{Context as _, Result};
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::sampling::LlamaSampler;
use llama_cpp_2::token::LlamaToken;
use llama_cpp_2::token::data::LlamaTokenData;
use llama_cpp_2::token::data_array::LlamaTokenDataArray;
use llama_cpp_2::token::logit_bias::LlamaLogitBias;

use super::llama::Token;
use crate::chat::settings::{Sampling, Stage};
use crate::error::Failure;

/// A sampler chain with what it remembers of the tokens so far.
pub struct Sampler {
    chain: LlamaSampler,
    /// One candidate a token of the vocabulary; kept to save the allocation.
    candidates: LlamaTokenDataArray,
    /// Tokens before the answer that the penalties look back at.
    lookback: usize,
}

impl Sampler {
    /// The chain for one answer of `model`. `limit`: the context's size in tokens, which -1 stands for in look-backs.
    pub(super) fn for_model(
        model: &LlamaModel,
        sampling: &Sampling,
        seed: u32,
        limit: usize,
    ) -> Result<Sampler> {
        let n_vocab = model.n_vocab();
        let mut stages = Vec::new();
        let mut biases: Vec<LlamaLogitBias> = Vec::new();
        for (token, bias) in &sampling.logit_bias {
            if *token >= n_vocab {
                let message = format!("--logit-bias: token {token} is not in the vocabulary of {n_vocab}");
                return Err(Failure::usage(message).into());
            }
            biases.push(LlamaLogitBias::new(LlamaToken(*token), *bias));
        }
        let vocab = model.vocab();
        biases.extend(vocab.suppress_tokens().iter().map(|t| LlamaLogitBias::new(*t, f32::NEG_INFINITY)));
        if !biases.is_empty() {
            stages.push(LlamaSampler::logit_bias(n_vocab, &biases));
        }
        let dry = |last_n| {
            let breakers = &sampling.dry_sequence_breakers;
            let (multiplier, base) = (sampling.dry_multiplier, sampling.dry_base);
            LlamaSampler::dry(model, multiplier, base, sampling.dry_allowed_length, last_n, breakers)
        };
        stages.extend(chain(sampling, seed, n_vocab, limit, &dry));
        Ok(Sampler {
            chain: LlamaSampler::chain(stages, true),
            candidates: LlamaTokenDataArray::new(Vec::with_capacity(n_vocab as usize), false),
            lookback: lookback(sampling, limit),
        })
    }

    /// The chain without a model: for tests on made-up logits. DRY, which needs a vocabulary, is left out.
    #[cfg(test)]
    pub(super) fn for_logits(sampling: &Sampling, seed: u32, n_vocab: usize) -> Sampler {
        let sampling = Sampling { dry_multiplier: 0.0, ..sampling.clone() };
        let none = |_| unreachable!("DRY is off");
        let stages = chain(&sampling, seed, n_vocab as i32, n_vocab, &none);
        Sampler {
            chain: LlamaSampler::chain(stages, true),
            candidates: LlamaTokenDataArray::new(Vec::new(), false),
            lookback: lookback(&sampling, n_vocab),
        }
    }

    /// Lets the penalties see the end of the prompt, as llama.cpp does.
    pub fn see(&mut self, prompt: &[Token]) {
        for token in &prompt[prompt.len().saturating_sub(self.lookback)..] {
            self.chain.accept(LlamaToken(*token));
        }
    }

    /// A token that was not chosen here: it is remembered as if it had been.
    pub fn take(&mut self, token: Token) -> Token {
        self.chain.accept(LlamaToken(token));
        token
    }

    /// The next token. `logits`: one number a token of the vocabulary. The choice is remembered.
    pub fn pick(&mut self, logits: &[f32]) -> Result<Token> {
        let candidates = &mut self.candidates;
        candidates.data.clear();
        candidates
            .data
            .extend((0i32..).zip(logits).map(|(id, l)| LlamaTokenData::new(LlamaToken(id), *l, 0.0)));
        candidates.selected = None;
        candidates.sorted = false;
        candidates.apply_sampler(&mut self.chain);
        let token = candidates
            .selected_token()
            .context("the model's output is not a number: the file may be damaged")?;
        self.chain.accept(token);
        Ok(token.0)
    }
}

/// How many tokens before the answer matter to the penalties that are on.
fn lookback(sampling: &Sampling, limit: usize) -> usize {
    let penalties = has_penalties(sampling) as usize * last_n(sampling.repeat_last_n, limit) as usize;
    let dry = (sampling.dry_multiplier > 0.0) as usize * last_n(sampling.dry_penalty_last_n, limit) as usize;
    penalties.max(dry)
}

fn has_penalties(sampling: &Sampling) -> bool {
    sampling.repeat_penalty != 1.0 || sampling.presence_penalty != 0.0 || sampling.frequency_penalty != 0.0
}

/// -1 stands for the whole context; llama.cpp's own reading of a negative number has become 0.
fn last_n(n: i32, limit: usize) -> i32 {
    if n < 0 { limit as i32 } else { n.min(limit as i32) }
}

type Dry<'a> = &'a dyn Fn(i32) -> LlamaSampler;

fn chain(s: &Sampling, seed: u32, n_vocab: i32, limit: usize, dry: Dry) -> Vec<LlamaSampler> {
    match s.mirostat {
        1 => {
            return vec![
                LlamaSampler::temp(s.temp),
                LlamaSampler::mirostat(n_vocab, seed, s.mirostat_ent, s.mirostat_lr, 100),
            ];
        }
        2 => {
            return vec![
                LlamaSampler::temp(s.temp),
                LlamaSampler::mirostat_v2(seed, s.mirostat_ent, s.mirostat_lr),
            ];
        }
        _ => {}
    }
    let repeat_last_n = last_n(s.repeat_last_n, limit);
    let dry_last_n = last_n(s.dry_penalty_last_n, limit);
    let stage = |stage: &Stage| match stage {
        Stage::Penalties => (has_penalties(s) && repeat_last_n > 0).then(|| {
            LlamaSampler::penalties(
                n_vocab,
                repeat_last_n,
                s.repeat_penalty,
                s.frequency_penalty,
                s.presence_penalty,
            )
        }),
        Stage::Dry => (s.dry_multiplier > 0.0 && dry_last_n > 0).then(|| dry(dry_last_n)),
        Stage::TopNSigma => (s.top_n_sigma >= 0.0).then(|| LlamaSampler::top_n_sigma(s.top_n_sigma)),
        Stage::TopK => (s.top_k > 0).then(|| LlamaSampler::top_k(s.top_k)),
        Stage::TypicalP => (s.typical_p < 1.0).then(|| LlamaSampler::typical(s.typical_p, 0)),
        Stage::TopP => (s.top_p < 1.0).then(|| LlamaSampler::top_p(s.top_p, 0)),
        Stage::MinP => (s.min_p > 0.0).then(|| LlamaSampler::min_p(s.min_p, 0)),
        Stage::Xtc => {
            (s.xtc_probability > 0.0).then(|| LlamaSampler::xtc(s.xtc_probability, s.xtc_threshold, 0, seed))
        }
        Stage::Temperature => Some(LlamaSampler::temp(s.temp)),
    };
    s.samplers.iter().filter_map(stage).chain([LlamaSampler::dist(seed)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn greedy() -> Sampling {
        Sampling { temp: 0.0, ..Sampling::default() }
    }

    #[test]
    fn temperature_zero_takes_the_best() {
        let mut sampler = Sampler::for_logits(&greedy(), 1, 4);
        assert_eq!(sampler.pick(&[0.1, 3.0, 2.9, -1.0]).unwrap(), 1);
    }

    #[test]
    fn one_seed_gives_one_choice() {
        let logits: Vec<f32> = (0..50).map(|i| (i % 7) as f32 / 3.0).collect();
        let run = |seed| {
            let mut sampler = Sampler::for_logits(&Sampling::default(), seed, 50);
            (0..20).map(|_| sampler.pick(&logits).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(run(7), run(7));
        assert_ne!(run(7), run(8));
    }

    #[test]
    fn a_penalty_sees_the_prompt() {
        let sampling = Sampling { repeat_penalty: 10.0, ..greedy() };
        let mut sampler = Sampler::for_logits(&sampling, 1, 3);
        sampler.see(&[1]);
        assert_eq!(sampler.pick(&[1.0, 2.0, 0.5]).unwrap(), 0);
    }

    #[test]
    fn numbers_that_are_none_are_an_error() {
        let mut sampler = Sampler::for_logits(&greedy(), 1, 2);
        let picked = sampler.pick(&[f32::NAN, f32::NAN]);
        assert!(picked.is_err() || (0..2).contains(&picked.unwrap()));
    }
}
