//! The slash commands: one table for dispatch, completion, `/help` and the docs. conversation.rs, tree.rs,
//! model.rs, files.rs and answer.rs have the functions behind it.

mod words;
mod keys;
mod model;
mod tree;
mod conversation;
mod files;
mod answer;
mod role;

use self::answer::{copy, save};
pub(super) use self::conversation::resume_conversation;
use self::conversation::{
    clear, context, edit, export, fork, history, redo, resume, thinking, title, undo, why,
};
use self::files::file;
pub use self::keys::{KEYS, keys};
use self::model::{SHOWS, begin, compare, model, set, show, show_stats, system, tokens};
pub(super) use self::role::told;
pub(super) use self::tree::pick_message;
use super::candidate::{Candidate, about_value, matching};
use super::{Ask, Chat};
use crate::chat::{Message, MessageId};
use crate::failure::Failure;
use crate::models::builtin_templates;
use crate::settings::{Effect, SETTINGS, Setting, setting};
use crate::suggest::nearest;
use crate::ui::table::pairs;

/// What the chat does next.
pub enum NextAction {
    Prompt,
    Ask(Ask),
    /// Resume a conversation that the user picks from a list.
    Resume,
    /// Go to a message that the user picks from the tree.
    PickMessage,
    /// Answer the last message with this model as well.
    Compare(String),
    /// Put this text into the line editor.
    Edit(String),
    /// Ask the user, and act after a yes.
    Confirm(Confirm),
    /// Run this command of the shell, and attach its output.
    Shell(String),
    /// Edit this message in the line editor.
    Change(MessageId, Message),
    Quit,
}

/// The kind of a command's argument, for completion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Argument {
    None,
    Path,
    Setting,
    Model,
    Conversation,
    Role,
    Command,
    /// One of these words, each with its description.
    Words(&'static [(&'static str, &'static str)]),
}

type Then = Box<dyn FnOnce(&mut Chat) -> Result<(), Failure>>;

/// A yes-or-no question, and the action after a yes.
pub struct Confirm {
    pub question: String,
    /// The failure if there is no one to ask.
    pub refusal: Failure,
    pub then: Then,
}

type Handler = fn(&mut Chat, &str) -> Result<NextAction, Failure>;

pub struct Command {
    /// Without the slash.
    pub name: &'static str,
    pub aliases: &'static [&'static str],
    /// Its arguments, as help shows them.
    pub takes: &'static str,
    pub help: &'static str,
    pub argument: Argument,
    run: Handler,
}

const fn row(
    names: &'static [&'static str],
    takes: &'static str,
    argument: Argument,
    help: &'static str,
    run: Handler,
) -> Command {
    let (name, aliases) = match names.split_first() {
        Some((name, aliases)) => (*name, aliases),
        None => panic!("a command has a name"),
    };
    Command { name, aliases, takes, help, argument, run }
}

/// The table.
pub const COMMANDS: &[Command] = &[
    row(
        &["help", "?"],
        "[COMMAND|keys]",
        Argument::Command,
        "list the commands, explain one, or list the keys",
        help,
    ),
    row(&["exit", "bye", "quit"], "", Argument::None, "leave (also Ctrl-D)", |_, _| Ok(NextAction::Quit)),
    row(&["clear", "new"], "", Argument::None, "start a new conversation", clear),
    row(&["undo"], "", Argument::None, "undo the last exchange", undo),
    row(
        &["redo"],
        "",
        Argument::None,
        "restore the exchange that /undo removed, or the branch that /tree left",
        redo,
    ),
    row(
        &["tree"],
        "[N]",
        Argument::None,
        "show the branches of this conversation and go to one, or to its N-th message",
        tree::tree,
    ),
    row(&["retry", "regen"], "", Argument::None, "generate another answer to the last message", |_, _| {
        Ok(NextAction::Ask(Ask::Retry))
    }),
    row(&["more"], "", Argument::None, "continue an answer that was cut off", |_, _| {
        Ok(NextAction::Ask(Ask::More))
    }),
    row(
        &["begin"],
        "[TEXT|none]",
        Argument::None,
        "write the beginning of the next answer, which the model continues; also of another one with /retry",
        begin,
    ),
    row(
        &["compare"],
        "MODEL",
        Argument::Model,
        "answer the last message with a second model as well; both answers are kept as branches",
        compare,
    ),
    row(&["edit"], "[N]", Argument::None, "edit your last message, or the N-th, and send it again", edit),
    row(&["system"], "[TEXT|none]", Argument::None, "show or change the system prompt", system),
    row(
        &["set"],
        "[NAME [VALUE|default]]",
        Argument::Setting,
        "show or change settings, as in /set temp 0.5; default restores the value from before the chat",
        set,
    ),
    row(
        &["show"],
        "[WHAT]",
        Argument::Words(SHOWS),
        "show the model, settings, prompt (exactly as the model saw it), template or system prompt",
        show,
    ),
    row(&["model"], "[NAME|PATH]", Argument::Model, "show the model, or switch to another", model),
    row(
        &["role"],
        "[NAME [VARIABLE=VALUE]|none]",
        Argument::Role,
        "list the roles, take one with its system prompt and settings, or leave it",
        role::role,
    ),
    row(
        &["file", "read"],
        "[PATH|none [N|NAME]]",
        Argument::Path,
        "attach a text file, a folder or a pattern such as src/*.rs to the next message; none detaches all files or one; \
         without arguments, list them",
        file,
    ),
    row(
        &["copy"],
        "[N|code]",
        Argument::Words(&[("code", "all code blocks of the answer")]),
        "copy the last answer, its N-th code block or all its code to the clipboard",
        copy,
    ),
    row(
        &["save"],
        "[--code] [--force] FILE",
        Argument::Path,
        "write the last answer, or with --code its code blocks, to a file; --force replaces a file without asking",
        save,
    ),
    row(&["title"], "[TEXT]", Argument::None, "show or change the title of this conversation", title),
    row(
        &["history"],
        "[WORDS]",
        Argument::None,
        "list the latest conversations, or find messages that contain all these words",
        history,
    ),
    row(
        &["resume"],
        "[ID]",
        Argument::Conversation,
        "resume another conversation, by id prefix or from a list",
        resume,
    ),
    row(&["fork"], "", Argument::None, "continue in a new conversation; this one stays as it is", fork),
    row(
        &["export"],
        "[--force] FILE",
        Argument::Path,
        "export this conversation to a .md, .json or .txt file; --force replaces a file without asking",
        export,
    ),
    row(&["tokens"], "", Argument::None, "show the tokens of the prompt with their ids", tokens),
    row(
        &["context"],
        "",
        Argument::None,
        "show every message with its tokens, which ones were dropped, and how full the context is",
        context,
    ),
    row(&["thinking"], "", Argument::None, "show the thinking before the last answer", thinking),
    row(
        &["why"],
        "",
        Argument::None,
        "show how likely each token of the last answer was, and what else was",
        why,
    ),
    row(&["stats"], "", Argument::None, "show statistics of the last answer", show_stats),
];

/// The command called `name`.
pub fn command(name: &str) -> Option<&'static Command> {
    COMMANDS.iter().find(|c| c.name == name || c.aliases.contains(&name))
}

/// Whether a line is a command: a slash and a word. Paths and comments, for example, are messages.
pub(super) fn is_command(line: &str) -> bool {
    let name = line.strip_prefix('/').and_then(|rest| rest.split(char::is_whitespace).next());
    let is_word = |name: &str| {
        name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !name.starts_with(|c: char| c == '-' || c.is_ascii_digit())
    };
    name.is_some_and(|name| command(name).is_some() || is_word(name))
}

/// Runs a line that begins with a slash.
pub fn run(chat: &mut Chat, line: &str) -> Result<NextAction, Failure> {
    let line = line.trim();
    let line = line.strip_prefix('/').unwrap_or(line);
    let (name, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    match command(&name.to_lowercase()) {
        Some(command) if command.takes.is_empty() && !rest.trim().is_empty() => {
            Err(Failure::usage(format!("/{} takes no arguments", command.name)).hint(NO_COMMAND))
        }
        Some(command) => (command.run)(chat, rest.trim()),
        None => {
            let failure = unknown(name);
            let hint = failure.hint.clone().unwrap_or_default();
            Err(if hint.starts_with("did") { failure } else { failure.hint(format!("{hint}; {NO_COMMAND}")) })
        }
    }
}

const NO_COMMAND: &str = "to send it as a message, put a space before it";

fn unknown(name: &str) -> Failure {
    let names = COMMANDS.iter().flat_map(|c| c.aliases.iter().copied().chain([c.name]));
    let failure = Failure::new(format!("there is no command /{name}"));
    match nearest(name, names).filter(|_| !name.is_empty()) {
        Some(close) => failure.hint(format!("did you mean /{close}?")),
        None => match setting(&name.to_lowercase()) {
            Some(row) => failure.hint(format!("did you mean /set {}?", row.name)),
            None => failure.hint("/help lists the commands"),
        },
    }
}

/// Names for completion, looked up on demand.
pub struct Names {
    pub models: Box<dyn Fn() -> Vec<Candidate>>,
    /// Short ids.
    pub conversations: Box<dyn Fn() -> Vec<Candidate>>,
    pub roles: Box<dyn Fn() -> Vec<Candidate>>,
}

/// The line up to the cursor → where completion starts, and its candidates; `None`: complete file names.
pub fn complete(line: &str, names: &Names) -> Option<(usize, Vec<Candidate>)> {
    let Some(typed) = line.strip_prefix('/') else {
        return Some((line.len(), Vec::new()));
    };
    let Some((name, rest)) = typed.split_once(char::is_whitespace) else {
        return Some((1, matching(typed, COMMANDS.iter().flat_map(|command| spellings(command, typed)))));
    };
    let rest = rest.trim_start();
    let start = line.len() - rest.len();
    match command(name)?.argument {
        Argument::None => Some((line.len(), Vec::new())),
        Argument::Path => None,
        Argument::Command => {
            let keys = Candidate::new(THE_KEYS, "all keys");
            let commands = COMMANDS.iter().map(|c| Candidate::new(c.name, c.help));
            Some((start, matching(rest, commands.chain([keys]))))
        }
        Argument::Words(words) => {
            Some((start, matching(rest, words.iter().map(|(word, about)| Candidate::new(*word, *about)))))
        }
        Argument::Model => {
            let offered = matching(rest, (names.models)());
            if offered.is_empty() { None } else { Some((start, offered)) }
        }
        Argument::Conversation => Some((start, matching(rest, (names.conversations)()))),
        Argument::Role => {
            let none = Candidate::new("none", "leave the role");
            Some((start, matching(rest, (names.roles)().into_iter().chain([none]))))
        }
        Argument::Setting => match rest.split_once(char::is_whitespace) {
            None => Some((start, matching(rest, changeable().map(|row| Candidate::new(row.name, row.help))))),
            Some(("chat-template", value)) => {
                let offered = matching(value, builtin_templates().into_iter().chain([DEFAULT]));
                if offered.is_empty() { None } else { Some((line.len() - value.len(), offered)) }
            }
            Some((name, value)) => {
                Some((line.len() - value.len(), matching(value, values(name, value.is_empty()))))
            }
        },
    }
}

/// A command's name, and its aliases once something is typed.
fn spellings(command: &'static Command, typed: &str) -> impl Iterator<Item = Candidate> {
    let aliases = if typed.is_empty() { &[] } else { command.aliases };
    let alias = |alias: &&str| Candidate::new(*alias, format!("the same as /{}", command.name));
    aliases.iter().map(alias).chain([Candidate::new(command.name, command.help)])
}

/// The values that Tab knows for a setting; `all`: nothing is typed yet.
fn values(name: &str, all: bool) -> Vec<Candidate> {
    let row = setting(name);
    let choices = row.map(Setting::choices).unwrap_or_default();
    let empty = row.filter(|row| row.repeats).map(|_| Candidate::new("none", "empties the list"));
    let about = |value: &str| row.map(|row| about_value(row.help, value)).unwrap_or_default();
    let mut values: Vec<Candidate> =
        choices.into_iter().map(|value| Candidate::new(value, about(value))).chain(empty).collect();
    if !(values.is_empty() && all) {
        values.push(Candidate::new(DEFAULT, "the value from before the chat"));
    }
    values
}

/// The value that restores a setting to its value before the chat.
const DEFAULT: &str = "default";

/// The settings that a running chat can change.
fn changeable() -> impl Iterator<Item = &'static Setting> {
    SETTINGS.iter().filter(|row| row.effect != Effect::Start)
}

/// The topic of `/help` besides the commands.
const THE_KEYS: &str = "keys";

fn help(chat: &mut Chat, name: &str) -> Result<NextAction, Failure> {
    let list = |rows: &[[String; 2]]| pairs(rows, chat.screen.note_columns()).join("\n");
    let text = match name.trim_start_matches('/') {
        "" => list(&table()) + "\n" + MOST_USED,
        THE_KEYS => list(&keys()),
        command => described(command).ok_or_else(|| unknown(name))?,
    };
    chat.screen.show(&text);
    Ok(NextAction::Prompt)
}

/// The help of one command.
pub fn described(name: &str) -> Option<String> {
    let command = command(name)?;
    let aliases: Vec<String> = command.aliases.iter().map(|a| format!("/{a}")).collect();
    let also = if aliases.is_empty() { String::new() } else { format!("\nalso: {}", aliases.join(" ")) };
    Some(format!("/{} {}\n{}{also}", command.name, command.takes, command.help))
}

/// All commands, each with its help.
pub fn table() -> Vec<[String; 2]> {
    let usage = |c: &Command| format!("/{} {}", c.name, c.takes).trim_end().to_string();
    COMMANDS.iter().map(|c| [usage(c), c.help.to_string()]).collect()
}

/// What `/help` says of the keys.
const MOST_USED: &str = "\nTab completes, Ctrl-R searches earlier lines, Ctrl-C or Esc stops an answer, Ctrl-D leaves; /help keys lists all keys";

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
        let one = |name: &'static str| Box::new(move || vec![name.into()]) as Box<dyn Fn() -> Vec<Candidate>>;
        let names = Names { models: one("tiny"), conversations: one("3fa90011"), roles: one("reviewer") };
        let offers = |line: &str| {
            let offered = complete(line, &names)?.1;
            Some(offered.into_iter().map(|one| one.text).collect::<Vec<_>>())
        };
        assert_eq!(offers("/und").unwrap(), ["undo "]);
        assert_eq!(offers("/set top-").unwrap(), ["top-k ", "top-n-sigma ", "top-p "]);
        assert_eq!(offers("/set flash-attn o").unwrap(), ["off ", "on "]);
        assert_eq!(offers("/set temp d").unwrap(), ["default "]);
        assert_eq!(offers("/set stop ").unwrap(), ["default ", "none "]);
        assert_eq!(offers("/set chat-template llama").unwrap(), ["llama2 ", "llama3 "]);
        assert_eq!(offers("/set chat-template ./x"), None, "file names");
        assert_eq!(offers("/model t").unwrap(), ["tiny "]);
        assert_eq!(offers("/role ").unwrap(), ["none ", "reviewer "]);
        assert_eq!(offers("/resume 3f").unwrap(), ["3fa90011 "]);
        assert_eq!(offers("/file x"), None, "file names");
        assert!(offers("hello").unwrap().is_empty());
    }
}
