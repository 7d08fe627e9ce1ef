//! The beginning of the next answer, written by the user: the model continues it, as it continues an answer
//! that was cut off.

use std::ops::ControlFlow;

use super::turn::empty_answer;
use super::{Error, OnEvent, Session};
use crate::chat::{Event, Message, Role};

impl Session {
    /// The beginning of the next answer; `None`: the model begins it.
    pub fn beginning(&self) -> Option<&str> {
        self.beginning.as_deref()
    }

    /// Begins the next answer with `text`; `None`: lets the model begin it. An error if this model cannot
    /// continue a text; waits until the model is loaded.
    pub fn begin(&mut self, text: Option<String>) -> Result<(), Error> {
        if text.is_some() {
            self.check_continues()?;
        }
        self.beginning = text;
        Ok(())
    }

    /// An error if the model cannot continue the beginning of an answer.
    pub(super) fn check_continues(&mut self) -> Result<(), Error> {
        let model = self.model();
        let (name, here) = (model.name.clone(), model.host.is_none());
        if model.cannot_continue {
            return Err(Error::CannotContinue(name));
        }
        if !model.chats {
            return Err(Error::ContinuesText(name));
        }
        // What a server makes of it is not known before.
        let request = self.request(self.conversation.view(), empty_answer());
        match here && self.inspect()?.render(request)?.thinks {
            true => Err(Error::Thinks(name)),
            false => Ok(()),
        }
    }

    /// Requests the next answer, which begins with the user's text, if there is one.
    pub(super) fn answer_begun(&mut self, watch: OnEvent) -> Result<(), Error> {
        let Some(text) = self.beginning.clone() else {
            return self.answer(empty_answer(), watch);
        };
        self.check_continues()?;
        let (answer_prefix, mut unseen) = (Message::new(Role::Assistant, text.as_str()), Some(text));
        self.answer(answer_prefix, &mut |event| {
            let text = unseen.take_if(|_| matches!(event, Some(Event::Text(_)))).map(Event::Text);
            let stopped = text.is_some_and(|text| watch(Some(&text)).is_break());
            if stopped { ControlFlow::Break(()) } else { watch(event) }
        })?;
        if let Some(text) = unseen {
            let _ = watch(Some(&Event::Text(text))); // the model has added nothing
        }
        self.beginning = None;
        Ok(())
    }
}
