//! `fireside history replay`: generates saved answers again and compares them.

use std::ops::ControlFlow;

use serde_json::{Map, Value, json};

use super::CommandContext;
use crate::chat::Role;
use crate::chat::record::{AnswerRecord, Entry};
use crate::failure::{Exit, Failure};
use crate::saved;
use crate::session::{Difference, Replay, ReplayResult};
use crate::ui::terminal;
use crate::units::count;

/// Characters shown on either side of a difference.
const AROUND: usize = 40;

pub(super) fn run(id: &str, number: Option<usize>, context: &mut CommandContext) -> Result<Exit, Failure> {
    let record = saved::find(&saved::store(context.config)?, id)?;
    let is_answer = |entry: &Entry| entry.message.role == Role::Assistant && !entry.is_example();
    let answers: Vec<(usize, &Entry)> =
        (1..).zip(record.path().into_iter().filter(|entry| is_answer(entry))).collect();
    if let Some(number) = number.filter(|number| !(1..=answers.len()).contains(number)) {
        let failure = Failure::usage(format!("'{}' has no answer {number}", record.title));
        return Err(failure.hint(format!("it has {}, counted from 1", count(answers.len(), "answer"))));
    }
    if answers.is_empty() {
        return Err(Failure::new(format!("'{}' has no answer", record.title)));
    }
    let wanted = answers.into_iter().filter(|(place, _)| number.is_none_or(|number| number == *place));
    let mut replay = Replay::new(context.config.clone(), context.open);
    let (mut objects, mut same) = (Vec::new(), true);
    for (place, entry) in wanted {
        let screen = &mut *context.screen;
        let again = replay.give(&record, entry, &mut |event| {
            screen.show_progress(event);
            if terminal::interrupted() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        context.screen.end_progress();
        let again = match again.map_err(Failure::from) {
            Err(failure) if failure.exit == Exit::Interrupted => return Err(failure),
            again => again,
        };
        same &= again.as_ref().is_ok_and(|again| again.difference.is_none());
        match context.json {
            true => objects.push(object(place, entry, &again)),
            false => _ = context.print(&lines(place, entry, &again).join("\n"))?,
        }
    }
    if context.json {
        let object = json!({ "conversation": record.id, "identical": same, "answers": objects });
        context.print_json(&object)?;
    }
    Ok(if same { Exit::Answered } else { Exit::Failed })
}

fn lines(place: usize, entry: &Entry, again: &Result<ReplayResult, Failure>) -> Vec<String> {
    let again = match again {
        Ok(again) => again,
        Err(failure) => {
            let hint = failure.hint.iter().map(|hint| format!("  hint: {hint}"));
            return [format!("cannot replay answer {place}: {}", failure.message)]
                .into_iter()
                .chain(hint)
                .collect();
        }
    };
    let answer = entry.answer.as_ref().expect("it was given again");
    let mut lines = Vec::new();
    let other = "the model file is not the original, or was modified since; its fingerprint is the same";
    match &again.difference {
        None => lines.push(format!("answer {place} is identical")),
        Some(difference) => {
            let Difference { byte, character, thinking, then, now } = difference;
            let part = if *thinking { " of its thinking" } else { "" };
            lines.push(format!("answer {place} differs at character {character} (byte {byte}){part}"));
            lines.push(format!("  then: {}", around(then, *byte)));
            lines.push(format!("  now:  {}", around(now, *byte)));
            lines.extend(why(answer).map(|why| format!("  {why}")));
        }
    }
    lines.extend((!again.same_file).then(|| format!("  {other}")));
    lines.push(format!("  {}, seed {}", answer.model, answer.seed.unwrap_or_default()));
    let settings: Vec<String> =
        answer.settings.iter().map(|(name, value)| format!("{name} {}", value.escape_debug())).collect();
    lines.push(format!("  {}", settings.join(", ")));
    lines
}

/// A possible reason for a difference.
fn why(answer: &AnswerRecord) -> Option<String> {
    (answer.cached_tokens > 0).then(|| {
        format!(
            "originally, {} of {} prompt tokens were cached: rounding can differ and tip a near tie",
            answer.cached_tokens, answer.prompt_tokens
        )
    })
}

/// The text around a byte offset, on one line.
fn around(text: &str, byte: usize) -> String {
    let (before, after) = text.split_at(byte);
    let start = before.char_indices().rev().nth(AROUND - 1).map_or(0, |(at, _)| at);
    let more = if start > 0 { "…" } else { "" };
    let end = after.char_indices().nth(AROUND).map_or(after.len(), |(at, _)| at);
    let rest = if end < after.len() { "…" } else { "" };
    let ends = if after.is_empty() { " (ends here)" } else { "" };
    format!("{more}{} | {}{rest}{ends}", before[start..].escape_debug(), after[..end].escape_debug())
}

fn object(place: usize, entry: &Entry, again: &Result<ReplayResult, Failure>) -> Value {
    let answer = entry.answer.clone().unwrap_or_default();
    let settings = answer.settings.iter().fold(Map::new(), |mut all, (name, value)| {
        match all.get_mut(name) {
            Some(Value::Array(values)) => values.push(json!(value)),
            Some(one) => *one = json!([one.clone(), value]),
            None => _ = all.insert(name.clone(), json!(value)),
        }
        all
    });
    let difference = again.as_ref().ok().and_then(|again| again.difference.as_ref());
    let difference = difference.map(|Difference { thinking, byte, character, then, now }| {
        let (part, around) =
            (if *thinking { "thinking" } else { "text" }, [then, now].map(|t| around(t, *byte)));
        json!({ "part": part, "byte": byte, "character": character, "then": around[0], "now": around[1] })
    });
    let error = again.as_ref().err().map(|f| json!({ "message": f.message, "hint": f.hint }));
    json!({
        "answer": place,
        "identical": again.as_ref().ok().map(|again| again.difference.is_none()),
        "difference": difference,
        "error": error,
        "same_file": again.as_ref().ok().map(|again| again.same_file),
        "cached_then": answer.cached_tokens,
        "model": { "name": answer.model, "path": answer.path, "fingerprint": answer.fingerprint },
        "seed": answer.seed,
        "settings": settings,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_shown_with_what_is_around_it() {
        assert_eq!(around("one two", 4), "one  | two");
        assert_eq!(around("one", 3), "one |  (ends here)");
        let long = "ä".repeat(100);
        assert_eq!(around(&long, 100), format!("…{0} | {0}…", "ä".repeat(AROUND)));
    }
}
