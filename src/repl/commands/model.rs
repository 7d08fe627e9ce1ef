//! Commands about the model: which one, its settings, its files and its prompt.

use super::words::{path, unquoted};
use super::{DEFAULT, NextAction, changeable, command};
use crate::chat::settings::renamed;
use crate::failure::Failure;
use crate::repl::Chat;
use crate::settings::{Effect, Setting, names, setting};
use crate::suggest::nearest;
use crate::ui::stats;
use crate::units::count;

pub(super) const SHOWS: &[(&str, &str)] = &[
    ("model", "its file, kind, device and context"),
    ("settings", "every setting with its value and source"),
    ("prompt", "the last prompt, exactly as the model saw it"),
    ("template", "the chat template"),
    ("system", "the system prompt"),
];

pub(super) fn system(chat: &mut Chat, text: &str) -> Result<NextAction, Failure> {
    match text {
        "" => match &chat.session.conversation().system {
            Some(system) => chat.screen.show_conversation(system),
            None => chat.screen.show("no system prompt is set; the model's template may have its own"),
        },
        "none" => {
            chat.session.set_system(None);
            chat.screen.note("removed the system prompt");
        }
        text => {
            chat.session.set_system(Some(text.to_string()));
            chat.screen.note("the system prompt applies from the next message on");
        }
    }
    Ok(NextAction::Prompt)
}

pub(super) fn set(chat: &mut Chat, words: &str) -> Result<NextAction, Failure> {
    let end = words.find(|c: char| c == '=' || c.is_whitespace()).unwrap_or(words.len());
    let (name, value) = (&words[..end], words[end..].trim());
    let value = value.strip_prefix('=').unwrap_or(value).trim();
    if name.is_empty() {
        let shown: Vec<String> = changeable().map(|row| shown_setting(chat, row)).collect();
        chat.screen.show(&shown.join("\n"));
        return Ok(NextAction::Prompt);
    }
    let row = setting(name).ok_or_else(|| no_setting(name, value))?;
    if value.is_empty() {
        chat.screen.show(&format!("{}\n  {}", shown_setting(chat, row), row.help));
        return Ok(NextAction::Prompt);
    }
    if row.effect == Effect::Start {
        return Err(only_at_the_start(chat, row, value));
    }
    if value == DEFAULT {
        chat.set(row, None)?;
        let (value, source) = (row.shown(chat.session.settings()), chat.session.config().source(row.name));
        chat.screen.note(&format!("{} is {value} ({})", row.name, source.name()));
        return Ok(NextAction::Prompt);
    }
    chat.set(row, Some(unquoted(value)))?;
    let now = Some((row.get)(chat.session.settings())).filter(|now| !now.is_empty());
    let note = format!("{} is {}", row.name, now.unwrap_or_else(|| unquoted(value).into()));
    let idle = match &chat.session.model().host {
        Some(host) if row.effect == Effect::Reload && row.name != "template-arg" => {
            format!("; it has no effect at {host}: only models on this machine take it")
        }
        _ => String::new(),
    };
    chat.screen.note(&(note + &idle));
    Ok(NextAction::Prompt)
}

/// The failure for a setting that `/set` cannot change. Names the command for it, or how to set it at the
/// start.
fn only_at_the_start(chat: &Chat, row: &Setting, value: &str) -> Failure {
    if let Some(command) = [row.name].iter().chain(row.aliases).find_map(|name| command(name)) {
        let failure = Failure::usage(format!("in a chat, /{1} changes {0}", row.name, command.name));
        return failure.hint(format!("/{} {value}", command.name));
    }
    let file = chat.session.config().paths.as_ref();
    let file = file.map_or(String::new(), |paths| format!(" in {}", paths.config_file.display()));
    Failure::usage(format!("{} can only be set when fireside starts", row.name))
        .hint(format!("{}{file}", row.ways(unquoted(value))))
}

fn shown_setting(chat: &Chat, row: &'static Setting) -> String {
    let config = chat.session.config();
    let given = config.given_as(row.name);
    let as_given = if given == row.name { String::new() } else { format!(" (as {given})") };
    let value = Some(config.value(row)).filter(|value| !value.is_empty()).unwrap_or("not set".into());
    let source = config.source(given).name();
    let most = if chat.screen.note_columns().is_none_or(|columns| columns >= 80) { 24 } else { 0 };
    format!("{:22} {value:most$} {source}{as_given}", row.name)
}

fn no_setting(name: &str, value: &str) -> Failure {
    if let Some(new) = renamed(name) {
        return Failure::new(format!("{name} is now {new}")).hint(format!("/set {new} {value}"));
    }
    let failure = Failure::new(format!("there is no setting '{name}'"));
    let (first, rest) = value.split_once(char::is_whitespace).unwrap_or((value, ""));
    if name == "parameter"
        && let Some(row) = setting(first)
    {
        return failure.hint(format!("/set {} {rest}", row.name).trim_end().to_string());
    }
    if let Some(command) = command(name).filter(|command| !command.takes.is_empty()) {
        return failure.hint(format!("/{} {value}", command.name).trim_end().to_string());
    }
    match (name, nearest(name, names())) {
        ("verbose" | "quiet", _) => failure.hint("/set stats on, /set stats off"),
        (_, Some(close)) => failure.hint(format!("did you mean /set {close}?")),
        _ => failure.hint("/set lists the settings"),
    }
}

pub(super) fn show(chat: &mut Chat, what: &str) -> Result<NextAction, Failure> {
    match what {
        "" | "model" | "info" => {
            let text = described(chat);
            chat.screen.show(&text);
        }
        "settings" | "parameters" => return set(chat, ""),
        "prompt" => {
            chat.wait_for_model()?;
            let prompt = chat.session.render_last()?.text;
            chat.screen.show_source(&prompt);
        }
        "template" => match chat.session.model().template.as_str() {
            "" if chat.session.model().host.is_some() => {
                chat.screen.show("the server does not show its chat template")
            }
            "" => chat.screen.show("the model has no chat template: it continues text"),
            template => chat.screen.show_source(template),
        },
        "system" => return system(chat, ""),
        other => {
            let failure = Failure::new(format!("/show cannot show '{other}'"));
            let words: Vec<&str> = SHOWS.iter().map(|(word, _)| *word).collect();
            return Err(failure.hint(format!("/show takes one of: {}", words.join(" "))));
        }
    }
    Ok(NextAction::Prompt)
}

fn up_to(limit: usize) -> String {
    match limit {
        0 => "unknown".into(),
        limit => format!("up to {limit} tokens"),
    }
}

fn described(chat: &Chat) -> String {
    let model = chat.session.model();
    let path = model.path.as_ref().map_or(String::new(), |p| p.display().to_string());
    let rows = [
        ("model", model.name.clone()),
        ("file", path),
        ("fingerprint", model.fingerprint.clone()),
        ("kind", model.facts.clone()),
        ("runs on", model.device.clone()),
        ("context", up_to(model.context_limit)),
        ("made for", if model.chats { "conversations".into() } else { "continuing text".to_string() }),
    ];
    let lines: Vec<String> =
        rows.iter().filter(|(_, v)| !v.is_empty()).map(|(n, v)| format!("{n:12} {v}")).collect();
    lines.join("\n")
}

pub(super) fn model(chat: &mut Chat, wanted: &str) -> Result<NextAction, Failure> {
    if wanted.is_empty() {
        let text = described(chat);
        chat.screen.show(&text);
        return Ok(NextAction::Prompt);
    }
    chat.change_model(&path(wanted).display().to_string())?;
    let model = chat.session.model();
    let goes = match &model.host {
        Some(host) => format!("the conversation continues at {host}"),
        None => "the conversation continues".into(),
    };
    let line = format!("switched to {} ({}); {goes}", model.name, model.facts);
    let cautions = model.cautions.clone();
    chat.screen.note(&line);
    cautions.iter().for_each(|line| chat.screen.note(line));
    Ok(NextAction::Prompt)
}

pub(super) fn compare(_: &mut Chat, wanted: &str) -> Result<NextAction, Failure> {
    if wanted.is_empty() {
        return Err(
            Failure::usage("/compare needs the name of a model").hint("fireside list shows the models")
        );
    }
    Ok(NextAction::Compare(path(wanted).display().to_string()))
}

pub(super) fn begin(chat: &mut Chat, text: &str) -> Result<NextAction, Failure> {
    match (text, chat.session.beginning()) {
        ("", Some(text)) => {
            let text = format!("the next answer begins with: {text}");
            chat.screen.show_conversation(&text);
        }
        ("", None) => chat.screen.show("the model begins the next answer itself"),
        ("none", _) => {
            chat.session.begin(None)?;
            chat.screen.note("the model begins the next answer itself");
        }
        (text, _) => {
            chat.wait_for_model()?;
            chat.session.begin(Some(text.to_string()))?;
            chat.screen.note("the next answer begins with this text: after a message, or with /retry");
        }
    }
    Ok(NextAction::Prompt)
}

pub(super) fn tokens(chat: &mut Chat, _: &str) -> Result<NextAction, Failure> {
    chat.wait_for_model()?;
    let rendered = chat.session.render_last()?;
    let lines: Vec<String> = rendered.tokens.iter().map(|(id, piece)| format!("{id:7} {piece:?}")).collect();
    chat.screen.show(&format!("{}\n{}", lines.join("\n"), count(lines.len(), "token")));
    Ok(NextAction::Prompt)
}

pub(super) fn show_stats(chat: &mut Chat, _: &str) -> Result<NextAction, Failure> {
    let answer = chat.session.last().ok_or_else(|| Failure::new("there is no answer yet"))?;
    let table = stats::table(&answer.stats, answer.first_token);
    chat.screen.show(&table);
    Ok(NextAction::Prompt)
}
