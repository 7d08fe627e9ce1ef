//! A GGUF file → its header: metadata and the list of tensors, checked so that llama.cpp does not crash.
//!
//! GGUF (specified in ggml's `docs/gguf.md`) is: magic, version, two counts, the metadata as key-value pairs,
//! one record per tensor, padding, the tensor data. [`read`] refuses files that break the format, [`check`]
//! models that llama.cpp would abort on. Only [`verify`] reads tensor data. The files in order: `refusal.rs`
//! (reasons), `types.rs` (element types), `header_reader.rs` and `parse.rs` (bytes → [`Header`]), `check.rs`
//! with `architectures.rs`, `heads.rs`, `split.rs` and `tokenizer.rs`, `memory.rs` and `layers.rs` (sizes), `fingerprint.rs`
//! (identity), `numbers.rs` and `verify.rs` (all data), `write.rs` (header → bytes).

mod architectures;
mod check;
mod fingerprint;
mod heads;
mod header_reader;
pub mod layers;
pub mod memory;
mod numbers;
pub(crate) mod parse;
mod refusal;
#[cfg(any(test, fuzzing))]
pub(crate) mod sample;
mod split;
mod tokenizer;
mod types;
mod verify;
pub mod write;

pub use check::check;
pub use fingerprint::{fingerprint, fingerprint_of_text, stamp};
pub use refusal::{Foreign, Refusal};
pub use split::{joining, parts};
pub use types::{ElementType, element_type, file_type_name, type_name};
pub use verify::{Verified, verify};

use std::{
    collections::HashMap,
    fs::{self, File},
    io,
    ops::Range,
    path::{Path, PathBuf},
};

/// Everything in a GGUF file but the tensor data. Strings and arrays stay packed and are decoded on demand.
#[derive(Debug)]
pub struct Header {
    /// The file that the header was read from.
    pub path: PathBuf,
    /// 2 or 3; the only difference is that 3 allows big-endian files.
    pub version: u32,
    /// `general.alignment`, a power of two, 32 if absent: tensor offsets are multiples of it.
    pub alignment: u64,
    /// In file order, which is also the order of the data.
    pub tensors: Vec<Tensor>,
    /// Offset in the file where the header ends, before padding.
    pub metadata_bytes: u64,
    /// Offset in the file where the tensor data begins, a multiple of `alignment`.
    pub data_start: u64,
    /// The file's size in bytes when the header was read.
    pub file_size: u64,
    /// The first `metadata_bytes` of the file.
    bytes: Vec<u8>,
    fields: Vec<Field>,
    by_key: HashMap<String, usize>,
}

/// The record of a tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tensor {
    pub name: String,
    /// Elements per dimension, the contiguous dimension first; at most 4 dimensions, none of them 0.
    pub dims: Vec<u64>,
    /// The number of an [`element_type`], but not of a removed one.
    pub kind: u32,
    /// In bytes from `Header::data_start`.
    pub offset: u64,
    /// Size of the data, without the padding that follows.
    pub bytes: u64,
}

/// A metadata value. Text is bytes: the format requires UTF-8, but tokens often are not.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value<'a> {
    Uint(u64),
    Int(i64),
    Float(f64),
    Bool(bool),
    Text(&'a [u8]),
    Array(Array<'a>),
}

/// A metadata array, still packed. Arrays of arrays, which llama.cpp does not support, are refused.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Array<'a> {
    element: Scalar,
    len: usize,
    packed: &'a [u8],
}

/// The place of a key's value in `Header::bytes`.
#[derive(Debug)]
struct Field {
    key: String,
    kind: ValueType,
    packed: Range<usize>,
}

/// The type of a value. The `packed` range excludes the type and length of an array and the length of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ValueType {
    Single(Scalar),
    Array(Scalar, usize),
}

/// The value types of the format except arrays, with their names from the specification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scalar {
    Uint8,
    Int8,
    Uint16,
    Int16,
    Uint32,
    Int32,
    Float32,
    Bool,
    Text,
    Uint64,
    Int64,
    Float64,
}

/// Reads the header of the file at `path`.
///
/// Takes about as long as reading the header's bytes. Memory is bounded by the real size of the header,
/// whatever lengths the file claims.
///
/// # Errors
/// [`Refusal`] if the file cannot be read, is not GGUF, is truncated, or breaks a rule that llama.cpp
/// enforces.
pub fn read(path: &Path) -> Result<Header, Refusal> {
    let about = fs::metadata(path)?;
    if about.is_dir() {
        return Err(Refusal::Directory);
    }
    if !about.is_file() {
        return Err(Refusal::Special);
    }
    read_from(File::open(path)?, about.len(), path)
}

/// Reads the header of a remote file of `size` bytes, which would be saved at `path`.
///
/// # Errors
/// As [`read`].
pub fn read_from(file: impl io::Read, size: u64, path: &Path) -> Result<Header, Refusal> {
    let header = parse::parse(file, size)?;
    Ok(Header { path: path.to_owned(), ..header })
}

impl Header {
    /// The value of `key`, whatever its type.
    pub fn get(&self, key: &str) -> Option<Value<'_>> {
        let field = &self.fields[*self.by_key.get(key)?];
        let packed = &self.bytes[field.packed.clone()];
        Some(match field.kind {
            ValueType::Single(scalar) => scalar.decode(packed),
            ValueType::Array(element, len) => Value::Array(Array { element, len, packed }),
        })
    }

    /// Every key with its value, in file order.
    pub fn entries(&self) -> impl Iterator<Item = (&str, Value<'_>)> {
        self.fields.iter().filter_map(|field| Some((field.key.as_str(), self.get(&field.key)?)))
    }

    /// A text value; `None` also if it is not UTF-8.
    pub fn str(&self, key: &str) -> Option<&str> {
        match self.get(key)? {
            Value::Text(text) => std::str::from_utf8(text).ok(),
            _ => None,
        }
    }

    /// A value of any integer type that is not negative.
    pub fn uint(&self, key: &str) -> Option<u64> {
        self.get(key)?.uint()
    }

    /// A value of either float type.
    pub fn float(&self, key: &str) -> Option<f64> {
        match self.get(key)? {
            Value::Float(number) => Some(number),
            _ => None,
        }
    }

    /// A boolean value.
    pub fn bool(&self, key: &str) -> Option<bool> {
        match self.get(key)? {
            Value::Bool(truth) => Some(truth),
            _ => None,
        }
    }

    /// An array value with elements of any type.
    pub fn array(&self, key: &str) -> Option<Array<'_>> {
        match self.get(key)? {
            Value::Array(array) => Some(array),
            _ => None,
        }
    }

    /// The number of elements; `None` if the value is not an array.
    pub fn array_len(&self, key: &str) -> Option<usize> {
        self.array(key).map(|array| array.len())
    }

    /// The elements of an array of text.
    pub fn strings(&self, key: &str) -> Option<impl Iterator<Item = &[u8]>> {
        self.array(key)?.strings()
    }

    /// The elements of an integer array, none of them negative; a single integer counts as an array of one.
    pub fn uints(&self, key: &str) -> Option<Vec<u64>> {
        match self.get(key)? {
            Value::Array(array) => array.iter().map(|v| v.uint()).collect(),
            value => Some(vec![value.uint()?]),
        }
    }

    /// `general.architecture`: llama.cpp's name for the model family (`"llama"`, `"qwen3"`).
    pub fn architecture(&self) -> Option<&str> {
        self.str("general.architecture")
    }

    /// [`Header::uint`] of a key below the architecture: `arch_uint("block_count")` reads
    /// `llama.block_count`.
    pub fn arch_uint(&self, key: &str) -> Option<u64> {
        self.uint(&self.arch_key(key)?)
    }

    /// [`Header::uints`] of a key below the architecture.
    pub fn arch_uints(&self, key: &str) -> Option<Vec<u64>> {
        self.uints(&self.arch_key(key)?)
    }

    /// [`Header::str`] of a key below the architecture.
    pub fn arch_str(&self, key: &str) -> Option<&str> {
        self.str(&self.arch_key(key)?)
    }

    /// The tensor called `name`.
    pub fn tensor(&self, name: &str) -> Option<&Tensor> {
        self.tensors.iter().find(|t| t.name == name)
    }

    fn arch_key(&self, key: &str) -> Option<String> {
        Some(format!("{}.{key}", self.architecture()?))
    }
}

impl Value<'_> {
    /// An integer that is not negative.
    pub fn uint(self) -> Option<u64> {
        match self {
            Value::Uint(number) => Some(number),
            Value::Int(number) => u64::try_from(number).ok(),
            _ => None,
        }
    }
}

impl<'a> Array<'a> {
    pub fn len(self) -> usize {
        self.len
    }

    pub fn is_empty(self) -> bool {
        self.len == 0
    }

    /// The elements, decoded one by one.
    pub fn iter(self) -> impl Iterator<Item = Value<'a>> {
        let mut rest = self.packed;
        (0..self.len).map_while(move |_| Some(self.element.decode(take(&mut rest, self.element)?)))
    }

    /// The elements as text; `None` if they have another type.
    pub fn strings(self) -> Option<impl Iterator<Item = &'a [u8]>> {
        let mut rest = self.packed;
        let next = move |_| take(&mut rest, Scalar::Text);
        (self.element == Scalar::Text).then(|| (0..self.len).map_while(next))
    }

    /// The specification's name of the element type (`"uint32"`).
    pub fn element_name(self) -> &'static str {
        self.element.name()
    }
}

/// Takes the next array element from `rest`; a text without its length.
fn take<'a>(rest: &mut &'a [u8], element: Scalar) -> Option<&'a [u8]> {
    let size = match element.size() {
        Some(size) => size,
        None => {
            let (len, after) = rest.split_first_chunk()?;
            *rest = after;
            usize::try_from(u64::from_le_bytes(*len)).ok()?
        }
    };
    let (item, after) = rest.split_at_checked(size)?;
    *rest = after;
    Some(item)
}

impl Scalar {
    /// By the format's type number; 9, the array, is not a scalar.
    fn from_number(number: u32) -> Option<Scalar> {
        use Scalar::*;
        Some(match number {
            0 => Uint8,
            1 => Int8,
            2 => Uint16,
            3 => Int16,
            4 => Uint32,
            5 => Int32,
            6 => Float32,
            7 => Bool,
            8 => Text,
            10 => Uint64,
            11 => Int64,
            12 => Float64,
            _ => return None,
        })
    }

    fn name(self) -> &'static str {
        use Scalar::*;
        match self {
            Uint8 => "uint8",
            Int8 => "int8",
            Uint16 => "uint16",
            Int16 => "int16",
            Uint32 => "uint32",
            Int32 => "int32",
            Float32 => "float32",
            Bool => "bool",
            Text => "string",
            Uint64 => "uint64",
            Int64 => "int64",
            Float64 => "float64",
        }
    }

    /// Bytes per value; `None` for text.
    fn size(self) -> Option<usize> {
        use Scalar::*;
        Some(match self {
            Uint8 | Int8 | Bool => 1,
            Uint16 | Int16 => 2,
            Uint32 | Int32 | Float32 => 4,
            Uint64 | Int64 | Float64 => 8,
            Text => return None,
        })
    }

    /// `packed` has exactly the size of the type.
    fn decode(self, packed: &[u8]) -> Value<'_> {
        let mut wide = [0u8; 8];
        let size = packed.len().min(8);
        wide[..size].copy_from_slice(&packed[..size]);
        let bits = u64::from_le_bytes(wide);
        match self {
            Scalar::Uint8 | Scalar::Uint16 | Scalar::Uint32 | Scalar::Uint64 => Value::Uint(bits),
            Scalar::Int8 => Value::Int(i64::from(bits as i8)),
            Scalar::Int16 => Value::Int(i64::from(bits as i16)),
            Scalar::Int32 => Value::Int(i64::from(bits as i32)),
            Scalar::Int64 => Value::Int(bits as i64),
            Scalar::Float32 => Value::Float(f64::from(f32::from_bits(bits as u32))),
            Scalar::Float64 => Value::Float(f64::from_bits(bits)),
            Scalar::Bool => Value::Bool(bits != 0),
            Scalar::Text => Value::Text(packed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{sample::Sample, *};

    fn header() -> Header {
        let bytes = Sample::default()
            .text("general.architecture", "llama")
            .u32("llama.block_count", 7)
            .i32("negative", -3)
            .f32("half", 0.5)
            .bool("yes", true)
            .texts("words", &["a", "", "ccc"])
            .i32s("per_layer", &[4, 0, 2])
            .i32s("signed", &[1, -1])
            .bytes();
        parse::parse(&bytes[..], bytes.len() as u64).expect("the sample is a valid file")
    }

    #[test]
    fn values_by_type() {
        let h = header();
        assert_eq!(h.architecture(), Some("llama"));
        assert_eq!(h.arch_uint("block_count"), Some(7));
        assert_eq!(h.arch_uints("block_count"), Some(vec![7]));
        assert_eq!(h.uint("negative"), None);
        assert_eq!(h.get("negative"), Some(Value::Int(-3)));
        assert_eq!(h.float("half"), Some(0.5));
        assert_eq!(h.bool("yes"), Some(true));
        assert_eq!(h.str("yes"), None);
        assert_eq!(h.str("absent"), None);
    }

    #[test]
    fn arrays_are_decoded_on_demand() {
        let h = header();
        assert_eq!(h.array_len("words"), Some(3));
        let words: Vec<&[u8]> = h.strings("words").expect("an array of text").collect();
        assert_eq!(words, [&b"a"[..], b"", b"ccc"]);
        assert_eq!(h.uints("per_layer"), Some(vec![4, 0, 2]));
        assert_eq!(h.uints("signed"), None);
        assert!(h.strings("per_layer").is_none());
        assert_eq!(h.array("per_layer").map(Array::element_name), Some("int32"));
    }

    #[test]
    fn entries_keep_the_order_of_the_file() {
        let h = header();
        let keys: Vec<&str> = h.entries().map(|(key, _)| key).collect();
        assert_eq!(keys[..3], ["general.architecture", "llama.block_count", "negative"]);
    }

    #[test]
    fn what_is_not_a_file_is_refused() {
        let dir = tempfile::tempdir().expect("temporary folder");
        assert!(matches!(read(dir.path()), Err(Refusal::Directory)));
        assert!(matches!(read(&dir.path().join("absent.gguf")), Err(Refusal::Io(_))));
        let path = dir.path().join("good.gguf");
        fs::write(&path, Sample::default().bytes()).expect("temporary file");
        assert_eq!(read(&path).expect("the sample is valid").path, path);
        #[cfg(unix)]
        assert!(matches!(read(Path::new("/dev/null")), Err(Refusal::Special)));
    }
}
