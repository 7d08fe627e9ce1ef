//! Names of JSON schema's `format` → regular expressions (ECMA-262), where llguidance has none or a looser one.

/// How a format is enforced.
pub(super) enum Format {
    /// By this pattern.
    Pattern(&'static str),
    /// By llguidance.
    Known,
    /// Not at all: it is an annotation.
    Unknown,
}

/// RFC 3339, `full-date`, from the year 0001.
macro_rules! date {
    () => {
        concat!(
            r"(?:(?:[0-9]{3}[1-9]|[0-9]{2}[1-9][0-9]|[0-9][1-9][0-9]{2}|[1-9][0-9]{3})-(?:",
            r"(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])",
            r"|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)",
            r"|02-(?:0[1-9]|1[0-9]|2[0-8]))",
            r"|(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:0[48]|[2468][048]|[13579][26])00)-02-29)",
        )
    };
}

/// RFC 3339, `full-time`, without leap seconds.
macro_rules! time {
    () => {
        concat!(
            r"(?:(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]+)?",
            r"(?:[zZ]|[+\-](?:[01][0-9]|2[0-3]):[0-5][0-9]))",
        )
    };
}

pub(super) fn format(name: &str) -> Format {
    match name {
        "date" => Format::Pattern(concat!("^", date!(), "$")),
        "time" => Format::Pattern(concat!("^", time!(), "$")),
        "date-time" => Format::Pattern(concat!("^", date!(), "[tT]", time!(), "$")),
        "duration" | "email" | "hostname" | "ipv4" | "ipv6" | "uuid" | "uri" => Format::Known,
        _ => Format::Unknown,
    }
}
