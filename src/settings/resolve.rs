//! Flags, environment, config file and the model's recommendations → the settings in effect, each with its
//! source.
//!
//! Errors are collected; the caller decides whether to continue. Next: file.rs, environment.rs.

use super::assignment::{Assignment, Collected, Source, Wrong, applied, checked, in_force, read};
use super::constraints::CONSTRAINTS;
use super::paths::Paths;
use super::servers::{self, Server};
use super::setting::Setting;
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

/// Settings that exclude each other.
const RIVALS: &[&[&str]] = &[&["incognito", "keep"], &["system-prompt", "system-prompt-file"], &CONSTRAINTS];

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
            found.add(row, value, Source::Flag, &format!("--{name}"));
        }
        let Collected { assignments, wrong, servers } = found;
        let mut config = Config { settings: applied(&assignments), assignments, wrong, servers, paths };
        RIVALS.iter().for_each(|rivals| config.decide(rivals));
        config
    }

    /// The settings in effect.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The server of a remote model, and the model's name there, which may be empty.
    pub fn remote<'a>(&self, wanted: &'a str) -> Option<(&'a str, Server)> {
        servers::remote(wanted, &self.servers)
    }

    /// Whether a model is at a server that has no section in the config file.
    pub fn is_at_unnamed_server(&self, wanted: &str) -> bool {
        self.remote(wanted).is_some_and(|(_, server)| server.name.is_empty())
    }

    /// Of settings that exclude each other, the one from the highest source wins; two from the same source are an
    /// error.
    fn decide(&mut self, rivals: &[&str]) {
        let in_use = |a: &&Assignment| {
            let mut settings = Settings::default();
            (a.setting.set)(&mut settings, &a.value).is_ok() && settings != Settings::default()
        };
        let given = |name: &&str| {
            let values = in_force(&self.assignments).filter(|a| a.setting.name == *name);
            values.last().filter(in_use).map(|a| (a.source, a.setting.name))
        };
        let given: Vec<(Source, &str)> = rivals.iter().filter_map(given).collect();
        let Some(highest) = given.iter().map(|(source, _)| *source).max() else { return };
        let winners: Vec<&str> =
            given.iter().filter(|(source, _)| *source == highest).map(|(_, name)| *name).collect();
        if let [one, other, ..] = winners[..] {
            let called =
                |name| if highest == Source::Flag { format!("--{name}") } else { String::from(name) };
            let what = format!("{} and {} exclude each other", called(one), called(other));
            return self.wrong.push(Wrong { source: highest, what, harmless: false });
        }
        let beaten = |name| rivals.contains(&name) && !winners.contains(&name);
        self.change(|assignments| assignments.retain(|assignment| !beaten(assignment.setting.name)));
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
        in_force(&self.assignments).find(|a| a.setting.name == name).map_or(Source::Default, |a| a.source)
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

    /// The same with other values of the settings that affect an answer.
    pub fn shaped(&self, pairs: &[(String, String)]) -> Result<Config, Error> {
        let mut config = self.clone();
        config.change(|assignments| assignments.retain(|assignment| !assignment.setting.shapes));
        for (name, value) in pairs {
            let row = setting(name).ok_or_else(|| Error::Unknown(name.clone()))?;
            checked(row, value, row.name).map_err(Error::Wrong)?;
            let assignment = Assignment { setting: row, value: value.clone(), source: Source::Chat };
            config.change(|assignments| assignments.push(assignment));
        }
        Ok(config)
    }

    /// Sets a value in the chat, over all other sources. `None` restores the value from before the chat.
    pub fn set(&mut self, row: &'static Setting, value: Option<&str>) -> Result<(), Error> {
        let value = value.map(|value| read(row, value, row.name)).transpose().map_err(Error::Wrong)?;
        let assignment = |value| Assignment { setting: row, value, source: Source::Chat };
        self.change(|assignments| {
            assignments.retain(|a| a.setting.name != row.name || a.source != Source::Chat);
            assignments.extend(value.map(assignment));
        });
        Ok(())
    }

    fn change(&mut self, change: impl FnOnce(&mut Vec<Assignment>)) {
        change(&mut self.assignments);
        self.settings = applied(&self.assignments);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(name: &str, value: &str, source: Source) -> Assignment {
        Assignment { setting: setting(name).unwrap(), value: value.into(), source }
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
