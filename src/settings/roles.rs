//! Roles: `roles/NAME.md` beside the config file → settings, a system prompt, examples and a prompt.
//!
//! A file begins with front matter between `---` lines (front_matter.rs), if it has any. Then comes the
//! system prompt; then examples, pairs of `### INPUT:` and `### OUTPUT:`; then, after `### PROMPT:`, the prompt of a
//! task. Variables stand in all texts (text.rs); `$input`, the user's text, in the prompt only.

mod front_matter;
mod text;
mod write;

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use self::front_matter::Value;
use self::text::Text;
pub use self::write::Draft;
use super::assignment::{Assignment, Source, excluded, perhaps, value_of};
use super::setting::Setting;
use super::table::{names, setting};
use crate::chat::message::{join_parts, without_mark};
use crate::chat::settings::renamed;
use crate::files::{self, reason};
use crate::suggest::nearest;

/// Size limit of a role, in bytes.
const LONGEST: u64 = 1 << 20;
/// Where the user's text goes.
const INPUT: &str = "input";
/// The keys besides the settings.
const KEYS: [&str; 2] = ["description", "vars"];
/// Settings whose place is the text below the front matter.
const BELOW: [&str; 2] = ["system-prompt", "system-prompt-file"];

/// A role as its file has it.
#[derive(Debug, Clone)]
pub struct Role {
    pub name: String,
    pub path: PathBuf,
    pub description: String,
    pub settings: Vec<Assignment>,
    /// The variables, each with its default if it has one.
    pub variables: Vec<(String, Option<String>)>,
    system: Text,
    examples: Vec<[Text; 2]>,
    prompt: Option<Text>,
}

/// A role in use: every variable has its value.
#[derive(Debug, Clone)]
pub struct TakenRole {
    pub name: String,
    /// The system prompt, if it has one, is among them.
    pub settings: Vec<Assignment>,
    /// Pairs of a message and its answer, for the beginning of a conversation.
    pub examples: Vec<[String; 2]>,
    /// The prompt; its only variable is the input.
    prompt: Option<Text>,
}

/// The role in `folder` with this name, with the values of its variables. An error is all that is wrong with it,
/// a line each.
pub fn taken(
    folder: Option<&Path>,
    name: &str,
    given: &[(String, String)],
) -> Result<TakenRole, Vec<String>> {
    let folder = folder.ok_or_else(|| vec!["there is no home folder, so there are no roles".to_string()])?;
    find(folder, name)?.with(given)
}

/// Whether this can be the name of a role.
pub fn is_name(name: &str) -> bool {
    let plain = |c: char| c.is_alphanumeric() || "-_.".contains(c);
    name.starts_with(|c: char| c.is_alphanumeric()) && name.chars().all(plain) && name != "none"
}

/// Whether this can be the name of a variable.
pub fn is_variable(name: &str) -> bool {
    text::is_name(name)
}

/// The names of all files in a folder that are roles, or would be if their names allowed it.
pub fn list(folder: &Path) -> Vec<String> {
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let name = |file: std::fs::DirEntry| Some(file.file_name().to_str()?.strip_suffix(".md")?.to_string());
    let mut names: Vec<String> = files.filter_map(name).filter(|name| !name.starts_with('.')).collect();
    names.sort();
    names
}

/// The file of a role.
pub fn file(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.md"))
}

/// The role with this name.
pub fn find(folder: &Path, name: &str) -> Result<Role, Vec<String>> {
    if !is_name(name) {
        let file = file(folder, "NAME");
        return Err(vec![format!(
            "'{name}' is not the name of a role: letters, digits, -, _ and . make a NAME for {}",
            file.display()
        )]);
    }
    let path = file(folder, name);
    match files::read_text(&path, LONGEST) {
        Ok(text) => Role::parse(name, path, &without_mark(text)),
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            let known = list(folder);
            let meant = nearest(name, known.iter().map(String::as_str)).map(String::from);
            Err(vec![format!("there is no role '{name}'{}", perhaps(meant))])
        }
        Err(e) => Err(vec![format!("could not read the role {}: {}", path.display(), reason(&e))]),
    }
}

impl Role {
    fn parse(name: &str, path: PathBuf, text: &str) -> Result<Role, Vec<String>> {
        let role = Role {
            name: name.into(),
            path,
            description: String::new(),
            settings: Vec::new(),
            variables: Vec::new(),
            system: Text::default(),
            examples: Vec::new(),
            prompt: None,
        };
        let mut reader = Reader { role, wrong: BTreeMap::new() };
        let lines: Vec<&str> = text.lines().collect();
        let mut below = 0;
        if lines.first().is_some_and(|line| line.trim_end() == "---") {
            match lines[1..].iter().position(|line| line.trim_end() == "---") {
                Some(end) => below = end + 2,
                None => reader.refuse(1, "the front matter lacks the line --- at its end"),
            }
        }
        let (entries, wrong) =
            front_matter::parse(&lines[below.min(1)..below.saturating_sub(1)].join("\n"), 2);
        wrong.iter().for_each(|(line, why)| reader.refuse(*line, why));
        entries.into_iter().for_each(|(line, key, value)| reader.entry(line, &key, value));
        reader.texts(&lines[below..], below + 1);
        reader.all_variables();
        if let Some([one, other]) = excluded(&reader.role.settings, Source::Role) {
            reader.refuse(1, &format!("{one} and {other} exclude each other"));
        }
        match reader.wrong.is_empty() {
            true => Ok(reader.role),
            false => Err(reader.wrong.into_values().collect()),
        }
    }

    /// Whether it is a task, which has a prompt.
    pub fn is_task(&self) -> bool {
        self.prompt.is_some()
    }

    /// The system prompt and the prompt, with their variables.
    pub fn texts(&self) -> [String; 2] {
        [self.system.plain(), self.prompt.as_ref().map_or(String::new(), Text::plain)]
    }

    /// The number of its examples.
    pub fn examples(&self) -> usize {
        self.examples.len()
    }

    /// With a value for each variable.
    fn with(self, given: &[(String, String)]) -> Result<TakenRole, Vec<String>> {
        let names = || self.variables.iter().map(|(name, _)| name.as_str());
        if let Some((unknown, _)) = given.iter().find(|(name, _)| !names().any(|known| known == name)) {
            let meant = nearest(unknown, names()).map(String::from);
            return Err(vec![format!(
                "the role {} has no variable '{unknown}'{}",
                self.name,
                perhaps(meant)
            )]);
        }
        let value = |name: &str| {
            let typed = given.iter().rev().find(|(given, _)| given == name).map(|(_, value)| value.as_str());
            typed.or_else(|| self.variables.iter().find(|(known, _)| known == name)?.1.as_deref())
        };
        let missing: Vec<&str> = names().filter(|name| value(name).is_none()).collect();
        if let Some(first) = missing.first() {
            let what = format!("the role {} needs a value for {}", self.name, missing.join(" and "));
            let name = &self.name;
            return Err(vec![format!(
                "{what}: --var {first}=VALUE, or in a chat /role {name} {first}=VALUE"
            )]);
        }
        let filled = |text: &Text| text.with(value);
        let at = format!("role {}", self.name);
        let system = Some(filled(&self.system).plain()).filter(|text| !text.is_empty());
        let system = system.map(|text| Assignment::of("system-prompt", &text, Source::Role).at(&at));
        Ok(TakenRole {
            examples: self
                .examples
                .iter()
                .map(|pair| pair.each_ref().map(|text| filled(text).plain()))
                .collect(),
            prompt: self.prompt.as_ref().map(filled),
            settings: self.settings.iter().cloned().chain(system).collect(),
            name: self.name,
        })
    }
}

impl TakenRole {
    pub fn system(&self) -> Option<&str> {
        let system = self.settings.iter().find(|one| one.setting.name == BELOW[0]);
        system.map(|one| one.value.as_str())
    }

    /// Whether it has a prompt that the user's text goes into.
    pub fn is_task(&self) -> bool {
        self.prompt.is_some()
    }

    /// Whether it is a task that needs a text.
    pub fn needs_input(&self) -> bool {
        self.prompt.as_ref().is_some_and(|prompt| prompt.variables().next().is_some())
    }

    /// The message for the user's text; `None`: the text itself. Where the prompt has no place for it, it
    /// stands before the prompt.
    pub fn message(&self, input: &str) -> Option<String> {
        let prompt = self.prompt.as_ref()?;
        Some(match self.needs_input() {
            true => prompt.with(|_| Some(input)).plain(),
            false => join_parts([input, &prompt.plain()]),
        })
    }
}

struct Reader {
    role: Role,
    /// The first error of each line.
    wrong: BTreeMap<usize, String>,
}

impl Reader {
    fn refuse(&mut self, line: usize, why: &str) {
        let what = format!("{} {why}", self.place(line));
        self.wrong.entry(line).or_insert(what);
    }

    fn place(&self, line: usize) -> String {
        format!("roles/{}.md line {line}:", self.role.name)
    }

    fn entry(&mut self, line: usize, key: &str, value: Value) {
        match (key, value) {
            ("description", Value::Text(text)) => self.role.description = text,
            ("description", _) => self.refuse(line, "description is a text"),
            ("vars", Value::Map(pairs)) => pairs.into_iter().for_each(|(line, name, value)| {
                match text::is_name(&name) && name != INPUT {
                    true => self.role.variables.push((name, value)),
                    false if name == INPUT => self.refuse(line, "input is the user's text, not a variable"),
                    false => self.refuse(line, "a variable's name consists of letters, digits and _"),
                }
            }),
            ("vars", Value::None) => {}
            ("vars", _) => {
                self.refuse(line, "vars has a line for each variable below it, as in   lang: English")
            }
            (name, value) => self.setting(line, name, value),
        }
    }

    fn setting(&mut self, line: usize, name: &str, value: Value) {
        if let Some(new) = renamed(name) {
            return self.refuse(line, &format!("{name} is now {new}"));
        }
        let Some(row) = setting(name) else {
            let meant = nearest(name, names().chain(KEYS)).map(String::from);
            return self.refuse(line, &format!("there is no setting '{name}'{}", perhaps(meant)));
        };
        if BELOW.contains(&row.name) {
            return self
                .refuse(line, &format!("{name} has no place here: the text below --- is the system prompt"));
        }
        match value {
            Value::Text(text) => self.value(row, line, &text),
            Value::List(items) if row.repeats => {
                items.iter().for_each(|(line, item)| self.value(row, *line, item));
            }
            Value::Map(pairs) if row.value == "KEY=VALUE" => pairs.iter().for_each(|(line, key, value)| {
                self.value(row, *line, &format!("{key}={}", value.as_deref().unwrap_or_default()));
            }),
            Value::None => self.refuse(line, &format!("{} needs a value", row.name)),
            Value::List(_) => self.refuse(line, &format!("{} takes one value, not a list", row.name)),
            Value::Map(_) => self.refuse(line, &format!("{} takes no lines below it", row.name)),
        }
    }

    fn value(&mut self, row: &'static Setting, line: usize, value: &str) {
        let value = match value {
            "true" if row.switches() => "on",
            "false" if row.switches() => "off",
            value => value,
        };
        let called = format!("{} {}", self.place(line), row.name);
        let value = match value_of(row, &row.anchored(value, files::folder_of(&self.role.path)), &called) {
            Ok(value) => value,
            Err(what) => {
                self.wrong.entry(line).or_insert(what);
                return;
            }
        };
        let at = format!("role {}", self.role.name);
        self.role.settings.push(Assignment::new(row, &value, Source::Role).at(at));
    }

    /// The texts below the front matter, whose first line has the number `first`.
    fn texts(&mut self, lines: &[&str], first: usize) {
        let mut parts: Vec<(Option<Part>, usize, Vec<&str>)> = vec![(None, first, Vec::new())];
        for (line, text) in (first..).zip(lines) {
            match Part::ALL.iter().find(|(_, heading)| text.trim_end() == *heading) {
                Some((part, _)) => parts.push((Some(*part), line + 1, Vec::new())),
                None => parts.last_mut().expect("it begins with one").2.push(text),
            }
        }
        let mut parts = parts.into_iter().peekable();
        while let Some((part, line, lines)) = parts.next() {
            let text = block(&lines, line);
            let follows = parts.peek().and_then(|(part, ..)| *part);
            match part {
                None => self.role.system = text,
                Some(part) if text.is_empty() => {
                    self.refuse(line - 1, &format!("{} has no text", part.heading()))
                }
                Some(Part::Input) if follows == Some(Part::Output) => {
                    let (_, line, lines) = parts.next().expect("it was seen");
                    let output = block(&lines, line);
                    if output.is_empty() {
                        self.refuse(line - 1, &format!("{} has no text", Part::Output.heading()));
                    }
                    self.role.examples.push([text, output]);
                }
                Some(Part::Input) => self.refuse(line - 1, "### OUTPUT: must follow ### INPUT:"),
                Some(Part::Output) => self.refuse(line - 1, "### INPUT: must stand before ### OUTPUT:"),
                Some(Part::Prompt) if follows.is_some() => {
                    self.refuse(line - 1, "### PROMPT: must be the last part, after all examples");
                }
                Some(Part::Prompt) => self.role.prompt = Some(text),
            }
        }
    }

    /// Adds the variables without a line in the front matter; refuses the input outside of the prompt.
    fn all_variables(&mut self) {
        let Role { system, examples, prompt, .. } = &self.role;
        let before = [system].into_iter().chain(examples.iter().flatten());
        let before: Vec<(String, usize)> =
            before.flat_map(Text::variables).map(|(name, line)| (name.to_string(), line)).collect();
        let in_prompt = prompt.iter().flat_map(Text::variables).map(|(name, _)| name.to_string());
        let all: Vec<String> = before
            .iter()
            .map(|(name, _)| name.clone())
            .chain(in_prompt)
            .filter(|name| name != INPUT)
            .collect();
        let misplaced = before.iter().filter(|(name, _)| name == INPUT);
        misplaced.for_each(|(_, line)| {
            self.refuse(*line, "$input stands below ### PROMPT: only ($$input is the text)")
        });
        for name in all {
            if !self.role.variables.iter().any(|(known, _)| *known == name) {
                self.role.variables.push((name, None));
            }
        }
    }
}

/// A part below the system prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Input,
    Output,
    Prompt,
}

impl Part {
    const ALL: [(Part, &str); 3] =
        [(Part::Input, "### INPUT:"), (Part::Output, "### OUTPUT:"), (Part::Prompt, "### PROMPT:")];

    fn heading(self) -> &'static str {
        Part::ALL.iter().find(|(part, _)| *part == self).map_or("", |(_, heading)| heading)
    }
}

/// The lines without blank ones at both ends.
fn block(lines: &[&str], first: usize) -> Text {
    let blank = |line: &&&str| line.trim().is_empty();
    let before = lines.iter().take_while(blank).count();
    let after = lines[before..].iter().rev().take_while(blank).count();
    Text::parse(&lines[before..lines.len() - after].join("\n"), first + before)
}
