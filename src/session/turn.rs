//! One turn: a user message → the answer, saved while it is generated. After a failed turn the head is where
//! it was before.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::truncate::{Truncation, drops, fit};
use super::{Error, OnEvent, PATIENCE, Session};
use crate::backend::{self, BackendEvent, ReplyStream};
use crate::chat::record::{self, Entry};
use crate::chat::settings::{Auto, Overflow};
use crate::chat::truncation::reserve;
use crate::chat::{
    Constraint, Event, Generation, Message, MessageId, Request, Role, Stats, StopReason, Task,
};
use crate::clock::now;

/// How long the first token waits for the disk at most.
const FIRST_WORD: Duration = Duration::from_secs(2);
/// How often a growing answer is saved.
const KEEPING: Duration = Duration::from_millis(700);
/// How long to wait for the stats of a stopped answer.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// A finished answer.
#[derive(Debug, Clone)]
pub struct Answer {
    pub text: String,
    /// The thinking before it.
    pub thinking: Option<String>,
    pub stats: Stats,
    /// From the request to the first text.
    pub first_token: Option<Duration>,
    /// Why it broke off; what had come is kept.
    pub error: Option<backend::Error>,
    /// What it was to match, but does not.
    pub unmatched: Option<&'static str>,
}

/// A failed turn, after which the head is where it was before.
#[derive(Debug)]
pub struct FailedTurn {
    pub error: Error,
    /// The user's message, for the line editor.
    pub message: Option<Box<Message>>,
}

impl Session {
    /// The request for the next answer.
    pub(super) fn request(&self, messages: Vec<Arc<Message>>, answer_prefix: Message) -> Request {
        let predict = self.settings().predict.unwrap_or(self.options.default_predict);
        Request {
            messages,
            dropped: self.conversation.dropped(self.model().context_limit),
            reserve: 1,
            answer_prefix: answer_prefix.text().into_owned(),
            thinking_prefix: answer_prefix.thinking.unwrap_or_default(),
            raw: self.options.raw,
            special: self.options.special,
            task: self.options.task.clone(),
            generation: self.generation(predict),
            cacheable: self.options.prompt_cache,
            conversation: self.journal.as_ref().map(|journal| journal.id().to_string()),
            no_cache: false,
            asked: Some(now()),
        }
    }

    fn generation(&self, predict: u32) -> Generation {
        let mut generation = Generation::of(self.settings(), self.seed(), predict);
        generation.logprobs = self.options.logprobs;
        if self.options.task != Task::Answer {
            generation.thinking.think = Auto::Off; // what follows the prompt is given
        }
        generation
    }

    /// The seed setting plus the number of this model's earlier answers to the same message; random if none is
    /// set.
    fn seed(&self) -> u32 {
        let others = self.conversation.answers_by(&self.model().name) as u32;
        let fresh = || RandomState::new().build_hasher().finish() as u32; // keyed by the system's randomness
        self.settings().sampling.seed.map_or_else(fresh, |seed| seed.wrapping_add(others))
    }

    /// Sends a message and returns the answer. If that fails, or is stopped before the first token, the head
    /// is where it was before.
    pub fn say(&mut self, message: Message, watch: OnEvent) -> Result<&Answer, FailedTurn> {
        if self.conversation.add_examples() && self.title.is_none() {
            // Not from the example.
            self.set_title(&Entry::new(MessageId::fresh(), None, message.clone()).title());
        }
        let before = self.conversation.head();
        match self.conversation.unanswered(&message) {
            Some(same) => self.conversation.move_to(Some(same)),
            None => _ = self.conversation.add(message.clone(), None, Some(now())),
        }
        self.keep_up();
        self.answer_begun(watch).map_err(|error| {
            self.conversation.move_to(before);
            self.keep_up();
            FailedTurn { error, message: Some(Box::new(message)) }
        })?;
        Ok(self.last.as_ref().expect("just answered"))
    }

    /// Another answer to the last user message, on a new branch.
    pub fn retry(&mut self, watch: OnEvent) -> Result<&Answer, FailedTurn> {
        let before = self.conversation.head();
        let nothing = FailedTurn { error: Error::NothingToAnswer, message: None };
        let question = self.conversation.last_user().ok_or(nothing)?;
        self.conversation.move_to(Some(question));
        let answered = self.answer_begun(watch);
        self.instead(before, answered)
    }

    /// Continues the last answer.
    pub fn more(&mut self, watch: OnEvent) -> Result<&Answer, FailedTurn> {
        let before = self.conversation.head();
        let answer = self.cut_off().map_err(|error| FailedTurn { error, message: None })?;
        let answer_prefix = self.conversation.message(answer).clone();
        self.conversation.move_to(self.conversation.parent(answer));
        let answered = self.answer(answer_prefix, watch);
        self.instead(before, answered)
    }

    /// The last answer, which was cut off, or why `more` cannot continue it.
    pub fn cut_off(&self) -> Result<MessageId, Error> {
        let answer = self.conversation.last_answer().ok_or(Error::NothingToContinue)?;
        let ended = self.conversation.stop_reason(answer) == Some(StopReason::End);
        if ended { Err(Error::NotCut) } else { Ok(answer) }
    }

    /// Where another answer to an earlier message failed, the head is where it was before.
    fn instead(
        &mut self,
        before: Option<MessageId>,
        answered: Result<(), Error>,
    ) -> Result<&Answer, FailedTurn> {
        answered.map_err(|error| {
            self.conversation.move_to(before);
            self.keep_up();
            FailedTurn { error, message: None }
        })?;
        Ok(self.last.as_ref().expect("just answered"))
    }

    /// Undoes the last exchange; returns the user's message.
    pub fn undo(&mut self) -> Option<Message> {
        let question = self.conversation.undo()?;
        self.keep_up();
        Some(self.conversation.message(question).clone())
    }

    /// Reverts the last undo; returns the user's message.
    pub fn redo(&mut self) -> Option<Message> {
        let question = self.conversation.redo()?;
        self.keep_up();
        Some(self.conversation.message(question).clone())
    }

    /// Goes to a message of any branch, and to the answer to it. `false`: the conversation was there already.
    pub fn go_to(&mut self, id: MessageId) -> bool {
        let moved = self.conversation.go_to(id);
        self.keep_up();
        moved
    }

    /// Sends `message` in place of the one at `place`, on a new branch.
    pub fn say_instead(
        &mut self,
        place: MessageId,
        message: Message,
        watch: OnEvent,
    ) -> Result<&Answer, FailedTurn> {
        let before = self.conversation.head();
        self.conversation.move_to(self.conversation.parent(place));
        let after = self.conversation.head();
        if let Err(failed) = self.say(message, watch) {
            debug_assert_eq!(self.conversation.head(), after);
            self.conversation.move_to(before);
            self.keep_up();
            return Err(failed);
        }
        self.conversation.said_instead(before);
        Ok(self.last.as_ref().expect("just answered"))
    }

    /// Requests an answer to the messages on the path, which continues `answer_prefix`, and adds it.
    pub(super) fn answer(&mut self, answer_prefix: Message, watch: OnEvent) -> Result<(), Error> {
        let asked = Instant::now();
        let overflow = self.settings().overflow.or(self.options.default_overflow);
        let mut request = self.request(self.conversation.view(), answer_prefix.clone());
        request.reserve = reserve(&request, overflow, self.model().context_limit);
        if watch(Some(&Event::Asked { seed: request.generation.seed })).is_break() {
            return Err(Error::Interrupted);
        }
        let mut written = Written::new(answer_prefix.clone(), asked);
        let (mut next, mut before, mut dropped_meanwhile) = (request.clone(), None::<Stats>, false);
        let mut broken = None;
        let stats = loop {
            let further = match self.receive(next.clone(), &request, &mut written, watch)? {
                Received::Stats(stats) => stats,
                Received::Broken(error) => {
                    broken = Some(error);
                    Stats::unknown(StopReason::Error, request.generation.seed)
                }
                Received::Full { prompt, limit, error } => {
                    match fit(&mut *self.backend, &mut next, overflow, (prompt, limit), watch)? {
                        Truncation::Fits => request.dropped.clone_from(&next.dropped),
                        Truncation::TooLong => return Err(Error::TooLong { error, droppable: false }),
                        Truncation::Kept => {
                            if overflow.is_none() {
                                let _ = watch(Some(&Event::Full { prompt, limit })); // the turn ends anyway
                            }
                            return Err(Error::TooLong { error, droppable: true });
                        }
                    }
                    continue;
                }
            };
            let stats = match before {
                Some(before) => before.and(further),
                None => further,
            };
            match self.longer(&request, &written.message, overflow, &stats, watch) {
                Some(longer) => next = longer,
                None => break stats,
            }
            request.dropped.clone_from(&next.dropped);
            dropped_meanwhile |= written.first_token.is_some();
            before = Some(stats);
        };
        let Written { id, message, first_token, .. } = written;
        if stats.stop == StopReason::Interrupted && message == answer_prefix {
            return Err(Error::Interrupted);
        }
        let how = record::AnswerRecord { dropped_meanwhile, ..self.how(&request, Some(&stats)) };
        let (text, thinking) = (message.text().into_owned(), message.thinking.clone());
        let answer = self.conversation.add_as(id, message, Some(how), Some(now()));
        self.keep_up();
        let constraint = request.generation.constraint.as_ref();
        let constraint = constraint.filter(|_| stats.stop != StopReason::Choice);
        let matches = if self.model().host.is_some() { backend::matches_loosely } else { backend::matches };
        let unmatched = constraint.filter(|constraint| !matches(constraint, &text));
        let unmatched = unmatched.map(Constraint::kind);
        self.last = Some(Answer { text, thinking, stats, first_token, error: broken, unmatched });
        self.prefill_disabled = false;
        self.answered = Some((answer, request));
        Ok(())
    }

    /// Sends a request and receives the answer, saving it in the meantime as the answer to `asked_for`.
    fn receive(
        &mut self,
        request: Request,
        asked_for: &Request,
        written: &mut Written,
        watch: OnEvent,
    ) -> Result<Received, Error> {
        let seed = request.generation.seed;
        let goes_on = written.first_token.is_some();
        let reply = self.backend.reply(request);
        let mut full = None;
        loop {
            let event = match reply.next(PATIENCE) {
                Some(BackendEvent::Done(Ok(stats))) => return Ok(Received::Stats(stats)),
                Some(BackendEvent::Done(Err(error)))
                    if error.is_broken_off() && written.first_token.is_some() =>
                {
                    return Ok(Received::Broken(error));
                }
                Some(BackendEvent::Done(Err(error))) => {
                    let Some((prompt, limit)) = full else {
                        self.save_partial(asked_for, written);
                        return Err(error.into());
                    };
                    return Ok(Received::Full { prompt, limit, error });
                }
                Some(BackendEvent::Progress(Event::Full { prompt, limit })) => {
                    full = Some((prompt, limit));
                    None
                }
                Some(BackendEvent::Progress(Event::Notice(_))) if goes_on => None, // shown before
                Some(BackendEvent::Progress(event)) => Some(event),
                Some(BackendEvent::Ready) | None => None,
            };
            if written.takes(event.as_ref()) && written.saved.is_none() {
                // The user's message is on disk before the first token is shown.
                self.journal.iter_mut().for_each(|journal| journal.flush(FIRST_WORD));
            }
            // Also when no more tokens arrive.
            if written.saved.is_none_or(|saved| saved.elapsed() >= KEEPING) {
                self.save_partial(asked_for, written);
            }
            if watch(event.as_ref()).is_break() {
                reply.cancel();
                return Ok(Received::Stats(last_words(&reply, seed)));
            }
        }
    }

    /// Saves what has been written of the answer to `asked_for`, if there is more than before.
    fn save_partial(&mut self, asked_for: &Request, written: &mut Written) {
        if !written.unsaved {
            return;
        }
        (written.saved, written.unsaved) = (Some(Instant::now()), false);
        let answer = Some(Box::new(self.how(asked_for, None)));
        let entry = Entry::new(written.id, self.conversation.head(), written.message.clone());
        if let Some(journal) = &mut self.journal {
            journal.partial(&self.conversation, Entry { created: Some(now()), answer, ..entry });
        }
    }

    /// The request that continues an answer cut off by a full context, if more messages can be dropped.
    fn longer(
        &mut self,
        request: &Request,
        written: &Message,
        overflow: Option<Overflow>,
        stats: &Stats,
        watch: OnEvent,
    ) -> Option<Request> {
        if stats.stop != StopReason::Context || !drops(overflow) {
            return None;
        }
        let (answer_prefix, thinking_prefix) =
            (written.text().into_owned(), written.thinking.clone().unwrap_or_default());
        let mut longer = Request { answer_prefix, thinking_prefix, ..request.clone() };
        let most = &mut longer.generation.max_tokens;
        *most = most.saturating_sub(stats.generated_tokens.unwrap_or(0) as u32);
        longer.reserve = reserve(&longer, overflow, stats.context_limit);
        let full = (stats.context_used, stats.context_limit);
        fit(&mut *self.backend, &mut longer, overflow, full, watch).ok()?;
        (longer.dropped.count > request.dropped.count).then_some(longer)
    }
}

/// An answer that is being generated.
struct Written {
    id: MessageId,
    message: Message,
    asked: Instant,
    /// The time from the request to the first token.
    first_token: Option<Duration>,
    /// When it was last saved, and whether there is unsaved text.
    saved: Option<Instant>,
    unsaved: bool,
}

impl Written {
    fn new(message: Message, asked: Instant) -> Written {
        Written { id: MessageId::fresh(), message, asked, first_token: None, saved: None, unsaved: false }
    }

    /// Adds the text of an event; `true` if there is any.
    fn takes(&mut self, event: Option<&Event>) -> bool {
        match event {
            Some(Event::Text(piece)) => self.message.push_str(piece),
            Some(Event::Thinking { text, .. }) => {
                self.message.thinking.get_or_insert_default().push_str(text);
            }
            _ => return false,
        }
        self.first_token.get_or_insert(self.asked.elapsed());
        self.unsaved = true;
        true
    }
}

/// How a request ended.
enum Received {
    Stats(Stats),
    /// The answer broke off.
    Broken(backend::Error),
    /// The prompt leaves too little space for the answer; both numbers in tokens.
    Full {
        prompt: usize,
        limit: usize,
        error: backend::Error,
    },
}

/// An empty answer.
pub(super) fn empty_answer() -> Message {
    Message::new(Role::Assistant, "")
}

/// The stats of a stopped answer; empty ones if they take too long.
fn last_words(reply: &ReplyStream, seed: u32) -> Stats {
    let deadline = Instant::now() + LAST_WORDS;
    while let Some(left) = deadline.checked_duration_since(Instant::now()) {
        if let Some(BackendEvent::Done(Ok(stats))) = reply.next(left) {
            return Stats { stop: StopReason::Interrupted, ..stats };
        }
    }
    Stats::stopped(seed)
}
