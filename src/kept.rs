//! The conversations that are kept, by what people call them: the last one, the beginning of an id, a pick from a list.

use std::path::Path;

use crate::chat::Role;
use crate::chat::record::Record;
use crate::config::Config;
use crate::error::Failure;
use crate::store::conversations::{Conversations, Filter, Summary, Trouble};
pub use crate::store::conversations::{Damage, Kept};
use crate::store::exchange::{Format, export};
use crate::store::journal::now;
use crate::ui::Screen;

/// Conversations that a picker shows.
const SHOWN: usize = 20;
/// Digits of an id that are shown.
pub const SHORT: usize = 8;

/// Where conversations are kept; `None` without a home folder.
pub fn file(config: &Config) -> Option<&Path> {
    config.paths.as_ref().map(|paths| paths.conversations.as_path())
}

/// The database, if anything was ever kept.
pub fn store(config: &Config) -> Result<Conversations, Failure> {
    let existing = file(config).map(Conversations::existing).transpose()?.flatten();
    existing.ok_or_else(|| {
        Failure::new("no conversations are kept yet").hint("a chat on a terminal is kept by itself")
    })
}

/// The chat that was changed last.
pub fn last(config: &Config) -> Result<Kept, Failure> {
    let store = store(config)?;
    let id = store.last_chat()?.ok_or_else(|| Failure::new("there is no chat to go on with"))?;
    load(&store, &id)
}

/// Why the stored conversations cannot be used, and what happens then.
pub fn trouble(trouble: Trouble) -> String {
    match trouble {
        Trouble::Damaged => {
            "they are damaged: the next chat moves the file aside and goes on with what can be read of it"
                .into()
        }
        other => other.to_string(),
    }
}

/// The conversation whose id begins with `prefix`.
pub fn find(store: &Conversations, prefix: &str) -> Result<Kept, Failure> {
    load(store, &id(store, prefix)?)
}

/// The whole id that begins with `prefix`.
pub fn id(store: &Conversations, prefix: &str) -> Result<String, Failure> {
    let ids = store.ids(prefix)?;
    match &ids[..] {
        [only] => Ok(only.clone()),
        [] => Err(Failure::new(format!("there is no conversation '{prefix}'"))
            .hint("fireside history list shows the ids; fireside history search finds words")),
        several => Err(Failure::usage(format!("'{prefix}' could be any of {} conversations", several.len()))
            .hint(format!(
                "one more digit or two: {}",
                several.iter().map(|id| &id[..SHORT]).collect::<Vec<_>>().join(", ")
            ))),
    }
}

/// The beginnings of the ids of all conversations, the one changed last first; none where they cannot be told.
pub fn latest(config: &Config) -> Vec<String> {
    let all = store(config).ok().and_then(|store| store.list(&Filter::default()).ok()).unwrap_or_default();
    all.iter().map(|one| one.id[..SHORT.min(one.id.len())].to_string()).collect()
}

fn load(store: &Conversations, id: &str) -> Result<Kept, Failure> {
    store.load(id)?.ok_or_else(|| Failure::new(format!("there is no conversation '{id}'")))
}

/// Asks a question and gives what was typed; `None`: nothing, leave it.
pub type Question<'a> = &'a mut dyn FnMut(&mut Screen, &str) -> Result<Option<String>, Failure>;

/// Lets the user choose from the latest ones. `None`: none is wanted.
pub fn pick(config: &Config, screen: &mut Screen, ask: Question) -> Result<Option<Kept>, Failure> {
    let store = store(config)?;
    let latest = store.list(&Filter { most: Some(SHOWN), ..Filter::default() })?;
    if latest.is_empty() {
        return Err(Failure::new("no conversations are kept yet"));
    }
    let mut lines = Vec::new();
    for (number, summary) in (1..).zip(&latest) {
        lines.push(format!("{number:3}  {}", line(summary)));
        if let Some(kept) = store.load(&summary.id)? {
            lines.extend(preview(&kept.record).map(|text| format!("       {text}")));
        }
    }
    screen.show(&lines.join("\n"));
    loop {
        let typed = ask(screen, "Which conversation? Its number or its id: ")?;
        let Some(typed) = typed.filter(|typed| !typed.is_empty()) else { return Ok(None) };
        let by_number = typed.parse::<usize>().ok().and_then(|n| latest.get(n.checked_sub(1)?));
        let found = match by_number {
            Some(summary) => load(&store, &summary.id),
            None => find(&store, &typed),
        };
        match found {
            Ok(kept) => return Ok(Some(kept)),
            Err(failure) => screen.failure(&failure),
        }
    }
}

/// The last thing that was said, in short.
fn preview(record: &Record) -> Option<String> {
    let last = record.path().last().map(|index| &record.entries[*index])?;
    let who = if last.role == Role::User { "> " } else { "" };
    Some(short(&format!("{who}{}", last.text), 80))
}

/// The beginning of a text on one line.
pub fn short(text: &str, most: usize) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= most {
        return line;
    }
    line.chars().take(most - 1).collect::<String>() + "…"
}

/// A conversation in a list: id, age, size, title.
pub fn line(summary: &Summary) -> String {
    let Summary { id, title, changed, messages, .. } = summary;
    format!("{}  {:>9}  {messages:>4} messages  {title}", &id[..SHORT.min(id.len())], age(*changed))
}

/// How long ago, in the largest unit that fits.
pub fn age(then: i64) -> String {
    let seconds = (now() - then).max(0) / 1000;
    match seconds {
        0..60 => "just now".into(),
        60..3600 => format!("{} min", seconds / 60),
        3600..86_400 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// Writes a conversation into a file of the user's choice: whole or not at all.
pub fn save(record: &Record, path: &Path, format: Format) -> Result<(), Failure> {
    let cannot = |e: std::io::Error| {
        Failure::new(format!("could not write {}: {}", path.display(), crate::error::reason(&e)))
    };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut part = tempfile::NamedTempFile::new_in(folder).map_err(cannot)?;
    export(record, format, &mut part).map_err(cannot)?;
    part.persist(path).map_err(|e| cannot(e.error))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_and_beginnings() {
        assert_eq!(age(now()), "just now");
        assert_eq!(age(now() - 3 * 3_600_000), "3 h");
        assert_eq!(short("a  b\nc", 10), "a b c");
        assert_eq!(short("abcdefgh", 5), "abcd…");
    }
}
