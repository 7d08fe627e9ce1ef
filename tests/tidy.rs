//! Compares the docs with the code: their tables, their links, the README's length, and text that is in two
//! places. `UPDATE_DOCS=1 cargo test --release --locked --test tests -- tidy::` rewrites the tables.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use clap::{Arg, Command, CommandFactory};
use fireside::cli::Args;
use fireside::engine::prompt::builtin::BUILTIN;
use fireside::models::catalogue::catalogue;
use fireside::models::licences::judge;
use fireside::models::memory::Needs;
use fireside::repl::commands::{COMMANDS, KEYS};
use fireside::settings::SETTINGS;
use fireside::units::size;

use crate::families::references;
use crate::support::repository;

#[test]
fn the_binding_is_the_one_that_is_pinned() {
    let manifest = fs::read_to_string(repository().join("Cargo.toml")).unwrap();
    for pinned in fireside::engine::llama::BINDING.split(", ") {
        let (name, version) = pinned.split_once(' ').unwrap();
        let pins = [format!("{name} = \"={version}\""), format!("{name} = {{ version = \"={version}\"")];
        assert!(pins.iter().any(|pin| manifest.contains(pin)), "Cargo.toml does not pin {pinned}");
    }
}

#[test]
fn the_default_model_is_the_same_everywhere() {
    let entry = catalogue().values().find(|entry| entry.demonstration).unwrap();
    let read = |file: &str| fs::read_to_string(repository().join(file)).unwrap();
    assert!(read("Makefile").contains(&entry.file));
    for fact in [entry.file.clone(), entry.sha256.clone(), entry.size.to_string()] {
        assert!(read("scripts/fetch-model").contains(&fact), "scripts/fetch-model lacks {fact}");
    }
}

#[test]
fn tables_in_the_docs_match_the_code() {
    for (file, name, table) in [
        ("docs/configuration.md", "options of one run", of_one_run()),
        ("docs/configuration.md", "options", options()),
        ("docs/configuration.md", "subcommands", subcommands()),
        ("docs/chat.md", "commands", commands()),
        ("docs/chat.md", "keys", keys()),
        ("docs/models.md", "catalogue", models()),
        ("docs/models.md", "families", families()),
        ("docs/models.md", "templates", templates()),
    ] {
        let same = |now: &str, fresh: &str| now == fresh;
        check_table(file, name, &table, same, "cargo test --release tidy");
    }
}

/// Compares the text between `<!-- name -->` and `<!-- end -->` in a page with `table`, by `same`. If
/// `UPDATE_DOCS` is set, writes the table there instead.
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

fn shown(command: &Command) -> impl Iterator<Item = &Arg> {
    command.get_arguments().filter(|arg| !arg.is_hide_set() && !arg.is_positional())
}

/// The options that are no settings.
fn of_one_run() -> String {
    let command = Args::command();
    let names = shown(&command).filter_map(Arg::get_long);
    let names = names.filter(|name| SETTINGS.iter().all(|row| row.name != *name));
    format!("{}\n", names.map(|name| format!("`--{name}`")).collect::<Vec<_>>().join(", "))
}

fn options() -> String {
    let command = Args::command();
    let shown: Vec<&Arg> = shown(&command).collect();
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

fn keys() -> String {
    let rows = KEYS.iter().map(|(key, does)| format!("| {} | {} |\n", cell(key), cell(does)));
    format!("| key | |\n|---|---|\n{}", rows.collect::<String>())
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
        "| name | model | file | size | memory | licence | recommended |\n|---|---|---|---|---|---|---|\n",
    );
    let mut entries: Vec<_> = catalogue().iter().collect();
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

/// The models that tests/families.rs compares.
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
pub(crate) fn pages() -> Vec<(String, String)> {
    let folders = ["", "docs/"].map(|folder| (folder, fs::read_dir(repository().join(folder)).unwrap()));
    let names = folders.into_iter().flat_map(|(folder, entries)| {
        entries.map(move |entry| format!("{folder}{}", entry.unwrap().file_name().to_str().unwrap()))
    });
    let pages = names.filter(|name| name.ends_with(".md"));
    pages.map(|name| (name.clone(), fs::read_to_string(repository().join(name)).unwrap())).collect()
}

/// The anchors that the headings of a page get: lower case, spaces as hyphens, no punctuation.
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

/// Options of other programs that the docs mention.
const OTHER_OPTIONS: &[&str] = &[
    "bench",
    "build",
    "features",
    "gpu",
    "lib",
    "locked",
    "nocapture",
    "only",
    "path",
    "release",
    "shapes",
    "staged",
    "test",
    "tools",
];

#[test]
fn options_in_the_docs_exist() {
    let command = Args::command();
    let mut commands = vec![&command];
    let mut options: Vec<&str> = OTHER_OPTIONS.to_vec();
    options.extend(["help", "version"]);
    while let Some(command) = commands.pop() {
        commands.extend(command.get_subcommands());
        options.extend(
            command.get_arguments().flat_map(|arg| arg.get_long_and_visible_aliases().unwrap_or_default()),
        );
    }
    for (page, text) in pages().into_iter().filter(|(name, _)| name != "CHANGELOG.md") {
        for (at, _) in text.match_indices("--") {
            let before = text[..at].chars().next_back();
            let name: String = text[at + 2..]
                .chars()
                .take_while(|c| c.is_ascii_lowercase() || *c == '-' || c.is_ascii_digit())
                .collect();
            let is_option = matches!(before, Some(' ' | '`' | '(' | '\'' | '='))
                && name.starts_with(|c: char| c.is_ascii_lowercase());
            assert!(!is_option || options.contains(&name.as_str()), "{page}: --{name}");
        }
    }
}
