//! A header and the settings → the chat template to use: the user's, one of the file's own, or a built-in
//! one.
//!
//! A file may have one unnamed template, and named ones for retrieval or tools. If all are named, the one
//! called `default` is used unless the user wants another, or the only one.

use std::path::Path;

use super::Error;
use crate::chat::settings::Settings;
use crate::engine::prompt::builtin::{self, builtin};
use crate::engine::prompt::template::{Supports, Template};
use crate::gguf::Header;
use crate::input;
use crate::settings::Config;

const KEY: &str = "tokenizer.chat_template";

/// The file's named templates with their sources.
fn named(header: &Header) -> impl Iterator<Item = (&str, &str)> {
    header.entries().filter_map(|(key, _)| {
        let name = key.strip_prefix(KEY)?.strip_prefix('.')?;
        let source = header.str(key).filter(|source| !source.trim().is_empty())?;
        (!name.is_empty() && !name.contains(char::is_control)).then_some((name, source))
    })
}

/// The names of the file's named templates.
pub fn template_names(header: &Header) -> Vec<&str> {
    named(header).map(|(name, _)| name).collect()
}

/// Whether the file has any template: a file without one is a base model.
pub fn has_template(header: &Header) -> bool {
    unnamed(header).is_some() || named(header).next().is_some()
}

fn unnamed(header: &Header) -> Option<&str> {
    header.str(KEY).filter(|source| !source.trim().is_empty())
}

/// The file's template to use unless the user wants another; `None` for a base model.
pub fn own_template(header: &Header) -> Result<Option<&str>, Error> {
    let mut all = named(header);
    let default = unnamed(header)
        .or_else(|| named(header).find(|(name, _)| *name == "default").map(|(_, source)| source));
    match (default, all.next(), all.next()) {
        (Some(source), ..) => Ok(Some(builtin(source).unwrap_or(source))),
        (None, one, None) => Ok(one.map(|(_, source)| source)),
        (None, ..) => Err(Error::SeveralTemplates(own_names(header))),
    }
}

/// The Jinja source to use: the user's or the file's; `None` for a base model.
pub fn chat_template(header: &Header, settings: &Settings) -> Result<Option<String>, Error> {
    let Some(wanted) = &settings.chat_template else {
        return own_template(header).map(|source| source.map(String::from));
    };
    let own = named(header).find(|(name, _)| name == wanted).map(|(_, source)| source);
    if let Some(source) = own.or_else(|| builtin(wanted)) {
        return Ok(Some(source.to_string()));
    }
    let unread = |source| Error::NoTemplate { own: own_names(header), source };
    input::read_file(Path::new(wanted)).map(Some).map_err(unread)
}

/// The same; a name in the config file or in a role never means a file in the current folder.
pub(super) fn template_of(header: &Header, config: &Config) -> Result<Option<String>, Error> {
    let wanted = config.settings().chat_template.as_deref().filter(|_| config.is_in_file("chat-template"));
    match wanted.filter(|name| !name.contains(['/', '.'])) {
        Some(name) if builtin(name).is_none() && !named(header).any(|(own, _)| own == name) => {
            let why = "there is no such template".to_string();
            let source = input::Error::Unreadable { name: name.into(), why };
            Err(Error::NoTemplate { own: own_names(header), source })
        }
        _ => chat_template(header, config.settings()),
    }
}

fn own_names(header: &Header) -> Vec<String> {
    template_names(header).into_iter().map(String::from).collect()
}

/// The names of the built-in templates.
pub fn builtin_templates() -> Vec<&'static str> {
    builtin::names().collect()
}

/// What a chat template supports; `None` if it cannot be parsed.
pub fn supports(source: &str) -> Option<Supports> {
    Template::new(source, "", "", &[]).ok().map(|template| template.supports())
}
