//! The reader of GGUF headers on whatever bytes: no panic, no hang, no more memory than the bytes are worth.
//!
//! The module is compiled by itself, without llama.cpp. Seeds are written when the fuzzer starts: the headers of the tests'
//! models, and small files from the builder of the module's own tests.

#![no_main]

#[allow(dead_code, unused_imports)]
#[path = "../../src/gguf/mod.rs"]
mod gguf;

use std::fs;
use std::path::Path;

use gguf::sample::Sample;
use gguf::{Header, Value, memory, parse};
use libfuzzer_sys::fuzz_target;

fuzz_target!(init: seeds(), |data: &[u8]| {
    // A file may be larger than what is there of its header.
    for size in [data.len() as u64, 1 << 40] {
        match parse::parse(data, size) {
            Ok(header) => exercise(&header),
            Err(refusal) => drop((refusal.to_string(), refusal.hint())),
        }
    }
});

fn exercise(header: &Header) {
    for (key, value) in header.entries() {
        if let Value::Array(array) = value {
            assert_eq!(array.iter().count(), array.len(), "{key}");
            if let Some(texts) = array.strings() {
                assert_eq!(texts.count(), array.len(), "{key}");
            }
        }
        let _ = (header.str(key), header.uint(key), header.float(key), header.bool(key), header.uints(key));
    }
    if let Err(refusal) = gguf::check(header) {
        drop((refusal.to_string(), refusal.hint()));
    }
    let _ = (gguf::parts(header), header.tensor("token_embd.weight"));
    let per_token = memory::kv_bytes_per_token(header, 16.0, 8.5);
    assert!(per_token >= 0.0 && per_token.is_finite());
    let _ =
        (memory::weights_bytes(header), memory::trained_context(header), memory::learned_positions(header));
}

fn seeds() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let corpus = root.join("corpus/header");
    fs::create_dir_all(&corpus).expect("the corpus can be written");
    let save =
        |name: &str, bytes: &[u8]| fs::write(corpus.join(name), bytes).expect("the corpus can be written");
    for entry in fs::read_dir(root.join("../tests/models")).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.extension().is_some_and(|e| e == "gguf") {
            let header = gguf::read(&path).expect("the tests' models are sound");
            let bytes = fs::read(&path).expect("it was just read");
            save(&entry.file_name().to_string_lossy(), &bytes[..header.metadata_bytes as usize]);
        }
    }
    let small = Sample::default().text("general.architecture", "llama").u32("llama.block_count", 2);
    let numbers = small.clone().u32("llama.context_length", 8).u32("llama.embedding_length", 4);
    let model = numbers
        .u32("llama.attention.head_count", 2)
        .f32("llama.attention.layer_norm_rms_epsilon", 1e-5)
        .text("tokenizer.ggml.model", "llama")
        .texts("tokenizer.ggml.tokens", &["a", "b", "<0x0A>"])
        .f32s("tokenizer.ggml.scores", &[0.0; 3])
        .i32s("tokenizer.ggml.token_type", &[1, 1, 6])
        .bool("tokenizer.ggml.add_bos_token", true);
    let split = model.clone().u32("split.count", 2).u32("split.no", 0).u32("split.tensors.count", 3);
    let experts = model.clone().u32("llama.expert_count", 8).i32s("llama.expert_used_count", &[2, 2]);
    let old = small.clone().version(2).i32("x", -1).tensor("t", &[4, 2]);
    for (name, sample) in
        [("small", &small), ("model", &model), ("split", &split), ("experts", &experts), ("old", &old)]
    {
        save(name, &sample.clone().tensor("token_embd.weight", &[4, 3]).bytes());
    }
}
