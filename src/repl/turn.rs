//! One turn of the chat: asks the session and shows the answer. When the context is full, the user decides
//! what to drop.

use std::ops::ControlFlow;

use super::editor::Editor;
use super::{Ask, Chat};
use crate::chat::settings::Overflow;
use crate::chat::{Event, Message, Stats, StopReason};
use crate::failure::{self, Exit, Failure};
use crate::session::{Answer, FailedTurn, OnEvent, Session};
use crate::settings::setting;
use crate::ui::{stats, terminal, typing};
use crate::units::count;

/// Used share of the context from which a notice says how much is left.
const NEARLY_FULL: f64 = 0.8;

/// The result of one request.
enum Asked {
    /// Done, with text for the line editor if the request failed.
    Done(String),
    /// The context is full, and the user must decide what to drop. In tokens.
    Full { prompt: usize, limit: usize, failed: FailedTurn },
    /// The worker at this address is lost.
    Lost { worker: String, failed: FailedTurn },
}

/// The user's decision about a conversation that no longer fits.
enum Decision {
    /// A value of the setting `overflow`.
    Leave(&'static str),
    New(Message),
    Nothing,
}

impl Chat<'_> {
    /// Asks the model, and again once the user has decided what to drop or to go on without a worker. Returns text for the line editor.
    pub(super) fn ask(&mut self, mut ask: Ask, editor: &mut Editor) -> Result<String, Failure> {
        let leaves = self.may_leave(self.session.leaves_for(), editor)?;
        if !leaves {
            self.screen.note("nothing was sent; /model switches back");
        }
        let sends = match &ask {
            Ask::Say(message) => leaves && self.may_be_sent(message, editor)?,
            _ => leaves,
        };
        if !sends {
            return Ok(match ask {
                Ask::Say(message) => self.back_into_editor(Some(Box::new(message))),
                _ => String::new(),
            });
        }
        loop {
            let (prompt, limit, failed) = match self.ask_once(ask.clone())? {
                Asked::Done(back) => return Ok(back),
                Asked::Full { prompt, limit, failed } => (prompt, limit, failed),
                Asked::Lost { worker, failed } => {
                    self.screen.break_off();
                    self.screen.warning(&failed.error.to_string());
                    match self.goes_on_without(&worker, editor)? {
                        true => continue,
                        false => return Ok(self.back_into_editor(failed.message)),
                    }
                }
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

    /// Offers to load the model again without a lost worker. Whether that was done.
    fn goes_on_without(&mut self, worker: &str, editor: &mut Editor) -> Result<bool, Failure> {
        let others: Vec<&str> =
            self.session.settings().rpc.iter().map(String::as_str).filter(|other| *other != worker).collect();
        let rest = if others.is_empty() { "none".to_string() } else { others.join(",") };
        let answer = editor.ask(&format!("Go on without {worker}? [Y/n] "))?;
        if answer.is_none_or(|answer| answer.trim().to_lowercase().starts_with('n')) {
            return Ok(false);
        }
        let changed = self.set(setting("rpc").expect("it is in the table"), Some(&rest));
        Ok(changed.map_err(|failure| self.screen.failure(&failure)).is_ok())
    }

    /// Lets the user decide about a conversation that no longer fits.
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

    /// Asks once, and shows the answer while it is generated.
    fn ask_once(&mut self, ask: Ask) -> Result<Asked, Failure> {
        let continued = self.session.cut_off().ok().filter(|_| matches!(ask, Ask::More));
        let conversation = self.session.conversation();
        let before = continued.map_or("".into(), |answer| conversation.message(answer).text()).into_owned();
        let later = match &ask {
            Ask::Instead(place, _) => self.session.conversation().later_than(*place),
            _ => 0,
        };
        let mut full = None;
        let asked = self.show_answer(&before, |session, watch| {
            let watch = &mut |event: Option<&Event>| {
                if let Some(Event::Full { prompt, limit }) = event {
                    full = Some((*prompt, *limit));
                }
                watch(event)
            };
            let asked = match ask {
                Ask::Say(message) => session.say(message, watch),
                Ask::Retry => session.retry(watch),
                Ask::More => session.more(watch),
                Ask::Instead(place, message) => session.say_instead(place, message, watch),
            };
            asked.cloned()
        })?;
        match asked {
            Ok(answer) => {
                self.screen.end_answer().map_err(unwritten)?;
                self.after(&answer);
                if later > 0 {
                    let later = count(later, "later message");
                    self.screen.note(&format!("removed {later} from the conversation; /undo restores them"));
                }
                Ok(Asked::Done(String::new()))
            }
            Err(failed) => Ok(match full {
                Some((prompt, limit)) => Asked::Full { prompt, limit, failed },
                None => match failed.error.lost_worker().map(String::from) {
                    Some(worker) => Asked::Lost { worker, failed },
                    None => Asked::Done(self.put_back(failed)),
                },
            }),
        }
    }

    /// Shows an answer while it is generated; `before` is its beginning that was shown earlier.
    pub(super) fn show_answer<E>(
        &mut self,
        before: &str,
        ask: impl FnOnce(&mut Session, OnEvent) -> Result<Answer, E>,
    ) -> Result<Result<Answer, E>, Failure> {
        let mut broken = Ok(());
        let screen = &mut *self.screen;
        screen.begin_answer(before);
        let asked = ask(self.session, &mut |event| {
            if let Some(Event::Asked { .. }) = event {
                return ControlFlow::Continue(()); // a stop waits until the model has the question
            }
            screen.show_progress(event);
            if let Some(Event::Text(text)) = event {
                broken = screen.answer(text);
            }
            if broken.is_err() || terminal::stopped() {
                return ControlFlow::Break(());
            }
            screen.show_typing();
            ControlFlow::Continue(())
        });
        broken.map_err(unwritten)?;
        Ok(asked)
    }

    fn after(&mut self, answer: &Answer) {
        self.session.troubles().iter().for_each(|line| self.screen.note(line));
        let stats = &answer.stats;
        if let Some(cut) = stats::cut(stats.stop) {
            let goes_on =
                matches!(stats.stop, StopReason::Interrupted | StopReason::Length | StopReason::Context)
                    && !self.session.model().cannot_continue;
            self.screen.note(&format!("{cut}{}", if goes_on { "; /more continues" } else { "" }));
        }
        if let Some(error) = &answer.error {
            let failure = Failure::from(error.clone());
            let goes_on = match self.session.model().cannot_continue {
                true => "what has come is kept; /retry gets another answer",
                false => "what has come is kept; /more continues it, /retry gets another answer",
            };
            self.screen.failure(&Failure { hint: Some(goes_on.into()), ..failure });
        }
        if let Some(line) = stats::only_thought(&answer.text, stats) {
            self.screen.note(&line);
        }
        if let Some(kind) = answer.unmatched.filter(|_| answer.error.is_none()) {
            self.screen.note(&stats::unmatched(kind));
        }
        let measured = stats.context_limit > 0 || stats.generated_tokens.is_some_and(|tokens| tokens > 0);
        if self.session.settings().stats != Some(false) && measured && answer.error.is_none() {
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
        let failure = failure::why(failed.error, failed.message.as_deref(), self.session, true);
        match failure.exit {
            Exit::Interrupted => self.screen.note("stopped before the answer began"),
            _ => self.screen.failure(&failure),
        }
        self.back_into_editor(failed.message)
    }

    fn back_into_editor(&mut self, message: Option<Box<Message>>) -> String {
        let Some(message) = message else {
            return String::new();
        };
        let gives_way = typing::is_line_waiting() && self.was_typed(&message);
        let line = self.unsent(&message);
        if gives_way {
            self.screen.note("the line that you have typed since is sent instead; Up recalls the message");
            return String::new();
        }
        // Text typed in the meantime goes on a new line.
        line + if terminal::typed_ahead() { "\n" } else { "" }
    }
}

/// The failure to write an answer, which ends the chat.
pub(super) fn unwritten(error: std::io::Error) -> Failure {
    Failure::new(format!("could not write the answer: {error}"))
}
