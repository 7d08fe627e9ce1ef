//! A backend for tests that answers from a file, so that chats are instant and exact.
//!
//! Each line of the file is one answer, with `\n` for a line break. The answers are used in order, then from
//! the first again. `\p` pauses for 50 ms, `\r` reports a prefill that is a quarter done, `\!` panics; a line
//! that begins with `!` fails with the rest of the line. First lines may be `name: NAME`, the model's name, and
//! `prefill: N`, the tokens that it says it prefills per second. Text between `<think>` and `</think>` is
//! thinking. Tokens are words, split at pauses.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use super::{Backend, BackendEvent, Description, Error, Inspect, Loading, Rendered, ReplyStream};
use crate::chat::{Counts, Event, Message, Request, Stats, StopReason, Task, TokenCount};
use crate::engine::prompt::format::{AnswerPrefix, ThinkingFormat};
use crate::engine::stream::reasoning::{Reasoning, ReplyDelta};
use crate::units::count;

const PAUSE: Duration = Duration::from_millis(50);
const LIMIT: usize = 1000;

pub struct Script {
    answers: Vec<String>,
    next: usize,
    /// Tokens per second; `None`: it takes no time.
    prefill_speed: Option<f64>,
    description: Description,
}

impl Script {
    pub fn read(path: &Path) -> Result<Script, Error> {
        let cannot = |e| Error::Script(format!("could not read the script {}: {e}", path.display()));
        let text = std::fs::read_to_string(path).map_err(cannot)?;
        let (name, text) = headed("name: ", &text);
        let (speed, text) = headed("prefill: ", text);
        let wrong = |_| Error::Script(format!("{}: prefill: must be a number", path.display()));
        let prefill_speed: Option<f64> = speed.map(|speed| speed.parse().map_err(wrong)).transpose()?;
        let answers: Vec<String> = text.lines().map(|line| line.replace("\\n", "\n")).collect();
        if answers.is_empty() {
            return Err(Error::Script(format!("the script {} is empty", path.display())));
        }
        let description = Description {
            name: name.unwrap_or("script").into(),
            facts: count(answers.len(), "answer"),
            device: "no model".into(),
            chats: true,
            context_limit: LIMIT,
            ..Description::default()
        };
        Ok(Script { answers, next: 0, prefill_speed, description })
    }
}

/// The value of a first line that begins so, and the text after that line.
fn headed<'a>(key: &str, text: &'a str) -> (Option<&'a str>, &'a str) {
    match text.strip_prefix(key).map(|text| text.split_once('\n').unwrap_or((text, ""))) {
        Some((value, rest)) => (Some(value), rest),
        None => (None, text),
    }
}

impl Backend for Script {
    fn load(&mut self) -> ReplyStream {
        let (events, inbox) = channel();
        let _ = events.send(BackendEvent::Ready);
        ReplyStream::new(inbox, Arc::default(), Arc::new(Loading::default()))
    }

    fn reply(&mut self, request: Request) -> ReplyStream {
        if request.task != Task::Answer {
            return ReplyStream::failed(Error::NoProbabilities(self.description.name.clone()));
        }
        let answer = self.answers[self.next % self.answers.len()].clone();
        self.next += 1;
        let (events, inbox) = channel();
        let cancel = Arc::new(AtomicBool::new(false));
        let watched = cancel.clone();
        std::thread::spawn(move || perform(&answer, &request, &events, &watched));
        ReplyStream::new(inbox, cancel, Arc::new(Loading::default()))
    }

    fn describe(&self) -> &Description {
        &self.description
    }

    fn inspect(&mut self) -> Option<&mut dyn Inspect> {
        Some(self)
    }
}

impl Inspect for Script {
    fn count(&mut self, request: Request) -> Result<Counts, Error> {
        let prompt = words(&request.visible());
        let seconds = self.prefill_speed.map_or(0.0, |speed| prompt as f64 / speed);
        let prefill = Duration::try_from_secs_f64(seconds).ok();
        Ok(Counts { prompt, cached: 0, limit: LIMIT, prefill, estimated: false })
    }

    fn token_counts(&mut self, messages: Vec<Arc<Message>>) -> Result<Vec<TokenCount>, Error> {
        let attached = |m: &Message| m.files().map(|file| file.content().split_whitespace().count()).sum();
        let count =
            |m: &Arc<Message>| TokenCount { tokens: words(std::slice::from_ref(m)), attached: attached(m) };
        Ok(messages.iter().map(count).collect())
    }

    fn render(&mut self, request: Request) -> Result<Rendered, Error> {
        let line = |m: &Arc<Message>| format!("[{}] {}", m.role.name(), m.content());
        let lines: Vec<String> = request.visible().iter().map(line).collect();
        let text = lines.join("\n") + &request.answer_prefix;
        let tokens = (0..).zip(text.split_inclusive(char::is_whitespace).map(String::from)).collect();
        Ok(Rendered { text, tokens, ..Rendered::default() })
    }
}

fn words(messages: &[Arc<Message>]) -> usize {
    messages.iter().map(|m| m.content().split_whitespace().count()).sum()
}

/// The tokens of an answer. A pause begins a token, so a pause inside a word splits it.
fn tokens(answer: &str) -> impl Iterator<Item = &str> {
    answer.split_inclusive(' ').flat_map(|word| {
        let pauses = word.match_indices("\\p").map(|(at, _)| at);
        let cuts = pauses.filter(|at| *at > 0 && !word[..*at].ends_with("\\p")).chain([word.len()]);
        cuts.scan(0, |from, to| Some(&word[std::mem::replace(from, to)..to]))
    })
}

fn send(piece: ReplyDelta, tokens: usize, events: &Sender<BackendEvent>) {
    let ReplyDelta { thinking: text, answer } = piece;
    let thinking = (!text.is_empty()).then_some(Event::Thinking { text, tokens });
    let answer = (!answer.is_empty()).then_some(Event::Text(answer));
    for event in thinking.into_iter().chain(answer) {
        let _ = events.send(BackendEvent::Progress(event)); // fails if the receiver has gone
    }
}

fn perform(answer: &str, request: &Request, events: &Sender<BackendEvent>, cancel: &AtomicBool) {
    if let Some(reason) = answer.strip_prefix('!') {
        let _ = events.send(BackendEvent::Done(Err(Error::Script(reason.into()))));
        return;
    }
    let started = Instant::now();
    let mut stop = StopReason::End;
    let (mut generated, mut thinking) = (0, 0);
    let tags = ThinkingFormat::tags("<think>", "</think>");
    let answer_prefix = AnswerPrefix { thinking: &request.thinking_prefix, text: &request.answer_prefix };
    let mut reasoning = Reasoning::after(&tags, None, answer_prefix);
    for word in tokens(answer) {
        let mut word = word;
        if let Some(rest) = word.strip_prefix("\\r") {
            let quarter = BackendEvent::Progress(Event::Prefill { done: 1, total: 4 });
            let _ = events.send(quarter); // fails if the receiver has gone
            word = rest;
        }
        while let Some(rest) = word.strip_prefix("\\p") {
            std::thread::sleep(PAUSE);
            word = rest;
        }
        assert!(!word.starts_with("\\!"), "as the script wants it");
        if cancel.load(Ordering::Relaxed) {
            stop = StopReason::Interrupted;
            break;
        }
        if generated >= request.generation.max_tokens as usize {
            stop = StopReason::Length;
            break;
        }
        generated += 1;
        thinking += usize::from(reasoning.thinks());
        send(reasoning.push(word), thinking, events);
    }
    send(reasoning.finish(), thinking, events);
    let prompt_tokens = words(&request.visible());
    let stats = Stats {
        stop,
        prompt_tokens: Some(prompt_tokens),
        generated_tokens: Some(generated),
        thinking_tokens: thinking,
        prompt: Duration::from_millis(1),
        prefill: Duration::from_millis(1),
        generation: started.elapsed(),
        context_used: prompt_tokens + generated,
        context_limit: LIMIT,
        ..Stats::stopped(request.generation.seed)
    };
    let _ = events.send(BackendEvent::Done(Ok(stats)));
}
