//! The text of a regular expression → an expression, or the place of what is wrong with it.
//!
//! Patterns of JSON schemas are ECMA-262's, which ecma.rs translates into Rust's syntax, which llguidance reads.

use llguidance::regex_to_lark;
use regex_syntax::ast::parse::Parser as AstParser;
use regex_syntax::hir::translate::Translator;
use regex_syntax::hir::{Class, Hir, HirKind, Look, LookSet};

use super::ecma;
use super::expr::Expr;
use super::facts::{Cost, MOST_COPIES, MULTIPLIED};
use super::words::INNER_ANCHORS;

/// Checks a pattern of a JSON schema. The error says why it cannot be enforced.
pub(super) fn check_ecma(pattern: &str) -> Result<(), String> {
    let hir = parsed(&regex_to_lark(&ecma::rust(pattern), "dw"));
    let hir = hir.map_err(|why| parsed(pattern).err().unwrap_or(why))?; // the place in what the user wrote
    let begins = hir.properties().look_set_prefix().contains(Look::Start);
    checked(&hir, begins)
}

/// Checks a regular expression in Rust's syntax, for a whole answer.
pub(super) fn check(text: &str) -> Result<(), String> {
    checked(&parsed(text)?, true)
}

/// The error names the character where it is, counted from 1.
fn parsed(text: &str) -> Result<Hir, String> {
    let place = |at: usize| text[..at].chars().count() + 1;
    let ast = AstParser::new().parse(text);
    let ast =
        ast.map_err(|error| format!("at character {}: {}", place(error.span().start.offset), error.kind()))?;
    let hir = Translator::new().translate(text, &ast);
    hir.map_err(|error| format!("at character {}: {}", place(error.span().start.offset), error.kind()))
}

/// Refuses word boundaries, and what would be slow. `begins`: the text begins with it.
fn checked(hir: &Hir, begins: bool) -> Result<(), String> {
    let anchors = LookSet::singleton(Look::Start).insert(Look::End);
    if !hir.properties().look_set().subtract(anchors).is_empty() {
        return Err(INNER_ANCHORS.into());
    }
    let Cost { clear, unclear, .. } = Cost::of(&expr(hir), &|_| unreachable!("it has no rules"));
    let copies = if begins { clear } else { unclear };
    if copies <= MOST_COPIES { Ok(()) } else { Err(MULTIPLIED.into()) }
}

/// Anchors are left out.
fn expr(hir: &Hir) -> Expr {
    let class = |first: char, last: char| Expr::Chars(vec![(first, last)]);
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => Expr::Seq(Vec::new()),
        HirKind::Literal(literal) => {
            Expr::Seq(String::from_utf8_lossy(&literal.0).chars().map(|c| class(c, c)).collect())
        }
        HirKind::Class(Class::Unicode(ranges)) => {
            Expr::Chars(ranges.iter().map(|range| (range.start(), range.end())).collect())
        }
        HirKind::Class(Class::Bytes(ranges)) => {
            Expr::Chars(ranges.iter().map(|range| (range.start().into(), range.end().into())).collect())
        }
        HirKind::Repetition(inner) => Expr::Repeat(Box::new(expr(&inner.sub)), inner.min, inner.max),
        HirKind::Capture(inner) => expr(&inner.sub),
        HirKind::Concat(items) => Expr::Seq(items.iter().map(expr).collect()),
        HirKind::Alternation(branches) => Expr::Or(branches.iter().map(expr).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_that_multiply_are_refused() {
        for taken in [
            "a{0,65536}",
            "([a-z]{1,100} ){1,5000}",
            "(a|b)*",
            "([a-z]{1,9}\\s?){1,20}",
            "(a|ab|abc)*",
            "[a-z]*x{3}",
        ] {
            assert_eq!(check(taken), Ok(()), "{taken}");
        }
        for refused in ["(a{1,1000}){1,1000}", "(a?){9999}", "[a-z]*a[a-z]{9999}", "((a|ab){9,99}){99}"] {
            assert!(check(refused).unwrap_err().contains("multiply"), "{refused}");
        }
        assert!(check_ecma("^[a-z]{1,9999}$").is_ok() && check_ecma("[a-z]{1,9999}").is_err());
    }

    #[test]
    fn mistakes_have_a_place() {
        assert_eq!(check("(a").unwrap_err(), "at character 1: unclosed group");
        assert_eq!(check_ecma("é(").unwrap_err(), "at character 2: unclosed group");
        assert!(check("a(?=b)").unwrap_err().starts_with("at character 2: look-around"));
    }
}
