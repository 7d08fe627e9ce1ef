//! The line editor: rustyline with fireside's own keys, and its history in a file.

use std::collections::VecDeque;
use std::path::PathBuf;

use rustyline::config::{Behavior, CompletionType};
use rustyline::error::ReadlineError;
use rustyline::history::MemHistory;
use rustyline::{ColorMode, Config};

use super::assistant::Assistant;
use super::blocks::inside;
use super::external::in_external_editor;
use super::feed::Feed;
use super::keys::{self, EndKey, LineState, Shared, UNBROKEN};
use super::{Complete, Input};
use crate::failure::Failure;
use crate::files::reason;
use crate::repl::lines;
use crate::repl::typed::{self, inert, no_command, plain};
use crate::ui::terminal::{self, Hushed};
use crate::ui::{last_line, retype};

/// How long rustyline waits for the rest of a key sequence, in milliseconds; sequences arrive whole.
const KEYS_APART: u16 = 100;

pub(super) struct Full {
    pub(super) editor: rustyline::Editor<Assistant, MemHistory>,
    feed: Feed,
    history: Option<PathBuf>,
    shared: Shared,
    /// Lines typed before the editor started.
    earlier: VecDeque<String>,
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
        Ok(Full {
            editor,
            history,
            shared,
            earlier: terminal::lines_typed_ahead().into(),
            feed,
            _hushed: Hushed::new(),
        })
    }

    pub(super) fn read(&mut self, prompt: &str, initial: &str, cancels: bool) -> Result<Input, Failure> {
        if let Some(line) = self.earlier.pop_front() {
            crate::ui::log(&format!("{prompt}{line}\n"));
            retype(prompt, "", &line);
            let line = inert(&line); // the terminal marked no pastes yet
            self.remember(&line);
            return Ok(Input::Text(line));
        }
        *self.shared.state.lock().expect(UNBROKEN) = LineState::new(cancels);
        let line = self.edited(initial, prompt);
        terminal::mark_pastes(); // for text pasted while the model generates
        line
    }

    fn edited(&mut self, initial: &str, prompt: &str) -> Result<Input, Failure> {
        let mut initial = (initial.to_string(), String::new());
        loop {
            let editor = &mut self.editor;
            let read = self.feed.run(|| editor.readline_with_initial(prompt, (&initial.0, &initial.1)));
            match read.map_err(ReadlineError::from).flatten() {
                Ok(line) => {
                    let style = self.editor.helper().map_or("", |assistant| assistant.prompts);
                    retype(prompt, style, &plain(&line));
                    let block = self.shared.state.lock().expect(UNBROKEN).block;
                    let line = inside(&line).filter(|_| block).map(no_command).unwrap_or(line);
                    self.remember(&line);
                    return Ok(Input::Text(line));
                }
                Err(ReadlineError::Interrupted) => match self.shared.take_ended() {
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
