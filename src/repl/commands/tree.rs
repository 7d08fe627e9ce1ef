//! `/tree`: the messages of all branches → a list with the graph of the branches; the user picks one and goes
//! there.

use std::collections::HashSet;

use super::NextAction;
use crate::chat::MessageId;
use crate::chat::record::Entry;
use crate::chat::tree::{self, Fold, Row};
use crate::failure::Failure;
use crate::files::reason;
use crate::repl::{Chat, UNCHANGED, show_last};
use crate::saved::{self, AskUser};
use crate::ui::picker::{Choice, Listed, Question};
use crate::ui::table::squeezed;
use crate::ui::{sanitize, width};
use crate::units::count;

/// Narrower lists have only the first letters of the roles, and no numbers unless these are asked for.
const NARROW: usize = 40;
/// Narrower lists have neither models nor ages.
const WIDE: usize = 70;
/// The length of a text without a terminal, and the most characters that are looked at for one line.
const SHORT: usize = 60;
const MOST: usize = 1000;

pub(super) fn tree(chat: &mut Chat, which: &str) -> Result<NextAction, Failure> {
    let entries = chat.session.conversation().entries();
    if entries.is_empty() {
        return Err(Failure::new("the conversation is empty"));
    }
    if which.is_empty() {
        return Ok(NextAction::PickMessage);
    }
    let id = numbered(entries, which)?;
    go_to(chat, id);
    Ok(NextAction::Prompt)
}

/// The message with this number: messages are counted from 1, in the order in which they were written.
fn numbered(entries: &[Entry], number: &str) -> Result<MessageId, Failure> {
    let entry = number.parse::<usize>().ok().and_then(|n| entries.get(n.checked_sub(1)?));
    entry.map(|entry| entry.id).ok_or_else(|| {
        Failure::new(format!("/tree takes the number of a message, 1 to {}, not '{number}'", entries.len()))
    })
}

fn go_to(chat: &mut Chat, id: MessageId) {
    let back = if chat.session.conversation().is_empty() { "" } else { "; /redo returns" };
    if !chat.session.go_to(id) {
        return chat.screen.note(UNCHANGED);
    }
    let conversation = chat.session.conversation();
    let number = conversation.number(conversation.head()).unwrap_or_default();
    chat.screen.note(&format!("now at message {number} of {}{back}", conversation.entries().len()));
    show_last(&conversation.path(), chat.screen);
}

/// Lets the user pick a message, and goes to it.
pub(in crate::repl) fn pick_message(chat: &mut Chat, ask: AskUser) -> Result<(), Failure> {
    let picked = if chat.screen.can_pick() { pick(chat)? } else { pick_by_number(chat, ask)? };
    if let Some(id) = picked {
        go_to(chat, id);
    }
    Ok(())
}

fn pick(chat: &mut Chat) -> Result<Option<MessageId>, Failure> {
    let conversation = chat.session.conversation();
    let list = TreeList::new(conversation.entries(), conversation.head());
    let (mut opened, mut at) = (HashSet::new(), list.head);
    loop {
        let rows = tree::rows(list.entries, conversation.head(), &opened);
        let choice = |row: &Row| match row.fold {
            Fold::Mark(_) => Choice { listed: Listed::Unfiltered, ..Choice::default() },
            fold => Choice {
                title: format!("{} {}", list.entries[row.entry].message.role.name(), list.text(row)),
                listed: if fold == Fold::Folded { Listed::Filtered } else { Listed::Always },
                ..Choice::default()
            },
        };
        let choices: Vec<Choice> = rows.iter().map(choice).collect();
        let question = Question {
            text: &format!("Which message? @ is where you are, in {}.", list.size()),
            rows: &choices,
            line: Some(&|place, columns| list.line(&rows[place], Some(columns))),
            at: rows.iter().position(|row| Some(row.entry) == at).unwrap_or(0),
            ..Question::default()
        };
        let cannot = |e| Failure::new(format!("could not use the terminal: {}", reason(&e)));
        let Some(row) = chat.screen.pick(question).map_err(cannot)?.map(|place| &rows[place]) else {
            return Ok(None);
        };
        match row.fold {
            Fold::Mark(_) => opened.insert(row.entry),
            _ => return Ok(Some(list.entries[row.entry].id)),
        };
        at = Some(row.entry);
    }
}

/// The same on a simple terminal: a numbered list.
fn pick_by_number(chat: &mut Chat, ask: AskUser) -> Result<Option<MessageId>, Failure> {
    let conversation = chat.session.conversation();
    let list = TreeList { by_number: true, ..TreeList::new(conversation.entries(), conversation.head()) };
    let rows = tree::rows(list.entries, conversation.head(), &HashSet::new());
    let columns = chat.screen.note_columns();
    let shown = rows.iter().filter(|row| row.fold != Fold::Folded);
    let lines: Vec<String> = shown.map(|row| list.line(row, columns)).collect();
    chat.screen.show_source(&lines.join("\n"));
    loop {
        let typed = ask(chat.screen, "Which message? Number, or Enter to stay at @: ")?;
        let Some(typed) = typed.filter(|typed| !typed.is_empty()) else { return Ok(None) };
        match numbered(list.entries, &typed) {
            Ok(id) => return Ok(Some(id)),
            Err(failure) => chat.screen.failure(&failure),
        }
    }
}

/// What the rows of a conversation have in common.
struct TreeList<'a> {
    entries: &'a [Entry],
    head: Option<usize>,
    /// Whether several models have answered.
    models: bool,
    /// Whether numbers are shown at any width.
    by_number: bool,
}

impl TreeList<'_> {
    fn new(entries: &[Entry], head: Option<MessageId>) -> TreeList<'_> {
        let own = entries.iter().filter(|entry| !entry.is_example());
        let models: HashSet<&str> =
            own.filter_map(|entry| Some(entry.answer.as_ref()?.model.as_str())).collect();
        let head = entries.iter().position(|entry| Some(entry.id) == head);
        TreeList { entries, head, models: models.len() > 1, by_number: false }
    }

    fn size(&self) -> String {
        let branches = tree::branches(self.entries);
        format!(
            "{} on {branches} {}",
            count(self.entries.len(), "message"),
            if branches == 1 { "branch" } else { "branches" }
        )
    }

    fn text(&self, row: &Row) -> String {
        self.entries[row.entry].message.in_short()
    }

    /// A row, at most so many columns wide: its number, graph and role, the first words, the model if there
    /// are several, and the age.
    fn line(&self, row: &Row, columns: Option<usize>) -> String {
        let entry = &self.entries[row.entry];
        let narrow = columns.is_some_and(|columns| columns < NARROW);
        let digits = self.entries.len().to_string().len();
        let number = |number: &str| {
            if narrow && !self.by_number { String::new() } else { format!("{number:>digits$} ") }
        };
        if let Fold::Mark(folded) = row.fold {
            return format!("{}{} {}", number(""), row.graph(':'), count(folded, "message"));
        }
        let node = if Some(row.entry) == self.head { '@' } else { '*' };
        let role = match &entry.message.role {
            role if narrow => role.name().chars().take(1).collect(),
            role => role.name().to_string(),
        };
        let left = format!("{}{} {role}: ", number(&(row.entry + 1).to_string()), row.graph(node));
        let model = entry.answer.as_ref().filter(|answer| self.models && !answer.model.is_empty());
        let most = columns.map_or(usize::MAX, |columns| columns / 4);
        let model = model.map(|answer| squeezed(&sanitize(&answer.model), most));
        let facts: Vec<String> = model.into_iter().chain(entry.created.map(saved::age)).collect();
        let wide = columns.is_none_or(|columns| columns >= WIDE);
        let right = if wide { facts.join(", ") } else { String::new() };
        let right = if right.is_empty() { String::new() } else { format!("  {right}") };
        let (left, right) = (sanitize(&left), sanitize(&right));
        let room = columns.map_or(SHORT, |all| all.saturating_sub(width(&left) + width(&right)));
        let text: String = self.text(row).chars().take(MOST).collect();
        let text = match saved::short(&sanitize(&text), room) {
            nothing if nothing.is_empty() => "(no text)".to_string(),
            text => text,
        };
        let gap = columns.map_or(0, |_| room.saturating_sub(width(&text)));
        format!("{left}{text}{:gap$}{right}", "").trim_end().to_string()
    }
}
