//! 7 — how long batches take on this machine, measured once a model, when nobody waits: what drafting decides by.

use std::time::Instant;

use super::Engine;
use super::draft::{Costs, MOST};
use super::model::{Logits, Model};
use super::token::Token;

/// Sizes of the batches that are timed; the rest follows from these.
const SIZES: [usize; 7] = [1, 2, 3, 5, 9, 17, MOST + 1];
/// How often each is timed. The shortest time counts: what else the machine does only makes it longer.
const ROUNDS: usize = 2;
/// How often measuring may be broken off before it is left: each time somebody has waited for a batch.
const DISTURBED: usize = 2;
/// Most tokens in memory: with more, batches take long, and somebody who comes would wait for one.
const DEEPEST: usize = 1024;
/// Seconds after which nothing larger is tried: somebody might come meanwhile.
const LONG: f64 = 0.5;

impl<M: Model> Engine<M> {
    /// Measures what it does not know yet. `None`: nothing was learnt, for it is known, cannot be measured now, or was `superseded`.
    pub fn measure(&mut self, superseded: &dyn Fn() -> bool) -> Option<Costs> {
        let here = self.prefill.cache.tokens().len();
        let most = (MOST + 1).min(self.model.chunk());
        let batch: Vec<Token> =
            self.prefill.cache.tokens().iter().rev().cycle().take(most).copied().collect();
        let fits = here <= DEEPEST && here + batch.len() <= self.model.capacity();
        let possible = fits && !batch.is_empty() && self.model.can_return();
        if self.costs.is_some() || !self.drafting || !possible || self.disturbed >= DISTURBED {
            return None;
        }
        self.disturbed += 1; // until it turns out that nobody came
        let mut times = SIZES.map(|size| (size, f64::INFINITY));
        for _ in 0..ROUNDS {
            for (size, shortest) in times.iter_mut().filter(|(size, _)| *size <= batch.len()) {
                let time = self.time(&batch[..*size], superseded)?;
                *shortest = shortest.min(time);
                if time > LONG {
                    break;
                }
            }
        }
        let tried = times.iter().take_while(|(_, time)| time.is_finite()).count();
        self.disturbed = 0;
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
            self.prefill.cache.truncate_to(&mut self.model, here).ok()?;
            evaluated.ok()?;
        }
        Some(time)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::super::toy::Toy;
    use super::*;
    use crate::chat::{Event, Message, Request, Role, Settings};

    fn answer(engine: &mut Engine<Toy>, no_speculative: bool) -> String {
        let settings = Settings { no_speculative, ..Settings::default() };
        let hello = [Message::new(Role::User, "Hello there")];
        let mut request = Request { raw: true, ..Request::new(hello, &settings) };
        request.generation.max_tokens = 100;
        let mut text = String::new();
        let done = engine.reply(&request, &AtomicBool::new(false), &mut |event| match event {
            Event::Text(piece) => text.push_str(&piece),
            other => assert!(matches!(other, Event::Prefill { .. }), "{other:?}"),
        });
        done.unwrap();
        text
    }

    fn engine(mut toy: Toy) -> Engine<Toy> {
        toy.chunk = 32;
        Engine::new(toy, None, &[]).unwrap()
    }

    #[test]
    fn it_is_measured_once_after_an_answer_and_leaves_no_trace() {
        let mut engine = engine(Toy::saying("one\0two"));
        assert_eq!(engine.measure(&|| false), None, "nothing has been answered yet");
        assert_eq!(answer(&mut engine, true), "one");
        assert_eq!(engine.measure(&|| false), None, "nobody drafts");
        let mut engine = self::engine(Toy::saying("one\0two"));
        assert_eq!(answer(&mut engine, false), "one");
        let before = engine.prefill.cache.tokens().to_vec();
        assert_eq!(engine.measure(&|| true), None, "somebody came");
        assert_eq!(engine.measure(&|| false).unwrap().numbers()[0], 1.0);
        assert_eq!(engine.measure(&|| false), None, "it is known");
        assert_eq!((engine.prefill.cache.tokens(), engine.model.memory()), (&before[..], &before[..]));
        assert_eq!(answer(&mut engine, false), "two");
    }

    #[test]
    fn memory_that_cannot_be_cut_is_not_tried_with() {
        let mut engine = engine(Toy::saying("one").uncuttable());
        answer(&mut engine, false);
        assert_eq!(engine.measure(&|| false), None);
    }
}
