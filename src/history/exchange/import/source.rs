//! The path given by the user → the files with conversations.

use std::fs;
use std::path::{Path, PathBuf};

use super::error::{Error, unreadable};

/// The file itself, or the files in a folder that may hold conversations.
pub(super) fn files(path: &Path) -> Result<Vec<PathBuf>, Error> {
    let unreadable = |error| unreadable(path, &error);
    if !fs::metadata(path).map_err(unreadable)?.is_dir() {
        return Ok(vec![path.to_path_buf()]);
    }
    let mut names = Vec::new();
    for entry in fs::read_dir(path).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let name = entry.file_name().to_str().map(str::to_string);
        names.extend(name.filter(|_| entry.path().is_file()));
    }
    let chosen = choose(&names);
    if chosen.is_empty() {
        return Err(Error::NoFile { name: path.display().to_string(), zip: false });
    }
    Ok(chosen.into_iter().map(|index| path.join(&names[index])).collect())
}

/// Indices of the files that hold conversations, in reading order: the numbered parts of a ChatGPT export, or
/// all files that may be JSON. Only the last component of a name counts.
pub(super) fn choose(names: &[String]) -> Vec<usize> {
    let visible =
        |index: &usize| !names[*index].contains("__MACOSX/") && !last(&names[*index]).starts_with('.');
    let all: Vec<usize> = (0..names.len()).filter(visible).collect();
    let mut chosen: Vec<usize> =
        all.iter().copied().filter(|i| part_of_export(&names[*i]).is_some()).collect();
    if chosen.is_empty() {
        chosen = all.into_iter().filter(|index| may_be_json(&names[*index])).collect();
    }
    chosen.sort_by_key(|index| (part_of_export(&names[*index]), &names[*index]));
    chosen
}

/// The number of other parts beside this one, if it is a part of an export.
pub(super) fn other_parts(path: &Path) -> usize {
    let numbered = |name: &str| part_of_export(name).is_some_and(|number| number > 0);
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    if part_of_export(name).is_none() {
        return 0;
    }
    let folder = path.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."));
    let names = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.file_name());
    names
        .filter_map(|other| other.into_string().ok())
        .filter(|other| other != name && numbered(other))
        .count()
}

/// `conversations.json` is 0, `conversations-000.json` 1, and so on.
fn part_of_export(name: &str) -> Option<u64> {
    let rest = last(name).strip_prefix("conversations")?.strip_suffix(".json")?;
    match rest.strip_prefix(['-', '_']) {
        None => rest.is_empty().then_some(0),
        Some(number) => number.parse::<u32>().ok().map(|number| u64::from(number) + 1),
    }
}

fn may_be_json(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name.ends_with(".json") || name.ends_with(".jsonl")
}

fn last(name: &str) -> &str {
    name.rsplit(['/', '\\']).next().unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(names: &[&str]) -> Vec<String> {
        let names: Vec<String> = names.iter().map(|name| name.to_string()).collect();
        choose(&names).into_iter().map(|index| names[index].clone()).collect()
    }

    #[test]
    fn the_parts_of_an_export_come_in_their_order() {
        let export =
            ["user.json", "a/conversations-010.json", "a/conversations-9.json", "shared_conversations.json"];
        assert_eq!(chosen(&export), ["a/conversations-9.json", "a/conversations-010.json"]);
        assert_eq!(
            chosen(&["x/conversations.json", "__MACOSX/x/conversations.json"]),
            ["x/conversations.json"]
        );
    }

    #[test]
    fn without_them_whatever_may_be_json_is_tried() {
        assert_eq!(chosen(&["b.JSON", "a.jsonl", "._a.jsonl", "c.txt"]), ["a.jsonl", "b.JSON"]);
    }
}
