//! Messages as versions before 0.2 wrote them, in exports and beside the database → entries with ids and
//! parts.
//!
//! They had no ids: a message named its parent by its place, and the thinking was part of the answer's
//! figures.

use std::sync::Arc;

use serde::Deserialize;

use crate::chat::record::{AnswerRecord, Entry};
use crate::chat::{Attachment, Message, MessageId, Role};

#[derive(Debug, Deserialize)]
pub(super) struct OldEntry {
    /// The parent's place among the messages before this one, counted from 0.
    pub(super) parent: Option<usize>,
    role: Role,
    text: String,
    #[serde(default)]
    attachments: Vec<Attachment>,
    created: Option<i64>,
    answer: Option<OldAnswer>,
}

#[derive(Debug, Deserialize)]
pub(super) struct OldAnswer {
    pub(super) thinking: Option<String>,
    #[serde(flatten)]
    pub(super) answer: AnswerRecord,
}

impl OldEntry {
    /// The message with this id and this parent.
    pub(super) fn entry(self, id: MessageId, parent: Option<MessageId>) -> Entry {
        let mut message = Message::new(self.role, self.text).with_files(self.attachments);
        let mut answer = None;
        if let Some(old) = self.answer {
            message.thinking = old.thinking;
            answer = Some(Box::new(old.answer));
        }
        Entry { id, parent, message: Arc::new(message), created: self.created, answer }
    }
}
