//! A repository of the hub, as its API lists it → the files that were meant; and the hub's refusals in words.

use std::io::Read;

use serde::Deserialize;

use super::choose::{Candidate, Offer, Unclear, choose, offers};
use super::client::Client;
use super::environment::Environment;
use super::reference::{Wanted, encode, is_path};
use super::retry::Trouble;
use super::{Origin, Remote, RemoteFile};
use crate::error::Failure;
use crate::models::catalog::catalog;
use crate::suggest::nearest;
use crate::units::size;

/// Bytes of the largest listing that is read.
const LARGEST_LISTING: u64 = 64 << 20;
/// How many of a repository's models an error names.
const MOST_NAMED: usize = 12;

#[derive(Debug, Deserialize)]
struct Listing {
    sha: String,
    #[serde(default)]
    siblings: Vec<Sibling>,
    #[serde(default)]
    gated: serde_json::Value,
    #[serde(default, rename = "cardData")]
    card: Option<serde_json::Value>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Sibling {
    rfilename: String,
    #[serde(default)]
    size: Option<u64>,
    #[serde(default)]
    blob_id: Option<String>,
    #[serde(default)]
    lfs: Option<Lfs>,
}

#[derive(Debug, Deserialize)]
struct Lfs {
    sha256: String,
    #[serde(default)]
    size: Option<u64>,
}

/// Asks the hub what a repository holds and chooses.
pub(super) fn look_up(line: &Client, environment: &Environment, wanted: &Wanted) -> Result<Remote, Failure> {
    let endpoint = &environment.endpoint;
    let (repository, revision) = (&wanted.repository, encode(&wanted.revision, b""));
    let url = format!("{endpoint}/api/models/{}/revision/{revision}?blobs=true", encode(repository, b"/"));
    let listing = line.persist(&url, || {
        let answer = line.http.get(&url, &[("accept", "application/json")])?;
        if answer.status != 200 {
            return Err(Trouble::of(&answer));
        }
        let mut text = Vec::new();
        let read = answer.body.take(LARGEST_LISTING + 1).read_to_end(&mut text);
        read.map_err(|e| Trouble::Lost(super::http::lost(&e)))?;
        if text.len() as u64 > LARGEST_LISTING {
            return Err(Trouble::Wrong(format!(
                "answered with a list of files of more than {}",
                size(LARGEST_LISTING)
            )));
        }
        serde_json::from_slice::<Listing>(&text)
            .map_err(|_| Trouble::Wrong("answered with something that is no list of files".into()))
    })?;
    let commit_is_sound =
        (7..=64).contains(&listing.sha.len()) && listing.sha.bytes().all(|b| b.is_ascii_hexdigit());
    if !commit_is_sound {
        return Err(Failure::new(format!("the hub's list of {repository} names no commit")));
    }
    let files: Vec<RemoteFile> = listing
        .siblings
        .iter()
        .filter_map(|file| remote_file(file, endpoint, wanted, &listing.sha))
        .collect();
    let candidate = |file: &RemoteFile| Candidate { name: file.name.clone(), size: file.size };
    let candidates: Vec<Candidate> = files.iter().map(candidate).collect();
    let offer = choose(&candidates, &wanted.which).map_err(|why| unclear(wanted, why, &candidates))?;
    if !offer.complete() {
        return Err(Failure::new(format!(
            "{repository} lacks some of the files that {} is split into",
            offer.name()
        )));
    }
    let chosen = |name: &str| files.iter().find(|file| file.name == name).cloned();
    Ok(Remote {
        reference: super::Reference::Hub(wanted.clone()),
        licence: licence(listing.card.as_ref()),
        gated: !matches!(listing.gated, serde_json::Value::Null | serde_json::Value::Bool(false)),
        files: offer.files.iter().filter_map(|file| chosen(&file.name)).collect(),
        origin: Origin::Hub {
            repository: repository.clone(),
            revision: wanted.revision.clone(),
            commit: listing.sha,
        },
    })
}

/// `None` for what cannot be fetched safely: odd paths, no size, no checksum.
fn remote_file(file: &Sibling, endpoint: &str, wanted: &Wanted, commit: &str) -> Option<RemoteFile> {
    let hexadecimal = |text: &&String| text.len() >= 40 && text.bytes().all(|b| b.is_ascii_hexdigit());
    let sha256 = file.lfs.as_ref().map(|lfs| &lfs.sha256).filter(|sum| sum.len() == 64).filter(hexadecimal);
    let etag = sha256.or(file.blob_id.as_ref()).filter(hexadecimal)?;
    let repository = encode(&wanted.repository, b"/");
    is_path(&file.rfilename)
        .then(|| RemoteFile {
            name: file.rfilename.clone(),
            size: 0,
            sha256: sha256.cloned(),
            url: format!("{endpoint}/{repository}/resolve/{commit}/{}", encode(&file.rfilename, b"/")),
            etag: etag.clone(),
        })
        .and_then(|remote| {
            Some(RemoteFile { size: file.lfs.as_ref().and_then(|lfs| lfs.size).or(file.size)?, ..remote })
        })
}

fn licence(card: Option<&serde_json::Value>) -> Option<String> {
    match card?.get("license")? {
        serde_json::Value::String(name) => Some(name.clone()),
        serde_json::Value::Array(names) => Some(names.first()?.as_str()?.to_string()),
        _ => None,
    }
}

/// Nothing was chosen: says what there is.
fn unclear(wanted: &Wanted, why: Unclear, files: &[Candidate]) -> Failure {
    let repository = &wanted.repository;
    let choice = |offers: &[Offer]| {
        let named: Vec<String> =
            offers.iter().take(MOST_NAMED).map(|o| format!("{} ({})", o.name(), size(o.size()))).collect();
        let more = offers.len().saturating_sub(MOST_NAMED);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        format!("{}{more}", named.join(", "))
    };
    match why {
        Unclear::Nothing => Failure::new(format!("{repository} holds no GGUF model"))
            .hint("look for a repository of the same model whose name ends in -GGUF"),
        Unclear::Several(offers) => {
            Failure::new(format!("{repository} holds several models: {}", choice(&offers)))
                .hint(format!("name one of them: hf:{repository}:{}", offers[0].name()))
        }
        Unclear::Missing { wanted, close } => {
            let close = close.map_or(String::new(), |close| format!("did you mean {close}? "));
            let all = offers(files);
            let what = if all.is_empty() { "no GGUF model at all".to_string() } else { choice(&all) };
            Failure::new(format!("{repository} has no '{wanted}'")).hint(format!("{close}it has {what}"))
        }
    }
}

/// The hub's refusal in words. `file`: the one that was asked for; none when it was the list of files.
pub(super) fn refusal(
    status: u16,
    code: &str,
    remote: (&str, &str),
    file: Option<&str>,
    has_token: bool,
) -> Failure {
    let (repository, revision) = remote;
    let token = if has_token {
        "check that HF_TOKEN may read it"
    } else {
        "set HF_TOKEN to a token that may read it"
    };
    let no_repository = || {
        let known = catalog().values().map(|entry| entry.repository.as_str());
        let close =
            nearest(repository, known).map_or(String::new(), |close| format!("did you mean hf:{close}? "));
        Failure::new(format!("there is no repository {repository} on the hub, or it is private"))
            .hint(format!("{close}for a private one, {token}"))
    };
    match (status, code) {
        (401 | 403, code) if code == "GatedRepo" || file.is_some() || status == 403 => {
            Failure::new(format!("{repository} is for those only who have accepted its conditions"))
                .hint(format!("accept them on the model's page, {repository} on the hub, and {token}"))
        }
        (401, _) | (404, "RepoNotFound") => no_repository(),
        (404, "RevisionNotFound") => Failure::new(format!("{repository} has no revision '{revision}'"))
            .hint("leave it out for the newest one: what follows @ is a branch, a tag or a commit"),
        (404, _) => match file {
            Some(file) => Failure::new(format!("{repository} has no file {file}")),
            None if revision != "main" => Failure::new(format!(
                "there is no repository {repository} on the hub, or no revision '{revision}' of it"
            )),
            None => no_repository(),
        },
        (status, _) => Failure::new(format!("the hub refused {repository}: it answered {status}")),
    }
}
