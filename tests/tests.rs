//! All tests that drive the program from outside, as one binary. A new test goes into the file of its
//! subject.

#[allow(unreachable_pub)] // a library for the rest, as if it were a crate
mod support;

// The layout of the code, and the docs against it.
mod layout;
mod tidy;
// The command line: options, exit codes, stdout against stderr, pipes.
mod cli;
// Man pages, completions, `make install`.
mod install;
// Settings: flag, environment, config file, `/set`; what is wrong with them.
mod settings;
// `help`, `-h`, `--help`.
mod help;
// `--json`.
mod json;
// What goes in through pipes and comes out through them, and Ctrl-C.
mod pipes;
// Files that go along with a message.
mod attached;
// What comes out must not act on a terminal.
mod control;
// How answers are made and how they end: limits, stop strings, seeds, templates.
mod answers;
// Chat templates that mean harm.
mod rendering;
// The models on this machine: found, listed, shown, removed.
mod models;
// Fetching models.
mod pull;
mod remote;
// Conversations as files: exported, and imported from elsewhere.
mod exchange;
// Files that are no models, broken, or too large.
mod files;
// `fireside check`.
mod check;
// Thousands of damaged ones.
mod mutants;
// The program itself hit by a signal.
mod crash;
// Instructions that the compiler gets wrong or the processor lacks.
pub(crate) mod processor;
// Vocabularies under a tokenizer that is not theirs.
mod tokenizers;
// Texts of one class of characters, as long as they come.
pub(crate) mod runs;
// Conversations that are kept.
pub(crate) mod history;
// Chats and single questions alike.
mod conversations;
// Files that the user names: exports, and what is read.
mod named;
// What a day of use found.
mod daily;
// Choosing from a list.
mod picker;
// `--incognito` against the system calls.
mod incognito;
// The file they are in: as older versions wrote it, and damaged.
pub(crate) mod databases;
mod damage;
// The disk full, refused or locked.
mod trouble;
// Folders and files of our own: whose they are, links, locks that others hold, clocks that are wrong.
mod places;
// Their answers, given again.
mod replay;
// What models think before they answer.
mod thinking;
// Conversations that no longer fit the context.
mod overflow;
// The chat, line by line, without a terminal.
mod repl;
// The chat in a real pseudo-terminal: the line being typed, and everything around it.
mod keys;
mod pty;
mod drafts;
mod questions;
// Every word of it whole, on any terminal.
mod screen;
// Bold, dim, red, or none of it.
mod colours;
// How many, how large, how long: as people say it.
mod figures;
// Content that would be control.
mod forgery;
// Answers: equal to a plain llama.cpp loop, whatever was cached, cut or grown before.
pub(crate) mod exact;
// Batches: several sequences, cancelled ones, impossible ones.
mod batches;
// A file loaded in two halves.
mod loading;
// The same with drafts of what comes next.
mod speculative;
// Families of models, compared with their reference implementation; and what converts some of them.
mod families;
mod convert;
// What was evaluated, kept on disk: used, and never believed blindly.
mod prompt_cache;
// Conversations interrupted at every turn; cached prompts damaged a thousand times.
mod resumed;
// What other programs make of the same input.
mod conformance;
