//! A path that is being typed after `@` → its rest, for the dim hint: of the first name in its folder that goes on so.
//!
//! Typing must not wait for a large folder: one is listed once a line, and only its first entries count.

use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};

use crate::files::expanded;
use crate::repl::typed::Mention;
use crate::ui::acts;

/// Most entries of a folder that are looked at.
const MOST_ENTRIES: usize = 10_000;

/// The folder that was listed last: as it was typed, and its names in order.
#[derive(Default)]
pub(super) struct Paths(RefCell<Option<(String, Vec<String>)>>);

impl Paths {
    /// What completes the path; `None`: nothing does, or it is complete.
    pub(super) fn rest(&self, mention: &Mention) -> Option<String> {
        let path = &mention.path;
        let (folder, begun) = path.split_at(path.rfind('/').map_or(0, |slash| slash + 1));
        let mut listed = self.0.borrow_mut();
        if listed.as_ref().is_none_or(|(other, _)| other != folder) {
            *listed = Some((folder.to_string(), names(folder)));
        }
        let (_, names) = listed.as_ref()?;
        let fits =
            |name: &&String| name.starts_with(begun) && (!name.starts_with('.') || begun.starts_with('.'));
        let name = names.iter().find(fits)?;
        let rest = &name[begun.len()..];
        let is_folder = fs::metadata(place(folder).join(name)).is_ok_and(|entry| entry.is_dir());
        let end = if is_folder { "/" } else { mention.end_quote() };
        let rest = mention.quotes(rest)? + end;
        (!rest.is_empty() && !rest.contains(|c: char| c.is_control() || acts(c))).then_some(rest)
    }
}

/// A folder as it was typed → its path.
fn place(folder: &str) -> PathBuf {
    expanded(Path::new(if folder.is_empty() { "." } else { folder }))
}

/// The names in a folder, sorted; empty if it cannot be read.
fn names(folder: &str) -> Vec<String> {
    let entries = fs::read_dir(place(folder)).into_iter().flatten().take(MOST_ENTRIES);
    let mut names: Vec<String> =
        entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repl::typed::being_typed;

    #[test]
    fn the_first_name_that_goes_on_so_is_offered() {
        let folder = tempfile::tempdir().unwrap();
        for file in ["b.txt", "a b.txt", ".hidden", "sub/c.txt", "quote\".txt", "red\u{9b}31m"] {
            let path = folder.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let paths = Paths::default();
        let rest = |line: &str| {
            let line = line.replace('%', folder.path().to_str().unwrap());
            paths.rest(&being_typed(&line)?)
        };
        assert_eq!(rest("see @%/").as_deref(), Some("a\\ b.txt"));
        assert_eq!(rest("see @%/b").as_deref(), Some(".txt"));
        assert_eq!(rest("@%/a\\ b").as_deref(), Some(".txt"));
        assert_eq!(rest("@\"%/a").as_deref(), Some(" b.txt\""));
        assert_eq!(rest("@%/s").as_deref(), Some("ub/"));
        assert_eq!(rest("@%/sub/").as_deref(), Some("c.txt"));
        assert_eq!(rest("@%/.h").as_deref(), Some("idden"));
        for line in ["@%/b.txt", "@%/x", "@%/nowhere/", "@%/red", "@\"%/q", "\\@%/b", "%/b"] {
            assert_eq!(rest(line), None, "{line}");
        }
        // A folder is listed once.
        fs::write(folder.path().join("a"), "").unwrap();
        assert_eq!(rest("see @%/").as_deref(), Some("a\\ b.txt"));
    }
}
