//! Hub and download errors → failures with remedies.

use super::{Failure, usage, worded};
use crate::hub::{Error, listed};
use crate::models::catalogue::catalogue;
use crate::suggest::nearest;

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        match error {
            Error::Interrupted => Failure::interrupted(),
            Error::Endpoint(_) | Error::Token | Error::NoName(_) => usage(&error),
            _ => worded(&error, hint(&error)),
        }
    }
}

fn hint(error: &Error) -> Option<String> {
    Some(match error {
        Error::Offline(_) => "--offline, FIRESIDE_OFFLINE and HF_HUB_OFFLINE forbid the network".into(),
        Error::NoHome => "set HF_HOME to a folder".into(),
        Error::NoRoom { .. } => "free some space, or set HF_HOME to a folder on another disk".into(),
        Error::Exists(_) => "move it away, or use it with -m and its path".into(),
        Error::Locked { lock, .. } => format!("end that program, or remove {}", lock.display()),
        Error::Gated { repository, has_token } => {
            format!("accept them on the model's page, {repository} on the hub, and {}", token(*has_token))
        }
        Error::NoRepository { repository, has_token } => {
            let known = catalogue().values().map(|entry| entry.repository.as_str());
            let close = nearest(repository, known);
            let close = close.map_or(String::new(), |close| format!("did you mean hf:{close}? "));
            format!("{close}for a private one, {}", token(*has_token))
        }
        Error::NoRevision { .. } => {
            "after @ comes a branch, a tag or a commit; without it, fireside takes the newest".into()
        }
        Error::NoModel { .. } => "look for a repository of the same model whose name ends in -GGUF".into(),
        Error::Several { repository, models } => {
            format!("name one of them: hf:{repository}:{}", models[0].name)
        }
        Error::NoSuchModel { close, models, .. } => {
            let close = close.as_ref().map_or(String::new(), |close| format!("did you mean {close}? "));
            let there = if models.is_empty() { "no GGUF model at all".into() } else { listed(models) };
            format!("{close}it has {there}")
        }
        Error::Unusable { why, .. } if why.contains("certificate") => {
            "add your network's certificate authority to the system's certificates".into()
        }
        Error::Unreachable { begun: true, .. } => "the same command resumes the download".into(),
        Error::Unreachable { begun: false, .. } => {
            "check the network; behind a proxy, set HTTPS_PROXY; --offline works without a network".into()
        }
        Error::Checksum(_) => {
            "a proxy or the hub sends damaged bytes; try another network, or try again later".into()
        }
        _ => return None,
    })
}

fn token(there_is_one: bool) -> &'static str {
    if there_is_one { "check that HF_TOKEN may read it" } else { "set HF_TOKEN to a token that may read it" }
}
