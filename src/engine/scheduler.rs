//! 9 — sequences → batches: each round steps every running answer and evaluates their next tokens and drafts
//! in one batch. Next: stream.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::Result;

use super::cache::{self, Cache};
use super::costs::Costs;
use super::draft::Drafter;
use super::model::Model;
use super::sequence::{Sequence, StepResult};
use super::token::Token;
use crate::chat::{DraftCounts, Event, StopReason};

/// An answer and what generates it.
pub struct Slot<'a> {
    pub sequence: Sequence<'a>,
    /// Its tokens in the model's memory.
    pub cache: &'a mut Cache,
    /// Drafts tokens for it; `None`: no speculative decoding.
    pub drafter: Option<&'a mut dyn Drafter>,
    pub show: &'a mut dyn FnMut(Event),
}

/// Why an answer ended, and its token counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Generated {
    pub stop: StopReason,
    pub tokens: usize,
    /// The thinking tokens among them.
    pub thinking: usize,
    pub drafts: DraftCounts,
}

/// Answers that are generated together.
pub struct Scheduler<'a> {
    /// Each with its number.
    running: Vec<(usize, RunningSequence<'a>)>,
    generated: Vec<Option<Generated>>,
    /// What batches cost: on this depends what is drafted, and each batch of a single answer teaches it.
    costs: &'a mut Costs,
}

struct RunningSequence<'a> {
    slot: Slot<'a>,
    /// The number of confirmed tokens in memory; drafts follow them.
    certain: usize,
    /// The row of logits after the last confirmed token.
    row: usize,
    /// The tokens to evaluate next: one confirmed token and its drafts.
    next: Vec<Token>,
    drafts: DraftCounts,
    stop: Option<StopReason>,
}

impl<'a> Scheduler<'a> {
    pub fn new(costs: &'a mut Costs) -> Scheduler<'a> {
        Scheduler { running: Vec::new(), generated: Vec::new(), costs }
    }

    /// Adds an answer whose prompt has just been evaluated, so that the model's logits are those after the
    /// prompt.
    pub fn add(&mut self, model: &impl Model, slot: Slot<'a>) -> Result<()> {
        let certain = slot.cache.tokens().len();
        let (next, drafts) = (Vec::new(), DraftCounts::default());
        let mut running = RunningSequence { slot, certain, row: 0, next, drafts, stop: None };
        running.advance(model)?;
        self.running.push((self.generated.len(), running));
        self.generated.push(None);
        Ok(())
    }

    /// Runs until all answers have ended; returns their results in the order in which they were added.
    pub fn run(mut self, model: &mut impl Model) -> Result<Vec<Generated>> {
        while self.evaluate(model)? {
            self.running.iter_mut().try_for_each(|(_, running)| running.advance(model))?;
        }
        Ok(self.generated.into_iter().flatten().collect())
    }

    /// Evaluates the next tokens of the answers. `false`: all have ended.
    fn evaluate(&mut self, model: &mut impl Model) -> Result<bool> {
        for (number, running) in std::mem::take(&mut self.running) {
            match running.stop {
                Some(stop) => self.generated[number] = Some(running.finish(model, stop)?),
                None => self.running.push((number, running)),
            }
        }
        if self.running.is_empty() {
            return Ok(false);
        }
        let share = model.batch_size().min(model.rows()) / self.running.len();
        let costs = &*self.costs;
        self.running.iter_mut().try_for_each(|(_, running)| running.draft(model, share, costs))?;
        let cancels: Vec<&AtomicBool> =
            self.running.iter().map(|(_, running)| running.slot.sequence.cancel()).collect();
        let all_cancelled = || cancels.iter().all(|cancel| cancel.load(Ordering::Relaxed));
        let parts = self
            .running
            .iter_mut()
            .map(|(_, RunningSequence { slot, next, .. })| (&mut *slot.cache, &next[..]));
        let (capacity, started) = (model.capacity(), Instant::now());
        let flow = cache::append(model, &mut parts.collect::<Vec<_>>(), &all_cancelled)?;
        if flow.is_continue() && model.capacity() == capacity {
            self.learn(model, started);
        }
        let mut row = 0;
        for (_, running) in &mut self.running {
            if flow.is_break() {
                running.stop = Some(StopReason::Interrupted);
                continue;
            }
            running.certain += 1;
            running.row = row;
            running.drafts.drafted += running.next.len() - 1;
            row += running.next.len();
        }
        Ok(true)
    }

    /// Learns what the batch has cost that began at `started`, if it belongs to one answer.
    fn learn(&mut self, model: &impl Model, started: Instant) {
        if let [(_, running)] = &self.running[..] {
            let _first = model.logits(0)[0]; // waits for a GPU
            self.costs.learn(running.next.len(), running.certain, started.elapsed().as_secs_f64());
        }
    }
}

impl RunningSequence<'_> {
    /// Steps as long as there are logits, across every accepted draft token.
    fn advance(&mut self, model: &impl Model) -> Result<()> {
        while self.stop.is_none() {
            let Slot { sequence, cache, show, .. } = &mut self.slot;
            let token = match sequence.step(model, model.logits(self.row), show)? {
                StepResult::End(stop) => {
                    self.stop = Some(stop);
                    break;
                }
                StepResult::Token(_) if self.certain + 1 > model.limit() => {
                    self.stop = Some(StopReason::Context);
                    break;
                }
                StepResult::Token(_) if sequence.cancelled() => {
                    self.stop = Some(StopReason::Interrupted);
                    break;
                }
                StepResult::Token(token) => token,
            };
            if cache.tokens().get(self.certain) != Some(&token) {
                self.next = vec![token];
                break;
            }
            self.certain += 1;
            self.row += 1;
            self.drafts.accepted += 1;
        }
        Ok(())
    }

    /// Drops rejected drafts and appends new ones to the next token, `most` tokens in total.
    fn draft(&mut self, model: &mut impl Model, most: usize, costs: &Costs) -> Result<()> {
        let Slot { sequence, cache, drafter, .. } = &mut self.slot;
        cache.truncate_to(model, self.certain)?;
        let Some(drafter) = drafter.as_mut().filter(|_| cache.can_return(model)) else { return Ok(()) };
        let room = model.capacity().saturating_sub(self.certain + 1); // memory does not grow for a draft
        let most = sequence.draftable().min(room).min(most - 1);
        let demanded = sequence.demanded(model);
        let mut drafts = drafter.draft(cache.tokens(), self.next[0], &demanded, most, costs);
        // Nothing after a token that ends the answer is needed: the logits before it decide the end.
        let end = drafts.iter().position(|draft| sequence.may_end(model, *draft)).unwrap_or(drafts.len());
        drafts.truncate(end);
        sequence.keep_fitting(&mut drafts);
        self.next.append(&mut drafts);
        Ok(())
    }

    /// Drops the drafts that were not used, and shows the rest of the answer.
    fn finish(self, model: &mut impl Model, stop: StopReason) -> Result<Generated> {
        let RunningSequence { slot: Slot { sequence, cache, show, .. }, certain, drafts, .. } = self;
        cache.truncate_to(model, certain.min(cache.tokens().len()))?;
        let (tokens, thinking) = sequence.finish(stop, show);
        Ok(Generated { stop, tokens, thinking, drafts })
    }
}

#[cfg(test)]
mod tests {
    use super::super::constrained::Constrained;
    use super::super::constraint::Tokens;
    use super::super::draft::Lookup;
    use super::super::prompt::format::{AnswerPrefix, ThinkingFormat};
    use super::super::sampler::Chain;
    use super::super::stream::reasoning::Reasoning;
    use super::super::stream::{Stream, Thoughts};
    use super::super::toy::Toy;
    use super::*;
    use crate::chat::Constraint;
    use crate::chat::settings::Sampling;

    /// Everything that determines an answer.
    #[derive(Clone, Debug)]
    struct Case {
        says: String,
        limit: usize,
        predict: u32,
        stops: Vec<String>,
        /// Whether it thinks, and its thinking budget in tokens.
        thinks: bool,
        budget: Option<u32>,
        /// What the answer must match.
        regex: Option<&'static str>,
        /// Cancelled after this many events.
        cancel: usize,
    }

    fn case(says: &str, predict: u32, stops: &[&str]) -> Case {
        let stops = stops.iter().map(|stop| stop.to_string()).collect();
        Case {
            says: says.into(),
            limit: 8192,
            predict,
            stops,
            thinks: false,
            budget: None,
            regex: None,
            cancel: usize::MAX,
        }
    }

    const PROMPT: [Token; 3] = [1, 2, 3];

    /// The events, how the answer ended, and the tokens in memory at the end.
    type RunResult = (Vec<Event>, Generated, Vec<Token>);

    fn run(case: &Case, drafter: Option<&mut dyn Drafter>) -> RunResult {
        let mut cheap = Costs::read(&[(512, 17, 1.1)]);
        run_together(std::slice::from_ref(case), vec![drafter], &mut cheap).remove(0)
    }

    /// Runs several answers side by side, in a model with the limit of the first.
    fn run_together(
        cases: &[Case],
        drafters: Vec<Option<&mut dyn Drafter>>,
        costs: &mut Costs,
    ) -> Vec<RunResult> {
        let says: Vec<&str> = cases.iter().map(|case| case.says.as_str()).collect();
        let mut toy = Toy::saying_each(&says);
        toy.limit = cases[0].limit;
        let mut caches: Vec<Cache> = (0..cases.len()).map(Cache::of).collect();
        let cancels: Vec<AtomicBool> = cases.iter().map(|case| AtomicBool::new(case.cancel == 0)).collect();
        let mut events: Vec<Vec<Event>> = vec![Vec::new(); cases.len()];
        let shows = events.iter_mut().zip(&cancels).zip(cases).map(|((events, cancel), case)| {
            move |event| {
                events.push(event);
                cancel.store(events.len() >= case.cancel, Ordering::Relaxed);
            }
        });
        let mut shows: Vec<_> = shows.collect();
        let mut scheduler = Scheduler::new(costs);
        let parts = caches.iter_mut().zip(&cancels).zip(&mut shows).zip(drafters).zip(cases);
        for ((((cache, cancel), show), drafter), case) in parts {
            cache.reuse(&mut toy, &PROMPT).unwrap();
            assert!(cache.read(&mut toy, &PROMPT, &|| false, &mut |_| {}).unwrap().is_continue());
            let format = ThinkingFormat::tags("<t>", "</t>");
            let closing = toy.tokenize(&format.closing(), true);
            let thoughts = Thoughts {
                reasoning: Reasoning::after(&format, None, AnswerPrefix::default()),
                tags: Vec::new(),
                budget: case.budget.map(|most| (most, closing)),
            };
            let stream = Stream::new(Some(thoughts).filter(|_| case.thinks), &case.stops);
            let sampling = Sampling { temp: 0.0, ..Sampling::default() };
            let sampler = Box::new(Chain::for_logits(&sampling, 1, toy.vocabulary.len));
            let sequence = Sequence::new(sampler, stream, Vec::new(), case.predict, cancel);
            let sequence = sequence.constrained(case.regex.map(|regex| {
                let constraint = Constraint::Regex(regex.into());
                let matcher = Tokens::of(&toy).matcher(&constraint, "", &[], Vec::new()).unwrap();
                Constrained::new(&toy, matcher, case.thinks.then_some(&format))
            }));
            let drafter = drafter.map(|drafter| drafter as _); // shortens its lifetime
            scheduler.add(&toy, Slot { sequence, cache, drafter, show }).unwrap();
        }
        let generated = scheduler.run(&mut toy).unwrap();
        drop(shows);
        let outcomes = events.into_iter().zip(generated).zip(&caches).enumerate();
        let outcomes = outcomes.map(|(number, ((events, generated), cache))| {
            assert_eq!(cache.tokens(), toy.memory(number));
            (events, generated, toy.memory(number).to_vec())
        });
        outcomes.collect()
    }

    fn said(events: &[Event]) -> (String, String) {
        let (mut thinking, mut text) = (String::new(), String::new());
        for event in events {
            match event {
                Event::Text(piece) => text.push_str(piece),
                Event::Thinking { text, .. } => thinking.push_str(text),
                other => panic!("{other:?}"),
            }
        }
        (thinking, text)
    }

    fn write(case: &Case) -> (String, StopReason, usize) {
        let (events, written, _) = run(case, None);
        (said(&events).1, written.stop, written.tokens)
    }

    #[test]
    fn each_way_to_end() {
        let hello = |predict, stops: &[&str]| write(&case("hello", predict, stops));
        assert_eq!(hello(100, &[]), ("hello".into(), StopReason::End, 5));
        assert_eq!(hello(3, &[]), ("hel".into(), StopReason::Length, 3));
        assert_eq!(hello(0, &[]), (String::new(), StopReason::Length, 0));
        assert_eq!(hello(100, &["lo"]), ("hel".into(), StopReason::Stop, 5));
        let small = Case { limit: 5, ..case("hello", 100, &[]) };
        assert_eq!(write(&small), ("hel".into(), StopReason::Context, 3));
    }

    /// The thinking and the answer of a model that says `says`.
    fn think(says: &str, budget: Option<u32>, stops: &[&str]) -> (String, String, Generated) {
        let (events, written, _) = run(&Case { thinks: true, budget, ..case(says, 100, stops) }, None);
        let (thinking, text) = said(&events);
        (thinking, text, written)
    }

    #[test]
    fn thinking_is_told_apart_and_ends_when_it_was_enough() {
        let (thinking, text, written) = think("<t>hm.\n</t>\nYes.", None, &["."]);
        assert_eq!((thinking.as_str(), text.as_str(), written.stop), ("hm.", "Yes", StopReason::Stop));
        assert_eq!(written.thinking, 8, "counted from the end of the tag");
        let (thinking, text, _) = think("<t>0123456789................abc", Some(4), &[]);
        assert_eq!(
            (thinking.as_str(), text.as_str()),
            ("0123", "...............abc"),
            "seven tokens were forced"
        );
    }

    #[test]
    fn circles_end() {
        let (_, stop, tokens) = write(&case(&"ab".repeat(2000), 5000, &[]));
        assert_eq!((stop, tokens), (StopReason::Repetition, 514));
        let counting: String = (0..400).map(|i| format!("{i} ")).collect();
        assert_eq!(write(&case(&counting, 5000, &[])).1, StopReason::End);
    }

    /// Knuth's MMIX constants.
    struct Chance(u64);

    impl Chance {
        fn below(&mut self, n: usize) -> usize {
            self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (self.0 >> 33) as usize % n
        }
    }

    impl Case {
        fn any(chance: &mut Chance) -> Case {
            let words = ["a", "bc", "<t>", "</t>\n", "abcabc", "cab", " "];
            let count = 1 + chance.below(40);
            let says: String = (0..count).map(|_| words[chance.below(words.len())]).collect();
            let says = if chance.below(20) == 0 { says[..says.len().min(9)].repeat(200) } else { says };
            let stops: &[&str] = [&[][..], &["cc"], &["abcabcab", "b<"]][chance.below(3)];
            Case {
                limit: [8192, 8192, 4 + chance.below(80)][chance.below(3)],
                thinks: chance.below(2) == 0,
                budget: [None, Some(chance.below(20) as u32)][chance.below(2)],
                cancel: [usize::MAX, usize::MAX, chance.below(40)][chance.below(3)],
                ..case(&says, [5000, chance.below(60) as u32][chance.below(2)], stops)
            }
        }
    }

    /// Drafts some right tokens, then some that may be wrong.
    struct Gambler {
        says: Vec<Token>,
        chance: Chance,
    }

    impl Drafter for Gambler {
        fn begin(&mut self) {}

        fn draft(
            &mut self,
            before: &[Token],
            next: Token,
            demanded: &[Token],
            most: usize,
            _costs: &Costs,
        ) -> Vec<Token> {
            assert!(before.starts_with(&PROMPT) && next != 256);
            if self.chance.below(2) == 0 && !demanded.is_empty() {
                return demanded.iter().copied().take(most).collect();
            }
            let written = (before.len() + 1 - PROMPT.len()).min(self.says.len());
            let right = self.chance.below(8);
            let wrong = self.chance.below(4);
            let mut draft: Vec<Token> = self.says[written..].iter().copied().take(right).collect();
            draft.extend((0..wrong).map(|_| Token::from(b"ab</t>"[self.chance.below(6)])));
            draft.truncate(most);
            draft
        }
    }

    #[test]
    fn an_answer_is_the_same_with_drafts_and_without() {
        let mut chance = Chance(3);
        let (mut made, mut right, mut ends) = (0, 0, Vec::new());
        for _ in 0..3000 {
            let case = Case::any(&mut chance);
            let (events, plain, memory) = run(&case, None);
            let says: Vec<Token> = case.says.bytes().map(Token::from).chain([256]).collect();
            let mut gambler = Gambler { says, chance: Chance(chance.below(1000) as u64) };
            let mut lookup = Lookup::default();
            let drafters: [&mut dyn Drafter; 2] = [&mut gambler, &mut lookup];
            for drafter in drafters {
                let (drafted_events, drafted, drafted_memory) = run(&case, Some(drafter));
                assert_eq!(drafted_events, events, "{case:?}");
                assert_eq!(drafted_memory, memory, "{case:?}");
                let outcome = |written: &Generated| (written.stop, written.tokens, written.thinking);
                assert_eq!(outcome(&drafted), outcome(&plain), "{case:?}");
                made += drafted.drafts.drafted;
                right += drafted.drafts.accepted;
            }
            ends.push(plain.stop);
        }
        assert!(right > 10_000 && made > right + 10_000, "{right} of {made} draft tokens were accepted");
        use StopReason::*;
        for end in [End, Length, Stop, Context, Repetition, Interrupted] {
            assert!(ends.iter().filter(|stop| **stop == end).count() > 20, "{end:?}");
        }
    }

    #[test]
    fn a_constrained_answer_is_the_same_with_drafts_and_without() {
        let mut chance = Chance(4);
        let (mut accepted, mut whole) = (0, 0);
        for _ in 0..100 {
            let regex = ["[ab]{3,30}", "(abc|cab| ){1,20}", "[^<]*", "<[a-z]+>"][chance.below(4)];
            let case =
                Case { regex: Some(regex), cancel: usize::MAX, stops: Vec::new(), ..Case::any(&mut chance) };
            let (events, plain, memory) = run(&case, None);
            let says = case.says.bytes().map(Token::from).chain([256]).collect();
            let mut gambler = Gambler { says, chance: Chance(chance.below(1000) as u64) };
            let (drafted_events, drafted, drafted_memory) = run(&case, Some(&mut gambler));
            assert_eq!((drafted_events, drafted_memory), (events.clone(), memory), "{case:?}");
            assert_eq!((drafted.stop, drafted.tokens), (plain.stop, plain.tokens), "{case:?}");
            accepted += drafted.drafts.accepted;
            if plain.stop == StopReason::End && !case.thinks {
                whole += 1;
                let text = said(&events).1;
                assert!(
                    super::super::constraint::matches(&Constraint::Regex(regex.into()), &text),
                    "{text:?} {case:?}"
                );
            }
        }
        assert!(accepted > 100 && whole > 15, "{accepted} drafted tokens, {whole} whole answers");
    }

    #[test]
    fn answers_generated_together_are_those_of_each_alone() {
        let mut chance = Chance(5);
        let (mut joined, mut right) = (0, 0);
        for _ in 0..1000 {
            let limit = [8192, 4 + chance.below(80)][chance.below(2)];
            let cases: Vec<Case> =
                (0..1 + chance.below(3)).map(|_| Case { limit, ..Case::any(&mut chance) }).collect();
            let alone: Vec<RunResult> = cases.iter().map(|case| run(case, None)).collect();
            let mut gamblers: Vec<Gambler> = Vec::new();
            for case in &cases {
                let says = case.says.bytes().map(Token::from).chain([256]).collect();
                gamblers.push(Gambler { says, chance: Chance(chance.below(1000) as u64) });
            }
            let drafts: Vec<bool> = cases.iter().map(|_| chance.below(2) == 0).collect();
            let drafters = gamblers.iter_mut().zip(&drafts);
            let drafters = drafters.map(|(one, drafts)| drafts.then_some(one as &mut dyn Drafter)).collect();
            let together = run_together(&cases, drafters, &mut Costs::default());
            assert_eq!(together.len(), cases.len());
            for (case, (one, other)) in cases.iter().zip(alone.iter().zip(&together)) {
                assert_eq!((&one.0, &one.2), (&other.0, &other.2), "{case:?}");
                let outcome = |of: &Generated| (of.stop, of.tokens, of.thinking);
                assert_eq!(outcome(&one.1), outcome(&other.1), "{case:?}");
                right += other.1.drafts.accepted;
            }
            joined += cases.len();
        }
        assert!(joined > 1500 && right > 1000, "{joined} answers, {right} drafted tokens");
    }

    #[test]
    fn several_sequences_share_a_batch() {
        let mut toy = Toy::saying_each(&["abc", "de"]);
        let mut caches = [Cache::of(0), Cache::of(1)];
        let cancel = AtomicBool::new(false);
        let mut shown = [String::new(), String::new()];
        let mut shows = shown.each_mut().map(|shown| {
            move |event| {
                if let Event::Text(text) = event {
                    shown.push_str(&text);
                }
            }
        });
        let mut costs = Costs::default();
        let mut scheduler = Scheduler::new(&mut costs);
        for (cache, show) in caches.iter_mut().zip(&mut shows) {
            cache.reuse(&mut toy, &PROMPT).unwrap();
            assert!(cache.read(&mut toy, &PROMPT, &|| false, &mut |_| {}).unwrap().is_continue());
            let sampling = Sampling { temp: 0.0, ..Sampling::default() };
            let sampler = Box::new(Chain::for_logits(&sampling, 1, toy.vocabulary.len));
            let sequence = Sequence::new(sampler, Stream::new(None, &[]), Vec::new(), 100, &cancel);
            scheduler.add(&toy, Slot { sequence, cache, drafter: None, show }).unwrap();
        }
        toy.batches.clear();
        let generated = scheduler.run(&mut toy).unwrap();
        assert_eq!(toy.batches, [2, 2, 1]);
        assert_eq!(generated.iter().map(|of| of.tokens).collect::<Vec<_>>(), [3, 2]);
        assert_eq!(shown, ["abc", "de"]);
    }

    #[test]
    fn the_batches_of_a_single_answer_teach_what_they_cost() {
        let says = "abcdefghij".repeat(40);
        let mut gambler = Gambler { says: says.bytes().map(Token::from).collect(), chance: Chance(1) };
        let (one, mut costs) = (case(&says, 400, &[]), Costs::default());
        run_together(std::slice::from_ref(&one), vec![Some(&mut gambler)], &mut costs);
        let sizes: Vec<usize> = costs.list().iter().map(|(_, size, _)| *size).collect();
        assert_eq!(sizes, [2, 3, 5, 9]);
        let mut costs = Costs::default();
        run_together(&[one.clone(), one], vec![None, None], &mut costs);
        assert_eq!(costs, Costs::default(), "which answer has cost how much cannot be told");
    }
}
