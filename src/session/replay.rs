//! A saved answer → the same turn again, and the first difference between the two answers.
//!
//! The turn is repeated with the same model, settings, seed, system prompt, messages and date. The caches are
//! bypassed so that nothing else affects the answer.

use std::ops::ControlFlow;
use std::path::Path;

use super::{Error, ModelOpener, NO_LIMIT, OnEvent, PATIENCE};
use crate::backend::{Backend, BackendEvent};
use crate::chat::conversation::Conversation;
use crate::chat::record::{AnswerRecord, Entry, Record};
use crate::chat::{Dropped, Event, Generation, Message, Request, Role, Settings, Stats, StopReason, Task};
use crate::settings::setting;
use crate::settings::{Config, Source};

/// Bytes to generate beyond the difference, for display.
const BEYOND: usize = 200;

/// Replays answers, with one model loaded at a time.
pub struct Replay {
    config: Config,
    open: ModelOpener,
    loaded: Option<Loaded>,
}

struct Loaded {
    path: String,
    answer: AnswerRecord,
    settings: Settings,
    backend: Box<dyn Backend>,
}

/// The result of a replay.
#[derive(Debug)]
pub struct ReplayResult {
    pub message: Message,
    pub stats: Option<Stats>,
    /// Whether the model file is the unmodified original; otherwise only its fingerprint matches.
    pub same_file: bool,
    /// `None`: identical.
    pub difference: Option<Difference>,
}

/// The first difference between two answers.
#[derive(Debug, PartialEq, Eq)]
pub struct Difference {
    /// Whether it is in the thinking, not in the answer.
    pub thinking: bool,
    pub byte: usize,
    pub character: usize,
    /// Both texts in full.
    pub then: String,
    pub now: String,
}

impl Replay {
    pub fn new(config: Config, open: ModelOpener) -> Replay {
        Replay { config, open, loaded: None }
    }

    /// Replays one answer of a conversation.
    pub fn give(&mut self, record: &Record, entry: &Entry, watch: OnEvent) -> Result<ReplayResult, Error> {
        let unknown = Error::NotReplayable("this answer was imported, so its settings are unknown");
        let answer = entry.answer.as_deref().filter(|answer| !answer.settings.is_empty()).ok_or(unknown)?;
        if self.config.remote(&answer.path).is_some() {
            return Err(Error::NotReplayable("a server gave it, whose answers cannot be repeated exactly"));
        }
        if answer.dropped_meanwhile {
            return Err(Error::NotReplayable("messages were dropped from the context while it was written"));
        }
        if answer.stop == StopReason::Choice.name() {
            return Err(Error::NotReplayable("it was chosen among given answers, which were not saved"));
        }
        let then = &*entry.message;
        let loaded = self.loaded(answer)?;
        let request = request(record, entry, answer, &loaded.settings)?;
        let (message, stats) = ask(&mut *loaded.backend, request, then, watch)?;
        let same_file = loaded.backend.describe().stamp == answer.stamp;
        let difference = difference(then, &message, cut_anywhere(answer));
        Ok(ReplayResult { message, stats, same_file, difference })
    }

    /// The model of an answer, with the answer's settings.
    fn loaded(&mut self, answer: &AnswerRecord) -> Result<&mut Loaded, Error> {
        let given = self.config.source("model") >= Source::Environment;
        let path =
            self.config.settings().model.clone().filter(|_| given).unwrap_or_else(|| answer.path.clone());
        let made = |answer: &AnswerRecord| {
            let AnswerRecord { fingerprint, stamp, template, settings, .. } = answer.clone();
            (fingerprint, stamp, template, settings)
        };
        let same = |loaded: &&mut Loaded| loaded.path == path && made(&loaded.answer) == made(answer);
        if self.loaded.as_mut().filter(same).is_none() {
            self.loaded = None; // frees its memory for the next model
            self.loaded = Some(self.load(path, given, answer)?);
        }
        Ok(self.loaded.as_mut().expect("just loaded"))
    }

    /// `given`: the user named this file.
    fn load(&self, path: String, given: bool, answer: &AnswerRecord) -> Result<Loaded, Error> {
        let mut config = self.config.shaped(&answer.settings)?;
        for name in ["no-prompt-cache", "no-speculative"] {
            config.set(setting(name).expect("it is in the table"), Some("on"))?;
        }
        let by_name = || Path::new(&path).file_stem().map(|stem| stem.to_string_lossy().into_owned());
        let moved = |error| (self.open)(&config, &by_name().unwrap_or_default()).map_err(|_| error);
        let no_model = |error| Error::NoModel {
            model: answer.model.clone(),
            path: path.clone(),
            error: Box::new(error),
        };
        let ready = (self.open)(&config, &path).or_else(moved).map_err(no_model)?;
        let settings = ready.config.settings().clone();
        let mut backend = (ready.start)();
        let model = backend.describe();
        let different = if model.fingerprint != answer.fingerprint {
            Some(format!("it was given by {}, and {path} is another model now", answer.model))
        } else if model.template_sum != answer.template {
            Some("the chat template has changed".to_string())
        } else if model.stamp != answer.stamp && !given {
            Some(format!("{path} has changed since {} gave it", answer.model))
        } else {
            None
        };
        if let Some(different) = different {
            backend.close();
            return Err(Error::OtherModel(different));
        }
        Ok(Loaded { path, answer: answer.clone(), settings, backend })
    }
}

/// The original request.
fn request(
    record: &Record,
    entry: &Entry,
    answer: &AnswerRecord,
    settings: &Settings,
) -> Result<Request, Error> {
    let then = &entry.message;
    let asked = Record { head: entry.parent, system: answer.system.clone(), ..record.clone() };
    let answer_prefix = |text: &str, length: u32| text.get(..length as usize).map(String::from);
    let thinking = then.thinking.as_deref().unwrap_or_default();
    let answer_prefix = answer_prefix(&then.text(), answer.answer_prefix)
        .zip(answer_prefix(thinking, answer.thinking_prefix));
    let (answer_prefix, thinking_prefix) =
        answer_prefix.ok_or(Error::NotReplayable("the answer it continues has changed"))?;
    let seed = answer.seed.ok_or(Error::NotReplayable("its seed is unknown"))?;
    let ended_by_count = [StopReason::Length, StopReason::Context].map(StopReason::name);
    let counted = ended_by_count.contains(&answer.stop.as_str()) && answer.generated_tokens > 0;
    let max_tokens = if counted { answer.generated_tokens } else { NO_LIMIT };
    Ok(Request {
        messages: Conversation::from_record(&asked).view(),
        dropped: Dropped { count: answer.dropped as usize, summary: answer.summary.clone() },
        reserve: 1,
        answer_prefix,
        thinking_prefix,
        raw: false,
        special: false,
        task: Task::Answer,
        generation: Generation::of(settings, seed, max_tokens),
        cacheable: false,
        conversation: None,
        no_cache: true,
        asked: answer.asked,
    })
}

/// Whether the answer was cut off by the user or by the end of the program.
fn cut_anywhere(answer: &AnswerRecord) -> bool {
    answer.stop.is_empty() || answer.stop == StopReason::Interrupted.name()
}

/// Sends the request. If the answer differs, stops soon after the difference and returns no stats.
fn ask(
    backend: &mut dyn Backend,
    request: Request,
    then: &Message,
    watch: OnEvent,
) -> Result<(Message, Option<Stats>), Error> {
    let thinking = Some(request.thinking_prefix.clone()).filter(|text| !text.is_empty());
    let mut now = Message { thinking, ..Message::new(Role::Assistant, request.answer_prefix.clone()) };
    let reply = backend.reply(request);
    loop {
        let event = match reply.next(PATIENCE) {
            Some(BackendEvent::Done(done)) => return Ok((now, Some(done?))),
            Some(BackendEvent::Progress(event)) => Some(event),
            Some(BackendEvent::Ready) | None => None,
        };
        match &event {
            Some(Event::Thinking { text, .. }) => now.thinking.get_or_insert_default().push_str(text),
            Some(Event::Text(text)) => now.push_str(text),
            _ => {}
        }
        if watch(event.as_ref()).is_break() {
            reply.cancel();
            return Err(Error::Interrupted);
        }
        if far_beyond(thought(then), thought(&now)) || far_beyond(&then.text(), &now.text()) {
            reply.cancel();
            while !matches!(reply.next(PATIENCE), Some(BackendEvent::Done(_))) {
                if watch(None) == ControlFlow::Break(()) {
                    return Err(Error::Interrupted);
                }
            }
            return Ok((now, None));
        }
    }
}

fn thought(message: &Message) -> &str {
    message.thinking.as_deref().unwrap_or_default()
}

fn far_beyond(then: &str, now: &str) -> bool {
    now.len() > parting(then, now) + BEYOND
}

/// Length of the common prefix in bytes, whole characters only.
fn parting(a: &str, b: &str) -> usize {
    let same = a.chars().zip(b.chars()).take_while(|(a, b)| a == b);
    same.map(|(c, _)| c.len_utf8()).sum()
}

/// The first difference. `open`: the first answer was cut off, so its end does not count as a difference.
fn difference(then: &Message, now: &Message, open: bool) -> Option<Difference> {
    let part = |thinking: bool, then: &str, now: &str, open: bool| {
        let byte = parting(then, now);
        let same = then == now || open && byte == then.len();
        let character = then[..byte].chars().count();
        (!same).then(|| Difference { thinking, byte, character, then: then.into(), now: now.into() })
    };
    let still_thinking = open && then.text().is_empty();
    part(true, thought(then), thought(now), still_thinking)
        .or_else(|| part(false, &then.text(), &now.text(), open))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(thinking: &str, text: &str) -> Message {
        let thinking = Some(thinking.to_string()).filter(|text| !text.is_empty());
        Message { thinking, ..Message::new(Role::Assistant, text) }
    }

    #[test]
    fn the_first_difference_is_found() {
        let found =
            |then: &Message, now: &Message, open| difference(then, now, open).map(|d| (d.thinking, d.byte));
        let one = said("", "Größe");
        assert_eq!(found(&one, &said("", "Größe"), false), None);
        assert_eq!(found(&one, &said("", "Größer"), false), Some((false, 7)));
        assert_eq!(found(&one, &said("", "Größer"), true), None, "the saved answer was cut off");
        assert_eq!(found(&one, &said("", "Groß"), true), Some((false, 2)));
        assert_eq!(found(&one, &said("hm", "Größe"), true), Some((true, 0)));
        assert_eq!(found(&said("hm", ""), &said("hmm", "x"), true), None, "cut off while thinking");
        assert_eq!(found(&said("hm", "x"), &said("hmm", "x"), true), Some((true, 2)));
        assert_eq!(difference(&one, &said("", "Grüße"), false).unwrap().character, 2);
    }
}
