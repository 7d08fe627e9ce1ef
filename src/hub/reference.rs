//! What people type for a model on the network → repository, revision and quantisation or file, or a URL.
//!
//! Accepts `hf:OWNER/REPO[@REVISION][:QUANT|:FILE.gguf|/FILE.gguf]`, the hub's own web addresses, and the URL
//! of any other .gguf file. Pure text; choose.rs picks the file for a quantisation.

use std::fmt;

/// The hub's hosts, as people type and paste them.
const HOSTS: &[&str] = &["huggingface.co", "www.huggingface.co", "hf.co"];

/// A model on the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reference {
    Hub(Wanted),
    /// A .gguf file at an http or https address.
    Url(String),
}

/// A model in a repository of the hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// `OWNER/REPO`.
    pub repository: String,
    /// A branch, a tag or a commit.
    pub revision: String,
    pub which: Which,
}

/// Which of a repository's models.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// The preferred quantisation.
    Usual,
    Quantisation(String),
    /// A path inside the repository, or its last part.
    File(String),
}

impl Reference {
    /// `None` if the text names nothing on a network.
    pub fn parse(text: &str) -> Option<Reference> {
        let text = text.trim();
        if let Some((prefix, rest)) = text.split_at_checked(3)
            && prefix.eq_ignore_ascii_case("hf:")
        {
            return parse_hub(rest.trim_start_matches("//")).map(Reference::Hub);
        }
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme @ ("http" | "https"), rest)) => (Some(scheme), rest),
            Some(_) => return None,
            None => (None, text),
        };
        let (host, path) = rest.split_once('/')?;
        if HOSTS.iter().any(|known| host.eq_ignore_ascii_case(known)) {
            return parse_hub(&decode(before_query(path))?).map(Reference::Hub);
        }
        let file = before_query(path).rsplit('/').next().unwrap_or_default();
        let plain = scheme.is_some() && !host.is_empty() && is_gguf(file) && !text.contains(unwelcome);
        plain.then(|| Reference::Url(text.to_string()))
    }

    /// The reference to a file in a repository.
    pub fn file_of(repository: &str, file: &str) -> Reference {
        let which = Which::File(file.to_string());
        Reference::Hub(Wanted { repository: repository.into(), revision: "main".into(), which })
    }
}

/// The text after `hf:` or the hub's host.
fn parse_hub(rest: &str) -> Option<Wanted> {
    let rest = rest.trim_end_matches('/');
    let (owner, rest) = rest.split_once('/')?;
    let end = rest.find(['/', ':', '@']).unwrap_or(rest.len());
    let (repository, rest) = (format!("{owner}/{}", &rest[..end]), &rest[end..]);
    if !is_name(owner) || !is_name(repository.split_once('/')?.1) {
        return None;
    }
    let (revision, rest) = match rest.strip_prefix('@') {
        Some(rest) => split_revision(rest),
        None => ("main", rest),
    };
    let (revision, which) = match (rest.chars().next(), rest.get(1..).unwrap_or_default()) {
        (None, _) => (revision, Which::Usual),
        (Some(':'), "" | "latest") => (revision, Which::Usual),
        (Some(':'), file) if is_gguf(file) => (revision, Which::File(file.into())),
        (Some(':'), quant) => (revision, Which::Quantisation(quant.into())),
        (Some('/'), path) => page(revision, path)?,
        _ => return None,
    };
    let sound = match &which {
        Which::Usual => true,
        Which::Quantisation(quant) => is_name(quant),
        Which::File(file) => is_path(file),
    };
    let wanted = Wanted { repository, revision: revision.to_string(), which };
    (sound && is_path(&wanted.revision)).then_some(wanted)
}

/// `REVISION[:…]` or `REVISION/FILE.gguf`. A revision may contain slashes, but then the file must follow a
/// colon.
fn split_revision(rest: &str) -> (&str, &str) {
    let end = match rest.find(':') {
        Some(colon) => colon,
        None if is_gguf(rest) => rest.find('/').unwrap_or(rest.len()),
        None => rest.len(),
    };
    rest.split_at(end)
}

/// The rest of a web address after the repository, or a file's path.
fn page<'a>(revision: &'a str, path: &'a str) -> Option<(&'a str, Which)> {
    let mut parts = path.splitn(3, '/');
    match (parts.next()?, parts.next(), parts.next()) {
        ("resolve" | "blob" | "raw", Some(revision), Some(file)) if is_gguf(file) => {
            Some((revision, Which::File(file.into())))
        }
        ("tree", Some(revision), None) => Some((revision, Which::Usual)),
        _ if is_gguf(path) => Some((revision, Which::File(path.into()))),
        _ => None,
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reference::Hub(wanted) => wanted.fmt(f),
            Reference::Url(url) => f.write_str(url),
        }
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "hf:{}", self.repository)?;
        if self.revision != "main" {
            write!(f, "@{}", self.revision)?;
        }
        match &self.which {
            Which::Usual => Ok(()),
            Which::Quantisation(which) | Which::File(which) => write!(f, ":{which}"),
        }
    }
}

/// The URL without query and fragment.
pub(super) fn before_query(url: &str) -> &str {
    url.split(['?', '#']).next().unwrap_or_default()
}

pub(super) fn is_gguf(name: &str) -> bool {
    name.len() > 5 && name.to_ascii_lowercase().ends_with(".gguf")
}

/// One component of a path, as the hub allows it: no traversal, and nothing a terminal would act on.
pub(super) fn is_name(name: &str) -> bool {
    !matches!(name, "" | "." | "..") && !name.contains(unwelcome) && !name.contains('/')
}

/// A relative path of such components.
pub(super) fn is_path(path: &str) -> bool {
    path.split('/').all(is_name)
}

fn unwelcome(c: char) -> bool {
    c.is_control() || c.is_whitespace() && c != ' ' || c == '\\'
}

/// `%41` → `A`. `None` if the result is not text.
pub(super) fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let digit = |byte: Option<u8>| (byte? as char).to_digit(16);
        match byte {
            b'%' => bytes.push((digit(rest.next())? * 16 + digit(rest.next())?) as u8),
            byte => bytes.push(byte),
        }
    }
    String::from_utf8(bytes).ok()
}

/// Percent-encodes text for a URL's path, except for the bytes in `keep`.
pub(super) fn encode(text: &str, keep: &[u8]) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || keep.contains(&byte);
    let encoded = |byte| if plain(byte) { (byte as char).to_string() } else { format!("%{byte:02X}") };
    text.bytes().map(encoded).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hub(text: &str) -> (String, String, Which) {
        match Reference::parse(text) {
            Some(Reference::Hub(w)) => (w.repository, w.revision, w.which),
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn all_spellings_of_a_repository() {
        let expected = |which| ("a/b-GGUF".to_string(), "main".to_string(), which);
        for text in ["hf:a/b-GGUF", "hf.co/a/b-GGUF", "https://huggingface.co/a/b-GGUF/", "hf://a/b-GGUF"] {
            assert_eq!(hub(text), expected(Which::Usual), "{text}");
        }
        assert_eq!(hub("hf:a/b-GGUF:q8_0"), expected(Which::Quantisation("q8_0".into())));
        assert_eq!(hub("hf.co/a/b-GGUF:latest"), expected(Which::Usual));
        let file = expected(Which::File("x/y.gguf".into()));
        for text in [
            "hf:a/b-GGUF:x/y.gguf",
            "hf:a/b-GGUF/x/y.gguf",
            "https://huggingface.co/a/b-GGUF/resolve/main/x/y.gguf?download=true",
            "http://hf.co/a/b-GGUF/blob/main/x%2Fy.gguf",
        ] {
            assert_eq!(hub(text), file, "{text}");
        }
    }

    #[test]
    fn revisions() {
        assert_eq!(hub("hf:a/b@v1:Q8_0").1, "v1");
        assert_eq!(hub("hf:a/b@refs/pr/1").1, "refs/pr/1");
        assert_eq!(hub("hf:a/b@v1/x.gguf"), ("a/b".into(), "v1".into(), Which::File("x.gguf".into())));
        assert_eq!(hub("https://huggingface.co/a/b/tree/v1").1, "v1");
    }

    #[test]
    fn urls_and_what_is_neither() {
        let url = "http://host:8080/x/m.GGUF?sign=1";
        assert_eq!(Reference::parse(url), Some(Reference::Url(url.into())));
        for text in [
            "llama",
            "hf:",
            "hf:a",
            "hf:a/",
            "hf:../b",
            "hf:a/..",
            "hf:a/b:x y\n.gguf",
            "./a/b.gguf",
            "a/b.gguf",
            "https://host/x.bin",
            "ftp://host/x.gguf",
            "hf:a/b:../../x.gguf",
            "hf:a/b@..:Q8_0",
            "https:///x.gguf",
        ] {
            assert_eq!(Reference::parse(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_shown_is_understood_again() {
        for text in ["hf:a/b", "hf:a/b:Q8_0", "hf:a/b@v1:x/y.gguf", "https://h/x.gguf"] {
            assert_eq!(Reference::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn percent_signs() {
        assert_eq!(encode("refs/pr 1", b""), "refs%2Fpr%201");
        assert_eq!(encode("x/y+z.gguf", b"/"), "x/y%2Bz.gguf");
        assert_eq!(decode("x%2Fy%zz"), None);
    }
}
