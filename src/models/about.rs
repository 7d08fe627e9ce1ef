//! A model's header → the facts that lists show; and all models on this machine with their facts.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::memory::{MemoryFit, Needs, fit};
use super::{Error, entry_of, has_template, places};
use crate::chat::settings::CacheType;
use crate::gguf::{self, Header, Refusal};
use crate::model_state::ModelState;
use crate::models::library::{self, ModelFile};
use crate::models::licences::{Openness, judge};
use crate::settings::Config;

/// The facts, as model_state.rs stores them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct About {
    /// `general.architecture`.
    pub family: String,
    /// Number of elements in all tensors.
    pub parameters: u64,
    /// llama.cpp's name for the quantisation mix: `Q4_K_M`.
    pub quantisation: String,
    /// The context that the model was trained for, in tokens.
    pub context: Option<u32>,
    /// Bytes of the weights, and of the KV cache per token with 16-bit elements.
    pub weights: u64,
    pub kv_per_token: f64,
    /// The licence's identifiers, the most precise first.
    pub licences: Vec<String>,
    /// Whether the file has a chat template.
    pub chats: bool,
    /// Why the model cannot be used.
    pub problem: Option<String>,
    /// The file is valid but not a language model.
    pub other_kind: bool,
}

impl About {
    /// The facts of the file at `path`, or the reason why it cannot be used.
    pub fn read(path: &Path) -> About {
        match gguf::read(path).and_then(|header| gguf::check(&header).map(|()| header)) {
            Ok(header) => About::of(&header),
            Err(refusal) => About {
                other_kind: matches!(refusal, Refusal::NotChat(_)),
                problem: Some(refusal.to_string()),
                ..About::default()
            },
        }
    }

    pub fn of(header: &Header) -> About {
        let needs = Needs::of(header, CacheType::F16, CacheType::F16);
        About {
            family: header.architecture().unwrap_or_default().to_string(),
            parameters: parameters(header),
            quantisation: quantisation(header),
            context: gguf::memory::trained_context(header),
            weights: needs.weights,
            kv_per_token: needs.per_token,
            licences: licences(header),
            chats: has_template(header),
            problem: None,
            other_kind: false,
        }
    }

    pub fn fit(&self, available: u64) -> MemoryFit {
        fit(Needs { weights: self.weights, per_token: self.kv_per_token }, self.context, available)
    }

    pub fn openness(&self) -> Openness {
        judge(self.licences.iter().map(String::as_str))
    }
}

/// The licences that the file names, then the one in the catalogue.
fn licences(header: &Header) -> Vec<String> {
    let own = ["general.license", "general.license.name"].iter().filter_map(|key| header.str(key));
    own.chain(entry_of(&header.path).map(|entry| entry.licence.as_str())).map(String::from).collect()
}

/// Number of elements in all tensors of all parts; an unreadable part counts as empty.
fn parameters(header: &Header) -> u64 {
    let of = |header: &Header| -> u64 { header.tensors.iter().map(|t| t.dims.iter().product::<u64>()).sum() };
    let others = gguf::parts(header);
    let others = others.iter().filter(|part| **part != header.path);
    of(header) + others.filter_map(|part| gguf::read(part).ok()).map(|part| of(&part)).sum::<u64>()
}

/// The file's own name for its quantisation, otherwise the type that makes up most of its bytes.
fn quantisation(header: &Header) -> String {
    let named = header.uint("general.file_type").and_then(gguf::file_type_name);
    let mut bytes: BTreeMap<u32, u64> = BTreeMap::new();
    header.tensors.iter().for_each(|tensor| *bytes.entry(tensor.kind).or_default() += tensor.bytes);
    let most = bytes.into_iter().max_by_key(|(_, bytes)| *bytes).map(|(kind, _)| gguf::type_name(kind));
    named.map_or_else(|| most.unwrap_or("none").to_uppercase(), String::from)
}

/// A number of parameters for people: `135M`, `7.6B`.
pub fn count(parameters: u64) -> String {
    let scaled = |unit: f64| {
        let n = parameters as f64 / unit;
        if n < 9.95 { format!("{n:.1}") } else { format!("{n:.0}") }
    };
    match parameters {
        0..1_000 => parameters.to_string(),
        1_000..1_000_000 => scaled(1e3) + "K",
        1_000_000..1_000_000_000 => scaled(1e6) + "M",
        _ => scaled(1e9) + "B",
    }
}

/// The error when no model is set and these are there.
pub fn unnamed(config: &Config, models: &[(ModelFile, About)]) -> Error {
    let mut names: Vec<String> = models.iter().map(|(model, _)| model.name.clone()).collect();
    match names.len() {
        0 => Error::NoModels {
            folder: config.paths.as_ref().map(|paths| paths.models.clone()),
            offline: config.settings().offline,
        },
        1 => Error::OneUnnamed(names.remove(0)),
        _ => Error::SeveralUnnamed(names),
    }
}

/// Every model on this machine with its facts. Reads only new and changed headers.
pub fn all(config: &Config) -> Vec<(ModelFile, About)> {
    let models = library::list(&places(config));
    let paths = config.paths.as_ref().filter(|_| !config.settings().incognito);
    let state = ModelState::at(paths.map(|paths| paths.model_state.clone()));
    let by = concat!("fireside ", env!("CARGO_PKG_VERSION"), " 1");
    let files = models.iter().map(|model| (model.path.as_path(), model.size, model.modified));
    let abouts = state.header_facts(by, files, About::read);
    models.into_iter().zip(abouts).collect()
}

#[cfg(test)]
mod tests {
    use super::count;

    #[test]
    fn numbers_for_people() {
        assert_eq!(
            [999, 30_300, 134_515_008, 999_999_999, 1_235_814_400, 7_620_000_000, 116_830_000_000].map(count),
            ["999", "30K", "135M", "1000M", "1.2B", "7.6B", "117B"]
        );
    }
}
