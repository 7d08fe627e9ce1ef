//! Values of settings with their sources: checked, collected, and applied by precedence.

use super::servers::Server;
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
    Environment,
    Flag,
    /// `/set` in the chat.
    Chat,
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
            Source::Environment => "environment",
            Source::Flag => "flag",
            Source::Chat => "/set",
            Source::Machine => "this machine",
        }
    }

    /// Whether the source changes with the model.
    pub(super) fn is_advice(self) -> bool {
        matches!(self, Source::Catalogue | Source::Model | Source::Machine)
    }
}

/// One value for one setting.
#[derive(Debug, Clone)]
pub struct Assignment {
    pub setting: &'static Setting,
    pub value: String,
    pub source: Source,
}

impl Assignment {
    /// The parameters must be a valid setting and value.
    pub fn of(name: &str, value: &str, source: Source) -> Assignment {
        let setting = setting(name).expect("the setting is in the table");
        Assignment { setting, value: value.into(), source }
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

/// The values from all sources, lowest precedence first.
#[derive(Debug, Default)]
pub(super) struct Collected {
    /// Valid values only.
    pub assignments: Vec<Assignment>,
    pub wrong: Vec<Wrong>,
    pub servers: Vec<Server>,
}

impl Collected {
    /// Adds a value, or records why it is invalid. `called`: the setting's name as the user wrote it.
    pub(super) fn add(&mut self, setting: &'static Setting, value: &str, source: Source, called: &str) {
        match read(setting, value, called) {
            Ok(value) => self.assignments.push(Assignment { setting, value, source }),
            Err(what) => self.wrong.push(Wrong { source, what, harmless: false }),
        }
    }
}

/// What a person wrote → a checked value; the error says why it is invalid.
pub(super) fn read(setting: &Setting, written: &str, called: &str) -> Result<String, String> {
    let value = setting.read.map_or(Ok(written.to_string()), |read| read(written));
    let value = value.map_err(|why| refusal(called, written, &why))?;
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

/// The values of the highest source of each setting, in order.
pub(super) fn in_force(all: &[Assignment]) -> impl Iterator<Item = &Assignment> {
    let highest = |name| all.iter().filter(|a| a.setting.name == name).map(|a| a.source).max();
    all.iter().filter(move |a| Some(a.source) == highest(a.setting.name))
}
