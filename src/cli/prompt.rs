//! The words on the command line → the prompt, or a failure with a hint: a subcommand, a model, or quotes.

use std::path::{Path, PathBuf};

use super::{Commands, help};
use crate::failure::Failure;
use crate::suggest::nearest;

/// The prompt among the words on the command line, which also attaches `files`. A single word is a prompt too, unless it resembles a
/// subcommand or is the name of a model.
pub fn among(
    words: &[String],
    files: &[PathBuf],
    subcommand: Option<&Commands>,
    is_model: impl Fn(&str) -> bool,
) -> Result<Option<String>, Failure> {
    let Some(first) = words.first() else {
        return Ok(None);
    };
    if !files.is_empty() && words.iter().all(|word| Path::new(word).is_file()) {
        return Err(Failure::usage(format!("'{first}' is a file, not a prompt"))
            .hint("each file takes its own --file; a pattern needs quotes, as in: --file '*.txt'"));
    }
    let all = help::subcommands();
    let mistyped = first.len() > 2 && first.bytes().all(|b| b.is_ascii_lowercase());
    let meant = nearest(first, all.iter().map(|(name, _)| name.as_str()))
        .filter(|subcommand| mistyped && words.len() < 3 && subcommand.starts_with(&first[..1]));
    if let [word, model] = words
        && ["run", "chat"].contains(&word.as_str())
        && is_model(model)
    {
        return Err(Failure::usage(format!("fireside has no subcommand '{word}'"))
            .hint(format!("to chat with it: fireside -m {model}")));
    }
    let single = words.len() == 1 && subcommand.is_none();
    match meant {
        None if !single => {
            let more = if subcommand.is_some() { " …" } else { "" };
            let line = quoted(&(words.join(" ") + more));
            Err(Failure::usage("a prompt of several words needs quotes").hint(format!("fireside {line}")))
        }
        Some(subcommand) => {
            let as_prompt = match words {
                [word] if single => format!("-p {word}"),
                several => quoted(&several.join(" ")),
            };
            Err(Failure::usage(format!("there is no subcommand '{first}'"))
                .hint(format!("did you mean {subcommand}? as a prompt: fireside {as_prompt}")))
        }
        None if first.is_empty() => Err(Failure::usage("the prompt is empty")),
        None if !first.contains(char::is_whitespace) && is_model(first) => {
            Err(Failure::usage(format!("'{first}' is a model, not a prompt"))
                .hint(format!("to chat with it: fireside -m {first}; as a prompt: fireside -p {first}")))
        }
        None => Ok(Some(first.clone())),
    }
}

/// `NAME=VALUE` words → pairs. A value may contain anything; the error names the first word without a name.
pub fn variables(words: &[String]) -> Result<Vec<(String, String)>, Vec<String>> {
    let pair = |word: &String| match word.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_string(), value.to_string())),
        _ => Err(vec![format!("--var takes NAME=VALUE, not '{word}'")]),
    };
    words.iter().map(pair).collect()
}

/// Quotes a text so that a shell takes it as one word.
fn quoted(text: &str) -> String {
    let acts = |c| matches!(c, '"' | '$' | '`' | '\\' | '!');
    match text.contains(acts) && !text.contains('\'') {
        true => format!("'{text}'"),
        false => format!("\"{text}\""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Result<Option<String>, Failure> {
        let words: Vec<String> = words.iter().map(|word| word.to_string()).collect();
        among(&words, &[], None, |word| word == "tiny")
    }

    #[test]
    fn what_is_no_subcommand_is_a_prompt() {
        assert_eq!(words(&[]).unwrap(), None);
        for prompt in ["Why is the sky blue?", "hi", "banana", "Lst", "日本", "a tiny one"] {
            assert_eq!(words(&[prompt]).unwrap().as_deref(), Some(prompt));
        }
    }

    #[test]
    fn what_is_nearly_a_subcommand_or_a_models_name_is_a_hint() {
        let hint = |typed: &[&str]| words(typed).unwrap_err().hint.unwrap();
        assert_eq!(hint(&["confg"]), "did you mean config? as a prompt: fireside -p confg");
        assert_eq!(hint(&["tiny"]), "to chat with it: fireside -m tiny; as a prompt: fireside -p tiny");
        assert_eq!(hint(&["why", "is"]), "fireside \"why is\"");
    }
}
