//! The parts of a message: text, attached files, media, tool calls and tool results. A part of an unknown
//! kind is kept as its JSON. Plain data.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::fences::fenced;
use super::language::language;

/// A part; in JSON an object with `type` and the fields of its kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Part {
    Text(Text),
    File(Attachment),
    Media(Media),
    ToolCall(ToolCall),
    ToolResult(ToolResult),
    /// A part with a kind or fields that this version does not know, kept unchanged.
    #[serde(untagged)]
    Unknown(Value),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Text {
    pub text: String,
}

/// A text file attached to a message. `text` lacks one trailing newline, like piped text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attachment {
    pub name: String,
    pub text: String,
    /// Whether the model gets its name and a code fence, or the text alone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub header: bool,
    /// The language of the fence; empty: none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub language: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MediaKind {
    Image,
    Audio,
}

/// An image or a recording. Unknown facts are `None`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Media {
    pub kind: MediaKind,
    /// SHA-256 of the bytes, lower-case hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<String>,
    /// As in `image/png`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// In bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The URL of the bytes; may be a `data:` URL that contains them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}

/// A call of a tool by the model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToolCall {
    /// Connects the result to the call; empty if the source had none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub id: String,
    pub name: String,
    /// A JSON object by parameter; text if the arguments are not a JSON object.
    pub arguments: Value,
}

/// The result of a tool call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToolResult {
    /// The id of the call; empty if the source had none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// The name of the tool; empty if the source had none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    pub text: String,
}

impl Part {
    pub fn text(text: impl Into<String>) -> Part {
        Part::Text(Text { text: text.into() })
    }

    /// The part as text, for text-only models and for search. Empty for a part of an
    /// unknown kind.
    pub fn content(&self) -> Cow<'_, str> {
        match self {
            Part::Text(Text { text }) => text.into(),
            Part::File(file) => file.content(),
            Part::Media(media) => media.mention().into(),
            Part::ToolCall(call) => fenced(&call.name, &call.arguments_text()).into(),
            Part::ToolResult(result) => fenced(result.title(), &result.text).into(),
            Part::Unknown(_) => "".into(),
        }
    }
}

impl Attachment {
    /// Without a header.
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Attachment {
        Attachment { name: name.into(), text: text.into(), header: false, language: String::new() }
    }

    /// A file, whose name tells its language.
    pub fn file(name: impl Into<String>, text: impl Into<String>) -> Attachment {
        let name = name.into();
        Attachment { language: language(&name).into(), ..Attachment::new(name, text) }
    }

    /// With a header even if it is alone.
    pub fn with_header(self) -> Attachment {
        Attachment { header: true, ..self }
    }

    /// The name on one line; names may contain line breaks.
    pub fn title(&self) -> String {
        self.name.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    /// The file as the model gets it.
    pub fn content(&self) -> Cow<'_, str> {
        if !self.header {
            return Cow::Borrowed(&self.text);
        }
        Cow::Owned(format!("{}:\n{}", self.title(), fenced(&self.language, &self.text)))
    }
}

impl Media {
    pub fn new(kind: MediaKind) -> Media {
        Media { kind, hash: None, media_type: None, size: None, name: None, url: None }
    }

    /// A placeholder for text-only models, as in `[image: cat.png]`.
    pub fn mention(&self) -> String {
        let kind = match self.kind {
            MediaKind::Image => "image",
            MediaKind::Audio => "audio",
        };
        let url = self.url.as_deref().filter(|url| !url.starts_with("data:"));
        let facts: Vec<&str> = url.into_iter().chain(self.name.as_deref()).collect();
        if facts.is_empty() { format!("[{kind}]") } else { format!("[{kind}: {}]", facts.join(": ")) }
    }
}

impl ToolCall {
    /// The arguments as text: JSON for an object.
    pub fn arguments_text(&self) -> String {
        match &self.arguments {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        }
    }
}

impl ToolResult {
    /// The tool's name, or `tool` if it has none.
    pub fn title(&self) -> &str {
        if self.name.is_empty() { "tool" } else { &self.name }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn parts_come_back_as_they_were_and_unknown_ones_verbatim() {
        for part in [
            json!({ "type": "text", "text": "hi" }),
            json!({ "type": "file", "name": "a.txt", "text": "one", "header": true, "language": "c" }),
            json!({ "type": "media", "kind": "image", "hash": "ab", "media_type": "image/png", "size": 3, "name": "a.png" }),
            json!({ "type": "tool_call", "id": "1", "name": "sum", "arguments": { "a": 2 } }),
            json!({ "type": "tool_result", "id": "1", "text": "4" }),
        ] {
            let read: Part = serde_json::from_value(part.clone()).unwrap();
            assert!(!matches!(read, Part::Unknown(_)), "{part}");
            assert_eq!(serde_json::to_value(read).unwrap(), part);
        }
        for part in [
            json!({ "type": "hologram", "depth": [3, null] }),
            json!({ "type": "text", "text": "hi", "mood": "glad" }),
            json!({ "type": "media", "kind": "video" }),
            json!("no object"),
        ] {
            let read: Part = serde_json::from_value(part.clone()).unwrap();
            assert_eq!(read, Part::Unknown(part.clone()));
            assert_eq!(serde_json::to_value(read).unwrap(), part);
        }
    }

    #[test]
    fn every_known_part_can_be_said_in_text() {
        let call = ToolCall { id: String::new(), name: "sum".into(), arguments: json!({ "a": 2 }) };
        assert_eq!(Part::ToolCall(call).content(), "```sum\n{\"a\":2}\n```");
        let result = ToolResult { id: String::new(), name: String::new(), text: "4".into() };
        assert_eq!(Part::ToolResult(result).content(), "```tool\n4\n```");
        let mut media = Media::new(MediaKind::Image);
        assert_eq!(media.mention(), "[image]");
        media.url = Some("data:image/png;base64,AA==".into());
        media.name = Some("a.png".into());
        assert_eq!(media.mention(), "[image: a.png]");
    }
}
