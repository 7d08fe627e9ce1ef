//! One setting: its name, the values it takes, its help, when a change takes effect, and its parser and
//! formatter.

use std::path::Path;

use crate::chat::settings::Settings;

/// The groups of the table, in the order of `--help` and the docs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Group {
    Model,
    Ask,
    Answer,
    Sampling,
    Conversation,
    Output,
    Template,
}

impl Group {
    pub fn heading(self) -> &'static str {
        match self {
            Group::Model => "Model",
            Group::Ask => "Ask",
            Group::Answer => "Answer",
            Group::Sampling => "Sampling",
            Group::Conversation => "Conversation",
            Group::Output => "Output",
            Group::Template => "Template",
        }
    }
}

/// When a change made in a running chat takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// With the next answer.
    Now,
    /// After reloading the model, which `/set` does.
    Reload,
    /// Only when the program starts.
    Start,
}

type Set = fn(&mut Settings, &str) -> Result<(), String>;
type Get = fn(&Settings) -> String;
type Read = fn(&str) -> Result<String, String>;

/// One row of the table.
#[derive(Debug)]
pub struct Setting {
    /// The long flag, the config key and the name for `/set`; in capitals after `FIRESIDE_`, the environment
    /// variable.
    pub name: &'static str,
    pub short: Option<char>,
    /// Names from other programs.
    pub aliases: &'static [&'static str],
    /// Placeholder for its value, or the choices separated by `|`; empty for a switch.
    pub value: &'static str,
    pub group: Group,
    pub help: &'static str,
    pub effect: Effect,
    /// A list: each further value is added.
    pub repeats: bool,
    /// It affects answers.
    pub shapes: bool,
    /// Turns what a person wrote into its value, if that is not the same.
    pub read: Option<Read>,
    pub set: Set,
    pub get: Get,
}

impl Setting {
    /// Its value as text for people.
    pub fn shown(&self, settings: &Settings) -> String {
        let value = (self.get)(settings);
        if value.is_empty() { "not set".into() } else { value }
    }

    /// All its names.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        [self.name].into_iter().chain(self.aliases.iter().copied())
    }

    /// The name of its environment variable.
    pub fn env(&self) -> String {
        variable(self.name)
    }

    /// Its environment variable and those of its aliases.
    pub fn variables(&self) -> impl Iterator<Item = String> {
        self.names().map(variable)
    }

    /// Whether it accepts `true` and `false`.
    pub fn switches(&self) -> bool {
        self.value.is_empty() || self.choices().contains(&"on")
    }

    /// Whether its value is free text: not a number, a switch or a choice.
    pub fn takes_text(&self) -> bool {
        let number = |value: &str| matches!(value, "N" | "T" | "K" | "P" | "X");
        !self.switches() && self.choices().is_empty() && !self.value.split('|').any(number)
    }

    /// The ways to set a value at the start: flag, environment variable, config file.
    pub fn ways(&self, value: &str) -> String {
        let flag = match value {
            "on" | "true" | "1" if self.value.is_empty() => String::new(),
            _ if self.value.is_empty() => format!("={value}"),
            _ => format!(" {value}"),
        };
        format!("--{0}{flag}, {1}={value} or {0} = {2}", self.name, self.env(), self.in_toml(value))
    }

    /// A value as the config file has it: a switch as a truth, a number bare, all else in quotes.
    pub fn in_toml(&self, value: &str) -> String {
        match value {
            "on" | "true" | "1" if self.value.is_empty() => "true".into(),
            "off" | "false" | "0" if self.value.is_empty() => "false".into(),
            _ if !self.takes_text() && value.parse::<f64>().is_ok_and(f64::is_finite) => value.to_string(),
            _ => toml::Value::from(value).to_string(),
        }
    }

    /// A value that stands in a file in `folder`: a relative path begins there, not in the current folder.
    /// What may be a name is a path if it looks like one.
    pub fn anchored(&self, value: &str, folder: &Path) -> String {
        let path = Path::new(value);
        let kept = path.is_absolute() || path.starts_with("~") || ["", "none"].contains(&value);
        let dotted = path.starts_with(".") || path.starts_with("..");
        let is_path = !kept
            && match self.value {
                "FILE" | "FOLDER" => true,
                "NAME|FILE" => value.contains(['/', '.']),
                "JSON|FILE" => !is_json(value),
                _ if self.name == "model" => {
                    dotted || (value.contains(['/', '.']) && folder.join(path).is_file())
                }
                _ => false,
            };
        match is_path {
            true => folder.join(path.strip_prefix(".").unwrap_or(path)).display().to_string(),
            false => value.to_string(),
        }
    }

    /// Values for completion.
    pub fn choices(&self) -> Vec<&'static str> {
        if !self.value.contains('|') {
            return Vec::new();
        }
        self.value.split('|').filter(|choice| !choice.contains(char::is_uppercase)).collect()
    }
}

pub(super) fn variable(name: &str) -> String {
    format!("FIRESIDE_{}", name.to_uppercase().replace('-', "_"))
}

/// A setting's parser and formatter.
pub(super) struct Access {
    pub(super) set: Set,
    pub(super) get: Get,
}

pub(super) const fn row(name: &'static str, value: &'static str, group: Group, access: Access) -> Setting {
    let effect = match group {
        Group::Model => Effect::Reload,
        Group::Ask | Group::Conversation | Group::Template => Effect::Start,
        Group::Answer | Group::Sampling | Group::Output => Effect::Now,
    };
    let shapes = matches!(group, Group::Answer | Group::Sampling | Group::Template);
    let Access { set, get } = access;
    Setting {
        name,
        short: None,
        aliases: &[],
        value,
        group,
        help: "",
        effect,
        repeats: false,
        shapes,
        read: None,
        set,
        get,
    }
}

impl Setting {
    pub(super) const fn help(mut self, help: &'static str) -> Setting {
        self.help = help;
        self
    }
    pub(super) const fn short(mut self, short: char) -> Setting {
        self.short = Some(short);
        self
    }
    pub(super) const fn aliases(mut self, aliases: &'static [&'static str]) -> Setting {
        self.aliases = aliases;
        self
    }
    pub(super) const fn now(mut self) -> Setting {
        self.effect = Effect::Now;
        self
    }
    pub(super) const fn start(mut self) -> Setting {
        self.effect = Effect::Start;
        self
    }
    pub(super) const fn read(mut self, read: Read) -> Setting {
        self.read = Some(read);
        self
    }
    pub(super) const fn reload(mut self) -> Setting {
        self.effect = Effect::Reload;
        self
    }
    pub(super) const fn repeats(mut self) -> Setting {
        self.repeats = true;
        self
    }
    pub(super) const fn shapes(mut self) -> Setting {
        self.shapes = true;
        self
    }
}

/// Whether a value is meant as a schema, not as the path of one.
pub(super) fn is_json(value: &str) -> bool {
    value.trim_start().starts_with(['{', '[']) || ["true", "false"].contains(&value.trim())
}
