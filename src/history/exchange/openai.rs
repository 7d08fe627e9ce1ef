//! OpenAI's chat messages → a conversation: `[{"role", "content"}, …]`, or an object with these as its `messages`.
//!
//! Calls of tools and what they returned become blocks of the answer. Pictures and sounds are left out and mentioned.

use serde_json::{Map, Value};

use super::assemble::{Node, Said, assemble};
use super::content::{self, json_block};
use super::import::Imported;
use super::notes::{Notes, quoted};
use super::{identity, time};
use crate::chat::Role;
use crate::chat::fences::fenced;
use crate::chat::message::join_parts;
use crate::chat::record::Record;

const CREATED: &[&str] = &["created", "created_at", "create_time", "timestamp"];

/// Whether this is one of such messages.
pub(super) fn is_message(value: &Value) -> bool {
    let has = |name| value.get(name).is_some();
    value.get("role").is_some_and(Value::is_string) && (has("content") || has("tool_calls"))
}

/// `known`: when the file was written, for a conversation that does not say when it was.
pub(super) fn read(mut object: Map<String, Value>, known: i64) -> Result<Imported, String> {
    let Some(Value::Array(messages)) = object.remove("messages") else {
        return Err("its messages are no list".into());
    };
    let model = object.get("model").and_then(Value::as_str).unwrap_or_default();
    let mut notes = Notes::default();
    let id = identity::of_content("openai", &messages);
    let nodes: Vec<Node> = messages
        .iter()
        .enumerate()
        .map(|(index, message)| Node { parent: index.checked_sub(1), said: said(message, model, &mut notes) })
        .collect();
    let created = time::field(&object, CREATED).unwrap_or(known);
    let title = object.get("title").and_then(Value::as_str).unwrap_or_default().to_string();
    let mut record = Record { id, title, created, changed: created, ..Record::default() };
    let last = nodes.len().checked_sub(1);
    assemble(&mut record, nodes, last);
    let changed = record.entries.iter().filter_map(|entry| entry.created).max();
    record.changed = changed.unwrap_or(created).max(created);
    if record.entries.is_empty() {
        return Err("it has no messages".into());
    }
    Ok(Imported { record, notes: notes.finish() })
}

fn said(message: &Value, model: &str, notes: &mut Notes) -> Option<Said> {
    let Value::Object(message) = message else {
        notes.add("a message that is none is left out");
        return None;
    };
    let name = message.get("role").and_then(Value::as_str).unwrap_or_default();
    let known = role(name);
    let (role, tool) = known.unwrap_or((Role::Assistant, false));
    let mut text = content::parts(message.get("content").unwrap_or(&Value::Null), notes);
    if let Some(refusal) = message.get("refusal").and_then(Value::as_str) {
        text = join_parts([text.as_str(), refusal]);
    }
    if tool && !text.is_empty() {
        text = fenced(message.get("name").and_then(Value::as_str).unwrap_or("tool"), &text);
    }
    for call in message.get("tool_calls").and_then(Value::as_array).into_iter().flatten() {
        text = join_parts([text.as_str(), tool_call(call).as_str()]);
    }
    let thinking = ["reasoning_content", "reasoning", "thinking"];
    let thinking = thinking.iter().find_map(|name| message.get(*name)?.as_str()).unwrap_or_default();
    if text.is_empty() && thinking.is_empty() {
        return None;
    }
    if known.is_none() {
        note_role(name, notes);
    }
    Some(Said {
        role: Some(role),
        text,
        thinking: if role == Role::Assistant { thinking.into() } else { String::new() },
        model: model.into(),
        created: time::field(message, CREATED),
        stop: "end",
    })
}

/// Whose side a message is on, and whether a tool said it; `None` for a name that is not known.
pub(super) fn role(name: &str) -> Option<(Role, bool)> {
    Some(match name {
        "system" | "developer" => (Role::System, false),
        "user" | "human" => (Role::User, false),
        "assistant" | "model" => (Role::Assistant, false),
        "tool" | "function" => (Role::Assistant, true),
        _ => return None,
    })
}

/// For a message that is kept and whose role is not known.
pub(super) fn note_role(name: &str, notes: &mut Notes) {
    notes.add(format!("a message of an unknown role, {}, is taken for the assistant's", quoted(name)));
}

/// A call as the tool's name and what it was given.
fn tool_call(call: &Value) -> String {
    let function = call.get("function").unwrap_or(call);
    match (function.get("name").and_then(Value::as_str), function.get("arguments")) {
        (Some(name), Some(Value::String(arguments))) => fenced(name, arguments),
        (Some(name), Some(arguments)) => fenced(name, &arguments.to_string()),
        _ => json_block(call),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read_all(value: Value) -> Result<Imported, String> {
        let Value::Object(object) = value else { panic!("no object") };
        read(object, 7)
    }

    #[test]
    fn the_first_system_message_is_the_system_prompt() {
        let imported = read_all(json!({ "model": "m", "created": 1741089600, "messages": [
            { "role": "developer", "content": "Be brief." },
            { "role": "user", "content": [{ "type": "text", "text": "Look:" }, { "type": "input_text", "text": "here" }] },
            { "role": "assistant", "content": null, "reasoning_content": "Hm." },
            { "role": "assistant", "content": "Yes." },
        ]}))
        .unwrap();
        let record = imported.record;
        assert_eq!(record.system.as_deref(), Some("Be brief."));
        assert_eq!((record.entries.len(), record.head, record.created), (2, Some(1), 1741089600000));
        assert_eq!(record.entries[0].text, "Look:\nhere");
        let answer = record.entries[1].answer.as_ref().unwrap();
        assert_eq!((answer.thinking.as_deref(), answer.model.as_str()), (Some("Hm."), "m"));
        assert!(imported.notes.is_empty());
    }

    #[test]
    fn tools_are_blocks_of_the_answer() {
        let imported = read_all(json!({ "messages": [
            { "role": "user", "content": "2+2?" },
            { "role": "assistant", "content": null, "tool_calls": [
                { "id": "1", "type": "function", "function": { "name": "sum", "arguments": "{\"a\":2}" } }] },
            { "role": "tool", "tool_call_id": "1", "content": "4" },
            { "role": "assistant", "content": "Four." },
        ]}))
        .unwrap();
        assert_eq!(imported.record.entries.len(), 2);
        assert_eq!(imported.record.entries[1].text, "```sum\n{\"a\":2}\n```\n\n```tool\n4\n```\n\nFour.");
    }

    #[test]
    fn what_holds_no_message_is_refused() {
        assert!(read_all(json!({ "messages": 3 })).is_err());
        assert!(read_all(json!({ "messages": [] })).is_err());
        assert!(read_all(json!({ "messages": [null, { "role": "user", "content": "" }] })).is_err());
    }
}
