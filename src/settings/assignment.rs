//! A value for a setting, with its source: checked, collected, and applied where no higher source has another.

use super::setting::Setting;
use super::table::setting;
use crate::chat::settings::Settings;

/// Where a setting's value comes from; later ones win.
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
    /// Nothing else works on this machine.
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

    /// Whether it changes with the model.
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
    /// Of a setting and a value that are known to be right.
    pub fn of(name: &str, value: &str, source: Source) -> Assignment {
        let setting = setting(name).expect("it is in the table");
        Assignment { setting, value: value.into(), source }
    }
}

/// What is no setting, or no value for one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong {
    pub source: Source,
    pub what: String,
    /// It may be meant for another program: nothing that was asked for is lost.
    pub harmless: bool,
}

/// What the sources give, lowest first.
#[derive(Debug, Default)]
pub(super) struct Collected {
    /// Each with a value that its setting can have.
    pub assignments: Vec<Assignment>,
    pub wrong: Vec<Wrong>,
}

impl Collected {
    /// Takes a value for a setting, or notes what is wrong with it. `called`: the setting's name as the user wrote it.
    pub(super) fn add(&mut self, setting: &'static Setting, value: &str, source: Source, called: &str) {
        match checked(setting, value, called) {
            Ok(()) => self.assignments.push(Assignment { setting, value: value.to_string(), source }),
            Err(what) => self.wrong.push(Wrong { source, what, harmless: false }),
        }
    }
}

/// Whether a setting can have this value; else what is wrong with it.
pub(super) fn checked(setting: &Setting, value: &str, called: &str) -> Result<(), String> {
    (setting.set)(&mut Settings::default(), value).map_err(|why| refusal(called, value, &why))
}

fn refusal(called: &str, value: &str, why: &str) -> String {
    if value.is_empty() { format!("{called} {why}") } else { format!("{called} {why}, not '{value}'") }
}

/// The end of a sentence that names what was perhaps meant.
pub(super) fn perhaps(meant: Option<String>) -> String {
    meant.map_or(String::new(), |meant| format!(", did you mean {meant}?"))
}

/// The settings that checked values come to.
pub(super) fn applied(all: &[Assignment]) -> Settings {
    let mut settings = Settings::default();
    for Assignment { setting, value, .. } in in_force(all) {
        (setting.set)(&mut settings, value).expect("every value was checked");
    }
    settings
}

/// Of every setting the values of its highest source only, in the order given.
pub(super) fn in_force(all: &[Assignment]) -> impl Iterator<Item = &Assignment> {
    let highest = |name| all.iter().filter(|a| a.setting.name == name).map(|a| a.source).max();
    all.iter().filter(move |a| Some(a.source) == highest(a.setting.name))
}
