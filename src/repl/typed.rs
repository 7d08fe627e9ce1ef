//! Which `@` and `!` of a line were typed: only those attach files and run commands.
//!
//! A line from the editor has marks in place of the others: pasted ones, and those in text that fireside put into
//! the line. Marks survive every edit, and are shown and sent as the characters that they stand for. Two
//! noncharacters of Unicode serve as marks; they have no place in text that programs exchange.

use std::borrow::Cow;
use std::iter::successors;

const AT: char = '\u{10fffe}';
const EXCLAMATION: char = '\u{10ffff}';
/// Typed before an `@`, it keeps that from attaching a file.
const ESCAPE: char = '\\';

/// Marks with the characters that they stand for.
pub(super) const MARKS: [(char, char); 2] = [(AT, '@'), (EXCLAMATION, '!')];

/// Text that nobody typed → the same with marks.
pub(super) fn inert(text: &str) -> String {
    let mut before = None;
    let marked = text.chars().map(|c| {
        let before = before.replace(c);
        match c {
            '@' if begins_word(before) || before == Some(ESCAPE) => AT,
            AT | EXCLAMATION => char::REPLACEMENT_CHARACTER,
            c => c,
        }
    });
    no_command(marked.collect())
}

/// The same line, but not a command for the shell.
pub(super) fn no_command(line: String) -> String {
    match line.strip_prefix('!') {
        Some(rest) => format!("{EXCLAMATION}{rest}"),
        None => line,
    }
}

/// A line without marks.
pub(super) fn plain(line: &str) -> Cow<'_, str> {
    match line.contains([AT, EXCLAMATION]) {
        true => line.replace(AT, "@").replace(EXCLAMATION, "!").into(),
        false => line.into(),
    }
}

/// Text from an external editor, where nobody knows what was typed → a line. What was a mention in `before`, the
/// line as it was, still is one.
pub(super) fn edited(before: &str, text: &str) -> String {
    let typed = mentions(before);
    typed.iter().fold(inert(text), |line, mention| {
        let text = &before[mention.at..mention.end];
        line.replace(&inert(text), text)
    })
}

/// A typed `@` and what may be a path after it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mention {
    /// The position of the `@` or of the backslash before it, and the end, in bytes.
    at: usize,
    end: usize,
    /// Whether a backslash before the `@` makes it a character like others.
    pub(super) escaped: bool,
    pub(super) path: String,
    /// Whether the path is in quotes, which may end without a second one.
    quoted: bool,
}

impl Mention {
    /// The paths that may be meant, longest first: punctuation at the end may belong to the sentence.
    pub(super) fn paths(&self) -> impl Iterator<Item = &str> {
        let is_path = |path: &&str| !path.is_empty();
        successors(Some(self.path.as_str()).filter(is_path), move |path| {
            let path: &str = path;
            path.strip_suffix(|c| !self.quoted && ".,;:!?)]}>'\"`…".contains(c)).filter(is_path)
        })
    }

    /// The position of what is typed after the `@`, in bytes.
    pub(super) fn start(&self) -> usize {
        self.at + 1
    }

    /// What ends the path of a file: the second quote, if there is a first.
    pub(super) fn end_quote(&self) -> &'static str {
        if self.quoted { "\"" } else { "" }
    }

    /// More of the path as one types it; `None`: the path cannot go on so.
    pub(super) fn quotes(&self, more: &str) -> Option<String> {
        if self.quoted {
            return (!more.contains('"')).then(|| more.to_string());
        }
        let mut typed = String::with_capacity(more.len());
        for c in more.chars() {
            // The characters that Tab's completion escapes, too.
            typed.extend((c.is_whitespace() || "\"\\'`@$><=;|&{(".contains(c)).then_some(ESCAPE));
            typed.push(c);
        }
        Some(typed)
    }
}

/// The mentions in a line: `@path` with backslashes before spaces, or `@"a path"`.
pub(super) fn mentions(line: &str) -> Vec<Mention> {
    let mut found = Vec::new();
    let mut from = 0;
    while let Some(at) = line[from..].find('@').map(|at| from + at) {
        from = at + 1;
        let before = &line[..at];
        let unescaped = before.strip_suffix(ESCAPE);
        if begins_word(unescaped.unwrap_or(before).chars().next_back()) {
            let mention = mention(line, at);
            from = mention.end;
            found.push(Mention {
                at: unescaped.map_or(at, str::len),
                escaped: unescaped.is_some(),
                ..mention
            });
        }
    }
    found
}

/// A line without marks, and without the backslash of each escaped mention that would be one.
pub(super) fn without_escapes(line: &str, would_be: impl Fn(&Mention) -> bool) -> String {
    let (mut text, mut from) = (String::with_capacity(line.len()), 0);
    for mention in mentions(line).iter().filter(|mention| mention.escaped && would_be(mention)) {
        text += &line[from..mention.at];
        from = mention.at + ESCAPE.len_utf8();
    }
    plain(&(text + &line[from..])).into_owned()
}

/// The mention at the end of the line, which is still being typed.
pub(super) fn being_typed(line: &str) -> Option<Mention> {
    let last = mentions(line).pop().filter(|mention| !mention.escaped)?;
    let closed = last.quoted && line[last.at + 2..].contains('"');
    (last.end == line.len() && !closed).then_some(last)
}

/// Whether a word begins after this character.
fn begins_word(before: Option<char>) -> bool {
    before.is_none_or(|c| c.is_whitespace() || "([{<\"'`".contains(c))
}

fn mention(line: &str, at: usize) -> Mention {
    let rest = &line[at + 1..];
    if let Some(inside) = rest.strip_prefix('"') {
        let length = inside.find(['"', '\n']).unwrap_or(inside.len());
        let closed = usize::from(inside[length..].starts_with('"'));
        let (end, path) = (at + 2 + length + closed, inside[..length].into());
        return Mention { at, end, escaped: false, path, quoted: true };
    }
    let (mut path, mut escaped, mut end) = (String::new(), false, line.len());
    for (offset, c) in rest.char_indices() {
        match c {
            ESCAPE if !escaped => {
                escaped = true;
                continue;
            }
            c if c.is_whitespace() && (!escaped || c == '\n') => {
                end = at + 1 + offset;
                break;
            }
            c => path.push(c),
        }
        escaped = false;
    }
    Mention { at, end, escaped: false, path, quoted: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(line: &str) -> Vec<Vec<String>> {
        mentions(line).iter().map(|mention| mention.paths().map(String::from).collect()).collect()
    }

    #[test]
    fn what_was_pasted_stays_text_and_comes_back_as_it_was() {
        for text in ["@a.txt", "!ls", "see (@a.txt) and joe@example.org, @b!", "!@x", "", "é@ü @ü", "\\@a"]
        {
            let line = inert(text);
            assert_eq!(plain(&line), text);
            assert!(mentions(&line).is_empty() && !line.starts_with('!'), "{text}");
        }
        assert_eq!(inert("a@b !c"), "a@b !c", "nothing to mark");
        assert_eq!(plain(&inert("\u{10fffe}\u{10ffff}")), "\u{fffd}\u{fffd}");
        assert_eq!(plain(&no_command("!ls @x".into())), "!ls @x");
    }

    #[test]
    fn mentions_begin_words() {
        assert_eq!(paths("a@b.c @"), [[""; 0]]);
        assert_eq!(
            paths("@a see (@b/c.rs), @d."),
            [vec!["a"], vec!["b/c.rs),", "b/c.rs)", "b/c.rs"], vec!["d.", "d"]]
        );
        assert_eq!(paths("@my\\ notes.txt x\n@two\\\nlines"), [vec!["my notes.txt"], vec!["two"]]);
        assert_eq!(paths("\"@a\""), [["a\"", "a"]]);
    }

    #[test]
    fn quotes_hold_spaces() {
        assert_eq!(paths("see @\"my notes.\" and @\"open one"), [["my notes."], ["open one"]]);
        assert_eq!(paths("@\"\" x"), [[""; 0]]);
    }

    #[test]
    fn a_backslash_before_it_keeps_a_mention_text() {
        let text = |line: &str| without_escapes(line, |mention| mention.paths().any(|path| path == "a b"));
        assert_eq!(text(r#"\@a\ b \@"a b" \@c x\@"a b""#), r#"@a\ b @"a b" \@c x\@"a b""#);
        assert_eq!(text(&inert(r#"\@"a b""#)), r#"\@"a b""#, "pasted");
        assert!(mentions(r"\@a (\@b)").iter().all(|mention| mention.escaped));
        let line = edited(r"\@a.txt", r"see \@a.txt and \@b.txt");
        assert_eq!(mentions(&line).len(), 1);
        assert!(mentions(&line)[0].escaped);
    }

    #[test]
    fn the_last_mention_is_completed() {
        let start = |line: &str| being_typed(line).map(|mention| mention.start());
        assert_eq!(start("see @sr"), Some(5));
        assert_eq!(start("see @"), Some(5));
        assert_eq!(start("see @\"my no"), Some(5));
        assert_eq!(start("@my\\ no"), Some(1));
        for line in ["see @src ", "a@b", "@\"a b\"", "see", r"see \@sr", &inert("@sr")] {
            assert_eq!(start(line), None, "{line}");
        }
    }

    #[test]
    fn an_external_editor_leaves_typed_mentions_typed() {
        let line = edited("see @a.txt", "Please see @a.txt and @b.txt");
        assert_eq!(paths(&line), [["a.txt"]]);
        assert_eq!(plain(&line), "Please see @a.txt and @b.txt");
        assert_eq!(paths(&edited(&inert("see @a.txt"), "see @a.txt")), [[""; 0]; 0]);
    }
}
