//! The verbs that are not about talking: `fireside config`, and what the others will be.

use std::path::Path;

use crate::chat::options::SETTINGS;
use crate::config::{Assignment, Config};
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
    if first == "config" {
        return match words.len() {
            1 => Ok(Words::Config),
            _ => Err(Failure::usage(format!("config takes nothing after it, not '{}'", words[1]))),
        };
    }
    if PLANNED.contains(&first.as_str()) {
        return Err(Failure::usage(format!("'{first}' is not there yet"))
            .hint(format!("as a prompt it would be: fireside -p {first}")));
    }
    if words.len() > 1 {
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

/// Every setting with its value and where that came from, given what the model advises. `model`: the one that is used
/// when none is named.
pub fn config(config: &Config, model: Option<&Path>, advice: &[Assignment]) -> Result<String, Failure> {
    let settings = config.settle(advice)?;
    let mut lines = vec![match &config.paths {
        Some(paths) => {
            format!("# config file: {}\n# models: {}", paths.config_file.display(), paths.models.display())
        }
        None => "# no home folder: no config file is read and nothing is kept".into(),
    }];
    for row in SETTINGS {
        let (mut value, mut source) = ((row.get)(&settings), config.source(row.name, advice).name());
        if let Some(path) = model.filter(|_| row.name == "model" && value.is_empty()) {
            (value, source) = (path.display().to_string(), "the one used last, or the only one");
        }
        lines.push(format!("{:22} {value:28} # {source}", row.name));
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
