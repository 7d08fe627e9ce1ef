//! A list of keys and tensors → the bytes of a GGUF file, for this folder's tests.

use super::Tensor;
use super::write::{Metadata, VERSION, header};

/// A file under construction. Starts empty, with version 3.
#[derive(Clone)]
pub(crate) struct Sample {
    version: u32,
    metadata: Metadata,
    tensors: Vec<SampleTensor>,
}

#[derive(Clone)]
pub(crate) struct SampleTensor {
    pub name: String,
    pub dims: Vec<u64>,
    pub kind: u32,
    pub offset: u64,
    pub data: Vec<u8>,
}

impl Default for Sample {
    fn default() -> Sample {
        Sample { version: VERSION, metadata: Metadata::default(), tensors: Vec::new() }
    }
}

impl Sample {
    pub(crate) fn version(self, version: u32) -> Sample {
        Sample { version, ..self }
    }

    fn with(self, add: impl FnOnce(Metadata) -> Metadata) -> Sample {
        Sample { metadata: add(self.metadata), ..self }
    }

    /// A key with its value given as type number and raw bytes.
    pub(crate) fn raw(self, key: &str, kind: u32, value: &[u8]) -> Sample {
        self.with(|metadata| metadata.raw(key, kind, value))
    }

    pub(crate) fn u32(self, key: &str, value: u32) -> Sample {
        self.with(|metadata| metadata.u32(key, value))
    }

    pub(crate) fn i32(self, key: &str, value: i32) -> Sample {
        self.raw(key, 5, &value.to_le_bytes())
    }

    pub(crate) fn f32(self, key: &str, value: f32) -> Sample {
        self.with(|metadata| metadata.f32(key, value))
    }

    pub(crate) fn bool(self, key: &str, value: bool) -> Sample {
        self.with(|metadata| metadata.bool(key, value))
    }

    pub(crate) fn u16(self, key: &str, value: u16) -> Sample {
        self.raw(key, 2, &value.to_le_bytes())
    }

    pub(crate) fn text(self, key: &str, value: &str) -> Sample {
        self.with(|metadata| metadata.text(key, value))
    }

    pub(crate) fn texts(self, key: &str, values: &[&str]) -> Sample {
        self.with(|metadata| metadata.texts(key, values))
    }

    pub(crate) fn i32s(self, key: &str, values: &[i32]) -> Sample {
        self.with(|metadata| metadata.i32s(key, values))
    }

    pub(crate) fn f32s(self, key: &str, values: &[f32]) -> Sample {
        let items: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.array(key, 6, values.len() as u64, &items)
    }

    pub(crate) fn array(self, key: &str, element: u32, len: u64, items: &[u8]) -> Sample {
        self.with(|metadata| metadata.array(key, element, len, items))
    }

    /// A tensor of f32 zeros, placed after the others.
    pub(crate) fn tensor(self, name: &str, dims: &[u64]) -> Sample {
        let bytes = dims.iter().product::<u64>() as usize * 4;
        let offset = self.tensors.last().map_or(0, |t| (t.offset + t.data.len() as u64).next_multiple_of(32));
        self.record(SampleTensor {
            name: name.into(),
            dims: dims.into(),
            kind: 0,
            offset,
            data: vec![0; bytes],
        })
    }

    /// A tensor with an arbitrary record.
    pub(crate) fn record(mut self, record: SampleTensor) -> Sample {
        self.tensors.push(record);
        self
    }

    /// The file, its data aligned to 32 bytes.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let record = |t: &SampleTensor| Tensor {
            name: t.name.clone(),
            dims: t.dims.clone(),
            kind: t.kind,
            offset: t.offset,
            bytes: t.data.len() as u64,
        };
        let mut out =
            header(self.version, &self.metadata, &self.tensors.iter().map(record).collect::<Vec<_>>());
        for t in &self.tensors {
            out.resize(out.len().next_multiple_of(32), 0);
            out.extend(&t.data);
        }
        out
    }
}
