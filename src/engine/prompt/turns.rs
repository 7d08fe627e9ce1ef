//! Messages → the turns for a chat template, and the content in them.
//!
//! A template takes text, tool calls and tool results. Media become a mention; messages and parts unknown to
//! this build are left out, and the notes say so. Below: turns that suit every template ([`repair`]), and the
//! forms for templates without a system role or without tools.

use serde_json::{Map, Value};

use super::markers::Transform;
use crate::chat::fences::fenced;
use crate::chat::message::join_parts;
use crate::chat::part::ToolResult;
use crate::chat::{Message, Part, Role};

/// A message as templates see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    pub role: Role,
    pub content: String,
    /// The thinking before an answer; the template decides whether to show it to the model again.
    pub thinking: Option<String>,
    /// The tool calls of an answer.
    pub calls: Vec<Call>,
    /// For a tool result: the id of the call and the tool's name; either may be empty.
    pub answers: Option<(String, String)>,
}

/// A tool call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    pub id: String,
    pub name: String,
    pub arguments: Value,
}

impl Turn {
    pub fn new(role: Role, content: impl Into<String>) -> Turn {
        Turn { role, content: content.into(), thinking: None, calls: Vec::new(), answers: None }
    }

    pub(super) fn has_tools(&self) -> bool {
        self.role == Role::Tool || !self.calls.is_empty()
    }

    /// Its size in bytes.
    pub(super) fn bytes(&self) -> usize {
        let call = |call: &Call| call.name.len() + call.arguments.to_string().len();
        let calls: usize = self.calls.iter().map(call).sum();
        self.content.len() + self.thinking.as_ref().map_or(0, String::len) + calls
    }
}

/// The turns, and a note for each kind of thing left out or replaced.
pub(super) fn turns<'m>(messages: impl IntoIterator<Item = &'m Message>) -> (Vec<Turn>, Vec<String>) {
    let (mut turns, mut notes) = (Vec::new(), Vec::new());
    for message in messages {
        if let Role::Other(name) = &message.role {
            note(
                &mut notes,
                format!("messages of an unknown role, '{}', are not given to the model", name.escape_debug()),
            );
            continue;
        }
        add(message, &mut turns);
        for part in &message.parts {
            match part {
                Part::Media(_) => note(
                    &mut notes,
                    "images and recordings are only named to the model: it cannot see or hear them".into(),
                ),
                Part::Unknown(_) => {
                    note(&mut notes, "parts of an unknown kind are not given to the model".into())
                }
                _ => {}
            }
        }
    }
    (turns, notes)
}

fn note(notes: &mut Vec<String>, note: String) {
    if !notes.contains(&note) {
        notes.push(note);
    }
}

/// Each tool result becomes a turn; the rest of a message becomes one turn.
fn add(message: &Message, turns: &mut Vec<Turn>) {
    let mut turn = Turn { thinking: message.thinking.clone(), ..Turn::new(message.role.clone(), "") };
    let (mut contents, mut results) = (Vec::new(), Vec::new());
    for part in &message.parts {
        match part {
            Part::ToolCall(call) => turn.calls.push(Call {
                id: call.id.clone(),
                name: call.name.clone(),
                arguments: call.arguments.clone(),
            }),
            Part::ToolResult(result) => results.push(result),
            other => contents.push(other.content()),
        }
    }
    let content = join_parts(contents.iter().map(AsRef::as_ref));
    let result = |ToolResult { id, name, text }: &ToolResult| Turn {
        answers: Some((id.clone(), name.clone())),
        ..Turn::new(Role::Tool, text.clone())
    };
    let before = turns.len();
    turns.extend(results.into_iter().map(result));
    match turns.get_mut(before..).and_then(<[Turn]>::last_mut) {
        Some(last) if message.role == Role::Tool => {
            last.content = join_parts([last.content.as_str(), &content])
        }
        _ => turns.push(Turn { content, ..turn }),
    }
}

impl Turn {
    /// All texts in it that people or models wrote.
    pub(super) fn texts(&self) -> Vec<&str> {
        let mut texts = vec![self.content.as_str()];
        texts.extend(self.thinking.as_deref());
        for call in &self.calls {
            texts.extend([call.id.as_str(), &call.name]);
            texts_of(&call.arguments, &mut texts);
        }
        texts.extend(self.answers.iter().flat_map(|(id, name)| [id.as_str(), name]));
        texts
    }

    /// The same turn with `transform` applied to all its texts.
    pub(super) fn transformed(&self, transform: Transform) -> Turn {
        let call = |call: &Call| Call {
            id: transform(&call.id),
            name: transform(&call.name),
            arguments: transformed(&call.arguments, transform),
        };
        Turn {
            role: self.role.clone(),
            content: transform(&self.content),
            thinking: self.thinking.as_deref().map(transform),
            calls: self.calls.iter().map(call).collect(),
            answers: self.answers.as_ref().map(|(id, name)| (transform(id), transform(name))),
        }
    }
}

/// The texts in a value, including field names.
pub(super) fn texts_of<'v>(value: &'v Value, texts: &mut Vec<&'v str>) {
    match value {
        Value::String(text) => texts.push(text),
        Value::Array(items) => items.iter().for_each(|item| texts_of(item, texts)),
        Value::Object(fields) => fields.iter().for_each(|(name, field)| {
            texts.push(name);
            texts_of(field, texts);
        }),
        _ => {}
    }
}

fn transformed(value: &Value, transform: Transform) -> Value {
    match value {
        Value::String(text) => transform(text).into(),
        Value::Array(items) => items.iter().map(|item| transformed(item, transform)).collect(),
        Value::Object(fields) => {
            let field = |(name, value): (&String, &Value)| (transform(name), transformed(value, transform));
            Value::Object(fields.iter().map(field).collect::<Map<String, Value>>())
        }
        other => other.clone(),
    }
}

/// Makes turns suit every template, otherwise keeping their order:
/// - drops an assistant turn of only white space (a failed or cancelled answer);
/// - merges all system messages into one at the start: templates reject or ignore later ones, and at the
///   start an instruction keeps its rank;
/// - merges neighbours of the same role, separated by a blank line; tool calls and results stay separate.
///
/// A single empty system or user message stays: the former disables a template's default system prompt.
pub(super) fn repair(turns: &[Turn]) -> Vec<Turn> {
    let blank =
        |turn: &Turn| turn.role == Role::Assistant && turn.content.trim().is_empty() && turn.calls.is_empty();
    let (system, others): (Vec<&Turn>, Vec<&Turn>) =
        turns.iter().filter(|turn| !blank(turn)).partition(|turn| turn.role == Role::System);
    let mut repaired: Vec<Turn> = Vec::new();
    for turn in system.into_iter().chain(others) {
        match repaired.last_mut() {
            Some(last) if last.role == turn.role && !last.has_tools() && !turn.has_tools() => {
                last.content = join_parts([last.content.as_str(), &turn.content])
            }
            _ => repaired.push(turn.clone()),
        }
    }
    repaired
}

/// The same conversation for a template without tools: calls and results become text of the answer.
pub(super) fn said(turns: &[Turn]) -> Vec<Turn> {
    let said = |turn: &Turn| {
        let mut content = match &turn.answers {
            Some((_, name)) => fenced(if name.is_empty() { "tool" } else { name }, &turn.content),
            None => turn.content.clone(),
        };
        for call in &turn.calls {
            let arguments = call.arguments.as_str().map_or_else(|| call.arguments.to_string(), String::from);
            content = join_parts([content.as_str(), &fenced(&call.name, &arguments)]);
        }
        let role = if turn.has_tools() { Role::Assistant } else { turn.role.clone() };
        Turn { thinking: turn.thinking.clone(), ..Turn::new(role, content) }
    };
    turns.iter().map(said).collect()
}

/// Merges a leading system turn into the first user turn, or turns it into one if there is none.
pub(super) fn merge_system(turns: &[Turn]) -> Vec<Turn> {
    let Some((system, rest)) = turns.split_first().filter(|(first, _)| first.role == Role::System) else {
        return turns.to_vec();
    };
    let mut rest = rest.to_vec();
    match rest.iter_mut().find(|turn| turn.role == Role::User) {
        Some(user) => user.content = join_parts([system.content.as_str(), &user.content]),
        None if system.content.is_empty() => {}
        None => rest.insert(0, Turn::new(Role::User, system.content.clone())),
    }
    rest
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::chat::part::{Media, MediaKind, ToolCall};

    #[test]
    fn results_are_turns_and_what_is_not_known_is_left_out_with_a_note() {
        let call = ToolCall { id: "1".into(), name: "sum".into(), arguments: json!({ "a": "b" }) };
        let result = ToolResult { id: "1".into(), name: "sum".into(), text: "4".into() };
        let odd = Part::Unknown(json!({ "type": "hologram" }));
        let message = |role, parts| Message { role, parts, thinking: None };
        let image = || Part::Media(Media::new(MediaKind::Image));
        let messages = [
            message(Role::User, vec![image(), Part::text("2+2?"), odd]),
            message(Role::Assistant, vec![Part::text("Well."), Part::ToolCall(call)]),
            message(Role::Tool, vec![Part::ToolResult(result), image()]),
            message(Role::Other("critic".into()), vec![Part::text("no")]),
        ];
        let (turns, notes) = turns(&messages);
        let texts: Vec<Vec<&str>> = turns.iter().map(Turn::texts).collect();
        let expected =
            [vec!["[image]\n\n2+2?"], vec!["Well.", "1", "sum", "a", "b"], vec!["4\n\n[image]", "1", "sum"]];
        assert_eq!(texts, expected);
        assert_eq!(turns[2].role, Role::Tool);
        let expected = [
            "images and recordings are only named to the model: it cannot see or hear them",
            "parts of an unknown kind are not given to the model",
            "messages of an unknown role, 'critic', are not given to the model",
        ];
        assert_eq!(notes, expected);
        let loud = turns[1].transformed(&|text| text.to_uppercase());
        assert_eq!(loud.texts(), ["WELL.", "1", "SUM", "A", "B"]);
    }

    fn user(content: &str) -> Turn {
        Turn::new(Role::User, content)
    }

    fn assistant(content: &str) -> Turn {
        Turn::new(Role::Assistant, content)
    }

    fn system(content: &str) -> Turn {
        Turn::new(Role::System, content)
    }

    #[test]
    fn repair_alternates_roles_behind_one_system_message() {
        let turns =
            [user("a"), user("b"), assistant(" \n"), user("c"), system("S"), assistant("d"), system("T")];
        assert_eq!(repair(&turns), [system("S\n\nT"), user("a\n\nb\n\nc"), assistant("d")]);
        let fine = [system(""), user(""), assistant("x")];
        assert_eq!(repair(&fine), fine);
    }
}
