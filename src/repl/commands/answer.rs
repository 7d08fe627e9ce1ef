//! Commands that take the last answer out of the chat: into the clipboard, or into a file.

use std::path::Path;

use super::words::{flagged, path};
use super::{Confirm, NextAction};
use crate::chat::blocks::code_blocks;
use crate::failure::Failure;
use crate::files::{Existing, reason, would_replace, write_named};
use crate::repl::Chat;
use crate::saved;
use crate::ui::clipboard::{self, MOST_BYTES, Sent};
use crate::units::{count, size};

const CODE: &str = "code";

pub(super) fn copy(chat: &mut Chat, which: &str) -> Result<NextAction, Failure> {
    let answer = last_answer(chat)?;
    let (what, text) = match which {
        "" => ("the answer".to_string(), answer),
        CODE => {
            let (blocks, text) = code(&answer)?;
            (if blocks == 1 { "the code block".into() } else { count(blocks, "code block") }, text)
        }
        number => {
            let blocks = code_blocks(&answer);
            let place = number.parse::<usize>().map_err(|_| {
                Failure::usage(format!("/copy takes {CODE} or the number of a code block, not '{number}'"))
            })?;
            let block = place.checked_sub(1).and_then(|place| blocks.get(place)).ok_or_else(|| {
                Failure::new(format!("the last answer has {}", count(blocks.len(), "code block")))
            })?;
            (format!("code block {place}"), block.text.clone())
        }
    };
    let (sent, tools) = clipboard::copy(&text);
    let length = size(text.len() as u64);
    let too_long = format!("terminals take at most {MOST_BYTES} bytes");
    let by = match (sent, &tools[..]) {
        (Sent::Whole, []) => "sent to the terminal, which may keep it as its clipboard".to_string(),
        (Sent::Whole, tools) => format!("copied by {}, and sent to the terminal", tools.join(" and ")),
        (Sent::TooLong, []) => {
            return Err(Failure::new(format!(
                "could not copy {what}: it has {} bytes; {too_long}",
                text.len()
            ))
            .hint("/save FILE writes it to a file"));
        }
        (Sent::TooLong, tools) => format!("copied by {}; {too_long}", tools.join(" and ")),
        (Sent::NoTerminal, []) => {
            return Err(Failure::new(format!("could not copy {what}: there is no clipboard here"))
                .hint("/save FILE writes it to a file"));
        }
        (Sent::NoTerminal, tools) => format!("copied by {}", tools.join(" and ")),
    };
    chat.screen.note(&format!("{what}, {length}: {by}"));
    Ok(NextAction::Prompt)
}

pub(super) fn save(chat: &mut Chat, words: &str) -> Result<NextAction, Failure> {
    let ([force, only_code], file) = flagged(words, ["--force", "--code"]);
    let answer = last_answer(chat)?;
    let (what, mut text) = match only_code {
        true => code(&answer).map(|(blocks, text)| (count(blocks, "code block"), text))?,
        false => ("the answer".into(), answer),
    };
    if file.is_empty() {
        return Err(Failure::usage("/save needs a file name"));
    }
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    let path = path(file);
    if force || !would_replace(&path) {
        write(chat, &what, &text, &path, if force { Existing::Replace } else { Existing::Keep })?;
        return Ok(NextAction::Prompt);
    }
    Ok(NextAction::Confirm(Confirm {
        question: saved::replace_question(&path),
        refusal: saved::exists(&path).hint(format!("/save --force {words} replaces it")),
        then: Box::new(move |chat| write(chat, &what, &text, &path, Existing::Replace)),
    }))
}

fn write(chat: &mut Chat, what: &str, text: &str, path: &Path, existing: Existing) -> Result<(), Failure> {
    let shown = path.display();
    write_named(path, text.as_bytes(), existing).map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => saved::exists(path),
        _ => Failure::new(format!("could not write {shown}: {}", reason(&error))),
    })?;
    chat.screen.note(&format!("wrote {what} to {shown}: {}", size(text.len() as u64)));
    Ok(())
}

fn last_answer(chat: &Chat) -> Result<String, Failure> {
    let conversation = chat.session.conversation();
    let answer = conversation.last_answer().ok_or_else(|| Failure::new("there is no answer yet"))?;
    Ok(conversation.message(answer).text().into_owned())
}

/// The number of code blocks in an answer, and their text, separated by blank lines.
fn code(answer: &str) -> Result<(usize, String), Failure> {
    let blocks = code_blocks(answer);
    let texts: Vec<&str> = blocks.iter().map(|block| block.text.as_str()).collect();
    match blocks.is_empty() {
        true => Err(Failure::new("the last answer has no code block")),
        false => Ok((blocks.len(), texts.join("\n"))),
    }
}
