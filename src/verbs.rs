//! The verbs that are not about talking: `fireside config`, and what the others will be.

use crate::chat::settings::SETTINGS;
use crate::config::Config;
use crate::error::Failure;
use crate::nearest::nearest;

/// What can stand where a prompt could.
const VERBS: &[&str] = &["config"];
/// Verbs that are planned; they are named so that nobody takes them for prompts.
const PLANNED: &[&str] = &[
    "pull",
    "list",
    "ls",
    "show",
    "rm",
    "check",
    "history",
    "bench",
    "convert",
    "worker",
    "doctor",
    "completions",
    "man",
];

/// What the words on the command line ask for.
#[derive(Debug, PartialEq, Eq)]
pub enum Words {
    Prompt(String),
    Config,
    Nothing,
}

/// Tells a prompt from a verb: a first word with white space in it is a prompt.
pub fn understand(words: &[String]) -> Result<Words, Failure> {
    let Some(first) = words.first() else {
        return Ok(Words::Nothing);
    };
    if words.len() == 1 && first.contains(char::is_whitespace) {
        return Ok(Words::Prompt(first.clone()));
    }
    if first == "config" && words.len() == 1 {
        return Ok(Words::Config);
    }
    if PLANNED.contains(&first.as_str()) {
        return Err(Failure::usage(format!("'{first}' is not there yet"))
            .hint(format!("as a prompt it would be: fireside -p {first}")));
    }
    if words.len() > 1 && !VERBS.contains(&first.as_str()) {
        let prompt = words.join(" ");
        return Err(Failure::usage("a prompt must be one word to the shell")
            .hint(format!("put it in quotes: fireside \"{prompt}\"")));
    }
    if first.is_empty() {
        return Err(Failure::usage("the prompt is empty"));
    }
    let failure = Failure::usage(format!("there is no verb '{first}'"));
    let as_prompt = format!("to ask that: fireside -p \"{first}\"");
    Err(match nearest(first, VERBS.iter().chain(PLANNED).copied()) {
        Some(verb) => failure.hint(format!("did you mean {verb}? {as_prompt}")),
        None => failure.hint(as_prompt),
    })
}

/// Every setting with its value and where that came from. `advice` of a model is not asked for: it is not loaded.
pub fn config(config: &Config) -> Result<String, Failure> {
    let settings = config.settle(&[])?;
    let mut lines = vec![match &config.paths {
        Some(paths) => {
            format!("# config file: {}\n# models: {}", paths.config_file.display(), paths.models.display())
        }
        None => "# no home folder: no config file is read and nothing is kept".into(),
    }];
    for row in SETTINGS {
        let value = (row.get)(&settings);
        lines.push(format!("{:22} {:28} # {}", row.name, value, config.source(row.name, &[]).name()));
    }
    Ok(lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Result<Words, Failure> {
        understand(&words.iter().map(|w| w.to_string()).collect::<Vec<_>>())
    }

    #[test]
    fn white_space_makes_a_prompt() {
        assert_eq!(words(&["Why is the sky blue?"]).unwrap(), Words::Prompt("Why is the sky blue?".into()));
        assert_eq!(words(&["config"]).unwrap(), Words::Config);
        assert_eq!(words(&[]).unwrap(), Words::Nothing);
    }

    #[test]
    fn one_word_is_a_verb_or_a_hint() {
        assert!(words(&["confg"]).unwrap_err().hint.unwrap().starts_with("did you mean config?"));
        assert_eq!(words(&["banana"]).unwrap_err().hint.unwrap(), "to ask that: fireside -p \"banana\"");
        assert!(words(&["why", "is"]).unwrap_err().hint.unwrap().contains("\"why is\""));
        assert!(words(&["pull", "x"]).unwrap_err().message.contains("not there yet"));
    }
}
