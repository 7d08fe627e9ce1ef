//! One conversation of a ChatGPT data export → a conversation.
//!
//! `mapping` is a tree whose nodes may lack messages, parents or children, or form cycles; no message is lost
//! because of this. content.rs reads a message's content, assemble.rs makes entries of the messages.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::assemble::{Node, Said, assemble};
use super::content::{Content, content, text_of};
use super::notes::{Imported, Notes};
use super::{identity, openai};
use crate::chat::message::join_parts;
use crate::chat::part::ToolResult;
use crate::chat::record::Record;
use crate::chat::{Part, Role, StopReason};
use crate::history::exchange::time;

/// `known`: when the file was written, for conversations without a time.
pub(super) fn read(object: Map<String, Value>, known: i64) -> Result<Imported, String> {
    let Some(Value::Object(mapping)) = object.get("mapping") else {
        return Err("its messages ('mapping') cannot be read".into());
    };
    let mut notes = Notes::default();
    let shape = Forest::of(mapping, &mut notes);
    let mut places = vec![0; shape.ids.len()];
    let mut nodes = Vec::with_capacity(shape.ids.len());
    for index in shape.in_order() {
        places[index] = nodes.len();
        let message = shape.nodes[index].get("message").and_then(Value::as_object);
        let said = message.and_then(|message| said(message, &mut notes));
        let (name, parent) =
            (shape.names[index].to_string(), shape.parents[index].map(|parent| places[parent]));
        nodes.push(Node { name, parent, said });
    }
    let current = object.get("current_node").and_then(Value::as_str);
    let head = current.and_then(|id| shape.ids.get(id)).map(|index| places[*index]);
    let mut record = Record { id: id(&object), title: word(&object, "title").into(), ..Record::default() };
    assemble(&mut record, nodes, head);
    if record.entries.is_empty() {
        return Err("it has no messages".into());
    }
    let times = || record.entries.iter().filter_map(|entry| entry.created);
    let created = time::field(&object, &["create_time"]).or(times().min()).unwrap_or(known);
    let changed = time::field(&object, &["update_time"]).or(times().max()).unwrap_or(created);
    (record.created, record.changed) = (created, changed.max(created));
    Ok(Imported { record, notes: notes.finish() })
}

fn id(object: &Map<String, Value>) -> String {
    let name = ["conversation_id", "id"].map(|name| word(object, name)).into_iter().find(|id| !id.is_empty());
    match name {
        Some(name) => identity::of_name("chatgpt", name),
        None => identity::of_content("chatgpt", &object["mapping"]),
    }
}

/// The tree of messages, repaired into a forest.
struct Forest<'a> {
    names: Vec<&'a str>,
    ids: HashMap<&'a str, usize>,
    nodes: Vec<&'a Value>,
    parents: Vec<Option<usize>>,
    children: Vec<Vec<usize>>,
}

impl<'a> Forest<'a> {
    fn of(mapping: &'a Map<String, Value>, notes: &mut Notes) -> Forest<'a> {
        let names: Vec<&str> = mapping.keys().map(String::as_str).collect();
        let ids: HashMap<&str, usize> = names.iter().copied().zip(0..).collect();
        let nodes: Vec<&Value> = mapping.values().collect();
        let mut named = vec![None; nodes.len()]; // the parent that lists it, and its place there
        for (index, node) in nodes.iter().enumerate() {
            let children = node.get("children").and_then(Value::as_array).into_iter().flatten();
            for (place, child) in children.enumerate() {
                if let Some(child) = child.as_str().and_then(|child| ids.get(child)) {
                    named[*child].get_or_insert((index, place));
                }
            }
        }
        let parent = |index: usize| {
            let said = nodes[index].get("parent").and_then(Value::as_str).and_then(|id| ids.get(id)).copied();
            said.or(named[index].map(|(parent, _)| parent))
        };
        let mut parents: Vec<Option<usize>> = (0..nodes.len()).map(parent).collect();
        if cut_circles(&mut parents) {
            notes.add("messages that formed a cycle were put in a row");
        }
        let mut children = vec![Vec::new(); nodes.len()];
        for (index, parent) in parents.iter().enumerate() {
            if let Some(parent) = parent {
                children[*parent].push(index);
            }
        }
        for (parent, children) in children.iter_mut().enumerate() {
            children.sort_by_key(|child| match named[*child] {
                Some((other, place)) if other == parent => place,
                _ => usize::MAX,
            });
        }
        Forest { names, ids, nodes, parents, children }
    }

    /// Parents before their children, and each branch to its end before the next.
    fn in_order(&self) -> Vec<usize> {
        let roots = (0..self.nodes.len()).rev().filter(|index| self.parents[*index].is_none());
        let mut waiting: Vec<usize> = roots.collect();
        let mut order = Vec::with_capacity(self.nodes.len());
        while let Some(index) = waiting.pop() {
            order.push(index);
            waiting.extend(self.children[index].iter().rev());
        }
        order
    }
}

/// Breaks each cycle at one node, which becomes a root; returns whether there were any.
fn cut_circles(parents: &mut [Option<usize>]) -> bool {
    let mut seen_from = vec![usize::MAX; parents.len()];
    let mut any = false;
    for start in 0..parents.len() {
        let mut at = start;
        while seen_from[at] == usize::MAX {
            seen_from[at] = start;
            match parents[at] {
                Some(parent) if seen_from[parent] == start => {
                    parents[parent] = None;
                    any = true;
                }
                Some(parent) => at = parent,
                None => {}
            }
        }
    }
    any
}

fn said(message: &Map<String, Value>, notes: &mut Notes) -> Option<Said> {
    let empty = Map::new();
    let part = |name| message.get(name).and_then(Value::as_object).unwrap_or(&empty);
    let (metadata, author) = (part("metadata"), part("author"));
    let hidden = metadata.get("is_visually_hidden_from_conversation") == Some(&Value::Bool(true));
    let mut asides = Notes::default();
    let asides = if hidden { &mut asides } else { &mut *notes };
    let content = or_instructions(content(message.get("content").unwrap_or(&Value::Null), asides), metadata);
    let role = match &content {
        Content::Told(_) => Role::System,
        Content::Thinking(_) => Role::Assistant,
        _ => openai::role(word(author, "role")),
    };
    let recipient = Some(word(message, "recipient")).filter(|name| !["", "all"].contains(name));
    let told = matches!(content, Content::Told(_));
    let (mut parts, mut thinking) = (Vec::new(), String::new());
    match content {
        Content::Told(text) => parts.push(Part::text(text)),
        Content::Thinking(text) => thinking = text,
        content if role == Role::Tool => {
            let result =
                ToolResult { id: String::new(), name: word(author, "name").into(), text: String::new() };
            parts = openai::result(result, content.parts());
        }
        content => match recipient.filter(|_| role == Role::Assistant) {
            Some(tool) => parts.push(openai::called("", tool, text_of(&content.parts()).into())),
            None => parts = content.fenced(),
        },
    }
    parts.retain(|part| !matches!(part, Part::Text(text) if text.text.is_empty()));
    let files = files(metadata, asides);
    if !files.is_empty() {
        let text = join_parts([files.as_str(), &text_of(&parts)]);
        parts.retain(|part| !matches!(part, Part::Text(_)));
        parts.insert(0, Part::text(text));
    }
    if parts.is_empty() && thinking.is_empty() {
        return None;
    }
    if hidden && !told {
        notes.add("a message that ChatGPT itself hides is left out");
        return None;
    }
    openai::note_role(&role, notes);
    let (model, created) = (word(metadata, "model_slug").into(), time::field(message, &["create_time"]));
    Some(Said { role: Some(role), parts, thinking, model, created, stop: stop(message, metadata) })
}

/// The custom instructions, if the message only marks where they apply. Exports of 2023 store them in the
/// metadata.
fn or_instructions(content: Content, metadata: &Map<String, Value>) -> Content {
    match content {
        Content::Said(parts) if metadata.get("is_user_system_message") == Some(&Value::Bool(true)) => {
            let text = text_of(&parts);
            let empty = Map::new();
            let apart =
                metadata.get("user_context_message_data").and_then(Value::as_object).unwrap_or(&empty);
            let apart = ["about_user_message", "about_model_message"].map(|name| word(apart, name));
            Content::Told(if text.is_empty() { join_parts(apart) } else { text })
        }
        content => content,
    }
}

/// The names of attached files, whose text the export lacks. Images are in the content.
fn files(metadata: &Map<String, Value>, notes: &mut Notes) -> String {
    let mut names = Vec::new();
    for file in metadata.get("attachments").and_then(Value::as_array).into_iter().flatten() {
        let mime = ["mime_type", "mimeType"].iter().find_map(|name| file.get(*name)?.as_str());
        if mime.is_none_or(|mime| !mime.starts_with("image/")) {
            notes.add("a file is left out");
            names.push(match file.get("name").and_then(Value::as_str) {
                Some(name) => format!("[file: {name}]"),
                None => "[file]".into(),
            });
        }
    }
    names.join("\n")
}

fn stop(message: &Map<String, Value>, metadata: &Map<String, Value>) -> &'static str {
    let finish = metadata.get("finish_details").and_then(|details| details.get("type")?.as_str());
    let reason = match (finish.unwrap_or_default(), word(message, "status")) {
        ("max_tokens", _) => StopReason::Length,
        ("interrupted", _) | (_, "in_progress" | "finished_partial_completion") => StopReason::Interrupted,
        ("error", _) | (_, "error") => StopReason::Error,
        _ => StopReason::End,
    };
    reason.name()
}

fn word<'a>(object: &'a Map<String, Value>, name: &str) -> &'a str {
    object.get(name).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn imported(mapping: Value, current: Value) -> Record {
        let Value::Object(object) = json!({ "id": "c", "mapping": mapping, "current_node": current }) else {
            unreachable!("it is written as an object")
        };
        read(object, 7).unwrap().record
    }

    fn node(parent: Value, children: Value, role: &str, text: &str) -> Value {
        let content = json!({ "content_type": "text", "parts": [text] });
        let message = json!({ "author": { "role": role }, "content": content });
        json!({ "parent": parent, "children": children, "message": message })
    }

    fn texts(record: &Record) -> Vec<(Option<usize>, String)> {
        let place = |id| record.entries.iter().position(|entry| entry.id == id);
        record.entries.iter().map(|entry| (entry.parent.and_then(place), entry.message.content())).collect()
    }

    fn told(expected: &[(Option<usize>, &str)]) -> Vec<(Option<usize>, String)> {
        expected.iter().map(|(parent, text)| (*parent, text.to_string())).collect()
    }

    #[test]
    fn circles_are_cut_and_nothing_is_lost() {
        let record = imported(
            json!({
                "a": node(json!("c"), json!(["b"]), "user", "a"),
                "b": node(json!("a"), json!(["c"]), "assistant", "b"),
                "c": node(json!("b"), json!(["a"]), "user", "c"),
                "self": node(json!("self"), json!(["self"]), "user", "self"),
            }),
            json!("b"),
        );
        assert_eq!(texts(&record), told(&[(None, "a"), (Some(0), "b"), (Some(1), "c"), (None, "self")]));
        assert_eq!(record.head, Some(record.entries[1].id));
    }

    #[test]
    fn parents_and_children_that_are_gone_lose_nothing() {
        let record = imported(
            json!({
                "x": node(json!("gone"), json!(["also gone", 3, null]), "user", "x"),
                "z": node(json!(null), json!([]), "assistant", "z"),
                "y": node(json!("x"), json!(["z"]), "assistant", "y"),
                "empty": null,
                "odd": 3,
            }),
            json!("no such"),
        );
        assert_eq!(texts(&record), told(&[(None, "x"), (Some(0), "y\n\nz")]));
        assert_eq!(record.head, Some(record.entries[1].id));
    }

    #[test]
    fn siblings_keep_the_order_their_parent_gives_them() {
        let record = imported(
            json!({
                "b": node(json!("q"), json!([]), "assistant", "second"),
                "a": node(json!("q"), json!([]), "assistant", "first"),
                "q": node(json!(null), json!(["a", "b"]), "user", "q"),
            }),
            json!("a"),
        );
        assert_eq!(texts(&record), told(&[(None, "q"), (Some(0), "first"), (Some(0), "second")]));
        assert_eq!(record.head, Some(record.entries[1].id));
    }

    #[test]
    fn long_conversations_do_not_exhaust_the_stack() {
        let link = |n: usize| {
            let parent = if n == 0 { json!(null) } else { json!((n - 1).to_string()) };
            let role = if n.is_multiple_of(2) { "user" } else { "assistant" };
            (n.to_string(), node(parent, json!([(n + 1).to_string()]), role, "text"))
        };
        let mapping: Map<String, Value> = (0..100_000).map(link).collect();
        let record = imported(Value::Object(mapping), json!(null));
        assert_eq!((record.entries.len(), record.head), (100_000, Some(record.entries[99_999].id)));
    }
}
