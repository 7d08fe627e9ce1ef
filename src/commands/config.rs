//! `fireside config`: every setting with its value and where it comes from; the config file itself.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::{CommandContext, lossy, may_replace};
use crate::failure::{Exit, Failure};
use crate::files::{folder_of, own_folder, reason, write_named};
use crate::models::{self, library};
use crate::saved;
use crate::settings::{Assignment, Config, Paths, SETTINGS, Section, Setting, commented, setting};

/// The longest value in a table, in characters.
const LONGEST: usize = 60;

pub(super) fn run(what: Option<&str>, force: bool, context: &mut CommandContext) -> Result<Exit, Failure> {
    let config = context.config;
    let paths =
        || config.paths.as_ref().ok_or_else(|| Failure::new("there is no home folder for a config file"));
    match what {
        Some("init") => init(paths()?, force, context),
        _ if force => Err(Failure::usage("--force goes with config init")),
        None => show(context),
        Some("path") => context.print(&lossy(&paths()?.config_file)),
        Some(other) => {
            let failure = Failure::usage(format!("unexpected argument '{other}' found"));
            Err(failure.hint(match setting(other) {
                Some(row) => format!("fireside help {} explains that setting", row.name),
                None => "fireside config takes init or path".into(),
            }))
        }
    }
}

/// Writes a config file with every setting as a comment.
fn init(paths: &Paths, force: bool, context: &mut CommandContext) -> Result<Exit, Failure> {
    let file = &paths.config_file;
    let existing = may_replace(file, force, context)?;
    let folder = folder_of(file);
    let written = own_folder(folder).and_then(|()| write_named(file, commented().as_bytes(), existing));
    written.map_err(|e| match e.kind() {
        std::io::ErrorKind::AlreadyExists => saved::exists(file).hint("--force replaces it"),
        _ => Failure::new(format!("could not write {}: {}", file.display(), reason(&e))),
    })?;
    context.print(&lossy(file))
}

/// A value, the kind of its source, and its exact origin.
struct Row {
    setting: &'static Setting,
    value: String,
    source: String,
    origin: String,
}

fn show(context: &mut CommandContext) -> Result<Exit, Failure> {
    let config = context.config;
    let wanted = config.settings().model.as_ref().filter(|wanted| config.remote(wanted).is_none());
    let named = wanted.map(|wanted| models::find(config, wanted)).transpose();
    let missing = named.as_ref().err().map(|not_here| not_here.to_string());
    let problems: Vec<String> = config.wrong.iter().map(|wrong| wrong.what.clone()).chain(missing).collect();
    let (named, usual) = (named.ok().flatten(), models::usual(config));
    let path = named.as_ref().or(usual.as_ref());
    let advised = config.advised(path.map_or_else(Vec::new, |path| models::advised(config, path)));
    let rows: Vec<Row> = SETTINGS.iter().map(|row| row_of(row, &advised, usual.as_deref())).collect();
    if context.json {
        let object = object(config, &rows, &problems);
        return context.print_json(&object);
    }
    let text = text(config, path.map(PathBuf::as_path), &rows, &problems, context.screen.columns());
    context.print(&text)
}

fn row_of(row: &'static Setting, config: &Config, usual: Option<&Path>) -> Row {
    match usual {
        Some(path) if row.name == "model" && config.settings().model.is_none() => {
            let source = "the one used last, or the only one".to_string();
            Row { setting: row, value: lossy(path), source: source.clone(), origin: source }
        }
        _ => {
            let given = config.given_as(row.name);
            let as_given = if given == row.name { String::new() } else { format!(" (as {given})") };
            Row {
                setting: row,
                value: config.value(row),
                source: config.source(given).name().into(),
                origin: config.origin(given) + &as_given,
            }
        }
    }
}

/// `model`: the file in use.
fn text(
    config: &Config,
    model: Option<&Path>,
    rows: &[Row],
    problems: &[String],
    columns: Option<usize>,
) -> String {
    let head = config.paths.as_ref().map_or_else(
        || "# no home folder: no config file is read and nothing is saved".into(),
        |paths| {
            format!("# config file: {}\n# models: {}", paths.config_file.display(), paths.models.display())
        },
    );
    let most = if columns.is_none_or(|columns| columns >= 80) { 28 } else { 0 };
    let line = |name: &str, value: &str, origin: &str| {
        let value = if value.contains('\n') { saved::short(value, LONGEST) } else { value.to_string() };
        format!("{name:22} {value:most$} # {origin}")
    };
    let mut lines = vec![head];
    lines.extend(rows.iter().map(|row| line(row.setting.name, &row.value, &row.origin)));
    let servers = config.servers.iter();
    lines.extend(servers.map(|server| line(&format!("servers.{}", server.name), &server.url, "config file")));
    lines.extend(config.aliases.iter().map(|alias| {
        line(&format!("aliases.{}", alias.name), &alias.model, &format!("config.toml line {}", alias.line))
    }));
    for section in &config.sections {
        let holds: Vec<String> = section.assignments.iter().map(written).collect();
        let origin = format!("config.toml line {}{}", section.line, used(config, model, section));
        lines.push(line(&format!("models.{:?}", section.pattern), &holds.join(", "), &origin));
    }
    lines.extend(problems.iter().map(|problem| format!("# error: {problem}")));
    lines.join("\n")
}

/// `temp = 0.2`.
fn written(assignment: &Assignment) -> String {
    format!("{} = {}", assignment.setting.name, assignment.value)
}

/// A section that is for no model is probably a mistake.
fn used(config: &Config, model: Option<&Path>, section: &Section) -> &'static str {
    let is_for = |path: &Path| section.is_for(&models::names_of(config, path));
    let is_here = || library::list(&models::places(config)).iter().any(|model| is_for(&model.path));
    match section.pattern.contains('@') || model.is_some_and(is_for) || is_here() {
        true => "",
        false => "; no model on this machine has such a name",
    }
}

fn object(config: &Config, rows: &[Row], problems: &[String]) -> Value {
    let settings: Map<String, Value> = rows
        .iter()
        .map(|Row { setting, value, source, origin }| {
            (setting.name.into(), json!({ "value": value, "source": source, "origin": origin }))
        })
        .collect();
    let paths = config.paths.as_ref();
    let (file, models) = (paths.map(|p| lossy(&p.config_file)), paths.map(|p| lossy(&p.models)));
    let servers: Map<String, Value> =
        config.servers.iter().map(|server| (server.name.clone(), json!({ "url": server.url }))).collect();
    let aliases: Map<String, Value> = config
        .aliases
        .iter()
        .map(|alias| (alias.name.clone(), json!({ "model": alias.model, "line": alias.line })))
        .collect();
    let section = |section: &Section| {
        let pairs = section.assignments.iter().map(|a| json!({ "name": a.setting.name, "value": a.value }));
        json!({ "pattern": section.pattern, "line": section.line, "settings": pairs.collect::<Value>() })
    };
    json!({
        "config_file": file, "models": models, "role": config.role().map(|role| &role.name),
        "settings": settings, "servers": servers, "aliases": aliases,
        "sections": config.sections.iter().map(section).collect::<Value>(), "problems": problems,
    })
}
