//! What can be said of the texts of an expression: how they begin, what is in them, and what might continue them.

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
