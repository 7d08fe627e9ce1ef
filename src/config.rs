//! Flags, environment, config file and the model's advice → settings, each with where it came from; all paths.

use std::path::{Path, PathBuf};

use etcetera::BaseStrategy;

use crate::chat::options::{SETTINGS, Setting, setting};
use crate::chat::settings::Settings;
use crate::cli::Given;
use crate::error::{Failure, reason};
use crate::files;

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

/// One value for one setting.
#[derive(Debug, Clone)]
pub struct Assignment {
    pub setting: &'static Setting,
    pub value: String,
    pub source: Source,
}

/// Where things are kept. Every folder may be missing; none is made before something is written to it.
#[derive(Debug, Clone)]
pub struct Paths {
    pub config_file: PathBuf,
    /// GGUF files that can be named without their path.
    pub models: PathBuf,
    /// Lines typed in the chat.
    pub line_history: PathBuf,
    /// What is known of model files, and the model used last.
    pub known_models: PathBuf,
    /// Marks of the conversations that are being read or answered.
    pub working: PathBuf,
    /// The conversations that are kept.
    pub conversations: PathBuf,
    /// What the headers of model files say, so that a list need not read them again.
    pub headers: PathBuf,
    /// What models have evaluated, so that it need not be read again.
    pub snapshots: PathBuf,
    /// The user's home folder.
    pub home: PathBuf,
    /// Which files fireside itself has fetched.
    pub fetched: PathBuf,
}

/// Everything that was said about how to run, before a model's advice joins in.
#[derive(Debug, Clone)]
pub struct Config {
    assignments: Vec<Assignment>,
    /// `None` where the system knows no home folder for the user: nothing is kept then.
    pub paths: Option<Paths>,
}

impl Config {
    /// Reads the environment and the config file and adds what was typed. Every value is checked here.
    pub fn resolve(given: &Given) -> Result<Config, Failure> {
        let paths = Paths::find();
        let mut assignments = Vec::new();
        if let Some(paths) = &paths {
            assignments.extend(read_file(&paths.config_file)?);
        }
        for row in SETTINGS {
            let Some(value) = std::env::var_os(row.env()) else {
                continue;
            };
            let value = value
                .into_string()
                .map_err(|_| Failure::usage(format!("{} is not UTF-8 text", row.env())))?;
            assignments.push(Assignment { setting: row, value, source: Source::Environment });
        }
        for (name, value) in &given.0 {
            let row = setting(name).expect("flags are made from the table");
            assignments.push(Assignment { setting: row, value: value.clone(), source: Source::Flag });
        }
        let config = Config { assignments, paths };
        config.settle(&[])?;
        Ok(config)
    }

    /// The settings that hold, given what a model advises.
    pub fn settle(&self, advice: &[Assignment]) -> Result<Settings, Failure> {
        let mut settings = Settings::default();
        for assignment in self.in_force(advice) {
            (assignment.setting.set)(&mut settings, &assignment.value)
                .map_err(|why| assignment.failure(&why))?;
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
            let assignment = Assignment { setting: row, value: value.clone(), source: Source::Chat };
            (row.set)(&mut Settings::default(), value).map_err(|why| assignment.failure(&why))?;
            config.assignments.push(assignment);
        }
        Ok(config)
    }

    /// Makes a setting from now on, over what was said before. The value has been checked.
    pub fn set(&mut self, row: &'static Setting, value: &str) -> Result<(), Failure> {
        let assignment = Assignment { setting: row, value: value.to_string(), source: Source::Chat };
        (row.set)(&mut Settings::default(), value).map_err(|why| assignment.failure(&why))?;
        if row.repeats {
            self.assignments.retain(|a| a.setting.name != row.name || a.source != Source::Chat);
        }
        self.assignments.push(assignment);
        Ok(())
    }

    /// Of every setting the values of its highest source only, lowest sources first.
    fn in_force<'a>(&'a self, advice: &'a [Assignment]) -> Vec<&'a Assignment> {
        let all: Vec<&Assignment> = advice.iter().chain(&self.assignments).collect();
        let highest = |name| all.iter().filter(|a| a.setting.name == name).map(|a| &a.source).max();
        all.iter().copied().filter(|a| Some(&a.source) == highest(a.setting.name)).collect()
    }
}

impl Assignment {
    fn failure(&self, why: &str) -> Failure {
        let row = self.setting;
        let (what, value) = match self.source {
            Source::Environment => (row.env(), &self.value),
            Source::File => (format!("{} in the config file", row.name), &self.value),
            Source::Chat => (row.name.to_string(), &self.value),
            _ => (format!("--{}", row.name), &self.value),
        };
        Failure::usage(format!("{what} {why}, not '{value}'"))
    }
}

impl Paths {
    fn find() -> Option<Paths> {
        let base = etcetera::choose_base_strategy().ok()?;
        if !base.home_dir().is_absolute() {
            return None; // HOME is empty or relative: the current folder is nobody's home
        }
        let state = base.state_dir().unwrap_or_else(|| base.data_dir()).join("fireside");
        let models =
            std::env::var_os("FIRESIDE_MODELS").filter(|folder| !folder.is_empty()).map(PathBuf::from);
        Some(Paths {
            config_file: base.config_dir().join("fireside").join("config.toml"),
            models: models.unwrap_or_else(|| base.data_dir().join("fireside").join("models")),
            line_history: state.join("lines"),
            known_models: state.join("models.json"),
            working: state.join("working"),
            conversations: base.data_dir().join("fireside").join("conversations.db"),
            headers: base.cache_dir().join("fireside").join("headers.json"),
            snapshots: base.cache_dir().join("fireside").join("snapshots"),
            home: base.home_dir().to_path_buf(),
            fetched: state.join("fetched.json"),
        })
    }
}

/// Longest config file, in bytes.
const LONGEST: u64 = 1 << 20;

/// The config file: one `name = value` a line, in TOML. A missing file sets nothing.
fn read_file(path: &Path) -> Result<Vec<Assignment>, Failure> {
    let text = match files::read_text(path, LONGEST) {
        Ok(text) => text,
        Err(e)
            if e.kind() == std::io::ErrorKind::NotFound || e.kind() == std::io::ErrorKind::NotADirectory =>
        {
            return Ok(Vec::new());
        }
        Err(e) => {
            return Err(Failure::usage(format!(
                "could not read the config file {}: {}",
                path.display(),
                reason(&e)
            )));
        }
    };
    parse_file(&text).map_err(|why| {
        Failure::usage(format!("the config file {} is wrong: {why}", path.display()))
            .hint("each line is a setting, as in temp = 0.2; fireside config lists their names")
    })
}

fn parse_file(text: &str) -> Result<Vec<Assignment>, String> {
    let table: toml::Table = text.parse().map_err(|e: toml::de::Error| e.message().to_string())?;
    let mut assignments = Vec::new();
    for (name, value) in table {
        let row = setting(&name).ok_or_else(|| {
            let nearest = crate::nearest::nearest(&name, SETTINGS.iter().map(|s| s.name));
            format!(
                "there is no setting '{name}'{}",
                nearest.map_or(String::new(), |n| format!(", did you mean {n}?"))
            )
        })?;
        let values = match value {
            toml::Value::Array(values) if row.repeats => values,
            toml::Value::Table(pairs) if row.repeats => {
                pairs.into_iter().map(|(k, v)| format!("{k}={}", plain(&v)).into()).collect()
            }
            value => vec![value],
        };
        for value in values {
            assignments.push(Assignment { setting: row, value: plain(&value), source: Source::File });
        }
    }
    Ok(assignments)
}

fn plain(value: &toml::Value) -> String {
    match value {
        toml::Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(name: &str, value: &str, source: Source) -> Assignment {
        Assignment { setting: setting(name).unwrap(), value: value.into(), source }
    }

    fn config(assignments: Vec<Assignment>) -> Config {
        Config { assignments, paths: None }
    }

    #[test]
    fn the_higher_source_wins_and_is_named() {
        let config = config(vec![given("temp", "0.5", Source::File), given("temp", "0.1", Source::Flag)]);
        let advice = [given("temp", "0.2", Source::Catalogue), given("top-p", "0.9", Source::Catalogue)];
        let settings = config.settle(&advice).unwrap();
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
        assert_eq!(config.settle(&[]).unwrap().stop, ["b", "c"]);
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

    #[test]
    fn the_config_file_is_toml_with_the_names_of_the_flags() {
        let parsed =
            parse_file("temp = 0.2\nstop = [\"a\", \"b\"]\nmlock = true\n[template-arg]\nx = 1\n").unwrap();
        let settings = config(parsed).settle(&[]).unwrap();
        assert_eq!((settings.sampling.temp, settings.stop.len(), settings.mlock), (0.2, 2, true));
        assert_eq!(settings.template_args, [("x".to_string(), "1".to_string())]);
        assert_eq!(parse_file("tepm = 1").unwrap_err(), "there is no setting 'tepm', did you mean temp?");
        assert!(parse_file("temp = ").is_err());
    }
}
