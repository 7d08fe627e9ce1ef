//! A server → requests to its API: with the key, over an allowed connection, tried again while nothing has
//! come yet.

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::fault::Fault;
use super::reach::stays_near;
use crate::backend::{Error, ServerFault};
use crate::http::retry::RequestError;
use crate::http::{Http, HttpResponse};
use crate::settings::{Secret, Server};
use crate::units::duration;

/// Most bytes of an answer in one piece.
const MOST_JSON: u64 = 16 << 20;
/// Most bytes of a refusal.
const MOST_REFUSAL: u64 = 64 << 10;
/// Most characters of a server's own words in a message.
const MOST_WORDS: usize = 300;
/// Most attempts at a request that no server has begun to answer.
const MOST_TRIES: u32 = 4;
/// The unit of waits between them, as in http/retry.rs.
const PACE: Duration = Duration::from_secs(20);
/// The longest wait between two looks at the cancel flag.
const TICK: Duration = Duration::from_millis(20);

/// Talks to one server, one request at a time.
pub(super) struct Client {
    pub(super) server: Server,
    /// The URL of the API, and the one above it, where the extensions of some servers are.
    api: String,
    root: String,
    key: Option<Secret>,
    http: Mutex<Arc<Http>>,
}

impl Client {
    /// Finds the key and checks that it may go to the server. Sends nothing.
    pub(super) fn new(server: Server, patience: Duration) -> Result<Client, Error> {
        let fault = |fault| at(&server, fault);
        if let Some(wrong) = crate::settings::servers::wrong_url(&server.url) {
            return Err(fault(Fault::Address(wrong)));
        }
        let key = key(&server).map_err(fault)?;
        let plain = server.url.starts_with("http:") && !server.allow_http;
        if plain && (key.is_some() || !stays_near(server.host())) {
            return Err(fault(Fault::Unencrypted { key: key.is_some() }));
        }
        let (root, api) = addresses(&server.url);
        let http = Mutex::new(Arc::new(http(&server, &key, patience)));
        Ok(Client { server, api, root, key, http })
    }

    /// An error of this server.
    pub(super) fn fault(&self, fault: Fault) -> Error {
        at(&self.server, fault)
    }

    /// `v1/models` and the like: the JSON, or `None` if the server has nothing there. `above`: not of the API
    /// itself.
    pub(super) fn get(&self, path: &str, above: bool) -> Result<Option<Value>, Error> {
        let base = if above { &self.root } else { &self.api };
        let answer =
            self.http().ask(&format!("{base}/{path}"), &[]).map_err(|error| self.unreachable(&error))?;
        match answer.status {
            200 => self.json(answer).map(Some),
            404 | 405 | 501 => Ok(None),
            _ => Err(self.refusal(answer)),
        }
    }

    /// The same with a question.
    pub(super) fn ask(&self, path: &str, question: &Value) -> Result<Value, Error> {
        let answer = self.http().post(&format!("{}/{path}", self.root), question.to_string().as_bytes());
        let answer = answer.map_err(|error| self.unreachable(&error))?;
        if answer.status == 200 { self.json(answer) } else { Err(self.refusal(answer)) }
    }

    /// Asks for an answer, and again as long as that may help. `tell` gets a line before each wait.
    pub(super) fn begin(
        &self,
        path: &str,
        question: &Value,
        cancel: &AtomicBool,
        tell: &mut dyn FnMut(String),
    ) -> Result<HttpResponse, Error> {
        let (url, body) = (format!("{}/{path}", self.api), question.to_string());
        let mut tries = 0;
        loop {
            let answer = self.http().post(&url, body.as_bytes());
            if cancel.load(Ordering::Relaxed) {
                return Err(Error::Interrupted);
            }
            let trouble = match &answer {
                Ok(answer) if [429, 502, 503, 504].contains(&answer.status) => answer.trouble(),
                Ok(_) => return answer.map_err(|_| Error::Interrupted),
                Err(error) => error.clone(),
            };
            tries += 1;
            let wait = trouble.wait(tries, PACE).filter(|_| tries < MOST_TRIES);
            let Some(wait) = wait else {
                return Err(match answer {
                    Ok(answer) => self.refusal(answer),
                    Err(error) => self.unreachable(&error),
                });
            };
            let again = duration(wait.as_secs_f64());
            tell(format!("{}: {}; trying again in {again}", self.server.title(), trouble.words()));
            let end = Instant::now() + wait;
            while let Some(left) = end.checked_duration_since(Instant::now()) {
                if cancel.load(Ordering::Relaxed) {
                    return Err(Error::Interrupted);
                }
                std::thread::sleep(TICK.min(left));
            }
        }
    }

    /// Closes the connection, also while another thread waits for it.
    pub(super) fn interrupt(&self) {
        let patience = self.server.timeout;
        let fresh = Arc::new(http(&self.server, &self.key, patience));
        let mut http = self.http.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *http, fresh).stop();
    }

    fn http(&self) -> Arc<Http> {
        self.http.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A whole answer as JSON.
    pub(super) fn json(&self, answer: HttpResponse) -> Result<Value, Error> {
        let kind = answer.header("content-type").unwrap_or_default().to_lowercase();
        if kind.contains("html") {
            return Err(self.fault(Fault::NotTheApi(HTML.into())));
        }
        self.plain(&answer)?;
        let text = answer.text(MOST_JSON);
        serde_json::from_str(&text).map_err(|_| {
            self.fault(Fault::NotTheApi(
                "did not answer with JSON: it is no such server, or its path is another".into(),
            ))
        })
    }

    /// Refuses a compressed body, which was not asked for.
    pub(super) fn plain(&self, answer: &HttpResponse) -> Result<(), Error> {
        match answer.header("content-encoding") {
            None | Some("identity" | "") => Ok(()),
            Some(other) => {
                let why = format!("sent {other}, which fireside did not ask for");
                Err(self.fault(Fault::NotTheApi(why)))
            }
        }
    }

    /// The error for an answer that is no success.
    pub(super) fn refusal(&self, answer: HttpResponse) -> Error {
        let status = answer.status;
        if (300..400).contains(&status) {
            let to = answer.header("location").unwrap_or("nowhere").to_string();
            return self.fault(Fault::Redirects(to));
        }
        self.refused(status, &answer.text(MOST_REFUSAL))
    }

    /// The error for a status, and a body that explains it.
    pub(super) fn refused(&self, status: u16, body: &str) -> Error {
        let said = words(body);
        self.fault(match status {
            401 | 403 => {
                let variable = self.server.key_variable();
                Fault::Key { status, given: self.key.is_some(), variable, said }
            }
            status => Fault::Refused { status, said },
        })
    }

    fn unreachable(&self, error: &RequestError) -> Error {
        self.fault(match error {
            RequestError::Wrong(why) => Fault::NotTheApi(why.clone()),
            error => Fault::Unreachable(error.words()),
        })
    }
}

/// For a page where JSON should be.
pub(super) const HTML: &str = "answered with a web page: it is no such server, or its path is another";

/// An error of a server.
pub(super) fn at(server: &Server, fault: Fault) -> Error {
    Error::Server(Box::new(ServerFault { server: server.title().to_string(), fault }))
}

fn http(server: &Server, key: &Option<Secret>, patience: Duration) -> Http {
    Http::new(&server.url, key.as_ref().map(|key| key.expose().to_string()), patience)
}

/// The root of a server and its API. The API is at `/v1`, unless the URL names a version itself.
fn addresses(url: &str) -> (String, String) {
    let is_version = |part: &str| {
        part.strip_prefix('v').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    let path = url.find("://").and_then(|at| Some(at + 3 + url[at + 3..].find('/')?));
    let version = path.and_then(|path| {
        let parts = url[path..].match_indices('/').map(|(at, _)| path + at);
        parts.into_iter().find(|at| is_version(url[at + 1..].split('/').next().unwrap_or_default()))
    });
    match version {
        Some(at) => (url[..at].to_string(), url.to_string()),
        None => (url.to_string(), format!("{url}/v1")),
    }
}

/// The key: from the environment, from its command, or from the config file.
fn key(server: &Server) -> Result<Option<Secret>, Fault> {
    let given = std::env::var(server.key_variable()).ok().map(|key| Secret::new(&key));
    let key = match given.filter(|key| !key.expose().is_empty()) {
        Some(key) => Some(key),
        None => match &server.key_command {
            Some(command) => Some(printed(command)?),
            None => server.key.clone(),
        },
    };
    match key {
        Some(key) if !key.expose().chars().all(|c| c.is_ascii_graphic()) => Err(Fault::KeyCharacters),
        key => Ok(key.filter(|key| !key.expose().is_empty())),
    }
}

/// The first line that a shell command prints.
fn printed(command: &str) -> Result<Secret, Fault> {
    let mut shell = Command::new("sh");
    let done = shell.args(["-c", command]).stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let done = done.map_err(|error| Fault::KeyCommand(error.to_string()))?;
    let first = String::from_utf8_lossy(&done.stdout).lines().next().unwrap_or_default().to_string();
    match (done.status.success(), first.trim().is_empty()) {
        (true, false) => Ok(Secret::new(&first)),
        (true, true) => Err(Fault::KeyCommand("it printed nothing".into())),
        (false, _) => Err(Fault::KeyCommand(done.status.to_string())),
    }
}

/// A server's own words in the body of a refusal, on one line.
pub(super) fn words(body: &str) -> Option<String> {
    let said = match serde_json::from_str::<Value>(body) {
        Ok(json) => {
            let places = ["/error/message", "/error", "/message", "/detail", "/detail/0/msg"];
            places.iter().find_map(|place| Some(json.pointer(place)?.as_str()?.to_string()))?
        }
        Err(_) if body.trim_start().starts_with('<') => return None, // a page for browsers
        Err(_) => body.to_string(),
    };
    let line = said.split_whitespace().collect::<Vec<_>>().join(" ");
    let short: String = line.chars().take(MOST_WORDS).collect();
    let more = if short.len() < line.len() { "…" } else { "" };
    (!short.is_empty()).then(|| short + more)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_api_is_found_below_an_address() {
        let both = |url| addresses(url);
        let is = |root: &str, api: &str| (root.to_string(), api.to_string());
        assert_eq!(both("http://h:1"), is("http://h:1", "http://h:1/v1"));
        assert_eq!(both("http://h:1/v1"), is("http://h:1", "http://h:1/v1"));
        assert_eq!(both("https://h/api/v1"), is("https://h/api", "https://h/api/v1"));
        assert_eq!(both("https://h/v1beta/openai"), is("https://h", "https://h/v1beta/openai"));
        assert_eq!(both("https://h/vllm"), is("https://h/vllm", "https://h/vllm/v1"));
    }

    #[test]
    fn what_a_server_says_of_a_refusal_is_found() {
        let said = |body| words(body).unwrap_or_default();
        assert_eq!(said(r#"{"error":{"message":"no\n such model","code":404}}"#), "no such model");
        assert_eq!(said(r#"{"error":"model not found"}"#), "model not found");
        assert_eq!(said(r#"{"detail":[{"msg":"field required"}]}"#), "field required");
        assert_eq!(said(r#"{"object":"error","message":"too long"}"#), "too long");
        assert_eq!(said("<html><body>502</body></html>"), "");
        assert_eq!(said("overloaded\n"), "overloaded");
        assert_eq!(said(&"x".repeat(999)).chars().count(), MOST_WORDS + 1);
    }
}
