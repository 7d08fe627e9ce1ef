//! The bytes of a GGUF file → a [`Header`], or their first fault.
//!
//! No length or count is trusted: memory grows only with bytes actually read, and every claim is checked
//! against the rest of the file. The rules are those of llama.cpp's own reader (`gguf.cpp`), which reports a
//! broken file only in its log. `check.rs` checks whether the values make sense.

use std::{
    collections::{HashMap, HashSet, hash_map::Entry},
    io::Read,
    ops::Range,
    path::PathBuf,
};

use super::{
    Field, Foreign, Header, Refusal, Scalar, Tensor, ValueType, element_type, header_reader::HeaderReader,
    type_name,
};

/// Magic, version and the two counts.
const FIXED: u64 = 24;
/// llama.cpp stores tensor names in 64 bytes, including the final zero.
const LONGEST_NAME: usize = 63;
const ARRAY: u32 = 9;
/// Smallest sizes. A field: an empty key's length, and the value's type. A tensor: an empty name's length,
/// the number of dimensions, type and offset.
const SMALLEST_FIELD: u64 = 8 + 4;
const SMALLEST_TENSOR: u64 = 8 + 4 + 4 + 8;

/// Reads the header of a file of `size` bytes. `Header::path` is left empty.
pub(crate) fn parse(file: impl Read, size: u64) -> Result<Header, Refusal> {
    let mut input = HeaderReader::new(file, size);
    let version = fixed_part(&mut input)?;
    let tensor_count = input.u64()?;
    let field_count = input.u64()?;
    input.expect_room(field_count, SMALLEST_FIELD, "metadata entries")?;
    input.expect_room(tensor_count, SMALLEST_TENSOR, "tensors")?;

    let (fields, by_key) = read_fields(&mut input, field_count)?;
    let tensors = read_tensors(&mut input, tensor_count)?;
    let metadata_bytes = input.at as u64;
    input.bytes.truncate(input.at);
    let mut header = Header {
        path: PathBuf::new(),
        version,
        alignment: 32,
        tensors,
        metadata_bytes,
        data_start: metadata_bytes,
        file_size: size,
        bytes: input.bytes,
        fields,
        by_key,
    };
    header.alignment = alignment(&header)?;
    if !header.tensors.is_empty() {
        header.data_start = metadata_bytes.next_multiple_of(header.alignment);
    }
    check_layout(&header)?;
    Ok(header)
}

/// Checks magic and version. The refusal names the format of a file that is not GGUF.
fn fixed_part(input: &mut HeaderReader<impl Read>) -> Result<u32, Refusal> {
    if input.size == 0 {
        return Err(Refusal::Empty);
    }
    input.read_to(input.size.min(512))?;
    let head = &input.bytes[..input.bytes.len().min(512)];
    if !head.starts_with(b"GGUF") {
        return Err(match head {
            [b'F', b'U', b'G', b'G', ..] => Refusal::BigEndian,
            _ => Refusal::Foreign(Foreign::recognise(head)),
        });
    }
    if input.size < FIXED {
        return Err(Refusal::Short { bytes: input.size });
    }
    input.take(4)?;
    match input.u32()? {
        version @ (2 | 3) => Ok(version),
        version if version != 0 && version & 0xffff == 0 => Err(Refusal::BigEndian),
        version => Err(Refusal::Version(version)),
    }
}

type Fields = (Vec<Field>, HashMap<String, usize>);

fn read_fields(input: &mut HeaderReader<impl Read>, count: u64) -> Result<Fields, Refusal> {
    let (mut fields, mut by_key) = (Vec::new(), HashMap::new());
    for number in 1..=count {
        input.place = format!("the key of metadata entry {number}");
        let key = input.text()?;
        let key = input.lossy(key);
        if key.is_empty() {
            return Err(input.malformed("the key is empty"));
        }
        input.place = format!("metadata key '{key}'");
        match by_key.entry(key.clone()) {
            Entry::Occupied(_) => return Err(input.malformed("the key appears twice")),
            Entry::Vacant(slot) => slot.insert(fields.len()),
        };
        let (kind, packed) = read_value(input)?;
        fields.push(Field { key, kind, packed });
    }
    Ok((fields, by_key))
}

fn read_value(input: &mut HeaderReader<impl Read>) -> Result<(ValueType, Range<usize>), Refusal> {
    let number = input.u32()?;
    if number == ARRAY {
        return read_array(input);
    }
    let scalar = read_scalar(input, number)?;
    let packed = match scalar.size() {
        Some(size) => input.take(size as u64)?,
        None => input.text()?,
    };
    Ok((ValueType::Single(scalar), packed))
}

fn read_array(input: &mut HeaderReader<impl Read>) -> Result<(ValueType, Range<usize>), Refusal> {
    let number = input.u32()?;
    if number == ARRAY {
        return Err(input.malformed("it is an array of arrays, which llama.cpp does not read"));
    }
    let element = read_scalar(input, number)?;
    let len = input.u64()?;
    let size = element.size();
    // A text has at least its length, 8 bytes.
    input.expect_room(len, size.unwrap_or(8) as u64, "elements")?;
    let start = input.at;
    match size {
        Some(size) => {
            input.take(len * size as u64)?;
        }
        None => {
            for _ in 0..len {
                input.text()?;
            }
        }
    }
    let len = usize::try_from(len).map_err(|_| input.malformed("it has too many elements"))?;
    Ok((ValueType::Array(element, len), start..input.at))
}

fn read_scalar(input: &HeaderReader<impl Read>, number: u32) -> Result<Scalar, Refusal> {
    Scalar::from_number(number).ok_or_else(|| input.malformed(&format!("its type, {number}, does not exist")))
}

fn read_tensors(input: &mut HeaderReader<impl Read>, count: u64) -> Result<Vec<Tensor>, Refusal> {
    let (mut tensors, mut names) = (Vec::new(), HashSet::new());
    for number in 1..=count {
        input.place = format!("the name of tensor {number}");
        let name = input.text()?;
        if name.len() > LONGEST_NAME {
            return Err(input.malformed(&format!("the name is longer than {LONGEST_NAME} bytes")));
        }
        let name = input.lossy(name);
        input.place = format!("tensor '{name}'");
        if !names.insert(name.clone()) {
            return Err(input.malformed("the name appears twice"));
        }
        tensors.push(read_tensor(input, name)?);
    }
    Ok(tensors)
}

fn read_tensor(input: &mut HeaderReader<impl Read>, name: String) -> Result<Tensor, Refusal> {
    let rank = input.u32()?;
    if rank > 4 {
        return Err(input.malformed(&format!("it has {rank} dimensions, llama.cpp knows 4")));
    }
    let dims = (0..rank).map(|_| input.u64()).collect::<Result<Vec<u64>, Refusal>>()?;
    let kind = input.u32()?;
    let bytes = tensor_bytes(&dims, kind).map_err(|problem| input.malformed(&problem))?;
    let offset = input.u64()?;
    Ok(Tensor { name, dims, kind, offset, bytes })
}

/// The size of a tensor's data in bytes, or the fault of its shape or type.
fn tensor_bytes(dims: &[u64], kind: u32) -> Result<u64, String> {
    let element = element_type(kind).ok_or_else(|| format!("its element type, {kind}, does not exist"))?;
    if element.removed() {
        return Err(format!("its element type, {}, is no longer supported", type_name(kind)));
    }
    if dims.contains(&0) {
        return Err("a dimension is 0".to_owned());
    }
    let row = dims.first().copied().unwrap_or(1);
    if !row.is_multiple_of(element.block) {
        return Err(format!(
            "its rows have {row} elements, not a multiple of {}, the block of {}",
            element.block, element.name
        ));
    }
    let elements = dims.iter().try_fold(1u64, |product, dim| product.checked_mul(*dim));
    elements
        .filter(|n| i64::try_from(*n).is_ok())
        .and_then(|n| (n / element.block).checked_mul(element.bytes))
        .ok_or_else(|| format!("its shape, {dims:?}, is too large"))
}

fn alignment(header: &Header) -> Result<u64, Refusal> {
    let broken = |problem: String| Refusal::Malformed(format!("general.alignment {problem}"));
    let Some(at) = header.by_key.get("general.alignment") else { return Ok(32) };
    match (header.fields[*at].kind, header.uint("general.alignment")) {
        (ValueType::Single(Scalar::Uint32), Some(n)) if n.is_power_of_two() => Ok(n),
        (ValueType::Single(Scalar::Uint32), Some(n)) => Err(broken(format!("is {n}, not a power of two"))),
        _ => Err(broken("is not of the type uint32".to_owned())),
    }
}

/// llama.cpp requires the tensors in order, each at the padded end of the previous one, all inside the file.
fn check_layout(header: &Header) -> Result<(), Refusal> {
    let mut expected = 0u64;
    let mut cut = None;
    for tensor in &header.tensors {
        let Tensor { name, offset, bytes, .. } = tensor;
        if !offset.is_multiple_of(header.alignment) {
            let align = header.alignment;
            return Err(Refusal::Malformed(format!(
                "tensor '{name}' is at offset {offset}, not a multiple of {align}"
            )));
        }
        if *offset != expected {
            let relation =
                if *offset < expected { "overlaps the one before it" } else { "leaves a gap before it" };
            return Err(Refusal::Malformed(format!(
                "tensor '{name}' {relation}: it is at offset {offset}, expected {expected}"
            )));
        }
        let end = offset.checked_add(*bytes).and_then(|end| end.checked_next_multiple_of(header.alignment));
        expected =
            end.ok_or_else(|| Refusal::Malformed(format!("tensor '{name}' reaches beyond any file")))?;
        let needed = header.data_start.saturating_add(offset + bytes);
        if needed > header.file_size && cut.is_none() {
            cut = Some((name, needed));
        }
    }
    match cut {
        None => Ok(()),
        Some((name, needed)) => {
            Err(Refusal::Truncated { place: format!("tensor '{name}'"), needed, file_size: header.file_size })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::sample::{Sample, SampleTensor},
        *,
    };

    fn parse_bytes(bytes: &[u8]) -> Result<Header, Refusal> {
        parse(bytes, bytes.len() as u64)
    }

    fn small() -> Sample {
        Sample::default()
            .text("general.architecture", "llama")
            .u32("general.alignment", 32)
            .texts("tokens", &["a", "bc"])
            .i32s("types", &[1, 2, 3])
            .tensor("one", &[4, 2])
            .tensor("two", &[3])
    }

    fn refusal(sample: &Sample) -> String {
        parse_bytes(&sample.bytes()).expect_err("the sample is broken").to_string()
    }

    fn tensor(name: &str, dims: &[u64], kind: u32, offset: u64) -> SampleTensor {
        SampleTensor { name: name.into(), dims: dims.into(), kind, offset, data: vec![0; 64] }
    }

    #[test]
    fn a_small_file_is_read_whole() {
        let bytes = small().bytes();
        let header = parse_bytes(&bytes).expect("valid");
        assert_eq!((header.version, header.alignment), (3, 32));
        assert_eq!(header.file_size, bytes.len() as u64);
        assert_eq!(header.data_start % 32, 0);
        assert!(header.metadata_bytes <= header.data_start && header.data_start < header.metadata_bytes + 32);
        let two = Tensor { name: "two".into(), dims: vec![3], kind: 0, offset: 32, bytes: 12 };
        assert_eq!(header.tensors[1], two);
    }

    #[test]
    fn every_truncation_is_refused() {
        let bytes = small().bytes();
        for len in 0..bytes.len() {
            let refused = parse_bytes(&bytes[..len]).expect_err("a cut file is refused");
            let cut = matches!(
                refused,
                Refusal::Empty
                    | Refusal::Short { .. }
                    | Refusal::Truncated { .. }
                    | Refusal::Foreign(_)
                    | Refusal::Malformed(_)
            );
            assert!(cut, "{len}: {refused}");
        }
    }

    #[test]
    fn no_mutation_panics_or_allocates_more_than_the_file() {
        let bytes = small().bytes();
        for at in 0..bytes.len() {
            for value in
                [0, 1, 8, 9, 0x7f, 0x80, 0xff, bytes[at] ^ 1, bytes[at] ^ 0x80, bytes[at].wrapping_add(1)]
            {
                let mut mutant = bytes.clone();
                mutant[at] = value;
                if let Ok(header) = parse_bytes(&mutant) {
                    assert!(header.bytes.capacity() <= 2 * bytes.len().max(64));
                    header.entries().for_each(drop);
                    assert!(header.tensors.iter().all(|t| t.bytes <= bytes.len() as u64));
                }
            }
        }
    }

    #[test]
    fn a_file_that_shrinks_while_being_read_is_refused() {
        let bytes = small().bytes();
        let shrunk = parse(&bytes[..40], bytes.len() as u64);
        assert!(matches!(shrunk, Err(Refusal::Truncated { file_size: 40, .. })));
    }

    #[test]
    fn versions_and_byte_order() {
        let with = |version| parse_bytes(&small().version(version).bytes());
        assert!(with(2).is_ok());
        assert!(matches!(with(1), Err(Refusal::Version(1))));
        assert!(matches!(with(0), Err(Refusal::Version(0))));
        assert!(matches!(with(4), Err(Refusal::Version(4))));
        assert!(matches!(with(3u32.swap_bytes()), Err(Refusal::BigEndian)));
        assert!(matches!(parse_bytes(b"FUGG0000000000000000000000000"), Err(Refusal::BigEndian)));
        assert!(matches!(parse_bytes(b""), Err(Refusal::Empty)));
        assert!(matches!(parse_bytes(b"GGUF\x03\0\0\0"), Err(Refusal::Short { bytes: 8 })));
        assert!(matches!(parse_bytes(b"<html></html>"), Err(Refusal::Foreign(Foreign::Html))));
    }

    #[test]
    fn counts_are_compared_with_the_file() {
        for at in [8, 16] {
            let mut bytes = small().bytes();
            bytes[at..at + 8].copy_from_slice(&(1u64 << 40).to_le_bytes());
            let message = parse_bytes(&bytes).expect_err("an absurd count").to_string();
            assert!(message.contains("room for"), "{message}");
        }
        let long = Sample::default().array("a", 5, u64::MAX / 2, &[]);
        assert!(refusal(&long).contains("elements"));
        let text = Sample::default().raw("a", 8, &u64::MAX.to_le_bytes());
        assert!(matches!(parse_bytes(&text.bytes()), Err(Refusal::Truncated { .. })));
    }

    #[test]
    fn metadata_rules() {
        assert!(refusal(&small().u32("types", 1)).contains("'types' (byte"));
        assert!(refusal(&small().u32("types", 1)).contains("appears twice"));
        assert!(refusal(&Sample::default().u32("", 1)).contains("key is empty"));
        assert!(refusal(&Sample::default().raw("a", 13, &[0; 8])).contains("type, 13"));
        assert!(refusal(&Sample::default().array("a", 9, 0, &[])).contains("array of arrays"));
        assert!(refusal(&Sample::default().array("a", 99, 0, &[])).contains("type, 99"));
        assert!(refusal(&Sample::default().u32("general.alignment", 24)).contains("power of two"));
        assert!(refusal(&Sample::default().u32("general.alignment", 0)).contains("power of two"));
        let of_type = |kind, value: &[u8]| refusal(&Sample::default().raw("general.alignment", kind, value));
        assert!(of_type(8, b"\x01\0\0\0\0\0\0\0x").contains("not of the type uint32"));
        assert!(of_type(10, &32u64.to_le_bytes()).contains("not of the type uint32"));
        assert!(of_type(5, &32i32.to_le_bytes()).contains("not of the type uint32"));
    }

    #[test]
    fn tensor_rules() {
        let with = |record| refusal(&small().record(record));
        assert!(with(tensor("one", &[4], 0, 64)).contains("appears twice"));
        assert!(with(tensor(&"x".repeat(64), &[4], 0, 64)).contains("longer than 63"));
        assert!(with(tensor("t", &[1; 5], 0, 64)).contains("5 dimensions"));
        assert!(with(tensor("t", &[4, 0], 0, 64)).contains("dimension is 0"));
        assert!(with(tensor("t", &[u64::MAX, 2], 0, 64)).contains("too large"));
        assert!(with(tensor("t", &[33], 8, 64)).contains("the block of q8_0"));
        assert!(with(tensor("t", &[32], 31, 64)).contains("no longer supported"));
        assert!(with(tensor("t", &[32], 77, 64)).contains("does not exist"));
    }

    #[test]
    fn layout_rules() {
        let with = |record| refusal(&small().record(record));
        assert!(with(tensor("t", &[16], 0, 65)).contains("not a multiple of 32"));
        assert!(with(tensor("t", &[16], 0, 0)).contains("overlaps"));
        assert!(with(tensor("t", &[16], 0, 128)).contains("gap"));
        let beyond = small().record(tensor("t", &[1 << 20], 0, 64)).bytes();
        let refused = parse_bytes(&beyond).expect_err("data missing");
        assert!(matches!(&refused, Refusal::Truncated { place, .. } if place == "tensor 't'"), "{refused}");
    }

    #[test]
    fn a_large_vocabulary_is_read_quickly() {
        let words: Vec<String> = (0..100_000).map(|i| format!("token{i}")).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let bytes = Sample::default().texts("tokenizer.ggml.tokens", &words).bytes();
        let start = std::time::Instant::now();
        let header = parse_bytes(&bytes).expect("valid");
        assert_eq!(header.array_len("tokenizer.ggml.tokens"), Some(100_000));
        assert!(start.elapsed().as_millis() < 500, "{:?}", start.elapsed());
    }
}
