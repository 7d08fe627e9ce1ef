//! Models that write given pieces, one token each, whatever the prompt: GGUF files whose weights are a table
//! of which piece follows which.
//!
//! Their vocabulary has every byte, the markers that a test wants, and the pieces; nothing is ever merged. A
//! piece with a marker's text is that marker. Each piece can be written only once, since the last token alone
//! decides the next.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;

use fireside::gguf::write::{GgufWriter, Metadata, placed};

use super::Home;

/// GGUF's numbers of the token types.
#[derive(Clone, Copy)]
pub enum Kind {
    Normal = 1,
    Control = 3,
    UserDefined = 4,
}

pub const CHATML: &str = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}\
                          {% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

/// Ends every answer.
const END: &str = "<|im_end|>";
const F32: u32 = 0;

/// A model under construction.
pub struct Parrot {
    says: Vec<String>,
    /// The token after which it starts to write: the last one of its prompt.
    after: String,
    template: Option<String>,
    named: Vec<(String, String)>,
    markers: Vec<(String, Kind)>,
    merges: Vec<[String; 2]>,
}

impl Parrot {
    /// A model with ChatML's template and only its markers.
    pub fn saying(pieces: &[&str]) -> Parrot {
        let markers = ["<|endoftext|>", "<|im_start|>", END];
        Parrot {
            says: pieces.iter().map(|piece| piece.to_string()).collect(),
            after: "\n".into(),
            template: Some(CHATML.into()),
            named: Vec::new(),
            markers: markers.map(|marker| (marker.to_string(), Kind::Control)).to_vec(),
            merges: Vec::new(),
        }
    }

    pub fn template(mut self, template: &str) -> Parrot {
        self.template = Some(template.into());
        self
    }

    /// Chat templates by name, and no unnamed one.
    pub fn named_templates(mut self, named: &[(&str, &str)]) -> Parrot {
        self.template = None;
        self.named = named.iter().map(|(name, source)| (name.to_string(), source.to_string())).collect();
        self
    }

    pub fn after(mut self, token: &str) -> Parrot {
        self.after = token.into();
        self
    }

    pub fn marker(mut self, text: &str, kind: Kind) -> Parrot {
        self.markers.push((text.into(), kind));
        self
    }

    /// Two texts that are merged into one token; if no token has that text, adds a normal one.
    pub fn merge(mut self, left: &str, right: &str) -> Parrot {
        self.merges.push([left.into(), right.into()]);
        self
    }

    pub fn write(self, home: &Home, name: &str) -> PathBuf {
        let mut tokens: Vec<String> = alphabet().to_vec();
        let mut kinds = vec![Kind::Normal as i32; tokens.len()];
        let mut ids: BTreeMap<String, usize> = BTreeMap::new();
        for byte in 0..128_u8 {
            ids.insert(char::from(byte).to_string(), usize::from(byte));
        }
        for byte in 0..=255_u8 {
            ids.insert(raw(byte), usize::from(byte));
        }
        let mut add = |text: &str, spelled: String, kind: Kind| {
            if ids.insert(text.into(), tokens.len()).is_none() {
                tokens.push(spelled);
                kinds.push(kind as i32);
            }
        };
        for (text, kind) in &self.markers {
            add(text, text.clone(), *kind);
        }
        let known: Vec<String> = self.markers.iter().map(|(text, _)| text.clone()).collect();
        let merged = self.merges.iter().map(|pair| pair.concat());
        for piece in self.says.iter().cloned().chain(merged) {
            let is_raw = (0..=255).any(|byte| raw(byte) == piece);
            if ![&piece, &spelled(&piece)].iter().any(|text| known.contains(text))
                && piece.len() > 1
                && !is_raw
            {
                add(&piece, spelled(&piece), Kind::Normal);
            }
        }
        let said = self.says.iter().chain([&self.markers[2].0]);
        let chain: Vec<usize> = [&self.after].into_iter().chain(said).map(|text| ids[text]).collect();
        let mut next = vec![ids[END]; tokens.len()];
        let mut spoken = Vec::new();
        for pair in chain.windows(2) {
            assert!(!spoken.contains(&pair[0]), "{:?} is said twice", tokens[pair[0]]);
            spoken.push(pair[0]);
            next[pair[0]] = pair[1];
        }
        let path = home.path(&format!("{name}.gguf"));
        write(&path, self.metadata(&tokens, &kinds, &ids), &next);
        path
    }

    fn metadata(&self, tokens: &[String], kinds: &[i32], ids: &BTreeMap<String, usize>) -> Metadata {
        let merges = self.merges.iter().map(|[left, right]| format!("{} {}", spelled(left), spelled(right)));
        let merges: Vec<String> = merges.chain(["Ġ Ġ".to_string()]).collect();
        let mut metadata = Metadata::default()
            .text("general.architecture", "llama")
            .text("general.name", "parrot")
            .u32("llama.context_length", 4096)
            .u32("llama.embedding_length", width(tokens.len()) as u32)
            .u32("llama.block_count", 1)
            .u32("llama.feed_forward_length", 32)
            .u32("llama.attention.head_count", 1)
            .u32("llama.attention.head_count_kv", 1)
            .u32("llama.attention.key_length", 32)
            .u32("llama.attention.value_length", 32)
            .u32("llama.rope.dimension_count", 32)
            .f32("llama.attention.layer_norm_rms_epsilon", 1e-5)
            .text("tokenizer.ggml.model", "gpt2")
            .text("tokenizer.ggml.pre", "gpt-2")
            .texts("tokenizer.ggml.tokens", tokens)
            .i32s("tokenizer.ggml.token_type", kinds)
            .texts("tokenizer.ggml.merges", &merges)
            .bool("tokenizer.ggml.add_bos_token", false)
            .u32("tokenizer.ggml.bos_token_id", ids["<|endoftext|>"] as u32)
            .u32("tokenizer.ggml.eos_token_id", ids[END] as u32);
        if let Some(template) = &self.template {
            metadata = metadata.text("tokenizer.chat_template", template);
        }
        if !self.named.is_empty() {
            let names: Vec<&String> = self.named.iter().map(|(name, _)| name).collect();
            metadata = metadata.texts("tokenizer.chat_templates", &names);
        }
        self.named.iter().fold(metadata, |metadata, (name, source)| {
            metadata.text(&format!("tokenizer.chat_template.{name}"), source)
        })
    }
}

/// A piece of one byte, which may be only a part of a character.
pub fn raw(byte: u8) -> String {
    char::from_u32(0xf700 + u32::from(byte)).unwrap().to_string() // in Unicode's private area
}

/// GPT-2's printable stand-in for every byte, in the order of the bytes.
fn alphabet() -> [String; 256] {
    let plain = |byte: u32| matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    let mut others = 256..;
    std::array::from_fn(|byte| {
        let byte = byte as u32;
        let code = if plain(byte) { byte } else { others.next().unwrap() };
        char::from_u32(code).unwrap().to_string()
    })
}

fn spelled(text: &str) -> String {
    let alphabet = alphabet();
    text.bytes().map(|byte| alphabet[usize::from(byte)].as_str()).collect()
}

fn width(tokens: usize) -> usize {
    tokens.next_multiple_of(32)
}

/// One row of `wide` numbers per token, one of them not zero.
fn table(columns: impl Iterator<Item = usize>, wide: usize, value: f32) -> Vec<f32> {
    let row = |column| (0..wide).map(move |at| if at == column { value } else { 0.0 });
    columns.flat_map(row).collect()
}

/// The dimensions of a tensor, the contiguous one first, and its numbers.
type Numbers = (Vec<u64>, Vec<f32>);

/// The embeddings are one number each, and the output has, for each token, the numbers of those that it
/// follows.
fn write(path: &std::path::Path, metadata: Metadata, next: &[usize]) {
    let (count, wide) = (next.len(), width(next.len()));
    let mut output = vec![0.0; count * wide];
    for (token, next) in next.iter().enumerate() {
        output[next * wide + token] = 10.0;
    }
    let zeros = |rows: usize, columns: usize| -> Numbers {
        (vec![columns as u64, rows as u64], vec![0.0; rows * columns])
    };
    let ones = || (vec![wide as u64], vec![1.0; wide]);
    let of_words = vec![wide as u64, count as u64];
    let tensors: Vec<(&str, Numbers)> = vec![
        ("token_embd.weight", (of_words.clone(), table(0..count, wide, 1.0))),
        ("output_norm.weight", ones()),
        ("output.weight", (of_words, output)),
        ("blk.0.attn_norm.weight", ones()),
        ("blk.0.ffn_norm.weight", ones()),
        ("blk.0.attn_q.weight", zeros(32, wide)),
        ("blk.0.attn_k.weight", zeros(32, wide)),
        ("blk.0.attn_v.weight", zeros(32, wide)),
        ("blk.0.attn_output.weight", zeros(wide, 32)),
        ("blk.0.ffn_gate.weight", zeros(32, wide)),
        ("blk.0.ffn_up.weight", zeros(32, wide)),
        ("blk.0.ffn_down.weight", zeros(wide, 32)),
    ];
    let records = placed(tensors.iter().map(|(name, (dims, _))| (name.to_string(), dims.clone(), F32)));
    let mut writer = GgufWriter::begin(File::create(path).unwrap(), &metadata, &records).unwrap();
    for (_, (_, numbers)) in &tensors {
        let bytes: Vec<u8> = numbers.iter().flat_map(|number: &f32| number.to_le_bytes()).collect();
        writer.data(&bytes).and_then(|()| writer.end_tensor()).unwrap();
    }
    writer.finish().unwrap();
}
