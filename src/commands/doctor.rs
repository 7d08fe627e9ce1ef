//! `fireside doctor`: how this installation was built, where its files are, and what is wrong.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::{CommandContext, lossy};
use crate::failure::{Exit, Failure};
use crate::history::database::{Conversations, Filter};
use crate::models;
use crate::models::library;
use crate::saved;
use crate::settings::SETTINGS;
use crate::settings::{Config, Source};
use crate::units::{count, size};

/// One finding: its subject, its text, and its problems, one per line.
struct Finding {
    about: &'static str,
    found: String,
    trouble: Option<String>,
}

fn fine(about: &'static str, found: impl Into<String>) -> Finding {
    Finding { about, found: found.into(), trouble: None }
}

/// Exit code 1 if something is wrong. Changes nothing.
pub(super) fn run(context: &mut CommandContext) -> Result<Exit, Failure> {
    let findings = findings(context);
    let sound = findings.iter().all(|one| one.trouble.is_none());
    if context.json {
        let object: Map<String, Value> = findings
            .into_iter()
            .map(|one| (one.about.to_string(), json!({ "found": one.found, "trouble": one.trouble })))
            .collect();
        context.print_json(&json!({ "sound": sound, "findings": object }))?;
    } else {
        let line = |one: &Finding| {
            let troubles = one.trouble.iter().flat_map(|trouble| trouble.lines());
            let wrong: String = troubles.map(|line| format!("\n{:15} problem: {line}", "")).collect();
            format!("{:15} {}{wrong}", one.about, one.found)
        };
        context.print(&findings.iter().map(line).collect::<Vec<_>>().join("\n"))?;
    }
    Ok(if sound { Exit::Answered } else { Exit::Failed })
}

fn findings(context: &CommandContext) -> Vec<Finding> {
    let config = context.config;
    let mut all = vec![fine("version", env!("CARGO_PKG_VERSION"))];
    all.extend(models::build(config, config.settings()).into_iter().map(|(about, found)| fine(about, found)));
    if let Some(trouble) = models::trouble_here(config) {
        all.push(Finding { about: "weights", found: "not repacked".into(), trouble: Some(trouble) });
    }
    let Some(paths) = &config.paths else {
        let trouble = Some("there is no home folder: no config file is read and nothing is saved".into());
        all.push(Finding { about: "home", found: "none".into(), trouble });
        return all;
    };
    let present = |path: &Path| if path.exists() { "" } else { " (does not exist yet)" };
    let file = &paths.config_file;
    all.push(fine("config file", format!("{}{}", lossy(file), present(file))));
    all.push(settings(config));
    let found = library::list(&models::places(config));
    let usual =
        models::usual(config).map_or("none chosen yet".into(), |path| format!("default: {}", lossy(&path)));
    let named = config.settings().model.as_ref().filter(|wanted| config.remote(wanted).is_none());
    let named = named.and_then(|wanted| models::find(config, wanted).err());
    all.push(Finding {
        about: "models",
        found: format!("{} found; {usual}", found.len()),
        trouble: named.map(|not_here| not_here.to_string()),
    });
    all.push(conversations(&paths.conversations));
    let usage = models::prompt_cache(&paths.prompt_cache);
    all.push(fine(
        "prompt cache",
        format!(
            "{} in {} in {}; {} of {} found there",
            size(usage.bytes),
            count(usage.files, "file"),
            lossy(&paths.prompt_cache),
            usage.hits,
            count(usage.hits + usage.misses, "prompt")
        ),
    ));
    all
}

fn settings(config: &Config) -> Finding {
    let set = SETTINGS.iter().filter(|row| config.source(row.name) != Source::Default).count();
    let wrong: Vec<&str> = config.wrong.iter().map(|wrong| wrong.what.as_str()).collect();
    let trouble = (!wrong.is_empty()).then(|| wrong.join("\n"));
    Finding { about: "settings", found: format!("{set} of {} set", SETTINGS.len()), trouble }
}

fn conversations(path: &Path) -> Finding {
    let about = "conversations";
    let place = lossy(path);
    let counted = Conversations::existing(path).and_then(|store| {
        let listed = store.as_ref().map(|store| store.list(&Filter::default())).transpose()?;
        store.iter().try_for_each(Conversations::check)?;
        Ok(listed.map(|listed| (listed.len(), listed.iter().map(|one| one.messages).sum::<u32>())))
    });
    match counted {
        Ok(Some((conversations, messages))) => {
            let of =
                |suffix: &str| std::fs::metadata(format!("{place}{suffix}")).map_or(0, |about| about.len());
            let bytes = of("") + of("-wal");
            let found =
                format!("{conversations} with {}, {} in {place}", count(messages, "message"), size(bytes));
            fine(about, found)
        }
        Ok(None) => fine(about, format!("none yet; they will be saved in {place}")),
        Err(trouble) => Finding { about, found: place, trouble: Some(saved::trouble(trouble)) },
    }
}
