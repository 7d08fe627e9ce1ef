//! `fireside list` and `fireside show` for models at servers: what the servers tell.

use serde_json::{Value, json};

use super::CommandContext;
use crate::failure::{Exit, Failure};
use crate::models::about::count;
use crate::models::servers::{self, Asked, Facts, Listed};
use crate::settings::Server;
use crate::ui::table::{Column, table};
use crate::ui::terminal;
use crate::units::size;

/// The servers of the config file and the one that the command line names, each with its models.
pub(super) fn asked(context: &CommandContext) -> Vec<Asked> {
    let config = context.config;
    let given = context.server.iter().filter(|given| config.servers.iter().all(|one| one.url != given.url));
    let all: Vec<Server> = config.servers.iter().chain(given).cloned().collect();
    if config.settings().offline {
        return Vec::new();
    }
    servers::models(all, false, &terminal::interrupted)
}

/// A heading and a table for each server.
pub(super) fn print(asked: Vec<Asked>, context: &mut CommandContext) -> Result<(), Failure> {
    for Asked { server, models } in asked {
        let models = match models {
            Ok(models) => models,
            Err(error) => {
                context.screen.note(&Failure::from(error).message);
                continue;
            }
        };
        let named = if server.name.is_empty() { String::new() } else { format!("{}: ", server.name) };
        let heading = format!("\n{named}{}", server.url);
        let columns = [
            ("NAME", Column::Whole),
            ("PARAMS", Column::Spare(3)),
            ("SIZE", Column::Spare(1)),
            ("CONTEXT", Column::Spare(2)),
        ];
        let rows: Vec<[String; 4]> = models.iter().map(|model| row(&server, model)).collect();
        let lines = table(columns, &rows, context.screen.columns());
        let lines = if rows.is_empty() { vec!["no models".into()] } else { lines };
        context.print(&[heading].into_iter().chain(lines).collect::<Vec<_>>().join("\n"))?;
    }
    Ok(())
}

fn row(server: &Server, model: &Listed) -> [String; 4] {
    let or_empty = |text: Option<String>| text.unwrap_or_default();
    [
        format!("{}@{}", model.name(), server.title()),
        or_empty(model.parameters.map(count)),
        or_empty(model.size.map(size)),
        or_empty(model.context.or(model.trained_context).map(|tokens| tokens.to_string())),
    ]
}

/// The same as JSON.
pub(super) fn objects(asked: Vec<Asked>) -> Value {
    let object = |Asked { server, models }: Asked| {
        let (models, error) = match models {
            Ok(models) => (models.iter().map(|model| object(&server, model)).collect(), Value::Null),
            Err(error) => (Value::Array(Vec::new()), json!(Failure::from(error).message)),
        };
        json!({ "name": server.title(), "url": server.url, "models": models, "error": error })
    };
    asked.into_iter().map(object).collect()
}

fn object(server: &Server, model: &Listed) -> Value {
    json!({
        "name": format!("{}@{}", model.name(), server.title()),
        "id": model.id,
        "parameters": model.parameters,
        "size": model.size,
        "context": model.context,
        "trained_context": model.trained_context,
    })
}

/// What a server tells of one model, or its chat template.
pub(super) fn show(wanted: &str, template: bool, context: &mut CommandContext) -> Result<Exit, Failure> {
    let (server, facts) = servers::facts(context.config, wanted, &terminal::interrupted)?;
    card(&server, &facts, template, context)
}

fn card(
    server: &Server,
    facts: &Facts,
    template: bool,
    context: &mut CommandContext,
) -> Result<Exit, Failure> {
    let model = &facts.model;
    let version = facts.version.as_ref().map_or(String::new(), |version| format!(" {version}"));
    let kind = format!("{}{version}", facts.kind.name());
    if context.json {
        let mut card = object(server, model);
        card["server"] = json!({ "name": server.title(), "url": server.url, "kind": kind });
        if template {
            card["template"] = json!(Some(&facts.template).filter(|template| !template.is_empty()));
        }
        return context.print_json(&card);
    }
    if template {
        if facts.template.is_empty() {
            return Err(Failure::new(format!("{} does not show the chat template", server.title())));
        }
        return context.print_source(&facts.template);
    }
    let tokens = |tokens: usize| format!("{tokens} tokens");
    let rows = [
        ("model", Some(model.id.clone())),
        ("server", Some(format!("{kind} at {}", server.url))),
        ("parameters", model.parameters.map(count)),
        ("size", model.size.map(size)),
        ("context", Some(model.context.map_or("unknown".into(), tokens))),
        ("trained for", model.trained_context.map(tokens)),
        ("use it", Some(format!("fireside -m {}@{}", model.name(), server.title()))),
    ];
    let lines = rows.into_iter().filter_map(|(name, value)| Some(format!("{name:14} {}", value?)));
    context.print(&lines.collect::<Vec<_>>().join("\n"))
}
