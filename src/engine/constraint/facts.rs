//! What can be said of the texts of an expression: how they begin, what is in them, what might continue them, and
//! what it costs to follow one.

use super::expr::Expr;

/// The first bytes of characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Bytes([u64; 4]);

impl Bytes {
    pub(super) fn of(ranges: &[(char, char)]) -> Bytes {
        let first = |c: char| c.encode_utf8(&mut [0; 4]).as_bytes()[0];
        let mut bytes = Bytes::default();
        for (from, to) in ranges {
            (first(*from)..=first(*to)).for_each(|byte| bytes.0[usize::from(byte) / 64] |= 1 << (byte % 64));
        }
        bytes
    }

    pub(super) fn and(self, other: Bytes) -> Bytes {
        Bytes(std::array::from_fn(|at| self.0[at] | other.0[at]))
    }

    pub(super) fn meets(self, other: Bytes) -> bool {
        self.0.iter().zip(other.0).any(|(one, other)| one & other != 0)
    }
}

/// What can be said of a text without knowing it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Facts {
    pub(super) nullable: bool,
    /// What it begins with.
    pub(super) first: Bytes,
    /// What may continue it where it might also end; perhaps more.
    pub(super) more: Bytes,
    /// Everything in it.
    pub(super) all: Bytes,
}

impl Facts {
    pub(super) fn then(self, next: Facts) -> Facts {
        let all = self.all.and(next.all);
        let first = if self.nullable { self.first.and(next.first) } else { self.first };
        let before = if next.nullable { self.more.and(next.first) } else { Bytes::default() };
        let more = if self.more.meets(next.first) { all } else { next.more.and(before) };
        Facts { nullable: self.nullable && next.nullable, first, more, all }
    }

    pub(super) fn or(self, other: Facts) -> Facts {
        let all = self.all.and(other.all);
        let more = if self.first.meets(other.first) { all } else { self.more.and(other.more) };
        Facts { nullable: self.nullable || other.nullable, first: self.first.and(other.first), more, all }
    }

    pub(super) fn repeated(self, least: u32, most: Option<u32>) -> Facts {
        let again = if most == Some(1) { Bytes::default() } else { self.first };
        let more = if self.more.meets(again) { self.all } else { self.more.and(again) };
        Facts { nullable: self.nullable || least == 0, more, ..self }
    }
}

/// Most counts that may be possible at once: llguidance takes time for each, at each byte.
pub(super) const MOST_COPIES: u64 = 1000;
pub(super) const MULTIPLIED: &str =
    "its counts multiply each other, because a text can be counted in many ways";

/// What it costs to follow a text: how many counts of it may be possible at once. A single count is 1.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cost {
    pub(super) facts: Facts,
    /// If it is plain where in the text the expression begins.
    pub(super) clear: u64,
    /// If it may begin anywhere.
    pub(super) unclear: u64,
}

impl Cost {
    /// `rule`: the cost of each rule.
    pub(super) fn of(expr: &Expr, rule: &dyn Fn(usize) -> Cost) -> Cost {
        let both = |one: u64, other: u64| one.saturating_add(other - 1);
        match expr {
            Expr::Chars(ranges) => {
                let bytes = Bytes::of(ranges);
                Cost { facts: Facts { first: bytes, all: bytes, ..Facts::default() }, clear: 1, unclear: 1 }
            }
            Expr::Seq(items) => {
                let empty = Facts { nullable: true, ..Facts::default() };
                let mut all = Cost { facts: empty, clear: 1, unclear: 1 };
                let mut is_clear = true;
                for item in items {
                    let item = Cost::of(item, rule);
                    is_clear &= !all.facts.more.meets(item.facts.first);
                    all.clear =
                        if is_clear { all.clear.max(item.clear) } else { both(all.clear, item.unclear) };
                    all.unclear = both(all.unclear, item.unclear);
                    all.facts = all.facts.then(item.facts);
                }
                all
            }
            Expr::Or(branches) => {
                let either = |one: Cost, other: Cost| {
                    let apart = !one.facts.first.meets(other.facts.first);
                    Cost {
                        facts: one.facts.or(other.facts),
                        clear: if apart { one.clear.max(other.clear) } else { both(one.clear, other.clear) },
                        unclear: both(one.unclear, other.unclear),
                    }
                };
                let branches = branches.iter().map(|branch| Cost::of(branch, rule));
                branches.reduce(either).unwrap_or(Cost { facts: Facts::default(), clear: 1, unclear: 1 })
            }
            Expr::Repeat(item, least, most) => {
                let item = Cost::of(item, rule);
                let times = u64::from(most.unwrap_or(*least).max(1));
                let meets = item.facts.nullable || item.facts.more.meets(item.facts.first);
                let unclear = item.unclear.saturating_mul(times);
                Cost {
                    facts: item.facts.repeated(*least, *most),
                    clear: if meets && *most != Some(1) { unclear } else { item.clear },
                    unclear,
                }
            }
            Expr::Rule(number) => rule(*number),
        }
    }
}
