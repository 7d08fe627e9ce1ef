//! A conversation without its oldest messages, as the model sees it.
//!
//! Nothing is removed from the conversation itself. The system prompt stays in view. The first user message
//! in view carries the files of the dropped messages, and their summary if there is one.

use std::sync::Arc;

use super::message::{Message, Role};
use super::part::{Attachment, Part};

/// The dropped beginning of a conversation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dropped {
    /// The number of messages, not counting system messages.
    pub count: usize,
    /// The model's summary of them.
    pub summary: Option<String>,
}

/// The messages without the dropped ones. At least the last one stays.
pub fn visible(messages: &[Arc<Message>], dropped: &Dropped) -> Vec<Arc<Message>> {
    let speaks = |message: &&Arc<Message>| message.role != Role::System;
    let last = messages.iter().filter(speaks).count().saturating_sub(1);
    let mut to_drop = dropped.count.min(last);
    let mut carried: Vec<Part> = Vec::new();
    let mut seen: Vec<Arc<Message>> = Vec::with_capacity(messages.len());
    for message in messages {
        match message.role {
            Role::System => seen.push(message.clone()),
            _ if to_drop > 0 => {
                to_drop -= 1;
                let stays = |part: &&Part| matches!(part, Part::File(_) | Part::Media(_));
                carried.extend(message.parts.iter().filter(stays).cloned());
            }
            _ => seen.push(message.clone()),
        }
    }
    if let Some(summary) = &dropped.summary {
        let text = format!("Summary of the conversation before this message:\n{summary}");
        carried.push(Part::File(Attachment::new("summary", text)));
    }
    if let Some(first) = seen.iter_mut().find(|message| message.role == Role::User) {
        Arc::make_mut(first).parts.splice(0..0, carried);
    }
    seen
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conversation() -> Vec<Message> {
        let first = Message::new(Role::User, "what is in it?").with_files([Attachment::new("a", "file")]);
        let said = |role, text: &str| Message::new(role, text);
        let answers = [said(Role::Assistant, "words"), said(Role::User, "more"), said(Role::Assistant, "no")];
        let mut all = vec![said(Role::System, "be kind"), first];
        all.extend(answers);
        all.push(said(Role::User, "why?"));
        all
    }

    fn shown(count: usize, summary: Option<&str>) -> Vec<String> {
        let dropped = Dropped { count, summary: summary.map(String::from) };
        let conversation: Vec<Arc<Message>> = conversation().into_iter().map(Arc::new).collect();
        visible(&conversation, &dropped).iter().map(|message| message.content()).collect()
    }

    #[test]
    fn system_prompt_and_files_stay() {
        assert_eq!(shown(0, None), ["be kind", "file\n\nwhat is in it?", "words", "more", "no", "why?"]);
        assert_eq!(shown(2, None), ["be kind", "file\n\nmore", "no", "why?"]);
        let summary = "Summary of the conversation before this message:\nthey talked";
        assert_eq!(shown(4, Some("they talked")), ["be kind", &format!("file\n\n{summary}\n\nwhy?")]);
        assert_eq!(shown(99, None), ["be kind", "file\n\nwhy?"]);
    }
}
