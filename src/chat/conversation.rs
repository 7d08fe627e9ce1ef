//! A conversation: a tree of messages with a head. What the model sees is the path from the root to the head.
//!
//! Undo moves the head, retry and edit add a branch; no message is ever removed.

use super::events::StopReason;
use super::message::{Message, Role};

/// Where a message stands in its conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeId(usize);

#[derive(Debug, Clone)]
struct Node {
    parent: Option<NodeId>,
    message: Message,
    /// Why an answer ended; `None` for what the user said.
    stop: Option<StopReason>,
}

#[derive(Debug, Clone, Default)]
pub struct Conversation {
    /// What the model is told before anything else; may change between turns.
    pub system: Option<String>,
    nodes: Vec<Node>,
    head: Option<NodeId>,
}

impl Conversation {
    pub fn new(system: Option<String>) -> Conversation {
        Conversation { system, ..Conversation::default() }
    }

    /// The last message of the path, which the next one follows.
    pub fn head(&self) -> Option<NodeId> {
        self.head
    }

    /// Moves to a message (or before the first one); what followed it stays in the tree.
    pub fn move_to(&mut self, head: Option<NodeId>) {
        self.head = head;
    }

    /// Adds a message after the head and makes it the head.
    pub fn add(&mut self, message: Message, stop: Option<StopReason>) -> NodeId {
        let id = NodeId(self.nodes.len());
        self.nodes.push(Node { parent: self.head, message, stop });
        self.head = Some(id);
        id
    }

    pub fn message(&self, id: NodeId) -> &Message {
        &self.nodes[id.0].message
    }

    pub fn stop_reason(&self, id: NodeId) -> Option<StopReason> {
        self.nodes[id.0].stop
    }

    pub fn parent(&self, id: NodeId) -> Option<NodeId> {
        self.nodes[id.0].parent
    }

    /// How many messages follow `id` directly, over all branches.
    pub fn branches(&self, id: Option<NodeId>) -> usize {
        self.nodes.iter().filter(|node| node.parent == id).count()
    }

    /// The path to the head, oldest message first.
    pub fn path(&self) -> Vec<NodeId> {
        let mut path: Vec<NodeId> = std::iter::successors(self.head, |id| self.parent(*id)).collect();
        path.reverse();
        path
    }

    /// What the model is given: the system prompt, if any, and the path to the head.
    pub fn view(&self) -> Vec<Message> {
        let system = self.system.iter().map(|text| Message::new(Role::System, text.clone()));
        system.chain(self.path().into_iter().map(|id| self.message(id).clone())).collect()
    }

    /// The last thing the user said on the path.
    pub fn last_user(&self) -> Option<NodeId> {
        self.path().into_iter().rev().find(|id| self.message(*id).role == Role::User)
    }

    /// The last answer, if the path ends with one.
    pub fn last_answer(&self) -> Option<NodeId> {
        self.head.filter(|id| self.message(*id).role == Role::Assistant)
    }

    /// The messages of the user on the path, oldest first.
    pub fn user_messages(&self) -> Vec<NodeId> {
        self.path().into_iter().filter(|id| self.message(*id).role == Role::User).collect()
    }

    pub fn is_empty(&self) -> bool {
        self.head.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(conversation: &Conversation) -> Vec<String> {
        conversation.view().into_iter().map(|m| m.text).collect()
    }

    #[test]
    fn undo_and_another_branch_keep_what_was_said() {
        let mut talk = Conversation::new(Some("be kind".into()));
        let question = talk.add(Message::new(Role::User, "hi"), None);
        let answer = talk.add(Message::new(Role::Assistant, "hello"), Some(StopReason::End));
        talk.move_to(Some(question));
        talk.add(Message::new(Role::Assistant, "good day"), Some(StopReason::End));
        assert_eq!(texts(&talk), ["be kind", "hi", "good day"]);
        assert_eq!(talk.branches(Some(question)), 2);
        talk.move_to(Some(answer));
        assert_eq!(texts(&talk), ["be kind", "hi", "hello"]);
        talk.move_to(None);
        assert_eq!(texts(&talk), ["be kind"]);
        assert_eq!(talk.message(answer).text, "hello");
    }
}
