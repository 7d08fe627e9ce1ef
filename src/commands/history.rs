//! `fireside history`: lists, searches, shows, exports, imports, replays and removes saved conversations.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::mpsc::channel;
use std::time::Duration;

use jiff::{ToSpan, civil};
use serde_json::{Value, json};

use super::{CommandContext, may_replace, replay};
use crate::cli::History;
use crate::clock::timestamp;
use crate::failure::{Exit, Failure};
use crate::files::{expanded, is_stdout, reason};
use crate::history::database::{Conversations, Filter, Hit, Summary};
use crate::history::exchange::{self, ExportFormat};
use crate::input;
use crate::models;
use crate::saved::{self, SHORT};
use crate::settings::{Config, Source};
use crate::ui::terminal;
use crate::units::count;

pub(super) fn run(what: History, context: &mut CommandContext) -> Result<Exit, Failure> {
    match what {
        History::List { since } => list(since.as_deref(), context),
        History::Search { words, limit, since } => search(&words.join(" "), limit, since.as_deref(), context),
        History::Show { id } => show(&id, context),
        History::Export { id, file, format, force } => {
            let file = file.as_deref().map(expanded);
            let format = how(file.as_deref(), format.as_deref())?;
            export(&id, file.as_deref(), format, force, context)
        }
        History::Import { file } => import(&expanded(&file), context),
        History::Replay { id, number } => replay::run(&id, number, context),
        History::Rm { ids, yes } => remove(&ids, yes, context),
    }
}

/// `--model` is a filter here if it was given as a flag.
fn filter(config: &Config, since: Option<&str>) -> Result<Filter, Failure> {
    let typed = config.source("model") == Source::Flag;
    let model = config.settings().model.clone().filter(|_| typed);
    Ok(Filter { model, since: since.map(moment).transpose()?, most: None })
}

/// A date or an age → milliseconds since 1970.
fn moment(text: &str) -> Result<i64, Failure> {
    let wrong = || {
        Failure::usage(format!(
            "--since takes a date, as in 2026-11-25, or an age, as in 7d or 12h, not '{text}'"
        ))
    };
    if let Ok(day) = text.parse::<civil::Date>() {
        let start = day.to_zoned(jiff::tz::TimeZone::system()).map_err(|_| wrong())?;
        return Ok(start.timestamp().as_millisecond());
    }
    let unit = text.chars().last().ok_or_else(wrong)?;
    let number: i64 = text[..text.len() - unit.len_utf8()].parse().map_err(|_| wrong())?;
    let span = match unit {
        'h' => 1.hour().checked_mul(number),
        'd' => 24.hours().checked_mul(number),
        'w' => (24 * 7).hours().checked_mul(number),
        _ => return Err(wrong()),
    };
    let then = span.ok().filter(|_| number >= 0).and_then(|span| timestamp().checked_sub(span).ok());
    then.map(|then| then.as_millisecond()).ok_or_else(wrong)
}

fn list(since: Option<&str>, context: &mut CommandContext) -> Result<Exit, Failure> {
    let filter = filter(context.config, since)?;
    let found = match saved::existing(context.config)? {
        Some(store) => store.list(&filter)?,
        None => Vec::new(),
    };
    if context.json {
        let all: Vec<Value> = found.iter().map(object).collect();
        return context.print_json(&json!({ "conversations": all }));
    }
    if found.is_empty() {
        context.screen.note("no matching conversations");
        return Ok(Exit::Answered);
    }
    let lines = saved::lines(&found, context.screen.columns());
    context.print(&lines.join("\n"))
}

fn object(summary: &Summary) -> Value {
    let Summary { id, title, changed, model, messages, path } = summary;
    json!({ "id": id, "title": title, "changed": changed, "model": model, "messages": messages, "path": path })
}

fn search(
    words: &str,
    limit: usize,
    since: Option<&str>,
    context: &mut CommandContext,
) -> Result<Exit, Failure> {
    // One more than shown, to know whether there are more.
    let most = Some(limit).filter(|limit| *limit > 0).map(|limit| limit.saturating_add(1));
    let filter = Filter { most, ..filter(context.config, since)? };
    let mut hits = saved::store(context.config)?.search(words, &filter)?;
    let more = limit > 0 && hits.len() > limit;
    hits.truncate(if more { limit } else { hits.len() });
    if context.json {
        let plain = |hit: &Hit| hit.snippet.replace([Hit::BEGIN, Hit::END], "");
        let all = hits.iter().map(|hit| {
            json!({ "conversation": object(&hit.conversation), "role": hit.role.name(), "snippet": plain(hit) })
        });
        return context.print_json(&json!({ "hits": all.collect::<Vec<_>>(), "more": more }));
    }
    if hits.is_empty() {
        context.screen.note("no message contains all these words");
        return Ok(Exit::Answered);
    }
    let mut lines = Vec::new();
    for hit in &hits {
        let Summary { id, title, changed, .. } = &hit.conversation;
        lines.push(format!(
            "{}  {:>9}  {}",
            &id[..SHORT.min(id.len())],
            saved::age(*changed),
            saved::short(title, 60)
        ));
        let snippet = hit.snippet.split_whitespace().collect::<Vec<_>>().join(" ");
        lines.push(format!("    {}: {snippet}", hit.role.name()));
    }
    let text = lines.join("\n");
    match context.screen.highlights(&text, Hit::BEGIN, Hit::END) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
            return Err(Failure::new(format!("could not write to stdout: {}", reason(&e))));
        }
        _ => {}
    }
    if more {
        context.screen.note(&format!("there are more than {limit}; --limit 0 shows all"));
    }
    Ok(Exit::Answered)
}

fn how(file: Option<&Path>, format: Option<&str>) -> Result<ExportFormat, Failure> {
    match format {
        Some(name) => ExportFormat::of(Path::new(&format!("x.{name}")))
            .ok_or_else(|| Failure::usage(format!("--format must be md, json or txt, not '{name}'"))),
        None => file
            .filter(|file| !is_stdout(file))
            .map_or(Ok(ExportFormat::Markdown), |file| saved::format(file, ExportFormat::Markdown)),
    }
}

fn export(
    id: &str,
    file: Option<&Path>,
    format: ExportFormat,
    force: bool,
    context: &mut CommandContext,
) -> Result<Exit, Failure> {
    let record = saved::find(&saved::store(context.config)?, id)?;
    let format = if context.json { ExportFormat::Json } else { format };
    let Some(file) = file.filter(|file| !is_stdout(file)) else {
        let text = saved::text(&record, format)?;
        return match format {
            ExportFormat::Json => context.print_json_text(&text),
            _ => context.print_as_it_is(&text),
        };
    };
    let existing = may_replace(file, force, context)?;
    let line = saved::save(&record, file, format, existing)?;
    context.screen.note(&line);
    Ok(Exit::Answered)
}

fn show(id: &str, context: &mut CommandContext) -> Result<Exit, Failure> {
    if context.json {
        return export(id, None, ExportFormat::Json, false, context);
    }
    let record = saved::find(&saved::store(context.config)?, id)?;
    context.print_conversation(&saved::text(&record, ExportFormat::Text)?)
}

fn import(file: &Path, context: &mut CommandContext) -> Result<Exit, Failure> {
    let path = saved::file(context.config)
        .ok_or_else(|| Failure::new("there is no home folder to save conversations in"))?;
    saved::tell_where(context.config, context.screen);
    let (mut store, note) = opened(path)?;
    note.iter().for_each(|line| context.screen.note(line));
    let (mut fresh, mut notes) = (0, Vec::new());
    let screen = &mut *context.screen;
    let taken: Result<_, Failure> = exchange::import(
        file,
        &mut |done, total| {
            screen.show_importing(done, total);
            if terminal::interrupted() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        },
        &mut |imported| {
            fresh += usize::from(store.import(&imported.record)?);
            let title = imported.record.title;
            notes.extend(imported.notes.into_iter().map(|note| format!("{title}: {note}")));
            Ok(())
        },
    );
    context.screen.end_progress();
    notes.iter().for_each(|line| context.screen.note(line));
    let summary = taken.inspect_err(|_| {
        if fresh > 0 {
            context.screen.note(&format!("imported {} before that", conversations(fresh)));
        }
    })?;
    summary.notes.iter().for_each(|line| context.screen.note(line));
    let known = summary.conversations - fresh;
    if context.json {
        let object = json!({ "imported": fresh, "known": known, "skipped": summary.skipped, "messages": summary.messages });
        return context.print_json(&object);
    }
    context.print(&format!(
        "imported {}, {known} already there, {} skipped",
        conversations(fresh),
        summary.skipped
    ))
}

fn conversations(number: usize) -> String {
    count(number, "conversation")
}

/// Opens the database, which may take long if it is large. Ctrl-C ends the wait.
fn opened(path: &Path) -> Result<(Conversations, Option<String>), Failure> {
    let (path, (done, opening)) = (path.to_path_buf(), channel());
    std::thread::spawn(move || done.send(Conversations::open(&path)).is_ok());
    loop {
        match opening.recv_timeout(Duration::from_millis(20)) {
            Ok(opened) => return Ok(opened?),
            Err(_) if terminal::interrupted() => return Err(Failure::interrupted()),
            Err(_) => {}
        }
    }
}

fn remove(ids: &[String], yes: bool, context: &mut CommandContext) -> Result<Exit, Failure> {
    let mut store = saved::store(context.config)?;
    let mut removed = Vec::new();
    for prefix in ids {
        let record = saved::find(&store, prefix)?;
        if !yes {
            if !input::can_ask() {
                return Err(Failure::usage("rm asks for confirmation, and there is no terminal")
                    .hint("to confirm beforehand, add: --yes"));
            }
            let question = format!("Remove '{}' ({}) for good?", record.title, saved::messages(&record));
            if !input::confirm(context.screen, &question)? {
                context.screen.note(&format!("kept {}", saved::named(&record)));
                continue;
            }
        }
        store.remove(&record.id)?;
        if !context.json {
            context.print(&format!("removed {}", saved::named(&record)))?;
        }
        removed.push(record.id);
    }
    if let (false, Some(paths)) = (removed.is_empty(), &context.config.paths) {
        models::forget_prompts(&paths.prompt_cache, &removed).map_err(|e| {
            Failure::new(format!("could not remove {}: {}", paths.prompt_cache.display(), reason(&e)))
        })?;
    }
    for file in saved::damaged(context.config).iter().filter(|_| !removed.is_empty()) {
        let file = file.display();
        context.screen.note(&format!(
            "{file}, an earlier damaged database, may still contain it: you may delete that file"
        ));
    }
    if context.json {
        return context.print_json(&json!({ "removed": removed }));
    }
    Ok(Exit::Answered)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments() {
        let now = timestamp().as_millisecond();
        let ago = |text: &str| now - moment(text).unwrap();
        assert!((7 * 86_400_000 - 5000..7 * 86_400_000 + 5000).contains(&ago("7d")));
        assert!(ago("2020-01-01") > 0);
        for wrong in ["", "d", "-1d", "7x", "yesterday", "99999999999999w"] {
            assert!(moment(wrong).is_err(), "{wrong}");
        }
    }
}
