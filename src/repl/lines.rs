//! The input history of the chat, in a file: one entry per line, with `\n`, `\r` and `\\` for line breaks and
//! backslashes, and `\@` and `\!` for those that nobody typed (typed.rs).
//!
//! Several processes may append to the file, each under a lock. It is shortened once it has far more than
//! `MOST` entries.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::typed::MARKS;
use crate::files::{folder_of, lock, own_file, own_folder, replace};

/// Most entries that are read.
pub(super) const MOST: usize = 10_000;
/// Entries beyond `MOST` that the file may have before it is shortened.
const MORE: usize = 2_000;
/// Most bytes that are read, from the end of the file.
const LONGEST: u64 = 64 << 20;
/// The first line of the file.
const HEAD: &str = "#V2";

/// The lines, oldest first; none if there is no file.
pub(super) fn read(path: &Path) -> io::Result<Vec<String>> {
    let mut file = match own_file(path, OpenOptions::new().read(true)) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        opened => opened?,
    };
    let lines = read_from(&mut file)?;
    if lines.len() > MOST + MORE {
        let _ = cut(path); // only saves space
    }
    let first = lines.len().saturating_sub(MOST);
    Ok(lines[first..].iter().map(|line| unescaped(line)).collect())
}

fn read_from(file: &mut File) -> io::Result<Vec<String>> {
    let (mut bytes, length) = (Vec::new(), file.metadata()?.len());
    io::Seek::seek(file, io::SeekFrom::Start(length.saturating_sub(LONGEST)))?;
    file.take(LONGEST).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let lines = text.lines().filter(|line| !line.is_empty() && *line != HEAD);
    Ok(lines.map(str::to_string).collect())
}

/// Appends a line. Creates the file and its folder if they do not exist.
pub(super) fn append(path: &Path, line: &str) -> io::Result<()> {
    own_folder(folder_of(path))?;
    let mut file = locked(path)?;
    let head = if file.metadata()?.len() == 0 { format!("{HEAD}\n") } else { String::new() };
    file.write_all(format!("{head}{}\n", escaped(line)).as_bytes())
}

/// The file at `path`, locked for this process.
fn locked(path: &Path) -> io::Result<File> {
    loop {
        let file = own_file(path, OpenOptions::new().read(true).append(true).create(true))?;
        lock(&file, path)?;
        if file.metadata()?.nlink() > 0 {
            return Ok(file);
        } // otherwise it was replaced while waiting for the lock
    }
}

/// Removes the oldest lines.
fn cut(path: &Path) -> io::Result<()> {
    let mut file = locked(path)?;
    let lines = read_from(&mut file)?;
    let last = &lines[lines.len().saturating_sub(MOST)..];
    let text: String =
        [HEAD].into_iter().chain(last.iter().map(String::as_str)).map(|line| format!("{line}\n")).collect();
    replace(path, text.as_bytes())
}

fn escaped(line: &str) -> String {
    let line = line.replace('\\', "\\\\").replace('\n', "\\n").replace('\r', "\\r");
    MARKS.iter().fold(line, |line, (mark, c)| line.replace(*mark, &format!("\\{c}")))
}

fn unescaped(line: &str) -> String {
    let mut text = String::with_capacity(line.len());
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match (c, c == '\\') {
            (_, false) => text.push(c),
            _ => match chars.next() {
                Some('n') => text.push('\n'),
                Some('r') => text.push('\r'),
                Some(other) => {
                    text.push(MARKS.iter().find(|(_, c)| *c == other).map_or(other, |(mark, _)| *mark))
                }
                None => text.push('\\'),
            },
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_back_as_they_were_and_the_oldest_go() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state/lines");
        assert!(read(&path).unwrap().is_empty());
        let odd = [
            "one",
            "two\nlines\n",
            "C:\\new\\\\x\\",
            "#V2x",
            "  indented",
            "\u{9b}31m",
            "a\rb",
            "@x \\@y!",
            "\u{10ffff}ls \u{10fffe}z",
        ];
        odd.iter().for_each(|line| append(&path, line).unwrap());
        assert_eq!(read(&path).unwrap(), odd);
        std::fs::write(&path, format!("#V2\n{}", "line\n".repeat(MOST + MORE) + "last\n")).unwrap();
        assert_eq!(read(&path).unwrap().len(), MOST);
        append(&path, "after").unwrap();
        let lines = read(&path).unwrap();
        assert_eq!(
            (lines.len(), &lines[lines.len() - 2..]),
            (MOST, &["last".to_string(), "after".to_string()][..])
        );
        assert!(std::fs::read_to_string(&path).unwrap().lines().count() <= MOST + 2);
    }
}
