//! `fireside pull` without a name: the catalogue.

use serde_json::{Value, json};

use super::CommandContext;
use crate::failure::{Exit, Failure};
use crate::models::catalogue::{CatalogueEntry, catalogue};
use crate::models::fit::available_memory;
use crate::models::licences::judge;
use crate::models::memory::Needs;
use crate::ui::table::{Column, table};
use crate::units::size;

pub(super) fn run(context: &mut CommandContext) -> Result<Exit, Failure> {
    if context.json {
        let models: Vec<Value> = entries().iter().map(|(name, entry)| object(name, entry)).collect();
        return context.print_json(&json!({ "models": models }));
    }
    context.print(lines(context.screen.columns()).join("\n").trim_start_matches('\n'))
}

/// The models of the catalogue, smallest first.
pub fn entries() -> Vec<(&'static String, &'static CatalogueEntry)> {
    let mut entries: Vec<_> = catalogue().iter().collect();
    entries.sort_by_key(|(_, entry)| entry.size);
    entries
}

/// The headings, and an entry for each model, which may have several lines on a narrow terminal.
pub fn lines(terminal: Option<usize>) -> Vec<String> {
    let available = available_memory();
    let rows: Vec<[String; 6]> = entries().iter().map(|(name, entry)| row(name, entry, available)).collect();
    let columns = [
        ("NAME", Column::Whole),
        ("MODEL", Column::Spare(3)),
        ("SIZE", Column::Whole),
        ("MEMORY", Column::Spare(2)),
        ("FITS", Column::Spare(1)),
        ("LICENCE", Column::Wraps),
    ];
    table(columns, &rows, terminal)
}

/// The least memory a model needs: weights and compute buffers, without context.
fn memory(entry: &CatalogueEntry) -> u64 {
    Needs { weights: entry.size, per_token: 0.0 }.fixed()
}

fn row(name: &str, entry: &CatalogueEntry, available: Option<u64>) -> [String; 6] {
    let needed = memory(entry);
    let fits = available.map_or("unknown", |available| if needed <= available { "yes" } else { "no" });
    [
        name.to_string(),
        entry.title.clone(),
        size(entry.size),
        size(needed),
        fits.into(),
        format!("{} ({})", entry.licence, judge([entry.licence.as_str()]).kind.name()),
    ]
}

/// A model's description on one line, the most important facts first.
pub fn described(entry: &CatalogueEntry) -> String {
    let [_, _, size, memory, fits, licence] = row("", entry, available_memory());
    let fits = if fits == "no" { ", more than is free" } else { "" };
    match entry.demonstration {
        true => format!("{size}, {licence}, a demonstration: it knows little"),
        false => format!("{size}, {licence}, needs {memory} of memory{fits}"),
    }
}

fn object(name: &str, entry: &CatalogueEntry) -> Value {
    json!({
        "name": name,
        "title": entry.title,
        "family": entry.family,
        "repository": entry.repository,
        "file": entry.file,
        "size": entry.size,
        "sha256": entry.sha256,
        "memory": memory(entry),
        "licence": entry.licence,
        "openness": judge([entry.licence.as_str()]),
        "sampling": entry.sampling.iter().map(|(name, value)| (name.clone(), json!(value.to_string()))).collect::<serde_json::Map<_, _>>(),
        "package": entry.package,
    })
}
