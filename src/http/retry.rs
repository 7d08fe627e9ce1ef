//! A failed request → whether to retry, and when. Reads the clock only if the server names a date
//! (`Retry-After`).

use std::time::Duration;

use crate::clock::timestamp;

/// Tries without progress before giving up.
pub(crate) const MOST_TRIES: u32 = 7;
/// The same for a host that does not respond at all.
const FEW_TRIES: u32 = 3;
/// The longest wait that a server may ask for.
const LONGEST_WAIT: Duration = Duration::from_secs(330);

/// Why a request failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RequestError {
    /// No host responds: it may be starting, or the address is wrong.
    Absent(String),
    /// A temporary fault of the network or the server.
    Lost(String),
    /// The server asks to wait.
    Busy { status: u16, wait: Option<Duration> },
    /// The server refuses: its status, and the hub's error code.
    Refused { status: u16, code: String },
    /// The file has changed since the download started: start over.
    Changed(String),
    /// A retry would not help. The text continues a sentence that begins with the host's name.
    Wrong(String),
    /// This machine's disk failed.
    Disk(String),
}

impl RequestError {
    /// The error for an unexpected status. `code`: the hub's error code, or empty.
    pub(crate) fn of(status: u16, retry_after: Option<&str>, code: &str) -> RequestError {
        match status {
            408 | 425 | 429 | 500 | 502 | 503 | 504 => {
                RequestError::Busy { status, wait: retry_after.and_then(wait) }
            }
            status => RequestError::Refused { status, code: code.into() },
        }
    }

    /// The wait before retry number `tries`; `None` if a retry would not help. `patience`: how long a byte
    /// may take.
    pub(crate) fn wait(&self, tries: u32, patience: Duration) -> Option<Duration> {
        let backoff = (patience / 40) * 2u32.pow(tries.min(6).saturating_sub(1));
        match self {
            _ if tries > MOST_TRIES => None,
            RequestError::Busy { wait: Some(wait), .. } => (*wait <= LONGEST_WAIT).then_some(*wait),
            RequestError::Absent(_) => (tries <= FEW_TRIES).then_some(backoff),
            RequestError::Lost(_) | RequestError::Busy { .. } => Some(backoff),
            RequestError::Refused { .. }
            | RequestError::Changed(_)
            | RequestError::Wrong(_)
            | RequestError::Disk(_) => None,
        }
    }

    /// The reason, to follow the host's name and a colon.
    pub(crate) fn words(&self) -> String {
        match self {
            RequestError::Absent(why)
            | RequestError::Lost(why)
            | RequestError::Changed(why)
            | RequestError::Wrong(why)
            | RequestError::Disk(why) => why.clone(),
            RequestError::Busy { status: 429, wait: Some(wait) } => {
                format!("too many requests, it asks to wait {} s", wait.as_secs())
            }
            RequestError::Busy { status: 429, .. } => "too many requests".into(),
            RequestError::Busy { status, .. } => format!("the server is in trouble ({status})"),
            RequestError::Refused { status, .. } => format!("the server answered {status}"),
        }
    }
}

/// `Retry-After`: seconds, or a date.
fn wait(text: &str) -> Option<Duration> {
    if let Ok(seconds) = text.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let then = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
    let left = then.duration_since(timestamp());
    Some(Duration::try_from(left).unwrap_or_default()) // a date in the past: retry at once
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_and_end() {
        let lost = RequestError::Lost("x".into());
        let patience = Duration::from_secs(20);
        assert_eq!(lost.wait(1, patience), Some(Duration::from_millis(500)));
        assert_eq!(lost.wait(3, patience), Some(Duration::from_secs(2)));
        assert_eq!(lost.wait(7, patience), Some(Duration::from_secs(16)));
        assert_eq!(lost.wait(8, patience), None);
        assert_eq!(RequestError::Refused { status: 404, code: String::new() }.wait(1, patience), None);
    }

    #[test]
    fn a_server_may_say_how_long_but_not_for_ever() {
        let busy =
            |text| RequestError::Busy { status: 429, wait: wait(text) }.wait(1, Duration::from_secs(20));
        assert_eq!(busy("7"), Some(Duration::from_secs(7)));
        assert_eq!(busy("86400"), None);
        assert_eq!(busy("Wed, 21 Oct 2015 07:28:00 GMT"), Some(Duration::ZERO));
        assert_eq!(busy("soon"), Some(Duration::from_millis(500)));
    }
}
