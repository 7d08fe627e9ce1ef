//! What rules of grammars and regular expressions consist of.

use std::collections::BTreeSet;

/// What a part of a rule describes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Expr {
    /// One character of these ranges, which ascend and do not touch; none: nothing at all.
    Chars(Vec<(char, char)>),
    Seq(Vec<Expr>),
    Or(Vec<Expr>),
    /// At least, and at most.
    Repeat(Box<Expr>, u32, Option<u32>),
    Rule(usize),
}

impl Expr {
    pub(super) fn for_each_rule(&self, each: &mut impl FnMut(usize)) {
        match self {
            Expr::Chars(_) => {}
            Expr::Seq(items) | Expr::Or(items) => items.iter().for_each(|item| item.for_each_rule(each)),
            Expr::Repeat(item, ..) => item.for_each_rule(each),
            Expr::Rule(rule) => each(*rule),
        }
    }
}

/// The rules that have a property, if a rule has it depending on which of the rules that it names have it.
pub(super) fn fixpoint(rules: &[Expr], has: impl Fn(&Expr, &[bool]) -> bool) -> Vec<bool> {
    let mut named_by = vec![Vec::new(); rules.len()];
    for (number, rule) in rules.iter().enumerate() {
        rule.for_each_rule(&mut |named| named_by[named].push(number));
    }
    let mut have = vec![false; rules.len()];
    let mut unsure: BTreeSet<usize> = (0..rules.len()).collect();
    while !unsure.is_empty() {
        let new: Vec<usize> =
            unsure.into_iter().filter(|rule| !have[*rule] && has(&rules[*rule], &have)).collect();
        new.iter().for_each(|rule| have[*rule] = true);
        unsure = new.iter().flat_map(|rule| &named_by[*rule]).copied().collect();
    }
    have
}

/// Alternatives; characters among them become one class.
pub(super) fn or(branches: Vec<Expr>) -> Expr {
    let (mut others, mut ranges) = (Vec::new(), Vec::new());
    for branch in branches {
        match branch {
            Expr::Chars(more) => ranges.extend(more),
            Expr::Or(more) => others.extend(more),
            branch => others.push(branch),
        }
    }
    if !ranges.is_empty() || others.is_empty() {
        others.push(Expr::Chars(joined(ranges)));
    }
    if others.len() == 1 { others.remove(0) } else { Expr::Or(others) }
}

/// The same characters as ranges that ascend and do not touch.
pub(super) fn joined(mut ranges: Vec<(char, char)>) -> Vec<(char, char)> {
    ranges.sort_unstable();
    let mut joined: Vec<(char, char)> = Vec::new();
    for (first, last) in ranges {
        match joined.last_mut() {
            Some((_, before)) if after(*before).is_none_or(|next| first <= next) => {
                *before = last.max(*before)
            }
            _ => joined.push((first, last)),
        }
    }
    joined
}

/// All other characters.
pub(super) fn without(ranges: &[(char, char)]) -> Vec<(char, char)> {
    let (mut others, mut next) = (Vec::new(), Some('\0'));
    for (first, last) in joined(ranges.to_vec()) {
        if let Some(start) = next.filter(|start| *start < first) {
            others.push((start, before(first)));
        }
        next = after(last);
    }
    others.extend(next.map(|start| (start, char::MAX)));
    others
}

fn after(c: char) -> Option<char> {
    (c..=char::MAX).nth(1)
}

/// The character before one that is not the first.
fn before(c: char) -> char {
    ('\0'..c).next_back().unwrap_or('\0')
}
