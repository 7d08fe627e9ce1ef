//! 8 — the loop: logits → token → thinking and text, until something ends it. Next: stream.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Result;

use super::cache::Cache;
use super::draft::Drafter;
use super::model::{Model, Sampler};
use super::stream::Stream;
use super::stream::reasoning::Piece;
use super::token::Token;
use crate::chat::{DraftCounts, Event, StopReason};

/// What the loop needs besides the model and its memory, whose last token has logits.
pub struct Writing<'a> {
    pub sampler: Box<dyn Sampler>,
    pub stream: Stream,
    /// Tokens that end the answer besides those that the model itself says do.
    pub ends: Vec<Token>,
    /// Most tokens to write.
    pub predict: u32,
    /// Who drafts; `None`: nobody.
    pub drafter: Option<Box<dyn Drafter>>,
    pub cancel: &'a AtomicBool,
}

/// Why it ended, and how many tokens were written (the one that says "over" not counted).
pub struct Written {
    pub stop: StopReason,
    pub tokens: usize,
    /// Of these, the ones of thinking.
    pub thinking: usize,
    pub drafts: DraftCounts,
}

/// Writes an answer after what is in the cache; every piece of it goes to `show`.
pub fn generate(
    model: &mut impl Model,
    cache: &mut Cache,
    mut writing: Writing,
    show: &mut dyn FnMut(Event),
) -> Result<Written> {
    let (mut tokens, mut thinking) = (0, 0);
    let mut repetition = Repetition::new();
    let mut stream = writing.stream;
    let mut forced = VecDeque::new(); // tokens that are written whatever the model would write
    let mut memory = Memory::new(model, cache, writing.drafter, writing.ends);
    let stop = loop {
        if tokens >= writing.predict as usize {
            break StopReason::Length;
        }
        if writing.cancel.load(Ordering::Relaxed) {
            break StopReason::Interrupted;
        }
        let next = match forced.pop_front() {
            Some(token) => writing.sampler.take(token),
            None => writing.sampler.pick(memory.logits())?, // logits → token
        };
        if memory.model.ends(next) || (memory.ends(next) && !stream.parted_by(next)) {
            break StopReason::End;
        }
        tokens += 1;
        thinking += usize::from(stream.thinks());
        let (piece, stopped) = match stream.tag(next) {
            Some(tag) => stream.push_tag(&tag),
            None => stream.push(&memory.model.piece(next, false)), // token → text
        };
        tell(piece, thinking, show);
        if stopped {
            break StopReason::Stop;
        }
        if forced.is_empty() {
            forced.extend(stream.enough(thinking));
        }
        if repetition.endless(next) {
            break StopReason::Repetition;
        }
        if tokens >= writing.predict as usize {
            break StopReason::Length;
        }
        if memory.certain + 1 > memory.model.limit() {
            break StopReason::Context;
        }
        let still_to_come = if forced.is_empty() { writing.predict as usize - tokens - 1 } else { 0 };
        memory.push(next, still_to_come)?; // token → logits
    };
    let drafts = memory.drop_draft()?;
    if stop != StopReason::Stop {
        let rest = stream.finish(stop == StopReason::End);
        if thinking == 0 && !rest.thinking.is_empty() {
            thinking = tokens; // a header that never ended
        }
        tell(rest, thinking, show);
    }
    Ok(Written { stop, tokens, thinking, drafts })
}

/// The text so far in the model's memory, with a draft of what follows it.
struct Memory<'a, M> {
    model: &'a mut M,
    cache: &'a mut Cache,
    drafter: Option<Box<dyn Drafter>>,
    ends: Vec<Token>,
    /// Tokens of the text; those in memory after them are draft tokens.
    certain: usize,
    /// Which of the logits are those after the last of them.
    row: usize,
    drafts: DraftCounts,
}

impl<'a, M: Model> Memory<'a, M> {
    fn new(
        model: &'a mut M,
        cache: &'a mut Cache,
        drafter: Option<Box<dyn Drafter>>,
        ends: Vec<Token>,
    ) -> Memory<'a, M> {
        let certain = cache.tokens().len();
        Memory { model, cache, drafter, ends, certain, row: 0, drafts: DraftCounts::default() }
    }

    /// Whether the answer may be over with this token.
    fn ends(&self, token: Token) -> bool {
        self.model.ends(token) || self.ends.contains(&token)
    }

    fn logits(&self) -> &[f32] {
        self.model.logits(self.row)
    }

    /// Adds a token to the text. If it was drafted nothing is left to do; otherwise it is evaluated, with a new draft after it,
    /// at most `most` of them.
    fn push(&mut self, token: Token, most: usize) -> Result<()> {
        if self.cache.tokens().get(self.certain) == Some(&token) {
            self.certain += 1;
            self.row += 1;
            self.drafts.accepted += 1;
            return Ok(());
        }
        self.cache.truncate_to(self.model, self.certain)?;
        let draft = self.draft(token, most);
        self.cache.push(self.model, token, &draft)?;
        self.certain += 1;
        self.row = 0;
        self.drafts.drafted += draft.len();
        Ok(())
    }

    fn draft(&mut self, next: Token, most: usize) -> Vec<Token> {
        let Some(drafter) = self.drafter.as_mut().filter(|_| self.model.can_return()) else {
            return Vec::new();
        };
        let room = self.model.capacity().saturating_sub(self.certain + 1); // memory does not grow for a draft
        let mut draft = drafter.draft(self.cache.tokens(), next, most.min(room).min(self.model.chunk() - 1));
        // Where the answer would be over nothing after it is needed, and the row before it says so.
        let end = draft.iter().position(|draft| self.ends(*draft)).unwrap_or(draft.len());
        draft.truncate(end);
        draft
    }

    /// Forgets what is left of the draft.
    fn drop_draft(self) -> Result<DraftCounts> {
        self.cache.truncate_to(self.model, self.certain)?;
        Ok(self.drafts)
    }
}

fn tell(piece: Piece, tokens: usize, show: &mut dyn FnMut(Event)) {
    if !piece.thinking.is_empty() {
        show(Event::Thinking { text: piece.thinking, tokens });
    }
    if !piece.answer.is_empty() {
        show(Event::Text(piece.answer));
    }
}

/// Notices an answer that goes round in circles: the same up to 64 tokens over and over, 512 tokens long.
struct Repetition {
    tokens: Vec<Token>,
    /// For every period, how many of the last tokens equal the one a period before.
    runs: [usize; Repetition::LONGEST_PERIOD],
}

impl Repetition {
    const LONGEST_PERIOD: usize = 64;
    const ENDLESS: usize = 512;

    fn new() -> Repetition {
        Repetition { tokens: Vec::new(), runs: [0; Repetition::LONGEST_PERIOD] }
    }

    fn endless(&mut self, token: Token) -> bool {
        for (period, run) in (1..).zip(&mut self.runs) {
            let before = self.tokens.len().checked_sub(period).map(|at| self.tokens[at]);
            *run = if before == Some(token) { *run + 1 } else { 0 };
        }
        self.tokens.push(token);
        self.runs.iter().any(|run| *run >= Repetition::ENDLESS)
    }
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use super::super::draft::{Costs, Lookup};
    use super::super::prompt::format::{AnswerPrefix, Format};
    use super::super::sampler::Chain;
    use super::super::stream::Thoughts;
    use super::super::stream::reasoning::Reasoning;
    use super::super::toy::Toy;
    use super::*;
    use crate::chat::settings::Sampling;

    /// Everything that decides an answer.
    #[derive(Clone, Debug)]
    struct Case {
        says: String,
        limit: usize,
        predict: u32,
        stops: Vec<String>,
        /// Whether it thinks, and for how many tokens it may.
        thinks: bool,
        budget: Option<u32>,
        /// Stopped after so many pieces.
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
            cancel: usize::MAX,
        }
    }

    const PROMPT: [Token; 3] = [1, 2, 3];

    /// What is shown, how it ended, and what is in memory then.
    fn run(case: &Case, drafter: Option<Box<dyn Drafter>>) -> (Vec<Event>, Written, Vec<Token>) {
        let mut toy = Toy::saying(&case.says);
        toy.limit = case.limit;
        let mut cache = Cache::default();
        cache.reuse(&mut toy, &PROMPT).unwrap();
        let flow = cache.read(&mut toy, &PROMPT, &mut |_| ControlFlow::Continue(())).unwrap();
        assert!(flow.is_continue());
        let format = Format::tags("<t>", "</t>");
        let closing = toy.tokenize(&format.closing(), true);
        let thoughts = Thoughts {
            reasoning: Reasoning::after(&format, None, AnswerPrefix::default()),
            tags: Vec::new(),
            budget: case.budget.map(|most| (most, closing)),
        };
        let sampling = Sampling { temp: 0.0, ..Sampling::default() };
        let cancel = AtomicBool::new(case.cancel == 0);
        let writing = Writing {
            sampler: Box::new(Chain::for_logits(&sampling, 1, toy.vocabulary.len)),
            stream: Stream::new(Some(thoughts).filter(|_| case.thinks), &case.stops),
            ends: Vec::new(),
            predict: case.predict,
            drafter,
            cancel: &cancel,
        };
        let mut events = Vec::new();
        let mut show = |event| {
            events.push(event);
            cancel.store(events.len() >= case.cancel, Ordering::Relaxed);
        };
        let written = generate(&mut toy, &mut cache, writing, &mut show).unwrap();
        assert_eq!(cache.tokens(), toy.memory());
        (events, written, toy.memory().to_vec())
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

    /// What a model that says `says` thought and answered.
    fn think(says: &str, budget: Option<u32>, stops: &[&str]) -> (String, String, Written) {
        let (events, written, _) = run(&Case { thinks: true, budget, ..case(says, 100, stops) }, None);
        let (thinking, text) = said(&events);
        (thinking, text, written)
    }

    #[test]
    fn thinking_is_told_apart_and_ends_when_it_was_enough() {
        let (thinking, text, written) = think("<t>hm.\n</t>\nYes.", None, &["."]);
        assert_eq!((thinking.as_str(), text.as_str(), written.stop), ("hm.", "Yes", StopReason::Stop));
        assert_eq!(written.thinking, 8, "from the tag's end on");
        let (thinking, text, _) = think("<t>0123456789................abc", Some(4), &[]);
        assert_eq!(
            (thinking.as_str(), text.as_str()),
            ("0123", "...............abc"),
            "seven were written for it"
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

    /// DraftCounts some tokens right, and then some that may be wrong.
    struct Gambler {
        says: Vec<Token>,
        chance: Chance,
    }

    impl Drafter for Gambler {
        fn draft(&mut self, before: &[Token], next: Token, most: usize) -> Vec<Token> {
            assert!(before.starts_with(&PROMPT) && next != 256);
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
            let words = ["a", "bc", "<t>", "</t>\n", "abcabc", "cab", " "];
            let count = 1 + chance.below(40);
            let says: String = (0..count).map(|_| words[chance.below(words.len())]).collect();
            let says = if chance.below(20) == 0 { says[..says.len().min(9)].repeat(200) } else { says };
            let stops: &[&str] = [&[][..], &["cc"], &["abcabcab", "b<"]][chance.below(3)];
            let case = Case {
                limit: [8192, 8192, 4 + chance.below(80)][chance.below(3)],
                thinks: chance.below(2) == 0,
                budget: [None, Some(chance.below(20) as u32)][chance.below(2)],
                cancel: [usize::MAX, usize::MAX, chance.below(40)][chance.below(3)],
                ..case(&says, [5000, chance.below(60) as u32][chance.below(2)], stops)
            };
            let (events, plain, memory) = run(&case, None);
            let says: Vec<Token> = case.says.bytes().map(Token::from).chain([256]).collect();
            let cheap = Costs::measured(&[(1, 1.0), (17, 1.1)]).unwrap();
            let drafters: [Box<dyn Drafter>; 2] = [
                Box::new(Gambler { says, chance: Chance(chance.below(1000) as u64) }),
                Box::new(Lookup::new(cheap)),
            ];
            for drafter in drafters {
                let (drafted_events, drafted, drafted_memory) = run(&case, Some(drafter));
                assert_eq!(drafted_events, events, "{case:?}");
                assert_eq!(drafted_memory, memory, "{case:?}");
                let outcome = |written: &Written| (written.stop, written.tokens, written.thinking);
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
}
