//! The conversation to resume and the model to use → a session that loads the model.
//!
//! The model is the one named, the conversation's own, the default one, or one picked from a list.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::backend::local::Local;
use crate::backend::remote::Remote;
use crate::backend::script::Script;
use crate::backend::{Backend, check_constraint};
use crate::chat::record::Record;
use crate::cli::{Args, Commands};
use crate::failure::{Exit, Failure};
use crate::history::journal::Heading;
use crate::model_state::ModelState;
use crate::models::about::{self, About};
use crate::models::catalogue::{self, CatalogueEntry};
use crate::models::library::ModelFile;
use crate::models::names::NotHere;
use crate::models::places::Owner;
use crate::saved;
use crate::session::{self, ModelOpener, ReadyModel, Session, SessionOptions};
use crate::settings::servers::{self, AT};
use crate::settings::{Config, Group, SETTINGS, Server, Setting, Source};
use crate::ui::picker::{self, Choice};
use crate::ui::{Screen, terminal};
use crate::units::size;
use crate::{commands, input, models};

/// The inputs for opening a session.
pub struct SessionOpener<'a> {
    pub args: &'a Args,
    pub config: &'a Config,
    pub screen: &'a mut Screen,
}

impl SessionOpener<'_> {
    /// Returns the session and the saved conversation that it resumes.
    pub fn open(&mut self, options: SessionOptions) -> Result<(Session, Option<Record>), Failure> {
        if let Some(constraint) = &self.config.settings().constraint {
            let notices = check_constraint(constraint)?;
            notices.iter().for_each(|line| self.screen.note(line));
        }
        let resumed = self.conversation()?;
        let before = resumed.as_ref().and_then(|record| record.model.as_deref());
        let wanted = self.which_model(before)?;
        self.may_go_out(&wanted)?;
        let ready = model_opener(self.args)(self.config, &wanted)?;
        let system = input::system_prompt(ready.config.settings())?.filter(|_| !options.raw);
        let mut session = Session::new(ready, SessionOptions { system: system.clone(), ..options });
        if let Some(record) = &resumed {
            session.turn_to(record, Heading::of(record));
            system.into_iter().for_each(|system| session.set_system(Some(system)));
        }
        self.remember(&session);
        Ok((session, resumed))
    }

    fn conversation(&mut self) -> Result<Option<Record>, Failure> {
        Ok(match &self.args.resume {
            _ if self.args.continue_latest => Some(saved::last(self.config)?),
            Some(id) if id.is_empty() => Some(self.pick_conversation()?),
            Some(id) => Some(saved::find(&saved::store(self.config)?, id)?),
            None => None,
        })
    }

    fn pick_conversation(&mut self) -> Result<Record, Failure> {
        if !input::can_ask() {
            return Err(Failure::usage("--resume needs an ID when not run on a terminal")
                .hint("fireside history list shows the IDs; --continue takes the most recent conversation"));
        }
        let mut ask = |screen: &mut Screen, text: &str| Ok(input::ask(screen, text)?);
        saved::pick(self.config, self.screen, &mut ask)?.ok_or_else(Failure::interrupted)
    }

    /// Makes the session's model the default one.
    fn remember(&mut self, session: &Session) {
        let (Some(paths), Some(path)) = (&self.config.paths, &session.model().path) else { return };
        if session.settings().incognito {
            return;
        }
        match ModelState::at(Some(paths.model_state.clone())).remember_last_used(path) {
            Err(e) if e.kind() == ErrorKind::WouldBlock => {
                self.screen.note(&format!("could not save facts about models: {e}"));
            }
            _ => {} // other failures only cost time
        }
    }

    /// `before`: the model of the resumed conversation.
    fn which_model(&mut self, before: Option<&str>) -> Result<String, Failure> {
        if let Some(server) = &self.args.server {
            return self.at_server(server);
        }
        if let Some(backend) = &self.args.backend {
            return Ok(backend.clone());
        }
        match models::of_conversation(self.config, before) {
            Ok(Some(own)) if self.config.is_at_unnamed_server(&own) => match self.asks_again(&own)? {
                true => return Ok(own),
                false => return Err(Failure::interrupted()),
            },
            Ok(Some(own)) => return Ok(own),
            Ok(None) => {}
            Err(gone) => self.screen.note(&gone),
        }
        if let Some(wanted) = &self.config.settings().model {
            return match self.config.remote(wanted) {
                Some(_) => Ok(wanted.clone()),
                None => self.here(wanted.clone()),
            };
        }
        let path = match models::usual(self.config) {
            Some(path) => path,
            None => self.pick()?,
        };
        Ok(path.display().to_string())
    }

    /// The name of a model at the server that the command line names, by its URL or its name.
    fn at_server(&self, server: &str) -> Result<String, Failure> {
        let model = self.config.settings().model.as_deref();
        let model = model.filter(|_| self.is_named_here()).unwrap_or_default();
        if self.config.remote(model).is_some() {
            return Err(Failure::usage(format!("-m {model} and --server {server} both name a server")));
        }
        Ok(format!("{model}{AT}{}", named_server(server, self.config)?.title()))
    }

    /// Whether the command line names the model, itself or by a role.
    fn is_named_here(&self) -> bool {
        matches!(self.config.source("model"), Source::Flag | Source::Role)
    }

    /// Asks before a server is contacted that only the resumed conversation names.
    fn asks_again(&mut self, own: &str) -> Result<bool, Failure> {
        if !input::can_ask() {
            return Err(Failure::usage(format!("the conversation was answered by {own}"))
                .hint("to go on there, say so with -m; -m with another model goes on elsewhere"));
        }
        let variable = self.config.remote(own).map(|(_, server)| server.key_variable());
        let key = variable.filter(|name| std::env::var_os(name).is_some_and(|key| !key.is_empty()));
        let key = key.map_or(String::new(), |name| format!(", with the key of {name}"));
        let question = format!("The conversation was answered by {own}. Go on there{key}?");
        Ok(input::confirm(self.screen, &question)?)
    }

    /// Refuses to send text to a server that neither the command line names nor anybody can be asked about;
    /// tells which settings it does not take.
    fn may_go_out(&mut self, wanted: &str) -> Result<(), Failure> {
        let Some((_, server)) = self.config.remote(wanted) else { return Ok(()) };
        let said = self.args.server.is_some() || self.is_named_here();
        if !said && !input::can_ask() && !self.args.repl_stdin {
            let title = server.title();
            let failure =
                Failure::usage(format!("{wanted} would get this text, and there is no terminal to ask"));
            return Err(failure.hint(format!("if it may leave this machine, say so: --server {title}")));
        }
        let local = |row: &&Setting| {
            matches!(row.group, Group::Model | Group::Template)
                && self.config.source(row.name) == Source::Flag
                && !["model", "offline", "model-folder", "template-arg"].contains(&row.name)
        };
        let names: Vec<&str> = SETTINGS.iter().filter(local).map(|row| row.name).collect();
        if !names.is_empty() {
            let names = names.join(", ");
            self.screen
                .note(&format!("{} does not take {names}: only models on this machine do", server.title()));
        }
        Ok(())
    }

    /// Returns the same name; if the model is not on this machine, offers to download it (on a terminal).
    fn here(&mut self, wanted: String) -> Result<String, Failure> {
        let Err(NotHere::Fetchable(what)) = models::find(self.config, &wanted) else {
            return Ok(wanted); // opening it reports any problem
        };
        let offer = |opener: &mut Self| commands::pull::offer(&what, opener.config, opener.screen);
        let fetched = if input::can_ask() { offer(self)? } else { None };
        fetched.map(|path| path.display().to_string()).ok_or_else(|| NotHere::Fetchable(what).into())
    }

    /// Without a model: asks on a terminal; elsewhere fails with an error that lists the models.
    fn pick(&mut self) -> Result<PathBuf, Failure> {
        let mut models = about::all(self.config);
        models.retain(|(_, about)| about.problem.is_none());
        let own: Vec<&(ModelFile, About)> =
            models.iter().filter(|(model, _)| model.owner == Owner::User).collect();
        if let [(only, _)] = own[..] {
            return Ok(only.path.clone()); // the other files in the user's folder are unusable
        }
        if models.is_empty() && input::can_ask() && !self.config.settings().offline {
            return self.first_model();
        }
        let unnamed = || about::unnamed(self.config, &models).into();
        if models.is_empty() || !input::can_ask() {
            return Err(unnamed());
        }
        if self.screen.can_pick() {
            let row = |name: &String| Choice { title: name.clone(), name: true, ..Choice::default() };
            let rows: Vec<Choice> = models.iter().map(|(model, _)| row(&model.name)).collect();
            let described = commands::list::described(&models);
            let mut about = |place: usize| (described[place].clone(), described[place].clone());
            let question = picker::Question {
                text: "Which model?",
                rows: &rows,
                about: Some(&mut about),
                ..Default::default()
            };
            let place = self.screen.pick(question).ok().flatten();
            return place.map(|place| models[place].0.path.clone()).ok_or_else(Failure::interrupted);
        }
        let columns = self.screen.note_columns().map(|columns| columns.saturating_sub(5));
        let table = commands::list::lines(&models, columns);
        let rows = (1..).zip(&table[1..]).map(|(n, row)| format!("\n{n:3}  {row}"));
        self.screen.show(&format!("     {}{}", table[0], rows.collect::<String>()));
        loop {
            let line = input::ask(self.screen, "Which model? Number or name: ")?;
            let line = line.ok_or_else(Failure::interrupted)?;
            if line.is_empty() {
                return Err(unnamed());
            }
            let by_number = line.parse::<usize>().ok().and_then(|n| models.get(n.checked_sub(1)?));
            let by_name = || models.iter().find(|(model, _)| model.name.eq_ignore_ascii_case(&line));
            match by_number.or_else(by_name) {
                Some((model, _)) => return Ok(model.path.clone()),
                None => self.screen.show(&format!("'{line}' is not in the list")),
            }
        }
    }

    /// Without any model: lists the catalogue and downloads the user's choice.
    fn first_model(&mut self) -> Result<PathBuf, Failure> {
        if self.screen.can_pick() {
            let entries = commands::catalogue::entries();
            let row = |name: &str, entry: &CatalogueEntry| Choice {
                title: format!("{name}  {}", entry.title),
                ..Choice::default()
            };
            let rows: Vec<Choice> = entries.iter().map(|(name, entry)| row(name, entry)).collect();
            let mut about = |place: usize| {
                let about = commands::catalogue::described(entries[place].1);
                (about.clone(), about)
            };
            let text = "There is no model on this machine yet. Which one do you want to download?";
            let question =
                picker::Question { text, rows: &rows, about: Some(&mut about), ..Default::default() };
            let place = self.screen.pick(question).ok().flatten().ok_or_else(Failure::interrupted)?;
            return commands::pull::bring_model(entries[place].0, self.config, self.screen);
        }
        let table = commands::catalogue::lines(self.screen.note_columns());
        self.screen.show("there is no model on this machine yet; you can download these:");
        self.screen.show(table.join("\n").trim_start_matches('\n'));
        let (name, entry) = catalogue::demonstration();
        let question =
            format!("Which one? Name, or Enter for {name}, a demonstration ({}): ", size(entry.size));
        loop {
            let line = input::ask(self.screen, &question)?.ok_or_else(Failure::interrupted)?;
            let wanted = if line.is_empty() { name } else { line.as_str() };
            match commands::pull::bring_model(wanted, self.config, self.screen) {
                // The line is not a name from the catalogue.
                Err(failure) if failure.exit == Exit::Usage => self.screen.failure(&failure),
                fetched => return fetched,
            }
        }
    }
}

/// Opens models of servers, and files for the local engine, or in tests for the script backend.
pub fn model_opener(args: &Args) -> ModelOpener {
    match args.backend {
        Some(_) => |config, wanted| remote(config, wanted).unwrap_or_else(|| script(config, wanted)),
        None => |config, wanted| remote(config, wanted).unwrap_or_else(|| local(config, wanted)),
    }
}

type Opened = Result<ReadyModel, session::Error>;

/// `None`: the model is not at a server.
fn remote(config: &Config, wanted: &str) -> Option<Opened> {
    let (name, server) = config.remote(wanted)?;
    let config = config.advised(config.of_model(&[format!("{name}{AT}{}", server.title())]));
    let opened = Remote::open(&server, &name, config.settings(), &terminal::stopped);
    let ready = |remote: Remote| ReadyModel { start: Box::new(move || Box::new(remote)), config };
    Some(opened.map(ready).map_err(session::Error::from))
}

fn local(config: &Config, wanted: &str) -> Opened {
    let opened = models::open(config, wanted)?;
    let start = Box::new(move || Box::new(Local::start(opened.spec)) as Box<dyn Backend>);
    Ok(ReadyModel { start, config: opened.config })
}

fn script(config: &Config, wanted: &str) -> Opened {
    let path = wanted.strip_prefix("script:").unwrap_or(wanted).to_string();
    let script = Script::read(Path::new(&path))?;
    let start = Box::new(move || Box::new(script) as Box<dyn Backend>);
    Ok(ReadyModel { start, config: config.advised(config.of_model(&["script".into()])) })
}

/// The server of the command line, for a subcommand that asks one.
pub fn server_for(subcommand: &Commands, args: &Args, config: &Config) -> Result<Option<Server>, Failure> {
    let Some(given) = &args.server else { return Ok(None) };
    if !matches!(subcommand, Commands::List { .. } | Commands::Show { .. }) {
        return Err(Failure::usage("--server goes with list and show, and with no other subcommand"));
    }
    named_server(given, config).map(Some)
}

/// Asks before a resumed conversation goes to a server for the first time. Without a terminal, the command
/// line has said so.
pub fn ask_before_leaving(session: &mut Session, screen: &mut Screen) -> Result<(), Failure> {
    let Some(server) = session.leaves_for() else { return Ok(()) };
    if input::can_ask() && !input::confirm(screen, &saved::leaving_question(&server))? {
        return Err(Failure::new("nothing was sent"));
    }
    session.agree(&server);
    Ok(())
}

/// The server of a URL, or of a name in the config file.
fn named_server(given: &str, config: &Config) -> Result<Server, Failure> {
    match (config.remote(&format!("{AT}{given}")), servers::wrong_url(given)) {
        (Some((_, server)), _) if !server.name.is_empty() => Ok(server),
        (Some((_, server)), None) => Ok(server),
        (_, Some(_)) if servers::is_name(given) => {
            let known: Vec<&str> = config.servers.iter().map(|server| server.name.as_str()).collect();
            let known = known.join(", ");
            let known = if known.is_empty() { known } else { format!("; there are {known}") };
            Err(Failure::usage(format!("there is no server '{given}'"))
                .hint(format!("give its URL, or a section [servers.{given}] in the config file{known}")))
        }
        (_, wrong) => Err(Failure::usage(format!("--server {}", wrong.unwrap_or("is no address")))),
    }
}
