//! OpenAI's chat messages → a conversation: `[{"role", "content"}, …]`, or an object whose `messages` is such
//! a list.

use serde_json::{Map, Value};

use super::assemble::{Node, Said, assemble};
use super::content::{self, text_of};
use super::identity;
use super::notes::{Imported, Notes, quoted};
use crate::chat::part::{ToolCall, ToolResult};
use crate::chat::record::Record;
use crate::chat::{Part, Role};
use crate::history::exchange::time;

const CREATED: &[&str] = &["created", "created_at", "create_time", "timestamp"];

/// Whether this is such a message.
pub(super) fn is_message(value: &Value) -> bool {
    let has = |name| value.get(name).is_some();
    value.get("role").is_some_and(Value::is_string) && (has("content") || has("tool_calls"))
}

/// `known`: when the file was written, for conversations without a time.
pub(super) fn read(mut object: Map<String, Value>, known: i64) -> Result<Imported, String> {
    let Some(Value::Array(messages)) = object.remove("messages") else {
        return Err("its messages are not a list".into());
    };
    let model = object.get("model").and_then(Value::as_str).unwrap_or_default();
    let mut notes = Notes::default();
    let id = identity::of_content("openai", &messages);
    let nodes: Vec<Node> = messages
        .iter()
        .enumerate()
        .map(|(index, message)| Node {
            name: index.to_string(),
            parent: index.checked_sub(1),
            said: said(message, model, &mut notes),
        })
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
        notes.add("an invalid message is left out");
        return None;
    };
    let role = role(message.get("role").and_then(Value::as_str).unwrap_or_default());
    let mut parts = content::parts(message.get("content").unwrap_or(&Value::Null), notes);
    parts.extend(message.get("refusal").and_then(Value::as_str).map(Part::text));
    if role == Role::Tool {
        let named = |name| message.get(name).and_then(Value::as_str).unwrap_or_default().to_string();
        parts =
            result(ToolResult { id: named("tool_call_id"), name: named("name"), text: String::new() }, parts);
    }
    let calls = message.get("tool_calls").and_then(Value::as_array).into_iter().flatten();
    parts.extend(calls.chain(message.get("function_call")).filter(|call| !call.is_null()).map(tool_call));
    let thinking = ["reasoning_content", "reasoning", "thinking"];
    let thinking = thinking.iter().find_map(|name| message.get(*name)?.as_str()).unwrap_or_default();
    if parts.is_empty() && thinking.is_empty() {
        return None;
    }
    note_role(&role, notes);
    let thinking = if role == Role::Assistant { thinking.into() } else { String::new() };
    let (model, created) = (model.into(), time::field(message, CREATED));
    Some(Said { role: Some(role), parts, thinking, model, created, stop: "end" })
}

/// The role with this name or alias.
pub(super) fn role(name: &str) -> Role {
    match name {
        "developer" => Role::System,
        "human" => Role::User,
        "model" => Role::Assistant,
        "function" => Role::Tool,
        _ => Role::from(name.to_string()),
    }
}

/// Notes that a message with an unknown role is kept.
pub(super) fn note_role(role: &Role, notes: &mut Notes) {
    if let Role::Other(name) = role {
        let name = quoted(name);
        notes.add(format!("a message of an unknown role, {name}, is kept, and no model is given it"));
    }
}

/// A tool's result: its texts become the result, other parts follow it.
pub(super) fn result(result: ToolResult, parts: Vec<Part>) -> Vec<Part> {
    let (texts, others): (Vec<Part>, Vec<Part>) =
        parts.into_iter().partition(|part| matches!(part, Part::Text(_)));
    let result = ToolResult { text: text_of(&texts), ..result };
    [Part::ToolResult(result)].into_iter().chain(others).collect()
}

fn tool_call(call: &Value) -> Part {
    let function = ["function", "custom"].iter().find_map(|kind| call.get(*kind)).unwrap_or(call);
    let id = call.get("id").and_then(Value::as_str).unwrap_or_default();
    let arguments = ["arguments", "input"].iter().find_map(|name| function.get(*name));
    match (function.get("name").and_then(Value::as_str), arguments) {
        (Some(name), Some(arguments)) => called(id, name, arguments.clone()),
        _ => Part::Unknown(call.clone()),
    }
}

/// A tool call; its arguments may be a string of JSON.
pub(super) fn called(id: &str, name: &str, arguments: Value) -> Part {
    let object = arguments.as_str().and_then(|text| serde_json::from_str::<Map<String, Value>>(text).ok());
    let arguments = object.map_or(arguments, Value::Object);
    Part::ToolCall(ToolCall { id: id.into(), name: name.into(), arguments })
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
        assert_eq!(
            (record.entries.len(), record.head, record.created),
            (2, Some(record.entries[1].id), 1741089600000)
        );
        assert_eq!(record.entries[0].message.content(), "Look:\nhere");
        let answer = record.entries[1].answer.as_ref().unwrap();
        let thinking = record.entries[1].message.thinking.as_deref();
        assert_eq!((thinking, answer.model.as_str()), (Some("Hm."), "m"));
        assert!(imported.notes.is_empty());
    }

    #[test]
    fn calls_and_results_of_tools_are_parts_and_unknown_roles_stay() {
        let imported = read_all(json!({ "messages": [
            { "role": "user", "content": "2+2?" },
            { "role": "assistant", "content": null, "tool_calls": [
                { "id": "1", "type": "function", "function": { "name": "sum", "arguments": "{\"a\":2}" } },
                { "id": "2", "type": "custom", "custom": { "name": "look", "input": "there" } }, { "odd": 1 }] },
            { "role": "tool", "tool_call_id": "1", "content": [{ "type": "text", "text": "4" }] },
            { "role": "critic", "content": "Good." },
            { "role": "assistant", "content": "Four." },
        ]}))
        .unwrap();
        let entries = imported.record.entries;
        let call = |id: &str, name: &str, arguments| {
            Part::ToolCall(ToolCall { id: id.into(), name: name.into(), arguments })
        };
        let result = ToolResult { id: "1".into(), name: String::new(), text: "4".into() };
        let expected = [
            (Role::User, vec![Part::text("2+2?")]),
            (
                Role::Assistant,
                vec![
                    call("1", "sum", json!({ "a": 2 })),
                    call("2", "look", json!("there")),
                    Part::Unknown(json!({ "odd": 1 })),
                ],
            ),
            (Role::Tool, vec![Part::ToolResult(result)]),
            (Role::Other("critic".into()), vec![Part::text("Good.")]),
            (Role::Assistant, vec![Part::text("Four.")]),
        ];
        assert_eq!(entries.len(), expected.len());
        for (entry, (role, parts)) in entries.iter().zip(expected) {
            assert_eq!((&entry.message.role, &entry.message.parts), (&role, &parts));
        }
        assert_eq!(
            imported.notes,
            ["a message of an unknown role, 'critic', is kept, and no model is given it"]
        );
    }

    #[test]
    fn what_holds_no_message_is_refused() {
        assert!(read_all(json!({ "messages": 3 })).is_err());
        assert!(read_all(json!({ "messages": [] })).is_err());
        assert!(read_all(json!({ "messages": [null, { "role": "user", "content": "" }] })).is_err());
    }
}
