//! 4 — what does not fit: which messages leave the model's view, and what it writes down of them first.
//!
//! A turn goes in with the whole conversation and comes out with so much of its beginning left out that it can be answered.
//! Whole exchanges leave, the system prompt and attached files stay (`chat/truncation.rs`), and `cache::plan` decides. Nothing is
//! evaluated for that but the summary, if one is wanted. Next: prompt_cache.rs.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::cache::{self, Exchange, Plan, View};
use super::model::Model;
use super::prompt::format::AnswerPrefix;
use super::{Engine, Prompt, too_long};
use crate::chat::settings::{Auto, Overflow};
use crate::chat::{Dropped, Event, Message, Request, Role, Stats, StopReason};
use crate::error::Failure;

/// What an answer should have room for, as a share of the context, and the most that is kept free for it. In tokens.
const ROOM_SHARE: usize = 8;
const MOST_ROOM: usize = 512;
/// The same for a summary, and what is too little for one.
const SUMMARY_SHARE: usize = 8;
const MOST_SUMMARY: usize = 512;
const LEAST_SUMMARY: usize = 24;

/// A turn that can be answered.
pub(super) struct Fitted {
    pub(super) request: Request,
    pub(super) prompt: Prompt,
}

impl<M: Model> Engine<M> {
    /// Lets leave what must. `None`: it was stopped meanwhile.
    pub(super) fn fit(
        &mut self,
        request: &Request,
        cancel: &AtomicBool,
        show: &mut dyn FnMut(Event),
    ) -> Result<Option<Fitted>, Failure> {
        let prompt = self.prompt(request)?;
        let before = prompt.tokens.len();
        let mut fitted = Fitted { request: request.clone(), prompt };
        loop {
            let tokens = fitted.prompt.tokens.len();
            let count = match self.plan(&fitted.request, tokens) {
                Plan::Fit => break,
                Plan::Refuse { prompt, limit } => return Err(too_long(prompt, limit)),
                Plan::Drop(count) => count,
            };
            match request.overflow {
                Some(Overflow::Stop) if tokens < self.model.limit() => break,
                Some(Overflow::Roll | Overflow::Compact) => {}
                Some(Overflow::Stop) => return Err(would_roll(tokens, self.model.limit())),
                None => {
                    show(Event::Full { prompt: tokens, limit: self.model.limit() });
                    return Err(would_roll(tokens, self.model.limit()));
                }
            }
            fitted.request.dropped.count += count;
            fitted.prompt = self.prompt(&fitted.request)?;
        }
        let messages = fitted.request.dropped.count - request.dropped.count;
        if messages == 0 {
            return Ok(Some(fitted));
        }
        if request.overflow == Some(Overflow::Compact) {
            match self.summary(request, messages, cancel, show) {
                Ok(None) => return Ok(None),
                Ok(Some(summary)) => self.carry(summary, &mut fitted)?,
                Err(failure) => show(Event::Notice(format!("no summary could be made of it: {failure}"))),
            }
        }
        let tokens = before.saturating_sub(fitted.prompt.tokens.len());
        show(Event::Dropped { messages, tokens, dropped: fitted.request.dropped.clone() });
        Ok(Some(fitted))
    }

    /// An answer that the end of the context cut goes on when more of the conversation has left. `None`: it does not.
    pub(super) fn fit_more(
        &mut self,
        request: &Request,
        written: AnswerPrefix,
        stats: &Stats,
        cancel: &AtomicBool,
        show: &mut dyn FnMut(Event),
    ) -> Option<Fitted> {
        let rolls = matches!(request.overflow, Some(Overflow::Roll | Overflow::Compact));
        if stats.stop != StopReason::Context || !rolls {
            return None;
        }
        let predict = request.generation.max_tokens.saturating_sub(stats.generated_tokens as u32);
        let (answer_prefix, thinking_prefix) = (written.text.to_string(), written.thinking.to_string());
        let mut longer = Request { answer_prefix, thinking_prefix, ..request.clone() };
        longer.generation.max_tokens = predict;
        let fitted = self.fit(&longer, cancel, show).ok().flatten()?;
        (fitted.request.dropped.count > request.dropped.count).then_some(fitted)
    }

    fn plan(&self, request: &Request, prompt: usize) -> Plan {
        let limit = self.model.limit();
        let room = (limit / ROOM_SHARE).min(MOST_ROOM).min(request.generation.max_tokens as usize).max(1);
        if prompt + room <= limit {
            return Plan::Fit; // without looking at every message
        }
        cache::plan(View { prompt, room, exchanges: &self.exchanges(&request.visible()) }, limit)
    }

    /// What there is to leave. The files attached to a message do not leave with it.
    fn exchanges(&self, messages: &[Arc<Message>]) -> Vec<Exchange> {
        let mut exchanges: Vec<Exchange> = Vec::new();
        for (message, weight) in messages.iter().zip(self.token_counts(messages)) {
            let staying: usize = message
                .attachments
                .iter()
                .map(|file| self.model.tokenize(&file.content(), false).len())
                .sum();
            let tokens = weight.saturating_sub(staying);
            match (message.role, exchanges.last_mut()) {
                (Role::System, _) => {}
                (Role::Assistant, Some(last)) => {
                    *last = Exchange { messages: last.messages + 1, tokens: last.tokens + tokens };
                }
                _ => exchanges.push(Exchange { messages: 1, tokens }),
            }
        }
        exchanges
    }

    /// What the model says was said in the first `count` messages that it still sees. `None`: it was stopped.
    fn summary(
        &mut self,
        request: &Request,
        count: usize,
        cancel: &AtomicBool,
        show: &mut dyn FnMut(Event),
    ) -> Result<Option<String>, Failure> {
        if !self.prompter.chats() {
            return Err(Failure::new("this model completes text and follows no instruction"));
        }
        show(Event::Notice("the conversation no longer fits: the model summarises its beginning".into()));
        let asked = self.asking_for_summary(request, count)?;
        let prompt = self.prompt(&asked)?;
        let mut text = String::new();
        let stats = self.answer(&asked, &prompt, cancel, &mut |event| match event {
            Event::Text(piece) => text.push_str(&piece),
            event => show(event),
        })?;
        let text = text.trim();
        match stats.stop {
            StopReason::Interrupted => Ok(None),
            _ if text.is_empty() => Err(Failure::new("the model wrote nothing")),
            _ => Ok(Some(text.to_string())),
        }
    }

    /// A turn that begins as the conversation does, so that only the instruction is read.
    fn asking_for_summary(&self, request: &Request, count: usize) -> Result<Request, Failure> {
        let limit = self.model.limit();
        let most = (limit / SUMMARY_SHARE).min(MOST_SUMMARY);
        let mut to_leave = count;
        let mut messages = request.visible();
        messages.retain(|message| {
            let stays = message.role == Role::System || to_leave > 0;
            to_leave -= usize::from(message.role != Role::System && to_leave > 0);
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
        let mut asked = Request {
            messages,
            dropped: Dropped::default(),
            answer_prefix,
            thinking_prefix,
            ..request.clone()
        };
        asked.generation.thinking.think = Auto::Off;
        asked.generation.sampling.temp = 0.0;
        asked.generation.stop.clear();
        asked.generation.max_tokens =
            most.min(limit.saturating_sub(self.prompt(&asked)?.tokens.len())) as u32;
        if (asked.generation.max_tokens as usize) < LEAST_SUMMARY {
            return Err(Failure::new("there is no room for it in the context"));
        }
        Ok(asked)
    }

    /// Puts a summary in the place of what left, unless it would not fit.
    fn carry(&self, summary: String, fitted: &mut Fitted) -> Result<(), Failure> {
        let without = fitted.request.dropped.summary.replace(summary);
        let prompt = self.prompt(&fitted.request)?;
        if prompt.tokens.len() >= self.model.limit() {
            fitted.request.dropped.summary = without;
            return Ok(());
        }
        fitted.prompt = prompt;
        Ok(())
    }
}

fn would_roll(prompt: usize, limit: usize) -> Failure {
    too_long(prompt, limit).hint(
        "--overflow roll drops the oldest messages from the model's view, compact summarises them first",
    )
}

#[cfg(test)]
mod tests {
    use super::super::toy::Toy;
    use super::*;
    use crate::chat::{Attachment, Settings};

    const TEMPLATE: &str = "{% for m in messages %}<{{ m.role[0] }}>{{ m.content }}{% endfor %}{% if add_generation_prompt %}<a>{% endif %}";

    fn engine(limit: usize, says: &str) -> Engine<Toy> {
        let mut toy = Toy::saying(says);
        toy.limit = limit;
        Engine::new(toy, Some(TEMPLATE), &[]).unwrap()
    }

    /// A system prompt, a file with the first message, and so many exchanges of 50 tokens each, markup included.
    fn conversation(exchanges: usize, overflow: Option<Overflow>) -> Request {
        let said = |role, letter: &str| Message::new(role, letter.repeat(22));
        let mut messages = vec![Message::new(Role::System, "be kind")];
        for _ in 0..exchanges {
            messages.extend([said(Role::User, "u"), said(Role::Assistant, "a")]);
        }
        messages.push(said(Role::User, "q"));
        messages[1].attachments.push(Attachment::new("f", "F".repeat(40)));
        let mut request = Request { overflow, ..Request::new(messages, &Settings::default()) };
        request.generation.max_tokens = 100;
        request
    }

    /// What happened: the answer's text, how it ended, and what left.
    fn reply(
        engine: &mut Engine<Toy>,
        request: &Request,
    ) -> (String, Result<StopReason, Failure>, Option<Dropped>) {
        let (mut text, mut gone) = (String::new(), None);
        let done = engine.reply(request, &AtomicBool::new(false), &mut |event| match event {
            Event::Text(piece) => text.push_str(&piece),
            Event::Dropped { dropped, .. } => gone = Some(dropped),
            _ => {}
        });
        (text, done.map(|stats| stats.stop), gone)
    }

    #[test]
    fn a_message_counts_what_it_adds_to_the_prompt() {
        let turn = conversation(2, None);
        let engine = engine(1000, "");
        assert_eq!(engine.token_counts(&turn.messages), [10, 67, 25, 25, 25, 25]);
        let exchange = |messages, tokens| Exchange { messages, tokens };
        let expected = [exchange(2, 52), exchange(2, 50), exchange(1, 25)];
        assert_eq!(
            engine.exchanges(&turn.messages),
            expected,
            "the file stays, the blank line after it goes"
        );
    }

    #[test]
    fn the_oldest_leave_and_only_what_follows_them_is_read() {
        let mut engine = engine(400, "one\0two\0three");
        let (text, stop, gone) = reply(&mut engine, &conversation(4, Some(Overflow::Roll)));
        assert_eq!((text.as_str(), stop.unwrap(), gone), ("one", StopReason::End, None));
        let longer = conversation(7, Some(Overflow::Roll));
        let (text, stop, gone) = reply(&mut engine, &longer);
        assert_eq!((text.as_str(), stop.unwrap()), ("two", StopReason::End));
        let dropped = gone.unwrap();
        assert_eq!(dropped, Dropped { count: 10, summary: None });
        let seen = Request { dropped: dropped.clone(), ..longer.clone() };
        assert_eq!(seen.visible()[1].content(), "F".repeat(40) + "\n\n" + &"u".repeat(22));
        // What was in memory before begins with the system prompt, the file and the blank line after it.
        let again = engine.reply(&seen, &AtomicBool::new(false), &mut |_| {}).unwrap();
        assert_eq!((again.prompt_tokens, again.cached_tokens), (180, 179), "all of it is in memory now");
    }

    #[test]
    fn nothing_leaves_unless_that_was_decided() {
        let mut full = None;
        let mut engine = engine(400, "one");
        let asked = engine.reply(&conversation(7, None), &AtomicBool::new(false), &mut |event| {
            if let Event::Full { prompt, limit } = event {
                full = Some((prompt, limit));
            }
        });
        assert_eq!((asked.unwrap_err().exit, full), (crate::error::Exit::TooLong, Some((430, 400))));
        let (_, stop, gone) = reply(&mut engine, &conversation(7, Some(Overflow::Stop)));
        assert_eq!((stop.unwrap_err().exit, gone), (crate::error::Exit::TooLong, None));
        let (text, _, gone) = reply(&mut engine, &conversation(6, Some(Overflow::Stop)));
        assert_eq!((text.as_str(), gone), ("one", None), "little room for an answer, but some");
        let (_, alone, _) = reply(&mut engine, &conversation(0, Some(Overflow::Roll)));
        assert!(alone.is_ok());
        let mut long = conversation(3, Some(Overflow::Roll));
        Arc::make_mut(long.messages.last_mut().unwrap()).text = "q".repeat(500);
        assert_eq!(reply(&mut engine, &long).1.unwrap_err().exit, crate::error::Exit::TooLong);
    }

    #[test]
    fn what_leaves_is_summarised_where_that_is_wanted() {
        let mut engine = engine(1200, "first\0they were kind\0yes");
        let longer = conversation(22, Some(Overflow::Compact));
        assert_eq!(reply(&mut engine, &conversation(20, Some(Overflow::Compact))).2, None);
        let (text, stop, gone) = reply(&mut engine, &longer);
        assert_eq!((text.as_str(), stop.unwrap()), ("yes", StopReason::End));
        let dropped = gone.unwrap();
        assert_eq!(dropped, Dropped { count: 24, summary: Some("they were kind".into()) });
        let first = Request { dropped: dropped, ..longer }.visible().swap_remove(1).content();
        assert!(first.starts_with(&"F".repeat(40)) && first.contains("they were kind"), "{first}");
    }

    #[test]
    fn an_answer_that_fills_the_context_goes_on() {
        let long = "abcdefghij".repeat(13);
        let mut engine = engine(400, &long);
        let mut turn = conversation(5, Some(Overflow::Roll));
        turn.generation.max_tokens = 1000;
        let (text, stop, gone) = reply(&mut engine, &turn);
        assert_eq!((stop.unwrap(), gone.map(|dropped| dropped.count)), (StopReason::End, Some(8)));
        assert!(text.len() == long.len() || text.len() == long.len() - 1, "{text}");
    }
}
