//! URLs: their origin and host, and the target of a redirect. Pure.

/// Scheme, host and port as written: `https://host:8443`. `None` if this is no http or https URL.
pub(crate) fn origin(url: &str) -> Option<&str> {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"))?;
    let authority = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    (authority > 0).then(|| &url[..url.len() - rest.len() + authority])
}

/// Host and port, for messages: without user name and password.
pub(crate) fn host(url: &str) -> &str {
    let origin = origin(url).unwrap_or(url);
    let authority = origin.split_once("://").map_or(origin, |(_, authority)| authority);
    authority.rsplit_once('@').map_or(authority, |(_, host)| host)
}

/// The URL that `location` leads to from `base`.
pub(crate) fn join(base: &str, location: &str) -> Option<String> {
    let origin_of_base = origin(base)?;
    if origin(location).is_some() {
        return Some(location.to_string());
    }
    if location.contains("://") && !location.starts_with(['/', '?']) {
        return None; // ftp and others
    }
    if location.starts_with("//") {
        return Some(format!("{}:{location}", base.split_once(':')?.0));
    }
    let path = &base[origin_of_base.len()..];
    let path = path.split(['?', '#']).next().unwrap_or_default();
    match location.chars().next()? {
        '/' => Some(format!("{origin_of_base}{location}")),
        '?' => Some(format!("{origin_of_base}{path}{location}")),
        _ => {
            let folder = path.rfind('/').map_or("/", |end| &path[..=end]);
            Some(format!("{origin_of_base}{folder}{location}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_and_hosts() {
        assert_eq!(origin("http://h:1/x?y"), Some("http://h:1"));
        assert_eq!(origin("https://h"), Some("https://h"));
        assert_eq!(origin("file:///x"), None);
        assert_eq!(host("https://user:pass@h:1/x"), "h:1");
    }

    #[test]
    fn redirects_lead_as_browsers_would_go() {
        let base = "https://h/a/b?q#f";
        let cases = [
            ("http://o/x", "http://o/x"),
            ("//o/x", "https://o/x"),
            ("/x?y=//z", "https://h/x?y=//z"),
            ("x", "https://h/a/x"),
            ("?z", "https://h/a/b?z"),
        ];
        for (location, expected) in cases {
            assert_eq!(join(base, location).as_deref(), Some(expected), "{location}");
        }
        assert_eq!(join(base, "ftp://o/x"), None);
        assert_eq!(join("https://h", "x").as_deref(), Some("https://h/x"));
    }
}
