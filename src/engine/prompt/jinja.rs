//! Jinja source and variables → text, rendered as Python's Jinja2 renders chat templates. Only this file and
//! its folder name minijinja.
//!
//! A template comes from a model file and is not trusted: it has no access to files and, of the clock, only
//! to the time of the request. Its steps, depth and output are limited here; its time and memory by
//! `apart.rs`, which renders in another process. It knows nothing of roles or turns; `template.rs` decides
//! what to render.

mod apart;
mod python;
mod tags;

use std::error::Error as _;
use std::{fmt, io};

use jiff::fmt::strtime::{BrokenDownTime, Config, PosixCustom};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Serde, Value};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, UndefinedBehavior};
use serde_json::Value as Json;

use serde::{Deserialize, Serialize};

use crate::clock::timestamp;

pub(super) use self::tags::constants;

use self::apart::There;
pub use self::apart::{ahead, render_apart, until};

/// The limit on nested calls, deeper than any real template's; the frames must fit a thread's 2 MiB stack (in
/// tests).
const DEPTH: usize = 100;

/// Why a chat template could not be rendered. One line each; control characters are removed from the
/// template's text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum TemplateError {
    #[error("the chat template has a syntax error at line {line}: {detail}")]
    Syntax { line: usize, detail: String },
    /// The template called `raise_exception`.
    #[error("the chat template raised: {0}")]
    Raised(String),
    #[error("the chat template does not end (stopped after {0} steps)")]
    Endless(u64),
    #[error("the chat template does not end (stopped after {0} seconds)")]
    Slow(u64),
    /// The rendering process died.
    #[error("the chat template {0}")]
    Died(String),
    /// Not because of the template: its limits end the process otherwise.
    #[error("the chat template was not rendered: the process that renders it was killed")]
    Killed,
    /// The result is no longer wanted.
    #[error("interrupted")]
    Interrupted,
    #[error("the chat template writes too much (stopped after {0} bytes)")]
    TooLong(usize),
    #[error("the chat template failed at line {line}: {detail}")]
    Failed { line: usize, detail: String },
}

/// The limits on a render.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct RenderBounds {
    /// Instructions of the compiled template; some tens of millions run per second.
    pub steps: u64,
    /// Bytes of output.
    pub bytes: usize,
}

/// A template with valid syntax.
pub(super) enum Jinja {
    Here(Box<Here>),
    There(There),
}

impl Jinja {
    pub(super) fn new(source: &str) -> Result<Jinja, TemplateError> {
        match apart::apart() {
            true => There::new(source).map(Jinja::There),
            false => Here::new(source).map(Box::new).map(Jinja::Here),
        }
    }

    /// Renders with the fields of `variables`. A template that fails on something undefined is run again with
    /// chained lookups on undefined values allowed, as in llama.cpp.
    pub(super) fn render(
        &self,
        variables: &Json,
        bounds: RenderBounds,
        now: &Moment,
    ) -> Result<String, TemplateError> {
        self.rendered(variables, false, bounds, now)
    }

    /// Like `render`, but fails where Jinja2 fails.
    pub(super) fn render_strictly(
        &self,
        variables: &Json,
        bounds: RenderBounds,
        now: &Moment,
    ) -> Result<String, TemplateError> {
        self.rendered(variables, true, bounds, now)
    }

    /// Declares the trial renders finished: from now on, renders are for a turn.
    pub(super) fn tried(&self) {
        if let Jinja::There(there) = self {
            there.tried();
        }
    }

    fn rendered(
        &self,
        variables: &Json,
        strictly: bool,
        bounds: RenderBounds,
        now: &Moment,
    ) -> Result<String, TemplateError> {
        match self {
            Jinja::Here(here) => here.render(variables, strictly, bounds, now),
            Jinja::There(there) => {
                there.render(variables, strictly, bounds, now.timestamp().as_millisecond())
            }
        }
    }
}

/// A template rendered in this process.
pub(in crate::engine) struct Here {
    source: String,
    env: Environment<'static>,
}

impl Here {
    fn new(source: &str) -> Result<Here, TemplateError> {
        let source = tags::prepared(&source.replace("\r\n", "\n"));
        let env = environment();
        env.template_from_str(&source).map_err(|e| described(&e, 0))?;
        Ok(Here { source, env })
    }

    fn render(
        &self,
        variables: &Json,
        strictly: bool,
        bounds: RenderBounds,
        now: &Moment,
    ) -> Result<String, TemplateError> {
        match self.attempt(variables, bounds, now, UndefinedBehavior::Lenient) {
            Err(TemplateError::Failed { line, detail }) if !strictly => self
                .attempt(variables, bounds, now, UndefinedBehavior::Chainable)
                .map_err(|_| TemplateError::Failed { line, detail }),
            done => done,
        }
    }

    fn attempt(
        &self,
        variables: &Json,
        bounds: RenderBounds,
        now: &Moment,
        undefined: UndefinedBehavior,
    ) -> Result<String, TemplateError> {
        let variables = Value::from(Serde(variables));
        let mut env: Environment<'_> = self.env.clone();
        env.set_undefined_behavior(undefined);
        env.set_fuel(Some(bounds.steps));
        let now = now.clone();
        env.add_function("strftime_now", move |format: &str| written(&now, format));
        let mut out = Bounded { text: Vec::new(), limit: bounds.bytes, full: false };
        let rendered = env
            .template_from_str(&self.source)
            .and_then(|t| t.render_captured_to(variables, &mut out).map(drop));
        if out.full {
            return Err(TemplateError::TooLong(bounds.bytes));
        }
        rendered.map_err(|e| described(&e, bounds.steps))?;
        Ok(String::from_utf8(out.text).expect("minijinja writes whole strings"))
    }
}

/// A date and time in the user's time zone.
pub(super) type Moment = jiff::Zoned;

/// The moment `at` milliseconds after the start of 1970; `None`: now.
pub(super) fn moment(at: Option<i64>) -> Moment {
    let then = at.and_then(|at| jiff::Timestamp::from_millisecond(at).ok());
    then.unwrap_or_else(timestamp).to_zoned(jiff::tz::TimeZone::system())
}

/// Formats a moment like C's strftime; unknown directives stay as they are.
pub(super) fn written(moment: &Moment, format: &str) -> String {
    let config = Config::new().custom(PosixCustom::new()).lenient(true);
    BrokenDownTime::from(moment).to_string_with_config(&config, format).unwrap_or_default()
}

/// Set up as transformers sets up Jinja2: `trim_blocks`, `lstrip_blocks`, no escaping, and three functions of
/// its own.
fn environment() -> Environment<'static> {
    let mut env = Environment::new();
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
    env.set_syntax(syntax.expect("Jinja's own delimiters are valid"));
    env.set_auto_escape_callback(|_| AutoEscape::None);
    env.set_formatter(python::write);
    env.set_recursion_limit(DEPTH);
    python::add_to(&mut env);
    env.add_function("raise_exception", raise);
    env
}

/// Output that stops growing at `limit` bytes.
struct Bounded {
    text: Vec<u8>,
    limit: usize,
    full: bool,
}

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.text.len() + bytes.len() > self.limit {
            self.full = true;
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The argument of `raise_exception`, carried as the source of minijinja's error.
#[derive(Debug)]
struct Raised(String);

impl fmt::Display for Raised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Raised {}

fn raise(message: Value) -> Result<Value, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, "raised").with_source(Raised(message.to_string())))
}

/// Converts minijinja's error; the innermost cause counts, because macros wrap errors inside them.
fn described(error: &Error, steps: u64) -> TemplateError {
    let mut inner = error;
    while let Some(source) = inner.source() {
        if let Some(Raised(message)) = source.downcast_ref() {
            return TemplateError::Raised(one_line(message));
        }
        let Some(deeper) = source.downcast_ref() else {
            break;
        };
        inner = deeper;
    }
    let line = inner.line().or(error.line()).unwrap_or(1);
    let detail = match inner.detail() {
        Some(detail) => one_line(detail),
        None => inner.kind().to_string(),
    };
    match inner.kind() {
        ErrorKind::OutOfFuel => TemplateError::Endless(steps),
        ErrorKind::SyntaxError => TemplateError::Syntax { line, detail },
        _ => TemplateError::Failed { line, detail },
    }
}

/// At most 300 characters of `text`, with runs of white space as single spaces and without other control
/// characters.
fn one_line(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    let line = words.join(" ");
    line.chars().filter(|c| !c.is_control()).take(300).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const SMALL: RenderBounds = RenderBounds { steps: 100_000, bytes: 10_000 };

    fn render(source: &str, variables: Json) -> Result<String, TemplateError> {
        Jinja::new(source)?.render(&variables, SMALL, &moment(None))
    }

    fn message(source: &str) -> String {
        render(source, json!({})).unwrap_err().to_string()
    }

    // The expected texts are those of Python's Jinja2, set up as in transformers.

    #[test]
    fn white_space_is_trimmed_as_transformers_trims_it() {
        let source =
            "{% if true %}\r\n  a\r\n  {% if true %}\r\n  b  \r\n  {% endif %}\r\n{% endif %}\r\nlast\r\n";
        assert_eq!(render(source, json!({})).unwrap(), "  a\n  b  \nlast");
    }

    #[test]
    fn generation_tags_vanish_with_their_white_space() {
        let source = "{% for m in all %}\n  {%- generation -%}\n   {{ m }}\n  {% endgeneration %}\n  after\n{% endfor %}";
        assert_eq!(render(source, json!({"all": ["a", "b"]})).unwrap(), "a\n  after\nb\n  after\n");
    }

    #[test]
    fn json_is_written_as_python_writes_it() {
        let x = json!({"b": ["<a&'b>", 1, 1.5, true, null], "a": {"é😀": []}, "c": "\n\"\\\u{1}\u{7f}"});
        let shown = |filter: &str| render(&format!("{{{{ {filter} }}}}"), json!({"x": x})).unwrap();
        let plain = "{\"b\": [\"<a&'b>\", 1, 1.5, true, null], \"a\": {\"é😀\": []}, \"c\": \"\\n\\\"\\\\\\u0001\u{7f}\"}";
        assert_eq!(shown("x|tojson"), plain);
        assert_eq!(shown("tojson(x, ensure_ascii=false)"), plain);
        assert_eq!(
            shown("x|tojson(ensure_ascii=true, separators=(',', ':'))"),
            "{\"b\":[\"<a&'b>\",1,1.5,true,null],\"a\":{\"\\u00e9\\ud83d\\ude00\":[]},\"c\":\"\\n\\\"\\\\\\u0001\\u007f\"}"
        );
        assert_eq!(shown("x.b|tojson(indent=2)"), "[\n  \"<a&'b>\",\n  1,\n  1.5,\n  true,\n  null\n]");
        assert_eq!(shown("x.a|tojson(indent=2)"), "{\n  \"é😀\": []\n}");
        assert_eq!(shown("{'b': 1, 'a': 2}|tojson(sort_keys=true)"), r#"{"a": 2, "b": 1}"#);
    }

    #[test]
    fn methods_are_pythons() {
        for (expression, expected) in [
            ("'a b  c'.rsplit(None, 1)", r#"["a b", "c"]"#),
            ("'a,b,c'.rsplit(',', 1)", r#"["a,b", "c"]"#),
            ("' x '.rsplit()", r#"["x"]"#),
            ("'ab'.removeprefix('a') + 'ab'.removesuffix('x')", r#""bab""#),
            ("'k=v=w'.partition('=')[2] + 'k=v=w'.rpartition('=')[0]", r#""v=wk=v""#),
            ("['éab'.find('b'), 'x'.rfind('y'), 'aba'.count('a'), 'aba'.count('')]", "[2, -1, 2, 4]"),
            ("nothing|length", "0"),
            ("[][::-1] + [1, 2][::-1]", "[2, 1]"),
            (r"'\x1c a \x1f'.strip() + '\x1d b '|trim + ' xcx'.rstrip('x')", r#""ab xc""#),
            (
                r"' a\x1eb  c '.split() + 'a b  c '.split(None, 1) + 'a--b'.split('--')",
                r#"["a", "b", "c", "a", "b  c ", "a", "b"]"#,
            ),
            (r"'a\r\nb\x1dc\n\n'.splitlines()", r#"["a", "b", "c", ""]"#),
            (r"'a\rb'.splitlines(true)", r#"["a\r", "b"]"#),
            (
                "['a' is sequence, {} is sequence, none is iterable, 1 is iterable]",
                "[true, true, false, false]",
            ),
            ("'  x'.lstrip().upper().startswith('X')", "true"),
        ] {
            let source = format!("{{{{ ({expression})|tojson }}}}");
            assert_eq!(render(&source, json!({})).unwrap(), expected, "{expression}");
        }
    }

    #[test]
    fn what_python_cannot_do_is_refused() {
        for source in [
            "{% for a in none %}{% endfor %}",
            "{{ none|length }}",
            "{{ [1]|map('string')|length }}",
            "{{ [1]|select|tojson }}",
            "{{ nothing|tojson }}",
            "{{ 'a'.split('') }}",
        ] {
            assert!(message(source).starts_with("the chat template failed at line 1: "), "{source}");
        }
        let gone_through =
            "{% for a in [1, 2]|reject('odd') %}{{ a }}{% endfor %}{{ [{'a': 3}]|map(attribute='a')|join }}";
        assert_eq!(render(gone_through, json!({})).unwrap(), "23");
    }

    #[test]
    fn what_is_added_to_a_safe_text_is_escaped() {
        let source = "a  {{- '<'|safe + x + '>'|safe }}\n {{ x + '<' }} {{ '<'|safe ~ x + '>' }}";
        assert_eq!(render(source, json!({"x": "\"'&"})).unwrap(), "a<&#34;&#39;&amp;>\n \"'&< <\"'&>");
    }

    #[test]
    fn loops_may_break_and_undefined_fields_have_undefined_fields() {
        let source =
            "{% for i in range(9) %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}{{ a.b.c }}";
        assert_eq!(render(source, json!({})).unwrap(), "01");
        let dated = Jinja::new("{{ strftime_now('%d %B %Y') }}").unwrap();
        let long_ago = dated.render(&json!({}), SMALL, &moment(Some(86_400_000 * 366))).unwrap();
        assert!(
            ["01 January 1971", "02 January 1971", "03 January 1971"].contains(&&*long_ago),
            "{long_ago}"
        );
    }

    #[test]
    fn errors_are_one_line_in_the_templates_own_words() {
        assert_eq!(
            message("{{ raise_exception('no\n\x1b[31mway') }}"),
            "the chat template raised: no [31mway"
        );
        let inside = "{% macro m() %}{{ raise_exception('deep') }}{% endmacro %}{{ m() }}";
        assert_eq!(message(inside), "the chat template raised: deep");
        assert!(message("a\n\n{% if %}").starts_with("the chat template has a syntax error at line 3: "));
        assert_eq!(
            message("\n{% set x = [] %}{{ x.append(1) }}"),
            "the chat template failed at line 2: sequence.append() would change a value, and values do not change here"
        );
    }

    #[test]
    fn nothing_runs_for_ever() {
        let stopped = "the chat template does not end (stopped after 100000 steps)";
        let forever = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}";
        assert_eq!(message(forever), stopped);
        let growing = "{% for a in range(9999) %}{{ 'word ' }}{% endfor %}";
        assert_eq!(message(growing), "the chat template writes too much (stopped after 10000 bytes)");
        for recursion in [
            "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
            "{% macro m() %}{{ m() }}{{ m() }}{% endmacro %}{{ m() }}",
            "{% for a in [[1]] recursive %}{{ loop([[1]]) }}{% endfor %}",
            "{% macro m(x) %}{% call m(x) %}{{ caller() }}{% endcall %}{% endmacro %}{{ m(1) }}",
        ] {
            assert!(message(recursion).starts_with("the chat template failed at line 1: "), "{recursion}");
        }
        assert!(message(&"{% if true %}".repeat(9999)).contains("syntax error"));
        assert!(message(&format!("{{{{ {}1", "(".repeat(9999))).contains("syntax error"));
    }
}
