//! The content of one message in the formats of ChatGPT and the OpenAI API → its parts.
//!
//! Images and recordings become media; unknown content is kept as JSON, with a notice.

use serde_json::{Map, Value};

use super::identity;
use super::notes::{Notes, quoted};
use crate::chat::Part;
use crate::chat::fences::fenced;
use crate::chat::message::join_parts;
use crate::chat::part::{Media, MediaKind, Text};

/// The content of one message.
#[derive(Debug, PartialEq)]
pub(super) enum Content {
    /// Part of the conversation.
    Said(Vec<Part>),
    /// Code or a tool's output: its language (or kind) and its text.
    Block(String, String),
    /// Thinking.
    Thinking(String),
    /// Instructions to the model, or facts about the user.
    Told(String),
}

impl Content {
    /// The content as parts, without markup.
    pub(super) fn parts(self) -> Vec<Part> {
        match self {
            Content::Said(parts) => parts,
            Content::Block(_, text) | Content::Thinking(text) | Content::Told(text) => vec![Part::text(text)],
        }
    }

    /// The same, with code in fences.
    pub(super) fn fenced(self) -> Vec<Part> {
        match self {
            Content::Block(kind, text) if !text.is_empty() => vec![Part::text(fenced(&kind, &text))],
            other => other.parts(),
        }
    }
}

/// The texts among the parts, one per line.
pub(super) fn text_of(parts: &[Part]) -> String {
    let texts = parts.iter().filter_map(|part| match part {
        Part::Text(Text { text }) => Some(text.as_str()),
        _ => None,
    });
    texts.collect::<Vec<_>>().join("\n")
}

/// The content of a ChatGPT message.
pub(super) fn content(value: &Value, notes: &mut Notes) -> Content {
    let Value::Object(object) = value else { return Content::Said(parts(value, notes)) };
    match word(object, "content_type") {
        "text" | "multimodal_text" => Content::Said(parts_of(object, notes)),
        "code" => Content::Block(language(object), text(object, notes)),
        "execution_output" => Content::Block("output".into(), text(object, notes)),
        "system_error" => Content::Block("error".into(), fields(object, &["name", "text"])),
        "tether_quote" | "sonic_webpage" => {
            Content::Block("quote".into(), fields(object, &["title", "url", "text"]))
        }
        "tether_browsing_display" => Content::Block("page".into(), fields(object, &["result", "summary"])),
        "thoughts" => Content::Thinking(thoughts(object, notes)),
        "reasoning_recap" => Content::Thinking(fields(object, &["content", "text"])),
        "user_editable_context" => Content::Told(context(object, &["user_profile", "user_instructions"])),
        "model_editable_context" => {
            Content::Told(context(object, &["model_set_context", "repository", "repo_summary"]))
        }
        kind => unknown(kind, object, notes),
    }
}

/// A list of parts, or a single part. Joins consecutive texts with a line break.
pub(super) fn parts(value: &Value, notes: &mut Notes) -> Vec<Part> {
    let list = match value {
        Value::Array(list) => list.as_slice(),
        one => std::slice::from_ref(one),
    };
    let mut parts: Vec<Part> = Vec::new();
    for part in list.iter().filter_map(|part| one_part(part, notes)) {
        match (parts.last_mut(), part) {
            (_, Part::Text(more)) if more.text.is_empty() => {}
            (Some(Part::Text(Text { text })), Part::Text(more)) => {
                text.push('\n');
                text.push_str(&more.text);
            }
            (_, part) => parts.push(part),
        }
    }
    parts
}

fn one_part(part: &Value, notes: &mut Notes) -> Option<Part> {
    let object = match part {
        Value::Null => return None,
        Value::String(text) => return Some(Part::text(text)),
        Value::Object(object) => object,
        other => return Some(Part::text(other.to_string())),
    };
    let kind = [word(object, "content_type"), word(object, "type")].concat();
    Some(match kind.as_str() {
        "text" | "input_text" | "output_text" | "audio_transcription" => Part::text(word(object, "text")),
        "refusal" => Part::text(word(object, "refusal")),
        "image_asset_pointer" => {
            let drawn = object.get("metadata").and_then(|about| about.get("dalle")?.get("prompt")?.as_str());
            let (url, size) =
                (word(object, "asset_pointer"), object.get("size_bytes").and_then(Value::as_u64));
            let name = drawn.map(String::from);
            media(Media { name, size, ..Media::new(MediaKind::Image) }, url, notes)
        }
        "image_url" | "input_image" => {
            let url = object.get("image_url").map(|image| image.get("url").unwrap_or(image));
            media(Media::new(MediaKind::Image), url.and_then(Value::as_str).unwrap_or_default(), notes)
        }
        "audio_asset_pointer" => media(Media::new(MediaKind::Audio), word(object, "asset_pointer"), notes),
        "real_time_user_audio_video_asset_pointer" => {
            let audio =
                object.get("audio_asset_pointer").and_then(|audio| audio.get("asset_pointer")?.as_str());
            media(Media::new(MediaKind::Audio), audio.unwrap_or_default(), notes)
        }
        "input_audio" => {
            let audio = object.get("input_audio").and_then(Value::as_object).unwrap_or(object);
            let url = format!("data:audio/{};base64,{}", word(audio, "format"), word(audio, "data"));
            media(Media::new(MediaKind::Audio), &url, notes)
        }
        "tether_quote" | "sonic_webpage" => Part::text(fields(object, &["title", "url", "text"])),
        "tether_browsing_display" => Part::text(fields(object, &["result", "summary"])),
        kind => match word(object, "text") {
            "" => {
                notes.add(format!("a part of an unknown kind, {}, is kept as it is", quoted(kind)));
                Part::Unknown(part.clone())
            }
            text => {
                notes.add(format!("a part of an unknown kind, {}, is kept as text", quoted(kind)));
                Part::text(text)
            }
        },
    })
}

/// An image or a recording: with its bytes if `url` contains them, otherwise a reference.
fn media(media: Media, url: &str, notes: &mut Notes) -> Part {
    let url = Some(url.to_string()).filter(|url| !url.is_empty());
    if let Some((media_type, bytes)) = url.as_deref().and_then(identity::data_url) {
        let (hash, size) = (Some(identity::of_bytes(&bytes)), Some(bytes.len() as u64));
        return Part::Media(Media { hash, size, media_type: Some(media_type), url, ..media });
    }
    notes.add(match media.kind {
        MediaKind::Image => "an image is kept as a reference: the file does not contain it",
        MediaKind::Audio => "a recording is kept as a reference: the file does not contain it",
    });
    Part::Media(Media { url, ..media })
}

/// The object's parts, or its text if it has none.
fn parts_of(object: &Map<String, Value>, notes: &mut Notes) -> Vec<Part> {
    match object.get("parts") {
        Some(Value::Null) | None => parts(object.get("text").unwrap_or(&Value::Null), notes),
        Some(list) => parts(list, notes),
    }
}

fn text(object: &Map<String, Value>, notes: &mut Notes) -> String {
    text_of(&parts_of(object, notes))
}

fn language(object: &Map<String, Value>) -> String {
    let language = word(object, "language");
    if language == "unknown" { String::new() } else { language.into() }
}

fn thoughts(object: &Map<String, Value>, notes: &mut Notes) -> String {
    let Some(Value::Array(list)) = object.get("thoughts") else { return text(object, notes) };
    let one = |thought: &Value| match thought {
        Value::Object(thought) => {
            let chunks =
                || text_of(&parts(thought.get("chunks").unwrap_or(&Value::Null), &mut Notes::default()));
            let whole = word(thought, "content").to_string();
            let whole = if whole.is_empty() { chunks() } else { whole };
            let summary = word(thought, "summary");
            [summary, &whole].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("\n")
        }
        other => text_of(&parts(other, &mut Notes::default())),
    };
    let all: Vec<String> = list.iter().map(one).collect();
    join_parts(all.iter().map(String::as_str))
}

/// These fields as paragraphs; lists and objects among them as JSON.
fn context(object: &Map<String, Value>, names: &[&str]) -> String {
    let told: Vec<String> = names
        .iter()
        .filter_map(|name| match object.get(*name)? {
            Value::Null => None,
            Value::String(text) => Some(text.trim().to_string()),
            Value::Array(list) if list.is_empty() => None,
            other => Some(fenced("json", &other.to_string())),
        })
        .collect();
    join_parts(told.iter().map(String::as_str))
}

fn unknown(kind: &str, object: &Map<String, Value>, notes: &mut Notes) -> Content {
    let known = parts_of(object, notes);
    let known = if known.is_empty() {
        vec![Part::text(fields(object, &["content", "result", "summary"]))]
    } else {
        known
    };
    if known == [Part::text("")] {
        notes.add(format!("content of an unknown kind, {}, is kept as it is", quoted(kind)));
        return Content::Said(vec![Part::Unknown(Value::Object(object.clone()))]);
    }
    notes.add(format!("content of an unknown kind, {}, is kept as text", quoted(kind)));
    Content::Said(known)
}

/// Those of these fields that are text, one per line.
fn fields(object: &Map<String, Value>, names: &[&str]) -> String {
    let texts = names.iter().map(|name| word(object, name)).filter(|text| !text.is_empty());
    texts.collect::<Vec<_>>().join("\n")
}

fn word<'a>(object: &'a Map<String, Value>, name: &str) -> &'a str {
    object.get(name).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(value: Value) -> (Content, Vec<String>) {
        let mut notes = Notes::default();
        let content = content(&value, &mut notes);
        (content, notes.finish())
    }

    #[test]
    fn each_kind_becomes_what_it_is() {
        let said = |text: &str| Content::Said(vec![Part::text(text)]);
        let block = |language: &str, text: &str| Content::Block(language.into(), text.into());
        for (value, expected) in [
            (json!("plain"), said("plain")),
            (json!(null), Content::Said(vec![])),
            (json!({ "content_type": "text", "parts": ["a", null, "b"] }), said("a\nb")),
            (json!({ "content_type": "text", "parts": null, "text": "a" }), said("a")),
            (json!({ "content_type": "code", "language": "python", "text": "1" }), block("python", "1")),
            (json!({ "content_type": "code", "language": "unknown", "text": "1" }), block("", "1")),
            (json!({ "content_type": "execution_output", "text": "1" }), block("output", "1")),
            (
                json!({ "content_type": "tether_quote", "url": "u", "title": "t", "text": "x", "domain": "d" }),
                block("quote", "t\nu\nx"),
            ),
            (
                json!({ "content_type": "tether_browsing_display", "result": "r", "summary": null }),
                block("page", "r"),
            ),
            (
                json!({ "content_type": "thoughts", "thoughts": [
                    { "summary": "s", "content": "c" }, { "summary": "t", "content": "", "chunks": ["d"] }, "e"] }),
                Content::Thinking("s\nc\n\nt\nd\n\ne".into()),
            ),
            (
                json!({ "content_type": "reasoning_recap", "content": "Thought for 4s" }),
                Content::Thinking("Thought for 4s".into()),
            ),
            (
                json!({ "content_type": "user_editable_context", "user_profile": "p", "user_instructions": "i" }),
                Content::Told("p\n\ni".into()),
            ),
            (
                json!({ "content_type": "model_editable_context", "model_set_context": "m", "repository": null }),
                Content::Told("m".into()),
            ),
        ] {
            assert_eq!(read(value.clone()), (expected, vec![]), "{value}");
        }
    }

    #[test]
    fn what_is_no_text_is_a_part_of_its_own_and_noted() {
        let (content, notes) = read(json!({ "content_type": "multimodal_text", "parts": [
            { "content_type": "image_asset_pointer", "asset_pointer": "sediment://f", "metadata": { "dalle": null } },
            { "content_type": "audio_transcription", "text": "said" },
            { "content_type": "audio_asset_pointer", "asset_pointer": "sediment://g" },
            { "content_type": "hologram", "depth": 3 },
            "and this"
        ]}));
        let media = |kind, url: &str| Part::Media(Media { url: Some(url.into()), ..Media::new(kind) });
        let expected = [
            media(MediaKind::Image, "sediment://f"),
            Part::text("said"),
            media(MediaKind::Audio, "sediment://g"),
            Part::Unknown(json!({ "content_type": "hologram", "depth": 3 })),
            Part::text("and this"),
        ];
        assert_eq!(content, Content::Said(expected.into()));
        assert_eq!(notes.len(), 3);
    }

    #[test]
    fn bytes_that_are_in_the_file_are_kept_with_their_hash() {
        let url = "data:image/png;base64,aGk=";
        let (content, notes) = read(json!([
            { "type": "image_url", "image_url": { "url": url } },
            { "type": "input_audio", "input_audio": { "data": "aGk=", "format": "wav" } }
        ]));
        let hash = "8f434346648f6b96df89dda901c5176b10a6d83961dd3c1ac88b59b2dc327aa4";
        let media = |kind, media_type: &str, url: &str| {
            let known = Media { hash: Some(hash.into()), size: Some(2), ..Media::new(kind) };
            Part::Media(Media { media_type: Some(media_type.into()), url: Some(url.into()), ..known })
        };
        let expected = vec![
            media(MediaKind::Image, "image/png", url),
            media(MediaKind::Audio, "audio/wav", "data:audio/wav;base64,aGk="),
        ];
        assert_eq!((content, notes.len()), (Content::Said(expected), 0));
    }

    #[test]
    fn unknown_kinds_are_kept() {
        let (content, notes) = read(json!({ "content_type": "dream", "parts": ["sheep"] }));
        assert_eq!(content, Content::Said(vec![Part::text("sheep")]));
        assert_eq!(notes, ["content of an unknown kind, 'dream', is kept as text"]);
        for dream in [json!({ "content_type": "dream", "sheep": 3 }), json!({})] {
            assert_eq!(read(dream.clone()).0, Content::Said(vec![Part::Unknown(dream)]));
        }
    }
}
