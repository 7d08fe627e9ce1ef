//! The parsed command line → a chat, one answer, or a subcommand. Next: open_session.rs.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::backend::Description;
use crate::chat::message::without_mark;
use crate::chat::record::Record;
use crate::chat::{Message, Settings};
use crate::cli::{self, Args, Commands};
use crate::commands::{self, CommandContext, OfChat};
use crate::failure::{Exit, Failure};
use crate::history::journal::Heading;
use crate::hub::Reference;
use crate::input;
use crate::models;
use crate::oneshot::{self, Manner};
use crate::open_session::{SessionOpener, ask_before_leaving, model_opener, server_for};
use crate::repl::{self, Lines, commands as slash};
use crate::saved;
use crate::session::{Session, SessionOptions};
use crate::settings::{Config, Source, Wrong};
use crate::ui::{self, Screen, Style, crash, terminal};
use crate::units::count;

/// Runs the command line; returns the exit code.
pub fn run(args: Args, started: Instant) -> Exit {
    if let Some(folder) = &args.man {
        return cli::man::write(folder).map_or_else(|failure| report(&failure), |()| Exit::Answered);
    }
    let mut config = Config::gather(&args.settings);
    if let Some(path) = &args.probe {
        let tried = models::probe::child(path, config.settings()).map_err(Failure::from);
        return tried.map_or_else(|failure| failure.print(), |()| Exit::Answered);
    }
    if let Some(Commands::Worker(worker)) = &args.subcommand
        && args.serve_client
    {
        let served = commands::worker::serve(worker, config.settings());
        return served.map_or_else(|failure| failure.print(), |()| Exit::Answered);
    }
    models::drop_hiding_aliases(&mut config);
    let config = commands::roles::in_role(config, &args);
    if args.plain {
        ui::be_plain();
    }
    let mut screen = Screen::new(Style::of(config.settings(), args.quiet));
    if let Err(failure) = refuse_what_is_wrong(&config, args.subcommand.as_ref(), &mut screen) {
        screen.failure(&failure);
        oneshot::fail(&args, None, &failure, started, &mut screen);
        return failure.exit;
    }
    let mut run =
        App { args, config, screen: &mut screen, started, understood: false, session: None, resumed: None };
    let exit = run.choose().unwrap_or_else(|failure| run.fail(&failure));
    std::mem::forget(run.session); // the process exits: do not free memory or wait for an evaluation
    exit
}

/// Reports every invalid setting. Subcommands that help to find invalid settings run with the valid ones.
fn refuse_what_is_wrong(
    config: &Config,
    subcommand: Option<&Commands>,
    screen: &mut Screen,
) -> Result<(), Failure> {
    let goes_on = subcommand.is_some_and(Commands::tolerates_wrong_settings);
    let tells = matches!(subcommand, Some(Commands::Config(_) | Commands::Doctor));
    let (said, mut fatal): (Vec<&Wrong>, Vec<&Wrong>) =
        config.wrong.iter().partition(|wrong| wrong.harmless || (goes_on && wrong.source != Source::Flag));
    for wrong in said.into_iter().filter(|_| !tells) {
        screen.note(&wrong.what);
    }
    let Some(last) = fatal.pop() else { return Ok(()) };
    fatal.iter().for_each(|wrong| screen.warning(&wrong.what));
    if last.source == Source::Role {
        return Err(saved::wrong_role(vec![last.what.clone()], "fireside roles", screen));
    }
    let file =
        config.paths.as_ref().filter(|_| fatal.iter().chain([&last]).any(|w| w.source == Source::File));
    let file = file.map_or(String::new(), |paths| format!("edit {}; ", paths.config_file.display()));
    Err(Failure::usage(&last.what)
        .hint(format!("{file}fireside config lists the settings, fireside --help explains them")))
}

/// Reports a failure before there is a screen.
pub fn report(failure: &Failure) -> Exit {
    screen_without_arguments().failure(failure);
    failure.exit
}

/// Prints help, styled where styles are allowed.
pub fn help(styled: &str, plain: &str) -> Exit {
    let mut screen = screen_without_arguments();
    commands::printed(screen.help(styled, plain)).unwrap_or_else(|failure| report(&failure))
}

fn screen_without_arguments() -> Screen {
    if std::env::args_os().any(|word| word == "--plain") {
        ui::be_plain();
    }
    Screen::new(Style::of(&Settings::default(), false))
}

struct App<'a> {
    args: Args,
    config: Config,
    screen: &'a mut Screen,
    started: Instant,
    /// The command line is valid: from here on, `--json` prints an object even on failure.
    understood: bool,
    session: Option<Session>,
    /// The resumed conversation.
    resumed: Option<Record>,
}

impl App<'_> {
    fn choose(&mut self) -> Result<Exit, Failure> {
        let is_model = |word: &str| models::is_called(&self.config, word) || Reference::parse(word).is_some();
        let words =
            cli::prompt::among(&self.args.words, &self.args.file, self.args.subcommand.as_ref(), is_model)?;
        let words = words.or((!self.args.rest.is_empty()).then(|| self.args.rest.join(" ")));
        terminal::watch_signals(crash::remember);
        if self.args.list_devices {
            models::select_workers(&self.config).map_err(Failure::from)?;
            return commands::devices::run(self.screen, self.args.json);
        }
        if let Some(subcommand) = self.args.subcommand.take() {
            self.refuse_what_is_for_asking(&subcommand)?;
            let server = server_for(&subcommand, &self.args, &self.config)?;
            let (open, chat) = (
                model_opener(&self.args),
                OfChat { commands: slash::table, command: slash::described, keys: slash::keys },
            );
            return commands::run(
                subcommand,
                &mut CommandContext::new(&self.config, self.screen, self.args.json, open, chat).at(server),
            );
        }
        if words.is_some() && self.args.prompt.is_some() {
            return Err(Failure::usage("there are two prompts").hint("use either -p or the argument"));
        }
        let prompt = words.or(self.args.prompt.clone()).map(without_mark);
        if let Some(name) = &self.args.save_role {
            return commands::roles::save(name, &self.args, prompt.as_deref(), &self.config, self.screen);
        }
        if self.args.special && !self.args.raw {
            return Err(Failure::usage("--special requires --raw"));
        }
        if prompt.as_ref().is_some_and(|p| p.is_empty()) {
            return Err(Failure::usage("the prompt is empty"));
        }
        let free = !self.args.no_stdin && !self.args.repl_stdin && self.args.file_on_stdin().is_none();
        let piped = free && !std::io::stdin().is_terminal();
        let asks = prompt.is_some() || !self.args.file.is_empty();
        if self.args.continue_latest && self.args.resume.is_some() {
            return Err(Failure::usage("--continue and --resume exclude each other"));
        }
        if !asks && !piped && !self.wants_chat() {
            return Err(nothing_to_ask());
        }
        if self.args.interactive
            && (self.args.json || (terminal::device().is_none() && !self.args.repl_stdin))
        {
            let why = if self.args.json { "--json prints one answer" } else { "there is no terminal" };
            return Err(Failure::usage(format!("-i opens a chat after the answer, but {why}")));
        }
        if self.args.json && self.args.dry_run {
            return Err(Failure::usage("--dry-run prints the exact prompt, not JSON"));
        }
        if self.args.raw && (self.args.continue_latest || self.args.resume.is_some()) {
            return Err(Failure::usage("--raw completes a single text and cannot continue a conversation"));
        }
        if self.args.interactive && self.args.raw {
            return Err(Failure::usage("--raw completes a single text, but -i opens a chat"));
        }
        self.understood = true;
        if !asks && !piped {
            return self.chat(None);
        }
        self.ask(prompt, piped)
    }

    fn wants_chat(&self) -> bool {
        let lines = std::io::stdin().is_terminal() || self.args.repl_stdin;
        let one_answer = self.args.json || self.args.output.given().is_some();
        lines && !one_answer && !self.args.dry_run && !self.args.raw
    }

    /// Refuses options that only make sense for a prompt.
    fn refuse_what_is_for_asking(&self, subcommand: &Commands) -> Result<(), Failure> {
        let Args { prompt, file, interactive, raw, special, no_stdin, dry_run, .. } = &self.args;
        let in_role = self.args.role.is_some() && !matches!(subcommand, Commands::Config(_));
        let given = [
            ("--prompt", prompt.is_some()),
            ("--file", !file.is_empty()),
            ("--interactive", *interactive),
            ("--raw", *raw),
            ("--special", *special),
            ("--no-stdin", *no_stdin),
            ("--dry-run", *dry_run),
            ("--role", in_role),
            ("--save-role", self.args.save_role.is_some()),
        ];
        let given = given.iter().find(|(_, given)| *given).map(|(option, _)| *option);
        match given.or(self.args.output.given()) {
            Some(option) => Err(Failure::usage(format!("{option} does not go with a subcommand"))
                .hint("to use the name of a subcommand as a prompt, put it after -p")),
            None => Ok(()),
        }
    }

    /// One answer, and with `-i` a chat after it.
    fn ask(&mut self, prompt: Option<String>, piped: bool) -> Result<Exit, Failure> {
        let options = match self.args.interactive || self.args.dry_run {
            true => SessionOptions::default(),
            false => oneshot::options(&self.args.output)?,
        };
        let mut manner = Manner::of(&self.args, self.config.settings(), self.started)?;
        let known_to_ask = prompt.is_some();
        if known_to_ask {
            self.open_session(options.clone())?; // loads while stdin is read
        }
        let piped = if piped {
            let screen = &mut *self.screen;
            input::read_stdin(|| screen.note("reading stdin to its end; --no-stdin ignores it"))?
        } else {
            None
        };
        let settings = self.config.settings();
        let had_input = piped.as_ref().is_some_and(|text| !text.is_empty()) && !settings.keep;
        let (files, header) = (&self.args.file, settings.file_header);
        let note = |line: &str| self.screen.note(line);
        let question = oneshot::question(prompt.as_deref(), files, piped, header, note)?;
        let message = oneshot::in_role(question, self.config.role())?.ok_or_else(nothing_to_ask)?;
        if !known_to_ask {
            self.open_session(options)?;
        }
        if let Some(record) = self.resumed.as_ref().filter(|_| !self.args.interactive) {
            self.screen.note(&saved::continuing(record));
        }
        if self.args.dry_run {
            return self.dry_run(&message);
        }
        let session = self.session.as_mut().expect("opened above");
        if had_input {
            session.bypass_prompt_cache(); // piped text may contain secrets
        }
        manner.stats = session.settings().stats == Some(true);
        if !self.args.raw {
            session.model().cautions.iter().for_each(|line| self.screen.note(line));
        }
        if self.args.interactive {
            return self.chat(Some(message));
        }
        ask_before_leaving(self.session.as_mut().expect("opened above"), self.screen)?;
        terminal::end_on_second_interrupt();
        self.keep(false);
        let cache = self.config.paths.as_ref().map(|paths| paths.prompt_cache.clone());
        let new_cache = cache.filter(|folder| !folder.exists());
        let session = self.session.as_mut().expect("opened above");
        let exit = oneshot::run(session, message, self.screen, &manner);
        let kept = session.finish();
        session.troubles().iter().for_each(|line| self.screen.note(line));
        if !kept {
            self.screen.warning("could not save this conversation");
        }
        if let Some(folder) = new_cache.filter(|folder| folder.exists()) {
            let shown = folder.display();
            self.screen
                .note(&format!("long prompts are cached in {shown}; --no-prompt-cache turns that off"));
        }
        exit
    }

    fn dry_run(&mut self, message: &Message) -> Result<Exit, Failure> {
        let session = self.session.as_mut().expect("opened before");
        terminal::end_on_interrupt();
        let rendered = session.render(Some(message))?;
        let counts = session.count(Some(message))?;
        commands::print_as_it_is(self.screen, &rendered.text)?;
        let limit = if counts.limit > 0 { counts.limit.to_string() } else { "an unknown number".into() };
        self.screen.note(&format!("{}; the context holds {limit}", count(counts.prompt, "token")));
        Ok(Exit::Answered)
    }

    /// A chat. Starts by answering `question`, if there is one.
    fn chat(&mut self, question: Option<Message>) -> Result<Exit, Failure> {
        if self.args.raw {
            return Err(Failure::usage("--raw completes a text: give one as the prompt or on stdin"));
        }
        let lines = match self.args.repl_stdin {
            true => Lines::Stdin,
            false => Lines::Terminal { history: self.line_history() },
        };
        let first = self.session.is_none();
        if first {
            self.open_session(SessionOptions::default())?;
        }
        let session = self.session.as_mut().expect("opened above");
        if first {
            banner(session.model(), self.screen);
        }
        if let Some(record) = &self.resumed {
            repl::show_resumed(session, record, self.screen);
        }
        self.keep(true);
        let session = self.session.as_mut().expect("opened above");
        let exit = repl::run(session, self.screen, lines, model_opener(&self.args), question);
        self.finish();
        exit
    }

    fn line_history(&self) -> Option<PathBuf> {
        let paths = self.config.paths.as_ref().filter(|_| !self.config.settings().incognito);
        paths.map(|paths| paths.line_history.clone())
    }

    /// Starts saving the conversation if it runs on a terminal, is resumed, or the user asks for it.
    fn keep(&mut self, is_chat: bool) {
        let Some(session) = &mut self.session else { return };
        let Settings { incognito, keep, .. } = *session.settings();
        let typed = std::io::stdin().is_terminal() || (is_chat && !self.args.repl_stdin);
        let on_terminal = typed && terminal::device().is_some();
        let resumed = self.resumed.take();
        let asked_for = self.config.source("incognito") == Source::Flag;
        let wanted = !self.args.raw && (keep || on_terminal || resumed.is_some());
        let heading = resumed.as_ref().map(Heading::of);
        let heading = heading.unwrap_or(Heading { model: Some(session.model_name()), ..Heading::default() });
        match saved::file(&self.config).map(Path::to_path_buf) {
            Some(_) if incognito && (wanted || asked_for) => self.screen.note("incognito: nothing is saved"),
            Some(file) if wanted => {
                saved::tell_where(&self.config, self.screen);
                session.start_journal(file, heading);
            }
            _ => {}
        }
        if let Some(title) = &self.args.title {
            session.set_title(title);
        }
    }

    /// Finishes saving. If that fails, offers to write the conversation to a file.
    fn finish(&mut self) {
        let Some(session) = &mut self.session else { return };
        if session.finish() {
            return;
        }
        session.troubles().iter().for_each(|line| self.screen.note(line));
        if !input::can_ask() {
            self.screen.note("could not save this conversation");
            return;
        }
        saved::offer_a_file(&session.record(), self.screen);
    }

    /// Opens the session, which starts to load the model.
    fn open_session(&mut self, options: SessionOptions) -> Result<(), Failure> {
        let options = SessionOptions { raw: self.args.raw, special: self.args.special, ..options };
        let mut opener = SessionOpener { args: &self.args, config: &self.config, screen: self.screen };
        let (session, resumed) = opener.open(options)?;
        self.screen.restyle(session.settings());
        if self.args.verbose {
            self.screen.note(&format!("{}; {}", session.model().facts, session.model().device));
            for (about, found) in models::build(&self.config, session.settings()) {
                self.screen.note(&format!("{about}: {found}"));
            }
        }
        (self.session, self.resumed) = (Some(session), resumed);
        Ok(())
    }

    fn fail(&mut self, failure: &Failure) -> Exit {
        if failure.exit == Exit::Interrupted {
            self.screen.end_progress();
        } else {
            self.screen.failure(failure);
        }
        if self.understood {
            oneshot::fail(&self.args, self.session.as_ref(), failure, self.started, self.screen);
        }
        failure.exit
    }
}

fn nothing_to_ask() -> Failure {
    Failure::usage("there is no prompt").hint("give a prompt, as in: fireside -p \"Why is the sky blue?\"")
}

fn banner(model: &Description, screen: &mut Screen) {
    screen.note(&format!("fireside {}: {}", env!("CARGO_PKG_VERSION"), model.name));
    let context = match model.context_limit {
        0 => "context unknown".into(),
        limit => format!("context up to {limit}"),
    };
    screen.note(&format!("{}; {}; {context}", model.facts, model.device));
    model.warnings.iter().chain(&model.cautions).for_each(|line| screen.note(line));
    screen.note("/help lists the commands, Ctrl-D leaves");
}
