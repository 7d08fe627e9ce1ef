//! The slash commands, in one table that drives dispatch, Tab, `/help` and the README.

use super::{Ask, Chat};
use crate::chat::options::{Effect, SETTINGS, Setting, setting};
use crate::chat::{Message, Role};
use crate::error::Failure;
use crate::input::attach;
use crate::kept;
use crate::nearest::nearest;
use crate::store::conversations::{Filter, Hit};
use crate::store::exchange::Format;
use crate::store::journal::Heading;
use crate::ui::stats;
use crate::units::size;

/// What happens after a command.
pub enum Next {
    Prompt,
    Ask(Ask),
    /// Back to the editor with this text in the line.
    Edit(String),
    Quit,
}

/// What Tab offers for a command's argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Argument {
    None,
    Path,
    Setting,
    Model,
    Words(&'static [&'static str]),
}

type Run = fn(&mut Chat, &str) -> Result<Next, Failure>;

pub struct Command {
    /// Without the slash.
    pub name: &'static str,
    pub aliases: &'static [&'static str],
    /// What it takes, for people.
    pub takes: &'static str,
    pub help: &'static str,
    pub argument: Argument,
    run: Run,
}

const fn row(
    names: &'static [&'static str],
    takes: &'static str,
    argument: Argument,
    help: &'static str,
    run: Run,
) -> Command {
    let (name, aliases) = match names.split_first() {
        Some((name, aliases)) => (*name, aliases),
        None => panic!("a command has a name"),
    };
    Command { name, aliases, takes, help, argument, run }
}

/// The table.
pub const COMMANDS: &[Command] = &[
    row(&["help", "?"], "[COMMAND]", Argument::None, "list the commands, or explain one", help),
    row(&["exit", "bye", "quit"], "", Argument::None, "leave (also Ctrl-D)", |_, _| Ok(Next::Quit)),
    row(&["clear", "new"], "", Argument::None, "begin a new conversation", clear),
    row(&["undo"], "", Argument::None, "take back the last exchange", undo),
    row(&["retry", "regen"], "", Argument::None, "get another answer to the last message", |_, _| {
        Ok(Next::Ask(Ask::Retry))
    }),
    row(&["more"], "", Argument::None, "go on with an answer that was cut", |_, _| Ok(Next::Ask(Ask::More))),
    row(&["edit"], "[N]", Argument::None, "change your last message, or your N-th, and send it again", edit),
    row(&["system"], "[TEXT|none]", Argument::None, "show or change the system prompt", system),
    row(&["set"], "[NAME [VALUE]]", Argument::Setting, "show or change settings, as in /set temp 0.5", set),
    row(
        &["show"],
        "[WHAT]",
        Argument::Words(SHOWS),
        "show the model, settings, prompt (exactly what it saw), template or system",
        show,
    ),
    row(&["model"], "[NAME|PATH]", Argument::Model, "show the model, or go on with another", model),
    row(&["file", "read"], "[PATH|none]", Argument::Path, "attach a text file to the next message", file),
    row(&["title"], "[TEXT]", Argument::None, "name this conversation", title),
    row(
        &["history"],
        "[WORDS]",
        Argument::None,
        "the latest conversations, or the messages that have these words",
        history,
    ),
    row(
        &["resume"],
        "ID",
        Argument::None,
        "go on with another conversation, by the beginning of its id",
        resume,
    ),
    row(&["fork"], "", Argument::None, "go on in a conversation of its own; this one stays as it is", fork),
    row(&["export"], "FILE", Argument::Path, "write this conversation to a file: .md, .json or .txt", export),
    row(&["tokens"], "", Argument::None, "the tokens of what the model saw, with their ids", tokens),
    row(&["context"], "", Argument::None, "how much of the context is in use", context),
    row(&["stats"], "", Argument::None, "the figures of the last answer", show_stats),
];

fn title(chat: &mut Chat, text: &str) -> Result<Next, Failure> {
    if text.is_empty() {
        return Err(Failure::usage("/title takes the new title"));
    }
    chat.session.set_title(text);
    chat.screen.note(&format!("this conversation is called: {text}"));
    Ok(Next::Prompt)
}

/// Conversations that `/history` shows.
const LATEST: usize = 10;

fn history(chat: &mut Chat, words: &str) -> Result<Next, Failure> {
    let store = kept::store(&chat.session.config)?;
    let filter = Filter { most: Some(LATEST), ..Filter::default() };
    let lines: Vec<String> = match words {
        "" => store.list(&filter)?.iter().map(kept::line).collect(),
        words => {
            let hits = store.search(words, &filter)?;
            let line = |hit: &Hit| {
                let snippet = hit.snippet.replace([Hit::BEGIN, Hit::END], "");
                let id = &hit.conversation.id;
                format!(
                    "{}  {}: {}",
                    &id[..kept::SHORT.min(id.len())],
                    hit.role.name(),
                    kept::short(&snippet, 100)
                )
            };
            hits.iter().map(line).collect()
        }
    };
    match lines.is_empty() {
        true => chat.screen.note("nothing is kept that fits"),
        false => chat.screen.show(&lines.join("\n")),
    }
    Ok(Next::Prompt)
}

fn resume(chat: &mut Chat, id: &str) -> Result<Next, Failure> {
    if id.is_empty() {
        return Err(Failure::usage("/resume takes the beginning of an id").hint("/history shows them"));
    }
    let (record, numbers) = kept::find(&kept::store(&chat.session.config)?, id)?;
    let heading =
        Heading { stored: Some((record.id.clone(), numbers)), interactive: true, ..Heading::default() };
    chat.session.turn_to(&record, heading);
    chat.attached.clear();
    super::show_resumed(&record, chat.screen);
    Ok(Next::Prompt)
}

fn fork(chat: &mut Chat, _: &str) -> Result<Next, Failure> {
    if chat.session.conversation.is_empty() {
        return Err(Failure::new("nothing was said yet"));
    }
    chat.session.fork();
    chat.screen.note("from here on this is a conversation of its own");
    Ok(Next::Prompt)
}

fn export(chat: &mut Chat, file: &str) -> Result<Next, Failure> {
    if file.is_empty() {
        return Err(Failure::usage("/export takes a file: its ending, .md, .json or .txt, says how"));
    }
    let path = std::path::Path::new(unquoted(file));
    kept::save(&chat.session.record(), path, Format::of(path).unwrap_or(Format::Markdown))?;
    chat.screen.note(&format!("written to {}", path.display()));
    Ok(Next::Prompt)
}

const SHOWS: &[&str] = &["model", "settings", "prompt", "template", "system"];

/// The command called `name`.
pub fn command(name: &str) -> Option<&'static Command> {
    COMMANDS.iter().find(|c| c.name == name || c.aliases.contains(&name))
}

/// Runs a line that begins with a slash.
pub fn run(chat: &mut Chat, line: &str) -> Result<Next, Failure> {
    let line = line.trim().trim_start_matches('/');
    let (name, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    match command(&name.to_lowercase()) {
        Some(command) => (command.run)(chat, rest.trim()),
        None => Err(unknown(name)),
    }
}

fn unknown(name: &str) -> Failure {
    let names = COMMANDS.iter().flat_map(|c| c.aliases.iter().copied().chain([c.name]));
    let failure = Failure::new(format!("there is no command /{name}"));
    match nearest(name, names) {
        Some(close) => failure.hint(format!("did you mean /{close}?")),
        None => {
            failure.hint("/help lists the commands; a message may not begin with / (put a space before it)")
        }
    }
}

/// What Tab offers for the line up to the cursor; `None`: file names. `models` names the models there are.
pub fn complete(line: &str, models: impl Fn() -> Vec<String>) -> Option<(usize, Vec<String>)> {
    let Some(typed) = line.strip_prefix('/') else {
        return Some((line.len(), Vec::new()));
    };
    let Some((name, rest)) = typed.split_once(char::is_whitespace) else {
        let all = COMMANDS.iter().flat_map(|c| c.aliases.iter().copied().chain([c.name]));
        return Some((1, matching(typed, all)));
    };
    let rest = rest.trim_start();
    let start = line.len() - rest.len();
    match command(name)?.argument {
        Argument::None => Some((line.len(), Vec::new())),
        Argument::Path => None,
        Argument::Words(words) => Some((start, matching(rest, words.iter().copied()))),
        Argument::Model => {
            let offered = matching(rest, models().iter().map(String::as_str));
            if offered.is_empty() { None } else { Some((start, offered)) }
        }
        Argument::Setting => match rest.split_once(char::is_whitespace) {
            None => Some((start, matching(rest, changeable().map(|row| row.name)))),
            Some((name, value)) => {
                let choices = setting(name).map(Setting::choices).unwrap_or_default();
                Some((line.len() - value.len(), matching(value, choices.into_iter())))
            }
        },
    }
}

fn matching<'a>(typed: &str, names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut names: Vec<String> = names.filter(|n| n.starts_with(typed)).map(|n| format!("{n} ")).collect();
    names.sort();
    names
}

/// The settings that a running chat can change.
fn changeable() -> impl Iterator<Item = &'static Setting> {
    SETTINGS.iter().filter(|row| row.effect != Effect::Start)
}

fn help(chat: &mut Chat, name: &str) -> Result<Next, Failure> {
    if !name.is_empty() {
        let command = command(name.trim_start_matches('/')).ok_or_else(|| unknown(name))?;
        let aliases: Vec<String> = command.aliases.iter().map(|a| format!("/{a}")).collect();
        let also = if aliases.is_empty() { String::new() } else { format!("\nalso: {}", aliases.join(" ")) };
        chat.screen.show(&format!("/{} {}\n{}{also}", command.name, command.takes, command.help));
        return Ok(Next::Prompt);
    }
    let usage = |c: &Command| format!("/{} {}", c.name, c.takes);
    let width = COMMANDS.iter().map(|c| usage(c).len()).max().unwrap_or(0);
    let lines: Vec<String> = COMMANDS.iter().map(|c| format!("{:width$}  {}", usage(c), c.help)).collect();
    chat.screen.show(&lines.join("\n"));
    chat.screen.show(KEYS);
    Ok(Next::Prompt)
}

const KEYS: &str = "
Ctrl-C stops an answer, Ctrl-D leaves. What is typed meanwhile is kept.
A message goes on in the next line after Ctrl-J or \\, and between \"\"\" and \"\"\".
Ctrl-X Ctrl-E opens $EDITOR, Ctrl-R searches what was typed before.";

fn clear(chat: &mut Chat, _: &str) -> Result<Next, Failure> {
    chat.session.clear();
    chat.attached.clear();
    chat.screen.note("a new conversation");
    Ok(Next::Prompt)
}

fn undo(chat: &mut Chat, _: &str) -> Result<Next, Failure> {
    let message = chat.session.undo().ok_or_else(|| Failure::new("there is nothing to take back"))?;
    chat.screen.note(&format!("taken back: {}", short(&message.text)));
    Ok(Next::Prompt)
}

fn edit(chat: &mut Chat, which: &str) -> Result<Next, Failure> {
    let said = chat.session.conversation.user_messages();
    if said.is_empty() {
        return super::editor::in_external_editor("").map(Next::Edit);
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
    let before = chat.session.conversation.message(place).clone();
    let text = super::editor::in_external_editor(&before.text)?;
    if text == before.text {
        chat.screen.note("nothing was changed");
        return Ok(Next::Prompt);
    }
    Ok(Next::Ask(Ask::Instead(place, Message { text, ..before })))
}

fn system(chat: &mut Chat, text: &str) -> Result<Next, Failure> {
    match text {
        "" => match &chat.session.conversation.system {
            Some(system) => chat.screen.show(system),
            None => {
                chat.screen.show("there is no system prompt of yours; the model's template may have its own")
            }
        },
        "none" => {
            chat.session.conversation.system = None;
            chat.screen.note("no system prompt from now on");
        }
        text => {
            chat.session.conversation.system = Some(text.to_string());
            chat.screen.note("the system prompt holds from the next message on");
        }
    }
    Ok(Next::Prompt)
}

fn set(chat: &mut Chat, words: &str) -> Result<Next, Failure> {
    let (name, value) = words.split_once(char::is_whitespace).unwrap_or((words, ""));
    let value = value.trim();
    if name.is_empty() {
        let shown: Vec<String> = changeable().map(|row| shown_setting(chat, row)).collect();
        chat.screen.show(&shown.join("\n"));
        return Ok(Next::Prompt);
    }
    let row = setting(name).ok_or_else(|| no_setting(name, value))?;
    if value.is_empty() {
        chat.screen.show(&format!("{}\n  {}", shown_setting(chat, row), row.help));
        return Ok(Next::Prompt);
    }
    chat.set(row, unquoted(value))?;
    chat.screen.note(&format!("{} is {}", row.name, (row.get)(&chat.session.settings)));
    Ok(Next::Prompt)
}

fn shown_setting(chat: &Chat, row: &'static Setting) -> String {
    let source = chat.session.source(row);
    format!("{:22} {:24} {}", row.name, (row.get)(&chat.session.settings), source.name())
}

/// `"two words"` → `two words`; the shell would have done it.
fn unquoted(value: &str) -> &str {
    value.strip_prefix('"').and_then(|v| v.strip_suffix('"')).unwrap_or(value)
}

fn no_setting(name: &str, value: &str) -> Failure {
    let failure = Failure::new(format!("there is no setting '{name}'"));
    let (first, rest) = value.split_once(char::is_whitespace).unwrap_or((value, ""));
    if name == "parameter"
        && let Some(row) = setting(first)
    {
        return failure.hint(format!("/set {} {rest}", row.name).trim_end().to_string());
    }
    match (name, nearest(name, changeable().map(|row| row.name))) {
        ("verbose" | "quiet", _) => failure.hint("/set stats on, /set stats off"),
        (_, Some(close)) => failure.hint(format!("did you mean /set {close}?")),
        _ => failure.hint("/set lists the settings"),
    }
}

fn show(chat: &mut Chat, what: &str) -> Result<Next, Failure> {
    let text = match what {
        "" | "model" | "info" => described(chat),
        "settings" | "parameters" => return set(chat, ""),
        "prompt" => {
            chat.wait_for_model()?;
            chat.session.render_last()?.text
        }
        "template" if chat.session.model().template.is_empty() => {
            "the model has no chat template: it completes text".into()
        }
        "template" => chat.session.model().template.clone(),
        "system" => return system(chat, ""),
        other => {
            let failure = Failure::new(format!("/show does not know '{other}'"));
            return Err(failure.hint(format!("/show takes one of: {}", SHOWS.join(" "))));
        }
    };
    chat.screen.show(&text);
    Ok(Next::Prompt)
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
        ("context", format!("up to {} tokens", model.context_limit)),
        ("made for", if model.chats { "conversations".into() } else { "completing text".to_string() }),
    ];
    let lines: Vec<String> =
        rows.iter().filter(|(_, v)| !v.is_empty()).map(|(n, v)| format!("{n:12} {v}")).collect();
    lines.join("\n")
}

fn model(chat: &mut Chat, wanted: &str) -> Result<Next, Failure> {
    if wanted.is_empty() {
        let text = described(chat);
        chat.screen.show(&text);
        return Ok(Next::Prompt);
    }
    chat.change_model(&expanded(unquoted(wanted)))?;
    let model = chat.session.model();
    let line = format!("now {} ({}); the conversation goes on", model.name, model.facts);
    let cautions = model.cautions.clone();
    chat.screen.note(&line);
    cautions.iter().for_each(|line| chat.screen.note(line));
    Ok(Next::Prompt)
}

fn file(chat: &mut Chat, path: &str) -> Result<Next, Failure> {
    if path.is_empty() || path == "none" {
        if path == "none" {
            chat.attached.clear();
        }
        let names: Vec<&str> = chat.attached.iter().map(|a| a.name.as_str()).collect();
        let line = if names.is_empty() {
            "nothing is attached".into()
        } else {
            format!("attached: {}", names.join(", "))
        };
        chat.screen.show(&line);
        return Ok(Next::Prompt);
    }
    let path = expanded(unquoted(path));
    let attachment = attach(std::path::Path::new(&path))?;
    let bytes = attachment.text.len() as u64;
    chat.wait_for_model()?;
    let mut message = Message { attachments: chat.attached.clone(), ..Message::new(Role::User, "") };
    let without = chat.session.count(Some(&message))?;
    chat.attached.push(attachment);
    message.attachments = chat.attached.clone();
    let with = chat.session.count(Some(&message))?;
    let tokens = with.prompt.saturating_sub(without.prompt);
    let seconds = with.reading.saturating_sub(without.reading).as_secs_f64();
    chat.screen.note(&format!(
        "attached {path}: {}, {tokens} tokens, about {seconds:.1} s to read; it goes with your next message",
        size(bytes)
    ));
    if with.prompt >= with.limit {
        chat.screen.note(&format!(
            "that is more than the context of {} tokens holds: /file none takes it back",
            with.limit
        ));
    }
    Ok(Next::Prompt)
}

/// `~/x` → the home folder's x, as the shell would have it; the backslashes that Tab puts before spaces and the like go.
fn expanded(path: &str) -> String {
    let mut plain = String::new();
    let mut escaped = false;
    for c in path.chars() {
        escaped = c == '\\' && !escaped;
        if !escaped {
            plain.push(c);
        }
    }
    match (plain.strip_prefix("~/"), std::env::var("HOME")) {
        (Some(rest), Ok(home)) => format!("{home}/{rest}"),
        _ => plain,
    }
}

fn tokens(chat: &mut Chat, _: &str) -> Result<Next, Failure> {
    chat.wait_for_model()?;
    let rendered = chat.session.render_last()?;
    let lines: Vec<String> = rendered.tokens.iter().map(|(id, piece)| format!("{id:7} {piece:?}")).collect();
    chat.screen.show(&format!("{}\n{} tokens", lines.join("\n"), rendered.tokens.len()));
    Ok(Next::Prompt)
}

fn context(chat: &mut Chat, _: &str) -> Result<Next, Failure> {
    chat.wait_for_model()?;
    let counts = chat.session.count(None)?;
    let messages = chat.session.conversation.path().len();
    let percent = counts.prompt * 100 / counts.limit.max(1);
    chat.screen.show(&format!(
        "{} of {} tokens ({percent} %), {messages} messages, {} tokens already read",
        counts.prompt, counts.limit, counts.cached
    ));
    Ok(Next::Prompt)
}

fn show_stats(chat: &mut Chat, _: &str) -> Result<Next, Failure> {
    let answer = chat.session.last.as_ref().ok_or_else(|| Failure::new("there is no answer yet"))?;
    let table = stats::table(&answer.stats, answer.first_token);
    chat.screen.show(&table);
    Ok(Next::Prompt)
}

/// The beginning of a text, on one line.
fn short(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(60) {
        Some((at, _)) => format!("{}…", &line[..at]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique() {
        let mut names: Vec<&str> =
            COMMANDS.iter().flat_map(|c| c.aliases.iter().copied().chain([c.name])).collect();
        let before = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), before);
    }

    #[test]
    fn tab_knows_commands_settings_and_values() {
        let offers = |line: &str| complete(line, || vec!["tiny".to_string()]).map(|(_, names)| names);
        assert_eq!(offers("/und").unwrap(), ["undo "]);
        assert_eq!(offers("/set top-").unwrap(), ["top-k ", "top-n-sigma ", "top-p "]);
        assert_eq!(offers("/set flash-attn o").unwrap(), ["off ", "on "]);
        assert_eq!(offers("/model t").unwrap(), ["tiny "]);
        assert_eq!(offers("/file x"), None, "file names");
        assert!(offers("hello").unwrap().is_empty());
    }
}
