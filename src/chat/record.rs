//! A conversation as it is kept on disk, exported and imported: every message of its tree with what is known about it.

use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize};

use super::message::{Attachment, Role};
use super::settings::renamed;

/// A whole conversation. Plain data: whoever has one may change it without anything happening elsewhere.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Lower-case hexadecimal, at least 12 digits; people name a conversation by the first few.
    pub id: String,
    pub title: String,
    /// Milliseconds since 1970.
    pub created: i64,
    pub changed: i64,
    /// What the model is told before anything else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    /// The model that answers from now on, as `-m` takes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Parents before their children.
    pub entries: Vec<Entry>,
    /// The last message of the path that is shown, as an index of `entries`.
    pub head: Option<usize>,
}

/// One message of the tree.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Index of the message before it, smaller than its own; `None`: a first message.
    pub parent: Option<usize>,
    pub role: Role,
    pub text: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attachments: Vec<Attachment>,
    /// Milliseconds since 1970, where it is known.
    pub created: Option<i64>,
    /// How an answer came about; `None` for what the user said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<Answer>,
}

/// All that is needed to give an answer again, as far as it is known.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Answer {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thinking: Option<String>,
    /// Why it ended, by its name; empty while it is being written.
    pub stop: String,
    pub model: String,
    /// The model's file, as `-m` takes it.
    pub path: String,
    pub fingerprint: String,
    /// Changes with every change to the model's files; empty where it is not known.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub stamp: String,
    /// A sum of the chat template; empty for none.
    pub template: String,
    /// The settings that shape an answer, names and values; answers in a row share them.
    #[serde(deserialize_with = "under_present_names")]
    pub settings: Arc<[(String, String)]>,
    pub seed: Option<u32>,
    /// What the model was told before anything else.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    /// When it was asked for, in milliseconds since 1970: templates may say the date.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asked: Option<i64>,
    /// Bytes at its beginning that an earlier answer had written, and of what was thought: it went on after them.
    #[serde(skip_serializing_if = "is_zero")]
    pub answer_prefix: u32,
    #[serde(skip_serializing_if = "is_zero")]
    pub thinking_prefix: u32,
    pub prompt_tokens: u32,
    pub cached_tokens: u32,
    pub generated_tokens: u32,
    /// Messages at the beginning of the path that the model was not given, system messages not counted.
    #[serde(skip_serializing_if = "is_zero")]
    pub dropped: u32,
    /// The summary it was given of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    /// Some of them left while it was being written.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub dropped_meanwhile: bool,
    /// The most tokens there could be; 0 where that is not known.
    #[serde(skip_serializing_if = "is_zero")]
    pub context_limit: u32,
    /// Milliseconds.
    pub prompt_time: u32,
    pub generation_time: u32,
}

/// Settings that were stored under former names.
fn under_present_names<'de, D: Deserializer<'de>>(input: D) -> Result<Arc<[(String, String)]>, D::Error> {
    let pairs = Vec::<(String, String)>::deserialize(input)?;
    let present = |name: String| renamed(&name).map_or(name, String::from);
    Ok(pairs.into_iter().map(|(name, value)| (present(name), value)).collect())
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

impl Record {
    /// Indices of the path to the head, oldest first.
    pub fn path(&self) -> Vec<usize> {
        let parent = |index: &usize| self.entries[*index].parent.filter(|parent| parent < index);
        let mut path: Vec<usize> = std::iter::successors(self.head, parent).collect();
        path.reverse();
        path
    }
}

impl Entry {
    /// A title for a conversation that begins with this message.
    pub fn title(&self) -> String {
        let file = self.attachments.first().filter(|_| self.text.trim().is_empty());
        title_from(file.map_or(&self.text, |file| &file.name))
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

    #[test]
    fn titles_are_the_first_words() {
        assert_eq!(title_from("  Why is\nthe sky blue? "), "Why is the sky blue?");
        assert_eq!(title_from(&"word ".repeat(40)), "word ".repeat(12).trim_end().to_string() + "…");
        assert_eq!(title_from(&"x".repeat(100)), "x".repeat(60) + "…");
        assert_eq!(title_from(""), "");
    }

    #[test]
    fn the_path_leads_to_the_head() {
        let entry = |parent| Entry {
            parent,
            role: Role::User,
            text: String::new(),
            attachments: Vec::new(),
            created: None,
            answer: None,
        };
        let entries = vec![entry(None), entry(Some(0)), entry(Some(0)), entry(Some(2))];
        let record = Record { entries, head: Some(3), ..Record::default() };
        assert_eq!(record.path(), [0, 2, 3]);
        assert!(Record::default().path().is_empty());
    }
}
