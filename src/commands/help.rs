//! `fireside help [SUBCOMMAND|TOPIC]`: explains a command, a setting or a topic.

use serde_json::json;

use super::{CommandContext, lossy};
use crate::chat::settings::{Settings, renamed};
use crate::cli::{self, Instead};
use crate::failure::{Exit, Failure};
use crate::hub;
use crate::settings::{self, Effect, SETTINGS, Setting, setting};
use crate::suggest::nearest;
use crate::ui::table::pairs;

/// Name, description, and the function that writes the help.
type Topic = (&'static str, &'static str, fn(&CommandContext) -> String);

const TOPICS: &[Topic] = &[
    ("keys", "keys in the chat", |context| listed(&(context.chat.keys)(), context)),
    ("commands", "slash commands in the chat", |context| listed(&(context.chat.commands)(), context)),
    ("settings", "all settings, and how to set one", settings),
    ("environment", "environment variables", environment),
    ("files", "paths of files and folders", files),
    ("exit-codes", "what the exit codes mean", exit_codes),
];

/// Environment variables besides the settings.
const VARIABLES: &[[&str; 2]] = &[
    ["FIRESIDE_NAME", "any setting, as in FIRESIDE_TEMP; fireside help settings lists them"],
    ["FIRESIDE_MODELS", "your models folder"],
    ["FIRESIDE_API_KEY", "key for the server of --server URL; for [servers.NAME], FIRESIDE_API_KEY_NAME"],
    ["XDG_CONFIG_HOME", "parent of fireside/config.toml; default ~/.config"],
    ["XDG_DATA_HOME", "parent of models and conversations; default ~/.local/share"],
    ["XDG_STATE_HOME", "parent of typed lines and model state; default ~/.local/state"],
    ["XDG_CACHE_HOME", "parent of the prompt cache; default ~/.cache"],
    ["HF_HUB_CACHE", "the Hugging Face cache, where models from the hub go"],
    ["HF_HOME", "its parent folder"],
    ["HF_ENDPOINT", "address of another hub"],
    ["HF_TOKEN", "your access token for the hub"],
    ["HF_TOKEN_PATH", "a file that contains the token"],
    ["HF_HUB_DISABLE_IMPLICIT_TOKEN", "1: send no token"],
    ["HF_HUB_OFFLINE", "1: fetch nothing from the hub or a URL"],
    ["HTTPS_PROXY", "proxy; also ALL_PROXY, NO_PROXY"],
    ["OLLAMA_MODELS", "Ollama's models folder"],
    ["VISUAL", "editor for /edit, Ctrl-G and Ctrl-X Ctrl-E; otherwise EDITOR"],
    ["NO_COLOR", "if not empty: no colours"],
    ["CLICOLOR_FORCE", "if neither empty nor 0: colours on stderr even in a pipe; NO_COLOR wins"],
    [
        "COLORFGBG",
        "colours of the terminal, for --theme auto where the terminal does not tell its background",
    ],
    ["TERM", "dumb: no escape sequences, as with --plain"],
];

pub(super) fn run(what: &[String], context: &mut CommandContext) -> Result<Exit, Failure> {
    let text = match what {
        [] => overview(context),
        [name] if let Some((.., told)) = TOPICS.iter().find(|(topic, ..)| topic == name) => told(context),
        subcommands => match cli::help::on(subcommands) {
            Some(Instead::Help { styled, plain }) if !context.json => {
                context.printed = true;
                return super::printed(context.screen.help(&styled, &plain));
            }
            Some(Instead::Help { plain, .. }) => plain,
            _ => match subcommands {
                [name] => of_name(name, context).ok_or_else(|| unknown(name))?,
                several => return Err(unknown(&several.join(" "))),
            },
        },
    };
    if context.json {
        return context.print_json(&json!({ "text": text }));
    }
    context.print(&text)
}

/// The width of lines; unlimited in JSON.
fn columns(context: &CommandContext) -> Option<usize> {
    context.screen.columns().filter(|_| !context.json)
}

fn listed(rows: &[[String; 2]], context: &CommandContext) -> String {
    pairs(rows, columns(context)).join("\n")
}

/// Help on a setting, another option, or a slash command, with any prefix before the name.
fn of_name(name: &str, context: &CommandContext) -> Option<String> {
    let lower = name.to_lowercase();
    let plain = lower.strip_prefix("fireside_").unwrap_or(&lower).trim_start_matches(['-', '/']);
    let of_setting = setting(plain).filter(|_| !name.starts_with('/')).map(|row| of_setting(row, context));
    of_setting.or_else(|| (context.chat.command)(plain)).or_else(|| cli::help::of_option(plain))
}

fn unknown(what: &str) -> Failure {
    if let Some(new) = renamed(what.trim_start_matches('-')) {
        return Failure::usage(format!("{what} is now {new}")).hint(format!("fireside help {new}"));
    }
    let subcommands = cli::help::subcommands();
    let mut names: Vec<&str> = subcommands.iter().map(|(name, _)| name.as_str()).collect();
    TOPICS.iter().map(|(name, ..)| *name).chain(settings::names()).for_each(|name| names.push(name));
    let failure = Failure::usage(format!("there is no help on '{what}'"));
    let begun = TOPICS.iter().map(|(name, ..)| *name).find(|name| name.starts_with(what));
    match begun.or_else(|| nearest(what, names.into_iter())) {
        Some(close) => failure.hint(format!("did you mean {close}?")),
        None => failure.hint("fireside help lists subcommands and topics"),
    }
}

fn overview(context: &CommandContext) -> String {
    let subcommands = cli::help::subcommands().into_iter().map(|(name, about)| [format!("  {name}"), about]);
    let topics = TOPICS.iter().map(|(name, about, _)| [format!("  {name}"), about.to_string()]);
    let count = subcommands.len();
    let mut lines = pairs(&subcommands.chain(topics).collect::<Vec<_>>(), columns(context));
    lines.insert(count, "\nTopics:".into());
    format!(
        "fireside help NAME explains a subcommand, a topic or a setting; fireside --help lists the options.\n\nSubcommands:\n{}",
        lines.join("\n")
    )
}

fn settings(context: &CommandContext) -> String {
    let rows: Vec<[String; 2]> = SETTINGS.iter().map(|row| [row.name, row.help].map(String::from)).collect();
    format!(
        "{}\n\n{}",
        "A setting is a flag (--temp 0.2), an environment variable (FIRESIDE_TEMP=0.2), a line in the config file (temp = 0.2), or \
         /set temp 0.2 in a chat. Precedence, highest first: /set, flags, environment, role, the config file's section for the \
         model, config file, model file, catalogue, defaults. fireside config shows all values and their sources; fireside help NAME explains one setting.",
        listed(&rows, context)
    )
}

fn of_setting(row: &Setting, context: &CommandContext) -> String {
    let short = row.short.map_or(String::new(), |short| format!("-{short}, "));
    let also: String = row.aliases.iter().map(|alias| format!(", also --{alias}")).collect();
    let value = if row.value.is_empty() { "on|off" } else { row.value };
    let mut rows = vec![
        ["flag".to_string(), format!("{short}--{} {}", row.name, row.value).trim_end().to_string() + &also],
        ["environment".into(), format!("{}={value}", row.env())],
        [
            "config file".into(),
            format!("{} = {}", row.name, if row.value.is_empty() { "true|false" } else { value }),
        ],
    ];
    if row.effect != Effect::Start {
        rows.push(["in the chat".into(), format!("/set {} {value}", row.name)]);
    }
    rows.push(["default".into(), row.shown(&Settings::default())]);
    format!("{}\n\n{}", row.help, listed(&rows, context))
}

fn environment(context: &CommandContext) -> String {
    listed(&VARIABLES.iter().map(|row| row.map(String::from)).collect::<Vec<_>>(), context)
}

fn files(context: &CommandContext) -> String {
    let ours = context.config.paths.iter().flat_map(|paths| paths.table());
    let ours = ours.map(|(what, path)| [what.to_string(), lossy(path)]);
    let hub = hub::cache_folder().map(|folder| ["models from the hub".to_string(), lossy(&folder)]);
    let rows: Vec<[String; 2]> = ours.chain(hub).collect();
    if rows.is_empty() {
        return "there is no home folder: nothing is saved".into();
    }
    listed(&rows, context)
}

fn exit_codes(context: &CommandContext) -> String {
    listed(&Exit::ALL.map(|(exit, says)| [format!("{:3}", exit.code()), says.to_string()]), context)
}
