//! A folder → the tensors in its safetensors files, read piece by piece.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use safetensors::Dtype;
use safetensors::tensor::Metadata;
use serde_json::Value;

use super::error::{Error, refuse};
use super::text_of;
use crate::files;
use crate::units::count;

/// Longest header that the format allows, in bytes.
const LONGEST_HEADER: u64 = 100_000_000;
const INDEX: &str = "model.safetensors.index.json";
const WHOLE: &str = "model.safetensors";
/// The prefix of all tensor names but the output layer's. Checkpoints saved without that layer lack it.
const PREFIX: &str = "transformer.";

/// The tensors of a checkpoint, by name.
pub(super) struct CheckpointTensors {
    files: Vec<(String, File)>,
    tensors: BTreeMap<String, StoredTensor>,
}

/// The place of a tensor in the files.
#[derive(Debug, Clone)]
pub(super) struct StoredTensor {
    file: usize,
    pub dtype: Dtype,
    pub shape: Vec<u64>,
    start: u64,
}

impl CheckpointTensors {
    pub(super) fn open(folder: &Path) -> Result<CheckpointTensors, Error> {
        let mut checkpoint = CheckpointTensors { files: Vec::new(), tensors: BTreeMap::new() };
        for name in files(folder)? {
            checkpoint.add(&name, &folder.join(&name))?;
        }
        Ok(checkpoint)
    }

    /// Reads the header of one file.
    fn add(&mut self, name: &str, path: &Path) -> Result<(), Error> {
        let cannot = |source: io::Error| Error::Read { name: name.into(), source };
        let file = files::regular(path).map_err(cannot)?;
        let size = file.metadata().map_err(cannot)?.len();
        let too_short = |needed: u64| Error::CutShort { name: name.into(), size, needed };
        let mut length = [0; 8];
        if size < 8 {
            return Err(too_short(8));
        }
        file.read_exact_at(&mut length, 0).map_err(cannot)?;
        let length = u64::from_le_bytes(length);
        if length > LONGEST_HEADER {
            return Err(refuse(format!("{name} is not a safetensors file")));
        }
        if 8 + length > size {
            return Err(too_short(8 + length));
        }
        let mut header = vec![0; length as usize];
        file.read_exact_at(&mut header, 8).map_err(cannot)?;
        let header: Metadata = serde_json::from_slice(&header)
            .map_err(|e| refuse(format!("{name} has a damaged header: {}", first_line(&e.to_string()))))?;
        let end = 8 + length + header.data_len() as u64;
        if end > size {
            return Err(too_short(end));
        }
        if end < size {
            return Err(refuse(format!("{name} has {} that belong to no tensor", count(size - end, "byte"))));
        }
        let number = self.files.len();
        for (tensor, info) in header.tensors() {
            let stored = StoredTensor {
                file: number,
                dtype: info.dtype,
                shape: info.shape.iter().map(|n| *n as u64).collect(),
                start: 8 + length + info.data_offsets.0 as u64,
            };
            let tensor = tensor.strip_prefix(PREFIX).unwrap_or(&tensor).to_owned();
            if self.tensors.insert(tensor.clone(), stored).is_some() {
                return Err(refuse(format!("it has the tensor '{tensor}' twice")));
            }
        }
        self.files.push((name.to_owned(), file));
        Ok(())
    }

    pub(super) fn get(&self, name: &str) -> Option<&StoredTensor> {
        self.tensors.get(name)
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Fills `bytes` from the tensor's data, starting at `offset` bytes.
    pub(super) fn read(&self, stored: &StoredTensor, offset: u64, bytes: &mut [u8]) -> Result<(), Error> {
        let (name, file) = &self.files[stored.file];
        file.read_exact_at(bytes, stored.start + offset)
            .map_err(|source| Error::Read { name: name.clone(), source })
    }
}

/// The names of a checkpoint's safetensors files: a single one, or those in the index.
fn files(folder: &Path) -> Result<Vec<String>, Error> {
    if let Some(index) = text_of(folder, INDEX)? {
        let index: Value = serde_json::from_str(&index).unwrap_or_default();
        let map = index.get("weight_map").and_then(Value::as_object);
        let names: BTreeSet<&str> = map.into_iter().flatten().filter_map(|(_, file)| file.as_str()).collect();
        if names.is_empty() {
            return Err(refuse(format!("{INDEX} names no files")));
        }
        if let Some(missing) = names.iter().find(|name| name.contains('/') || !folder.join(name).is_file()) {
            return Err(refuse(format!(
                "{missing} is missing, one of the {} files that hold it",
                names.len()
            )));
        }
        return Ok(names.into_iter().map(String::from).collect());
    }
    if folder.join(WHOLE).is_file() {
        return Ok(vec![WHOLE.to_owned()]);
    }
    Err(without_safetensors(folder))
}

fn without_safetensors(folder: &Path) -> Error {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    let pickle = paths.iter().find(|path| {
        path.extension().is_some_and(|end| ["bin", "pt", "pth", "ckpt"].iter().any(|pickle| end == *pickle))
    });
    match pickle.and_then(|path| path.file_name()) {
        Some(name) => Error::Pickle(name.to_string_lossy().into()),
        None => refuse(format!("there is no {WHOLE} in it")),
    }
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}
