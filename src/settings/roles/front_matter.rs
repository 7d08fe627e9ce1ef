//! The front matter of a role, a small part of YAML → keys with values.
//!
//! One `key: value` a line. A value is a word, a text in quotes, or a list (`[a, b]`, or `- a` on lines of
//! its own); `vars` and the like have indented `key: value` lines. `#` begins a comment. All else of YAML is
//! refused, so that nothing is read otherwise than meant.

/// A value, and the line where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    /// Nothing, or `null`.
    None,
    Text(String),
    List(Vec<(usize, String)>),
    Map(Vec<(usize, String, Option<String>)>),
}

/// A key with its line and its value.
pub(super) type Entry = (usize, String, Value);

/// An error with its line.
pub(super) type Wrong = (usize, String);

const SIMPLE: &str = "is not understood: write key: value, with texts in quotes and lists as [a, b]";

/// The entries of the front matter, whose first line has the number `first`; and all errors.
pub(super) fn parse(text: &str, first: usize) -> (Vec<Entry>, Vec<Wrong>) {
    let (mut entries, mut wrong): (Vec<Entry>, Vec<Wrong>) = (Vec::new(), Vec::new());
    for (line, text) in (first..).zip(text.lines()) {
        let trimmed = text.trim();
        if trimmed.is_empty() || trimmed.starts_with('#') {
            continue;
        }
        let inside = text.starts_with([' ', '\t']);
        let read = match trimmed.strip_prefix('-').filter(|rest| rest.is_empty() || rest.starts_with(' ')) {
            Some(item) => listed(&mut entries, line, item),
            None if inside => mapped(&mut entries, line, trimmed),
            None => keyed(trimmed).and_then(|(key, rest)| {
                if entries.iter().any(|(_, other, _)| *other == key) {
                    return Err(format!("{key} stands here twice"));
                }
                entries.push((line, key, value(rest, line)?));
                Ok(())
            }),
        };
        wrong.extend(read.err().map(|why| (line, why)));
    }
    (entries, wrong)
}

/// `- item`, below a key without a value.
fn listed(entries: &mut [Entry], line: usize, item: &str) -> Result<(), String> {
    let item = scalar(item)?.ok_or("a - needs a value after it")?;
    match entries.last_mut() {
        Some((.., value @ Value::None)) => *value = Value::List(vec![(line, item)]),
        Some((.., Value::List(items))) => items.push((line, item)),
        _ => return Err("there is no key that this - belongs to".into()),
    }
    Ok(())
}

/// An indented `key: value`, below a key without a value.
fn mapped(entries: &mut [Entry], line: usize, text: &str) -> Result<(), String> {
    let (key, rest) = keyed(text)?;
    let pair = (line, key, scalar(rest)?);
    match entries.last_mut() {
        Some((.., value @ Value::None)) => *value = Value::Map(vec![pair]),
        Some((.., Value::Map(pairs))) if pairs.iter().any(|(_, other, _)| *other == pair.1) => {
            return Err(format!("{} stands here twice", pair.1));
        }
        Some((.., Value::Map(pairs))) => pairs.push(pair),
        _ => return Err("an indented line belongs to a key without a value".into()),
    }
    Ok(())
}

/// `key: rest`.
fn keyed(text: &str) -> Result<(String, &str), String> {
    let (key, rest) = text.split_once(':').ok_or_else(|| format!("'{text}' {SIMPLE}"))?;
    let key = key.trim_end();
    let plain =
        !key.is_empty() && !key.contains(|c: char| c.is_whitespace() || "\"'[]{}#&*!|>%@`,".contains(c));
    match plain && (rest.is_empty() || rest.starts_with([' ', '\t'])) {
        true => Ok((key.to_string(), rest)),
        false => Err(format!("'{text}' {SIMPLE}")),
    }
}

fn value(text: &str, line: usize) -> Result<Value, String> {
    let text = text.trim();
    let Some(mut rest) = text.strip_prefix('[') else {
        return Ok(scalar(text)?.map_or(Value::None, Value::Text));
    };
    let mut items = Vec::new();
    let unclosed = || format!("the list {text} lacks its ] in this line");
    loop {
        rest = rest.trim_start();
        if let Some(after) = rest.strip_prefix(']') {
            return ends(after).map(|()| Value::List(items));
        }
        let (item, after) = match quoted(rest)? {
            Some(found) => found,
            None => {
                let end = rest.find([',', ']']).ok_or_else(unclosed)?;
                (plain(rest[..end].trim())?.unwrap_or_default(), &rest[end..])
            }
        };
        items.push((line, item));
        rest = after.trim_start();
        match rest.strip_prefix(',') {
            Some(after) => rest = after,
            None if rest.starts_with(']') => {}
            None => return Err(unclosed()),
        }
    }
}

/// One value; `None`: none is given.
fn scalar(text: &str) -> Result<Option<String>, String> {
    let text = text.trim();
    match quoted(text)? {
        Some((value, after)) => ends(after).map(|()| Some(value)),
        None => {
            let end = if text.starts_with('#') { Some(0) } else { text.find(" #") };
            plain(text[..end.unwrap_or(text.len())].trim_end())
        }
    }
}

/// A text in quotes at the beginning, and what follows it.
fn quoted(text: &str) -> Result<Option<(String, &str)>, String> {
    let broken = || format!("the text {text} lacks its closing quote, or has an unknown \\");
    if text.starts_with('"') {
        let mut strings = serde_json::Deserializer::from_str(text).into_iter::<String>();
        let value = strings.next().and_then(Result::ok).ok_or_else(broken)?;
        return Ok(Some((value, &text[strings.byte_offset()..])));
    }
    let Some(inside) = text.strip_prefix('\'') else { return Ok(None) };
    let mut value = String::new();
    let mut rest = inside;
    loop {
        let (before, after) = rest.split_once('\'').ok_or_else(broken)?;
        value.push_str(before);
        match after.strip_prefix('\'') {
            Some(after) => {
                value.push('\'');
                rest = after;
            }
            None => return Ok(Some((value, after))),
        }
    }
}

/// A value without quotes.
fn plain(text: &str) -> Result<Option<String>, String> {
    match text {
        "" | "~" | "null" => Ok(None),
        _ if text.starts_with(['[', ']', '{', '}', '|', '>', '&', '*', '!', '%', '@', '`', '"', '\'']) => {
            Err(format!("'{text}' {SIMPLE}"))
        }
        _ => Ok(Some(text.to_string())),
    }
}

/// After a value only a comment may follow.
fn ends(after: &str) -> Result<(), String> {
    let rest = after.trim();
    match rest.is_empty() || rest.starts_with('#') {
        true => Ok(()),
        false => Err(format!("'{rest}' is left over behind the value")),
    }
}

/// A value that [`parse`] reads as this text.
pub(super) fn written(value: &str) -> String {
    let bare = |c: char| c.is_alphanumeric() || "-_./+ ".contains(c);
    let is_bare = value.starts_with(|c: char| c.is_alphanumeric() || c == '/')
        && value.chars().all(bare)
        && value.trim() == value
        && value != "null";
    if is_bare { value.to_string() } else { serde_json::Value::from(value).to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Result<Value, String> {
        let (entries, wrong) = parse(text, 2);
        match (&entries[..], wrong.into_iter().next()) {
            (_, Some((_, why))) => Err(why),
            ([(.., value)], None) => Ok(value.clone()),
            (several, None) => panic!("{several:?}"),
        }
    }

    #[test]
    fn values_are_words_texts_and_lists() {
        let text = |text: &str| Ok(Value::Text(text.into()));
        assert_eq!(one("temp: 0.2"), text("0.2"));
        assert_eq!(one("a: one two  # three"), text("one two"));
        assert_eq!(one("a: b#c: d"), text("b#c: d"));
        assert_eq!(one(r#"a: "b # \"c\"\n\u00e4" # d"#), text("b # \"c\"\nä"));
        assert_eq!(one("a: 'it''s'"), text("it's"));
        for none in ["a:", "a: # x", "a: null", "a: ~"] {
            assert_eq!(one(none), Ok(Value::None), "{none}");
        }
        let list = |items: &[&str]| Ok(Value::List(items.iter().map(|item| (2, item.to_string())).collect()));
        assert_eq!(one("a: [b, \"c, d\", 'e']"), list(&["b", "c, d", "e"]));
        assert_eq!(one("a: []"), Ok(Value::List(Vec::new())));
        assert_eq!(one("a:\n- b\n  - 'c'"), Ok(Value::List(vec![(3, "b".into()), (4, "c".into())])));
        let map = vec![(4, "x".to_string(), Some("1".to_string())), (5, "y".into(), None)];
        assert_eq!(one("a:\n\n  x: 1 # one\n  y:"), Ok(Value::Map(map)));
    }

    #[test]
    fn what_is_not_understood_is_refused_with_its_line() {
        for text in [
            "a",
            "a:b",
            ": x",
            "a b: c",
            "a: |",
            "a: >",
            "a: {b: c}",
            "a: &x",
            "a: [b",
            "a: [b c",
            "a: \"b",
            "a: 'b",
            "a: \"\\x\"",
            "a: \"b\" c",
            "a: [b] c",
            "- a",
            "  a: b",
            "a: 1\n- b",
            "a: 1\n  b: 2",
            "a: 1\na: 2",
            "a:\n  b: 1\n  b: 2",
            "a:\n  - b\n  c: d",
            "a:\n -",
            "---",
        ] {
            let (_, wrong) = parse(text, 2);
            let last = 1 + text.lines().count();
            assert_eq!(wrong.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [last], "{text}");
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        for text in [
            "a", "0.2", "a b", "a: b", " a", "a #b", "#", "\"", "'", "a\nb", "null", "~", "-", "- a", "[x]",
            "ä", "/x/y z", "", "\\", "\u{1}",
        ] {
            assert_eq!(one(&format!("a: {}", written(text))), Ok(Value::Text(text.into())), "{text:?}");
        }
    }
}
