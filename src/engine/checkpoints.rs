//! Checkpoints: the states to which a memory that cannot be truncated may return. Belongs to stage 3.
//!
//! Of a recurrent model a checkpoint is all of its memory, of a hybrid one only the recurrent part; it has the
//! same size after any number of tokens. Undo, edit, retry and another question about the same file return to
//! the nearest one.

use super::model::MemoryKind;
use super::token::Token;

/// The maximum number of checkpoints, and their total size in bytes; two are kept whatever their size.
const MOST: usize = 32;
const MOST_BYTES: usize = 512 << 20;
/// Checkpoints are at least this many tokens apart.
const APART: usize = 16;

/// A state after some tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    pub tokens: Vec<Token>,
    /// For [`super::model::Model::go_back`].
    pub state: Vec<u8>,
}

/// The checkpoints of one sequence, in the order in which they were made.
#[derive(Debug, Default)]
pub(super) struct Checkpoints(Vec<Checkpoint>);

impl Checkpoints {
    /// The longest that starts `tokens` and has at most `most` of them.
    pub(super) fn best(&self, tokens: &[Token], most: usize) -> Option<&Checkpoint> {
        let serves = |c: &&Checkpoint| c.tokens.len() <= most && tokens.starts_with(&c.tokens);
        self.0.iter().filter(serves).max_by_key(|c| c.tokens.len())
    }

    /// Whether one at the end of `tokens` would be useful: it is not too close to another.
    pub(super) fn wants(&self, tokens: &[Token]) -> bool {
        let best = self.best(tokens, tokens.len()).map_or(0, |c| c.tokens.len());
        tokens.len() >= best + APART
    }

    /// Adds a checkpoint, and evicts the least useful others that exceed the limits.
    pub(super) fn add(&mut self, kind: MemoryKind, new: Checkpoint) {
        let room = MOST_BYTES.max(2 * new.state.len());
        let end = &new.tokens;
        let mut bytes = new.state.len() + self.0.iter().map(|c| c.state.len()).sum::<usize>();
        while self.0.len() >= MOST || bytes > room {
            let use_of = |c: &Checkpoint| self.usefulness(kind, c, end);
            let least = (0..self.0.len()).min_by(|a, b| use_of(&self.0[*a]).total_cmp(&use_of(&self.0[*b])));
            let Some(least) = least else { break };
            bytes -= self.0.remove(least).state.len();
        }
        self.0.push(new);
    }

    /// The tokens that a checkpoint spares compared with the one before it, in proportion to how far back it
    /// is from `end`, the tokens in memory. Zero: memory has other tokens, so the checkpoint cannot be used.
    fn usefulness(&self, kind: MemoryKind, of: &Checkpoint, end: &[Token]) -> f64 {
        if kind == MemoryKind::Hybrid && !end.starts_with(&of.tokens) {
            return 0.0;
        }
        let length = of.tokens.len();
        let before = self.best(&of.tokens, length - 1).map_or(0, |c| c.tokens.len());
        (length - before) as f64 / (end.len().saturating_sub(length) + APART) as f64
    }

    /// Those that start `tokens`, the shortest first.
    pub(super) fn within(&self, tokens: &[Token]) -> Vec<&Checkpoint> {
        let mut within: Vec<_> = self.0.iter().filter(|c| tokens.starts_with(&c.tokens)).collect();
        within.sort_by_key(|c| c.tokens.len());
        within
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkpoint(tokens: usize, bytes: usize) -> Checkpoint {
        Checkpoint { tokens: (0..tokens as Token).collect(), state: vec![0; bytes] }
    }

    fn lengths(checkpoints: &Checkpoints) -> Vec<usize> {
        checkpoints.0.iter().map(|c| c.tokens.len()).collect()
    }

    #[test]
    fn many_checkpoints_get_sparser_towards_the_beginning() {
        let mut checkpoints = Checkpoints::default();
        for turn in 1..=200 {
            checkpoints.add(MemoryKind::Hybrid, checkpoint(turn * 100, 1));
        }
        let lengths = lengths(&checkpoints);
        assert_eq!(lengths.len(), MOST);
        assert_eq!(lengths[MOST - 5..], [19_600, 19_700, 19_800, 19_900, 20_000], "each of the last turns");
        let most = lengths.windows(2).map(|two| (two[1] - two[0]) as f64 / (20_100 - two[1]) as f64);
        assert!(most.fold(0.0, f64::max) <= 1.0, "no gap is wider than it is far back: {lengths:?}");
        assert!(lengths[0] < 10_000, "{lengths:?}");
    }

    #[test]
    fn the_size_is_limited_but_two_are_kept_whatever_theirs() {
        let mut checkpoints = Checkpoints::default();
        for turn in 1..=8 {
            checkpoints.add(MemoryKind::Recurrent, checkpoint(turn * 100, MOST_BYTES / 4));
        }
        assert_eq!(lengths(&checkpoints).len(), 4);
        let mut checkpoints = Checkpoints::default();
        for turn in 1..=3 {
            checkpoints.add(MemoryKind::Recurrent, checkpoint(turn * 100, MOST_BYTES));
        }
        assert_eq!(lengths(&checkpoints), [200, 300]);
    }

    #[test]
    fn what_memory_no_longer_leads_to_goes_first() {
        let other = Checkpoint { tokens: vec![7; 5000], state: vec![0] };
        for (kind, stays) in [(MemoryKind::Hybrid, false), (MemoryKind::Recurrent, true)] {
            let mut checkpoints = Checkpoints::default();
            checkpoints.add(kind, other.clone());
            (1..=MOST).for_each(|turn| checkpoints.add(kind, checkpoint(turn * 16, 1)));
            assert_eq!(checkpoints.0.contains(&other), stays);
        }
    }
}
