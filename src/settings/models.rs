//! The config file's sections for some models (`[models."PATTERN"]`) and its aliases of their names → what
//! holds for a model, and the name that is meant.

use std::borrow::Cow;

use super::assignment::Assignment;
use super::servers::{self, AT, Server};
use super::setting::{Group, Setting};

/// Another name of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alias {
    pub name: String,
    /// As `-m` takes it; never an alias.
    pub model: String,
    /// Its line in the config file.
    pub line: usize,
}

/// Settings for the models whose names match a pattern.
#[derive(Debug, Clone)]
pub struct Section {
    pub pattern: String,
    /// Its line in the config file.
    pub line: usize,
    pub assignments: Vec<Assignment>,
}

impl Section {
    /// Whether it is for a model with one of these names.
    pub fn is_for(&self, names: &[String]) -> bool {
        names.iter().any(|name| matches(&self.pattern.to_lowercase(), &name.to_lowercase()))
    }

    /// The more letters, the more specific is a pattern; of equals, the one further down.
    fn specificity(&self) -> (usize, usize) {
        (self.pattern.chars().filter(|c| !"*?".contains(*c)).count(), self.line)
    }
}

/// Whether a setting can differ from model to model: it is not needed before the model is known.
pub fn is_per_model(row: &Setting) -> bool {
    const OF_ALL: &[&str] =
        &["model", "model-folder", "offline", "numa", "color", "theme", "keys", "hints", "file-header"];
    row.group != Group::Conversation && !OF_ALL.contains(&row.name)
}

/// The values for a model with these names: each setting from the most specific section that has it.
pub(super) fn of_model(sections: &[Section], names: &[String]) -> Vec<Assignment> {
    let mut fitting: Vec<&Section> = sections.iter().filter(|section| section.is_for(names)).collect();
    fitting.sort_by_key(|section| section.specificity());
    let has = |section: &Section, name| section.assignments.iter().any(|a| a.setting.name == name);
    let (mut all, mut later) = (Vec::new(), &fitting[..]);
    while let Some((section, rest)) = later.split_first() {
        let left = |a: &&Assignment| !rest.iter().any(|other| has(other, a.setting.name));
        all.extend(section.assignments.iter().filter(left).cloned());
        later = rest;
    }
    all
}

/// `*` stands for any characters, `?` for one.
fn matches(pattern: &str, name: &str) -> bool {
    let Some(first) = pattern.chars().next() else { return name.is_empty() };
    let rest = &pattern[first.len_utf8()..];
    let mut after = name.chars();
    match first {
        '*' => name.char_indices().map(|(at, _)| at).chain([name.len()]).any(|at| matches(rest, &name[at..])),
        _ => after.next().is_some_and(|c| first == '?' || first == c) && matches(rest, after.as_str()),
    }
}

/// The name that an alias stands for; any other name as it is. In `NAME@SERVER`, NAME may be an alias too.
pub(super) fn unaliased<'a>(wanted: &'a str, aliases: &'a [Alias], known: &[Server]) -> Cow<'a, str> {
    let meant = |name: &str| aliases.iter().find(|alias| alias.name.eq_ignore_ascii_case(name));
    if let Some(alias) = meant(wanted) {
        return alias.model.as_str().into();
    }
    let at_server = servers::remote(wanted, known).and_then(|(name, _)| Some((name, meant(name)?)));
    match at_server {
        Some((name, alias)) if servers::remote(&alias.model, known).is_none() => {
            format!("{}{AT}{}", alias.model, &wanted[name.len() + AT.len_utf8()..]).into()
        }
        _ => wanted.into(),
    }
}

/// Whether this can be an alias: neither a path nor a reference.
pub(super) fn is_alias(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(plain)
        && !name.to_lowercase().ends_with(".gguf")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::assignment::Source;

    #[test]
    fn patterns_match_whole_names() {
        let fits = |pattern: &str, name: &str| {
            Section { pattern: pattern.into(), line: 1, assignments: Vec::new() }.is_for(&[name.into()])
        };
        for pattern in ["*", "Llama-3.2-*", "*3.2*", "llama-3.2-1b", "llama-?.2-*b", "**1b"] {
            assert!(fits(pattern, "Llama-3.2-1B"), "{pattern}");
        }
        for pattern in ["", "llama", "llama-3.2-", "*3b", "llama-??.2-1b", "llama-3.2-1b?"] {
            assert!(!fits(pattern, "Llama-3.2-1B"), "{pattern}");
        }
        assert!(fits("größe*", "GRÖßE-1") && fits("?b", "äb"));
        assert!(!fits(&"*a".repeat(12), &"b".repeat(40)));
    }

    #[test]
    fn the_most_specific_section_that_has_a_setting_wins() {
        let section = |pattern: &str, line, values: &[(&str, &str)]| Section {
            pattern: pattern.into(),
            line,
            assignments: values
                .iter()
                .map(|(name, value)| Assignment::of(name, value, Source::Section))
                .collect(),
        };
        let sections = [
            section("tiny-*", 1, &[("temp", "0.1"), ("stop", "a"), ("stop", "b")]),
            section("*", 2, &[("temp", "0.2"), ("top-k", "2"), ("stop", "c")]),
            section("*-tiny", 3, &[("temp", "0.3")]),
            section("ti?y-*", 4, &[("min-p", "0.4"), ("temp", "0.4")]),
            section("tin?-*", 5, &[("min-p", "0.5")]),
        ];
        let mut found: Vec<String> = of_model(&sections, &["Tiny-1B".into()])
            .iter()
            .map(|a| format!("{}={}", a.setting.name, a.value))
            .collect();
        found.sort();
        assert_eq!(found, ["min-p=0.5", "stop=a", "stop=b", "temp=0.1", "top-k=2"]);
    }

    #[test]
    fn an_alias_is_looked_up_once() {
        let alias = |name: &str, model: &str| Alias { name: name.into(), model: model.into(), line: 1 };
        let aliases = [alias("big", "qwen3-32b"), alias("far", "llama@work"), alias("x", "big")];
        let servers = [Server { name: "work".into(), ..Server::at("https://h") }];
        let meant = |wanted: &'static str| unaliased(wanted, &aliases, &servers).into_owned();
        assert_eq!(meant("BIG"), "qwen3-32b");
        assert_eq!(meant("big@work"), "qwen3-32b@work");
        assert_eq!(meant("big@http://h:1/"), "qwen3-32b@http://h:1/");
        assert_eq!((&*meant("far"), &*meant("far@work")), ("llama@work", "far@work"));
        assert_eq!((&*meant("x"), &*meant("bigger"), &*meant("big@home")), ("big", "bigger", "big@home"));
    }
}
