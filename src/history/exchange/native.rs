//! fireside's own JSON ↔ a conversation, nothing lost: `{"fireside": 1, "id", "title", …, "messages": […], "tree": {…}}`.
//!
//! `messages` is the path to the head as OpenAI has it, for other programs; coming back, `tree` alone counts. If that is not
//! what it should be, the path is taken from `messages` after all (openai.rs).

use std::io::{self, Write};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::import::Imported;
use super::notes::Notes;
use super::{identity, openai};
use crate::chat::Role;
use crate::chat::message::content;
use crate::chat::record::{Entry, Record};

/// Goes up when a reader that knows the version before would lose something.
const VERSION: u64 = 1;

#[derive(Serialize)]
struct File<'a> {
    fireside: u64,
    id: &'a str,
    title: &'a str,
    created: i64,
    changed: i64,
    model: Option<&'a str>,
    system: Option<&'a str>,
    messages: Vec<Message<'a>>,
    tree: Tree<&'a [Entry]>,
}

#[derive(Serialize)]
struct Message<'a> {
    role: Role,
    content: std::borrow::Cow<'a, str>,
}

#[derive(Serialize, Deserialize)]
struct Tree<Entries> {
    entries: Entries,
    head: Option<usize>,
}

pub(super) fn write(record: &Record, out: &mut dyn Write) -> io::Result<()> {
    let system = record.system.as_deref().map(|text| Message { role: Role::System, content: text.into() });
    let path = record.path().into_iter().map(|index| message(&record.entries[index]));
    let file = File {
        fireside: VERSION,
        id: &record.id,
        title: &record.title,
        created: record.created,
        changed: record.changed,
        model: record.model.as_deref(),
        system: record.system.as_deref(),
        messages: system.into_iter().chain(path).collect(),
        tree: Tree { entries: &record.entries, head: record.head },
    };
    serde_json::to_writer(&mut *out, &file)?;
    writeln!(out)
}

fn message(entry: &Entry) -> Message<'_> {
    let content = if entry.attachments.is_empty() {
        entry.text.as_str().into()
    } else {
        content(&entry.attachments, &entry.text).into()
    };
    Message { role: entry.role, content }
}

/// `known`: when the file was written, for a conversation that does not say when it was.
pub(super) fn read(mut object: Map<String, Value>, known: i64) -> Result<Imported, String> {
    let mut notes = Notes::default();
    if object.get("fireside").and_then(Value::as_u64).is_none_or(|version| version > VERSION) {
        notes.add("written by a newer fireside: what this one does not know is left out");
    }
    let tree = object.remove("tree").and_then(|tree| serde_json::from_value::<Tree<Vec<Entry>>>(tree).ok());
    let Some(tree) = tree.filter(|tree| is_tree(&tree.entries, tree.head)) else {
        notes.add("its tree cannot be read: branches are left out");
        let (id, changed) = (text(&object, "id"), object.get("changed").and_then(Value::as_i64));
        let mut imported = openai::read(object, known)?;
        let changed = changed.unwrap_or(imported.record.changed);
        imported.record.changed = changed.max(imported.record.created);
        imported.record.id = id.filter(|id| identity::is_id(id)).unwrap_or(imported.record.id);
        imported.notes.splice(0..0, notes.finish());
        return Ok(imported);
    };
    let time = |names: [&str; 2]| names.iter().find_map(|name| object.get(*name)?.as_i64()).unwrap_or(known);
    let record = Record {
        id: text(&object, "id").unwrap_or_default(),
        title: text(&object, "title").unwrap_or_default(),
        created: time(["created", "changed"]),
        changed: time(["changed", "created"]),
        system: text(&object, "system"),
        model: text(&object, "model"),
        entries: tree.entries,
        head: tree.head,
    };
    let id = if identity::is_id(&record.id) { record.id } else { identity::of_name("fireside", &record.id) };
    Ok(Imported { record: Record { id, ..record }, notes: notes.finish() })
}

fn text(object: &Map<String, Value>, name: &str) -> Option<String> {
    object.get(name)?.as_str().map(str::to_string)
}

/// Parents before their children, and a head that is there.
fn is_tree(entries: &[Entry], head: Option<usize>) -> bool {
    let in_order = |(index, entry): (usize, &Entry)| entry.parent.is_none_or(|parent| parent < index);
    entries.iter().enumerate().all(in_order) && head.is_none_or(|head| head < entries.len())
}
