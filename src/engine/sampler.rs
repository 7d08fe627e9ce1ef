//! 6 — options → llama.cpp's sampler chain; logits → the next token.
//!
//! Order and defaults are those of llama.cpp's `common_sampler_init`; disabled stages are omitted, which does
//! not change the result. Next: candidates.rs.

use std::collections::VecDeque;

use anyhow::{Context as _, Result};
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::sampling::LlamaSampler;
use llama_cpp_2::token::LlamaToken;
use llama_cpp_2::token::data::LlamaTokenData;
use llama_cpp_2::token::data_array::LlamaTokenDataArray;

use super::candidates;
use super::error::Error;
use super::model::Sampler;
use super::token::Token;
use crate::chat::settings::{Sampling, Stage};

/// A sampler chain and the tokens that it remembers.
pub struct Chain {
    chain: LlamaSampler,
    /// One candidate per vocabulary token; kept to save the allocation.
    candidates: LlamaTokenDataArray,
    /// The logits of some tokens; kept for the same reason.
    few: Vec<f32>,
    /// The number of recent tokens that the penalties look at, and those tokens.
    lookback: usize,
    recent: VecDeque<Token>,
    /// Added to the logits before the chain runs.
    biases: Vec<(Token, f32)>,
    shortcut: Shortcut,
}

/// How to sample without the whole vocabulary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shortcut {
    None,
    /// Takes the token with the highest logit, if there is only one.
    Best,
    /// Considers only the top k; penalties may first change some logits.
    TopK(usize),
}

impl Chain {
    /// The chain for one answer of `model`. `limit`: the context size in tokens, used for a look-back of -1.
    pub(super) fn for_model(
        model: &LlamaModel,
        sampling: &Sampling,
        seed: u32,
        limit: usize,
    ) -> Result<Chain> {
        let n_vocab = model.n_vocab();
        for (token, _) in &sampling.logit_bias {
            if *token >= n_vocab {
                return Err(Error::Bias { token: *token, vocabulary: n_vocab }.into());
            }
        }
        let vocab = model.vocab();
        let suppressed = vocab.suppress_tokens().iter().map(|token| (token.0, f32::NEG_INFINITY));
        let biases = sampling.logit_bias.iter().copied().chain(suppressed).collect();
        let dry = |last_n| {
            let breakers = &sampling.dry_sequence_breakers;
            let (multiplier, base) = (sampling.dry_multiplier, sampling.dry_base);
            LlamaSampler::dry(model, multiplier, base, sampling.dry_allowed_length, last_n, breakers)
        };
        let stages = chain(sampling, seed, n_vocab, limit, &dry);
        Ok(Chain::new(stages, sampling, biases, limit))
    }

    fn new(stages: Vec<LlamaSampler>, sampling: &Sampling, biases: Vec<(Token, f32)>, limit: usize) -> Chain {
        Chain {
            chain: LlamaSampler::chain(stages, true),
            candidates: LlamaTokenDataArray::new(Vec::new(), false),
            few: Vec::new(),
            lookback: lookback(sampling, limit),
            recent: VecDeque::new(),
            shortcut: shortcut(sampling, &biases),
            biases,
        }
    }

    /// The chain without a model, for tests and benchmarks on artificial logits. DRY, which needs a
    /// vocabulary, is omitted.
    pub fn for_logits(sampling: &Sampling, seed: u32, n_vocab: usize) -> Chain {
        let sampling = Sampling { dry_multiplier: 0.0, ..sampling.clone() };
        let none = |_| unreachable!("DRY is off");
        let stages = chain(&sampling, seed, n_vocab as i32, n_vocab, &none);
        Chain::new(stages, &sampling, sampling.logit_bias.clone(), n_vocab)
    }

    /// Chooses from logits, one for each token; `ids`: the tokens that they belong to, ascending, if not to all.
    fn choose(&mut self, logits: &[f32], ids: Option<&[Token]>) -> Result<Token> {
        let id = |place: Token| ids.map_or(place, |ids| ids[place as usize]);
        let best = if self.shortcut == Shortcut::Best { candidates::best(logits) } else { None };
        if let Some(best) = best {
            self.leave(id(best), logits[best as usize]);
            return Ok(self.take(id(best)));
        }
        let few = match self.shortcut {
            Shortcut::TopK(k) => candidates::among(logits, k, &self.touched(ids)),
            _ => None,
        };
        let candidates = &mut self.candidates;
        let candidate =
            |place: Token| LlamaTokenData::new(LlamaToken(id(place)), logits[place as usize], 0.0);
        candidates.data.clear();
        match few {
            Some(few) => candidates.data.extend(few.into_iter().map(candidate)),
            None => candidates.data.extend((0..logits.len() as Token).map(candidate)),
        }
        for (token, bias) in &self.biases {
            if let Ok(at) = candidates.data.binary_search_by_key(token, |candidate| candidate.id().0) {
                let candidate = &mut candidates.data[at];
                candidate.set_logit(candidate.logit() + bias);
            }
        }
        candidates.selected = None;
        candidates.sorted = false;
        candidates.apply_sampler(&mut self.chain);
        let token = candidates.selected_token();
        let token = token.context("the model's output is not a number: the file may be damaged")?.0;
        Ok(self.take(token))
    }

    /// Notes that nothing but this token was left to choose.
    fn leave(&mut self, token: Token, logit: f32) {
        self.candidates.data.clear();
        self.candidates.data.push(LlamaTokenData::new(LlamaToken(token), logit, 0.0));
    }

    /// The places in `ids` of the tokens whose logits may change before the top k are taken, in ascending order.
    fn touched(&self, ids: Option<&[Token]>) -> Vec<Token> {
        let place = |token: &Token| match ids {
            Some(ids) => ids.binary_search(token).ok().map(|place| place as Token),
            None => Some(*token),
        };
        let tokens = self.biases.iter().map(|(token, _)| token).chain(&self.recent);
        let mut touched: Vec<Token> = tokens.filter_map(place).collect();
        touched.sort_unstable();
        touched.dedup();
        touched
    }
}

impl Sampler for Chain {
    /// As in llama.cpp.
    fn see(&mut self, prompt: &[Token]) {
        for token in &prompt[prompt.len().saturating_sub(self.lookback)..] {
            self.take(*token);
        }
    }

    fn take(&mut self, token: Token) -> Token {
        self.chain.accept(LlamaToken(token));
        if self.lookback > 0 {
            self.recent.push_back(token);
            if self.recent.len() > self.lookback {
                self.recent.pop_front();
            }
        }
        token
    }

    fn pick(&mut self, logits: &[f32]) -> Result<Token> {
        self.choose(logits, None)
    }

    fn pick_among(&mut self, logits: &[f32], allowed: &[Token]) -> Result<Token> {
        if let [only] = allowed {
            self.leave(*only, logits[*only as usize]);
            return Ok(self.take(*only));
        }
        let mut few = std::mem::take(&mut self.few);
        few.clear();
        few.extend(allowed.iter().map(|token| logits[*token as usize]));
        let picked = self.choose(&few, Some(allowed));
        self.few = few;
        picked
    }

    fn left(&self) -> Vec<(Token, f32)> {
        self.candidates.data.iter().map(|candidate| (candidate.id().0, candidate.logit())).collect()
    }
}

/// Up to this k llama.cpp finds the top k with a heap; `candidates::among` relies on how that works.
const HEAP: i32 = 128;

/// The shortcut that the active stages allow. DRY, which also changes logits, is rare and gets no shortcut.
fn shortcut(s: &Sampling, biases: &[(Token, f32)]) -> Shortcut {
    let is_on = |stage: &&Stage| match stage {
        Stage::Penalties => has_penalties(s),
        Stage::Dry => s.dry_multiplier > 0.0,
        Stage::TopNSigma => s.top_n_sigma > 0.0,
        Stage::TopK => s.top_k > 0,
        Stage::TypicalP => s.typical_p < 1.0,
        Stage::TopP => s.top_p < 1.0,
        Stage::MinP => s.min_p > 0.0,
        Stage::Xtc => s.xtc_probability > 0.0,
        Stage::Temperature => true,
    };
    let stages: Vec<Stage> = s.samplers.iter().filter(is_on).copied().collect();
    let keeps_best = |stage: &Stage| {
        use Stage::*;
        matches!(stage, TopNSigma | TopK | TopP | MinP | Temperature)
    };
    let greedy = s.temp <= 0.0 && stages.contains(&Stage::Temperature);
    let first = stages.iter().find(|stage| **stage != Stage::Penalties);
    match first {
        _ if s.mirostat != 0 => Shortcut::None,
        _ if greedy && biases.is_empty() && stages.iter().all(keeps_best) => Shortcut::Best,
        Some(Stage::TopK) if s.top_k <= HEAP => Shortcut::TopK(s.top_k as usize),
        _ => Shortcut::None,
    }
}

/// The number of tokens before the answer that the active penalties look at.
fn lookback(sampling: &Sampling, limit: usize) -> usize {
    let penalties = has_penalties(sampling) as usize * last_n(sampling.repeat_last_n, limit) as usize;
    let dry = (sampling.dry_multiplier > 0.0) as usize * last_n(sampling.dry_penalty_last_n, limit) as usize;
    penalties.max(dry)
}

fn has_penalties(sampling: &Sampling) -> bool {
    sampling.repeat_penalty != 1.0 || sampling.presence_penalty != 0.0 || sampling.frequency_penalty != 0.0
}

/// -1 stands for the whole context; llama.cpp itself now takes a negative number as 0.
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
        let mut sampler = Chain::for_logits(&greedy(), 1, 4);
        assert_eq!(sampler.pick(&[0.1, 3.0, 2.9, -1.0]).unwrap(), 1);
    }

    #[test]
    fn one_seed_gives_one_choice() {
        let logits: Vec<f32> = (0..50).map(|i| (i % 7) as f32 / 3.0).collect();
        let run = |seed| {
            let mut sampler = Chain::for_logits(&Sampling::default(), seed, 50);
            (0..20).map(|_| sampler.pick(&logits).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(run(7), run(7));
        assert_ne!(run(7), run(8));
    }

    #[test]
    fn a_penalty_sees_the_prompt() {
        let sampling = Sampling { repeat_penalty: 10.0, ..greedy() };
        let mut sampler = Chain::for_logits(&sampling, 1, 3);
        sampler.see(&[1]);
        assert_eq!(sampler.pick(&[1.0, 2.0, 0.5]).unwrap(), 0);
    }

    /// Logits with many ties, as some models produce.
    fn logits(chance: &mut impl FnMut(usize) -> usize, n_vocab: usize) -> Vec<f32> {
        let levels = [2, 10, 1000, 1 << 20][chance(4)];
        let rising = chance(4) == 0;
        let logit = |i: usize, chance: &mut dyn FnMut(usize) -> usize| match chance(50) {
            0 => f32::NEG_INFINITY,
            _ if rising => (i / 3) as f32,
            _ => chance(levels) as f32 * 24.0 / levels as f32 - 12.0,
        };
        (0..n_vocab).map(|i| logit(i, chance)).collect()
    }

    #[test]
    fn the_shortcuts_choose_what_the_whole_chain_chooses() {
        let mut state = 5u64; // Knuth's MMIX constants
        let mut chance = move |n: usize| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) as usize % n
        };
        let mut taken = [0; 3];
        for round in 0..3000 {
            let n_vocab = 1 + chance(700);
            let mut sampling = Sampling {
                temp: [0.0, 0.8, 1.5][chance(3)],
                top_k: [1, 3, 40, 128, 129][chance(5)],
                top_p: [1.0, 0.9, 0.0][chance(3)],
                min_p: [0.0, 0.05, 1.0][chance(3)],
                top_n_sigma: [-1.0, -1.0, 1.0][chance(3)],
                repeat_penalty: [1.0, 1.0, 1.3][chance(3)],
                presence_penalty: [0.0, 0.0, -2.0][chance(3)],
                repeat_last_n: [64, 5, -1][chance(3)],
                ..Sampling::default()
            };
            if chance(4) == 0 {
                sampling.samplers.rotate_left(chance(9));
            }
            if chance(3) == 0 {
                let bias = |chance: &mut dyn FnMut(usize) -> usize| chance(5) as f32 - 2.0;
                sampling.logit_bias = (0..3).map(|_| (chance(n_vocab) as Token, bias(&mut chance))).collect();
                sampling.logit_bias.push(sampling.logit_bias[0]);
            }
            let seed = chance(1000) as u32;
            let mut short = Chain::for_logits(&sampling, seed, n_vocab);
            let mut whole = Chain { shortcut: Shortcut::None, ..Chain::for_logits(&sampling, seed, n_vocab) };
            let prompt: Vec<Token> = (0..chance(20)).map(|_| chance(n_vocab) as Token).collect();
            short.see(&prompt);
            whole.see(&prompt);
            taken[match short.shortcut {
                Shortcut::None => 0,
                Shortcut::Best => 1,
                Shortcut::TopK(_) => 2,
            }] += 1;
            for step in 0..20 {
                let logits = logits(&mut chance, n_vocab);
                let (short, whole) = (short.pick(&logits), whole.pick(&logits));
                assert_eq!(short.unwrap(), whole.unwrap(), "round {round}, step {step}: {sampling:?}");
            }
        }
        assert!(taken.iter().all(|count| *count > 200), "{taken:?}");
    }

    #[test]
    fn numbers_that_are_none_are_an_error() {
        let mut sampler = Chain::for_logits(&greedy(), 1, 2);
        let picked = sampler.pick(&[f32::NAN, f32::NAN]);
        assert!(picked.is_err() || (0..2).contains(&picked.unwrap()));
    }
}
