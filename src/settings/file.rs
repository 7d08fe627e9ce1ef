//! The config file (TOML, one `name = value` per line; servers, aliases and sections for models in tables) →
//! what they say, and all errors with their lines.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::assignment::{Assignment, Source, Wrong, checked, excluded, perhaps};
use super::collected::Collected;
use super::models::{self, Alias, Section, is_per_model};
use super::servers::{self, Secret, Server};
use super::setting::Setting;
use super::table::{names, setting};
use super::values::number;
use crate::chat::settings::renamed;
use crate::files::{self, reason};
use crate::suggest::nearest;

/// Size limit of the config file, in bytes.
const LONGEST: u64 = 1 << 20;

/// The tables besides the settings.
const TABLES: [&str; 3] = ["aliases", "models", "servers"];

/// The keys of a server.
const KEYS: [&str; 5] = ["url", "key", "key-command", "allow-http", "timeout"];

/// A missing file sets nothing.
pub(super) fn read(path: &Path, found: &mut Collected) {
    match files::read_text(path, LONGEST) {
        Ok(text) => parse(&text, path, files::is_private(path), found),
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {}
        Err(e) => {
            let what = format!("could not read the config file {}: {}", path.display(), reason(&e));
            found.wrong.push(Wrong { source: Source::File, what, harmless: false });
        }
    }
}

/// `private`: only its owner can read the file.
fn parse(text: &str, path: &Path, private: bool, found: &mut Collected) {
    let (table, errors) = DeTable::parse_recoverable(text);
    let folder = files::folder_of(path);
    let mut file = ConfigFile { text, folder, private, found, section: None, wrong: BTreeMap::new() };
    for error in errors {
        file.refuse(error.span().map_or(0, |span| span.start), error.message());
    }
    for (name, value) in table.get_ref() {
        if !file.wrong.contains_key(&file.line(name.span().start)) {
            file.entry(name, value);
        }
    }
    file.refuse_aliases_of_aliases();
    let wrong = file.wrong.into_values();
    found.wrong.extend(wrong.map(|what| Wrong { source: Source::File, what, harmless: false }));
}

struct ConfigFile<'a> {
    text: &'a str,
    /// Where relative paths in it begin.
    folder: &'a Path,
    private: bool,
    found: &'a mut Collected,
    /// The pattern of the section that is being read.
    section: Option<String>,
    /// The first error of each line.
    wrong: BTreeMap<usize, String>,
}

impl ConfigFile<'_> {
    fn line(&self, at: usize) -> usize {
        1 + self.text.as_bytes()[..at.min(self.text.len())].iter().filter(|byte| **byte == b'\n').count()
    }

    fn place(&self, at: usize) -> String {
        format!("config.toml line {}:", self.line(at))
    }

    fn refuse(&mut self, at: usize, why: &str) {
        let what = format!("{} {why}", self.place(at));
        self.wrong.entry(self.line(at)).or_insert(what);
    }

    fn entry(&mut self, name: &Spanned<impl AsRef<str>>, value: &Spanned<DeValue>) {
        match (name.get_ref().as_ref(), value.get_ref()) {
            ("servers", DeValue::Table(all)) => all.iter().for_each(|(name, keys)| self.server(name, keys)),
            ("aliases", DeValue::Table(all)) => all.iter().for_each(|(name, model)| self.alias(name, model)),
            ("models", DeValue::Table(all)) => all.iter().for_each(|(name, keys)| self.models(name, keys)),
            _ => self.setting(name, value),
        }
    }

    fn setting(&mut self, name: &Spanned<impl AsRef<str>>, value: &Spanned<DeValue>) {
        let at = name.span().start;
        let name = name.get_ref().as_ref();
        if let Some(new) = renamed(name) {
            return self.refuse(at, &format!("{name} is now {new}"));
        }
        let Some(row) = setting(name) else {
            if let (Some(_), DeValue::Table(_)) = (&self.section, value.get_ref()) {
                let quotes = "a name with a dot needs quotes, as in [models.\"llama-3.2-1b\"]";
                return self.refuse(at, &format!("there is no setting '{name}': {quotes}"));
            }
            let tables = TABLES.iter().copied().filter(|_| self.section.is_none());
            let meant = nearest(name, names().chain(tables));
            return self
                .refuse(at, &format!("there is no setting '{name}'{}", perhaps(meant.map(String::from))));
        };
        if self.section.is_some() && !is_per_model(row) {
            return self
                .refuse(at, &format!("{} holds for all models: it goes above all sections", row.name));
        }
        match value.get_ref() {
            DeValue::Array(items) if row.repeats => items.iter().for_each(|item| self.value(row, item)),
            DeValue::Table(pairs) if row.value == "KEY=VALUE" => {
                for (key, value) in pairs {
                    let value = match value.get_ref() {
                        DeValue::String(text) => text,
                        // Raw TOML: for simple values the same as JSON.
                        _ => self.text.get(value.span()).unwrap_or_default(),
                    };
                    self.say(row, at, &format!("{}={value}", key.get_ref()));
                }
            }
            _ => self.value(row, value),
        }
    }

    /// `[models."PATTERN"]`.
    fn models(&mut self, pattern: &Spanned<impl AsRef<str>>, keys: &Spanned<DeValue>) {
        let (at, pattern) = (pattern.span().start, pattern.get_ref().as_ref());
        let DeValue::Table(keys) = keys.get_ref() else {
            return self.refuse(at, &format!("a section is a table: [models.{pattern:?}]"));
        };
        let before = std::mem::take(&mut self.found.assignments);
        self.section = Some(pattern.to_string());
        keys.iter().for_each(|(name, value)| self.setting(name, value));
        self.section = None;
        let assignments = std::mem::replace(&mut self.found.assignments, before);
        if let Some([one, other]) = excluded(&assignments, Source::Section) {
            self.refuse(at, &format!("{one} and {other} exclude each other"));
        }
        self.found.sections.push(Section { pattern: pattern.into(), line: self.line(at), assignments });
    }

    /// One of `[aliases]`.
    fn alias(&mut self, name: &Spanned<impl AsRef<str>>, model: &Spanned<DeValue>) {
        let (at, name) = (name.span().start, name.get_ref().as_ref());
        let same = |alias: &&Alias| alias.name.eq_ignore_ascii_case(name);
        match model.get_ref() {
            _ if !models::is_alias(name) => {
                self.refuse(
                    at,
                    "an alias consists of letters, digits, -, _ and ., and does not end in .gguf",
                );
            }
            _ if let Some(other) = self.found.aliases.iter().find(same) => {
                let other = format!("line {} has the alias '{}' already", other.line, other.name);
                self.refuse(at, &other);
            }
            DeValue::String(model) if !model.is_empty() => {
                let model = setting("model").expect("it is in the table").anchored(model, self.folder);
                self.found.aliases.push(Alias { name: name.into(), model, line: self.line(at) });
            }
            _ => {
                self.refuse(at, &format!("an alias takes a model's name in quotes, as in {name} = \"NAME\""))
            }
        }
    }

    /// An alias is looked up once, so that there is no circle.
    fn refuse_aliases_of_aliases(&mut self) {
        let all = self.found.aliases.clone();
        let is_alias = |name: &str| all.iter().any(|alias| alias.name.eq_ignore_ascii_case(name));
        self.found.aliases.retain(|alias| !is_alias(&alias.model));
        for Alias { name, model, line } in all.iter().filter(|alias| is_alias(&alias.model)) {
            let why = format!(
                "config.toml line {line}: the alias {name} must name a model, and {model} is an alias"
            );
            self.wrong.entry(*line).or_insert(why);
        }
    }

    /// `[servers.NAME]`.
    fn server(&mut self, name: &Spanned<impl AsRef<str>>, keys: &Spanned<DeValue>) {
        let (at, name) = (name.span().start, name.get_ref().as_ref());
        let DeValue::Table(keys) = keys.get_ref() else {
            return self.refuse(at, &format!("a server is a table: [servers.{name}]"));
        };
        if !servers::is_name(name) {
            return self.refuse(at, "the name of a server consists of letters, digits, - and _");
        }
        let mut server = Server { name: name.into(), ..Server::at("") };
        for (key, value) in keys {
            let (at, key) = (key.span().start, key.get_ref().as_ref());
            if let Err(why) = self.of_server(&mut server, key, value.get_ref()) {
                return self.refuse(at, &format!("{key} {why}"));
            }
        }
        if server.url.is_empty() {
            return self.refuse(at, &format!("the server '{name}' needs its address: url = \"https://…\""));
        }
        self.found.servers.push(server);
    }

    /// One key of a server.
    fn of_server(&self, server: &mut Server, key: &str, value: &DeValue) -> Result<(), String> {
        match (key, value) {
            ("url", DeValue::String(url)) => match servers::wrong_url(url) {
                Some(wrong) => return Err(wrong.into()),
                None => server.url = url.trim_end_matches('/').to_string(),
            },
            ("key", DeValue::String(_)) if !self.private => {
                return Err("may stand here only if nobody else can read the file (mode 0600)".into());
            }
            ("key", DeValue::String(key)) => server.key = Some(Secret::new(key)),
            ("key-command", DeValue::String(command)) => server.key_command = Some(command.to_string()),
            ("allow-http", DeValue::Boolean(allow)) => server.allow_http = *allow,
            ("timeout", DeValue::Integer(seconds)) => {
                let seconds = number(seconds.as_str(), 1..=86_400)?;
                server.timeout = Duration::from_secs(seconds);
            }
            ("url" | "key" | "key-command", _) => return Err("takes text in quotes".into()),
            ("allow-http", _) => return Err("is true or false".into()),
            ("timeout", _) => return Err("is a number of seconds".into()),
            (other, _) => {
                let meant = nearest(other, KEYS.iter().copied()).map(String::from);
                return Err(format!("is nothing that a server has{}", perhaps(meant)));
            }
        }
        Ok(())
    }

    /// One value of a setting.
    fn value(&mut self, row: &'static Setting, value: &Spanned<DeValue>) {
        let at = value.span().start;
        let text = match value.get_ref() {
            DeValue::String(text) => return self.say(row, at, text),
            DeValue::Array(_) => {
                return self.refuse(at, &format!("{} takes one value, not a list", row.name));
            }
            DeValue::Table(_) if row.repeats => {
                return self.refuse(at, &format!("{} takes no table", row.name));
            }
            DeValue::Table(_) => {
                return self.refuse(at, &format!("{} takes one value, not a table", row.name));
            }
            DeValue::Boolean(true) if row.switches() => "on".into(),
            DeValue::Boolean(false) if row.switches() => "off".into(),
            DeValue::Boolean(truth) => truth.to_string(),
            DeValue::Integer(n) => match i128::from_str_radix(n.as_str(), n.radix()) {
                Ok(n) => n.to_string(),
                Err(_) => n.to_string(),
            },
            DeValue::Float(x) => x.as_str().to_string(),
            DeValue::Datetime(when) => when.to_string(),
        };
        if row.takes_text() {
            return self.refuse(at, &format!("{0} takes text in quotes, as in {0} = \"{text}\"", row.name));
        }
        self.say(row, at, &text);
    }

    fn say(&mut self, row: &'static Setting, at: usize, value: &str) {
        let called = format!("{} {}", self.place(at), row.name);
        if let Err(what) = checked(row, value, &called) {
            self.wrong.entry(self.line(at)).or_insert(what);
            return;
        }
        let line = format!("config.toml line {}", self.line(at));
        let (source, place) = match &self.section {
            None => (Source::File, line),
            Some(pattern) => (Source::Section, format!("[models.{pattern:?}], {line}")),
        };
        let value = row.anchored(value, self.folder);
        self.found.assignments.push(Assignment::new(row, &value, source).at(place));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::assignment::applied;

    fn parsed(text: &str) -> Collected {
        let mut found = Collected::default();
        parse(text, Path::new("/c/config.toml"), true, &mut found);
        found
    }

    #[test]
    fn the_config_file_is_toml_with_the_names_of_the_flags() {
        let found = parsed("temp = 0.2\nstop = [\"a\", \"b\"]\nmlock = true\n[template-arg]\nx = 1\n");
        let settings = applied(&found.assignments);
        assert_eq!((settings.sampling.temp, settings.stop.len(), settings.mlock), (0.2, 2, true));
        assert_eq!(settings.template_args, [("x".to_string(), "1".to_string())]);
        assert!(found.wrong.is_empty());
    }

    #[test]
    fn servers_have_tables_of_their_own() {
        let text = "temp = 1\n[servers.work]\nurl = \"https://h/v1/\"\nkey = \"k\"\nallow-http = true\ntimeout = 9\n";
        let found = parsed(text);
        let [work] = &found.servers[..] else { panic!("{:?}", found.wrong) };
        assert_eq!((&*work.url, work.allow_http, work.timeout.as_secs()), ("https://h/v1", true, 9));
        assert_eq!(work.key.as_ref().map(Secret::expose), Some("k"));
        let mut found = Collected::default();
        parse(text, Path::new("/c/config.toml"), false, &mut found);
        assert!(found.servers.is_empty() && found.wrong[0].what.contains("line 4: key may stand here only"));
        for (line, why) in [
            ("url = \"h\"", "line 2: url must be an http"),
            ("urll = \"http://h\"", "did you mean url?"),
            ("timeout = 1", "line 1: the server 'a' needs its address"),
            ("timeout = 0", "line 2: timeout must be a whole number from 1"),
        ] {
            let found = parsed(&format!("[servers.a]\n{line}\n"));
            assert!(found.wrong[0].what.contains(why), "{:?}", found.wrong);
        }
    }

    #[test]
    fn what_is_wrong_is_told_once_a_line_and_the_rest_holds() {
        let found = parsed("tepm = 1\ntop-k = hot\nstop = [\n\"a\",\n5]\ntemp = 0.2\n");
        let lines: Vec<&str> = found.wrong.iter().map(|wrong| &wrong.what[..19]).collect();
        assert_eq!(lines, ["config.toml line 1:", "config.toml line 2:", "config.toml line 5:"]);
        assert_eq!(applied(&found.assignments).sampling.temp, 0.2);
    }
}
