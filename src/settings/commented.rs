//! The table of settings → a config file in which every setting stands as a comment, with its help, its
//! default and the values that it takes.

use super::setting::Setting;
use super::table::SETTINGS;
use crate::chat::settings::Settings;

const HEAD: &str = "\
# fireside's settings. Every line is a comment: remove the # before a setting to change it.
# Precedence: /set in a chat, command line, environment, role, section for a model, this file, the model
# file's advice, the catalogue's, defaults. fireside config shows every value in effect and where it comes from.
# A relative path begins in the folder of this file.
";

const TABLES: &str = r#"
# ---- Aliases: other names for models, wherever a model is named ----

#[aliases]
#small = "smollm2-135m"

# ---- Models: settings for the models whose names match. * stands for any characters, ? for one. Of several
# ---- sections that have a setting, the one whose pattern has the most letters counts.

#[models."llama-3.2-*"]
#temp = 0.6
#ctx-size = 8192

# ---- Servers: models elsewhere, as in -m NAME@work ----

#[servers.work]
#url = "https://llm.example.org/v1"
"#;

/// The file.
pub fn commented() -> String {
    let mut text = HEAD.to_string();
    let mut group = None;
    for row in SETTINGS {
        if group.replace(row.group) != Some(row.group) {
            text += &format!("\n# ---- {} ----\n", row.group.heading());
        }
        let default = (row.get)(&Settings::default());
        let default = if default.is_empty() { "not set" } else { &default };
        let takes = takes(row).map_or(String::new(), |takes| format!("; {takes}"));
        text += &format!("\n# {}\n# default: {default}{takes}\n#{} = {}\n", row.help, row.name, example(row));
    }
    text + TABLES
}

/// The values that it takes, as its own error says it; `None`: any text.
fn takes(row: &Setting) -> Option<String> {
    let listed = || (row.takes_text() && row.value != "LIST").then(|| row.value.to_string());
    match (row.set)(&mut Settings::default(), "?") {
        _ if row.value.is_empty() => Some("true or false".into()),
        Err(why) if !row.takes_text() => Some(why),
        _ => listed(),
    }
}

/// Its default as the file has it; what it takes, if it is not set.
fn example(row: &Setting) -> String {
    let shown = (row.get)(&Settings::default());
    match shown.as_str() {
        "" => row.in_toml(row.value),
        "none" => row.in_toml("none"),
        list if row.repeats => {
            let items: Vec<String> = list.split(' ').map(|item| row.in_toml(item)).collect();
            format!("[{}]", items.join(", "))
        }
        value => row.in_toml(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_stands_there_once_with_its_default() {
        let text = commented();
        let (above, _) = text.split_once(TABLES).unwrap();
        for row in SETTINGS {
            let line = above.lines().filter(|line| line.starts_with(&format!("#{} = ", row.name)));
            assert_eq!(line.count(), 1, "{}", row.name);
        }
        assert!(text.parse::<toml::Table>().unwrap().is_empty(), "all of it is comments");
        for line in [
            "# default: 0.8; must be a number from 0 to 100\n#temp = 0.8\n",
            "# default: off; true or false\n#mlock = false\n",
            "# default: auto; must be one of auto on off\n#flash-attn = \"auto\"\n",
            "#dry-sequence-breaker = [",
            "# default: not set; TEXT\n#system-prompt = \"TEXT\"\n",
            "#stop = \"none\"\n",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
    }
}
