//! One answer as JSON: `--json`'s object, and the lines of `--json-stream`.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::chat::{Choice, Event, StopReason};
use crate::failure::{Exit, Failure};
use crate::session::{Answer, Session};
use crate::settings::{Group, SETTINGS, setting};

/// `--json`'s object for an answer.
pub(super) fn answered(
    session: &Session,
    answer: &Answer,
    kept: Option<String>,
    first_token: Option<Duration>,
    started: Instant,
) -> Value {
    let stats = &answer.stats;
    let seconds = |time: Duration| json!(time.as_secs_f64());
    json!({
        "text": answer.text,
        "thinking": answer.thinking,
        "stop_reason": stats.stop.name(),
        "conversation": kept,
        "tokens": {
            "prompt": stats.prompt_tokens,
            "cached": stats.cached_tokens,
            "generated": stats.generated_tokens,
            "drafted": stats.drafts.map(|drafts| drafts.drafted),
            "accepted": stats.drafts.map(|drafts| drafts.accepted),
        },
        "timings": {
            "load": seconds(stats.load),
            "prompt": seconds(stats.prompt),
            "first_token": first_token.map(seconds),
            "generation": seconds(stats.generation),
            "total": seconds(started.elapsed()),
        },
        "speed": { "prompt": stats.prompt_speed(), "generation": stats.generation_speed() },
        "seed": stats.seed,
        "model": model(Some(session)),
        "sampling": sampling(session),
        "error": answer.error.clone().map(|error| error_object(&error.into())),
    })
}

/// `--json`'s object without an answer: the same fields, and the error.
pub(super) fn failed(session: Option<&Session>, failure: &Failure, started: Instant) -> Value {
    let stop = if failure.exit == Exit::Interrupted { StopReason::Interrupted } else { StopReason::Error };
    json!({
        "text": "",
        "thinking": null,
        "stop_reason": stop.name(),
        "conversation": session.and_then(Session::saved_id),
        "tokens": { "prompt": 0, "cached": 0, "generated": 0, "drafted": 0, "accepted": 0 },
        "timings": {
            "load": 0.0, "prompt": 0.0, "first_token": null, "generation": 0.0,
            "total": started.elapsed().as_secs_f64(),
        },
        "speed": { "prompt": null, "generation": null },
        "seed": session.and_then(|s| s.settings().sampling.seed),
        "model": model(session),
        "sampling": session.map_or(json!({}), sampling),
        "error": error_object(failure),
    })
}

fn error_object(failure: &Failure) -> Value {
    json!({ "message": failure.message, "hint": failure.hint })
}

fn model(session: Option<&Session>) -> Value {
    session.map_or(Value::Null, |session| {
        let model = session.model();
        let setting = |name| setting(name).map(|row| (row.get)(session.settings()));
        json!({
            "name": model.name,
            "path": model.path.as_ref().map(|path| path.to_string_lossy()),
            "fingerprint": model.host.is_none().then_some(&model.fingerprint),
            "device": model.device,
            "batch_size": session.settings().batch_size,
            "flash_attn": setting("flash-attn").filter(|_| model.host.is_none()),
        })
    })
}

/// All sampling settings by name: numbers as numbers, the others as on the command line.
fn sampling(session: &Session) -> Value {
    let rows = SETTINGS.iter().filter(|row| row.group == Group::Sampling && row.name != "seed");
    let value = |text: String| {
        let whole = text.parse::<i64>().map(|number| json!(number));
        whole.unwrap_or_else(|_| text.parse::<f64>().map_or(json!(text), |number| json!(number)))
    };
    Value::Object(rows.map(|row| (row.name.to_string(), value((row.get)(session.settings())))).collect())
}

/// The line of an event; `None`: it is only for people.
pub(super) fn event(event: &Event, session: &Facts) -> Option<Value> {
    match event {
        Event::Asked { seed } => Some(json!({
            "event": "start", "model": session.model, "seed": seed, "sampling": session.sampling,
        })),
        Event::Thinking { text, .. } => Some(json!({ "event": "thinking", "text": text })),
        Event::Text(text) => Some(json!({ "event": "text", "text": text })),
        Event::Token(told) => {
            let mut line = json!({ "event": "token" });
            line.as_object_mut()?.extend(told.to_json().as_object()?.clone());
            Some(line)
        }
        _ => None,
    }
}

/// One of the choices.
pub(super) fn choice(choice: &Choice) -> Value {
    json!({ "text": choice.text, "probability": choice.probability, "logprob": choice.logprob })
}

/// What the first line tells of a session.
pub(super) struct Facts {
    model: Value,
    sampling: Value,
}

impl Facts {
    pub(super) fn of(session: &Session) -> Facts {
        Facts { model: model(Some(session)), sampling: sampling(session) }
    }
}

/// The last lines of a stream whose outcome is this object.
pub(super) fn last(object: Value) -> Vec<Value> {
    let error = &object["error"];
    let error = (!error.is_null())
        .then(|| json!({ "event": "error", "message": error["message"], "hint": error["hint"] }));
    let stats = json!({
        "event": "stats",
        "tokens": object["tokens"], "timings": object["timings"], "speed": object["speed"],
    });
    let mut end = json!({ "event": "end" });
    if let (Some(end), Value::Object(fields)) = (end.as_object_mut(), object) {
        end.extend(fields);
    }
    error.into_iter().chain([stats, end]).collect()
}
