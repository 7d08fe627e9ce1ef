//! A ChatGPT data export of any size, like real ones: many conversations, some of them long.

use std::io::{self, BufWriter, Write};

/// Writes `conversations.json` with about this many bytes; returns the number of conversations in it.
pub fn write_export(out: impl Write, bytes: usize) -> io::Result<usize> {
    let mut out = BufWriter::new(out);
    let (mut written, mut conversations) = (2, 0);
    write!(out, "[")?;
    while written < bytes {
        let text = conversation(conversations);
        let comma = if conversations == 0 { "" } else { ", " };
        write!(out, "{comma}{text}")?;
        written += text.len() + comma.len();
        conversations += 1;
    }
    write!(out, "]")?;
    out.flush()?;
    Ok(conversations)
}

/// A conversation of 20 to 300 messages: 20 to 400 kB.
fn conversation(number: usize) -> String {
    let messages = 20 + number * 7919 % 280;
    let mut mapping = serde_json::Map::new();
    let id = |n: usize| format!("{number:08}-{n:04}");
    mapping.insert(id(0), serde_json::json!({ "message": null, "parent": null, "children": [id(1)] }));
    for n in 1..=messages {
        let children = if n < messages { vec![id(n + 1)] } else { vec![] };
        let role = if n % 2 == 1 { "user" } else { "assistant" };
        mapping.insert(
            id(n),
            serde_json::json!({
                "id": id(n),
                "message": {
                    "id": id(n),
                    "author": { "role": role, "name": null, "metadata": {} },
                    "create_time": 1736209400.125 + (number * 1000 + n) as f64,
                    "update_time": null,
                    "content": { "content_type": "text", "parts": [words(number * 311 + n)] },
                    "status": "finished_successfully",
                    "end_turn": true,
                    "weight": 1.0,
                    "metadata": { "model_slug": "gpt-4o", "request_id": id(n), "timestamp_": "absolute" },
                    "recipient": "all",
                    "channel": null,
                },
                "parent": id(n - 1),
                "children": children,
            }),
        );
    }
    serde_json::json!({
        "title": format!("Conversation {number}"),
        "create_time": 1736209400.125 + number as f64,
        "update_time": 1736209800 + number,
        "mapping": mapping,
        "moderation_results": [],
        "current_node": id(messages),
        "conversation_id": format!("conversation-{number}"),
        "default_model_slug": "gpt-4o",
    })
    .to_string()
}

/// 200 to 2,000 bytes of prose, not all the same.
fn words(seed: usize) -> String {
    const WORDS: [&str; 12] = [
        "sky",
        "blue",
        "because",
        "light",
        "scatters",
        "über",
        "the",
        "\"air\"",
        "molecules",
        "日本",
        "and",
        "so\n",
    ];
    let mut state = seed as u64;
    let mut text = String::new();
    for _ in 0..40 + seed % 300 {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        text.push_str(WORDS[(state >> 33) as usize % WORDS.len()]);
        text.push_str(&format!(" {} ", state >> 54));
    }
    text
}
