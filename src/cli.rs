//! The command line exactly as typed: names and shapes, no defaults, no environment, no files.
//!
//! Flags that are settings come from the table in settings/table.rs; llama.cpp's short forms of several
//! letters are rewritten before clap sees them. Next: settings/resolve.rs, which resolves the settings.

mod config;
pub mod help;
mod history;
pub mod man;
mod output;
pub mod prompt;
mod refusal;
mod score;
mod translate;
mod worker;

use std::ffi::OsString;
use std::iter::successors;
use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgMatches, Command, CommandFactory, FromArgMatches, Parser, Subcommand};

pub use self::config::ConfigArgs;
pub use self::history::History;
pub use self::output::Output;
pub use self::score::Score;
pub use self::worker::Worker;
use crate::failure::Failure;
use crate::settings::{CONSTRAINTS, Given, SETTINGS, Setting, is_stdin};

/// Run open models on your own machine, in your terminal.
///
/// Without a prompt it opens a chat; with one it prints one answer; text piped in is given to the model
/// before the prompt. Nothing leaves this machine, unless you name a server.
#[derive(Debug, Parser)]
#[command(name = "fireside", version, disable_help_subcommand = true, max_term_width = 100)]
#[command(after_long_help = help::EXAMPLES)]
pub struct Args {
    /// the prompt, in quotes
    #[arg(value_name = "PROMPT")]
    pub words: Vec<String>,
    /// The words after `--`, which are the prompt.
    #[arg(last = true, hide = true)]
    pub rest: Vec<String>,
    /// the prompt
    #[arg(short, long, value_name = "TEXT", allow_hyphen_values = true, help_heading = "Ask")]
    pub prompt: Option<String>,
    /// text file, folder or pattern ('src/*.rs') to put before the prompt, - for stdin; repeatable
    #[arg(short, long, value_name = "FILE", help_heading = "Ask")]
    pub file: Vec<PathBuf>,
    /// answer the prompt, then stay in the chat
    #[arg(short, long, help_heading = "Ask")]
    pub interactive: bool,
    /// complete the text as it is, without a chat template
    #[arg(long, help_heading = "Ask")]
    pub raw: bool,
    /// with --raw: parse special tokens in the text
    #[arg(long, help_heading = "Ask")]
    pub special: bool,
    /// do not read stdin
    #[arg(long, help_heading = "Ask")]
    pub no_stdin: bool,
    /// print the prompt as the model would get it, then exit
    #[arg(long, help_heading = "Ask")]
    pub dry_run: bool,
    /// print one JSON object: the answer with all its details, or the result of a subcommand
    #[arg(long, global = true, help_heading = "Output")]
    pub json: bool,
    #[command(flatten)]
    pub output: Output,
    /// no colours, no progress bars, no redrawing, no line editor: for screen readers and logs
    #[arg(long, global = true, help_heading = "Output")]
    pub plain: bool,
    /// print nothing on stderr but errors
    #[arg(short, long, global = true, help_heading = "Output")]
    pub quiet: bool,
    /// print llama.cpp's log and details of the run on stderr
    #[arg(short, long, global = true, help_heading = "Output")]
    pub verbose: bool,
    /// continue the most recent conversation
    #[arg(long = "continue", help_heading = "Conversation")]
    pub continue_latest: bool,
    /// resume a conversation by ID prefix; without an ID, pick from a list
    #[arg(long, value_name = "ID", num_args = 0..=1, default_missing_value = "", help_heading = "Conversation")]
    pub resume: Option<String>,
    /// title of the conversation; default: from its first message
    #[arg(long, value_name = "TEXT", help_heading = "Conversation")]
    pub title: Option<String>,
    /// answer in a role: settings, system prompt and prompt from NAME.md in the folder of roles
    #[arg(long, value_name = "NAME", help_heading = "Ask")]
    pub role: Option<String>,
    /// value of a variable of the role; repeatable
    #[arg(long = "var", value_name = "NAME=VALUE", help_heading = "Ask")]
    pub vars: Vec<String>,
    /// write the settings, system prompt and prompt of this command line to a role, then exit
    #[arg(long, value_name = "NAME", help_heading = "Ask")]
    pub save_role: Option<String>,
    /// ask a server instead of this machine: its URL, or its name in the config file; -m names a model there
    #[arg(long, value_name = "URL|NAME", global = true, help_heading = "Model")]
    pub server: Option<String>,
    /// list the devices for --device with their memory, then exit
    #[arg(long, help_heading = "Model")]
    pub list_devices: bool,
    #[command(flatten)]
    pub settings: Given,

    /// for tests: the backend, as in script:FILE.
    #[arg(long, hide = true)]
    pub backend: Option<String>,
    /// for tests: chat lines come from stdin.
    #[arg(long, hide = true)]
    pub repl_stdin: bool,
    /// Load this file, evaluate a few tokens, render its chat template, and report by the exit code whether
    /// that worked.
    #[arg(long, hide = true, value_name = "FILE")]
    pub probe: Option<PathBuf>,
    /// With the subcommand `worker`: be its server process for one client.
    #[arg(long, hide = true)]
    pub serve_client: bool,
    /// for installing: write the man pages into this folder.
    #[arg(long, hide = true, value_name = "FOLDER")]
    pub man: Option<PathBuf>,
    /// The last field: settings after a subcommand are parsed from the words that it leaves.
    #[command(subcommand)]
    pub subcommand: Option<Commands>,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Commands {
    /// download a model
    ///
    /// From the catalogue by its short name, from Hugging Face as hf:OWNER/REPO[:QUANT], or from a URL. Resumes
    /// an interrupted download.
    Pull {
        /// short name from the catalogue, hf:OWNER/REPO[:QUANT] or URL; without one, list the catalogue
        #[arg(value_name = "NAME|hf:OWNER/REPO[:QUANT]|URL")]
        what: Option<String>,
    },
    /// list the models on this machine, including those of other programs
    #[command(alias = "ls")]
    List {
        /// include files that cannot chat: projectors, embedding models, damaged files
        #[arg(long)]
        all: bool,
    },
    /// show the properties, memory needs and licence terms of a model
    Show {
        /// model, or hf:OWNER/REPO[:QUANT] to read only the header of a remote file; without one: the default
        /// model
        #[arg(id = "MODEL")]
        model: Option<String>,
        /// list the tensors with shape, type and size
        #[arg(long)]
        tensors: bool,
        /// print the chat template
        #[arg(long)]
        template: bool,
        /// list the metadata of the file
        #[arg(long)]
        metadata: bool,
    },
    /// remove a downloaded model
    Rm {
        #[arg(id = "MODEL")]
        model: String,
        /// do not ask; given twice: not even about files of other programs
        #[arg(short, long, action = ArgAction::Count)]
        yes: u8,
    },
    /// verify a model file: header, sizes, weights, and the checksum if known
    Check {
        #[arg(value_name = "FILE|MODEL")]
        file: String,
    },
    /// convert a GPT-J or GPT-Neo checkpoint, which llama.cpp cannot, from safetensors to GGUF
    Convert {
        /// folder with config.json, the weights and the tokenizer
        #[arg(value_name = "DIR")]
        folder: PathBuf,
        #[arg(value_name = "OUT.gguf")]
        out: PathBuf,
        /// f32, f16, bf16 or q8_0; default: 16 bits
        #[arg(long = "type", value_name = "TYPE")]
        kind: Option<String>,
        /// overwrite OUT.gguf without asking
        #[arg(long)]
        force: bool,
    },
    /// saved conversations: list, search, show, export, import, replay, rm
    History {
        #[command(subcommand)]
        what: History,
    },
    /// measure speed and memory use of a model: prefill, decode, time to first token
    Bench {
        /// without one: the default model
        #[arg(id = "MODEL")]
        model: Option<String>,
    },
    /// measure how likely a text is: perplexity and log-probability per token
    ///
    /// A text of at least two chunks (of 512 tokens, or of --ctx-size) is evaluated in chunks, and the second half of
    /// each counts, as in llama-perplexity. Of a shorter one, and after a prompt, every token counts.
    Score(Score),
    /// lend this machine's GPU or processors to fireside on another machine
    ///
    /// The other machine uses them with --rpc HOST:PORT and the token that this command makes. Whoever has the token
    /// can run code here, with few rights. Ctrl-C ends it.
    Worker(Worker),
    /// list every setting with its value and where it comes from; init writes a config file
    Config(ConfigArgs),
    /// list the roles for --role, or show one
    ///
    /// A role is a file NAME.md in the folder of roles (fireside help files): front matter between two lines
    /// --- with settings as `name: value`, description and vars; then the system prompt; then examples, pairs
    /// of ### INPUT: and ### OUTPUT:; and for a task, below ### PROMPT:, the prompt with $input and other
    /// variables. --save-role NAME makes one of a command line.
    Roles {
        /// role to show; without one, list them
        #[arg(value_name = "NAME")]
        name: Option<String>,
    },
    /// report how this installation was built, where its files are, and what is wrong
    Doctor,
    /// explain a subcommand, a setting or a topic: keys, commands, settings, environment, files, exit-codes
    Help {
        /// without one, list subcommands and topics
        #[arg(value_name = "SUBCOMMAND|TOPIC")]
        what: Vec<String>,
    },
    /// print a shell script that completes options, IDs and models: source <(fireside completions bash)
    Completions {
        /// bash, zsh, fish, elvish or powershell
        #[arg(value_name = "SHELL")]
        shell: String,
    },
}

impl Commands {
    /// Whether the subcommand runs even with invalid settings, to help find them.
    pub fn tolerates_wrong_settings(&self) -> bool {
        matches!(
            self,
            Commands::Config(_) | Commands::Doctor | Commands::Help { .. } | Commands::Completions { .. }
        )
    }
}

impl clap::Args for Given {
    fn augment_args(cmd: Command) -> Command {
        SETTINGS.iter().fold(cmd, |cmd, row| cmd.arg(flag(row)))
    }

    fn augment_args_for_update(cmd: Command) -> Command {
        Given::augment_args(cmd)
    }
}

impl FromArgMatches for Given {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Given, clap::Error> {
        let mut given = Given::default();
        given.update_from_arg_matches(matches)?;
        Ok(given)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        let levels = successors(Some(matches), |level| Some(level.subcommand()?.1));
        let levels: Vec<&ArgMatches> = levels.collect();
        for row in SETTINGS {
            for level in &levels {
                let values = level.try_get_many::<String>(row.name).ok().flatten();
                self.0.extend(values.into_iter().flatten().map(|value| (row.name, value.clone())));
            }
        }
        Ok(())
    }
}

/// The whole command line. Settings may also follow a subcommand, whose help does not list them. (clap's
/// global arguments would forget those before the subcommand if one follows it.)
pub fn command() -> Command {
    // Deferred until a subcommand is named: building some thirty arguments twenty times took longer than parsing.
    fn below(command: Command) -> Command {
        command.mut_subcommands(|subcommand| subcommand.defer(with_settings))
    }
    fn with_settings(command: Command) -> Command {
        let asks_server = ["list", "show"].contains(&command.get_name());
        let command = if asks_server { command } else { command.mut_arg("server", |arg| arg.hide(true)) };
        SETTINGS
            .iter()
            .fold(below(command), |command, row| command.arg(flag(row).hide(row.name != "offline")))
    }
    below(Args::command())
}

fn flag(row: &'static Setting) -> Arg {
    let arg = Arg::new(row.name)
        .long(row.name)
        .visible_aliases(row.aliases.iter().copied())
        .help(row.help)
        .help_heading(row.group.heading())
        .action(ArgAction::Append);
    let arg = match row.short {
        Some(short) => arg.short(short),
        None => arg,
    };
    if row.value.is_empty() {
        let arg = arg.num_args(0..=1).require_equals(true).default_missing_value("on");
        arg.value_name("on|off").hide_possible_values(true)
    } else {
        arg.value_name(row.value).allow_hyphen_values(true)
    }
}

/// The outcomes of parsing other than arguments.
#[derive(Debug)]
pub enum Instead {
    /// The text of `--help` or `--version`, with and without styles.
    Help {
        styled: String,
        plain: String,
    },
    Failure(Failure),
}

/// Parses the command line.
pub fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Args, Instead> {
    let words = translate::translate(words.into_iter().collect()).map_err(Instead::Failure)?;
    let all = words.iter().any(|word| word == "--help");
    let matches = command().try_get_matches_from(words);
    let args = matches.and_then(|matches| Args::from_arg_matches(&matches));
    let mut args = args.map_err(|error| match error.kind() {
        ErrorKind::DisplayHelp
        | ErrorKind::DisplayVersion
        | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let text = error.render();
            let (styled, plain) = (text.ansi().to_string(), text.to_string());
            match !all && plain.contains("Usage: fireside [") {
                true => Instead::Help { styled: help::short(), plain: help::short() },
                false => Instead::Help { styled, plain },
            }
        }
        _ => Instead::Failure(refusal::usage_failure(&error)),
    })?;
    args.refuse_contradictions().map_err(Instead::Failure)?;
    if !args.words.is_empty() {
        args.words.append(&mut args.rest);
    }
    Ok(args)
}

impl Args {
    /// Whether a setting is given with this value.
    fn sets(&self, name: &str, wanted: &str) -> bool {
        self.settings.0.iter().any(|(given, value)| *given == name && value == wanted)
    }

    /// The schema, grammar or regular expression that is given: the name of its setting.
    fn constraint(&self) -> Option<&'static str> {
        let mut given = self.settings.0.iter().filter(|(_, value)| value != "none");
        given.find_map(|(name, _)| CONSTRAINTS.into_iter().find(|one| one == name))
    }

    /// The option that reads stdin as a file, with its value.
    pub fn file_on_stdin(&self) -> Option<String> {
        let is_file = |(name, value): &&(&'static str, String)| is_stdin(name, value);
        self.settings.0.iter().find(is_file).map(|(name, value)| format!("--{name} {value}"))
    }

    /// Whether the output is JSON for another program.
    pub fn prints_json(&self) -> bool {
        self.json || self.output.json_stream
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_keep_what_was_typed() {
        let args = parse(
            ["fireside", "--temp", "0", "--stop", "a", "--stop", "b", "--mlock", "-n", "-1"]
                .map(OsString::from),
        )
        .unwrap();
        let given: Vec<(&str, &str)> = args.settings.0.iter().map(|(n, v)| (*n, v.as_str())).collect();
        assert_eq!(given, [("mlock", "on"), ("predict", "-1"), ("stop", "a"), ("stop", "b"), ("temp", "0")]);
    }

    #[test]
    fn settings_may_stand_behind_a_command() {
        let given = |line: &str| {
            let args = parse(line.split(' ').map(OsString::from)).unwrap();
            let given: Vec<String> = args.settings.0.iter().map(|(n, v)| format!("{n}={v}")).collect();
            (given.join(" "), args.subcommand, args.words)
        };
        let (settings, subcommand, _) = given("fireside -q show -m x --tensors");
        assert_eq!(settings, "model=x");
        assert!(matches!(subcommand, Some(Commands::Show { model: None, tensors: true, .. })));
        assert!(matches!(given("fireside show -m x y").1, Some(Commands::Show { model: Some(_), .. })));
        assert_eq!(given("fireside pull x --offline --json").0, "offline=on");
        assert_eq!(given("fireside --offline pull x").0, "offline=on");
        assert_eq!(
            given("fireside --model-folder=/a ls --model-folder /b").0,
            "model-folder=/a model-folder=/b"
        );
        assert_eq!(given("fireside -m a history list -m b").0, "model=a model=b");
        let (settings, subcommand, words) = given("fireside -p list --temp 0");
        assert!(settings == "temp=0" && subcommand.is_none() && words.is_empty());
        assert!(matches!(given("fireside rm -- -m").1, Some(Commands::Rm { model, .. }) if model == "-m"));
        assert!(parse(["fireside", "show", "-m"].map(OsString::from)).is_err());
    }

    #[test]
    fn behind_two_dashes_everything_is_the_prompt() {
        let said = |line: &str| {
            let args = parse(line.split(' ').map(OsString::from)).unwrap();
            assert!(args.subcommand.is_none(), "{line}");
            (args.words.join("|"), args.rest.join("|"))
        };
        let rest = |rest: &str| (String::new(), rest.to_string());
        assert_eq!(said("fireside -- list -m x"), rest("list|-m|x"));
        assert_eq!(said("fireside --temp 0 -- why"), rest("why"));
        assert_eq!(said("fireside --"), rest(""));
        assert_eq!(said("fireside why -- is it"), ("why|is|it".into(), String::new()));
    }

    #[test]
    fn a_wrong_flag_is_one_line_and_a_suggestion() {
        let refused = parse(["fireside", "--tmep", "0"].map(OsString::from)).unwrap_err();
        let Instead::Failure(failure) = refused else { panic!("{refused:?}") };
        assert_eq!(failure.message, "unexpected argument '--tmep' found");
        let hint = "did you mean --temp? A prompt that begins with - goes after -p or --";
        assert_eq!(failure.hint.as_deref(), Some(hint));
    }
}
