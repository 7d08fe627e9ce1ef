//! Metadata and a list of tensors → the bytes of a GGUF file: the inverse of `parse.rs`.
//!
//! Takes tensor data piece by piece in the order of the list, so that no whole tensor is ever in memory.

use std::io::{self, Write};

use super::{Tensor, element_type};

/// The format version to write.
pub(super) const VERSION: u32 = 3;
/// The alignment of tensors in bytes: the format's default.
const ALIGNMENT: u64 = 32;

/// Key-value pairs, packed as in the file.
#[derive(Debug, Clone, Default)]
pub struct Metadata {
    keys: u64,
    packed: Vec<u8>,
}

impl Metadata {
    /// A key with its value as a type number and bytes.
    pub(crate) fn raw(mut self, key: &str, kind: u32, value: &[u8]) -> Metadata {
        self.keys += 1;
        self.packed.extend(text(key));
        self.packed.extend(kind.to_le_bytes());
        self.packed.extend(value);
        self
    }

    pub fn u32(self, key: &str, value: u32) -> Metadata {
        self.raw(key, 4, &value.to_le_bytes())
    }

    pub fn f32(self, key: &str, value: f32) -> Metadata {
        self.raw(key, 6, &value.to_le_bytes())
    }

    pub fn bool(self, key: &str, value: bool) -> Metadata {
        self.raw(key, 7, &[u8::from(value)])
    }

    pub fn text(self, key: &str, value: &str) -> Metadata {
        self.raw(key, 8, &text(value))
    }

    pub fn texts<T: AsRef<str>>(self, key: &str, values: &[T]) -> Metadata {
        let items: Vec<u8> = values.iter().flat_map(|value| text(value.as_ref())).collect();
        self.array(key, 8, values.len() as u64, &items)
    }

    pub fn i32s(self, key: &str, values: &[i32]) -> Metadata {
        let items: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.array(key, 5, values.len() as u64, &items)
    }

    pub(crate) fn array(self, key: &str, element: u32, len: u64, items: &[u8]) -> Metadata {
        let value = [&element.to_le_bytes()[..], &len.to_le_bytes(), items].concat();
        self.raw(key, 9, &value)
    }
}

/// A text as its length and its bytes.
fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat()
}

/// Names, dimensions (the contiguous one first) and type numbers → the records of consecutive tensors.
pub fn placed(tensors: impl IntoIterator<Item = (String, Vec<u64>, u32)>) -> Vec<Tensor> {
    let mut offset = 0;
    let place = |(name, dims, kind): (String, Vec<u64>, u32)| {
        let element =
            element_type(kind).filter(|element| !element.removed()).expect("a type that is written");
        let bytes = dims.iter().product::<u64>() / element.block * element.bytes;
        let tensor = Tensor { name, dims, kind, offset, bytes };
        offset = (offset + bytes).next_multiple_of(ALIGNMENT);
        tensor
    };
    tensors.into_iter().map(place).collect()
}

/// Everything before the tensor data, including the padding.
pub(crate) fn header(version: u32, metadata: &Metadata, tensors: &[Tensor]) -> Vec<u8> {
    let mut out = b"GGUF".to_vec();
    out.extend(version.to_le_bytes());
    out.extend((tensors.len() as u64).to_le_bytes());
    out.extend(metadata.keys.to_le_bytes());
    out.extend(&metadata.packed);
    for tensor in tensors {
        out.extend(text(&tensor.name));
        out.extend((tensor.dims.len() as u32).to_le_bytes());
        out.extend(tensor.dims.iter().flat_map(|dim| dim.to_le_bytes()));
        out.extend(tensor.kind.to_le_bytes());
        out.extend(tensor.offset.to_le_bytes());
    }
    if !tensors.is_empty() {
        out.resize(out.len().next_multiple_of(ALIGNMENT as usize), 0);
    }
    out
}

/// A file being written: after the header come the tensors.
pub struct GgufWriter<W> {
    out: W,
    /// Bytes of tensor data so far.
    written: u64,
}

impl<W: Write> GgufWriter<W> {
    pub fn begin(mut out: W, metadata: &Metadata, tensors: &[Tensor]) -> io::Result<GgufWriter<W>> {
        out.write_all(&header(VERSION, metadata, tensors))?;
        Ok(GgufWriter { out, written: 0 })
    }

    /// Writes the next bytes of the current tensor.
    pub fn data(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.written += bytes.len() as u64;
        self.out.write_all(bytes)
    }

    /// Ends the current tensor.
    pub fn end_tensor(&mut self) -> io::Result<()> {
        let padding = self.written.next_multiple_of(ALIGNMENT) - self.written;
        self.data(&vec![0; padding as usize])
    }

    /// Ends the file.
    pub fn finish(mut self) -> io::Result<W> {
        self.out.flush()?;
        Ok(self.out)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::parse, *};

    #[test]
    fn what_is_written_can_be_read() {
        let metadata = Metadata::default()
            .text("general.architecture", "gpt2")
            .u32("gpt2.block_count", 1)
            .f32("gpt2.attention.layer_norm_epsilon", 0.5)
            .bool("yes", true)
            .texts("words", &["a", ""])
            .i32s("kinds", &[1, -1]);
        let wanted = [("a", vec![64, 3], 8), ("b", vec![5], 0), ("c", vec![3, 2], 1)];
        let tensors = placed(wanted.map(|(name, dims, kind)| (name.into(), dims, kind)));
        let mut writer = GgufWriter::begin(Vec::new(), &metadata, &tensors).expect("memory is writable");
        for (number, tensor) in (1..).zip(&tensors) {
            let data = vec![number; tensor.bytes as usize];
            writer.data(&data[..3]).and_then(|()| writer.data(&data[3..])).expect("memory is writable");
            writer.end_tensor().expect("memory is writable");
        }
        let bytes = writer.finish().expect("memory is writable");
        let read = parse::parse(&bytes[..], bytes.len() as u64).expect("well-formed");
        assert_eq!(read.tensors, tensors);
        assert_eq!(tensors.iter().map(|t| t.bytes).collect::<Vec<_>>(), [204, 20, 12]);
        assert_eq!((read.arch_uint("block_count"), read.bool("yes")), (Some(1), Some(true)));
        assert_eq!(read.strings("words").expect("text").collect::<Vec<_>>(), [&b"a"[..], b""]);
        for (number, tensor) in (1..).zip(&tensors) {
            let start = (read.data_start + tensor.offset) as usize;
            assert!(bytes[start..start + tensor.bytes as usize].iter().all(|byte| *byte == number));
        }
    }
}
