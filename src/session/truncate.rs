//! Drops the oldest messages of a request whose prompt does not fit the context; if the user wants that, the
//! model summarises them first.
//!
//! chat/truncation.rs decides what to drop. A backend only reports that a prompt does not fit and, if it can,
//! the tokens of each message.

use std::sync::Arc;

use super::{Error, OnEvent, PATIENCE};
use crate::backend::{Backend, BackendEvent};
use crate::chat::settings::Overflow;
use crate::chat::truncation::{self, Plan, TokenCount, exchanges, plan};
use crate::chat::{Event, Message, Request, Stats, StopReason};

/// The result of truncating a request that did not fit.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Truncation {
    /// It fits now.
    Fits,
    /// It does not fit even without all messages that may be dropped.
    TooLong,
    /// It fits only with messages dropped, which the user has not allowed.
    Kept,
}

/// Whether to drop the oldest messages without asking.
pub(super) fn drops(overflow: Option<Overflow>) -> bool {
    matches!(overflow, Some(Overflow::Roll | Overflow::Compact))
}

/// Drops messages from a request until its prompt leaves the tokens that the request reserves. The prompt has
/// `prompt` tokens now; the context holds `limit`.
pub(super) fn fit(
    backend: &mut dyn Backend,
    request: &mut Request,
    overflow: Option<Overflow>,
    (prompt, limit): (usize, usize),
    watch: OnEvent,
) -> Result<Truncation, Error> {
    let whole = request.clone();
    let mut tokens = prompt;
    while tokens + request.reserve > limit {
        let messages = request.visible();
        let exchanges = exchanges(&messages, &token_counts(backend, &messages)?);
        match plan(tokens, request.reserve, &exchanges, limit) {
            Plan::Fit => break,
            Plan::Refuse => return Ok(Truncation::TooLong),
            Plan::Drop(_) if !drops(overflow) => return Ok(Truncation::Kept),
            Plan::Drop(count) => {
                request.dropped.count += count;
                tokens = prompt_tokens(backend, request)?;
            }
        }
    }
    request.reserve = 1;
    let messages = request.dropped.count - whole.dropped.count;
    if messages == 0 {
        return Ok(Truncation::Fits);
    }
    if overflow == Some(Overflow::Compact) {
        match summary(backend, &whole, messages, limit, watch) {
            Ok(summary) => tokens = carry(backend, request, summary, (tokens, limit))?,
            Err(Error::Interrupted) => return Err(Error::Interrupted),
            Err(error) => tell(watch, Event::Notice(format!("it could not be summarised: {error}")))?,
        }
    }
    let dropped = request.dropped.clone();
    tell(watch, Event::Dropped { messages, tokens: prompt.saturating_sub(tokens), dropped })?;
    Ok(Truncation::Fits)
}

fn tell(watch: OnEvent, event: Event) -> Result<(), Error> {
    if watch(Some(&event)).is_break() { Err(Error::Interrupted) } else { Ok(()) }
}

fn token_counts(backend: &mut dyn Backend, messages: &[Arc<Message>]) -> Result<Vec<TokenCount>, Error> {
    match backend.inspect() {
        Some(inspect) => Ok(inspect.token_counts(messages.to_vec())?),
        None => Ok(truncation::estimate(messages)),
    }
}

fn prompt_tokens(backend: &mut dyn Backend, request: &Request) -> Result<usize, Error> {
    match backend.inspect() {
        Some(inspect) => Ok(inspect.count(request.clone())?.prompt),
        None => Ok(truncation::estimate(&request.visible()).iter().map(|count| count.tokens).sum()),
    }
}

/// The model's summary of the first `count` messages that are still in view.
fn summary(
    backend: &mut dyn Backend,
    request: &Request,
    count: usize,
    limit: usize,
    watch: OnEvent,
) -> Result<String, Error> {
    if !backend.describe().chats {
        return Err(Error::NoSummary("this model completes text and follows no instructions"));
    }
    tell(watch, Event::Notice("the conversation no longer fits: the model summarises its beginning".into()))?;
    let answer = whole_answer(backend, truncation::summarise(request, count, limit), watch);
    let (text, stats) = answer.map_err(|error| match error {
        Error::Backend(error) if error.is_too_long() => {
            Error::NoSummary("there is no room for it in the context")
        }
        error => error,
    })?;
    match stats.stop {
        StopReason::Interrupted => Err(Error::Interrupted),
        _ if text.trim().is_empty() => Err(Error::NoSummary("the model wrote nothing")),
        _ => Ok(text.trim().to_string()),
    }
}

/// Waits for an answer that is not shown.
fn whole_answer(
    backend: &mut dyn Backend,
    request: Request,
    watch: OnEvent,
) -> Result<(String, Stats), Error> {
    let reply = backend.reply(request);
    let mut text = String::new();
    loop {
        let flow = match reply.next(PATIENCE) {
            Some(BackendEvent::Done(done)) => return Ok((text, done?)),
            Some(BackendEvent::Progress(Event::Text(piece))) => {
                text.push_str(&piece);
                watch(None)
            }
            Some(BackendEvent::Progress(event @ (Event::Loading { .. } | Event::Prefill { .. }))) => {
                watch(Some(&event))
            }
            _ => watch(None),
        };
        if flow.is_break() {
            reply.cancel();
            return Err(Error::Interrupted);
        }
    }
}

/// Puts a summary in place of the dropped messages, if it fits; returns the tokens of the prompt.
fn carry(
    backend: &mut dyn Backend,
    request: &mut Request,
    summary: String,
    (tokens, limit): (usize, usize),
) -> Result<usize, Error> {
    let without = request.dropped.summary.replace(summary);
    let with = prompt_tokens(backend, request)?;
    if with >= limit {
        request.dropped.summary = without;
        return Ok(tokens);
    }
    Ok(with)
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::ops::ControlFlow;
    use std::sync::mpsc::channel;

    use super::super::{FailedTurn, ReadyModel, Session, SessionOptions};
    use super::*;
    use crate::backend::{self, Description, Inspect, Rendered, ReplyStream};
    use crate::chat::{Attachment, Counts, Dropped, Role};
    use crate::engine;
    use crate::settings::{Config, setting};

    /// A backend that gives prepared answers, one byte per token. Each message, and the start of the answer,
    /// takes three tokens more.
    struct Bytes {
        says: VecDeque<String>,
        /// Whether it reports token counts; otherwise its prompts have the usual four bytes per token.
        counts: bool,
        description: Description,
    }

    impl Bytes {
        fn prompt(&self, request: &Request) -> usize {
            let each = |m: &Arc<Message>| 3 + m.content().len() / if self.counts { 1 } else { 4 };
            request.visible().iter().map(each).sum::<usize>() + 3 + request.answer_prefix.len()
        }
    }

    impl Backend for Bytes {
        fn load(&mut self) -> ReplyStream {
            unreachable!("nothing is loaded here")
        }

        fn reply(&mut self, request: Request) -> ReplyStream {
            let (told, inbox) = channel();
            let (prompt, limit) = (self.prompt(&request), self.description.context_limit);
            let done = if prompt + request.reserve > limit {
                told.send(BackendEvent::Progress(Event::Full { prompt, limit })).unwrap();
                Err(engine::Error::TooLong { prompt, limit }.into())
            } else {
                let mut text = self.says.pop_front().expect("an answer is left");
                let mut stop = StopReason::End;
                if prompt + text.len() > limit {
                    self.says.push_front(text.split_off(limit - prompt));
                    stop = StopReason::Context;
                }
                let tokens = text.len();
                told.send(BackendEvent::Progress(Event::Text(text))).unwrap();
                Ok(Stats {
                    stop,
                    prompt_tokens: Some(prompt),
                    generated_tokens: Some(tokens),
                    context_used: prompt + tokens,
                    context_limit: limit,
                    ..Stats::stopped(1)
                })
            };
            told.send(BackendEvent::Done(done)).unwrap();
            ReplyStream::new(inbox, Arc::default(), Arc::default())
        }

        fn describe(&self) -> &Description {
            &self.description
        }

        fn inspect(&mut self) -> Option<&mut dyn Inspect> {
            if self.counts { Some(self) } else { None }
        }
    }

    impl Inspect for Bytes {
        fn count(&mut self, request: Request) -> Result<Counts, backend::Error> {
            let (prompt, limit) = (self.prompt(&request), self.description.context_limit);
            Ok(Counts { prompt, cached: 0, limit, prefill: None, estimated: false })
        }

        fn token_counts(&mut self, messages: Vec<Arc<Message>>) -> Result<Vec<TokenCount>, backend::Error> {
            let attached = |m: &Message| m.files().map(|file| file.content().len()).sum();
            let of = |m: &Arc<Message>| TokenCount { tokens: 3 + m.content().len(), attached: attached(m) };
            Ok(messages.iter().map(of).collect())
        }

        fn render(&mut self, _: Request) -> Result<Rendered, backend::Error> {
            unreachable!("nobody looks at the prompt here")
        }
    }

    /// A conversation with a system prompt, a file in the first message, and exchanges of 50 tokens each.
    struct Talk {
        session: Session,
        full: Option<(usize, usize)>,
        dropped: Option<Dropped>,
    }

    fn conversation(
        limit: usize,
        exchanges: usize,
        overflow: Option<Overflow>,
        says: &[&str],
        counts: bool,
    ) -> Talk {
        let says = says.iter().map(|text| text.to_string()).collect();
        let description = Description { context_limit: limit, chats: true, ..Description::default() };
        let backend = Bytes { says, counts, description };
        let overflow = overflow.map(|overflow| match overflow {
            Overflow::Roll => "roll",
            Overflow::Compact => "compact",
            Overflow::Stop => "stop",
        });
        let mut config = Config::default();
        config.set(setting("predict").unwrap(), Some("100")).unwrap();
        config.set(setting("overflow").unwrap(), overflow).unwrap();
        let ready = ReadyModel { start: Box::new(|| Box::new(backend)), config };
        let options = SessionOptions { system: Some("be kind".into()), ..SessionOptions::default() };
        let mut session = Session::new(ready, options);
        for n in 0..exchanges {
            let file = (n == 0).then(|| Attachment::new("f", "F".repeat(40)));
            let asked = Message::new(Role::User, "u".repeat(22)).with_files(file);
            session.conversation.add(asked, None, None);
            session.conversation.add(Message::new(Role::Assistant, "a".repeat(22)), None, None);
        }
        Talk { session, full: None, dropped: None }
    }

    impl Talk {
        /// Sends a message of this many tokens; returns the text of the answer.
        fn ask(&mut self, tokens: usize) -> Result<String, FailedTurn> {
            let (full, dropped) = (&mut self.full, &mut self.dropped);
            let answer = self.session.say(Message::new(Role::User, "q".repeat(tokens - 3)), &mut |event| {
                match event {
                    Some(Event::Full { prompt, limit }) => *full = Some((*prompt, *limit)),
                    Some(Event::Dropped { dropped: now, .. }) => *dropped = Some(now.clone()),
                    _ => {}
                }
                ControlFlow::Continue(())
            });
            answer.map(|answer| answer.text.clone())
        }
    }

    #[test]
    fn the_oldest_messages_are_dropped() {
        let mut short = conversation(400, 4, Some(Overflow::Roll), &["one"], true);
        assert_eq!((short.ask(25).unwrap().as_str(), short.dropped), ("one", None));
        let mut long = conversation(400, 7, Some(Overflow::Roll), &["two", "three"], true);
        assert_eq!(long.ask(25).unwrap(), "two");
        assert_eq!(long.dropped.take(), Some(Dropped { count: 10, summary: None }));
        assert_eq!((long.ask(25).unwrap().as_str(), long.dropped), ("three", None), "there is space again");
    }

    #[test]
    fn a_backend_that_counts_no_tokens_has_them_estimated() {
        let mut conversation = conversation(400, 30, Some(Overflow::Roll), &["one"], false);
        assert_eq!(conversation.ask(25).unwrap(), "one");
        assert!((20..=58).contains(&conversation.dropped.unwrap().count), "about half of it");
        assert!(conversation.session.count(None).unwrap_err().to_string().contains("counts no tokens"));
    }

    /// Whether a prompt that is too long would fit without the oldest messages; `None`: another error.
    fn droppable(asked: Result<String, FailedTurn>) -> Option<bool> {
        match asked.unwrap_err().error {
            Error::TooLong { droppable, .. } => Some(droppable),
            _ => None,
        }
    }

    #[test]
    fn nothing_is_dropped_unless_that_was_decided() {
        let mut undecided = conversation(400, 7, None, &[], true);
        assert_eq!((droppable(undecided.ask(25)), undecided.full), (Some(true), Some((430, 400))));
        let mut stopping = conversation(400, 7, Some(Overflow::Stop), &[], true);
        assert_eq!((droppable(stopping.ask(25)), stopping.full, stopping.dropped), (Some(true), None, None));
        let mut tight = conversation(400, 6, Some(Overflow::Stop), &["one"], true);
        assert_eq!((tight.ask(25).unwrap().as_str(), tight.dropped), ("one", None), "little space is enough");
        let mut alone = conversation(400, 0, Some(Overflow::Roll), &["one"], true);
        assert_eq!(alone.ask(380).unwrap(), "one");
        let mut long = conversation(400, 3, Some(Overflow::Roll), &[], true);
        assert_eq!(droppable(long.ask(503)), Some(false), "dropping does not help");
    }

    #[test]
    fn dropped_messages_are_summarised_where_that_is_wanted() {
        let mut short = conversation(1200, 20, Some(Overflow::Compact), &["first"], true);
        assert_eq!((short.ask(25).unwrap().as_str(), short.dropped), ("first", None));
        let mut long = conversation(1200, 22, Some(Overflow::Compact), &[" they were kind\n", "yes"], true);
        assert_eq!(long.ask(25).unwrap(), "yes");
        assert_eq!(long.dropped, Some(Dropped { count: 24, summary: Some("they were kind".into()) }));
        let seen = crate::chat::dropped::visible(&long.session.conversation.view(), &long.dropped.unwrap());
        let first = seen[1].content();
        assert!(first.starts_with(&"F".repeat(40)) && first.contains("they were kind"), "{first}");
        let mut silent = conversation(1200, 22, Some(Overflow::Compact), &["", "yes"], true);
        assert_eq!(silent.ask(25).unwrap(), "yes");
        assert_eq!(silent.dropped, Some(Dropped { count: 24, summary: None }), "the summary is empty");
    }

    #[test]
    fn an_answer_that_fills_the_context_goes_on() {
        let long = "abcdefghij".repeat(9);
        let mut conversation = conversation(400, 5, Some(Overflow::Roll), &[&long], true);
        assert_eq!(conversation.ask(25).unwrap(), long);
        assert_eq!(conversation.dropped.unwrap().count, 8);
        let stats = &conversation.session.last.as_ref().unwrap().stats;
        let counts = (stats.prompt_tokens, stats.generated_tokens);
        assert_eq!((stats.stop, counts), (StopReason::End, (Some(330), Some(90))));
    }
}
