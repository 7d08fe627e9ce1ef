//! The command line exactly as typed: names and shapes, no defaults, no environment, no files.
//!
//! Flags that are settings come from the table in chat/options.rs; llama.cpp's short forms of several letters are
//! rewritten before clap sees them. Next: config.rs, which resolves what holds.

pub mod help;
pub mod prompt;
mod refusal;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgMatches, Command, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::error::Failure;
use crate::settings::{Given, SETTINGS, Setting};

/// Run open models on your own machine, in your terminal.
///
/// Without a prompt it opens a chat; with one it prints one answer; text piped in is given to the model before the
/// prompt. Nothing leaves this machine.
#[derive(Debug, Parser)]
#[command(name = "fireside", version, disable_help_subcommand = true, max_term_width = 100)]
#[command(after_long_help = help::EXAMPLES)]
pub struct Args {
    /// what to ask, in quotes
    #[arg(value_name = "PROMPT")]
    pub words: Vec<String>,
    /// What stood behind `--`, where no subcommand stood before it: all of it is the prompt.
    #[arg(skip)]
    pub rest: Option<String>,
    #[command(subcommand)]
    pub subcommand: Option<Commands>,
    /// what to ask
    #[arg(short, long, value_name = "TEXT", allow_hyphen_values = true, help_heading = "Ask")]
    pub prompt: Option<String>,
    /// give the model a text file before the prompt; may be given several times
    #[arg(short, long, value_name = "FILE", help_heading = "Ask")]
    pub file: Vec<PathBuf>,
    /// answer, then stay in the chat
    #[arg(short, long, help_heading = "Ask")]
    pub interactive: bool,
    /// continue the text as it is, without a chat template
    #[arg(long, help_heading = "Ask")]
    pub raw: bool,
    /// with --raw: control tokens written in the text count as such
    #[arg(long, help_heading = "Ask")]
    pub special: bool,
    /// do not read what is piped in
    #[arg(long, help_heading = "Ask")]
    pub no_stdin: bool,
    /// print what the model would be given, and stop
    #[arg(long, help_heading = "Ask")]
    pub dry_run: bool,
    /// print one JSON object: the answer and everything about it, or what a subcommand found
    #[arg(long, global = true, help_heading = "Output")]
    pub json: bool,
    /// no colours, no progress bars, nothing that moves
    #[arg(long, global = true, help_heading = "Output")]
    pub plain: bool,
    /// nothing on stderr but failures
    #[arg(short, long, global = true, help_heading = "Output")]
    pub quiet: bool,
    /// llama.cpp's log and what was decided, on stderr
    #[arg(short, long, global = true, help_heading = "Output")]
    pub verbose: bool,
    /// continue the newest conversation, a chat or a question
    #[arg(long = "continue", help_heading = "Conversation")]
    pub go_on: bool,
    /// continue the conversation with this id, or its beginning; without one, choose from a list
    #[arg(long, value_name = "ID", num_args = 0..=1, default_missing_value = "", help_heading = "Conversation")]
    pub resume: Option<String>,
    /// what the conversation is called; made from the first message if not given
    #[arg(long, value_name = "TEXT", help_heading = "Conversation")]
    pub title: Option<String>,
    #[command(flatten)]
    pub settings: Given,

    /// for tests: who answers, as in script:FILE.
    #[arg(long, hide = true)]
    pub backend: Option<String>,
    /// for tests: chat lines come from stdin.
    #[arg(long, hide = true)]
    pub repl_stdin: bool,
    /// Load this file, evaluate one token, and say by the exit code whether that worked.
    #[arg(long, hide = true, value_name = "FILE")]
    pub probe: Option<PathBuf>,
}

/// What can stand where a prompt could: the uses that are not about talking.
#[derive(Debug, Subcommand)]
pub enum Commands {
    /// fetch a model
    ///
    /// From the catalogue by its short name, from Hugging Face as hf:OWNER/REPO[:QUANT], or from a URL. Goes on where it was
    /// interrupted.
    Pull {
        /// a short name of the catalogue, hf:OWNER/REPO[:QUANT] or a URL; the catalogue is printed if there is none
        #[arg(value_name = "NAME|hf:OWNER/REPO[:QUANT]|URL")]
        what: Option<String>,
    },
    /// the models on this machine, other programs' too
    #[command(alias = "ls")]
    List {
        /// also files that no chat is possible with: projectors, embedding models, damaged files
        #[arg(long)]
        all: bool,
    },
    /// what a model is, what it needs, and what its licence allows
    Show {
        /// a model, or hf:OWNER/REPO[:QUANT] to read a remote file's header only; the usual model if left out
        #[arg(value_name = "MODEL")]
        model: Option<String>,
        /// every tensor with its shape, type and size
        #[arg(long)]
        tensors: bool,
        /// the chat template
        #[arg(long)]
        template: bool,
        /// every key of the file's metadata
        #[arg(long)]
        metadata: bool,
    },
    /// remove a model that was fetched
    Rm {
        #[arg(value_name = "MODEL")]
        model: String,
        /// do not ask; twice: also where the file belongs to another program
        #[arg(short, long, action = ArgAction::Count)]
        yes: u8,
    },
    /// verify a model file: header, sizes, every number in it, its checksum if that is known
    Check {
        #[arg(value_name = "FILE|MODEL")]
        file: String,
    },
    /// make a GGUF file of a checkpoint that llama.cpp cannot convert: GPT-J and GPT-Neo, from safetensors
    Convert {
        /// the folder with config.json, the weights and the tokenizer
        #[arg(value_name = "DIR")]
        folder: PathBuf,
        #[arg(value_name = "OUT.gguf")]
        out: PathBuf,
        /// f32, f16, bf16 or q8_0; 16 bits if not given
        #[arg(long = "type", value_name = "TYPE")]
        kind: Option<String>,
        /// replace OUT.gguf if it exists, without asking
        #[arg(long)]
        force: bool,
    },
    /// the conversations that are kept: list, search, show, export, import, rm, replay
    History {
        #[command(subcommand)]
        what: History,
    },
    /// how fast this machine runs a model: reading, writing, the first token, memory
    Bench {
        /// the usual model if left out
        #[arg(value_name = "MODEL")]
        model: Option<String>,
    },
    /// every setting with its value and where that comes from
    Config,
    /// what this installation is made of, where it keeps things, and what is wrong with it
    Doctor,
    /// how fireside is used: a subcommand, a setting, or keys, commands, settings, environment, files, exit-codes
    Help {
        /// subcommands and topics are listed if there is none
        #[arg(value_name = "SUBCOMMAND|TOPIC")]
        what: Vec<String>,
    },
    /// what makes a shell complete fireside's options, ids and models with Tab: source <(fireside completions bash)
    Completions {
        /// bash, zsh, fish, elvish or powershell
        #[arg(value_name = "SHELL")]
        shell: String,
    },
}

impl Commands {
    /// Whether it helps to find what is wrong with the settings, and so needs none of them.
    pub fn goes_on_with_wrong_settings(&self) -> bool {
        matches!(
            self,
            Commands::Config | Commands::Doctor | Commands::Help { .. } | Commands::Completions { .. }
        )
    }
}

/// What can be done with the conversations that are kept.
#[derive(Debug, Subcommand)]
pub enum History {
    /// the conversations, the one changed last first; --model and --since narrow it
    List {
        /// changed since a day, as in 2026-11-25, or for so long: 7d, 12h
        #[arg(long, value_name = "WHEN")]
        since: Option<String>,
    },
    /// the messages that have all these words; --model and --since narrow it
    Search {
        #[arg(value_name = "WORDS", required = true)]
        words: Vec<String>,
        /// most messages to show, the latest; 0: all
        #[arg(long, value_name = "N", default_value_t = 50)]
        limit: usize,
        /// changed since a day, as in 2026-11-25, or for so long: 7d, 12h
        #[arg(long, value_name = "WHEN")]
        since: Option<String>,
    },
    /// a conversation as text
    Show {
        #[arg(value_name = "ID")]
        id: String,
    },
    /// write a conversation to a file, or to stdout
    Export {
        #[arg(value_name = "ID")]
        id: String,
        /// .md, .json or .txt says how
        #[arg(value_name = "FILE")]
        file: Option<PathBuf>,
        /// md, json or txt, where the file's name does not say it
        #[arg(long, value_name = "FORMAT")]
        format: Option<String>,
        /// replace a file that exists, without asking
        #[arg(long)]
        force: bool,
    },
    /// take in a file: ours, OpenAI messages, or a ChatGPT data export (its zip will do)
    Import {
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// give stored answers again, at the same settings and read afresh, and tell whether they are the same
    Replay {
        #[arg(value_name = "ID")]
        id: String,
        /// the N-th answer only
        #[arg(value_name = "N")]
        number: Option<usize>,
    },
    /// remove conversations for good
    Rm {
        #[arg(value_name = "ID", required = true)]
        ids: Vec<String>,
        /// do not ask
        #[arg(short, long)]
        yes: bool,
    },
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
        for row in SETTINGS {
            let values = matches.get_many::<String>(row.name).into_iter().flatten();
            self.0.extend(values.map(|value| (row.name, value.clone())));
        }
        Ok(())
    }
}

fn flag(row: &'static Setting) -> Arg {
    let arg = Arg::new(row.name)
        .long(row.name)
        .visible_aliases(row.aliases.iter().copied())
        .help(row.help)
        .help_heading(row.group.heading())
        .action(ArgAction::Append)
        .global(row.name == "offline"); // the only setting that subcommands heed as well
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

/// llama.cpp's short forms of several letters and what they stand for here; an empty word is dropped.
const SPELLINGS: &[(&str, &str)] = &[
    ("-ngl", "--gpu-layers"),
    ("-fa", "--flash-attn"),
    ("-ctk", "--cache-type-k"),
    ("-ctv", "--cache-type-v"),
    ("-sys", "--system-prompt"),
    ("-sysf", "--system-prompt-file"),
    ("-tb", "--threads-batch"),
    ("-r", "--stop"),
    ("-l", "--logit-bias"),
    ("-st", ""),
    ("-cnv", ""),
    ("-no-cnv", ""),
    ("--single-turn", ""),
    ("--conversation", ""),
    ("--no-conversation", ""),
];

/// More of them, for what fireside does not have: `-md` must not be taken for `-m d`.
const UNKNOWN: &[&str] = &["-md", "-mg", "-mm", "-mmu", "-mu", "-mv"];

/// What there is instead of arguments.
#[derive(Debug)]
pub enum Instead {
    /// Help or the version was asked for: with and without styles.
    Help {
        styled: String,
        plain: String,
    },
    Failure(Failure),
}

/// Understands the command line, or says in a line what is wrong with it.
pub fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Args, Instead> {
    let mut words: Vec<OsString> = hoist(translate(words.into_iter().collect()).map_err(Instead::Failure)?);
    let rest = rest(&mut words).map_err(Instead::Failure)?;
    let all = words.iter().any(|word| word == "--help");
    let args = Args::try_parse_from(words).map_err(|error| match error.kind() {
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
    Ok(Args { rest, ..args })
}

impl Args {
    /// What was typed and cannot hold at once. Two settings that exclude each other are config.rs's.
    fn refuse_contradictions(&self) -> Result<(), Failure> {
        let given = |name| self.settings.0.iter().any(|(given, _)| *given == name);
        let is =
            |name, wanted| self.settings.0.iter().any(|(given, value)| *given == name && value == wanted);
        let pairs = [
            ("plain", self.plain, "color", is("color", "always")),
            ("quiet", self.quiet, "stats", is("stats", "on")),
            ("think", is("think", "on"), "think-budget", is("think-budget", "0")),
            ("quiet", self.quiet, "verbose", self.verbose),
            ("raw", self.raw, "system-prompt", given("system-prompt")),
            ("raw", self.raw, "system-prompt-file", given("system-prompt-file")),
            ("raw", self.raw, "chat-template", given("chat-template")),
            ("interactive", self.interactive, "dry-run", self.dry_run),
        ];
        match pairs.iter().find(|(_, one, _, other)| *one && *other) {
            Some((one, _, other, _)) => {
                Err(Failure::usage(format!("--{one} and --{other} exclude each other")))
            }
            None => Ok(()),
        }
    }
}

/// Takes a prompt behind `--` off the words.
fn rest(words: &mut Vec<OsString>) -> Result<Option<String>, Failure> {
    let dashes = first_word(words);
    if words.get(dashes).is_none_or(|word| word != "--") {
        return Ok(None);
    }
    let said = words.split_off(dashes).split_off(1).into_iter().map(OsString::into_string);
    let said: Result<Vec<String>, OsString> = said.collect();
    let said = said.map_err(|_| Failure::usage("the prompt is not UTF-8 text"))?;
    Ok(Some(said.join(" ")).filter(|_| !said.is_empty()))
}

/// The first word behind the program's name that is no option and no value of one.
fn first_word(words: &[OsString]) -> usize {
    let mut first = 1;
    while let Some(text) = words.get(first).map(|word| word.to_str().unwrap_or_default())
        && text.starts_with('-')
        && text != "--"
    {
        first += 1 + usize::from(takes_value(text));
    }
    first
}

fn translate(words: Vec<OsString>) -> Result<Vec<OsString>, Failure> {
    let mut translated: Vec<OsString> = Vec::with_capacity(words.len());
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        let text = word.to_str().unwrap_or_default();
        if text == "--" {
            translated.push(word);
            translated.extend(words);
            break;
        }
        let spelling = SPELLINGS.iter().find(|(theirs, _)| *theirs == text);
        if UNKNOWN.contains(&text) {
            return Err(
                Failure::usage(format!("unexpected argument '{text}' found")).hint(OPTIONS_AND_PROMPTS)
            );
        }
        if text == "-hf" {
            translated.push("--model".into()); // which says what is missing if nothing follows
            let name = words.next();
            translated.extend(name.map(|name| format!("hf:{}", name.to_string_lossy()).into()));
            continue;
        }
        match spelling {
            Some((_, "")) => continue,
            Some((_, ours)) => translated.push(ours.into()),
            None => translated.push(word.clone()),
        }
        if takes_value(spelling.map_or(text, |(_, ours)| ours)) {
            translated.extend(words.next()); // whatever it looks like
        }
    }
    Ok(translated)
}

/// Settings may stand behind a subcommand as well; clap wants them before it.
fn hoist(words: Vec<OsString>) -> Vec<OsString> {
    let command = Args::command();
    let is_subcommand = |text: &str| {
        command
            .get_subcommands()
            .any(|v| v.get_name() == text || v.get_all_aliases().any(|alias| alias == text))
    };
    let first = first_word(&words);
    if words.get(first).is_some_and(|word| !is_subcommand(word.to_str().unwrap_or_default())) {
        return words; // a prompt
    }
    let mut rest = words.into_iter();
    let mut hoisted: Vec<OsString> = rest.by_ref().take(first).collect();
    let mut behind: Vec<OsString> = rest.by_ref().take(1).collect();
    while let Some(word) = rest.next() {
        let text = word.to_str().unwrap_or_default().to_string();
        if text == "--" {
            behind.push(word);
            behind.extend(rest.by_ref());
        } else if is_setting(&text) && (!takes_value(&text) || rest.len() > 0) {
            hoisted.push(word);
            if takes_value(&text) {
                hoisted.extend(rest.next());
            }
        } else {
            behind.push(word);
        }
    }
    hoisted.extend(behind);
    hoisted
}

/// Whether the word is the flag of a setting, perhaps with its value.
fn is_setting(word: &str) -> bool {
    let flag = word.split_once('=').map_or(word, |(flag, _)| flag);
    match flag.strip_prefix("--") {
        Some(name) => SETTINGS.iter().any(|s| s.name == name || s.aliases.contains(&name)),
        None => SETTINGS.iter().any(|s| s.short.is_some_and(|short| flag == format!("-{short}"))),
    }
}

/// Whether the option, spelled our way, is followed by a value.
fn takes_value(word: &str) -> bool {
    if let Some(name) = word.strip_prefix("--") {
        let of_table =
            SETTINGS.iter().any(|s| !s.value.is_empty() && (s.name == name || s.aliases.contains(&name)));
        return of_table || matches!(name, "prompt" | "file" | "backend" | "probe" | "title");
    }
    let mut letters = word.strip_prefix('-').unwrap_or_default().chars();
    match (letters.next(), letters.next()) {
        (Some(letter), None) => {
            matches!(letter, 'p' | 'f') || SETTINGS.iter().any(|s| s.short == Some(letter))
        }
        _ => false,
    }
}

const OPTIONS_AND_PROMPTS: &str =
    "fireside --help lists the options; a prompt that begins with - goes after -p or --";

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        let words = line.split(' ').map(OsString::from).collect();
        translate(words).unwrap().into_iter().map(|w| w.into_string().unwrap()).collect()
    }

    #[test]
    fn spellings_of_llama_cpp_are_ours() {
        assert_eq!(
            words("fireside -ngl 3 -st -p hi -tb 2"),
            ["fireside", "--gpu-layers", "3", "-p", "hi", "--threads-batch", "2"]
        );
        assert_eq!(words("fireside -hf a/b"), ["fireside", "--model", "hf:a/b"]);
    }

    #[test]
    fn the_value_of_an_option_is_left_alone() {
        assert_eq!(words("fireside -p -st --temp 0"), ["fireside", "-p", "-st", "--temp", "0"]);
        assert_eq!(words("fireside -- -st -fa"), ["fireside", "--", "-st", "-fa"]);
    }

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
    fn settings_may_stand_behind_a_subcommand() {
        let hoisted = |line: &str| {
            let words = hoist(line.split(' ').map(OsString::from).collect());
            words.into_iter().map(|word| word.into_string().unwrap()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(hoisted("fireside -q show -m x --tensors"), "fireside -q -m x show --tensors");
        assert_eq!(hoisted("fireside pull x --offline --json"), "fireside --offline pull x --json");
        assert_eq!(hoisted("fireside ls --model-folder=/m"), "fireside --model-folder=/m ls");
        assert_eq!(hoisted("fireside -p list --temp 0"), "fireside -p list --temp 0");
        assert_eq!(hoisted("fireside rm -- -m"), "fireside rm -- -m");
        assert_eq!(hoisted("fireside show -m"), "fireside show -m");
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
