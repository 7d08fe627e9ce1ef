//! A conversation → a file: Markdown or plain text to be read by people, JSON for programs and for coming back (native.rs).
//!
//! Markdown and text show the path to the head and say how many branches they do not show.

use std::io::{self, Write};
use std::path::Path;

use super::{native, time};
use crate::chat::Role;
use crate::chat::fences::{fenced, open_fence};
use crate::chat::record::{Entry, Record};
use crate::units::count;

/// What a conversation is written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// For reading, with headings, thinking folded away.
    Markdown,
    /// One line of JSON: OpenAI's messages, and beside them all that is needed to get the conversation back.
    Json,
    /// For reading without any markup, thinking left out.
    Text,
}

impl Format {
    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Format::Markdown => "Markdown",
            Format::Json => "JSON",
            Format::Text => "text",
        }
    }

    /// What a file's name asks for.
    pub fn of(file: &Path) -> Option<Format> {
        match file.extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "md" | "markdown" => Some(Format::Markdown),
            "json" | "jsonl" => Some(Format::Json),
            "txt" | "text" => Some(Format::Text),
            _ => None,
        }
    }
}

/// Several conversations may be written one after the other; as JSON they are JSON lines, which `import` reads.
pub fn export(record: &Record, format: Format, out: &mut dyn Write) -> io::Result<()> {
    match format {
        Format::Markdown => markdown(record, out),
        Format::Json => native::write(record, out),
        Format::Text => text(record, out),
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
    let mut dropped = 0;
    for index in record.path() {
        let entry = &record.entries[index];
        if let Some(line) = not_seen(entry, &mut dropped) {
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
    let model = entry.answer.as_ref().map_or("", |answer| answer.model.as_str());
    match entry.role {
        Role::System => writeln!(out, "## System\n")?,
        Role::User => writeln!(out, "## User\n")?,
        Role::Assistant if model.is_empty() => writeln!(out, "## Assistant\n")?,
        Role::Assistant => writeln!(out, "## Assistant ({})\n", line(model))?,
    }
    for attachment in &entry.attachments {
        let name = line(&attachment.name).replace('`', "'");
        writeln!(out, "`{name}`:\n\n{}\n", fenced("", &attachment.text))?;
    }
    if let Some(thinking) = entry.answer.as_ref().and_then(|answer| answer.thinking.as_deref()) {
        writeln!(out, "<details>\n<summary>Thinking</summary>\n")?;
        for line in closed(thinking).lines() {
            writeln!(out, "{}", format!("> {line}").trim_end())?;
        }
        writeln!(out, "\n</details>\n")?;
    }
    writeln!(out, "{}\n", closed(&entry.text))
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
    let mut dropped = 0;
    for index in record.path() {
        let entry = &record.entries[index];
        let model = entry.answer.as_ref().map_or("", |answer| answer.model.as_str());
        if let Some(line) = not_seen(entry, &mut dropped) {
            writeln!(out, "({line})\n")?;
        }
        match entry.role {
            Role::System => writeln!(out, "System:")?,
            Role::User => writeln!(out, "You:")?,
            Role::Assistant if model.is_empty() => writeln!(out, "Assistant:")?,
            Role::Assistant => writeln!(out, "{}:", line(model))?,
        }
        for attachment in &entry.attachments {
            let (name, text) = (line(&attachment.name), attachment.text.trim_end());
            writeln!(out, "--- {name} ---\n{text}\n--- end of {name} ---")?;
        }
        writeln!(out, "{}\n", entry.text.trim_end())?;
    }
    match not_shown(record) {
        Some(line) => writeln!(out, "({line})\n"),
        None => Ok(()),
    }
}

/// What the model that gave this answer no longer saw, where that is not what it was before.
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

/// `2026-11-26, 3fa90011…`, as far as they are known.
fn day_and_id(record: &Record) -> Option<String> {
    let id = Some(record.id.clone()).filter(|id| !id.is_empty());
    let known: Vec<String> = [time::day(record.created), id].into_iter().flatten().collect();
    (!known.is_empty()).then(|| known.join(", "))
}

fn title(record: &Record) -> String {
    let title = line(&record.title);
    if title.is_empty() { "Conversation".to_string() } else { title }
}

/// On one line.
fn line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Markdown that does not swallow what follows it.
fn closed(text: &str) -> String {
    let text = text.trim_end();
    match open_fence(text) {
        Some(fence) => format!("{text}\n{fence}"),
        None => text.to_string(),
    }
}

/// Says how many branches end outside the path to the head.
fn not_shown(record: &Record) -> Option<String> {
    let mut ends = vec![true; record.entries.len()];
    for parent in record.entries.iter().filter_map(|entry| entry.parent) {
        ends[parent] = false;
    }
    for index in record.path() {
        ends[index] = false;
    }
    match ends.iter().filter(|end| **end).count() {
        0 => None,
        1 => Some("One other branch of this conversation is not shown.".into()),
        more => Some(format!("{more} other branches of this conversation are not shown.")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::Attachment;
    use crate::chat::record::Answer;

    fn entry(parent: Option<usize>, role: Role, text: &str) -> Entry {
        Entry { parent, role, text: text.into(), attachments: Vec::new(), created: None, answer: None }
    }

    fn conversation() -> Record {
        let mut entries = vec![
            entry(None, Role::User, "Why?"),
            entry(Some(0), Role::Assistant, "Because.\n\n```\ncut"),
            entry(Some(0), Role::Assistant, "Another."),
        ];
        entries[0].attachments.push(Attachment::new("a.md", "```\nx\n```"));
        entries[1].answer =
            Some(Answer { thinking: Some("Hm.\n\nYes.".into()), model: "tiny".into(), ..Answer::default() });
        Record {
            title: "Why\nand how".into(),
            created: 1741089600000,
            system: Some("Be brief.".into()),
            entries,
            head: Some(1),
            ..Record::default()
        }
    }

    fn exported(format: Format) -> String {
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
        assert_eq!(exported(Format::Markdown), expected);
    }

    #[test]
    fn text_has_names_and_nothing_else() {
        let expected = "Why and how\n2025-03-04\n\nSystem:\nBe brief.\n\nYou:\n--- a.md ---\n```\nx\n```\n\
            --- end of a.md ---\nWhy?\n\ntiny:\nBecause.\n\n```\ncut\n\n\
            (One other branch of this conversation is not shown.)\n\n";
        assert_eq!(exported(Format::Text), expected);
    }

    #[test]
    fn what_the_model_no_longer_saw_is_told() {
        let mut record = conversation();
        let answer = record.entries[1].answer.as_mut().unwrap();
        (answer.dropped, answer.summary) = (4, Some("They\nmet.".into()));
        let mut out = Vec::new();
        export(&record, Format::Text, &mut out).unwrap();
        let told = "(From here on the model no longer saw the first 4 messages, but this summary of its own: They met.)";
        assert!(String::from_utf8(out).unwrap().contains(&format!("Why?\n\n{told}\n\ntiny:")));
    }

    #[test]
    fn json_is_one_line_that_other_programs_know() {
        let json = exported(Format::Json);
        assert_eq!(json.find('\n'), Some(json.len() - 1));
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(value["fireside"], 1);
        let messages = serde_json::json!([
            { "role": "system", "content": "Be brief." },
            { "role": "user", "content": "```\nx\n```\n\nWhy?" },
            { "role": "assistant", "content": "Because.\n\n```\ncut" },
        ]);
        assert_eq!(value["messages"], messages);
    }

    #[test]
    fn a_files_name_says_what_it_is_to_be() {
        assert_eq!(Format::of(Path::new("a/b.MD")), Some(Format::Markdown));
        assert_eq!(Format::of(Path::new("b.jsonl")), Some(Format::Json));
        assert_eq!(Format::of(Path::new("txt")), None);
    }
}
