//! A repository, as the hub's API lists it → the wanted files; and the hub's refusals → errors.

use std::io::Read;

use serde::Deserialize;

use super::choose::{ListingEntry, Offer, Unclear, choose, offers};
use super::client::Client;
use super::environment::Environment;
use super::error::Error;
use super::reference::{Wanted, encode, is_path};
use super::{Origin, Remote, RemoteFile};
use crate::http::retry::RequestError;
use crate::units::size;

/// Size limit of a listing, in bytes.
const LARGEST_LISTING: u64 = 64 << 20;

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

/// Fetches a repository's listing and chooses a model from it.
pub(super) fn look_up(line: &Client, environment: &Environment, wanted: &Wanted) -> Result<Remote, Error> {
    let endpoint = &environment.endpoint;
    let (repository, revision) = (&wanted.repository, encode(&wanted.revision, b""));
    let url = format!("{endpoint}/api/models/{}/revision/{revision}?blobs=true", encode(repository, b"/"));
    let listing = line.persist(&url, || {
        let answer = line.http.get(&url, &[("accept", "application/json")])?;
        if answer.status != 200 {
            return Err(answer.trouble());
        }
        let mut text = Vec::new();
        let read = answer.body.take(LARGEST_LISTING + 1).read_to_end(&mut text);
        read.map_err(|e| RequestError::Lost(crate::http::lost(&e)))?;
        if text.len() as u64 > LARGEST_LISTING {
            return Err(RequestError::Wrong(format!(
                "answered with a list of files of more than {}",
                size(LARGEST_LISTING)
            )));
        }
        serde_json::from_slice::<Listing>(&text)
            .map_err(|_| RequestError::Wrong("answered with something that is no list of files".into()))
    })?;
    let commit_is_sound =
        (7..=64).contains(&listing.sha.len()) && listing.sha.bytes().all(|b| b.is_ascii_hexdigit());
    if !commit_is_sound {
        return Err(Error::NoCommit(repository.clone()));
    }
    let files: Vec<RemoteFile> = listing
        .siblings
        .iter()
        .filter_map(|file| remote_file(file, endpoint, wanted, &listing.sha))
        .collect();
    let candidate = |file: &RemoteFile| ListingEntry { name: file.name.clone(), size: file.size };
    let candidates: Vec<ListingEntry> = files.iter().map(candidate).collect();
    let offer = choose(&candidates, &wanted.which).map_err(|why| unclear(wanted, why, &candidates))?;
    if !offer.complete() {
        return Err(Error::Incomplete { repository: repository.clone(), name: offer.name().into() });
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

/// `None` if the file cannot be fetched safely: an odd path, no size, no checksum.
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

/// The error when no model was chosen, with the models of the repository.
fn unclear(wanted: &Wanted, why: Unclear, files: &[ListingEntry]) -> Error {
    let repository = wanted.repository.clone();
    let whole = |offers: Vec<Offer>| {
        offers.iter().map(|o| ListingEntry { name: o.name().into(), size: o.size() }).collect()
    };
    match why {
        Unclear::Nothing => Error::NoModel { repository },
        Unclear::Several(offers) => Error::Several { repository, models: whole(offers) },
        Unclear::Missing { wanted, close } => {
            Error::NoSuchModel { repository, wanted, close, models: whole(offers(files)) }
        }
    }
}

/// The error for a status and error code of the hub. `file`: the requested file; `None` for the listing.
pub(super) fn refusal(
    status: u16,
    code: &str,
    remote: (&str, &str),
    file: Option<&str>,
    has_token: bool,
) -> Error {
    let (repository, revision) = (remote.0.to_string(), remote.1.to_string());
    match (status, code) {
        (401 | 403, code) if code == "GatedRepo" || file.is_some() || status == 403 => {
            Error::Gated { repository, has_token }
        }
        (401, _) | (404, "RepoNotFound") => Error::NoRepository { repository, has_token },
        (404, "RevisionNotFound") => Error::NoRevision { repository, revision },
        (404, _) => match file {
            Some(file) => Error::NoFile { repository, file: file.into() },
            None if revision != "main" => Error::NoRepositoryOrRevision { repository, revision },
            None => Error::NoRepository { repository, has_token },
        },
        (status, _) => Error::HubRefused { repository, status },
    }
}
