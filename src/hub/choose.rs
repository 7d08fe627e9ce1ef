//! The file names in a repository and the wanted quantisation or file → the model's files.
//!
//! Pure. A model in several files counts as one; projectors, importance matrices and adapters never count as
//! models.

use std::collections::BTreeMap;

use super::reference::{Which, is_gguf};
use crate::suggest::nearest;

/// Quantisations to prefer if none is named, best first: small and good before large.
const USUAL: &[&str] = &[
    "Q4_K_M",
    "Q4_0",
    "Q4_K_S",
    "Q4_K_XL",
    "Q4_1",
    "Q5_K_M",
    "Q5_K_S",
    "Q6_K",
    "Q8_0",
    "MXFP4",
    "MXFP4_MOE",
    "IQ4_NL",
    "IQ4_XS",
    "Q3_K_M",
    "Q3_K_L",
    "BF16",
    "F16",
    "F32",
];

/// A file name and size from a repository's listing, or a model and the size of all its files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListingEntry {
    pub name: String,
    /// In bytes.
    pub size: u64,
}

/// A model that a repository offers, in one file or several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Offer {
    /// In the order of the parts; never empty.
    pub(super) files: Vec<ListingEntry>,
    /// The number of files in a complete model.
    parts: usize,
}

impl Offer {
    pub(super) fn name(&self) -> &str {
        &self.files[0].name
    }

    pub(super) fn size(&self) -> u64 {
        self.files.iter().map(|file| file.size).sum()
    }

    pub(super) fn complete(&self) -> bool {
        self.files.len() == self.parts
    }

    /// Whether its name contains `quantisation` as a whole word.
    fn is(&self, quantisation: &str) -> bool {
        has_word(self.name(), quantisation)
    }

    fn words(&self) -> usize {
        self.name().split(['-', '.', '_', '/']).count()
    }
}

/// Why no model was chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unclear {
    /// No .gguf file that is a model.
    Nothing,
    /// No such quantisation or file; `close` is the best suggestion.
    Missing { wanted: String, close: Option<String> },
    /// Several models match.
    Several(Vec<Offer>),
}

/// The models among a repository's files, smallest first.
pub(super) fn offers(files: &[ListingEntry]) -> Vec<Offer> {
    let mut offers: BTreeMap<(String, usize), Offer> = BTreeMap::new();
    let mut sorted: Vec<&ListingEntry> = files.iter().filter(|file| is_gguf(&file.name)).collect();
    sorted.sort_by(|a, b| a.name.cmp(&b.name));
    for file in sorted {
        let (model, parts) =
            split(&file.name).map_or((file.name.clone(), 1), |(stem, _, parts)| (stem, parts));
        let offer = offers.entry((model, parts)).or_insert_with(|| Offer { files: Vec::new(), parts });
        offer.files.push(file.clone());
    }
    let mut offers: Vec<Offer> = offers.into_values().collect();
    offers.sort_by_key(Offer::size);
    offers
}

/// Chooses one of a repository's models.
pub(super) fn choose(files: &[ListingEntry], which: &Which) -> Result<Offer, Unclear> {
    let all = offers(files);
    let models: Vec<Offer> = all.iter().filter(|offer| is_model(offer.name())).cloned().collect();
    match which {
        Which::File(wanted) => by_name(all, wanted),
        Which::Quantisation(wanted) => {
            let fitting: Vec<Offer> = models.iter().filter(|offer| offer.is(wanted)).cloned().collect();
            let missing = || Unclear::Missing { wanted: wanted.clone(), close: close(&models, wanted) };
            plainest(fitting).unwrap_or_else(|| Err(missing()))
        }
        Which::Usual => {
            let fitting = |quant: &&str| models.iter().filter(|offer| offer.is(quant)).cloned().collect();
            let usual = USUAL.iter().find_map(|quant| plainest(fitting(quant)));
            usual.unwrap_or_else(|| match models.len() {
                0 => Err(Unclear::Nothing),
                1 => Ok(models[0].clone()),
                _ => Err(Unclear::Several(models.clone())),
            })
        }
    }
}

/// The only model, or the one with the fewest words in its name: the others are variants. `None` for an empty
/// list.
fn plainest(mut fitting: Vec<Offer>) -> Option<Result<Offer, Unclear>> {
    fitting.sort_by_key(Offer::words);
    match &fitting[..] {
        [] => None,
        [only] => Some(Ok(only.clone())),
        [first, second, ..] if first.words() < second.words() => Some(Ok(first.clone())),
        _ => Some(Err(Unclear::Several(fitting))),
    }
}

fn by_name(offers: Vec<Offer>, wanted: &str) -> Result<Offer, Unclear> {
    let same = |name: &str| name.eq_ignore_ascii_case(wanted);
    let ends = |name: &str| name.rsplit('/').next().is_some_and(same);
    let found = offers.iter().find(|offer| offer.files.iter().any(|file| file.name == wanted));
    let found = found.or_else(|| offers.iter().find(|offer| offer.files.iter().any(|file| same(&file.name))));
    let found = found.or_else(|| offers.iter().find(|offer| offer.files.iter().any(|file| ends(&file.name))));
    let names = offers.iter().map(Offer::name);
    let missing =
        || Unclear::Missing { wanted: wanted.into(), close: nearest(wanted, names).map(String::from) };
    found.cloned().ok_or_else(missing)
}

/// The offered quantisation most similar to `wanted`.
fn close(models: &[Offer], wanted: &str) -> Option<String> {
    let offered = USUAL.iter().copied().filter(|quant| models.iter().any(|offer| offer.is(quant)));
    nearest(wanted, offered).map(String::from)
}

/// `path/model-00001-of-00003.gguf` → `path/model`, 1, 3.
pub(super) fn split(name: &str) -> Option<(String, usize, usize)> {
    let stem = name.get(..name.len().checked_sub(5)?).filter(|_| is_gguf(name))?;
    let (rest, parts) = stem.rsplit_once("-of-")?;
    let (model, part) = rest.rsplit_once('-')?;
    let number = |text: &str| (text.len() == 5).then(|| text.parse::<usize>().ok()).flatten();
    let (part, parts) = (number(part)?, number(parts)?);
    (1..=parts).contains(&part).then(|| (model.to_string(), part, parts))
}

/// Not a projector, an adapter or an importance matrix.
fn is_model(name: &str) -> bool {
    let file = name.rsplit('/').next().unwrap_or(name).to_ascii_lowercase();
    let quantised = USUAL.iter().any(|quant| has_word(&file, quant));
    !file.contains("mmproj") && !has_word(&file, "lora") && (quantised || !file.contains("imatrix"))
}

/// Whether `name` contains `word` as a whole word: `Q4_K` is no word of `Q4_K_M`, nor `Q4_0` of `IQ4_0`.
fn has_word(name: &str, word: &str) -> bool {
    let (name, word) = (name.to_ascii_lowercase(), word.to_ascii_lowercase());
    let alone = |(at, _): (usize, &str)| {
        let before = name[..at].chars().next_back().is_none_or(|c| !c.is_alphanumeric());
        let after = name[at + word.len()..].chars().next().is_none_or(|c| !c.is_alphanumeric() && c != '_');
        before && after
    };
    !word.is_empty() && name.match_indices(&word).any(alone)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(names: &[&str]) -> Vec<ListingEntry> {
        (1..).zip(names).map(|(n, name)| ListingEntry { name: name.to_string(), size: n * 100 }).collect()
    }

    fn chosen(names: &[&str], which: Which) -> String {
        choose(&files(names), &which)
            .map(|offer| offer.name().to_string())
            .unwrap_or_else(|e| format!("{e:?}"))
    }

    fn quant(text: &str) -> Which {
        Which::Quantisation(text.into())
    }

    const MANY: &[&str] = &[
        "README.md",
        "m-Q4_K_M.gguf",
        "m-Q4_K_S.gguf",
        "m-IQ4_XS.gguf",
        "m-Q8_0.gguf",
        "mmproj-m-Q8_0.gguf",
    ];

    #[test]
    fn a_quantisation_is_a_whole_word_in_any_case() {
        assert_eq!(chosen(MANY, quant("q8_0")), "m-Q8_0.gguf");
        assert_eq!(chosen(MANY, quant("q4_k_s")), "m-Q4_K_S.gguf");
        assert!(chosen(MANY, quant("Q4_K")).starts_with("Missing"));
        assert!(chosen(MANY, quant("Q4_XS")).starts_with("Missing"));
        assert_eq!(chosen(&["m_q8_0.gguf", "Q4_0/m.gguf"], quant("Q4_0")), "Q4_0/m.gguf");
        assert_eq!(chosen(&["m.mxfp4.gguf", "m.i1-Q4_0.gguf"], quant("mxfp4")), "m.mxfp4.gguf");
    }

    #[test]
    fn the_usual_quantisation_comes_in_order() {
        assert_eq!(chosen(MANY, Which::Usual), "m-Q4_K_M.gguf");
        assert_eq!(chosen(&["m-Q8_0.gguf", "m-Q4_0.gguf", "m-f16.gguf"], Which::Usual), "m-Q4_0.gguf");
        assert_eq!(chosen(&["ggml-model.gguf", "mmproj-x-f16.gguf"], Which::Usual), "ggml-model.gguf");
        assert!(chosen(&["a.gguf", "b.gguf"], Which::Usual).starts_with("Several"));
        assert!(chosen(&["a.bin", "lora-Q4_0.gguf", "m.imatrix.gguf"], Which::Usual).starts_with("Nothing"));
        assert_eq!(chosen(&["m-imatrix-Q4_0.gguf"], Which::Usual), "m-imatrix-Q4_0.gguf");
        assert_eq!(chosen(&["m-UD-Q4_K_M.gguf", "m-Q4_K_M.gguf"], Which::Usual), "m-Q4_K_M.gguf");
        assert!(chosen(&["a-Q4_K_M.gguf", "b-Q4_K_M.gguf"], Which::Usual).starts_with("Several"));
    }

    #[test]
    fn files_by_name_and_models_in_several_files() {
        let names = ["q/m-Q8_0-00002-of-00002.gguf", "q/m-Q8_0-00001-of-00002.gguf", "mmproj.gguf", "x.gguf"];
        let whole = choose(&files(&names), &quant("Q8_0")).unwrap();
        assert_eq!(
            (whole.name(), whole.size(), whole.complete()),
            ("q/m-Q8_0-00001-of-00002.gguf", 300, true)
        );
        let by_part = choose(&files(&names), &Which::File("m-Q8_0-00002-of-00002.gguf".into())).unwrap();
        assert_eq!(by_part, whole);
        assert_eq!(chosen(&names, Which::File("mmproj.gguf".into())), "mmproj.gguf");
        assert!(chosen(&names, Which::File("mmprj.gguf".into())).contains("Some(\"mmproj.gguf\")"));
        assert!(!choose(&files(&names[..1]), &quant("Q8_0")).unwrap().complete());
    }
}
