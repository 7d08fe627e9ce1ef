//! `fireside list`: the models on this machine.

use std::collections::HashMap;

use serde_json::{Value, json};

use super::{CommandContext, lossy, servers};
use crate::failure::{Exit, Failure};
use crate::files::reason;
use crate::models::about::{self, About, count};
use crate::models::fit::available_memory;
use crate::models::library::{self, ModelFile};
use crate::models::memory::MemoryFit;
use crate::models::places;
use crate::models::places::Owner;
use crate::ui::table::{Column, table};
use crate::units::size;

pub(super) fn run(all: bool, context: &mut CommandContext) -> Result<Exit, Failure> {
    let mut models = about::all(context.config);
    let before = models.len();
    models.retain(|(_, about)| all || about.problem.is_none());
    let hidden = before - models.len();
    let asked = servers::asked(context);
    if context.json {
        let models: Vec<Value> = models.iter().map(|(model, about)| object(model, about)).collect();
        let mut object = json!({ "models": models });
        if !asked.is_empty() {
            object["servers"] = servers::objects(asked);
        }
        return context.print_json(&object);
    }
    for place in places(context.config).iter().filter(|place| library::is_too_much(place)) {
        let folder = place.folder.display();
        context
            .screen
            .note(&format!("{folder} contains more than 10,000 files: fireside looks at that many only"));
    }
    for place in
        places(context.config).iter().filter(|place| matches!(place.owner, Owner::User | Owner::Config))
    {
        match std::fs::read_dir(&place.folder) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && place.owner == Owner::User => {}
            Err(e) => {
                context.screen.note(&format!("could not read {}: {}", place.folder.display(), reason(&e)))
            }
            Ok(_) => {}
        }
    }
    match models.is_empty() {
        true if !asked.is_empty() => {}
        true => context.screen.note("no models found; fireside pull lists some to fetch"),
        false => {
            let lines = lines(&models, context.screen.columns());
            context.print(lines.join("\n").trim_start_matches('\n'))?;
        }
    }
    if hidden > 0 {
        let (are, them) = if hidden == 1 {
            ("file is not a usable model", "it")
        } else {
            ("files are not usable models", "them")
        };
        context.screen.note(&format!("{hidden} more {are}; fireside list --all shows {them}"));
    }
    servers::print(asked, context)?;
    Ok(Exit::Answered)
}

/// The headings, and an entry for each model.
pub fn lines(models: &[(ModelFile, About)], terminal: Option<usize>) -> Vec<String> {
    let (rows, namesakes) = rows(models);
    // The place distinguishes models of the same name, so it must be shown in full.
    let place = if namesakes { Column::Whole } else { Column::Spare(5) };
    let columns = [
        ("NAME", Column::Whole),
        ("FAMILY", Column::Spare(7)),
        ("PARAMS", Column::Spare(3)),
        ("QUANT", Column::Spare(4)),
        ("SIZE", Column::Spare(1)),
        ("CONTEXT", Column::Spare(6)),
        ("LICENCE", Column::Spare(2)),
        ("FITS", Column::Wraps),
        ("WHERE", place),
    ];
    table(columns, &rows, terminal)
}

/// The description of each model on one line, the most important facts first.
pub fn described(models: &[(ModelFile, About)]) -> Vec<String> {
    let (rows, namesakes) = rows(models);
    let line = |[_, family, params, quant, size, context, licence, fits, place]: [String; 9]| {
        let fits = match fits.strip_prefix("no: ") {
            Some(needs) => needs.to_string(),
            None => fits.replace("yes", "fits").replace("with", "fits with"),
        };
        let none = String::new();
        let (first, last) = if namesakes { (place, none) } else { (none, place) };
        let of = |what: &str, cell: String| if cell.is_empty() { cell } else { format!("{what} {cell}") };
        let (context, licence) = (of("context", context), of("licence", licence));
        let all = [first, size, quant, family, fits, params, licence, context, last];
        all.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", ")
    };
    rows.into_iter().map(line).collect()
}

/// A row for each model, and whether some share a name: those show their exact place.
fn rows(models: &[(ModelFile, About)]) -> (Vec<[String; 9]>, bool) {
    let available = available_memory();
    let mut named: HashMap<&str, usize> = HashMap::new();
    models.iter().for_each(|(model, _)| *named.entry(&model.name).or_default() += 1);
    let rows = models.iter().map(|(model, about)| {
        let mut row = row(model, about, available);
        if named[model.name.as_str()] > 1 {
            row[8] = model.full_name();
        }
        row
    });
    (rows.collect(), named.values().any(|count| *count > 1))
}

fn row(model: &ModelFile, about: &About, available: Option<u64>) -> [String; 9] {
    let place = match model.owner {
        Owner::Config => model.place.display().to_string(),
        owner => owner.name().to_string(),
    };
    let (name, bytes) = (model.name.clone(), size(model.size));
    if let Some(problem) = problem(model, about) {
        let nothing = String::new;
        return [name, nothing(), nothing(), nothing(), bytes, nothing(), nothing(), problem, place];
    }
    let fits = available.map_or("unknown".into(), |available| fits(about.fit(available)));
    [
        name,
        about.family.clone(),
        count(about.parameters),
        about.quantisation.clone(),
        bytes,
        about.context.map_or(String::new(), |tokens| tokens.to_string()),
        about.openness().kind.name().to_string(),
        fits,
        place,
    ]
}

/// Why the model cannot be used as it is.
fn problem(model: &ModelFile, about: &About) -> Option<String> {
    let (found, count) = model.parts;
    let missing = (!model.is_whole()).then(|| format!("no: only {found} of {count} parts found"));
    missing.or_else(|| about.problem.as_ref().map(|problem| format!("no: {problem}")))
}

/// Whether a model fits, in words.
pub(super) fn fits(fit: MemoryFit) -> String {
    match fit {
        MemoryFit::Yes => "yes".into(),
        MemoryFit::Short(tokens) => format!("with {tokens} tokens of context"),
        MemoryFit::No(needed) => format!("no: needs {}", size(needed)),
    }
}

fn object(model: &ModelFile, about: &About) -> Value {
    let fit = available_memory().map(|available| about.fit(available));
    json!({
        "name": model.name,
        "family": about.family,
        "parameters": about.parameters,
        "quantisation": about.quantisation,
        "size": model.size,
        "context": about.context,
        "openness": about.openness(),
        "chat_template": about.chats,
        "fits": fit.map(|fit| !matches!(fit, MemoryFit::No(_))),
        "owner": model.owner.name(),
        "repository": model.origin.as_ref().map(|origin| &origin.repository),
        "path": lossy(&model.path),
        "parts": { "found": model.parts.0, "count": model.parts.1 },
        "problem": problem(model, about).map(|text| text.trim_start_matches("no: ").to_string()),
    })
}
