//! What users have saved, as they select it: conversations (the most recent one, an id prefix, a choice from a
//! list), roles.

use std::path::{Path, PathBuf};

use crate::chat::record::Record;
use crate::clock::now;
use crate::failure::Failure;
use crate::files::{self, Existing};
use crate::history::Error;
use crate::history::database::{Conversations, Filter, Summary};
use crate::history::exchange::{ExportFormat, export};
use crate::history::journal::{is_waiting, take_in};
use crate::input;
use crate::settings::{Config, Paths, Server, roles};
use crate::ui::Screen;
use crate::ui::picker::{self, Choice};
use crate::ui::table::{Column, cut, table};
use crate::units::{count, count_in_column};

/// The number of conversations in a numbered list.
const SHOWN: usize = 20;
/// The number of digits of a displayed id.
pub const SHORT: usize = 8;

/// The path of the database; `None` without a home folder.
pub fn file(config: &Config) -> Option<&Path> {
    config.paths.as_ref().map(|paths| paths.conversations.as_path())
}

/// Reports the path of the database before the first conversation is saved: once per database, and only in a
/// run that is not quiet.
pub fn tell_where(config: &Config, screen: &mut Screen) {
    let Some(Paths { conversations, told, .. }) = &config.paths else { return };
    if screen.is_quiet() || (conversations.exists() && told.exists()) {
        return;
    }
    let shown = conversations.display();
    screen.note(&format!(
        "conversations are saved in {shown}; --incognito, or incognito = true in the config file, turns that off"
    ));
    let _ = files::replace(told, b""); // otherwise the next run reports it again
}

/// The folder of roles; a failure without a home folder.
pub fn roles_folder(config: &Config) -> Result<&Path, Failure> {
    let folder = config.paths.as_ref().map(|paths| paths.roles.as_path());
    folder.ok_or_else(|| Failure::new("there is no home folder, so there are no roles"))
}

/// The roles that can be used, with their descriptions.
pub fn roles(folder: Option<&Path>) -> Vec<(String, String)> {
    let Some(folder) = folder else { return Vec::new() };
    let about = |name: String| Some((roles::find(folder, &name).ok()?.description, name));
    roles::list(folder).into_iter().filter_map(about).map(|(about, name)| (name, about)).collect()
}

/// What to say where there is no role.
pub fn no_roles(folder: &Path) -> String {
    format!(
        "there are no roles yet; --save-role NAME makes one, as does a file NAME.md in {}",
        folder.display()
    )
}

/// The failure for a role that cannot be used; shows all but the last of several errors. `list`: what lists
/// the roles.
pub fn wrong_role(mut wrong: Vec<String>, list: &str, screen: &mut Screen) -> Failure {
    let last = wrong.pop().unwrap_or_default();
    wrong.iter().for_each(|wrong| screen.warning(wrong));
    Failure::usage(last).hint(format!("{list} lists the roles, fireside help roles explains them"))
}

/// Damaged databases that fireside moved aside.
pub fn damaged(config: &Config) -> Vec<PathBuf> {
    let Some((folder, name)) = file(config).and_then(|file| Some((file.parent()?, file.file_name()?))) else {
        return Vec::new();
    };
    let beginning = format!("{}.damaged-", name.to_string_lossy());
    let all = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    all.filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&beginning)))
        .collect()
}

/// The database, if there is one, with the messages that earlier runs could not write to it.
pub fn existing(config: &Config) -> Result<Option<Conversations>, Failure> {
    let Some(file) = file(config) else { return Ok(None) };
    let mut store = match Conversations::existing(file)? {
        Some(store) => store,
        None if is_waiting(file) => Conversations::open(file)?.0,
        None => return Ok(None),
    };
    let _ = take_in(file, &mut store); // the rest stays in the files beside it
    Ok(Some(store))
}

/// The database; a failure if there is none.
pub fn store(config: &Config) -> Result<Conversations, Failure> {
    existing(config)?.ok_or_else(none)
}

/// The most recently changed conversation.
pub fn last(config: &Config) -> Result<Record, Failure> {
    let store = store(config)?;
    let newest = store.list(&Filter { most: Some(1), ..Filter::default() })?;
    load(&store, &newest.first().ok_or_else(none)?.id)
}

fn none() -> Failure {
    Failure::new("no conversations are saved yet")
        .hint("chats and answers on a terminal are saved by default, others with --keep")
}

/// Why the database cannot be used, and what will happen about it.
pub fn trouble(error: Error) -> String {
    match error {
        Error::Damaged => {
            "the database is damaged: the next chat moves it aside and recovers what it can".into()
        }
        other => other.to_string(),
    }
}

/// The conversation whose id begins with `prefix`.
pub fn find(store: &Conversations, prefix: &str) -> Result<Record, Failure> {
    load(store, &id(store, prefix)?)
}

/// The full id that begins with `prefix`.
pub fn id(store: &Conversations, prefix: &str) -> Result<String, Failure> {
    let ids = store.ids(prefix)?;
    match &ids[..] {
        [only] => Ok(only.clone()),
        [] => Err(Failure::new(format!("there is no conversation '{prefix}'"))
            .hint("fireside history list shows the ids; fireside history search finds words")),
        several => {
            Err(Failure::usage(format!("'{prefix}' matches {} conversations", several.len())).hint(format!(
                "add a digit or two: {}",
                several.iter().map(|id| &id[..SHORT]).collect::<Vec<_>>().join(", ")
            )))
        }
    }
}

/// The short ids and titles of all conversations, most recent first; empty if the database cannot be read.
pub fn latest(config: &Config) -> Vec<(String, String)> {
    let all = store(config).ok().and_then(|store| store.list(&Filter::default()).ok()).unwrap_or_default();
    all.into_iter().map(|one| (one.id[..SHORT.min(one.id.len())].to_string(), one.title)).collect()
}

fn load(store: &Conversations, id: &str) -> Result<Record, Failure> {
    store.load(id)?.ok_or_else(|| Failure::new(format!("there is no conversation '{id}'")))
}

/// Asks a question; returns the typed line, or `None` if the user cancels.
pub type AskUser<'a> = &'a mut dyn FnMut(&mut Screen, &str) -> Result<Option<String>, Failure>;

/// Lets the user choose a conversation; `None` if the user cancels.
pub fn pick(config: &Config, screen: &mut Screen, ask: AskUser) -> Result<Option<Record>, Failure> {
    let store = store(config)?;
    let all = store.list(&Filter::default())?;
    if all.is_empty() {
        return Err(none());
    }
    if !screen.can_pick() {
        return pick_by_number(&store, &all, screen, ask);
    }
    let row = |one: &Summary| Choice { title: one.title.clone(), id: one.id.clone(), ..Choice::default() };
    let rows: Vec<Choice> = all.iter().map(row).collect();
    let mut about = |place: usize| {
        let Summary { id, changed, path, .. } = &all[place];
        let last = store.last_words(id).ok().flatten().map_or_else(String::new, |text| short(&text, 300));
        let messages = count(*path, "message");
        (format!("{}  {messages}, {}  {last}", &id[..SHORT.min(id.len())], age(*changed)), last)
    };
    let question = picker::Question {
        text: "Which conversation?",
        rows: &rows,
        about: Some(&mut about),
        ..Default::default()
    };
    let cannot = |e| Failure::new(format!("could not use the terminal: {}", crate::files::reason(&e)));
    match screen.pick(question).map_err(cannot)? {
        Some(place) => load(&store, &all[place].id).map(Some),
        None => Ok(None),
    }
}

/// The same on a simple terminal: a numbered list of the most recent conversations.
fn pick_by_number(
    store: &Conversations,
    all: &[Summary],
    screen: &mut Screen,
    ask: AskUser,
) -> Result<Option<Record>, Failure> {
    let latest = &all[..all.len().min(SHOWN)];
    let mut lines = Vec::new();
    for (number, summary) in (1..).zip(latest) {
        lines.push(format!("{number:3}  {}", line(summary)));
        lines.extend(store.last_words(&summary.id)?.map(|text| format!("       {}", short(&text, 80))));
    }
    if latest.len() < all.len() {
        lines.push(format!("the latest {SHOWN} of {}; an id selects any of them", all.len()));
    }
    screen.show(&lines.join("\n"));
    loop {
        let typed = ask(screen, "Which conversation? Number or id: ")?;
        let Some(typed) = typed.filter(|typed| !typed.is_empty()) else { return Ok(None) };
        let by_number = typed.parse::<usize>().ok().and_then(|n| latest.get(n.checked_sub(1)?));
        let found = match by_number {
            Some(summary) => load(store, &summary.id),
            None => find(store, &typed),
        };
        match found {
            Ok(kept) => return Ok(Some(kept)),
            Err(failure) => screen.failure(&failure),
        }
    }
}

/// The beginning of a text, on one line.
pub fn short(text: &str, most: usize) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    cut(&line, most)
}

/// Conversations in a list: id, age, size, title.
pub fn lines(found: &[Summary], terminal: Option<usize>) -> Vec<String> {
    let rows: Vec<[String; 4]> = found
        .iter()
        .map(|Summary { id, title, changed, path, .. }| {
            let messages = count_in_column(*path as usize, 4, "message");
            [id[..SHORT.min(id.len())].to_string(), format!("{:>9}", age(*changed)), messages, title.clone()]
        })
        .collect();
    let columns = [("", Column::Whole), ("", Column::Spare(1)), ("", Column::Spare(2)), ("", Column::Cut)];
    table(columns, &rows, terminal).split_off(1)
}

/// The same for one conversation.
pub fn line(summary: &Summary) -> String {
    lines(std::slice::from_ref(summary), None).concat()
}

/// How long ago, in the largest unit that fits.
pub fn age(then: i64) -> String {
    let seconds = now().saturating_sub(then).max(0) / 1000;
    match seconds {
        0..60 => "just now".into(),
        60..3600 => format!("{} min", seconds / 60),
        3600..86_400 => format!("{} h", seconds / 3600),
        _ => count(seconds / 86_400, "day"),
    }
}

/// `3fa90011: Why is the sky blue?`, the display name of a conversation.
pub fn named(record: &Record) -> String {
    format!("{}: {}", &record.id[..SHORT.min(record.id.len())], record.title)
}

/// The notice that names the resumed conversation.
pub fn continuing(record: &Record) -> String {
    format!("continuing {} ({})", named(record), messages(record))
}

/// `2 messages, 4 on other branches`: the current branch first.
pub fn messages(record: &Record) -> String {
    let shown = record.path().len();
    let others = match record.entries.len() - shown {
        0 => String::new(),
        others => format!(", {others} on other branches"),
    };
    count(shown, "message") + &others
}

/// Writes a conversation to a file; returns a line that reports it.
pub fn save(
    record: &Record,
    path: &Path,
    format: ExportFormat,
    existing: Existing,
) -> Result<String, Failure> {
    let shown = path.display();
    let cannot = |e: std::io::Error| match e.kind() {
        std::io::ErrorKind::AlreadyExists => exists(path),
        _ => Failure::new(format!("could not write {shown}: {}", crate::files::reason(&e))),
    };
    let mut text = Vec::new();
    export(record, format, &mut text).map_err(cannot)?;
    files::write_named(path, &text, existing).map_err(cannot)?;
    Ok(format!("wrote {} to {shown} as {}", named(record), format.name()))
}

/// The refusal to replace a file.
pub fn exists(path: &Path) -> Failure {
    Failure::new(format!("{} already exists", path.display()))
}

/// The question before a conversation goes to a server that has not seen it.
pub fn leaving_question(server: &Server) -> String {
    let host = server.host();
    let named = if server.name.is_empty() { String::new() } else { format!("{} (", server.name) };
    let end = if server.name.is_empty() { "" } else { ")" };
    format!("This conversation has not been at {named}{host}{end} yet. Send all of it there?")
}

/// Offers to write a conversation that could not be saved to a file, until that succeeds or the user declines.
pub fn offer_a_file(record: &Record, screen: &mut Screen) {
    let question = "Could not save this conversation. File to save it to, or Enter to discard it: ";
    while let Ok(Some(name)) = input::ask(screen, question)
        && !name.is_empty()
    {
        let path = &files::expanded(Path::new(&name));
        let saved = format(path, ExportFormat::Json).and_then(|format| {
            let replace = files::would_replace(path) && input::confirm(screen, &replace_question(path))?;
            save(record, path, format, if replace { Existing::Replace } else { Existing::Keep })
        });
        match saved {
            Ok(line) => return screen.note(&line),
            Err(failure) => screen.failure(&failure),
        }
    }
}

/// The question whether to replace it.
pub fn replace_question(path: &Path) -> String {
    format!("{} already exists. Replace it?", path.display())
}

/// The format of a file by its extension; `otherwise` without an extension.
pub fn format(path: &Path, otherwise: ExportFormat) -> Result<ExportFormat, Failure> {
    let unknown = || {
        Failure::usage(format!("the format of {} is unknown", path.display()))
            .hint("the name must end in .md, .json or .txt")
    };
    match path.extension() {
        Some(_) => ExportFormat::of(path).ok_or_else(unknown),
        None => Ok(otherwise),
    }
}

/// A conversation as text.
pub fn text(record: &Record, format: ExportFormat) -> Result<String, Failure> {
    let mut text = Vec::new();
    export(record, format, &mut text).map_err(|e| Failure::new(crate::files::reason(&e)))?;
    Ok(String::from_utf8_lossy(&text).into_owned())
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
