//! GET and POST over HTTP: a URL → status, headers and a body to read. The only file that names ureq.
//!
//! For downloads (hub/) and remote models (backend/remote/). Follows redirects itself, because the token may
//! go to one host only. retry.rs says what may be tried again, url.rs takes URLs apart.

pub(crate) mod retry;
pub(crate) mod url;

use std::io::{self, Read};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ureq::http::HeaderMap;
use ureq::tls::{RootCerts, TlsConfig};
use ureq::{Agent, Body, ResponseExt, Timeout};

use self::retry::RequestError;
use self::url::{join, origin};
use crate::files::reason;

/// The maximum number of redirects.
const MOST_REDIRECTS: usize = 10;
/// Idle connections kept open for further requests.
const KEPT_CONNECTIONS: usize = 16;
/// Bytes per read from the network.
const INPUT_BUFFER: usize = 256 * 1024;
/// Bytes of a redirect's body to read so that its connection can be reused.
const SMALL_BODY: u64 = 64 * 1024;

/// The longest wait for a connection before a POST.
const MOST_CONNECTING: Duration = Duration::from_secs(10);

/// The longest wait until a server answers for the first time: after that there is probably no network.
const FIRST_PATIENCE: Duration = Duration::from_secs(5);

/// The HTTP agent, its timeouts, and the token.
pub(crate) struct Http {
    agent: Agent,
    patience: Duration,
    /// The time of the first request, and whether any server has answered.
    asked: OnceLock<Instant>,
    answered: AtomicBool,
    /// The only origin (scheme, host and port) that receives the token.
    trusted: Option<String>,
    token: Option<String>,
}

/// A server's response.
pub(crate) struct HttpResponse {
    pub(crate) status: u16,
    headers: HeaderMap,
    /// The URL after all redirects.
    pub(crate) url: String,
    pub(crate) body: Box<dyn Read + Send>,
}

impl HttpResponse {
    fn of(response: ureq::http::Response<Body>) -> HttpResponse {
        let url = response.get_uri().to_string();
        let (parts, body) = response.into_parts();
        let body = Box::new(body.into_reader());
        HttpResponse { status: parts.status.as_u16(), headers: parts.headers, url, body }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok().map(str::trim)
    }

    pub(crate) fn length(&self) -> Option<u64> {
        self.header("content-length")?.parse().ok()
    }

    /// `bytes 5-9/100`: the first byte, the last byte, and the total size.
    pub(crate) fn content_range(&self) -> Option<(u64, u64, u64)> {
        let (range, total) = self.header("content-range")?.strip_prefix("bytes ")?.split_once('/')?;
        let (first, last) = range.split_once('-')?;
        Some((first.parse().ok()?, last.parse().ok()?, total.parse().ok()?))
    }

    /// Identifies this version of the file: ETag or date.
    pub(crate) fn validator(&self) -> Option<String> {
        self.header("etag").or_else(|| self.header("last-modified")).map(String::from)
    }

    /// The error for an unexpected status.
    pub(crate) fn trouble(&self) -> RequestError {
        let code = self.header("x-error-code").unwrap_or_default();
        RequestError::of(self.status, self.header("retry-after"), code)
    }

    /// The beginning of the body as text, at most `most` bytes.
    pub(crate) fn text(self, most: u64) -> String {
        let mut bytes = Vec::new();
        let _ = self.body.take(most).read_to_end(&mut bytes); // what came before a failure is of use, too
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Reads the rest of a short body so that the connection can be reused.
    pub(crate) fn drain(self) {
        // A failure only costs a connection.
        let _ = io::copy(&mut self.body.take(SMALL_BODY), &mut io::sink());
    }
}

impl Http {
    /// `patience`: how long to wait for a byte after the first answer. The token goes to `endpoint` only.
    pub(crate) fn new(endpoint: &str, token: Option<String>, patience: Duration) -> Http {
        let tls = TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build();
        let config = Agent::config_builder()
            .tls_config(tls)
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("fireside/", env!("CARGO_PKG_VERSION")))
            .accept_encoding("identity")
            .timeout_connect(Some(patience))
            .timeout_resolve(Some(patience))
            .timeout_recv_response(Some(patience))
            .timeout_per_read(Some(patience))
            .timeout_per_write(Some(patience))
            .input_buffer_size(INPUT_BUFFER)
            .max_idle_connections(KEPT_CONNECTIONS)
            .max_idle_connections_per_host(KEPT_CONNECTIONS)
            .build();
        Http {
            agent: config.new_agent(),
            patience,
            asked: OnceLock::new(),
            answered: AtomicBool::new(false),
            trusted: origin(endpoint).map(String::from),
            token,
        }
    }

    /// Whether, after `wait`, no server will have answered within [`FIRST_PATIENCE`].
    pub(crate) fn in_vain(&self, wait: Duration) -> bool {
        let waited = self.asked.get().map_or(Duration::ZERO, Instant::elapsed);
        !self.answered.load(Ordering::Relaxed) && waited + wait >= FIRST_PATIENCE
    }

    /// Sends a GET request and follows redirects.
    pub(crate) fn get(&self, url: &str, headers: &[(&str, &str)]) -> Result<HttpResponse, RequestError> {
        let mut url = url.to_string();
        for _ in 0..MOST_REDIRECTS {
            let answer = self.ask(&url, headers)?;
            if !matches!(answer.status, 301 | 302 | 303 | 307 | 308) {
                return Ok(answer);
            }
            let target = answer.header("location").and_then(|location| join(&url, location));
            let target = target.ok_or_else(|| RequestError::Wrong("redirects to nowhere".into()))?;
            if url.starts_with("https:") && !target.starts_with("https:") {
                return Err(RequestError::Wrong("redirects to an address that is not encrypted".into()));
            }
            answer.drain();
            url = target;
        }
        Err(RequestError::Wrong("redirects in circles".into()))
    }

    /// Sends a GET request and follows no redirect.
    pub(crate) fn ask(&self, url: &str, headers: &[(&str, &str)]) -> Result<HttpResponse, RequestError> {
        let mut request = self.agent.get(url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(value) = self.authorization(url) {
            request = request.header("authorization", value);
        }
        self.asked.get_or_init(Instant::now);
        if !self.answered.load(Ordering::Relaxed) {
            let patience = Some(self.patience.min(FIRST_PATIENCE));
            let config = request.config().timeout_resolve(patience).timeout_connect(patience);
            request = config.timeout_recv_response(patience).build();
        }
        let response = request.call().map_err(|error| self.trouble(url, error))?;
        self.answered.store(true, Ordering::Relaxed);
        Ok(HttpResponse::of(response))
    }

    /// Sends JSON with POST and follows no redirect: a body is for this host only. A server may think for as
    /// long as `patience` before its first byte, and between two; then a retry would not help.
    pub(crate) fn post(&self, url: &str, body: &[u8]) -> Result<HttpResponse, RequestError> {
        let mut request = self.agent.post(url).header("content-type", "application/json");
        if let Some(value) = self.authorization(url) {
            request = request.header("authorization", value);
        }
        let connect = Some(self.patience.min(MOST_CONNECTING));
        let request = request.config().timeout_connect(connect).timeout_resolve(connect).build();
        match request.send(body) {
            Ok(response) => Ok(HttpResponse::of(response)),
            Err(ureq::Error::Timeout(Timeout::RecvResponse | Timeout::PerRead)) => {
                Err(RequestError::Wrong(TOO_LONG.into()))
            }
            Err(error) => Err(self.trouble(url, error)),
        }
    }

    /// Closes all connections, also while another thread waits for them. No request may follow.
    pub(crate) fn stop(&self) {
        self.agent.clone().shutdown();
    }

    fn authorization(&self, url: &str) -> Option<String> {
        let token = self.token.as_ref().filter(|_| self.trusts(url));
        token.map(|token| format!("Bearer {token}"))
    }

    /// The error, with a note if the request went through a proxy.
    fn trouble(&self, url: &str, error: ureq::Error) -> RequestError {
        let proxied = self.agent.config().proxy().zip(url.parse().ok());
        let proxied = proxied.is_some_and(|(proxy, url)| !proxy.is_no_proxy(&url));
        match trouble(error) {
            RequestError::Lost(why) | RequestError::Absent(why) if proxied => {
                RequestError::Lost(format!("through the proxy: {why}"))
            }
            trouble => trouble,
        }
    }

    /// Whether the token may be sent to this URL.
    pub(crate) fn trusts(&self, url: &str) -> bool {
        self.trusted
            .as_deref()
            .is_some_and(|trusted| origin(url).is_some_and(|o| o.eq_ignore_ascii_case(trusted)))
    }

    pub(crate) fn has_token(&self) -> bool {
        self.token.is_some()
    }
}

const TOO_LONG: &str = "nothing came for too long";
const NO_HOST: &str = "there is no such host, or no network";

/// A ureq error → what to tell the user, and whether a retry may help.
fn trouble(error: ureq::Error) -> RequestError {
    use ureq::Error;
    match error {
        Error::Timeout(_) => RequestError::Lost("no answer in time".into()),
        Error::HostNotFound => RequestError::Absent(NO_HOST.into()),
        Error::Io(error) if error.to_string().starts_with("failed to lookup address") => {
            RequestError::Absent(NO_HOST.into())
        }
        Error::Io(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            RequestError::Absent(reason(&error))
        }
        Error::Io(error) if error.kind() == io::ErrorKind::InvalidData => {
            RequestError::Wrong(format!("could not be trusted: {error}"))
        }
        Error::Io(error) => RequestError::Lost(lost(&error)),
        Error::ConnectionFailed | Error::BodyStalled => RequestError::Lost("the connection failed".into()),
        Error::Protocol(_) | Error::LargeResponseHeader(..) => {
            RequestError::Lost("the response is not HTTP".into())
        }
        Error::ConnectProxyFailed(why) => RequestError::Lost(format!("the proxy refused: {}", why.trim())),
        Error::InvalidProxyUrl => RequestError::Wrong("needs a proxy whose address is wrong".into()),
        Error::Tls(why) => RequestError::Wrong(format!("could not be trusted: {why}")),
        Error::Rustls(why) => RequestError::Wrong(format!("could not be trusted: {why}")),
        Error::BadUri(_) | Error::Http(_) => RequestError::Wrong("is not a valid address".into()),
        other => RequestError::Wrong(format!("could not be reached: {other}")),
    }
}

/// Why reading a body or a socket failed, for people.
pub(crate) fn lost(error: &io::Error) -> String {
    if error.get_ref().and_then(|inner| inner.downcast_ref::<ureq::Error>()).is_some_and(is_timeout) {
        return TOO_LONG.into();
    }
    match error.kind() {
        io::ErrorKind::UnexpectedEof => "the connection was closed early".into(),
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => TOO_LONG.into(),
        _ => reason(error),
    }
}

fn is_timeout(error: &ureq::Error) -> bool {
    matches!(error, ureq::Error::Timeout(_))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_goes_to_one_origin_only() {
        let http = Http::new("http://hub.test:80", Some("secret".into()), Duration::from_secs(1));
        assert!(http.trusts("http://hub.test:80/x") && http.trusts("http://HUB.test:80/"));
        for other in [
            "https://hub.test:80/x",
            "http://hub.test:81/x",
            "http://a.hub.test:80/",
            "http://x@hub.test:80/",
        ] {
            assert!(!http.trusts(other), "{other}");
        }
    }
}
