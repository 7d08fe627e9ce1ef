//! The variables `FIRESIDE_…` → values of settings. An empty variable counts as unset; an unknown one is
//! reported.

use super::assignment::{Assignment, Source, Wrong, perhaps};
use super::collected::Collected;
use super::setting::{Setting, variable};
use super::table::SETTINGS;
use crate::chat::settings::renamed;
use crate::suggest::nearest;

const OURS: &str = "FIRESIDE_";
/// Variables that are not settings: the models folder, secrets of servers and workers, shell completion, those
/// of `cargo run`.
const OTHERS: &[&str] = &["MODELS", "WORKER_TOKEN", "API_KEY", "COMPLETE", "LLAMA_CPP", "LLAMA_CPP_BUILD"];
/// Prefixes of more of them: keys of servers, and what is for tests.
const PREFIXES: &[&str] = &["API_KEY_", "TEST_"];

pub(super) fn read(found: &mut Collected) {
    let named = std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value)));
    let mut set: Vec<_> = named.filter(|(name, value)| name.starts_with(OURS) && !value.is_empty()).collect();
    set.sort();
    for (name, value) in set {
        let own = &name[OURS.len()..];
        let row = SETTINGS.iter().find(|row| row.variables().any(|variable| variable == name));
        let mut refuse = |what, harmless| {
            found.wrong.push(Wrong { source: Source::Environment, what, harmless });
        };
        match (row, value.into_string()) {
            (Some(row), Ok(value)) => {
                found.add(Assignment::new(row, &value, Source::Environment).at(&name), &name);
            }
            (Some(_), Err(_)) => refuse(format!("{name} is not UTF-8 text"), false),
            (None, _) if OTHERS.contains(&own) || PREFIXES.iter().any(|start| own.starts_with(start)) => {}
            (None, _) if let Some(new) = renamed(&own.to_lowercase()) => {
                refuse(format!("{name} is now {}", variable(new)), false);
            }
            (None, _) => refuse(format!("{name} is not a setting{}", perhaps(meant(own))), true),
        }
    }
}

/// The variable that the user probably meant; `typed` lacks the prefix `FIRESIDE_`.
fn meant(typed: &str) -> Option<String> {
    let names = SETTINGS.iter().flat_map(Setting::variables);
    let names: Vec<String> = names.chain([format!("{OURS}MODELS")]).collect();
    let close = nearest(typed, names.iter().map(|name| &name[OURS.len()..]))?;
    Some(format!("{OURS}{close}"))
}
