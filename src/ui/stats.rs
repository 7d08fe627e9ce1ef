//! The statistics of an answer, and notices about it → text.

use std::time::Duration;

use crate::chat::{Cost, DraftCounts, Dropped, Stats, StopReason};
use crate::units::{about, count};

/// One line: tokens, speed, context.
pub fn line(stats: &Stats, first_token: Option<Duration>) -> String {
    let mut parts = Vec::new();
    if let Some(generated) = stats.generated_tokens {
        parts.push(tokens(generated));
        if stats.thinking_tokens > 0 {
            parts[0] += &format!(" ({} of thinking)", stats.thinking_tokens);
        }
    }
    if let Some(speed) = stats.generation_speed() {
        parts.push(format!("{speed:.0} tokens/s"));
    }
    if let (Some(1..), Some(a_step)) = (stats.drafts.map(|drafts| drafts.drafted), stats.tokens_a_step()) {
        parts.push(format!("{a_step:.1} tokens/step"));
    }
    if let Some(first) = first_token {
        parts.push(format!("first after {:.2} s", first.as_secs_f64()));
    }
    if stats.context_limit > 0 && stats.context_used > 0 {
        parts.push(format!("context {} of {}", stats.context_used, stats.context_limit));
    }
    parts.join(", ")
}

fn tokens(number: usize) -> String {
    count(number, "token")
}

/// What attached files cost, as in `3 tokens, about 2 s to prefill; 997 of 1000 tokens left in the context`.
pub fn cost(cost: &Cost) -> String {
    let approximately = if cost.estimated { "about " } else { "" };
    let prefill =
        cost.prefill.map_or(String::new(), |time| format!(", {} to prefill", about(time.as_secs_f64())));
    let left = cost.left().filter(|_| !cost.is_too_long());
    let left =
        left.map_or(String::new(), |left| format!("; {left} of {} left in the context", tokens(cost.limit)));
    format!("{approximately}{}{prefill}{left}", tokens(cost.tokens))
}

/// All statistics, one per line.
pub fn table(stats: &Stats, first_token: Option<Duration>) -> String {
    let speed = |speed: Option<f64>| speed.map_or(String::new(), |s| format!(", {s:.1} tokens/s"));
    let seconds = |time: Duration| format!("{:.3} s", time.as_secs_f64());
    let prompt = seconds(stats.prompt) + &speed(stats.prompt_speed());
    let decoded = seconds(stats.generation) + &speed(stats.generation_speed());
    let mut rows = vec![
        ("prompt", prompt_tokens(stats)),
        ("prefill", prompt),
        ("answer", format!("{}, ended by {}", or_unknown(stats.generated_tokens), ending(stats.stop))),
        ("decode", decoded),
        ("drafts", drafts(stats)),
        ("loading", seconds(stats.load)),
        ("context", context(stats)),
        ("seed", stats.seed.to_string()),
    ];
    if let Some(first) = first_token {
        rows.insert(5, ("first token", format!("after {}", seconds(first))));
    }
    let lines: Vec<String> = rows.into_iter().map(|(name, value)| format!("{name:12} {value}")).collect();
    lines.join("\n")
}

const UNKNOWN: &str = "unknown";

fn or_unknown(number: Option<usize>) -> String {
    number.map_or(UNKNOWN.into(), tokens)
}

fn prompt_tokens(stats: &Stats) -> String {
    let cached = stats.cached_tokens.map_or(String::new(), |cached| format!(", {cached} of them cached"));
    or_unknown(stats.prompt_tokens) + &cached
}

fn context(stats: &Stats) -> String {
    match (stats.context_used, stats.context_limit) {
        (used, limit) if limit > 0 => format!("{used} of {limit} tokens"),
        (0, _) => UNKNOWN.into(),
        (used, _) => format!("{}; the limit is unknown", tokens(used)),
    }
}

fn drafts(stats: &Stats) -> String {
    let (Some(DraftCounts { drafted, accepted }), Some(a_step)) = (stats.drafts, stats.tokens_a_step())
    else {
        return UNKNOWN.into();
    };
    format!("{} drafted, {accepted} accepted, {a_step:.2} tokens per step", tokens(drafted))
}

fn ending(stop: StopReason) -> &'static str {
    match stop {
        StopReason::End => "the model",
        StopReason::Length => "the token limit",
        StopReason::Stop => "a stop string",
        StopReason::Context => "the end of the context",
        StopReason::Repetition => "endless repetition",
        StopReason::Interrupted => "you",
        StopReason::Choice => "the likeliest choice",
        StopReason::Error => "an error",
    }
}

/// The line left by the thinking counter.
pub fn thought(number: usize) -> String {
    format!("thought: {}", tokens(number))
}

/// The notice about an answer that consists of thinking only.
pub fn only_thought(text: &str, stats: &Stats) -> Option<String> {
    let all = text.trim().is_empty() && stats.thinking_tokens > 0 && stats.stop != StopReason::Interrupted;
    all.then(|| {
        format!(
            "no answer: {} went into thinking; raise --predict, limit thinking with --think-budget N, or use --think off",
            tokens(stats.thinking_tokens)
        )
    })
}

/// The notice about messages dropped from the context.
pub fn dropped(messages: usize, tokens: usize, dropped: &Dropped) -> String {
    let next = if messages == dropped.count { "" } else { "next " };
    let (messages, they_are) = match messages {
        1 => ("oldest message".to_string(), "it is"),
        _ => (format!("{messages} oldest messages"), "they are"),
    };
    let line = format!(
        "dropped the {next}{messages} ({}) from the context; {they_are} still in the history",
        self::tokens(tokens)
    );
    match &dropped.summary {
        Some(summary) => format!("{line}\nsummary: {summary}"),
        None => line,
    }
}

/// The notice about a cut-off answer; `None` if the model ended it.
pub fn cut(stop: StopReason) -> Option<&'static str> {
    match stop {
        StopReason::End | StopReason::Stop | StopReason::Choice | StopReason::Error => None,
        StopReason::Length => Some("cut off: the token limit (predict) was reached"),
        StopReason::Context => Some("cut off: the context is full (a larger ctx-size holds more)"),
        StopReason::Repetition => Some("cut off: the model was repeating itself endlessly"),
        StopReason::Interrupted => Some("stopped"),
    }
}
