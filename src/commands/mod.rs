//! The subcommands, mostly one file each (CONTRIBUTING.md lists the exceptions); this file dispatches them
//! and prints their results.

mod bench;
pub mod catalogue;
mod check;
mod config;
pub mod devices;
mod doctor;
mod convert;
mod help;
mod history;
pub mod list;
pub mod pull;
mod replay;
mod rm;
pub mod roles;
mod score;
mod model_card;
mod servers;
mod show;
pub mod worker;

use std::io;
use std::path::Path;

use serde_json::{Value, json};

use crate::cli::{Commands, ConfigArgs, History};
use crate::completions;
use crate::failure::{Exit, Failure};
use crate::files::{Existing, expanded, reason, would_replace};
use crate::models::{self, about};
use crate::session::ModelOpener;
use crate::settings::{Config, Server};
use crate::ui::table::{Column, table};
use crate::ui::{Screen, terminal};
use crate::{input, saved};

/// The context of a subcommand.
pub struct CommandContext<'a> {
    pub config: &'a Config,
    pub screen: &'a mut Screen,
    /// Print one JSON object on stdout, even on failure.
    pub json: bool,
    /// The server that the command line names.
    server: Option<Server>,
    open: ModelOpener,
    chat: OfChat,
    /// Whether something was printed on stdout.
    printed: bool,
}

/// Help texts of the chat.
#[derive(Debug, Clone, Copy)]
pub struct OfChat {
    /// The commands, each with its help.
    pub commands: fn() -> Vec<[String; 2]>,
    /// The help of one command.
    pub command: fn(&str) -> Option<String>,
    /// The keys, each with what it does.
    pub keys: fn() -> Vec<[String; 2]>,
}

impl CommandContext<'_> {
    pub fn new<'a>(
        config: &'a Config,
        screen: &'a mut Screen,
        json: bool,
        open: ModelOpener,
        chat: OfChat,
    ) -> CommandContext<'a> {
        CommandContext { config, screen, json, server: None, open, chat, printed: false }
    }

    /// With the server that the command line names.
    pub fn at(self, server: Option<Server>) -> Self {
        CommandContext { server, ..self }
    }

    /// Prints a table that fits the terminal.
    fn print_table<const N: usize>(
        &mut self,
        columns: [(&str, Column); N],
        rows: &[[String; N]],
    ) -> Result<Exit, Failure> {
        let lines = table(columns, rows, self.screen.columns());
        self.print(lines.join("\n").trim_start_matches('\n'))
    }

    fn print(&mut self, text: &str) -> Result<Exit, Failure> {
        self.printed = true;
        print(self.screen, text)
    }

    fn print_json(&mut self, object: &Value) -> Result<Exit, Failure> {
        self.print_json_text(&object.to_string())
    }

    fn print_json_text(&mut self, text: &str) -> Result<Exit, Failure> {
        self.printed = true;
        printed(self.screen.json(text))
    }

    /// Prints text from users and models.
    fn print_conversation(&mut self, text: &str) -> Result<Exit, Failure> {
        self.printed = true;
        printed(self.screen.conversation(text))
    }

    /// Prints text with its own lines, which is not wrapped.
    fn print_source(&mut self, text: &str) -> Result<Exit, Failure> {
        self.printed = true;
        printed(self.screen.source(text))
    }

    /// Prints text for other programs.
    fn print_as_it_is(&mut self, text: &str) -> Result<Exit, Failure> {
        self.printed = true;
        print_as_it_is(self.screen, text)
    }
}

/// Prints text for other programs.
pub fn print_as_it_is(screen: &mut Screen, text: &str) -> Result<Exit, Failure> {
    printed(screen.output_as_it_is(text))
}

/// Prints text on stdout. A closed pipe is not a failure.
pub fn print(screen: &mut Screen, text: &str) -> Result<Exit, Failure> {
    printed(screen.output(text))
}

/// The exit code of printing.
pub fn printed(output: io::Result<()>) -> Result<Exit, Failure> {
    match output {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::new(format!("could not write to stdout: {}", reason(&e))))
        }
        _ => Ok(Exit::Answered),
    }
}

/// Whether to replace an existing file: asks the user, and refuses if there is no one to ask.
fn may_replace(path: &Path, force: bool, context: &mut CommandContext) -> Result<Existing, Failure> {
    if force {
        return Ok(Existing::Replace);
    }
    if !would_replace(path) {
        return Ok(Existing::Keep);
    }
    if !input::can_ask() {
        return Err(saved::exists(path).hint("--force replaces it"));
    }
    match input::confirm(context.screen, &saved::replace_question(path))? {
        true => Ok(Existing::Replace),
        false => Err(Failure::new("nothing was written")),
    }
}

/// The model that the command line names, or the default one.
fn wanted_model(named: Option<&str>, config: &Config) -> Result<String, Failure> {
    if let Some(named) = named.map(String::from).or_else(|| config.settings().model.clone()) {
        return Ok(named);
    }
    let usual = models::usual(config).ok_or_else(|| about::unnamed(config, &about::all(config)))?;
    Ok(usual.display().to_string())
}

/// A path as text, for JSON.
fn lossy(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// Runs a subcommand.
pub fn run(subcommand: Commands, context: &mut CommandContext) -> Result<Exit, Failure> {
    let done = dispatch(subcommand, context);
    if let Err(failure) = &done
        && context.json
        && !context.printed
    {
        let error = json!({ "message": failure.message, "hint": failure.hint });
        let _ = context.screen.json(&json!({ "error": error }).to_string()); // the failure matters more
    }
    done
}

fn dispatch(subcommand: Commands, context: &mut CommandContext) -> Result<Exit, Failure> {
    use History::{Export, List, Search, Show};
    let tells = match &subcommand {
        Commands::Pull { what } => what.is_none(),
        Commands::History { what } => {
            matches!(what, List { .. } | Search { .. } | Show { .. } | Export { .. })
        }
        subcommand => matches!(
            subcommand,
            Commands::List { .. }
                | Commands::Show { .. }
                | Commands::Config(ConfigArgs { what: None, .. })
                | Commands::Roles { .. }
                | Commands::Doctor
                | Commands::Help { .. }
                | Commands::Worker(_)
        ),
    };
    if tells {
        terminal::end_on_interrupt(); // there is nothing to lose
    }
    match subcommand {
        Commands::Pull { what: None } => catalogue::run(context),
        Commands::Pull { what: Some(what) } => pull::run(&what, context),
        Commands::List { all } => list::run(all, context),
        Commands::Show { model, tensors, template, metadata } => {
            show::run(model.as_deref(), &show::Sections { tensors, template, metadata }, context)
        }
        Commands::Rm { model, yes } => rm::run(&model, yes, context),
        Commands::Check { file } => check::run(context, &file),
        Commands::Convert { folder, out, kind, force } => {
            convert::run(&expanded(&folder), &expanded(&out), kind.as_deref(), force, context)
        }
        Commands::History { what } => history::run(what, context),
        Commands::Bench { model } => bench::run(model.as_deref(), context),
        Commands::Score(args) => score::run(&args, context),
        Commands::Worker(worker) => worker::run(&worker, context),
        Commands::Config(args) => config::run(args.what.as_deref(), args.force, context),
        Commands::Roles { name } => roles::run(name.as_deref(), context),
        Commands::Doctor => doctor::run(context),
        Commands::Help { what } => help::run(&what, context),
        Commands::Completions { shell } => context.print(completions::script(&shell)?.trim_end()),
    }
}
