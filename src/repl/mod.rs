//! The chat: reads a line, runs a command or asks the model, and shows the answer. A failed command or answer
//! does not end it; a failed read or write of the terminal does.

mod candidate;
pub mod commands;
mod attaching;
mod compare;
mod editor;
mod lines;
mod prompt;
mod rows;
mod shell;
mod turn;
mod typed;

use std::ops::ControlFlow;
use std::path::PathBuf;

use self::attaching::Draft;
use self::candidate::Candidate;
use self::commands::{Confirm, Names, NextAction};
use self::editor::{Editor, Input, no_editor};
use self::typed::plain;
use crate::chat::message::without_mark;
use crate::chat::record::{Entry, Record};
use crate::chat::{Attachment, Message, MessageId, Role};
use crate::failure::{Exit, Failure};
use crate::models;
use crate::models::library;
use crate::saved;
use crate::session::{self, ModelOpener, OnEvent, Session};
use crate::settings::{Server, Setting, TakenRole};
use crate::ui::{Screen, terminal};
use crate::units::size;

/// Before the messages of a resumed conversation.
const PROMPT: &str = "> ";
const UNCHANGED: &str = "nothing changed";

/// What to ask the model for.
#[derive(Debug, Clone)]
pub enum Ask {
    Say(Message),
    Retry,
    More,
    /// Replace the message with this id, on a new branch.
    Instead(MessageId, Message),
}

/// A running chat.
pub struct Chat<'a> {
    pub session: &'a mut Session,
    pub screen: &'a mut Screen,
    /// Files for the next message.
    pub attached: Vec<Attachment>,
    /// The message that is being sent, as it was typed.
    draft: Option<Draft>,
    open: ModelOpener,
    /// Whether the notice that the context is nearly full was shown.
    warned: bool,
    /// The system prompt before that of the role in use.
    before_role: Option<Option<String>>,
}

/// The source of the lines.
pub enum Lines {
    Terminal {
        history: Option<PathBuf>,
    },
    /// For tests.
    Stdin,
}

/// Chats until the user leaves. Begins with the answer to `first`, if any.
pub fn run(
    session: &mut Session,
    screen: &mut Screen,
    lines: Lines,
    open: ModelOpener,
    first: Option<Message>,
) -> Result<Exit, Failure> {
    let mut editor = match lines {
        Lines::Terminal { history } => {
            let places = models::places(session.config());
            let config = session.config().clone();
            let servers = config.servers.iter().map(|server| format!("@{}", server.name).into());
            let aliases = config.aliases.iter().map(|alias| Candidate::new(&alias.name, &alias.model));
            let others: Vec<Candidate> = servers.chain(aliases).collect();
            let folder = config.paths.as_ref().map(|paths| paths.roles.clone());
            let names = Names {
                models: Box::new(move || {
                    let here = library::list(&places).into_iter();
                    let here = here.map(|model| Candidate::new(model.name, size(model.size)));
                    here.chain(others.iter().cloned()).collect()
                }),
                conversations: Box::new(move || {
                    saved::latest(&config).into_iter().map(|(id, title)| Candidate::new(id, title)).collect()
                }),
                roles: Box::new(move || {
                    let all = saved::roles(folder.as_deref()).into_iter();
                    all.map(|(name, about)| Candidate::new(name, about)).collect()
                }),
            };
            Editor::on_terminal(history, Box::new(move |line| commands::complete(line, &names)))?
        }
        Lines::Stdin => Editor::on_stdin(),
    };
    if let Some(role) = session.config().role() {
        screen.note(&commands::told(session, role));
    }
    let (attached, draft, warned, before_role) = (Vec::new(), None, false, None);
    let mut chat = Chat { session, screen, attached, draft, open, warned, before_role };
    let initial = match first {
        Some(message) => chat.ask(Ask::Say(message), &mut editor)?,
        None => String::new(),
    };
    chat.run(&mut editor, initial)
}

/// Shows the name and the last exchange of a resumed conversation.
pub fn show_resumed(session: &mut Session, record: &Record, screen: &mut Screen) {
    let path = record.path();
    if session.disable_prefill_if_killed(&record.id) {
        screen.note(
            "fireside was killed while it worked on this conversation, so it does not prefill it now; /undo removes the last \
             message, /export saves everything to a file",
        );
    }
    screen.note(&saved::continuing(record));
    show_last(&path, screen);
}

/// Shows the last exchange of a path.
fn show_last(path: &[&Entry], screen: &mut Screen) {
    for entry in path.iter().rev().take(2).rev() {
        let prompt = if entry.message.role == Role::User { PROMPT } else { "" };
        screen.show_typed(prompt, &entry.message.in_short());
    }
}

impl Chat<'_> {
    fn run(&mut self, editor: &mut Editor, mut initial: String) -> Result<Exit, Failure> {
        let mut leaving = false; // the last key was Ctrl-C on an empty line
        let mut interrupted = false; // the last line ended with Ctrl-C, so that the next one is for this line
        loop {
            self.session.prepare(&self.attached);
            if !interrupted {
                terminal::forget_interrupts(); // those from before the prompt, not one after Enter
            }
            editor.adopt(self.session.settings(), self.screen.prompt_style());
            let line = editor.read(&self.prompt(), &std::mem::take(&mut initial))?;
            interrupted = matches!(line, Input::Interrupted(_));
            let next = match line {
                Input::End => NextAction::Quit,
                Input::Interrupted(text) if !text.trim().is_empty() => NextAction::Prompt,
                Input::Interrupted(_) if leaving => NextAction::Quit,
                Input::Interrupted(_) => {
                    leaving = true;
                    self.screen.note("press Ctrl-C again or Ctrl-D to leave");
                    continue;
                }
                Input::Text(text) => self.understand(without_mark(text)),
            };
            leaving = false;
            match next {
                NextAction::Prompt => {}
                NextAction::Ask(ask) => initial = self.ask(ask, editor)?,
                NextAction::Edit(text) => initial = text,
                NextAction::Change(place, before) => initial = self.change(place, before, editor)?,
                NextAction::Resume => {
                    self.resume(editor).unwrap_or_else(|failure| self.screen.failure(&failure));
                }
                NextAction::PickMessage => {
                    self.pick_message(editor).unwrap_or_else(|failure| self.screen.failure(&failure));
                }
                NextAction::Compare(model) => {
                    self.compare(&model, editor)?.unwrap_or_else(|failure| self.screen.failure(&failure));
                }
                NextAction::Confirm(confirm) => {
                    self.confirm(confirm, editor)?.unwrap_or_else(|failure| self.screen.failure(&failure));
                }
                NextAction::Shell(command) => {
                    self.run_command(&command, editor)
                        .unwrap_or_else(|failure| self.screen.failure(&failure));
                }
                NextAction::Quit => return Ok(Exit::Answered),
            }
        }
    }

    /// Asks the user, and acts after a yes.
    fn confirm(&mut self, confirm: Confirm, editor: &mut Editor) -> Result<Result<(), Failure>, Failure> {
        if !editor.asks() {
            return Ok(Err(confirm.refusal));
        }
        if !editor.confirms(&confirm.question)? {
            self.screen.note(UNCHANGED);
            return Ok(Ok(()));
        }
        Ok((confirm.then)(self))
    }

    /// Names the host that the next message goes to.
    fn prompt(&self) -> String {
        let text = prompt::filled(&self.session.settings().prompt_format, self.session);
        let incognito = match self.session.settings().incognito {
            true if text.starts_with(char::is_alphanumeric) => "incognito ",
            true => "incognito",
            false => "",
        };
        let host = &self.session.model().host;
        let host = host.as_ref().map_or(String::new(), |host| format!("{host} "));
        format!("{host}{incognito}{text} ")
    }

    /// Asks before the conversation goes to a server for the first time. `false`: it stays here.
    fn may_leave(&mut self, server: Option<Server>, editor: &mut Editor) -> Result<bool, Failure> {
        let Some(server) = server else { return Ok(true) };
        if editor.asks() && !editor.confirms(&saved::leaving_question(&server))? {
            return Ok(false);
        }
        self.session.agree(&server); // without a terminal, the command line or /model has named the server
        Ok(true)
    }

    /// Lets the user edit a message, and sends it in place of the old one. Returns text for the line editor.
    fn change(&mut self, place: MessageId, before: Message, editor: &mut Editor) -> Result<String, Failure> {
        if !editor.edits() {
            self.screen.failure(&no_editor());
            return Ok(String::new());
        }
        match editor.change(&self.prompt(), &before.text())? {
            Some(text) if !text.trim().is_empty() && text != before.text() => {
                let mut instead = before;
                instead.set_text(&without_mark(text));
                self.ask(Ask::Instead(place, instead), editor)
            }
            _ => {
                self.screen.note(UNCHANGED);
                Ok(String::new())
            }
        }
    }

    /// Lets the user pick a conversation, and resumes it.
    fn resume(&mut self, editor: &mut Editor) -> Result<(), Failure> {
        self.session.wait_for_database();
        let config = self.session.config().clone();
        let mut ask =
            |_: &mut Screen, question: &str| Ok(editor.ask(question)?.map(|typed| typed.trim().to_string()));
        match saved::pick(&config, self.screen, &mut ask)? {
            Some(kept) => commands::resume_conversation(self, kept),
            None => Ok(()),
        }
    }

    /// Lets the user pick a message of any branch, and goes to it.
    fn pick_message(&mut self, editor: &mut Editor) -> Result<(), Failure> {
        let mut ask =
            |_: &mut Screen, question: &str| Ok(editor.ask(question)?.map(|typed| typed.trim().to_string()));
        commands::pick_message(self, &mut ask)
    }

    /// What a line with marks asks for.
    fn understand(&mut self, line: String) -> NextAction {
        if let Some(command) = line.strip_prefix('!') {
            return NextAction::Shell(plain(command).into_owned());
        }
        let text = plain(&line);
        let one_line = !text.contains('\n') && commands::is_command(&text);
        if one_line || ["/system ", "/begin "].iter().any(|command| text.starts_with(command)) {
            return commands::run(self, &text).unwrap_or_else(|failure| {
                self.screen.failure(&failure);
                NextAction::Prompt
            });
        }
        self.message(line)
    }

    /// Waits until the model is loaded.
    fn wait_for_model(&mut self) -> Result<(), Failure> {
        self.watched(|session, watch| session.wait_until_loaded(watch))
    }

    fn change_model(&mut self, wanted: &str) -> Result<(), Failure> {
        let config = self.session.config().clone();
        let open = self.open;
        self.watched(|session, watch| session.change_model(wanted, &config, open, watch))?;
        self.heed_settings();
        Ok(())
    }

    fn take_role(&mut self, role: Option<TakenRole>) -> Result<(), Failure> {
        let open = self.open;
        self.watched(|session, watch| session.take_role(role, open, watch))?;
        self.heed_settings();
        Ok(())
    }

    fn set(&mut self, row: &'static Setting, value: Option<&str>) -> Result<(), Failure> {
        let open = self.open;
        self.watched(|session, watch| session.set(row, value, open, watch))?;
        self.heed_settings();
        Ok(())
    }

    fn heed_settings(&mut self) {
        self.screen.restyle(self.session.settings());
    }

    /// Runs something that may load a model. Shows progress; Ctrl-C stops it.
    pub(in crate::repl) fn watched<T>(
        &mut self,
        act: impl FnOnce(&mut Session, OnEvent) -> Result<T, session::Error>,
    ) -> Result<T, Failure> {
        let screen = &mut *self.screen;
        let done = act(self.session, &mut |event| {
            screen.show_progress(event);
            if terminal::stopped() {
                return ControlFlow::Break(());
            }
            screen.show_typing();
            ControlFlow::Continue(())
        });
        self.screen.end_progress();
        Ok(done?)
    }
}
