//! A client with retries: repeats a request as long as that may help, and reports long waits.

use std::time::Duration;

use super::error::Error;
use super::watch::Teller;
use crate::http::retry::RequestError;
use crate::http::url::host;
use crate::http::{Http, HttpResponse};
use crate::units::duration;

const WRITE: &str = "write what was fetched";

/// The error for a refused request: from the HTTP status and the hub's error code.
pub(super) type ErrorForStatus<'a> = &'a (dyn Fn(u16, &str) -> Error + Sync);

/// What every download needs, whatever the file.
#[derive(Clone, Copy)]
pub(super) struct Client<'a> {
    pub(super) http: &'a Http,
    pub(super) teller: &'a Teller,
    pub(super) patience: Duration,
    pub(super) refusal: ErrorForStatus<'a>,
}

/// The location of a file, and what the server reports about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Located {
    pub(super) url: String,
    pub(super) size: Option<u64>,
    pub(super) validator: Option<String>,
    /// Whether the server supports range requests.
    pub(super) ranges: bool,
}

impl Client<'_> {
    /// Repeats `attempt` as long as that may help.
    pub(super) fn persist<T>(
        &self,
        url: &str,
        attempt: impl Fn() -> Result<T, RequestError>,
    ) -> Result<T, Error> {
        let mut tries = 0;
        loop {
            match attempt() {
                Ok(done) => return Ok(done),
                Err(trouble) => {
                    tries += 1;
                    self.recover(url, &trouble, tries)?;
                }
            }
        }
    }

    /// Waits before the next try, or returns the error if there is none.
    pub(super) fn recover(&self, url: &str, trouble: &RequestError, tries: u32) -> Result<(), Error> {
        self.teller.check()?;
        let wait = trouble.wait(tries, self.patience);
        let Some(wait) = wait.filter(|wait| !self.http.in_vain(*wait)) else {
            return Err(self.failure(url, trouble));
        };
        if tries > 1 || wait > self.patience / 4 {
            let line = format!(
                "{}: {}; trying again in {}",
                host(url),
                trouble.words(),
                duration(wait.as_secs_f64())
            );
            self.teller.say_rarely(line, self.patience / 4);
        }
        self.teller.wait(wait)
    }

    pub(super) fn failure(&self, url: &str, trouble: &RequestError) -> Error {
        let host = host(url).into();
        match trouble {
            RequestError::Refused { status, code } => (self.refusal)(*status, code),
            RequestError::Disk(why) => Error::Disk { what: WRITE.into(), why: why.clone() },
            RequestError::Wrong(why) => Error::Unusable { host, why: why.clone() },
            trouble => Error::Unreachable { host, why: trouble.words(), begun: self.teller.fetching() },
        }
    }

    /// Requests one byte to learn the file's location and size, and whether the server supports ranges.
    pub(super) fn locate(&self, url: &str) -> Result<Located, RequestError> {
        let answer = self.http.get(url, &[("range", "bytes=0-0")])?;
        let (url, validator) = (answer.url.clone(), answer.validator());
        match answer.status {
            206 => {
                let (_, _, size) = answer.content_range().ok_or_else(|| other_bytes(&answer))?;
                answer.drain();
                Ok(Located { url, size: Some(size), validator, ranges: true })
            }
            200 => Ok(Located { url, size: answer.length(), validator, ranges: false }),
            416 => Err(RequestError::Wrong("has an empty file there".into())),
            _ => Err(answer.trouble()),
        }
    }
}

pub(super) fn disk(error: &std::io::Error) -> Error {
    Error::disk(WRITE, error)
}

pub(super) fn other_bytes(answer: &HttpResponse) -> RequestError {
    let range = answer.header("content-range").unwrap_or_default();
    RequestError::Lost(format!("sent other bytes than the requested ones ('{range}')"))
}
