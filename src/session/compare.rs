//! A second model answers the same message. Both answers stay, as branches; the conversation goes on with the
//! first one.

use std::mem::{replace, swap};

use super::turn::empty_answer;
use super::{Answer, Error, ModelOpener, OnEvent, Session};
use crate::backend::Backend;
use crate::chat::Event;
use crate::settings::Config;

/// A model that was opened beside the one of the chat.
pub struct SecondModel {
    backend: Box<dyn Backend>,
    /// The settings of the chat, with this model's recommendations.
    config: Config,
    /// Whether the first model was closed to make room.
    alone: bool,
}

impl SecondModel {
    pub fn name(&self) -> &str {
        &self.backend.describe().name
    }
}

impl Session {
    /// Opens and loads a second model. Closes the first one if there is no memory for both; if the second
    /// cannot be loaded, everything is as before.
    pub fn open_second(
        &mut self,
        wanted: &str,
        open: ModelOpener,
        watch: OnEvent,
    ) -> Result<SecondModel, Error> {
        if self.conversation.last_answer().is_none() {
            return Err(Error::NothingToCompare);
        }
        self.wait_until_loaded(watch)?; // what the first one takes counts; this also ends its prefilling ahead
        let first = self.model_name();
        match self.load_second(wanted, open, watch) {
            Ok((backend, config)) => Ok(SecondModel { backend, config, alone: false }),
            Err(error) if error.lacks_memory() => {
                let name = &self.model().name;
                let _ =
                    watch(Some(&Event::Notice(format!("closing {name}: memory does not hold both models"))));
                self.backend.close();
                let loaded = self.load_second(wanted, open, watch);
                if loaded.is_err() {
                    self.reopen(&first, open)?;
                }
                loaded.map(|(backend, config)| SecondModel { backend, config, alone: true })
            }
            Err(error) => Err(error),
        }
    }

    fn load_second(
        &mut self,
        wanted: &str,
        open: ModelOpener,
        watch: OnEvent,
    ) -> Result<(Box<dyn Backend>, Config), Error> {
        let ready = open(&self.config, wanted)?;
        let first = replace(&mut self.backend, (ready.start)());
        let loaded = self.wait_until_loaded(watch);
        let mut second = replace(&mut self.backend, first);
        match loaded {
            Ok(()) => Ok((second, ready.config)),
            Err(error) => {
                second.close();
                Err(error)
            }
        }
    }

    /// Adds the second model's answer beside the last one, which stays the head. If it fails, or is stopped
    /// before its first token, nothing changes.
    pub fn answer_with(&mut self, second: &mut SecondModel, watch: OnEvent) -> Result<Answer, Error> {
        let (head, kept) = (self.conversation.head(), (self.last.take(), self.answered.take()));
        let question = self.conversation.last_user().ok_or(Error::NothingToCompare)?;
        self.exchange(second);
        self.conversation.move_to(Some(question));
        let answered = self.answer(empty_answer(), watch);
        self.exchange(second);
        self.conversation.move_to(head);
        self.keep_up();
        let answer = replace(&mut self.last, kept.0);
        self.answered = kept.1;
        answered?;
        Ok(answer.expect("just answered"))
    }

    /// Closes the second model, and opens the first one again if it was closed; `true`: it was.
    pub fn close_second(&mut self, mut second: SecondModel, open: ModelOpener) -> Result<bool, Error> {
        second.backend.close();
        if second.alone {
            self.reopen(&self.model_name(), open)?;
        }
        Ok(second.alone)
    }

    fn exchange(&mut self, second: &mut SecondModel) {
        swap(&mut self.backend, &mut second.backend);
        swap(&mut self.config, &mut second.config);
    }
}
