//! The environment variables of huggingface_hub, with their meanings there → where the hub is, who asks, where files go.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::error::Error;
use super::url::origin;

const PUBLIC_HUB: &str = "https://huggingface.co";
/// How long to wait for a byte.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the environment says about the hub.
pub(super) struct Environment {
    /// Without a slash at its end.
    pub(super) endpoint: String,
    pub(super) token: Option<String>,
    pub(super) offline: bool,
    pub(super) cache: Option<PathBuf>,
    pub(super) patience: Duration,
}

impl Environment {
    pub(super) fn read() -> Result<Environment, Error> {
        let endpoint = var("HF_ENDPOINT").unwrap_or(PUBLIC_HUB.into()).trim_end_matches('/').to_string();
        if origin(&endpoint).is_none() {
            return Err(Error::Endpoint(endpoint));
        }
        let patience = var("FIRESIDE_TEST_PATIENCE").and_then(|seconds| seconds.parse().ok());
        Ok(Environment {
            endpoint,
            token: token()?,
            offline: is_true("HF_HUB_OFFLINE"),
            cache: cache_folder(),
            patience: patience.map_or(PATIENCE, Duration::from_secs_f64),
        })
    }
}

/// Where the hub's files are kept, for all programs of this user. It need not be there yet.
pub fn cache_folder() -> Option<PathBuf> {
    let folder = var("HF_HUB_CACHE").or_else(|| var("HUGGINGFACE_HUB_CACHE"));
    folder.map(|folder| expand(&folder)).or_else(|| home().map(|home| home.join("hub")))
}

/// Hugging Face's folder of this user.
fn home() -> Option<PathBuf> {
    if let Some(home) = var("HF_HOME") {
        return Some(expand(&home));
    }
    let cache =
        var("XDG_CACHE_HOME").map(PathBuf::from).or_else(|| Some(Path::new(&var("HOME")?).join(".cache")))?;
    Some(cache.join("huggingface"))
}

/// The user's token, unless it is only to be sent when asked for.
fn token() -> Result<Option<String>, Error> {
    if is_true("HF_HUB_DISABLE_IMPLICIT_TOKEN") {
        return Ok(None);
    }
    let given = var("HF_TOKEN").or_else(|| var("HUGGING_FACE_HUB_TOKEN"));
    let file =
        || var("HF_TOKEN_PATH").map(|path| expand(&path)).or_else(|| home().map(|home| home.join("token")));
    let token = given.or_else(|| std::fs::read_to_string(file()?).ok()).unwrap_or_default();
    let token: String = token.trim().chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
    if !token.chars().all(|c| c.is_ascii_graphic()) {
        return Err(Error::Token);
    }
    Ok((!token.is_empty()).then_some(token))
}

/// A variable that is set and not empty.
fn var(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn is_true(name: &str) -> bool {
    var(name).is_some_and(|value| ["1", "on", "yes", "true"].contains(&value.to_lowercase().as_str()))
}

/// `~/x` → `x` in the user's home.
fn expand(path: &str) -> PathBuf {
    match (path.strip_prefix("~/"), var("HOME")) {
        (Some(rest), Some(home)) => Path::new(&home).join(rest),
        _ => PathBuf::from(path),
    }
}
