//! Takes a GGUF file apart, changes it, and puts it together again, as a damaged or malicious file may look.
//!
//! Half of the changes keep the format intact and lie about the model, so that they reach llama.cpp; the
//! others are blind. Everything follows from the seed.

use super::odd::{ARCHITECTURES, KEYS, TEMPLATES, odd_bytes, odd_text, tensor_type, word};
use super::{GGUF_F32, GGUF_STRING};

const U32: u32 = 4;
const I32: u32 = 5;
const BOOL: u32 = 7;
const ARRAY: u32 = 9;

/// Endless random numbers, the same for the same seed (SplitMix64).
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }
}

struct Entry {
    key: Vec<u8>,
    kind: u32,
    value: Vec<u8>,
}

struct Record {
    name: Vec<u8>,
    dims: Vec<u64>,
    kind: u32,
    /// The stated offset of its data; `None`: the true one.
    offset: Option<u64>,
    data: Vec<u8>,
}

/// A file taken apart.
pub struct Document {
    version: u32,
    entries: Vec<Entry>,
    tensors: Vec<Record>,
}

const ALIGNMENT: usize = 32;

struct Reader<'a>(&'a [u8], usize);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> &'a [u8] {
        self.1 += length;
        &self.0[self.1 - length..self.1]
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take(4).try_into().unwrap())
    }

    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.take(8).try_into().unwrap())
    }

    fn text(&mut self) -> Vec<u8> {
        let length = self.u64() as usize;
        self.take(length).to_vec()
    }

    fn value(&mut self, kind: u32) {
        match kind {
            GGUF_STRING => drop(self.text()),
            ARRAY => {
                let (element, length) = (self.u32(), self.u64());
                (0..length).for_each(|_| self.value(element));
            }
            _ => drop(self.take(width(kind))),
        }
    }
}

fn width(kind: u32) -> usize {
    [1, 1, 2, 2, 4, 4, 4, 1, 8, 8, 8, 8, 8][kind.min(12) as usize]
}

fn text(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u64).to_le_bytes(), bytes].concat()
}

impl Document {
    /// Takes a valid file apart.
    pub fn read(bytes: &[u8]) -> Document {
        let mut r = Reader(bytes, 4);
        let (version, tensors, entries) = (r.u32(), r.u64(), r.u64());
        let entry = |r: &mut Reader| {
            let (key, kind) = (r.text(), r.u32());
            let start = r.1;
            r.value(kind);
            Entry { key, kind, value: r.0[start..r.1].to_vec() }
        };
        let entries = (0..entries).map(|_| entry(&mut r)).collect();
        let record = |r: &mut Reader| {
            let (name, rank) = (r.text(), r.u32());
            let dims = (0..rank).map(|_| r.u64()).collect();
            Record { name, dims, kind: r.u32(), offset: Some(r.u64()), data: Vec::new() }
        };
        let mut tensors: Vec<Record> = (0..tensors).map(|_| record(&mut r)).collect();
        let start = r.1.next_multiple_of(ALIGNMENT);
        for tensor in &mut tensors {
            let at = start + tensor.offset.take().unwrap() as usize;
            tensor.data = bytes[at..at + tensor.dims.iter().product::<u64>() as usize * 4].to_vec(); // all are f32
        }
        Document { version, entries, tensors }
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut out = b"GGUF".to_vec();
        out.extend(self.version.to_le_bytes());
        out.extend((self.tensors.len() as u64).to_le_bytes());
        out.extend((self.entries.len() as u64).to_le_bytes());
        for entry in &self.entries {
            out.extend(text(&entry.key));
            out.extend(entry.kind.to_le_bytes());
            out.extend(&entry.value);
        }
        let mut offset = 0;
        for tensor in &self.tensors {
            out.extend(text(&tensor.name));
            out.extend((tensor.dims.len() as u32).to_le_bytes());
            out.extend(tensor.dims.iter().flat_map(|d| d.to_le_bytes()));
            out.extend(tensor.kind.to_le_bytes());
            out.extend(tensor.offset.unwrap_or(offset as u64).to_le_bytes());
            offset = (offset + tensor.data.len()).next_multiple_of(ALIGNMENT);
        }
        for tensor in &self.tensors {
            out.resize(out.len().next_multiple_of(ALIGNMENT), 0);
            out.extend(&tensor.data);
        }
        out
    }

    /// The same model in two files, as gguf-split writes them.
    pub fn split_in_two(&mut self, random: &mut Random) -> (Vec<u8>, Vec<u8>) {
        const U16: u32 = 2;
        let all = self.tensors.len();
        let numbers = |no: u16| {
            [("split.no", no), ("split.count", 2)].map(|(key, n)| Entry {
                key: key.into(),
                kind: U16,
                value: n.to_le_bytes().to_vec(),
            })
        };
        let rest = self.tensors.split_off(1 + random.below(all - 2));
        let second = Document { version: self.version, entries: numbers(1).into(), tensors: rest };
        self.entries.extend(numbers(0));
        let count = (all as i32).to_le_bytes().to_vec();
        self.entries.push(Entry { key: b"split.tensors.count".to_vec(), kind: I32, value: count });
        (self.bytes(), second.bytes())
    }

    /// Changes an existing text.
    pub fn set_text(&mut self, key: &str, value: &str) {
        let entry = self.entries.iter_mut().find(|entry| entry.key == key.as_bytes()).unwrap();
        entry.value = text(value.as_bytes());
    }

    /// Changes a token's text.
    pub fn set_token(&mut self, from: &str, to: &str) {
        let (from, to) = (text(from.as_bytes()), text(to.as_bytes()));
        let entry = self.entries.iter_mut().find(|entry| entry.key == b"tokenizer.ggml.tokens").unwrap();
        let at = entry.value.windows(from.len()).position(|part| part == from).unwrap();
        entry.value.splice(at..at + from.len(), to);
    }

    fn architecture(&self) -> String {
        let entry = self.entries.iter().find(|e| e.key == b"general.architecture");
        entry.map_or_else(String::new, |e| String::from_utf8_lossy(e.value.get(8..).unwrap_or(b"")).into())
    }

    /// Changes one thing; returns the change in words.
    pub fn mutate(&mut self, random: &mut Random) -> String {
        if self.entries.is_empty() || self.tensors.is_empty() {
            return "nothing".into();
        }
        match random.below(16) {
            0..6 => self.change_value(random),
            6 => self.remove_entry(random),
            7 => self.add_entry(random),
            8 => self.rename_architecture(random),
            9 => self.copy_entry(random),
            10..13 => self.change_tensor(random),
            13 | 14 => self.change_weights(random),
            _ => self.change_template(random),
        }
    }

    fn change_value(&mut self, random: &mut Random) -> String {
        let at = random.below(self.entries.len());
        let entry = &mut self.entries[at];
        let key = String::from_utf8_lossy(&entry.key).into_owned();
        if random.below(8) == 0 {
            entry.kind = *random.pick(&[0, 3, U32, I32, GGUF_F32, BOOL, 10, 12, 99]);
            entry.value = odd_bytes(random, width(entry.kind), &entry.value);
            return format!("{key} becomes type {} {:?}", entry.kind, entry.value);
        }
        match entry.kind {
            GGUF_STRING => {
                let (new, what) = odd_text(random, &entry.value[8..]);
                entry.value = text(&new);
                format!("{key} becomes {what}")
            }
            ARRAY => format!("{key}: {}", change_array(&mut entry.value, random)),
            kind => {
                entry.value = odd_bytes(random, width(kind), &entry.value);
                format!("{key} becomes {:?} (type {kind})", entry.value)
            }
        }
    }

    fn remove_entry(&mut self, random: &mut Random) -> String {
        let entry = self.entries.remove(random.below(self.entries.len()));
        format!("{} is gone", String::from_utf8_lossy(&entry.key))
    }

    fn copy_entry(&mut self, random: &mut Random) -> String {
        let (from, to) = (random.below(self.entries.len()), random.below(self.entries.len()));
        let (kind, value) = (self.entries[from].kind, self.entries[from].value.clone());
        self.entries[to].kind = kind;
        self.entries[to].value = value;
        let name = |at: usize| String::from_utf8_lossy(&self.entries[at].key).into_owned();
        format!("{} gets the value of {}", name(to), name(from))
    }

    fn add_entry(&mut self, random: &mut Random) -> String {
        let key = word(random, KEYS).replace("{}", &self.architecture());
        let kind = *random.pick(&[U32, U32, U32, GGUF_F32, BOOL, I32]);
        let array = random.below(4) == 0;
        let mut value = odd_bytes(random, width(kind), &[0; 8]);
        if array {
            let length = *random.pick(&[0u64, 1, 2, 3, 512]);
            let items: Vec<u8> = (0..length).flat_map(|_| odd_bytes(random, width(kind), &value)).collect();
            value = [&kind.to_le_bytes()[..], &length.to_le_bytes(), &items].concat();
        }
        self.entries.retain(|e| e.key != key.as_bytes());
        let shown =
            format!("{key} is added: type {kind}, array {array}, {:?}", &value[..value.len().min(24)]);
        self.entries.push(Entry { key: key.into(), kind: if array { ARRAY } else { kind }, value });
        shown
    }

    /// The same numbers and weights under another architecture's name.
    fn rename_architecture(&mut self, random: &mut Random) -> String {
        let (old, new) = (self.architecture(), word(random, ARCHITECTURES));
        for entry in &mut self.entries {
            if entry.key == b"general.architecture" {
                entry.value = text(new.as_bytes());
            } else if let Some(rest) = entry.key.strip_prefix(format!("{old}.").as_bytes()) {
                entry.key = [new.as_bytes(), b".", rest].concat();
            }
        }
        format!("the architecture {old} becomes {new}")
    }

    fn change_tensor(&mut self, random: &mut Random) -> String {
        let at = random.below(self.tensors.len());
        let other = random.below(self.tensors.len());
        let name = String::from_utf8_lossy(&self.tensors[at].name).into_owned();
        let what = match random.below(8) {
            0 => {
                self.tensors.remove(at);
                "is gone".into()
            }
            1 => {
                self.tensors[at].name = odd_text(random, name.as_bytes()).0;
                format!("is called {}", String::from_utf8_lossy(&self.tensors[at].name))
            }
            2 => {
                let name = self.tensors[other].name.clone();
                self.tensors[at].name = name;
                "is called like another".into()
            }
            3 => {
                self.tensors[at].dims.reverse();
                "has its dimensions reversed".into()
            }
            4 => {
                let tensor = &mut self.tensors[at];
                let dim = random.below(tensor.dims.len());
                tensor.dims[dim] =
                    *random.pick(&[0, 1, tensor.dims[dim] - 1, tensor.dims[dim] * 2, 1 << 40, u64::MAX, 256]);
                let product = tensor.dims.iter().fold(4u64, |n, d| n.saturating_mul(*d));
                if product < 1 << 20 && random.below(4) > 0 {
                    tensor.data.resize(product as usize, 0x3c);
                }
                format!("has the shape {:?}", tensor.dims)
            }
            5 | 6 => {
                let tensor = &mut self.tensors[at];
                let (kind, block, bytes) = tensor_type(random);
                tensor.kind = kind;
                let elements = tensor.dims.iter().product::<u64>() as usize;
                if random.below(5) > 0 {
                    tensor.data = (0..elements / block * bytes).map(|_| random.next() as u8 & 0x3f).collect();
                }
                format!("has the type {kind}")
            }
            _ => {
                self.tensors[at].offset = Some(*random.pick(&[0, 1, 32, u64::MAX, u64::MAX - 31, 1 << 33]));
                format!("is at {:?}", self.tensors[at].offset)
            }
        };
        format!("tensor {name} {what}")
    }

    fn change_weights(&mut self, random: &mut Random) -> String {
        let at = random.below(self.tensors.len());
        let tensor = &mut self.tensors[at];
        let value = *random.pick(&[f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, 0.0, -1e20, 1e-42]);
        let all = random.below(2) == 0;
        let from = if all { 0 } else { random.below(tensor.data.len() / 4) };
        let end = if all { tensor.data.len() / 4 } else { (from + 1).min(tensor.data.len() / 4) };
        for element in from..end {
            tensor.data[element * 4..element * 4 + 4].copy_from_slice(&value.to_le_bytes());
        }
        format!("weights {from}..{end} of {} are {value}", String::from_utf8_lossy(&tensor.name))
    }

    fn change_template(&mut self, random: &mut Random) -> String {
        let template = *random.pick(TEMPLATES);
        self.entries.retain(|e| e.key != b"tokenizer.chat_template");
        let value = text(template.as_bytes());
        self.entries.push(Entry { key: b"tokenizer.chat_template".to_vec(), kind: GGUF_STRING, value });
        format!("the template is {template}")
    }
}

fn change_array(value: &mut Vec<u8>, random: &mut Random) -> String {
    let kind = u32::from_le_bytes(value[..4].try_into().unwrap());
    let length = u64::from_le_bytes(value[4..12].try_into().unwrap());
    let mut items: Vec<Vec<u8>> = Vec::new();
    let mut r = Reader(value, 12);
    for _ in 0..length {
        if r.1 == r.0.len() {
            break; // it already lies about its length
        }
        let start = r.1;
        r.value(kind);
        items.push(r.0[start..r.1].to_vec());
    }
    let at = random.below(items.len());
    let what = match random.below(5) {
        0 => {
            items.truncate(at);
            format!("cut to {at}")
        }
        1 if !items.is_empty() => {
            let other = random.below(items.len());
            items[at] = items[other].clone();
            format!("item {at} becomes that of {other}")
        }
        2 if !items.is_empty() => {
            items.push(items[at].clone());
            format!("item {at} once more at the end")
        }
        3 => {
            let length = *random.pick(&[0, u64::MAX, length + 1, 1 << 32]);
            value[4..12].copy_from_slice(&length.to_le_bytes());
            return format!("said to have {length} items");
        }
        _ if !items.is_empty() => {
            items[at] = match kind {
                GGUF_STRING => text(&odd_text(random, &items[at][8..]).0),
                kind => odd_bytes(random, width(kind), &items[at]),
            };
            format!("item {at} becomes {:?}", &items[at][..items[at].len().min(40)])
        }
        _ => "nothing".into(),
    };
    *value = [&kind.to_le_bytes()[..], &(items.len() as u64).to_le_bytes(), &items.concat()].concat();
    what
}

/// Changes the bytes themselves, in the header or after it; returns the change in words.
pub fn blind(bytes: &mut Vec<u8>, random: &mut Random) -> String {
    let header = bytes.len().min(16_000);
    let at = random.below(header);
    match random.below(7) {
        0 | 1 => {
            let bit = random.below(8);
            bytes[at] ^= 1 << bit;
            format!("bit {bit} of byte {at} is flipped")
        }
        2 => {
            let length = random.below(16).min(bytes.len() - at);
            let value = *random.pick(&[0, 0xff, 0x7f, 0x80]);
            bytes[at..at + length].fill(value);
            format!("{length} bytes at {at} are {value}")
        }
        3 => {
            let length = random.below(bytes.len());
            bytes.truncate(length);
            format!("cut to {length} bytes")
        }
        4 => {
            let length = 1 + random.below(64);
            bytes.splice(at..at, vec![0x20; length]);
            format!("{length} bytes inserted at {at}")
        }
        5 => {
            let end = (at + 1 + random.below(64)).min(bytes.len());
            bytes.drain(at..end);
            format!("bytes {at}..{end} are gone")
        }
        _ => {
            let at = random.below(bytes.len() - 64);
            let noise: Vec<u8> = (0..64).map(|_| random.next() as u8).collect();
            bytes[at..at + 64].copy_from_slice(&noise);
            format!("64 bytes at {at} are noise")
        }
    }
}
