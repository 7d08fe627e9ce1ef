//! The content of one message, as ChatGPT and the OpenAI API have it → text.
//!
//! What is no text is mentioned in its place; what is not known is kept as it is, as a block of JSON, and noted.

use serde_json::{Map, Value};

use super::notes::{Notes, quoted};
use crate::chat::fences::fenced;
use crate::chat::message::join_parts;

/// What the content of one message comes to.
#[derive(Debug, PartialEq)]
pub(super) enum Content {
    /// Said to the other side.
    Text(String),
    /// Code, or what a tool returned: its language (or what kind of thing it is) and the text.
    Block(String, String),
    /// Thought, not said.
    Thinking(String),
    /// Told to the model about the user and what it should do.
    Instructions(String),
}

/// The content of a ChatGPT message.
pub(super) fn content(value: &Value, notes: &mut Notes) -> Content {
    let Value::Object(object) = value else { return Content::Text(parts(value, notes)) };
    match word(object, "content_type") {
        "text" | "multimodal_text" => Content::Text(text(object, notes)),
        "code" => Content::Block(language(object), text(object, notes)),
        "execution_output" => Content::Block("output".into(), text(object, notes)),
        "system_error" => Content::Block("error".into(), fields(object, &["name", "text"])),
        "tether_quote" | "sonic_webpage" => {
            Content::Block("quote".into(), fields(object, &["title", "url", "text"]))
        }
        "tether_browsing_display" => Content::Block("page".into(), fields(object, &["result", "summary"])),
        "thoughts" => Content::Thinking(thoughts(object, notes)),
        "reasoning_recap" => Content::Thinking(fields(object, &["content", "text"])),
        "user_editable_context" => {
            Content::Instructions(context(object, &["user_profile", "user_instructions"]))
        }
        "model_editable_context" => {
            Content::Instructions(context(object, &["model_set_context", "repository", "repo_summary"]))
        }
        kind => unknown(kind, object, notes),
    }
}

/// A list of parts, or one alone.
pub(super) fn parts(value: &Value, notes: &mut Notes) -> String {
    match value {
        Value::Array(parts) => {
            let texts: Vec<String> = parts.iter().map(|part| one_part(part, notes)).collect();
            texts.into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join("\n")
        }
        one => one_part(one, notes),
    }
}

/// A value that nobody knows, so that it is not lost.
pub(super) fn json_block(value: &Value) -> String {
    fenced("json", &value.to_string())
}

fn one_part(part: &Value, notes: &mut Notes) -> String {
    let object = match part {
        Value::Null => return String::new(),
        Value::String(text) => return text.clone(),
        Value::Object(object) => object,
        other => return other.to_string(),
    };
    let kind = [word(object, "content_type"), word(object, "type")].concat();
    match kind.as_str() {
        "text" | "input_text" | "output_text" | "audio_transcription" => word(object, "text").into(),
        "refusal" => word(object, "refusal").into(),
        "image_asset_pointer" => picture(object, notes),
        "image_url" | "input_image" => {
            notes.add("a picture is left out");
            let url = object.get("image_url").map(|image| image.get("url").unwrap_or(image));
            let url = url.and_then(Value::as_str).filter(|url| !url.starts_with("data:"));
            url.map_or("[image]".into(), |url| format!("[image: {url}]"))
        }
        "audio_asset_pointer" | "real_time_user_audio_video_asset_pointer" | "input_audio" => {
            notes.add("a recording is left out");
            "[audio]".into()
        }
        "video_container_asset_pointer" => {
            notes.add("a video is left out");
            "[video]".into()
        }
        "file" | "input_file" => {
            notes.add("a file is left out");
            "[file]".into()
        }
        "tether_quote" | "sonic_webpage" => fields(object, &["title", "url", "text"]),
        "tether_browsing_display" => fields(object, &["result", "summary"]),
        kind => {
            notes.add(format!("a part of an unknown kind, {}, is kept as text", quoted(kind)));
            match word(object, "text") {
                "" => json_block(part),
                text => text.into(),
            }
        }
    }
}

/// A picture by its name, and by what it was to show where the model drew it.
fn picture(object: &Map<String, Value>, notes: &mut Notes) -> String {
    notes.add("a picture is left out");
    let name = word(object, "asset_pointer");
    let drawn = object.get("metadata").and_then(|metadata| metadata.get("dalle")?.get("prompt")?.as_str());
    let facts: Vec<&str> = [name, drawn.unwrap_or_default()].into_iter().filter(|f| !f.is_empty()).collect();
    if facts.is_empty() { "[image]".into() } else { format!("[image: {}]", facts.join(": ")) }
}

/// Its parts, or its text where it has none.
fn text(object: &Map<String, Value>, notes: &mut Notes) -> String {
    match object.get("parts") {
        Some(Value::Null) | None => parts(object.get("text").unwrap_or(&Value::Null), notes),
        Some(list) => parts(list, notes),
    }
}

fn language(object: &Map<String, Value>) -> String {
    let language = word(object, "language");
    if language == "unknown" { String::new() } else { language.into() }
}

fn thoughts(object: &Map<String, Value>, notes: &mut Notes) -> String {
    let Some(Value::Array(list)) = object.get("thoughts") else { return text(object, notes) };
    let one = |thought: &Value| match thought {
        Value::Object(thought) => {
            let chunks = || parts(thought.get("chunks").unwrap_or(&Value::Null), &mut Notes::default());
            let whole = word(thought, "content").to_string();
            let whole = if whole.is_empty() { chunks() } else { whole };
            let summary = word(thought, "summary");
            [summary, &whole].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("\n")
        }
        other => parts(other, &mut Notes::default()),
    };
    let all: Vec<String> = list.iter().map(one).collect();
    join_parts(all.iter().map(String::as_str))
}

/// These fields as paragraphs, and the lists and objects among them as JSON.
fn context(object: &Map<String, Value>, names: &[&str]) -> String {
    let instructs: Vec<String> = names
        .iter()
        .filter_map(|name| match object.get(*name)? {
            Value::Null => None,
            Value::String(text) => Some(text.trim().to_string()),
            Value::Array(list) if list.is_empty() => None,
            other => Some(json_block(other)),
        })
        .collect();
    join_parts(instructs.iter().map(String::as_str))
}

fn unknown(kind: &str, object: &Map<String, Value>, notes: &mut Notes) -> Content {
    notes.add(format!("content of an unknown kind, {}, is kept as text", quoted(kind)));
    let known = text(object, notes);
    let known = if known.is_empty() { fields(object, &["content", "result", "summary"]) } else { known };
    match known.is_empty() {
        true => Content::Block("json".into(), Value::Object(object.clone()).to_string()),
        false => Content::Text(known),
    }
}

/// Those of these fields that are text, a line each.
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
        let block = |language: &str, text: &str| Content::Block(language.into(), text.into());
        for (value, expected) in [
            (json!("plain"), Content::Text("plain".into())),
            (json!(null), Content::Text("".into())),
            (json!({ "content_type": "text", "parts": ["a", null, "b"] }), Content::Text("a\nb".into())),
            (json!({ "content_type": "text", "parts": null, "text": "a" }), Content::Text("a".into())),
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
                Content::Instructions("p\n\ni".into()),
            ),
            (
                json!({ "content_type": "model_editable_context", "model_set_context": "m", "repository": null }),
                Content::Instructions("m".into()),
            ),
        ] {
            assert_eq!(read(value.clone()), (expected, vec![]), "{value}");
        }
    }

    #[test]
    fn what_is_no_text_is_mentioned_and_noted() {
        let (content, notes) = read(json!({ "content_type": "multimodal_text", "parts": [
            { "content_type": "image_asset_pointer", "asset_pointer": "sediment://f", "metadata": { "dalle": null } },
            { "content_type": "audio_transcription", "text": "said" },
            { "content_type": "audio_asset_pointer", "asset_pointer": "sediment://g" },
            { "content_type": "hologram", "depth": 3 },
            "and this"
        ]}));
        let text = "[image: sediment://f]\nsaid\n[audio]\n\
            ```json\n{\"content_type\":\"hologram\",\"depth\":3}\n```\nand this";
        assert_eq!(content, Content::Text(text.into()));
        assert_eq!(notes.len(), 3);
    }

    #[test]
    fn unknown_kinds_are_kept() {
        let (content, notes) = read(json!({ "content_type": "dream", "parts": ["sheep"] }));
        assert_eq!(content, Content::Text("sheep".into()));
        assert_eq!(notes, ["content of an unknown kind, 'dream', is kept as text"]);
        let (content, _) = read(json!({ "content_type": "dream", "sheep": 3 }));
        assert_eq!(content, Content::Block("json".into(), r#"{"content_type":"dream","sheep":3}"#.into()));
        assert_eq!(read(json!({})).0, Content::Block("json".into(), "{}".into()));
    }
}
