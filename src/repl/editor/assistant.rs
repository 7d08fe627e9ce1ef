//! rustyline's helper: how to draw the edited line, and what Tab offers.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};

use rustyline::CompletionType;
use rustyline::completion::{Completer, FilenameCompleter, Pair, unescape};
use rustyline::highlight::{CmdKind, Highlighter};
use rustyline::hint::{Hint, Hinter, HistoryHinter};
use rustyline::{Context, Helper, Validator};

use super::Complete;
use super::keys::{LineState, UNBROKEN};
use super::menu::Menu;
use super::paths::Paths;
use crate::files::expanded;
use crate::repl::candidate::Candidate;
use crate::repl::rows::Rows;
use crate::repl::typed::{self, Mention, being_typed};
use crate::ui::table::cut;
use crate::ui::{acts, sanitize, terminal};
use crate::units::size;

#[derive(Helper, Validator)]
pub(super) struct Assistant {
    complete: Complete,
    files: FilenameCompleter,
    state: Arc<Mutex<LineState>>,
    rows: Rows,
    /// The number of characters in the line whose width rustyline gets wrong when it deletes them.
    odd: Cell<usize>,
    /// SGR parameters of the prompt; empty: no style.
    pub(super) prompts: &'static str,
    /// Whether to suggest the rest of a line.
    pub(super) hints: bool,
    /// The prompt of the line.
    pub(super) prompt: String,
    /// What stands in the line before anything is typed: no hint continues it.
    initial: String,
    /// The hint on the screen.
    shown_hint: RefCell<String>,
    menu: Menu,
    paths: Paths,
}

impl Assistant {
    pub(super) fn new(complete: Complete, state: Arc<Mutex<LineState>>) -> Assistant {
        let files = FilenameCompleter::new();
        Assistant {
            complete,
            files,
            state,
            rows: Rows::new(),
            odd: Cell::default(),
            prompts: "",
            hints: false,
            prompt: String::new(),
            initial: String::new(),
            shown_hint: RefCell::default(),
            menu: Menu::default(),
            paths: Paths::default(),
        }
    }

    /// Prepares for a new line with this text in it.
    pub(super) fn begin(&mut self, initial: String) {
        self.initial = initial;
        (self.menu, self.paths) = (Menu::default(), Paths::default());
        self.rows.begin();
    }

    /// Takes the hint that was on the screen when the line ended.
    pub(super) fn take_hint(&self) -> String {
        self.shown_hint.take()
    }
}

/// The mention being typed at the end of a line that is a message.
fn mention(line: &str) -> Option<Mention> {
    if line.starts_with(['/', '!']) { None } else { being_typed(line) }
}

/// The rest of an earlier line, or of a path.
pub(super) struct Ghost {
    rest: String,
    /// What fits the row.
    shown: String,
}

impl Hint for Ghost {
    fn display(&self) -> &str {
        &self.shown
    }

    fn completion(&self) -> Option<&str> {
        Some(&self.rest)
    }
}

/// Suggests the rest of the path that is being typed, or of the latest line with the same beginning.
impl Hinter for Assistant {
    type Hint = Ghost;

    fn hint(&self, line: &str, position: usize, ctx: &Context) -> Option<Ghost> {
        self.shown_hint.take();
        self.menu.follow(line);
        let mut state = self.state.lock().expect(UNBROKEN);
        let searching = std::mem::take(&mut state.search_begins) || state.searching;
        let wanted = self.hints && !line.trim().is_empty() && line != self.initial && !searching;
        let of_path = || self.paths.rest(&mention(line).filter(|_| !line.ends_with('\\'))?);
        let of_line = || HistoryHinter::new().hint(line, position, ctx);
        let at_end = position == line.len();
        let rest = if wanted && at_end { of_path().or_else(of_line) } else { None }?;
        let columns = terminal::columns()?;
        let used = terminal::column(&format!("{}{}", self.prompt, sanitize(line)), columns);
        let (first, more) = rest.split_once('\n').map_or((rest.as_str(), ""), |(first, _)| (first, "…"));
        let text = typed::plain(&sanitize(first)).replace('\t', " ") + more;
        let shown = cut(&text, columns.saturating_sub(used + 1));
        self.shown_hint.replace(shown.clone());
        (!shown.is_empty()).then_some(Ghost { rest, shown })
    }
}

/// Makes control characters visible in a line from an external editor or the history.
impl Highlighter for Assistant {
    fn highlight_prompt<'b, 's: 'b, 'p: 'b>(&'s self, prompt: &'p str, default: bool) -> Cow<'b, str> {
        self.state.lock().expect(UNBROKEN).searching = !default;
        let before = self.rows.before(prompt);
        match self.prompts {
            "" if before.is_empty() => Cow::Borrowed(prompt),
            "" => Cow::Owned(before + prompt),
            style => Cow::Owned(format!("{before}\x1b[{style}m{prompt}\x1b[0m")),
        }
    }

    fn highlight<'l>(&self, line: &'l str, _: usize) -> Cow<'l, str> {
        match sanitize(line) {
            Cow::Borrowed(line) => typed::plain(line),
            Cow::Owned(line) => typed::plain(&line).into_owned().into(),
        }
    }

    fn highlight_hint<'h>(&self, hint: &'h str) -> Cow<'h, str> {
        Cow::Owned(format!("\x1b[2m{hint}\x1b[0m"))
    }

    fn highlight_candidate<'c>(&self, row: &'c str, _: CompletionType) -> Cow<'c, str> {
        match self.menu.split(row) {
            (name, about) if !about.is_empty() && !self.prompts.is_empty() => {
                Cow::Owned(format!("{name}\x1b[2m{about}\x1b[0m"))
            }
            _ => Cow::Borrowed(row),
        }
    }

    fn highlight_char(&self, line: &str, position: usize, _: CmdKind) -> bool {
        self.rows.next(line, position);
        let odd = line.chars().filter(|c| matches!(c, '\n' | '\t') || acts(*c)).count();
        self.odd.replace(odd) > odd || line.contains(acts)
    }
}

/// What the menu says about a file, whose path is escaped as Tab does it: its size, or that it is a folder.
fn about_file(escaped: &str) -> String {
    let path = unescape(escaped, Some('\\'));
    match fs::metadata(expanded(Path::new(&*path))) {
        Ok(file) if file.is_dir() => "folder".into(),
        Ok(file) if file.is_file() => size(file.len()),
        _ => String::new(),
    }
}

/// Files as candidates, with `end` after each.
fn named(files: Vec<Pair>, end: &str) -> Vec<Candidate> {
    let file = |Pair { display: name, replacement: text }| {
        let about = about_file(&text);
        Candidate { text: text + end, name, about }
    };
    files.into_iter().map(file).collect()
}

impl Completer for Assistant {
    type Candidate = Pair;

    fn complete(&self, line: &str, pos: usize, ctx: &Context) -> rustyline::Result<(usize, Vec<Pair>)> {
        if std::mem::take(&mut self.state.lock().expect(UNBROKEN).continued) {
            let new_line = "\n".to_string();
            return Ok((pos - 1, vec![Pair { display: new_line.clone(), replacement: new_line }]));
        }
        let typed = &line[..pos];
        let (start, offered) = match mention(typed) {
            Some(mention) => {
                let at = mention.start();
                let (start, files) = self.files.complete_path(&typed[at..], pos - at)?;
                let whole = match &files[..] {
                    [one] if !one.replacement.ends_with('/') => mention.end_quote(),
                    _ => "",
                };
                (at + start, named(files, whole))
            }
            None => match (self.complete)(typed) {
                Some(offered) => offered,
                None => {
                    self.files.complete(line, pos, ctx).map(|(start, files)| (start, named(files, "")))?
                }
            },
        };
        Ok((start, self.menu.page(&line[..start], offered)))
    }
}
