//! Flags, environment, config file and the model's recommendations → the settings in effect, each with its
//! source.
//!
//! Errors are collected; the caller decides whether to continue. Next: file.rs, environment.rs.

use std::borrow::Cow;
use std::sync::Arc;

use super::assignment::{Assignment, Source, Wrong, applied, checked, excluded, in_force, rivals, value_of};
use super::collected::Collected;
use super::constraints::shown_as;
use super::models::{self, Alias, Section};
use super::paths::Paths;
use super::roles::TakenRole;
use super::servers::{self, Server};
use super::setting::{Effect, Group, Setting};
use super::table::{SETTINGS, setting};
use super::{environment, file};
use crate::chat::settings::Settings;

/// The settings from the command line, in the order of the table; repeatable ones with all values.
#[derive(Debug, Clone, Default)]
pub struct Given(pub Vec<(&'static str, String)>);

/// Why a setting cannot be set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("there is no setting '{0}' here")]
    Unknown(String),
    /// The value is invalid: names the setting and the reason.
    #[error("{0}")]
    Wrong(String),
}

/// All values from all sources, and the resolved settings.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// Valid values only.
    assignments: Vec<Assignment>,
    /// The resolved settings.
    settings: Settings,
    /// Errors, lowest source first.
    pub wrong: Vec<Wrong>,
    /// The servers of the config file.
    pub servers: Vec<Server>,
    pub aliases: Vec<Alias>,
    /// The sections of the config file for some models.
    pub sections: Vec<Section>,
    role: Option<Arc<TakenRole>>,
    /// `None` without a home folder: nothing is saved then.
    pub paths: Option<Paths>,
}

impl Config {
    /// Reads the config file and the environment, and adds the command line. Checks every value.
    pub fn gather(given: &Given) -> Config {
        let (paths, mut found) = (Paths::find(), Collected::default());
        if let Some(paths) = &paths {
            file::read(&paths.config_file, &mut found);
        }
        environment::read(&mut found);
        for (name, value) in &given.0 {
            let row = setting(name).expect("the flags come from the table");
            found.add(Assignment::new(row, value, Source::Flag), &format!("--{name}"));
        }
        for source in [Source::File, Source::Environment, Source::Flag] {
            let called = |name: &str| if source == Source::Flag { format!("--{name}") } else { name.into() };
            let pair = excluded(&found.assignments, source).map(|pair| pair.map(called));
            let what = pair.map(|[one, other]| format!("{one} and {other} exclude each other"));
            found.wrong.extend(what.map(|what| Wrong { source, what, harmless: false }));
        }
        let Collected { assignments, wrong, servers, aliases, sections } = found;
        let settings = applied(&assignments);
        Config { settings, assignments, wrong, servers, aliases, sections, paths, role: None }
    }

    /// The role in use.
    pub fn role(&self) -> Option<&TakenRole> {
        self.role.as_deref()
    }

    /// The same with a role instead of the one before.
    pub fn with_role(&self, role: Option<TakenRole>) -> Config {
        let mut config = self.clone();
        config.change(|assignments| {
            assignments.retain(|assignment| assignment.source != Source::Role);
            assignments.extend(role.iter().flat_map(|role| role.settings.clone()));
        });
        config.role = role.map(Arc::new);
        config
    }

    /// The same in a running chat, where settings that count at the start stay as they are.
    pub fn with_role_in_chat(&self, mut role: Option<TakenRole>) -> Config {
        role.iter_mut().for_each(|role| role.settings.retain(|one| !starts(one.setting)));
        let before = self.assignments.iter().filter(|one| one.source == Source::Role && starts(one.setting));
        let mut config = self.with_role(role);
        config.change(|assignments| assignments.extend(before.cloned()));
        config
    }

    /// The model of the role in use, unless something else decides.
    pub fn role_model(&self) -> Option<&str> {
        self.settings.model.as_deref().filter(|_| self.source("model") == Source::Role)
    }

    /// The settings of the config file's sections for a model with these names.
    pub fn of_model(&self, names: &[String]) -> Vec<Assignment> {
        models::of_model(&self.sections, names)
    }

    /// The name that an alias stands for; any other name as it is.
    pub fn unaliased<'a>(&'a self, wanted: &'a str) -> Cow<'a, str> {
        models::unaliased(wanted, &self.aliases, &self.servers)
    }

    /// Whether somebody typed the name of this model here and now, so that a relative path begins in the
    /// current folder.
    pub fn is_typed(&self, wanted: &str) -> bool {
        let in_file = self.is_in_file("model") && self.settings.model.as_deref() == Some(wanted);
        self.unaliased(wanted) == wanted && !in_file
    }

    /// Whether the value in effect stands in the config file or in a role.
    pub fn is_in_file(&self, name: &str) -> bool {
        matches!(self.source(name), Source::File | Source::Section | Source::Role)
    }

    /// The settings in effect.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The server of a remote model, and the model's name there, which may be empty.
    pub fn remote(&self, wanted: &str) -> Option<(String, Server)> {
        let meant = self.unaliased(wanted);
        servers::remote(&meant, &self.servers).map(|(name, server)| (name.to_string(), server))
    }

    /// Whether a model is at a server that has no section in the config file.
    pub fn is_at_unnamed_server(&self, wanted: &str) -> bool {
        self.remote(wanted).is_some_and(|(_, server)| server.name.is_empty())
    }

    /// The same with the recommendations of another model.
    pub fn advised(&self, advice: Vec<Assignment>) -> Config {
        let mut config = self.clone();
        config.change(|assignments| {
            assignments.retain(|assignment| !assignment.source.is_advice());
            assignments.extend(advice);
        });
        config
    }

    /// The source of the value in effect.
    pub fn source(&self, name: &str) -> Source {
        self.in_force(name).map_or(Source::Default, |a| a.source)
    }

    /// Where the value in effect comes from, as exactly as it is known.
    pub fn origin(&self, name: &str) -> String {
        self.in_force(name).map_or(Source::Default.name(), Assignment::origin).to_string()
    }

    /// The name under which what a setting shows was given: another one for it, or its own.
    pub fn given_as<'a>(&self, name: &'a str) -> &'a str {
        let is_other = |a: &&Assignment| a.setting.name != name && shown_as(a.setting.name) == name;
        let other = in_force(&self.assignments).find(is_other);
        other.filter(|_| self.in_force(name).is_none()).map_or(name, |a| a.setting.name)
    }

    /// A setting's value, or what was given under this other name for it.
    pub fn value(&self, row: &Setting) -> String {
        let given = self.in_force(row.name).filter(|a| shown_as(row.name) != row.name && a.value != "none");
        given.map_or_else(|| (row.get)(&self.settings), |a| a.value.clone())
    }

    fn in_force(&self, name: &str) -> Option<&Assignment> {
        in_force(&self.assignments).find(|a| a.setting.name == name)
    }

    /// The settings that affect an answer, with their values: a list's values one by one.
    pub fn shaping(&self) -> Vec<(String, String)> {
        let given = |row: &Setting| -> Vec<String> {
            let values = in_force(&self.assignments).filter(|a| a.setting.name == row.name);
            values.map(|a| a.value.clone()).collect()
        };
        let values = |row: &Setting| if row.repeats { given(row) } else { vec![(row.get)(&self.settings)] };
        let rows = SETTINGS.iter().filter(|row| row.shapes && row.name != "seed");
        let pairs = rows.flat_map(|row| values(row).into_iter().map(|value| (row.name.to_string(), value)));
        pairs.filter(|(_, value)| !value.is_empty()).collect()
    }

    /// The same with the values of the settings that affect an answer from a saved one.
    pub fn shaped(&self, pairs: &[(String, String)]) -> Result<Config, Error> {
        let mut config = self.clone();
        config.change(|assignments| assignments.retain(|assignment| !assignment.setting.shapes));
        let sections = config.sections.iter_mut();
        sections.for_each(|section| section.assignments.retain(|assignment| !assignment.setting.shapes));
        for (name, value) in pairs {
            let row = setting(name).ok_or_else(|| Error::Unknown(name.clone()))?;
            checked(row, value, row.name).map_err(Error::Wrong)?;
            let assignment = Assignment::new(row, value, Source::Record);
            config.change(|assignments| assignments.push(assignment));
        }
        Ok(config)
    }

    /// Sets a value in the chat, over all other sources. `None` restores the value from before the chat.
    pub fn set(&mut self, row: &'static Setting, value: Option<&str>) -> Result<(), Error> {
        let value = value.map(|value| value_of(row, value, row.name)).transpose().map_err(Error::Wrong)?;
        let assignment = |value: String| Assignment::new(row, &value, Source::Chat);
        let rivals: Vec<&str> = rivals(row.name).filter(|_| value.is_some()).collect();
        let is_replaced = |a: &Assignment| a.setting.name == row.name || rivals.contains(&a.setting.name);
        self.change(|assignments| {
            assignments.retain(|a| a.source != Source::Chat || !is_replaced(a));
            assignments.extend(value.map(assignment));
        });
        Ok(())
    }

    fn change(&mut self, change: impl FnOnce(&mut Vec<Assignment>)) {
        change(&mut self.assignments);
        self.settings = applied(&self.assignments);
    }
}

/// Whether a setting counts at the start only. A role's model and system prompt have ways of their own.
pub(super) fn starts(row: &Setting) -> bool {
    row.effect == Effect::Start && row.group != Group::Ask && row.name != "model"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(name: &str, value: &str, source: Source) -> Assignment {
        Assignment::of(name, value, source)
    }

    fn config(assignments: Vec<Assignment>) -> Config {
        Config::default().advised(assignments)
    }

    #[test]
    fn the_higher_source_wins_and_is_named() {
        let config = config(vec![given("temp", "0.5", Source::File), given("temp", "0.1", Source::Flag)]);
        let advice = vec![given("temp", "0.2", Source::Catalogue), given("top-p", "0.9", Source::Catalogue)];
        let config = config.advised(advice);
        let settings = config.settings();
        assert_eq!((settings.sampling.temp, settings.sampling.top_p), (0.1, 0.9));
        assert_eq!(config.source("temp"), Source::Flag);
        assert_eq!(config.source("top-p"), Source::Catalogue);
        assert_eq!(config.source("top-k"), Source::Default);
        let other = config.advised(vec![given("top-k", "7", Source::Model)]);
        assert_eq!((other.settings().sampling.top_p, other.settings().sampling.top_k), (0.95, 7));
    }

    #[test]
    fn a_list_is_replaced_by_the_higher_source_not_joined() {
        let config = config(vec![
            given("stop", "a", Source::File),
            given("stop", "b", Source::Flag),
            given("stop", "c", Source::Flag),
        ]);
        assert_eq!(config.settings().stop, ["b", "c"]);
    }

    #[test]
    fn what_shapes_an_answer_can_be_set_again() {
        let typed = [
            ("stop", "a, b"),
            ("stop", "c"),
            ("logit-bias", "5-inf"),
            ("template-arg", "x=1"),
            ("samplers", "top_k;temp"),
            ("seed", "7"),
            ("dry-sequence-breaker", "x"),
            ("threads", "3"),
        ];
        let before = config(typed.map(|(name, value)| given(name, value, Source::Flag)).to_vec());
        let before = before.advised(vec![given("temp", "0.2", Source::Catalogue)]);
        let settings = before.settings();
        let pairs = before.shaping();
        let other = config(vec![given("temp", "2", Source::Flag), given("offline", "on", Source::File)]);
        let again = other.shaped(&pairs).unwrap();
        let now = again.settings();
        assert!(now.offline);
        assert_eq!(again.shaping(), pairs);
        let mut sampling = settings.sampling.clone();
        sampling.seed = None; // each answer has its own seed
        assert_eq!(
            (&now.sampling, &now.stop, &now.template_args),
            (&sampling, &settings.stop, &settings.template_args)
        );
    }
}
