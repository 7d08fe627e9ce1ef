//! What attached files cost: tokens, the room left in the context, and the time that prefill takes.

use std::time::Duration;

use super::events::Counts;

/// Prefill that takes longer is worth a question, or a line where nobody can be asked.
pub const LONG: Duration = Duration::from_secs(10);

/// What a message adds to a conversation. All sizes in tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cost {
    pub tokens: usize,
    /// The time to prefill them, if known.
    pub prefill: Option<Duration>,
    /// The room for them: what the conversation before leaves of the context; `None`: the limit is unknown.
    pub room: Option<usize>,
    /// The limit of the context; 0: unknown.
    pub limit: usize,
    /// The tokens are estimated from the length of the text.
    pub estimated: bool,
}

impl Cost {
    /// The difference between two prompts, the second of which has more at its end.
    pub fn between(before: Counts, with: Counts) -> Cost {
        Cost {
            tokens: with.prompt.saturating_sub(before.prompt),
            prefill: with.prefill.zip(before.prefill).map(|(with, before)| with.saturating_sub(before)),
            room: (with.limit > 0).then(|| with.limit.saturating_sub(before.prompt)),
            limit: with.limit,
            estimated: with.estimated,
        }
    }

    /// The tokens that it leaves in the context; `None`: the limit is unknown.
    pub fn left(&self) -> Option<usize> {
        self.room.map(|room| room.saturating_sub(self.tokens))
    }

    /// Whether it takes more than the room there is.
    pub fn is_too_long(&self) -> bool {
        self.room.is_some_and(|room| self.tokens >= room)
    }

    /// Whether to ask before sending it: prefill takes long, or it fills at least half of the room.
    pub fn is_high(&self) -> bool {
        self.prefill.is_some_and(|time| time > LONG) || self.room.is_some_and(|room| self.tokens * 2 >= room)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cost(before: usize, with: usize, seconds: u64, limit: usize) -> Cost {
        let counts = |prompt, seconds| Counts {
            prompt,
            cached: 0,
            limit,
            prefill: Some(Duration::from_secs(seconds)),
            estimated: false,
        };
        Cost::between(counts(before, 1), counts(with, 1 + seconds))
    }

    #[test]
    fn long_prefill_and_half_of_the_room_are_worth_a_question() {
        assert!(!cost(100, 549, 10, 1000).is_high());
        assert!(cost(100, 200, 11, 1000).is_high(), "11 seconds");
        assert!(cost(100, 550, 0, 1000).is_high(), "half of 900 tokens");
        assert!(!cost(100, 5000, 0, 0).is_high(), "of an unknown limit");
        let all = cost(100, 1000, 0, 1000);
        assert_eq!((all.tokens, all.left(), all.is_too_long()), (900, Some(0), true));
        assert_eq!(cost(0, 5, 0, 0).left(), None);
    }
}
