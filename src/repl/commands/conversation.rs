//! Commands about the conversation: its messages, branches, title, export and context.

use std::path::Path;

use super::words::{flagged, path};
use super::{Confirm, NextAction};
use crate::chat::record::Record;
use crate::chat::{Attachment, Counts, Message, Role};
use crate::failure::Failure;
use crate::files::{Existing, is_stdout, reason, would_replace};
use crate::history::database::{Filter, Hit};
use crate::history::exchange::ExportFormat;
use crate::history::journal::Heading;
use crate::models;
use crate::repl::typed::inert;
use crate::repl::{Ask, Chat, UNCHANGED, editor, show_resumed};
use crate::saved;
use crate::ui::table::{Column, table};
use crate::units::{count, count_in_column};

pub(super) fn title(chat: &mut Chat, text: &str) -> Result<NextAction, Failure> {
    if text.is_empty() {
        match chat.session.record().title {
            title if title.is_empty() => {
                chat.screen.show("no title yet: it will come from the first message")
            }
            title => chat.screen.show(&title),
        }
        return Ok(NextAction::Prompt);
    }
    chat.session.set_title(text);
    chat.screen.note(&format!("renamed to: {text}"));
    Ok(NextAction::Prompt)
}

/// The number of conversations that `/history` shows.
const LATEST: usize = 10;

pub(super) fn history(chat: &mut Chat, words: &str) -> Result<NextAction, Failure> {
    chat.session.wait_for_database();
    let store = saved::store(chat.session.config())?;
    let filter = Filter { most: Some(LATEST), ..Filter::default() };
    let lines: Vec<String> = match words {
        "" => saved::lines(&store.list(&filter)?, chat.screen.note_columns()),
        words => {
            let hits = store.search(words, &filter)?;
            let line = |hit: &Hit| {
                let snippet = hit.snippet.replace([Hit::BEGIN, Hit::END], "");
                let id = &hit.conversation.id;
                format!(
                    "{}  {}: {}",
                    &id[..saved::SHORT.min(id.len())],
                    hit.role.name(),
                    saved::short(&snippet, 100)
                )
            };
            hits.iter().map(line).collect()
        }
    };
    match lines.is_empty() {
        true => chat.screen.note("no matching conversations"),
        false => chat.screen.show(&lines.join("\n")),
    }
    Ok(NextAction::Prompt)
}

pub(super) fn resume(chat: &mut Chat, id: &str) -> Result<NextAction, Failure> {
    if id.is_empty() {
        return Ok(NextAction::Resume);
    }
    chat.session.wait_for_database();
    let kept = saved::find(&saved::store(chat.session.config())?, id)?;
    resume_conversation(chat, kept)?;
    Ok(NextAction::Prompt)
}

/// Resumes a saved conversation, with its own model if that is available.
pub(in crate::repl) fn resume_conversation(chat: &mut Chat, record: Record) -> Result<(), Failure> {
    chat.session.turn_to(&record, Heading::of(&record));
    chat.attached.clear();
    show_resumed(chat.session, &record, chat.screen);
    let before = record.model.as_deref().filter(|model| *model != chat.session.model_name());
    match models::of_conversation(chat.session.config(), before) {
        Ok(None) => {}
        // Only the conversation names that server, which may come from an imported file: nothing is sent there.
        Ok(Some(own)) if chat.session.config().is_at_unnamed_server(&own) => {
            let model = &chat.session.model().name;
            let line = format!("the conversation was answered by {own}; continuing with {model}");
            chat.screen.note(&format!("{line} (/model {own} goes on there)"));
        }
        Ok(Some(own)) => {
            chat.change_model(&own)?;
            chat.screen.note(&format!("using {}, the model of this conversation", chat.session.model().name));
        }
        Err(gone) => chat.screen.note(&format!("{gone}; continuing with {}", chat.session.model().name)),
    }
    Ok(())
}

pub(super) fn fork(chat: &mut Chat, _: &str) -> Result<NextAction, Failure> {
    if chat.session.conversation().is_empty() {
        return Err(Failure::new("the conversation is empty"));
    }
    chat.session.fork();
    chat.screen.note("continuing in a new conversation; the original stays as it is");
    Ok(NextAction::Prompt)
}

pub(super) fn export(chat: &mut Chat, file: &str) -> Result<NextAction, Failure> {
    let ([force], file) = flagged(file, ["--force"]);
    if chat.session.conversation().is_empty() {
        return Err(Failure::new("the conversation is empty"));
    }
    if file.is_empty() {
        return Err(Failure::usage("/export needs a file name that ends in .md, .json or .txt"));
    }
    let path = path(file);
    if is_stdout(&path) {
        let text =
            saved::text(&chat.session.record(), ExportFormat::of(&path).unwrap_or(ExportFormat::Text))?;
        let written = chat.screen.output_as_it_is(&text);
        written.map_err(|e| Failure::new(format!("could not write to stdout: {}", reason(&e))))?;
        return Ok(NextAction::Prompt);
    }
    let format = saved::format(&path, ExportFormat::Markdown)?;
    if force || !would_replace(&path) {
        write(chat, &path, format, if force { Existing::Replace } else { Existing::Keep })?;
        return Ok(NextAction::Prompt);
    }
    Ok(NextAction::Confirm(Confirm {
        question: saved::replace_question(&path),
        refusal: saved::exists(&path).hint(format!("/export --force {file} replaces it")),
        then: Box::new(move |chat| write(chat, &path, format, Existing::Replace)),
    }))
}

fn write(chat: &mut Chat, path: &Path, format: ExportFormat, existing: Existing) -> Result<(), Failure> {
    let line = saved::save(&chat.session.record(), path, format, existing)?;
    chat.screen.note(&line);
    Ok(())
}

pub(super) fn clear(chat: &mut Chat, _: &str) -> Result<NextAction, Failure> {
    let dropped = if chat.session.beginning().is_some() { "; dropped the answer's beginning" } else { "" };
    chat.session.clear();
    let detached = match &std::mem::take(&mut chat.attached)[..] {
        [] => String::new(),
        files => format!("; detached {}", names(files)),
    };
    chat.screen.note(&format!("started a new conversation{detached}{dropped}"));
    Ok(NextAction::Prompt)
}

/// `a.txt, b.txt`.
fn names(files: &[Attachment]) -> String {
    let names: Vec<&str> = files.iter().map(|file| file.name.as_str()).collect();
    names.join(", ")
}

pub(super) fn undo(chat: &mut Chat, _: &str) -> Result<NextAction, Failure> {
    let message = chat.session.undo().ok_or_else(|| Failure::new("nothing to undo"))?;
    let files: Vec<Attachment> = message.files().cloned().collect();
    let again = if chat.attached.is_empty() && !files.is_empty() {
        chat.attached = files;
        format!(" (reattached {})", names(&chat.attached))
    } else {
        String::new()
    };
    chat.screen.note(&format!("removed: {}{again}", saved::short(&message.text(), 60)));
    Ok(NextAction::Prompt)
}

pub(super) fn redo(chat: &mut Chat, _: &str) -> Result<NextAction, Failure> {
    let nothing = || Failure::new("nothing to redo").hint("/redo restores what /undo removed or /tree left");
    let message = chat.session.redo().ok_or_else(nothing)?;
    if chat.attached.iter().eq(message.files()) {
        chat.attached.clear(); // the restored message has them
    }
    chat.screen.note(&format!("restored: {}", saved::short(&message.text(), 60)));
    Ok(NextAction::Prompt)
}

pub(super) fn edit(chat: &mut Chat, which: &str) -> Result<NextAction, Failure> {
    let said = chat.session.conversation().user_messages();
    if said.is_empty() {
        return editor::in_external_editor("").map(|text| NextAction::Edit(inert(&text)));
    }
    let place = match which {
        "" => said.len(),
        n => n.parse().ok().filter(|n| (1..=said.len()).contains(n)).ok_or_else(|| {
            Failure::new(format!(
                "/edit takes the number of one of your messages, 1 to {}, not '{n}'",
                said.len()
            ))
        })?,
    };
    let place = said[place - 1];
    let before = chat.session.conversation().message(place).clone();
    if !editor::is_external_set() {
        return Ok(NextAction::Change(place, before));
    }
    let text = editor::in_external_editor(&before.text())?;
    if text.trim().is_empty() || text == before.text() {
        chat.screen.note(UNCHANGED);
        return Ok(NextAction::Prompt);
    }
    chat.screen.show_typed(&chat.prompt(), &text);
    let mut instead = before;
    instead.set_text(&text);
    Ok(NextAction::Ask(Ask::Instead(place, instead)))
}

pub(super) fn context(chat: &mut Chat, _: &str) -> Result<NextAction, Failure> {
    chat.wait_for_model()?;
    let counts = chat.session.count(None)?;
    let (weights, dropped) = chat.session.token_counts()?;
    let conversation = chat.session.conversation();
    let (view, own) = (conversation.view(), conversation.user_messages().len());
    let of_user = |message: &Message| message.role == Role::User;
    let examples = view.iter().filter(|message| of_user(message)).count() - own;
    let (mut rows, mut leaving, mut asked) = (Vec::new(), dropped.count, 0);
    for (message, tokens) in view.iter().zip(weights) {
        let leaves = message.role != Role::System && leaving > 0;
        leaving -= usize::from(leaves);
        asked += usize::from(of_user(message));
        let number =
            if of_user(message) && asked > examples { (asked - examples).to_string() } else { String::new() };
        let seen = if leaves { "dropped" } else { "" };
        let text = saved::short(&message.in_short(), 50);
        let tokens = count_in_column(tokens, 6, "token");
        rows.push([format!("{number:>3} {:9} {tokens}  {seen:7}", message.role.name()), text]);
    }
    let columns = [("", Column::Whole), ("", Column::Cut)];
    let mut lines = table(columns, &rows, chat.screen.note_columns()).split_off(1);
    lines.push(used(
        counts,
        view.len() - conversation.system.iter().count(),
        chat.session.model().host.is_none(),
    ));
    if let Some(summary) = &dropped.summary {
        lines.push(format!("summary of the dropped messages: {summary}"));
    }
    if dropped.count > 0 {
        let messages = count(dropped.count, "message");
        let (they_are, their) = if dropped.count == 1 { ("it is", "its") } else { ("they are", "their") };
        lines.push(format!(
            "dropped {messages} from the context; {they_are} still in the history, and {their} files still in the context"
        ));
    }
    chat.screen.show(&lines.join("\n"));
    Ok(NextAction::Prompt)
}

/// How full the context is. `here`: its KV cache is on this machine.
fn used(counts: Counts, messages: usize, here: bool) -> String {
    let Counts { prompt, cached, limit, estimated, .. } = counts;
    let about = if estimated { "about " } else { "" };
    let full = match limit {
        0 => format!("{}, of an unknown limit", count(prompt, "token")),
        limit => format!("{prompt} of {} ({} %)", count(limit, "token"), prompt * 100 / limit),
    };
    let cached = if here { format!(", {} in the KV cache", count(cached, "token")) } else { String::new() };
    let why = if estimated { ": estimated from the length of the text" } else { "" };
    format!("{about}{full}, {}{cached}{why}", count(messages, "message"))
}

pub(super) fn thinking(chat: &mut Chat, _: &str) -> Result<NextAction, Failure> {
    let conversation = chat.session.conversation();
    let answer = conversation.last_answer().ok_or_else(|| Failure::new("there is no answer yet"))?;
    match conversation.message(answer).thinking.clone() {
        Some(thinking) => chat.screen.show_conversation(&thinking),
        None => chat.screen.note("the model did not think before its last answer"),
    }
    Ok(NextAction::Prompt)
}

/// How many of the likeliest other tokens `/why` shows.
const OTHERS: usize = 3;

pub(super) fn why(chat: &mut Chat, _: &str) -> Result<NextAction, Failure> {
    let tokens = chat.watched(|session, watch| session.score_last(OTHERS, watch))?.tokens;
    chat.screen.show_probabilities(&tokens);
    Ok(NextAction::Prompt)
}
