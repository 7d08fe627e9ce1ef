//! `fireside config`: every setting with its value and source.

use serde_json::{Map, Value, json};

use super::{CommandContext, lossy};
use crate::failure::{Exit, Failure};
use crate::models;
use crate::settings::{SETTINGS, Source};

pub(super) fn run(context: &mut CommandContext) -> Result<Exit, Failure> {
    let config = context.config;
    let wanted = config.settings().model.as_ref().filter(|wanted| config.remote(wanted).is_none());
    let named = wanted.map(|wanted| models::find(config, wanted)).transpose();
    let missing = named.as_ref().err().map(|not_here| not_here.to_string());
    let problems: Vec<String> = config.wrong.iter().map(|wrong| wrong.what.clone()).chain(missing).collect();
    let named = named.ok().flatten();
    let usual = models::usual(config);
    let advice = named.as_ref().or(usual.as_ref()).map_or_else(Vec::new, |path| models::advised(path));
    let advised = config.advised(advice);
    let settings = advised.settings();
    let rows = SETTINGS.iter().map(|row| match &usual {
        Some(path) if row.name == "model" && settings.model.is_none() => {
            (row.name, path.display().to_string(), "the one used last, or the only one")
        }
        _ => (row.name, (row.get)(settings), advised.source(row.name).name()),
    });
    let paths = config.paths.as_ref();
    if context.json {
        let settings: Map<String, Value> = rows
            .map(|(name, value, source)| (name.into(), json!({ "value": value, "source": source })))
            .collect();
        let (file, models) = (paths.map(|p| lossy(&p.config_file)), paths.map(|p| lossy(&p.models)));
        let servers: Map<String, Value> =
            config.servers.iter().map(|server| (server.name.clone(), json!({ "url": server.url }))).collect();
        return context.print_json(&json!({
            "config_file": file, "models": models, "settings": settings, "servers": servers,
            "problems": problems,
        }));
    }
    let head = paths.map_or_else(
        || "# no home folder: no config file is read and nothing is saved".into(),
        |paths| {
            format!("# config file: {}\n# models: {}", paths.config_file.display(), paths.models.display())
        },
    );
    let wide = context.screen.columns().is_none_or(|columns| columns >= 80);
    let most = if wide { 28 } else { 0 };
    let lines = rows.map(|(name, value, source)| format!("{name:22} {value:most$} # {source}"));
    let servers = config.servers.iter().map(|server| {
        let name = format!("servers.{}", server.name);
        format!("{name:22} {:most$} # {}", server.url, Source::File.name())
    });
    let wrong = problems.iter().map(|problem| format!("# error: {problem}"));
    context.print(&[head].into_iter().chain(lines).chain(servers).chain(wrong).collect::<Vec<_>>().join("\n"))
}
