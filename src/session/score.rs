//! A given text → the probability of each of its tokens, told by the backend.

use super::{Error, OnEvent, PATIENCE, Session};
use crate::backend::BackendEvent;
use crate::chat::probability::TokenProbability;
use crate::chat::settings::Auto;
use crate::chat::{Event, Message, Request, Role, Score, Stats, StopReason, Task};

/// A text's tokens, and statistics of their evaluation.
#[derive(Debug, Clone)]
pub struct Scored {
    pub tokens: Vec<TokenProbability>,
    pub stats: Stats,
}

impl Session {
    /// Scores a text that follows `message`, or nothing.
    pub fn score(&mut self, message: Option<Message>, score: Score, watch: OnEvent) -> Result<Scored, Error> {
        let message = message.unwrap_or(Message::new(Role::User, ""));
        let mut request = self.next_request(Some(&message));
        request.generation.thinking.think = Auto::Off; // the text is all of the answer
        self.scored(Request { task: Task::Score(score), ..request }, watch)
    }

    /// Scores the last answer as the model saw it, with the `others` likeliest tokens in the place of each.
    pub fn score_last(&mut self, others: usize, watch: OnEvent) -> Result<Scored, Error> {
        let place = self.conversation.last_answer().ok_or(Error::NoAnswer)?;
        let answer = self.conversation.message(place).clone();
        let request = self.request_of_last();
        let (text, thinking) = (answer.text().into_owned(), answer.thinking.unwrap_or_default());
        let score = Score { text, thinking, chunk: None, most_chunks: None, others };
        let prefixes = (String::new(), String::new());
        let (answer_prefix, thinking_prefix) = prefixes;
        self.scored(Request { task: Task::Score(score), answer_prefix, thinking_prefix, ..request }, watch)
    }

    fn scored(&mut self, request: Request, watch: OnEvent) -> Result<Scored, Error> {
        let reply = self.backend.reply(request);
        let mut tokens = Vec::new();
        loop {
            let event = match reply.next(PATIENCE) {
                Some(BackendEvent::Done(done)) => {
                    let stats = done?;
                    if stats.stop == StopReason::Interrupted {
                        return Err(Error::Interrupted);
                    }
                    return Ok(Scored { tokens, stats });
                }
                Some(BackendEvent::Progress(Event::Token(token))) => {
                    tokens.push(*token);
                    None
                }
                Some(BackendEvent::Progress(event)) => Some(event),
                Some(BackendEvent::Ready) | None => None,
            };
            if watch(event.as_ref()).is_break() {
                reply.cancel();
                return Err(Error::Interrupted);
            }
        }
    }
}
