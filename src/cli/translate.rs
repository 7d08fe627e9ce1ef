//! llama.cpp's spellings of options → fireside's, before clap sees them: its short options have one letter.

use std::ffi::OsString;

use clap::{Arg, Command, CommandFactory};

use super::Args;
use super::refusal::{OPTIONS_AND_PROMPTS, needs_value};
use crate::failure::Failure;

/// llama.cpp's short options of several letters and fireside's options; an empty string drops the option.
const SPELLINGS: &[(&str, &str)] = &[
    ("-ngl", "--gpu-layers"),
    ("-dev", "--device"),
    ("-sm", "--split-mode"),
    ("-mg", "--main-gpu"),
    ("-ts", "--tensor-split"),
    ("-cmoe", "--cpu-moe"),
    ("-ncmoe", "--n-cpu-moe"),
    ("-ot", "--override-tensor"),
    ("-nkvo", "--no-kv-offload"),
    ("-fit", "--fit"),
    ("-fa", "--flash-attn"),
    ("-ctk", "--cache-type-k"),
    ("-ctv", "--cache-type-v"),
    ("-sys", "--system-prompt"),
    ("-sysf", "--system-prompt-file"),
    ("-tb", "--threads-batch"),
    ("-r", "--stop"),
    ("-l", "--logit-bias"),
    ("-st", ""),
    ("-cnv", ""),
    ("-no-cnv", ""),
    ("--single-turn", ""),
    ("--conversation", ""),
    ("--no-conversation", ""),
];

/// More of them, for features that fireside lacks: `-md` must not be parsed as `-m d`.
const UNKNOWN: &[&str] = &["-md", "-mm", "-mmu", "-mu", "-mv"];

/// The words in fireside's spelling. Values of options stay unchanged, whatever they look like.
pub(super) fn translate(words: Vec<OsString>) -> Result<Vec<OsString>, Failure> {
    let command = Args::command();
    let mut translated: Vec<OsString> = Vec::with_capacity(words.len());
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        let text = word.to_str().unwrap_or_default();
        if text == "--" {
            translated.push(word);
            translated.extend(words);
            break;
        }
        let spelling = SPELLINGS.iter().find(|(theirs, _)| *theirs == text);
        if UNKNOWN.contains(&text) {
            return Err(
                Failure::usage(format!("unexpected argument '{text}' found")).hint(OPTIONS_AND_PROMPTS)
            );
        }
        if text == "-hf" {
            translated.push("--model".into()); // its error names a missing value
            let name = words.next();
            translated.extend(name.map(|name| format!("hf:{}", name.to_string_lossy()).into()));
            continue;
        }
        match spelling {
            Some((_, "")) => continue,
            Some((_, ours)) => translated.push(ours.into()),
            None => translated.push(word.clone()),
        }
        if takes_value(&command, spelling.map_or(text, |(_, ours)| ours)) {
            translated.extend(words.next()); // even if it looks like an option
        }
    }
    Ok(translated)
}

/// Whether a value follows the option.
fn takes_value(command: &Command, word: &str) -> bool {
    let named = |arg: &Arg| match word.strip_prefix("--") {
        Some(name) => arg.get_long_and_visible_aliases().is_some_and(|names| names.contains(&name)),
        None => arg.get_short().is_some_and(|short| word == format!("-{short}")),
    };
    command.get_arguments().any(|arg| named(arg) && needs_value(arg))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        let words = line.split(' ').map(OsString::from).collect();
        translate(words).unwrap().into_iter().map(|w| w.into_string().unwrap()).collect()
    }

    #[test]
    fn spellings_of_llama_cpp_are_ours() {
        assert_eq!(
            words("fireside -ngl 3 -st -p hi -tb 2"),
            ["fireside", "--gpu-layers", "3", "-p", "hi", "--threads-batch", "2"]
        );
        assert_eq!(words("fireside -hf a/b"), ["fireside", "--model", "hf:a/b"]);
    }

    #[test]
    fn the_value_of_an_option_is_left_alone() {
        assert_eq!(words("fireside -p -st --temp 0"), ["fireside", "-p", "-st", "--temp", "0"]);
        assert_eq!(words("fireside -- -st -fa"), ["fireside", "--", "-st", "-fa"]);
    }
}
