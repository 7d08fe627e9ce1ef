//! The text of a grammar in llama.cpp's notation (GBNF) → its rules; or the place of what is wrong.
//!
//! Everything in llama.cpp's grammars/README.md but tokens (`<think>`, `<[1000]>`): an answer consists of text.
//! Unlike in llama.cpp a rule may begin with itself, counts may be large, and a rule that is there twice is refused:
//! llama.cpp takes the last one. Next: lark.rs.

use std::collections::HashMap;

use super::Error;
use super::expr::{Expr, fixpoint, joined, or, without};

/// Deepest nesting of parentheses.
const DEEPEST: usize = 100;
/// Most repetitions that can be counted.
const MOST: u32 = 100_000;
/// Most rules.
const MOST_RULES: usize = 5000;

/// A grammar; rule 0 is `root`. Every rule has a finite text.
#[derive(Debug)]
pub(super) struct Grammar {
    pub(super) rules: Vec<Expr>,
}

pub(super) fn parse(text: &str) -> Result<Grammar, Error> {
    let mut parser = Parser { text, at: 0, names: HashMap::new(), rules: Vec::new() };
    parser.rule_number("root", 0)?;
    parser.space(true);
    while parser.peek().is_some() {
        parser.rule()?;
    }
    let mut rules = Vec::new();
    for (rule, mentioned) in &parser.rules {
        rules.push(rule.clone().ok_or(*mentioned));
    }
    let missing = rules.iter().position(Result::is_err);
    if let Some(Err(at)) = missing.map(|rule| &rules[rule]) {
        let name = parser.names.iter().find(|(_, rule)| Some(**rule) == missing).map_or("", |(name, _)| name);
        return Err(parser.wrong_at(*at, &format!("there is no rule '{name}'")));
    }
    let rules: Vec<Expr> = rules.into_iter().flatten().collect();
    let ending = ending(&rules);
    match parser.names.iter().filter(|(_, rule)| !ending[**rule]).min_by_key(|(_, rule)| **rule) {
        Some((name, rule)) => {
            let why = format!("the rule '{name}' matches no text: it never ends, or an empty [] is in it");
            Err(parser.wrong_at(parser.rules[*rule].1, &why))
        }
        None => Ok(Grammar { rules }),
    }
}

/// Which rules have a finite text.
fn ending(rules: &[Expr]) -> Vec<bool> {
    fn ends(expr: &Expr, ending: &[bool]) -> bool {
        match expr {
            Expr::Chars(ranges) => !ranges.is_empty(),
            Expr::Seq(items) => items.iter().all(|item| ends(item, ending)),
            Expr::Or(branches) => branches.iter().any(|branch| ends(branch, ending)),
            Expr::Repeat(item, least, _) => *least == 0 || ends(item, ending),
            Expr::Rule(rule) => ending[*rule],
        }
    }
    fixpoint(rules, ends)
}

struct Parser<'t> {
    text: &'t str,
    /// In bytes.
    at: usize,
    names: HashMap<String, usize>,
    /// Each rule as far as it is known, and where it is first named.
    rules: Vec<(Option<Expr>, usize)>,
}

impl Parser<'_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn take(&mut self, text: &str) -> bool {
        let found = self.rest().starts_with(text);
        self.at += if found { text.len() } else { 0 };
        found
    }

    fn next(&mut self) -> Result<char, Error> {
        let next = self.peek().ok_or_else(|| self.wrong("the grammar ends here, but something is open"))?;
        self.at += next.len_utf8();
        Ok(next)
    }

    fn wrong(&self, why: &str) -> Error {
        self.wrong_at(self.at, why)
    }

    fn wrong_at(&self, at: usize, why: &str) -> Error {
        let (line, column) = self.place(at);
        Error::Grammar { line, column, why: why.into() }
    }

    /// What is wrong with the next character: a usual mistake, or `why`.
    fn unexpected(&self, why: &str) -> Error {
        self.wrong(match self.peek() {
            Some('_') => "names of rules consist of letters, digits and -, without _",
            Some('\'') => "texts stand in double quotes",
            _ => why,
        })
    }

    /// The line and the column of a byte, counted from 1.
    fn place(&self, at: usize) -> (usize, usize) {
        let before = &self.text[..at];
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        (before.matches('\n').count() + 1, column)
    }

    /// Skips white space and comments; across lines only if `lines`.
    fn space(&mut self, lines: bool) {
        loop {
            match self.peek() {
                Some(' ' | '\t') => self.at += 1,
                Some('\r' | '\n') if lines => self.at += 1,
                Some('#') => self.at += self.rest().find(['\r', '\n']).unwrap_or(self.rest().len()),
                _ => return,
            }
        }
    }

    fn name(&mut self) -> Result<String, Error> {
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '-';
        let end = self.rest().find(|c| !is_word(c)).unwrap_or(self.rest().len());
        if end == 0 {
            return Err(self.wrong("the name of a rule is missing: letters, digits and -"));
        }
        let name = self.rest()[..end].to_string();
        self.at += end;
        Ok(name)
    }

    fn rule_number(&mut self, name: &str, at: usize) -> Result<usize, Error> {
        let next = self.rules.len();
        let number = *self.names.entry(name.into()).or_insert(next);
        if number == next {
            self.rules.push((None, at));
        }
        if next == MOST_RULES {
            return Err(self.wrong_at(at, &format!("there are more than {MOST_RULES} rules")));
        }
        Ok(number)
    }

    fn rule(&mut self) -> Result<(), Error> {
        let start = self.at;
        let name = self.name()?;
        self.space(false);
        if !self.take("::=") {
            return Err(self.unexpected("'::=' is missing after the name of a rule"));
        }
        self.space(true);
        let expr = self.alternatives(0)?;
        if !matches!(self.peek(), None | Some('\r' | '\n')) {
            return Err(self.unexpected("neither a part of a rule nor the end of a line"));
        }
        self.space(true);
        let number = self.rule_number(&name, start)?;
        if let (Some(_), before) = self.rules[number] {
            let (line, _) = self.place(before);
            return Err(self.wrong_at(start, &format!("the rule '{name}' is in line {line} already")));
        }
        self.rules[number] = (Some(expr), start);
        Ok(())
    }

    fn alternatives(&mut self, depth: usize) -> Result<Expr, Error> {
        let mut branches = vec![self.sequence(depth)?];
        while self.take("|") {
            self.space(true);
            branches.push(self.sequence(depth)?);
        }
        Ok(or(branches))
    }

    fn sequence(&mut self, depth: usize) -> Result<Expr, Error> {
        let (mut items, nested) = (Vec::new(), depth > 0);
        loop {
            let item = match self.peek() {
                Some('"') => self.literal()?,
                Some('[') => self.class()?,
                Some('.') => {
                    self.at += 1;
                    Expr::Chars(without(&[]))
                }
                Some('(') if depth == DEEPEST => {
                    return Err(self.wrong(&format!("more than {DEEPEST} nested parentheses")));
                }
                Some('(') => {
                    self.at += 1;
                    self.space(true);
                    let inner = self.alternatives(depth + 1)?;
                    if !self.take(")") {
                        return Err(self.wrong("')' is missing"));
                    }
                    inner
                }
                Some('<' | '!') => return Err(self.wrong("tokens (<…>) are not supported: answers are text")),
                Some(c) if c.is_ascii_alphanumeric() || c == '-' => {
                    let at = self.at;
                    let name = self.name()?;
                    Expr::Rule(self.rule_number(&name, at)?)
                }
                Some('*' | '+' | '?' | '{') => return Err(self.wrong("there is nothing to repeat")),
                _ => break,
            };
            self.space(nested);
            items.push(self.repeated(item, nested)?);
        }
        Ok(if items.len() == 1 { items.remove(0) } else { Expr::Seq(items) })
    }

    /// The item with the repetitions that follow it.
    fn repeated(&mut self, mut item: Expr, nested: bool) -> Result<Expr, Error> {
        for _ in 0..DEEPEST {
            let (least, most) = match self.peek() {
                Some('*') => (0, None),
                Some('+') => (1, None),
                Some('?') => (0, Some(1)),
                Some('{') => {
                    self.at += 1;
                    self.space(nested);
                    let least = self.count()?;
                    self.space(nested);
                    let mut most = Some(least);
                    if self.take(",") {
                        self.space(nested);
                        most = if self.peek() == Some('}') { None } else { Some(self.count()?) };
                        self.space(nested);
                    }
                    if self.peek() != Some('}') {
                        return Err(self.wrong("'}' is missing"));
                    }
                    if most.is_some_and(|most| most < least) {
                        return Err(self.wrong("the greater number comes first"));
                    }
                    (least, most)
                }
                _ => return Ok(item),
            };
            self.at += 1;
            self.space(nested);
            item = Expr::Repeat(Box::new(item), least, most);
        }
        Err(self.wrong(&format!("more than {DEEPEST} repetitions of each other")))
    }

    fn count(&mut self) -> Result<u32, Error> {
        let end = self.rest().find(|c: char| !c.is_ascii_digit()).unwrap_or(self.rest().len());
        let count = self.rest()[..end].parse().ok().filter(|count| *count <= MOST);
        let count = count.ok_or_else(|| self.wrong(&format!("a number from 0 to {MOST} is missing")))?;
        self.at += end;
        Ok(count)
    }

    fn literal(&mut self) -> Result<Expr, Error> {
        let start = self.at;
        self.at += 1;
        let mut items = Vec::new();
        while !self.take("\"") {
            if self.peek().is_none() {
                return Err(self.wrong_at(start, "this text has no quote at its end"));
            }
            let c = self.char()?;
            items.push(Expr::Chars(vec![(c, c)]));
        }
        Ok(if items.len() == 1 { items.remove(0) } else { Expr::Seq(items) })
    }

    fn class(&mut self) -> Result<Expr, Error> {
        let start = self.at;
        self.at += 1;
        let negated = self.take("^");
        let mut ranges = Vec::new();
        while !self.take("]") {
            if self.peek().is_none() {
                return Err(self.wrong_at(start, "this class has no ] at its end"));
            }
            let first = self.char()?;
            let is_range = self.rest().starts_with('-') && !self.rest().starts_with("-]");
            let last = if is_range {
                self.at += 1;
                self.char()?
            } else {
                first
            };
            if last < first {
                return Err(self.wrong("the range ends before it begins"));
            }
            ranges.push((first, last));
        }
        Ok(Expr::Chars(if negated { without(&ranges) } else { joined(ranges) }))
    }

    fn char(&mut self) -> Result<char, Error> {
        let start = self.at;
        if self.next()? != '\\' {
            self.at = start;
            return self.next();
        }
        Ok(match self.next()? {
            'x' => self.hex(2)?,
            'u' => self.hex(4)?,
            'U' => self.hex(8)?,
            't' => '\t',
            'r' => '\r',
            'n' => '\n',
            c @ ('\\' | '"' | '[' | ']') => c,
            c => return Err(self.wrong_at(start, &format!("there is no escape \\{}", c.escape_debug()))),
        })
    }

    fn hex(&mut self, digits: usize) -> Result<char, Error> {
        let code = self.rest().get(..digits).filter(|code| code.bytes().all(|b| b.is_ascii_hexdigit()));
        let c = code.and_then(|code| char::from_u32(u32::from_str_radix(code, 16).ok()?));
        let c =
            c.ok_or_else(|| self.wrong(&format!("{digits} hexadecimal digits of a character are missing")))?;
        self.at += digits;
        Ok(c)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(text: &str) -> String {
        parse(text).unwrap_err().to_string().replace("the grammar cannot be used: ", "")
    }

    #[test]
    fn classes_are_ranges() {
        let rule = |text: &str| parse(&format!("root ::= {text}")).unwrap().rules[0].clone();
        assert_eq!(rule("[a-cb-dx]"), Expr::Chars(vec![('a', 'd'), ('x', 'x')]));
        assert_eq!(rule("\"a\" | [b-]"), Expr::Chars(vec![('-', '-'), ('a', 'b')]));
        let others = vec![('\0', '\t'), ('\u{b}', '\u{d7ff}'), ('\u{e001}', char::MAX)];
        assert_eq!(rule("[^\\n\\uE000]"), Expr::Chars(others));
        let a = || Box::new(Expr::Chars(vec![('a', 'a')]));
        assert_eq!(rule("\"a\"{2,} # twice"), Expr::Repeat(a(), 2, None));
        assert_eq!(rule("(\n\"a\" {3} )"), Expr::Repeat(a(), 3, Some(3)));
    }

    #[test]
    fn mistakes_have_a_place() {
        assert_eq!(wrong("root ::= a\na ::= b"), "line 2, column 7: there is no rule 'b'");
        assert_eq!(wrong(""), "line 1, column 1: there is no rule 'root'");
        assert!(wrong("root ::= (\"a\"").starts_with("line 1, column 14: ')'"));
        assert_eq!(wrong("root ::= \"a"), "line 1, column 10: this text has no quote at its end");
        assert_eq!(wrong("root ::= [a-"), "line 1, column 13: the grammar ends here, but something is open");
        assert_eq!(wrong("root ::= [a"), "line 1, column 10: this class has no ] at its end");
        assert!(wrong("root ::= a_b").starts_with("line 1, column 11: names of rules"));
        assert!(wrong("root ::= a\na_b ::= \"c\"").starts_with("line 2, column 2: names of rules"));
        assert_eq!(wrong("root ::= 'a'"), "line 1, column 10: texts stand in double quotes");
        assert!(wrong("root ::= \"a\" )").starts_with("line 1, column 14: neither"));
        let twice = wrong("root ::= a\na ::= \"a\"\n\na ::= \"b\"");
        assert_eq!(twice, "line 4, column 1: the rule 'a' is in line 2 already");
        assert!(wrong("root ::= <think>").contains("tokens"));
        assert!(wrong("root ::= root \"a\"").contains("matches no text"));
        assert!(wrong("root ::= \"\\q\"").starts_with("line 1, column 11: there is no escape"));
        assert!(wrong("root ::= [\\uD800]").contains("hexadecimal digits"));
        assert!(wrong("root ::= \"a\"{5,2}").contains("greater number"));
        assert!(wrong(&format!("root ::= {}", "(".repeat(1000))).contains("nested parentheses"));
    }
}
