//! Converts a folder with a checkpoint into a GGUF file, for the families that llama.cpp's own converter does
//! not handle.
//!
//! The files in order: `config.rs` (which model), `plan.rs` (its tensors, pure), `tokenizer.rs`,
//! `checkpoint.rs` (safetensors), `encode.rs` (element types). Only a few rows of a tensor are in memory.

mod checkpoint;
mod config;
mod encode;
mod error;
mod plan;
mod tokenizer;

use std::io::Write;
use std::path::Path;

pub use encode::Type;
pub use error::Error;

use crate::gguf::memory::CONTEXT_REASON;
use crate::gguf::write::{GgufWriter, Metadata, placed};
use checkpoint::{CheckpointTensors, StoredTensor};
use config::CheckpointConfig;
use error::refuse;
use plan::{Planned, TensorChange, TensorPart};

/// Numbers to read at once; more only if the rows of a head must stay together.
const PIECE: u64 = 1 << 20;

/// A checkpoint that can be converted: everything but the weights themselves has been checked.
pub struct Conversion {
    config: CheckpointConfig,
    checkpoint: CheckpointTensors,
    tensors: Vec<Planned>,
    metadata: Metadata,
    kind: Type,
}

impl Conversion {
    /// Reads and checks everything but the weights in `folder`. `kind`: the type of the large tensors;
    /// `None`: bf16 if they are stored as bf16, otherwise f16.
    pub fn plan(folder: &Path, kind: Option<Type>) -> Result<Conversion, Error> {
        if !folder.is_dir() {
            return Err(refuse(if folder.exists() {
                "it is not a folder"
            } else {
                "there is no such folder"
            }));
        }
        let text = text_of(folder, "config.json")?.ok_or_else(|| refuse("there is no config.json in it"))?;
        let config = CheckpointConfig::read(&text)?;
        let checkpoint = CheckpointTensors::open(folder)?;
        let tensors = plan::tensors(&config);
        compare(&config, &tensors, &checkpoint)?;
        let brain = checkpoint.get("wte.weight").is_some_and(|table| table.dtype == encode::BRAIN);
        let kind = kind.unwrap_or(if brain { Type::Bf16 } else { Type::F16 });
        let metadata = described(folder, plan::metadata(&config), &config)?
            .u32("general.file_type", kind.file_type())
            .u32("general.quantization_version", 2);
        let metadata = tokenizer::metadata(folder, &config, metadata)?;
        Ok(Conversion { config, checkpoint, tensors, metadata, kind })
    }

    pub fn kind(&self) -> Type {
        self.kind
    }

    /// The name of the family, as in `GPT-J`.
    pub fn family(&self) -> &'static str {
        self.config.family.name()
    }

    /// The file's context length, in tokens.
    pub fn context(&self) -> u64 {
        plan::context(&self.config)
    }

    /// Why that is shorter than the training context, if it is.
    pub fn reason(&self) -> Option<String> {
        plan::reason(&self.config)
    }

    /// Writes the file. `go_on` gets the numbers done and the total, and decides whether to continue.
    pub fn write(&self, out: impl Write, go_on: &mut dyn FnMut(u64, u64) -> bool) -> Result<(), Error> {
        let types: Vec<Type> = self.tensors.iter().map(|tensor| self.stored_as(tensor)).collect();
        let records = self.tensors.iter().zip(&types);
        let records = placed(records.map(|(t, kind)| (t.name.clone(), t.dims.clone(), kind.number())));
        let total = self.tensors.iter().map(Planned::numbers).sum();
        let mut writer = GgufWriter::begin(out, &self.metadata, &records).map_err(Error::Write)?;
        let (mut done, mut encoded) = (0, Vec::new());
        for (tensor, kind) in self.tensors.iter().zip(types) {
            for part in &tensor.parts {
                self.each_piece(part, &mut |numbers| {
                    sound(&tensor.name, numbers, kind)?;
                    encode::encode(kind, numbers, &mut encoded);
                    writer.data(&encoded).map_err(Error::Write)?;
                    done += numbers.len() as u64;
                    if go_on(done, total) { Ok(()) } else { Err(Error::Interrupted) }
                })?;
            }
            writer.end_tensor().map_err(Error::Write)?;
        }
        writer.finish().map(drop).map_err(Error::Write)
    }

    fn stored_as(&self, tensor: &Planned) -> Type {
        match self.kind {
            _ if tensor.precise() => Type::F32,
            Type::Q8_0 if !tensor.dims[0].is_multiple_of(encode::BLOCK as u64) => Type::F16,
            kind => kind,
        }
    }

    /// Reads a part of a tensor, a few rows at a time, and applies the planned change.
    fn each_piece(
        &self,
        part: &TensorPart,
        take: &mut dyn FnMut(&[f32]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let (name, shape, change) = match part {
            TensorPart::Zeros(count) => return take(&vec![0.0; *count as usize]),
            TensorPart::StoredTensor { name, shape, change } => (name, shape, *change),
        };
        let stored = self.checkpoint.get(name).expect("compared with the plan");
        let size = encode::bytes_of(stored.dtype).expect("compared with the plan") as u64;
        let row = shape[1..].iter().product::<u64>();
        let rows = if let TensorChange::First(rows) = change { rows } else { shape[0] };
        let at_once =
            if let TensorChange::Halved { head, .. } = change { head } else { (PIECE / row).max(1) };
        let (mut bytes, mut numbers) = (Vec::new(), Vec::new());
        let mut first = 0;
        while first < rows {
            let count = at_once.min(rows - first);
            bytes.resize((count * row * size) as usize, 0);
            self.checkpoint.read(stored, first * row * size, &mut bytes)?;
            encode::decode(stored.dtype, &bytes, &mut numbers);
            match change {
                TensorChange::Scaled(factor) => {
                    numbers.iter_mut().for_each(|x| *x = (f64::from(*x) * factor) as f32)
                }
                TensorChange::Halved { rotated, .. } => halve(&mut numbers, row as usize, rotated as usize),
                TensorChange::None | TensorChange::First(_) => {}
            }
            take(&numbers)?;
            first += count;
        }
        Ok(())
    }
}

impl Planned {
    fn numbers(&self) -> u64 {
        self.dims.iter().product()
    }
}

/// Moves the even rows among the first `rotated` before the odd ones.
fn halve(numbers: &mut [f32], row: usize, rotated: usize) {
    let before = numbers[..rotated * row].to_vec();
    let order = (0..rotated).step_by(2).chain((1..rotated).step_by(2));
    for (to, from) in numbers.chunks_exact_mut(row).zip(order) {
        to.copy_from_slice(&before[from * row..(from + 1) * row]);
    }
}

/// Refuses NaN, infinities and numbers beyond the type's range.
fn sound(tensor: &str, numbers: &[f32], kind: Type) -> Result<(), Error> {
    let largest = encode::largest(kind);
    match numbers.iter().find(|x| !x.is_finite() || x.abs() > largest) {
        None => Ok(()),
        Some(x) if x.is_finite() => Err(Error::TooLarge { tensor: tensor.into(), number: *x, kind }),
        Some(_) => Err(refuse(format!("'{tensor}' has a value that is not a number (NaN, or an infinity)"))),
    }
}

/// Refuses a checkpoint that lacks a planned tensor, has one in another shape, or has others.
fn compare(
    config: &CheckpointConfig,
    tensors: &[Planned],
    checkpoint: &CheckpointTensors,
) -> Result<(), Error> {
    let family = config.family.name();
    let mut wanted = std::collections::HashSet::new();
    for part in tensors.iter().flat_map(|tensor| &tensor.parts) {
        let TensorPart::StoredTensor { name, shape, .. } = part else { continue };
        let Some(StoredTensor { dtype, shape: found, .. }) = checkpoint.get(name) else {
            return Err(refuse(format!("the tensor '{name}' of a {family} model is missing")));
        };
        if found != shape {
            return Err(refuse(format!("the tensor '{name}' is {}, not {}", spelled(found), spelled(shape))));
        }
        if encode::bytes_of(*dtype).is_none() {
            return Err(refuse(format!(
                "the tensor '{name}' is of the type {dtype:?}, which is not converted"
            )));
        }
        wanted.insert(name.as_str());
    }
    match checkpoint.names().find(|name| !wanted.contains(name) && !plan::ignorable(config, name)) {
        Some(extra) => Err(refuse(format!("the tensor '{extra}' does not belong to a {family} model"))),
        None => Ok(()),
    }
}

fn spelled(shape: &[u64]) -> String {
    let sizes: Vec<String> = shape.iter().map(u64::to_string).collect();
    if sizes.is_empty() { "a single number".into() } else { sizes.join(" x ") }
}

/// Adds the model's name, the licence from its README, and the reason for a shorter context.
fn described(folder: &Path, metadata: Metadata, config: &CheckpointConfig) -> Result<Metadata, Error> {
    let full = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    let name = full.file_name().map_or_else(|| config.family.name().into(), |name| name.to_string_lossy());
    let metadata = metadata.text("general.name", &name);
    let readme = text_of(folder, "README.md").ok().flatten().unwrap_or_default();
    let metadata = match licence(&readme) {
        Some(licence) => metadata.text("general.license", licence),
        None => metadata,
    };
    Ok(match plan::reason(config) {
        Some(reason) => metadata.text(CONTEXT_REASON, &reason),
        None => metadata,
    })
}

/// `license:` in a model card's front matter, the lines between `---` at its beginning.
fn licence(readme: &str) -> Option<&str> {
    let (front, _) = readme.strip_prefix("---\n")?.split_once("\n---")?;
    let value =
        front.lines().find_map(|line| line.strip_prefix("license:"))?.trim().trim_matches(['"', '\'']);
    Some(value).filter(|value| !value.is_empty())
}

/// The text of a file of the checkpoint, if it exists.
fn text_of(folder: &Path, name: &str) -> Result<Option<String>, Error> {
    match std::fs::read_to_string(folder.join(name)) {
        Ok(text) => Ok(Some(text.trim_start_matches('\u{feff}').into())), // a byte order mark
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::Read { name: format!("its {name}"), source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_even_rows_of_what_is_rotated_come_first() {
        let mut numbers: Vec<f32> = (0..12).map(|n| n as f32).collect();
        halve(&mut numbers, 2, 4);
        assert_eq!(numbers, [0.0, 1.0, 4.0, 5.0, 2.0, 3.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0]);
    }

    #[test]
    fn what_is_no_number_or_too_large_is_refused() {
        assert!(sound("t", &[1.0, f32::NAN], Type::F32).unwrap_err().to_string().contains("not a number"));
        assert!(sound("t", &[70_000.0], Type::F16).unwrap_err().to_string().contains("too large for f16"));
        assert!(sound("t", &[70_000.0], Type::Bf16).is_ok());
    }

    #[test]
    fn a_model_card_names_the_licence() {
        assert_eq!(licence("---\nlanguage: en\nlicense: apache-2.0\n---\n# x"), Some("apache-2.0"));
        assert_eq!(licence("# license: mit"), None);
    }
}
