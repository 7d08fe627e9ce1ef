//! Rewrites the tags of a template that minijinja reads differently from Jinja2, and finds its string
//! constants.

/// Rewrites these, keeping the white space control around them:
/// - `{% generation %}`, which marks the model's text for training: the block becomes `{% if true %}`;
/// - `{% for x in none %}`, an error in Jinja2 and an empty loop in minijinja: the iterable passes through a
///   filter;
/// - `{{ 'text'|safe + more }}`, where Jinja2 escapes the added text: the expression gets an escaping block.
pub(super) fn prepared(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find('{') {
        let (before, tag) = rest.split_at(start);
        out.push_str(before);
        let end = |close: &str| tag[2..].find(close).map(|end| 2 + end);
        let (rewritten, end) = match (tag.get(..2), tag.get(2..)) {
            (Some("{%"), _) if trimmed(&tag[2..]).starts_with("raw") => (None, end("endraw")),
            (Some("{%"), _) => (end("%}").and_then(|end| statement(&tag[..end])), end("%}")),
            (Some("{{"), _) => {
                (end("}}").and_then(|end| expression(&tag[..end + 2])), end("}}").map(|end| end + 2))
            }
            (Some("{#"), _) => (None, end("#}")),
            _ => (None, Some(1)),
        };
        let end = end.unwrap_or(tag.len());
        out.push_str(rewritten.as_deref().unwrap_or(&tag[..end]));
        rest = &tag[end..];
    }
    out.push_str(rest);
    out
}

/// The inside of a tag without white space and trim signs.
fn trimmed(inside: &str) -> &str {
    inside.trim_matches(|c: char| c.is_whitespace() || c == '-' || c == '+')
}

/// Rewrites a tag from `{%` up to its end.
fn statement(tag: &str) -> Option<String> {
    let words = trimmed(&tag[2..]);
    let instead = match words {
        "generation" => "if true".into(),
        "endgeneration" => "endif".into(),
        _ => looped(words).map(|(before, what, after)| format!("{before} ({what})|looped {after}"))?,
    };
    Some(tag.replace(words, &instead))
}

/// Rewrites a whole `{{ … }}`.
fn expression(tag: &str) -> Option<String> {
    let inside = trimmed(&tag[2..tag.len() - 2]);
    let adds_to_safe =
        inside.replace("| ", "|").contains("|safe") && inside.contains('+') && !inside.contains('~');
    outer_words(inside).filter(|_| adds_to_safe)?;
    let (trims_before, trims_after) = (tag.starts_with("{{-"), tag.ends_with("-}}"));
    let (before, after) = (if trims_before { '-' } else { '+' }, if trims_after { '-' } else { '+' });
    Some(format!("{{%{before} autoescape true %}}{{{{ ({inside})|safe }}}}{{% endautoescape {after}%}}"))
}

/// Splits `for x in WHAT if …` into three: up to `WHAT`, `WHAT`, and the rest.
fn looped(tag: &str) -> Option<(&str, &str, &str)> {
    let words = outer_words(tag)?;
    let ("for", _) = words.first()? else { return None };
    let (_, start) = words.iter().find(|(word, _)| *word == "in")?;
    let start = start + "in".len();
    let end = words.iter().find(|(word, at)| ["if", "recursive"].contains(word) && *at > start);
    let end = end.map_or(tag.len(), |(_, at)| *at);
    Some((&tag[..start], &tag[start..end], &tag[end..]))
}

/// The words of a tag outside brackets and quotes, with their positions; `None` if a bracket or a quote stays
/// open.
fn outer_words(tag: &str) -> Option<Vec<(&str, usize)>> {
    let (mut words, mut quote, mut escaped, mut depth, mut inside) = (Vec::new(), None, false, 0, false);
    for (at, c) in tag.char_indices() {
        let of_word = c.is_alphanumeric() || c == '_';
        match (quote, c) {
            (Some(_), _) if escaped => escaped = false,
            (Some(_), '\\') => escaped = true,
            (Some(open), _) if open == c => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(c),
            (None, '(' | '[' | '{') => depth += 1,
            (None, ')' | ']' | '}') => depth -= 1,
            (None, _) if of_word && !inside && depth == 0 => {
                let rest = &tag[at..];
                let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_');
                words.push((&rest[..end.unwrap_or(rest.len())], at));
            }
            (None, _) => {}
        }
        inside = of_word;
    }
    (quote.is_none() && depth == 0).then_some(words)
}

/// The string constants in a template's tags, without duplicates and blank ones.
pub(in crate::engine) fn constants(source: &str) -> Vec<String> {
    let (mut constants, mut rest, mut inside) = (Vec::new(), source, false);
    while let Some(at) = rest.find(if inside { &['"', '\'', '%', '}'][..] } else { &['{'] }) {
        let tag = rest.get(at..at + 2).unwrap_or_default();
        let sign = rest[at..].chars().next();
        rest = &rest[at + 1..];
        match (inside, sign) {
            (true, Some(quote @ ('"' | '\''))) => {
                let (constant, after) = unquoted(rest, quote);
                rest = after;
                if !constant.trim().is_empty() && !constants.contains(&constant) {
                    constants.push(constant);
                }
            }
            (true, _) if tag == "%}" || tag == "}}" => (inside, rest) = (false, &rest[1..]),
            (false, _) if tag == "{%" || tag == "{{" => (inside, rest) = (true, &rest[1..]),
            _ => {}
        }
    }
    constants
}

/// The text up to the closing quote, and the rest.
fn unquoted(text: &str, quote: char) -> (String, &str) {
    let (mut unquoted, mut escaped) = (String::new(), false);
    for (at, c) in text.char_indices() {
        match (escaped, c) {
            (true, 'n') => unquoted.push('\n'),
            (true, 't') => unquoted.push('\t'),
            (true, 'r') => unquoted.push('\r'),
            (true, c) => unquoted.push(c),
            (false, '\\') => {}
            (false, c) if c == quote => return (unquoted, &text[at + c.len_utf8()..]),
            (false, c) => unquoted.push(c),
        }
        escaped = c == '\\' && !escaped;
    }
    (unquoted, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_looped_over_is_found() {
        let rewritten = |source: &str| prepared(source).replace("  ", " ");
        assert_eq!(rewritten("{%- for a, b in x.items() -%}"), "{%- for a, b in ( x.items())|looped -%}");
        assert_eq!(
            rewritten("{% for a in x['if '] + [' if\\''] if a > 1 recursive %}"),
            "{% for a in ( x['if '] + [' if\\''] )|looped if a > 1 recursive %}"
        );
        assert_eq!(rewritten("{% for a in\n  b\n%}"), "{% for a in (\n b)|looped \n%}");
        assert_eq!(
            prepared("{{- 'a'|safe + b }}"),
            "{%- autoescape true %}{{ ('a'|safe + b)|safe }}{% endautoescape +%}"
        );
        let others = [
            "{{ 'a'|safe ~ b + c }}{{ a + b }}{ {{ {'a': {}} }}",
            "{# {% for a in b %} #}",
            "{% forget %}{% for x %}",
            "{% generation_x %} {%",
            "{% for a in '%}' %}",
            "{% raw %}{% for a in b %}{% endraw %}",
        ];
        others.into_iter().for_each(|other| assert_eq!(prepared(other), other));
    }
    #[test]
    fn constants_are_found() {
        let source = r#"it's {% if "a'b" in x %}{{ 'c\'d' ~ '\n' ~ '\\n\n' + {'e': 1}['f'] }}"no" {%- set x = "g}}" -%}{{ 'g}}' }}"#;
        assert_eq!(constants(source), ["a'b", "c'd", "\\n\n", "e", "f", "g}}"]);
        assert_eq!(constants("{{ 'open"), ["open"]);
        assert_eq!(constants("{ {"), [""; 0]);
    }
}
