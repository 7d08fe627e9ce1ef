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

/// RFC 3986, `h16`.
macro_rules! h16 {
    () => {
        "[0-9a-fA-F]{1,4}"
    };
}

/// RFC 3986, `dec-octet`.
macro_rules! octet {
    () => {
        "(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
    };
}

/// RFC 3986, `IPv4address`.
macro_rules! ipv4 {
    () => {
        concat!("(?:", octet!(), r"\.){3}", octet!())
    };
}

/// RFC 3986, `ls32` after this many times `h16 ":"`.
macro_rules! tail {
    ($times:literal) => {
        concat!("(?:", h16!(), ":){", $times, "}(?:", h16!(), ":", h16!(), "|", ipv4!(), ")")
    };
}

/// RFC 3986, at most this many times `h16 ":"`, one more `h16`, or nothing; then `::`.
macro_rules! head {
    ($most:literal) => {
        concat!("(?:(?:", h16!(), ":){0,", $most, "}", h16!(), ")?::")
    };
}

/// RFC 3986, `IPv6address`.
macro_rules! ipv6 {
    () => {
        concat!(
            concat!("(?:", tail!(6), "|::", tail!(5), "|", head!(0), tail!(4), "|", head!(1), tail!(3)),
            concat!("|", head!(2), tail!(2), "|", head!(3), tail!(1), "|", head!(4), tail!(0)),
            concat!("|", head!(5), h16!(), "|", head!(6), ")"),
        )
    };
}

/// RFC 5321, `Mailbox`; other address literals than those of IP are left out.
macro_rules! email {
    () => {
        concat!(
            r#"(?:[a-zA-Z0-9!#$%&'*+\-/=?\^_`{|}~]+(?:\.[a-zA-Z0-9!#$%&'*+\-/=?\^_`{|}~]+)*"#,
            r#"|"(?:[ !#-\[\]-~]|\\[ -~])*")@"#,
            r"(?:[a-zA-Z0-9](?:[a-zA-Z0-9\-]*[a-zA-Z0-9])?(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9\-]*[a-zA-Z0-9])?)*",
            concat!(r"|\[(?:", ipv4!(), "|IPv6:", ipv6!(), r")\])"),
        )
    };
}

pub(super) fn format(name: &str) -> Format {
    match name {
        "date" => Format::Pattern(concat!("^", date!(), "$")),
        "time" => Format::Pattern(concat!("^", time!(), "$")),
        "date-time" => Format::Pattern(concat!("^", date!(), "[tT]", time!(), "$")),
        "email" => Format::Pattern(concat!("^", email!(), "$")),
        "ipv6" => Format::Pattern(concat!("^", ipv6!(), "$")),
        "duration" | "hostname" | "ipv4" | "uuid" | "uri" => Format::Known,
        _ => Format::Unknown,
    }
}
