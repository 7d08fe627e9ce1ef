//! A template's source → the same for minijinja, where it reads a tag otherwise than Jinja2.

/// Two kinds of tags are rewritten; the white space around them is trimmed as it was:
/// - `{% generation %}` marks, for training, what the model wrote. Such a block becomes `{% if true %}`.
/// - `{% for x in none %}` is an error in Jinja2 and no loop in minijinja. What is looped over goes through a filter that says so.
pub(super) fn prepared(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let (before, tag) = rest.split_at(start + 2);
        out.push_str(before);
        rest = tag;
        let Some(end) = tag.find("%}") else { break };
        let word = tag[..end].trim_matches(|c: char| c.is_whitespace() || c == '-' || c == '+');
        let instead = match word {
            "generation" => "if true".into(),
            "endgeneration" => "endif".into(),
            "raw" => {
                let end = tag.find("endraw").unwrap_or(tag.len());
                out.push_str(&tag[..end]);
                rest = &tag[end..];
                continue;
            }
            _ => match looped(word) {
                Some((before, what, after)) => format!("{before} ({what})|looped {after}"),
                None => continue,
            },
        };
        out.push_str(&tag[..end].replace(word, &instead));
        rest = &tag[end..];
    }
    out.push_str(rest);
    out
}

/// `for x in WHAT if …` in three: up to `WHAT`, `WHAT`, and what is after it.
fn looped(tag: &str) -> Option<(&str, &str, &str)> {
    let words = outer_words(tag)?;
    let ("for", _) = words.first()? else { return None };
    let (_, start) = words.iter().find(|(word, _)| *word == "in")?;
    let start = start + "in".len();
    let end = words.iter().find(|(word, at)| ["if", "recursive"].contains(word) && *at > start);
    let end = end.map_or(tag.len(), |(_, at)| *at);
    Some((&tag[..start], &tag[start..end], &tag[end..]))
}

/// The words of a tag outside brackets and quotes, and where they begin; `None` if a bracket or a quote stays open.
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
        let others = [
            "{% forget %}{% for x %}",
            "{% generation_x %} {%",
            "{% for a in '%}' %}",
            "{% raw %}{% for a in b %}{% endraw %}",
        ];
        others.into_iter().for_each(|other| assert_eq!(prepared(other), other));
    }
}
