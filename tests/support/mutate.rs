//! A GGUF file taken apart, changed somewhere, and put together again: what a damaged or malicious file may look like.
//!
//! Half of the changes keep the format intact and lie about the model, so that they reach llama.cpp; the others are blind.
//! Everything follows from the seed.

use super::{GGUF_F32, GGUF_STRING};

const U32: u32 = 4;
const I32: u32 = 5;
const BOOL: u32 = 7;
const ARRAY: u32 = 9;

/// Numbers without end, the same for the same seed (SplitMix64).
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
    /// Where its data is said to be; `None`: where it is.
    offset: Option<u64>,
    data: Vec<u8>,
}

/// A file in its parts.
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
    /// Takes a sound file apart.
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

    fn architecture(&self) -> String {
        let entry = self.entries.iter().find(|e| e.key == b"general.architecture");
        entry.map_or_else(String::new, |e| String::from_utf8_lossy(e.value.get(8..).unwrap_or(b"")).into())
    }

    /// Changes one thing and says what.
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
        let key = random.pick(KEYS).replace("{}", &self.architecture());
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
        let (old, new) = (self.architecture(), *random.pick(ARCHITECTURES));
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
                let (kind, block, bytes) = *random.pick(TYPES);
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

/// A number that somebody may have forgotten to think of, near the old one or far from it.
fn odd_bytes(random: &mut Random, width: usize, old: &[u8]) -> Vec<u8> {
    let mut wide = [0; 8];
    wide[..old.len().min(8)].copy_from_slice(&old[..old.len().min(8)]);
    let old = u64::from_le_bytes(wide);
    let floats = [f32::NAN, f32::INFINITY, -1.0, 0.0, 1e30, 1e-30].map(|x| u64::from(x.to_bits()));
    let new = match random.below(12) {
        0 => old.wrapping_add(1),
        1 => old.wrapping_sub(1),
        2 => old.wrapping_mul(2),
        3 => old / 2,
        4 | 5 => *random.pick(&floats),
        6 => random.next(),
        _ => *random.pick(&[
            0,
            1,
            2,
            3,
            5,
            7,
            8,
            64,
            255,
            256,
            512,
            513,
            1 << 20,
            0x7fff_ffff,
            1 << 31,
            u64::MAX,
        ]),
    };
    new.to_le_bytes()[..width.min(8)].to_vec()
}

fn odd_text(random: &mut Random, old: &[u8]) -> (Vec<u8>, String) {
    let new: Vec<u8> = match random.below(9) {
        0 => Vec::new(),
        1 => b"\0".to_vec(),
        2 => vec![b'a'; *random.pick(&[64, 4096, 100_000])],
        3 => vec![0xff, 0xfe, 0xc0, 0x80],
        4 => [old, old].concat(),
        5 => old[..old.len() / 2].to_vec(),
        6 => random.pick(WORDS).as_bytes().to_vec(),
        7 => {
            let mut new = old.to_vec();
            if !new.is_empty() {
                let at = random.below(new.len());
                new[at] ^= 1 << random.below(8);
            }
            new
        }
        _ => "%s%n {{ \u{202e} \u{1f600}".as_bytes().to_vec(),
    };
    let shown = format!("{:?}", String::from_utf8_lossy(&new[..new.len().min(60)]));
    (new, shown)
}

/// Changes the bytes themselves, wherever the header may end, and says what.
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

/// ggml's number of a type, elements in a block of it, bytes of a block.
const TYPES: &[(u32, usize, usize)] = &[
    (0, 1, 4),
    (1, 1, 2),
    (2, 32, 18),
    (3, 32, 20),
    (6, 32, 22),
    (8, 32, 34),
    (9, 32, 36),
    (10, 256, 84),
    (12, 256, 144),
    (14, 256, 210),
    (15, 256, 292),
    (16, 256, 66),
    (20, 32, 18),
    (24, 1, 1),
    (26, 1, 4),
    (28, 1, 8),
    (30, 1, 2),
    (34, 256, 54),
    (39, 32, 17),
    (40, 64, 36),
    (41, 128, 18),
    (4, 32, 18),
    (77, 1, 4),
];

const WORDS: &[&str] = &[
    "llama",
    "gpt2",
    "bert",
    "t5",
    "rwkv",
    "plamo2",
    "none",
    "no_vocab",
    "gemma4",
    "hybriddna",
    "whitespace",
    "default",
    "llama-bpe",
    "qwen2",
    "kimi-k2",
    "linear",
    "yarn",
    "longrope",
    "magic",
    "adapter",
    "mmproj",
    "<0x0A>",
    "</s>",
    "token_embd.weight",
    "output.weight",
    "blk.0.attn_norm.weight",
    "blk.99.attn_q.weight",
    "blk.0.ffn_gate_inp.weight",
];

const KEYS: &[&str] = &[
    "{}.expert_count",
    "{}.expert_used_count",
    "{}.expert_group_count",
    "{}.expert_group_used_count",
    "{}.attention.key_length",
    "{}.attention.value_length",
    "{}.attention.key_length_mla",
    "{}.attention.value_length_mla",
    "{}.attention.key_length_swa",
    "{}.attention.head_count_kv",
    "{}.attention.sliding_window",
    "{}.attention.sliding_window_pattern",
    "{}.attention.shared_kv_layers",
    "{}.attention.causal",
    "{}.attention.layer_norm_epsilon",
    "{}.attention.layer_norm_rms_epsilon",
    "{}.rope.dimension_count",
    "{}.rope.dimension_sections",
    "{}.rope.freq_base",
    "{}.rope.scaling.factor",
    "{}.rope.scaling.type",
    "{}.rope.scaling.original_context_length",
    "{}.nextn_predict_layers",
    "{}.embedding_length_out",
    "{}.vocab_size",
    "{}.pooling_type",
    "{}.ssm.conv_kernel",
    "{}.ssm.state_size",
    "{}.ssm.group_count",
    "{}.leading_dense_block_count",
    "{}.logit_scale",
    "{}.final_logit_softcapping",
    "{}.attn_logit_softcapping",
    "general.alignment",
    "general.type",
    "split.count",
    "split.no",
    "split.tensors.count",
    "tokenizer.ggml.bos_token_id",
    "tokenizer.ggml.eos_token_id",
    "tokenizer.ggml.eot_token_id",
    "tokenizer.ggml.unknown_token_id",
    "tokenizer.ggml.padding_token_id",
    "tokenizer.ggml.newline_token_id",
    "tokenizer.ggml.add_bos_token",
    "tokenizer.ggml.add_eos_token",
    "tokenizer.ggml.add_sep_token",
    "tokenizer.ggml.add_space_prefix",
    "tokenizer.ggml.remove_extra_whitespaces",
    "tokenizer.ggml.precompiled_charsmap",
    "tokenizer.ggml.suppress_tokens",
    "tokenizer.ggml.token_type_count",
    "general.sampling.temp",
    "general.sampling.top_k",
];

const ARCHITECTURES: &[&str] = &[
    "llama",
    "llama4",
    "deci",
    "falcon",
    "grok",
    "gpt2",
    "gptj",
    "gptneox",
    "mpt",
    "baichuan",
    "starcoder",
    "refact",
    "bert",
    "bloom",
    "stablelm",
    "qwen",
    "qwen2",
    "qwen2moe",
    "qwen2vl",
    "qwen3",
    "qwen3moe",
    "qwen3next",
    "qwen35",
    "phi2",
    "phi3",
    "plamo",
    "plamo2",
    "minicpm",
    "minicpm3",
    "gemma",
    "gemma2",
    "gemma3",
    "gemma3n",
    "gemma4",
    "mamba",
    "mamba2",
    "jamba",
    "falcon-h1",
    "command-r",
    "cohere2",
    "olmo2",
    "olmoe",
    "deepseek",
    "deepseek2",
    "chatglm",
    "glm4",
    "glm4moe",
    "bitnet",
    "t5",
    "nemotron",
    "nemotron_h",
    "exaone4",
    "rwkv6",
    "rwkv7",
    "granite",
    "granitemoe",
    "granitehybrid",
    "smollm3",
    "gpt-oss",
    "lfm2",
    "dream",
    "llada",
    "hunyuan-dense",
    "mistral3",
    "kimi-linear",
    "clip",
    "wavtokenizer-dec",
    "eagle3",
    "pockettts",
    "no-such-thing",
    "",
];

const TEMPLATES: &[&str] = &[
    "",
    "{{ messages }}",
    "{% for %}",
    "{{ raise_exception('never') }}",
    "{% for i in range(100000000) %}x{% endfor %}",
    "{% set ns = namespace(t='x') %}{% for i in range(60) %}{% set ns.t = ns.t + ns.t %}{% endfor %}{{ ns.t }}",
    "{% macro m(x) %}{{ m(x) }}{% endmacro %}{{ m(1) }}",
    "{{ 'x' * 10000000000 }}",
    "{{ messages[10 ** 18]['content'][1 << 60] }}",
    "{% for message in messages %}{{ message.content }}{% endfor %}\u{0}\u{1f600}<s></s><|im_end|>",
];
