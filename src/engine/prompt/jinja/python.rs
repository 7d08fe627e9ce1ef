//! Python's methods, and Jinja2's filters and tests, where minijinja lacks them or differs.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::sync::Arc;

use minijinja::value::{
    Enumerator, Kwargs, Object, ObjectRepr, Rest, Value, ValueKind, ValueOrKwargs, from_args,
};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, Output, State, filters, tests};
use serde_json::{Map, Value as Json};

use crate::engine::prompt::json::PythonJson;

/// The name of a test, and the remaining arguments of a filter.
type Test<'a> = Option<Cow<'a, str>>;
type Others = Rest<ValueOrKwargs>;

pub(super) fn add_to(env: &mut Environment) {
    minijinja_contrib::add_to_environment(env);
    env.set_unknown_method_callback(method);
    env.add_filter("looped", looped);
    env.add_filter("length", length);
    env.add_filter("count", length);
    env.add_filter("trim", |text: &Value, set: Option<&str>| stripped(&text.to_string(), set).to_owned());
    env.add_filter("tojson", tojson);
    env.add_function("tojson", tojson);
    env.add_filter("map", |state: &mut State, all: Value, how: Others| lazy(filters::map(state, all, how)));
    env.add_filter("select", |state: &mut State, all: Value, test: Test, how: Others| {
        lazy(filters::select(state, all, test, how))
    });
    env.add_filter("reject", |state: &mut State, all: Value, test: Test, how: Others| {
        lazy(filters::reject(state, all, test, how))
    });
    env.add_filter("selectattr", |state: &mut State, all: Value, name: Cow<str>, test: Test, how: Others| {
        lazy(filters::selectattr(state, all, name, test, how))
    });
    env.add_filter("rejectattr", |state: &mut State, all: Value, name: Cow<str>, test: Test, how: Others| {
        lazy(filters::rejectattr(state, all, name, test, how))
    });
    env.add_test("iterable", |value: &Value| !value.is_none() && tests::is_iterable(value));
    env.add_test("sequence", |value: &Value| {
        tests::is_sequence(value) || [ValueKind::String, ValueKind::Map].contains(&value.kind())
    });
}

/// Writes a value. If tags.rs requests escaping, it is that of Python's `markupsafe`.
pub(super) fn write(out: &mut Output, state: &mut State, value: &Value) -> Result<(), Error> {
    if value.is_safe() || matches!(state.auto_escape(), AutoEscape::None) {
        return minijinja::escape_formatter(out, state, value);
    }
    for c in value.to_string().chars() {
        match c {
            '&' => out.write_str("&amp;")?,
            '<' => out.write_str("&lt;")?,
            '>' => out.write_str("&gt;")?,
            '\'' => out.write_str("&#39;")?,
            '"' => out.write_str("&#34;")?,
            c => out.write_char(c)?,
        }
    }
    Ok(())
}

/// A Python generator: it can be iterated over, and nothing else.
#[derive(Debug)]
struct Lazy(Vec<Value>);

impl Object for Lazy {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Iterable
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(self.0.clone())
    }
}

fn lazy(values: Result<Vec<Value>, Error>) -> Result<Value, Error> {
    values.map(|values| Value::from_object(Lazy(values)))
}

fn is_lazy(value: &Value) -> bool {
    value.downcast_object_ref::<Lazy>().is_some()
}

/// Checks the iterable of a `for` (see tags.rs).
fn looped(value: Value) -> Result<Value, Error> {
    if value.is_none() {
        return Err(Error::new(ErrorKind::InvalidOperation, "none cannot be looped over"));
    }
    Ok(value)
}

/// In Jinja2 an undefined value has length 0; minijinja raises an error.
fn length(value: &Value) -> Result<usize, Error> {
    if value.is_undefined() {
        return Ok(0);
    }
    let kind = value.kind();
    let refusal = || Error::new(ErrorKind::InvalidOperation, format!("a {kind} has no length"));
    value.len().filter(|_| !is_lazy(value)).ok_or_else(refusal)
}

/// White space as Python defines it: Unicode's, and four ASCII separators.
fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\x1c'..='\x1f').contains(&c)
}

/// `str.strip`: trims the characters of `set`, or white space, at both ends.
fn stripped<'a>(text: &'a str, set: Option<&str>) -> &'a str {
    text.trim_matches(|c| set.map_or(is_space(c), |set| set.contains(c)))
}

/// Python's methods that minijinja-contrib lacks. Values are immutable here, so methods that would modify
/// them are refused by name (transformers' sandbox refuses them too).
fn method(state: &mut State, value: &Value, name: &str, args: &[Value]) -> Result<Value, Error> {
    if let Some(text) = value.as_str()
        && let Some(result) = string_method(text, name, args)
    {
        return result;
    }
    let changes = ["append", "extend", "insert", "pop", "remove", "clear", "update", "setdefault"];
    if value.as_str().is_none() && changes.contains(&name) {
        let refusal =
            format!("{}.{name}() would change a value, and values do not change here", value.kind());
        return Err(Error::new(ErrorKind::InvalidOperation, refusal));
    }
    minijinja_contrib::pycompat::unknown_method_callback(state, value, name, args)
}

fn string_method(text: &str, name: &str, args: &[Value]) -> Option<Result<Value, Error>> {
    Some(match name {
        "removeprefix" => {
            from_args(args).map(|(p,): (&str,)| Value::from(text.strip_prefix(p).unwrap_or(text)))
        }
        "removesuffix" => {
            from_args(args).map(|(s,): (&str,)| Value::from(text.strip_suffix(s).unwrap_or(text)))
        }
        "strip" => from_args(args).map(|(set,): (Option<&str>,)| Value::from(stripped(text, set))),
        "lstrip" => from_args(args).map(|(set,): (Option<&str>,)| {
            Value::from(text.trim_start_matches(|c| set.map_or(is_space(c), |set| set.contains(c))))
        }),
        "rstrip" => from_args(args).map(|(set,): (Option<&str>,)| {
            Value::from(text.trim_end_matches(|c| set.map_or(is_space(c), |set| set.contains(c))))
        }),
        "isspace" => from_args(args).map(|()| Value::from(!text.is_empty() && text.chars().all(is_space))),
        "splitlines" => from_args(args).map(|(keep,): (Option<bool>,)| lines(text, keep.unwrap_or(false))),
        "split" | "rsplit" => from_args(args).and_then(|(separator, most): (Option<&str>, Option<i64>)| {
            let pieces = most.and_then(|n| usize::try_from(n).ok());
            let pieces = pieces.map_or(usize::MAX, |n| n.saturating_add(1));
            match separator {
                Some("") => Err(Error::new(ErrorKind::InvalidOperation, "empty separator")),
                Some(separator) if name == "split" => Ok(list(text.splitn(pieces, separator))),
                Some(separator) => {
                    Ok(list(text.rsplitn(pieces, separator).collect::<Vec<_>>().into_iter().rev()))
                }
                None if name == "split" => Ok(words(text, pieces)),
                None => Ok(words_from_the_right(text, pieces)),
            }
        }),
        "partition" => from_args(args).map(|(separator,): (&str,)| match text.split_once(separator) {
            Some((before, after)) => list([before, separator, after]),
            None => list([text, "", ""]),
        }),
        "rpartition" => from_args(args).map(|(separator,): (&str,)| match text.rsplit_once(separator) {
            Some((before, after)) => list([before, separator, after]),
            None => list(["", "", text]),
        }),
        "casefold" => from_args(args).map(|()| Value::from(text.to_lowercase())),
        _ => return None,
    })
}

fn list<'a>(parts: impl IntoIterator<Item = &'a str>) -> Value {
    parts.into_iter().map(Value::from).collect()
}

/// `str.split` on white space, into at most `pieces` pieces.
fn words(text: &str, pieces: usize) -> Value {
    let (mut words, mut rest) = (Vec::new(), text.trim_start_matches(is_space));
    while !rest.is_empty() {
        if words.len() + 1 == pieces {
            words.push(rest);
            break;
        }
        let (word, after) = rest.split_once(is_space).unwrap_or((rest, ""));
        words.push(word);
        rest = after.trim_start_matches(is_space);
    }
    list(words)
}

/// `str.rsplit` on white space: counts pieces from the right, returns them from the left.
fn words_from_the_right(text: &str, pieces: usize) -> Value {
    let (mut words, mut rest) = (Vec::new(), text.trim_end_matches(is_space));
    while !rest.is_empty() {
        if words.len() + 1 == pieces {
            words.push(rest);
            break;
        }
        let (before, word) = rest.rsplit_once(is_space).unwrap_or(("", rest));
        words.push(word);
        rest = before.trim_end_matches(is_space);
    }
    list(words.into_iter().rev())
}

/// `str.splitlines`.
fn lines(text: &str, keep_ends: bool) -> Value {
    let ends = ['\n', '\r', '\x0b', '\x0c', '\x1c', '\x1d', '\x1e', '\u{85}', '\u{2028}', '\u{2029}'];
    let (mut lines, mut rest) = (Vec::new(), text);
    while !rest.is_empty() {
        let end = rest.find(ends).unwrap_or(rest.len());
        let after = rest[end..].strip_prefix("\r\n");
        let after = after.unwrap_or_else(|| rest[end..].strip_prefix(ends).unwrap_or_default());
        lines.push(&rest[..if keep_ends { rest.len() - after.len() } else { end }]);
        rest = after;
    }
    list(lines)
}

/// `json.dumps` as transformers provides it to templates: no HTML escapes, non-ASCII characters as they are.
fn tojson(value: &Value, ensure_ascii: Option<bool>, options: Kwargs) -> Result<Value, Error> {
    let indent = options.get::<Option<Value>>("indent")?;
    let indent = indent.map(|indent| match indent.as_str() {
        Some(text) => text.to_owned(),
        None => " ".repeat(usize::try_from(indent).unwrap_or(0).min(64)),
    });
    let (mut item, mut key) = (if indent.is_some() { "," } else { ", " }.to_owned(), ": ".to_owned());
    if let Some((i, k)) = options.get::<Option<Value>>("separators")?.and_then(|pair| {
        Some((pair.get_item_by_index(0).ok()?.to_string(), pair.get_item_by_index(1).ok()?.to_string()))
    }) {
        (item, key) = (i, k);
    }
    let ascii = match ensure_ascii {
        Some(ascii) => ascii,
        None => options.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false),
    };
    let sorted = options.get::<Option<bool>>("sort_keys")?.unwrap_or(false);
    options.assert_all_used()?;
    Ok(Value::from(PythonJson { indent, item, key, ascii, sorted }.write(&as_json(value)?)))
}

/// Converts what Python's `json` can write.
fn as_json(value: &Value) -> Result<Json, Error> {
    if value.is_undefined() || is_lazy(value) {
        let what = if value.is_undefined() { "an undefined value" } else { "a generator" };
        return Err(Error::new(ErrorKind::BadSerialization, format!("{what} is not JSON")));
    }
    match value.kind() {
        ValueKind::Seq | ValueKind::Iterable => value.try_iter()?.map(|item| as_json(&item)).collect(),
        ValueKind::Map => {
            let field = |key: Value| Ok((key.to_string(), as_json(&value.get_item(&key)?)?));
            value.try_iter()?.map(field).collect::<Result<Map<_, _>, Error>>().map(Json::Object)
        }
        _ => serde_json::to_value(value)
            .map_err(|e| Error::new(ErrorKind::BadSerialization, "not JSON").with_source(e)),
    }
}
