//! `fireside check`: reads every byte of a model file once, and reports all problems.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::{CommandContext, lossy};
use crate::failure::{self, Exit, Failure};
use crate::files::reason;
use crate::gguf::{self, Header, Refusal};
use crate::models;
use crate::models::catalogue::entry_for_file;
use crate::ui::terminal;
use crate::units::{count, size};

/// Most problems to report.
const MOST_PROBLEMS: usize = 20;

/// The report on a model.
#[derive(Default)]
struct Report {
    problems: Vec<String>,
    /// Remarks that are not problems.
    remarks: Vec<String>,
    tensors: usize,
    bytes: u64,
    parts: Vec<CheckedFile>,
}

/// The report on one file of the model.
struct CheckedFile {
    path: PathBuf,
    sha256: String,
    expected: Option<Checksum>,
}

/// The expected checksum of a file, and its source.
struct Checksum {
    sha256: String,
    source: String,
}

pub(super) fn run(context: &mut CommandContext, wanted: &str) -> Result<Exit, Failure> {
    let path = models::find(context.config, wanted)?;
    let report = examine(context, &path)?;
    context.screen.end_progress();
    let text = if context.json { object(&path, &report).to_string() } else { lines(&path, &report) };
    context.print(&text)?;
    let Some(first) = report.problems.first() else {
        return Ok(Exit::Answered);
    };
    let failure = Failure::new(format!("{} is damaged: {first}", path.display()));
    Err(failure.hint(failure::joined(&path).unwrap_or(failure::FETCH_AGAIN.into())))
}

fn examine(context: &mut CommandContext, path: &Path) -> Result<Report, Failure> {
    let mut report = Report::default();
    let files = match gguf::read(path) {
        Ok(header) => {
            match gguf::check(&header) {
                Ok(()) => {}
                Err(refusal @ (Refusal::NotChat(_) | Refusal::Architecture(_))) => {
                    report.remarks.push(refusal.to_string());
                }
                Err(refusal) => report.problems.push(refusal.to_string()),
            }
            let parts: Vec<PathBuf> =
                gguf::parts(&header).into_iter().filter(|part| part.is_file()).collect();
            let rest =
                parts.into_iter().filter(|part| part != path).map(|part| (gguf::read(&part).ok(), part));
            std::iter::once((Some(header), path.to_path_buf())).chain(rest).collect()
        }
        Err(refusal @ (Refusal::Io(_) | Refusal::Directory | Refusal::Special)) => {
            let failure = Failure::new(format!("could not check {}: {refusal}", path.display()));
            return Err(failure::remedy(&refusal).into_iter().fold(failure, Failure::hint));
        }
        Err(refusal) => {
            report.problems.push(refusal.to_string());
            vec![(None, path.to_path_buf())]
        }
    };
    let files: Vec<(Option<Header>, PathBuf)> = files;
    let total =
        files.iter().filter_map(|(_, file)| std::fs::metadata(file).ok()).map(|about| about.len()).sum();
    for (header, file) in &files {
        part(context, &mut report, header.as_ref(), file, total)?;
    }
    let more = report.problems.len().saturating_sub(MOST_PROBLEMS);
    if more > 0 {
        report.problems.truncate(MOST_PROBLEMS);
        report.problems.push(format!("and {more} more"));
    }
    Ok(report)
}

/// Reads one file of a model in full.
fn part(
    context: &mut CommandContext,
    report: &mut Report,
    header: Option<&Header>,
    file: &Path,
    total: u64,
) -> Result<(), Failure> {
    let before = report.bytes;
    let screen = &mut *context.screen;
    let found = gguf::verify(file, header, &mut |bytes| {
        screen.show_checking(before + bytes, total);
        !terminal::interrupted()
    });
    let found = found
        .map_err(|e| Failure::new(format!("could not read {}: {}", file.display(), reason(&e))))?
        .ok_or_else(Failure::interrupted)?;
    let expected = expected(file);
    if let Some(expected) = expected.as_ref().filter(|expected| expected.sha256 != found.sha256) {
        report.problems.push(format!("its checksum differs from {}", expected.source));
    }
    report.problems.extend(found.problems);
    report.tensors += header.map_or(0, |header| header.tensors.len());
    report.bytes += found.bytes;
    report.parts.push(CheckedFile { path: file.to_path_buf(), sha256: found.sha256, expected });
    Ok(())
}

/// The expected checksum of a file: from its name in a download cache, or from the catalogue.
fn expected(file: &Path) -> Option<Checksum> {
    let real = std::fs::canonicalize(file).unwrap_or_else(|_| file.to_path_buf());
    let name = real.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let is_digest =
        |text: &str| text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let folder = real.parent().and_then(Path::file_name).unwrap_or_default();
    if let Some(digest) = name.strip_prefix("sha256-").filter(|digest| is_digest(digest)) {
        return Some(Checksum {
            sha256: digest.to_owned(),
            source: "the name Ollama gave the file".to_owned(),
        });
    }
    if folder == "blobs" && is_digest(&name) {
        return Some(Checksum { sha256: name, source: "the name Hugging Face gave the file".to_owned() });
    }
    let entry = file.file_name().and_then(|name| entry_for_file(&name.to_string_lossy()))?;
    Some(Checksum {
        sha256: entry.sha256.clone(),
        source: format!("{} in the catalogue, from {}", entry.file, entry.repository),
    })
}

fn lines(path: &Path, report: &Report) -> String {
    let files = if report.parts.len() > 1 {
        format!(" in {}", count(report.parts.len(), "file"))
    } else {
        String::new()
    };
    let mut lines = vec![
        format!("file      {}", path.display()),
        format!("read      {}{files}, {}", size(report.bytes), count(report.tensors, "tensor")),
    ];
    if report.problems.is_empty() {
        lines.push("header    sound: sizes, offsets, metadata and vocabulary are consistent".into());
        lines.push("weights   no NaN or infinity".into());
    }
    for part in &report.parts {
        let verdict = match &part.expected {
            Some(expected) if expected.sha256 == part.sha256 => format!("matches {}", expected.source),
            Some(expected) => format!("expected {} from {}", expected.sha256, expected.source),
            None => "no known checksum to compare it with".to_owned(),
        };
        lines.push(format!("sha256    {} ({verdict})", part.sha256));
    }
    lines.extend(report.remarks.iter().map(|remark| format!("note      {remark}")));
    lines.extend(report.problems.iter().map(|problem| format!("problem   {problem}")));
    lines.join("\n")
}

fn object(path: &Path, report: &Report) -> serde_json::Value {
    let first = report.parts.first();
    let digest = |part: &CheckedFile| part.expected.as_ref().map(|expected| expected.sha256.clone());
    let mut object = json!({
        "path": lossy(path),
        "ok": report.problems.is_empty(),
        "problems": report.problems,
        "remarks": report.remarks,
        "tensors": report.tensors,
        "bytes": report.bytes,
        "sha256": first.map(|part| &part.sha256),
        "expected_sha256": first.and_then(digest),
    });
    if report.parts.len() > 1 {
        let part = |part: &CheckedFile| json!({"path": lossy(&part.path), "sha256": part.sha256, "expected_sha256": digest(part)});
        object["parts"] = report.parts.iter().map(part).collect();
    }
    object
}
