//! A conversation that does not fit the context → the number of oldest messages to drop, and the request for
//! a summary of them. dropped.rs has the model's view without them.

use std::sync::Arc;

use super::dropped::Dropped;
use super::message::{Message, Role};
use super::request::Request;
use super::settings::{Auto, Overflow};

/// Tokens to reserve for an answer: one part in so many of the context, and at most this number.
const RESERVE_SHARE: usize = 8;
const MOST_RESERVE: usize = 512;
/// The same for a summary, and the fewest tokens that make one worthwhile.
const SUMMARY_SHARE: usize = 8;
const MOST_SUMMARY: usize = 512;
const LEAST_SUMMARY: usize = 24;

/// The approximate number of tokens of a message in a prompt.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TokenCount {
    /// Includes the template's text before the message.
    pub tokens: usize,
    /// Of these, the ones of attached files.
    pub attached: usize,
}

/// An estimate for backends that count no tokens: four bytes per token.
pub fn estimate(messages: &[Arc<Message>]) -> Vec<TokenCount> {
    let attached = |message: &Message| message.files().map(|file| file.content().len()).sum();
    let tokens = |bytes: usize| bytes.div_ceil(4);
    let of = |message: &Arc<Message>| TokenCount {
        tokens: tokens(message.content().len()),
        attached: tokens(attached(message)),
    };
    messages.iter().map(of).collect()
}

/// Tokens to reserve for the answer to a request: a share of the context if older messages may be dropped for
/// it, otherwise one. `limit`: tokens of context.
pub fn reserve(request: &Request, overflow: Option<Overflow>, limit: usize) -> usize {
    let speaks = |message: &&Arc<Message>| message.role != Role::System;
    let droppable = request.messages.iter().filter(speaks).count() > request.dropped.count + 1;
    match overflow {
        Some(Overflow::Stop) => 1,
        _ if !droppable => 1,
        _ => (limit / RESERVE_SHARE).min(MOST_RESERVE).min(request.generation.max_tokens as usize).max(1),
    }
}

/// A user message and the answers up to the next one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Exchange {
    pub messages: usize,
    /// Tokens freed by dropping it; attached files stay.
    pub tokens: usize,
}

/// How to make a prompt fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plan {
    /// It fits as it is.
    Fit,
    /// It fits without this number of oldest messages.
    Drop(usize),
    /// The prompt and one token of answer exceed the context.
    Refuse,
}

/// Decides how to fit a prompt of `prompt` tokens that must leave `reserve` tokens of `limit` for the answer.
/// Drops the oldest exchanges until half of the context is free, so that not every request evaluates the rest
/// again. The last exchange is being answered and stays.
pub fn plan(prompt: usize, reserve: usize, exchanges: &[Exchange], limit: usize) -> Plan {
    if prompt + reserve <= limit {
        return Plan::Fit;
    }
    let (mut rest, mut messages) = (prompt, 0);
    let older = exchanges.split_last().map_or(exchanges, |(_, older)| older);
    for exchange in older {
        if rest <= limit / 2 {
            break;
        }
        rest = rest.saturating_sub(exchange.tokens);
        messages += exchange.messages;
    }
    match messages {
        _ if rest >= limit => Plan::Refuse,
        0 => Plan::Fit,
        messages => Plan::Drop(messages),
    }
}

/// The exchanges of a conversation, oldest first, from the token counts of its messages.
pub fn exchanges(messages: &[Arc<Message>], counts: &[TokenCount]) -> Vec<Exchange> {
    let mut exchanges: Vec<Exchange> = Vec::new();
    for (message, count) in messages.iter().zip(counts) {
        let tokens = count.tokens.saturating_sub(count.attached);
        match (&message.role, exchanges.last_mut()) {
            (Role::System, _) => {}
            (role, Some(last)) if role.answers() => {
                *last = Exchange { messages: last.messages + 1, tokens: last.tokens + tokens };
            }
            _ => exchanges.push(Exchange { messages: 1, tokens }),
        }
    }
    exchanges
}

/// The request for a summary of the first `count` messages in view. Its prompt begins like the conversation,
/// so that only the instruction is evaluated. `limit`: tokens of context.
pub fn summarise(request: &Request, count: usize, limit: usize) -> Request {
    let most = (limit / SUMMARY_SHARE).min(MOST_SUMMARY);
    let mut to_drop = count;
    let mut messages = request.visible();
    messages.retain(|message| {
        let stays = message.role == Role::System || to_drop > 0;
        to_drop -= usize::from(message.role != Role::System && to_drop > 0);
        stays
    });
    messages.push(Arc::new(Message::new(
        Role::User,
        format!(
            "Summarise our conversation so far in at most {} words, so that it can be continued without it: what was asked, what \
             was answered, names, numbers, decisions, open questions. Write the summary only.",
            most / 2
        ),
    )));
    let (answer_prefix, thinking_prefix) = (String::new(), String::new());
    let mut asked =
        Request { messages, dropped: Dropped::default(), answer_prefix, thinking_prefix, ..request.clone() };
    asked.reserve = LEAST_SUMMARY;
    asked.generation.thinking.think = Auto::Off;
    asked.generation.sampling.temp = 0.0;
    asked.generation.stop.clear();
    asked.generation.constraint = None;
    asked.generation.max_tokens = most as u32;
    asked
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_exchanges_are_dropped_down_to_half() {
        let exchanges = [100, 100, 100, 100, 90].map(|tokens| Exchange { messages: 2, tokens });
        let plan = |prompt, reserve, exchanges: &[Exchange]| plan(prompt, reserve, exchanges, 512);
        assert_eq!(plan(490, 22, &exchanges), Plan::Fit);
        assert_eq!(plan(491, 22, &exchanges), Plan::Drop(6), "191 are left");
        assert_eq!(
            plan(800, 1, &exchanges),
            Plan::Drop(8),
            "400 are left: more than half, but no other exchange can be dropped"
        );
        assert_eq!(plan(912, 1, &exchanges), Plan::Refuse);
        assert_eq!(plan(511, 100, &exchanges[4..]), Plan::Fit, "a short answer is better than none");
        assert_eq!(plan(512, 0, &[]), Plan::Fit);
        assert_eq!(plan(512, 1, &[]), Plan::Refuse);
        let staying = [Exchange { messages: 2, tokens: 10 }, Exchange { messages: 1, tokens: 600 }];
        assert_eq!(plan(600, 1, &staying), Plan::Refuse, "files stay");
    }
}
