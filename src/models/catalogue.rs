//! models/catalogue.toml, compiled in: short names of models and their authors' recommended settings.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use serde::Deserialize;

/// One model of the catalogue.
#[derive(Debug, Deserialize)]
pub struct CatalogueEntry {
    pub title: String,
    /// The common name of the model family.
    pub family: String,
    pub repository: String,
    /// The name of the GGUF file.
    pub file: String,
    /// The SPDX identifier, or Hugging Face's if there is none.
    pub licence: String,
    /// Bytes of the file.
    pub size: u64,
    pub sha256: String,
    /// Recommended settings by name.
    #[serde(default)]
    pub sampling: BTreeMap<String, toml::Value>,
    /// Too small to be useful: only for trying out fireside.
    #[serde(default)]
    pub demonstration: bool,
    /// The Python package that contains the file, as pip takes it, if the repository does not.
    pub package: Option<String>,
}

/// The whole catalogue, by short name.
pub fn catalogue() -> &'static BTreeMap<String, CatalogueEntry> {
    static CATALOGUE: OnceLock<BTreeMap<String, CatalogueEntry>> = OnceLock::new();
    let text = include_str!("../../models/catalogue.toml");
    CATALOGUE.get_or_init(|| toml::from_str(text).expect("a test parses the catalogue"))
}

/// The model for trying out fireside, with its short name.
pub fn demonstration() -> (&'static str, &'static CatalogueEntry) {
    let found = catalogue().iter().find(|(_, entry)| entry.demonstration);
    found.map(|(name, entry)| (name.as_str(), entry)).expect("a test parses the catalogue")
}

/// The entry for a file, by the file's name.
pub fn entry_for_file(file: &str) -> Option<&'static CatalogueEntry> {
    catalogue().values().find(|entry| entry.file.eq_ignore_ascii_case(file))
}

/// A model of the catalogue that is smaller than another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Smaller {
    /// Its short name.
    pub name: &'static str,
    /// Whether it is another quantisation of the same model.
    pub same: bool,
}

/// The largest model smaller than `size` bytes that fits into `memory` bytes; another quantisation of the model called
/// `title` is preferred.
pub fn smaller(title: Option<&str>, size: u64, memory: u64) -> Option<Smaller> {
    let name = |title: &str| title.split(" (").next().unwrap_or_default().to_lowercase();
    let same = |entry: &CatalogueEntry| title.is_some_and(|title| name(title) == name(&entry.title));
    let fits = |entry: &CatalogueEntry| {
        !entry.demonstration && entry.size < size && entry.size + entry.size / 8 + COMPUTING < memory
    };
    let entries = catalogue().iter().filter(|(_, entry)| fits(entry));
    let best = entries.max_by_key(|(_, entry)| (same(entry), entry.size));
    best.map(|(name, entry)| Smaller { name, same: same(entry) })
}

/// Memory that a model needs besides its weights, roughly, in bytes.
const COMPUTING: u64 = 256 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::settings::Settings;
    use crate::settings::setting;

    #[test]
    fn what_is_smaller_is_the_same_model_if_it_can_be() {
        let of = |title, memory: u64| smaller(title, 16 << 30, memory << 30);
        let quantised = of(Some("Llama 3.1 8B Instruct"), 8);
        assert_eq!(quantised, Some(Smaller { name: "llama-3.1-8b", same: true }));
        assert_eq!(
            of(Some("Llama 3.1 8B Instruct"), 4).map(|smaller| smaller.same),
            Some(false),
            "too large"
        );
        assert_eq!(of(None, 8).map(|smaller| smaller.same), Some(false));
        assert_eq!(of(None, 0), None);
    }

    #[test]
    fn every_entry_is_complete_and_its_advice_is_valid() {
        for (name, entry) in catalogue() {
            assert_eq!(entry.sha256.len(), 64, "{name}");
            assert!(entry.size > 0 && entry.file.ends_with(".gguf"), "{name}");
            for (key, value) in &entry.sampling {
                let row = setting(key).unwrap_or_else(|| panic!("{name}: {key} is no setting"));
                (row.set)(&mut Settings::default(), &value.to_string()).unwrap();
            }
        }
    }
}
