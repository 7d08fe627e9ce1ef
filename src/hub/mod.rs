//! Models on the Hugging Face hub, or behind a URL → files on this machine.
//!
//! [`Reference`] is what a person types, [`Hub::look_up`] finds the model on the network, [`Hub::fetch`]
//! downloads it: into the cache that huggingface_hub and llama.cpp share, or, for a URL, into the user's
//! models folder. Nothing uses the network unless asked to. Read on in the order of the flow: reference.rs,
//! listing.rs, choose.rs, client.rs, fetch.rs, transfer.rs, write_buffer.rs, checksums.rs, partial_file.rs,
//! cache.rs; the errors are in error.rs.

mod cache;
mod choose;
mod environment;
mod error;
mod fetch;
mod client;
mod listing;
mod partial_file;
mod reader;
mod reference;
mod checksums;
mod transfer;
mod write_buffer;
mod watch;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use self::cache::{Repository, check_space, make_parent};
use self::client::{Client, ErrorForStatus};
use self::environment::Environment;
use self::partial_file::PartialFile;
use self::reference::{before_query, decode};
use self::transfer::DownloadJob;
use self::watch::{Teller, watched};
use crate::files::reason;
use crate::http::{Http, url};
use crate::model_state::ModelState;

pub use self::choose::ListingEntry;
pub use self::environment::cache_folder;
pub use self::error::{Error, listed};
pub use self::reader::Reader;
pub use self::reference::{Reference, Wanted, Which};
pub use self::watch::{DownloadProgress, HubEvent, HubWatcher};

/// A model on the network, ready to be fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remote {
    pub reference: Reference,
    /// The identifier from the model card.
    pub licence: Option<String>,
    /// Only users who accepted its conditions may fetch it.
    pub gated: bool,
    /// In the order of the parts; never empty. The first file of a split model is the one to open.
    pub files: Vec<RemoteFile>,
    pub origin: Origin,
}

impl Remote {
    /// Bytes of all files.
    pub fn size(&self) -> u64 {
        self.files.iter().map(|file| file.size).sum()
    }
}

/// Where a remote model is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    Hub { repository: String, revision: String, commit: String },
    Url,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteFile {
    /// The path inside the repository, or the last part of the URL.
    pub name: String,
    pub size: u64,
    pub sha256: Option<String>,
    url: String,
    /// The name of its blob in the cache, or the web server's validator.
    etag: String,
}

/// A model that is now on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// In the order of the parts; never empty.
    pub files: Vec<FetchedFile>,
    /// Bytes received over the network.
    pub bytes: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchedFile {
    pub path: PathBuf,
    pub size: u64,
    /// `None` for a file that was here before and has no listed checksum.
    pub sha256: Option<String>,
}

/// The hub's settings that do not come from the environment.
#[derive(Debug, Clone, Default)]
pub struct Places {
    /// The folder for files from URLs.
    pub models: Option<PathBuf>,
    /// Records downloaded files.
    pub state: ModelState,
    /// No network, whatever the environment says.
    pub offline: bool,
}

/// A handle to the hub. Creating one uses no network; clones share their connections.
#[derive(Clone)]
pub struct Hub(Arc<Inner>);

struct Inner {
    http: Http,
    environment: Environment,
    places: Places,
}

impl Hub {
    pub fn from_environment(places: Places) -> Result<Hub, Error> {
        let environment = Environment::read()?;
        let http = Http::new(&environment.endpoint, environment.token.clone(), environment.patience);
        Ok(Hub(Arc::new(Inner { http, environment, places })))
    }

    /// Finds the model that a reference names.
    pub fn look_up(&self, reference: &Reference) -> Result<Remote, Error> {
        self.look_up_watched(reference, &mut |_| ControlFlow::Continue(()))
    }

    /// Like [`Hub::look_up`], but can be stopped.
    pub fn look_up_watched(&self, reference: &Reference, watch: HubWatcher) -> Result<Remote, Error> {
        let (means, reference) = (self.0.clone(), reference.clone());
        watched(watch, move |teller| means.look_up(&reference, teller))
    }

    /// Fetches all missing files. After a stop or a failure, the next call resumes.
    pub fn fetch(&self, remote: &Remote, watch: HubWatcher) -> Result<Fetched, Error> {
        let (means, remote) = (self.0.clone(), remote.clone());
        watched(watch, move |teller| means.fetch(&remote, teller))
    }

    /// Bytes that a fetch would download.
    pub fn missing(&self, remote: &Remote) -> Result<u64, Error> {
        let missing = |file| self.0.place(remote, file).map(|place| place.missing(file));
        remote.files.iter().map(missing).sum()
    }

    /// Reads a model's first file from its start; downloads little more than is read.
    pub fn open(&self, remote: &Remote) -> Result<Reader<'_>, Error> {
        self.0.refuse_offline(&remote.reference)?;
        let first = &remote.files[0];
        Ok(Reader::new(&self.0.http, first.url.clone(), first.size))
    }
}

/// The one file among a repository's files (names and sizes) that `which` selects; `None` for no match or
/// several.
pub fn meant<'a>(files: impl Iterator<Item = (&'a str, u64)>, which: &Which) -> Option<String> {
    let files: Vec<ListingEntry> =
        files.map(|(name, size)| ListingEntry { name: name.into(), size }).collect();
    choose::choose(&files, which).ok().map(|offer| offer.name().to_string())
}

/// Where a file goes.
struct Destination {
    target: PathBuf,
    lock: PathBuf,
    version: [u8; 32],
}

impl Destination {
    fn holds(&self, file: &RemoteFile) -> bool {
        std::fs::metadata(&self.target).is_ok_and(|there| there.is_file() && there.len() == file.size)
    }

    fn missing(&self, file: &RemoteFile) -> u64 {
        if self.holds(file) {
            0
        } else {
            file.size - PartialFile::held(&self.target, file.size, self.version).min(file.size)
        }
    }
}

impl Inner {
    fn refuse_offline(&self, reference: &Reference) -> Result<(), Error> {
        if self.places.offline || self.environment.offline {
            return Err(Error::Offline(reference.to_string()));
        }
        Ok(())
    }

    fn line<'a>(&'a self, teller: &'a Teller, refusal: ErrorForStatus<'a>) -> Client<'a> {
        Client { http: &self.http, teller, patience: self.environment.patience, refusal }
    }

    fn look_up(&self, reference: &Reference, teller: &Teller) -> Result<Remote, Error> {
        self.refuse_offline(reference)?;
        match reference {
            Reference::Hub(wanted) => {
                let remote = (wanted.repository.as_str(), wanted.revision.as_str());
                let refusal =
                    |status, code: &str| listing::refusal(status, code, remote, None, self.http.has_token());
                listing::look_up(&self.line(teller, &refusal), &self.environment, wanted)
            }
            Reference::Url(url) => {
                let files: Result<_, Error> =
                    parts_of(url).iter().map(|url| self.look_up_url(url, teller)).collect();
                let (reference, origin) = (reference.clone(), Origin::Url);
                Ok(Remote { reference, licence: None, gated: false, files: files?, origin })
            }
        }
    }

    fn look_up_url(&self, url: &str, teller: &Teller) -> Result<RemoteFile, Error> {
        let refusal = |status, _: &str| refused_url(url, status);
        let line = self.line(teller, &refusal);
        let located = line.persist(url, || line.locate(url))?;
        let name =
            before_query(url).rsplit('/').next().and_then(decode).filter(|name| reference::is_name(name));
        let name = name.ok_or_else(|| Error::NoName(url.into()))?;
        let no_size = || Error::NoSize { host: url::host(url).into(), name: name.clone() };
        let size = located.size.ok_or_else(no_size)?;
        Ok(RemoteFile {
            name,
            size,
            sha256: None,
            url: url.into(),
            etag: located.validator.unwrap_or_default(),
        })
    }

    fn place(&self, remote: &Remote, file: &RemoteFile) -> Result<Destination, Error> {
        let version = checksums::version(&self.job(file, PathBuf::new()));
        match &remote.origin {
            Origin::Hub { repository, commit, .. } => {
                let repository = self.repository(repository)?;
                let moved = Destination {
                    target: repository.snapshot(commit, &file.name),
                    lock: PathBuf::new(),
                    version,
                };
                let lock = repository.lock_file(&file.etag);
                let target = repository.blob(&file.etag);
                // Without symbolic links, the snapshot holds the bytes.
                let target = if !target.exists() && moved.holds(file) { moved.target } else { target };
                Ok(Destination { target, lock, version })
            }
            Origin::Url => {
                let folder = self.places.models.as_ref().ok_or(Error::NoHome)?;
                let (target, lock) = (folder.join(&file.name), folder.join(format!(".{}.lock", file.name)));
                Ok(Destination { target, lock, version })
            }
        }
    }

    fn repository(&self, repository: &str) -> Result<Repository, Error> {
        let cache = self.environment.cache.as_ref().ok_or(Error::NoHome)?;
        Ok(Repository::new(cache, repository))
    }

    fn job(&self, file: &RemoteFile, target: PathBuf) -> DownloadJob {
        let of_url = file.sha256.is_none().then(|| file.etag.clone()).filter(|version| !version.is_empty());
        DownloadJob {
            name: file.name.clone(),
            url: file.url.clone(),
            size: file.size,
            sha256: file.sha256.clone(),
            validator: of_url,
            target,
        }
    }

    fn fetch(&self, remote: &Remote, teller: &Teller) -> Result<Fetched, Error> {
        let places: Vec<Destination> =
            remote.files.iter().map(|file| self.place(remote, file)).collect::<Result<_, _>>()?;
        let pairs = || remote.files.iter().zip(&places);
        let missing = pairs().map(|(file, place)| place.missing(file)).sum();
        if missing > 0 {
            self.refuse_offline(&remote.reference)?;
            check_space(places[0].target.parent().unwrap_or(Path::new("/")), missing)?;
        }
        teller.expect(remote.size());
        let files: Result<_, Error> =
            pairs().map(|(file, place)| self.fetch_file(remote, file, place, teller)).collect();
        let files = files?;
        if let Origin::Hub { repository, revision, commit } = &remote.origin {
            let noted = self.repository(repository)?.write_ref(revision, commit);
            noted.map_err(|e| Error::disk(format!("note the revision of {repository}"), &e))?;
        }
        Ok(Fetched { files, bytes: teller.fetched() })
    }

    fn fetch_file(
        &self,
        remote: &Remote,
        file: &RemoteFile,
        place: &Destination,
        teller: &Teller,
    ) -> Result<FetchedFile, Error> {
        let mut sha256 = file.sha256.clone();
        let mut fetched = false;
        if !place.holds(file) || PartialFile::left(&place.target) {
            let _lock =
                cache::lock(&place.lock, &place.target, &file.name, self.environment.patience, teller)?;
            if place.holds(file) {
                PartialFile::discard(&place.target);
            } else {
                sha256 = Some(self.transfer(remote, file, place, teller)?);
                fetched = true;
            }
        }
        if !fetched {
            teller.found(file.size as i64);
        }
        let path = match &remote.origin {
            Origin::Hub { repository, commit, .. } => {
                let linked = self.repository(repository)?.link(&file.etag, commit, &file.name);
                linked.map_err(|e| Error::disk(format!("link {}", file.name), &e))?
            }
            Origin::Url => {
                let _ = std::fs::remove_file(&place.lock); // an empty file that does no harm
                place.target.clone()
            }
        };
        if fetched {
            let noted = self.places.state.remember_fetched(&[place.target.clone(), path.clone()]);
            noted.unwrap_or_else(|e| {
                teller.say(format!("could not record that fireside fetched {}: {}", file.name, reason(&e)))
            });
        }
        Ok(FetchedFile { path, size: file.size, sha256 })
    }

    fn transfer(
        &self,
        remote: &Remote,
        file: &RemoteFile,
        place: &Destination,
        teller: &Teller,
    ) -> Result<String, Error> {
        if place.target.exists() && remote.origin == Origin::Url {
            return Err(Error::Exists(place.target.clone()));
        }
        make_parent(&place.target).map_err(|e| Error::disk_at("make the folder of", &place.target, &e))?;
        let refusal = |status, code: &str| match &remote.origin {
            Origin::Hub { repository, revision, .. } => listing::refusal(
                status,
                code,
                (repository, revision),
                Some(&file.name),
                self.http.has_token(),
            ),
            Origin::Url => refused_url(&file.url, status),
        };
        self.line(teller, &refusal).fetch(&mut self.job(file, place.target.clone()))
    }
}

fn refused_url(url: &str, status: u16) -> Error {
    let host = url::host(url).into();
    match status {
        401 | 403 => Error::Forbidden { host, status },
        404 | 410 => Error::NotFound { host, status },
        status => Error::Refused { host, status },
    }
}

/// The URLs of all parts of a split model, given the URL of one.
fn parts_of(url: &str) -> Vec<String> {
    let path = before_query(url);
    match choose::split(path) {
        Some((model, _, parts)) => {
            let query = &url[path.len()..];
            (1..=parts).map(|part| format!("{model}-{part:05}-of-{parts:05}.gguf{query}")).collect()
        }
        None => vec![url.to_string()],
    }
}
