//! The setting `prompt-format` → the prompt, with the model and the use of the context.

use crate::session::Session;
use crate::ui::sanitize;

/// Stands for a number that is not known.
const UNKNOWN: &str = "?";

/// The prompt in one line.
pub(super) fn filled(format: &str, session: &Session) -> String {
    let stats = session.last().map(|answer| &answer.stats);
    let used = match stats {
        Some(stats) => Some(stats.context_used),
        None => session.conversation().last_answer().is_none().then_some(0),
    };
    let limit = stats.map_or(session.model().context_limit, |stats| stats.context_limit);
    let number = |number: Option<usize>| number.map_or(UNKNOWN.to_string(), |number| number.to_string());
    let percent = used.filter(|_| limit > 0).map(|used| used * 100 / limit);
    let parts = [
        ("{model}", sanitize(&session.model().name).replace(['\n', '\t'], " ")),
        ("{used}", number(used)),
        ("{limit}", number((limit > 0).then_some(limit))),
        ("{percent}", number(percent)),
    ];
    let mut text = String::new();
    let mut rest = format;
    while let Some(at) = rest.find('{') {
        let part = parts.iter().find(|(name, _)| rest[at..].starts_with(name));
        let (shown, length) = part.map_or(("{", 1), |(name, value)| (value.as_str(), name.len()));
        text += &rest[..at];
        text += shown;
        rest = &rest[at + length..];
    }
    text + rest
}
