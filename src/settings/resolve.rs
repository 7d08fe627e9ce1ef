//! Flags, environment, config file and the model's advice → the settings that hold, each with its source.
//!
//! Mistakes are collected, not refused: the caller decides whether to go on without the value. Next: file.rs, environment.rs.

use super::paths::Paths;
use super::table::{SETTINGS, Setting, setting};
use super::{environment, file};
use crate::chat::settings::Settings;
use crate::error::Failure;

/// Where a setting's value comes from; later ones win.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    Default,
    Catalogue,
    Model,
    File,
    Environment,
    Flag,
    /// `/set` in the chat.
    Chat,
}

impl Source {
    pub fn name(&self) -> &'static str {
        match self {
            Source::Default => "default",
            Source::Catalogue => "the catalogue's advice for this model",
            Source::Model => "the model file's advice",
            Source::File => "config file",
            Source::Environment => "environment",
            Source::Flag => "flag",
            Source::Chat => "/set",
        }
    }
}

/// The settings that were typed, in the table's order; a value each time one was given.
#[derive(Debug, Clone, Default)]
pub struct Given(pub Vec<(&'static str, String)>);

/// One value for one setting.
#[derive(Debug, Clone)]
pub struct Assignment {
    pub setting: &'static Setting,
    pub value: String,
    pub source: Source,
}

/// What is no setting, or no value for one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong {
    pub source: Source,
    pub what: String,
    /// It may be meant for another program: nothing that was asked for is lost.
    pub harmless: bool,
}

/// Settings that cannot both hold.
const RIVALS: &[[&str; 2]] = &[["incognito", "keep"], ["system-prompt", "system-prompt-file"]];

/// Everything that was said about how to run, before a model's advice joins in.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// Each with a value that its setting can have.
    assignments: Vec<Assignment>,
    /// In the order of the sources, lowest first.
    pub wrong: Vec<Wrong>,
    /// `None` where the system knows no home folder for the user: nothing is kept then.
    pub paths: Option<Paths>,
}

impl Config {
    /// Reads the config file and the environment and adds what was typed. Every value is checked here.
    pub fn gather(given: &Given) -> Config {
        let mut config = Config { paths: Paths::find(), ..Config::default() };
        if let Some(paths) = &config.paths {
            file::read(&paths.config_file.clone(), &mut config);
        }
        environment::read(&mut config);
        for (name, value) in &given.0 {
            let row = setting(name).expect("flags are made from the table");
            config.say(row, value, Source::Flag, &format!("--{name}"));
        }
        RIVALS.iter().for_each(|rivals| config.decide(rivals));
        config
    }

    /// Of two rivals the one of the higher source holds; from the same one they are a contradiction.
    fn decide(&mut self, rivals: &[&str; 2]) {
        let settings = self.resolve(&[]).unwrap_or_default(); // every value was checked
        let given = |name: &str| {
            let shown = (setting(name)?.get)(&settings);
            let source = self.source(name, &[]);
            (source != Source::Default && !["", "off"].contains(&&*shown)).then_some(source)
        };
        let [Some(one), Some(other)] = rivals.map(given) else { return };
        if one == other {
            let called =
                rivals.map(|name| if one == Source::Flag { format!("--{name}") } else { name.into() });
            let what = format!("{} and {} exclude each other", called[0], called[1]);
            return self.wrong.push(Wrong { source: one, what, harmless: false });
        }
        let beaten = if one < other { rivals[0] } else { rivals[1] };
        self.assignments.retain(|assignment| assignment.setting.name != beaten);
    }

    /// Takes one value that was given for a setting, or notes what is wrong with it. `called`: as the user wrote its name.
    pub(super) fn say(&mut self, setting: &'static Setting, value: &str, source: Source, called: &str) {
        match checked(setting, value, called) {
            Ok(()) => self.assignments.push(Assignment { setting, value: value.to_string(), source }),
            Err(what) => self.wrong.push(Wrong { source, what, harmless: false }),
        }
    }

    /// The settings that hold, given what a model advises.
    pub fn resolve(&self, advice: &[Assignment]) -> Result<Settings, Failure> {
        let mut settings = Settings::default();
        for Assignment { setting, value, .. } in self.in_force(advice) {
            let set = (setting.set)(&mut settings, value);
            set.map_err(|why| Failure::usage(refusal(setting.name, value, &why)))?;
        }
        Ok(settings)
    }

    /// Where the value of a setting that holds came from.
    pub fn source(&self, name: &str, advice: &[Assignment]) -> Source {
        let holding = self.in_force(advice).into_iter().filter(|a| a.setting.name == name);
        holding.map(|a| a.source.clone()).max().unwrap_or(Source::Default)
    }

    /// The settings that shape an answer, each with its value; one that may be given several times, as often as it was.
    pub fn shaping(&self, settings: &Settings, advice: &[Assignment]) -> Vec<(String, String)> {
        let values = |row: &Setting| match row.repeats {
            true => self.given(row.name, advice),
            false => vec![(row.get)(settings)],
        };
        let rows = SETTINGS.iter().filter(|row| row.shapes && row.name != "seed");
        let pairs = rows.flat_map(|row| values(row).into_iter().map(|value| (row.name.to_string(), value)));
        pairs.filter(|(_, value)| !value.is_empty()).collect()
    }

    fn given(&self, name: &str, advice: &[Assignment]) -> Vec<String> {
        let holding = self.in_force(advice).into_iter().filter(|a| a.setting.name == name);
        holding.map(|a| a.value.clone()).collect()
    }

    /// The same with other values of the settings that shape an answer, whoever set them here.
    pub fn shaped(&self, pairs: &[(String, String)]) -> Result<Config, Failure> {
        let mut config = self.clone();
        config.assignments.retain(|assignment| !assignment.setting.shapes);
        for (name, value) in pairs {
            let row =
                setting(name).ok_or_else(|| Failure::new(format!("there is no setting '{name}' here")))?;
            checked(row, value, row.name).map_err(Failure::usage)?;
            let assignment = Assignment { setting: row, value: value.clone(), source: Source::Chat };
            config.assignments.push(assignment);
        }
        Ok(config)
    }

    /// Makes a setting from now on, over what was said before; `None`: as it was before the chat changed it.
    pub fn set(&mut self, row: &'static Setting, value: Option<&str>) -> Result<(), Failure> {
        if let Some(value) = value {
            checked(row, value, row.name).map_err(Failure::usage)?;
        }
        self.assignments.retain(|a| a.setting.name != row.name || a.source != Source::Chat);
        let assignment = |value: &str| Assignment { setting: row, value: value.into(), source: Source::Chat };
        self.assignments.extend(value.map(assignment));
        Ok(())
    }

    /// Of every setting the values of its highest source only, lowest sources first.
    fn in_force<'a>(&'a self, advice: &'a [Assignment]) -> Vec<&'a Assignment> {
        let all: Vec<&Assignment> = advice.iter().chain(&self.assignments).collect();
        let highest = |name| all.iter().filter(|a| a.setting.name == name).map(|a| &a.source).max();
        all.iter().copied().filter(|a| Some(&a.source) == highest(a.setting.name)).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    fn given(name: &str, value: &str, source: Source) -> Assignment {
        Assignment { setting: setting(name).unwrap(), value: value.into(), source }
    }

    fn config(assignments: Vec<Assignment>) -> Config {
        Config { assignments, ..Config::default() }
    }

    #[test]
    fn the_higher_source_wins_and_is_named() {
        let config = config(vec![given("temp", "0.5", Source::File), given("temp", "0.1", Source::Flag)]);
        let advice = [given("temp", "0.2", Source::Catalogue), given("top-p", "0.9", Source::Catalogue)];
        let settings = config.resolve(&advice).unwrap();
        assert_eq!((settings.sampling.temp, settings.sampling.top_p), (0.1, 0.9));
        assert_eq!(config.source("temp", &advice), Source::Flag);
        assert_eq!(config.source("top-p", &advice), Source::Catalogue);
        assert_eq!(config.source("top-k", &advice), Source::Default);
    }

    #[test]
    fn a_list_is_replaced_by_the_higher_source_not_joined() {
        let config = config(vec![
            given("stop", "a", Source::File),
            given("stop", "b", Source::Flag),
            given("stop", "c", Source::Flag),
        ]);
        assert_eq!(config.resolve(&[]).unwrap().stop, ["b", "c"]);
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
        let advice = [given("temp", "0.2", Source::Catalogue)];
        let settings = before.settle(&advice).unwrap();
        let pairs = before.shaping(&settings, &advice);
        let other = config(vec![given("temp", "2", Source::Flag), given("offline", "on", Source::File)]);
        let again = other.shaped(&pairs).unwrap();
        let now = again.settle(&[]).unwrap();
        assert!(now.offline);
        assert_eq!(again.shaping(&now, &[]), pairs);
        let mut sampling = settings.sampling.clone();
        sampling.seed = None; // every answer has its own
        assert_eq!(
            (now.sampling, now.stop, now.template_args),
            (sampling, settings.stop, settings.template_args)
        );
    }
}
