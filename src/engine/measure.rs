//! The cost of batches on this machine, measured once per model while idle; drafting depends on it. Belongs
//! to stage 7.

use std::time::Instant;

use super::cache::{self, Cache};
use super::draft::{Costs, Drafter, Lookup, MOST};
use super::model::{Cancel, Model};
use super::token::Token;

/// The batch sizes to time; the others are interpolated.
const SIZES: [usize; 7] = [1, 2, 3, 5, 9, 17, MOST + 1];
/// The number of timings per size. The shortest counts: other load only makes it longer.
const ROUNDS: usize = 2;
/// The number of interrupted measurements after which to give up: each time a user had to wait for a batch.
const DISTURBED: usize = 2;
/// The maximum number of tokens in memory: with more, batches take long, and an arriving user would have to
/// wait.
const DEEPEST: usize = 1024;
/// The batch time in seconds after which no larger size is tried: a user might arrive.
const LONG: f64 = 0.5;

/// The drafter, and whether its costs are known.
pub(super) struct Speculation {
    drafter: Lookup,
    /// Whether the costs are measured.
    measured: bool,
    /// Whether the drafter has been used, so that measuring is worthwhile.
    used: bool,
    /// The number of interrupted measurements.
    disturbed: usize,
}

impl Speculation {
    /// `costs`: the measured costs of batches; `None`: not measured yet.
    pub(super) fn new(costs: Option<Costs>) -> Speculation {
        let measured = costs.is_some();
        let drafter = Lookup::new(costs.unwrap_or_default());
        Speculation { drafter, measured, used: false, disturbed: 0 }
    }

    /// Lends the drafter for a new text.
    pub(super) fn drafter(&mut self) -> &mut dyn Drafter {
        self.used = true;
        self.drafter.begin();
        &mut self.drafter
    }

    /// Measures the costs if still unknown, after the tokens in memory. `None`: nothing was measured.
    pub(super) fn measure(
        &mut self,
        model: &mut impl Model,
        cache: &mut Cache,
        superseded: Cancel,
    ) -> Option<Costs> {
        let here = cache.tokens().len();
        let most = (MOST + 1).min(model.batch_size());
        let batch: Vec<Token> = cache.tokens().iter().rev().cycle().take(most).copied().collect();
        let fits = here <= DEEPEST && here + batch.len() <= model.capacity();
        let possible = fits && !batch.is_empty() && cache.can_return(model);
        if self.measured || !self.used || !possible || self.disturbed >= DISTURBED {
            return None;
        }
        self.disturbed += 1; // reset when the measurement completes
        let mut times = SIZES.map(|size| (size, f64::INFINITY));
        for _ in 0..ROUNDS {
            for (size, shortest) in times.iter_mut().filter(|(size, _)| *size <= batch.len()) {
                let time = time(model, cache, &batch[..*size], superseded)?;
                *shortest = shortest.min(time);
                if time > LONG {
                    break;
                }
            }
        }
        let tried = times.iter().take_while(|(_, time)| time.is_finite()).count();
        let costs = Costs::measured(&times[..tried]);
        *self = Speculation { used: true, ..Speculation::new(costs.clone()) };
        costs
    }
}

/// The time in seconds of a batch after the tokens in memory, which stay as they are. llama.cpp has to
/// prepare for a new batch size first; the second of two runs gives the time in the course of an answer.
fn time(model: &mut impl Model, cache: &mut Cache, batch: &[Token], superseded: Cancel) -> Option<f64> {
    let here = cache.tokens().len();
    let mut time = 0.0;
    for _ in 0..2 {
        if superseded() {
            return None;
        }
        let started = Instant::now();
        let evaluated =
            cache::append(model, &mut [(cache, batch)], superseded).is_ok_and(|flow| flow.is_continue());
        let _first = evaluated.then(|| model.logits(0)[0]); // waits for a GPU
        time = started.elapsed().as_secs_f64();
        cache.truncate_to(model, here).ok()?;
        evaluated.then_some(())?;
    }
    Some(time)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::super::Engine;
    use super::super::toy::Toy;
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
        toy.batch_size = 32;
        Engine::new(toy, None, &[]).unwrap()
    }

    #[test]
    fn it_is_measured_once_after_an_answer_and_leaves_no_trace() {
        let mut engine = engine(Toy::saying("one\0two"));
        assert_eq!(engine.measure(&|| false), None, "nothing has been answered yet");
        assert_eq!(answer(&mut engine, true), "one");
        assert_eq!(engine.measure(&|| false), None, "the drafter was not used");
        let mut engine = self::engine(Toy::saying("one\0two"));
        assert_eq!(answer(&mut engine, false), "one");
        let before = engine.prefill.cache.tokens().to_vec();
        assert_eq!(engine.measure(&|| true), None, "superseded");
        assert_eq!(engine.measure(&|| false).unwrap().numbers()[0], 1.0);
        assert_eq!(engine.measure(&|| false), None, "already measured");
        assert_eq!((engine.prefill.cache.tokens(), engine.model.memory(0)), (&before[..], &before[..]));
        assert_eq!(answer(&mut engine, false), "two");
    }

    #[test]
    fn memory_that_cannot_be_cut_is_not_tried_with() {
        let mut engine = engine(Toy::saying("one").uncuttable());
        answer(&mut engine, false);
        assert_eq!(engine.measure(&|| false), None);
    }
}
