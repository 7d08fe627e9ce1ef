//! rustyline's helper: how to draw the edited line, and what Tab offers.

use std::borrow::Cow;
use std::cell::Cell;
use std::sync::{Arc, Mutex};

use rustyline::completion::{Completer, FilenameCompleter, Pair};
use rustyline::highlight::{CmdKind, Highlighter};
use rustyline::{Context, Helper, Hinter, Validator};

use super::Complete;
use super::keys::{LineState, UNBROKEN};
use crate::repl::rows::Rows;
use crate::repl::typed;
use crate::ui::{acts, sanitize, terminal, width};

#[derive(Helper, Hinter, Validator)]
pub(super) struct Assistant {
    complete: Complete,
    files: FilenameCompleter,
    state: Arc<Mutex<LineState>>,
    rows: Rows,
    /// The number of characters in the line whose width rustyline gets wrong when it deletes them.
    odd: Cell<usize>,
    /// SGR parameters of the prompt; empty: no style.
    pub(super) prompts: &'static str,
}

impl Assistant {
    pub(super) fn new(complete: Complete, state: Arc<Mutex<LineState>>) -> Assistant {
        let files = FilenameCompleter::new();
        Assistant { complete, files, state, rows: Rows::new(), odd: Cell::default(), prompts: "" }
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

    fn highlight_char(&self, line: &str, position: usize, _: CmdKind) -> bool {
        self.rows.next(line, position);
        let odd = line.chars().filter(|c| matches!(c, '\n' | '\t') || acts(*c)).count();
        self.odd.replace(odd) > odd || line.contains(acts)
    }
}

impl Completer for Assistant {
    type Candidate = Pair;

    fn complete(&self, line: &str, pos: usize, ctx: &Context) -> rustyline::Result<(usize, Vec<Pair>)> {
        if std::mem::take(&mut self.state.lock().expect(UNBROKEN).continued) {
            let new_line = "\n".to_string();
            return Ok((pos - 1, vec![Pair { display: new_line.clone(), replacement: new_line }]));
        }
        if let Some(start) = typed::being_typed(&line[..pos]) {
            let (within, mut offered) = self.files.complete_path(&line[start..pos], pos - start)?;
            if let [only] = &mut offered[..]
                && line[start..].starts_with('"')
                && !only.replacement.ends_with('/')
            {
                only.replacement.push('"');
            }
            return Ok((start + within, as_many_as_fit(without_controls(offered))));
        }
        let (start, offered) = match (self.complete)(&line[..pos]) {
            Some((start, names)) => {
                let pair = |name: String| Pair { display: name.trim_end().to_string(), replacement: name };
                (start, names.into_iter().map(pair).collect())
            }
            None => self.files.complete(line, pos, ctx)?,
        };
        Ok((start, as_many_as_fit(without_controls(offered))))
    }
}

/// The candidates without those that could control the terminal, as file names may.
fn without_controls(mut offered: Vec<Pair>) -> Vec<Pair> {
    offered.retain(|pair| !pair.display.contains(acts));
    offered
}

/// The candidates that fit the window, with the number of the others in the last one. Otherwise rustyline
/// would ask whether to show them all, and take only few keys as an answer.
fn as_many_as_fit(mut offered: Vec<Pair>) -> Vec<Pair> {
    let Some((columns, rows)) = terminal::window() else { return offered };
    let more = |count: usize| format!("… and {count} more");
    let widths = offered.iter().map(|pair| width(&pair.display));
    let widest = widths.chain([width(&more(offered.len()))]).max().unwrap_or_default();
    let most = (columns / (widest + 2)).max(1) * rows.saturating_sub(3).max(2);
    if offered.len() > most {
        // Sorted, the first and the last candidate have the common prefix of all.
        offered.sort_by(|a, b| a.replacement.cmp(&b.replacement));
        let left_out = offered.len() - (most - 1);
        let last = offered.pop().map(|last| Pair { display: more(left_out), ..last });
        offered.truncate(most - 1);
        offered.extend(last);
    }
    offered
}
