//! `/file`: attaches files to the next message, lists them, and detaches them.

use super::NextAction;
use super::words::{path, unquoted};
use crate::failure::Failure;
use crate::input;
use crate::repl::Chat;
use crate::units::{count, count_in_column};

const NONE: &str = "none";

pub(super) fn file(chat: &mut Chat, typed: &str) -> Result<NextAction, Failure> {
    match typed.split_once(char::is_whitespace).map_or((typed, ""), |(first, rest)| (first, rest.trim())) {
        ("", _) => list(chat)?,
        (NONE, which) => detach(chat, which)?,
        _ => {
            let path = path(typed);
            let found =
                input::attach(&path).map_err(Failure::from).map_err(|failure| match failure.hint {
                    None if typed.contains(' ') && !path.exists() => {
                        failure.hint("attach one file at a time; a name with spaces needs quotes")
                    }
                    _ => failure,
                })?;
            chat.attach_once(&path.display().to_string(), found)?;
        }
    }
    Ok(NextAction::Prompt)
}

/// Lists the attached files with their numbers and tokens.
fn list(chat: &mut Chat) -> Result<(), Failure> {
    if chat.attached.is_empty() {
        chat.screen.show("no files are attached");
        return Ok(());
    }
    chat.wait_for_model()?;
    let next = chat.next_message();
    let tokens = chat.session.file_tokens(&next)?;
    let rows = (1..).zip(next.files()).zip(tokens);
    let lines: Vec<String> = rows
        .map(|((n, file), tokens)| {
            format!("{n:>3}  {}  {}", count_in_column(tokens, 6, "token"), file.title())
        })
        .collect();
    chat.screen.show(&lines.join("\n"));
    Ok(())
}

/// Detaches all files, or those with this number, name or folder.
fn detach(chat: &mut Chat, which: &str) -> Result<(), Failure> {
    if which.is_empty() {
        chat.attached.clear();
        chat.screen.show("no files are attached");
        return Ok(());
    }
    let name = unquoted(which);
    let folder = format!("{}/", name.trim_end_matches('/'));
    let named = |title: &str| title == name || title.starts_with(&folder);
    let places: Vec<usize> = match which.parse::<usize>() {
        Ok(n) if (1..=chat.attached.len()).contains(&n) => vec![n - 1],
        _ => (0..chat.attached.len()).filter(|place| named(&chat.attached[*place].title())).collect(),
    };
    if places.is_empty() {
        return Err(Failure::new(format!("no attached file has the number or name '{which}'"))
            .hint("/file lists the attached files"));
    }
    let removed = match places[..] {
        [place] => chat.attached[place].title(),
        _ => count(places.len(), "file"),
    };
    let mut place = 0;
    chat.attached.retain(|_| {
        place += 1;
        !places.contains(&(place - 1))
    });
    let left = match chat.attached.len() {
        0 => "no files are attached".to_string(),
        left => format!("{} still attached", count(left, "file")),
    };
    chat.screen.show(&format!("detached {removed}; {left}"));
    Ok(())
}
