//! `/compare`: a second model answers the last message; its answer is shown below its name, and the statistics
//! of both at the end.

use super::Chat;
use super::editor::Editor;
use super::turn::unwritten;
use crate::chat::MessageId;
use crate::failure::{Exit, Failure};
use crate::models;
use crate::session::Answer;
use crate::ui::stats;

impl Chat<'_> {
    /// The outer failure ends the chat, the inner one does not.
    pub(super) fn compare(
        &mut self,
        wanted: &str,
        editor: &mut Editor,
    ) -> Result<Result<(), Failure>, Failure> {
        if self.is_model(wanted) {
            let name = &self.session.model().name;
            let failure = Failure::usage(format!("{name} is the model of this chat already"));
            return Ok(Err(
                failure.hint("/compare takes another one; /retry gets another answer of this one")
            ));
        }
        if !self.may_leave(self.session.leaves_with(wanted), editor)? {
            self.screen.note("nothing was sent");
            return Ok(Ok(()));
        }
        let open = self.open;
        let mut second = match self.watched(|session, watch| session.open_second(wanted, open, watch)) {
            Ok(second) => second,
            Err(failure) => return Ok(Err(failure)),
        };
        let (first, other) = (self.session.model().name.clone(), second.name().to_string());
        self.screen.show(&format!("{other}:"));
        let shown = self.show_answer("", |session, watch| session.answer_with(&mut second, watch));
        let closed = self.session.close_second(second, open);
        let answered = match shown? {
            Ok(answer) => {
                self.screen.end_answer().map_err(unwritten)?;
                self.after_both(&answer, &first);
                Ok(())
            }
            Err(error) => {
                self.screen.break_off();
                match Failure::from(error) {
                    failure if failure.exit == Exit::Interrupted => {
                        self.screen.note("stopped before the answer began");
                        Ok(())
                    }
                    failure => Err(failure),
                }
            }
        };
        match closed {
            Ok(true) => self.screen.note(&format!("loading {first} again")),
            Ok(false) => {}
            Err(error) => self.screen.failure(&Failure::from(error).hint("/model loads another model")),
        }
        Ok(answered)
    }

    /// Whether this is the chat's own model.
    fn is_model(&self, wanted: &str) -> bool {
        let (config, model) = (self.session.config(), self.session.model());
        match config.remote(wanted) {
            Some(_) => wanted == self.session.model_name(),
            None => model.path.is_some() && models::find(config, wanted).ok() == model.path,
        }
    }

    fn after_both(&mut self, answer: &Answer, first: &str) {
        self.session.troubles().iter().for_each(|line| self.screen.note(line));
        stats::cut(answer.stats.stop).into_iter().for_each(|cut| self.screen.note(cut));
        if let Some(error) = &answer.error {
            self.screen.failure(&Failure::from(error.clone()).hint("what has come is kept"));
        }
        let conversation = self.session.conversation();
        let (one, other) = (conversation.last_answer(), conversation.entries().last().map(|entry| entry.id));
        if self.session.settings().stats != Some(false) {
            let lines: Vec<String> =
                one.into_iter().chain(other).filter_map(|id| self.measured(id)).collect();
            self.screen.note(&lines.join("\n"));
        }
        let number = conversation.number(other).unwrap_or_default();
        self.screen
            .note(&format!("the conversation goes on with {first}; /tree {number} goes to the other answer"));
    }

    /// The statistics of an answer, with its model.
    fn measured(&self, answer: MessageId) -> Option<String> {
        let record = self.session.conversation().record_of(answer)?;
        Some(format!("{}: {}", record.model, stats::line(&record.stats(), None)))
    }
}
