//! A text of a role → its pieces: plain text and variables (`$name`, `${name}`; `$$` is a dollar sign).
//!
//! A text is taken apart once, before anything is filled in: no value is ever read again.

/// A text with variables in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Text(Vec<Piece>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Plain(String),
    /// A variable, with its line in the file.
    Variable(String, usize),
}

impl Text {
    /// `first`: the line of its beginning in the file.
    pub(super) fn parse(text: &str, first: usize) -> Text {
        let (mut pieces, mut plain, mut rest, mut line) = (Vec::new(), String::new(), text, first);
        while let Some(at) = rest.find('$') {
            plain.push_str(&rest[..at]);
            line += rest[..at].matches('\n').count();
            rest = &rest[at + 1..];
            if let Some((name, after)) = name(rest) {
                pieces.push(Piece::Plain(std::mem::take(&mut plain)));
                pieces.push(Piece::Variable(name.into(), line));
                rest = after;
            } else {
                plain.push('$');
                rest = rest.strip_prefix('$').unwrap_or(rest);
            }
        }
        pieces.push(Piece::Plain(plain + rest));
        pieces.retain(|piece| *piece != Piece::Plain(String::new()));
        Text(pieces)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Its variables, each with its line in the file.
    pub(super) fn variables(&self) -> impl Iterator<Item = (&str, usize)> {
        self.0.iter().filter_map(|piece| match piece {
            Piece::Variable(name, line) => Some((name.as_str(), *line)),
            Piece::Plain(_) => None,
        })
    }

    /// With the values of these variables; the others stay.
    pub(super) fn with<'a>(&self, value: impl Fn(&str) -> Option<&'a str>) -> Text {
        let filled = |piece: &Piece| match piece {
            Piece::Variable(name, _) => value(name).map(|value| Piece::Plain(value.into())),
            Piece::Plain(_) => None,
        };
        Text(self.0.iter().map(|piece| filled(piece).unwrap_or_else(|| piece.clone())).collect())
    }

    /// As text; variables that have no value as `$name`.
    pub(super) fn plain(&self) -> String {
        let mut text = String::new();
        for (at, piece) in self.0.iter().enumerate() {
            let after = match self.0.get(at + 1) {
                Some(Piece::Plain(after)) => {
                    after.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
                }
                _ => false,
            };
            match piece {
                Piece::Plain(plain) => text += plain,
                Piece::Variable(name, _) if after => text += &format!("${{{name}}}"),
                Piece::Variable(name, _) => text += &format!("${name}"),
            }
        }
        text
    }
}

/// A text that [`Text::parse`] reads as it is here.
pub(super) fn escaped(text: &str) -> String {
    text.replace('$', "$$")
}

/// Whether this can be the name of a variable.
pub(super) fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// The name after a dollar sign, and what follows it.
fn name(rest: &str) -> Option<(&str, &str)> {
    if let Some(braced) = rest.strip_prefix('{') {
        return braced.split_once('}').filter(|(name, _)| is_name(name));
    }
    let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(rest.len());
    let (name, after) = rest.split_at(end);
    is_name(name).then_some((name, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_found_and_filled_once() {
        let text = Text::parse("Say $a\nto ${b_1}s for $5, $$a, ${x y} and $", 7);
        assert_eq!(text.variables().collect::<Vec<_>>(), [("a", 7), ("b_1", 8)]);
        let value = |name: &str| if name == "a" { Some("$b_1 $$ $a") } else { None };
        let filled = text.with(value);
        assert_eq!(filled.plain(), "Say $b_1 $$ $a\nto ${b_1}s for $5, $a, ${x y} and $");
        assert_eq!(filled.variables().collect::<Vec<_>>(), [("b_1", 8)]);
        assert!(Text::parse("", 1).is_empty());
    }

    #[test]
    fn an_escaped_text_comes_back() {
        for text in ["", "$", "$$", "$a ${b} $$c", "a$", "1 $ 2\n$$$"] {
            let back = Text::parse(&escaped(text), 1);
            assert_eq!((back.plain().as_str(), back.variables().count()), (text, 0));
        }
    }
}
