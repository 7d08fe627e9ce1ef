//! Changes of a conversation, as the journal records them → the database. Applying a change twice does
//! nothing.

use serde::{Deserialize, Serialize};

use crate::chat::MessageId;
use crate::chat::record::Entry;
use crate::clock::now;
use crate::history::database::{Conversations, Error};

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Change {
    /// The id of its conversation.
    pub(super) conversation: String,
    pub(super) what: What,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum What {
    Begin {
        title: String,
        system: Option<String>,
        model: Option<String>,
    },
    /// A message, or an unfinished answer.
    Put(Entry),
    Head(Option<MessageId>),
    System(Option<String>),
    Title(String),
    Model(Option<String>),
    /// Replaced by a later change.
    Overtaken,
}

impl Change {
    pub(super) fn apply(&self, store: &mut Conversations) -> Result<(), Error> {
        let id = &self.conversation;
        match &self.what {
            What::Begin { title, system, model } => {
                store.begin(id, title, system.as_deref(), model.as_deref(), now())
            }
            What::Put(entry) => store.put(id, entry, now()),
            What::Head(head) => store.move_head(id, *head),
            What::System(system) => store.set_system(id, system.as_deref()),
            What::Title(title) => store.set_title(id, title),
            What::Model(model) => store.set_model(id, model.as_deref()),
            What::Overtaken => Ok(()),
        }
    }

    /// Whether this replaces `before`: a later version of the same message.
    pub(super) fn overtakes(&self, before: &Change) -> bool {
        let same = self.conversation == before.conversation;
        matches!((&self.what, &before.what), (What::Put(now), What::Put(then)) if same && now.id == then.id)
    }

    /// The placeholder for a replaced change.
    pub(super) fn overtaken(&self) -> Change {
        Change { conversation: self.conversation.clone(), what: What::Overtaken }
    }
}
