//! 7 — how long batches take on this machine, measured once a model, when nobody waits: what guessing decides by.

use std::time::Instant;

use super::Engine;
use super::draft::{Costs, MOST};
use super::llama::{Logits, Model, Token};

/// Sizes of the batches that are timed; the rest follows from these.
const SIZES: [usize; 6] = [1, 2, 3, 5, 9, MOST + 1];
/// How often each is timed. The shortest time counts: what else the machine does only makes it longer.
const ROUNDS: usize = 4;
/// Seconds after which nothing larger is tried: somebody might come meanwhile.
const LONG: f64 = 0.5;

impl<M: Model> Engine<M> {
    /// Measures what it does not know yet. `None`: nothing was learnt, for it is known, cannot be measured now, or was `superseded`.
    pub fn measure(&mut self, superseded: &dyn Fn() -> bool) -> Option<Costs> {
        let here = self.cache.tokens().len();
        let batch: Vec<Token> = self.cache.tokens().iter().rev().cycle().take(MOST + 1).copied().collect();
        let possible = self.model.can_return() && here + batch.len() <= self.model.capacity();
        if self.costs.is_some() || !self.guessing || !possible || batch.is_empty() {
            return None;
        }
        let mut times = SIZES.map(|size| (size, f64::INFINITY));
        for _ in 0..ROUNDS {
            for (size, shortest) in &mut times {
                let time = self.time(&batch[..*size], superseded)?;
                *shortest = shortest.min(time);
                if time > LONG {
                    break;
                }
            }
        }
        let tried = times.iter().take_while(|(_, time)| time.is_finite()).count();
        self.costs = Costs::measured(&times[..tried]);
        self.costs.clone()
    }

    /// Seconds that a batch takes after what is in memory, which stays as it is. A batch of another size has to be prepared by
    /// llama.cpp first; two in a row tell what it takes in the course of an answer.
    fn time(&mut self, batch: &[Token], superseded: &dyn Fn() -> bool) -> Option<f64> {
        let here = self.model.len();
        let mut time = 0.0;
        for _ in 0..2 {
            if superseded() {
                return None;
            }
            let started = Instant::now();
            let evaluated = self.model.decode(batch, Logits::All).map(|()| self.model.logits(0)[0]); // waits for a GPU
            time = started.elapsed().as_secs_f64();
            self.cache.keep(&mut self.model, here).ok()?;
            evaluated.ok()?;
        }
        Some(time)
    }
}
