//! models/catalog.toml, compiled in: short names of models and what their authors recommend.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use serde::Deserialize;

/// One model of the catalogue.
#[derive(Debug, Deserialize)]
pub struct CatalogEntry {
    pub title: String,
    /// What people know it as.
    pub family: String,
    pub repository: String,
    /// Name of the GGUF file.
    pub file: String,
    /// SPDX's identifier, or Hugging Face's where there is none.
    pub licence: String,
    /// Bytes of the file.
    pub size: u64,
    pub sha256: String,
    /// Recommended settings by their names.
    #[serde(default)]
    pub sampling: BTreeMap<String, toml::Value>,
    /// Too small to be useful: made for trying the program out.
    #[serde(default)]
    pub demonstration: bool,
    /// The Python package that carries the file, as pip takes it, where the repository does not.
    pub package: Option<String>,
}

/// The whole catalogue by short name.
pub fn catalog() -> &'static BTreeMap<String, CatalogEntry> {
    static CATALOG: OnceLock<BTreeMap<String, CatalogEntry>> = OnceLock::new();
    let text = include_str!("../../models/catalog.toml");
    CATALOG.get_or_init(|| toml::from_str(text).expect("a test reads the catalogue"))
}

/// The model to try the program out with, by its short name.
pub fn demonstration() -> (&'static str, &'static CatalogEntry) {
    let found = catalog().iter().find(|(_, entry)| entry.demonstration);
    found.map(|(name, entry)| (name.as_str(), entry)).expect("a test reads the catalogue")
}

/// The entry for a file, told by its name.
pub fn entry_for_file(file: &str) -> Option<&'static CatalogEntry> {
    catalog().values().find(|entry| entry.file.eq_ignore_ascii_case(file))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::settings::Settings;
    use crate::settings::setting;

    #[test]
    fn every_entry_is_complete_and_its_advice_is_valid() {
        for (name, entry) in catalog() {
            assert_eq!(entry.sha256.len(), 64, "{name}");
            assert!(entry.size > 0 && entry.file.ends_with(".gguf"), "{name}");
            for (key, value) in &entry.sampling {
                let row = setting(key).unwrap_or_else(|| panic!("{name}: {key} is no setting"));
                (row.set)(&mut Settings::default(), &value.to_string()).unwrap();
            }
        }
    }
}
