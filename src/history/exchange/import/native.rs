//! fireside's own JSON → a conversation, without loss.
//!
//! Only `tree` is used. If it is invalid, the path is read from `messages` instead (openai.rs).

use std::collections::HashSet;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::notes::{Imported, Notes};
use super::{identity, openai};
use crate::chat::MessageId;
use crate::chat::record::{Entry, Record};
use crate::history::exchange::native::{Tree, VERSION};
use crate::history::legacy::OldEntry;

/// `known`: when the file was written, for conversations without a time.
pub(super) fn read(mut object: Map<String, Value>, known: i64) -> Result<Imported, String> {
    let mut notes = Notes::default();
    if object.get("fireside").and_then(Value::as_u64).is_none_or(|version| version > VERSION) {
        notes.add("written by a newer fireside: what this one does not know is left out");
    }
    let id = text(&object, "id").unwrap_or_default();
    let id = if identity::is_id(&id) { id } else { identity::of_name("fireside", &id) };
    let tree = object.remove("tree").and_then(|tree| read_tree(tree, &id));
    let Some(tree) = tree else {
        notes.add("its tree cannot be read: branches are left out");
        let (own, changed) = (text(&object, "id"), object.get("changed").and_then(Value::as_i64));
        let mut imported = openai::read(object, known)?;
        let changed = changed.unwrap_or(imported.record.changed);
        imported.record.changed = changed.max(imported.record.created);
        imported.record.id = own.filter(|id| identity::is_id(id)).unwrap_or(imported.record.id);
        imported.notes.splice(0..0, notes.finish());
        return Ok(imported);
    };
    let time = |names: [&str; 2]| names.iter().find_map(|name| object.get(*name)?.as_i64()).unwrap_or(known);
    let record = Record {
        id,
        title: text(&object, "title").unwrap_or_default(),
        created: time(["created", "changed"]),
        changed: time(["changed", "created"]),
        system: text(&object, "system"),
        model: text(&object, "model"),
        entries: tree.entries,
        head: tree.head,
    };
    Ok(Imported { record, notes: notes.finish() })
}

fn text(object: &Map<String, Value>, name: &str) -> Option<String> {
    object.get(name)?.as_str().map(str::to_string)
}

/// The tree in version 1, which identified messages by their places.
#[derive(Deserialize)]
struct OldTree {
    entries: Vec<OldEntry>,
    head: Option<usize>,
}

/// `None` if this is no valid tree of any version. `id`: the conversation's id.
fn read_tree(tree: Value, id: &str) -> Option<Tree<Vec<Entry>>> {
    let named = |entry: &Value| entry.get("id").is_some();
    let old = tree.get("entries")?.as_array()?.iter().any(|entry| !named(entry));
    if !old {
        return serde_json::from_value(tree).ok().filter(is_tree);
    }
    let OldTree { entries, head } = serde_json::from_value(tree).ok()?;
    let ids: Vec<MessageId> =
        (0..entries.len()).map(|place| MessageId::derived([id, &place.to_string()])).collect();
    if head.is_some_and(|head| head >= ids.len()) {
        return None;
    }
    let entry = |(place, old): (usize, OldEntry)| match old.parent {
        Some(parent) if parent >= place => None,
        parent => Some(old.entry(ids[place], parent.map(|parent| ids[parent]))),
    };
    let entries = entries.into_iter().enumerate().map(entry).collect::<Option<Vec<Entry>>>()?;
    Some(Tree { entries, head: head.map(|head| ids[head]) })
}

/// Whether parents precede their children, ids are unique, and the head exists.
fn is_tree(tree: &Tree<Vec<Entry>>) -> bool {
    let mut before: HashSet<MessageId> = HashSet::new();
    let in_order = tree
        .entries
        .iter()
        .all(|entry| entry.parent.is_none_or(|parent| before.contains(&parent)) && before.insert(entry.id));
    in_order && tree.head.is_none_or(|head| before.contains(&head))
}
