//! The rules of a grammar → llguidance's variant of Lark.
//!
//! llguidance reads text as a lexer does, in pieces that are as long as possible. So a grammar without recursion
//! becomes one regular expression, which has no pieces. In others each stretch without recursion is a piece,
//! unless the text after it might continue it: then it is cut into smaller ones, down to single characters.

use std::cell::Cell;
use std::collections::HashMap;
use std::fmt::Write as _;

use super::expr::{Expr, fixpoint};
use super::facts::{Bytes, Cost, Facts, MOST_COPIES, MULTIPLIED};
use super::gbnf::Grammar;

/// Longest regular expression, in bytes.
const LONGEST: usize = 1 << 20;
const EMPTY: Expr = Expr::Seq(Vec::new());

pub(super) fn lark(grammar: &Grammar) -> Result<String, String> {
    let recursive = recursive(&grammar.rules);
    let costs = vec![Cell::new(None); recursive.len()];
    let mut pieces = Pieces { rules: &grammar.rules, recursive, costs, terms: Vec::new() };
    let mut nodes: Vec<Option<Node>> = Vec::new();
    for (rule, expr) in grammar.rules.iter().enumerate() {
        let needed = rule == 0 || pieces.recursive[rule];
        nodes.push(needed.then(|| pieces.node(expr)));
    }
    loop {
        let unclear = pieces.unclear(&nodes);
        if unclear.is_empty() {
            break;
        }
        let cut: HashMap<usize, Node> = unclear.into_iter().map(|term| (term, pieces.cut(term))).collect();
        nodes.iter_mut().flatten().for_each(|node| node.replace(&cut));
    }
    let mut text = String::from("start: r0\n");
    for (rule, node) in nodes.iter().enumerate() {
        if let Some(node) = node {
            let _ = writeln!(text, "r{rule}: {}", node.text(&pieces));
        }
    }
    for (term, expr) in pieces.terms.iter().enumerate().filter(|(_, expr)| **expr != EMPTY) {
        let mut regex = String::new();
        pieces.regex(expr, &mut regex)?;
        if pieces.cost(expr).clear > MOST_COPIES {
            return Err(MULTIPLIED.into());
        }
        let some = if pieces.facts(expr).nullable { " & /(?s:.)+/" } else { "" };
        let _ = writeln!(text, "T{term}: /{regex}/{some}");
    }
    Ok(text)
}

/// Which rules lead to a rule that refers to itself.
fn recursive(rules: &[Expr]) -> Vec<bool> {
    let names_only = |rule: &Expr, regular: &[bool]| {
        let mut only = true;
        rule.for_each_rule(&mut |named| only &= regular[named]);
        only
    };
    fixpoint(rules, names_only).into_iter().map(|regular| !regular).collect()
}

/// A rule in pieces.
#[derive(Debug, Clone)]
enum Node {
    Term(usize),
    Rule(usize),
    Seq(Vec<Node>),
    Or(Vec<Node>),
    Repeat(Box<Node>, u32, Option<u32>),
}

impl Node {
    fn replace(&mut self, terms: &HashMap<usize, Node>) {
        match self {
            Node::Term(term) => {
                if let Some(by) = terms.get(term) {
                    *self = by.clone();
                }
            }
            Node::Rule(_) => {}
            Node::Seq(items) | Node::Or(items) => items.iter_mut().for_each(|item| item.replace(terms)),
            Node::Repeat(item, ..) => item.replace(terms),
        }
    }

    fn text(&self, pieces: &Pieces) -> String {
        let each = |items: &[Node], between| {
            let items: Vec<String> = items.iter().map(|item| item.text(pieces)).collect();
            items.join(between)
        };
        match self {
            Node::Term(term) if pieces.facts(&pieces.terms[*term]).nullable => format!("T{term}?"),
            Node::Term(term) => format!("T{term}"),
            Node::Rule(rule) => format!("r{rule}"),
            Node::Seq(items) if items.is_empty() => "\"\"".into(),
            Node::Seq(items) => format!("({})", each(items, " ")),
            Node::Or(items) => format!("({})", each(items, " | ")),
            Node::Repeat(item, least, most) => {
                let most = most.map_or(String::new(), |most| most.to_string());
                format!("({}){{{least},{most}}}", item.text(pieces))
            }
        }
    }
}

struct Pieces<'g> {
    rules: &'g [Expr],
    recursive: Vec<bool>,
    /// Those of the rules that are known.
    costs: Vec<Cell<Option<Cost>>>,
    /// Expressions without recursion.
    terms: Vec<Expr>,
}

impl Pieces<'_> {
    fn is_regular(&self, expr: &Expr) -> bool {
        match expr {
            Expr::Chars(_) => true,
            Expr::Seq(items) | Expr::Or(items) => items.iter().all(|item| self.is_regular(item)),
            Expr::Repeat(item, ..) => self.is_regular(item),
            Expr::Rule(rule) => !self.recursive[*rule],
        }
    }

    fn term(&mut self, expr: Expr) -> Node {
        if expr == EMPTY {
            return Node::Seq(Vec::new());
        }
        self.terms.push(expr);
        Node::Term(self.terms.len() - 1)
    }

    /// The pieces as long as possible.
    fn node(&mut self, expr: &Expr) -> Node {
        if self.is_regular(expr) {
            return self.term(expr.clone());
        }
        match expr {
            Expr::Seq(items) => {
                let (mut nodes, mut stretch) = (Vec::new(), Vec::new());
                for item in items {
                    if self.is_regular(item) {
                        stretch.push(item.clone());
                        continue;
                    }
                    if !stretch.is_empty() {
                        nodes.push(self.term(Expr::Seq(std::mem::take(&mut stretch))));
                    }
                    nodes.push(self.node(item));
                }
                if !stretch.is_empty() {
                    nodes.push(self.term(Expr::Seq(stretch)));
                }
                Node::Seq(nodes)
            }
            Expr::Or(branches) => {
                let (regular, others): (Vec<_>, Vec<_>) =
                    branches.iter().partition(|one| self.is_regular(one));
                let mut nodes: Vec<Node> = others.into_iter().map(|branch| self.node(branch)).collect();
                if !regular.is_empty() {
                    nodes.push(self.term(Expr::Or(regular.into_iter().cloned().collect())));
                }
                Node::Or(nodes)
            }
            Expr::Repeat(item, least, most) => Node::Repeat(Box::new(self.node(item)), *least, *most),
            Expr::Rule(rule) => Node::Rule(*rule),
            Expr::Chars(_) => unreachable!("it is regular"),
        }
    }

    /// A piece in smaller ones.
    fn cut(&mut self, term: usize) -> Node {
        let mut expr = self.terms[term].clone();
        self.terms[term] = EMPTY; // unused from now on
        while let Expr::Rule(rule) = expr {
            expr = self.rules[rule].clone();
        }
        match expr {
            Expr::Seq(items) => Node::Seq(items.into_iter().map(|item| self.term(item)).collect()),
            Expr::Or(branches) => Node::Or(branches.into_iter().map(|branch| self.term(branch)).collect()),
            Expr::Repeat(item, least, most) => Node::Repeat(Box::new(self.term(*item)), least, most),
            chars => self.term(chars),
        }
    }

    /// The facts of an expression without recursion.
    fn facts(&self, expr: &Expr) -> Facts {
        self.cost(expr).facts
    }

    fn cost(&self, expr: &Expr) -> Cost {
        Cost::of(expr, &|rule| {
            let cost = self.costs[rule].get().unwrap_or_else(|| self.cost(&self.rules[rule]));
            self.costs[rule].set(Some(cost));
            cost
        })
    }

    /// The pieces that the text after them might continue.
    fn unclear(&self, nodes: &[Option<Node>]) -> Vec<usize> {
        let terms: Vec<Facts> = self.terms.iter().map(|term| self.facts(term)).collect();
        let mut follow =
            Follow { nodes, terms: &terms, rules: vec![Facts::default(); nodes.len()], after: Vec::new() };
        follow.begin();
        let mut after_terms = vec![Bytes::default(); terms.len()];
        let mut changed = true;
        while std::mem::take(&mut changed) {
            for (rule, node) in nodes.iter().enumerate() {
                let after = follow.after[rule];
                node.iter().for_each(|node| _ = follow.walk(node, after, &mut after_terms, &mut changed));
            }
        }
        (0..terms.len()).filter(|term| terms[*term].more.meets(after_terms[*term])).collect()
    }

    /// A regular expression in Rust's syntax, without slashes.
    fn regex(&self, expr: &Expr, text: &mut String) -> Result<(), String> {
        if text.len() > LONGEST {
            return Err("its rules unfold to too long a text".into());
        }
        match expr {
            Expr::Chars(ranges) => match ranges[..] {
                [(only, last)] if only == last => _ = write!(text, "\\x{{{:x}}}", u32::from(only)),
                _ => {
                    text.push('[');
                    for (first, last) in ranges {
                        let _ = write!(text, "\\x{{{:x}}}-\\x{{{:x}}}", u32::from(*first), u32::from(*last));
                    }
                    text.push(']');
                }
            },
            Expr::Seq(items) => items.iter().try_for_each(|item| self.regex(item, text))?,
            Expr::Or(branches) => {
                text.push_str("(?:");
                for (index, branch) in branches.iter().enumerate() {
                    text.push_str(if index > 0 { "|" } else { "" });
                    self.regex(branch, text)?;
                }
                text.push(')');
            }
            Expr::Repeat(item, least, most) => {
                text.push_str("(?:");
                self.regex(item, text)?;
                let most = most.map_or(String::new(), |most| most.to_string());
                let _ = write!(text, "){{{least},{most}}}");
            }
            // What is nothing but empty would not let the text grow, however often it comes.
            Expr::Rule(_) if self.facts(expr).all == Bytes::default() => {}
            Expr::Rule(rule) => self.regex(&self.rules[*rule], text)?,
        }
        Ok(())
    }
}

/// What may follow each piece: FIRST and FOLLOW of the textbooks, over first bytes.
struct Follow<'n> {
    nodes: &'n [Option<Node>],
    terms: &'n [Facts],
    /// What each rule begins with.
    rules: Vec<Facts>,
    /// What follows each rule.
    after: Vec<Bytes>,
}

impl Follow<'_> {
    fn begin(&mut self) {
        self.after = vec![Bytes::default(); self.nodes.len()];
        loop {
            let first = |node: &Option<Node>| node.as_ref().map_or(Facts::default(), |node| self.first(node));
            let now: Vec<Facts> = self.nodes.iter().map(first).collect();
            if now == self.rules {
                return;
            }
            self.rules = now;
        }
    }

    /// Only what it begins with, and whether it may be empty.
    fn first(&self, node: &Node) -> Facts {
        let all = |facts: Facts| Facts { more: Bytes::default(), all: Bytes::default(), ..facts };
        all(match node {
            Node::Term(term) => self.terms[*term],
            Node::Rule(rule) => self.rules[*rule],
            Node::Seq(items) => {
                let empty = Facts { nullable: true, ..Facts::default() };
                items.iter().map(|item| self.first(item)).fold(empty, Facts::then)
            }
            Node::Or(items) => {
                items.iter().map(|item| self.first(item)).reduce(Facts::or).unwrap_or_default()
            }
            Node::Repeat(item, least, most) => self.first(item).repeated(*least, *most),
        })
    }

    /// Notes what follows the pieces and rules in `node`, which `after` follows. Returns what then follows what
    /// is before it.
    fn walk(&mut self, node: &Node, after: Bytes, terms: &mut [Bytes], changed: &mut bool) -> Bytes {
        let mut note = |noted: &mut Bytes| {
            let now = noted.and(after);
            *changed |= now != *noted;
            *noted = now;
        };
        match node {
            Node::Term(term) => note(&mut terms[*term]),
            Node::Rule(rule) => note(&mut self.after[*rule]),
            Node::Seq(items) => {
                let before = |after, item| self.walk(item, after, terms, changed);
                items.iter().rev().fold(after, before);
            }
            Node::Or(items) => items.iter().for_each(|item| _ = self.walk(item, after, terms, changed)),
            Node::Repeat(item, _, most) => {
                let again = if *most == Some(1) { Bytes::default() } else { self.first(item).first };
                self.walk(item, after.and(again), terms, changed);
            }
        }
        let Facts { nullable, first, .. } = self.first(node);
        if nullable { first.and(after) } else { first }
    }
}
