//! huggingface_hub's environment variables → the hub's address, the user's token, and the cache folder.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::error::Error;
use crate::http::url::origin;

const PUBLIC_HUB: &str = "https://huggingface.co";
/// How long to wait for a byte from the network.
const PATIENCE: Duration = Duration::from_secs(20);

/// The hub's settings from the environment.
pub(super) struct Environment {
    /// Without a trailing slash.
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

/// This user's hub cache, shared by all programs. It may not exist yet.
pub fn cache_folder() -> Option<PathBuf> {
    let folder = var("HF_HUB_CACHE").or_else(|| var("HUGGINGFACE_HUB_CACHE"));
    folder.map(|folder| expand(&folder)).or_else(|| home().map(|home| home.join("hub")))
}

/// This user's Hugging Face folder.
fn home() -> Option<PathBuf> {
    if let Some(home) = var("HF_HOME") {
        return Some(expand(&home));
    }
    let cache =
        var("XDG_CACHE_HOME").map(PathBuf::from).or_else(|| Some(Path::new(&var("HOME")?).join(".cache")))?;
    Some(cache.join("huggingface"))
}

/// The user's token, unless it may be sent only on request.
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

/// `~/x` → `x` in the user's home folder.
fn expand(path: &str) -> PathBuf {
    match (path.strip_prefix("~/"), var("HOME")) {
        (Some(rest), Some(home)) => Path::new(&home).join(rest),
        _ => PathBuf::from(path),
    }
}
