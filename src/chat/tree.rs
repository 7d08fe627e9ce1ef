//! The messages of a conversation's tree → rows from top to bottom, drawn as a graph of branches.
//!
//! As in `git log --graph`, each branch has a column: `*` is a message, `|` a branch that continues further
//! down, and `|-` begins one. Below a branch point, the branch with the head comes last and goes straight on,
//! or else the largest one: so n messages take at most log2(n) + 2 columns, however they branch.

use std::collections::{HashMap, HashSet};

use super::id::MessageId;
use super::record::Entry;

/// The longest run of messages without a branch that is shown whole.
const LONGEST_RUN: usize = 12;
/// The messages that stay visible at each end of a folded run.
const ENDS: usize = 3;

/// One row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The place of its message among the entries.
    pub entry: usize,
    /// The number of branches that continue to the left of it.
    depth: usize,
    /// Whether a branch begins here.
    begins: bool,
    pub fold: Fold,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fold {
    None,
    /// Stands for the next rows, so many, which are folded.
    Mark(usize),
    Folded,
}

impl Row {
    /// The row's part of the graph; `node` marks the message.
    pub fn graph(&self, node: char) -> String {
        let left = "| ".repeat(self.depth - usize::from(self.begins));
        format!("{left}{}{node}", if self.begins { "|-" } else { "" })
    }
}

/// All messages, parents before their children, and the marks of folded runs. `opened`: the first folded
/// messages of runs to show whole.
pub fn rows(entries: &[Entry], head: Option<MessageId>, opened: &HashSet<usize>) -> Vec<Row> {
    let tree = Tree::of(entries, head);
    let rows = tree.rows();
    let (mut folded, mut start) = (Vec::with_capacity(rows.len()), 0);
    for end in 1..=rows.len() {
        if rows.get(end).is_some_and(|row| tree.continues(&rows[end - 1], row)) {
            continue;
        }
        let run = &rows[start..end];
        match run.get(ENDS) {
            Some(first) if run.len() > LONGEST_RUN && !opened.contains(&first.entry) => {
                let inner = &run[ENDS..run.len() - ENDS];
                folded.extend_from_slice(&run[..ENDS]);
                folded.push(Row { fold: Fold::Mark(inner.len()), ..first.clone() });
                folded.extend(inner.iter().map(|row| Row { fold: Fold::Folded, ..row.clone() }));
                folded.extend_from_slice(&run[run.len() - ENDS..]);
            }
            _ => folded.extend_from_slice(run),
        }
        start = end;
    }
    folded
}

/// The number of branches: of messages that none follows.
pub fn branches(entries: &[Entry]) -> usize {
    let parents: HashSet<MessageId> = entries.iter().filter_map(|entry| entry.parent).collect();
    entries.iter().filter(|entry| !parents.contains(&entry.id)).count()
}

/// Places among the entries.
struct Tree {
    parents: Vec<Option<usize>>,
    children: Vec<Vec<usize>>,
    first: Vec<usize>,
    /// The number of messages from this one on, and whether the head is among them.
    sizes: Vec<usize>,
    on_path: Vec<bool>,
    head: Option<usize>,
}

impl Tree {
    fn of(entries: &[Entry], head: Option<MessageId>) -> Tree {
        let places: HashMap<MessageId, usize> =
            entries.iter().enumerate().map(|(place, entry)| (entry.id, place)).collect();
        let place = |id: Option<MessageId>| places.get(&id?).copied();
        let parents: Vec<Option<usize>> = entries
            .iter()
            .enumerate()
            .map(|(at, entry)| place(entry.parent).filter(|parent| *parent < at))
            .collect();
        let mut children = vec![Vec::new(); entries.len()];
        let (mut first, mut sizes) = (Vec::new(), vec![1; entries.len()]);
        for (at, parent) in parents.iter().enumerate() {
            parent.map_or(&mut first, |parent| &mut children[parent]).push(at);
        }
        for at in (0..entries.len()).rev() {
            if let Some(parent) = parents[at] {
                sizes[parent] += sizes[at];
            }
        }
        let (head, mut on_path) = (place(head), vec![false; entries.len()]);
        let mut next = head;
        while let Some(at) = next {
            on_path[at] = true;
            next = parents[at];
        }
        Tree { parents, children, first, sizes, on_path, head }
    }

    fn rows(&self) -> Vec<Row> {
        let (mut rows, mut waiting) = (Vec::with_capacity(self.parents.len()), Vec::new());
        let wait = |siblings: &[usize], depth: usize, waiting: &mut Vec<Row>| {
            let row = |entry, depth, begins| Row { entry, depth, begins, fold: Fold::None };
            let straight =
                siblings.iter().copied().max_by_key(|at| (self.on_path[*at], self.sizes[*at], *at));
            waiting.extend(straight.map(|at| row(at, depth, false)));
            let others = siblings.iter().rev().filter(|at| Some(**at) != straight);
            waiting.extend(others.map(|at| row(*at, depth + 1, true)));
        };
        wait(&self.first, 0, &mut waiting);
        while let Some(row) = waiting.pop() {
            wait(&self.children[row.entry], row.depth, &mut waiting);
            rows.push(row);
        }
        rows
    }

    /// Whether nothing sets a row apart from the one above it: no branch, and not the head.
    fn continues(&self, above: &Row, row: &Row) -> bool {
        let only = self.parents[row.entry] == Some(above.entry) && self.children[above.entry].len() == 1;
        only && ![Some(above.entry), Some(row.entry)].contains(&self.head)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::{Message, Role};

    /// Entries with these parents.
    fn entries(parents: &[Option<usize>]) -> Vec<Entry> {
        let ids: Vec<MessageId> =
            (0..parents.len()).map(|n| MessageId::derived([n.to_string().as_str()])).collect();
        let entry = |(n, parent): (usize, &Option<usize>)| {
            Entry::new(ids[n], parent.map(|parent| ids[parent]), Message::new(Role::User, ""))
        };
        parents.iter().enumerate().map(entry).collect()
    }

    fn drawn(entries: &[Entry], head: usize, opened: &[usize]) -> Vec<String> {
        let rows = rows(entries, Some(entries[head].id), &opened.iter().copied().collect());
        let line = |row: &Row| match row.fold {
            Fold::Mark(count) => format!("{} {count}", row.graph(':')),
            _ => format!("{} {}", row.graph('*'), row.entry),
        };
        rows.iter().filter(|row| row.fold != Fold::Folded).map(line).collect()
    }

    #[test]
    fn the_branch_with_the_head_goes_straight_on_and_others_beside_it() {
        let tree = entries(&[None, Some(0), Some(0), Some(2), Some(2), Some(0), Some(4)]);
        assert_eq!(drawn(&tree, 5, &[]), ["* 0", "|-* 1", "|-* 2", "| |-* 3", "| * 4", "| * 6", "* 5"]);
        assert_eq!(drawn(&tree, 3, &[]), ["* 0", "|-* 1", "|-* 5", "* 2", "|-* 4", "| * 6", "* 3"]);
        assert_eq!(branches(&tree), 4);
        let two_beginnings = entries(&[None, Some(0), None]);
        assert_eq!(drawn(&two_beginnings, 2, &[]), ["|-* 0", "| * 1", "* 2"]);
    }

    #[test]
    fn long_runs_are_folded_until_they_are_opened() {
        let chain: Vec<Option<usize>> = (0..40).map(|n: usize| n.checked_sub(1)).collect();
        let chain = entries(&chain);
        let folded = ["* 0", "* 1", "* 2", ": 33", "* 36", "* 37", "* 38", "* 39"];
        assert_eq!(drawn(&chain, 39, &[]), folded);
        assert_eq!(drawn(&chain, 39, &[3]).len(), 40);
        assert!(drawn(&chain, 20, &[]).contains(&"* 20".to_string()), "the head is never folded");
    }

    #[test]
    fn a_tree_of_any_shape_is_drawn_once_and_narrowly() {
        let mut state = 1_u64;
        let mut random = |below: usize| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) as usize % below
        };
        for spread in [1, 2, 50, 100_000] {
            let parents: Vec<Option<usize>> =
                (0..10_000).map(|n: usize| Some(n.checked_sub(1)? - random(n.min(spread)))).collect();
            let tree = entries(&parents);
            let rows = rows(&tree, Some(tree[9_999].id), &HashSet::new());
            let mut shown: Vec<usize> =
                rows.iter().filter(|row| !matches!(row.fold, Fold::Mark(_))).map(|row| row.entry).collect();
            shown.sort();
            assert!(shown.into_iter().eq(0..10_000));
            let widest = rows.iter().map(|row| row.depth).max().unwrap();
            assert!(widest <= 14, "{spread}: {widest}");
        }
    }
}
