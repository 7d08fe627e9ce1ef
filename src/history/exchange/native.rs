//! fireside's own file format: `{"fireside": 2, "id", "title", …, "messages": […], "tree": {…}}`.
//!
//! `tree` has every message with its id, its parent's id and its parts, without loss. `messages` is the path
//! to the head in OpenAI's format, for other programs.

use serde::{Deserialize, Serialize};

use crate::chat::MessageId;

/// Increases when a reader of the previous version would lose something. Version 1 had no ids and no parts.
pub(super) const VERSION: u64 = 2;

#[derive(Serialize, Deserialize)]
pub(super) struct Tree<Entries> {
    pub(super) entries: Entries,
    pub(super) head: Option<MessageId>,
}
