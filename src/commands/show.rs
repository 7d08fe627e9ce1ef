//! `fireside show`: a model's properties, memory needs, template features and licence terms.
//!
//! Reads only the header of the file, or those of all parts of a split one. Next: model_card.rs, the summary.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::model_card::ModelCard;
use super::{CommandContext, pull, servers};
use crate::chat::Settings;
use crate::failure::{Exit, Failure};
use crate::gguf::{self, Header, Tensor, Value as Field};
use crate::hub::Reference;
use crate::models::names::NotHere;
use crate::models::{self, about};
use crate::settings::Config;
use crate::ui::table::Column;
use crate::units::{count, size};

/// Most elements shown of a metadata array.
const SHOWN: usize = 8;
/// Most characters shown of a metadata text.
const LONGEST: usize = 200;

/// The sections to print besides the summary, or instead of it.
pub(super) struct Sections {
    pub tensors: bool,
    pub template: bool,
    pub metadata: bool,
}

pub(super) fn run(
    wanted: Option<&str>,
    parts: &Sections,
    context: &mut CommandContext,
) -> Result<Exit, Failure> {
    models::select_workers(context.config)?;
    let settings = context.config.settings();
    let at_server = match &context.server {
        Some(server) => Some(format!("{}@{}", wanted.unwrap_or_default(), server.title())),
        None => wanted.or(settings.model.as_deref()).map(String::from),
    };
    if let Some(wanted) = at_server.filter(|wanted| context.config.remote(wanted).is_some()) {
        if parts.tensors || parts.metadata {
            return Err(Failure::usage("a server shows neither tensors nor metadata"));
        }
        return servers::show(&wanted, parts.template, context);
    }
    let config = context.config;
    let (headers, card, settings) = match wanted.or(settings.model.as_deref()) {
        Some(wanted) => match models::find(config, wanted) {
            Ok(path) => local(&path, config)?,
            Err(_) if Reference::parse(&config.unaliased(wanted)).is_some() => {
                let (headers, card) = remote(&config.unaliased(wanted), settings, context)?;
                (headers, card, settings.clone())
            }
            Err(not_here) => return Err(look_first(not_here)),
        },
        None => local(&usual(config)?, config)?,
    };
    let settings = &settings;
    if context.json {
        return context.print_json(&object(&card, &headers, parts, settings));
    }
    if !(parts.template || parts.metadata || parts.tensors) {
        return context.print(&card.text());
    }
    if parts.template {
        let template = models::chat_template(&headers[0], settings)?;
        context.print_source(&template.ok_or_else(|| Failure::new("the model has no chat template"))?)?;
    }
    if parts.metadata {
        let entries = headers[0].entries().map(|(key, field)| format!("{key} = {}", shown(field)));
        context.print(&entries.collect::<Vec<_>>().join("\n"))?;
    }
    if parts.tensors {
        let columns = [Column::Whole, Column::Spare(2), Column::Spare(1), Column::Whole];
        let rows: Vec<_> = headers.iter().flat_map(|header| &header.tensors).map(tensor_row).collect();
        context.print_table(columns.map(|column| ("", column)), &rows)?;
    }
    Ok(Exit::Answered)
}

/// The default model.
fn usual(config: &Config) -> Result<PathBuf, Failure> {
    models::usual(config).ok_or_else(|| {
        let usable: Vec<_> =
            about::all(config).into_iter().filter(|(_, about)| about.problem.is_none()).collect();
        about::unnamed(config, &usable).into()
    })
}

/// The failure for a model that is not here: it can be fetched, or shown remotely before.
fn look_first(not_here: NotHere) -> Failure {
    let hint = match &not_here {
        NotHere::Fetchable(what) => pull::source(what).ok().map(|source| {
            format!(
                "to read its header over the network: fireside show {}; to fetch it: fireside pull {what}",
                source.reference
            )
        }),
        _ => None,
    };
    hint.into_iter().fold(not_here.into(), Failure::hint)
}

/// The headers of all parts of a model on this machine, its card, and its settings.
fn local(path: &Path, config: &Config) -> Result<(Vec<Header>, ModelCard, Settings), Failure> {
    let read = |path: &Path| gguf::read(path).map_err(|refusal| models::refused(path, refusal));
    let mut headers = vec![read(path)?];
    if headers[0].uint("split.no").is_some_and(|number| number > 0) {
        // The first part describes the model.
        gguf::check(&headers[0]).map_err(|refusal| models::refused(path, refusal))?;
    }
    let others = gguf::parts(&headers[0]);
    for part in others.iter().filter(|part| *part != path && part.exists()) {
        headers.push(read(part)?);
    }
    let settings = config.advised(models::of_sections(config, path)).settings().clone();
    let card = ModelCard::of(&headers, &settings, path.display().to_string());
    Ok((headers, card, settings))
}

/// The header of a file on the hub, and its card. Downloads only the beginning of the file.
fn remote(
    wanted: &str,
    settings: &Settings,
    context: &mut CommandContext,
) -> Result<(Vec<Header>, ModelCard), Failure> {
    let source = pull::source(wanted)?;
    let hub = pull::hub(context.config)?;
    let remote = pull::look_up(&hub, &source, context.screen)?;
    let first = &remote.files[0];
    let header = gguf::read_from(hub.open(&remote)?, first.size, Path::new(&first.name));
    let header = header.map_err(|refusal| models::refused(Path::new(wanted), refusal))?;
    let card = ModelCard::of(std::slice::from_ref(&header), settings, remote.reference.to_string());
    Ok((vec![header], card.of_remote(remote.size(), remote.licence.as_deref())))
}

fn object(card: &ModelCard, headers: &[Header], parts: &Sections, settings: &Settings) -> Value {
    let mut object = card.json();
    if parts.tensors {
        let tensors = headers.iter().flat_map(|header| &header.tensors);
        object["tensors"] = tensors.map(tensor_object).collect();
    }
    if parts.template {
        object["template"] = json!(models::chat_template(&headers[0], settings).ok().flatten());
    }
    if parts.metadata {
        let entries = headers[0].entries().map(|(key, field)| (key.to_string(), value(field)));
        object["metadata"] = entries.collect::<Map<_, _>>().into();
    }
    object
}

fn tensor_object(tensor: &Tensor) -> Value {
    let kind = gguf::type_name(tensor.kind);
    json!({ "name": tensor.name, "shape": tensor.dims, "type": kind, "bytes": tensor.bytes })
}

fn tensor_row(tensor: &Tensor) -> [String; 4] {
    let shape: Vec<String> = tensor.dims.iter().map(u64::to_string).collect();
    let kind = gguf::type_name(tensor.kind).to_string();
    [tensor.name.clone(), kind, shape.join(" x "), format!("{:>9}", size(tensor.bytes))]
}

/// A metadata value on one line. Long values are cut, with their full length.
fn shown(field: Field) -> String {
    match field {
        Field::Array(array) => {
            let some: Vec<String> = array.iter().take(SHOWN).map(|item| value(item).to_string()).collect();
            let more = if array.len() > SHOWN { ", …" } else { "" };
            format!("[{}{more}] ({} of {})", some.join(", "), array.len(), array.element_name())
        }
        Field::Text(text) => {
            let text = String::from_utf8_lossy(text);
            let start: String = text.chars().take(LONGEST).collect();
            let more = text.chars().count() - start.chars().count();
            let quoted = json!(start).to_string();
            if more > 0 { format!("{quoted} … ({})", count(more, "more character")) } else { quoted }
        }
        single => value(single).to_string(),
    }
}

/// A metadata value as JSON; numbers that JSON cannot express become text.
fn value(field: Field) -> Value {
    match field {
        Field::Uint(n) => json!(n),
        Field::Int(n) => json!(n),
        Field::Float(x) if !x.is_finite() => json!(x.to_string()),
        Field::Float(x) => json!(x),
        Field::Bool(truth) => json!(truth),
        Field::Text(text) => json!(String::from_utf8_lossy(text)),
        Field::Array(array) => array.iter().map(value).collect(),
    }
}
