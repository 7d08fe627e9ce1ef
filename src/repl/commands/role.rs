//! `/role`: lists the roles, takes one, or leaves it.

use super::NextAction;
use crate::failure::Failure;
use crate::input;
use crate::repl::Chat;
use crate::saved;
use crate::session::Session;
use crate::settings::{Effect, Role, Source, TakenRole, roles, setting};
use crate::ui::table::pairs;
use crate::units::count;

pub(super) fn role(chat: &mut Chat, words: &str) -> Result<NextAction, Failure> {
    match words {
        "" => list(chat)?,
        "none" => leave(chat)?,
        words => take(chat, words)?,
    }
    Ok(NextAction::Prompt)
}

fn list(chat: &mut Chat) -> Result<(), Failure> {
    let folder = saved::roles_folder(chat.session.config())?;
    let all = roles::list(folder);
    if all.is_empty() {
        chat.screen.note(&saved::no_roles(folder));
        return Ok(());
    }
    let taken = chat.session.config().role().map(|role| role.name.clone());
    let about = |name: &String| match roles::find(folder, name) {
        Ok(Role { description, .. }) if taken.as_ref() == Some(name) => format!("{description} (in use)"),
        Ok(Role { description, .. }) => description,
        Err(wrong) => format!("cannot be used: {}", wrong.join("; ")),
    };
    let rows: Vec<[String; 2]> = all.iter().map(|name| [name.clone(), about(name)]).collect();
    let lines = pairs(&rows, chat.screen.note_columns());
    chat.screen.show(&lines.join("\n"));
    Ok(())
}

fn take(chat: &mut Chat, words: &str) -> Result<(), Failure> {
    let (name, rest) = words.split_once(char::is_whitespace).unwrap_or((words, ""));
    let folder = chat.session.config().paths.as_ref().map(|paths| paths.roles.clone());
    let role = variables(rest).and_then(|given| roles::taken(folder.as_deref(), name, &given));
    let role = role.map_err(|wrong| saved::wrong_role(wrong, "/role", chat.screen))?;
    let before = system_before(chat)?;
    chat.take_role(Some(role.clone()))?;
    chat.session.set_system(role.system().map(String::from).or_else(|| before.clone()));
    chat.before_role = Some(before);
    chat.screen.note(&told(chat.session, &role));
    Ok(())
}

/// The system prompt to return to after a role.
fn system_before(chat: &mut Chat) -> Result<Option<String>, Failure> {
    let (config, own) = (chat.session.config(), &chat.session.conversation().system);
    Ok(match (&chat.before_role, config.role()) {
        // It was changed since.
        (_, Some(role)) if own.as_deref() != role.system() => own.clone(),
        (Some(before), _) => before.clone(),
        (None, Some(_)) => input::system_prompt(config.with_role(None).settings())?,
        (None, None) => own.clone(),
    })
}

fn leave(chat: &mut Chat) -> Result<(), Failure> {
    let Some(role) = chat.session.config().role().cloned() else {
        chat.screen.note("no role is in use");
        return Ok(());
    };
    let before = system_before(chat)?;
    chat.take_role(None)?;
    chat.session.set_system(before);
    chat.before_role = None;
    let now = match &chat.session.conversation().system {
        Some(_) => "the system prompt is the one before it",
        None => "there is no system prompt",
    };
    let model = &chat.session.model().name;
    chat.screen.note(&format!("left the role {}; {now}; the model is {model}", role.name));
    Ok(())
}

/// What the role does to this chat.
pub(in crate::repl) fn told(session: &Session, role: &TakenRole) -> String {
    let config = session.config();
    let mut parts = Vec::new();
    let system = role.system().map(|system| session.conversation().system.as_deref() == Some(system));
    if system == Some(true) {
        parts.push("its system prompt applies from the next message on".to_string());
    }
    if !role.examples.is_empty() {
        let examples = count(role.examples.len(), "example");
        let begin = if role.examples.len() == 1 { "begins" } else { "begin" };
        parts.push(match session.conversation().entries().is_empty() {
            true => format!("its {examples} {begin} this conversation"),
            false => format!("its {examples} {begin} the next conversation (/clear)"),
        });
    }
    if role.is_task() {
        parts.push("what you type goes into its prompt".into());
    }
    let own = |name: &&str| !name.starts_with("system-prompt");
    let mut names: Vec<&str> = role.settings.iter().map(|one| one.setting.name).filter(own).collect();
    names.dedup();
    let (hold, others): (Vec<&str>, Vec<&str>) =
        names.into_iter().partition(|name| config.source(name) == Source::Role);
    let value = |name: &&str| {
        let row = setting(name).expect("it is in the table");
        format!("{name} {}", (row.get)(config.settings()))
    };
    if !hold.is_empty() {
        parts.push(hold.iter().map(value).collect::<Vec<_>>().join(", "));
    }
    let starts =
        |name: &&str| setting(name).is_some_and(|row| row.effect == Effect::Start && row.name != "model");
    let (late, mut beaten): (Vec<&str>, Vec<&str>) = others.into_iter().partition(starts);
    beaten.extend((system == Some(false)).then_some("system prompt"));
    if !beaten.is_empty() {
        parts.push(format!("{} as you set it", beaten.join(", ")));
    }
    if !late.is_empty() {
        parts.push(format!("{} only when fireside starts (--role {})", late.join(", "), role.name));
    }
    format!("in the role {}{}{}", role.name, if parts.is_empty() { "" } else { ": " }, parts.join("; "))
}

/// `lang=French style=very formal` → values of variables. A word without `=` belongs to the value before it.
fn variables(words: &str) -> Result<Vec<(String, String)>, Vec<String>> {
    let mut all: Vec<(String, String)> = Vec::new();
    for word in words.split_whitespace() {
        match (word.split_once('='), all.last_mut()) {
            (Some((name, value)), _) if roles::is_variable(name) => all.push((name.into(), value.into())),
            (_, Some((_, value))) => *value = format!("{value} {word}").trim_start().to_string(),
            _ => return Err(vec![format!("a role takes NAME=VALUE after its name, not '{word}'")]),
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_variables_may_have_several_words() {
        let pair = |name: &str, value: &str| (name.to_string(), value.to_string());
        assert_eq!(variables("a=b c  d=1=2 ="), Ok(vec![pair("a", "b c"), pair("d", "1=2 =")]));
        assert_eq!(variables(" "), Ok(Vec::new()));
        assert!(variables("x a=b").is_err());
    }
}
