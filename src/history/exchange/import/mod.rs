//! A file, a folder or a zip of another program (or of fireside) → conversations, each passed on as soon as
//! it is read.
//!
//! The content decides the format: fireside's JSON, OpenAI's messages, ChatGPT's data export. One
//! conversation is in memory at a time. Unreadable parts are skipped with a notice; only damage to the file's
//! structure ends the import.
//!
//! In the order of the flow: this file, the import and its summary; source.rs and archive.rs, a file, a
//! folder, a zip; json_stream.rs and lossy_json.rs, one JSON value at a time; then one file per format:
//! native.rs, openai.rs, chatgpt.rs.

mod archive;
mod assemble;
mod chatgpt;
mod content;
mod error;
mod identity;
mod lossy_json;
mod native;
mod notes;
mod openai;
mod json_stream;
mod source;

use std::io::{self, BufReader, Read, Seek};
use std::ops::ControlFlow;
use std::path::Path;
use std::time::UNIX_EPOCH;

use serde_json::{Map, Value};

use self::archive::{Archive, is_zip};
pub use self::error::Error;
use self::error::unreadable;
use self::json_stream::{JsonItem, JsonStream, Position, Stop};
use self::lossy_json::parse;
pub use self::notes::Imported;
use self::notes::quoted;
use crate::files::{self, reason};

/// Maximum length of a conversation, in bytes.
const LONGEST: usize = 256 << 20;
/// Bytes per read.
const BUFFER: usize = 64 << 10;
/// Maximum number of notes; the others are only counted.
const MOST_NOTES: usize = 100;

/// The result of an import.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImportSummary {
    /// Conversations passed on.
    pub conversations: usize,
    /// Messages in all of them.
    pub messages: usize,
    /// Values that could not be read or are no conversations; `notes` has the reasons.
    pub skipped: usize,
    pub notes: Vec<String>,
}

/// `watch` gets the bytes read and the total from time to time, and may stop the import. `take` gets the
/// conversations; an error from it ends the import. Conversations passed on before an error stay imported.
pub fn import<E: From<Error>>(
    path: &Path,
    watch: &mut dyn FnMut(u64, u64) -> ControlFlow<()>,
    take: &mut dyn FnMut(Imported) -> Result<(), E>,
) -> Result<ImportSummary, E> {
    let files = source::files(path)?;
    let size = |file: &std::path::PathBuf| std::fs::metadata(file).map_or(0, |about| about.len());
    let mut progress = ImportProgress { watch, done: 0, total: files.iter().map(size).sum() };
    let mut importer = Importer::new(take);
    for file in &files {
        importer.file(file, &mut progress)?;
    }
    if files == [path] && source::other_parts(path) > 0 {
        importer.note("other parts of the export lie beside it: give the folder to import them all".into());
    }
    importer.finish(path)
}

struct ImportProgress<'a> {
    watch: &'a mut dyn FnMut(u64, u64) -> ControlFlow<()>,
    done: u64,
    total: u64,
}

/// Reports progress, and fails once the watcher stops the import.
struct Watched<'a, 'b, R> {
    input: R,
    progress: &'a mut ImportProgress<'b>,
}

impl<R: Read> Read for Watched<'_, '_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.input.read(buffer)?;
        let progress = &mut *self.progress;
        progress.done += read as u64;
        if (progress.watch)(progress.done.min(progress.total), progress.total).is_break() {
            return Err(io::Error::other(Error::Interrupted));
        }
        Ok(read)
    }
}

struct Importer<'a, E> {
    take: &'a mut dyn FnMut(Imported) -> Result<(), E>,
    summary: ImportSummary,
    more_notes: usize,
    /// The input was not only white space.
    anything: bool,
    /// When the file was written, for conversations without a time: milliseconds since 1970.
    known: i64,
    /// Messages directly in a list, and their bytes.
    loose: (Vec<Value>, usize),
}

impl<'a, E: From<Error>> Importer<'a, E> {
    fn new(take: &'a mut dyn FnMut(Imported) -> Result<(), E>) -> Importer<'a, E> {
        let (summary, loose) = (ImportSummary::default(), (Vec::new(), 0));
        Importer { take, summary, more_notes: 0, anything: false, known: 0, loose }
    }

    fn file(&mut self, path: &Path, progress: &mut ImportProgress) -> Result<(), E> {
        let unreadable = |error| unreadable(path, &error);
        let mut file = files::regular(path).map_err(unreadable)?;
        let mut beginning = Vec::new();
        (&mut file).take(4).read_to_end(&mut beginning).map_err(unreadable)?;
        let modified = file.metadata().and_then(|about| about.modified()).map_err(unreadable)?;
        self.known = modified.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64);
        if beginning.starts_with(b"\xff\xfe") || beginning.starts_with(b"\xfe\xff") {
            return Err(Error::Utf16(path.display().to_string()).into());
        }
        let begin = if beginning.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
        file.seek(io::SeekFrom::Start(begin)).map_err(unreadable)?;
        if !is_zip(&beginning) {
            return self.read(&path.display().to_string(), Watched { input: file, progress });
        }
        let mut archive = Archive::open(file, path)?;
        progress.total = archive.size();
        for member in archive.members() {
            let (name, input) = archive.member(member)?;
            self.read(
                &format!("{} in {}", name, path.display()),
                Watched { input, progress: &mut *progress },
            )?;
        }
        Ok(())
    }

    /// Reads one file to its end.
    fn read(&mut self, name: &str, input: impl Read) -> Result<(), E> {
        let mut pieces = JsonStream::new(BufReader::with_capacity(BUFFER, input), LONGEST);
        loop {
            let piece = pieces.next().map_err(|stop| self.stopped(name, stop))?;
            self.anything |= piece.is_some();
            match piece {
                Some(JsonItem::Value(place)) => match parse(&pieces.bytes) {
                    Ok((value, _)) if openai::is_message(&value) => {
                        self.gather(name, value, pieces.bytes.len())?
                    }
                    Ok((value, repaired)) => self.value(value, repaired, &format!("{name}, {place}"))?,
                    Err(error) => self.skip(&format!("{name}, {place}"), &not_json(place, &error)),
                },
                Some(JsonItem::TooLong(place)) => {
                    self.skip(&format!("{name}, {place}"), "longer than 256 MiB")
                }
                Some(JsonItem::ListEnd) => self.flush(name)?,
                None => return self.flush(name),
            }
        }
    }

    /// Keeps a message until its list ends.
    fn gather(&mut self, name: &str, message: Value, bytes: usize) -> Result<(), E> {
        self.loose.0.push(message);
        self.loose.1 += bytes;
        if self.loose.1 > LONGEST {
            return Err(Error::TooLong(name.into()).into());
        }
        Ok(())
    }

    fn flush(&mut self, name: &str) -> Result<(), E> {
        let (messages, _) = std::mem::take(&mut self.loose);
        match messages.is_empty() {
            true => Ok(()),
            false => self.value(Value::Array(messages), false, name),
        }
    }

    /// `origin`: its name in notes if it has no title.
    fn value(&mut self, value: Value, repaired: bool, origin: &str) -> Result<(), E> {
        if let Value::Object(mut object) = value {
            if let Some(Value::Array(list)) = object.get_mut("conversations").map(Value::take) {
                return list.into_iter().try_for_each(|one| self.value(one, repaired, origin));
            }
            let title = object.get("title").and_then(Value::as_str).filter(|title| !title.trim().is_empty());
            let called = title.map_or(origin.to_string(), |title| format!("{origin}, {}", quoted(title)));
            return self.add(conversation(object, self.known), repaired, &called);
        }
        let messages = matches!(&value, Value::Array(list) if list.iter().any(openai::is_message));
        let object = Map::from_iter(messages.then(|| ("messages".to_string(), value)));
        self.add(conversation(object, self.known), repaired, origin)
    }

    fn add(&mut self, read: Result<Imported, String>, repaired: bool, called: &str) -> Result<(), E> {
        let mut imported = match read {
            Ok(imported) => imported,
            Err(why) => {
                self.skip(called, &why);
                return Ok(());
            }
        };
        if repaired {
            imported.notes.push("damaged characters were replaced".into());
        }
        let messages = imported.record.entries.len();
        (self.take)(imported)?;
        self.summary.conversations += 1;
        self.summary.messages += messages;
        Ok(())
    }

    fn skip(&mut self, what: &str, why: &str) {
        self.summary.skipped += 1;
        self.note(format!("left out: {what}: {why}"));
    }

    fn note(&mut self, note: String) {
        if self.summary.notes.len() < MOST_NOTES {
            self.summary.notes.push(note);
        } else {
            self.more_notes += 1;
        }
    }

    /// The error that ended the reading, with the progress so far.
    fn stopped(&self, name: &str, stop: Stop) -> Error {
        let (name, taken) = (name.to_string(), self.summary.conversations);
        match stop {
            Stop::Damaged(..) if !self.anything => Error::NotConversations(name),
            Stop::Damaged(place, why) => Error::Damaged { name, place: place.to_string(), why, taken },
            Stop::Unreadable(error) => match error.downcast::<Error>() {
                Ok(error) => error,
                Err(error) => Error::BrokenOff { name, why: reason(&error), taken },
            },
        }
    }

    fn finish(mut self, path: &Path) -> Result<ImportSummary, E> {
        if self.summary.conversations == 0 && (self.summary.skipped > 0 || !self.anything) {
            let why = self.summary.notes.into_iter().next().unwrap_or("it is empty".into());
            return Err(Error::Empty { name: path.display().to_string(), why }.into());
        }
        if self.more_notes > 0 {
            self.summary.notes.push(format!("and {} more", self.more_notes));
        }
        Ok(self.summary)
    }
}

/// Reads a conversation in any known format.
fn conversation(object: Map<String, Value>, known: i64) -> Result<Imported, String> {
    if object.contains_key("fireside") {
        native::read(object, known)
    } else if object.contains_key("mapping") {
        chatgpt::read(object, known)
    } else if object.contains_key("messages") {
        openai::read(object, known)
    } else {
        Err("no conversation in a known format".into())
    }
}

/// Why the value at `start` is invalid JSON, with the exact position.
fn not_json(start: Position, error: &serde_json::Error) -> String {
    let why = error.to_string();
    let why = why.rfind(" at line ").map_or(why.as_str(), |end| &why[..end]);
    let line = start.line + (error.line() as u64).saturating_sub(1);
    let before = if error.line() <= 1 { start.column - 1 } else { 0 };
    format!("{why} at line {line}, column {}", before + error.column() as u64)
}
