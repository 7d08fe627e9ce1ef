//! One message of a conversation: its role and its parts. Plain data.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::part::{Attachment, Part, Text};
use super::settings::Auto;

/// The role of a message, in the terms of chat templates.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum Role {
    System,
    User,
    Assistant,
    /// Results of tools.
    Tool,
    /// A role that this version does not know, by name: saved and shown, but not given to a model.
    Other(String),
}

impl Role {
    pub fn name(&self) -> &str {
        match self {
            Role::System => "system",
            Role::User => "user",
            Role::Assistant => "assistant",
            Role::Tool => "tool",
            Role::Other(name) => name,
        }
    }

    /// Whether it belongs to the model's side: an answer, or the results of its tool calls.
    pub fn answers(&self) -> bool {
        matches!(self, Role::Assistant | Role::Tool)
    }
}

impl From<String> for Role {
    fn from(name: String) -> Role {
        match name.as_str() {
            "system" => Role::System,
            "user" => Role::User,
            "assistant" => Role::Assistant,
            "tool" => Role::Tool,
            _ => Role::Other(name),
        }
    }
}

impl From<Role> for String {
    fn from(role: Role) -> String {
        role.name().to_string()
    }
}

/// A message. Text-only models get [`Message::content`]; the separate parts can be edited.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Message {
    pub role: Role,
    /// In order: files come before the text about them.
    pub parts: Vec<Part>,
    /// The thinking before an answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thinking: Option<String>,
}

impl Message {
    /// One part of text; none for an empty text.
    pub fn new(role: Role, text: impl Into<String>) -> Message {
        let mut message = Message { role, parts: Vec::new(), thinking: None };
        message.push_str(&text.into());
        message
    }

    /// Adds files before all other parts.
    pub fn with_files(mut self, files: impl IntoIterator<Item = Attachment>) -> Message {
        self.parts.splice(0..0, files.into_iter().map(Part::File));
        self
    }

    /// Decides which files get a header; auto: those that have one already, and all of them if there are several.
    pub fn with_headers(mut self, wanted: Auto) -> Message {
        let several = self.files().count() > 1;
        for part in &mut self.parts {
            if let Part::File(file) = part {
                file.header = match wanted {
                    Auto::On => true,
                    Auto::Off => false,
                    Auto::Auto => file.header || several,
                };
            }
        }
        self
    }

    pub fn files(&self) -> impl Iterator<Item = &Attachment> {
        self.parts.iter().filter_map(|part| match part {
            Part::File(file) => Some(file),
            _ => None,
        })
    }

    /// The text parts, separated by blank lines.
    pub fn text(&self) -> Cow<'_, str> {
        let mut texts = self.parts.iter().filter_map(|part| match part {
            Part::Text(Text { text }) => Some(text.as_str()),
            _ => None,
        });
        match (texts.next(), texts.next()) {
            (text, None) => text.unwrap_or_default().into(),
            (first, second) => join_parts(first.into_iter().chain(second).chain(texts)).into(),
        }
    }

    /// The end of the message that another question about the same documents replaces: the text after files, or the
    /// last paragraph of a text that stands alone.
    pub fn question(&self) -> &str {
        match &self.parts[..] {
            [Part::Text(Text { text })] => text.rsplit_once("\n\n").map_or(text, |(_, last)| last),
            [.., Part::Text(Text { text })] => text,
            _ => "",
        }
    }

    /// Replaces the text parts and keeps the others.
    pub fn set_text(&mut self, text: &str) {
        self.parts.retain(|part| !matches!(part, Part::Text(_)));
        if !text.is_empty() {
            self.parts.push(Part::text(text));
        }
    }

    /// Appends to the text.
    pub fn push_str(&mut self, more: &str) {
        match self.parts.last_mut() {
            _ if more.is_empty() => {}
            Some(Part::Text(Text { text })) => text.push_str(more),
            _ => self.parts.push(Part::text(more)),
        }
    }

    /// All parts as text, for text-only models, separated by blank lines.
    pub fn content(&self) -> String {
        let contents: Vec<Cow<str>> = self.parts.iter().map(Part::content).collect();
        join_parts(contents.iter().map(Cow::as_ref))
    }

    /// All parts but the files as text, for search.
    pub fn said(&self) -> Cow<'_, str> {
        if let [Part::Text(Text { text })] = &self.parts[..] {
            return text.into();
        }
        let others = self.parts.iter().filter(|part| !matches!(part, Part::File(_)));
        let others: Vec<Cow<str>> = others.map(Part::content).collect();
        join_parts(others.iter().map(Cow::as_ref)).into()
    }

    /// The message in lists: `[a.txt] ` for each file, then the other parts as text.
    pub fn in_short(&self) -> String {
        self.files().map(|file| format!("[{}] ", file.name)).collect::<String>() + &self.said()
    }
}

/// Joins parts with blank lines; skips empty ones.
pub fn join_parts<'a>(parts: impl IntoIterator<Item = &'a str>) -> String {
    let parts: Vec<&str> = parts.into_iter().filter(|p| !p.is_empty()).collect();
    parts.join("\n\n")
}

/// Removes one trailing newline (`\n` or `\r\n`), which editors and `echo` add.
pub fn without_final_newline(mut text: String) -> String {
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    text
}

/// Removes the byte order mark that some programs write before a text; it is not part of the text.
pub fn without_mark(mut text: String) -> String {
    if text.starts_with('\u{feff}') {
        text.drain(..'\u{feff}'.len_utf8());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_what_comes_after_the_documents() {
        let alone = Message::new(Role::User, "A report.\n\nIts end.\n\nWhat is it?");
        assert_eq!(alone.question(), "What is it?");
        let file = Attachment::new("a.txt", "A report.");
        let attached = Message::new(Role::User, "What is it?\n\nIn one line.").with_files([file.clone()]);
        assert_eq!(attached.question(), "What is it?\n\nIn one line.");
        assert_eq!(Message::new(Role::User, "").with_files([file]).question(), "");
    }

    #[test]
    fn attachments_come_before_the_instruction() {
        let message =
            Message::new(Role::User, "Summarise.").with_files([Attachment::new("a.txt", "one\ntwo")]);
        assert_eq!(message.content(), "one\ntwo\n\nSummarise.");
        let message = message.with_headers(Auto::Auto);
        assert_eq!(message.content(), "one\ntwo\n\nSummarise.", "one alone");
        assert_eq!(message.with_headers(Auto::On).content(), "a.txt:\n```\none\ntwo\n```\n\nSummarise.");
    }

    #[test]
    fn roles_keep_their_names_known_or_not() {
        for name in ["system", "user", "assistant", "tool", "critic", "", "User"] {
            let role: Role = serde_json::from_value(name.into()).unwrap();
            assert_eq!((role.name(), serde_json::to_value(&role).unwrap()), (name, name.into()));
            assert_eq!(matches!(role, Role::Other(_)), ["critic", "", "User"].contains(&name));
        }
    }

    #[test]
    fn text_can_be_added_and_replaced_beside_other_parts() {
        let mut message = Message::new(Role::Assistant, "");
        assert_eq!((message.parts.len(), message.text().as_ref()), (0, ""));
        message.push_str("a");
        message.push_str("b");
        message.parts.push(Part::Unknown(1.into()));
        message.push_str("c");
        assert_eq!((message.parts.len(), message.text().as_ref()), (3, "ab\n\nc"));
        message.set_text("d");
        assert_eq!(message.parts, [Part::Unknown(1.into()), Part::text("d")]);
        assert_eq!(message.content(), "d");
    }

    #[test]
    fn one_mark_goes_from_the_beginning() {
        assert_eq!(without_mark("\u{feff}\u{feff}a\u{feff}".into()), "\u{feff}a\u{feff}");
        assert_eq!(without_mark("\u{feff}".into()), "");
    }

    #[test]
    fn one_final_newline_goes_and_no_more() {
        assert_eq!(without_final_newline("a\n\n".into()), "a\n");
        assert_eq!(without_final_newline("a\r\n".into()), "a");
        assert_eq!(without_final_newline("a".into()), "a");
    }
}
