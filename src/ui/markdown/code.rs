//! A line of code → coloured spans, with the grammars of Sublime Text (syntect, two-face), in the terminal's own
//! colours. The grammars are unpacked when the first code with a language comes.

use std::sync::LazyLock;

use syntect::parsing::{ParseState, Scope, ScopeStack, SyntaxSet};

use super::style::{Look, Span, Style};

/// Lines of a block that are coloured.
const MOST: usize = 5000;

static SYNTAXES: LazyLock<SyntaxSet> = LazyLock::new(two_face::syntax::extra_newlines);

/// What a scope is drawn as.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Plain,
    Comment,
    Keyword,
    String,
    Number,
    Name,
    Type,
}

/// The beginnings of scopes, the longer ones first.
static KINDS: LazyLock<Vec<(Scope, Kind)>> = LazyLock::new(|| {
    let kinds = [
        ("keyword.operator.word", Kind::Keyword),
        ("keyword.operator.logical.python", Kind::Keyword),
        ("keyword.operator", Kind::Plain),
        ("meta.interpolation", Kind::Plain),
        ("source", Kind::Plain),
        ("comment", Kind::Comment),
        ("string", Kind::String),
        ("constant", Kind::Number),
        ("keyword", Kind::Keyword),
        ("storage", Kind::Keyword),
        ("entity.name.function", Kind::Name),
        ("support.function", Kind::Name),
        ("variable.function", Kind::Name),
        ("entity.name.tag", Kind::Keyword),
        ("entity.other.attribute-name", Kind::Type),
        ("entity.name", Kind::Type),
        ("support.type", Kind::Type),
        ("support.class", Kind::Type),
        ("variable.other.readwrite.assignment.shell", Kind::Type),
        ("markup.inserted", Kind::String),
        ("markup.deleted", Kind::Number),
        ("meta.diff", Kind::Keyword),
    ];
    kinds.into_iter().filter_map(|(scope, kind)| Some((Scope::new(scope).ok()?, kind))).collect()
});

/// Colours the lines of one block in their order.
#[derive(Debug, Clone)]
pub(super) struct Highlighter {
    state: ParseState,
    scopes: ScopeStack,
    lines: usize,
}

impl Highlighter {
    /// For the language that a fence names; `None`: it names none that is known.
    pub(super) fn new(fence: &str) -> Option<Highlighter> {
        let info = fence.trim_start_matches(|c: char| c.is_whitespace() || "`~".contains(c));
        let name =
            info.split(|c: char| c.is_whitespace() || ",{}:".contains(c)).find(|word| !word.is_empty())?;
        let syntax = SYNTAXES.find_syntax_by_token(name.trim_start_matches('.'))?;
        Some(Highlighter { state: ParseState::new(syntax), scopes: ScopeStack::new(), lines: 0 })
    }

    /// The spans of the next line.
    pub(super) fn line(&mut self, line: &str, look: Look) -> Vec<Span> {
        self.lines += 1;
        let operations = match self.lines <= MOST {
            true => self.state.parse_line(&format!("{line}\n"), &SYNTAXES).unwrap_or_default(),
            false => Vec::new(),
        };
        let mut spans = Vec::new();
        let mut from = 0;
        for (to, operation) in operations {
            let to = to.min(line.len());
            if let Some(text) = line.get(from..to).filter(|text| !text.is_empty()) {
                spans.push(Span::new(text, self.style(look)));
                from = to;
            }
            let _ = self.scopes.apply(&operation); // a grammar's mistake costs colours
        }
        let style = if self.lines <= MOST { self.style(look) } else { Style::PLAIN };
        spans.push(Span::new(&line[from..], style));
        spans
    }

    fn style(&self, look: Look) -> Style {
        let kind = |scope: &Scope| {
            KINDS.iter().find(|(prefix, _)| prefix.is_prefix_of(*scope)).map(|(_, kind)| *kind)
        };
        match self.scopes.as_slice().iter().rev().find_map(kind).unwrap_or(Kind::Plain) {
            Kind::Plain => Style::PLAIN,
            Kind::Comment => Style::DIM,
            Kind::Keyword => look.keyword(),
            Kind::String => look.string(),
            Kind::Number => look.number(),
            Kind::Name => look.name(),
            Kind::Type => look.kind(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::settings::Theme;

    const LOOK: Look = Look { theme: Theme::Dark, styled: true };

    #[test]
    fn every_grammar_keeps_the_text() {
        let lines = [
            "fn main() { // a \"comment\"",
            "  if x == 'y' && z < 0x1f: return [1, \"a\\n\"]",
            "",
            "#include <a.h>",
            "<a href=\"x\">é</a>",
            "---",
            "key: value $x ${y}",
        ];
        for syntax in SYNTAXES.syntaxes() {
            let mut highlighter =
                Highlighter { state: ParseState::new(syntax), scopes: ScopeStack::new(), lines: 0 };
            for line in lines {
                let shown: String = highlighter.line(line, LOOK).into_iter().map(|span| span.text).collect();
                assert_eq!(shown, line, "{}", syntax.name);
            }
        }
    }

    #[test]
    fn words_have_the_colours_of_their_kind() {
        let colour = |fence: &str, line: &str, word: &str| {
            let spans = Highlighter::new(fence).unwrap().line(line, LOOK);
            spans.into_iter().find(|span| span.text.contains(word)).unwrap().style
        };
        assert_eq!(colour("```rust", "let a = \"text\";", "let"), LOOK.keyword());
        assert_eq!(colour("~~~ python", "a = 'text'  # why", "text"), LOOK.string());
        assert_eq!(colour("```python", "a = 'text'  # why", "why"), Style::DIM);
        assert_eq!(colour("```ts", "const a: number = 12", "12"), LOOK.number());
        for name in [
            "toml",
            "sh",
            "bash",
            "c++",
            "json",
            "yaml",
            "dockerfile",
            "kotlin",
            "swift",
            "go",
            "sql",
            "diff",
        ] {
            assert!(Highlighter::new(&format!("```{name}")).is_some(), "{name}");
        }
        assert!(Highlighter::new("```").is_none() && Highlighter::new("```no-such-language").is_none());
    }
}
