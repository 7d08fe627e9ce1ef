//! 7 — speculative decoding: draft tokens, several of which the model verifies in one batch. Next: sequence.rs.
//!
//! Whatever is drafted, the sampler chooses every token from the model's own logits: a rejected draft costs time and changes no
//! text. So drafts are made only where they pay, which is decided by how often drafts like these were accepted in this answer
//! and by what a batch costs on this machine. No clock is looked at here.

use std::collections::HashMap;

use super::token::Token;

/// DraftCounts at what comes next.
pub trait Drafter {
    /// A new text begins: nothing is known of it yet.
    fn begin(&mut self);
    /// Tokens that may follow `before` and `next`, at most `most` of them; none where drafting does not pay. From call to call
    /// the text so far only grows.
    fn draft(&mut self, before: &[Token], next: Token, most: usize) -> Vec<Token>;
}

/// Fewest and most tokens of a draft.
const LEAST: usize = 2;
pub const MOST: usize = 32;

/// What evaluating a token and a draft after it takes, as a multiple of what the token alone takes.
#[derive(Debug, Clone, PartialEq)]
pub struct Costs([f64; MOST + 1]);

impl Costs {
    /// From seconds that batches of some sizes took, in the order of their sizes, the first of one token. Between and beyond
    /// these sizes lies a straight line. `None` where the times say nothing.
    pub fn measured(times: &[(usize, f64)]) -> Option<Costs> {
        let usable = times.windows(2).all(|pair| pair[0].0 < pair[1].0)
            && times.iter().all(|(_, time)| *time > 0.0 && time.is_finite());
        let one = times.first().filter(|(size, _)| *size == 1 && usable)?.1;
        let time = |size: usize| {
            let after = times.iter().position(|(known, _)| *known >= size).unwrap_or(times.len() - 1).max(1);
            let ((near, start), (far, end)) = (times[after - 1], times[after]);
            start + (end - start) * (size - near) as f64 / (far - near) as f64
        };
        (times.len() > 1).then(|| Costs(std::array::from_fn(|i| (time(i + 1) / one).max(1.0))))
    }

    /// As they were written down: one number for each size from 1 on.
    pub fn read(numbers: &[f64]) -> Option<Costs> {
        let times: Vec<(usize, f64)> = (1..).zip(numbers.iter().copied()).collect();
        Costs::measured(&times)
    }

    pub fn numbers(&self) -> &[f64] {
        &self.0
    }

    fn of(&self, size: usize) -> f64 {
        self.0[size - 1]
    }
}

/// Until it is measured: of two cores and a small model, which gain little from evaluating several tokens at once.
impl Default for Costs {
    fn default() -> Costs {
        Costs(std::array::from_fn(|i| if i == 0 { 1.0 } else { 1.9 + 0.38 * i as f64 }))
    }
}

/// Prompt look-up: what followed when the last few tokens stood somewhere before will follow again.
pub struct Lookup {
    costs: Costs,
    text: Vec<Token>,
    /// Where in the text each n-gram was last followed by something. The shorter ones have NO_TOKEN before them.
    followed: HashMap<[Token; LONGEST], usize>,
    expected: Option<Continuation>,
    /// What was expected when that last proved wrong, and how long the text was then.
    broken: Option<(Continuation, usize)>,
    /// For every kind of agreement.
    odds: [Odds; EXPERIENCE.len()],
}

/// Tokens of the shortest and longest n-gram that is looked up.
const SHORTEST: usize = 3;
const LONGEST: usize = 5;
const NO_TOKEN: Token = -1;

/// What stood here before is expected to come again.
#[derive(Clone, Copy)]
struct Continuation {
    /// Index of the token that is expected next.
    at: usize,
    /// So many tokens before it agree with the last ones of the text.
    agreeing: usize,
}

/// Agreements of 3, of 4 to 7, of 8 to 15, … tokens: the longer two places agree, the likelier they go on doing so. What to
/// expect of each kind before anything is known comes from answers of small models.
const EXPERIENCE: [f64; 5] = [0.2, 0.5, 0.9, 0.93, 0.97];

fn kind(agreeing: usize) -> usize {
    (agreeing.ilog2() as usize - 1).min(EXPERIENCE.len() - 1)
}

/// How often what was expected came, lately.
#[derive(Clone, Copy)]
struct Odds {
    right: f64,
    wrong: f64,
}

impl Odds {
    /// How much of the past counts after one more token: about the last thirty.
    const MEMORY: f64 = 0.97;
    /// So many tokens the experience counts for.
    const WEIGHT: f64 = 4.0;

    fn from(chance: f64) -> Odds {
        Odds { right: Odds::WEIGHT * chance, wrong: Odds::WEIGHT * (1.0 - chance) }
    }

    fn chance(self) -> f64 {
        self.right / (self.right + self.wrong)
    }

    fn count(&mut self, right: bool) {
        self.right = self.right * Odds::MEMORY + f64::from(right);
        self.wrong = self.wrong * Odds::MEMORY + f64::from(!right);
    }
}

/// Tokens within which a copy that broke off goes on.
const DETOUR: usize = 12;

/// Tokens of a copy that one token is enough to take up again.
const SURE: usize = 8;

/// What a draft must promise at least, as a multiple of the tokens a second without it.
const GAIN: f64 = 1.2;

impl Lookup {
    pub fn new(costs: Costs) -> Lookup {
        Lookup {
            costs,
            text: Vec::new(),
            followed: HashMap::new(),
            expected: None,
            broken: None,
            odds: EXPERIENCE.map(Odds::from),
        }
    }

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

    /// Remembers that something will follow the text as it is now. Returns what followed the same last tokens before, the most
    /// of them that are known, and how many these are.
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

    /// How many tokens before `at` are the last ones of the text, as far as that matters.
    fn agreeing(&self, at: usize) -> usize {
        let pairs = self.text[..at].iter().rev().zip(self.text.iter().rev());
        pairs.take(1 << EXPERIENCE.len()).take_while(|(a, b)| a == b).count()
    }

    /// Where a copy that has just broken off may go on after `token`.
    fn take_up(&self, token: Token) -> Option<Continuation> {
        let (wrong, _) = self.broken.filter(|(_, then)| self.text.len() < then + DETOUR)?;
        let ahead = &self.text[wrong.at..(wrong.at + DETOUR).min(self.text.len() - 1)];
        let at = wrong.at + 1 + ahead.iter().position(|passed| *passed == token)?;
        Some(Continuation { at, agreeing: wrong.agreeing / 2 })
            .filter(|expected| expected.agreeing >= SURE / 2)
    }

    /// For how many tokens a copy counts as agreeing that breaks off, for a word that is put right, and goes on a little later:
    /// half of those before. 0: `at` is no such place.
    fn taken_up(&self, at: usize) -> usize {
        let near = |(wrong, then): &(Continuation, usize)| {
            (wrong.at..wrong.at + DETOUR).contains(&at) && self.text.len() < then + DETOUR
        };
        self.broken.filter(near).map_or(0, |(wrong, _)| wrong.agreeing / 2)
    }

    /// How long a draft promises most tokens for its time; 0 where none promises enough.
    fn length(&self, agreeing: usize, most: usize) -> usize {
        let (mut all_right, mut tokens) = (1.0, 1.0);
        let mut best = (GAIN, 0);
        for length in 1..=most.min(MOST) {
            all_right *= self.odds[kind(agreeing + length - 1)].chance();
            tokens += all_right;
            let gain = tokens / self.costs.of(length + 1);
            if length >= LEAST && gain > best.0 {
                best = (gain, length);
            }
        }
        best.1
    }
}

impl Drafter for Lookup {
    fn begin(&mut self) {
        *self = Lookup::new(self.costs.clone());
    }

    fn draft(&mut self, before: &[Token], next: Token, most: usize) -> Vec<Token> {
        let first = self.text.is_empty();
        for token in before[self.text.len()..].iter().chain([&next]) {
            if let Some(Continuation { at, agreeing }) = self.expected.filter(|_| !first) {
                self.odds[kind(agreeing)].count(self.text[at] == *token); // learnt whether it was drafted or not
            }
            self.add(*token);
        }
        let Some(Continuation { at, agreeing }) = self.expected else { return Vec::new() };
        let length = self.length(agreeing, most);
        let round = self.text[at..].iter().cycle(); // the text goes round where it repeats itself
        round.take(length).copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine on which a batch costs hardly more than a token.
    fn cheap() -> Costs {
        Costs::measured(&[(1, 1.0), (17, 1.5)]).unwrap()
    }

    /// What is drafted after each token of `text`, the first `prompt` of which come at once.
    fn draft(costs: Costs, prompt: usize, text: &[Token]) -> Vec<Vec<Token>> {
        let mut lookup = Lookup::new(costs);
        (prompt..text.len()).map(|at| lookup.draft(&text[..at], text[at], 100)).collect()
    }

    #[test]
    fn what_followed_before_is_proposed() {
        let prompt: Vec<Token> = (1..=40).collect();
        let text = [&prompt[..], &[100, 10, 11, 12]].concat();
        let draft = draft(cheap(), 40, &text);
        assert!(draft[..3].iter().all(Vec::is_empty), "two tokens are no n-gram");
        assert!((LEAST..=MOST).contains(&draft[3].len()));
        assert_eq!(draft[3], prompt[12..][..draft[3].len()]);
    }

    #[test]
    fn the_latest_and_longest_agreement_counts() {
        let text = [1, 2, 3, 4, 5, 60, 61, 62, 9, 3, 4, 5, 70, 71, 72, 1, 2, 3, 4, 5];
        assert_eq!(draft(cheap(), text.len() - 1, &text)[0][..2], [60, 61], "five tokens before three");
        let text = [9, 3, 4, 5, 70, 71, 72, 8, 3, 4, 5, 80, 81, 82, 7, 3, 4, 5];
        assert_eq!(draft(cheap(), text.len() - 1, &text)[0][..2], [80, 81], "the latest");
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
        let dear = Costs::measured(&[(1, 1.0), (17, 17.0)]).unwrap();
        assert!(draft(dear, 100, &text).iter().all(Vec::is_empty));
        assert!(!draft(cheap(), 100, &text).iter().all(Vec::is_empty));
    }

    /// A copy in which every twentieth token is put right: the rest of it counts as the same copy at once.
    #[test]
    fn a_copy_goes_on_after_a_word_that_was_put_right() {
        let prompt: Vec<Token> = (0..200).collect();
        let copy = (0..200).map(|i| if i % 20 == 10 { 1000 + i } else { i });
        let text: Vec<Token> = prompt.iter().copied().chain(copy).collect();
        let lengths: Vec<usize> = draft(Costs::default(), 200, &text).iter().map(Vec::len).collect();
        let after = |wrong: usize| lengths[wrong + 3]; // three tokens on, an n-gram is found again
        assert!(after(170) > 0, "{lengths:?}");
    }

    /// In the same copy the token that comes right after the one that was put right is enough.
    #[test]
    fn a_sure_copy_goes_on_after_one_token() {
        let prompt: Vec<Token> = (0..200).collect();
        let copy = (0..120).map(|i| if i == 60 { 1000 } else { i });
        let text: Vec<Token> = prompt.iter().copied().chain(copy).collect();
        let draft = draft(cheap(), 200, &text);
        assert!(draft[60].is_empty(), "a token that is new says nothing");
        assert_eq!(draft[61][..3], [62, 63, 64]);
    }

    /// A text that begins like the prompt and goes another way, over and over.
    #[test]
    fn drafts_that_are_rejected_end_and_come_back_when_they_would_be_accepted() {
        let prompt: Vec<Token> = (0..300).collect();
        let wrong = (0..60).flat_map(|i| [i * 4, i * 4 + 1, i * 4 + 2, 1000 + i]);
        let right = 0..200;
        let text: Vec<Token> = prompt.iter().copied().chain(wrong).chain(right).collect();
        let costs = Costs::measured(&[(1, 1.0), (2, 2.0), (17, 4.0)]).unwrap();
        let lengths: Vec<usize> = draft(costs, 300, &text).iter().map(Vec::len).collect();
        let (wrong, right) = lengths.split_at(240);
        assert_eq!(wrong[120..].iter().sum::<usize>(), 0, "it has learnt not to");
        assert_eq!(right[40..150], [MOST; 110], "and that it pays again");
    }

    #[test]
    fn longer_drafts_the_longer_it_goes_well() {
        let prompt: Vec<Token> = (0..300).collect();
        let text = [&prompt[..], &prompt[..100]].concat();
        let lengths: Vec<usize> = draft(Costs::default(), 300, &text).iter().map(Vec::len).collect();
        assert!(lengths[2] < lengths[90], "{lengths:?}");
        assert_eq!(lengths[90], MOST);
    }

    #[test]
    fn costs_lie_on_straight_lines_between_what_was_measured() {
        let costs = Costs::measured(&[(1, 0.5), (3, 1.0), (5, 1.2)]).unwrap();
        let expected = [1.0, 1.5, 2.0, 2.2, 2.4, 2.6];
        assert!(costs.numbers().iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-9), "{costs:?}");
        assert_eq!(Costs::read(costs.numbers()).unwrap(), costs);
        for nothing in
            [&[][..], &[(1, 1.0)], &[(2, 1.0), (3, 1.0)], &[(1, 0.0), (2, 1.0)], &[(1, 1.0), (1, 1.0)]]
        {
            assert_eq!(Costs::measured(nothing), None);
        }
    }
}
