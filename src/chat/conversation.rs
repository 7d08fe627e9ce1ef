//! A conversation: a tree of messages with a head. What the model sees is the path from the root to the head.
//!
//! Undo moves the head, retry and edit add a branch; no message is ever removed.

use std::sync::Arc;

use super::events::StopReason;
use super::message::{Message, Role};
use super::record::{Answer, Entry, Record};
use super::truncation::Dropped;

/// Where a message stands in its conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeId(usize);

#[derive(Debug, Clone)]
struct Node {
    parent: Option<NodeId>,
    message: Arc<Message>,
    /// How an answer came about; `None` for what the user said.
    answer: Option<Box<Answer>>,
    /// Milliseconds since 1970, where it is known.
    created: Option<i64>,
}

#[derive(Debug, Clone, Default)]
pub struct Conversation {
    /// What the model is told before anything else; may change between turns.
    pub system: Option<String>,
    nodes: Vec<Node>,
    head: Option<NodeId>,
    /// The heads from before each undo, until there is another answer.
    taken_back: Vec<NodeId>,
    /// Messages said instead of others, each with the head that was there before.
    instead: Vec<(NodeId, Option<NodeId>)>,
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

    /// Adds a message after the head and makes it the head. `created` in milliseconds since 1970.
    pub fn add(&mut self, message: Message, answer: Option<Answer>, created: Option<i64>) -> NodeId {
        let id = NodeId(self.nodes.len());
        if message.role == Role::Assistant {
            self.taken_back.clear();
        }
        let (message, answer) = (Arc::new(message), answer.map(Box::new));
        self.nodes.push(Node { parent: self.head, message, answer, created });
        self.head = Some(id);
        id
    }

    /// Goes back to before the last thing the user said, and gives that.
    pub fn undo(&mut self) -> Option<NodeId> {
        let question = self.last_user()?;
        self.taken_back.extend(self.head);
        let before = self.instead.iter().find(|(said, _)| *said == question).map(|(_, before)| *before);
        self.head = before.unwrap_or_else(|| self.parent(question));
        Some(question)
    }

    /// The last thing the user said took the place of what led to this head, which [`Conversation::undo`] brings back.
    pub fn said_instead(&mut self, before: Option<NodeId>) {
        let question = self.last_user();
        self.instead.extend(question.map(|question| (question, before)));
    }

    /// How many messages of the path come after one and its answer.
    pub fn later_than(&self, place: NodeId) -> usize {
        let path = self.path();
        let after = path.iter().skip_while(|id| **id != place).skip(1);
        after.skip_while(|id| self.message(**id).role == Role::Assistant).count()
    }

    /// Brings back what was taken back last, and gives what the user had said.
    pub fn redo(&mut self) -> Option<NodeId> {
        self.head = Some(self.taken_back.pop()?);
        self.last_user()
    }

    /// How many messages there are on all branches; they are numbered from 0 in the order in which they were added.
    pub fn count(&self) -> usize {
        self.nodes.len()
    }

    /// The number of a message.
    pub fn number(id: NodeId) -> usize {
        id.0
    }

    /// A message as it is kept, by its number.
    pub fn entry(&self, number: usize) -> Entry {
        let Node { parent, message, answer, created } = &self.nodes[number];
        let Message { role, text, attachments, .. } = Message::clone(message); // thinking is part of the answer
        let (parent, answer) = (parent.map(|id| id.0), answer.as_deref().cloned());
        Entry { parent, role, text, attachments, created: *created, answer }
    }

    /// The conversation that a record holds.
    pub fn from_record(record: &Record) -> Conversation {
        let node = |entry: &Entry| Node {
            parent: entry.parent.map(NodeId),
            message: Arc::new(Message {
                role: entry.role,
                text: entry.text.clone(),
                attachments: entry.attachments.clone(),
                thinking: entry.answer.as_ref().and_then(|answer| answer.thinking.clone()),
            }),
            answer: entry.answer.clone().map(Box::new),
            created: entry.created,
        };
        let nodes = record.entries.iter().map(node).collect();
        let head = record.head.map(NodeId);
        Conversation { system: record.system.clone(), nodes, head, ..Conversation::default() }
    }

    pub fn message(&self, id: NodeId) -> &Message {
        &self.nodes[id.0].message
    }

    pub fn stop_reason(&self, id: NodeId) -> Option<StopReason> {
        StopReason::from_name(&self.nodes[id.0].answer.as_ref()?.stop)
    }

    pub fn parent(&self, id: NodeId) -> Option<NodeId> {
        self.nodes[id.0].parent
    }

    /// What has left the model's view: as when the message at the head was answered before, else as in the last answer. All
    /// of it is back where the context holds more than it did then; `limit` in tokens.
    pub fn dropped(&self, limit: usize) -> Dropped {
        let beside = self.nodes.iter().rev().filter(|node| self.head.is_some() && node.parent == self.head);
        let before = std::iter::successors(self.head, |id| self.parent(*id)).map(|id| &self.nodes[id.0]);
        let last = beside.chain(before).find_map(|node| node.answer.as_ref());
        let still = last.filter(|answer| answer.context_limit as usize >= limit);
        still.map_or(Dropped::default(), |answer| Dropped {
            count: answer.dropped as usize,
            summary: answer.summary.clone(),
        })
    }

    /// The settings of the answer that was added last.
    pub fn last_shaping(&self) -> Option<&Arc<[(String, String)]>> {
        self.nodes.iter().rev().find_map(|node| Some(&node.answer.as_ref()?.settings))
    }

    /// The same message where it was said after the head and got no answer.
    pub fn unanswered(&self, message: &Message) -> Option<NodeId> {
        let last = self.nodes.iter().rposition(|node| node.parent == self.head).map(NodeId)?;
        (self.message(last) == message && self.branches(Some(last)) == 0).then_some(last)
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
    pub fn view(&self) -> Vec<Arc<Message>> {
        let system = self.system.iter().map(|text| Arc::new(Message::new(Role::System, text.clone())));
        system.chain(self.path().into_iter().map(|id| self.nodes[id.0].message.clone())).collect()
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
        conversation.view().into_iter().map(|m| m.text.clone()).collect()
    }

    #[test]
    fn what_has_left_is_known_from_the_answers() {
        let mut conversation = Conversation::new(None);
        let limited = |dropped, context_limit| Answer { dropped, context_limit, ..Answer::default() };
        let question = conversation.add(Message::new(Role::User, "hi"), None, None);
        conversation.add(Message::new(Role::Assistant, "hello"), Some(limited(2, 100)), None);
        let again = conversation.add(Message::new(Role::User, "and?"), None, None);
        assert_eq!(conversation.dropped(100).count, 2);
        assert_eq!(conversation.dropped(200).count, 0, "there is more room now");
        conversation.add(Message::new(Role::Assistant, "well"), Some(limited(4, 100)), None);
        assert_eq!(conversation.dropped(100).count, 4);
        conversation.move_to(Some(again));
        assert_eq!(conversation.dropped(100).count, 4, "another answer to the same");
        conversation.move_to(Some(question));
        assert_eq!(conversation.dropped(100).count, 2);
        conversation.move_to(None);
        assert_eq!(conversation.dropped(100), Dropped::default());
    }

    #[test]
    fn undo_and_another_branch_keep_what_was_said() {
        let mut conversation = Conversation::new(Some("be kind".into()));
        let question = conversation.add(Message::new(Role::User, "hi"), None, None);
        let answer =
            conversation.add(Message::new(Role::Assistant, "hello"), Some(Answer::default()), Some(5));
        conversation.move_to(Some(question));
        conversation.add(Message::new(Role::Assistant, "good day"), None, None);
        assert_eq!(texts(&conversation), ["be kind", "hi", "good day"]);
        assert_eq!(conversation.branches(Some(question)), 2);
        conversation.move_to(Some(answer));
        assert_eq!(texts(&conversation), ["be kind", "hi", "hello"]);
        conversation.move_to(None);
        assert_eq!(texts(&conversation), ["be kind"]);
        assert_eq!(conversation.message(answer).text, "hello");
        let entries: Vec<Entry> =
            (0..conversation.count()).map(|number| conversation.entry(number)).collect();
        let head = conversation.head().map(Conversation::number);
        let record = Record { entries, head, system: conversation.system.clone(), ..Record::default() };
        let again = Conversation::from_record(&record);
        assert_eq!((texts(&again), again.entry(1)), (texts(&conversation), conversation.entry(1)));
    }
}
