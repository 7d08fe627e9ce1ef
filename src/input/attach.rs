//! A path, a glob or a folder as the user names it → attachments, and a line for what was left out.

use std::path::Path;

use super::folder::{Found, MOST_BYTES, MOST_FILES, Search, Why, is_glob};
use super::{Error, read_text, text_of, watched};
use crate::chat::Attachment;
use crate::chat::message::without_final_newline;
use crate::files::expanded;

/// Names of files left out for one reason that a line lists.
const MOST_NAMES: usize = 10;

/// What a name stands for.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Attached {
    /// Not empty.
    pub files: Vec<Attachment>,
    /// What was left out and why, one line; `None`: nothing was.
    pub left_out: Option<String>,
}

/// Reads what the path stands for: one file as it is, or the text files of a folder or a glob, which have
/// headers.
pub fn attach(path: &Path) -> Result<Attached, Error> {
    let name = path.display().to_string();
    let path = &expanded(path);
    let is_folder = path.is_dir();
    let search = match is_folder {
        true => Search::of_folder(path),
        false if is_glob(path) && !path.exists() => {
            Search::of_glob(path).map_err(|why| Error::BadGlob { name: name.clone(), why })?
        }
        false => {
            let text = read_text(path)?;
            return Ok(Attached { files: vec![Attachment::file(name, text)], left_out: None });
        }
    };
    let found = watched(move || Ok(search.run())).until_done(|| {})?;
    let found = found.expect("a search reports its errors among the files");
    let left_out = left_out(&found);
    let mut files = Vec::new();
    for (name, bytes) in found.files {
        let text = without_final_newline(text_of(bytes, &name)?);
        files.push(Attachment::file(name, text).with_header());
    }
    match files.is_empty() {
        true if is_folder => Err(Error::NoText { name, left_out }),
        true => Err(Error::NoMatch { name, left_out }),
        false => Ok(Attached { files, left_out }),
    }
}

/// `a.png, b.png (not text); x (links and devices)`.
fn left_out(found: &Found) -> Option<String> {
    let limit = format!("a folder brings at most {MOST_FILES} files and {} MB", MOST_BYTES / 1_000_000);
    let whys = [
        (Why::NotText, "not text"),
        (Why::NotRegular, "not regular files"),
        (Why::Unreadable, "unreadable"),
        (Why::Limit, &limit),
    ];
    let mut parts = Vec::new();
    for (why, said) in whys {
        let names: Vec<&str> =
            found.left_out.iter().filter(|(_, one)| *one == why).map(|(name, _)| name.as_str()).collect();
        let more = match names.len().saturating_sub(MOST_NAMES) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        if let [first, rest @ ..] = &names[..names.len().min(MOST_NAMES)] {
            let listed = rest.iter().fold(first.to_string(), |all, name| all + ", " + name);
            parts.push(format!("{listed}{more} ({said})"));
        }
    }
    parts.extend(found.unfinished.then(|| "whatever comes later in this very large folder".to_string()));
    (!parts.is_empty()).then(|| parts.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_is_named_by_reason() {
        let mut found = Found::default();
        assert_eq!(left_out(&found), None);
        found.left_out = vec![("b".into(), Why::Limit), ("a.png".into(), Why::NotText)];
        found.left_out.extend((0..12).map(|n| (format!("c{n}"), Why::Limit)));
        assert_eq!(
            left_out(&found).unwrap(),
            "a.png (not text); b, c0, c1, c2, c3, c4, c5, c6, c7, c8 and 3 more (a folder brings at most 200 files and 1 MB)"
        );
        found.left_out.clear();
        found.unfinished = true;
        assert_eq!(left_out(&found).unwrap(), "whatever comes later in this very large folder");
    }
}
