//! All tests that drive the program from outside, as one binary. A new test goes into the file of its
//! subject.

#[allow(unreachable_pub)] // a library for the rest, as if it were a crate
mod support;

// The layout of the code, and the docs compared with it.
mod layout;
mod tidy;
// The command line: options, exit codes, stdout or stderr, pipes.
mod cli;
// Man pages, completions, `make install`.
mod install;
// Settings: flag, environment, config file, `/set`; errors in them.
mod settings;
// The config file: written, sections for models, aliases; which source of a setting beats which.
mod config;
// Roles.
mod roles;
// `help`, `-h`, `--help`.
mod help;
// `--json`.
mod json;
// Input and output through pipes, and Ctrl-C.
mod pipes;
// The shapes of one answer: code, files, events, choices.
mod shapes;
// The same from a real model.
mod outputs;
// Log-probabilities: of answers, choices and texts.
mod probabilities;
// `/why` on a terminal.
mod why;
// Files attached to a message.
mod attached;
mod mentions;
// The last answer in the clipboard and in files.
mod copying;
// Output that must not act on a terminal.
mod control;
// `--plain`, colours in pipes, the background of the terminal.
mod plain;
// One-shot answers and how they end: limits, stop strings, seeds, templates.
mod answers;
// Answers that match a schema, a grammar or a regular expression.
mod constrained;
// Schemas, grammars, expressions and choices that cannot be used.
mod refusals;
// Malicious chat templates.
mod rendering;
// The models on this machine: found, listed, shown, removed.
mod models;
// Downloading models.
mod pull;
mod remote;
// Models at servers: answers, keys, what may leave this machine, and every fault.
mod servers;
// Conversations as files: exported, and imported from other programs.
mod exchange;
// Files that are not models, broken, or too large.
mod files;
// `fireside check`.
mod check;
// Thousands of damaged model files.
mod mutants;
// Signals to the program itself.
mod crash;
// Instructions that the compiler gets wrong or the processor lacks.
pub(crate) mod processor;
// Vocabularies with another tokenizer than theirs.
mod tokenizers;
// Very long texts of one class of characters.
pub(crate) mod runs;
// Saved conversations.
pub(crate) mod history;
// Chats and single questions, treated alike.
mod conversations;
// The branches of a conversation, and what adds them; answers that the user begins.
mod branches;
mod beginnings;
// Files that the user names: exports and input.
mod named;
// Markdown in answers.
mod markdown;
// Bugs from daily use.
mod daily;
// Choosing from a list.
mod picker;
// `--incognito`, checked by the system calls.
mod incognito;
// The database: of older versions, and damaged.
pub(crate) mod databases;
mod damage;
// A disk that is full, a database without access or locked.
mod trouble;
// fireside's own folders and files: permissions, links, locks of other programs, wrong clocks.
mod places;
// Stored answers, generated again.
mod replay;
// The thinking before an answer.
mod thinking;
// Conversations that no longer fit the context.
mod overflow;
// The chat, line by line, without a terminal.
mod repl;
// The chat in a real pseudo-terminal: the line being typed, and the rest.
mod keys;
mod pty;
// The line editor: vi, hints, menus, the external editor, the search.
mod typing;
// What a chat shows besides the answer: what is typed meanwhile, the prompt, counters.
mod status;
mod drafts;
mod questions;
// Whole words on any terminal.
mod screen;
// The screens of a chat at three widths.
mod widths;
// Pictures of the screen for the README.
mod screenshots;
// Bold, dim, red, or no colour.
mod colours;
// Counts, sizes and durations as people read them.
mod figures;
// Content that looks like control tokens.
mod forgery;
// Answers equal to those of a plain llama.cpp loop, whatever was cached, cut or grown before.
pub(crate) mod exact;
// Building for a GPU, and answers on one.
mod gpu;
// Contexts that find no memory.
mod growth;
// Batches: several sequences, cancelled ones, impossible ones.
mod batches;
// What is chosen by measurement.
mod measured;
// A file loaded in two halves.
mod loading;
// Matrix products of our own.
mod products;
// What of a model goes to which device.
mod placement;
// The figures of docs/big-models.md.
mod big_models;
// Lent machines: their answers, their gate, their faults.
mod workers;
// The same with drafts.
mod speculative;
// Families of models, compared with their reference implementation; and the conversion of some.
mod families;
mod convert;
// The prompt cache on disk: used, but checked.
mod prompt_cache;
// Conversations interrupted at every turn; cached prompts damaged a thousand times.
mod resumed;
// Recurrent and hybrid models: checkpoints in memory and on disk.
mod recurrent;
// Comparison with other programs on the same input.
mod conformance;
