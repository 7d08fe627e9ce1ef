//! The layout that the code promises: which part may import which, one crate in one file, a header in every file; and
//! the docs: their tables against the code, their links and the README's length. `UPDATE_DOCS=1 cargo test --release
//! tidy` rewrites the tables.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use clap::{Arg, CommandFactory};
use fireside::cli::Args;
use fireside::engine::prompt::builtin::BUILTIN;
use fireside::models::catalog::catalog;
use fireside::models::licences::judge;
use fireside::models::memory::Needs;
use fireside::repl::commands::COMMANDS;
use fireside::units::size;
use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};

use crate::families::references;
use crate::support::repository;

/// Longest source file, tests included.
const MOST_LINES: usize = 600;

/// What each part may import besides itself. `main`, `app` and `open` may import everything.
const ARROWS: &[(&str, &[&str])] = &[
    (
        "repl",
        &[
            "clock", "files", "history", "session", "saved", "models", "input", "ui", "chat", "error",
            "units", "suggest",
        ],
    ),
    ("completions", &["ui", "cli", "config", "saved", "models", "history", "chat", "error"]),
    ("oneshot", &["session", "input", "ui", "chat", "error"]),
    (
        "commands",
        &[
            "clock",
            "files",
            "saved",
            "cli",
            "completions",
            "session",
            "convert",
            "models",
            "input",
            "settings",
            "gguf",
            "history",
            "hub",
            "ui",
            "chat",
            "suggest",
            "error",
            "units",
        ],
    ),
    ("session", &["clock", "backend", "config", "history", "chat", "error"]),
    (
        "models",
        &[
            "files",
            "backend",
            "config",
            "engine",
            "gguf",
            "hub",
            "input",
            "chat",
            "suggest",
            "error",
            "units",
            "processor",
        ],
    ),
    ("saved", &["clock", "files", "config", "input", "history", "ui", "chat", "error", "units"]),
    ("failure", &["convert", "hub", "suggest", "error"]),
    ("input", &["files", "ui", "chat", "error"]),
    ("config", &["files", "cli", "chat", "error", "suggest"]),
    ("cli", &["chat", "error"]),
    ("backend", &["files", "engine", "chat", "error", "units"]),
    ("engine", &["clock", "files", "chat", "error"]),
    ("history", &["clock", "files", "chat", "error", "units"]),
    ("hub", &["clock", "files", "models", "chat", "error", "units", "suggest"]),
    ("ui", &["chat", "error", "units"]),
    ("convert", &["files", "gguf", "error", "units"]),
    ("gguf", &["units"]),
    ("settings", &["files", "chat", "error", "nearest"]),
    ("chat", &[]),
    ("suggest", &[]),
    ("processor", &[]),
    ("clock", &[]),
    ("files", &[]),
    ("units", &[]),
    ("error", &[]),
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
            "engine/llama.rs",
            "engine/llama/devices.rs",
            "engine/llama/ggml.rs",
            "engine/llama/log.rs",
            "engine/llama/weights.rs",
        ],
    ),
    ("minijinja", &["engine/prompt/jinja.rs", "engine/prompt/jinja/python.rs"]),
    ("aho_corasick", &["engine/prompt/markers.rs", "engine/prompt/encode.rs"]),
    ("rustyline", &["repl/editor.rs"]),
    ("indicatif", &["ui/progress.rs"]),
    ("clap", &["cli.rs", "cli/help.rs", "cli/refusal.rs", "completions.rs"]),
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
            "history/exchange/identity.rs",
            "models/package.rs",
        ],
    ),
    ("blake3", &["engine/prompt_cache/file.rs"]),
    ("zip", &["history/exchange/archive.rs", "models/package.rs"]),
    ("ureq", &["hub/http.rs"]),
    ("safetensors", &["convert/checkpoint.rs", "convert/encode.rs"]),
    ("half", &["convert/encode.rs"]),
    (
        "rusqlite",
        &[
            "history/database.rs",
            "history/database/search.rs",
            "history/database/open.rs",
            "history/database/checksums.rs",
            "history/database/recover.rs",
        ],
    ),
];

/// Files and folders whose errors are typed: they know no option and no slash command. `failure` words what they say.
const UNWORDED: &[&str] = &["convert/", "hub/"];

fn sources() -> Vec<(String, String)> {
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
                files.push((name, fs::read_to_string(path).unwrap()));
            }
        }
    }
    assert!(files.len() > 30);
    files
}

#[test]
fn every_file_says_what_it_is_for_and_is_not_too_long() {
    for (name, text) in sources() {
        assert!(text.starts_with("//! "), "{name} has no header");
        let lines = text.lines().count();
        assert!(lines <= MOST_LINES, "{name} has {lines} lines: are these two files?");
    }
}

#[test]
fn arrows_point_down_only() {
    let allowed: BTreeMap<&str, &[&str]> = ARROWS.iter().copied().collect();
    for (name, text) in sources() {
        let part = name.split(['/', '.']).next().unwrap();
        let Some(allowed) = allowed.get(part) else {
            assert!(["main", "lib", "app", "open"].contains(&part), "{part} has no row in ARROWS");
            continue;
        };
        let code = text.split("#[cfg(test)]").next().unwrap();
        for import in code.split("crate::").skip(1) {
            let to: String = import.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            assert!(to.is_empty() || to == part || allowed.contains(&to.as_str()), "{name} imports {to}");
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
    for (name, text) in sources() {
        if !UNWORDED.iter().any(|room| name.starts_with(room)) {
            continue;
        }
        let code = text.split("#[cfg(test)]\nmod ").next().unwrap();
        for literal in literals(code.parse().unwrap()) {
            let named = option_or_command(&literal);
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

/// The literals of some code as they are written, those of attributes too; comments are none.
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

#[test]
fn each_heavy_crate_is_named_in_one_place() {
    for (name, text) in sources() {
        for (heavy, homes) in HOMES {
            let named = text
                .lines()
                .any(|line| !line.trim_start().starts_with("//") && line.contains(&format!("{heavy}::")));
            assert!(!named || homes.contains(&name.as_str()), "{name} names {heavy}");
        }
    }
}

#[test]
fn unsafe_code_stays_in_a_few_files() {
    const FILES: [&str; 7] = [
        "main.rs",
        "engine/llama.rs",
        "engine/llama/devices.rs",
        "engine/llama/ggml.rs",
        "engine/llama/log.rs",
        "engine/llama/weights.rs",
        "ui/crash.rs",
    ];
    for (name, text) in sources() {
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        let found = code.into_iter().any(|line| line.contains("unsafe {") || line.contains("unsafe fn"));
        assert!(!found || FILES.contains(&name.as_str()), "{name} has unsafe code");
    }
}

#[test]
fn the_binding_is_the_one_that_is_pinned() {
    let manifest = fs::read_to_string(repository().join("Cargo.toml")).unwrap();
    for pinned in fireside::engine::llama::BINDING.split(", ") {
        let (name, version) = pinned.split_once(' ').unwrap();
        assert!(manifest.contains(&format!("{name} = \"={version}\"")), "Cargo.toml does not pin {pinned}");
    }
}

#[test]
fn the_default_model_is_the_same_everywhere() {
    let entry = catalog().values().find(|entry| entry.demonstration).unwrap();
    let read = |file: &str| fs::read_to_string(repository().join(file)).unwrap();
    assert!(read("Makefile").contains(&entry.file));
    for fact in [entry.file.clone(), entry.sha256.clone(), entry.size.to_string()] {
        assert!(read("scripts/fetch-model").contains(&fact), "scripts/fetch-model lacks {fact}");
    }
}

#[test]
fn tables_in_the_docs_match_the_code() {
    for (file, name, table) in [
        ("docs/configuration.md", "options", options()),
        ("docs/configuration.md", "subcommands", subcommands()),
        ("docs/chat.md", "commands", commands()),
        ("docs/models.md", "catalog", models()),
        ("docs/models.md", "families", families()),
        ("docs/models.md", "templates", templates()),
    ] {
        let same = |now: &str, fresh: &str| now == fresh;
        check_table(file, name, &table, same, "cargo test --release tidy");
    }
}

/// Compares what stands between `<!-- name -->` and `<!-- end -->` in a page with `table`, by `same`. With `UPDATE_DOCS`
/// set, writes it there instead.
pub(crate) fn check_table(
    file: &str,
    name: &str,
    table: &str,
    same: impl Fn(&str, &str) -> bool,
    update: &str,
) {
    let path = repository().join(file);
    let text = fs::read_to_string(&path).unwrap();
    let begin = format!("<!-- {name} -->\n");
    let (before, rest) = text.split_once(&begin).unwrap_or_else(|| panic!("{file} lacks {begin}"));
    let (now, after) = rest.split_once("<!-- end -->").expect("a table ends with <!-- end -->");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        return fs::write(&path, format!("{before}{begin}{table}<!-- end -->{after}")).unwrap();
    }
    assert!(same(now, table), "the table {name} in {file} is out of date: UPDATE_DOCS=1 {update}");
}

fn options() -> String {
    let command = Args::command();
    let shown: Vec<&Arg> =
        command.get_arguments().filter(|arg| !arg.is_hide_set() && !arg.is_positional()).collect();
    let mut groups: Vec<&str> = Vec::new();
    for arg in &shown {
        let group = arg.get_help_heading().unwrap_or_default();
        if !groups.contains(&group) {
            groups.push(group);
        }
    }
    let mut table = String::new();
    for group in groups {
        table += &format!("\n**{group}**\n\n| option | |\n|---|---|\n");
        for arg in shown.iter().filter(|arg| arg.get_help_heading().unwrap_or_default() == group) {
            table += &format!(
                "| {} | {} |\n",
                spelled(arg),
                cell(&arg.get_help().unwrap_or_default().to_string())
            );
        }
    }
    table + "\n"
}

fn spelled(arg: &Arg) -> String {
    let short = arg.get_short().map_or(String::new(), |s| format!("`-{s}`, "));
    let takes = arg.get_action().takes_values() && arg.get_num_args().is_none_or(|n| n.min_values() > 0);
    let value = arg.get_value_names().filter(|_| takes).map_or(String::new(), |v| format!(" {}", v[0]));
    let aliases: Vec<String> =
        arg.get_visible_aliases().unwrap_or_default().iter().map(|a| format!(", `--{a}`")).collect();
    format!("{short}`--{}{}`{}", arg.get_long().unwrap(), cell(&value), aliases.concat())
}

fn commands() -> String {
    let mut table = String::from("| command | |\n|---|---|\n");
    for c in COMMANDS {
        let aliases: Vec<String> = c.aliases.iter().map(|a| format!(" `/{a}`")).collect();
        let usage = format!("/{} {}", c.name, c.takes);
        table += &format!("| `{}`{} | {} |\n", cell(usage.trim_end()), aliases.concat(), cell(c.help));
    }
    table
}

fn subcommands() -> String {
    let mut table = String::from("| subcommand | |\n|---|---|\n");
    for subcommand in Args::command().get_subcommands() {
        let own = |arg: &&Arg| !arg.is_global_set() && arg.get_help_heading().is_none();
        let mut takes: Vec<String> = subcommand.get_arguments().filter(own).map(taken).collect();
        let inner: Vec<&str> = subcommand.get_subcommands().map(|inner| inner.get_name()).collect();
        takes.extend((!inner.is_empty()).then(|| inner.join("|")));
        let aliases: Vec<String> = subcommand.get_all_aliases().map(|alias| format!(" `{alias}`")).collect();
        let about = subcommand.get_about().unwrap_or_default().to_string();
        let usage = format!("{} {}", subcommand.get_name(), takes.join(" "));
        table += &format!("| `{}`{} | {} |\n", cell(usage.trim_end()), aliases.concat(), cell(&about));
    }
    table
}

fn models() -> String {
    let mut table = String::from(
        "| name | model | file | size | memory | licence | recomrepaired |\n|---|---|---|---|---|---|---|\n",
    );
    let mut entries: Vec<_> = catalog().iter().collect();
    entries.sort_by_key(|(_, entry)| entry.size);
    for (name, entry) in entries {
        let advice: Vec<String> =
            entry.sampling.iter().map(|(key, value)| format!("{key} {value}")).collect();
        let needed = Needs { weights: entry.size, per_token: 0.0 }.fixed();
        let licence = format!("{}: {}", entry.licence, judge([entry.licence.as_str()]).kind.name());
        let cells = [
            format!("`{name}`"),
            format!("[{}](https://huggingface.co/{})", entry.title, entry.repository),
            format!("`{}`", entry.file),
            size(entry.size),
            size(needed),
            licence,
            advice.join(", "),
        ];
        table += &format!("| {} |\n", cells.join(" | "));
    }
    table
}

/// What tests/families.rs compares.
fn families() -> String {
    let mut table = String::from("| family | compared with | prompts |\n|---|---|---|\n");
    for reference in references().values() {
        table += &format!(
            "| {} | `{}` | {} |\n",
            cell(&reference.covers),
            reference.reference,
            reference.cases.len()
        );
    }
    table
}

/// The built-in chat templates.
fn templates() -> String {
    let mut table = String::from("| name | the format of |\n|---|---|\n");
    for known in BUILTIN {
        table += &format!("| `{}` | {} |\n", known.name, known.models);
    }
    table
}

/// `MODEL`, `[MODEL]` or `[--all]`.
fn taken(arg: &Arg) -> String {
    let value = arg.get_value_names().map_or(String::new(), |names| names[0].to_string());
    match arg.get_long() {
        None if arg.is_required_set() => value,
        None => format!("[{value}]"),
        Some(long) => format!("[--{long}]"),
    }
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

/// The README, the files beside it and the pages of docs/, each with its text.
fn pages() -> Vec<(String, String)> {
    let folders = ["", "docs/"].map(|folder| (folder, fs::read_dir(repository().join(folder)).unwrap()));
    let names = folders.into_iter().flat_map(|(folder, entries)| {
        entries.map(move |entry| format!("{folder}{}", entry.unwrap().file_name().to_str().unwrap()))
    });
    let pages = names.filter(|name| name.ends_with(".md"));
    pages.map(|name| (name.clone(), fs::read_to_string(repository().join(name)).unwrap())).collect()
}

/// The anchors that the headings of a page get: lower case, spaces as hyphens, no other signs.
fn anchors(text: &str) -> Vec<String> {
    let mut code = false;
    let headings = text.lines().filter(|line| {
        code ^= line.starts_with("```");
        !code && line.starts_with('#')
    });
    let sign = |c: char| match c {
        ' ' => Some('-'),
        c if c.is_alphanumeric() || c == '-' || c == '_' => Some(c),
        _ => None,
    };
    headings
        .map(|heading| {
            heading.trim_start_matches('#').trim().to_lowercase().chars().filter_map(sign).collect()
        })
        .collect()
}

#[test]
fn links_in_the_docs_lead_somewhere() {
    let pages: BTreeMap<String, String> = pages().into_iter().collect();
    let mut checked = 0;
    for (name, text) in &pages {
        for link in text.split("](").skip(1) {
            let target = link.split(')').next().unwrap();
            if target.contains("://") {
                continue;
            }
            checked += 1;
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let folder = Path::new(name).parent().unwrap();
            let path = if file.is_empty() { PathBuf::from(name) } else { folder.join(file) };
            assert!(repository().join(&path).exists(), "{name}: {target}");
            let plain = path.to_str().unwrap().replace("docs/../", "");
            if !anchor.is_empty() {
                let known = pages.get(&plain).unwrap_or_else(|| panic!("{name}: {target} has no headings"));
                assert!(anchors(known).iter().any(|known| known == anchor), "{name}: {target}");
            }
        }
    }
    assert!(checked > 30, "{checked} links");
}

#[test]
fn every_page_is_in_the_index_and_the_readme_is_short() {
    let pages: BTreeMap<String, String> = pages().into_iter().collect();
    for page in pages.keys().filter_map(|name| name.strip_prefix("docs/")).filter(|page| *page != "README.md")
    {
        assert!(pages["docs/README.md"].contains(&format!("]({page})")), "docs/README.md lacks {page}");
        assert!(pages["README.md"].contains(&format!("](docs/{page})")), "README.md lacks {page}");
    }
    let lines = pages["README.md"].lines().count();
    assert!(lines <= 170, "README.md has {lines} lines: the reference belongs in docs/");
}
