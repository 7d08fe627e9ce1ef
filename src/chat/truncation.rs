//! A conversation that does not fit the context → how many of its oldest messages are dropped, and the request for a summary of
//! them. What the model then sees is in dropped.rs.

use std::sync::Arc;

use super::dropped::Dropped;
use super::message::{Message, Role};
use super::request::Request;
use super::settings::{Auto, Overflow};

/// Tokens to reserve for an answer: as a share of the context, and at most.
const ROOM_SHARE: usize = 8;
const MOST_ROOM: usize = 512;
/// The same for a summary, and the fewest tokens that make one worthwhile.
const SUMMARY_SHARE: usize = 8;
const MOST_SUMMARY: usize = 512;
const LEAST_SUMMARY: usize = 24;

/// The approximate number of tokens of a message in a prompt.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TokenCount {
    /// With the template's text before it.
    pub tokens: usize,
    /// Of these, the ones of attached files.
    pub attached: usize,
}

/// An estimate for backends that count no tokens: four bytes a token.
pub fn estimate(messages: &[Arc<Message>]) -> Vec<TokenCount> {
    let attached = |message: &Message| message.files().map(|file| file.content().len()).sum();
    let tokens = |bytes: usize| bytes.div_ceil(4);
    let of = |message: &Arc<Message>| TokenCount {
        tokens: tokens(message.content().len()),
        attached: tokens(attached(message)),
    };
    messages.iter().map(of).collect()
}

/// Tokens that the context must have left for the answer to a request: as many as an answer should have where older messages may
/// be dropped for it, one elsewhere. `limit`: tokens of context.
pub fn reserve(request: &Request, overflow: Option<Overflow>, limit: usize) -> usize {
    let speaks = |message: &&Arc<Message>| message.role != Role::System;
    let droppable = request.messages.iter().filter(speaks).count() > request.dropped.count + 1;
    match overflow {
        Some(Overflow::Stop) => 1,
        _ if !droppable => 1,
        _ => (limit / ROOM_SHARE).min(MOST_ROOM).min(request.generation.max_tokens as usize).max(1),
    }
}

/// A user message and the answers up to the next one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Exchange {
    pub messages: usize,
    /// Tokens that dropping it frees: attached files stay.
    pub tokens: usize,
}

/// Whether a prompt can be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plan {
    Fit,
    /// It can, after this number of messages is dropped.
    Drop(usize),
    /// The prompt and one token of answer exceed the context.
    Refuse,
}

/// Decides what becomes of a prompt of so many tokens that leaves less than `reserve` for the answer. The oldest exchanges are
/// dropped until half of `limit` is free, so that not every request evaluates the rest again. The last exchange is being answered
/// and stays.
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

/// The exchanges of a conversation, oldest first, from what each of its messages takes.
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

/// Asks for a summary of the first `count` messages that the model still sees. The prompt begins as the conversation does, so
/// that only the instruction is evaluated. `limit`: tokens of context.
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
            "400 are left: more than half, and nothing else can go"
        );
        assert_eq!(plan(912, 1, &exchanges), Plan::Refuse);
        assert_eq!(plan(511, 100, &exchanges[4..]), Plan::Fit, "less room is better than no answer");
        assert_eq!(plan(512, 0, &[]), Plan::Fit);
        assert_eq!(plan(512, 1, &[]), Plan::Refuse);
        let staying = [Exchange { messages: 2, tokens: 10 }, Exchange { messages: 1, tokens: 600 }];
        assert_eq!(plan(600, 1, &staying), Plan::Refuse, "files stay");
    }
}
