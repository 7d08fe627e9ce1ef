//! The servers of the config file (`[servers.NAME]`), and the name of a remote model, `NAME@SERVER` → the
//! server and the model's name there.

use std::fmt;
use std::time::Duration;

/// The longest wait for a byte of a server.
pub const PATIENCE: Duration = Duration::from_secs(300);
/// Between a model's name and its server.
pub const AT: char = '@';

/// A key, which nothing shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: &str) -> Secret {
        Secret(text.trim().to_string())
    }

    /// For the server's eyes only.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// How to reach a server, and what may be sent there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Its name in the config file; empty: it was given by its URL.
    pub name: String,
    /// `http://` or `https://`, without a slash at the end.
    pub url: String,
    pub key: Option<Secret>,
    /// A shell command that prints the key.
    pub key_command: Option<String>,
    /// Whether the key, or text for a host far away, may go without encryption.
    pub allow_http: bool,
    /// The longest wait for the first byte of an answer, and between two.
    pub timeout: Duration,
}

impl Server {
    /// A server without a section in the config file.
    pub fn at(url: &str) -> Server {
        Server {
            name: String::new(),
            url: url.trim_end_matches('/').to_string(),
            key: None,
            key_command: None,
            allow_http: false,
            timeout: PATIENCE,
        }
    }

    /// As `NAME@SERVER` ends: its name, or its URL.
    pub fn title(&self) -> &str {
        if self.name.is_empty() { &self.url } else { &self.name }
    }

    /// The environment variable for its key.
    pub fn key_variable(&self) -> String {
        let name = self.name.to_uppercase().replace('-', "_");
        if name.is_empty() { "FIRESIDE_API_KEY".into() } else { format!("FIRESIDE_API_KEY_{name}") }
    }

    /// Host and port, without the path.
    pub fn host(&self) -> &str {
        let rest = self.url.split_once("://").map_or(self.url.as_str(), |(_, rest)| rest);
        rest.split('/').next().unwrap_or(rest)
    }
}

/// Why this is no address of a server.
pub fn wrong_url(url: &str) -> Option<&'static str> {
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
    match rest {
        None => Some("must be an http or https address, as in http://localhost:8080"),
        Some(rest) if rest.is_empty() || rest.starts_with('/') => Some("names no host"),
        Some(rest) if rest.split('/').next().is_some_and(|host| host.contains(AT)) => {
            Some("must contain neither user name nor password; a key has a place of its own")
        }
        Some(rest) if rest.contains(|c: char| c.is_whitespace() || c.is_control() || "?#".contains(c)) => {
            Some("must be an address without spaces, ? and #")
        }
        Some(_) => None,
    }
}

/// Whether this can be the name of a server in the config file.
pub fn is_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c))
}

/// A remote model, as `-m` takes it → the model's name at the server, which may be empty, and the server.
/// `None`: it is no remote model, or its server is unknown.
pub fn remote<'a>(wanted: &'a str, servers: &[Server]) -> Option<(&'a str, Server)> {
    let by_url = ["@http://", "@https://"].iter().filter_map(|scheme| wanted.find(scheme)).min();
    if let Some(at) = by_url {
        return Some((&wanted[..at], Server::at(&wanted[at + 1..])));
    }
    let (model, name) = wanted.rsplit_once(AT)?;
    let server = servers.iter().find(|server| server.name == name)?;
    Some((model, server.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_at_a_server_is_told_from_other_names() {
        let work = Server { name: "work".into(), ..Server::at("https://example.org/v1/") };
        let servers = [work.clone()];
        let of = |wanted| remote(wanted, &servers).map(|(model, server)| (model, server.url));
        assert_eq!(of("tiny@work"), Some(("tiny", "https://example.org/v1".into())));
        assert_eq!(of("a@b@work"), Some(("a@b", "https://example.org/v1".into())));
        assert_eq!(of("@work"), Some(("", "https://example.org/v1".into())));
        assert_eq!(of("tiny@http://h:1/"), Some(("tiny", "http://h:1".into())));
        assert_eq!(of("hf:owner/repo@main:Q4_0"), None);
        assert_eq!(of("tiny@home"), None);
        assert_eq!(of("tiny"), None);
        assert_eq!((work.host(), &*work.key_variable()), ("example.org", "FIRESIDE_API_KEY_WORK"));
    }

    #[test]
    fn addresses_are_checked() {
        for good in ["http://localhost:8080", "https://h/v1", "http://[::1]:8080/x"] {
            assert_eq!(wrong_url(good), None, "{good}");
        }
        for wrong in
            ["localhost", "ftp://h", "http://", "https:///x", "http://u:p@h", "http://h/?q", "http://a b"]
        {
            assert!(wrong_url(wrong).is_some(), "{wrong}");
        }
    }

    #[test]
    fn a_key_is_not_shown() {
        let server = Server { key: Some(Secret::new("sk-1234")), ..Server::at("http://h") };
        assert!(!format!("{server:?}").contains("1234"));
    }
}
