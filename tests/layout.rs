//! The layout of the code: which part may import which, no circles inside a part, each crate named in few
//! files, a header in every file, no file too long, and the field's words. Reads every file whole, as the
//! compiler does, without its tests.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use fireside::repl::commands::COMMANDS;
use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{Attribute, ImplItem, Item, Macro, UseTree};

use crate::support::repository;

/// Longest source file in lines: without its tests, and with them.
const MOST_CODE: usize = 400;
const MOST_LINES: usize = 600;

/// The parts that each part may import besides itself. Those in the first list, and `main`, may import
/// everything below them.
const MAY_IMPORT_ALL: &[&str] = &["app", "open_session"];
const ARROWS: &[(&str, &[&str])] = &[
    ("oneshot", &["chat", "cli", "failure", "files", "input", "session", "settings", "ui", "units"]),
    (
        "repl",
        &[
            "chat", "failure", "files", "history", "input", "models", "saved", "session", "settings",
            "suggest", "ui", "units",
        ],
    ),
    (
        "commands",
        &[
            "chat",
            "cli",
            "clock",
            "completions",
            "convert",
            "failure",
            "files",
            "gguf",
            "history",
            "hub",
            "input",
            "model_state",
            "models",
            "rpc",
            "saved",
            "session",
            "settings",
            "suggest",
            "ui",
            "units",
        ],
    ),
    ("completions", &["cli", "failure", "history", "models", "saved", "settings", "ui"]),
    ("cli", &["chat", "failure", "files", "settings", "suggest"]),
    ("saved", &["chat", "clock", "failure", "files", "history", "input", "settings", "ui", "units"]),
    (
        "failure",
        &[
            "backend", "chat", "convert", "engine", "gguf", "history", "hub", "input", "models", "rpc",
            "session", "settings", "suggest", "ui", "units",
        ],
    ),
    ("session", &["backend", "chat", "clock", "history", "models", "settings"]),
    (
        "models",
        &[
            "backend",
            "chat",
            "engine",
            "files",
            "gguf",
            "hub",
            "input",
            "model_state",
            "processor",
            "rpc",
            "settings",
            "suggest",
            "ui",
            "units",
        ],
    ),
    ("backend", &["chat", "engine", "files", "http", "model_state", "settings", "units"]),
    ("engine", &["chat", "clock", "files", "rpc", "settings", "units"]),
    ("convert", &["files", "gguf", "units"]),
    ("gguf", &["units"]),
    ("history", &["chat", "clock", "files", "units"]),
    ("hub", &["clock", "files", "http", "model_state", "suggest", "units"]),
    ("http", &["clock", "files"]),
    ("model_state", &["files"]),
    ("rpc", &["files"]),
    ("input", &["chat", "files", "ui"]),
    ("ui", &["chat", "units"]),
    ("settings", &["chat", "files", "suggest"]),
    ("chat", &[]),
    ("suggest", &[]),
    ("processor", &[]),
    ("clock", &[]),
    ("files", &[]),
    ("units", &[]),
];

/// Crates that only these files may name.
const HOMES: &[(&str, &[&str])] = &[
    (
        "llama_cpp_2",
        &[
            "engine/llama.rs",
            "engine/llama/devices.rs",
            "engine/llama/facts.rs",
            "engine/llama/fallback.rs",
            "engine/llama/weights.rs",
            "engine/sampler.rs",
        ],
    ),
    (
        "llama_cpp_sys_2",
        &[
            "engine/llama/attention.rs",
            "engine/llama/bandwidth.rs",
            "engine/llama/computer.rs",
            "engine/llama/context.rs",
            "engine/llama/devices.rs",
            "engine/llama/ggml.rs",
            "engine/llama/lent.rs",
            "engine/llama/log.rs",
            "engine/llama/placement.rs",
            "engine/llama/plugins.rs",
            "engine/llama/prefill_threads.rs",
            "engine/llama/repack.rs",
            "engine/llama/weights.rs",
            "engine/llama/workers.rs",
        ],
    ),
    ("llguidance", &["engine/constraint.rs", "engine/constraint/matcher.rs", "engine/constraint/regex.rs"]),
    ("regex_syntax", &["engine/constraint/regex.rs"]),
    ("landlock", &["rpc/sandbox.rs"]),
    ("seccompiler", &["rpc/sandbox.rs"]),
    ("minijinja", &["engine/prompt/jinja.rs", "engine/prompt/jinja/python.rs"]),
    ("aho_corasick", &["engine/prompt/markers.rs", "engine/prompt/encode.rs"]),
    (
        "rustyline",
        &["repl/editor/assistant.rs", "repl/editor/full.rs", "repl/editor/keys.rs", "repl/editor/menu.rs"],
    ),
    ("indicatif", &["ui/progress.rs"]),
    ("ignore", &["input/folder.rs"]),
    ("globset", &["input/folder.rs"]),
    ("pulldown_cmark", &["chat/blocks.rs", "ui/markdown/inline.rs"]),
    ("syntect", &["ui/markdown/code.rs"]),
    ("two_face", &["ui/markdown/code.rs"]),
    (
        "clap",
        &[
            "cli.rs",
            "cli/config.rs",
            "cli/help.rs",
            "cli/history.rs",
            "cli/man.rs",
            "cli/output.rs",
            "cli/refusal.rs",
            "cli/score.rs",
            "cli/translate.rs",
            "cli/worker.rs",
            "completions.rs",
        ],
    ),
    ("clap_mangen", &["cli/man.rs"]),
    ("clap_complete", &["completions.rs"]),
    ("etcetera", &["settings/paths.rs"]),
    ("textwrap", &["ui/terminal.rs", "ui/wrap.rs"]),
    ("terminal_size", &["ui/terminal.rs"]),
    (
        "sha2",
        &[
            "gguf/fingerprint.rs",
            "gguf/verify.rs",
            "hub/checksums.rs",
            "history/exchange/import/identity.rs",
            "models/package.rs",
        ],
    ),
    ("blake3", &["engine/prompt_cache/file.rs", "rpc/token.rs"]),
    ("zip", &["history/exchange/import/archive.rs", "models/package.rs"]),
    ("ureq", &["http/mod.rs"]),
    ("safetensors", &["convert/checkpoint.rs", "convert/encode.rs"]),
    ("half", &["convert/encode.rs"]),
    (
        "rusqlite",
        &[
            "history/database.rs",
            "history/database/search.rs",
            "history/database/open.rs",
            "history/database/recover.rs",
        ],
    ),
];

/// Files that may have unsafe code.
const UNSAFE: &[&str] = &[
    "main.rs",
    "engine/llama/attention.rs",
    "engine/llama/bandwidth.rs",
    "engine/llama/computer.rs",
    "engine/llama/context.rs",
    "engine/llama/devices.rs",
    "engine/llama/ggml.rs",
    "engine/llama/lent.rs",
    "engine/llama/log.rs",
    "engine/llama/pages.rs",
    "engine/llama/placement.rs",
    "engine/llama/plugins.rs",
    "engine/llama/prefill_threads.rs",
    "engine/llama/repack.rs",
    "engine/llama/weights.rs",
    "engine/llama/workers.rs",
    "ui/crash.rs",
];

/// Files and folders whose errors are typed: they name no option and no slash command. `failure` words their
/// messages.
const UNWORDED: &[&str] = &[
    "backend/",
    "convert/",
    "engine/",
    "gguf/",
    "history/",
    "hub/",
    "input.rs",
    "models/",
    "rpc/",
    "session.rs",
    "session/",
];

/// Those of them in which a literal without white space may be an argument of another program.
const ARGUMENTS: &[&str] = &[
    "backend/remote/client.rs",
    "engine/prompt/jinja/apart.rs",
    "models/open.rs",
    "models/package.rs",
    "models/probe.rs",
];

/// One source file.
struct Source {
    /// The path below `src`, as in `hub/mod.rs`.
    name: String,
    /// The module, as in `hub` or `engine::prompt`; empty for `lib.rs` and `main.rs`.
    module: Vec<String>,
    text: String,
    /// The lines of tests, counted from 1.
    tests: Vec<RangeInclusive<usize>>,
    /// The paths into the crate that the code names outside tests, each from the root.
    imports: BTreeSet<Vec<String>>,
}

impl Source {
    fn read(name: String, text: String) -> Source {
        let file = syn::parse_file(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        let mut module: Vec<String> = name.trim_end_matches(".rs").split('/').map(String::from).collect();
        module.pop_if(|last| ["mod", "lib", "main"].contains(&last.as_str()));
        let mut found = Imports { module: &module, tests: Vec::new(), paths: BTreeSet::new() };
        found.visit_file(&file);
        let Imports { tests, paths, .. } = found;
        Source { name, module, text, tests, imports: paths }
    }

    fn is_test(&self, line: usize) -> bool {
        self.tests.iter().any(|lines| lines.contains(&line))
    }

    /// Its lines outside of tests.
    fn code(&self) -> impl Iterator<Item = &str> {
        self.text.lines().enumerate().filter(|(at, _)| !self.is_test(at + 1)).map(|(_, line)| line)
    }
}

struct Imports<'a> {
    module: &'a [String],
    tests: Vec<RangeInclusive<usize>>,
    paths: BTreeSet<Vec<String>>,
}

impl Imports<'_> {
    /// Whether these attributes make the item a test; records its lines.
    fn skips(&mut self, attributes: &[Attribute], item: &impl Spanned) -> bool {
        let is_test = |attribute: &Attribute| {
            attribute.path().is_ident("cfg")
                && attribute.parse_args::<syn::Path>().is_ok_and(|path| path.is_ident("test"))
        };
        let test = attributes.iter().any(is_test);
        if test {
            self.tests.push(item.span().start().line..=item.span().end().line);
        }
        test
    }

    /// Records a path as written, if it leads into this crate.
    fn note(&mut self, path: &[String]) {
        let Some((first, rest)) = path.split_first() else { return };
        let mut base = match first.as_str() {
            "crate" => Vec::new(),
            "self" => self.module.to_vec(),
            "super" => self.module[..self.module.len().saturating_sub(1)].to_vec(),
            _ => return,
        };
        let mut rest = rest;
        while let Some((_, after)) = rest.split_first().filter(|(next, _)| *next == "super") {
            base.pop();
            rest = after;
        }
        base.extend_from_slice(rest);
        self.paths.insert(base);
    }

    fn tree(&mut self, tree: &UseTree, before: &[String]) {
        let with = |name: &syn::Ident| [before, &[name.to_string()]].concat();
        match tree {
            UseTree::Path(path) => self.tree(&path.tree, &with(&path.ident)),
            UseTree::Name(name) => self.note(&with(&name.ident)),
            UseTree::Rename(name) => self.note(&with(&name.ident)),
            UseTree::Glob(_) => self.note(before),
            UseTree::Group(group) => group.items.iter().for_each(|item| self.tree(item, before)),
        }
    }

    /// Records the paths among the tokens of a macro call, which syn does not parse.
    fn tokens(&mut self, tokens: TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Ident(name) if colons == 2 || path.is_empty() => path.push(name.to_string()),
                TokenTree::Ident(name) => {
                    self.note(&path);
                    path = vec![name.to_string()];
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' => {
                    colons += 1;
                    continue;
                }
                other => {
                    self.note(&path);
                    path.clear();
                    if let TokenTree::Group(group) = other {
                        self.tokens(group.stream());
                    }
                }
            }
            colons = 0;
        }
        self.note(&path);
    }
}

impl<'ast> Visit<'ast> for Imports<'_> {
    fn visit_item(&mut self, item: &'ast Item) {
        let attributes: &[Attribute] = match item {
            Item::Mod(item) => &item.attrs,
            Item::Fn(item) => &item.attrs,
            Item::Use(item) => &item.attrs,
            Item::Impl(item) => &item.attrs,
            Item::Struct(item) => &item.attrs,
            Item::Const(item) => &item.attrs,
            _ => &[],
        };
        if self.skips(attributes, item) {
            return;
        }
        if let Item::Use(used) = item {
            return self.tree(&used.tree, &[]);
        }
        visit::visit_item(self, item);
    }

    fn visit_impl_item(&mut self, item: &'ast ImplItem) {
        let attributes: &[Attribute] = match item {
            ImplItem::Fn(item) => &item.attrs,
            ImplItem::Const(item) => &item.attrs,
            _ => &[],
        };
        if !self.skips(attributes, item) {
            visit::visit_impl_item(self, item);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let names: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        self.note(&names);
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast Macro) {
        self.tokens(call.tokens.clone());
        visit::visit_macro(self, call);
    }
}

fn sources() -> Vec<Source> {
    let root = repository().join("src");
    let mut files = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path: PathBuf = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(&root).unwrap().to_str().unwrap().to_string();
                files.push(Source::read(name, fs::read_to_string(path).unwrap()));
            }
        }
    }
    assert!(files.len() > 150);
    files
}

#[test]
fn every_file_says_what_it_is_for_and_is_not_too_long() {
    for source in sources() {
        let name = &source.name;
        assert!(source.text.starts_with("//! "), "{name} has no header");
        let (code, lines) = (source.code().count(), source.text.lines().count());
        assert!(code <= MOST_CODE, "{name} has {code} lines without its tests: are these two files?");
        assert!(lines <= MOST_LINES, "{name} has {lines} lines: are these two files?");
    }
}

#[test]
fn arrows_point_down_only() {
    let allowed: BTreeMap<&str, &[&str]> = ARROWS.iter().copied().collect();
    for source in sources() {
        let Some(room) = source.module.first() else { continue };
        let Some(allowed) = allowed.get(room.as_str()) else {
            assert!(MAY_IMPORT_ALL.contains(&room.as_str()), "{room} has no row in ARROWS");
            continue;
        };
        for to in source.imports.iter().filter_map(|path| path.first()) {
            assert!(to == room || allowed.contains(&to.as_str()), "{} imports {to}", source.name);
        }
    }
    for (room, below) in ARROWS {
        for other in *below {
            let above = allowed.get(other).is_some_and(|allowed| allowed.contains(room));
            assert!(!above, "{room} and {other} may import each other");
        }
    }
}

#[test]
fn no_folder_has_a_circle_of_imports() {
    let sources = sources();
    let modules: BTreeSet<&[String]> = sources.iter().map(|source| &source.module[..]).collect();
    // For each folder: which of its files and folders imports which.
    let mut folders: BTreeMap<&[String], BTreeMap<&str, BTreeSet<&str>>> = BTreeMap::new();
    for source in &sources {
        for to in source.imports.iter().filter_map(|path| file_of(path, &modules)) {
            let shared = source.module.iter().zip(to).take_while(|(one, other)| one == other).count();
            if let (Some(from), Some(to)) = (source.module.get(shared), to.get(shared)) {
                folders.entry(&source.module[..shared]).or_default().entry(from).or_default().insert(to);
            }
        }
    }
    for (folder, arrows) in folders {
        for start in arrows.keys() {
            let (mut seen, mut next) = (BTreeSet::new(), vec![*start]);
            while let Some(to) = next.pop() {
                for further in arrows.get(to).into_iter().flatten() {
                    assert!(
                        further != start,
                        "{}: {start} imports {to}, which leads back to it",
                        folder.join("::")
                    );
                    if seen.insert(*further) {
                        next.push(further);
                    }
                }
            }
        }
    }
}

#[test]
fn modules_are_listed_in_the_order_of_the_arrows() {
    let lib = fs::read_to_string(repository().join("src/lib.rs")).unwrap();
    let modules: Vec<&str> =
        lib.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')).collect();
    for (place, part) in modules.iter().enumerate() {
        for (_, below) in ARROWS.iter().filter(|(name, _)| name == part) {
            let above = below.iter().find(|name| !modules[place..].contains(name));
            assert!(above.is_none(), "{part} may import {above:?}, which src/lib.rs lists above it");
        }
    }
}

#[test]
fn only_what_talks_to_people_names_options_and_commands() {
    let sources = sources();
    for room in UNWORDED.iter().chain(ARGUMENTS) {
        assert!(sources.iter().any(|source| source.name.starts_with(room)), "src has no {room}");
    }
    for source in sources {
        let name = &source.name;
        if !UNWORDED.iter().any(|room| name.starts_with(room)) {
            continue;
        }
        let code = source.code().collect::<Vec<_>>().join("\n");
        for literal in literals(code.parse().unwrap()) {
            let argument = ARGUMENTS.contains(&name.as_str()) && !literal.contains(' ');
            let named = option_or_command(&literal).filter(|_| !argument);
            assert!(named.is_none(), "{name} names {} in {literal}: src/failure does that", named.unwrap());
        }
    }
}

#[test]
fn options_and_commands_are_seen_in_literals_only() {
    let code = r##"
        /// Not "--this".
        #[error("x \"--one\"")] struct A; // nor "-m"
        fn b(c: &'static str) { let d = (r#"say "/help" "#, '"'); /* "-n" */ e("<!-- - /proc/help {%--x", "-t") }
    "##;
    let literals = literals(code.parse().unwrap());
    let named: Vec<String> = literals.iter().filter_map(|text| option_or_command(text)).collect();
    assert_eq!(named, ["--one", "/help", "-t"]);
}

/// The literals in code as written, also those in attributes, but not comments.
fn literals(code: TokenStream) -> Vec<String> {
    let mut found = Vec::new();
    for token in code {
        match token {
            TokenTree::Literal(literal) => found.push(literal.to_string()),
            TokenTree::Group(group) if !is_doc(&group) => found.extend(literals(group.stream())),
            _ => {}
        }
    }
    found
}

/// `[doc = "…"]`, which a comment of three slashes becomes.
fn is_doc(group: &Group) -> bool {
    let first = group.stream().into_iter().next();
    group.delimiter() == Delimiter::Bracket && first.is_some_and(|token| token.to_string() == "doc")
}

/// The first `--option`, `-o` or `/command` in a text.
fn option_or_command(text: &str) -> Option<String> {
    let is_command = |word: &str| COMMANDS.iter().any(|c| c.name == word || c.aliases.contains(&word));
    let text = text.replace("\\n", " ");
    let words = text.split(|c: char| c.is_whitespace() || "\\\"'`()[],;:=?".contains(c));
    let mut words = words.map(|word| word.trim_end_matches('.'));
    let named =
        words.find(|word| match (word.strip_prefix("--"), word.strip_prefix('-'), word.strip_prefix('/')) {
            (Some(long), ..) => long.starts_with(|c: char| c.is_ascii_lowercase() || c == '{'),
            (_, Some(short), _) => short.len() == 1 && short.starts_with(|c: char| c.is_ascii_alphabetic()),
            (.., Some(command)) => is_command(command),
            _ => false,
        });
    named.map(String::from)
}

/// The file that a path leads into: its longest prefix that is a file.
fn file_of<'a>(path: &'a [String], modules: &BTreeSet<&[String]>) -> Option<&'a [String]> {
    (1..=path.len()).rev().map(|length| &path[..length]).find(|path| modules.contains(path))
}

#[test]
fn each_heavy_crate_is_named_in_one_place() {
    for source in sources() {
        for (heavy, homes) in HOMES {
            let names = format!("{heavy}::");
            let named =
                source.text.lines().any(|line| !line.trim_start().starts_with("//") && line.contains(&names));
            assert!(!named || homes.contains(&source.name.as_str()), "{} names {heavy}", source.name);
        }
    }
}

#[test]
fn unsafe_code_stays_in_few_files() {
    for source in sources() {
        let code = source.text.lines().filter(|line| !line.trim_start().starts_with("//"));
        let found = code.into_iter().any(|line| line.contains("unsafe {") || line.contains("unsafe fn"));
        assert!(!found || UNSAFE.contains(&source.name.as_str()), "{} has unsafe code", source.name);
    }
}

/// Unusual words, each with the field's word, and the files that may use it as another program's term.
const REFUSED: &[(&str, &str, &[&str])] = &[
    ("guess", "draft, speculative", &["chat/settings.rs"]),
    ("snapshot", "prompt cache", &["hub/", "models/", "engine/prompt_cache/folder.rs", "chat/settings.rs"]),
    ("foresight", "oracle", &[]),
    ("weigh", "token counts", &[]),
    ("settle", "resolve, flush, wait", &[]),
    ("undone", "failed", &[]),
    ("sought", "special ids", &[]),
    ("vouch", "mark verified", &[]),
    ("mend", "lossy", &[]),
    ("salvage", "recover", &[]),
    ("sheet", "model card", &[]),
    ("verb", "subcommand", &[]),
];

#[test]
fn the_words_are_those_of_the_field() {
    let forms_of = |word: &str| ["", "s", "d", "ed", "es", "ing"].map(|end| format!("{word}{end}"));
    for (word, better, homes) in REFUSED {
        let forms = forms_of(word);
        let check = |name: &str, text: &str| {
            for (at, line) in text.lines().enumerate() {
                let found = words_of(line).into_iter().find(|found| forms.contains(found));
                let home = homes.iter().any(|home| name.starts_with(home));
                assert!(
                    home || found.is_none(),
                    "{name}:{}: '{}' (rather: {better})",
                    at + 1,
                    found.unwrap()
                );
            }
        };
        sources().iter().for_each(|source| check(&source.name, &source.text));
        crate::tidy::pages()
            .iter()
            .filter(|(name, _)| name != "CHANGELOG.md")
            .for_each(|(name, text)| check(name, text));
    }
}

/// The words of a line in lower case; identifiers are split: `PromptCache`, `prompt_cache` and `prompt cache`
/// are two words.
fn words_of(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut before = ' ';
    for c in line.chars() {
        if !c.is_alphabetic() || (c.is_uppercase() && before.is_lowercase()) {
            words.push(String::new());
        }
        if c.is_alphabetic() {
            words.last_mut().unwrap().extend(c.to_lowercase());
        }
        before = c;
    }
    words.retain(|word| !word.is_empty());
    words
}
