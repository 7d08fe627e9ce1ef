//! A partial command line, from a shell → completions: options, subcommands, ids, models, values.
//!
//! The shell's function, printed by `fireside completions SHELL`, calls this program with `FIRESIDE_COMPLETE`
//! set, so that completions are never out of date.

use std::ffi::OsStr;

use clap::{Arg, Command};
use clap_complete::CompleteEnv;
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};
use clap_complete::env::Shells;

use crate::cli;
use crate::failure::Failure;
use crate::history::database::{Filter, Summary};
use crate::models;
use crate::models::library;
use crate::saved;
use crate::settings::{Config, Given, SETTINGS};
use crate::ui::{acts, sanitize};

/// The variable that the shell's function sets to the name of the shell.
const VARIABLE: &str = "FIRESIDE_COMPLETE";

/// zsh loads a script from its function path at the first Tab; this answers that Tab.
const AUTOLOADED_BY_ZSH: &str = "\
if [[ $funcstack[1] == _fireside ]]; then
    _clap_dynamic_completer_fireside \"$@\"
fi
";

/// Answers a shell that asks for completions, and exits; otherwise does nothing.
pub fn answer() {
    CompleteEnv::with_factory(command).var(VARIABLE).complete();
}

/// The script that makes a shell ask for completions.
pub fn script(shell: &str) -> Result<String, Failure> {
    let shells = Shells::builtins();
    let Some(known) = shells.completer(shell) else {
        let names: Vec<&str> = shells.names().collect();
        return Err(Failure::usage(format!("cannot complete for the shell '{shell}'"))
            .hint(format!("supported shells: {}", names.join(", "))));
    };
    let mut script = Vec::new();
    known
        .write_registration(VARIABLE, "fireside", "fireside", "fireside", &mut script)
        .map_err(|e| Failure::new(format!("could not write the completions: {e}")))?;
    let autoloaded = if shell == "zsh" { AUTOLOADED_BY_ZSH } else { "" };
    Ok(String::from_utf8_lossy(&script).into_owned() + autoloaded)
}

/// The command line with completers for its values.
fn command() -> Command {
    let ids = |arg: Arg| arg.add(ArgValueCompleter::new(conversations));
    let names = |arg: Arg| arg.add(ArgValueCompleter::new(models_here));
    let mut command = cli::command().mut_arg("resume", ids);
    for row in SETTINGS.iter().filter(|row| !row.choices().is_empty()) {
        let choices =
            move |typed: &OsStr| starting(typed, row.choices().into_iter().map(|name| (name, None)));
        command = command.mut_arg(row.name, |arg| arg.add(ArgValueCompleter::new(choices)));
    }
    command
        .mut_arg("chat-template", |arg| arg.add(ArgValueCompleter::new(templates)))
        .mut_arg("model", names)
        .mut_arg("server", |arg| arg.add(ArgValueCompleter::new(servers)))
        .mut_arg("role", |arg| arg.add(ArgValueCompleter::new(roles)))
        .mut_subcommand("config", |subcommand| {
            subcommand.mut_arg("role", |arg| arg.add(ArgValueCompleter::new(roles)))
        })
        .mut_subcommand("roles", |subcommand| {
            subcommand.mut_arg("name", |arg| arg.add(ArgValueCompleter::new(roles)))
        })
        .mut_subcommand("bench", |subcommand| subcommand.mut_arg("MODEL", names))
        .mut_subcommand("show", |subcommand| subcommand.mut_arg("MODEL", names))
        .mut_subcommand("rm", |subcommand| subcommand.mut_arg("MODEL", names))
        .mut_subcommand("check", |subcommand| subcommand.mut_arg("file", names))
        .mut_subcommand("history", |history| {
            let subcommands = ["show", "export", "replay"].into_iter();
            let one = subcommands.fold(history, |history, subcommand| {
                history.mut_subcommand(subcommand, |subcommand| subcommand.mut_arg("id", ids))
            });
            one.mut_subcommand("rm", |subcommand| subcommand.mut_arg("ids", ids))
        })
}

/// Ids with this prefix, with the titles of the conversations.
fn conversations(typed: &OsStr) -> Vec<CompletionCandidate> {
    let listed = saved::store(&Config::gather(&Given::default()))
        .and_then(|store| Ok(store.list(&Filter::default())?))
        .unwrap_or_default(); // completions cannot report errors
    let short = |one: &Summary| one.id[..saved::SHORT.min(one.id.len())].to_string();
    starting(typed, listed.iter().map(|one| (short(one), Some(one.title.clone()))))
}

/// The built-in chat templates. If none matches, the shell completes file names.
fn templates(typed: &OsStr) -> Vec<CompletionCandidate> {
    starting(typed, models::builtin_templates().into_iter().map(|name| (name, None)))
}

fn models_here(typed: &OsStr) -> Vec<CompletionCandidate> {
    let config = Config::gather(&Given::default());
    let here = library::list(&models::places(&config)).into_iter().map(|model| (model.name, None));
    let servers = config.servers.into_iter().map(|server| (format!("@{}", server.name), Some(server.url)));
    let aliases = config.aliases.into_iter().map(|alias| (alias.name, Some(alias.model)));
    starting(typed, here.chain(aliases).chain(servers)) // no server is asked
}

/// The roles with their descriptions.
fn roles(typed: &OsStr) -> Vec<CompletionCandidate> {
    let paths = Config::gather(&Given::default()).paths;
    let all = saved::roles(paths.as_ref().map(|paths| paths.roles.as_path()));
    starting(typed, all.into_iter().map(|(name, about)| (name, Some(about))))
}

/// The servers of the config file.
fn servers(typed: &OsStr) -> Vec<CompletionCandidate> {
    let config = Config::gather(&Given::default());
    starting(typed, config.servers.into_iter().map(|server| (server.name, Some(server.url))))
}

/// The values with this prefix, in their order, each with a description.
fn starting<S: Into<String>>(
    typed: &OsStr,
    all: impl Iterator<Item = (S, Option<String>)>,
) -> Vec<CompletionCandidate> {
    let typed = typed.to_string_lossy();
    let all = all.map(|(value, about)| (value.into(), about));
    // Shells print candidates unchanged.
    let fitting =
        all.filter(|(value, _): &(String, _)| value.starts_with(typed.as_ref()) && !value.contains(acts));
    let candidates = (0..).zip(fitting).map(|(place, (value, about))| {
        CompletionCandidate::new(value)
            .help(about.map(|about| sanitize(&about).into_owned().into()))
            .display_order(Some(place))
    });
    candidates.collect()
}
