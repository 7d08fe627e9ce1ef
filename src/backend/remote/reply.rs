//! One answer: checks that the prompt fits, asks, and passes on what comes until the end, a fault, or a
//! cancellation.

use std::cell::OnceCell;
use std::io::Read;
use std::sync::atomic::AtomicBool;

use serde_json::Value;

use super::client::HTML;
use super::constrained::constrained;
use super::delta::Answer;
use super::fault::Fault;
use super::question::{continues, question};
use super::sse::Events;
use super::{Open, count, is_cancelled};
use crate::backend::Error;
use crate::chat::{Event, Request, Stats, StopReason};
use crate::engine;
use crate::http::{HttpResponse, lost};

/// Bytes read at once.
const PIECE: usize = 16 << 10;
/// Most bytes of one answer.
const MOST: u64 = 1 << 30;
/// The data of the last event.
const DONE: &str = "[DONE]";

/// Answers a request. What was shown before an error is the beginning of an answer.
pub(super) fn answer(
    open: &Open,
    request: &Request,
    cancel: &AtomicBool,
    show: &mut dyn FnMut(Event),
) -> Result<Stats, Error> {
    let (client, facts) = (&open.client, &open.facts);
    if continues(request) && !facts.kind.continues() {
        return Err(client.fault(Fault::CannotContinue));
    }
    open.lacking(request).into_iter().for_each(|line| show(Event::Notice(line)));
    let limit = open.facts.model.context.unwrap_or(0);
    if let Some(prompt) = count::too_long(open, request, limit) {
        if prompt.estimated {
            show(Event::Notice(open.estimated(prompt.tokens)));
        }
        return Err(too_long(prompt.tokens, limit, show));
    }
    let (path, mut body) = question(request, facts, &open.template_args);
    let mut guard = None;
    if let Some(constraint) = &request.generation.constraint {
        let asked = constrained(constraint, facts.kind, &request.answer_prefix);
        let ((field, value), watching) = asked.map_err(|fault| client.fault(fault))?;
        body[field] = value;
        guard = Some(watching);
    }
    let mut answer = Answer::to(request, limit);
    let response = client.begin(path, &body, cancel, &mut |line| show(Event::Notice(line)));
    let response = match response {
        Ok(response) if response.status == 200 => response,
        Ok(response) => {
            let status = response.status;
            if (300..400).contains(&status) {
                return Err(client.refusal(response));
            }
            let body = response.text(64 << 10);
            return Err(match count::overflow(status, &body, request, limit) {
                Some((prompt, limit)) => too_long(prompt, limit, show),
                None => client.refused(status, &body),
            });
        }
        Err(_) if is_cancelled(cancel) => return Err(Error::Interrupted),
        Err(error) => return Err(error),
    };
    let unmatched = OnceCell::new();
    let mut show = |event: Event| {
        if let (Event::Text(text), Some(guard), None) = (&event, &mut guard, unmatched.get())
            && let Err(fault) = guard.takes(text)
        {
            let _ = unmatched.set(fault);
        }
        if unmatched.get().is_none() {
            show(event);
        }
    };
    let ended = receive(
        open,
        response,
        &mut answer,
        &|| is_cancelled(cancel) || unmatched.get().is_some(),
        &mut show,
    );
    if is_cancelled(cancel) {
        return Ok(answer.end(Some(StopReason::Interrupted), &mut show));
    }
    let why = match ended {
        Ok(()) => {
            let stats = answer.end(None, &mut show);
            let fault = unmatched.get().cloned();
            let whole =
                guard.filter(|_| stats.stop == StopReason::End).map_or(Ok(()), |mut guard| guard.ends());
            return match fault.map_or(whole, Err) {
                Ok(()) => Ok(stats),
                Err(fault) => Err(client.fault(fault)),
            };
        }
        Err(Broken::Refused(error)) => return Err(error),
        Err(Broken::Wrong(why)) if !answer.has_begun() => {
            return Err(client.fault(Fault::NotTheApi(why.into())));
        }
        Err(Broken::Wrong(why)) => format!("it {why}"),
        Err(Broken::Off(why)) => why,
    };
    answer.end(Some(StopReason::Error), &mut show);
    Err(client.fault(Fault::BrokeOff(why)))
}

/// Why no more comes.
enum Broken {
    /// Before any of it.
    Refused(Error),
    /// It is no such answer. The text continues a sentence that begins with the server's name.
    Wrong(&'static str),
    /// With the reason.
    Off(String),
}

fn too_long(prompt: usize, limit: usize, show: &mut dyn FnMut(Event)) -> Error {
    show(Event::Full { prompt, limit });
    Error::Engine(engine::Error::TooLong { prompt, limit })
}

/// Reads the body to the end of the answer.
fn receive(
    open: &Open,
    mut response: HttpResponse,
    answer: &mut Answer,
    ends: &dyn Fn() -> bool,
    show: &mut dyn FnMut(Event),
) -> Result<(), Broken> {
    let client = &open.client;
    let kind = response.header("content-type").unwrap_or_default().to_lowercase();
    if kind.contains("html") {
        return Err(Broken::Wrong(HTML));
    }
    if kind.contains("application/json") {
        let whole = client.json(response).map_err(Broken::Refused)?; // it does not stream
        return take(open, answer, &whole, show);
    }
    client.plain(&response).map_err(Broken::Refused)?;
    let (mut events, mut piece, mut read) = (Events::default(), vec![0; PIECE], 0);
    loop {
        let bytes = match response.body.read(&mut piece) {
            Ok(bytes) => bytes,
            Err(_) if ends() || answer.is_finished() => return Ok(()),
            Err(error) => return Err(Broken::Off(lost(&error))),
        };
        read += bytes as u64;
        let ended = match bytes {
            0 => std::mem::take(&mut events).finish().into_iter().collect(),
            bytes => events.push(&piece[..bytes]).map_err(|_| Broken::Wrong("sent a line without an end"))?,
        };
        for data in ended {
            if data.trim() == DONE {
                response.drain();
                return Ok(());
            }
            let chunk: Value = serde_json::from_str(&data).map_err(|_| {
                Broken::Wrong(if bytes == 0 {
                    "closed the connection"
                } else {
                    "sent an event that is not JSON"
                })
            })?;
            take(open, answer, &chunk, show)?;
        }
        if ends() {
            return Ok(());
        }
        match bytes {
            0 if answer.is_finished() => return Ok(()),
            0 if !answer.has_begun() => return Err(Broken::Wrong("closed the connection without an answer")),
            0 => return Err(Broken::Off("the connection was closed early".into())),
            _ if read > MOST => return Err(Broken::Wrong("does not stop sending")),
            _ => {}
        }
    }
}

/// Takes a chunk, or a whole answer. What comes without the probabilities that were asked for is refused.
fn take(open: &Open, answer: &mut Answer, chunk: &Value, show: &mut dyn FnMut(Event)) -> Result<(), Broken> {
    answer.take(chunk, show).map_err(Broken::Off)?;
    match answer.lacks_probabilities() {
        true => Err(Broken::Refused(open.client.fault(Fault::NoProbabilities))),
        false => Ok(()),
    }
}
