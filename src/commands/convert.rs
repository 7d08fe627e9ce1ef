//! `fireside convert`: a safetensors checkpoint → a GGUF file, loaded once before it gets its name.

use std::io::{self, BufWriter};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Instant;

use serde_json::json;
use tempfile::NamedTempFile;

use super::{CommandContext, lossy, may_replace};
use crate::convert::{Conversion, Type};
use crate::failure::{Exit, Failure};
use crate::files::{Existing, persist, reason};
use crate::models;
use crate::ui::terminal;
use crate::units::size;

/// Temporary files are private; a model is readable like the user's other files.
const READABLE: u32 = 0o644;

pub(super) fn run(
    folder: &Path,
    out: &Path,
    kind: Option<&str>,
    force: bool,
    context: &mut CommandContext,
) -> Result<Exit, Failure> {
    let started = Instant::now();
    let kind = kind.map(element_type).transpose()?;
    if out.extension().is_none_or(|ending| !ending.eq_ignore_ascii_case("gguf")) {
        return Err(Failure::usage(format!("{} must end in .gguf", out.display())));
    }
    let existing = may_replace(out, force, context)?;
    let out = &std::fs::canonicalize(out).unwrap_or_else(|_| out.to_path_buf()); // a link is followed, not replaced
    let named = |failure: Failure| match failure.exit {
        Exit::Interrupted => failure,
        _ => Failure {
            message: format!("could not convert {}: {}", folder.display(), failure.message),
            ..failure
        },
    };
    let conversion = Conversion::plan(folder, kind).map_err(Failure::from).map_err(named)?;
    write(&conversion, out, existing, context).map_err(named)?;
    if let Some(reason) = conversion.reason() {
        context.screen.note(&format!("{} tokens of context: {reason}", conversion.context()));
    }
    let bytes = std::fs::metadata(out).map_or(0, |about| about.len());
    let (family, kind) = (conversion.family(), conversion.kind().name());
    if context.json {
        let object = json!({
            "path": lossy(out), "bytes": bytes, "family": family, "type": kind, "context": conversion.context(),
            "context_reason": conversion.reason(), "seconds": started.elapsed().as_secs_f64(),
        });
        return context.print_json(&object);
    }
    context.screen.note(&format!("{family} as {kind}, {}; it loads and works", size(bytes)));
    context.print(&out.display().to_string())
}

fn element_type(name: &str) -> Result<Type, Failure> {
    Type::ALL.into_iter().find(|kind| kind.name().eq_ignore_ascii_case(name)).ok_or_else(|| {
        let names = Type::ALL.map(Type::name).join(", ");
        Failure::usage(format!("there is no type '{name}'")).hint(format!("--type takes {names}"))
    })
}

/// Writes a temporary file beside `out`, loads it, and renames it. On failure, removes it.
fn write(
    conversion: &Conversion,
    out: &Path,
    existing: Existing,
    context: &mut CommandContext,
) -> Result<(), Failure> {
    let cannot = |e: io::Error| Failure::new(format!("could not write {}: {}", out.display(), reason(&e)));
    let beside = out.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let part =
        tempfile::Builder::new().prefix(".converting").suffix(".gguf").tempfile_in(beside).map_err(cannot)?;
    terminal::unfinished(Some(part.path().to_path_buf()));
    let done = finish(conversion, part, out, existing, context);
    terminal::unfinished(None);
    done
}

/// Writes the temporary file, and renames it.
fn finish(
    conversion: &Conversion,
    part: NamedTempFile,
    out: &Path,
    existing: Existing,
    context: &mut CommandContext,
) -> Result<(), Failure> {
    let cannot = |e: io::Error| Failure::new(format!("could not write {}: {}", out.display(), reason(&e)));
    let screen = &mut *context.screen;
    let written = conversion.write(BufWriter::new(part.as_file()), &mut |done, total| {
        screen.show_converting(done, total);
        !terminal::interrupted()
    });
    screen.end_progress();
    written?;
    part.as_file().sync_all().map_err(cannot)?;
    models::prove(context.config, part.path())?;
    if terminal::interrupted() {
        return Err(Failure::interrupted());
    }
    let mode = std::fs::metadata(out).map_or(READABLE, |about| about.permissions().mode() & 0o777);
    part.as_file().set_permissions(std::fs::Permissions::from_mode(mode)).map_err(cannot)?;
    persist(part, out, existing).map_err(cannot)?;
    Ok(models::mark_verified(context.config, out)?)
}
