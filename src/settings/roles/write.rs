//! A command line → the text of a role's file.

use std::path::Path;

use super::text::{Text, escaped};
use super::{INPUT, Part, Role, front_matter};
use crate::settings::assignment::Assignment;

/// What becomes a role.
pub struct Draft<'a> {
    pub settings: &'a [Assignment],
    pub system: Option<&'a str>,
    /// Text before and after each place of the user's text.
    pub prompt: Option<Vec<&'a str>>,
}

impl Draft<'_> {
    /// The file's text; `None`: it would not be read as it is meant, because a text looks like part of the
    /// file.
    pub fn text(&self, name: &str, path: &Path) -> Option<String> {
        let mut lines: Vec<String> = Vec::new();
        for (at, one) in self.settings.iter().enumerate() {
            let same = |other: &&Assignment| other.setting.name == one.setting.name;
            if self.settings[..at].iter().any(|other| same(&other)) {
                continue; // with the first
            }
            let values: Vec<String> =
                self.settings.iter().filter(same).map(|other| front_matter::written(&other.value)).collect();
            let value =
                if one.setting.repeats { format!("[{}]", values.join(", ")) } else { values.concat() };
            lines.push(format!("{}: {value}", one.setting.name));
        }
        if !lines.is_empty() {
            lines.insert(0, "---".into());
            lines.push("---".into());
        }
        lines.extend(self.system.map(escaped));
        lines.extend(self.prompt().map(|prompt| format!("\n{}\n{prompt}", Part::Prompt.heading())));
        let text = lines.join("\n") + "\n";
        self.is(&Role::parse(name, path.to_path_buf(), &text).ok()?).then_some(text)
    }

    /// The prompt as the file has it.
    fn prompt(&self) -> Option<String> {
        let pieces: Vec<String> = self.prompt.as_ref()?.iter().map(|text| escaped(text)).collect();
        Some(pieces.join(&format!("${{{INPUT}}}")))
    }

    /// Whether the role is what is meant.
    fn is(&self, role: &Role) -> bool {
        let value =
            |one: &Assignment| one.setting.read.map_or(Ok(one.value.clone()), |read| read(&one.value));
        let given = self.settings.iter().map(|one| Some((one.setting.name, value(one).ok()?)));
        let [system, prompt] = role.texts();
        let meant = self.prompt().map(|prompt| Text::parse(&prompt, 1).plain());
        let Some(mut given) = given.collect::<Option<Vec<_>>>() else { return false };
        let mut read: Vec<_> =
            role.settings.iter().map(|one| (one.setting.name, one.value.clone())).collect();
        given.sort();
        read.sort();
        given == read
            && system == self.system.unwrap_or_default()
            && role.examples() == 0
            && prompt == meant.unwrap_or_default()
            && role.variables.is_empty()
    }
}
