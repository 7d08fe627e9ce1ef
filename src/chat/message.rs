//! One message of a conversation: who speaks, what was typed, what was attached. Plain data.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::fences::fenced;
use super::settings::Auto;

/// Who a message is from, in the words chat templates use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    System,
    User,
    Assistant,
}

impl Role {
    pub fn name(self) -> &'static str {
        match self {
            Role::System => "system",
            Role::User => "user",
            Role::Assistant => "assistant",
        }
    }
}

/// A text file given along with a message. `text` has lost one trailing newline, as piped text has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    pub name: String,
    pub text: String,
    /// The model is given its name and a fence around it; else the text alone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub header: bool,
}

impl Attachment {
    /// Without a header.
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Attachment {
        Attachment { name: name.into(), text: text.into(), header: false }
    }

    /// What the model is given of it.
    pub fn content(&self) -> Cow<'_, str> {
        if !self.header {
            return Cow::Borrowed(&self.text);
        }
        let name = self.name.split_whitespace().collect::<Vec<_>>().join(" "); // on one line, whatever a file is called
        Cow::Owned(format!("{name}:\n{}", fenced("", &self.text)))
    }
}

/// What one party said. The model sees [`Message::content`]; the parts stay apart so that they can be edited.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    pub role: Role,
    pub text: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attachments: Vec<Attachment>,
    /// What a model thought before it said this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thinking: Option<String>,
}

impl Message {
    pub fn new(role: Role, text: impl Into<String>) -> Message {
        Message { role, text: text.into(), attachments: Vec::new(), thinking: None }
    }

    /// Decides which attachments have a header; where that is left to us, all of them if there are several.
    pub fn with_headers(mut self, wanted: Auto) -> Message {
        let header = match wanted {
            Auto::On => true,
            Auto::Off => false,
            Auto::Auto => self.attachments.len() > 1,
        };
        self.attachments.iter_mut().for_each(|attachment| attachment.header = header);
        self
    }

    /// The text the model is given.
    pub fn content(&self) -> String {
        content(&self.attachments, &self.text)
    }
}

/// What the model is given of a message: every attachment followed by a blank line, then the text.
pub fn content(attachments: &[Attachment], text: &str) -> String {
    let parts: Vec<Cow<str>> = attachments.iter().map(Attachment::content).chain([text.into()]).collect();
    join_parts(parts.iter().map(Cow::as_ref))
}

/// Joins documents and the instruction that follows them, a blank line between two; absent parts leave none.
pub fn join_parts<'a>(parts: impl IntoIterator<Item = &'a str>) -> String {
    let parts: Vec<&str> = parts.into_iter().filter(|p| !p.is_empty()).collect();
    parts.join("\n\n")
}

/// Removes exactly one newline at the end (`\n` or `\r\n`), the one that editors and `echo` add.
pub fn without_final_newline(mut text: String) -> String {
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    text
}

/// Without the byte order mark that some programs write before a text: it says how the text is stored, and nothing to anybody.
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
    fn attachments_come_before_the_instruction() {
        let mut message = Message::new(Role::User, "Summarise.");
        message.attachments.push(Attachment::new("a.txt", "one\ntwo"));
        assert_eq!(message.content(), "one\ntwo\n\nSummarise.");
        let message = message.with_headers(Auto::Auto);
        assert_eq!(message.content(), "one\ntwo\n\nSummarise.", "one alone");
        assert_eq!(message.with_headers(Auto::On).content(), "a.txt:\n```\none\ntwo\n```\n\nSummarise.");
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
