//! The chat: reads a line, runs a command or asks the model, shows the answer, and goes on whatever happens.

pub mod commands;
mod editor;
mod lines;
mod rows;

use std::ops::ControlFlow;
use std::path::PathBuf;

use self::commands::{Confirm, Names, Next};
use self::editor::{Editor, Line, no_editor};
use crate::chat::message::without_mark;
use crate::chat::record::Record;
use crate::chat::settings::Overflow;
use crate::chat::{Attachment, Event, Message, MessageId, Role, Stats, StopReason};
use crate::error::{Exit, Failure};
use crate::input;
use crate::models;
use crate::models::library;
use crate::saved;
use crate::session::{FailedTurn, Opener, Session};
use crate::settings::{Setting, setting};
use crate::ui::{Screen, stats, terminal};
use crate::units::count;

/// From this share of the context on the user is told how much is left.
const NEARLY_FULL: f64 = 0.8;
const PROMPT: &str = "> ";
/// The same where nothing is kept.
const INCOGNITO: &str = "incognito> ";
const UNCHANGED: &str = "nothing changed";

/// What to ask the model for.
#[derive(Debug, Clone)]
pub enum Ask {
    Say(Message),
    Retry,
    More,
    /// This message instead of the one at that place.
    Instead(MessageId, Message),
}

/// A running chat.
pub struct Chat<'a> {
    pub session: &'a mut Session,
    pub screen: &'a mut Screen,
    /// Goes with the next message.
    pub attached: Vec<Attachment>,
    open: Opener,
    /// The user knows that the context is nearly full.
    warned: bool,
}

/// How asking ended.
enum Asked {
    /// With an answer, or with this to be put back into the editor.
    Done(String),
    /// What would have to leave for an answer is not decided. In tokens.
    Full { prompt: usize, limit: usize, failed: FailedTurn },
}

/// What is to happen to a conversation that no longer fits.
enum Decision {
    /// A value of the setting `overflow`.
    Leave(&'static str),
    New(Message),
    Nothing,
}

/// Where the lines come from.
pub enum Lines {
    Terminal {
        history: Option<PathBuf>,
    },
    /// For tests.
    Stdin,
}

/// Chats until the user leaves, beginning with the answer to `first` if there is something to answer already.
pub fn run(
    session: &mut Session,
    screen: &mut Screen,
    lines: Lines,
    open: Opener,
    first: Option<Message>,
) -> Result<Exit, Failure> {
    let mut editor = match lines {
        Lines::Terminal { history } => {
            let places = models::places(session.config());
            let config = session.config().clone();
            let names = Names {
                models: Box::new(move || {
                    library::list(&places).into_iter().map(|model| model.name).collect()
                }),
                conversations: Box::new(move || saved::latest(&config)),
            };
            Editor::on_terminal(history, Box::new(move |line| commands::complete(line, &names)))?
        }
        Lines::Stdin => Editor::on_stdin(),
    };
    let mut chat = Chat { session, screen, attached: Vec::new(), open, warned: false };
    let initial = match first {
        Some(message) => chat.ask(Ask::Say(message), &mut editor)?,
        None => String::new(),
    };
    chat.run(&mut editor, initial)
}

/// What a conversation that is taken up again was about: its name and its last exchange.
pub fn show_resumed(session: &mut Session, record: &Record, screen: &mut Screen) {
    let path = record.path();
    if session.beware(&record.id) {
        screen.note(
            "fireside was killed while it worked on this conversation, so it does not prefill it now; /undo removes the last \
             message, /export saves everything to a file",
        );
    }
    screen.note(&saved::continuing(record));
    for entry in path.iter().rev().take(2).rev() {
        let prompt = if entry.message.role == Role::User { PROMPT } else { "" };
        screen.show_typed(prompt, &entry.message.in_short());
    }
}

impl Chat<'_> {
    fn run(&mut self, editor: &mut Editor, mut initial: String) -> Result<Exit, Failure> {
        let mut leaving = false; // Ctrl-C was just pressed at an empty line
        loop {
            self.session.prepare(&self.attached);
            let _ = terminal::interrupted(); // a Ctrl-C from before the prompt is over; one after Enter is not
            editor.draw_prompts(self.screen.prompt_style());
            let line = editor.read(self.prompt(), &std::mem::take(&mut initial))?;
            let next = match line {
                Line::End => Next::Quit,
                Line::Interrupted(text) if !text.trim().is_empty() => Next::Prompt,
                Line::Interrupted(_) if leaving => Next::Quit,
                Line::Interrupted(_) => {
                    leaving = true;
                    self.screen.note("press Ctrl-C again or Ctrl-D to leave");
                    continue;
                }
                Line::Text(text) => self.understand(without_mark(text)),
            };
            leaving = false;
            match next {
                Next::Prompt => {}
                Next::Ask(ask) => initial = self.ask(ask, editor)?,
                Next::Edit(text) => initial = text,
                Next::Change(place, before) => initial = self.change(place, before, editor)?,
                Next::Resume => {
                    self.resume(editor).unwrap_or_else(|failure| self.screen.failure(&failure));
                }
                Next::Confirm(confirm) => {
                    self.confirm(confirm, editor)?.unwrap_or_else(|failure| self.screen.failure(&failure));
                }
                Next::Quit => return Ok(Exit::Answered),
            }
        }
    }

    /// Does something if the user agrees.
    fn confirm(&mut self, confirm: Confirm, editor: &mut Editor) -> Result<Result<(), Failure>, Failure> {
        if !editor.asks() {
            return Ok(Err(confirm.refusal));
        }
        let answer = editor.ask(&format!("{} [y/N] ", confirm.question))?;
        if !answer.is_some_and(|answer| input::is_yes(&answer)) {
            self.screen.note(UNCHANGED);
            return Ok(Ok(()));
        }
        Ok((confirm.then)(self))
    }

    fn prompt(&self) -> &'static str {
        if self.session.settings().incognito { INCOGNITO } else { PROMPT }
    }

    /// Lets the user change a message in the line, and says it instead. Returns what is to be put back into the editor.
    fn change(&mut self, place: MessageId, before: Message, editor: &mut Editor) -> Result<String, Failure> {
        if !editor.edits() {
            self.screen.failure(&no_editor());
            return Ok(String::new());
        }
        match editor.change(self.prompt(), &before.text())? {
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

    /// Lets the user choose a conversation and goes on with it.
    fn resume(&mut self, editor: &mut Editor) -> Result<(), Failure> {
        let config = self.session.config().clone();
        let mut ask =
            |_: &mut Screen, question: &str| Ok(editor.ask(question)?.map(|typed| typed.trim().to_string()));
        match saved::pick(&config, self.screen, &mut ask)? {
            Some(kept) => commands::go_on_with(self, kept),
            None => Ok(()),
        }
    }

    fn understand(&mut self, text: String) -> Next {
        let one_line = !text.contains('\n') && commands::is_command(&text);
        if one_line || text.starts_with("/system ") {
            return commands::run(self, &text).unwrap_or_else(|failure| {
                self.screen.failure(&failure);
                Next::Prompt
            });
        }
        if text.trim().is_empty() && self.attached.is_empty() {
            return Next::Prompt;
        }
        let message =
            Message::new(Role::User, text.trim_end()).with_files(std::mem::take(&mut self.attached));
        Next::Ask(Ask::Say(message.with_headers(self.session.settings().file_header)))
    }

    /// Asks, and again when the user has said what is to leave. Returns what is to be put back into the editor.
    fn ask(&mut self, mut ask: Ask, editor: &mut Editor) -> Result<String, Failure> {
        loop {
            let (prompt, limit, failed) = match self.ask_once(ask.clone())? {
                Asked::Done(back) => return Ok(back),
                Asked::Full { prompt, limit, failed } => (prompt, limit, failed),
            };
            self.screen
                .note(&format!("the conversation no longer fits the context: {prompt} of {limit} tokens"));
            match self.decide(&failed, editor)? {
                Decision::Leave(how) => {
                    self.set(setting("overflow").expect("it is in the table"), Some(how))?
                }
                Decision::New(message) => {
                    self.session.clear();
                    ask = Ask::Say(message);
                }
                Decision::Nothing => return Ok(self.back_into_editor(failed.message)),
            }
        }
    }

    /// Lets the user choose what happens to a conversation that no longer fits.
    fn decide(&mut self, failed: &FailedTurn, editor: &mut Editor) -> Result<Decision, Failure> {
        let mut choices = vec![
            "  roll     drop the oldest messages from the context; they stay in the history",
            "  compact  the same, but the model summarises them first",
        ];
        choices.extend(
            failed.message.is_some().then_some("  new      start a new conversation with this message"),
        );
        self.screen.show(&choices.join("\n"));
        let prompt =
            if choices.len() > 2 { "roll, compact or new? [roll] " } else { "roll or compact? [roll] " };
        loop {
            let Some(typed) = editor.ask(prompt)? else {
                return Ok(Decision::Nothing);
            };
            let typed = typed.trim().trim_start_matches('/').to_lowercase();
            let means = |choice: &str| !typed.is_empty() && choice.starts_with(&typed);
            match &failed.message {
                _ if typed.is_empty() || means("roll") => return Ok(Decision::Leave("roll")),
                _ if means("compact") => return Ok(Decision::Leave("compact")),
                Some(message) if means("new") => return Ok(Decision::New(*message.clone())),
                _ => self.screen.note(&format!("'{typed}' is not one of the choices; Esc changes nothing")),
            }
        }
    }

    /// Shows the answer as it comes.
    fn ask_once(&mut self, ask: Ask) -> Result<Asked, Failure> {
        let mut full = None;
        let mut broken = Ok(());
        let screen = &mut *self.screen;
        let conversation = self.session.conversation();
        let before = conversation.last_answer().filter(|_| matches!(ask, Ask::More));
        screen.begin_answer(&before.map_or("".into(), |answer| conversation.message(answer).text()));
        let watch = &mut |event: Option<&Event>| {
            screen.show_progress(event);
            match event {
                Some(Event::Text(text)) => broken = screen.answer(text),
                Some(Event::Full { prompt, limit }) => full = Some((*prompt, *limit)),
                _ => {}
            }
            if broken.is_err() || terminal::stopped() {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        };
        let later = match &ask {
            Ask::Instead(place, _) => self.session.conversation().later_than(*place),
            _ => 0,
        };
        let asked = match ask {
            Ask::Say(message) => self.session.say(message, watch),
            Ask::Retry => self.session.retry(watch),
            Ask::More => self.session.more(watch),
            Ask::Instead(place, message) => self.session.say_instead(place, message, watch),
        };
        let asked = asked.cloned();
        if let Err(e) = broken {
            return Err(Failure::new(format!("could not write the answer: {e}")));
        }
        match asked {
            Ok(answer) => {
                self.screen
                    .end_answer()
                    .map_err(|e| Failure::new(format!("could not write the answer: {e}")))?;
                self.after(&answer);
                if later > 0 {
                    let later = count(later, "later message");
                    self.screen.note(&format!("removed {later} from the conversation; /undo restores them"));
                }
                Ok(Asked::Done(String::new()))
            }
            Err(failed) => Ok(match full {
                Some((prompt, limit)) => Asked::Full { prompt, limit, failed },
                None => Asked::Done(self.put_back(failed)),
            }),
        }
    }

    fn after(&mut self, answer: &crate::session::Answer) {
        self.session.troubles().iter().for_each(|line| self.screen.note(line));
        let stats = &answer.stats;
        if let Some(cut) = stats::cut(stats.stop) {
            let goes_on =
                matches!(stats.stop, StopReason::Interrupted | StopReason::Length | StopReason::Context);
            self.screen.note(&format!("{cut}{}", if goes_on { "; /more continues" } else { "" }));
        }
        if let Some(line) = stats::only_thought(&answer.text, stats) {
            self.screen.note(&line);
        }
        if self.session.settings().stats != Some(false) && stats.context_limit > 0 {
            self.screen.stats(stats, answer.first_token);
        }
        let nearly_full =
            stats.context_limit > 0 && stats.context_used as f64 >= NEARLY_FULL * stats.context_limit as f64;
        if nearly_full && !std::mem::replace(&mut self.warned, nearly_full) {
            let Stats { context_used: used, context_limit: limit, .. } = stats;
            let then = match self.session.settings().overflow {
                None => "fireside asks what to drop",
                Some(Overflow::Roll) => "the oldest messages are dropped",
                Some(Overflow::Compact) => "the oldest messages are summarised and dropped",
                Some(Overflow::Stop) => "there is no answer; /clear starts a new conversation",
            };
            self.screen.note(&match limit.saturating_sub(*used) {
                0 => format!("the context is full: with the next message, {then}"),
                left => format!("the context is {} % full, with {left} of {limit} tokens left: when a message does not fit, {then}", used * 100 / limit),
            });
        }
        self.warned = nearly_full;
    }

    fn put_back(&mut self, failed: FailedTurn) -> String {
        self.screen.break_off();
        match failed.failure.exit {
            Exit::Interrupted => self.screen.note("stopped before the answer began"),
            _ => self.screen.failure(&self.session.why(&failed, true)),
        }
        self.back_into_editor(failed.message)
    }

    fn back_into_editor(&mut self, message: Option<Box<Message>>) -> String {
        let Some(message) = message else {
            return String::new();
        };
        self.attached = message.files().cloned().collect();
        // What was typed meanwhile comes after it, on a line of its own.
        message.text().into_owned() + if terminal::typed_ahead() { "\n" } else { "" }
    }

    /// Waits for the model, where something is asked that only it can tell.
    fn wait_for_model(&mut self) -> Result<(), Failure> {
        self.watched(|session, watch| session.wait_until_loaded(watch))
    }

    fn change_model(&mut self, wanted: &str) -> Result<(), Failure> {
        let config = self.session.config().clone();
        let open = self.open;
        self.watched(|session, watch| session.change_model(wanted, &config, open, watch))
    }

    fn set(&mut self, row: &'static Setting, value: Option<&str>) -> Result<(), Failure> {
        let open = self.open;
        self.watched(|session, watch| session.set(row, value, open, watch))?;
        self.screen.set_color(self.session.settings().color);
        self.screen.set_thinking(self.session.settings().show_thinking);
        Ok(())
    }

    /// Something that may load a model: shows how far it is, and Ctrl-C stops it.
    fn watched(
        &mut self,
        act: impl FnOnce(&mut Session, crate::session::Watch) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let screen = &mut *self.screen;
        let done = act(self.session, &mut |event| {
            screen.show_progress(event);
            if terminal::stopped() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        self.screen.end_progress();
        done
    }
}
