//! The arithmetic of docs/big-models.md: headers of the models' shapes, over data that is a hole in the file →
//! what `show` says about them → the tables. `UPDATE_DOCS=1 cargo test --release big_models` rewrites them.

use std::fs::File;
use std::path::PathBuf;

use fireside::gguf::write::{GgufWriter, Metadata, placed};
use fireside::units::size;
use serde_json::Value;

use crate::support::{Home, repository};
use crate::tidy::check_table;

/// llama.cpp's numbers of tensor types.
const F32: u32 = 0;
const Q4_0: u32 = 2;
const Q5_0: u32 = 6;
const Q8_0: u32 = 8;
const Q2_K: u32 = 10;
const Q3_K: u32 = 11;
const Q4_K: u32 = 12;
const Q5_K: u32 = 13;
const Q6_K: u32 = 14;
const MXFP4: u32 = 39;

/// The mixes of types, as `llama_tensor_get_type_impl` in llama.cpp's `llama-quant.cpp` chooses them for
/// these models.
#[derive(Clone, Copy)]
enum Mix {
    Mxfp4,
    Q2K,
    Q4KM,
}

impl Mix {
    fn name(self) -> &'static str {
        match self {
            Mix::Mxfp4 => "MXFP4",
            Mix::Q2K => "Q2_K",
            Mix::Q4KM => "Q4_K_M",
        }
    }

    /// The type of a tensor in the first part of its name, `layer` of `layers`.
    fn kind(self, name: &str, dims: &[u64], layer: u64, layers: u64) -> u32 {
        let small = dims.len() == 1 || name.ends_with("bias") || name.starts_with("ffn_gate_inp");
        let more = layer < layers / 8 || layer >= 7 * layers / 8 || (layer - layers / 8) % 3 == 2;
        let kind = match self {
            _ if small => return F32,
            Mix::Mxfp4 if dims.len() == 3 => return MXFP4,
            Mix::Mxfp4 => return Q8_0,
            _ if name.starts_with("output.") => Q6_K,
            Mix::Q2K if name.starts_with("ffn_down") || name.starts_with("attn_output") => Q3_K,
            Mix::Q2K => Q2_K,
            Mix::Q4KM if more && (name.starts_with("ffn_down") || name == "attn_v.weight") => Q6_K,
            Mix::Q4KM if name == "attn_v.weight" => Q5_K,
            Mix::Q4KM => Q4_K,
        };
        match kind {
            Q2_K | Q3_K if !dims[0].is_multiple_of(256) => Q4_0,
            Q4_K if !dims[0].is_multiple_of(256) => Q5_0,
            kind => kind,
        }
    }
}

type Tensors = Vec<(&'static str, Vec<u64>)>;

struct Model {
    title: &'static str,
    mix: Mix,
    arch: &'static str,
    vocabulary: u64,
    numbers: Vec<(&'static str, u32)>,
    /// The tensors of a layer, without `blk.N.`.
    layer: fn(&Model, u64) -> Tensors,
    /// Billions of parameters, and GiB of the published file, as llama-bench prints them; 0: unknown.
    published: (f64, f64),
}

impl Model {
    fn number(&self, key: &str) -> u64 {
        self.numbers.iter().find(|(known, _)| *known == key).map_or(0, |(_, number)| u64::from(*number))
    }

    /// Writes the header and makes the file as long as it would be.
    fn write(&self, home: &Home) -> PathBuf {
        let (width, layers) = (self.number("embedding_length"), self.number("block_count"));
        let tokens: Vec<String> = (0..self.vocabulary).map(|token| token.to_string()).collect();
        let metadata = Metadata::default()
            .text("general.architecture", self.arch)
            .text("general.name", self.title)
            .text("tokenizer.ggml.model", "gpt2")
            .texts("tokenizer.ggml.tokens", &tokens)
            .texts("tokenizer.ggml.merges", &["1 0"]);
        let with =
            |all: Metadata, (key, number): &(&str, u32)| all.u32(&format!("{}.{key}", self.arch), *number);
        let metadata = self.numbers.iter().fold(metadata, with);
        let kind = |name: &str, dims: &[u64], layer| self.mix.kind(name, dims, layer, layers);
        let ends = [
            ("token_embd.weight", vec![width, self.vocabulary]),
            ("output.weight", vec![width, self.vocabulary]),
            ("output_norm.weight", vec![width]),
        ];
        let ends = ends.map(|(name, dims)| (name.to_string(), dims.clone(), kind(name, &dims, 0)));
        let inner = (0..layers).flat_map(|n| {
            let one = |(name, dims): (&str, Vec<u64>)| {
                (format!("blk.{n}.{name}"), dims.clone(), kind(name, &dims, n))
            };
            (self.layer)(self, n).into_iter().map(one).collect::<Vec<_>>()
        });
        let tensors = placed(ends.into_iter().chain(inner));
        let path = home.path(&format!("{}-{}.gguf", self.title.replace([' ', ','], "-"), self.mix.name()));
        let file =
            GgufWriter::begin(File::create(&path).unwrap(), &metadata, &tensors).unwrap().finish().unwrap();
        let last = tensors.last().unwrap();
        file.set_len(file.metadata().unwrap().len() + last.offset + last.bytes).unwrap();
        path
    }
}

/// `config.json` of openai/gpt-oss-120b and -20b, as llama.cpp's conversion/gpt_oss.py writes it.
fn gpt_oss(title: &'static str, layers: u32, experts: u32, published: (f64, f64)) -> Model {
    let numbers = vec![
        ("context_length", 131_072),
        ("block_count", layers),
        ("embedding_length", 2880),
        ("feed_forward_length", 2880),
        ("expert_feed_forward_length", 2880),
        ("expert_count", experts),
        ("expert_used_count", 4),
        ("attention.head_count", 64),
        ("attention.head_count_kv", 8),
        ("attention.key_length", 64),
        ("attention.value_length", 64),
        ("attention.sliding_window", 128),
    ];
    let layer = |model: &Model, _| {
        let (width, experts) = (2880, model.number("expert_count"));
        vec![
            ("attn_norm.weight", vec![width]),
            ("post_attention_norm.weight", vec![width]),
            ("attn_q.weight", vec![width, 4096]),
            ("attn_q.bias", vec![4096]),
            ("attn_k.weight", vec![width, 512]),
            ("attn_k.bias", vec![512]),
            ("attn_v.weight", vec![width, 512]),
            ("attn_v.bias", vec![512]),
            ("attn_output.weight", vec![4096, width]),
            ("attn_output.bias", vec![width]),
            ("attn_sinks.weight", vec![64]),
            ("ffn_gate_inp.weight", vec![width, experts]),
            ("ffn_gate_inp.bias", vec![experts]),
            ("ffn_gate_exps.weight", vec![width, width, experts]),
            ("ffn_gate_exps.bias", vec![width, experts]),
            ("ffn_up_exps.weight", vec![width, width, experts]),
            ("ffn_up_exps.bias", vec![width, experts]),
            ("ffn_down_exps.weight", vec![width, width, experts]),
            ("ffn_down_exps.bias", vec![width, experts]),
        ]
    };
    Model { title, mix: Mix::Mxfp4, arch: "gpt-oss", vocabulary: 201_088, numbers, layer, published }
}

/// `config.json` of meta-llama/Llama-3.3-70B-Instruct.
fn llama_70b() -> Model {
    let numbers = vec![
        ("context_length", 131_072),
        ("block_count", 80),
        ("embedding_length", 8192),
        ("feed_forward_length", 28_672),
        ("attention.head_count", 64),
        ("attention.head_count_kv", 8),
    ];
    let layer = |_: &Model, _| {
        let (width, inner) = (8192, 28_672);
        vec![
            ("attn_norm.weight", vec![width]),
            ("ffn_norm.weight", vec![width]),
            ("attn_q.weight", vec![width, width]),
            ("attn_k.weight", vec![width, 1024]),
            ("attn_v.weight", vec![width, 1024]),
            ("attn_output.weight", vec![width, width]),
            ("ffn_gate.weight", vec![width, inner]),
            ("ffn_up.weight", vec![width, inner]),
            ("ffn_down.weight", vec![inner, width]),
        ]
    };
    let (title, published) = ("Llama 3.3 70B", (70.55, 39.59));
    Model { title, mix: Mix::Q4KM, arch: "llama", vocabulary: 128_256, numbers, layer, published }
}

/// `config.json` of deepseek-ai/DeepSeek-V3 and -R1, as llama.cpp's conversion/deepseek.py writes it: without
/// the layer for multi-token prediction, and with the parts of `kv_b_proj` that latent attention needs.
fn deepseek(mix: Mix, published: (f64, f64)) -> Model {
    let numbers = vec![
        ("context_length", 163_840),
        ("block_count", 61),
        ("leading_dense_block_count", 3),
        ("embedding_length", 7168),
        ("feed_forward_length", 18_432),
        ("expert_feed_forward_length", 2048),
        ("expert_count", 256),
        ("expert_used_count", 8),
        ("expert_shared_count", 1),
        ("attention.head_count", 128),
        ("attention.head_count_kv", 1),
        ("attention.q_lora_rank", 1536),
        ("attention.kv_lora_rank", 512),
        ("attention.key_length", 576),
        ("attention.value_length", 512),
        ("attention.key_length_mla", 192),
        ("attention.value_length_mla", 128),
        ("rope.dimension_count", 64),
    ];
    let layer = |_: &Model, n| {
        let (width, inner, expert, experts) = (7168, 18_432, 2048, 256);
        let mut tensors = vec![
            ("attn_norm.weight", vec![width]),
            ("attn_q_a_norm.weight", vec![1536]),
            ("attn_kv_a_norm.weight", vec![512]),
            ("ffn_norm.weight", vec![width]),
            ("attn_q_a.weight", vec![width, 1536]),
            ("attn_q_b.weight", vec![1536, 128 * 192]),
            ("attn_kv_a_mqa.weight", vec![width, 576]),
            ("attn_k_b.weight", vec![128, 512, 128]),
            ("attn_v_b.weight", vec![512, 128, 128]),
            ("attn_output.weight", vec![128 * 128, width]),
        ];
        let dense = [
            ("ffn_gate.weight", vec![width, inner]),
            ("ffn_up.weight", vec![width, inner]),
            ("ffn_down.weight", vec![inner, width]),
        ];
        let sparse = [
            ("ffn_gate_inp.weight", vec![width, experts]),
            ("exp_probs_b.bias", vec![experts]),
            ("ffn_gate_exps.weight", vec![width, expert, experts]),
            ("ffn_up_exps.weight", vec![width, expert, experts]),
            ("ffn_down_exps.weight", vec![expert, width, experts]),
            ("ffn_gate_shexp.weight", vec![width, expert]),
            ("ffn_up_shexp.weight", vec![width, expert]),
            ("ffn_down_shexp.weight", vec![expert, width]),
        ];
        if n < 3 {
            tensors.extend(dense)
        } else {
            tensors.extend(sparse)
        }
        tensors
    };
    let title = "DeepSeek R1, V3";
    Model { title, mix, arch: "deepseek2", vocabulary: 129_280, numbers, layer, published }
}

fn models() -> Vec<Model> {
    vec![
        gpt_oss("GPT-OSS 20B", 24, 32, (20.91, 11.27)),
        gpt_oss("GPT-OSS 120B", 36, 128, (116.83, 59.02)),
        llama_70b(),
        deepseek(Mix::Q2K, (671.03, 0.0)),
        deepseek(Mix::Q4KM, (671.03, 376.65)),
    ]
}

/// What `show` says of a model on a machine with `gpus`: GiB of free memory.
fn show(home: &Home, model: &Model, gpus: &[u64]) -> Value {
    // A real GPU would be the first one.
    let memory = gpus.iter().map(|gib| format!(",{}", gib << 10)).collect::<String>();
    let names: Vec<String> = (1..=gpus.len()).map(|number| format!("Pretend{number}")).collect();
    let devices = if gpus.is_empty() { "none".to_string() } else { names.join(",") };
    let run = home.run(&["show", "--json", "--device", &devices]).arg(model.write(home));
    let shown = run.env("FIRESIDE_TEST_GPUS", format!("1{memory}")).done().code(0).json();
    assert_eq!(shown["problem"], Value::Null);
    shown
}

fn bytes(value: &Value) -> u64 {
    value.as_u64().unwrap()
}

/// Bytes of the KV cache for a context of so many tokens.
fn kv(shown: &Value, tokens: u64) -> u64 {
    let contexts = shown["memory"]["contexts"].as_array().unwrap();
    bytes(&contexts.iter().find(|context| context["context"] == tokens).unwrap()["kv"])
}

/// Bytes that a device holds in all.
fn used(device: &Value) -> u64 {
    ["weights", "kv", "compute"].iter().map(|what| bytes(&device[what])).sum()
}

/// Bytes of weights that a token reads there.
fn read(device: &Value) -> f64 {
    bytes(&device["read"]) as f64
}

/// Tokens per second, given the seconds that each takes.
fn speed(seconds: f64) -> String {
    let speed = 1.0 / seconds;
    if speed < 9.95 { format!("{speed:.1}") } else { format!("{speed:.0}") }
}

fn row(cells: &[String]) -> String {
    format!("| {} |\n", cells.join(" | "))
}

fn page_says(text: &str) {
    let page = std::fs::read_to_string(repository().join("docs/big-models.md")).unwrap();
    let page = page.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(page.contains(text), "docs/big-models.md should say: {text}");
}

/// What the models take of memory.
fn memory(home: &Home) -> String {
    let mut table =
        "| | file | weights | KV cache, 8,192 tokens | 32,768 tokens | read per token | at 80 GB/s | \
                     at 1,000 GB/s |\n|---|---|---|---|---|---|---|---|\n"
            .to_string();
    for model in models() {
        let shown = show(home, &model, &[]);
        let (parameters, weights) = (bytes(&shown["parameters"]), bytes(&shown["memory"]["weights"]));
        let (billions, gib) = model.published;
        assert!((parameters as f64 / 1e9 - billions).abs() < 0.006, "{}: {parameters}", model.title);
        let times = weights as f64 / f64::from(1 << 30) / gib;
        assert!(gib == 0.0 || (times - 1.0).abs() < 0.002, "{}: {times} times the file", model.title);
        let a_token = read(&shown["memory"]["plan"]["devices"][0]);
        table += &row(&[
            model.title.into(),
            model.mix.name().into(),
            size(weights),
            size(kv(&shown, 8192)),
            size(kv(&shown, 32_768)),
            size(a_token as u64),
            format!("{} tokens/s", speed(a_token / 80e9)),
            format!("{} tokens/s", speed(a_token / 1000e9)),
        ]);
    }
    table
}

/// What a GPU takes of them.
fn beside_a_gpu(home: &Home) -> String {
    let mut table =
        "| | GPU, main memory | on the GPU | in main memory | at most |\n|---|---|---|---|---|\n".to_string();
    let small = (12, "12 GiB at 500 GB/s, 80 GB/s", 500e9, 80e9);
    let large = (24, "24 GiB at 1,000 GB/s, 80 GB/s", 1000e9, 80e9);
    let server = (80, "80 GiB at 2,000 GB/s, 300 GB/s", 2000e9, 300e9);
    for model in models() {
        let machines = match model.title {
            "GPT-OSS 20B" => vec![small],
            "GPT-OSS 120B" => vec![small, large, server],
            _ => vec![large, server],
        };
        for (gib, what, gpu, main) in machines {
            let plan = &show(home, &model, &[gib])["memory"]["plan"];
            let [on, beside] = [&plan["devices"][0], &plan["devices"][1]];
            let (layers, all) = (bytes(&plan["gpu_layers"]), bytes(&plan["layers"]));
            let aside = match bytes(&plan["cpu_experts"]) {
                0 if layers == all => String::new(),
                0 => format!(": {} layers", all - layers),
                experts => format!(": the experts of the first {experts} layers"),
            };
            let seconds = read(on) / gpu + read(beside) / main;
            table += &row(&[
                format!("{}, {}", model.title, model.mix.name()),
                what.into(),
                format!("{layers} of {all} layers, {}", size(used(on))),
                format!("{}{aside}", size(used(beside))),
                format!("{} tokens/s", speed(seconds)),
            ]);
        }
    }
    table
}

/// What several devices take of them.
fn spread(home: &Home) -> String {
    let mut table =
        "| | devices | layers on each | most on one | at most, 0.3 ms | 5 ms |\n|---|---|---|---|---|---|\n"
            .to_string();
    let gpus = |count| (vec![24; count], "GPUs of 24 GiB at 1,000 GB/s, one of them here", 1000e9, count - 1);
    let cases = [
        (2, gpus(2)),
        (1, gpus(3)),
        (3, (vec![112; 3], "workers that lend 112 of 128 GiB at 80 GB/s", 80e9, 3)),
        (4, (vec![224; 2], "workers that lend 224 of 256 GiB at 300 GB/s", 300e9, 2)),
        (4, (vec![80; 5], "GPUs of 80 GiB at 2,000 GB/s, all in one server", 2000e9, 0)),
    ];
    for (index, (memory, what, bandwidth, workers)) in cases {
        let model = &models()[index];
        let plan = &show(home, model, &memory)["memory"]["plan"];
        assert_eq!(plan["gpu_layers"], plan["layers"], "{}: {plan}", model.title);
        let devices = &plan["devices"].as_array().unwrap()[..memory.len()];
        let layers: Vec<String> = devices.iter().map(|device| device["layers"].to_string()).collect();
        let reading = devices.iter().map(read).sum::<f64>() / bandwidth;
        table += &row(&[
            format!("{}, {}", model.title, model.mix.name()),
            format!("{} {what}", memory.len()),
            layers.join(", "),
            size(devices.iter().map(used).max().unwrap()),
            format!("{} tokens/s", speed(reading + workers as f64 * 0.3e-3)),
            format!("{} tokens/s", speed(reading + workers as f64 * 5e-3)),
        ]);
    }
    table
}

#[test]
fn lists_count_the_memory_of_gpus() {
    let home = Home::new();
    let model = models().pop().unwrap();
    model.write(&home);
    let list = |args: &[&str], mib: &str| {
        let run = home.run(&[&["list"], args].concat()).env("FIRESIDE_MODELS", home.path(""));
        // A real GPU would be the first one.
        run.env("FIRESIDE_TEST_GPUS", format!("1,{mib}")).done().code(0)
    };
    let fits = |mib: &str| list(&["--json"], mib).json()["models"][0]["fits"].as_bool().unwrap();
    let rich = fireside::gguf::memory::available_memory().unwrap() > 390 << 30;
    assert_eq!((fits("1"), fits("1000000")), (rich, true), "{}", model.title);
    let line = |mib: &str| list(&[], mib).stdout.lines().last().unwrap().to_string();
    assert!(line("1000000").contains("  yes  "), "{}", line("1000000"));
    assert!(rich || line("1").contains("no: needs "), "{}", line("1"));
}

#[test]
fn the_tables_are_what_show_says() {
    let home = Home::new();
    for (name, table) in
        [("models", memory(&home)), ("gpu", beside_a_gpu(&home)), ("machines", spread(&home))]
    {
        let same = |now: &str, fresh: &str| now == fresh;
        check_table("docs/big-models.md", name, &table, same, "cargo test --release big_models");
    }
}

#[test]
fn a_long_conversation_of_deepseek_is_slower() {
    let home = Home::new();
    let deepseek = show(&home, models().last().unwrap(), &[]);
    let a_token = read(&deepseek["memory"]["plan"]["devices"][0]) + kv(&deepseek, 32_768) as f64;
    let (bytes, most) = (size(a_token as u64), speed(a_token / 80e9));
    page_says(&format!("after 32,768 tokens {bytes}: at 80 GB/s {most} tokens/s at most."));
}

#[test]
fn old_files_of_deepseek_need_much_more() {
    let home = Home::new();
    let mut old = deepseek(Mix::Q4KM, (671.03, 0.0));
    old.numbers.retain(|(key, _)| !key.ends_with("_mla"));
    for (key, number) in &mut old.numbers {
        match *key {
            "attention.head_count_kv" => *number = 128,
            "attention.key_length" => *number = 192,
            "attention.value_length" => *number = 128,
            _ => {}
        }
    }
    let kv = kv(&show(&home, &old, &[]), 8192);
    page_says(&format!("their KV cache takes {} for 8,192 tokens", size(kv)));
}
