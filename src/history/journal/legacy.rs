//! Changes that a version before 0.2 left beside the database → changes that refer to messages by id.
//!
//! Its changes identified messages by their places in the conversation, and stored ones by their row numbers,
//! which are still the same.

use serde::Deserialize;

use super::change::{Change, What};
use crate::chat::record::Entry;
use crate::chat::{Message, MessageId};
use crate::history::database::{Conversations, Error};
use crate::history::legacy::{OldAnswer, OldEntry};

#[derive(Deserialize)]
pub(super) enum OldChange {
    Turn { id: String, numbers: Vec<i64> },
    Begin { id: String, title: String, system: Option<String>, model: Option<String> },
    Add(OldEntry),
    Update { place: usize, text: String, answer: OldAnswer },
    Head(Option<usize>),
    System(Option<String>),
    Title(String),
    Model(Option<String>),
}

/// The state after some lines of one file.
#[derive(Default)]
pub(super) struct Legacy {
    conversation: String,
    entries: Vec<Option<Entry>>,
    ids: Vec<MessageId>,
}

impl Legacy {
    /// An old change in today's form; `None` if there is nothing to do, or its message is unknown.
    pub(super) fn change(&mut self, old: OldChange, store: &Conversations) -> Result<Option<Change>, Error> {
        let what = match old {
            OldChange::Turn { id, numbers } => {
                // The conversation may be gone: its new messages must not be lost with it.
                let gone = || (0..numbers.len()).map(|place| derived(&id, place)).collect();
                let ids = store.ids_of_rows(&id, &numbers)?.unwrap_or_else(gone);
                *self = Legacy { conversation: id, entries: vec![None; ids.len()], ids };
                return Ok(None);
            }
            OldChange::Begin { id, title, system, model } => {
                *self = Legacy { conversation: id, ..Legacy::default() };
                What::Begin { title, system, model }
            }
            OldChange::Add(old) => {
                let parent = old.parent.and_then(|parent| self.ids.get(parent).copied());
                let entry = old.entry(derived(&self.conversation, self.ids.len()), parent);
                let id = store.find_alike(&self.conversation, &entry)?.unwrap_or(entry.id);
                let entry = Entry { id, ..entry };
                self.ids.push(id);
                self.entries.push(Some(entry.clone()));
                What::Put(entry)
            }
            OldChange::Update { place, text, answer } => {
                let Some(Some(entry)) = self.entries.get(place).cloned() else { return Ok(None) };
                let OldAnswer { thinking, answer } = answer;
                let message = Message { thinking, ..Message::new(entry.message.role.clone(), text) };
                What::Put(Entry { message: message.into(), answer: Some(answer.into()), ..entry })
            }
            OldChange::Head(head) => What::Head(head.and_then(|place| self.ids.get(place).copied())),
            OldChange::System(system) => What::System(system),
            OldChange::Title(title) => What::Title(title),
            OldChange::Model(model) => What::Model(model),
        };
        Ok(Some(Change { conversation: self.conversation.clone(), what }))
    }
}

/// The id of a message that is not in the database.
fn derived(conversation: &str, place: usize) -> MessageId {
    MessageId::derived([conversation, &place.to_string()])
}
