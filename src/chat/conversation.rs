//! A conversation: a tree of messages with a head. The model sees the path from the root to the head.
//!
//! Undo moves the head, retry and edit add branches; no message is ever removed.

use std::sync::Arc;

use super::dropped::Dropped;
use super::events::StopReason;
use super::id::MessageId;
use super::message::{Message, Role};
use super::record::{self, AnswerRecord, Entry, Record};

#[derive(Debug, Clone, Default)]
pub struct Conversation {
    /// The system prompt; may change between turns.
    pub system: Option<String>,
    /// Examples that the very first message comes after: pairs of a message and its answer.
    examples: Vec<[Message; 2]>,
    /// Parents before their children.
    entries: Vec<Entry>,
    head: Option<MessageId>,
    /// The heads before each undo and each change of the branch, for redo; emptied by the next answer.
    taken_back: Vec<MessageId>,
    /// Replacements of earlier messages, each with the head before it.
    instead: Vec<(MessageId, Option<MessageId>)>,
}

impl Conversation {
    pub fn new(system: Option<String>) -> Conversation {
        Conversation { system, ..Conversation::default() }
    }

    /// The examples to begin with; a conversation with messages keeps those that it has.
    pub fn begin_with(&mut self, examples: &[[String; 2]]) {
        let message = |[asked, answer]: &[String; 2]| {
            [Message::new(Role::User, asked.as_str()), Message::new(Role::Assistant, answer.as_str())]
        };
        self.examples = examples.iter().map(message).collect();
    }

    /// Adds the examples if there is no message yet; `true` if there are any.
    pub fn add_examples(&mut self) -> bool {
        let begins = self.entries.is_empty() && !self.examples.is_empty();
        for [asked, answer] in if begins { self.examples.clone() } else { Vec::new() } {
            self.add(asked, None, None);
            self.add(answer, Some(AnswerRecord::example()), None);
        }
        begins
    }

    /// Whether there is nothing but examples.
    pub fn has_only_examples(&self) -> bool {
        self.path().last().is_none_or(|entry| entry.is_example())
    }

    /// The last message of the path; the next message follows it.
    pub fn head(&self) -> Option<MessageId> {
        self.head
    }

    /// Makes a message the head (`None`: before the first one). Later messages stay in the tree.
    pub fn move_to(&mut self, head: Option<MessageId>) {
        self.head = head;
    }

    /// Adds a message after the head and makes it the head. `created` in milliseconds since 1970.
    pub fn add(&mut self, message: Message, answer: Option<AnswerRecord>, created: Option<i64>) -> MessageId {
        self.add_as(MessageId::fresh(), message, answer, created)
    }

    /// The same for a message with an id, which must be unique in this conversation.
    pub fn add_as(
        &mut self,
        id: MessageId,
        message: Message,
        answer: Option<AnswerRecord>,
        created: Option<i64>,
    ) -> MessageId {
        if message.role == Role::Assistant {
            self.taken_back.clear();
        }
        let answer = answer.map(Box::new);
        self.entries.push(Entry { created, answer, ..Entry::new(id, self.head, message) });
        self.head = Some(id);
        id
    }

    /// Moves the head before the last user message; returns that message.
    pub fn undo(&mut self) -> Option<MessageId> {
        let question = self.last_user()?;
        self.taken_back.extend(self.head);
        let before = self.instead.iter().find(|(said, _)| *said == question).map(|(_, before)| *before);
        self.head = before.unwrap_or_else(|| self.parent(question));
        Some(question)
    }

    /// Makes a message the head, or the newest answer to it if it has any; [`Conversation::redo`] returns.
    /// `false`: it was the head already.
    pub fn go_to(&mut self, id: MessageId) -> bool {
        let mut to = id;
        let follows = |entry: &&Entry, id| entry.parent == Some(id) && entry.message.role.answers();
        while let Some(answer) = self.entries.iter().rfind(|entry| follows(entry, to)) {
            to = answer.id;
        }
        if self.head == Some(to) {
            return false;
        }
        self.taken_back.extend(self.head);
        self.head = Some(to);
        true
    }

    /// Records that the last user message replaced the path to this head; [`Conversation::undo`] restores it.
    pub fn said_instead(&mut self, before: Option<MessageId>) {
        let question = self.last_user();
        self.instead.extend(question.map(|question| (question, before)));
    }

    /// The number of messages on the path after a message and its answer.
    pub fn later_than(&self, place: MessageId) -> usize {
        let after = self.path().into_iter().skip_while(|entry| entry.id != place).skip(1);
        after.skip_while(|entry| entry.message.role.answers()).count()
    }

    /// Reverts the last undo or change of the branch; returns the restored user message.
    pub fn redo(&mut self) -> Option<MessageId> {
        self.head = Some(self.taken_back.pop()?);
        self.last_user()
    }

    /// The messages of all branches in the order of their creation.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The number of a message: counted from 1 in the order of their creation.
    pub fn number(&self, id: Option<MessageId>) -> Option<usize> {
        self.entries.iter().position(|entry| Some(entry.id) == id).map(|place| place + 1)
    }

    /// The conversation of a record.
    pub fn from_record(record: &Record) -> Conversation {
        let Record { system, entries, head, .. } = record.clone();
        Conversation { system, entries, head, ..Conversation::default() }
    }

    fn entry(&self, id: MessageId) -> &Entry {
        let found = self.entries.iter().rev().find(|entry| entry.id == id);
        found.expect("ids are given out here, and no message is ever removed")
    }

    pub fn message(&self, id: MessageId) -> &Message {
        &self.entry(id).message
    }

    pub fn stop_reason(&self, id: MessageId) -> Option<StopReason> {
        StopReason::from_name(&self.entry(id).answer.as_ref()?.stop)
    }

    /// The record of an answer, if there is one.
    pub fn record_of(&self, id: MessageId) -> Option<&AnswerRecord> {
        self.entry(id).answer.as_deref()
    }

    pub fn parent(&self, id: MessageId) -> Option<MessageId> {
        self.entry(id).parent
    }

    /// The messages dropped from the model's view: those of an earlier answer to the message at the head,
    /// else those of the last answer on the path. None, if the context (`limit`, in tokens) is larger now.
    pub fn dropped(&self, limit: usize) -> Dropped {
        let beside =
            self.entries.iter().rev().filter(|entry| self.head.is_some() && entry.parent == self.head);
        let last = beside.chain(self.path().into_iter().rev()).find_map(|entry| entry.answer.as_ref());
        let still = last.filter(|answer| answer.context_limit as usize >= limit);
        still.map_or(Dropped::default(), |answer| Dropped {
            count: answer.dropped as usize,
            summary: answer.summary.clone(),
        })
    }

    /// The settings of the newest answer.
    pub fn last_shaping(&self) -> Option<&Arc<[(String, String)]>> {
        self.entries.iter().rev().find_map(|entry| Some(&entry.answer.as_ref()?.settings))
    }

    /// The id of the same message after the head, if it has no answer.
    pub fn unanswered(&self, message: &Message) -> Option<MessageId> {
        let last = self.entries.iter().rfind(|entry| entry.parent == self.head)?;
        (*last.message == *message && self.branches(Some(last.id)) == 0).then_some(last.id)
    }

    /// The number of direct successors of `id` on all branches.
    pub fn branches(&self, id: Option<MessageId>) -> usize {
        self.entries.iter().filter(|entry| entry.parent == id).count()
    }

    /// The number of answers to the message at the head that this model gave, or an unknown one.
    pub fn answers_by(&self, model: &str) -> usize {
        let answers = self.entries.iter().filter(|entry| entry.parent == self.head);
        answers.filter(|entry| entry.answer.as_ref().is_none_or(|answer| answer.model == model)).count()
    }

    /// The path to the head, oldest message first.
    pub fn path(&self) -> Vec<&Entry> {
        record::path(&self.entries, self.head)
    }

    /// The messages for the model: the system prompt, if any, the examples, and the path to the head.
    pub fn view(&self) -> Vec<Arc<Message>> {
        let system = self.system.iter().map(|text| Arc::new(Message::new(Role::System, text.clone())));
        let examples =
            self.examples.iter().filter(|_| self.entries.is_empty()).flatten().cloned().map(Arc::new);
        system.chain(examples).chain(self.path().into_iter().map(|entry| entry.message.clone())).collect()
    }

    /// The last user message on the path.
    pub fn last_user(&self) -> Option<MessageId> {
        self.user_messages().pop()
    }

    /// The last answer, if the path ends with one that is no example.
    pub fn last_answer(&self) -> Option<MessageId> {
        let is_own = |entry: &Entry| entry.message.role == Role::Assistant && !entry.is_example();
        self.head.filter(|id| is_own(self.entry(*id)))
    }

    /// The user messages on the path, oldest first, without the examples. `/edit` counts them from 1.
    pub fn user_messages(&self) -> Vec<MessageId> {
        let path = self.path();
        let own = path.iter().rposition(|entry| entry.is_example()).map_or(0, |last| last + 1);
        let of_user = path[own..].iter().filter(|entry| entry.message.role == Role::User);
        of_user.map(|entry| entry.id).collect()
    }

    pub fn is_empty(&self) -> bool {
        self.head.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(conversation: &Conversation) -> Vec<String> {
        conversation.view().into_iter().map(|m| m.text().into_owned()).collect()
    }

    #[test]
    fn dropped_messages_are_known_from_the_answers() {
        let mut conversation = Conversation::new(None);
        let limited =
            |dropped, context_limit| AnswerRecord { dropped, context_limit, ..AnswerRecord::default() };
        let question = conversation.add(Message::new(Role::User, "hi"), None, None);
        conversation.add(Message::new(Role::Assistant, "hello"), Some(limited(2, 100)), None);
        let again = conversation.add(Message::new(Role::User, "and?"), None, None);
        assert_eq!(conversation.dropped(100).count, 2);
        assert_eq!(conversation.dropped(200).count, 0, "the context is larger now");
        conversation.add(Message::new(Role::Assistant, "well"), Some(limited(4, 100)), None);
        assert_eq!(conversation.dropped(100).count, 4);
        conversation.move_to(Some(again));
        assert_eq!(conversation.dropped(100).count, 4, "as in the other answer to the same message");
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
            conversation.add(Message::new(Role::Assistant, "hello"), Some(AnswerRecord::default()), Some(5));
        conversation.move_to(Some(question));
        conversation.add(Message::new(Role::Assistant, "good day"), None, None);
        assert_eq!(texts(&conversation), ["be kind", "hi", "good day"]);
        assert_eq!(conversation.branches(Some(question)), 2);
        conversation.move_to(Some(answer));
        assert_eq!(texts(&conversation), ["be kind", "hi", "hello"]);
        conversation.move_to(None);
        assert_eq!(texts(&conversation), ["be kind"]);
        assert_eq!(conversation.message(answer).text(), "hello");
        let entries = conversation.entries().to_vec();
        let record = Record {
            entries,
            head: conversation.head(),
            system: conversation.system.clone(),
            ..Record::default()
        };
        let again = Conversation::from_record(&record);
        assert_eq!((texts(&again), again.entries()), (texts(&conversation), conversation.entries()));
    }
}
