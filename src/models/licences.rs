//! models/licences.toml, compiled in: a licence's identifier → how open a model under it is.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

/// One licence.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Licence {
    title: String,
    /// The conditions for the user, on one line; `None` for licences approved by the Open Source Initiative.
    conditions: Option<String>,
}

/// How open a model is, judged by its licence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LicenceKind {
    /// The licence is approved by the Open Source Initiative.
    OpenSource,
    /// Open weights, whose use is subject to conditions.
    Conditions,
    /// The file names no licence, or one that fireside does not know.
    Unknown,
}

impl LicenceKind {
    pub fn name(self) -> &'static str {
        match self {
            LicenceKind::OpenSource => "open source",
            LicenceKind::Conditions => "conditions",
            LicenceKind::Unknown => "unknown",
        }
    }

    /// The full description.
    pub fn explained(self) -> &'static str {
        match self {
            LicenceKind::OpenSource => "open source (approved by the Open Source Initiative)",
            LicenceKind::Conditions => "open weights with conditions",
            LicenceKind::Unknown => "unknown",
        }
    }
}

/// The verdict on a licence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Openness {
    pub kind: LicenceKind,
    /// The licence's name, if there is one.
    pub licence: Option<String>,
    /// What it means for the user, on one line.
    pub meaning: String,
}

fn licences() -> &'static BTreeMap<String, Licence> {
    static LICENCES: OnceLock<BTreeMap<String, Licence>> = OnceLock::new();
    let text = include_str!("../../models/licences.toml");
    LICENCES.get_or_init(|| toml::from_str(text).expect("a test parses the licences"))
}

/// Judges a licence by its identifiers, the most precise first: SPDX's, or Hugging Face's if SPDX has none.
pub fn judge<'a>(identifiers: impl IntoIterator<Item = &'a str>) -> Openness {
    let mut named = None;
    for identifier in identifiers {
        let key = identifier.trim().to_lowercase().replace([' ', '_'], "-");
        let first = key.split("-or-").next().unwrap_or_default(); // the first of several alternatives
        let titled =
            || licences().values().find(|licence| licence.title.eq_ignore_ascii_case(identifier.trim()));
        if let Some(licence) = licences().get(&key).or_else(|| licences().get(first)).or_else(titled) {
            return licence.judged();
        }
        if !["", "other", "unknown", "none"].contains(&key.as_str()) {
            named.get_or_insert(identifier.trim());
        }
    }
    let meaning = match named {
        Some(_) => "fireside does not know this licence: read it before you rely on the model",
        None => "the file names no licence: check its source before you rely on it",
    };
    Openness { kind: LicenceKind::Unknown, licence: named.map(String::from), meaning: meaning.into() }
}

impl Licence {
    fn judged(&self) -> Openness {
        let (kind, meaning) = match &self.conditions {
            Some(conditions) => (LicenceKind::Conditions, conditions.clone()),
            None => (LicenceKind::OpenSource, "use it, change it and pass it on for any purpose".into()),
        };
        Openness { kind, licence: Some(self.title.clone()), meaning }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn licences_are_judged_by_any_of_their_names() {
        let kind = |names: &[&str]| judge(names.iter().copied()).kind;
        assert_eq!(kind(&["apache-2.0"]), LicenceKind::OpenSource);
        assert_eq!(kind(&["Apache-2.0"]), LicenceKind::OpenSource);
        assert_eq!(kind(&["MIT"]), LicenceKind::OpenSource);
        assert_eq!(kind(&["MIT License"]), LicenceKind::OpenSource);
        assert_eq!(kind(&["mit OR apache-2.0"]), LicenceKind::OpenSource);
        assert_eq!(kind(&["llama3.2"]), LicenceKind::Conditions);
        assert_eq!(kind(&["other", "Gemma"]), LicenceKind::Conditions);
        assert_eq!(kind(&["cc-by-nc-4.0"]), LicenceKind::Conditions);
        assert_eq!(kind(&["other"]), LicenceKind::Unknown);
        assert_eq!(kind(&[]), LicenceKind::Unknown);
        assert_eq!(judge(["My Own Licence"]).licence.as_deref(), Some("My Own Licence"));
        assert_eq!(judge(["other"]).licence, None);
    }

    #[test]
    fn every_licence_says_what_it_is() {
        for (name, licence) in licences() {
            assert_eq!(*name, name.to_lowercase(), "{name}");
            assert!(!licence.title.is_empty(), "{name}");
            let long = licence.conditions.as_ref().map_or(0, |c| c.chars().count());
            assert!(long <= 160 && licence.conditions.as_deref() != Some(""), "{name}");
        }
    }

    #[test]
    fn every_model_of_the_catalogue_has_a_licence_known_here() {
        for (name, entry) in crate::models::catalogue::catalogue() {
            assert_ne!(
                judge([entry.licence.as_str()]).kind,
                LicenceKind::Unknown,
                "{name}: {}",
                entry.licence
            );
        }
    }
}
