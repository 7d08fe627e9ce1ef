//! The line editor: rustyline with fireside's own keys, and its history in a file.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;

use rustyline::config::{Behavior, CompletionType, Configurer};
use rustyline::error::ReadlineError;
use rustyline::history::MemHistory;
use rustyline::{ColorMode, Config, EditMode};

use super::assistant::Assistant;
use super::blocks::inside;
use super::external::in_external_editor;
use super::feed::Feed;
use super::keys::{self, EndKey, EndedLine, LineState, Shared, UNBROKEN};
use super::{Complete, Input};
use crate::chat::Settings;
use crate::chat::settings::KeyBindings;
use crate::failure::Failure;
use crate::files::reason;
use crate::repl::lines;
use crate::repl::typed::{self, inert, no_command, plain};
use crate::ui::terminal::{self, Cursor, Hushed};
use crate::ui::theme::{self, Asked};
use crate::ui::{last_line, retype};

/// How long rustyline waits for the rest of a key sequence, in milliseconds; sequences arrive whole.
const KEYS_APART: u16 = 100;

pub(super) struct Full {
    editor: rustyline::Editor<Assistant, MemHistory>,
    feed: Feed,
    bindings: KeyBindings,
    history: Option<PathBuf>,
    shared: Shared,
    /// Lines typed before the editor started.
    earlier: VecDeque<String>,
    /// Dropped while typing is still hidden.
    _asked: Option<Asked>,
    _hushed: Hushed,
}

impl Full {
    pub(super) fn new(feed: Feed, history: Option<PathBuf>, complete: Complete) -> Result<Full, Failure> {
        let cannot = |e: ReadlineError| Failure::new(format!("could not use the terminal: {e}"));
        let config = Config::builder()
            .behavior(Behavior::Stdio)
            .keyseq_timeout(Some(KEYS_APART))
            .completion_type(CompletionType::List)
            .completion_prompt_limit(usize::MAX)
            .max_history_size(lines::MOST)
            .and_then(|config| config.history_ignore_dups(true))
            .map_err(cannot)?
            .bracketed_paste(true)
            .color_mode(ColorMode::Forced) // else NO_COLOR disables the highlighter, which shows control characters
            .build();
        let earlier_lines = MemHistory::with_config(&config);
        let editor = feed.around(|| rustyline::Editor::with_history(config, earlier_lines));
        let mut editor = editor.map_err(ReadlineError::from).flatten().map_err(cannot)?;
        let shared = Shared::default();
        editor.set_helper(Some(Assistant::new(complete, shared.state.clone())));
        keys::bind(&mut editor, &shared);
        // An unreadable file is reported when the first line is saved.
        for line in history.as_ref().and_then(|path| lines::read(path).ok()).unwrap_or_default() {
            let _ = editor.add_history_entry(line);
        }
        let earlier = terminal::lines_typed_ahead().into();
        let hushed = Hushed::new();
        let bindings = KeyBindings::Emacs;
        Ok(Full { editor, feed, bindings, history, shared, earlier, _asked: theme::ask(), _hushed: hushed })
    }

    pub(super) fn read(&mut self, prompt: &str, initial: &str, cancels: bool) -> Result<Input, Failure> {
        if let Some(line) = self.earlier.pop_front() {
            crate::ui::log(&format!("{prompt}{line}\n"));
            retype(prompt, "", &line, "");
            let line = inert(&line); // the terminal marked no pastes yet
            self.remember(&line);
            return Ok(Input::Text(line));
        }
        *self.shared.state.lock().expect(UNBROKEN) = LineState::new(cancels);
        if let Some(assistant) = self.editor.helper_mut() {
            assistant.prompt = prompt.into();
        }
        let line = self.edited(initial, prompt);
        terminal::mark_pastes(); // for text pasted while the model generates
        line
    }

    fn edited(&mut self, initial: &str, prompt: &str) -> Result<Input, Failure> {
        let mut initial = (initial.to_string(), String::new());
        loop {
            let read = self.line(prompt, (&initial.0, &initial.1));
            match read.map_err(ReadlineError::from).flatten() {
                Ok(line) => {
                    retype(prompt, self.prompt_style(), &plain(&line), "");
                    let block = self.shared.state.lock().expect(UNBROKEN).block;
                    let line = inside(&line).filter(|_| block).map(no_command).unwrap_or(line);
                    self.remember(&line);
                    return Ok(Input::Text(line));
                }
                Err(ReadlineError::Interrupted) => match self.without_hint(prompt) {
                    Some(ended) if ended.key == EndKey::Edit => {
                        initial.0 = match in_external_editor(&plain(&ended.line)) {
                            Ok(text) => typed::edited(&ended.line, &text),
                            Err(failure) => {
                                failure.print();
                                ended.line
                            }
                        };
                        initial.1.clear();
                    }
                    Some(ended) if ended.key == EndKey::Suspend => {
                        terminal::suspend();
                        let (before, after) = ended.line.split_at(ended.position);
                        initial = (before.to_string(), after.to_string());
                    }
                    ended => {
                        let line = ended.map(|ended| ended.line).unwrap_or_default();
                        self.remember(&line);
                        return Ok(Input::Interrupted(line));
                    }
                },
                Err(ReadlineError::Eof) => return Ok(Input::End),
                Err(ReadlineError::Signal(_)) => {}
                Err(e) => return Err(Failure::new(format!("could not read from the terminal: {e}"))),
            }
        }
    }

    /// Lets rustyline read one line.
    fn line(&mut self, prompt: &str, initial: (&str, &str)) -> io::Result<rustyline::Result<String>> {
        let vi = self.bindings == KeyBindings::Vi;
        if vi {
            terminal::shape_cursor(Cursor::Bar);
        }
        let editor = &mut self.editor;
        if let Some(assistant) = editor.helper_mut() {
            assistant.begin(format!("{}{}", initial.0, initial.1));
        }
        let read = self.feed.run(self.bindings, || editor.readline_with_initial(prompt, initial));
        if vi {
            terminal::shape_cursor(Cursor::Usual);
        }
        read
    }

    /// Takes the line that a key ended, and removes the hint after it.
    fn without_hint(&self, prompt: &str) -> Option<EndedLine> {
        let ended = self.shared.take_ended()?;
        let hint = self.editor.helper().map(Assistant::take_hint).unwrap_or_default();
        if !hint.is_empty() {
            retype(prompt, self.prompt_style(), &plain(&ended.line), &hint);
        }
        Some(ended)
    }

    fn prompt_style(&self) -> &'static str {
        self.editor.helper().map_or("", |assistant| assistant.prompts)
    }

    /// Adopts changed settings. `style`: that of prompts, as SGR parameters.
    pub(super) fn adopt(&mut self, settings: &Settings, style: &'static str) {
        self.bindings = settings.keys;
        self.editor.set_edit_mode(match settings.keys {
            KeyBindings::Emacs => EditMode::Emacs,
            KeyBindings::Vi => EditMode::Vi,
        });
        if let Some(assistant) = self.editor.helper_mut() {
            // A hint that is not dim could not be told from typed text.
            (assistant.prompts, assistant.hints) = (style, settings.hints && !style.is_empty());
        }
    }

    fn remember(&mut self, line: &str) {
        if line.trim().is_empty() {
            return;
        }
        let new = self.editor.add_history_entry(line).unwrap_or(true); // false: same as the previous line
        if let Some(path) = self.history.as_ref().filter(|_| new)
            && let Err(e) = lines::append(path, line)
        {
            let (why, shown) = (reason(&e), path.display().to_string());
            let why = if why.contains(&shown) { why } else { format!("{shown}: {why}") };
            last_line(&format!("fireside: could not save typed lines: {why}"));
            self.history = None;
        }
    }
}
