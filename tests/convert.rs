//! `fireside convert`: the files it writes, and its failures for checkpoints that it does not support.
//! families.rs compares the results with the reference.

use std::fs;
use std::path::{Path, PathBuf};

use fireside::convert::{Conversion, Type};
use fireside::gguf::{self, type_name};

use crate::support::{Done, Home, alone, own_peak, repository};

/// A copy of a checkpoint from tests/families in a home of its own.
struct Checkpoint {
    home: Home,
    folder: PathBuf,
}

impl Checkpoint {
    fn of(name: &str) -> Checkpoint {
        let home = Home::new();
        for entry in fs::read_dir(repository().join("tests/families").join(name)).unwrap() {
            let path = entry.unwrap().path();
            home.write(
                &format!("in/{}", path.file_name().unwrap().to_str().unwrap()),
                fs::read(path).unwrap(),
            );
        }
        let folder = home.path("in");
        Checkpoint { home, folder }
    }

    /// Changes one of its files as text.
    fn with(self, file: &str, from: &str, to: &str) -> Checkpoint {
        let text = fs::read_to_string(self.folder.join(file)).unwrap();
        assert!(text.contains(from), "{file} lacks {from}");
        fs::write(self.folder.join(file), text.replacen(from, to, 1)).unwrap();
        self
    }

    /// Replaces a text in the header of its weights by one of the same length.
    fn with_header(self, from: &str, to: &str) -> Checkpoint {
        assert_eq!(from.len(), to.len());
        let path = self.folder.join("model.safetensors");
        let mut bytes = fs::read(&path).unwrap();
        let at = bytes.windows(from.len()).position(|part| part == from.as_bytes()).unwrap();
        bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
        fs::write(path, bytes).unwrap();
        self
    }

    fn converted(&self, more: &[&str]) -> Done {
        self.home.run(&[&["convert", "in", "out/model.gguf"], more].concat()).done()
    }

    /// Fails with one line that contains `part`, and leaves no file.
    #[track_caller]
    fn refused(self, part: &str) -> Done {
        fs::create_dir_all(self.home.path("out")).unwrap();
        let done = self.converted(&[]).failed(1, part);
        let left = fs::read_dir(self.home.path("out")).unwrap().count();
        assert_eq!(left, 0, "something is left behind; {done:#?}");
        done
    }
}

#[test]
fn every_type_is_written_and_listed() {
    let checkpoint = Checkpoint::of("gpt-j");
    fs::create_dir_all(checkpoint.home.path("out")).unwrap();
    for (kind, named) in [("f32", "F32"), ("f16", "F16"), ("bf16", "BF16"), ("q8_0", "Q8_0")] {
        let out = checkpoint.home.path(&format!("out/{kind}.gguf"));
        let run = checkpoint.home.run(&["convert", "--json", "--type", kind, "in"]).arg(&out);
        let object = run.done().code(0).json();
        assert_eq!((&object["family"], &object["type"]), (&"GPT-J".into(), &kind.into()));
        let header = gguf::read(&out).unwrap();
        assert_eq!(type_name(header.tensor("blk.0.attn_q.weight").unwrap().kind), kind);
        assert_eq!(type_name(header.tensor("output_norm.weight").unwrap().kind), "f32");
        let show = checkpoint.home.run(&["show", "--json"]).arg(&out).done().code(0).json();
        assert_eq!(show["quantisation"], named, "{show}");
    }
    checkpoint.converted(&[]).code(0).stdout("out/model.gguf\n");
    checkpoint.converted(&[]).failed(1, "model.gguf already exists").hint("--force");
    checkpoint.home.run(&["convert", "in", "new.gguf", "--type", "q4_0"]).done().failed(2, "no type 'q4_0'");
}

#[test]
fn the_context_of_gpt_neo_ends_with_an_explanation() {
    let checkpoint = Checkpoint::of("gpt-neo");
    fs::create_dir_all(checkpoint.home.path("out")).unwrap();
    checkpoint.converted(&[]).code(0).says("256 tokens of context: half of its layers look back 256 tokens");
    let model = checkpoint.home.path("out/model.gguf");
    let run = |args: &[&str]| checkpoint.home.run(args).model(&model).done();
    run(&["-p", "Hi", "-n", "1", "--ctx-size", "300"]).failed(2, "300 exceeds").hint("look back 256 tokens");
    run(&["-p", "Hi", "-n", "1"]).code(0).says("look back 256 tokens");
    run(&["--raw", "-p", &"word ".repeat(400), "-n", "1"]).failed(3, "256");
    run(&["--raw", "-p", "Hi", "-n", "1000"]).code(4).says("the context is full");
}

#[test]
fn gpt2_never_passes_its_trained_length() {
    let model = repository().join("tests/families/gpt2.gguf");
    let home = Home::new();
    home.run(&["--raw", "-p", "Hi", "-n", "1000"]).model(&model).done().code(4).says("the context is full");
    home.run(&["--raw", "-p", "Hi", "--ctx-size", "257"]).model(&model).done().failed(2, "257 exceeds");
}

#[test]
fn a_tokenizer_in_two_files_is_read_as_well() {
    let checkpoint = Checkpoint::of("gpt-j");
    let text = fs::read_to_string(checkpoint.folder.join("tokenizer.json")).unwrap();
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    let mut vocabulary = json["model"]["vocab"].clone();
    for token in json["added_tokens"].as_array().unwrap() {
        vocabulary[token["content"].as_str().unwrap()] = token["id"].clone();
    }
    let pair =
        |pair: &serde_json::Value| format!("{} {}\n", pair[0].as_str().unwrap(), pair[1].as_str().unwrap());
    let merges: String = json["model"]["merges"].as_array().unwrap().iter().map(pair).collect();
    fs::create_dir_all(checkpoint.home.path("out")).unwrap();
    checkpoint.converted(&[]).code(0);
    fs::rename(checkpoint.home.path("out/model.gguf"), checkpoint.home.path("one.gguf")).unwrap();
    fs::remove_file(checkpoint.folder.join("tokenizer.json")).unwrap();
    fs::write(checkpoint.folder.join("vocab.json"), vocabulary.to_string()).unwrap();
    fs::write(checkpoint.folder.join("merges.txt"), format!("#version: 0.2\n{merges}")).unwrap();
    checkpoint.converted(&[]).code(0);
    let [one, two] = ["one.gguf", "out/model.gguf"].map(|file| fs::read(checkpoint.home.path(file)).unwrap());
    assert!(one == two, "the same file whichever way the tokenizer is spelled");
}

#[test]
fn a_bad_checkpoint_is_one_line_and_leaves_nothing() {
    let gptj = || Checkpoint::of("gpt-j");
    gptj().with("config.json", "\"gptj\"", "\"llama\"").refused("'llama'").hint("own converter does");
    gptj()
        .with("config.json", "\"n_layer\": 2", "\"n_layer\": 3")
        .refused("'h.2.ln_1.weight' of a GPT-J model is missing");
    gptj()
        .with("config.json", "\"n_layer\": 2", "\"n_layer\": 1")
        .refused("does not belong to a GPT-J model");
    gptj()
        .with("config.json", "\"vocab_size\": 527", "\"vocab_size\": 528")
        .refused("527 x 32, not 528 x 32");
    gptj().with("config.json", "{", "[").refused("not JSON");
    gptj().with_header("\"F16\"", "\"I16\"").refused("I16");
    gptj().with_header("transformer.ln_f.bias", "transformer.ln_x.bias").refused("'ln_f.bias'");
    gptj().with("tokenizer.json", "\"ByteLevel\"", "\"Metaspace\"").refused("byte-level BPE");
    let cut = gptj();
    let weights = cut.folder.join("model.safetensors");
    let whole = fs::read(&weights).unwrap();
    for length in [0, 7, 100, whole.len() - 1] {
        let cut = gptj();
        fs::write(cut.folder.join("model.safetensors"), &whole[..length]).unwrap();
        cut.refused("ends too early").hint("fetch the file again");
    }
    fs::remove_file(&weights).unwrap();
    fs::write(cut.folder.join("pytorch_model.bin"), "x").unwrap();
    cut.refused("a Python pickle (pytorch_model.bin)").hint("safetensors");
    let parts = Checkpoint::of("gpt-neo");
    let part = fs::read_dir(&parts.folder).unwrap().map(|entry| entry.unwrap().path());
    fs::remove_file(part.into_iter().find(|path| path.to_string_lossy().contains("-00002-of-")).unwrap())
        .unwrap();
    parts.refused("-00002-of-");
    let nan = gptj();
    let weights = nan.folder.join("model.safetensors");
    let mut bytes = fs::read(&weights).unwrap();
    let end = bytes.len();
    bytes[end - 2..].copy_from_slice(&[0xff, 0x7f]);
    fs::write(&weights, bytes).unwrap();
    nan.refused("not a number");
}

#[test]
fn memory_stays_below_what_the_largest_tensor_takes() {
    if !alone("convert::memory_stays_below_what_the_largest_tensor_takes") {
        return;
    }
    // Only the conversion: its result is loaded by another process, which needs the model's memory.
    let checkpoint = Checkpoint::of("gpt-j").with("config.json", "\"n_inner\": null", "\"n_inner\": 2097152");
    let largest = widened(&checkpoint.folder.join("model.safetensors"), 128, 2_097_152);
    assert_eq!(largest, 128 << 20);
    let before = own_peak();
    let conversion = Conversion::plan(&checkpoint.folder, Some(Type::F32)).unwrap();
    conversion.write(std::io::sink(), &mut |_, _| true).unwrap();
    let more = own_peak() - before;
    assert!(more < largest * 3 / 2, "{} MiB", more >> 20);
}

/// Changes every dimension `from` to `to`, with all weights zero in a sparse file; returns the bytes of the
/// largest tensor.
fn widened(weights: &Path, from: u64, to: u64) -> u64 {
    let bytes = fs::read(weights).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    let (mut at, mut largest) = (0, 0);
    for (name, tensor) in header.as_object_mut().unwrap() {
        if name == "__metadata__" {
            continue;
        }
        let shape: Vec<u64> = serde_json::from_value(tensor["shape"].clone()).unwrap();
        let shape: Vec<u64> = shape.into_iter().map(|n| if n == from { to } else { n }).collect();
        let size = shape.iter().product::<u64>() * 2;
        tensor["shape"] = shape.into();
        tensor["data_offsets"] = vec![at, at + size].into();
        at += size;
        largest = largest.max(size);
    }
    let header = header.to_string();
    fs::write(weights, [&(header.len() as u64).to_le_bytes()[..], header.as_bytes()].concat()).unwrap();
    fs::OpenOptions::new().write(true).open(weights).unwrap().set_len(8 + header.len() as u64 + at).unwrap();
    largest
}

#[test]
fn ctrl_c_leaves_nothing() {
    let checkpoint = Checkpoint::of("gpt-j").with("config.json", "\"n_inner\": null", "\"n_inner\": 2097152");
    widened(&checkpoint.folder.join("model.safetensors"), 128, 2_097_152);
    fs::create_dir_all(checkpoint.home.path("out")).unwrap();
    let run = checkpoint.home.run(&["convert", "in", "out/model.gguf"]).start();
    run.wait_for_handler();
    run.interrupt();
    run.done().code(130).stdout("");
    assert_eq!(fs::read_dir(checkpoint.home.path("out")).unwrap().count(), 0);
}

#[test]
fn chat_templates_with_names_come_along() {
    let named = r#"{"chat_template": [{"name": "rag", "template": "{{ 1 }}"}, {"name": "default", "template": "{{ 2 }}"}], "#;
    let checkpoint = Checkpoint::of("gpt-j").with("tokenizer_config.json", "{", named);
    fs::create_dir_all(checkpoint.home.path("out")).unwrap();
    checkpoint.converted(&[]).code(0);
    let header = gguf::read(&checkpoint.home.path("out/model.gguf")).unwrap();
    assert_eq!(header.str("tokenizer.chat_template"), Some("{{ 2 }}"));
    assert_eq!(header.str("tokenizer.chat_template.rag"), Some("{{ 1 }}"));
}

/// Data beyond the end of the file, or before its start, is never read (CVE-2026-7482).
#[test]
fn tensors_that_lie_outside_the_file_are_refused() {
    let text = |name: &str| {
        let bytes = fs::read(Checkpoint::of(name).folder.join("model.safetensors")).unwrap();
        let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        String::from_utf8(bytes[8..8 + length].to_vec()).unwrap()
    };
    let header: serde_json::Value = serde_json::from_str(&text("gpt-j")).unwrap();
    let offsets = |at: usize| {
        let all = header.as_object().unwrap().values();
        let of = |tensor: &serde_json::Value| Some(tensor["data_offsets"].as_array()?.clone());
        let offsets = all.filter_map(of).nth(at).unwrap();
        format!("[{},{}]", offsets[0], offsets[1])
    };
    let one = offsets(1);
    let digits = |filler: char| {
        let inner: String = one.chars().map(|c| if c.is_ascii_digit() { filler } else { c }).collect();
        inner
    };
    Checkpoint::of("gpt-j").with_header(&one, &digits('9')).refused("header");
    let (from, to) = one[1..one.len() - 1].split_once(',').unwrap();
    if from.len() == to.len() {
        Checkpoint::of("gpt-j").with_header(&one, &format!("[{to},{from}]")).refused("header");
    }
}
