//! Why a server gives no answer, or no whole one.

use std::fmt;

/// Most models that a message names.
const MOST_NAMED: usize = 12;

/// What is wrong with a server, a request to it, or its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The settings forbid the network.
    Offline,
    /// This is no address, with the reason.
    Address(&'static str),
    /// Without encryption, the key or text for a host far away could be read on its way.
    Unencrypted { key: bool },
    /// The command that prints the key failed, with the reason.
    KeyCommand(String),
    /// The key has characters that no header can carry.
    KeyCharacters,
    /// No connection, with the reason.
    Unreachable(String),
    /// The server wants a key, or another one. `variable`: where fireside looks for it.
    Key { status: u16, given: bool, variable: String, said: Option<String> },
    /// It sends elsewhere, to this URL.
    Redirects(String),
    /// The server refuses the request, with its own words, if any.
    Refused { status: u16, said: Option<String> },
    /// It answers, but not as such a server does. The text continues a sentence that begins with its name.
    NotTheApi(String),
    /// It has no model of this name.
    NoModel { wanted: String, models: Vec<String> },
    /// No model was named, and it has none or several.
    Unnamed(Vec<String>),
    /// It cannot continue an answer.
    CannotContinue,
    /// It answers without the probabilities that were asked for.
    NoProbabilities,
    /// The answer broke off, with the reason.
    BrokeOff(String),
    /// It has nothing that keeps answers to such a constraint.
    Lacks(&'static str),
    /// The answer does not match the constraint.
    Unmatched(&'static str),
}

impl Fault {
    /// Whether the beginning of an answer came before it.
    pub fn is_broken_off(&self) -> bool {
        matches!(self, Fault::BrokeOff(_))
    }

    /// The fault with the server's name, one line.
    pub(in crate::backend) fn at(&self, server: &str, f: &mut fmt::Formatter) -> fmt::Result {
        let said = |said: &Option<String>| said.as_ref().map_or(String::new(), |said| format!(": {said}"));
        match self {
            Fault::Offline => write!(f, "could not ask {server}: fireside is offline"),
            Fault::Address(why) => write!(f, "the address '{server}' {why}"),
            Fault::Unencrypted { key: true } => {
                write!(f, "could not ask {server}: the key would go there unencrypted")
            }
            Fault::Unencrypted { key: false } => {
                write!(f, "could not ask {server}: it is not on your own network, and http is not encrypted")
            }
            Fault::KeyCommand(why) => write!(f, "the key command of {server} failed: {why}"),
            Fault::KeyCharacters => write!(f, "the key for {server} contains an invalid character"),
            Fault::Unreachable(why) => write!(f, "could not reach {server}: {why}"),
            Fault::Key { status, given: true, said: words, .. } => {
                write!(f, "{server} did not accept the key ({status}){}", said(words))
            }
            Fault::Key { status, given: false, said: words, .. } => {
                write!(f, "{server} wants a key ({status}){}", said(words))
            }
            Fault::Redirects(to) => write!(f, "{server} sends to another address: {to}"),
            Fault::Refused { status, said: words } => {
                let why = match status {
                    404 => "has nothing there",
                    408 => "waited too long for the request",
                    413 => "finds the request too large",
                    429 => "got too many requests",
                    503 => "is not ready",
                    500.. => "is in trouble",
                    _ => "refused the request",
                };
                write!(f, "{server} {why} ({status}){}", said(words))
            }
            Fault::NotTheApi(why) => write!(f, "{server} {why}"),
            Fault::NoModel { wanted, .. } => write!(f, "{server} has no model '{wanted}'"),
            Fault::Unnamed(models) if models.is_empty() => write!(f, "{server} lists no models"),
            Fault::Unnamed(models) => write!(f, "{server} has {} models, and none is named", models.len()),
            Fault::CannotContinue => write!(f, "{server} cannot continue an answer"),
            Fault::Lacks(kind) => write!(f, "{server} cannot keep its answers to a {kind}"),
            Fault::Unmatched(kind) => write!(f, "the answer of {server} does not match the {kind}"),
            Fault::NoProbabilities => write!(f, "{server} does not tell the probabilities of its tokens"),
            Fault::BrokeOff(why) => write!(f, "the answer of {server} broke off: {why}"),
        }
    }
}

/// Models on one line: the first dozen, then the number of the others.
pub fn listed(models: &[String]) -> String {
    let named = models.iter().take(MOST_NAMED).cloned().collect::<Vec<_>>().join(", ");
    match models.len().saturating_sub(MOST_NAMED) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}
