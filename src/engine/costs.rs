//! The time of each batch → what a batch costs on this machine, as a multiple of a single token's time, by its
//! size and by the number of tokens in memory before it (the depth). Drafting depends on it. Part of 7.
//!
//! What was never seen is estimated cheap: a draft is then tried, and shows the true cost. Batches of other sizes, and
//! those of prefill, which have fewer logits, only improve the estimates.

use std::collections::BTreeMap;

/// The batch sizes whose costs are learnt. Between them, costs lie on straight lines.
pub const SIZES: [usize; 9] = [1, 2, 3, 5, 9, 17, 33, 65, LARGEST];
/// The largest of them.
pub const LARGEST: usize = 129;
/// The smallest depth beyond the first class of depths. Each further class reaches twice as far.
const FIRST_CLASS: usize = 512;
/// The most by which one time changes the known time of a single token, once it was seen often: it then follows
/// the median, because other load lengthens some times.
const STEP: f64 = 1.05;
/// The most by which one time raises and lowers the known cost of a batch. Batches are seen rarely, and the less
/// the dearer they are.
const DEARER: f64 = 1.2;
const CHEAPER: f64 = 1.5;
/// The change from which on costs are worth remembering; less than a step, so that answers that see a batch once
/// get on.
const NOTABLE: f64 = 1.1;

/// The costs of batches. The default knows nothing and estimates everything.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Costs {
    /// By class of depths; the key is the smallest depth beyond it.
    depths: BTreeMap<usize, CostsAtDepth>,
}

#[derive(Debug, Clone, Default, PartialEq)]
struct CostsAtDepth {
    /// The present time of a single token, in seconds, and how often it was seen.
    token: Option<(f64, u32)>,
    /// The cost of each of [`SIZES`], none of the first. As multiples they stay true when other load slows
    /// the whole machine.
    batches: [Option<f64>; SIZES.len()],
    /// The cost of a batch of another kind, as a share of the usual cost of its size.
    other: Option<f64>,
    /// The size and the seconds of a prefill before the time of a single token is known.
    prefill: Option<(usize, f64)>,
}

impl Costs {
    /// The costs that [`Costs::list`] gave. Skips unusable ones.
    pub fn read(list: &[(usize, usize, f64)]) -> Costs {
        let mut costs = Costs::default();
        for (beyond, size, cost) in list {
            let usable = *beyond > 0 && class_of(beyond - 1) == *beyond && *cost >= 1.0 && cost.is_finite();
            if let Some(index) = index_of(*size).filter(|index| usable && *index > 0) {
                costs.depths.entry(*beyond).or_default().batches[index] = Some(*cost);
            }
        }
        costs
    }

    /// All that is known, as (smallest depth beyond the class, batch size, cost).
    pub fn list(&self) -> Vec<(usize, usize, f64)> {
        let mut list = Vec::new();
        for (beyond, at) in &self.depths {
            let costs = SIZES.into_iter().zip(at.batches);
            list.extend(costs.filter_map(|(size, cost)| Some((*beyond, size, cost?))));
        }
        list
    }

    /// Learns from the time of a batch of `size` after `depth` tokens, once the time of a single token is known at
    /// such a depth.
    pub fn learn(&mut self, size: usize, depth: usize, seconds: f64) {
        let Some(at) = self.at(size, depth, seconds) else { return };
        match (index_of(size), at.token) {
            (Some(0), known) => {
                at.token = Some(known.map_or((seconds, 1), |(known, seen)| {
                    let step = STEP.max(1.0 + 1.0 / f64::from(seen));
                    (seconds.clamp(known / step, known * step), seen.saturating_add(1))
                }));
                if let Some((size, seconds)) = at.prefill.take() {
                    self.learn_prefill(size, depth, seconds);
                }
            }
            (Some(index), Some((token, _))) => {
                let cost = (seconds / token).max(1.0);
                let step = |known: f64| cost.clamp(known / CHEAPER, known * DEARER);
                at.batches[index] = Some(at.batches[index].map_or(cost, step));
            }
            (None, Some((token, _))) => at.other = Some(seconds / token / usual(size)),
            (_, None) => {}
        }
    }

    /// Learns from the time of a prefill of `size` tokens in one batch after `depth` tokens.
    pub fn learn_prefill(&mut self, size: usize, depth: usize, seconds: f64) {
        let Some(at) = self.at(size, depth, seconds).filter(|_| size > 1) else { return };
        match at.token {
            Some((token, _)) => at.other = Some(seconds / token / usual(size)),
            None => at.prefill = Some((size, seconds)),
        }
    }

    /// Where something of such a batch can be learnt.
    fn at(&mut self, size: usize, depth: usize, seconds: f64) -> Option<&mut CostsAtDepth> {
        let usable = (1..=LARGEST).contains(&size) && seconds > 0.0 && seconds.is_finite();
        usable.then(|| self.depths.entry(class_of(depth)).or_default())
    }

    /// The cost of a batch of `size`, at least 1, after `depth` tokens. A larger batch never costs less.
    pub fn of(&self, size: usize, depth: usize) -> f64 {
        let line = self.line(class_of(depth));
        let to = SIZES.iter().position(|known| *known >= size).unwrap_or(SIZES.len() - 1).max(1);
        let from = to - 1;
        let share = (size - SIZES[from]) as f64 / (SIZES[to] - SIZES[from]) as f64;
        line[from] + (line[to] - line[from]) * share
    }

    /// Whether they contain anything that is missing in `known`, or notably different there.
    pub fn differ_from(&self, known: &Costs) -> bool {
        let known = known.list();
        self.list().iter().any(|(beyond, size, cost)| {
            let before = known.iter().find(|before| (before.0, before.1) == (*beyond, *size));
            before.is_none_or(|before| (cost / before.2).max(before.2 / cost) > NOTABLE)
        })
    }

    /// The costs of [`SIZES`] at a class of depths, in ascending order.
    fn line(&self, class: usize) -> [f64; SIZES.len()] {
        let seen: [_; SIZES.len()] = std::array::from_fn(|index| self.nearest(class, |at| at.batches[index]));
        let other = self.nearest(class, |at| at.other);
        let mut line = [1.0; SIZES.len()];
        for index in 1..SIZES.len() {
            let cost = seen[index].unwrap_or_else(|| estimate(&seen, other, index));
            // If a larger batch took less time, the rest was noise.
            let most = seen[index..].iter().flatten().copied().fold(f64::INFINITY, f64::min);
            line[index] = cost.min(most).max(line[index - 1]);
        }
        line
    }

    /// What was seen at the nearest class of depths; of two, the shallower and cheaper.
    fn nearest(&self, class: usize, what: impl Fn(&CostsAtDepth) -> Option<f64>) -> Option<f64> {
        let seen = self.depths.iter().filter_map(|(beyond, at)| Some((*beyond, what(at)?)));
        seen.min_by_key(|(beyond, _)| beyond.ilog2().abs_diff(class.ilog2())).map(|(_, cost)| cost)
    }
}

/// The class of a depth: the smallest depth beyond it.
fn class_of(depth: usize) -> usize {
    FIRST_CLASS.max((depth + 1).next_power_of_two())
}

fn index_of(size: usize) -> Option<usize> {
    SIZES.iter().position(|known| *known == size)
}

/// The cost of a size on two cores with a small model, which gain little from batches.
fn usual(size: usize) -> f64 {
    if size == 1 { 1.0 } else { 1.9 + 0.38 * (size - 1) as f64 }
}

/// The cost of a size that was not seen: the usual one, and less if the nearest size costs less than usual, or if none
/// was seen, another batch, by this share.
fn estimate(seen: &[Option<f64>], other: Option<f64>, index: usize) -> f64 {
    let share = |near: usize| Some((near.abs_diff(index), seen[near]? / usual(SIZES[near])));
    let nearest = (1..seen.len()).filter_map(share).min_by_key(|(distance, _)| *distance);
    let share = nearest.map(|(_, share)| share).or(other);
    (usual(SIZES[index]) * share.map_or(1.0, |share| share.min(1.0))).max(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Costs learnt at one depth.
    fn learn(depth: usize, times: &[(usize, f64)]) -> Costs {
        let mut costs = Costs::default();
        times.iter().for_each(|(size, seconds)| costs.learn(*size, depth, *seconds));
        costs
    }

    fn near(a: f64, b: f64) {
        assert!((a - b).abs() < 1e-9, "{a} and {b}");
    }

    #[test]
    fn costs_are_multiples_of_a_single_tokens_time() {
        let costs = learn(100, &[(1, 0.5), (3, 1.0), (5, 1.2)]);
        for (size, cost) in [(1, 1.0), (3, 2.0), (4, 2.2), (5, 2.4)] {
            near(costs.of(size, 400), cost);
        }
        let slower = learn(100, &[(1, 5.0), (3, 10.0), (5, 12.0)]);
        near(slower.of(4, 0), costs.of(4, 0));
    }

    #[test]
    fn noise_hardly_moves_them_and_a_change_does() {
        let mut costs = learn(0, &[(1, 1.0), (17, 4.0)]);
        for (seconds, cost) in [(3600.0, 4.8), (4.0, 4.0), (0.001, 4.0 / 1.5), (4.0, 3.2), (4.0, 3.84)] {
            costs.learn(17, 0, seconds);
            near(costs.of(17, 0), cost);
        }
        (0..30).for_each(|_| costs.learn(17, 0, 8.0));
        near(costs.of(17, 0), 8.0);
        costs.learn(1, 0, 0.5); // a batch then takes half the time, too, until it is seen
        near(costs.of(17, 0), 8.0);
        for useless in [0.0, -1.0, f64::NAN] {
            costs.learn(1, 0, useless);
        }
        costs.learn(16, 0, 0.1);
        costs.learn_prefill(17, 0, 0.1);
        near(costs.of(17, 0), 8.0);
    }

    #[test]
    fn other_batches_improve_the_estimates() {
        let mut before = Costs::default();
        before.learn_prefill(31, 0, 2.0);
        near(before.of(17, 0), Costs::default().of(17, 0));
        before.learn(1, 5, 1.0);
        let after = learn(0, &[(1, 1.0), (31, 2.0)]);
        let share = 2.0 / (1.9 + 0.38 * 30.0);
        for costs in [&before, &after] {
            near(costs.of(17, 0), 7.98 * share);
            near(costs.of(65, 3000), 26.22 * share);
            assert_eq!(costs.list(), [], "they are no measurement of a draft");
        }
        let mut seen = after.clone();
        seen.learn(200, 0, 1.0);
        assert_eq!(seen, after, "larger than any draft");
        seen.learn(17, 0, 6.0);
        near(seen.of(17, 0), 6.0);
        let dear = learn(0, &[(1, 1.0), (31, 100.0)]);
        near(dear.of(17, 0), 7.98);
    }

    #[test]
    fn a_slow_first_token_is_soon_forgotten() {
        let mut costs = learn(0, &[(1, 1.8), (1, 1.0), (17, 8.0)]);
        near(costs.of(17, 0), 8.0);
        (0..100).for_each(|_| costs.learn(1, 0, 1.0));
        costs.learn(1, 0, 1000.0);
        costs.learn(17, 0, 8.4);
        near(costs.of(17, 0), 8.0);
    }

    #[test]
    fn answers_that_see_a_batch_once_get_on() {
        let mut known = vec![(512, 17, 4.0)];
        for _ in 0..8 {
            let mut costs = Costs::read(&known);
            costs.learn(1, 0, 1.0);
            costs.learn(17, 0, 9.0);
            if costs.differ_from(&Costs::read(&known)) {
                known = costs.list();
            }
        }
        assert!((known[0].2 / 9.0 - 1.0).abs() < NOTABLE - 1.0, "{known:?}");
    }

    #[test]
    fn with_nothing_seen_they_are_the_usual_ones() {
        let costs = Costs::default();
        for (size, cost) in
            [(1, 1.0), (2, 2.28), (5, 3.42), (8, 4.56), (33, 14.06), (65, 26.22), (129, 50.54)]
        {
            near(costs.of(size, 700), cost);
        }
    }

    #[test]
    fn a_depth_that_was_not_seen_costs_what_the_nearest_one_does() {
        let mut costs = learn(100, &[(1, 1.0), (17, 4.0)]);
        for (size, seconds) in [(1, 3.0), (17, 36.0)] {
            costs.learn(size, 2048, seconds);
        }
        for (depth, cost) in [(0, 4.0), (511, 4.0), (1023, 4.0), (1024, 12.0), (1 << 20, 12.0)] {
            near(costs.of(17, depth), cost);
        }
        let alone = learn(100, &[(17, 4.0)]);
        assert_eq!(alone.list(), [], "nothing to compare it with");
    }

    #[test]
    fn what_was_not_seen_is_estimated_cheap() {
        let cheap = learn(0, &[(1, 1.0), (17, 2.0)]);
        near(cheap.of(33, 0), 14.06 * 2.0 / 7.98);
        assert!(cheap.of(9, 0) < 2.0);
        let dear = learn(0, &[(1, 1.0), (3, 3.0), (17, 17.0)]);
        near(dear.of(9, 0), 4.94);
        near(dear.of(33, 0), 17.0);
    }

    #[test]
    fn a_larger_batch_never_costs_less() {
        let costs = learn(0, &[(1, 1.0), (3, 9.0), (5, 4.0), (17, 3.0), (33, 8.0), (65, 7.0)]);
        let all: Vec<f64> = (1..=65).map(|size| costs.of(size, 0)).collect();
        assert!(all[0] == 1.0 && all.is_sorted(), "{all:?}");
        assert_eq!((costs.of(3, 0), costs.of(17, 0), costs.of(33, 0)), (3.0, 3.0, 7.0));
    }

    #[test]
    fn they_are_remembered_when_they_change_notably() {
        let mut costs = learn(600, &[(1, 0.5), (3, 1.0), (17, 2.0)]);
        let list = costs.list();
        assert_eq!(list, [(1024, 3, 2.0), (1024, 17, 4.0)]);
        let known = Costs::read(&list);
        assert_eq!(known.list(), list);
        assert!(costs.differ_from(&Costs::default()) && !costs.differ_from(&known));
        costs.learn(3, 600, 1.04);
        assert!(!costs.differ_from(&known), "hardly");
        costs.learn(3, 600, 0.8);
        assert!(costs.differ_from(&known));
        let unusable = [
            (0, 3, 2.0),
            (500, 3, 2.0),
            (512, 4, 2.0),
            (512, 1, 2.0),
            (512, 3, 0.1),
            (512, 3, f64::INFINITY),
            (512, 3, f64::NAN),
        ];
        assert_eq!(Costs::read(&unusable), Costs::default());
    }
}
