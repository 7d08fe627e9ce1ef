//! A conversation as it is saved, exported and imported: all messages of its tree and all facts about them.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize};

use super::events::{Stats, StopReason};
use super::id::MessageId;
use super::message::Message;
use super::settings::renamed;

/// A whole conversation. Plain data: changing it has no effect elsewhere.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Lower-case hexadecimal, at least 12 digits; users type a prefix.
    pub id: String,
    pub title: String,
    /// Milliseconds since 1970.
    pub created: i64,
    pub changed: i64,
    /// The system prompt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    /// The model for the next answers, as `-m` takes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Parents before their children; every id once.
    pub entries: Vec<Entry>,
    /// The last message of the current branch.
    pub head: Option<MessageId>,
}

/// One message of the tree.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    pub id: MessageId,
    /// The message before it; `None`: a first message.
    pub parent: Option<MessageId>,
    #[serde(flatten)]
    pub message: Arc<Message>,
    /// Milliseconds since 1970, if known.
    pub created: Option<i64>,
    /// The record of an answer; `None` for other messages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<Box<AnswerRecord>>,
}

/// Everything needed to replay an answer, as far as it is known.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AnswerRecord {
    /// The name of its stop reason; empty while it is being generated.
    pub stop: String,
    pub model: String,
    /// The model's file, as `-m` takes it.
    pub path: String,
    pub fingerprint: String,
    /// Fingerprint of the model's files; empty if unknown.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub stamp: String,
    /// Hash of the chat template; empty if there is none.
    pub template: String,
    /// Names and values of the settings that shape an answer; consecutive answers share them.
    #[serde(deserialize_with = "under_present_names")]
    pub settings: Arc<[(String, String)]>,
    pub seed: Option<u32>,
    /// The system prompt of this answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    /// Time of the request, in milliseconds since 1970: templates may contain the date.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asked: Option<i64>,
    /// Bytes of the answer and of its thinking that come from the earlier answer it continues, or from the
    /// user.
    #[serde(skip_serializing_if = "is_zero")]
    pub answer_prefix: u32,
    #[serde(skip_serializing_if = "is_zero")]
    pub thinking_prefix: u32,
    /// Tokens; 0 if unknown.
    pub prompt_tokens: u32,
    pub cached_tokens: u32,
    pub generated_tokens: u32,
    /// The number of dropped messages at the beginning of the path, without system messages.
    #[serde(skip_serializing_if = "is_zero")]
    pub dropped: u32,
    /// The summary in their place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    /// Some of them were dropped while the answer was being generated.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub dropped_meanwhile: bool,
    /// The context limit in tokens; 0 if unknown.
    #[serde(skip_serializing_if = "is_zero")]
    pub context_limit: u32,
    /// Milliseconds.
    pub prompt_time: u32,
    pub generation_time: u32,
}

/// Renames settings that were saved under old names.
fn under_present_names<'de, D: Deserializer<'de>>(input: D) -> Result<Arc<[(String, String)]>, D::Error> {
    let pairs = Vec::<(String, String)>::deserialize(input)?;
    let present = |name: String| renamed(&name).map_or(name, String::from);
    Ok(pairs.into_iter().map(|(name, value)| (present(name), value)).collect())
}

/// The stop reason of an example.
const EXAMPLE: &str = "example";

impl AnswerRecord {
    /// The record of an answer that the user's role gives as an example.
    pub fn example() -> AnswerRecord {
        AnswerRecord { stop: EXAMPLE.into(), ..AnswerRecord::default() }
    }

    /// The statistics of the answer, as far as they are recorded.
    pub fn stats(&self) -> Stats {
        let known = |tokens: u32| (tokens > 0).then_some(tokens as usize);
        let stop = StopReason::from_name(&self.stop).unwrap_or(StopReason::Error);
        Stats {
            prompt_tokens: known(self.prompt_tokens),
            cached_tokens: known(self.prompt_tokens).map(|_| self.cached_tokens as usize),
            generated_tokens: known(self.generated_tokens),
            prompt: Duration::from_millis(self.prompt_time.into()),
            generation: Duration::from_millis(self.generation_time.into()),
            context_used: (self.prompt_tokens + self.generated_tokens) as usize,
            context_limit: self.context_limit as usize,
            ..Stats::unknown(stop, self.seed.unwrap_or_default())
        }
    }

    /// Whether the answer is complete: it ended or was stopped.
    pub fn is_finished(&self) -> bool {
        !self.stop.is_empty()
    }
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

impl Record {
    /// The path to the head, oldest first.
    pub fn path(&self) -> Vec<&Entry> {
        path(&self.entries, self.head)
    }
}

/// The path to a message, oldest first. Parents come before their children.
pub fn path(entries: &[Entry], head: Option<MessageId>) -> Vec<&Entry> {
    let mut next = head;
    let mut path: Vec<&Entry> = Vec::new();
    for entry in entries.iter().rev() {
        if next == Some(entry.id) {
            path.push(entry);
            next = entry.parent;
        }
    }
    path.reverse();
    path
}

impl Entry {
    /// A message without an answer record and without a time.
    pub fn new(id: MessageId, parent: Option<MessageId>, message: Message) -> Entry {
        Entry { id, parent, message: Arc::new(message), created: None, answer: None }
    }

    /// Whether it is the answer of an example, which no model gave.
    pub fn is_example(&self) -> bool {
        self.answer.as_ref().is_some_and(|answer| answer.stop == EXAMPLE)
    }

    /// A title for a conversation that begins with this message.
    pub fn title(&self) -> String {
        let text = self.message.text();
        let file = self.message.files().next().filter(|_| text.trim().is_empty());
        title_from(file.map_or(&text, |file| &file.name))
    }
}

/// A title for a conversation that begins with this text: its first words, on one line.
pub fn title_from(text: &str) -> String {
    const LONGEST: usize = 60;
    let words = text.split_whitespace();
    let mut title = String::new();
    for word in words {
        let space = usize::from(!title.is_empty());
        if title.chars().count() + space + word.chars().count() > LONGEST {
            let cut = if title.is_empty() { word.chars().take(LONGEST).collect() } else { String::new() };
            return title + &cut + "…";
        }
        if space > 0 {
            title.push(' ');
        }
        title.push_str(word);
    }
    title
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::Role;

    #[test]
    fn titles_are_the_first_words() {
        assert_eq!(title_from("  Why is\nthe sky blue? "), "Why is the sky blue?");
        assert_eq!(title_from(&"word ".repeat(40)), "word ".repeat(12).trim_end().to_string() + "…");
        assert_eq!(title_from(&"x".repeat(100)), "x".repeat(60) + "…");
        assert_eq!(title_from(""), "");
    }

    #[test]
    fn the_path_leads_to_the_head() {
        let ids = [0, 1, 2, 3].map(|n: u8| MessageId::derived([n.to_string().as_str()]));
        let entry = |n: usize, parent: Option<usize>| {
            Entry::new(ids[n], parent.map(|n| ids[n]), Message::new(Role::User, ""))
        };
        let entries = vec![entry(0, None), entry(1, Some(0)), entry(2, Some(0)), entry(3, Some(2))];
        let record = Record { entries, head: Some(ids[3]), ..Record::default() };
        let path: Vec<MessageId> = record.path().into_iter().map(|entry| entry.id).collect();
        assert_eq!(path, [ids[0], ids[2], ids[3]]);
        assert!(Record::default().path().is_empty());
    }
}
