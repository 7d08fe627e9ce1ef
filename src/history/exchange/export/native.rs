//! A conversation → fireside's own JSON, on one line, without loss.

use std::borrow::Cow;
use std::io::{self, Write};

use serde::Serialize;
use serde_json::{Value, json};

use crate::chat::record::{Entry, Record};
use crate::chat::{Message, Part, Role};
use crate::history::exchange::native::{Tree, VERSION};

#[derive(Serialize)]
struct File<'a> {
    fireside: u64,
    id: &'a str,
    title: &'a str,
    created: i64,
    changed: i64,
    model: Option<&'a str>,
    system: Option<&'a str>,
    messages: Vec<Openai<'a>>,
    tree: Tree<&'a [Entry]>,
}

/// A message in OpenAI's format.
#[derive(Serialize)]
struct Openai<'a> {
    role: &'a Role,
    content: Cow<'a, str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_call_id: Option<&'a str>,
}

pub(super) fn write(record: &Record, out: &mut dyn Write) -> io::Result<()> {
    let system = record.system.as_deref().map(|text| Openai {
        role: &Role::System,
        content: text.into(),
        tool_calls: Vec::new(),
        tool_call_id: None,
    });
    let path = record.path().into_iter().map(|entry| openai(&entry.message));
    let file = File {
        fireside: VERSION,
        id: &record.id,
        title: &record.title,
        created: record.created,
        changed: record.changed,
        model: record.model.as_deref(),
        system: record.system.as_deref(),
        messages: system.into_iter().chain(path).collect(),
        tree: Tree { entries: &record.entries, head: record.head },
    };
    serde_json::to_writer(&mut *out, &file)?;
    writeln!(out)
}

fn openai(message: &Message) -> Openai<'_> {
    let calls = message.parts.iter().filter_map(|part| match part {
        Part::ToolCall(call) => Some(json!({
            "id": call.id,
            "type": "function",
            "function": { "name": call.name, "arguments": call.arguments_text() },
        })),
        _ => None,
    });
    let result = message.parts.iter().find_map(|part| match part {
        Part::ToolResult(result) => Some(result),
        _ => None,
    });
    // Calls have their own field, and a result is the whole message.
    let content = match (result, &message.parts[..]) {
        (Some(result), [_]) => result.text.as_str().into(),
        _ => {
            let others = message.parts.iter().filter(|part| !matches!(part, Part::ToolCall(_)));
            Message { role: Role::User, parts: others.cloned().collect(), thinking: None }.content().into()
        }
    };
    let tool_call_id = result.map(|result| result.id.as_str());
    Openai { role: &message.role, content, tool_calls: calls.collect(), tool_call_id }
}
