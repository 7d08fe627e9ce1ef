//! 7 — speculative decoding: draft tokens, several of which the model verifies in one batch. Next:
//! sequence.rs.
//!
//! The sampler chooses every token from the model's own logits whatever the draft, so a rejected draft costs
//! time but changes no text, except in near ties: a batch rounds differently. Drafts are made only where they
//! pay: this depends on the acceptance rate of similar drafts in this answer and on the learnt costs of
//! batches. Nothing here reads a clock.

use std::collections::{HashMap, VecDeque};

use super::costs::{Costs, LARGEST, SIZES};
use super::token::Token;

/// Drafts the next tokens.
pub trait Drafter {
    /// Starts a new text; forgets the previous one.
    fn begin(&mut self);
    /// Tokens that may follow `before`, which are in memory, and `next`, at most `most`; none if a draft does
    /// not pay at these `costs`. `demanded`: how a constraint's only continuation is probably spelled. Between
    /// calls the text may only grow.
    fn draft(
        &mut self,
        before: &[Token],
        next: Token,
        demanded: &[Token],
        most: usize,
        costs: &Costs,
    ) -> Vec<Token>;
}

/// The minimum and maximum length of a draft, in tokens.
const LEAST: usize = 2;
pub const MOST: usize = LARGEST - 1; // where a batch costs little, as on a GPU
/// The maximum where main memory holds a part of the model: a longer draft costs too much there.
pub const MOST_ON_CPU: usize = 64;

/// Prompt lookup: expects the tokens that followed an earlier occurrence of the last few tokens, or those that a
/// constraint demands.
#[derive(Default)]
pub struct Lookup {
    text: Vec<Token>,
    /// The position after the latest occurrence of each n-gram. Shorter n-grams are padded with NO_TOKEN at
    /// the front.
    followed: HashMap<[Token; LONGEST], usize>,
    expected: Option<Continuation>,
    /// The last continuation that proved wrong, and the length of the text at that point.
    broken: Option<(Continuation, usize)>,
    surprise: [Surprise; GROUPS],
    /// What was demanded after the text, and how often that was spelled otherwise.
    demanded: VecDeque<Token>,
    spelling: Surprise,
    /// The number of drafts that costs have shortened or prevented.
    declined: usize,
}

/// The lengths of the shortest and longest n-gram looked up.
const SHORTEST: usize = 3;
const LONGEST: usize = 5;
const NO_TOKEN: Token = -1;

/// An earlier passage that is expected to repeat.
#[derive(Clone, Copy)]
struct Continuation {
    /// The index of the next expected token.
    at: usize,
    /// The number of tokens before it that match the end of the text.
    agreeing: usize,
}

/// Initial acceptance rates, from answers of small models, for agreements of 3, 4 to 7, 8 to 15, … tokens:
/// the longer the agreement, the likelier it continues.
const EXPERIENCE: [f64; 6] = [0.12, 0.72, 0.89, 0.94, 0.96, 0.98];

/// How often a model spells demanded text with the tokens that the tokenizer would make of it.
const SPELLING: f64 = 0.9;

/// The class of an agreement: an index into [`EXPERIENCE`].
fn class(agreeing: usize) -> usize {
    (agreeing.ilog2() as usize - 1).min(EXPERIENCE.len() - 1)
}

/// Classes that learn together: short agreements each by themselves, copies as one, because how much of a copy is
/// edited depends on the task, not on the place.
const GROUPS: usize = 3;

fn group(class: usize) -> usize {
    class.min(GROUPS - 1)
}

/// How often this answer departs from what is expected of it, compared with experience.
#[derive(Clone, Copy, Default)]
struct Surprise {
    /// The wrong tokens seen, and those that experience predicted for the same places; old ones fade.
    wrong: f64,
    predicted: f64,
}

impl Surprise {
    /// The decay per token: remembers about the last hundred.
    const MEMORY: f64 = 0.99;
    /// The weight of experience, in wrong tokens.
    const WEIGHT: f64 = 0.5;

    /// The chance that a token is right that is by experience with the chance `usual`.
    fn chance(self, usual: f64) -> f64 {
        let ratio = (Surprise::WEIGHT + self.wrong) / (Surprise::WEIGHT + self.predicted);
        1.0 - ((1.0 - usual) * ratio).min(1.0)
    }

    fn count(&mut self, usual: f64, right: bool) {
        self.wrong = self.wrong * Surprise::MEMORY + f64::from(!right);
        self.predicted = self.predicted * Surprise::MEMORY + 1.0 - usual;
    }
}

/// The number of tokens within which an interrupted copy may resume.
const DETOUR: usize = 12;

/// The length of a copy after which a single token is enough to resume it.
const SURE: usize = 8;

/// The minimum expected speed-up of a draft.
const GAIN: f64 = 1.05;

/// One in so many declined drafts is made nevertheless: costs change, and only drafts show that.
const RETRY: usize = 64;

impl Lookup {
    fn add(&mut self, token: Token) {
        let right = self.expected.filter(|expected| self.text[expected.at] == token);
        if let Some(wrong) = self.expected.filter(|_| right.is_none()) {
            self.broken = Some((wrong, self.text.len()));
        }
        self.text.push(token);
        let followed = self.index();
        let on = |Continuation { at, agreeing }| Continuation { at: at + 1, agreeing: agreeing + 1 };
        let known = right.map(on);
        let longer = followed.filter(|(_, length)| known.is_none_or(|known| known.agreeing < *length));
        self.expected = match longer {
            Some((at, _)) => Some(Continuation { at, agreeing: self.agreeing(at).max(self.taken_up(at)) }),
            None => known.or_else(|| self.take_up(token)),
        };
    }

    /// Indexes the end of the text. Returns what followed the latest earlier occurrence of its longest known
    /// n-gram: the position, and the length of the n-gram.
    fn index(&mut self) -> Option<(usize, usize)> {
        let end = self.text.len();
        let mut found = None;
        for length in SHORTEST..=LONGEST.min(end) {
            let mut gram = [NO_TOKEN; LONGEST];
            gram[LONGEST - length..].copy_from_slice(&self.text[end - length..]);
            found = self.followed.insert(gram, end).map(|at| (at, length)).or(found);
        }
        found
    }

    /// The number of tokens before `at` that match the end of the text, as far as that matters.
    fn agreeing(&self, at: usize) -> usize {
        let pairs = self.text[..at].iter().rev().zip(self.text.iter().rev());
        pairs.take(1 << EXPERIENCE.len()).take_while(|(a, b)| a == b).count()
    }

    /// Where a copy that has just been interrupted may resume after `token`.
    fn take_up(&self, token: Token) -> Option<Continuation> {
        let (wrong, _) = self.broken.filter(|(_, then)| self.text.len() < then + DETOUR)?;
        let ahead = &self.text[wrong.at..(wrong.at + DETOUR).min(self.text.len() - 1)];
        let at = wrong.at + 1 + ahead.iter().position(|passed| *passed == token)?;
        Some(Continuation { at, agreeing: wrong.agreeing / 2 })
            .filter(|expected| expected.agreeing >= SURE / 2)
    }

    /// The agreement credited at `at` to a copy interrupted by a correction and resumed a little later: half
    /// of the previous one. 0 if `at` is not such a place.
    fn taken_up(&self, at: usize) -> usize {
        let near = |(wrong, then): &(Continuation, usize)| {
            (wrong.at..wrong.at + DETOUR).contains(&at) && self.text.len() < then + DETOUR
        };
        self.broken.filter(near).map_or(0, |(wrong, _)| wrong.agreeing / 2)
    }

    /// The best expected speed-up at these costs, and the length of the draft; 0 if none is worthwhile. A draft is
    /// as long as allowed, or of a length whose cost is learnt. `chance`: of its last token, by the length of a
    /// draft.
    fn best(&self, most: usize, costs: &Costs, chance: impl Fn(usize) -> f64) -> (f64, usize) {
        let most = most.min(MOST);
        let (mut all_right, mut tokens) = (1.0, 1.0);
        let mut best = (GAIN, 0);
        for length in 1..=most {
            all_right *= chance(length);
            tokens += all_right;
            if length < LEAST || !(length == most || SIZES.contains(&(length + 1))) {
                continue;
            }
            let gain = tokens / costs.of(length + 1, self.text.len() - 1);
            if gain > best.0 {
                best = (gain, length);
            }
        }
        best
    }

    /// The length of the best draft, and whether it is one of the `demanded` tokens.
    fn length(&self, demanded: usize, most: usize, costs: &Costs) -> (usize, bool) {
        let spelled = self.spelling.chance(SPELLING);
        let of_demanded = self.best(demanded.min(most), costs, |_| spelled);
        let of_copy = self.expected.map(|copy| {
            self.best(most, costs, |length| {
                let class = class(copy.agreeing + length - 1);
                self.surprise[group(class)].chance(EXPERIENCE[class])
            })
        });
        match of_copy.filter(|(gain, _)| *gain > of_demanded.0) {
            Some((_, length)) => (length, false),
            None => (of_demanded.1, true),
        }
    }

    /// The draft to make: the best, and now and then the one that would be best at usual costs.
    fn chosen(&mut self, demanded: usize, most: usize, costs: &Costs) -> (usize, bool) {
        let best = self.length(demanded, most, costs);
        let usual = self.length(demanded, most, &Costs::default());
        if usual.0 <= best.0 {
            return best;
        }
        self.declined += 1;
        if self.declined.is_multiple_of(RETRY) { usual } else { best }
    }
}

impl Drafter for Lookup {
    fn begin(&mut self) {
        *self = Lookup { declined: self.declined, ..Lookup::default() };
    }

    fn draft(
        &mut self,
        before: &[Token],
        next: Token,
        demanded: &[Token],
        most: usize,
        costs: &Costs,
    ) -> Vec<Token> {
        let first = self.text.is_empty();
        for token in before[self.text.len()..].iter().chain([&next]) {
            if let Some(Continuation { at, agreeing }) = self.expected.filter(|_| !first) {
                let class = class(agreeing);
                self.surprise[group(class)].count(EXPERIENCE[class], self.text[at] == *token); // drafted or not
            }
            if let Some(spelled) = self.demanded.pop_front() {
                self.spelling.count(SPELLING, spelled == *token);
                if spelled != *token {
                    self.demanded.clear(); // the rest of another spelling is another one
                }
            }
            self.add(*token);
        }
        let (length, is_demanded) = self.chosen(demanded.len(), most, costs);
        self.demanded = demanded.iter().copied().collect();
        match self.expected.filter(|_| !is_demanded) {
            Some(Continuation { at, .. }) => {
                let round = self.text[at..].iter().cycle(); // wraps around where the text repeats itself
                round.take(length).copied().collect()
            }
            None => demanded[..length].to_vec(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine on which a batch costs little more than a token.
    fn cheap() -> Costs {
        Costs::read(&[(512, 17, 1.5)])
    }

    /// A machine on which a batch costs as much as its tokens.
    fn dear() -> Costs {
        Costs::read(&SIZES.map(|size| (512, size, size as f64)))
    }

    /// The draft after each token of `text` past its first `prompt` tokens.
    fn draft(costs: Costs, prompt: usize, text: &[Token]) -> Vec<Vec<Token>> {
        let mut lookup = Lookup::default();
        (prompt..text.len()).map(|at| lookup.draft(&text[..at], text[at], &[], MOST, &costs)).collect()
    }

    #[test]
    fn what_followed_before_is_proposed() {
        let prompt: Vec<Token> = (1..=40).collect();
        let text = [&prompt[..], &[100, 10, 11, 12]].concat();
        let draft = draft(cheap(), 40, &text);
        assert!(draft[..3].iter().all(Vec::is_empty), "two tokens are not an n-gram");
        assert!((LEAST..=MOST).contains(&draft[3].len()));
        assert_eq!(draft[3], prompt[12..][..draft[3].len()]);
    }

    #[test]
    fn the_latest_and_longest_agreement_counts() {
        let text = [1, 2, 3, 4, 5, 60, 61, 62, 9, 3, 4, 5, 70, 71, 72, 1, 2, 3, 4, 5];
        assert_eq!(
            draft(cheap(), text.len() - 1, &text)[0][..2],
            [60, 61],
            "five matching tokens win over three"
        );
        let text = [9, 3, 4, 5, 70, 71, 72, 8, 3, 4, 5, 80, 81, 82, 7, 3, 4, 5];
        assert_eq!(draft(cheap(), text.len() - 1, &text)[0][..2], [80, 81], "the latest match wins");
    }

    #[test]
    fn what_is_demanded_is_proposed_while_it_is_spelled_so() {
        let demanded = [7, 8, 9, 10];
        let text: Vec<Token> = (100..160).collect(); // never what was demanded
        let draft = |lookup: &mut Lookup, at: usize, costs: Costs| {
            lookup.draft(&text[..at], text[at], &demanded, MOST, &costs)
        };
        assert_eq!(draft(&mut Lookup::default(), 9, cheap()), demanded);
        assert!(draft(&mut Lookup::default(), 9, dear()).is_empty(), "it does not pay");
        let mut lookup = Lookup::default();
        let drafted: usize = (10..60).map(|at| draft(&mut lookup, at, Costs::default()).len()).sum();
        assert!((3..20).contains(&drafted), "it has learnt that: {drafted}");
    }

    #[test]
    fn what_repeats_itself_is_taken_round() {
        let text = [1, 2, 3, 1, 2, 3, 1, 2, 3];
        let draft = &draft(cheap(), text.len() - 1, &text)[0];
        assert_eq!(draft[..], [1, 2, 3, 1, 2, 3, 1, 2, 3, 1, 2, 3, 1, 2, 3, 1][..draft.len()]);
    }

    #[test]
    fn nothing_is_proposed_for_fresh_text() {
        let text: Vec<Token> = (0..500).collect();
        assert!(draft(cheap(), 100, &text).iter().all(Vec::is_empty));
    }

    #[test]
    fn no_draft_where_a_batch_costs_as_much_as_its_tokens() {
        let text: Vec<Token> = (0..400).map(|i| i % 40).collect();
        let made = |costs| draft(costs, 100, &text).iter().filter(|draft| !draft.is_empty()).count();
        assert!((1..=300 / RETRY).contains(&made(dear())), "only to see whether it still does");
        assert!(made(cheap()) > 200);
    }

    #[test]
    fn the_costs_at_the_present_depth_count() {
        let shallow = SIZES.map(|size| (512, size, 1.5));
        let deep = SIZES.map(|size| (1024, size, size as f64));
        let text: Vec<Token> = (0..560).map(|i| i % 40).collect();
        let costs = Costs::read(&[&shallow[..], &deep].concat());
        let lengths: Vec<usize> = draft(costs, 460, &text).iter().map(Vec::len).collect();
        assert!(lengths[20..52].iter().all(|length| *length == MOST), "{lengths:?}");
        assert_eq!(lengths[52..].iter().filter(|length| **length > 0).count(), 0, "{lengths:?}");
    }

    /// A copy in which every twentieth token is corrected: the copy resumes at once.
    #[test]
    fn a_copy_goes_on_after_a_word_that_was_put_right() {
        let prompt: Vec<Token> = (0..200).collect();
        let copy = (0..200).map(|i| if i % 20 == 10 { 1000 + i } else { i });
        let text: Vec<Token> = prompt.iter().copied().chain(copy).collect();
        let lengths: Vec<usize> = draft(Costs::default(), 200, &text).iter().map(Vec::len).collect();
        let after = |wrong: usize| lengths[wrong + 3]; // three tokens on, an n-gram matches again
        assert!(after(170) > 0, "{lengths:?}");
    }

    /// In a copy with one corrected token, the single token after it is enough to resume.
    #[test]
    fn a_sure_copy_goes_on_after_one_token() {
        let prompt: Vec<Token> = (0..200).collect();
        let copy = (0..120).map(|i| if i == 60 { 1000 } else { i });
        let text: Vec<Token> = prompt.iter().copied().chain(copy).collect();
        let draft = draft(cheap(), 200, &text);
        assert!(draft[60].is_empty(), "a new token predicts nothing");
        assert_eq!(draft[61][..3], [62, 63, 64]);
    }

    /// A text that repeatedly starts like the prompt and then diverges.
    #[test]
    fn drafts_that_are_rejected_end_and_come_back_when_they_would_be_accepted() {
        let prompt: Vec<Token> = (0..300).collect();
        let wrong = (0..60).flat_map(|i| [i * 4, i * 4 + 1, i * 4 + 2, 1000 + i]);
        let right = 0..200;
        let text: Vec<Token> = prompt.iter().copied().chain(wrong).chain(right).collect();
        let costs = Costs::read(&[(512, 2, 2.0), (512, 129, 2.0)]);
        let lengths: Vec<usize> = draft(costs, 300, &text).iter().map(Vec::len).collect();
        let (wrong, right) = lengths.split_at(240);
        assert_eq!(wrong[120..].iter().sum::<usize>(), 0, "it has learnt not to draft");
        assert_eq!(right[40..150], [MOST; 110], "and that drafts pay again");
    }

    #[test]
    fn longer_drafts_the_longer_it_goes_well() {
        let prompt: Vec<Token> = (0..300).collect();
        let text = [&prompt[..], &prompt[..100]].concat();
        let lengths = |costs| -> Vec<usize> { draft(costs, 300, &text).iter().map(Vec::len).collect() };
        let usual = lengths(Costs::default());
        assert!(usual[2] < usual[8] && usual[8] < usual[90], "{usual:?}");
        assert_eq!(lengths(Costs::read(&[(512, 33, 1.9), (512, 129, 2.0)]))[90], MOST);
    }
}
