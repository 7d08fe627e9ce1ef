//! A folder or a glob → its text files, sorted, and what was left out of them and why.
//!
//! `.gitignore` and the like are heeded, hidden files are passed over, and links are not followed. Hidden files
//! and those that a project ignores are not reported: they do not count as files of the folder.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

use globset::{GlobBuilder, GlobMatcher};
use ignore::WalkBuilder;

/// Most files of a folder.
pub(super) const MOST_FILES: usize = 200;
/// Most bytes of a folder, all files together.
pub(super) const MOST_BYTES: u64 = 1_000_000;
/// Most entries to look at: a folder with more is not walked to its end.
const MOST_ENTRIES: usize = 50_000;
/// How many bytes of a file that is left out tell whether it is text.
const HEAD: u64 = 8192;

/// Where to look, and for what.
#[derive(Debug)]
pub(super) struct Search {
    root: PathBuf,
    /// Files must match it; `None`: all do.
    glob: Option<GlobMatcher>,
    /// How many folders deep to look.
    depth: Option<usize>,
}

/// Why a file was left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Why {
    NotText,
    /// A link, a pipe or a device.
    NotRegular,
    Unreadable,
    /// There are too many files, or too many bytes.
    Limit,
}

/// The files found: names with their bytes.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) files: Vec<(String, Vec<u8>)>,
    pub(super) left_out: Vec<(String, Why)>,
    /// The walk was ended early: there may be more files.
    pub(super) unfinished: bool,
}

/// Whether a path is a pattern for paths.
pub(super) fn is_glob(path: &Path) -> bool {
    path.to_str().is_some_and(|path| path.contains(['*', '?', '[', '{']))
}

impl Search {
    /// All files in a folder and its folders.
    pub(super) fn of_folder(folder: &Path) -> Search {
        Search { root: folder.to_path_buf(), glob: None, depth: None }
    }

    /// The files that a pattern matches: `*` and `?` stay within one name, `**` spans folders. An error says
    /// what is wrong with the pattern.
    pub(super) fn of_glob(pattern: &Path) -> Result<Search, String> {
        let components: Vec<Component> = pattern.components().filter(|c| *c != Component::CurDir).collect();
        let literal = components.iter().take_while(|c| !is_glob(Path::new(c))).count();
        let root: PathBuf = components[..literal].iter().collect();
        let whole: PathBuf = components.iter().collect();
        let glob = GlobBuilder::new(&whole.to_string_lossy()).literal_separator(true).build();
        let glob = glob.map_err(|error| error.kind().to_string())?.compile_matcher();
        let endless = components.iter().any(|c| c.as_os_str().to_string_lossy().contains("**"));
        let depth = (!endless).then_some(components.len() - literal);
        let root = if literal == 0 { PathBuf::from(".") } else { root };
        Ok(Search { root, glob: Some(glob), depth })
    }

    /// The files, in the order of their names.
    pub(super) fn run(&self) -> Found {
        let mut walk = WalkBuilder::new(&self.root);
        walk.require_git(false).max_depth(self.depth).sort_by_file_path(Ord::cmp);
        let (mut found, mut bytes) = (Found::default(), 0);
        for (seen, entry) in walk.build().enumerate() {
            if seen >= MOST_ENTRIES {
                found.unfinished = true;
                break;
            }
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) => {
                    found.left_out.push((error.to_string(), Why::Unreadable));
                    continue;
                }
            };
            let path = entry.path().strip_prefix("./").unwrap_or(entry.path());
            let is_folder = entry.depth() == 0 || entry.file_type().is_some_and(|kind| kind.is_dir());
            if is_folder || self.glob.as_ref().is_some_and(|glob| !glob.is_match(path)) {
                continue;
            }
            let name = path.display().to_string();
            let is_file = entry.file_type().is_some_and(|kind| kind.is_file());
            let read = match is_file {
                true if found.files.len() >= MOST_FILES => Err(Why::Limit),
                true => text_within(path, MOST_BYTES - bytes),
                false => Err(Why::NotRegular),
            };
            match read {
                Ok(text) => {
                    bytes += text.len() as u64;
                    found.files.push((name, text));
                }
                Err(why) => found.left_out.push((name, why)),
            }
        }
        found
    }
}

/// The bytes of a text file of at most `most` bytes.
fn text_within(path: &Path, most: u64) -> Result<Vec<u8>, Why> {
    let read = |most: u64| -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(path)?.take(most).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let mut bytes = read(most.max(HEAD) + 1).map_err(|_| Why::Unreadable)?;
    let whole = bytes.len() as u64 <= most;
    if !whole {
        bytes.truncate(HEAD as usize);
    }
    let is_text = match std::str::from_utf8(&bytes) {
        Ok(text) => !text.contains('\0'),
        Err(error) => !whole && error.error_len().is_none(), // the head may end inside a character
    };
    match (is_text, whole) {
        (false, _) => Err(Why::NotText),
        (true, false) => Err(Why::Limit),
        (true, true) => Ok(bytes),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, bytes) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        folder
    }

    /// The names found and left out, below the folder.
    fn names(folder: &Path, search: &Search) -> (Vec<String>, Vec<(String, Why)>) {
        let below = |name: &str| {
            Path::new(name).strip_prefix(folder).unwrap_or(Path::new(name)).display().to_string()
        };
        let found = search.run();
        assert!(!found.unfinished);
        (
            found.files.iter().map(|(name, _)| below(name)).collect(),
            found.left_out.iter().map(|(name, why)| (below(name), *why)).collect(),
        )
    }

    #[test]
    fn a_folder_brings_its_own_text_files_in_order() {
        let folder = folder(&[
            ("b.rs", b"b"),
            ("a/z.txt", b"z"),
            ("a/data.bin", b"\xff\xfe"),
            ("nul", b"a\0b"),
            (".hidden", b"x"),
            (".git/config", b"x"),
            ("target/out.txt", b"x"),
            (".gitignore", b"target/\n*.log\n"),
            ("x.log", b"x"),
            ("empty", b""),
        ]);
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("secret"), "s").unwrap();
        symlink(outside.path(), folder.path().join("link")).unwrap();
        symlink(outside.path().join("secret"), folder.path().join("secret")).unwrap();
        let (files, left_out) = names(folder.path(), &Search::of_folder(folder.path()));
        assert_eq!(files, ["a/z.txt", "b.rs", "empty"]);
        let left_out: Vec<(&str, Why)> = left_out.iter().map(|(name, why)| (name.as_str(), *why)).collect();
        assert_eq!(
            left_out,
            [
                ("a/data.bin", Why::NotText),
                ("link", Why::NotRegular),
                ("nul", Why::NotText),
                ("secret", Why::NotRegular)
            ]
        );
    }

    #[test]
    fn too_many_files_and_too_many_bytes_are_left_out() {
        let many: Vec<String> = (0..MOST_FILES + 5).map(|n| format!("f{n:04}")).collect();
        let files: Vec<(&str, &[u8])> = many.iter().map(|name| (name.as_str(), &b"x"[..])).collect();
        let many = folder(&files);
        let (files, left_out) = names(many.path(), &Search::of_folder(many.path()));
        assert_eq!((files.len(), left_out.len()), (MOST_FILES, 5));
        assert_eq!(left_out[0], ("f0200".to_string(), Why::Limit));

        let half = vec![b'x'; MOST_BYTES as usize / 2];
        let mut cut = "é".repeat(MOST_BYTES as usize / 2).into_bytes();
        cut.insert(0, b'x'); // the head ends inside a character
        let large = folder(&[("a", &half), ("b", &half), ("c", b"x"), ("d", &cut), ("e", &[0; 2_000_000])]);
        let (files, left_out) = names(large.path(), &Search::of_folder(large.path()));
        assert_eq!(files, ["a", "b"]);
        let whys: Vec<Why> = left_out.iter().map(|(_, why)| *why).collect();
        assert_eq!(whys, [Why::Limit, Why::Limit, Why::NotText]);
    }

    #[test]
    fn a_glob_matches_within_names_and_two_stars_across_folders() {
        let folder = folder(&[
            ("a.rs", b""),
            ("b.txt", b""),
            ("src/c.rs", b""),
            ("src/deep/d.rs", b""),
            (".e.rs", b""),
        ]);
        let matches = |pattern: &str| {
            let search = Search::of_glob(&folder.path().join(pattern)).unwrap();
            names(folder.path(), &search).0
        };
        assert_eq!(matches("*.rs"), ["a.rs"]);
        assert_eq!(matches("**/*.rs"), ["a.rs", "src/c.rs", "src/deep/d.rs"]);
        assert_eq!(matches("src/*.rs"), ["src/c.rs"]);
        assert_eq!(matches("s?c/**/[cd].rs"), ["src/c.rs", "src/deep/d.rs"]);
        assert_eq!(matches("{a,b}.*"), ["a.rs", "b.txt"]);
        assert!(matches("nothing*").is_empty());
        assert!(Search::of_glob(Path::new("a[")).is_err());
        assert!(is_glob(Path::new("a*")) && !is_glob(Path::new("a.b")));
    }
}
