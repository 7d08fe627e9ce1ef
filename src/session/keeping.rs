//! Saving a conversation: the journal, the title, and the facts about each answer.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::Session;
use crate::backend::crash_mark;
use crate::chat::record::{self, Record};
use crate::chat::{Conversation, Request, Stats};
use crate::clock::now;
use crate::history::database::fresh_id;
use crate::history::journal::{Heading, Journal};

/// Suffix of a fork's title.
const FORK: &str = " (fork)";

impl Session {
    /// Saves the conversation from now on.
    pub fn start_journal(&mut self, file: PathBuf, about: Heading) {
        self.title.clone_from(&about.title);
        self.journal = Some(Journal::start(file, about, &self.conversation));
    }

    /// Problems with saving, one line each, reported once.
    pub fn troubles(&mut self) -> Vec<String> {
        self.journal.as_mut().map_or_else(Vec::new, Journal::troubles)
    }

    /// Waits a moment until the database has the conversation: it will be read.
    pub fn wait_for_database(&mut self) {
        const MOST: Duration = Duration::from_secs(2);
        self.journal.iter_mut().for_each(|journal| journal.wait_for_database(MOST));
    }

    /// Waits a moment for the disk. `false`: something could not be saved.
    pub fn finish(&mut self) -> bool {
        let kept = self.journal.as_mut().is_none_or(|journal| journal.finish(&self.conversation));
        let folder = self.config.paths.as_ref().map(|paths| &paths.working);
        if let Some((folder, journal)) = folder.zip(self.journal.as_ref()) {
            // An evaluation that is still running ends with the process, which is no crash.
            crash_mark::survived(folder, journal.id());
        }
        kept
    }

    /// The conversation as a record.
    pub fn record(&self) -> Record {
        let conversation = &self.conversation;
        let entries = conversation.entries().to_vec();
        let title = self.title.clone().or_else(|| entries.first().map(record::Entry::title));
        let created = entries.first().and_then(|entry| entry.created).unwrap_or_else(now);
        Record {
            id: self.record_id(),
            title: title.unwrap_or_default(),
            created,
            changed: now(),
            system: conversation.system.clone(),
            model: Some(self.model_name()),
            head: conversation.head(),
            entries,
        }
    }

    pub(super) fn record_id(&self) -> String {
        self.journal.as_ref().map_or(self.id.as_str(), Journal::id).to_string()
    }

    /// Switches to a saved conversation.
    pub fn turn_to(&mut self, record: &Record, about: Heading) {
        self.conversation = Conversation::from_record(record);
        self.title.clone_from(&about.title);
        self.id.clone_from(&record.id);
        self.last = None;
        (self.answered, self.beginning) = (None, None);
        if let Some(journal) = &mut self.journal {
            journal.turn_to(about, &self.conversation);
        }
    }

    /// Switches to a new conversation that begins with the path to the head.
    pub fn fork(&mut self) {
        let all = self.record();
        let entries: Vec<record::Entry> = all.path().into_iter().cloned().collect();
        let title = all.title.strip_suffix(FORK).unwrap_or(&all.title);
        let (title, last) = (format!("{title}{FORK}"), self.last.take());
        let beginning = self.beginning.take();
        let heading = Heading { title: Some(title), model: all.model.clone(), stored: None };
        self.turn_to(&Record { id: fresh_id(), entries, ..all }, heading);
        (self.last, self.beginning) = (last, beginning); // the copy has the same last answer
        self.keep_up();
    }

    /// The id for `--resume`; `None`: the conversation is not saved.
    pub fn saved_id(&self) -> Option<String> {
        let journal = self.journal.as_ref().filter(|journal| journal.has_begun());
        journal.map(|journal| journal.id().to_string())
    }

    pub fn set_title(&mut self, title: &str) {
        self.title = Some(title.to_string());
        self.journal.iter_mut().for_each(|journal| journal.set_title(title));
    }

    /// Saves the changes of the conversation.
    pub(super) fn keep_up(&mut self) {
        if let Some(journal) = &mut self.journal {
            journal.follow(&self.conversation);
        }
    }

    /// The facts needed to replay an answer. `stats` is `None` while the answer is being generated.
    pub(super) fn how(&self, request: &Request, stats: Option<&Stats>) -> record::AnswerRecord {
        let model = self.model();
        let tokens = |of: fn(&Stats) -> Option<usize>| stats.and_then(of).map_or(0, |tokens| tokens as u32);
        let milliseconds = |time: Duration| u32::try_from(time.as_millis()).unwrap_or(u32::MAX);
        record::AnswerRecord {
            stop: stats.map_or("", |stats| stats.stop.name()).into(),
            model: model.name.clone(),
            path: self.model_name(),
            fingerprint: model.fingerprint.clone(),
            stamp: model.stamp.clone(),
            template: model.template_sum.clone(),
            settings: self.shaping(),
            seed: Some(request.generation.seed),
            system: self.conversation.system.clone(),
            asked: request.asked,
            answer_prefix: request.answer_prefix.len() as u32,
            thinking_prefix: request.thinking_prefix.len() as u32,
            prompt_tokens: tokens(|stats| stats.prompt_tokens),
            cached_tokens: tokens(|stats| stats.cached_tokens),
            generated_tokens: tokens(|stats| stats.generated_tokens),
            dropped: request.dropped.count as u32,
            summary: request.dropped.summary.clone(),
            dropped_meanwhile: false,
            context_limit: model.context_limit as u32,
            prompt_time: stats.map_or(0, |stats| milliseconds(stats.prompt)),
            generation_time: stats.map_or(0, |stats| milliseconds(stats.generation)),
        }
    }

    /// The settings that affect an answer; shared with the previous answer if they are the same.
    fn shaping(&self) -> Arc<[(String, String)]> {
        let now = self.config.shaping();
        match self.conversation.last_shaping() {
            Some(before) if **before == *now => before.clone(),
            _ => now.into(),
        }
    }
}
