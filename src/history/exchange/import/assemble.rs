//! Another program's messages, in the order of their tree → the entries of a [`Record`].
//!
//! Consecutive messages of the model (thoughts, a tool call, an answer) become one message; a tool's result
//! is a message of its own. Used by openai.rs and chatgpt.rs.

use std::collections::HashSet;
use std::sync::Arc;

use crate::chat::message::join_parts;
use crate::chat::part::Text;
use crate::chat::record::{AnswerRecord, Entry, Record, title_from};
use crate::chat::{Message, MessageId, Part, Role};

/// The contents of one message.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Said {
    pub(super) role: Option<Role>,
    pub(super) parts: Vec<Part>,
    pub(super) thinking: String,
    pub(super) model: String,
    pub(super) created: Option<i64>,
    /// Why an answer ended: the name of a [`StopReason`](crate::chat::StopReason).
    pub(super) stop: &'static str,
}

/// A node in the other program's tree; it may hold no message.
#[derive(Debug, Default)]
pub(super) struct Node {
    /// Its name in the source, unique in the conversation.
    pub(super) name: String,
    /// An index smaller than its own.
    pub(super) parent: Option<usize>,
    pub(super) said: Option<Said>,
}

/// Fills in the entries, the head, the system prompt and the title. `head`: an index into `nodes`. The
/// messages' ids are derived from the record's id and their names.
pub(super) fn assemble(record: &mut Record, nodes: Vec<Node>, head: Option<usize>) {
    let above = speakers_above(&nodes);
    let mut followers = vec![0_usize; nodes.len()];
    for (index, speaker) in above.iter().enumerate() {
        if let (Some(speaker), true) = (speaker, nodes[index].said.is_some()) {
            followers[*speaker] += 1;
        }
    }
    let mut places: Vec<Option<usize>> = Vec::with_capacity(nodes.len());
    for (node, above) in nodes.into_iter().zip(above) {
        let parent = above.and_then(|above| places[above]);
        let alone = above.is_some_and(|above| followers[above] == 1);
        let place = match node.said {
            None => parent,
            Some(said) => {
                let id = MessageId::derived([record.id.as_str(), &node.name]);
                Some(place(&mut record.entries, id, parent, alone, said))
            }
        };
        places.push(place);
    }
    let shown = head.and_then(|head| places[head]).map(|place| record.entries[place].id);
    record.head = shown.or_else(|| last_leaf(&record.entries));
    lift_system(record);
    add_title(record);
}

/// For each node, its nearest ancestor that holds a message.
fn speakers_above(nodes: &[Node]) -> Vec<Option<usize>> {
    let mut above: Vec<Option<usize>> = Vec::with_capacity(nodes.len());
    for node in nodes {
        let parent = node.parent.filter(|parent| *parent < above.len());
        above.push(
            parent.and_then(|parent| nodes[parent].said.as_ref().map_or(above[parent], |_| Some(parent))),
        );
    }
    above
}

/// Appends to the parent's answer if this is its only continuation (`alone`), or adds an entry; returns the
/// place of the entry.
fn place(entries: &mut Vec<Entry>, id: MessageId, parent: Option<usize>, alone: bool, said: Said) -> usize {
    let role = said.role.unwrap_or(Role::Assistant);
    let thinking = (!said.thinking.is_empty()).then_some(said.thinking);
    if let Some(parent) = parent.filter(|_| alone && role == Role::Assistant)
        && let Entry { answer: Some(answer), message, .. } = &mut entries[parent]
    {
        let message = Arc::make_mut(message);
        add(&mut message.parts, said.parts);
        if let Some(more) = thinking {
            append(message.thinking.get_or_insert_default(), &more);
        }
        answer.stop = said.stop.into();
        if !said.model.is_empty() {
            answer.model = said.model;
        }
        return parent;
    }
    let answer = (role == Role::Assistant).then(|| {
        Box::new(AnswerRecord { stop: said.stop.into(), model: said.model, ..AnswerRecord::default() })
    });
    let message = Message { role, parts: said.parts, thinking };
    let parent = parent.map(|parent| entries[parent].id);
    entries.push(Entry { created: said.created, answer, ..Entry::new(id, parent, message) });
    entries.len() - 1
}

/// Adds parts; joins consecutive texts.
fn add(parts: &mut Vec<Part>, more: Vec<Part>) {
    for part in more {
        match (parts.last_mut(), part) {
            (Some(Part::Text(Text { text })), Part::Text(more)) => append(text, &more.text),
            (_, part) => parts.push(part),
        }
    }
}

/// Like [`join_parts`], but without copying `text`.
fn append(text: &mut String, more: &str) {
    if !text.is_empty() && !more.is_empty() {
        text.push_str("\n\n");
    }
    text.push_str(more);
}

/// The newest message without children, if the source does not mark the head.
fn last_leaf(entries: &[Entry]) -> Option<MessageId> {
    let parents: HashSet<MessageId> = entries.iter().filter_map(|entry| entry.parent).collect();
    let leaves = entries.iter().filter(|entry| !parents.contains(&entry.id));
    leaves.max_by_key(|entry| entry.created).map(|entry| entry.id)
}

/// The system messages at the start of the path become the system prompt.
fn lift_system(record: &mut Record) {
    let told = record.path().into_iter().take_while(|entry| entry.message.role == Role::System);
    let (ids, texts): (HashSet<MessageId>, Vec<String>) =
        told.map(|entry| (entry.id, entry.message.content())).unzip();
    if ids.is_empty() {
        return;
    }
    record.system = Some(join_parts(texts.iter().map(String::as_str)));
    record.entries.retain(|entry| !ids.contains(&entry.id));
    for entry in &mut record.entries {
        // Nothing precedes the removed messages.
        entry.parent = entry.parent.filter(|parent| !ids.contains(parent));
    }
    record.head = record.head.filter(|head| !ids.contains(head));
}

/// Adds a title if the source has none.
fn add_title(record: &mut Record) {
    record.title = record.title.split_whitespace().collect::<Vec<_>>().join(" ");
    if record.title.is_empty() {
        let asked = record.entries.iter().find(|entry| entry.message.role == Role::User);
        record.title = asked.map(|entry| title_from(&entry.message.said())).unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(parent: Option<usize>, role: Role, text: &str) -> Node {
        let parts = if text.is_empty() { Vec::new() } else { vec![Part::text(text)] };
        let said = Said { role: Some(role), parts, stop: "end", ..Said::default() };
        Node { name: String::new(), parent, said: Some(said) }
    }

    fn assembled(mut nodes: Vec<Node>, head: Option<usize>) -> Record {
        for (index, node) in nodes.iter_mut().enumerate() {
            node.name = index.to_string();
        }
        let mut record = Record::default();
        assemble(&mut record, nodes, head);
        record
    }

    /// Each message's parent (as a place) and text.
    fn texts(record: &Record) -> Vec<(Option<usize>, String)> {
        let place = |id| record.entries.iter().position(|entry| entry.id == id);
        let told = |entry: &Entry| (entry.parent.and_then(place), entry.message.content());
        record.entries.iter().map(told).collect()
    }

    fn told(expected: &[(Option<usize>, &str)]) -> Vec<(Option<usize>, String)> {
        expected.iter().map(|(parent, text)| (*parent, text.to_string())).collect()
    }

    fn head(record: &Record) -> Option<usize> {
        record.entries.iter().position(|entry| Some(entry.id) == record.head)
    }

    #[test]
    fn an_answer_in_several_messages_is_one() {
        let mut nodes = vec![
            node(None, Role::User, "q"),
            node(Some(0), Role::Assistant, ""),
            node(Some(1), Role::Assistant, "a"),
            Node { name: String::new(), parent: Some(2), said: None },
            node(Some(3), Role::Assistant, "b"),
        ];
        nodes[1].said.as_mut().unwrap().thinking = "hm".into();
        nodes[4].said.as_mut().unwrap().model = "m".into();
        let record = assembled(nodes, Some(4));
        assert_eq!(texts(&record), told(&[(None, "q"), (Some(0), "a\n\nb")]));
        let answer = record.entries[1].answer.as_ref().unwrap();
        assert_eq!((record.entries[1].message.thinking.as_deref(), answer.model.as_str()), (Some("hm"), "m"));
        assert_eq!((head(&record), record.title.as_str()), (Some(1), "q"));
    }

    #[test]
    fn branches_stay_apart() {
        let nodes = vec![
            node(None, Role::User, "q"),
            node(Some(0), Role::Assistant, "a"),
            node(Some(1), Role::Assistant, "b"),
            node(Some(1), Role::Assistant, "c"),
        ];
        let record = assembled(nodes, Some(2));
        assert_eq!(texts(&record), told(&[(None, "q"), (Some(0), "a"), (Some(1), "b"), (Some(1), "c")]));
        assert_eq!(head(&record), Some(2));
    }

    #[test]
    fn what_comes_first_and_is_told_is_the_system_prompt() {
        let nodes = vec![
            node(None, Role::System, "one"),
            node(Some(0), Role::User, "other"),
            node(Some(0), Role::System, "two"),
            node(Some(2), Role::User, "q"),
            node(Some(3), Role::System, "three"),
        ];
        let record = assembled(nodes, None);
        assert_eq!(record.system.as_deref(), Some("one\n\ntwo"));
        assert_eq!(texts(&record), told(&[(None, "other"), (None, "q"), (Some(1), "three")]));
        assert_eq!(head(&record), Some(2));
        let none = assembled(vec![node(None, Role::System, "alone")], Some(0));
        assert_eq!((none.head, none.entries.len()), (None, 0));
    }
    #[test]
    fn time_does_not_grow_faster_than_the_conversation() {
        for role in [Role::System, Role::Assistant] {
            let nodes = (0..200_000_usize)
                .map(|index| node(index.checked_sub(1), role.clone(), "some words"))
                .collect();
            let record = assembled(nodes, None); // takes minutes if each message copies all before it
            assert_eq!(record.entries.len(), usize::from(role == Role::Assistant));
        }
    }
}
