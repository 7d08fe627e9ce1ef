//! One answer: prompt, stdin and attached files → the answer on stdout and an exit code.

use std::io::{self, ErrorKind};
use std::ops::ControlFlow;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::chat::message::join_parts;
use crate::chat::settings::{Auto, Overflow};
use crate::chat::{Attachment, Event, Message, Role, StopReason};
use crate::failure::{self, Exit, Failure};
use crate::files::reason;
use crate::input;
use crate::session::{Answer, Session, SessionOptions};
use crate::settings::{Group, SETTINGS, setting};
use crate::ui::{Screen, stats, terminal};

/// The placeholder for stdin in a prompt.
const SLOT: &str = "{stdin}";

/// Default limit of an answer, in tokens.
const PREDICT: u32 = 2048;

/// The message: attached files, then stdin, then the prompt. `None` if all are empty.
pub fn question(
    prompt: Option<&str>,
    files: &[impl AsRef<Path>],
    piped: Option<String>,
    header: Auto,
) -> Result<Option<Message>, Failure> {
    let mut attached = Vec::new();
    for file in files {
        attached.push(input::attach(file.as_ref())?);
    }
    let prompt = prompt.unwrap_or_default();
    let is_document = !files.is_empty() || header == Auto::On;
    let text = match piped {
        Some(piped) if prompt.contains(SLOT) && piped.is_empty() => {
            return Err(Failure::usage(format!("nothing was piped in for {SLOT}"))
                .hint(format!("--no-stdin leaves {SLOT} in the prompt as it is")));
        }
        Some(piped) if prompt.contains(SLOT) => prompt.replace(SLOT, &piped),
        Some(piped) if is_document && !piped.is_empty() => {
            attached.push(Attachment::new("stdin", piped));
            prompt.into()
        }
        piped => join_parts([piped.as_deref().unwrap_or_default(), prompt]),
    };
    let nothing = text.is_empty() && attached.iter().all(|a| a.text.is_empty());
    Ok((!nothing).then(|| Message::new(Role::User, text).with_files(attached).with_headers(header)))
}

/// Session options for one answer: a token limit, and no questions to the user.
pub fn options() -> SessionOptions {
    SessionOptions {
        default_predict: PREDICT,
        default_overflow: Some(Overflow::Stop),
        ..SessionOptions::default()
    }
}

/// How to print the answer.
#[derive(Debug, Clone, Copy)]
pub struct Manner {
    pub json: bool,
    /// Text completion, without a chat template.
    pub raw: bool,
    pub stats: bool,
    /// When the process started.
    pub started: Instant,
}

/// Sends the message and prints the answer while it is generated. Returns the exit code.
pub fn run(
    session: &mut Session,
    message: Message,
    screen: &mut Screen,
    manner: Manner,
) -> Result<Exit, Failure> {
    let mut output: io::Result<()> = Ok(());
    let mut first_token = None;
    let said = session.say(message, &mut |event| {
        if terminal::interrupted() {
            return ControlFlow::Break(());
        }
        screen.show_progress(event);
        if let Some(Event::Text(text)) = event {
            first_token.get_or_insert_with(|| manner.started.elapsed());
            if !manner.json {
                output = screen.answer(text);
            }
        }
        if output.is_err() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    screen.end_progress();
    match said {
        Ok(answer) => {
            let answer = answer.clone();
            finish(session, &answer, first_token, screen, manner, output)
        }
        Err(_) if output.is_err() => gone(output),
        Err(failed) => {
            screen.end_raw_answer();
            Err(failure::why(failed.error, failed.message.as_deref(), session, false))
        }
    }
}

fn finish(
    session: &mut Session,
    answer: &Answer,
    first_token: Option<Duration>,
    screen: &mut Screen,
    manner: Manner,
    output: io::Result<()>,
) -> Result<Exit, Failure> {
    let stop = answer.stats.stop;
    // JSON has an id only for a conversation that is completely on disk.
    let kept = manner.json && session.finish();
    let kept = if kept { session.saved_id() } else { None };
    let written = output.and_then(|()| match (manner.json, manner.raw) {
        (true, _) => screen.json(&answered(session, answer, kept, first_token, manner.started).to_string()),
        (false, true) => {
            screen.end_raw_answer();
            Ok(())
        }
        (false, false) => screen.end_answer(),
    });
    if written.is_err() {
        return gone(written);
    }
    let own_limit = stop == StopReason::Length && session.settings().predict.is_none();
    if stop != StopReason::Length || own_limit {
        stats::cut(stop).into_iter().for_each(|line| screen.note(line));
    }
    let only_thought = stats::only_thought(&answer.text, &answer.stats);
    if let Some(line) = &only_thought {
        screen.note(line);
    }
    let unmatched = answer.unmatched.filter(|_| answer.error.is_none() && stop != StopReason::Interrupted);
    if let Some(kind) = unmatched {
        screen.note(&stats::unmatched(kind));
    }
    if manner.stats {
        screen.stats(&answer.stats, first_token);
    }
    if let Some(error) = &answer.error {
        screen.failure(&Failure::from(error.clone()));
    }
    if stop != StopReason::Interrupted {
        session.flush(); // the answer is complete: this delays only the shell's prompt
    }
    Ok(match stop {
        StopReason::Interrupted => Exit::Interrupted,
        StopReason::Error => Exit::Failed,
        _ if only_thought.is_some() || unmatched.is_some() => Exit::Cut,
        StopReason::Context | StopReason::Repetition => Exit::Cut,
        StopReason::Length if own_limit => Exit::Cut,
        _ => Exit::Answered,
    })
}

/// A closed pipe is not a failure; any other write error is.
fn gone(output: io::Result<()>) -> Result<Exit, Failure> {
    match output {
        Err(e) if e.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::new(format!("could not write the answer: {}", reason(&e))))
        }
        _ => Ok(Exit::Answered),
    }
}

/// `--json`'s object for an answer.
fn answered(
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
pub fn failed(session: Option<&Session>, failure: &Failure, started: Instant) -> Value {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn content(prompt: Option<&str>, piped: Option<&str>) -> Option<String> {
        let no_files: [&Path; 0] = [];
        question(prompt, &no_files, piped.map(String::from), Auto::Auto).unwrap().map(|m| m.content())
    }

    #[test]
    fn documents_come_first_and_the_instruction_last() {
        assert_eq!(content(Some("Summarise."), Some("a\nb")).unwrap(), "a\nb\n\nSummarise.");
        assert_eq!(content(None, Some("a")).unwrap(), "a");
        assert_eq!(content(Some("q"), None).unwrap(), "q");
        assert_eq!(content(None, None), None);
        assert_eq!(content(None, Some("")), None);
    }

    #[test]
    fn a_slot_takes_what_was_piped_in() {
        assert_eq!(content(Some("Spell {stdin}, {stdin}!"), Some("7")).unwrap(), "Spell 7, 7!");
        assert_eq!(content(Some("Spell {stdin}"), None).unwrap(), "Spell {stdin}");
    }
}
