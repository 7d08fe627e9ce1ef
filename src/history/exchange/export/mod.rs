//! A conversation → a file: Markdown or plain text for reading, JSON for programs and for importing again
//! (native.rs).
//!
//! Markdown and text show the path to the head and state how many branches they omit.

mod native;

use std::borrow::Cow;
use std::collections::HashSet;
use std::io::{self, Write};
use std::path::Path;

use super::time;
use crate::chat::fences::{fenced, open_fence};
use crate::chat::record::{Entry, Record};
use crate::chat::{MessageId, Part, Role};
use crate::units::count;

/// The format of an exported conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExportFormat {
    /// For reading: with headings; thinking is collapsed.
    Markdown,
    /// One line of JSON: OpenAI's messages, and everything needed to restore the conversation.
    Json,
    /// For reading without markup; thinking is omitted.
    Text,
}

impl ExportFormat {
    /// The name for people.
    pub fn name(self) -> &'static str {
        match self {
            ExportFormat::Markdown => "Markdown",
            ExportFormat::Json => "JSON",
            ExportFormat::Text => "text",
        }
    }

    /// The format for a file name's extension.
    pub fn of(file: &Path) -> Option<ExportFormat> {
        match file.extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "md" | "markdown" => Some(ExportFormat::Markdown),
            "json" | "jsonl" => Some(ExportFormat::Json),
            "txt" | "text" => Some(ExportFormat::Text),
            _ => None,
        }
    }
}

/// Writes one conversation. Several can follow each other; in JSON they form JSON lines, which `import`
/// reads.
pub fn export(record: &Record, format: ExportFormat, out: &mut dyn Write) -> io::Result<()> {
    match format {
        ExportFormat::Markdown => markdown(record, out),
        ExportFormat::Json => native::write(record, out),
        ExportFormat::Text => text(record, out),
    }
}

fn markdown(record: &Record, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "# {}\n", title(record))?;
    if let Some(line) = day_and_id(record) {
        writeln!(out, "{line}\n")?;
    }
    if let Some(system) = &record.system {
        writeln!(out, "## System\n\n{}\n", closed(system))?;
    }
    let mut left = 0;
    for entry in record.path() {
        if let Some(line) = not_seen(entry, &mut left) {
            writeln!(out, "*{line}*\n")?;
        }
        markdown_message(entry, out)?;
    }
    match not_shown(record) {
        Some(line) => writeln!(out, "---\n\n*{line}*\n"),
        None => Ok(()),
    }
}

fn markdown_message(entry: &Entry, out: &mut dyn Write) -> io::Result<()> {
    match &entry.message.role {
        Role::System => writeln!(out, "## System\n")?,
        Role::User => writeln!(out, "## User\n")?,
        Role::Assistant => match model(entry) {
            "" => writeln!(out, "## Assistant\n")?,
            model => writeln!(out, "## Assistant ({})\n", line(model))?,
        },
        Role::Tool => writeln!(out, "## Tool\n")?,
        Role::Other(name) => writeln!(out, "## Unknown role ({})\n", line(name))?,
    }
    if let Some(thinking) = &entry.message.thinking {
        writeln!(out, "<details>\n<summary>Thinking</summary>\n")?;
        for line in closed(thinking).lines() {
            writeln!(out, "{}", format!("> {line}").trim_end())?;
        }
        writeln!(out, "\n</details>\n")?;
    }
    for part in &entry.message.parts {
        let code = |name: &str| format!("`{}`", line(name).replace('`', "'"));
        match part {
            Part::Text(_) | Part::Media(_) => writeln!(out, "{}\n", closed(&part.content()))?,
            Part::File(file) => {
                writeln!(out, "{}:\n\n{}\n", code(&file.name), fenced(&file.language, &file.text))?
            }
            Part::ToolCall(call) => {
                writeln!(out, "Call of {}:\n\n{}\n", code(&call.name), fenced("", &call.arguments_text()))?
            }
            Part::ToolResult(result) => {
                writeln!(out, "Result of {}:\n\n{}\n", code(result.title()), fenced("", &result.text))?
            }
            Part::Unknown(value) => {
                writeln!(out, "A part of an unknown kind:\n\n{}\n", fenced("json", &value.to_string()))?
            }
        }
    }
    if entry.message.parts.is_empty() {
        writeln!(out, "\n")?;
    }
    Ok(())
}

/// The model that gave an answer; empty if unknown.
fn model(entry: &Entry) -> &str {
    entry.answer.as_ref().map_or("", |answer| answer.model.as_str())
}

fn text(record: &Record, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "{}", title(record))?;
    if let Some(line) = day_and_id(record) {
        writeln!(out, "{line}")?;
    }
    writeln!(out)?;
    if let Some(system) = &record.system {
        writeln!(out, "System:\n{}\n", system.trim_end())?;
    }
    let mut left = 0;
    for entry in record.path() {
        if let Some(line) = not_seen(entry, &mut left) {
            writeln!(out, "({line})\n")?;
        }
        match &entry.message.role {
            Role::System => writeln!(out, "System:")?,
            Role::User => writeln!(out, "You:")?,
            Role::Assistant => match model(entry) {
                "" => writeln!(out, "Assistant:")?,
                model => writeln!(out, "{}:", line(model))?,
            },
            Role::Tool => writeln!(out, "Tool:")?,
            Role::Other(name) => writeln!(out, "Unknown role ({}):", line(name))?,
        }
        for part in &entry.message.parts {
            match titled(part) {
                (Some(title), text) => {
                    writeln!(out, "--- {title} ---\n{}\n--- end of {title} ---", text.trim_end())?
                }
                (None, text) => writeln!(out, "{}", text.trim_end())?,
            }
        }
        writeln!(out)?;
    }
    match not_shown(record) {
        Some(line) => writeln!(out, "({line})\n"),
        None => Ok(()),
    }
}

/// A part as plain text; with a title unless it is part of the conversation itself.
fn titled(part: &Part) -> (Option<String>, Cow<'_, str>) {
    match part {
        Part::Text(_) | Part::Media(_) => (None, part.content()),
        Part::File(file) => (Some(line(&file.name)), file.text.as_str().into()),
        Part::ToolCall(call) => (Some(format!("call of {}", line(&call.name))), call.arguments_text().into()),
        Part::ToolResult(result) => {
            (Some(format!("result of {}", line(result.title()))), result.text.as_str().into())
        }
        Part::Unknown(value) => (Some("part of an unknown kind".into()), value.to_string().into()),
    }
}

/// Reports how many messages the model no longer saw from this answer on, if that has changed.
fn not_seen(entry: &Entry, before: &mut u32) -> Option<String> {
    let answer = entry.answer.as_ref()?;
    if std::mem::replace(before, answer.dropped) == answer.dropped {
        return None;
    }
    let messages = count(answer.dropped, "message");
    match &answer.summary {
        _ if answer.dropped == 0 => Some("From here on the model saw the whole conversation.".into()),
        None => Some(format!("From here on the model no longer saw the first {messages}.")),
        Some(summary) => Some(format!(
            "From here on the model no longer saw the first {messages}, but this summary of its own: {}",
            line(summary)
        )),
    }
}

/// `2026-11-26, 3fa90011…`, as far as known.
fn day_and_id(record: &Record) -> Option<String> {
    let id = Some(record.id.clone()).filter(|id| !id.is_empty());
    let known: Vec<String> = [time::day(record.created), id].into_iter().flatten().collect();
    (!known.is_empty()).then(|| known.join(", "))
}

fn title(record: &Record) -> String {
    let title = line(&record.title);
    if title.is_empty() { "Conversation".to_string() } else { title }
}

/// Joins text into one line.
fn line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Closes an open code fence, so that it does not swallow the text after it.
fn closed(text: &str) -> String {
    let text = text.trim_end();
    match open_fence(text) {
        Some(fence) => format!("{text}\n{fence}"),
        None => text.to_string(),
    }
}

/// Reports the number of branches that are not shown.
fn not_shown(record: &Record) -> Option<String> {
    let mut inner: HashSet<MessageId> = record.entries.iter().filter_map(|entry| entry.parent).collect();
    inner.extend(record.path().into_iter().map(|entry| entry.id));
    match record.entries.iter().filter(|entry| !inner.contains(&entry.id)).count() {
        0 => None,
        1 => Some("One other branch of this conversation is not shown.".into()),
        more => Some(format!("{more} other branches of this conversation are not shown.")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::part::{Media, MediaKind, ToolCall, ToolResult};
    use crate::chat::record::AnswerRecord;
    use crate::chat::{Attachment, Message};

    fn entry(name: &str, parent: Option<&str>, message: Message) -> Entry {
        Entry::new(name.into(), parent.map(MessageId::from), message)
    }

    fn conversation() -> Record {
        let said = |role, text: &str| Message::new(role, text);
        let question = said(Role::User, "Why?").with_files([Attachment::new("a.md", "```\nx\n```")]);
        let answer = said(Role::Assistant, "Because.\n\n```\ncut");
        let answer = Message { thinking: Some("Hm.\n\nYes.".into()), ..answer };
        let figures = Some(Box::new(AnswerRecord { model: "tiny".into(), ..AnswerRecord::default() }));
        let entries = vec![
            entry("q", None, question),
            Entry { answer: figures, ..entry("a", Some("q"), answer) },
            entry("b", Some("q"), said(Role::Assistant, "Another.")),
        ];
        Record {
            title: "Why\nand how".into(),
            created: 1741089600000,
            system: Some("Be brief.".into()),
            head: Some("a".into()),
            entries,
            ..Record::default()
        }
    }

    /// A tool call and its result, and parts and roles that only another build knows.
    fn with_tools() -> Record {
        let call = ToolCall { id: "1".into(), name: "sum".into(), arguments: serde_json::json!({ "a": 2 }) };
        let result = ToolResult { id: "1".into(), name: "sum".into(), text: "4".into() };
        let image = Media { name: Some("a.png".into()), ..Media::new(MediaKind::Image) };
        let unknown = Part::Unknown(serde_json::json!({ "type": "hologram" }));
        let message = |role, parts| Message { role, parts, thinking: None };
        let entries = vec![
            entry("q", None, message(Role::User, vec![Part::Media(image), Part::text("Sum?")])),
            entry("c", Some("q"), message(Role::Assistant, vec![Part::text("Well."), Part::ToolCall(call)])),
            entry("r", Some("c"), message(Role::Tool, vec![Part::ToolResult(result)])),
            entry("o", Some("r"), message(Role::Other("critic".into()), vec![unknown])),
        ];
        Record { title: "Sums".into(), head: Some("o".into()), entries, ..Record::default() }
    }

    #[test]
    fn every_part_and_role_is_shown_and_the_form_of_openai_has_calls() {
        let written = |format| {
            let mut out = Vec::new();
            export(&with_tools(), format, &mut out).unwrap();
            String::from_utf8(out).unwrap()
        };
        let text = "Sums\n\nYou:\n[image: a.png]\nSum?\n\nAssistant:\nWell.\n--- call of sum ---\n{\"a\":2}\n\
            --- end of call of sum ---\n\nTool:\n--- result of sum ---\n4\n--- end of result of sum ---\n\n\
            Unknown role (critic):\n--- part of an unknown kind ---\n{\"type\":\"hologram\"}\n\
            --- end of part of an unknown kind ---\n\n";
        assert_eq!(written(ExportFormat::Text), text);
        let markdown = "# Sums\n\n## User\n\n[image: a.png]\n\nSum?\n\n## Assistant\n\nWell.\n\nCall of `sum`:\n\n\
            ```\n{\"a\":2}\n```\n\n## Tool\n\nResult of `sum`:\n\n```\n4\n```\n\n## Unknown role (critic)\n\n\
            A part of an unknown kind:\n\n```json\n{\"type\":\"hologram\"}\n```\n\n";
        assert_eq!(written(ExportFormat::Markdown), markdown);
        let value: serde_json::Value = serde_json::from_str(&written(ExportFormat::Json)).unwrap();
        let call = serde_json::json!({
            "id": "1", "type": "function", "function": { "name": "sum", "arguments": "{\"a\":2}" } });
        let messages = serde_json::json!([
            { "role": "user", "content": "[image: a.png]\n\nSum?" },
            { "role": "assistant", "content": "Well.", "tool_calls": [call] },
            { "role": "tool", "content": "4", "tool_call_id": "1" },
            { "role": "critic", "content": "" },
        ]);
        assert_eq!(value["messages"], messages);
    }

    fn exported(format: ExportFormat) -> String {
        let mut out = Vec::new();
        export(&conversation(), format, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn markdown_has_headings_and_blocks_that_end() {
        let expected = "# Why and how\n\n2025-03-04\n\n## System\n\nBe brief.\n\n## User\n\n`a.md`:\n\n\
            ````\n```\nx\n```\n````\n\nWhy?\n\n## Assistant (tiny)\n\n<details>\n<summary>Thinking</summary>\n\n\
            > Hm.\n>\n> Yes.\n\n</details>\n\nBecause.\n\n```\ncut\n```\n\n---\n\n\
            *One other branch of this conversation is not shown.*\n\n";
        assert_eq!(exported(ExportFormat::Markdown), expected);
    }

    #[test]
    fn text_has_names_and_nothing_else() {
        let expected = "Why and how\n2025-03-04\n\nSystem:\nBe brief.\n\nYou:\n--- a.md ---\n```\nx\n```\n\
            --- end of a.md ---\nWhy?\n\ntiny:\nBecause.\n\n```\ncut\n\n\
            (One other branch of this conversation is not shown.)\n\n";
        assert_eq!(exported(ExportFormat::Text), expected);
    }

    #[test]
    fn what_the_model_no_longer_saw_is_told() {
        let mut record = conversation();
        let answer = record.entries[1].answer.as_mut().unwrap();
        (answer.dropped, answer.summary) = (4, Some("They\nmet.".into()));
        let mut out = Vec::new();
        export(&record, ExportFormat::Text, &mut out).unwrap();
        let told = "(From here on the model no longer saw the first 4 messages, but this summary of its own: They met.)";
        assert!(String::from_utf8(out).unwrap().contains(&format!("Why?\n\n{told}\n\ntiny:")));
    }

    #[test]
    fn json_is_one_line_that_other_programs_know() {
        let json = exported(ExportFormat::Json);
        assert_eq!(json.find('\n'), Some(json.len() - 1));
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(value["fireside"], 2);
        let messages = serde_json::json!([
            { "role": "system", "content": "Be brief." },
            { "role": "user", "content": "```\nx\n```\n\nWhy?" },
            { "role": "assistant", "content": "Because.\n\n```\ncut" },
        ]);
        assert_eq!(value["messages"], messages);
    }

    #[test]
    fn a_files_name_says_what_it_is_to_be() {
        assert_eq!(ExportFormat::of(Path::new("a/b.MD")), Some(ExportFormat::Markdown));
        assert_eq!(ExportFormat::of(Path::new("b.jsonl")), Some(ExportFormat::Json));
        assert_eq!(ExportFormat::of(Path::new("txt")), None);
    }
}
