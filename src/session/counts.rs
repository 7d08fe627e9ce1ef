//! Counts tokens: of the conversation, of its messages, and of what the next one adds.

use std::sync::Arc;

use super::{Error, Session};
use crate::chat::truncation;
use crate::chat::{Attachment, Cost, Counts, Dropped, Message, Role, TokenCount};

impl Session {
    /// The tokens of the conversation with `next` at its end; estimated if the backend counts none.
    pub fn count(&mut self, next: Option<&Message>) -> Result<Counts, Error> {
        let request = self.next_request(next);
        if self.counts_exactly() {
            return Ok(self.inspect()?.count(request)?);
        }
        let prompt = truncation::estimate(&request.visible()).iter().map(|count| count.tokens).sum();
        let limit = self.model().context_limit;
        Ok(Counts { prompt, cached: 0, limit, prefill: None, estimated: true })
    }

    /// What `next` costs more than `before` at the end of the conversation.
    pub fn cost(&mut self, before: &Message, next: &Message) -> Result<Cost, Error> {
        Ok(Cost::between(self.count(Some(before))?, self.count(Some(next))?))
    }

    /// The tokens of each file of a message; estimated if the backend counts none.
    pub fn file_tokens(&mut self, message: &Message) -> Result<Vec<usize>, Error> {
        let alone = |file: &Attachment| Arc::new(Message::new(Role::User, "").with_files([file.clone()]));
        let messages: Vec<Arc<Message>> = message.files().map(alone).collect();
        Ok(self.of_each(messages)?.into_iter().map(|count| count.attached).collect())
    }

    /// The approximate tokens of each message on the path, with the system prompt, if any, first; and which
    /// of the other messages were dropped.
    pub fn token_counts(&mut self) -> Result<(Vec<usize>, Dropped), Error> {
        let request = self.next_request(None);
        Ok((self.of_each(request.messages)?.into_iter().map(|count| count.tokens).collect(), request.dropped))
    }

    /// The tokens of each message.
    fn of_each(&mut self, messages: Vec<Arc<Message>>) -> Result<Vec<TokenCount>, Error> {
        match self.counts_exactly() {
            true => Ok(self.inspect()?.token_counts(messages)?),
            false => Ok(truncation::estimate(&messages)),
        }
    }

    /// Whether the model is here, or may see the conversation and gives access to prompts and tokens.
    fn counts_exactly(&mut self) -> bool {
        self.model().host.is_none() || (self.leaves_for().is_none() && self.backend.inspect().is_some())
    }
}
