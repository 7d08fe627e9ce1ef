//! `fireside roles`: the roles, or one of them; and `--save-role`, which writes one.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::{CommandContext, lossy};
use crate::cli::prompt::variables;
use crate::cli::{Args, Commands};
use crate::failure::{Exit, Failure};
use crate::files::{self, reason};
use crate::input;
use crate::saved;
use crate::settings::roles::{self, Draft, is_name};
use crate::settings::{Assignment, Config, Role, Source, Wrong, setting};
use crate::ui::Screen;
use crate::ui::table::{Column, pairs};

/// The placeholder for stdin in a prompt, which becomes that for the input.
const STDIN: &str = "{stdin}";

pub(super) fn run(name: Option<&str>, context: &mut CommandContext) -> Result<Exit, Failure> {
    let folder = saved::roles_folder(context.config)?;
    if let Some(name) = name {
        let role = roles::find(folder, name)
            .map_err(|wrong| saved::wrong_role(wrong, "fireside roles", context.screen))?;
        return match context.json {
            true => context.print_json(&object(&role)),
            false => context.print_conversation(&card(&role, context.screen.columns())),
        };
    }
    let all: Vec<Result<Role, (String, Vec<String>)>> = roles::list(folder)
        .into_iter()
        .map(|name| roles::find(folder, &name).map_err(|wrong| (name, wrong)))
        .collect();
    if context.json {
        let one = |role: &Result<Role, (String, Vec<String>)>| match role {
            Ok(role) => object(role),
            Err((name, wrong)) => json!({ "name": name, "problems": wrong }),
        };
        return context.print_json(
            &json!({ "folder": lossy(folder), "roles": all.iter().map(one).collect::<Value>() }),
        );
    }
    if all.is_empty() {
        context.screen.note(&saved::no_roles(folder));
        return Ok(Exit::Answered);
    }
    let row = |role: &Result<Role, (String, Vec<String>)>| match role {
        Ok(role) => [role.name.clone(), role.description.clone()],
        Err((name, wrong)) => [name.clone(), format!("cannot be used: {}", wrong.join("; "))],
    };
    let rows: Vec<[String; 2]> = all.iter().map(row).collect();
    context.print_table([("", Column::Whole), ("", Column::Wraps)], &rows)
}

/// Everything about a role, for people.
fn card(role: &Role, columns: Option<usize>) -> String {
    let variable = |(name, default): &(String, Option<String>)| match default {
        Some(default) => format!("{name}={default}"),
        None => format!("{name}, which must be given"),
    };
    let settings = role.settings.iter().map(|one| [one.setting.name.to_string(), one.value.clone()]);
    let variables = role.variables.iter().map(|one| ["variable".to_string(), variable(one)]);
    let head = ["file".to_string(), lossy(&role.path)];
    let about = (!role.description.is_empty()).then(|| ["about".to_string(), role.description.clone()]);
    let examples = (role.examples() > 0).then(|| ["examples".to_string(), role.examples().to_string()]);
    let rows: Vec<[String; 2]> =
        [head].into_iter().chain(about).chain(settings).chain(variables).chain(examples).collect();
    let mut text = pairs(&rows, columns).join("\n");
    for (heading, part) in
        ["System prompt:", "Prompt:"].iter().zip(role.texts()).filter(|(_, part)| !part.is_empty())
    {
        text += &format!("\n\n{heading}\n{part}");
    }
    text
}

fn object(role: &Role) -> Value {
    let [system, prompt] = role.texts();
    let settings = role.settings.iter().map(|one| json!({ "name": one.setting.name, "value": one.value }));
    let variables = role.variables.iter().map(|(name, default)| json!({ "name": name, "default": default }));
    json!({
        "name": role.name,
        "file": lossy(&role.path),
        "description": role.description,
        "settings": settings.collect::<Value>(),
        "variables": variables.collect::<Value>(),
        "system": system,
        "examples": role.examples(),
        "prompt": role.is_task().then_some(prompt),
    })
}

/// With the role that the command line names, before or behind `config`.
pub fn in_role(mut config: Config, args: &Args) -> Config {
    let folder = config.paths.as_ref().map(|paths| paths.roles.as_path());
    let (name, vars) = match &args.subcommand {
        Some(Commands::Config { role: Some(role), vars, .. }) => (Some(role), vars),
        _ => (args.role.as_ref(), &args.vars),
    };
    let taken = match name {
        Some(name) => variables(vars).and_then(|given| roles::taken(folder, name, &given)),
        None if vars.is_empty() => return config,
        None => Err(vec!["--var gives a value to a variable of a role: --role is missing".into()]),
    };
    match taken {
        Ok(role) => config.with_role(Some(role)),
        Err(wrong) => {
            let wrong = wrong.into_iter().map(|what| Wrong { source: Source::Role, what, harmless: false });
            config.wrong.extend(wrong);
            config
        }
    }
}

/// Writes a command line to a new role; returns the exit code.
pub fn save(
    name: &str,
    args: &Args,
    prompt: Option<&str>,
    config: &Config,
    screen: &mut Screen,
) -> Result<Exit, Failure> {
    refuse_what_no_role_has(args)?;
    if !is_name(name) {
        return Err(Failure::usage(format!("'{name}' cannot be the name of a role"))
            .hint("a name consists of letters, digits, -, _ and ."));
    }
    let path = roles::file(saved::roles_folder(config)?, name);
    let here = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"));
    let mut system = None;
    let mut settings = Vec::new();
    for (name, value) in &args.settings.0 {
        match *name {
            "system-prompt" => system = Some(value.clone()),
            "system-prompt-file" => system = Some(input::read_text(Path::new(value))?),
            _ => {
                let row = setting(name).expect("the flags come from the table");
                settings.push(Assignment::new(row, &row.anchored(value, &here), Source::Role));
            }
        }
    }
    let system = system.as_deref().map(str::trim).filter(|system| !system.is_empty());
    let prompt = prompt.map(str::trim).filter(|prompt| !prompt.is_empty());
    if settings.is_empty() && system.is_none() && prompt.is_none() {
        return Err(Failure::usage("there is nothing to save").hint(
            "give settings, a system prompt or a prompt, as in: --temp 0 -p \"Sum it up\" --save-role sum",
        ));
    }
    let draft =
        Draft { settings: &settings, system, prompt: prompt.map(|prompt| prompt.split(STDIN).collect()) };
    let text = draft.text(name, &path).ok_or_else(|| {
        Failure::usage("this cannot be saved: the role would not be read as it is meant")
            .hint("no line of a text may be --- at the beginning, ### INPUT:, ### OUTPUT: or ### PROMPT:")
    })?;
    let existing = match files::would_replace(&path) {
        false => files::Existing::Keep,
        true if !input::can_ask() => {
            return Err(saved::exists(&path).hint("remove it, or choose another name"));
        }
        true => match input::confirm(screen, &saved::replace_question(&path))? {
            true => files::Existing::Replace,
            false => return Err(Failure::new("nothing was written")),
        },
    };
    let written = files::own_folder(files::folder_of(&path));
    let written = written.and_then(|()| files::write_named(&path, text.as_bytes(), existing));
    written.map_err(|e| Failure::new(format!("could not write {}: {}", path.display(), reason(&e))))?;
    screen.note(&format!("saved the role {name} in {}; fireside --role {name} uses it", path.display()));
    Ok(Exit::Answered)
}

/// Refuses options that a role cannot have, so that nothing is lost unsaid.
fn refuse_what_no_role_has(args: &Args) -> Result<(), Failure> {
    let Args { file, interactive, raw, dry_run, json, continue_latest, resume, title, server, .. } = args;
    let given = [
        ("--file", !file.is_empty()),
        ("--interactive", *interactive),
        ("--raw", *raw),
        ("--dry-run", *dry_run),
        ("--json", *json),
        ("--continue", *continue_latest),
        ("--resume", resume.is_some()),
        ("--title", title.is_some()),
        ("--server", server.is_some()),
    ];
    match given.iter().find(|(_, given)| *given) {
        Some((option, _)) => Err(Failure::usage(format!("{option} cannot be saved in a role"))
            .hint("a role has settings, a model, a system prompt and a prompt")),
        None => Ok(()),
    }
}
