//! Values of settings with their sources: checked, collected, and applied by precedence.

use super::constraints::{CONSTRAINTS, piped};
use super::setting::Setting;
use super::table::setting;
use crate::chat::settings::Settings;

/// The source of a value; later ones win.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    Default,
    Catalogue,
    Model,
    File,
    /// A section of the config file for some models.
    Section,
    /// A role.
    Role,
    Environment,
    Flag,
    /// `/set` in the chat.
    Chat,
    /// A saved answer that is replayed.
    Record,
    /// The only value that works on this machine.
    Machine,
}

impl Source {
    pub fn name(self) -> &'static str {
        match self {
            Source::Default => "default",
            Source::Catalogue => "the catalogue's advice for this model",
            Source::Model => "the model file's advice",
            Source::File => "config file",
            Source::Section => "model section",
            Source::Role => "role",
            Source::Environment => "environment",
            Source::Flag => "flag",
            Source::Chat => "/set",
            Source::Record => "the saved answer",
            Source::Machine => "this machine",
        }
    }

    /// Whether the source changes with the model.
    pub(super) fn is_advice(self) -> bool {
        matches!(self, Source::Catalogue | Source::Model | Source::Section | Source::Machine)
    }
}

/// One value for one setting.
#[derive(Debug, Clone)]
pub struct Assignment {
    pub setting: &'static Setting,
    pub value: String,
    pub source: Source,
    /// Where exactly, as in `config.toml line 3`; empty: the source says it all.
    pub at: String,
}

impl Assignment {
    /// The parameters must be a valid setting and value.
    pub fn of(name: &str, value: &str, source: Source) -> Assignment {
        Assignment::new(setting(name).expect("the setting is in the table"), value, source)
    }

    /// The value must be valid.
    pub fn new(setting: &'static Setting, value: &str, source: Source) -> Assignment {
        Assignment { setting, value: value.into(), source, at: String::new() }
    }

    /// With its exact place.
    pub fn at(self, at: impl Into<String>) -> Assignment {
        Assignment { at: at.into(), ..self }
    }

    /// Where the value comes from, as exactly as it is known.
    pub fn origin(&self) -> &str {
        if self.at.is_empty() { self.source.name() } else { &self.at }
    }
}

/// An unknown setting or an invalid value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong {
    pub source: Source,
    pub what: String,
    /// It may be meant for another program, so it is only reported.
    pub harmless: bool,
}

/// What a person wrote → a checked value; the error says why it is invalid.
pub(super) fn value_of(setting: &Setting, written: &str, called: &str) -> Result<String, String> {
    let value = setting.read.map_or(Ok(written.to_string()), |read| read(written));
    let value = value.map_err(|why| refusal(called, written, &why))?;
    checked(setting, &value, called).map(|()| value)
}

/// The same from the command line, where a file may be a pipe.
pub(super) fn value_of_flag(setting: &Setting, written: &str, called: &str) -> Result<String, String> {
    let Some(text) = piped(setting.name, written) else { return value_of(setting, written, called) };
    let value = text.map_err(|why| refusal(called, written, &why))?;
    checked(setting, &value, called).map(|()| value)
}

/// Checks a value of a setting; the error says why it is invalid.
pub(super) fn checked(setting: &Setting, value: &str, called: &str) -> Result<(), String> {
    (setting.set)(&mut Settings::default(), value).map_err(|why| refusal(called, value, &why))
}

fn refusal(called: &str, value: &str, why: &str) -> String {
    if value.is_empty() { format!("{called} {why}") } else { format!("{called} {why}, not '{value}'") }
}

/// The end of an error: a suggestion.
pub(super) fn perhaps(meant: Option<String>) -> String {
    meant.map_or(String::new(), |meant| format!(", did you mean {meant}?"))
}

/// Applies checked values to the defaults.
pub(super) fn applied(all: &[Assignment]) -> Settings {
    let mut settings = Settings::default();
    for Assignment { setting, value, .. } in in_force(all) {
        (setting.set)(&mut settings, value).expect("every value was checked");
    }
    settings
}

/// Settings that exclude each other.
pub(super) const RIVALS: &[&[&str]] =
    &[&["incognito", "keep"], &["system-prompt", "system-prompt-file"], &CONSTRAINTS];

/// The values of the highest source of each setting, in order, without those that a rival from a higher
/// source beats.
pub(super) fn in_force(all: &[Assignment]) -> impl Iterator<Item = &Assignment> {
    let highest = |name| all.iter().filter(|a| a.setting.name == name).map(|a| a.source).max();
    let beaten = move |a: &Assignment| rivals(a.setting.name).any(|rival| given(all, rival) > Some(a.source));
    all.iter().filter(move |a| Some(a.source) == highest(a.setting.name) && !beaten(a))
}

/// Two settings from the same source that exclude each other.
pub(super) fn excluded(all: &[Assignment], source: Source) -> Option<[&'static str; 2]> {
    RIVALS.iter().find_map(|group| {
        let mut both = group.iter().copied().filter(|name| given(all, name) == Some(source));
        Some([both.next()?, both.next()?])
    })
}

/// The settings that a setting excludes.
pub(super) fn rivals(name: &str) -> impl Iterator<Item = &'static str> {
    let groups = RIVALS.iter().filter(move |group| group.contains(&name));
    groups.flat_map(|group| group.iter().copied()).filter(move |other| *other != name)
}

/// The source of a setting that is set, and not to off.
pub(super) fn given(all: &[Assignment], name: &str) -> Option<Source> {
    let last = all.iter().filter(|a| a.setting.name == name).max_by_key(|a| a.source)?;
    (!["", "off", "false", "0", "none"].contains(&last.value.as_str())).then_some(last.source)
}
